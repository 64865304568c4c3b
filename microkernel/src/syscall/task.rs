//! Tasks, and what can be seen of them.

use abi::counters::COUNT;
use abi::port::{BOOTSTRAP, NULL};
use abi::syscall::{ARGUMENTS_MAX, NAME_MAX};
use abi::thread::{STATUS_KILLED, TaskInfo};
use abi::usage::Usage;
use abi::{Error, port};
use core::mem::offset_of;

use super::{Answer, Bytes, name};
use crate::kernel::Kernel;
use crate::machine::{Machine, NetDevice, Outcome};
use crate::names::Right;
use crate::port::Kind;
use crate::sockets::Sockets;
use crate::task::TASKS;
use crate::thread::State;

impl<M: Machine> Kernel<M> {
    pub(super) fn task_spawn(&mut self, m: &mut M, args: &[u64; 6]) -> Answer {
        let [program, program_length, arguments, arguments_length, wanted, bootstrap] = *args;
        let (mut program_room, mut arguments_room) = ([0; NAME_MAX], [0; ARGUMENTS_MAX]);
        let program = self.copy_string(m, program, program_length, &mut program_room)?;
        let arguments = match arguments_length {
            0 => &[],
            length => self.copy_string(m, arguments, length, &mut arguments_room)?,
        };
        let priority = self.priority_within(wanted)?;
        let parent = self.current_task;
        let bootstrap = match name(bootstrap)? {
            NULL => Right::None,
            name => match self.tasks[usize::from(parent)].names.get(name)? {
                Right::Send(port) | Right::Receive(port) => Right::Send(port),
                _ => return Err(Error::BadRight),
            },
        };
        // The parent's name for the child must have a place.
        if !self.tasks[usize::from(parent)].names.has_room(1) {
            return Err(Error::NoResources);
        }
        let child = self.spawn(m, program, arguments, priority)?;
        self.tasks[usize::from(child)].creator = self.tasks[usize::from(parent)].id;
        let port = self.tasks[usize::from(child)].port;
        let given = self.retain(bootstrap).and_then(|()| {
            if bootstrap != Right::None {
                self.tasks[usize::from(child)].names.insert_at(BOOTSTRAP, bootstrap);
            }
            self.retain(Right::Send(port))?;
            self.insert_right(parent, Right::Send(port))
        });
        match given {
            Ok(name) => Ok(Outcome::ok(name.into())),
            Err(error) => {
                self.end_task(m, child, STATUS_KILLED);
                Err(error)
            }
        }
    }

    pub(super) fn task_terminate(&mut self, m: &mut M, task: u64) -> Answer {
        let Right::Send(port) = self.tasks[usize::from(self.current_task)].names.get(name(task)?)? else {
            return Err(Error::BadRight);
        };
        match self.ports.kind(port) {
            Kind::Task(task) => self.end(m, task, STATUS_KILLED),
            Kind::Dead => Err(Error::Dead),
            _ => Err(Error::BadRight),
        }
    }

    pub(super) fn task_exit(&mut self, m: &mut M, status: u64) -> Answer {
        let status =
            u32::try_from(status).ok().filter(|&status| status < STATUS_KILLED).ok_or(Error::BadArgument)?;
        self.end(m, self.current_task, status)
    }

    /// Ends a task; if it was the caller's, somebody else goes on.
    pub(super) fn end(&mut self, m: &mut M, task: u16, status: u32) -> Answer {
        self.end_task(m, task, status);
        Ok(if self.current.is_none() { Outcome::SWITCHED } else { Outcome::ok(0) })
    }

    pub(super) fn task_info(&mut self, m: &mut M, index: u64, address: u64) -> Answer {
        let index = usize::try_from(index).ok().filter(|&index| index < TASKS).ok_or(Error::BadArgument)?;
        let task = &self.tasks[index];
        let Some(space) = task.space.as_ref() else { return Err(Error::NotFound) };
        let mut bytes = Bytes::<{ size_of::<TaskInfo>() }>::new();
        bytes.put(offset_of!(TaskInfo, id), &task.id.to_le_bytes());
        bytes.put(offset_of!(TaskInfo, threads), &u32::from(task.threads).to_le_bytes());
        bytes.put(offset_of!(TaskInfo, priority), &u32::from(self.task_priority(index as u16)).to_le_bytes());
        bytes.put(offset_of!(TaskInfo, pages), &space.own_pages.to_le_bytes());
        bytes.put(offset_of!(TaskInfo, cpu_ns), &task.cpu_ns.to_le_bytes());
        bytes.put(offset_of!(TaskInfo, names), &u32::from(task.names.used()).to_le_bytes());
        bytes.put(offset_of!(TaskInfo, name_length), &(task.name_length as u32).to_le_bytes());
        bytes.put(offset_of!(TaskInfo, name), &task.name);
        self.answer_at(m, address, &bytes.0)?;
        Ok(Outcome::ok(0))
    }

    pub(super) fn counters_read(&mut self, m: &mut M, address: u64, count: u64) -> Answer {
        let mut counters = self.counters;
        if let Some(net) = m.net() {
            net.counters(&mut counters);
        }
        let count = count.min(COUNT as u64) as usize;
        let mut bytes = [0; COUNT * 8];
        for (to, counter) in bytes.chunks_exact_mut(8).zip(counters) {
            to.copy_from_slice(&counter.to_le_bytes());
        }
        self.answer_at(m, address, &bytes[..count * 8])?;
        Ok(Outcome::ok(count as u64))
    }
}

impl<M: Machine> Kernel<M> {
    /// Counts what is in use: for who looks whether something was left behind, not for who is in a hurry.
    pub(super) fn usage_read(&mut self, m: &mut M, address: u64) -> Answer {
        let tasks = self.tasks.iter().filter(|task| task.space.is_some()).count();
        let threads = self.threads.iter().filter(|thread| thread.state != State::Free).count();
        let heap = m.net().map_or(0, |net| net.heap_bytes());
        let mut bytes = Bytes::<{ size_of::<Usage>() }>::new();
        let mut put = |at: usize, n: usize| bytes.put(at, &(n as u32).to_le_bytes());
        put(offset_of!(Usage, tasks), tasks);
        put(offset_of!(Usage, threads), threads);
        put(offset_of!(Usage, ports), self.ports.used());
        put(offset_of!(Usage, objects), self.memory.objects.used());
        bytes.put(offset_of!(Usage, free_pages), &(self.memory.frames.free_count() as u64).to_le_bytes());
        bytes.put(offset_of!(Usage, heap_bytes), &heap.to_le_bytes());
        self.answer_at(m, address, &bytes.0)?;
        Ok(Outcome::ok(0))
    }
}

const _: () = assert!(BOOTSTRAP < port::HOST, "below the names that are given out");
