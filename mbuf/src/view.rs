//! One side's view of the shared memory: where its base is mapped, and a private geometry.
//!
//! Kernel and server map the window at different addresses (R&H, "Shared Memory & Synchronization"). Here is
//! the only place where an offset becomes an address, and it does so only after the geometry has found an
//! mbuf or a cluster there.

#[cfg(not(loom))]
use core::ptr::NonNull;

use shmqueue::{Item, Links, sync::AtomicU32};

#[cfg(not(loom))]
use crate::Blank;
use crate::{
    CLUSTER_BYTES, Geometry, Located, MBUF_BYTES, Mbuf, PoolControl, PoolStats, SpaceControl, memory::Memory,
};

/// The shared memory, as this side sees it.
#[derive(Clone, Copy)]
pub struct View<'w> {
    memory: Memory<'w>,
    geometry: Geometry,
}

impl<'w> View<'w> {
    /// A view of the window mapped at `base`.
    ///
    /// # Safety
    /// 1. For `'w`, `geometry.places().window_bytes` bytes from `base` on are mapped, readable and writable.
    /// 2. This program reaches the parts that the geometry names only through views, raw pointers and DMA;
    ///    where it forms a reference to bytes of an mbuf or a cluster, it owns that buffer, and trusts the
    ///    peer not to write it meanwhile.
    ///
    /// # Panics
    /// If `base` is not aligned to 2048.
    #[cfg(not(loom))]
    #[expect(unsafe_code, reason = "takes a raw base address")]
    pub unsafe fn new(base: NonNull<u8>, geometry: Geometry) -> Self {
        // SAFETY: the caller's promise, handed on.
        Self { memory: unsafe { Memory::new(base, &geometry) }, geometry }
    }

    /// A view of loom's stand-in for the window.
    #[cfg(loom)]
    pub fn new(memory: &'w crate::LoomMemory, geometry: Geometry) -> Self {
        Self { memory: Memory::new(memory), geometry }
    }

