//! Loom's stand-in for the window: its atomics are larger than words, so they cannot lie at offsets. There
//! are no bytes of data; each mbuf and each cluster has a cell instead, which shows loom who uses it.

extern crate std;

use std::{boxed::Box, vec::Vec};

use shmqueue::sync::AtomicU32;

use crate::{Geometry, Located, Mbuf, PoolControl, SpaceControl};

/// The shared memory of one model.
pub struct LoomMemory {
    mbufs: Box<[Mbuf]>,
    counts: Box<[AtomicU32]>,
    pools: Box<[PoolControl]>,
    space: SpaceControl,
}

impl LoomMemory {
    /// As large as `geometry` says, all zero.
    #[must_use]
    pub fn new(geometry: &Geometry) -> Self {
        Self {
            mbufs: (0..geometry.mbufs()).map(|_| Mbuf::new()).collect::<Vec<_>>().into(),
            counts: (0..geometry.clusters()).map(|_| AtomicU32::new(0)).collect::<Vec<_>>().into(),
            pools: (0..geometry.pools()).map(|_| PoolControl::new()).collect::<Vec<_>>().into(),
            space: SpaceControl { want: AtomicU32::new(0) },
        }
    }

    /// The mbuf with `index` refers to `cluster`, whose count the model has raised: what a split does, which loom
    /// has no data for.
    pub fn refer(&self, index: u32, cluster: shmqueue::Item) {
        self.mbufs[index as usize].set_cluster(Some(cluster));
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Memory<'w>(&'w LoomMemory);

impl<'w> Memory<'w> {
    pub fn new(memory: &'w LoomMemory) -> Self {
        Self(memory)
    }

    pub fn mbuf(&self, _: &Geometry, index: u32) -> &'w Mbuf {
        &self.0.mbufs[index as usize]
    }

    pub fn mbuf_at(&self, _: &Geometry, mbuf: Located) -> &'w Mbuf {
        &self.0.mbufs[mbuf.index() as usize]
    }

    pub fn count(&self, _: &Geometry, cluster: u32) -> &'w AtomicU32 {
        &self.0.counts[cluster as usize]
    }

    pub fn pool(&self, _: &Geometry, pool: u32) -> &'w PoolControl {
        &self.0.pools[pool as usize]
    }

    pub fn space(&self, _: &Geometry) -> &'w SpaceControl {
        &self.0.space
    }
}
