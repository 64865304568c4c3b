//! The kernel's heap, for the stack alone: on the monolithic path it lies in one piece of memory taken at boot, on all others it has
//! none. What the kernel itself needs stands in tables of fixed size.
//!
//! An allocation that cannot say that it failed ends the machine, so none of them may be a task's doing: before each whose size or
//! number a task decides the stack asks [`room_for`], which keeps [`RESERVE`] back for all the others. Those are bounded by constants: the
//! buffers of fragments in either direction, a socket's own record, the queues of a listener.
#![expect(unsafe_code, reason = "an allocator")]

use crate::arch::global::Global;
use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{NonNull, null_mut};
use linked_list_allocator::Heap;

/// Bytes that no task's request may take.
const RESERVE: usize = 1 << 20;
const PAGE_BYTES: usize = abi::vm::PAGE_BYTES as usize;

struct KernelHeap(Global<Heap>);

#[global_allocator]
static HEAP: KernelHeap = KernelHeap(Global::new(Heap::empty()));

// SAFETY: blocks come from `linked_list_allocator`, which fulfils the contract.
unsafe impl GlobalAlloc for KernelHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: one processor, ring 0 is not interrupted, and the allocator calls nobody: there is no other reference.
        let heap = unsafe { self.0.get() };
        heap.allocate_first_fit(layout).map_or(null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as in `alloc`.
        let heap = unsafe { self.0.get() };
        if let Some(block) = NonNull::new(block) {
            // SAFETY: the block came from here with this layout, as the caller promises.
            unsafe { heap.deallocate(block, layout) }
        }
    }
}

/// Gives the heap its memory.
///
/// # Safety
/// Called once, at most; `bytes` bytes from `base` on are nobody else's for the rest of the program.
pub unsafe fn init(base: NonNull<u8>, bytes: usize) {
    // SAFETY: as in `alloc`; the memory is the caller's promise.
    unsafe { HEAP.0.get().init(base.as_ptr(), bytes) }
}

/// Bytes in use.
pub fn used() -> usize {
    // SAFETY: as in `alloc`.
    unsafe { HEAP.0.get() }.used()
}

/// Whether a task's request may take `bytes` more, in one piece.
pub fn room_for(bytes: usize) -> bool {
    // SAFETY: as in `alloc`.
    let heap = unsafe { HEAP.0.get() };
    let Ok(layout) = Layout::from_size_align(bytes, align_of::<u64>()) else { return false };
    if heap.free() < bytes.saturating_add(RESERVE) {
        return false;
    }
    let Ok(block) = heap.allocate_first_fit(layout) else { return false };
    // SAFETY: it came from here just now.
    unsafe { heap.deallocate(block, layout) };
    true
}

/// Whole pages, zeroed, for memory that stack and tasks share.
pub struct Block {
    base: NonNull<u8>,
    layout: Layout,
}

impl Block {
    /// Takes `bytes` bytes at least; `None` if a task's request may not have them.
    pub fn new(bytes: usize) -> Option<Self> {
        let bytes = bytes.checked_next_multiple_of(PAGE_BYTES).filter(|&bytes| bytes != 0)?;
        let layout = Layout::from_size_align(bytes, PAGE_BYTES).ok()?;
        // SAFETY: as in `alloc`.
        let heap = unsafe { HEAP.0.get() };
        if heap.free() < bytes.saturating_add(RESERVE) {
            return None;
        }
        let base = heap.allocate_first_fit(layout).ok()?;
        // SAFETY: a block of that many bytes, which is nobody's yet.
        unsafe { base.write_bytes(0, bytes) };
        Some(Self { base, layout })
    }

    /// Where it begins.
    pub const fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Its bytes, whole pages.
    pub const fn bytes(&self) -> usize {
        self.layout.size()
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: as in `alloc`; it came from there with this layout.
        unsafe { HEAP.0.get().deallocate(self.base, self.layout) }
    }
}
