//! The kernel as a whole: its tables, and how it goes on after each event. Its boot is in [`crate::boot`].

use abi::counters::{COUNT, Counter};
use abi::thread::{PRIORITY_APPLICATION, STATUS_FAULT, STATUS_WINDOW, WAKE_TIMEOUT};
use abi::{Error, exit};
use core::fmt::Write;

use crate::frames::Frames;
use crate::hold::{ADDRESSES, Hold, Kept};
use crate::list::List;
use crate::machine::{Console, Fault, Machine, NetEvent, Next};
use crate::net_io::NetIo;
use crate::port::{Messages, Ports};
use crate::sched::Ready;
use crate::space::Memory;
use crate::task::{TASKS, Task};
use crate::thread::{QUANTUM_TICKS, State, THREADS, Thread};
use netdev_driver::claims::Address;
use netdev_driver::endpoint::WINDOWS_MAX;
use shmqueue::PeerMisbehaviour;

/// Ticks after which the applications go first for one.
const STARVED_TICKS: u8 = 3;

/// The network device as one task has it, with a window of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Device {
    /// The task that has it open.
    pub owner: Option<u16>,
    /// Its port while it is open.
    pub port: Option<u16>,
    /// The window's memory object, once it was asked for.
    pub object: Option<u16>,
    /// The thread that its events resume.
    pub thread: Option<u16>,
    /// The addresses that its owner has claimed.
    pub addresses: [Option<Address>; ADDRESSES],
    /// Nobody has it open, and it is kept for somebody.
    pub hold: Option<Hold>,
}

impl Device {
    pub(crate) const CLOSED: Self = Self {
        owner: None,
        port: None,
        object: None,
        thread: None,
        addresses: [None; ADDRESSES],
        hold: None,
    };
}

/// The kernel. It is large: make it a `static`.
pub struct Kernel<M: Machine> {
    pub(crate) memory: Memory,
    pub(crate) tasks: [Task<M>; TASKS],
    pub(crate) threads: [Thread; THREADS],
    pub(crate) ports: Ports,
    pub(crate) messages: Messages,
    pub(crate) ready: Ready,
    pub(crate) counters: [u64; COUNT],
    /// By the windows' numbers.
    pub(crate) devices: [Device; WINDOWS_MAX],
    /// Addresses of tasks that have ended.
    pub(crate) kept: Kept,
    pub(crate) net_io: NetIo,
    /// Threads that wait for console input.
    pub(crate) typists: List,
    /// Ports that are dying.
    pub(crate) doomed: List,
    pub(crate) reaping: bool,
    /// Threads that waited for room in a queue are being let in.
    pub(crate) admitting: bool,
    /// The thread that runs, and its task.
    pub(crate) current: Option<u16>,
    pub(crate) current_task: u16,
    pub(crate) module: &'static [u8],
    pub(crate) info_frame: u64,
    pub(crate) host_port: u16,
    /// The first task: the machine ends with it.
    pub(crate) first_task: Option<u16>,
    next_id: u64,
    /// The thread that ran last, and the task whose address space is loaded.
    last: Option<u16>,
    active: Option<u16>,
    /// When the running thread got the processor.
    pub(crate) since: u64,
    /// No wait ends before.
    next_deadline: u64,
    reschedule: bool,
    /// Ticks in a row that found a thread above the applications running, and one below it ready.
    starved: u8,
    /// Those below go first, until the next tick.
    relief: bool,
}

