//! How tasks and threads begin and end.
//!
//! A task that ends gives everything back before anything else runs: threads, rights (and so its ports, of whose death
//! others are told), memory, page tables.

use abi::Error;
use abi::port::{TASK_SELF, THREAD_SELF};
use abi::thread::{STACK_BYTES, STACK_TOP};
use abi::vm::PAGE_BYTES;

use crate::elf::Program;
use crate::kernel::Kernel;
use crate::machine::{Machine, Prot};
use crate::module;
use crate::names::{Names, Right};
use crate::port::{Holder, Kind};
use crate::task::{TASKS, Task};
use crate::thread::{QUANTUM_TICKS, State, THREADS, Thread};
use crate::user;

impl<M: Machine> Kernel<M> {
    /// Makes a task from a program of the module, with its first thread ready to run; its slot.
    ///
    /// # Errors
    /// [`Error::NotFound`]: there is no such program; [`Error::BadProgram`]; [`Error::NoResources`]. Nothing was changed.
    pub(crate) fn spawn(
        &mut self,
        m: &mut M,
        name: &[u8],
        arguments: &[u8],
        priority: u8,
    ) -> Result<u16, Error> {
        let file = module::find(self.module, name).map_err(|_| Error::NotFound)?;
        let program = Program::parse(file).map_err(|_| Error::BadProgram)?;
        let free = self.tasks.iter().position(|task| task.id == 0).ok_or(Error::NoResources)?;
        if program.pages() + STACK_BYTES / PAGE_BYTES > self.memory.frames.free_count() as u64 {
            return Err(Error::NoResources);
        }
        let task = free as u16;
        let space = self.memory.new_space(m)?;
        let port = match self.ports.allocate(Kind::Task(task)) {
            Ok(port) => port,
            Err(error) => {
                self.memory.drop_space(m, space);
                return Err(error);
            }
        };
        let id = self.take_id();
        let slot = &mut self.tasks[free];
        *slot =
            Task { id, port, space: Some(space), name_length: name.len(), ceiling: priority, ..Task::FREE };
        slot.name[..name.len()].copy_from_slice(name);
        self.ports.get_mut(port).references += 1;
        self.tasks[free].names.insert_at(TASK_SELF, Right::Send(port));
        match self.populate(m, task, &program, arguments, priority) {
            Ok(()) => Ok(task),
            Err(error) => {
                self.end_task(m, task, 0);
                Err(error)
            }
        }
    }

    /// Loads the program, makes stack and first thread.
    fn populate(
        &mut self,
        m: &mut M,
        task: u16,
        program: &Program<'_>,
        arguments: &[u8],
        priority: u8,
    ) -> Result<(), Error> {
        let Some(space) = self.tasks[usize::from(task)].space.as_mut() else { return Err(Error::Dead) };
        for segment in program.segments() {
            self.memory.map_own(m, space, Some(segment.first_page), segment.pages, segment.prot)?;
            user::load(m, &space.tables, segment.address, segment.contents)?;
        }
        let stack = STACK_TOP - STACK_BYTES;
        self.memory.map_own(m, space, Some(stack), STACK_BYTES / PAGE_BYTES, Prot::READ_WRITE)?;
        // Not a region: it is the kernel's, and no call of the task's can unmap it.
        let frames = &mut self.memory.frames;
        m.map(frames, &mut space.tables, abi::info::ADDRESS, self.info_frame, Prot::READ)?;
        // The string on top, then what the entry of a C function expects: a multiple of 16, less a return address.
        let string = (STACK_TOP - arguments.len() as u64) & !15;
        user::load(m, &space.tables, string, arguments)?;
        let args = [string, arguments.len() as u64, 0];
        let thread = self.create_thread(m, task, program.entry, string - 8, args, priority)?;
        let port = self.threads[usize::from(thread)].port;
        self.ports.get_mut(port).references += 1;
        self.tasks[usize::from(task)].names.insert_at(THREAD_SELF, Right::Send(port));
        Ok(())
    }

    /// Makes a thread that is ready to run.
    ///
    /// # Errors
    /// [`Error::NoResources`].
    pub(crate) fn create_thread(
        &mut self,
        m: &mut M,
        task: u16,
        entry: u64,
        stack: u64,
        args: [u64; 3],
        priority: u8,
    ) -> Result<u16, Error> {
        let free = self.threads.iter().position(|thread| thread.state == State::Free);
        let thread = free.ok_or(Error::NoResources)? as u16;
        let port = self.ports.allocate(Kind::Thread(thread))?;
        self.threads[usize::from(thread)] =
            Thread { state: State::Ready, task, port, priority, ticks_left: QUANTUM_TICKS, ..Thread::FREE };
        self.tasks[usize::from(task)].threads += 1;
        m.context_start(usize::from(thread), entry, stack, args);
        self.ready.push_back(&mut self.threads, thread);
        Ok(thread)
    }

    /// Ends a thread; the task's last one is its caller's to care for.
    pub(crate) fn end_thread(&mut self, m: &mut M, thread: u16) {
        if self.current == Some(thread) {
            let now = m.now_ns();
            self.charge(now);
            self.current = None;
        }
        self.leave_queue(thread);
        self.forget_thread(thread);
        let Thread { task, port, .. } = self.threads[usize::from(thread)];
        self.threads[usize::from(thread)] = Thread::FREE;
        self.unbind_thread(thread);
        self.forget_sockets(m, thread);
        self.tasks[usize::from(task)].threads -= 1;
        self.kill_port(m, port, 0);
    }

    /// Ends a task with all that it holds.
    pub(crate) fn end_task(&mut self, m: &mut M, task: u16, status: u32) {
        for thread in 0..THREADS as u16 {
            let slot = &self.threads[usize::from(thread)];
            if slot.state != State::Free && slot.task == task {
                self.end_thread(m, thread);
            }
        }
        let hold = self.hold_for_successor(m, task);
        for at in 0..self.devices.len() {
            if self.devices[at].owner == Some(task) {
                let addresses = self.devices[at].addresses;
                self.close_device(m, at);
                self.devices[at].hold = hold;
                if let Some(hold) = hold {
                    self.keep_addresses(&addresses, hold);
                }
            }
        }
        self.close_net_io_of(m, task, hold);
        for name in 0..abi::port::NAMES_MAX as u32 {
            if let Ok(right) = self.tasks[usize::from(task)].names.remove_all(name) {
                self.forget_requests(task, name, right);
                self.drop_right(m, right);
            }
        }
        self.forget_space(task);
        if let Some(space) = self.tasks[usize::from(task)].space.take() {
            self.memory.drop_space(m, space);
        }
        let port = self.tasks[usize::from(task)].port;
        debug_assert!(self.ports.get(port).holder == Holder::Nobody);
        let slot = &mut self.tasks[usize::from(task)];
        (slot.id, slot.names, slot.messages, slot.data_pages) = (0, Names::EMPTY, 0, 0);
        self.kill_port(m, port, status);
        if self.first_task == Some(task) {
            self.first_task = None;
            self.shut_down(m, status);
        }
    }

    /// The highest priority of a task's threads.
    pub(crate) fn task_priority(&self, task: u16) -> u8 {
        let live = self.threads.iter().filter(|thread| thread.state != State::Free && thread.task == task);
        live.map(|thread| thread.priority).max().unwrap_or(0)
    }
}

const _: () = assert!(TASKS <= u16::MAX as usize);
