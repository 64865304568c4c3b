//! Counts what is free, for the accounting after a test: free, posted, queued and lent must add up.

use shmqueue::{Item, PeerMisbehaviour, sync::Ordering::Relaxed};

use crate::{View, pool::Count};

/// The free buffers of one pool or of all, counted by walking the lists.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Audit {
    /// Mbufs on free lists.
    pub mbufs: u32,
    /// Clusters on free lists.
    pub clusters: u32,
}

impl View<'_> {
    /// Walks the free lists of `pool` without its lock: for a time when nothing else uses it. Each walk ends
    /// after as many steps as there are buffers.
    ///
    /// # Errors
    /// A list leads to what is no buffer, holds a cluster that is in use, or does not end.
    pub fn audit_pool(&self, pool: u32) -> Result<Audit, PeerMisbehaviour> {
        let Some(control) = self.pool_control(pool) else { return Ok(Audit::default()) };
        let geometry = self.geometry();
        let mut audit = Audit::default();
        let mut next = Item::new(control.lists.mbufs.load(Relaxed));
        while let Some(item) = next {
            let mbuf = self.mbuf(item).ok_or(PeerMisbehaviour::NotAnItem(item.get()))?;
            audit.mbufs += 1;
            if audit.mbufs > geometry.mbufs() {
                return Err(PeerMisbehaviour::Endless);
            }
            next = mbuf.next();
        }
        next = Item::new(control.lists.clusters.load(Relaxed));
        while let Some(cluster) = next {
            let index = geometry.cluster_index(cluster).ok_or(PeerMisbehaviour::NotAnItem(cluster.get()))?;
            audit.clusters += 1;
            if audit.clusters > geometry.clusters() {
                return Err(PeerMisbehaviour::Endless);
            }
            let Count::Free(after) = Count::load(self.count(index)) else {
                return Err(PeerMisbehaviour::Refused(cluster.get()));
            };
            next = after;
        }
        Ok(audit)
    }

    /// [`audit_pool`](Self::audit_pool), added up over all pools.
    ///
    /// # Errors
    /// The first pool's that has one.
    pub fn audit(&self) -> Result<Audit, PeerMisbehaviour> {
        let mut sum = Audit::default();
        for pool in 0..self.geometry().pools() {
            let audit = self.audit_pool(pool)?;
            sum.mbufs += audit.mbufs;
            sum.clusters += audit.clusters;
        }
        Ok(sum)
    }
}
