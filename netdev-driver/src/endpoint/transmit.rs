//! From the OUT queue to the transmit ring, and from there back to the pools.

use core::ops::ControlFlow;

use abi::{
    counters::Counter,
    device::offload,
    window::{CLUSTER_BYTES, MBUF_BYTES},
};
use mbuf::{Flags, INTERNAL_BYTES, InterruptSpace, Mbuf, View};
use shmqueue::{Drained, EnqueueError, InProducer, Item, PeerMisbehaviour};

use super::{BATCH, BUDGET, Counts, Open};
use crate::{
    demux::{ETHERNET_BYTES, FRAME_BYTES_MAX},
    ledger::Ledger,
    nic::{Nic, SEGMENTS_MAX, Segment, TxChecksum},
    window::Mapped,
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

/// A frame, checked and claimed.
struct Checked {
    segments: usize,
    bytes: u32,
    checksum: Option<TxChecksum>,
}

impl Open<'_> {
    /// Whether the OUT queue has something for us.
    #[inline(always)]
    pub(super) fn out_waits(&self) -> bool {
        self.busy || !self.mapped.queue(abi::window::Queue::Out).is_empty()
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
            let (drained, refused) = self.drain(nic, ledger, counts)?;
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

    /// One burst from the OUT queue; whether frames were refused, and their buffers given back.
    #[inline(always)]
    fn drain<N: Nic>(
        &mut self,
        nic: &mut N,
        ledger: &mut Ledger,
        counts: &mut Counts,
    ) -> Result<(Drained, bool), PeerMisbehaviour> {
        let mapped = self.mapped;
        let (mut frames, mut bytes) = (0, 0);
        let mut misbehaviour = None;
        let (bad, mut bad_count) = (&mut self.unfreed, 0);
        let mut segments = [Segment::default(); SEGMENTS_MAX];
        let reach = if nic.offload() & offload::TX_CHECKSUM != 0 { N::TX_CHECKSUM_REACH } else { 0 };
        let drained = self.out.drain(BUDGET, |item| {
            if !nic.tx_room(SEGMENTS_MAX) || bad_count == BATCH {
                return ControlFlow::Break(());
            }
            match check(&mapped, ledger, item, &mut segments, reach) {
                Ok(frame) => {
                    frames += 1;
                    bytes += u64::from(frame.bytes);
                    nic.tx_post(item.get(), &segments[..frame.segments.min(SEGMENTS_MAX)], frame.checksum);
                }
                Err(Refusal::Bad) => {
                    bad[bad_count % BATCH] = item;
                    bad_count += 1;
                }
                Err(Refusal::Misbehaviour(what)) => {
                    misbehaviour = Some(what);
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        });
        if frames != 0 {
            nic.tx_kick();
        }
        counts.add(Counter::FramesOut, frames);
        counts.add(Counter::BytesOut, bytes);
        if bad_count != 0 {
            counts.add(Counter::DropOutBad, bad_count as u64);
            let bad = &bad[..bad_count.min(BATCH)];
            for item in bad {
                ledger.release(item.get());
            }
            self.deferred.append_batch(bad).map_err(|error| cannot_defer(error, bad[0]))?;
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
        let mut returns = Returns {
            space: &mut self.space,
            deferred: &mut self.deferred,
            ledger,
            sent: &mut self.sent,
            unfreed: &mut self.unfreed,
            count: 0,
            total: 0,
            outcome: Ok(()),
        };
        nic.tx_reap(|token| returns.push(token));
        returns.flush();
        let (total, outcome) = (returns.total, returns.outcome);
        self.reaped += total;
        outcome?;
        Ok(total != 0 && self.space.wanted())
    }

    /// Leaves a frame's buffers, whose claim has ended, to the server.
    #[cold]
    pub(super) fn defer(&mut self, item: Item) -> Result<(), PeerMisbehaviour> {
        self.deferred.append(item).map_err(|error| cannot_defer(error, item))
    }
}

/// The deferred-free queue takes everything, unless the server holds both of its locks: then it lies.
#[cold]
fn cannot_defer(error: EnqueueError, item: Item) -> PeerMisbehaviour {
    match error {
        EnqueueError::Peer(misbehaviour) => misbehaviour,
        EnqueueError::Locked | EnqueueError::NotAnItem => PeerMisbehaviour::Refused(item.get()),
    }
}

/// Frames that have left, on their way back: to their pools in batches under one lock each, or else by the deferred-free queue.
struct Returns<'a, 'w> {
    space: &'a mut InterruptSpace<'w>,
    deferred: &'a mut InProducer<'w, View<'w>>,
    ledger: &'a mut Ledger,
    sent: &'a mut [Item; BATCH],
    unfreed: &'a mut [Item; BATCH],
    count: usize,
    total: u64,
    outcome: Result<(), PeerMisbehaviour>,
}

impl Returns<'_, '_> {
    #[inline(always)]
    fn push(&mut self, token: u32) {
        let Some(item) = Item::new(token) else { return };
        self.sent[self.count % BATCH] = item;
        self.count += 1;
        if self.count == BATCH {
            self.flush();
        }
    }

    #[inline]
    fn flush(&mut self) {
        let count = core::mem::take(&mut self.count).min(BATCH);
        if count == 0 || self.outcome.is_err() {
            return;
        }
        self.total += count as u64;
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
        if let Err(error) = self.deferred.append_batch(unfreed) {
            self.outcome = Err(cannot_defer(error, unfreed[0]));
        }
    }
}

/// Checks a frame of the OUT queue and claims its buffers. Every shared word is loaded once.
///
/// After [`Refusal::Bad`] the frame is claimed as far as it was looked at, so that one release ends it.
#[inline(always)]
fn check(
    mapped: &Mapped<'_>,
    ledger: &mut Ledger,
    first: Item,
    segments: &mut [Segment; SEGMENTS_MAX],
    reach: u16,
) -> Result<Checked, Refusal> {
    let mbuf = mapped.view().mbuf(first).ok_or(PeerMisbehaviour::NotAnItem(first.get()))?;
    let cluster = mbuf.cluster().map(Item::get);
    ledger.send(first.get(), cluster)?;
    let mut count = usize::from(extent(mapped, first, mbuf, cluster, &mut segments[0])?);
    let mut bytes = segments[0].len;
    if let Some(next) = mbuf.next() {
        rest(mapped, ledger, first, next, segments, &mut count, &mut bytes)?;
    }
    if !(ETHERNET_BYTES..=FRAME_BYTES_MAX).contains(&bytes) {
        return Err(Refusal::Bad);
    }
    let flags = mbuf.flags();
    if flags.has(Flags::IP_CHECKSUM_WANTED) {
        return Err(Refusal::Bad); // no device here offers it
    }
    let mut checksum = None;
    if flags.has(Flags::DATA_CHECKSUM_WANTED) {
        let (start, offset) = mbuf.checksum();
        let field = u32::from(start) + u32::from(offset);
        if field + 2 > bytes || field > u32::from(reach) || u32::from(start) < ETHERNET_BYTES {
            return Err(Refusal::Bad);
        }
        checksum = Some(TxChecksum { start, offset });
    }
    Ok(Checked { segments: count, bytes, checksum })
}

/// The further mbufs of a chain: a cycle ends at a claim, a long chain at the bound.
#[cold]
fn rest(
    mapped: &Mapped<'_>,
    ledger: &mut Ledger,
    first: Item,
    second: Item,
    segments: &mut [Segment; SEGMENTS_MAX],
    count: &mut usize,
    bytes: &mut u32,
) -> Result<(), Refusal> {
    let (mut last, mut next) = (first, Some(second));
    let mut mbufs = 1;
    while let Some(item) = next {
        if mbufs == SEGMENTS_MAX {
            return Err(Refusal::Bad);
        }
        mbufs += 1;
        let mbuf = mapped.view().mbuf(item).ok_or(PeerMisbehaviour::NotAnItem(item.get()))?;
        let cluster = mbuf.cluster().map(Item::get);
        ledger.send_rest(last.get(), item.get(), cluster)?;
        let segment = &mut segments[*count % SEGMENTS_MAX];
        if extent(mapped, item, mbuf, cluster, segment)? {
            *bytes += segment.len;
            *count += 1;
        }
        (last, next) = (item, mbuf.next());
    }
    Ok(())
}

/// Where the data of an mbuf is, inside its own room or its cluster; `false` if there is none.
#[inline(always)]
fn extent(
    mapped: &Mapped<'_>,
    item: Item,
    mbuf: &Mbuf,
    cluster: Option<u32>,
    segment: &mut Segment,
) -> Result<bool, PeerMisbehaviour> {
    let (start, room) = match cluster {
        Some(cluster) => (cluster, CLUSTER_BYTES),
        None => (item.get() + (MBUF_BYTES - INTERNAL_BYTES), INTERNAL_BYTES),
    };
    let (data, len) = (mbuf.data(), mbuf.len());
    let into = data.wrapping_sub(start);
    if into > room || len > room - into {
        return Err(PeerMisbehaviour::Count(len));
    }
    *segment = Segment { phys: mapped.phys(data), len };
    Ok(len != 0)
}
