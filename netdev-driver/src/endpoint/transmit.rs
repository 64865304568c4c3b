//! From the OUT queue to the transmit ring, and from there back to the pools.

use core::ops::ControlFlow;

use abi::{
    counters::Counter,
    device::offload,
    window::{CLUSTER_BYTES, MBUF_BYTES},
};
use mbuf::{Flags, INTERNAL_BYTES, InterruptSpace, Located, Mbuf, View};
use shmqueue::{
    Drained, Item, PeerMisbehaviour,
    queue::{Drain, Produce, ProduceError, either::Either},
};

use super::{BATCH, BUDGET, Counts, open::Open};
use crate::{
    demux::{ETHERNET_BYTES, FRAME_BYTES_MAX},
    ledger::Ledger,
    nic::{Nic, SEGMENTS_MAX, Segment, TxChecksum},
    window::{Input, Mapped},
};

/// Rounds of drain, kick and reap in one call; a device that transmits at once leaves room for the next.
const ROUNDS: u32 = 4;

/// Why a frame of the OUT queue is not sent.
enum Refusal {
    /// It is none that can be sent: freed and counted.
    Bad,
    /// The server cannot have meant it.
    Misbehaviour(PeerMisbehaviour),
}

impl From<PeerMisbehaviour> for Refusal {
    fn from(misbehaviour: PeerMisbehaviour) -> Self {
        Self::Misbehaviour(misbehaviour)
    }
}

impl<'w> Open<'w> {
    /// Whether the OUT queue has something for us.
    #[inline(always)]
    pub(super) fn out_waits(&self) -> bool {
        self.busy || self.out.waits()
    }

    /// Drains the OUT queue into the transmit ring, kicks once for each burst, and frees what has left at once. `true`: the server waits for
    /// buffers, and some came.
    #[inline]
    pub(super) fn transmit<N: Nic>(
        &mut self,
        nic: &mut N,
        ledger: &mut Ledger,
        counts: &mut Counts,
    ) -> Result<bool, PeerMisbehaviour> {
        let mut wanted = false;
        for _ in 0..ROUNDS {
            let (drained, refused) = self.drain(nic, ledger, counts, BUDGET)?;
            wanted |= self.reap(nic, ledger)? || refused && self.space.wanted();
            self.busy = drained != Drained::Idle;
            if !self.busy {
                break;
            }
            if !nic.tx_room(SEGMENTS_MAX) && !nic.tx_interrupt(true) {
                // The device stays busy; its interrupt goes on from here.
                return Ok(wanted);
            }
        }
        // Nobody waits for these buffers yet. A device that has many of them says so when they have left; the watchdog sees to the others.
        let many = nic.tx_in_flight() * 4 >= self.rx_target;
        if nic.tx_interrupt(many) {
            wanted |= self.reap(nic, ledger)?;
        }
        self.again |= self.busy;
        Ok(wanted)
    }

    /// One burst from the OUT queue, of at most `budget` frames; whether frames were refused, and their buffers given back.
    #[inline(never)]
    pub(super) fn drain<N: Nic>(
        &mut self,
        nic: &mut N,
        ledger: &mut Ledger,
        counts: &mut Counts,
        budget: u32,
    ) -> Result<(Drained, bool), PeerMisbehaviour> {
        let reach = if nic.offload() & offload::TX_CHECKSUM != 0 { N::TX_CHECKSUM_REACH } else { 0 };
        let mut burst = Burst {
            mapped: &self.mapped,
            tag: self.tag,
            ledger,
            nic,
            requests: Requests { reach, raw: 0, bytes: u32::MAX, wanted: None },
            frames: 0,
            bytes: 0,
            bad: &mut self.unfreed,
            bad_count: 0,
            misbehaviour: None,
        };
        // The choice once a burst, not once a frame.
        let drained = match &mut self.out {
            Either::Dual(out) => out.drain_linked(budget, |view, item| burst.post(view, item)),
            Either::Ring(out) => out.drain(budget, |item| burst.post(burst.mapped.view(), item)),
        };
        let Burst { ledger, nic, frames, bytes, bad, bad_count, misbehaviour, .. } = burst;
        if frames != 0 {
            nic.tx_kick();
        }
        self.posted += u64::from(frames);
        counts.add(Counter::FramesOut, u64::from(frames));
        counts.add(Counter::BytesOut, u64::from(bytes));
        if bad_count != 0 {
            counts.add(Counter::DropOutBad, bad_count as u64);
            let bad = &mut bad[..bad_count.min(BATCH)];
            let mut left = 0;
            for at in 0..bad.len() {
                let item = bad[at];
                if !release_kept(self.space.view(), ledger, item) {
                    ledger.release(item.get());
                    bad[left] = item;
                    left += 1;
                }
            }
            defer_all(&mut self.deferred, &bad[..left])?;
        }
        match misbehaviour {
            Some(misbehaviour) => Err(misbehaviour),
            None => Ok((drained?, bad_count != 0)),
        }
    }

