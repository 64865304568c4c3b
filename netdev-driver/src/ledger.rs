//! Who holds each buffer of the window: the kernel's own truth, which the server cannot write.
//!
//! Each mbuf and each cluster is the server's (free in a pool, on a queue, lent to its stack) until the driver claims it: for the receive
//! ring, with the right to write, so exclusively; or for a frame to send, with the right to read, which several mbufs may share. What
//! is claimed twice, a chain that bites its tail, a free list that leads into the receive ring: all are one failed claim.

use abi::{
    device::Audit,
    window::{CLUSTER_BYTES, CLUSTERS_MAX, Layout, MBUF_BYTES},
};
use mbuf::{Claim, Flags, Located};
use shmqueue::PeerMisbehaviour;

const CLUSTERS: usize = CLUSTERS_MAX as usize;
const MBUFS: usize = 2 * CLUSTERS;

/// What is known of an mbuf, in one word: its holder in bits 0 and 1, its cluster's index plus 1 (0: none) in bits 2 to 15, and the
/// index plus 1 of the next mbuf of its frame (0: none) in bits 16 to 30. So "a frame of one mbuf, sent with this cluster" is one comparison.
/// Bit 31, of a frame's first mbuf: the server keeps the frame.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Entry(u32);

/// The server has it.
const SERVER: u32 = 0;
/// In the receive ring.
const IN_RECEIVE_RING: u32 = 1;
/// The first mbuf of a frame in the transmit ring.
const SENDING: u32 = 2;
/// Another mbuf of such a frame.
const SENDING_REST: u32 = 3;
/// Where the holder and the cluster are in an entry.
const HOLDER: u32 = 3;
const CLUSTER: u32 = 0xfffc;
/// [`Flags::KEEP`] in an entry.
const KEPT: u32 = Flags::KEEP.0;
/// Of a buffer that the window does not have: held by nobody who could let go of it, so that no claim succeeds.
const ABSENT: Entry = Entry(SENDING_REST);

impl Entry {
    #[inline(always)]
    const fn new(holder: u32, cluster: Option<u32>) -> Self {
        match cluster {
            Some(cluster) => Self(holder | (cluster + 1) << 2),
            None => Self(holder),
        }
    }

    #[inline(always)]
    const fn holder(self) -> u32 {
        self.0 & HOLDER
    }

    #[inline(always)]
    const fn cluster(self) -> Option<u32> {
        ((self.0 & CLUSTER) >> 2).checked_sub(1)
    }

    #[inline(always)]
    const fn next(self) -> Option<u32> {
        (self.0 >> 16 & 0x7fff).checked_sub(1)
    }
}

/// A cluster's state: 0 the server's, [`POSTED`] in the receive ring, else the number of mbufs in the transmit ring that refer to it.
const POSTED: u8 = u8::MAX;

/// The ledger of one window. It is large (72 KiB): a static of the kernel.
///
/// What is [`Located`] was found by the geometry of the same window, so its index needs no look at where the arrays begin and end.
pub struct Ledger {
    mbufs: Area<MBUF_BYTES>,
    clusters: Area<CLUSTER_BYTES>,
    entries: [Entry; MBUFS],
    states: [u8; CLUSTERS],
}

/// Where an array of elements of `SIZE` bytes, a power of two, is in the window.
#[derive(Clone, Copy)]
struct Area<const SIZE: u32> {
    at: u32,
    count: u32,
}

impl<const SIZE: u32> Area<SIZE> {
    const EMPTY: Self = Self { at: 0, count: 0 };

    /// `offset` as an index. One comparison checks all: what is below the start wraps to a large number, and so does, rotated, what is not a
    /// multiple of the size.
    #[inline(always)]
    const fn index(self, offset: u32) -> Option<u32> {
        let index = offset.wrapping_sub(self.at).rotate_right(SIZE.trailing_zeros());
        if index < self.count { Some(index) } else { None }
    }

    #[inline(always)]
    const fn offset(self, index: u32) -> u32 {
        self.at + index * SIZE
    }
}

impl Default for Ledger {
    fn default() -> Self {
        Self::new()
    }
}

