//! Threads: the two calls of the idle protocol first.

use abi::Error;
use abi::counters::Counter;
use abi::thread::{WAKE_RESUMED, WAKE_TIMEOUT};
use abi::vm::{USER_END, USER_MIN};

use super::{Answer, name};
use crate::kernel::Kernel;
use crate::machine::{Machine, Outcome};
use crate::names::Right;
use crate::port::Kind;
use crate::thread::{State, priority};

impl<M: Machine> Kernel<M> {
    #[inline]
    pub(super) fn thread_resume(&mut self, m: &mut M, thread: u64) -> Answer {
        let thread = self.thread_named(thread)?;
        if self.post(m, thread, WAKE_RESUMED as u32) {
            self.count(Counter::ResumesByTask);
        }
        Ok(Outcome::ok(0))
    }

    #[inline]
    pub(super) fn thread_suspend(&mut self, m: &mut M, thread: u16, limit: u64) -> Answer {
        let pending = core::mem::take(&mut self.threads[usize::from(thread)].pending);
        if pending != 0 {
            return Ok(Outcome::ok(pending.into()));
        }
        if limit == 0 {
            return Ok(Outcome::ok(WAKE_TIMEOUT));
        }
        let deadline = self.deadline(m, limit);
        self.block(thread, State::Suspended, deadline);
        Ok(Outcome::SWITCHED)
    }

    /// The thread that a name of the running task denotes.
    #[inline]
    pub(super) fn thread_named(&self, raw: u64) -> Result<u16, Error> {
        let Right::Send(port) = self.tasks[usize::from(self.current_task)].names.get(name(raw)?)? else {
            return Err(Error::BadRight);
        };
        match self.ports.kind(port) {
            Kind::Thread(thread) => Ok(thread),
            Kind::Dead => Err(Error::Dead),
            _ => Err(Error::BadRight),
        }
    }

    pub(super) fn thread_create(
        &mut self,
        m: &mut M,
        entry: u64,
        stack: u64,
        arg: u64,
        wanted: u64,
    ) -> Answer {
        let user = |address: u64| (USER_MIN..USER_END).contains(&address);
        if !user(entry) || !user(stack) || !stack.is_multiple_of(16) {
            return Err(Error::BadAddress);
        }
        let priority = self.priority_within(wanted)?;
        let task = self.current_task;
        if !self.tasks[usize::from(task)].names.has_room(1) {
            return Err(Error::NoResources);
        }
        let thread = self.create_thread(m, task, entry, stack - 8, [arg, 0, 0], priority)?;
        let port = self.threads[usize::from(thread)].port;
        self.ports.get_mut(port).references += 1;
        let name = self.insert_right(task, Right::Send(port))?;
        Ok(Outcome::ok(name.into()))
    }

    pub(super) fn thread_exit(&mut self, m: &mut M, thread: u16) -> Answer {
        let task = self.threads[usize::from(thread)].task;
        if self.tasks[usize::from(task)].threads == 1 {
            return self.end(m, task, 0);
        }
        self.end_thread(m, thread);
        Ok(Outcome::SWITCHED)
    }

    pub(super) fn thread_yield(&mut self, m: &mut M, thread: u16) -> Answer {
        let slot = &mut self.threads[usize::from(thread)];
        if !self.ready.any_at_least(slot.priority) {
            return Ok(Outcome::ok(0));
        }
        slot.ticks_left = 0;
        m.context_result(usize::from(thread), 0, 0);
        Ok(Outcome::SWITCHED)
    }

    /// A priority as the running task gave it, for a thread or task that it makes.
    ///
    /// # Errors
    /// [`Error::BadArgument`]; [`Error::Denied`] above what it has been given itself: else any task could keep the servers from running.
    pub(super) fn priority_within(&self, wanted: u64) -> Result<u8, Error> {
        let priority = priority(wanted)?;
        if priority > self.tasks[usize::from(self.current_task)].ceiling {
            return Err(Error::Denied);
        }
        Ok(priority)
    }

    pub(super) fn thread_set_priority(&mut self, thread: u64, wanted: u64) -> Answer {
        let (thread, priority) = (self.thread_named(thread)?, self.priority_within(wanted)?);
        // Who may resume another's thread, as those may that a server serves, may not make it wait for them.
        if self.threads[usize::from(thread)].task != self.current_task {
            return Err(Error::Denied);
        }
        let ready = self.threads[usize::from(thread)].state == State::Ready;
        if ready {
            self.ready.remove(&mut self.threads, thread);
        }
        self.threads[usize::from(thread)].priority = priority;
        if ready {
            self.ready.push_back(&mut self.threads, thread);
        }
        Ok(Outcome::ok(0))
    }
}
