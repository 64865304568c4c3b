//! One open window: its queues' ends, its free space, and the pairs of mbuf and cluster that the driver holds of it.

use abi::{
    counters::Counter,
    window::{Layout, Queue},
};
use mbuf::InterruptSpace;
use shmqueue::{
    Item, PeerMisbehaviour,
    queue::{Drain, Produce},
};

use super::{BATCH, Counts, Outcome, transmit::release_kept};
use crate::{
    ledger::Ledger,
    nic::Nic,
    window::{Input, Mapped, Output},
};

/// What there is while a window is open.
pub(super) struct Open<'w> {
    pub mapped: Mapped<'w>,
    pub space: InterruptSpace<'w>,
    pub input: [Input<'w>; 4],
    pub out: Output<'w>,
    pub deferred: Input<'w>,
    /// What is added to an offset to make it a token: the window's number.
    pub tag: u32,
    /// Buffers that the receive ring is to have, and below which nothing is lent to the server.
    pub rx_target: u32,
    pub rx_low_water: u32,
    /// Received frames on their way to one queue.
    pub run: [Item; BATCH],
    /// Frames that have left, on their way to the pools; those that no pool takes.
    pub sent: [Item; BATCH],
    pub unfreed: [Item; BATCH],
    /// Pairs to receive into that are not in the receive ring, while that has the kernel's own buffers.
    pub stash: [Item; BATCH],
    pub stashed: usize,
    /// Frames that were put into the transmit ring since the window was opened, and those that have left.
    pub posted: u64,
    pub reaped: u64,
    /// The last drain ended before the OUT queue did.
    pub busy: bool,
    /// Poll again although no interrupt comes.
    pub again: bool,
}

/// What a pass over one window asks for.
pub(super) struct Passed {
    pub resume: bool,
    pub again: bool,
    pub misbehaviour: Option<PeerMisbehaviour>,
}

impl Passed {
    /// As the outcome for the kernel, of the window with this number.
    #[inline(always)]
    pub fn at(self, at: usize) -> Outcome {
        let Self { resume, again, misbehaviour } = self;
        Outcome { resume: u32::from(resume) << at, again, misbehaviour, culprit: at }
    }
}

const PLACEHOLDER: Item = match Item::new(1) {
    Some(item) => item,
    None => unreachable!(),
};

impl<'w> Open<'w> {
    /// The ends of a window that was just laid out.
    pub fn new(mapped: Mapped<'w>, layout: &Layout, tag: u32) -> Self {
        let view = *mapped.view();
        let queue = |queue| mapped.queue(layout, queue);
        let mut open = Self {
            mapped,
            space: InterruptSpace::new(view),
            input: Queue::IN.map(|input| queue(input).in_producer(view)),
            out: queue(Queue::Out).out_consumer(view),
            deferred: queue(Queue::DeferredFree).in_producer(view),
            tag,
            rx_target: 0,
            rx_low_water: 0,
            run: [PLACEHOLDER; BATCH],
            sent: [PLACEHOLDER; BATCH],
            unfreed: [PLACEHOLDER; BATCH],
            stash: [PLACEHOLDER; BATCH],
            stashed: 0,
            posted: 0,
            reaped: 0,
            busy: false,
            again: false,
        };
        open.out.start_idle();
        open
    }

    /// The receive ring is to have so many of its buffers while it is the only window.
    pub fn set_target<N: Nic>(&mut self, rx_target: u32) {
        self.rx_target = rx_target;
        self.rx_low_water = N::RX_LOW_WATER.min(rx_target / 2);
    }

    /// Frames that have left.
    pub const fn reaped(&self) -> u64 {
        self.reaped
    }

    /// Frames in the transmit ring.
    pub const fn in_flight(&self) -> u32 {
        self.posted.saturating_sub(self.reaped) as u32
    }

    /// A pass while it is the only window: receives, reaps what was sent, and looks at the OUT queue.
    #[inline]
    pub fn poll<N: Nic>(&mut self, nic: &mut N, ledger: &mut Ledger, counts: &mut Counts) -> Passed {
        let mut resume = false;
        let mut result = self.receive(nic, ledger, counts).map(|idle| resume = idle);
        if result.is_ok() {
            let waiting = self.out_waits();
            counts.add(Counter::OutOnInterrupt, u64::from(waiting));
            result = if waiting {
                self.transmit(nic, ledger, counts).map(|wanted| resume |= wanted)
            } else if nic.tx_in_flight() != 0 {
                self.reap(nic, ledger).map(|wanted| resume |= wanted)
            } else {
                Ok(())
            };
        }
        let again = core::mem::take(&mut self.again);
        Passed { resume, again, misbehaviour: result.err() }
    }

