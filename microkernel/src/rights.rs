//! What happens to rights: taken in and dropped, and the death of ports.
//!
//! A port that dies takes its queued messages with it, and with them perhaps receive rights and so further ports: the
//! doomed are put on a list and dealt with one after the other, so that the kernel's stack does not grow with their
//! number.

use abi::Error;
use abi::message::NOTIFY_DEAD_NAME;

use crate::kernel::{Device, Kernel};
use crate::machine::{Machine, NetDevice};
use crate::names::{Inserted, Removed, Right};
use crate::port::{Holder, Kind, MESSAGES, MESSAGES_FEW, MESSAGES_KEPT, MESSAGES_PER_TASK, Port};
use crate::thread::State;

impl<M: Machine> Kernel<M> {
    /// Puts a right, with its reference, into a task's name space.
    ///
    /// # Errors
    /// [`Error::NoResources`]: the right is still the caller's.
    pub(crate) fn insert_right(&mut self, task: u16, right: Right) -> Result<u32, Error> {
        match self.tasks[usize::from(task)].names.insert(right)? {
            Inserted::New(name) => {
                if let Right::Receive(port) | Right::Set(port) = right {
                    self.ports.get_mut(port).holder = Holder::Task { task, name };
                }
                Ok(name)
            }
            Inserted::Counted(name) => {
                if let Right::Send(port) = right {
                    self.ports.get_mut(port).references -= 1;
                }
                Ok(name)
            }
        }
    }

    /// Gives one right of a name up.
    pub(crate) fn remove_name(&mut self, m: &mut M, task: u16, name: u32) -> Result<(), Error> {
        if let Removed::Last(right) = self.tasks[usize::from(task)].names.remove(name)? {
            self.forget_requests(task, name, right);
            self.drop_right(m, right);
        }
        Ok(())
    }

    /// Counts one more reference for a copy of a right.
    ///
    /// # Errors
    /// [`Error::NoResources`]: the count is at its end.
    pub(crate) fn retain(&mut self, right: Right) -> Result<(), Error> {
        match right {
            Right::None => Ok(()),
            Right::Memory { object, .. } => self.memory.objects.retain(object),
            Right::Send(port) | Right::SendOnce(port) | Right::Receive(port) | Right::Set(port) => {
                let references = &mut self.ports.get_mut(port).references;
                *references = references.checked_add(1).ok_or(Error::NoResources)?;
                Ok(())
            }
        }
    }

    /// Drops a right with its reference, and what dies with it.
    pub(crate) fn drop_right(&mut self, m: &mut M, right: Right) {
        match right {
            Right::None => {}
            Right::Memory { object, .. } => self.memory.objects.release(m, &mut self.memory.frames, object),
            Right::Send(port) => self.release_port(m, port),
            Right::SendOnce(port) => {
                if self.ports.kind(port) == Kind::Messages {
                    let lost = &mut self.ports.get_mut(port).replies_lost;
                    *lost = lost.saturating_add(1);
                    self.deliver(m, port);
                }
                self.release_port(m, port);
            }
            Right::Receive(port) | Right::Set(port) => self.kill_port(m, port, 0),
        }
    }

    /// Counts one reference to a port less.
    pub(crate) fn release_port(&mut self, m: &mut M, port: u16) {
        let slot = self.ports.get_mut(port);
        slot.references -= 1;
        match (slot.kind, slot.references) {
            (_, 0) => {
                debug_assert!(slot.kind == Kind::Dead, "a live port keeps a reference");
                *slot = Port::FREE;
            }
            // Only the kernel's own is left: nobody can use the device any more.
            (Kind::Device(at), 1) => self.close_device(m, usize::from(at)),
            (Kind::NetIo(opener), 1) => self.close_net_io(m, opener),
            _ => {}
        }
    }

