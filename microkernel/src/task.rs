//! Tasks: an address space, a name space, threads.

use abi::syscall::NAME_MAX;
use abi::thread::PRIORITY_APPLICATION;

use crate::machine::Machine;
use crate::names::Names;
use crate::space::AddressSpace;

/// Tasks, at most.
pub const TASKS: usize = 64;

/// A task.
pub struct Task<M: Machine> {
    /// Its number, unique since boot; 0 for a free slot.
    pub id: u64,
    /// The number of the task that made it; 0 for the first.
    pub creator: u64,
    /// The program's name.
    pub name: [u8; NAME_MAX],
    /// The length of `name`.
    pub name_length: usize,
    /// What it maps; `None` only in a free slot.
    pub space: Option<AddressSpace<M::Space>>,
    /// What it holds.
    pub names: Names,
    /// Its threads.
    pub threads: u16,
    /// The highest priority that its threads, and tasks that it makes, can have: what it was given itself.
    pub ceiling: u8,
    /// Its port.
    pub port: u16,
    /// Messages and requests that count for it.
    pub messages: u16,
    /// Frames of data in them.
    pub data_pages: u16,
    /// Processor time taken.
    pub cpu_ns: u64,
}

impl<M: Machine> Task<M> {
    /// A free slot.
    pub const FREE: Self = Self {
        id: 0,
        creator: 0,
        name: [0; NAME_MAX],
        name_length: 0,
        space: None,
        names: Names::EMPTY,
        threads: 0,
        ceiling: 0,
        port: 0,
        messages: 0,
        data_pages: 0,
        cpu_ns: 0,
    };

    /// Of what all tasks share, may it take the last? Those may above the applications, who answer them, and who has next to none.
    #[inline]
    pub const fn may_take_the_last(&self, has_few: bool) -> bool {
        has_few || self.ceiling as u64 > PRIORITY_APPLICATION
    }

    /// The program's name.
    pub fn name(&self) -> &[u8] {
        &self.name[..self.name_length]
    }

    /// The machine's part of its address space.
    ///
    /// # Panics
    /// If the slot is free: only tasks that live are asked.
    #[inline]
    pub fn tables(&self) -> &M::Space {
        match &self.space {
            Some(space) => &space.tables,
            None => panic!("a free task slot has no address space"),
        }
    }
}
