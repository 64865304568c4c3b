//! Offsets to addresses, once and for all: base plus an offset that the [`Geometry`] has checked.
#![expect(unsafe_code, reason = "makes references to shared memory from a base address and checked offsets")]

use core::{marker::PhantomData, ptr::NonNull};

use shmqueue::sync::AtomicU32;

use crate::{CLUSTER_BYTES, Geometry, Located, MBUF_BYTES, Mbuf, PoolControl, SpaceControl};

/// The shared memory as one side sees it.
#[derive(Clone, Copy)]
pub(crate) struct Memory<'w> {
    base: NonNull<u8>,
    shared: PhantomData<&'w Mbuf>,
}

// SAFETY: all that is reached through the base are atomics, on any thread; bytes of data are handed out as
// raw pointers only.
unsafe impl Send for Memory<'_> {}
// SAFETY: as above.
unsafe impl Sync for Memory<'_> {}

impl<'w> Memory<'w> {
    /// # Safety
    /// As for `View::new`.
    pub unsafe fn new(base: NonNull<u8>, geometry: &Geometry) -> Self {
        assert!(base.as_ptr().addr().is_multiple_of(CLUSTER_BYTES as usize), "the window is not aligned");
        let _ = geometry;
        Self { base, shared: PhantomData }
    }

    /// # Safety
    /// A `T` that is all atomics lies at `offset`, inside the window and aligned, as the geometry has
    /// checked.
    #[inline(always)]
    unsafe fn at<T>(&self, offset: u32) -> &'w T {
        // SAFETY: the caller's promise; the window is mapped for 'w.
        unsafe { self.base.add(offset as usize).cast().as_ref() }
    }

    #[inline(always)]
    pub fn mbuf(&self, geometry: &Geometry, index: u32) -> &'w Mbuf {
        debug_assert!(index < geometry.mbufs());
        // SAFETY: callers in this crate have the index from the geometry, so the mbuf lies in the array; it
        // is atomics and an `UnsafeCell`.
        unsafe { self.at(geometry.places().mbufs + index * MBUF_BYTES) }
    }

    /// The mbuf that the geometry has located.
    #[inline(always)]
    pub fn mbuf_at(&self, geometry: &Geometry, mbuf: Located) -> &'w Mbuf {
        debug_assert!(geometry.mbuf_at(mbuf.index()) == Some(mbuf.item()));
        // SAFETY: a geometry has found an mbuf there. It was this view's: those of this crate ask their own.
        unsafe { self.at(mbuf.item().get()) }
    }

    #[inline(always)]
    pub fn count(&self, geometry: &Geometry, cluster: u32) -> &'w AtomicU32 {
        debug_assert!(cluster < geometry.clusters());
        // SAFETY: callers in this crate have the index from the geometry; one word per cluster lies there.
        unsafe { self.at(geometry.places().reference_counts + cluster * 4) }
    }

    #[inline(always)]
    pub fn pool(&self, geometry: &Geometry, pool: u32) -> &'w PoolControl {
        debug_assert!(pool < geometry.pools());
        // SAFETY: callers in this crate have the index from the geometry; a control block is atomics only.
        unsafe { self.at(geometry.places().pool_controls + pool * size_of::<PoolControl>() as u32) }
    }

    #[inline(always)]
    pub fn space(&self, geometry: &Geometry) -> &'w SpaceControl {
        // SAFETY: checked by the geometry; atomics only.
        unsafe { self.at(geometry.places().space_control) }
    }

    /// The address of a byte of the window.
    #[inline(always)]
    pub fn pointer(&self, geometry: &Geometry, offset: u32) -> NonNull<u8> {
        debug_assert!(offset <= geometry.places().window_bytes);
        // SAFETY: callers in this crate have checked that the offset lies in the window.
        unsafe { self.base.add(offset as usize) }
    }
}