    /// Ends a port, and with it the reference of its receive right, or of the object behind it.
    pub(crate) fn kill_port(&mut self, m: &mut M, port: u16, status: u32) {
        self.leave_set(port);
        if self.ports.get(port).filter.is_some() {
            self.remove_filter(port);
        }
        let slot = self.ports.get_mut(port);
        slot.kind = Kind::Dead;
        slot.holder = Holder::Nobody;
        slot.bound = None;
        slot.status = status;
        self.doomed.push_back(&mut self.ports.table, port);
        if self.reaping {
            return;
        }
        self.reaping = true;
        while let Some(port) = self.doomed.pop_front(&mut self.ports.table) {
            self.reap(m, port);
        }
        self.reaping = false;
    }

    fn reap(&mut self, m: &mut M, port: u16) {
        self.fail_waiters(m, port, Error::Dead);
        while let Some(slot) = self.pop_message(port) {
            self.drop_message(m, slot);
        }
        while let Some(member) = self.ports.get(port).members.head() {
            self.leave_set(member);
        }
        self.answer_requests(m, port);
        self.release_port(m, port);
    }

    /// Tells all who asked of a port's death.
    pub(crate) fn answer_requests(&mut self, m: &mut M, port: u16) {
        let mut requests = core::mem::take(&mut self.ports.get_mut(port).requests);
        while let Some(request) = requests.pop_front(&mut self.messages.table) {
            self.notify(m, request, self.ports.get(port).status);
            // The request's own reference.
            self.ports.get_mut(port).references -= 1;
        }
    }

    /// Ends the waits of all threads that wait to receive from a port or to send to it.
    pub(crate) fn fail_waiters(&mut self, m: &mut M, port: u16, error: Error) {
        while let Some(thread) = self.ports.get(port).receivers.head().or(self.ports.get(port).senders.head())
        {
            self.wake(m, thread, error.raw().into(), 0);
        }
    }

    /// Takes a port out of the set that it may be in.
    pub(crate) fn leave_set(&mut self, port: u16) {
        if let Some(set) = self.ports.get_mut(port).set.take() {
            let mut members = self.ports.get(set).members;
            members.remove(&mut self.ports.table, port);
            self.ports.get_mut(set).members = members;
        }
    }

    /// Takes a slot for a message or a request, which counts for a task.
    ///
    /// # Errors
    /// [`Error::NoResources`].
    pub(crate) fn take_slot(&mut self, task: u16) -> Result<u16, Error> {
        let payer = &mut self.tasks[usize::from(task)];
        let kept = if payer.may_take_the_last(payer.messages < MESSAGES_FEW) { 0 } else { MESSAGES_KEPT };
        if payer.messages >= MESSAGES_PER_TASK || usize::from(self.messages.of_tasks) >= MESSAGES - kept {
            return Err(Error::NoResources);
        }
        let slot = self.messages.allocate()?;
        self.messages.of_tasks += 1;
        payer.messages += 1;
        self.messages.get_mut(slot).payer = (task, payer.id);
        Ok(slot)
    }

    /// Gives a slot back that holds no right and no data any more.
    pub(crate) fn give_back_slot(&mut self, slot: u16) {
        debug_assert_eq!(self.messages.get(slot).data_length, 0, "data left behind");
        let (task, id) = self.messages.get(slot).payer;
        if id == 0 {
            self.net_io.queued[usize::from(task)] -= 1;
        } else {
            self.messages.of_tasks -= 1;
            if self.tasks[usize::from(task)].id == id {
                self.tasks[usize::from(task)].messages -= 1;
            }
        }
        self.messages.release(slot);
    }

    /// Gives a slot back with the rights and the data in it.
    pub(crate) fn drop_message(&mut self, m: &mut M, slot: u16) {
        let message = self.messages.get_mut(slot);
        let reply = core::mem::replace(&mut message.reply, Right::None);
        let carried = core::mem::replace(&mut message.carried, Right::None);
        self.settle_data(slot, false);
        self.give_back_slot(slot);
        self.drop_right(m, reply);
        self.drop_right(m, carried);
    }

