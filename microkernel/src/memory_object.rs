//! Memory objects: wired, zeroed pages that several tasks can map, and the window of a device.
//!
//! An object's frames are listed in frames of their own (a table of addresses; above 512 pages, tables of tables), so
//! that objects of any size cost this table the same and physical memory may be in any order.
//!
//! References are counted: one for each name, each right in a message, each region, and one of the kernel's own for a
//! device's window. With the last one the frames go back, zeroed again before anyone else sees them.

use abi::Error;

use crate::frames::{FRAME_BYTES, Frames};
use crate::machine::Machine;
use crate::sockets::Sockets;

/// Memory objects, at most.
pub const OBJECTS: usize = 256;
/// Pages of one object, at most: two levels of tables.
pub const OBJECT_PAGES_MAX: u64 = TABLE_ENTRIES * TABLE_ENTRIES;

const TABLE_ENTRIES: u64 = FRAME_BYTES / 8;

#[derive(Clone, Copy, Debug)]
enum Backing {
    /// Frames that are the object's own, listed from this one.
    Paged { root: u64 },
    /// A device's, contiguous; never freed.
    Device { base: u64 },
    /// The kernel's stack's, contiguous; it hears by the name when nobody refers to it any more.
    Shared { base: u64, name: u32 },
}

#[derive(Clone, Copy, Debug)]
struct MemoryObject {
    references: u16,
    pages: u64,
    backing: Backing,
}

/// The table of all memory objects.
pub struct MemoryObjects {
    table: [MemoryObject; OBJECTS],
}

impl MemoryObjects {
    /// No objects.
    #[must_use]
    pub const fn new() -> Self {
        let none = MemoryObject { references: 0, pages: 0, backing: Backing::Paged { root: 0 } };
        Self { table: [none; OBJECTS] }
    }

    /// Makes an object of zeroed pages, with one reference.
    ///
    /// # Errors
    /// [`Error::NoResources`]: out of frames or objects; nothing was changed.
    pub fn create<M: Machine>(&mut self, m: &mut M, frames: &mut Frames, pages: u64) -> Result<u16, Error> {
        let index = self.free_slot()?;
        let tables = if pages <= TABLE_ENTRIES { 1 } else { 1 + pages.div_ceil(TABLE_ENTRIES) };
        if pages > OBJECT_PAGES_MAX || pages + tables > frames.available_count() as u64 {
            return Err(Error::NoResources);
        }
        // There are enough frames, so from here on nothing fails.
        let mut table = take(m, frames)?;
        let root = table;
        for page in 0..pages {
            if pages > TABLE_ENTRIES && page % TABLE_ENTRIES == 0 {
                table = take(m, frames)?;
                m.copy_to_phys(root + page / TABLE_ENTRIES * 8, &table.to_le_bytes());
            }
            let frame = take(m, frames)?;
            m.copy_to_phys(table + page % TABLE_ENTRIES * 8, &frame.to_le_bytes());
        }
        self.table[index] = MemoryObject { references: 1, pages, backing: Backing::Paged { root } };
        Ok(index as u16)
    }

    /// Makes the object of a device's window, with one reference.
    ///
    /// # Errors
    /// [`Error::NoResources`]: out of objects.
    pub fn create_device(&mut self, base: u64, pages: u64) -> Result<u16, Error> {
        let index = self.free_slot()?;
        self.table[index] = MemoryObject { references: 1, pages, backing: Backing::Device { base } };
        Ok(index as u16)
    }

    /// Makes the object of memory that the kernel's stack shares, with one reference.
    ///
    /// # Errors
    /// [`Error::NoResources`]: out of objects.
    pub fn create_shared(&mut self, base: u64, pages: u64, name: u32) -> Result<u16, Error> {
        let index = self.free_slot()?;
        self.table[index] = MemoryObject { references: 1, pages, backing: Backing::Shared { base, name } };
        Ok(index as u16)
    }

