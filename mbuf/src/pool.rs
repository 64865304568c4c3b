//! The control block of a pool, and the word that says that the server lacks buffers (R&H, "Free Space").

use shmqueue::{
    AsymmetricMutex, Item, PeerMisbehaviour,
    sync::{AtomicU32, Ordering::Relaxed},
};

use crate::{Flags, Mbuf, View};

/// The bytes of a [`PoolControl`].
pub const POOL_CONTROL_BYTES: u32 = 320;
/// The bytes of a [`SpaceControl`].
pub const SPACE_CONTROL_BYTES: u32 = 64;

/// Marks the reference count of a free cluster; the rest of the word then links to the next free cluster.
const FREE: u32 = 1 << 31;
/// Clusters are aligned to this power of two, so links drop as many bits.
const CLUSTER_SHIFT: u32 = crate::CLUSTER_BYTES.trailing_zeros();

/// What is shared by all pools. Zero bytes: nobody wants buffers.
#[repr(C, align(64))]
pub struct SpaceControl {
    /// R&H's and BSD's `m_want`: a thread of the server sleeps for want of buffers. Only the server writes
    /// it.
    pub(crate) want: AtomicU32,
}

/// One pool's lock, free lists and statistics. Zero bytes are an empty pool.
#[repr(C, align(64))]
pub struct PoolControl {
    pub(crate) mutex: AsymmetricMutex,
    pub(crate) lists: Lists,
    pub(crate) counters: Counters,
}

/// Changed only under the pool's mutex.
#[repr(C, align(64))]
pub(crate) struct Lists {
    pub mbufs: AtomicU32,
    pub clusters: AtomicU32,
    pub mbufs_free: AtomicU32,
    pub clusters_free: AtomicU32,
}

/// All but the failures are changed under the pool's mutex; each failure has one writer.
#[repr(C, align(64))]
pub(crate) struct Counters {
    pub protocol_allocated: AtomicU32,
    pub protocol_freed: AtomicU32,
    pub protocol_empty: AtomicU32,
    pub interrupt_allocated: AtomicU32,
    pub interrupt_freed: AtomicU32,
    pub interrupt_empty: AtomicU32,
    pub interrupt_locked_out: AtomicU32,
}

#[cfg(not(loom))]
const _: () = assert!(
    size_of::<PoolControl>() == POOL_CONTROL_BYTES as usize
        && size_of::<SpaceControl>() == SPACE_CONTROL_BYTES as usize
);

/// What a pool has seen, in mbufs. All counts wrap.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct PoolStats {
    /// Mbufs on the free list.
    pub mbufs_free: u32,
    /// Clusters on the free list.
    pub clusters_free: u32,
    /// Taken by the protocol side.
    pub protocol_allocated: u32,
    /// Returned by the protocol side.
    pub protocol_freed: u32,
    /// Times the protocol side found the pool empty.
    pub protocol_empty: u32,
    /// Taken by the interrupt side.
    pub interrupt_allocated: u32,
    /// Returned by the interrupt side.
    pub interrupt_freed: u32,
    /// Times the interrupt side found the pool empty.
    pub interrupt_empty: u32,
    /// Times the interrupt side found the pool locked.
    pub interrupt_locked_out: u32,
}

impl PoolControl {
    /// The statistics; a snapshot that may be torn between its fields.
    pub fn stats(&self) -> PoolStats {
        let (lists, counters) = (&self.lists, &self.counters);
        PoolStats {
            mbufs_free: lists.mbufs_free.load(Relaxed),
            clusters_free: lists.clusters_free.load(Relaxed),
            protocol_allocated: counters.protocol_allocated.load(Relaxed),
            protocol_freed: counters.protocol_freed.load(Relaxed),
            protocol_empty: counters.protocol_empty.load(Relaxed),
            interrupt_allocated: counters.interrupt_allocated.load(Relaxed),
            interrupt_freed: counters.interrupt_freed.load(Relaxed),
            interrupt_empty: counters.interrupt_empty.load(Relaxed),
            interrupt_locked_out: counters.interrupt_locked_out.load(Relaxed),
        }
    }

    /// The pool's mutex, for tests that hold it against the other side.
    pub fn mutex(&self) -> &AsymmetricMutex {
        &self.mutex
    }

    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        let word = || AtomicU32::new(0);
        Self {
            mutex: AsymmetricMutex::new(),
            lists: Lists { mbufs: word(), clusters: word(), mbufs_free: word(), clusters_free: word() },
            counters: Counters {
                protocol_allocated: word(),
                protocol_freed: word(),
                protocol_empty: word(),
                interrupt_allocated: word(),
                interrupt_freed: word(),
                interrupt_empty: word(),
                interrupt_locked_out: word(),
            },
        }
    }
}

/// Adds to a counter that has one writer at a time.
#[inline(always)]
pub(crate) fn add(counter: &AtomicU32, n: u32) {
    counter.store(counter.load(Relaxed).wrapping_add(n), Relaxed);
}