    /// Frees the buffers of frames that have left. `true`: the server waits for buffers, and some came.
    #[inline]
    pub(super) fn reap<N: Nic>(
        &mut self,
        nic: &mut N,
        ledger: &mut Ledger,
    ) -> Result<bool, PeerMisbehaviour> {
        let mut returns = self.returns(ledger, None);
        nic.tx_reap(|token| returns.push(token));
        returns.finish()
    }

    /// Takes back frames that have left; of a server that misbehaved it only counts them.
    #[inline(always)]
    pub(super) fn returns<'a>(
        &'a mut self,
        ledger: &'a mut Ledger,
        fault: Option<PeerMisbehaviour>,
    ) -> Returns<'a, 'w> {
        Returns {
            space: &mut self.space,
            deferred: &mut self.deferred,
            ledger,
            sent: &mut self.sent,
            unfreed: &mut self.unfreed,
            reaped: &mut self.reaped,
            tag: self.tag,
            count: 0,
            total: 0,
            outcome: fault.map_or(Ok(()), Err),
        }
    }

    /// Leaves a frame's buffers, whose claim has ended, to the server.
    #[cold]
    pub(super) fn defer(&mut self, item: Item) -> Result<(), PeerMisbehaviour> {
        defer_all(&mut self.deferred, &[item])
    }
}

/// The deferred-free queue takes everything, unless the server lies: holds both locks of a dual queue, or says of a ring, which has room for
/// every mbuf, that it is full.
#[cold]
fn defer_all(deferred: &mut Input<'_>, items: &[Item]) -> Result<(), PeerMisbehaviour> {
    let refused = |at: usize| match items.get(at) {
        Some(item) => Err(PeerMisbehaviour::Refused(item.get())),
        None => Ok(()),
    };
    match deferred.produce_batch(items) {
        Ok(count) => refused(count),
        Err(ProduceError::Peer(misbehaviour)) => Err(misbehaviour),
        Err(_) => refused(0),
    }
}

/// Frames on their way from the OUT queue to the transmit ring.
struct Burst<'a, 'w, N> {
    mapped: &'a Mapped<'w>,
    /// The window's bits of a token.
    tag: u32,
    ledger: &'a mut Ledger,
    nic: &'a mut N,
    requests: Requests,
    frames: u32,
    bytes: u32,
    /// What cannot be sent.
    bad: &'a mut [Item; BATCH],
    bad_count: usize,
    misbehaviour: Option<PeerMisbehaviour>,
}

