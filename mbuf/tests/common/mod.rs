//! A window of the test's own.
#![allow(dead_code, reason = "each test binary uses a part")]
#![expect(unsafe_code, reason = "makes the memory that stands for the window")]

use std::{
    alloc::{Layout, alloc_zeroed, dealloc},
    ptr::NonNull,
};

use mbuf::{Audit, Geometry, Places, View};
use shmqueue::sync::AtomicU32;

pub struct Window {
    base: NonNull<u8>,
    geometry: Geometry,
}

// SAFETY: the memory is reached through views and atomics only.
unsafe impl Sync for Window {}

impl Window {
    /// Zeroed, then initialised.
    pub fn new(pools: u32, mbufs_per_pool: u32, clusters_per_pool: u32) -> Self {
        let places = Places::packed(64, pools, mbufs_per_pool, clusters_per_pool).unwrap();
        let geometry = Geometry::new(places).unwrap();
        // SAFETY: the layout is not empty.
        let base = NonNull::new(unsafe { alloc_zeroed(Self::layout(&geometry)) }).unwrap();
        let window = Self { base, geometry };
        mbuf::init(&window.view());
        window.assert_all_free();
        window
    }

    fn layout(geometry: &Geometry) -> Layout {
        Layout::from_size_align(geometry.places().window_bytes as usize, 4096).unwrap()
    }

    pub fn view(&self) -> View<'_> {
        // SAFETY: the memory lives as long as `self` and is reached through views only.
        unsafe { View::new(self.base, self.geometry) }
    }

    /// Any word of the window, for a peer that lies.
    pub fn word(&self, index: usize) -> &AtomicU32 {
        assert!(index * 4 < self.geometry.places().window_bytes as usize);
        // SAFETY: inside, aligned; all but the data are atomics.
        unsafe { self.base.cast::<AtomicU32>().add(index).as_ref() }
    }

    pub fn assert_all_free(&self) {
        let all = Audit { mbufs: self.geometry.mbufs(), clusters: self.geometry.clusters() };
        assert_eq!(self.view().audit(), Ok(all), "a buffer is missing");
        let pools = (0..self.geometry.pools()).map(|pool| self.view().pool_stats(pool).unwrap());
        let sums = pools.fold((0, 0), |(m, c), stats| (m + stats.mbufs_free, c + stats.clusters_free));
        assert_eq!(sums, (all.mbufs, all.clusters), "the counts of free buffers");
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with the same layout.
        unsafe { dealloc(self.base.as_ptr(), Self::layout(&self.geometry)) };
    }
}
