//! What a task maps: regions, each a run of pages of one origin, in the order of their addresses.
//!
//! [`Memory`] is all of the machine's memory as the kernel hands it out: frames, memory objects, and the regions of all
//! tasks, from one table. Page tables are the machine's; a frame of a task's own is found through them when it is unmapped,
//! so it is not written down twice.
//!
//! No page is ever writable and executable, nor first the one and then the other: only the loader makes executable
//! pages, and no call changes a protection.

use abi::Error;
use abi::vm::{MAP_BASE, MAP_END, PAGE_BYTES, USER_END, USER_MIN};

use crate::frames::Frames;
use crate::machine::{Machine, Prot};
use crate::memory_object::MemoryObjects;

/// Regions of all tasks together, at most.
pub const REGIONS: usize = 1024;
/// Regions of one task, at most: one task cannot take them all.
pub const REGIONS_PER_TASK: u16 = 400;

/// Where a region's frames come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// They are the task's own.
    Own,
    /// They are those of a memory object, to which the region holds a reference.
    Object(u16),
}

#[derive(Clone, Copy, Debug)]
struct Region {
    start: u64,
    pages: u64,
    origin: Origin,
    next: Option<u16>,
}

impl Region {
    const fn end(&self) -> u64 {
        self.start + self.pages * PAGE_BYTES
    }
}

/// The address space of a task.
#[derive(Debug)]
pub struct AddressSpace<S> {
    /// The machine's part.
    pub tables: S,
    first: Option<u16>,
    regions: u16,
    /// Pages of its own.
    pub own_pages: u64,
}

/// Frames, memory objects and regions.
pub struct Memory {
    /// Physical memory.
    pub frames: Frames,
    /// Memory objects.
    pub objects: MemoryObjects,
    table: [Region; REGIONS],
    /// The first of the free regions that have been used, linked by `next`.
    free: Option<u16>,
    /// Regions from here on have never been used.
    fresh: u16,
}

impl Memory {
    /// No memory.
    #[must_use]
    pub const fn new() -> Self {
        let none = Region { start: 0, pages: 0, origin: Origin::Own, next: None };
        let (frames, objects) = (Frames::new(), MemoryObjects::new());
        Self { frames, objects, table: [none; REGIONS], free: None, fresh: 0 }
    }

    /// An empty address space.
    ///
    /// # Errors
    /// [`Error::NoResources`].
    pub fn new_space<M: Machine>(&mut self, m: &mut M) -> Result<AddressSpace<M::Space>, Error> {
        let tables = m.new_space(&mut self.frames)?;
        Ok(AddressSpace { tables, first: None, regions: 0, own_pages: 0 })
    }

    /// Ends an address space and all that it maps.
    pub fn drop_space<M: Machine>(&mut self, m: &mut M, mut space: AddressSpace<M::Space>) {
        while let Some(index) = space.first {
            let region = self.table[usize::from(index)];
            space.first = region.next;
            self.unmap_pages(m, &mut space, region.start, region.pages, region.origin);
            self.give_back_region(m, index);
        }
        m.drop_space(&mut self.frames, space.tables);
    }

    /// Maps zeroed pages of the task's own: at an address that the caller knows to be free, or where there is room.
    ///
    /// # Errors
    /// [`Error::NoResources`]: nothing was changed but, perhaps, page tables made.
    pub fn map_own<M: Machine>(
        &mut self,
        m: &mut M,
        space: &mut AddressSpace<M::Space>,
        at: Option<u64>,
        pages: u64,
        prot: Prot,
    ) -> Result<u64, Error> {
        if pages > self.frames.available_count() as u64 {
            return Err(Error::NoResources);
        }
        let start = at.or_else(|| self.find_room(space, pages)).ok_or(Error::NoResources)?;
        let region = self.take_region(space)?;
        for done in 0..pages {
            let Some(frame) = self.frames.allocate() else {
                self.undo(m, space, start, done, region, Origin::Own);
                return Err(Error::NoResources);
            };
            m.zero_frame(frame);
            let virt = start + done * PAGE_BYTES;
            if let Err(error) = m.map(&mut self.frames, &mut space.tables, virt, frame, prot) {
                self.frames.free(frame);
                self.undo(m, space, start, done, region, Origin::Own);
                return Err(error);
            }
            space.own_pages += 1;
        }
        self.insert(space, region, Region { start, pages, origin: Origin::Own, next: None });
        Ok(start)
    }

