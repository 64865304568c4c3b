//! Arrays of descriptors in memory that a device reads and writes.
//!
//! No reference is ever formed to what the device can write: elements are copied in and out by volatile accesses, which stay in program
//! order among themselves. `publish` and `observe` order them for the processor.
#![expect(unsafe_code, reason = "volatile accesses to memory that a device writes")]

use core::{
    marker::PhantomData,
    ptr::NonNull,
    sync::atomic::{Ordering, fence},
};

use crate::hal::DmaRegion;

mod plain {
    /// A type of which every bit pattern is a value, without padding.
    pub trait Plain: Copy {}
    impl Plain for u16 {}
    impl Plain for u32 {}
    impl Plain for u64 {}
}
pub(crate) use plain::Plain;

/// `N` elements in DMA memory; `N` is a power of two, and an index counts modulo `N`, so that no index is outside.
pub(crate) struct DmaArray<T, const N: usize> {
    ptr: NonNull<T>,
    phys: u64,
    owns: PhantomData<T>,
}

// SAFETY: it is the only way to its region, which is valid for the rest of the program on every thread.
unsafe impl<T: Plain + Send, const N: usize> Send for DmaArray<T, N> {}

impl<T: Plain, const N: usize> DmaArray<T, N> {
    /// The bytes of the region that it needs.
    pub const BYTES: usize = N * size_of::<T>();

    /// Takes a region for the array; `None` if the region is too small.
    pub fn new(region: &DmaRegion) -> Option<Self> {
        const { assert!(N.is_power_of_two()) };
        let (ptr, phys, bytes) = region.parts();
        (bytes >= Self::BYTES).then_some(Self { ptr: ptr.cast(), phys, owns: PhantomData })
    }

    /// The address of element `index` for the device.
    #[inline(always)]
    pub const fn phys(&self, index: usize) -> u64 {
        self.phys + ((index & (N - 1)) * size_of::<T>()) as u64
    }

    /// Loads an element.
    #[inline(always)]
    pub fn get(&self, index: usize) -> T {
        // SAFETY: the masked index is inside the region, which is valid and aligned to a page (`DmaRegion::new`); every bit pattern is a T.
        unsafe { self.ptr.add(index & (N - 1)).read_volatile() }
    }

    /// Stores an element.
    #[inline(always)]
    pub fn set(&mut self, index: usize, value: T) {
        // SAFETY: as in `get`.
        unsafe { self.ptr.add(index & (N - 1)).write_volatile(value) }
    }

    /// Zeroes all of it.
    pub fn zero(&mut self) {
        // SAFETY: the whole region is valid for writes (`DmaRegion::new`), and the device does not run yet when a driver asks for this.
        unsafe { self.ptr.write_bytes(0, N) }
    }
}

/// Orders the writes before it (a descriptor) before those after it (the index that hands it over). The partner is the device. Free of
/// instructions on x86.
#[inline(always)]
pub(crate) fn publish() {
    fence(Ordering::Release);
}

/// Orders the load before it (a completion) before those after it (what was completed). The partner is the device. Free of instructions
/// on x86.
#[inline(always)]
pub(crate) fn observe() {
    fence(Ordering::Acquire);
}