/// Subtracts from a counter that has one writer at a time.
#[inline(always)]
pub(crate) fn subtract(counter: &AtomicU32, n: u32) {
    counter.store(counter.load(Relaxed).wrapping_sub(n), Relaxed);
}

/// A cluster's word: a reference count, or the link of a free list. Read and written only under its pool's
/// mutex.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Count {
    /// On the free list, with the cluster after it.
    Free(Option<Item>),
    /// Referred to by so many mbufs.
    Used(u32),
}

impl Count {
    #[inline(always)]
    pub fn load(word: &AtomicU32) -> Self {
        let value = word.load(Relaxed);
        if value & FREE != 0 {
            // 20 bits of offset come back as they were stored; what a liar put above them falls off.
            Self::Free(Item::new((value & !FREE) << CLUSTER_SHIFT))
        } else {
            Self::Used(value)
        }
    }

    #[inline(always)]
    pub fn store(self, word: &AtomicU32) {
        word.store(
            match self {
                Self::Free(next) => FREE | Item::or_zero(next) >> CLUSTER_SHIFT,
                Self::Used(count) => count,
            },
            Relaxed,
        );
    }
}

/// Takes up to `n` mbufs with a cluster each off a pool's free lists, as long as `claim` agrees. The caller
/// holds the pool's mutex.
///
/// Each word is loaded once and checked before anything is taken; the heads are written once, at the end.
#[inline(always)]
pub(crate) fn take_pairs(
    view: &View<'_>,
    lists: &Lists,
    n: u32,
    mut claim: impl FnMut(Item, Item, &Mbuf) -> bool,
) -> (u32, Result<(), PeerMisbehaviour>) {
    let geometry = view.geometry();
    let mut mbufs = lists.mbufs.load(Relaxed);
    let mut clusters = lists.clusters.load(Relaxed);
    let mut taken = 0;
    let mut outcome = Ok(());
    while taken < n {
        let (Some(item), Some(cluster)) = (Item::new(mbufs), Item::new(clusters)) else { break };
        let Some(index) = geometry.mbuf_index(item) else {
            outcome = Err(PeerMisbehaviour::NotAnItem(mbufs));
            break;
        };
        let Some(cluster_index) = geometry.cluster_index(cluster) else {
            outcome = Err(PeerMisbehaviour::NotAnItem(clusters));
            break;
        };
        let mbuf = view.mbuf_by_index(index);
        let next = mbuf.next.load(Relaxed);
        let count = view.count(cluster_index);
        let Count::Free(next_cluster) = Count::load(count) else {
            outcome = Err(PeerMisbehaviour::Refused(clusters));
            break;
        };
        if !claim(item, cluster, mbuf) {
            outcome = Err(PeerMisbehaviour::Refused(mbufs));
            break;
        }
        Count::Used(1).store(count);
        mbuf.set_next(None);
        mbuf.set_cluster(Some(cluster));
        mbuf.set_data(clusters);
        mbuf.set_flags(Flags::EXTERNAL.with(Flags::PACKET));
        (mbufs, clusters) = (next, Item::or_zero(next_cluster));
        taken += 1;
    }
    if taken != 0 {
        lists.mbufs.store(mbufs, Relaxed);
        lists.clusters.store(clusters, Relaxed);
        subtract(&lists.mbufs_free, taken);
        subtract(&lists.clusters_free, taken);
    }
    (taken, outcome)
}

/// Puts an mbuf on its pool's free list. The caller holds the pool's mutex.
#[inline(always)]
pub(crate) fn put_mbuf(lists: &Lists, item: Item, mbuf: &Mbuf) {
    mbuf.next.store(lists.mbufs.load(Relaxed), Relaxed);
    lists.mbufs.store(item.get(), Relaxed);
    add(&lists.mbufs_free, 1);
}

/// Puts a cluster that nobody refers to on its pool's free list. The caller holds the pool's mutex.
#[inline(always)]
pub(crate) fn put_cluster(lists: &Lists, cluster: Item, count: &AtomicU32) {
    Count::Free(Item::new(lists.clusters.load(Relaxed))).store(count);
    lists.clusters.store(cluster.get(), Relaxed);
    add(&lists.clusters_free, 1);
}

/// Fills all free lists with all buffers: run once, by the kernel, on zeroed memory before the server maps
/// it.
pub fn init(view: &View<'_>) {
    let geometry = view.geometry();
    // From the end, so that the first to be taken are the first in memory.
    for index in (0..geometry.mbufs()).rev() {
        if let Some(item) = geometry.mbuf_at(index) {
            put_mbuf(&view.pool(geometry.mbuf_pool(index)).lists, item, view.mbuf_by_index(index));
        }
    }
    for index in (0..geometry.clusters()).rev() {
        if let Some(cluster) = geometry.cluster_at(index) {
            put_cluster(&view.pool(geometry.cluster_pool(index)).lists, cluster, view.count(index));
        }
    }
}