    /// Maps pages of a memory object where there is room; the caller has checked that the object has them.
    ///
    /// # Errors
    /// [`Error::NoResources`]: nothing was changed but, perhaps, page tables made.
    pub fn map_object<M: Machine>(
        &mut self,
        m: &mut M,
        space: &mut AddressSpace<M::Space>,
        object: u16,
        first_page: u64,
        pages: u64,
        prot: Prot,
    ) -> Result<u64, Error> {
        let start = self.find_room(space, pages).ok_or(Error::NoResources)?;
        let region = self.take_region(space)?;
        let origin = Origin::Object(object);
        if let Err(error) = self.objects.retain(object) {
            self.undo(m, space, start, 0, region, Origin::Own);
            return Err(error);
        }
        for done in 0..pages {
            let frame = self.objects.frame(m, object, first_page + done);
            let virt = start + done * PAGE_BYTES;
            if let Err(error) = m.map(&mut self.frames, &mut space.tables, virt, frame, prot) {
                self.undo(m, space, start, done, region, origin);
                return Err(error);
            }
        }
        self.insert(space, region, Region { start, pages, origin, next: None });
        Ok(start)
    }

    /// Maps frames of nobody's as the task's own, for reading and writing, where there is room.
    ///
    /// # Errors
    /// [`Error::NoResources`]: nothing was changed but, perhaps, page tables made; the frames are still the caller's.
    pub fn attach<M: Machine>(
        &mut self,
        m: &mut M,
        space: &mut AddressSpace<M::Space>,
        mut frames: impl ExactSizeIterator<Item = u64>,
    ) -> Result<u64, Error> {
        let pages = frames.len() as u64;
        let start = self.find_room(space, pages).ok_or(Error::NoResources)?;
        let region = self.take_region(space)?;
        let mut done = 0;
        let mapped = frames.try_for_each(|frame| {
            let virt = start + done * PAGE_BYTES;
            m.map(&mut self.frames, &mut space.tables, virt, frame, Prot::READ_WRITE)?;
            done += 1;
            Ok(())
        });
        if let Err(error) = mapped {
            for page in 0..done {
                m.unmap(&mut space.tables, start + page * PAGE_BYTES);
            }
            self.undo(m, space, start, 0, region, Origin::Own);
            return Err(error);
        }
        space.own_pages += pages;
        self.insert(space, region, Region { start, pages, origin: Origin::Own, next: None });
        Ok(start)
    }

    /// Can [`Memory::detach`] take these pages? They must be the task's own, and such that it may write them.
    ///
    /// # Errors
    /// As for [`Memory::detach`].
    pub fn check_detach<M: Machine>(
        &mut self,
        m: &M,
        space: &AddressSpace<M::Space>,
        start: u64,
        pages: u64,
    ) -> Result<(), Error> {
        if !is_user_range(start, pages * PAGE_BYTES) {
            return Err(Error::BadAddress);
        }
        let end = start + pages * PAGE_BYTES;
        self.check_unmap(space, start, end, true)?;
        // What is not for writing may be for executing, and is the program's.
        let writable = |page| m.translate(&space.tables, start + page * PAGE_BYTES, true).is_some();
        if (0..pages).all(writable) { Ok(()) } else { Err(Error::BadAddress) }
    }

