//! The control block of a pool, and the word that says that the server lacks buffers (R&H, "Free Space").

use shmqueue::{
    AsymmetricMutex, Item, PeerMisbehaviour,
    sync::{AtomicU32, Ordering::Relaxed},
};

use crate::{Located, Mbuf, View};

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
/// holds the pool's mutex. Of the mbuf's words, `next` and `cluster` are set; the others are the caller's.
///
/// Each word is loaded once and checked before anything is taken; the heads are written once, at the end.
#[inline(always)]
pub(crate) fn take_pairs<'w>(
    view: &View<'w>,
    lists: &Lists,
    n: u32,
    mut claim: impl FnMut(Located, Located, &'w Mbuf) -> bool,
) -> (u32, Result<(), PeerMisbehaviour>) {
    let geometry = view.geometry();
    let mut mbufs = lists.mbufs.load(Relaxed);
    let mut clusters = lists.clusters.load(Relaxed);
    let mut left = n;
    let mut outcome = Ok(());
    while left != 0 {
        let (Some(item), Some(cluster)) = (Item::new(mbufs), Item::new(clusters)) else { break };
        let Some(located) = geometry.locate_mbuf(item) else {
            outcome = Err(PeerMisbehaviour::NotAnItem(mbufs));
            break;
        };
        let Some(cluster) = geometry.locate_cluster(cluster) else {
            outcome = Err(PeerMisbehaviour::NotAnItem(clusters));
            break;
        };
        let mbuf = view.located(located);
        let next = mbuf.next.load(Relaxed);
        let count = view.count(cluster.index());
        let Count::Free(next_cluster) = Count::load(count) else {
            outcome = Err(PeerMisbehaviour::Refused(clusters));
            break;
        };
        if !claim(located, cluster, mbuf) {
            outcome = Err(PeerMisbehaviour::Refused(mbufs));
            break;
        }
        Count::Used(1).store(count);
        mbuf.set_next(None);
        mbuf.set_cluster(Some(cluster.item()));
        (mbufs, clusters) = (next, Item::or_zero(next_cluster));
        left -= 1;
    }
    let taken = n - left;
    if taken != 0 {
        lists.mbufs.store(mbufs, Relaxed);
        lists.clusters.store(clusters, Relaxed);
        subtract(&lists.mbufs_free, taken);
        subtract(&lists.clusters_free, taken);
    }
    (taken, outcome)
}

/// Takes up to `n` mbufs off a pool's free list. The caller holds the pool's mutex. `next` and `cluster` of each are set, to none.
///
/// Each word is loaded once and checked before it is followed; the head is written once, at the end.
#[inline(always)]
pub(crate) fn take_mbufs<'w>(
    view: &View<'w>,
    lists: &Lists,
    n: u32,
    mut take: impl FnMut(Item, &'w Mbuf),
) -> (u32, Result<(), PeerMisbehaviour>) {
    let mut mbufs = lists.mbufs.load(Relaxed);
    let mut left = n;
    let mut outcome = Ok(());
    while left != 0 {
        let Some(item) = Item::new(mbufs) else { break };
        let Some(mbuf) = view.mbuf(item) else {
            outcome = Err(PeerMisbehaviour::NotAnItem(mbufs));
            break;
        };
        mbufs = mbuf.next.load(Relaxed);
        mbuf.set_next(None);
        mbuf.set_cluster(None);
        take(item, mbuf);
        left -= 1;
    }
    let taken = n - left;
    if taken != 0 {
        lists.mbufs.store(mbufs, Relaxed);
        subtract(&lists.mbufs_free, taken);
    }
    (taken, outcome)
}

/// Buffers on their way back to a pool whose mutex the caller holds: the list's heads are read once, and
/// written once, by [`finish`](Self::finish), before the mutex is released.
#[derive(Clone, Copy)]
pub(crate) struct Giving {
    first_mbuf: u32,
    first_cluster: u32,
    mbufs: u32,
    clusters: u32,
}

impl Giving {
    /// Nothing, of no pool.
    pub const NOTHING: Self = Self { first_mbuf: 0, first_cluster: 0, mbufs: 0, clusters: 0 };

    #[inline(always)]
    pub fn start(lists: &Lists) -> Self {
        Self {
            first_mbuf: lists.mbufs.load(Relaxed),
            first_cluster: lists.clusters.load(Relaxed),
            mbufs: 0,
            clusters: 0,
        }
    }

    /// Puts an mbuf in front of the others.
    #[inline(always)]
    pub fn mbuf(&mut self, item: Item, mbuf: &Mbuf) {
        mbuf.next.store(self.first_mbuf, Relaxed);
        self.first_mbuf = item.get();
        self.mbufs += 1;
    }

    /// Puts a cluster that nobody refers to in front of the others.
    #[inline(always)]
    pub fn cluster(&mut self, cluster: Item, count: &AtomicU32) {
        Count::Free(Item::new(self.first_cluster)).store(count);
        self.first_cluster = cluster.get();
        self.clusters += 1;
    }

    /// Writes the heads and the numbers; says how many mbufs were given.
    #[inline(always)]
    pub fn finish(self, lists: &Lists) -> u32 {
        lists.mbufs.store(self.first_mbuf, Relaxed);
        add(&lists.mbufs_free, self.mbufs);
        if self.clusters != 0 {
            lists.clusters.store(self.first_cluster, Relaxed);
            add(&lists.clusters_free, self.clusters);
        }
        self.mbufs
    }
}

/// Fills all free lists with all buffers: run once, by the kernel, on zeroed memory before the server maps
/// it.
pub fn init(view: &View<'_>) {
    let geometry = view.geometry();
    // From the end, so that the first to be taken are the first in memory.
    for index in (0..geometry.mbufs()).rev() {
        if let Some((item, mbuf)) = view.mbuf_numbered(index) {
            let lists = &view.pool(geometry.mbuf_pool(index)).lists;
            let mut giving = Giving::start(lists);
            giving.mbuf(item, mbuf);
            giving.finish(lists);
        }
    }
    for index in (0..geometry.clusters()).rev() {
        if let Some(cluster) = geometry.cluster_at(index) {
            let lists = &view.pool(geometry.cluster_pool(index)).lists;
            let mut giving = Giving::start(lists);
            giving.cluster(cluster, view.count(index));
            giving.finish(lists);
        }
    }
}
