//! Who holds each buffer of the window: the kernel's own truth, which the server cannot write.
//!
//! Each mbuf and each cluster is the server's (free in a pool, on a queue, lent to its stack) until the driver claims it: for the receive
//! ring, with the right to write, so exclusively; or for a frame to send, with the right to read, which several mbufs may share. What
//! is claimed twice, a chain that bites its tail, a free list that leads into the receive ring: all are one failed claim.

use core::ops::Range;

use abi::{
    device::Audit,
    window::{CLUSTER_BYTES, CLUSTERS_MAX, Layout, MBUF_BYTES},
};
use mbuf::Claim;
use shmqueue::{Item, PeerMisbehaviour};

const CLUSTERS: usize = CLUSTERS_MAX as usize;
const MBUFS: usize = 2 * CLUSTERS;

/// No cluster, no next mbuf.
const NONE: u16 = u16::MAX;

/// What an mbuf is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum Holder {
    Server,
    /// In the receive ring.
    Posted,
    /// The first mbuf of a frame in the transmit ring.
    Sending,
    /// Another mbuf of such a frame.
    SendingRest,
}

/// What is known of an mbuf that is not the server's.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Entry {
    holder: Holder,
    /// Its cluster's index, or [`NONE`].
    cluster: u16,
    /// The index of the next mbuf of its frame, or [`NONE`].
    next: u16,
}

const SERVERS: Entry = Entry { holder: Holder::Server, cluster: NONE, next: NONE };

/// A cluster's state: 0 the server's, [`POSTED`] in the receive ring, else the number of mbufs in the transmit ring that refer to it.
const POSTED: u8 = u8::MAX;

/// The ledger of one window. It is large (136 KiB): a static of the kernel.
pub struct Ledger {
    mbufs: Area,
    clusters: Area,
    entries: [Entry; MBUFS],
    states: [u8; CLUSTERS],
}

/// Where an array of the window is.
#[derive(Clone, Copy)]
struct Area {
    at: u32,
    bytes: u32,
}

impl Area {
    const EMPTY: Area = Area { at: 0, bytes: 0 };

    /// `offset` as an index; what is below the start wraps to a large number.
    #[inline(always)]
    const fn index(self, offset: u32, size: u32) -> Option<u16> {
        let into = offset.wrapping_sub(self.at);
        if into < self.bytes && into.is_multiple_of(size) { Some((into / size) as u16) } else { None }
    }
}

impl Default for Ledger {
    fn default() -> Self {
        Self::new()
    }
}

impl Ledger {
    /// The ledger of no window: it refuses everything.
    #[must_use]
    pub const fn new() -> Self {
        Self { mbufs: Area::EMPTY, clusters: Area::EMPTY, entries: [SERVERS; MBUFS], states: [0; CLUSTERS] }
    }

    /// A new window: all buffers are the server's.
    pub fn open(&mut self, layout: &Layout) {
        self.close();
        self.mbufs = Area { at: layout.mbufs_at, bytes: layout.config.mbufs() * MBUF_BYTES };
        self.clusters = Area { at: layout.clusters_at, bytes: layout.config.clusters() * CLUSTER_BYTES };
    }

    /// The end of a window, when no device has its buffers any more.
    pub fn close(&mut self) {
        self.mbufs = Area::EMPTY;
        self.clusters = Area::EMPTY;
        self.entries.fill(SERVERS);
        self.states.fill(0);
    }

    #[inline(always)]
    const fn mbuf_offset(&self, index: u16) -> u32 {
        self.mbufs.at + index as u32 * MBUF_BYTES
    }

    #[inline(always)]
    const fn cluster_offset(&self, index: u16) -> u32 {
        self.clusters.at + index as u32 * CLUSTER_BYTES
    }

    #[inline(always)]
    fn entry(&mut self, index: u16) -> &mut Entry {
        &mut self.entries[index as usize % MBUFS]
    }

    /// The cluster that the mbuf `token` was put into the receive ring with; `None` if it was not.
    #[inline]
    #[must_use]
    pub fn posted(&self, token: u32) -> Option<u32> {
        let index = self.mbufs.index(token, MBUF_BYTES)?;
        let entry = self.entries[index as usize % MBUFS];
        (entry.holder == Holder::Posted).then(|| self.cluster_offset(entry.cluster))
    }

    /// The pair leaves the receive ring for the server. `false` if it was not there.
    #[inline]
    pub fn deliver(&mut self, token: u32) -> bool {
        let Some(index) = self.mbufs.index(token, MBUF_BYTES) else { return false };
        let entry = self.entry(index);
        if entry.holder != Holder::Posted {
            return false;
        }
        let cluster = entry.cluster;
        *entry = SERVERS;
        self.states[cluster as usize % CLUSTERS] = 0;
        true
    }

    /// Claims a frame's first mbuf, and its cluster if it has one, for the transmit ring.
    ///
    /// # Errors
    /// They are not the server's to give.
    #[inline]
    pub fn send(&mut self, mbuf: u32, cluster: Option<u32>) -> Result<(), PeerMisbehaviour> {
        self.claim(mbuf, cluster, Holder::Sending).map(|_| ())
    }

    /// Claims a further mbuf of a frame whose last one so far is `last`.
    ///
    /// # Errors
    /// They are not the server's to give; the frame so far stays claimed.
    pub fn send_rest(&mut self, last: u32, mbuf: u32, cluster: Option<u32>) -> Result<(), PeerMisbehaviour> {
        let last = self.mbufs.index(last, MBUF_BYTES).ok_or(PeerMisbehaviour::NotAnItem(last))?;
        let index = self.claim(mbuf, cluster, Holder::SendingRest)?;
        self.entry(last).next = index;
        Ok(())
    }

