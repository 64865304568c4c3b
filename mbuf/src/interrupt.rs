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
    View,
    pool::{Count, add, put_cluster, put_mbuf, take_pairs},
};

/// The kernel's own record of who has which buffer. It has the last word.
pub trait Claim {
    /// The driver is about to take this free mbuf and cluster. `false` if they are not free by the ledger;
    /// else the ledger has noted it.
    fn take(&mut self, mbuf: Item, cluster: Item) -> bool;

    /// The driver is about to return this mbuf, and its cluster if it has one, to the free space. `false` if
    /// they are not the driver's to give; else the ledger has noted it.
    fn give(&mut self, mbuf: Item, cluster: Option<Item>) -> bool;
}

/// The ledger of a kernel that trusts its server: agrees to everything.
#[derive(Clone, Copy, Default, Debug)]
pub struct NoLedger;

impl Claim for NoLedger {
    fn take(&mut self, _: Item, _: Item) -> bool {
        true
    }

    fn give(&mut self, _: Item, _: Option<Item>) -> bool {
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
    /// `take`. The mbuf's data is set to the start of its cluster; its lengths are left to the caller.
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
                        take(item, cluster);
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
        let mut at = 0;
        while let Some(&first) = items.get(at) {
            let run = self.pool_of(first)?;
            let pool = self.view.pool(run);
            let guard = pool.mutex.try_lock_interrupt();
            if guard.is_none() {
                self.stats.locked_out += 1;
                add(&pool.counters.interrupt_locked_out, 1);
            }
            let mut returned = 0;
            let mut outcome = Ok(());
            // All that follow from the same pool, under the same lock.
            while let Some(&item) = items.get(at) {
                match self.pool_of(item) {
                    Ok(pool) if pool == run => {}
                    _ => break, // the next run says so
                }
                let given = if guard.is_some() { self.give(item, run, ledger) } else { Ok(false) };
                match given {
                    Ok(true) => returned += 1,
                    Ok(false) => {
                        self.stats.deferred += 1;
                        defer(item);
                    }
                    Err(misbehaviour) => {
                        outcome = Err(misbehaviour);
                        break;
                    }
                }
                at += 1;
            }
            if guard.is_some() {
                add(&pool.counters.interrupt_freed, returned);
            }
            freed += returned;
            outcome?;
        }
        Ok(freed)
    }

    #[inline(always)]
    fn pool_of(&self, item: Item) -> Result<u32, PeerMisbehaviour> {
        let index = self.view.geometry().mbuf_index(item).ok_or(PeerMisbehaviour::NotAnItem(item.get()))?;
        Ok(self.view.geometry().mbuf_pool(index))
    }

    /// Returns one packet to `pool`, whose mutex is held; `false` if it is not simple.
    #[inline(always)]
    fn give(&self, item: Item, pool: u32, ledger: &mut impl Claim) -> Result<bool, PeerMisbehaviour> {
        let geometry = self.view.geometry();
        let mbuf = self.view.mbuf(item).ok_or(PeerMisbehaviour::NotAnItem(item.get()))?;
        if mbuf.next().is_some() {
            return Ok(false);
        }
        let lists = &self.view.pool(pool).lists;
        let cluster = mbuf.cluster();
        let count = match cluster {
            None => None,
            Some(cluster) => {
                let index =
                    geometry.cluster_index(cluster).ok_or(PeerMisbehaviour::NotAnItem(cluster.get()))?;
                if geometry.cluster_pool(index) != pool {
                    return Ok(false);
                }
                let count = self.view.count(index);
                match Count::load(count) {
                    Count::Used(1) => Some((cluster, count)),
                    Count::Used(2..) => return Ok(false),
                    Count::Used(0) => return Err(PeerMisbehaviour::Count(0)),
                    Count::Free(_) => return Err(PeerMisbehaviour::Refused(cluster.get())),
                }
            }
        };
        if !ledger.give(item, cluster) {
            return Err(PeerMisbehaviour::Refused(item.get()));
        }
        if let Some((cluster, count)) = count {
            put_cluster(lists, cluster, count);
        }
        put_mbuf(lists, item, mbuf);
        Ok(true)
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