    /// The trusted geometry.
    #[inline(always)]
    pub const fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The mbuf at `item`, if one is there.
    #[inline(always)]
    pub fn mbuf(&self, item: Item) -> Option<&'w Mbuf> {
        Some(self.located(self.geometry.locate_mbuf(item)?))
    }

    /// The mbuf at `item` and its index, if one is there.
    #[inline(always)]
    pub fn find(&self, item: Item) -> Option<(Located, &'w Mbuf)> {
        let located = self.geometry.locate_mbuf(item)?;
        Some((located, self.located(located)))
    }

    /// The mbuf with `index`, if there are as many, and its offset.
    #[inline(always)]
    pub fn mbuf_numbered(&self, index: u32) -> Option<(Item, &'w Mbuf)> {
        Some((self.geometry.mbuf_at(index)?, self.memory.mbuf(&self.geometry, index)))
    }

    /// The mbuf that this view's geometry has located.
    #[inline(always)]
    pub(crate) fn located(&self, mbuf: Located) -> &'w Mbuf {
        self.memory.mbuf_at(&self.geometry, mbuf)
    }

    /// The statistics of `pool`, if there is one.
    pub fn pool_stats(&self, pool: u32) -> Option<PoolStats> {
        (pool < self.geometry.pools()).then(|| self.pool(pool).stats())
    }

    /// The control block of `pool`, if there is one.
    pub fn pool_control(&self, pool: u32) -> Option<&'w PoolControl> {
        (pool < self.geometry.pools()).then(|| self.pool(pool))
    }

    #[inline(always)]
    pub(crate) fn pool(&self, pool: u32) -> &'w PoolControl {
        self.memory.pool(&self.geometry, pool)
    }

    #[inline(always)]
    pub(crate) fn space(&self) -> &'w SpaceControl {
        self.memory.space(&self.geometry)
    }

    #[inline(always)]
    pub(crate) fn count(&self, cluster_index: u32) -> &'w AtomicU32 {
        self.memory.count(&self.geometry, cluster_index)
    }

    /// The first byte of the cluster at `item`, if one is there: 2048 bytes are valid from it on.
    #[cfg(not(loom))]
    #[inline(always)]
    pub fn cluster_ptr(&self, item: Item) -> Option<NonNull<u8>> {
        self.geometry.cluster_index(item)?;
        Some(self.memory.pointer(&self.geometry, item.get()))
    }

    /// The offset and the first byte of the cluster with `index`, if there are as many; valid as those of
    /// [`cluster_ptr`](Self::cluster_ptr).
    #[cfg(not(loom))]
    #[inline(always)]
    pub fn cluster_numbered(&self, index: u32) -> Option<(u32, NonNull<u8>)> {
        if index >= self.geometry.clusters() {
            return None;
        }
        let offset = self.geometry.places().clusters + index * CLUSTER_BYTES;
        Some((offset, self.memory.pointer(&self.geometry, offset)))
    }

    /// The room that the mbuf at `item` has for data, its own or its cluster's: offset and bytes. For an mbuf whose data is
    /// in external storage that is all of this storage: which part of it is the mbuf's only the server knows.
    #[inline(always)]
    pub fn storage(&self, item: Item) -> Option<(u32, u32)> {
        self.storage_of(item, self.mbuf(item)?)
    }

    #[inline(always)]
    fn storage_of(&self, item: Item, mbuf: &Mbuf) -> Option<(u32, u32)> {
        match mbuf.cluster() {
            Some(cluster) if self.geometry.cluster_index(cluster).is_some() => {
                Some((cluster.get(), CLUSTER_BYTES))
            }
            Some(area) => self.external_room(area),
            None => Some((item.get() + (MBUF_BYTES - crate::INTERNAL_BYTES), crate::INTERNAL_BYTES)),
        }
    }

    #[cold]
    fn external_room(&self, area: Item) -> Option<(u32, u32)> {
        let places = self.geometry.places();
        self.geometry.external_index(area).map(|_| (places.external, places.external_bytes))
    }

    /// The address of the first byte of the external storage, and its size: all of it is valid for reads and writes.
    /// `None` if there is none.
    #[cfg(not(loom))]
    pub fn external_ptr(&self) -> Option<(NonNull<u8>, u32)> {
        let places = self.geometry.places();
        let pointer = self.memory.pointer(&self.geometry, places.external);
        (places.external_bytes != 0).then_some((pointer, places.external_bytes))
    }

    /// Where the data of the mbuf at `item` is: offset and bytes, loaded once, and checked to lie in the
    /// mbuf's own room, in its cluster, or in the external storage.
    #[inline(always)]
    pub fn extent(&self, item: Item) -> Option<(u32, u32)> {
        let (_, data, len) = self.extent_of(item, self.mbuf(item)?)?;
        Some((data, len))
    }

    /// The same, with the start of the room that the data lies in before it.
    #[inline(always)]
    pub(crate) fn extent_of(&self, item: Item, mbuf: &Mbuf) -> Option<(u32, u32, u32)> {
        let (start, bytes) = self.storage_of(item, mbuf)?;
        let (data, len) = (mbuf.data(), mbuf.len());
        let into = data.wrapping_sub(start);
        (into <= bytes && len <= bytes - into).then_some((start, data, len))
    }

    /// The address and the number of the bytes of data of the mbuf at `item`; checked as in
    /// [`extent`](Self::extent).
    ///
    /// The pointer is valid for reads and writes of as many bytes. Who does not own the buffer, or does not
    /// trust the peer, copies by [`shmqueue::copy`].
    #[cfg(not(loom))]
    #[inline(always)]
    pub fn data_ptr(&self, item: Item) -> Option<(NonNull<u8>, u32)> {
        let (data, len) = self.extent(item)?;
        Some((self.memory.pointer(&self.geometry, data), len))
    }

    /// The address of an offset that [`extent`](Self::extent) has just given: so many bytes as it said are valid.
    #[cfg(not(loom))]
    #[inline(always)]
    pub(crate) fn pointer(&self, data: u32) -> NonNull<u8> {
        self.memory.pointer(&self.geometry, data)
    }

    /// The address of the room of a packet that was allocated just now, by the space of this view: as many bytes as it says are valid.
    /// Of another's it is an address somewhere in this window, or none.
    #[cfg(not(loom))]
    #[inline(always)]
    pub fn room_ptr(&self, blank: &Blank<'w>) -> Option<NonNull<u8>> {
        let start = blank.start();
        (start < self.geometry.places().window_bytes).then(|| self.memory.pointer(&self.geometry, start))
    }
}

/// Packets on a queue are linked through their first mbuf's `next_packet`.
impl Links for View<'_> {
    #[inline(always)]
    fn next(&self, item: Item) -> Option<&AtomicU32> {
        Some(&self.mbuf(item)?.next_packet)
    }

    #[inline]
    fn items(&self) -> u32 {
        self.geometry().mbufs()
    }
}