    /// Takes the first message of a port.
    pub(crate) fn pop_message(&mut self, port: u16) -> Option<u16> {
        let port = self.ports.get_mut(port);
        let slot = port.queue.pop_front(&mut self.messages.table)?;
        port.queued -= 1;
        Some(slot)
    }

    /// Asks that `notify` be told when the port behind `name` dies.
    ///
    /// # Errors
    /// [`Error::NoResources`].
    pub(crate) fn request(&mut self, task: u16, name: u32, port: u16, notify: u16) -> Result<(), Error> {
        let slot = self.take_slot(task)?;
        let retained = self.retain(Right::SendOnce(notify)).and_then(|()| {
            let watched = self.retain(Right::Send(port));
            if watched.is_err() {
                self.ports.get_mut(notify).references -= 1;
            }
            watched
        });
        if let Err(error) = retained {
            self.give_back_slot(slot);
            return Err(error);
        }
        self.messages.get_mut(slot).notify = (notify, task, name);
        self.ports.get_mut(port).requests.push_back(&mut self.messages.table, slot);
        Ok(())
    }

    /// A request comes true: its slot becomes the message, so that this cannot fail.
    fn notify(&mut self, m: &mut M, request: u16, status: u32) {
        let message = self.messages.get_mut(request);
        let (port, _, name) = message.notify;
        message.id = NOTIFY_DEAD_NAME;
        message.sender = 0;
        message.length = 8;
        message.body[..4].copy_from_slice(&name.to_le_bytes());
        message.body[4..8].copy_from_slice(&status.to_le_bytes());
        if self.ports.kind(port) == Kind::Messages {
            self.enqueue(m, port, request);
        } else {
            self.give_back_slot(request);
        }
        self.release_port(m, port);
    }

    /// A name is gone: nobody is to be told about it any more.
    pub(crate) fn forget_requests(&mut self, task: u16, name: u32, right: Right) {
        let (Right::Send(port) | Right::SendOnce(port)) = right else { return };
        let mut next = self.ports.get(port).requests.head();
        while let Some(slot) = next {
            next = crate::list::List::after(&self.messages.table, slot);
            let (notify, asker, asked) = self.messages.get(slot).notify;
            if (asker, asked) != (task, name) {
                continue;
            }
            self.ports.get_mut(port).requests.remove(&mut self.messages.table, slot);
            self.give_back_slot(slot);
            // The name's reference keeps the port; the notify port may go with this one.
            self.ports.get_mut(port).references -= 1;
            let notify = self.ports.get_mut(notify);
            notify.references -= 1;
            if notify.references == 0 {
                *notify = Port::FREE;
            }
        }
    }

    /// Ends the use of the network device by the owner of a window.
    pub(crate) fn close_device(&mut self, m: &mut M, at: usize) {
        let device = core::mem::replace(&mut self.devices[at], Device::CLOSED);
        if device.owner.is_none() {
            return;
        }
        if let Some(net) = m.net() {
            net.close(at);
        }
        if let Some(object) = device.object {
            self.memory.objects.release(m, &mut self.memory.frames, object);
        }
        if let Some(port) = device.port {
            self.kill_port(m, port, 0);
        }
    }

    /// A thread has ended: nothing resumes it any more.
    pub(crate) fn unbind_thread(&mut self, thread: u16) {
        for port in &mut self.ports.table {
            if port.bound == Some(thread) {
                port.bound = None;
            }
        }
        for device in &mut self.devices {
            if device.thread == Some(thread) {
                device.thread = None;
            }
        }
        for opener in self.net_io.openers.iter_mut().flatten() {
            if opener.thread == Some(thread) {
                opener.thread = None;
            }
        }
        debug_assert!(self.threads[usize::from(thread)].state != State::Ready);
    }
}
