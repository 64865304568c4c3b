//! Messages: from the sender's memory into a queue, and from there into the receiver's.
//!
//! All that can fail is checked before anything is changed, so that a send or a receive that fails leaves every right
//! and every page where it was. Data beside the body is the module `data`'s.

use abi::Error;
use abi::counters::Counter;
use abi::message::{BODY_BYTES, Data, Disposition, KERNEL_IDS, MESSAGE_BYTES, Message, NOTIFY_SEND_ONCE};
use abi::port::{NULL, THREAD_SELF};
use abi::thread::WAKE_MESSAGE;
use core::mem::offset_of;

use crate::data::{Delivered, Offer};
use crate::kernel::Kernel;
use crate::machine::{Machine, Outcome};
use crate::names::{Removed, Right};
use crate::port::{Holder, Kind, QUEUE_LIMIT};
use crate::thread::State;
use crate::user;

/// What lies before the body of a message in a task's memory.
struct Head([u8; BODY_AT]);

impl Head {
    fn get(&self, at: usize) -> u32 {
        u32::from_le_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }

    fn put(&mut self, at: usize, value: u32) {
        self.0[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    fn put64(&mut self, at: usize, value: u64) {
        self.0[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }

    /// What the sender says of its data.
    #[inline]
    fn offer(&self) -> Result<Offer, Error> {
        let at = offset_of!(Message, data_address);
        let address = u64::from(self.get(at)) | u64::from(self.get(at + 4)) << 32;
        let (length, kind) = (offset_of!(Message, data_length), offset_of!(Message, data_kind));
        Offer::new(self.get(kind), address, self.get(length))
    }

    fn disposition(&self, at: usize) -> Result<Disposition, Error> {
        Disposition::from_raw(self.get(at)).ok_or(Error::BadArgument)
    }
}

const BODY_AT: usize = offset_of!(Message, body);

impl<M: Machine> Kernel<M> {
    /// Sends the message at `address` of a thread's task. The thread is the running one, or one that waited for room.
    ///
    /// # Errors
    /// As the abi says; nothing was changed.
    pub(crate) fn send(
        &mut self,
        m: &mut M,
        thread: u16,
        address: u64,
        limit: Limit,
    ) -> Result<Outcome, Error> {
        let task = self.threads[usize::from(thread)].task;
        let mut raw = Head([0; BODY_AT]);
        user::copy_in(m, self.tasks[usize::from(task)].tables(), address, &mut raw.0)?;
        let (id, length) = (raw.get(offset_of!(Message, id)), raw.get(offset_of!(Message, length)));
        if id >= KERNEL_IDS || length as usize > BODY_BYTES {
            return Err(Error::BadArgument);
        }
        let offer = raw.offer()?;
        let destination_name = raw.get(offset_of!(Message, destination));
        let destination = self.tasks[usize::from(task)].names.get(destination_name)?;
        let port = match destination {
            Right::Send(port) | Right::SendOnce(port) => port,
            _ => return Err(Error::BadRight),
        };
        match self.ports.kind(port) {
            Kind::Messages => {}
            Kind::Dead => return Err(Error::Dead),
            _ => return Err(Error::BadRight),
        }
        let once = matches!(destination, Right::SendOnce(_));
        let reply =
            (raw.get(offset_of!(Message, reply)), raw.disposition(offset_of!(Message, reply_disposition))?);
        let carried = (
            raw.get(offset_of!(Message, carried)),
            raw.disposition(offset_of!(Message, carried_disposition))?,
        );
        self.check_transfer(task, port, reply)?;
        self.check_transfer(task, port, carried)?;
        check_conflicts(reply, carried, once.then_some(destination_name))?;
        if !once && self.ports.get(port).queued >= QUEUE_LIMIT {
            let deadline = match limit {
                Limit::After(0) => return Err(Error::QueueFull),
                Limit::After(limit) => self.deadline(m, limit),
                Limit::At(deadline) => deadline,
            };
            self.check_offer(m, task, offer)?;
            self.block(thread, State::Sending { port, message: address }, deadline);
            self.ports.get_mut(port).senders.push_back(&mut self.threads, thread);
            return Ok(Outcome::SWITCHED);
        }
        let slot = self.take_slot(task)?;
        let body = &mut self.messages.get_mut(slot).body[..length as usize];
        let mut loaded =
            user::copy_in(m, self.tasks[usize::from(task)].tables(), address + BODY_AT as u64, body);
        if offer.kind != Data::None && loaded.is_ok() {
            loaded = self.load_data(m, task, slot, offer);
        }
        if let Err(error) = loaded {
            self.give_back_slot(slot);
            return Err(error);
        }
        let reply = match self.transfer(m, task, port, reply) {
            Ok(right) => right,
            Err(error) => {
                self.drop_message(m, slot);
                return Err(error);
            }
        };
        let carried = match self.transfer(m, task, port, carried) {
            Ok(right) => right,
            Err(error) => {
                // Only a count of references at its end comes to this; the first right is lost with the message.
                self.drop_message(m, slot);
                self.drop_right(m, reply);
                return Err(error);
            }
        };
        if offer.kind == Data::OutOfLine {
            self.move_data(m, task, slot, offer);
        }
        let sender = self.tasks[usize::from(task)].id as u32;
        let message = self.messages.get_mut(slot);
        (message.id, message.sender, message.length) = (id, sender, length);
        (message.reply, message.carried) = (reply, carried);
        self.count(Counter::Messages);
        if once {
            // The right is used, which is not to die unused: its reference goes, and nobody is told.
            let _ = self.tasks[usize::from(task)].names.remove_all(destination_name);
            self.forget_requests(task, destination_name, destination);
            self.enqueue(m, port, slot);
            self.release_port(m, port);
        } else {
            self.enqueue(m, port, slot);
        }
        Ok(Outcome::ok(0))
    }

    /// Can a task let this right go in a message to `port`?
    fn check_transfer(
        &self,
        task: u16,
        port: u16,
        (name, disposition): (u32, Disposition),
    ) -> Result<(), Error> {
        if disposition == Disposition::None {
            return if name == NULL { Ok(()) } else { Err(Error::BadArgument) };
        }
        let right = self.tasks[usize::from(task)].names.get(name)?;
        match (disposition, right) {
            (Disposition::CopySend, Right::Send(_) | Right::Memory { .. })
            | (Disposition::MakeSend | Disposition::MakeSendOnce, Right::Receive(_)) => Ok(()),
            (Disposition::Move, _) if name <= THREAD_SELF => Err(Error::Denied),
            (Disposition::Move, Right::Receive(moved)) if self.ports.would_be_lost(moved, port) => {
                Err(Error::BadArgument)
            }
            (
                Disposition::Move,
                Right::Send(_) | Right::SendOnce(_) | Right::Receive(_) | Right::Memory { .. },
            ) => Ok(()),
            _ => Err(Error::BadRight),
        }
    }

    /// Takes from a task's name space what goes along, as checked before.
    fn transfer(
        &mut self,
        m: &mut M,
        task: u16,
        destination: u16,
        (name, disposition): (u32, Disposition),
    ) -> Result<Right, Error> {
        let names = &mut self.tasks[usize::from(task)].names;
        let held = if disposition == Disposition::None { Right::None } else { names.get(name)? };
        let copied = match (disposition, held) {
            (Disposition::None, _) => return Ok(Right::None),
            (Disposition::MakeSend, Right::Receive(port)) => Right::Send(port),
            (Disposition::MakeSendOnce, Right::Receive(port)) => Right::SendOnce(port),
            (Disposition::Move, _) => {
                match names.remove(name)? {
                    Removed::Counted(right) => return self.retain(right).map(|()| right),
                    Removed::Last(right) => self.forget_requests(task, name, right),
                }
                if let Right::Receive(port) = held {
                    self.leave_set(port);
                    self.ports.get_mut(port).bound = None;
                    self.ports.get_mut(port).holder = Holder::Transit(destination);
                    self.fail_receivers(m, port);
                }
                return Ok(held);
            }
            (_, right) => right,
        };
        self.retain(copied)?;
        Ok(copied)
    }

    /// The receive right goes elsewhere: nobody here receives from the port any more.
    fn fail_receivers(&mut self, m: &mut M, port: u16) {
        while let Some(thread) = self.ports.get(port).receivers.head() {
            self.wake(m, thread, Error::BadRight.raw().into(), 0);
        }
    }

    /// Queues a message at a port that lives.
    pub(crate) fn enqueue(&mut self, m: &mut M, port: u16, slot: u16) {
        let queue = self.ports.get_mut(port);
        queue.queue.push_back(&mut self.messages.table, slot);
        queue.queued += 1;
        self.deliver(m, port);
    }

    /// A port got something: gives it to threads that wait for it, tells the thread that is bound, and lets senders in.
    pub(crate) fn deliver(&mut self, m: &mut M, port: u16) {
        let set = self.ports.get(port).set;
        while self.ports.get(port).has_message() {
            let waiting = self.ports.get(port).receivers.head();
            let waiting = waiting.or_else(|| set.and_then(|set| self.ports.get(set).receivers.head()));
            let Some(thread) = waiting else {
                let bound = [self.ports.get(port).bound, set.and_then(|set| self.ports.get(set).bound)];
                for thread in bound.into_iter().flatten() {
                    self.post(m, thread, WAKE_MESSAGE as u32);
                }
                break;
            };
            let State::Receiving { buffer, .. } = self.threads[usize::from(thread)].state else { break };
            match self.take_message(m, thread, port, buffer) {
                Ok(()) => self.wake(m, thread, 0, 0),
                Err(error) => self.wake(m, thread, error.raw().into(), 0),
            }
        }
        self.admit_senders(m, port);
    }

    /// Receives from a port or a set into the running thread's memory.
    ///
    /// # Errors
    /// As the abi says; nothing was changed.
    pub(crate) fn receive(
        &mut self,
        m: &mut M,
        thread: u16,
        name: u32,
        buffer: u64,
        limit: u64,
    ) -> Result<Outcome, Error> {
        let task = self.threads[usize::from(thread)].task;
        let right = self.tasks[usize::from(task)].names.get(name)?;
        let (Right::Receive(port) | Right::Set(port)) = right else { return Err(Error::BadRight) };
        let source = match right {
            Right::Set(set) => self.ready_member(set),
            _ => self.ports.get(port).has_message().then_some(port),
        };
        if let Some(source) = source {
            self.take_message(m, thread, source, buffer)?;
            self.admit_senders(m, source);
            return Ok(Outcome::ok(0));
        }
        user::check(m, self.tasks[usize::from(task)].tables(), buffer, MESSAGE_BYTES, true)?;
        if limit == 0 {
            return Err(Error::WouldBlock);
        }
        let deadline = self.deadline(m, limit);
        self.block(thread, State::Receiving { port, buffer }, deadline);
        self.ports.get_mut(port).receivers.push_back(&mut self.threads, thread);
        Ok(Outcome::SWITCHED)
    }

    /// A member of a set with something to receive; it goes to the end, so that each has its turn.
    fn ready_member(&mut self, set: u16) -> Option<u16> {
        let mut members = self.ports.get(set).members;
        let mut next = members.head();
        while let Some(port) = next {
            if self.ports.get(port).has_message() {
                members.remove(&mut self.ports.table, port);
                members.push_back(&mut self.ports.table, port);
                self.ports.get_mut(set).members = members;
                return Some(port);
            }
            next = crate::list::List::after(&self.ports.table, port);
        }
        None
    }

    /// Moves the first message of a port into a thread's memory, and its rights into its task's name space.
    fn take_message(&mut self, m: &mut M, thread: u16, port: u16, buffer: u64) -> Result<(), Error> {
        let task = self.threads[usize::from(thread)].task;
        user::check(m, self.tasks[usize::from(task)].tables(), buffer, MESSAGE_BYTES, true)?;
        let Holder::Task { name: own_name, .. } = self.ports.get(port).holder else {
            return Err(Error::BadRight);
        };
        let mut raw = Head([0; BODY_AT]);
        raw.put(offset_of!(Message, destination), own_name);
        let Some(slot) = self.ports.get(port).queue.head() else {
            self.ports.get_mut(port).replies_lost -= 1;
            raw.put(offset_of!(Message, id), NOTIFY_SEND_ONCE);
            return user::copy_out(m, self.tasks[usize::from(task)].tables(), buffer, &raw.0);
        };
        let message = self.messages.get(slot);
        let rights = (message.reply, message.carried);
        let needed = usize::from(rights.0 != Right::None) + usize::from(rights.1 != Right::None);
        if !self.tasks[usize::from(task)].names.has_room(needed) {
            return Err(Error::NoResources);
        }
        let data = match message.data_kind {
            Data::None => Delivered::NONE,
            _ => self.hand_over_data(m, task, slot, buffer)?,
        };
        let (reply, carried) = match self.accept_both(task, slot, rights) {
            Ok(names) => names,
            Err(error) => {
                self.take_back_data(m, task, data);
                return Err(error);
            }
        };
        let message = self.messages.get(slot);
        raw.put(offset_of!(Message, id), message.id);
        raw.put(offset_of!(Message, reply), reply);
        raw.put(offset_of!(Message, reply_disposition), kind_of(rights.0));
        raw.put(offset_of!(Message, carried), carried);
        raw.put(offset_of!(Message, carried_disposition), kind_of(rights.1));
        raw.put(offset_of!(Message, length), message.length);
        raw.put(offset_of!(Message, sender), message.sender);
        raw.put64(offset_of!(Message, data_address), data.address);
        raw.put(offset_of!(Message, data_length), data.length);
        raw.put(offset_of!(Message, data_kind), data.kind.raw());
        // Behind the body that is in use the receiver's memory stays as it was. All of it was checked above.
        let tables = self.tasks[usize::from(task)].tables();
        user::load(m, tables, buffer, &raw.0)?;
        let body = &message.body[..message.length as usize];
        user::load(m, tables, buffer + BODY_AT as u64, body)?;
        self.pop_message(port);
        if data.kind != Data::None {
            self.settle_data(slot, true);
        }
        self.give_back_slot(slot);
        Ok(())
    }

    /// Moves the rights of the message in `slot` into a task's name space.
    ///
    /// # Errors
    /// [`Error::NoResources`]: a count at its end; the message has both rights as before.
    fn accept_both(
        &mut self,
        task: u16,
        slot: u16,
        (first, second): (Right, Right),
    ) -> Result<(u32, u32), Error> {
        let reply = self.accept(task, first)?;
        self.messages.get_mut(slot).reply = Right::None;
        match self.accept(task, second) {
            Ok(carried) => {
                self.messages.get_mut(slot).carried = Right::None;
                Ok((reply, carried))
            }
            Err(error) => {
                // The right that came in goes back into the message.
                if let Ok(Removed::Counted(right)) = self.tasks[usize::from(task)].names.remove(reply) {
                    self.retain(right)?;
                }
                self.messages.get_mut(slot).reply = first;
                Err(error)
            }
        }
    }

    fn accept(&mut self, task: u16, right: Right) -> Result<u32, Error> {
        if right == Right::None { Ok(NULL) } else { self.insert_right(task, right) }
    }

    /// There is room in a queue: threads that wait for it send their messages now.
    ///
    /// A message let in is delivered at once, perhaps to a receiver, which makes room for the next: that one is this
    /// loop's to let in, not a deeper call's, or the kernel's stack would grow with the number of senders.
    fn admit_senders(&mut self, m: &mut M, port: u16) {
        if self.admitting {
            return;
        }
        self.admitting = true;
        while self.ports.get(port).queued < QUEUE_LIMIT
            && let Some(thread) = self.ports.get(port).senders.head()
        {
            let slot = self.threads[usize::from(thread)];
            let State::Sending { message, .. } = slot.state else { break };
            self.leave_queue(thread);
            // Off every queue while it sends, as if it ran.
            self.threads[usize::from(thread)].state = State::Running;
            match self.send(m, thread, message, Limit::At(slot.deadline)) {
                // It changed its message, to a port that is full: there it waits.
                Ok(Outcome { status: Outcome::SWITCH, .. }) => {}
                Ok(outcome) => self.wake(m, thread, outcome.status, outcome.value),
                Err(error) => self.wake(m, thread, error.raw().into(), 0),
            }
        }
        self.admitting = false;
    }
}

/// How long a sender waits for room.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    /// So many nanoseconds from now.
    After(u64),
    /// Until then.
    At(u64),
}

/// One right cannot go twice, nor be used up and go.
fn check_conflicts(
    reply: (u32, Disposition),
    carried: (u32, Disposition),
    used_up: Option<u32>,
) -> Result<(), Error> {
    let both = [reply, carried].iter().all(|(_, disposition)| *disposition != Disposition::None);
    let moved = reply.1 == Disposition::Move || carried.1 == Disposition::Move;
    let used = [reply, carried]
        .iter()
        .any(|(name, disposition)| *disposition != Disposition::None && used_up == Some(*name));
    if used || (both && moved && reply.0 == carried.0) { Err(Error::BadArgument) } else { Ok(()) }
}

/// What the receiver is told about a right, in the terms of how it came: moved, whichever way the sender had it made.
fn kind_of(right: Right) -> u32 {
    if right == Right::None { Disposition::None.raw() } else { Disposition::Move.raw() }
}