    /// Takes pages of a task's own out of its address space, and hands each one's frame to `taken`, in order.
    ///
    /// # Errors
    /// [`Error::BadAddress`] if not all are its own, and writable; [`Error::NoResources`] if a region would have to be divided and
    /// there is none free. Nothing was changed.
    pub fn detach<M: Machine>(
        &mut self,
        m: &mut M,
        space: &mut AddressSpace<M::Space>,
        start: u64,
        pages: u64,
        mut taken: impl FnMut(u64),
    ) -> Result<(), Error> {
        self.check_detach(m, space, start, pages)?;
        for page in 0..pages {
            if let Some(frame) = m.unmap(&mut space.tables, start + page * PAGE_BYTES) {
                taken(frame);
                space.own_pages -= 1;
            }
        }
        self.remove(m, space, start, pages, false)
    }

    /// Unmaps pages, all of which must be mapped.
    ///
    /// # Errors
    /// [`Error::BadAddress`] if not all are regions of the task; [`Error::NoResources`] if a region would have to be
    /// divided and there is none free. Nothing was changed.
    pub fn unmap<M: Machine>(
        &mut self,
        m: &mut M,
        space: &mut AddressSpace<M::Space>,
        start: u64,
        pages: u64,
    ) -> Result<(), Error> {
        self.check_unmap(space, start, start + pages * PAGE_BYTES, false)?;
        self.remove(m, space, start, pages, true)
    }

    /// Takes pages, as checked, out of the list of regions, and unmaps them if they still are mapped.
    fn remove<M: Machine>(
        &mut self,
        m: &mut M,
        space: &mut AddressSpace<M::Space>,
        start: u64,
        pages: u64,
        mapped: bool,
    ) -> Result<(), Error> {
        let end = start + pages * PAGE_BYTES;
        let (mut previous, mut current) = (None, space.first);
        while let Some(index) = current {
            let region = self.table[usize::from(index)];
            current = region.next;
            let (from, to) = (start.max(region.start), end.min(region.end()));
            if from >= to {
                previous = Some(index);
                continue;
            }
            if mapped {
                self.unmap_pages(m, space, from, (to - from) / PAGE_BYTES, region.origin);
            }
            let below = (from - region.start) / PAGE_BYTES;
            let above = (region.end() - to) / PAGE_BYTES;
            let slot = &mut self.table[usize::from(index)];
            match (below, above) {
                (0, 0) => {
                    match previous {
                        Some(previous) => self.table[usize::from(previous)].next = region.next,
                        None => space.first = region.next,
                    }
                    space.regions -= 1;
                    self.give_back_region(m, index);
                    continue;
                }
                (0, _) => (slot.start, slot.pages) = (to, above),
                (_, 0) => slot.pages = below,
                (_, _) => {
                    slot.pages = below;
                    // `check_unmap` saw that there is a region, and room in the object's count.
                    let upper = self.take_region(space)?;
                    if let Origin::Object(object) = region.origin {
                        self.objects.retain(object)?;
                    }
                    self.insert(space, upper, Region { start: to, pages: above, ..region });
                }
            }
            previous = Some(index);
        }
        Ok(())
    }

    /// Is every page from `start` to `end` in a region (of the task's own, where `own` asks for that), and is a region free if one has
    /// to be divided?
    fn check_unmap<S>(
        &mut self,
        space: &AddressSpace<S>,
        start: u64,
        end: u64,
        own: bool,
    ) -> Result<(), Error> {
        let mut covered = start;
        let mut current = space.first;
        while let Some(index) = current {
            let region = self.table[usize::from(index)];
            current = region.next;
            if !(region.start..region.end()).contains(&covered) {
                continue;
            }
            if own && region.origin != Origin::Own {
                return Err(Error::BadAddress);
            }
            if region.start < start && region.end() > end {
                let full = space.regions >= REGIONS_PER_TASK
                    || (self.free.is_none() && usize::from(self.fresh) == REGIONS);
                if full {
                    return Err(Error::NoResources);
                }
                if let Origin::Object(object) = region.origin {
                    self.objects.retain(object)?;
                    self.objects.unretain(object);
                }
            }
            covered = region.end();
            if covered >= end {
                return Ok(());
            }
        }
        Err(Error::BadAddress)
    }

