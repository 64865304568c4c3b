//! From the receive ring to the IN queues, and from the pools to the receive ring.

use abi::counters::Counter;
use mbuf::Flags;
use shmqueue::{EnqueueError, Item, PeerMisbehaviour, sync::full_fence};

use super::{BATCH, BUDGET, Counts, Open};
use crate::{
    demux::{self, Drop, Family},
    ledger::Ledger,
    nic::{Nic, RxDone, RxStatus},
};

/// The receive ring is refilled when so many buffers are missing: one register write and one lock for all of them.
const REFILL_AT: u32 = 32;

/// What the frames of a burst come to; added to the counters at its end.
#[derive(Default)]
struct Burst {
    frames: u64,
    bytes: u64,
    /// The family of the run, and its length.
    family: usize,
    run: usize,
    /// A bit for each queue that got something.
    touched: u32,
}

impl Open<'_> {
    /// Empties the receive ring, up to the budget. `true`: the server is idle and has something to do.
    #[inline]
    pub(super) fn receive<N: Nic>(
        &mut self,
        nic: &mut N,
        ledger: &mut Ledger,
        counts: &mut Counts,
    ) -> Result<bool, PeerMisbehaviour> {
        let mut burst = Burst::default();
        let outcome = self.receive_batches(nic, ledger, counts, &mut burst);
        counts.add(Counter::FramesIn, burst.frames);
        counts.add(Counter::BytesIn, burst.bytes);
        outcome?;
        Ok(burst.touched != 0 && self.wake(burst.touched, counts))
    }

    #[inline(always)]
    fn receive_batches<N: Nic>(
        &mut self,
        nic: &mut N,
        ledger: &mut Ledger,
        counts: &mut Counts,
        burst: &mut Burst,
    ) -> Result<(), PeerMisbehaviour> {
        for _ in 0..BUDGET / BATCH as u32 {
            let mut taken = 0;
            while taken < BATCH
                && let Some(done) = nic.rx_poll()
            {
                taken += 1;
                self.receive_one(nic, ledger, counts, burst, done)?;
            }
            self.flush_run(nic, ledger, counts, burst)?;
            if nic.rx_posted() + REFILL_AT <= self.rx_target {
                self.refill(nic, ledger, REFILL_AT)?;
            }
            nic.rx_commit();
            if taken < BATCH && !nic.rx_rearm() {
                return Ok(());
            }
        }
        self.again |= !nic.rx_spent();
        Ok(())
    }

    /// One frame: into the run of its family, or its buffer back into the ring.
    #[inline(always)]
    fn receive_one<N: Nic>(
        &mut self,
        nic: &mut N,
        ledger: &mut Ledger,
        counts: &mut Counts,
        burst: &mut Burst,
        done: RxDone,
    ) -> Result<(), PeerMisbehaviour> {
        let Some(cluster) = ledger.deliver(done.token) else {
            // The drivers hand out what they were given, and nothing leaves the ring but here.
            counts.add(Counter::BogusCompletions, 1);
            return Ok(());
        };
        if !matches!(done.status, RxStatus::Good | RxStatus::ChecksumGood) {
            self.refuse_status(nic, ledger, counts, burst, done);
            return Ok(());
        }
        burst.frames += 1;
        burst.bytes += u64::from(done.len);
        let named = Item::new(done.token).and_then(|item| Some((item, self.mapped.view().mbuf(item)?)));
        let (Some(frame), Some((item, mbuf))) = (self.mapped.frame(cluster), named) else {
            self.refuse(nic, ledger, counts, done.token, Counter::DropDeviceError);
            return Ok(());
        };
        let family = match demux::classify(done.len, |index| frame.word(index)) {
            Ok(family) => family,
            Err(drop) => {
                self.refuse(nic, ledger, counts, done.token, cause(drop));
                return Ok(());
            }
        };
        // The ring lends its buffers only while it has enough of them: it must not run dry for want of free ones.
        if nic.rx_posted() < self.rx_low_water {
            self.refuse(nic, ledger, counts, done.token, Counter::DropNoBuffer);
            return Ok(());
        }
        let whole = Flags::PACKET.with(Flags::EXTERNAL);
        let flags = match (done.status, family) {
            (RxStatus::ChecksumGood, _) => {
                whole.with(Flags::DATA_CHECKSUM_GOOD).with(Flags::IP_CHECKSUM_GOOD)
            }
            (_, Family::Ipv4) => whole.with(Flags::IP_CHECKSUM_GOOD),
            _ => whole,
        };
        mbuf.set_packet(cluster, done.len, flags);
        if burst.family != family as usize || burst.run == BATCH {
            if let Err(misbehaviour) = self.flush_run(nic, ledger, counts, burst) {
                counts.add(Counter::DropNoWindow, 1);
                return Err(misbehaviour);
            }
            burst.family = family as usize;
        }
        self.run[burst.run % BATCH] = item;
        burst.run += 1;
        Ok(())
    }

    /// Drops a frame: its buffer goes back into the ring.
    #[cold]
    fn refuse<N: Nic>(
        &self,
        nic: &mut N,
        ledger: &mut Ledger,
        counts: &mut Counts,
        token: u32,
        cause: Counter,
    ) {
        counts.add(cause, 1);
        self.repost(nic, ledger, token);
    }

    /// Drops what the device says is no good frame.
    #[cold]
    fn refuse_status<N: Nic>(
        &self,
        nic: &mut N,
        ledger: &mut Ledger,
        counts: &mut Counts,
        burst: &mut Burst,
        done: RxDone,
    ) {
        if done.status == RxStatus::Fragment {
            self.repost(nic, ledger, done.token);
            return;
        }
        burst.frames += 1;
        burst.bytes += u64::from(done.len);
        let cause = match done.status {
            RxStatus::Oversized => Counter::DropOversized,
            _ => Counter::DropDeviceError,
        };
        self.refuse(nic, ledger, counts, done.token, cause);
    }

    fn repost<N: Nic>(&self, nic: &mut N, ledger: &mut Ledger, token: u32) {
        if let Some(cluster) = ledger.deliver_not(token) {
            nic.rx_post(token, self.mapped.phys(cluster));
        }
    }

    /// Puts the run on its queue: one lock for all of it.
    #[inline(always)]
    fn flush_run<N: Nic>(
        &mut self,
        nic: &mut N,
        ledger: &mut Ledger,
        counts: &mut Counts,
        burst: &mut Burst,
    ) -> Result<(), PeerMisbehaviour> {
        let run = &self.run[..burst.run.min(BATCH)];
        if run.is_empty() {
            return Ok(());
        }
        let (count, family) = (run.len() as u64, burst.family & 3);
        burst.run = 0;
        match self.input[family].append_batch(run) {
            Ok(()) => {
                burst.touched |= 1 << family;
                const DELIVERED: [Counter; 4] = [
                    Counter::DeliveredArp,
                    Counter::DeliveredIpv4,
                    Counter::DeliveredIpv6,
                    Counter::DeliveredOther,
                ];
                counts.add(DELIVERED[family], count);
                Ok(())
            }
            Err(EnqueueError::Peer(misbehaviour)) => {
                // The window is about to be closed, and these frames with it.
                counts.add(Counter::DropNoWindow, count);
                Err(misbehaviour)
            }
            Err(EnqueueError::Locked | EnqueueError::NotAnItem) => {
                counts.add(Counter::DropQueueLocked, count);
                for item in run {
                    self.repost(nic, ledger, item.get());
                }
                Ok(())
            }
        }
    }

    /// The event of the idle protocol: one FENCE behind all appends of the burst, then the conditions of the queues that got something. It
    /// pairs with the fence in `InConsumer::set_idle`.
    #[inline(always)]
    fn wake(&mut self, touched: u32, counts: &mut Counts) -> bool {
        full_fence();
        let mut idle = false;
        for (family, queue) in self.input.iter().enumerate() {
            if touched & 1 << family != 0 {
                idle |= queue.consumer_idle_fenced();
            }
        }
        counts.add(if idle { Counter::ResumesSent } else { Counter::ResumesSpared }, 1);
        idle
    }

    /// Fills the receive ring from the pools if at least `at_least` buffers are missing. The device is told by the commit.
    #[inline]
    pub(super) fn refill<N: Nic>(
        &mut self,
        nic: &mut N,
        ledger: &mut Ledger,
        at_least: u32,
    ) -> Result<(), PeerMisbehaviour> {
        let missing = self.rx_target.saturating_sub(nic.rx_posted()).min(nic.rx_room());
        if missing < at_least {
            return Ok(());
        }
        let mapped = self.mapped;
        self.space.try_alloc_cluster_batch(missing, ledger, |mbuf, cluster| {
            nic.rx_post(mbuf.get(), mapped.phys(cluster.get()));
        })?;
        Ok(())
    }
}

#[cold]
const fn cause(drop: Drop) -> Counter {
    match drop {
        Drop::Runt => Counter::DropRunt,
        Drop::Oversized => Counter::DropOversized,
        Drop::BadHeader => Counter::DropBadHeader,
        Drop::BadChecksum => Counter::DropBadChecksum,
    }
}
