//! Ports, sets and messages.

use abi::Error;
use abi::port::{NULL, THREAD_SELF};
use abi::thread::WAKE_MESSAGE;

use super::{Answer, name};
use crate::ipc::Limit;
use crate::kernel::Kernel;
use crate::machine::{Machine, Outcome};
use crate::names::Right;
use crate::port::Kind;
use crate::thread::State;

impl<M: Machine> Kernel<M> {
    fn right(&self, raw: u64) -> Result<(u32, Right), Error> {
        let name = name(raw)?;
        Ok((name, self.tasks[usize::from(self.current_task)].names.get(name)?))
    }

    pub(super) fn port_allocate(&mut self) -> Answer {
        self.allocate(Kind::Messages, Right::Receive)
    }

    pub(super) fn port_set_allocate(&mut self) -> Answer {
        self.allocate(Kind::Set, Right::Set)
    }

    fn allocate(&mut self, kind: Kind, right: impl Fn(u16) -> Right) -> Answer {
        if !self.tasks[usize::from(self.current_task)].names.has_room(1) {
            return Err(Error::NoResources);
        }
        let port = self.ports.allocate(kind)?;
        let name = self.insert_right(self.current_task, right(port))?;
        Ok(Outcome::ok(name.into()))
    }

    pub(super) fn port_move_member(&mut self, m: &mut M, port: u64, set: u64) -> Answer {
        let (_, Right::Receive(port)) = self.right(port)? else { return Err(Error::BadRight) };
        let set = match name(set)? {
            NULL => None,
            set => match self.right(set.into())? {
                (_, Right::Set(set)) => Some(set),
                _ => return Err(Error::BadRight),
            },
        };
        self.leave_set(port);
        if let Some(set) = set {
            self.ports.get_mut(port).set = Some(set);
            let mut members = self.ports.get(set).members;
            members.push_back(&mut self.ports.table, port);
            self.ports.get_mut(set).members = members;
            self.deliver(m, port);
        }
        Ok(Outcome::ok(0))
    }

    pub(super) fn port_deallocate(&mut self, m: &mut M, name: u64) -> Answer {
        let (name, _) = self.right(name)?;
        if name <= THREAD_SELF {
            return Err(Error::Denied);
        }
        self.remove_name(m, self.current_task, name)?;
        Ok(Outcome::ok(0))
    }

    pub(super) fn port_notify_dead(&mut self, m: &mut M, watched: u64, notify: u64) -> Answer {
        let (name, Right::Send(port) | Right::SendOnce(port)) = self.right(watched)? else {
            return Err(Error::BadRight);
        };
        let (_, Right::Receive(notify) | Right::Send(notify)) = self.right(notify)? else {
            return Err(Error::BadRight);
        };
        match (self.ports.kind(port), self.ports.kind(notify)) {
            (_, Kind::Dead) => Err(Error::Dead),
            (watched, Kind::Messages) => {
                self.request(self.current_task, name, port, notify)?;
                if watched == Kind::Dead {
                    // It was faster than the question: nothing else will answer it.
                    self.answer_requests(m, port);
                }
                Ok(Outcome::ok(0))
            }
            _ => Err(Error::BadRight),
        }
    }

    pub(super) fn port_bind_thread(&mut self, m: &mut M, port: u64, thread: u64) -> Answer {
        let (_, Right::Receive(port) | Right::Set(port)) = self.right(port)? else {
            return Err(Error::BadRight);
        };
        let thread = match thread {
            0 => None,
            thread => Some(self.thread_named(thread)?),
        };
        self.ports.get_mut(port).bound = thread;
        // What is queued already counts as just come.
        let Some(thread) = thread else { return Ok(Outcome::ok(0)) };
        let mut waits = self.ports.get(port).has_message();
        let mut member = self.ports.get(port).members.head();
        while let Some(port) = member {
            waits |= self.ports.get(port).has_message();
            member = crate::list::List::after(&self.ports.table, port);
        }
        if waits {
            self.post(m, thread, WAKE_MESSAGE as u32);
        }
        Ok(Outcome::ok(0))
    }

    pub(super) fn port_make_send(&mut self, port: u64) -> Answer {
        let (_, Right::Receive(port)) = self.right(port)? else { return Err(Error::BadRight) };
        self.retain(Right::Send(port))?;
        match self.insert_right(self.current_task, Right::Send(port)) {
            Ok(name) => Ok(Outcome::ok(name.into())),
            Err(error) => {
                self.ports.get_mut(port).references -= 1;
                Err(error)
            }
        }
    }

    pub(super) fn message_send(&mut self, m: &mut M, thread: u16, message: u64, limit: u64) -> Answer {
        self.send(m, thread, message, Limit::After(limit))
    }

    pub(super) fn message_receive(
        &mut self,
        m: &mut M,
        thread: u16,
        port: u64,
        buffer: u64,
        limit: u64,
    ) -> Answer {
        self.receive(m, thread, name(port)?, buffer, limit)
    }

    /// Sends a message, and receives another: the status is that of the send, the value that of the receive.
    pub(super) fn message_call(
        &mut self,
        m: &mut M,
        thread: u16,
        [message, port, buffer, limit]: [u64; 4],
    ) -> Answer {
        // A send that does not wait blocks nobody, so what is left of the call is a receive.
        self.send(m, thread, message, Limit::After(0))?;
        let received = name(port).and_then(|port| self.receive(m, thread, port, buffer, limit));
        match received {
            Ok(outcome) => {
                // Whoever ends the wait has no status to give but the receive's: `Kernel::wake` puts it where it belongs.
                let slot = &mut self.threads[usize::from(thread)];
                slot.calls = matches!(slot.state, State::Receiving { .. });
                Ok(outcome)
            }
            Err(error) => Ok(Outcome::ok(error.raw().into())),
        }
    }
}