    /// How many there are.
    #[must_use]
    pub fn used(&self) -> usize {
        self.table.iter().filter(|object| object.references > 0).count()
    }

    /// Can one more object be made, as far as the table goes?
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.free_slot().is_ok()
    }

    /// Is there a device's window at this address that somebody still refers to?
    #[must_use]
    pub fn device_in_use(&self, window: u64) -> bool {
        self.table
            .iter()
            .any(|o| o.references > 0 && matches!(o.backing, Backing::Device { base } if base == window))
    }

    /// The pages of an object.
    #[must_use]
    pub fn pages(&self, index: u16) -> u64 {
        self.table[usize::from(index)].pages
    }

    /// The frame of a page of an object.
    #[must_use]
    pub fn frame<M: Machine>(&self, m: &M, index: u16, page: u64) -> u64 {
        let object = &self.table[usize::from(index)];
        debug_assert!(page < object.pages);
        match object.backing {
            Backing::Device { base } | Backing::Shared { base, .. } => base + page * FRAME_BYTES,
            Backing::Paged { root } if object.pages <= TABLE_ENTRIES => read(m, root, page),
            Backing::Paged { root } => read(m, read(m, root, page / TABLE_ENTRIES), page % TABLE_ENTRIES),
        }
    }

    /// Counts one more reference.
    ///
    /// # Errors
    /// [`Error::NoResources`]: the count is at its end.
    pub fn retain(&mut self, index: u16) -> Result<(), Error> {
        let references = &mut self.table[usize::from(index)].references;
        *references = references.checked_add(1).ok_or(Error::NoResources)?;
        Ok(())
    }

    /// Takes back a reference that [`MemoryObjects::retain`] counted; it is not the last.
    pub fn unretain(&mut self, index: u16) {
        self.table[usize::from(index)].references -= 1;
    }

    /// Counts one reference less; with the last the object goes.
    pub fn release<M: Machine>(&mut self, m: &mut M, frames: &mut Frames, index: u16) {
        let object = self.table[usize::from(index)];
        self.table[usize::from(index)].references -= 1;
        if object.references > 1 {
            return;
        }
        let root = match object.backing {
            Backing::Paged { root } => root,
            Backing::Device { .. } => return,
            Backing::Shared { name, .. } => {
                if let Some(net) = m.net() {
                    net.give_back(name);
                }
                return;
            }
        };
        for page in 0..object.pages {
            frames.free(self.frame(m, index, page));
        }
        if object.pages > TABLE_ENTRIES {
            for table in 0..object.pages.div_ceil(TABLE_ENTRIES) {
                frames.free(read(m, root, table));
            }
        }
        frames.free(root);
    }

    fn free_slot(&self) -> Result<usize, Error> {
        self.table.iter().position(|object| object.references == 0).ok_or(Error::NoResources)
    }

    /// References of each object, and the frames that all objects hold.
    #[cfg(any(test, feature = "fake"))]
    pub(crate) fn census(&self) -> (std::vec::Vec<u16>, u64) {
        let held = self.table.iter().filter(|o| o.references > 0).map(|o| match o.backing {
            Backing::Device { .. } | Backing::Shared { .. } => 0,
            Backing::Paged { .. } if o.pages <= TABLE_ENTRIES => o.pages + 1,
            Backing::Paged { .. } => o.pages + 1 + o.pages.div_ceil(TABLE_ENTRIES),
        });
        (self.table.iter().map(|o| o.references).collect(), held.sum())
    }
}

impl Default for MemoryObjects {
    fn default() -> Self {
        Self::new()
    }
}

fn take<M: Machine>(m: &mut M, frames: &mut Frames) -> Result<u64, Error> {
    let frame = frames.allocate().ok_or(Error::NoResources)?;
    m.zero_frame(frame);
    Ok(frame)
}

fn read<M: Machine>(m: &M, table: u64, entry: u64) -> u64 {
    let mut bytes = [0; 8];
    m.copy_from_phys(table + entry * 8, &mut bytes);
    u64::from_le_bytes(bytes)
}
