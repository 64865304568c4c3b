//! The driver's side of the free space: allocates and frees without ever waiting (R&H, "Free Space").
//!
//! A locked pool counts as an empty one: the driver goes on to the next. With several pools, that all are
//! locked at once is unlikely, not impossible; it is counted. Nothing that is read from the shared memory is
//! believed: offsets are checked by the private geometry, loops are bounded by the caller's number, and the
//! kernel's ledger ([`Claim`]) is asked about every buffer.

use shmqueue::{
    Item, PeerMisbehaviour,
    sync::{Ordering::Relaxed, full_fence},
};

use crate::{
    Located, View,
    pool::{Count, Giving, add, take_pairs},
};

/// The kernel's own record of who has which buffer. It has the last word. It is asked about buffers that the
/// trusted geometry has located, so it may keep its records by their indices.
pub trait Claim {
    /// The driver is about to take this free mbuf and cluster. `false` if they are not free by the ledger;
    /// else the ledger has noted it.
    fn take(&mut self, mbuf: Located, cluster: Located) -> bool;

    /// The driver is about to return this mbuf, and its cluster if it has one, to the free space. `false` if
    /// they are not the driver's to give; else the ledger has noted it.
    fn give(&mut self, mbuf: Located, cluster: Option<Located>) -> bool;
}

/// The ledger of a kernel that trusts its server: agrees to everything.
#[derive(Clone, Copy, Default, Debug)]
pub struct NoLedger;

impl Claim for NoLedger {
    fn take(&mut self, _: Located, _: Located) -> bool {
        true
    }

    fn give(&mut self, _: Located, _: Option<Located>) -> bool {
        true
    }
}

/// What the driver's side has met.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct InterruptStats {
    /// Pools found locked.
    pub locked_out: u32,
    /// Requests that got less than they asked for from all pools.
    pub short: u32,
    /// Buffers left to the deferred-free queue.
    pub deferred: u32,
}

/// The free space as the driver uses it; one per window.
pub struct InterruptSpace<'w> {
    view: View<'w>,
    /// The pool to try first.
    pool: u32,
    stats: InterruptStats,
}

impl<'w> InterruptSpace<'w> {
    /// The driver's side of `view`.
    #[must_use]
    pub const fn new(view: View<'w>) -> Self {
        Self { view, pool: 0, stats: InterruptStats { locked_out: 0, short: 0, deferred: 0 } }
    }