    #[inline(always)]
    fn claim(&mut self, mbuf: u32, cluster: Option<u32>, holder: Holder) -> Result<u16, PeerMisbehaviour> {
        let index = self.mbufs.index(mbuf, MBUF_BYTES).ok_or(PeerMisbehaviour::NotAnItem(mbuf))?;
        if self.entry(index).holder != Holder::Server {
            return Err(PeerMisbehaviour::Refused(mbuf));
        }
        let mut cluster_index = NONE;
        if let Some(cluster) = cluster {
            cluster_index =
                self.clusters.index(cluster, CLUSTER_BYTES).ok_or(PeerMisbehaviour::NotAnItem(cluster))?;
            let state = &mut self.states[cluster_index as usize % CLUSTERS];
            // The last number before POSTED is not used either, so that a count never turns into it.
            if *state >= POSTED - 1 {
                return Err(PeerMisbehaviour::Refused(cluster));
            }
            *state += 1;
        }
        *self.entry(index) = Entry { holder, cluster: cluster_index, next: NONE };
        Ok(index)
    }

    /// All mbufs of the frame `token`, and their clusters, leave the transmit ring for the server. `false` if it was not there.
    pub fn release(&mut self, token: u32) -> bool {
        let Some(mut index) = self.mbufs.index(token, MBUF_BYTES) else { return false };
        if self.entry(index).holder != Holder::Sending {
            return false;
        }
        // Each step ends an entry's claim, so the walk is bounded by the claims.
        while index != NONE {
            let entry = core::mem::replace(self.entry(index), SERVERS);
            self.unsend(entry.cluster);
            index = entry.next;
        }
        true
    }

    #[inline(always)]
    fn unsend(&mut self, cluster: u16) {
        if cluster != NONE {
            let state = &mut self.states[cluster as usize % CLUSTERS];
            debug_assert!(*state != 0 && *state != POSTED);
            *state -= 1;
        }
    }

    const fn indices(&self) -> Range<u16> {
        0..(self.mbufs.bytes / MBUF_BYTES) as u16
    }

    /// Hands out each pair in the receive ring: mbuf and cluster.
    pub fn each_posted(&self, mut pair: impl FnMut(u32, u32)) {
        for index in self.indices() {
            let entry = self.entries[index as usize];
            if entry.holder == Holder::Posted {
                pair(self.mbuf_offset(index), self.cluster_offset(entry.cluster));
            }
        }
    }

    /// The first frame in the transmit ring, in the order of the mbufs from `from` on.
    #[must_use]
    pub fn next_sending(&self, from: u32) -> Option<u32> {
        let start = from.saturating_sub(self.mbufs.at).div_ceil(MBUF_BYTES);
        let rest = self.indices().skip(start as usize);
        rest.filter(|&index| self.entries[index as usize].holder == Holder::Sending)
            .map(|index| self.mbuf_offset(index))
            .next()
    }

    /// The sums.
    #[must_use]
    pub fn audit(&self) -> Audit {
        let mut audit = Audit::default();
        for entry in &self.entries {
            match entry.holder {
                Holder::Server => {}
                Holder::Posted => audit.mbufs_posted += 1,
                Holder::Sending | Holder::SendingRest => audit.mbufs_transmitting += 1,
            }
        }
        for &state in &self.states {
            match state {
                0 => {}
                POSTED => audit.clusters_posted += 1,
                _ => audit.clusters_transmitting += 1,
            }
        }
        audit
    }
}

/// What the pools ask before they give a buffer to the receive ring or take one back from the transmit ring.
impl Claim for Ledger {
    #[inline]
    fn take(&mut self, mbuf: Item, cluster: Item) -> bool {
        let (Some(index), Some(cluster)) = (
            self.mbufs.index(mbuf.get(), MBUF_BYTES),
            self.clusters.index(cluster.get(), CLUSTER_BYTES),
        ) else {
            return false;
        };
        let state = &mut self.states[cluster as usize % CLUSTERS];
        let entry = &mut self.entries[index as usize % MBUFS];
        if entry.holder != Holder::Server || *state != 0 {
            return false;
        }
        *state = POSTED;
        *entry = Entry { holder: Holder::Posted, cluster, next: NONE };
        true
    }

    #[inline]
    fn give(&mut self, mbuf: Item, cluster: Option<Item>) -> bool {
        let Some(index) = self.mbufs.index(mbuf.get(), MBUF_BYTES) else { return false };
        let entry = *self.entry(index);
        let given = match cluster {
            None => Some(NONE),
            Some(cluster) => self.clusters.index(cluster.get(), CLUSTER_BYTES),
        };
        // A frame of one mbuf, with the cluster that it was sent with: the server may have written another one meanwhile.
        if entry.holder != Holder::Sending || entry.next != NONE || given != Some(entry.cluster) {
            return false;
        }
        if entry.cluster != NONE && self.states[entry.cluster as usize % CLUSTERS] != 1 {
            return false; // nobody else refers to it, say the counts in the window, but another frame is on its way
        }
        *self.entry(index) = SERVERS;
        self.unsend(entry.cluster);
        true
    }
}

const _: () = assert!(CLUSTERS < NONE as usize && MBUFS < NONE as usize);

#[cfg(test)]
mod tests;
