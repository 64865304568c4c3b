//! From the receive ring to the IN queues, and from the pools to the receive ring.

use abi::counters::Counter;
use mbuf::Flags;
use shmqueue::{
    Item, PeerMisbehaviour,
    queue::{Produce, ProduceError},
    sync::full_fence,
};

use super::{BATCH, BUDGET, Counts, open::Open};
use crate::{
    demux::{self, Drop, Family},
    ledger::Ledger,
    nic::{Nic, RxDone, RxStatus},
};

/// The receive ring is refilled when so many buffers are missing: one register write and one lock for all of them. A window with few clusters
/// has a ring with fewer than that, which is refilled when a quarter is missing.
pub(super) const REFILL_AT: u32 = 32;

/// Frames that find no buffer in one batch before the rest stay in the ring, until some time has passed: a server that has not kept up is not
/// helped by more, and what the device drops itself costs nothing (Mogul and Ramakrishnan 1996, section 6.4).
const PATIENCE: u32 = 4;

/// Why a buffer from the receive ring does not go on.
pub(super) enum Refusal {
    /// The device never had it.
    Bogus,
    /// It is a part of a frame that is dropped when its end comes.
    Fragment,
    /// The frame is dropped.
    Dropped(Counter),
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
        // A bit for each queue that got something.
        let mut touched = 0;
        if nic.rx_posted() <= self.rx_low_water {
            // The last look ended for that.
            self.refill(nic, ledger, 1)?;
        }
        for _ in 0..BUDGET / BATCH as u32 {
            let (taken, starved) = self.receive_batch(nic, ledger, counts, &mut touched)?;
            let at_least = REFILL_AT.min((self.rx_target / 4).max(1));
            if nic.rx_posted() + at_least <= self.rx_target {
                self.refill(nic, ledger, at_least)?;
            }
            nic.rx_commit();
            if starved {
                if nic.rx_posted() <= self.rx_low_water {
                    self.again = true;
                    return Ok(touched != 0 && self.wake(touched, counts));
                }
            } else if taken < BATCH && !nic.rx_rearm() {
                return Ok(touched != 0 && self.wake(touched, counts));
            }
        }
        self.again |= !nic.rx_spent();
        Ok(touched != 0 && self.wake(touched, counts))
    }

    /// Takes a batch off the ring and puts it on the queues, run by run of one family; how many buffers there were, and whether it ended early
    /// because there were none to lend.
    #[inline(always)]
    fn receive_batch<N: Nic>(
        &mut self,
        nic: &mut N,
        ledger: &mut Ledger,
        counts: &mut Counts,
        touched: &mut u32,
    ) -> Result<(usize, bool), PeerMisbehaviour> {
        let (mut taken, mut bytes, mut patience) = (0, 0, PATIENCE);
        let (mut run, mut run_family) = (0, Family::Ipv4);
        // The ring lends its buffers only while it has enough of them: it must not run dry for want of free ones.
        let mut lendable = nic.rx_posted().saturating_sub(self.rx_low_water);
        let mut outcome = Ok(());
        while taken < BATCH
            && let Some(done) = nic.rx_poll()
        {
            taken += 1;
            match self.look(ledger, done, &mut lendable) {
                Ok((item, family)) => {
                    bytes += u64::from(done.len);
                    if family != run_family {
                        outcome = self.flush_run(nic, ledger, counts, touched, run, run_family);
                        if outcome.is_err() {
                            counts.add(Counter::FramesIn, 1);
                            counts.add(Counter::DropNoWindow, 1);
                            run = 0;
                            break;
                        }
                        (run, run_family) = (0, family);
                    }
                    self.run[run % BATCH] = item;
                    run += 1;
                }
                Err(refusal) => {
                    self.refuse(nic, ledger, counts, done, &refusal);
                    if matches!(refusal, Refusal::Dropped(Counter::DropNoBuffer)) {
                        patience -= 1;
                        if patience == 0 {
                            break;
                        }
                    }
                }
            }
        }
        counts.add(Counter::BytesIn, bytes);
        outcome?;
        self.flush_run(nic, ledger, counts, touched, run, run_family)?;
        Ok((taken, patience == 0))
    }

    /// One buffer from the ring: whose the frame in it is, or why there is none.
    #[inline(always)]
    pub(super) fn look(
        &self,
        ledger: &mut Ledger,
        done: RxDone,
        lendable: &mut u32,
    ) -> Result<(Item, Family), Refusal> {
        // The drivers hand out what they were given, and nothing leaves the ring but here: both always succeed.
        let offset = done.token.wrapping_sub(self.tag);
        let (located, mbuf) =
            Item::new(offset).and_then(|item| self.mapped.view().find(item)).ok_or(Refusal::Bogus)?;
        let index = ledger.deliver(located).ok_or(Refusal::Bogus)?;
        let (cluster, frame) = self.mapped.frame(index).ok_or(Refusal::Dropped(Counter::DropDeviceError))?;
        let (family, flags) = examine(done, |index| frame.word(index))?;
        if *lendable == 0 {
            return Err(Refusal::Dropped(Counter::DropNoBuffer));
        }
        *lendable -= 1;
        mbuf.set_packet(cluster, done.len, flags);
        Ok((located.item(), family))
    }

    /// Counts what is no good frame; its buffer goes back into the ring.
    #[cold]
    pub(super) fn refuse<N: Nic>(
        &self,
        nic: &mut N,
        ledger: &mut Ledger,
        counts: &mut Counts,
        done: RxDone,
        refusal: &Refusal,
    ) {
        match *refusal {
            Refusal::Bogus => {
                counts.add(Counter::BogusCompletions, 1);
                return;
            }
            Refusal::Fragment => {}
            Refusal::Dropped(cause) => counts.add_frame(done.len, cause),
        }
        self.repost(nic, ledger, done.token.wrapping_sub(self.tag));
    }

    fn repost<N: Nic>(&self, nic: &mut N, ledger: &mut Ledger, offset: u32) {
        if let Some(cluster) = ledger.deliver_not(offset) {
            nic.rx_post(offset + self.tag, self.mapped.phys(cluster));
        }
    }

    /// Puts the run on its queue: one lock for all of it.
    #[inline(always)]
    fn flush_run<N: Nic>(
        &mut self,
        nic: &mut N,
        ledger: &mut Ledger,
        counts: &mut Counts,
        touched: &mut u32,
        length: usize,
        family: Family,
    ) -> Result<(), PeerMisbehaviour> {
        if length == 0 {
            return Ok(());
        }
        let run = &self.run[..length.min(BATCH)];
        let (count, family) = (run.len() as u64, family as usize);
        counts.add(Counter::FramesIn, count);
        let produced = self.input[family].produce_batch(run);
        match produced {
            Ok(taken) if taken == run.len() => {
                *touched |= 1 << family;
                counts.add(Counter::DELIVERED[family], count);
                Ok(())
            }
            // Cannot be, unless the server lies.
            _ => self.cannot_deliver(nic, ledger, counts, touched, run.len(), family, produced),
        }
    }

    /// The queue did not take the whole run: the front of it, perhaps, of which so many frames; the others are dropped.
    #[cold]
    #[expect(
        clippy::too_many_arguments,
        reason = "the state of its one caller, out of the way of its hot path"
    )]
    fn cannot_deliver<N: Nic>(
        &self,
        nic: &mut N,
        ledger: &mut Ledger,
        counts: &mut Counts,
        touched: &mut u32,
        length: usize,
        family: usize,
        produced: Result<usize, ProduceError>,
    ) -> Result<(), PeerMisbehaviour> {
        let taken = produced.unwrap_or(0);
        if taken != 0 {
            *touched |= 1 << family;
            counts.add(Counter::DELIVERED[family], taken as u64);
        }
        let (cause, outcome) = match produced {
            // The window is about to be closed, and these frames with it.
            Err(ProduceError::Peer(misbehaviour)) => (Counter::DropNoWindow, Err(misbehaviour)),
            Ok(_) | Err(ProduceError::Full) => (Counter::DropQueueFull, Ok(())),
            Err(_) => (Counter::DropQueueLocked, Ok(())),
        };
        let rest = &self.run[taken..length];
        counts.add(cause, rest.len() as u64);
        if outcome.is_ok() {
            for item in rest {
                self.repost(nic, ledger, item.get());
            }
        }
        outcome
    }

    /// The event of the idle protocol: one FENCE behind all appends of the burst, then the conditions of the queues that got something. It
    /// pairs with the fence in `InConsumer::set_idle`.
    #[inline(always)]
    fn wake(&mut self, touched: u32, counts: &mut Counts) -> bool {
        full_fence();
        self.wake_fenced(touched, counts)
    }

    /// The conditions alone, behind a fence for several windows.
    #[inline(always)]
    pub(super) fn wake_fenced(&self, touched: u32, counts: &mut Counts) -> bool {
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
        let (mapped, tag) = (self.mapped, self.tag);
        self.space.try_alloc_cluster_batch(missing, ledger, |mbuf, cluster| {
            nic.rx_post(mbuf.get() + tag, mapped.phys(cluster.get()));
        })?;
        Ok(())
    }
}

