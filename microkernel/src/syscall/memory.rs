//! Memory: of a task's own, and shared.

use abi::Error;
use abi::vm::{PAGE_BYTES, PROT_EXECUTE, PROT_READ, PROT_WRITE};

use super::{Answer, name};
use crate::kernel::Kernel;
use crate::machine::{Machine, Outcome, Prot};
use crate::names::Right;
use crate::space::is_user_range;

/// Whole pages of a length that a task gave.
fn pages(length: u64) -> Result<u64, Error> {
    if length == 0 { Err(Error::BadArgument) } else { Ok(length.div_ceil(PAGE_BYTES)) }
}

/// A protection that a task gave. Executable memory comes from the program's file alone.
fn prot(raw: u64) -> Result<Prot, Error> {
    if raw & !(PROT_READ | PROT_WRITE | PROT_EXECUTE) != 0 || raw & PROT_READ == 0 {
        Err(Error::BadArgument)
    } else if raw & PROT_EXECUTE != 0 {
        Err(Error::Denied)
    } else {
        Ok(Prot { write: raw & PROT_WRITE != 0, execute: false })
    }
}

impl<M: Machine> Kernel<M> {
    pub(super) fn vm_allocate(&mut self, m: &mut M, length: u64, protection: u64) -> Answer {
        let (pages, prot) = (pages(length)?, prot(protection)?);
        let Some(space) = self.tasks[usize::from(self.current_task)].space.as_mut() else {
            return Err(Error::Dead);
        };
        Ok(Outcome::ok(self.memory.map_own(m, space, None, pages, prot)?))
    }

    pub(super) fn vm_deallocate(&mut self, m: &mut M, address: u64, length: u64) -> Answer {
        if !address.is_multiple_of(PAGE_BYTES) || !length.is_multiple_of(PAGE_BYTES) || length == 0 {
            return Err(Error::BadArgument);
        }
        if !is_user_range(address, length) {
            return Err(Error::BadAddress);
        }
        let Some(space) = self.tasks[usize::from(self.current_task)].space.as_mut() else {
            return Err(Error::Dead);
        };
        self.memory.unmap(m, space, address, length / PAGE_BYTES)?;
        Ok(Outcome::ok(0))
    }

    pub(super) fn memory_object_create(&mut self, m: &mut M, length: u64) -> Answer {
        let pages = pages(length)?;
        if !self.tasks[usize::from(self.current_task)].names.has_room(1) {
            return Err(Error::NoResources);
        }
        let object = self.memory.objects.create(m, &mut self.memory.frames, pages)?;
        let name = self.insert_right(self.current_task, Right::Memory { object, write: true })?;
        Ok(Outcome::ok(name.into()))
    }

    pub(super) fn vm_map(
        &mut self,
        m: &mut M,
        object: u64,
        offset: u64,
        length: u64,
        protection: u64,
    ) -> Answer {
        let names = &self.tasks[usize::from(self.current_task)].names;
        let Right::Memory { object, write } = names.get(name(object)?)? else { return Err(Error::BadRight) };
        let (pages, prot) = (pages(length)?, prot(protection)?);
        if prot.write && !write {
            return Err(Error::Denied);
        }
        let first = offset / PAGE_BYTES;
        let inside = first.checked_add(pages).is_some_and(|end| end <= self.memory.objects.pages(object));
        if !offset.is_multiple_of(PAGE_BYTES) || !inside {
            return Err(Error::BadArgument);
        }
        let Some(space) = self.tasks[usize::from(self.current_task)].space.as_mut() else {
            return Err(Error::Dead);
        };
        Ok(Outcome::ok(self.memory.map_object(m, space, object, first, pages, prot)?))
    }

    pub(super) fn memory_object_read_only(&mut self, m: &mut M, object: u64) -> Answer {
        let names = &self.tasks[usize::from(self.current_task)].names;
        let Right::Memory { object, .. } = names.get(name(object)?)? else { return Err(Error::BadRight) };
        self.memory.objects.retain(object)?;
        match self.insert_right(self.current_task, Right::Memory { object, write: false }) {
            Ok(name) => Ok(Outcome::ok(name.into())),
            Err(error) => {
                self.memory.objects.release(m, &mut self.memory.frames, object);
                Err(error)
            }
        }
    }
}
