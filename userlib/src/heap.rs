//! The global allocator: arenas of pages that the kernel gives, one more whenever those there are full.
#![expect(unsafe_code, reason = "a global allocator is an unsafe trait")]

use core::{
    alloc::{GlobalAlloc, Layout},
    ptr::{NonNull, null_mut},
};

use linked_list_allocator::Heap as Arena;

use crate::{memory::Mapping, sync::Lock};

/// Arenas, at most; each is twice as large as the one before.
const ARENAS: usize = 16;
/// The first arena, in bytes.
const FIRST_BYTES: usize = 256 * 1024;
/// What an arena needs beside the request itself, generously.
const OVERHEAD_BYTES: usize = 4096;

/// A heap for a whole task; [`crate::entry!`] declares it.
pub struct Heap {
    arenas: Lock<Arenas>,
}

struct Arenas {
    arenas: [Arena; ARENAS],
    used: usize,
}

// SAFETY: the arenas' memory belongs to the task, and is reached under the lock only.
unsafe impl Send for Arenas {}

impl Heap {
    /// A heap without memory; the first allocation fetches some.
    #[must_use]
    pub const fn new() -> Self {
        Self { arenas: Lock::new(Arenas { arenas: [const { Arena::empty() }; ARENAS], used: 0 }) }
    }
}

impl Default for Heap {
    fn default() -> Self {
        Self::new()
    }
}

impl Arenas {
    fn allocate(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        // The newest is the largest, and the emptiest.
        for arena in self.arenas[..self.used].iter_mut().rev() {
            if let Ok(found) = arena.allocate_first_fit(layout) {
                return Some(found);
            }
        }
        self.grow(layout)?.allocate_first_fit(layout).ok()
    }

    fn grow(&mut self, layout: Layout) -> Option<&mut Arena> {
        let arena = self.arenas.get_mut(self.used)?;
        let wanted = layout.size().checked_add(layout.align())?.checked_add(OVERHEAD_BYTES)?;
        let bytes = wanted.max(FIRST_BYTES << self.used);
        // Where the kernel has no such run of memory left, the request itself may still fit.
        let mapping = Mapping::allocate(bytes).or_else(|_| Mapping::allocate(wanted)).ok()?;
        // SAFETY: fresh pages that nobody else knows, kept for ever.
        unsafe { arena.init(mapping.base().as_ptr(), mapping.len()) };
        core::mem::forget(mapping);
        self.used += 1;
        Some(arena)
    }
}

// SAFETY: blocks come from `linked_list_allocator`, which fulfils the contract for each arena; a block goes back to the arena that has its address.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.arenas.lock().allocate(layout).map_or(null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let mut arenas = self.arenas.lock();
        let used = arenas.used;
        let owner =
            arenas.arenas[..used].iter_mut().find(|arena| (arena.bottom()..arena.top()).contains(&block));
        if let (Some(arena), Some(block)) = (owner, NonNull::new(block)) {
            // SAFETY: the block came from this arena with this layout, as the caller promises.
            unsafe { arena.deallocate(block, layout) };
        }
    }
}