    /// The view.
    #[inline(always)]
    pub const fn view(&self) -> &View<'w> {
        &self.view
    }

    /// Takes up to `n` mbufs with a cluster each, one attempt to lock per pool, and hands each pair to
    /// `take`. Of the mbuf's words only the links and the cluster are set: where its data starts, the lengths
    /// and the flags are the caller's to set, when there is data.
    /// Returns how many.
    ///
    /// # Errors
    /// A free list leads to what is no buffer or is not free by the ledger. What `take` got before is the
    /// caller's.
    #[inline]
    pub fn try_alloc_cluster_batch(
        &mut self,
        n: u32,
        ledger: &mut impl Claim,
        mut take: impl FnMut(Item, Item),
    ) -> Result<u32, PeerMisbehaviour> {
        let mut got = 0;
        for _ in 0..self.view.geometry().pools() {
            if got == n {
                return Ok(got);
            }
            let pool = self.view.pool(self.pool);
            if let Some(_guard) = pool.mutex.try_lock_interrupt() {
                let (taken, outcome) = take_pairs(&self.view, &pool.lists, n - got, |item, cluster, _| {
                    let agreed = ledger.take(item, cluster);
                    if agreed {
                        take(item.item(), cluster.item());
                    }
                    agreed
                });
                add(&pool.counters.interrupt_allocated, taken);
                got += taken;
                outcome?;
                if got == n {
                    return Ok(got);
                }
                add(&pool.counters.interrupt_empty, 1);
            } else {
                self.stats.locked_out += 1;
                add(&pool.counters.interrupt_locked_out, 1);
            }
            self.pool = if self.pool + 1 >= self.view.geometry().pools() { 0 } else { self.pool + 1 };
        }
        self.stats.short += u32::from(got < n);
        Ok(got)
    }

    /// Returns to their pools those packets of `items` that are simple (one mbuf, alone or with a cluster of
    /// the same pool that nobody else refers to) and whose pool can be locked at once. Each other one goes to
    /// `defer`, whose business is the deferred-free queue. Afterwards, ask [`wanted`](Self::wanted). Returns
    /// how many were freed.
    ///
    /// # Errors
    /// An item is no mbuf, its cluster is none, a reference count cannot be, or the ledger refuses. The items
    /// before it are freed or deferred; those from it on are neither.
    #[inline]
    pub fn try_free(
        &mut self,
        items: &[Item],
        ledger: &mut impl Claim,
        mut defer: impl FnMut(Item),
    ) -> Result<u32, PeerMisbehaviour> {
        let mut freed = 0;
        let mut items = items.iter();
        while let Some(&first) = items.as_slice().first() {
            let run = self.pool_of(first)?;
            let pool = self.view.pool(run);
            let Some(_guard) = pool.mutex.try_lock_interrupt() else {
                self.stats.locked_out += 1;
                add(&pool.counters.interrupt_locked_out, 1);
                while let Some(&item) = items.as_slice().first()
                    && self.pool_of(item) == Ok(run)
                {
                    self.defer(item, &mut defer);
                    items.next();
                }
                continue;
            };
            // All that follow from the same pool, under the same lock.
            let mut giving = Giving::start(&pool.lists);
            let mut outcome = Ok(());
            while let Some(&item) = items.as_slice().first() {
                let Some(mbuf) = self.view.geometry().locate_mbuf(item) else { break }; // the next run says so
                if self.view.geometry().mbuf_pool(mbuf.index()) != run {
                    break;
                }
                match self.give(mbuf, run, &mut giving, ledger) {
                    Ok(true) => {}
                    Ok(false) => self.defer(item, &mut defer),
                    Err(misbehaviour) => {
                        outcome = Err(misbehaviour);
                        break;
                    }
                }
                items.next();
            }
            let returned = giving.finish(&pool.lists);
            add(&pool.counters.interrupt_freed, returned);
            freed += returned;
            outcome?;
        }
        Ok(freed)
    }

    #[cold]
    fn defer(&mut self, item: Item, defer: &mut impl FnMut(Item)) {
        self.stats.deferred += 1;
        defer(item);
    }

    #[inline(always)]
    fn pool_of(&self, item: Item) -> Result<u32, PeerMisbehaviour> {
        let index = self.view.geometry().mbuf_index(item).ok_or(PeerMisbehaviour::NotAnItem(item.get()))?;
        Ok(self.view.geometry().mbuf_pool(index))
    }

    /// Returns one packet to `pool`, whose mutex is held; `false` if it is not simple.
    #[inline(always)]
    fn give(
        &self,
        located: Located,
        pool: u32,
        giving: &mut Giving,
        ledger: &mut impl Claim,
    ) -> Result<bool, PeerMisbehaviour> {
        let geometry = self.view.geometry();
        let mbuf = self.view.located(located);
        if mbuf.next().is_some() {
            return Ok(false);
        }
        let refused = PeerMisbehaviour::Refused(located.item().get());
        let Some(cluster) = mbuf.cluster() else {
            if !ledger.give(located, None) {
                return Err(refused);
            }
            giving.mbuf(located.item(), mbuf);
            return Ok(true);
        };
        let Some(cluster) = geometry.locate_cluster(cluster) else { return self.is_external(cluster) };
        if geometry.cluster_pool(cluster.index()) != pool {
            return Ok(false);
        }
        let count = self.view.count(cluster.index());
        match Count::load(count) {
            Count::Used(1) => {}
            Count::Used(2..) => return Ok(false),
            Count::Used(0) => return Err(PeerMisbehaviour::Count(0)),
            Count::Free(_) => return Err(PeerMisbehaviour::Refused(cluster.item().get())),
        }
        if !ledger.give(located, Some(cluster)) {
            return Err(refused);
        }
        giving.cluster(cluster.item(), count);
        giving.mbuf(located.item(), mbuf);
        Ok(true)
    }

    /// `Ok(false)`, for the server's counts alone say who else refers to external storage; unless there is none here.
    #[cold]
    fn is_external(&self, area: Item) -> Result<bool, PeerMisbehaviour> {
        match self.view.geometry().external_index(area) {
            Some(_) => Ok(false),
            None => Err(PeerMisbehaviour::NotAnItem(area.get())),
        }
    }

    /// FENCE, then `m_want`: whether the server sleeps for want of buffers and is to be resumed. Ask after a
    /// burst of frees, and after a burst of appends to the deferred-free queue.
    #[inline]
    #[must_use = "a server that waits for buffers and is not resumed waits for ever"]
    pub fn wanted(&self) -> bool {
        full_fence(); // pairs with the one in `ProtocolSpace::want`
        self.view.space().want.load(Relaxed) != 0
    }

    /// What this side has met.
    pub const fn stats(&self) -> &InterruptStats {
        &self.stats
    }
}
