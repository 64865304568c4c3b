//! The server's side of the free space (R&H, "Free Space"): allocates, frees whole chains, counts references.
//!
//! It may wait for a lock, though never for longer than one critical section of the driver on another
//! processor. It never holds two pools' locks, and holds one for no more than a batch: meanwhile the driver
//! has the other pools.
//!
//! # Want of buffers (`m_want`)
//! ```text
//! server                                      driver
//! 1 all pools are empty                       1 return a buffer to its pool, or append it to deferred-free
//! 2 m_want = 1; FENCE              (want)     2 FENCE
//! 3 drain deferred-free, try all pools again  3 load m_want; if set, resume the server      (wanted)
//! 4 nothing: wait for the event
//! 5 one waiter less; none: m_want = 0 (unwant)
//! ```
//! A buffer that comes back between the server's first look and its wait is found in (3), or else the driver
//! sees `m_want`. The number of waiters is kept here, by the server, under whatever serialises its threads:
//! were `m_want` reset by the first thread that wakes, as the paper has it, the second would wait on. The
//! driver never writes it.

use shmqueue::{
    Item, PeerMisbehaviour,
    mutex::ProtocolGuard,
    queue::Consume,
    sync::{Ordering::Release, full_fence},
};

use crate::{
    CLUSTER_BYTES, ExternalPage, Flags, Mbuf, View,
    external::External,
    header::{INTERNAL_AT, INTERNAL_BYTES},
    pool::{Count, Giving, PoolControl, add, take_mbufs, take_pairs},
};

/// How many packets of the deferred-free queue are freed at a time.
const DEFERRED_BATCH: usize = 32;

/// A packet of one mbuf that was allocated just now, with its room already found. Its `next` is none; where its data is, its lengths and
/// its flags are not set yet.
#[derive(Clone, Copy)]
pub struct Blank<'w> {
    item: Item,
    mbuf: &'w Mbuf,
    start: u32,
}

impl<'w> Blank<'w> {
    /// The packet.
    #[inline(always)]
    #[must_use]
    pub const fn item(&self) -> Item {
        self.item
    }

    /// Its mbuf.
    #[inline(always)]
    #[must_use]
    pub const fn mbuf(&self) -> &'w Mbuf {
        self.mbuf
    }

    /// Where its room begins, the mbuf's own or the cluster's.
    #[inline(always)]
    #[must_use]
    pub const fn start(&self) -> u32 {
        self.start
    }

    /// Whether its room is a cluster's, and not the mbuf's own.
    #[inline(always)]
    #[must_use]
    pub const fn has_cluster(&self) -> bool {
        self.start != self.item.get() + INTERNAL_AT
    }

    /// The bytes of its room.
    #[inline(always)]
    #[must_use]
    pub const fn bytes(&self) -> u32 {
        if self.has_cluster() { CLUSTER_BYTES } else { INTERNAL_BYTES }
    }
}

/// The free space as the server uses it; one per window, used by one thread at a time.
pub struct ProtocolSpace<'w> {
    view: View<'w>,
    /// The pool that had something last time.
    pool: u32,
    waiters: u32,
    pub(crate) external: External<'w>,
    /// The first thing found wrong. The server trusts the kernel, so this is a fault of one of the two
    /// programs.
    misbehaviour: Option<PeerMisbehaviour>,
}

impl<'w> ProtocolSpace<'w> {
    /// The server's side of `view`.
    #[must_use]
    pub const fn new(view: View<'w>) -> Self {
        Self { view, pool: 0, waiters: 0, external: External::new(&mut []), misbehaviour: None }
    }

    /// The server's side of `view`, with a record for each page of [external storage](crate::external), or for as many
    /// of the first of them as there are records.
    #[must_use]
    pub const fn with_external(view: View<'w>, pages: &'w mut [ExternalPage]) -> Self {
        Self { view, pool: 0, waiters: 0, external: External::new(pages), misbehaviour: None }
    }