/// The family of a frame and the flags of its mbuf, or why it is dropped.
#[inline(always)]
pub(super) fn examine(done: RxDone, word: impl Fn(usize) -> u64) -> Result<(Family, Flags), Refusal> {
    let whole = Flags::PACKET.with(Flags::EXTERNAL);
    let checked = match done.status {
        RxStatus::Good => whole,
        RxStatus::ChecksumGood => whole.with(Flags::DATA_CHECKSUM_GOOD).with(Flags::IP_CHECKSUM_GOOD),
        status => return Err(trouble(status).map_or(Refusal::Fragment, Refusal::Dropped)),
    };
    match demux::classify(done.len, word) {
        Ok(Family::Ipv4) => Ok((Family::Ipv4, checked.with(Flags::IP_CHECKSUM_GOOD))),
        Ok(family) => Ok((family, checked)),
        Err(drop) => Err(Refusal::Dropped(cause(drop))),
    }
}

/// Why what the device says is no good frame is dropped; `None`: it is a part of one that is dropped when its end comes.
#[cold]
pub(crate) const fn trouble(status: RxStatus) -> Option<Counter> {
    match status {
        RxStatus::Fragment => None,
        RxStatus::Oversized => Some(Counter::DropOversized),
        _ => Some(Counter::DropDeviceError),
    }
}

#[cold]
pub(crate) const fn cause(drop: Drop) -> Counter {
    match drop {
        Drop::Runt => Counter::DropRunt,
        Drop::Oversized => Counter::DropOversized,
        Drop::BadHeader => Counter::DropBadHeader,
        Drop::BadChecksum => Counter::DropBadChecksum,
    }
}