impl Ledger {
    /// A ledger, to be opened or closed before it is used.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            mbufs: Area::EMPTY,
            clusters: Area::EMPTY,
            entries: [Entry(SERVER); MBUFS],
            states: [0; CLUSTERS],
        }
    }

    /// A new window: all buffers are the server's.
    pub fn open(&mut self, layout: &Layout) {
        self.close();
        self.mbufs = Area { at: layout.mbufs_at, count: layout.config.mbufs() };
        self.clusters = Area { at: layout.clusters_at, count: layout.config.clusters() };
        self.entries[..self.mbufs.count as usize].fill(Entry(SERVER));
        self.states[..self.clusters.count as usize].fill(0);
    }

    /// The end of a window, when no device has its buffers any more: from now on everything is refused.
    pub fn close(&mut self) {
        self.mbufs = Area::EMPTY;
        self.clusters = Area::EMPTY;
        self.entries.fill(ABSENT);
        self.states.fill(POSTED);
    }

    #[inline(always)]
    fn entry(&mut self, index: u32) -> &mut Entry {
        &mut self.entries[index as usize % MBUFS]
    }

    #[inline(always)]
    fn state(&mut self, cluster: u32) -> &mut u8 {
        &mut self.states[cluster as usize % CLUSTERS]
    }

    /// The pair of `mbuf` leaves the receive ring for the server; the index of its cluster. `None` if it was not there.
    #[inline(always)]
    pub fn deliver(&mut self, mbuf: Located) -> Option<u32> {
        let entry = self.entry(mbuf.index());
        // The cluster's number stays in the entry, for `deliver_not`.
        let delivered = Entry(entry.0.wrapping_sub(IN_RECEIVE_RING - SERVER));
        if delivered.holder() != SERVER {
            return None; // it was not in the receive ring
        }
        *entry = delivered;
        // An mbuf in the receive ring has a cluster, and no mbuf after it.
        let cluster = (delivered.0 >> 2).wrapping_sub(1);
        *self.state(cluster) = 0;
        Some(cluster)
    }

    /// The pair that [`deliver`](Self::deliver) has just let go stays in the receive ring after all; the offset of its cluster.
    pub fn deliver_not(&mut self, token: u32) -> Option<u32> {
        let index = self.mbufs.index(token)?;
        let entry = *self.entry(index);
        let cluster = entry.cluster()?;
        if entry.holder() != SERVER || *self.state(cluster) != 0 {
            return None;
        }
        *self.state(cluster) = POSTED;
        *self.entry(index) = Entry::new(IN_RECEIVE_RING, Some(cluster));
        Some(self.clusters.offset(cluster))
    }

    /// Claims a frame's first mbuf, and its cluster if it has one, for the transmit ring. Of the `flags` what counts is whether the server
    /// keeps the frame.
    ///
    /// # Errors
    /// They are not the server's to give.
    #[inline]
    pub fn send(
        &mut self,
        mbuf: Located,
        cluster: Option<Located>,
        flags: Flags,
    ) -> Result<(), PeerMisbehaviour> {
        self.claim(mbuf, cluster, SENDING | flags.0 & KEPT)
    }

    /// Claims a further mbuf of a frame whose last one so far is `last`.
    ///
    /// # Errors
    /// They are not the server's to give; the frame so far stays claimed.
    pub fn send_rest(
        &mut self,
        last: Located,
        mbuf: Located,
        cluster: Option<Located>,
    ) -> Result<(), PeerMisbehaviour> {
        self.claim(mbuf, cluster, SENDING_REST)?;
        self.entry(last.index()).0 |= (mbuf.index() + 1) << 16;
        Ok(())
    }

    #[inline(always)]
    fn claim(
        &mut self,
        mbuf: Located,
        cluster: Option<Located>,
        holder: u32,
    ) -> Result<(), PeerMisbehaviour> {
        if self.entry(mbuf.index()).holder() != SERVER {
            return Err(PeerMisbehaviour::Refused(mbuf.item().get()));
        }
        let mut entry = Entry::new(holder, None);
        if let Some(cluster) = cluster {
            let state = self.state(cluster.index());
            // The last number before POSTED is not used either, so that a count never turns into it.
            if *state >= POSTED - 1 {
                return Err(PeerMisbehaviour::Refused(cluster.item().get()));
            }
            *state += 1;
            entry = Entry::new(holder, Some(cluster.index()));
        }
        *self.entry(mbuf.index()) = entry;
        Ok(())
    }

    /// A frame that the server keeps leaves the transmit ring, as by [`release`](Self::release). `false` if it was not there.
    #[inline(always)]
    pub fn release_kept(&mut self, mbuf: Located) -> bool {
        let entry = *self.entry(mbuf.index());
        // One mbuf, as nearly all: all that the entry says beside is its cluster.
        if entry.0 & !CLUSTER != KEPT | SENDING {
            return entry.0 & (KEPT | HOLDER) == KEPT | SENDING && self.release(mbuf.item().get());
        }
        *self.entry(mbuf.index()) = Entry(SERVER);
        if let Some(cluster) = entry.cluster() {
            *self.state(cluster) -= 1;
        }
        true
    }

    /// All mbufs of the frame `token`, and their clusters, leave the transmit ring for the server. `false` if it was not there.
    pub fn release(&mut self, token: u32) -> bool {
        let Some(first) = self.mbufs.index(token) else { return false };
        if self.entry(first).holder() != SENDING {
            return false;
        }
        // Each step ends an entry's claim, so the walk is bounded by the claims.
        let mut next = Some(first);
        while let Some(index) = next {
            let entry = core::mem::replace(self.entry(index), Entry(SERVER));
            if let Some(cluster) = entry.cluster() {
                *self.state(cluster) -= 1;
            }
            next = entry.next();
        }
        true
    }

    /// The cluster of a pair that the driver holds to receive into.
    #[inline]
    #[must_use]
    pub fn posted_cluster(&self, mbuf: Located) -> Option<u32> {
        let entry = self.entries[mbuf.index() as usize % MBUFS];
        if entry.holder() != IN_RECEIVE_RING {
            return None;
        }
        entry.cluster().map(|cluster| self.clusters.offset(cluster))
    }

    /// The first pair that the driver holds to receive into, in the order of the mbufs from `from` on.
    #[must_use]
    pub fn next_posted(&self, from: u32) -> Option<u32> {
        self.next_held(from, IN_RECEIVE_RING)
    }

    /// The first frame in the transmit ring, in the order of the mbufs from `from` on.
    #[must_use]
    pub fn next_sending(&self, from: u32) -> Option<u32> {
        self.next_held(from, SENDING)
    }

    fn next_held(&self, from: u32, holder: u32) -> Option<u32> {
        let start = from.saturating_sub(self.mbufs.at).div_ceil(MBUF_BYTES);
        (start..self.mbufs.count)
            .find(|&index| self.entries[index as usize].holder() == holder)
            .map(|index| self.mbufs.offset(index))
    }

    /// The sums.
    #[must_use]
    pub fn audit(&self) -> Audit {
        let mut audit = Audit::default();
        for entry in &self.entries[..self.mbufs.count as usize] {
            match entry.holder() {
                SERVER => {}
                IN_RECEIVE_RING => audit.mbufs_posted += 1,
                _ => audit.mbufs_transmitting += 1,
            }
        }
        for &state in &self.states[..self.clusters.count as usize] {
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
    #[inline(always)]
    fn take(&mut self, mbuf: Located, cluster: Located) -> bool {
        let (index, cluster) = (mbuf.index(), cluster.index());
        if self.entry(index).holder() != SERVER || *self.state(cluster) != 0 {
            return false;
        }
        *self.state(cluster) = POSTED;
        *self.entry(index) = Entry::new(IN_RECEIVE_RING, Some(cluster));
        true
    }

    #[inline(always)]
    fn give(&mut self, mbuf: Located, cluster: Option<Located>) -> bool {
        let index = mbuf.index();
        // A frame of one mbuf, with the cluster that it was sent with: the server may have written another one meanwhile.
        let Some(cluster) = cluster else {
            let given = *self.entry(index) == Entry::new(SENDING, None);
            if given {
                *self.entry(index) = Entry(SERVER);
            }
            return given;
        };
        let cluster = cluster.index();
        // Nobody else refers to the cluster, say the counts in the window; but no other frame that is on its way may do so either.
        if *self.entry(index) != Entry::new(SENDING, Some(cluster)) || *self.state(cluster) != 1 {
            return false;
        }
        *self.entry(index) = Entry(SERVER);
        *self.state(cluster) = 0;
        true
    }
}

// An index plus 1 fits into its bits, and the flag has the last.
const _: () = assert!(MBUFS < 1 << 15 && CLUSTERS < 1 << 14 && KEPT == 1 << 31);

#[cfg(test)]
mod tests;
