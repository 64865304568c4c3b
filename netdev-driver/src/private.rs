//! Receive buffers of the kernel's own, for the time when several windows are open: the ring cannot know whose the next frame will be, and a
//! frame must not lie in the window of another, not even for a moment.
#![expect(unsafe_code, reason = "reads frames in buffers of the kernel's")]

use core::{marker::PhantomData, ptr::NonNull};

use abi::window::CLUSTER_BYTES;

use crate::{demux, hal::DmaRegion};

/// How many there are: as many as a receive ring takes.
pub const BUFFERS: u32 = 256;
/// The bytes of memory that they need.
pub const BYTES: usize = (BUFFERS * CLUSTER_BYTES) as usize;

/// The buffers, each as large as a cluster.
pub(crate) struct Private {
    base: NonNull<u8>,
    phys: u64,
}

// SAFETY: a description of memory that is the driver's for the rest of the program; it is bound to no thread.
unsafe impl Send for Private {}

impl Private {
    /// Buffers in `memory`; `None` if it is less than [`BYTES`].
    pub fn new(memory: &DmaRegion) -> Option<Self> {
        let (base, phys, bytes) = memory.parts();
        (bytes >= BYTES).then_some(Self { base, phys })
    }

    /// Where a buffer is for the device.
    #[inline]
    pub const fn phys(&self, number: u32) -> u64 {
        self.phys + (number % BUFFERS * CLUSTER_BYTES) as u64
    }

    /// The frame that the device has put into a buffer and is done with.
    #[inline]
    pub fn frame(&self, number: u32) -> PrivateFrame<'_> {
        // SAFETY: `new` has checked that the region holds so many buffers.
        let at = unsafe { self.base.add((number % BUFFERS * CLUSTER_BYTES) as usize) };
        PrivateFrame { at, buffers: PhantomData }
    }
}

/// A received frame, in a buffer as large as a cluster.
#[derive(Clone, Copy)]
pub(crate) struct PrivateFrame<'p> {
    at: NonNull<u8>,
    buffers: PhantomData<&'p Private>,
}

impl PrivateFrame<'_> {
    /// The 64-bit little-endian word at byte `8 * index`.
    #[inline(always)]
    pub fn word(self, index: usize) -> u64 {
        debug_assert!(index < demux::WORDS);
        // SAFETY: a whole buffer is there, aligned to its size, and the index is masked to it. The device may write it at any time if it is
        // broken: a volatile load.
        u64::from_le(unsafe {
            self.at.cast::<u64>().add(index % (CLUSTER_BYTES as usize / 8)).read_volatile()
        })
    }

    /// Its first byte, of a cluster's worth.
    #[inline(always)]
    pub const fn start(self) -> NonNull<u8> {
        self.at
    }
}