    /// The lowest place for `pages` pages in the part where the kernel chooses, with an unmapped page before and after.
    fn find_room<S>(&self, space: &AddressSpace<S>, pages: u64) -> Option<u64> {
        let bytes = pages.checked_mul(PAGE_BYTES)?;
        let mut place = MAP_BASE;
        let mut current = space.first;
        while let Some(index) = current {
            let region = &self.table[usize::from(index)];
            current = region.next;
            if region.end() <= place {
                continue;
            }
            if place.checked_add(bytes)?.checked_add(PAGE_BYTES)? <= region.start {
                break;
            }
            place = region.end() + PAGE_BYTES;
        }
        (place.checked_add(bytes)? <= MAP_END).then_some(place)
    }

    fn unmap_pages<M: Machine>(
        &mut self,
        m: &mut M,
        space: &mut AddressSpace<M::Space>,
        start: u64,
        pages: u64,
        origin: Origin,
    ) {
        for page in 0..pages {
            let frame = m.unmap(&mut space.tables, start + page * PAGE_BYTES);
            if origin == Origin::Own
                && let Some(frame) = frame
            {
                self.frames.free(frame);
                space.own_pages -= 1;
            }
        }
    }

    /// Takes back the pages that a mapping which failed had got, and its region.
    fn undo<M: Machine>(
        &mut self,
        m: &mut M,
        space: &mut AddressSpace<M::Space>,
        start: u64,
        pages: u64,
        region: u16,
        origin: Origin,
    ) {
        self.unmap_pages(m, space, start, pages, origin);
        self.table[usize::from(region)].origin = origin;
        space.regions -= 1;
        self.give_back_region(m, region);
    }

    fn take_region<S>(&mut self, space: &mut AddressSpace<S>) -> Result<u16, Error> {
        if space.regions >= REGIONS_PER_TASK {
            return Err(Error::NoResources);
        }
        let index = match self.free {
            Some(index) => {
                self.free = self.table[usize::from(index)].next;
                index
            }
            None if usize::from(self.fresh) < REGIONS => {
                self.fresh += 1;
                self.fresh - 1
            }
            None => return Err(Error::NoResources),
        };
        space.regions += 1;
        Ok(index)
    }

    /// Gives back a region, with its reference to an object.
    fn give_back_region<M: Machine>(&mut self, m: &mut M, index: u16) {
        let region = &mut self.table[usize::from(index)];
        let origin = core::mem::replace(&mut region.origin, Origin::Own);
        region.next = self.free;
        self.free = Some(index);
        if let Origin::Object(object) = origin {
            self.objects.release(m, &mut self.frames, object);
        }
    }

    fn insert<S>(&mut self, space: &mut AddressSpace<S>, index: u16, region: Region) {
        let (mut previous, mut next) = (None, space.first);
        while let Some(at) = next
            && self.table[usize::from(at)].start < region.start
        {
            previous = Some(at);
            next = self.table[usize::from(at)].next;
        }
        self.table[usize::from(index)] = Region { next, ..region };
        match previous {
            Some(previous) => self.table[usize::from(previous)].next = Some(index),
            None => space.first = Some(index),
        }
    }

    /// The regions of a task as start, pages and origin.
    #[cfg(any(test, feature = "fake"))]
    pub(crate) fn regions<S>(&self, space: &AddressSpace<S>) -> std::vec::Vec<(u64, u64, Origin)> {
        let mut out = std::vec::Vec::new();
        let mut current = space.first;
        while let Some(index) = current {
            let region = self.table[usize::from(index)];
            out.push((region.start, region.pages, region.origin));
            current = region.next;
        }
        assert_eq!(out.len(), usize::from(space.regions));
        out
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

/// Does a range of addresses lie where a task can have memory?
#[must_use]
pub const fn is_user_range(address: u64, length: u64) -> bool {
    match address.checked_add(length) {
        Some(end) => address >= USER_MIN && end <= USER_END,
        None => false,
    }
}