impl<M: Machine> Kernel<M> {
    /// A kernel without memory or tasks.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            memory: Memory::new(),
            tasks: [const { Task::FREE }; TASKS],
            threads: [Thread::FREE; THREADS],
            ports: Ports::new(),
            messages: Messages::new(),
            ready: Ready::new(),
            counters: [0; COUNT],
            devices: [Device::CLOSED; WINDOWS_MAX],
            kept: Kept::NONE,
            net_io: NetIo::new(),
            typists: List::EMPTY,
            doomed: List::EMPTY,
            reaping: false,
            admitting: false,
            current: None,
            current_task: 0,
            module: &[],
            info_frame: 0,
            host_port: 0,
            first_task: None,
            next_id: 1,
            last: None,
            active: None,
            since: 0,
            next_deadline: u64::MAX,
            reschedule: false,
            starved: 0,
            relief: false,
        }
    }

    /// Physical memory, to be given to the kernel before it boots.
    pub fn frames(&mut self) -> &mut Frames {
        &mut self.memory.frames
    }

    /// Counts an event; the machine counts what only it sees.
    #[inline]
    pub fn count(&mut self, counter: Counter) {
        self.counters[counter as usize] += 1;
    }

    /// Must the machine [`Kernel::pick`] before it goes back to the thread that an interrupt interrupted?
    #[inline]
    #[must_use]
    pub const fn must_pick(&self) -> bool {
        self.reschedule || self.current.is_none()
    }

    /// Does any thread run, or want to?
    #[inline]
    #[must_use]
    pub const fn is_wanted(&self) -> bool {
        self.current.is_some() || self.ready.any_at_least(0)
    }

    /// Chooses who runs next.
    pub fn pick(&mut self, m: &mut M) -> Next<'_, M> {
        let now = m.now_ns();
        if let Some(running) = self.current.take() {
            self.charge(now);
            self.requeue(running);
        }
        self.since = now;
        self.reschedule = false;
        let starving =
            if self.relief { self.ready.pop_to(&mut self.threads, PRIORITY_APPLICATION as u8) } else { None };
        let Some(thread) = starving.or_else(|| self.ready.pop(&mut self.threads)) else { return Next::Idle };
        let task = self.threads[usize::from(thread)].task;
        self.threads[usize::from(thread)].state = State::Running;
        self.current = Some(thread);
        self.current_task = task;
        if self.last != Some(thread) {
            self.last = Some(thread);
            self.count(Counter::ThreadSwitches);
        }
        let switch_space = self.active != Some(task);
        if switch_space {
            self.active = Some(task);
            self.count(Counter::Switches);
        }
        Next::Run { thread: usize::from(thread), space: self.tasks[usize::from(task)].tables(), switch_space }
    }

    /// The running thread has stopped: its task pays for its time.
    pub(crate) fn charge(&mut self, now: u64) {
        self.tasks[usize::from(self.current_task)].cpu_ns += now.saturating_sub(self.since);
        self.since = now;
    }

    /// Puts a thread that still wants the processor back: before its equals if it has time left of its quantum.
    fn requeue(&mut self, running: u16) {
        let thread = &mut self.threads[usize::from(running)];
        if thread.state != State::Running {
            return;
        }
        thread.state = State::Ready;
        if thread.ticks_left == 0 {
            thread.ticks_left = QUANTUM_TICKS;
            self.ready.push_back(&mut self.threads, running);
        } else {
            self.ready.push_front(&mut self.threads, running);
        }
    }

    /// The timer's interrupt, once a millisecond: ends waits whose limit has passed, and turns.
    pub fn tick(&mut self, m: &mut M) {
        if self.next_deadline != u64::MAX {
            let now = m.now_ns();
            if now >= self.next_deadline {
                self.expire(m, now);
            }
        }
        self.relieve();
        let Some(running) = self.current else { return };
        let thread = &mut self.threads[usize::from(running)];
        thread.ticks_left = thread.ticks_left.saturating_sub(1);
        let (spent, priority) = (thread.ticks_left == 0, thread.priority);
        if spent && !self.ready.any_at_least(priority) {
            thread.ticks_left = QUANTUM_TICKS;
        }
        self.reschedule |=
            if spent { self.ready.any_at_least(priority) } else { self.ready.any_at_least(priority + 1) };
    }

    /// A server that always has work must not keep it from those for whom it works: when a thread above the applications has had a few
    /// ticks while one of theirs was ready, theirs go first for the next. So a flood of packets leaves them a quarter of the time
    /// (Mogul and Ramakrishnan 1996, section 6: user tasks must make progress too).
    #[inline]
    fn relieve(&mut self) {
        self.relief = false;
        let above = self.current.is_some_and(|running| {
            u64::from(self.threads[usize::from(running)].priority) > PRIORITY_APPLICATION
        });
        if !above || !self.ready.any_to(PRIORITY_APPLICATION as u8) {
            self.starved = 0;
            return;
        }
        self.starved += 1;
        if self.starved >= STARVED_TICKS {
            self.starved = 0;
            self.relief = true;
            self.reschedule = true;
        }
    }

    fn expire(&mut self, m: &mut M, now: u64) {
        self.next_deadline = u64::MAX;
        for index in 0..THREADS {
            let thread = self.threads[index];
            match thread.state {
                State::Free | State::Ready | State::Running => {}
                _ if thread.deadline > now => self.next_deadline = self.next_deadline.min(thread.deadline),
                State::Suspended => self.wake(m, index as u16, 0, WAKE_TIMEOUT),
                _ => self.wake(m, index as u16, Error::TimedOut.raw().into(), 0),
            }
        }
    }

    /// Bytes have been typed: gives them to those who wait for them.
    pub fn console_input(&mut self, m: &mut M) {
        while let Some(thread) = self.typists.head() {
            let State::Console { buffer, length } = self.threads[usize::from(thread)].state else { return };
            let task = self.threads[usize::from(thread)].task;
            match self.console_take(m, task, buffer, length) {
                Ok(0) => return,
                Ok(bytes) => self.wake(m, thread, 0, bytes),
                Err(error) => self.wake(m, thread, error.raw().into(), 0),
            }
            self.preempt_for(thread);
        }
    }

    /// Does what the driver wants done after the device's interrupt.
    pub fn net_event(&mut self, m: &mut M, event: NetEvent) {
        let mut left = event.resume;
        while left != 0 {
            let at = left.trailing_zeros() as usize;
            left &= left - 1;
            match self.devices[at % WINDOWS_MAX].thread {
                // Who is about to end runs no more.
                _ if event.violation.is_some() && event.culprit == at => {}
                Some(thread) => {
                    self.post(m, thread, abi::thread::WAKE_RESUMED as u32);
                    self.preempt_for(thread);
                }
                None => self.resume_socket_threads(m, true),
            }
        }
        if let Some(misbehaviour) = event.violation {
            self.close_for_violation(m, event.culprit, misbehaviour);
        }
    }

    /// An interrupt made a thread ready: it runs at once if its priority is higher.
    pub(crate) fn preempt_for(&mut self, thread: u16) {
        if let Some(running) = self.current.filter(|_| !self.relief) {
            let higher =
                self.threads[usize::from(thread)].priority > self.threads[usize::from(running)].priority;
            self.reschedule |= higher && self.threads[usize::from(thread)].state == State::Ready;
        }
    }

    /// As [`Kernel::preempt_for`], for whoever was made ready.
    pub(crate) fn preempt_for_any(&mut self) {
        if let Some(running) = self.current.filter(|_| !self.relief) {
            let priority = self.threads[usize::from(running)].priority;
            self.reschedule |= self.ready.any_at_least(priority + 1);
        }
    }

    /// The owner of the window wrote what cannot be: it ends, and the device is closed.
    fn close_for_violation(&mut self, m: &mut M, at: usize, misbehaviour: PeerMisbehaviour) {
        let Some(owner) = self.devices[at % WINDOWS_MAX].owner else { return };
        self.print_culprit(m, owner);
        let _ = writeln!(Console(m), ": the window of net0 holds what cannot be: {misbehaviour}");
        self.end_task(m, owner, STATUS_WINDOW);
    }

    /// The running thread caused an exception: reports it and ends its task. Then [`Kernel::pick`].
    pub fn user_fault(&mut self, m: &mut M, fault: &Fault) {
        let Some(thread) = self.current else { return };
        let task = self.current_task;
        self.print_culprit(m, task);
        let mut console = Console(m);
        let _ = write!(console, ": {}", fault.what);
        if let Some(address) = fault.address {
            let _ = write!(console, " at {address:#x}");
        }
        let _ = writeln!(console, ", rip {:#x}, rsp {:#x}, error {:#x}", fault.pc, fault.sp, fault.code);
        m.print_registers(usize::from(thread));
        self.end_task(m, task, STATUS_FAULT);
    }

    fn print_culprit(&self, m: &mut M, task: u16) {
        let task = &self.tasks[usize::from(task)];
        m.console_write(b"fault: task ");
        m.console_write(task.name());
        let _ = write!(Console(m), " (id {})", task.id);
    }

    /// The first task has ended, and the machine with it.
    pub(crate) fn shut_down(&self, m: &mut M, status: u32) {
        let _ = writeln!(Console(m), "kernel: init has ended with status {status}");
        m.power_off(if status == 0 { exit::OFF } else { exit::BOOT_FAILED });
    }

    /// A task slot's number, never given again.
    pub(crate) fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    /// The address space of a task that is about to end is not to be believed loaded any more.
    pub(crate) fn forget_space(&mut self, task: u16) {
        if self.active == Some(task) {
            self.active = None;
        }
    }

    /// As [`Kernel::forget_space`], for a thread.
    pub(crate) fn forget_thread(&mut self, thread: u16) {
        if self.last == Some(thread) {
            self.last = None;
        }
    }

    /// When a wait with a limit ends; `u64::MAX` for never.
    pub(crate) fn deadline(&self, m: &M, limit: u64) -> u64 {
        if limit == abi::syscall::FOREVER { u64::MAX } else { m.now_ns().saturating_add(limit) }
    }

    /// The running thread, `thread`, waits.
    #[inline]
    pub(crate) fn block(&mut self, thread: u16, state: State, deadline: u64) {
        let slot = &mut self.threads[usize::from(thread)];
        slot.state = state;
        slot.deadline = deadline;
        self.next_deadline = self.next_deadline.min(deadline);
    }

    /// Tells a thread of an event: ends its suspension, or is kept for the next. True if it was suspended.
    #[inline]
    pub(crate) fn post(&mut self, m: &mut M, thread: u16, what: u32) -> bool {
        let slot = &mut self.threads[usize::from(thread)];
        if slot.state == State::Suspended {
            self.wake(m, thread, 0, what.into());
            return true;
        }
        slot.pending |= what;
        false
    }

    /// Ends a thread's wait with a result.
    #[inline]
    pub(crate) fn wake(&mut self, m: &mut M, thread: u16, status: u64, value: u64) {
        self.leave_queue(thread);
        let slot = &mut self.threads[usize::from(thread)];
        // What it sent went well, before it waited.
        let (status, value) = if slot.calls { (0, status) } else { (status, value) };
        slot.calls = false;
        slot.state = State::Ready;
        let priority = slot.priority;
        m.context_result(usize::from(thread), status, value);
        self.ready.push_back(&mut self.threads, thread);
        // In the applications' tick one that waited for a server goes on as soon as that has answered.
        self.reschedule |= self.relief && u64::from(priority) <= PRIORITY_APPLICATION;
    }

    /// Takes a thread off the queue that its state says it is on.
    pub(crate) fn leave_queue(&mut self, thread: u16) {
        let threads = &mut self.threads;
        match threads[usize::from(thread)].state {
            State::Free | State::Running | State::Suspended => {}
            State::Ready => self.ready.remove(threads, thread),
            State::Receiving { port, .. } => self.ports.get_mut(port).receivers.remove(threads, thread),
            State::Sending { port, .. } => self.ports.get_mut(port).senders.remove(threads, thread),
            State::Console { .. } => self.typists.remove(threads, thread),
        }
    }
}

impl<M: Machine> Default for Kernel<M> {
    fn default() -> Self {
        Self::new()
    }
}