    /// The view.
    #[inline(always)]
    pub const fn view(&self) -> &View<'w> {
        &self.view
    }

    /// The first inconsistency that was met, if any.
    pub const fn misbehaviour(&self) -> Option<PeerMisbehaviour> {
        self.misbehaviour
    }

    /// An empty packet of one mbuf that holds its data itself, up to [`INTERNAL_BYTES`]. `None` if no pool
    /// has one.
    #[inline]
    pub fn alloc(&mut self) -> Option<Item> {
        let mut got = None;
        self.alloc_blank_batch(1, |blank| {
            blank.mbuf.set_packet(blank.start, 0, Flags::PACKET);
            got = Some(blank.item);
        });
        got
    }

    /// Up to `n` packets of one mbuf that hold their data themselves, up to [`INTERNAL_BYTES`], one lock per pool; hands each to
    /// `take` and returns how many. Where their data is, their lengths and their flags are the caller's to set.
    #[inline]
    pub fn alloc_blank_batch(&mut self, n: u32, mut take: impl FnMut(Blank<'w>)) -> u32 {
        let mut got = 0;
        self.in_some_pool(|space, pool| {
            let (taken, outcome) = take_mbufs(&space.view, &pool.lists, n - got, |item, mbuf| {
                take(Blank { item, mbuf, start: item.get() + INTERNAL_AT });
            });
            space.count_batch(pool, taken, outcome);
            got += taken;
            (got == n).then_some(())
        });
        got
    }

    /// An empty packet of one mbuf with a cluster. `None` if no pool has both.
    #[inline]
    pub fn alloc_cluster(&mut self) -> Option<Item> {
        let mut got = None;
        self.alloc_cluster_batch(1, |item| got = Some(item));
        got
    }

    /// Up to `n` packets as [`alloc_cluster`](Self::alloc_cluster) gives them, one lock per pool; hands each
    /// to `take` and returns how many.
    #[inline]
    pub fn alloc_cluster_batch(&mut self, n: u32, mut take: impl FnMut(Item)) -> u32 {
        self.alloc_blank_cluster_batch(n, |blank| {
            blank.mbuf.set_packet(blank.start, 0, Flags::EXTERNAL.with(Flags::PACKET));
            take(blank.item);
        })
    }

    /// Up to `n` packets of one mbuf with a cluster, one lock per pool; hands each to `take` and returns how many. Where their data
    /// is, their lengths and their flags are the caller's to set.
    #[inline]
    pub fn alloc_blank_cluster_batch(&mut self, n: u32, mut take: impl FnMut(Blank<'w>)) -> u32 {
        let mut got = 0;
        self.in_some_pool(|space, pool| {
            let (taken, outcome) = take_pairs(&space.view, &pool.lists, n - got, |item, cluster, mbuf| {
                take(Blank { item: item.item(), mbuf, start: cluster.item().get() });
                true
            });
            space.count_batch(pool, taken, outcome);
            got += taken;
            (got == n).then_some(())
        });
        got
    }

    /// Counts what was taken from `pool`, whose lock is held.
    #[inline(always)]
    fn count_batch(&mut self, pool: &PoolControl, taken: u32, outcome: Result<(), PeerMisbehaviour>) {
        add(&pool.counters.protocol_allocated, taken);
        if let Err(misbehaviour) = outcome {
            self.note(misbehaviour);
        }
    }

    /// Runs `attempt` under the lock of one pool after the other, from the last lucky one on, until it has
    /// something.
    #[inline(always)]
    fn in_some_pool<T>(
        &mut self,
        mut attempt: impl FnMut(&mut Self, &'w PoolControl) -> Option<T>,
    ) -> Option<T> {
        let pools = self.view.geometry().pools();
        for _ in 0..pools {
            let pool = self.view.pool(self.pool);
            let guard = pool.mutex.lock_protocol();
            if let Some(got) = attempt(self, pool) {
                return Some(got);
            }
            add(&pool.counters.protocol_empty, 1);
            drop(guard);
            self.pool = if self.pool + 1 >= pools { 0 } else { self.pool + 1 };
        }
        None
    }

    /// Frees the packet whose chain starts at `item`: each mbuf, and each cluster that nobody else refers to.
    #[inline]
    pub fn free_chain(&mut self, item: Item) {
        self.free_batch(&[item]);
    }

    /// Frees packets; the lock is kept while one buffer after the other belongs to the same pool.
    #[inline]
    pub fn free_batch(&mut self, items: &[Item]) {
        self.free_each(items.iter().copied());
    }

    /// The same for packets that come one by one. What gives them must not take long: a lock is held.
    #[inline]
    pub fn free_each(&mut self, items: impl Iterator<Item = Item>) {
        let mut held = Held::new(self.view, &mut self.external);
        for item in items {
            if let Err(misbehaviour) = held.free_chain(item) {
                self.misbehaviour.get_or_insert(misbehaviour);
            }
        }
        held.release();
    }

    /// Frees what the driver put on the deferred-free queue, of either kind, at most `limit` packets; returns how many.
    ///
    /// # Errors
    /// The queue leads to what is no mbuf.
    pub fn drain_deferred(
        &mut self,
        deferred: &mut impl Consume,
        limit: usize,
    ) -> Result<usize, PeerMisbehaviour> {
        let mut done = 0;
        while done < limit {
            let Some(first) = deferred.consume()? else { break };
            let mut batch = [first; DEFERRED_BATCH];
            let room = DEFERRED_BATCH.min(limit - done);
            let more = deferred.consume_batch(&mut batch[1..room])?;
            self.free_batch(&batch[..=more]);
            done += more + 1;
        }
        Ok(done)
    }

    /// One more waiter: `m_want` is set, FENCE. Then drain the deferred-free queue and try again; wait only
    /// if there is still nothing.
    pub fn want(&mut self) {
        self.waiters += 1;
        self.view.space().want.store(1, Release);
        full_fence(); // pairs with the one in `InterruptSpace::wanted`
    }

    /// One waiter less, because it got its buffer or gave up; the last one resets `m_want`.
    pub fn unwant(&mut self) {
        self.waiters = self.waiters.saturating_sub(1);
        if self.waiters == 0 {
            self.view.space().want.store(0, Release);
        }
    }

    /// How many wait.
    pub const fn waiters(&self) -> u32 {
        self.waiters
    }

    /// The whole protocol up to the wait, for one packet with a cluster. With `None` the caller is a waiter:
    /// it waits for the event, calls [`unwant`](Self::unwant) and tries again.
    ///
    /// # Errors
    /// As [`drain_deferred`](Self::drain_deferred).
    pub fn alloc_cluster_or_want(
        &mut self,
        deferred: &mut impl Consume,
    ) -> Result<Option<Item>, PeerMisbehaviour> {
        if let Some(item) = self.alloc_cluster() {
            return Ok(Some(item));
        }
        self.want();
        self.drain_deferred(deferred, usize::MAX)?;
        let got = self.alloc_cluster();
        if got.is_some() {
            self.unwant();
        }
        Ok(got)
    }

    /// One more mbuf refers to `cluster`, or to the external storage that starts there: for an operation that copies an
    /// mbuf, but not its data. `false` if nothing in use is there.
    pub fn share(&mut self, cluster: Item) -> bool {
        let Some(index) = self.view.geometry().cluster_index(cluster) else {
            return self.external.share(self.view.geometry(), cluster);
        };
        let _guard = self.view.pool(self.view.geometry().cluster_pool(index)).mutex.lock_protocol();
        let count = self.view.count(index);
        match Count::load(count) {
            Count::Used(n @ 1..0xffff) => {
                Count::Used(n + 1).store(count);
                true
            }
            _ => false,
        }
    }

    /// The number of mbufs that refer to `cluster`, or to the external storage that starts there; 0 if it is free.
    pub fn references(&self, cluster: Item) -> Option<u32> {
        let Some(index) = self.view.geometry().cluster_index(cluster) else {
            return self.external.references(self.view.geometry(), cluster);
        };
        let _guard = self.view.pool(self.view.geometry().cluster_pool(index)).mutex.lock_protocol();
        Some(match Count::load(self.view.count(index)) {
            Count::Used(n) => n,
            Count::Free(_) => 0,
        })
    }

    #[cold]
    fn note(&mut self, misbehaviour: PeerMisbehaviour) {
        self.misbehaviour.get_or_insert(misbehaviour);
    }
}

/// The pool that is locked when none is: there are at most 1024.
const NO_POOL: u32 = u32::MAX;

/// At most one pool's lock, kept from one buffer to the next, and what goes back to that pool meanwhile.
struct Held<'h, 'w> {
    view: View<'w>,
    external: &'h mut External<'w>,
    pool: u32,
    held: Option<(&'w PoolControl, ProtocolGuard<'w>)>,
    giving: Giving,
}

impl<'h, 'w> Held<'h, 'w> {
    const fn new(view: View<'w>, external: &'h mut External<'w>) -> Self {
        Self { view, external, pool: NO_POOL, held: None, giving: Giving::NOTHING }
    }

    #[inline(always)]
    fn lock(&mut self, pool: u32) {
        if self.pool != pool {
            self.change_to(pool);
        }
    }

    #[inline(never)]
    fn change_to(&mut self, pool: u32) {
        self.release();
        let control = self.view.pool(pool);
        self.held = Some((control, control.mutex.lock_protocol()));
        self.pool = pool;
        self.giving = Giving::start(&control.lists);
    }

    #[inline]
    fn release(&mut self) {
        if let Some((control, guard)) = self.held.take() {
            let freed = self.giving.finish(&control.lists);
            add(&control.counters.protocol_freed, freed);
            drop(guard);
        }
    }

    /// The chain is bounded by the number of all mbufs, in case it runs in a circle.
    #[inline(always)]
    fn free_chain(&mut self, first: Item) -> Result<(), PeerMisbehaviour> {
        match self.free_one(first)? {
            None => Ok(()),
            Some(second) => self.free_rest(second),
        }
    }

    #[inline(never)]
    fn free_rest(&mut self, second: Item) -> Result<(), PeerMisbehaviour> {
        let mut next = Some(second);
        for _ in 0..self.view.geometry().mbufs() {
            let Some(item) = next else { return Ok(()) };
            next = self.free_one(item)?;
        }
        Err(PeerMisbehaviour::Endless)
    }

    #[inline(always)]
    fn free_one(&mut self, item: Item) -> Result<Option<Item>, PeerMisbehaviour> {
        let view = self.view;
        let geometry = view.geometry();
        let located = geometry.locate_mbuf(item).ok_or(PeerMisbehaviour::NotAnItem(item.get()))?;
        let mbuf = view.located(located);
        let next = mbuf.next();
        if let Some(cluster) = mbuf.cluster() {
            if let Some(index) = geometry.cluster_index(cluster) {
                self.lock(geometry.cluster_pool(index));
                let count = view.count(index);
                match Count::load(count) {
                    Count::Used(1) => self.giving.cluster(cluster, count),
                    Count::Used(n @ 2..) => Count::Used(n - 1).store(count),
                    Count::Used(0) => return Err(PeerMisbehaviour::Count(0)),
                    Count::Free(_) => return Err(PeerMisbehaviour::Refused(cluster.get())),
                }
            } else {
                self.external.release(geometry, cluster)?;
            }
        }
        self.lock(geometry.mbuf_pool(located.index()));
        self.giving.mbuf(item, mbuf);
        Ok(next)
    }
}