impl<N: Nic> Burst<'_, '_, N> {
    #[inline(always)]
    fn post(&mut self, view: &View<'_>, item: Item) -> ControlFlow<()> {
        if !self.nic.tx_room(SEGMENTS_MAX) || self.bad_count == BATCH {
            return ControlFlow::Break(());
        }
        match self.send(view, item) {
            Ok(sent) => {
                self.frames += 1;
                self.bytes += sent; // of a burst: no more than the budget times the longest frame
            }
            Err(Refusal::Bad) => {
                self.bad[self.bad_count % BATCH] = item;
                self.bad_count += 1;
            }
            Err(Refusal::Misbehaviour(what)) => {
                self.misbehaviour = Some(what);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    /// Checks a frame of the OUT queue, claims its buffers, and puts it into the transmit ring, where there is room. Every shared word is
    /// loaded once. Returns its bytes.
    ///
    /// After [`Refusal::Bad`] the frame is claimed as far as it was looked at, so that one release ends it.
    #[inline(always)]
    fn send(&mut self, view: &View<'_>, item: Item) -> Result<u32, Refusal> {
        let (located, mbuf) = view.find(item).ok_or(PeerMisbehaviour::NotAnItem(item.get()))?;
        let cluster = cluster(view, mbuf)?;
        let flags = mbuf.flags();
        self.ledger.send(located, cluster, flags)?;
        let segment = extent(self.mapped, located, mbuf, cluster)?;
        if let Some(second) = mbuf.next() {
            return self.send_chain((located, mbuf, flags), segment, second);
        }
        let checksum = self.requests.of(mbuf, flags, segment.len)?;
        self.nic.tx_post(item.get() + self.tag, core::slice::from_ref(&segment), checksum);
        Ok(segment.len)
    }

    /// The same for a frame of more than one mbuf: a cycle ends at a claim, a long chain at the bound.
    #[cold]
    fn send_chain(
        &mut self,
        (first, head, flags): (Located, &Mbuf, Flags),
        segment: Segment,
        second: Item,
    ) -> Result<u32, Refusal> {
        let view = self.mapped.view();
        let mut segments = [Segment::default(); SEGMENTS_MAX];
        segments[0] = segment;
        let (mut count, mut bytes) = (usize::from(segment.len != 0), segment.len);
        let (mut last, mut next) = (first, Some(second));
        let mut mbufs = 1;
        while let Some(item) = next {
            if mbufs == SEGMENTS_MAX {
                return Err(Refusal::Bad);
            }
            mbufs += 1;
            let (located, mbuf) = view.find(item).ok_or(PeerMisbehaviour::NotAnItem(item.get()))?;
            let cluster = cluster(view, mbuf)?;
            self.ledger.send_rest(last, located, cluster)?;
            let segment = extent(self.mapped, located, mbuf, cluster)?;
            if segment.len != 0 {
                segments[count % SEGMENTS_MAX] = segment;
                bytes += segment.len;
                count += 1;
            }
            (last, next) = (located, mbuf.next());
        }
        let checksum = self.requests.of(head, flags, bytes)?;
        let segments = &segments[..count.min(SEGMENTS_MAX)];
        self.nic.tx_post(first.item().get() + self.tag, segments, checksum);
        Ok(bytes)
    }
}

/// Gives a frame that has left, or that cannot be sent, back to a server that keeps it. `false`: the server does not.
#[inline(always)]
pub(super) fn release_kept(view: &View<'_>, ledger: &mut Ledger, item: Item) -> bool {
    let Some((located, mbuf)) = view.find(item) else { return false };
    let kept = ledger.release_kept(located);
    if kept {
        mbuf.mark_sent();
    }
    kept
}

/// Frames that have left, on their way back: to the server that keeps them, to their pools in batches under one lock each, or else by the
/// deferred-free queue.
pub(super) struct Returns<'a, 'w> {
    space: &'a mut InterruptSpace<'w>,
    deferred: &'a mut Input<'w>,
    ledger: &'a mut Ledger,
    sent: &'a mut [Item; BATCH],
    unfreed: &'a mut [Item; BATCH],
    reaped: &'a mut u64,
    tag: u32,
    count: usize,
    total: u64,
    outcome: Result<(), PeerMisbehaviour>,
}

impl Returns<'_, '_> {
    #[inline(always)]
    pub fn push(&mut self, token: u32) {
        let Some(item) = Item::new(token.wrapping_sub(self.tag)) else { return };
        if release_kept(self.space.view(), self.ledger, item) {
            self.total += 1;
            return;
        }
        self.sent[self.count % BATCH] = item;
        self.count += 1;
        if self.count == BATCH {
            self.flush();
        }
    }

    /// The last of them. `true`: the server waits for buffers, and some came.
    #[inline(always)]
    pub fn finish(mut self) -> Result<bool, PeerMisbehaviour> {
        self.flush();
        *self.reaped += self.total;
        self.outcome?;
        Ok(self.total != 0 && self.space.wanted())
    }

    #[inline]
    fn flush(&mut self) {
        let count = core::mem::take(&mut self.count).min(BATCH);
        self.total += count as u64;
        if count == 0 || self.outcome.is_err() {
            return;
        }
        let mut left = 0;
        let freed = self.space.try_free(&self.sent[..count], self.ledger, |item| {
            self.unfreed[left % BATCH] = item;
            left += 1;
        });
        self.outcome = freed.map(|_| ());
        if left == 0 {
            return;
        }
        let unfreed = &self.unfreed[..left.min(BATCH)];
        for item in unfreed {
            self.ledger.release(item.get());
        }
        if let Err(misbehaviour) = defer_all(self.deferred, unfreed) {
            self.outcome = Err(misbehaviour);
        }
    }
}

/// What the frames of a burst ask the device to fill in; most ask the same as the one before.
struct Requests {
    /// How far into a frame the device can fill in a checksum.
    reach: u16,
    /// The last request that the device can fill in, as it stands in an mbuf, and the bytes of the shortest frame that it fits.
    raw: u32,
    bytes: u32,
    wanted: Option<TxChecksum>,
}

impl Requests {
    /// Whether a frame of so many bytes can be sent, and which checksum the device is to fill in.
    #[inline(always)]
    fn of(&mut self, head: &Mbuf, flags: Flags, bytes: u32) -> Result<Option<TxChecksum>, Refusal> {
        // One comparison for both ends: what is too short wraps to a large number.
        if bytes.wrapping_sub(ETHERNET_BYTES) > FRAME_BYTES_MAX - ETHERNET_BYTES {
            return Err(Refusal::Bad);
        }
        if flags.has(Flags::IP_CHECKSUM_WANTED) {
            return Err(Refusal::Bad); // no device here offers it
        }
        if !flags.has(Flags::DATA_CHECKSUM_WANTED) {
            return Ok(None);
        }
        let raw = head.checksum_word();
        if raw != self.raw || bytes < self.bytes {
            self.check(raw, bytes)?;
        }
        Ok(self.wanted)
    }

    #[inline(never)]
    fn check(&mut self, raw: u32, bytes: u32) -> Result<(), Refusal> {
        let (start, offset) = Mbuf::checksum_from(raw);
        let wanted = TxChecksum { start, offset };
        if !checksum_within(wanted, bytes, self.reach) {
            return Err(Refusal::Bad);
        }
        (self.raw, self.bytes, self.wanted) = (raw, checksum_end(wanted), Some(wanted));
        Ok(())
    }
}

/// The cluster of an mbuf, if it has one.
#[inline(always)]
fn cluster(view: &View<'_>, mbuf: &Mbuf) -> Result<Option<Located>, PeerMisbehaviour> {
    let Some(item) = mbuf.cluster() else { return Ok(None) };
    match view.geometry().locate_cluster(item) {
        None => Err(PeerMisbehaviour::NotAnItem(item.get())),
        located => Ok(located),
    }
}

/// Where the data of an mbuf is, inside its own room or its cluster; it may be empty.
#[inline(always)]
fn extent(
    mapped: &Mapped<'_>,
    located: Located,
    mbuf: &Mbuf,
    cluster: Option<Located>,
) -> Result<Segment, PeerMisbehaviour> {
    let (start, room) = match cluster {
        Some(cluster) => (cluster.item().get(), CLUSTER_BYTES),
        None => (located.item().get() + (MBUF_BYTES - INTERNAL_BYTES), INTERNAL_BYTES),
    };
    let (data, len) = (mbuf.data(), mbuf.len());
    // What is before the start wraps to a large number; the sum of two 32-bit numbers does not wrap.
    if u64::from(data.wrapping_sub(start)) + u64::from(len) > u64::from(room) {
        return Err(PeerMisbehaviour::Count(len));
    }
    Ok(Segment { phys: mapped.phys(data), len })
}

/// Whether the device can fill in such a checksum of a frame of so many bytes.
#[inline(always)]
pub(crate) fn checksum_fits<N: Nic>(nic: &N, wanted: TxChecksum, bytes: u32) -> bool {
    let reach = if nic.offload() & offload::TX_CHECKSUM != 0 { N::TX_CHECKSUM_REACH } else { 0 };
    checksum_within(wanted, bytes, reach)
}

#[inline(always)]
const fn checksum_within(TxChecksum { start, offset }: TxChecksum, bytes: u32, reach: u16) -> bool {
    let end = checksum_end(TxChecksum { start, offset });
    end <= bytes && end - 2 <= reach as u32 && start as u32 >= ETHERNET_BYTES
}

/// Where the field of such a checksum ends: no frame that it fits is shorter.
#[inline(always)]
const fn checksum_end(TxChecksum { start, offset }: TxChecksum) -> u32 {
    start as u32 + offset as u32 + 2
}