    pub fn passed(&mut self, result: Result<bool, PeerMisbehaviour>) -> Passed {
        let again = core::mem::take(&mut self.again);
        match result {
            Ok(resume) => Passed { resume, again, misbehaviour: None },
            Err(misbehaviour) => Passed { resume: false, again, misbehaviour: Some(misbehaviour) },
        }
    }

    /// What the ends of the queues have counted.
    pub fn add_stats(&self, counts: &mut Counts) {
        let ends = [&self.input[0], &self.input[1], &self.input[2], &self.input[3], &self.deferred];
        for stats in ends.map(Produce::stats).into_iter().chain([self.out.stats()]) {
            counts.add(Counter::LockFailures, u64::from(stats.lock_failures));
            counts.add(Counter::SubqueueSwitches, u64::from(stats.switches));
        }
        let pools = self.space.stats();
        counts.add(Counter::LockFailures, u64::from(pools.locked_out));
        counts.add(Counter::PoolsUnavailable, u64::from(pools.short));
        counts.add(Counter::DeferredFrees, u64::from(pools.deferred));
    }

    /// The device is stopped: the frames that it was to send go back to the server. Whether that waits for buffers.
    #[cold]
    pub fn take_back(&mut self, ledger: &mut Ledger) -> Result<bool, PeerMisbehaviour> {
        let mut from = 0;
        while let Some(offset) = ledger.next_sending(from) {
            from = offset;
            let Some(item) = Item::new(offset) else { continue };
            if !release_kept(self.space.view(), ledger, item) {
                ledger.release(offset);
                self.defer(item)?;
            }
        }
        Ok(self.space.wanted())
    }

    /// The device has been started again: it gets all pairs that it had to receive into; those that find no room go back to the server.
    #[cold]
    pub fn repost_all<N: Nic>(&mut self, nic: &mut N, ledger: &mut Ledger) -> Result<(), PeerMisbehaviour> {
        self.stashed = 0;
        let mut from = 0;
        while let Some(offset) = ledger.next_posted(from) {
            from = offset + 1;
            let Some(item) = Item::new(offset) else { continue };
            if nic.rx_room() > 0 {
                self.post(nic, ledger, item);
            } else {
                self.give_up(ledger, item)?;
            }
        }
        Ok(())
    }

    fn post<N: Nic>(&self, nic: &mut N, ledger: &Ledger, item: Item) {
        let cluster = self.mapped.view().find(item).and_then(|(located, _)| ledger.posted_cluster(located));
        if let Some(cluster) = cluster {
            nic.rx_post(item.get() + self.tag, self.mapped.phys(cluster));
        }
    }

    /// The device is stopped: of the pairs that it was to receive into, as many as find room are at hand, and the others go back to the server.
    #[cold]
    pub fn regain(&mut self, ledger: &mut Ledger) -> Result<(), PeerMisbehaviour> {
        self.stashed = 0;
        let mut from = 0;
        while let Some(offset) = ledger.next_posted(from) {
            from = offset + 1;
            let Some(item) = Item::new(offset) else { continue };
            if self.stashed < BATCH {
                self.stash[self.stashed] = item;
                self.stashed += 1;
            } else {
                self.give_up(ledger, item)?;
            }
        }
        Ok(())
    }

    /// Gives a pair that is in no ring back to the server.
    fn give_up(&mut self, ledger: &mut Ledger, item: Item) -> Result<(), PeerMisbehaviour> {
        if let Some((located, _)) = self.mapped.view().find(item) {
            ledger.deliver(located);
        }
        self.defer(item)
    }

    /// Fills the stash from the pools; whether there is something in it then.
    #[cold]
    pub fn fill_stash(&mut self, ledger: &mut Ledger) -> Result<bool, PeerMisbehaviour> {
        let (stash, stashed) = (&mut self.stash, &mut self.stashed);
        let missing = (BATCH - *stashed) as u32;
        self.space.try_alloc_cluster_batch(missing, ledger, |mbuf, _| {
            stash[*stashed % BATCH] = mbuf;
            *stashed += 1;
        })?;
        Ok(self.stashed != 0)
    }

    /// Puts a pair of the stash into the receive ring, where there is room. `false`: the stash is empty.
    pub fn post_one<N: Nic>(&mut self, nic: &mut N, ledger: &Ledger) -> bool {
        let Some(top) = self.stashed.checked_sub(1) else { return false };
        self.stashed = top;
        self.post(nic, ledger, self.stash[top % BATCH]);
        true
    }

    /// Puts all of the stash into the receive ring; what finds no room there goes back to the server.
    pub fn post_stash<N: Nic>(&mut self, nic: &mut N, ledger: &mut Ledger) -> Result<(), PeerMisbehaviour> {
        while nic.rx_room() > 0 && self.post_one(nic, ledger) {}
        while let Some(top) = self.stashed.checked_sub(1) {
            self.stashed = top;
            self.give_up(ledger, self.stash[top % BATCH])?;
        }
        Ok(())
    }
}
