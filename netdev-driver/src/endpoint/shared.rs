//! Several windows on one device: received frames are copied out of buffers of the kernel's own, each into the window that it is for; the
//! windows take turns to send.
//!
//! A server that misbehaves is noted ([`Slot::note`]) and left alone until the kernel closes its window; the others go on in the same pass.

use abi::counters::Counter;
use mbuf::Flags;
use shmqueue::{
    Drained, Item,
    queue::{Produce, ProduceError},
    sync::full_fence,
};

use super::{
    BATCH, BUDGET, Counts, Endpoint, Mode, Outcome, PRIVATE, SWITCHES, Slot, TAG_SHIFT, WINDOWS_MAX,
    receive::{REFILL_AT, Refusal, examine},
};
use crate::{
    claims::recipients,
    demux::Family,
    nic::{Nic, RxDone, SEGMENTS_MAX},
    private::{self, PrivateFrame},
};

/// Frames that a window sends before it is another's turn.
pub const SHARE: u32 = 64;
/// Turns of each window in one call.
const ROUNDS: u32 = 16;

/// Frames on their way to one queue of one window.
#[derive(Clone, Copy)]
struct Run {
    length: usize,
    family: Family,
    /// A bit for each queue that got something.
    touched: u32,
}

type Runs = [Run; WINDOWS_MAX];

impl<N: Nic> Endpoint<'_, N> {
    /// As [`Endpoint::poll`], while several windows are open, or one that is not the sole one yet; out of the way of the code for one.
    #[inline(never)]
    pub(super) fn poll_shared(&mut self) -> Outcome {
        if self.mode == Mode::Closed {
            return Outcome::default();
        }
        let mut outcome = Outcome { resume: self.receive_shared(), ..Outcome::default() };
        if self.anyone_sends() {
            self.counts.add(Counter::OutOnInterrupt, 1);
            outcome.resume |= self.transmit_shared();
        } else if self.nic.tx_in_flight() != 0 {
            outcome.resume |= self.reap_shared();
        }
        self.become_sole();
        self.take_bogus();
        self.with_faults(outcome)
    }

    /// As [`Endpoint::start`].
    #[inline(never)]
    pub(super) fn start_shared(&mut self) -> Outcome {
        if self.mode == Mode::Closed {
            return Outcome::default();
        }
        let outcome = Outcome { resume: self.transmit_shared(), ..Outcome::default() };
        self.with_faults(outcome)
    }

    /// Adds what windows have left behind to an outcome: that they are not done, and the first of those whose server misbehaved. The next one
    /// is told at the next call, which is soon.
    pub(super) fn with_faults(&mut self, mut outcome: Outcome) -> Outcome {
        for (at, slot) in self.slots.iter_mut().enumerate() {
            let Some(slot) = slot else { continue };
            if let Some(open) = &mut slot.open {
                outcome.again |= core::mem::take(&mut open.again);
            }
            match (slot.fault, outcome.misbehaviour) {
                (None, _) => {}
                (Some(_), Some(_)) => outcome.again |= outcome.culprit != at,
                (Some(fault), None) => (outcome.misbehaviour, outcome.culprit) = (Some(fault), at),
            }
        }
        outcome
    }

    /// Fills the receive ring with the kernel's own buffers.
    pub(super) fn post_private(&mut self) {
        let Some(private) = &self.private else { return };
        for number in 0..self.nic.rx_room().min(private::BUFFERS) {
            self.nic.rx_post(PRIVATE | number, private.phys(number));
            self.private_posted += 1;
        }
    }

    /// Receives for all windows; a bit for each whose server is to be resumed.
    fn receive_shared(&mut self) -> u32 {
        let mut runs = [Run { length: 0, family: Family::Ipv4, touched: 0 }; WINDOWS_MAX];
        let mut done = false;
        for _ in 0..BUDGET / BATCH as u32 {
            let taken = self.receive_batch(&mut runs);
            self.nic.rx_commit();
            done = taken < BATCH && !self.nic.rx_rearm();
            if done {
                break;
            }
        }
        if !done && !self.nic.rx_spent() {
            self.ask_again();
        }
        // One FENCE behind all appends; it pairs with the fence in `InConsumer::set_idle`.
        full_fence();
        let mut resume = 0;
        for (at, (slot, run)) in self.slots.iter_mut().zip(&runs).enumerate() {
            if let Some(Some((open, _))) = slot.as_mut().map(Slot::parts)
                && run.touched != 0
            {
                resume |= u32::from(open.wake_fenced(run.touched, &mut self.counts)) << at;
            }
        }
        resume
    }

    /// Takes a batch off the ring; how many buffers there were.
    fn receive_batch(&mut self, runs: &mut Runs) -> usize {
        let (count, first) = self.opened();
        let alone = first.filter(|_| count == 1);
        // Its clusters come into the ring, unless windows open and close too often for that.
        let lender = alone.filter(|_| self.switches < SWITCHES);
        let mut taken = 0;
        while taken < BATCH
            && let Some(done) = self.nic.rx_poll()
        {
            taken += 1;
            if done.token & PRIVATE == 0 {
                self.take_own(alone, done, runs);
                continue;
            }
            let number = done.token & !PRIVATE;
            self.private_posted = self.private_posted.saturating_sub(1);
            self.distribute(alone, number, done, runs);
            self.replace(lender, number);
        }
        for (slot, run) in self.slots.iter_mut().zip(runs) {
            if let Some(slot) = slot {
                slot.flush(&mut self.counts, run);
            }
        }
        if let Some(at) = lender
            && let Some(slot) = &mut self.slots[at]
            && let Some((open, ledger)) = slot.parts()
            && let Err(misbehaviour) = open.refill(&mut self.nic, ledger, REFILL_AT)
        {
            slot.note(misbehaviour);
        }
        taken
    }

    /// Copies a frame out of a buffer of the kernel's into each window that it is for, and counts what became of it.
    fn distribute(&mut self, alone: Option<usize>, number: u32, done: RxDone, runs: &mut Runs) {
        let Some(private) = &self.private else { return };
        let frame = private.frame(number);
        let counts = &mut self.counts;
        let (family, flags) = match examine(done, |index| frame.word(index)) {
            Ok(found) => found,
            Err(Refusal::Fragment) => return,
            Err(Refusal::Bogus) => return counts.add(Counter::BogusCompletions, 1),
            Err(Refusal::Dropped(cause)) => return counts.add_frame(done.len, cause),
        };
        let to = match alone {
            Some(at) => 1 << at,
            None => {
                let windows = self.slots.iter().enumerate().filter_map(|(at, slot)| {
                    let slot = slot.as_ref()?;
                    slot.open.as_ref().map(|_| (1 << at, &slot.claims))
                });
                recipients(family, |index| frame.word(index), &windows)
            }
        };
        if to == 0 {
            return counts.add_frame(done.len, Counter::DropUnclaimed);
        }
        let (mut copies, mut missed) = (0, 0);
        for (at, (slot, run)) in self.slots.iter_mut().zip(runs).enumerate() {
            if to & 1 << at == 0 {
                continue;
            }
            let copied = match slot {
                Some(slot) => slot.copy_in(counts, run, frame, done.len, family, flags),
                None => false,
            };
            if copied { copies += 1 } else { missed += 1 }
        }
        counts.add(Counter::WindowCopies, copies);
        counts.add(Counter::WindowCopiedBytes, copies * u64::from(done.len));
        if copies == 0 {
            return counts.add_frame(done.len, Counter::DropNoBuffer);
        }
        counts.add_frame(done.len, Counter::DELIVERED[family as usize]);
        counts.add(Counter::DeliveredAgain, copies - 1);
        counts.add(Counter::MissedCopies, missed);
    }

    /// Puts a buffer of the kernel's back into the ring, or in its place one of the window that is alone.
    fn replace(&mut self, lender: Option<usize>, number: u32) {
        if let Some(at) = lender
            && let Some(slot) = &mut self.slots[at]
            && slot.has_stash()
            && let Some((open, ledger)) = slot.parts()
            && open.post_one(&mut self.nic, ledger)
        {
            return;
        }
        if let Some(private) = &self.private {
            self.nic.rx_post(PRIVATE | number, private.phys(number));
            self.private_posted += 1;
        }
    }

    /// A cluster of the window that is alone came back with a frame: nothing is copied.
    fn take_own(&mut self, alone: Option<usize>, done: RxDone, runs: &mut Runs) {
        let mut lendable = 0;
        let taken = alone.and_then(|at| Some((at, self.slots[at].as_mut()?)));
        let Some((at, slot)) = taken else { return self.counts.add(Counter::BogusCompletions, 1) };
        let Some((open, ledger)) = slot.parts() else {
            return self.counts.add_frame(done.len, Counter::DropNoWindow);
        };
        lendable += self.nic.rx_posted().saturating_sub(open.rx_low_water);
        match open.look(ledger, done, &mut lendable) {
            Ok((item, family)) => {
                self.counts.add_frame(done.len, Counter::DELIVERED[family as usize]);
                slot.append(&mut self.counts, &mut runs[at], item, family);
            }
            Err(refusal) => open.refuse(&mut self.nic, ledger, &mut self.counts, done, &refusal),
        }
    }

    /// One window is left, and none of the kernel's own buffers is in the ring any more, nor a frame of a window that was closed: from now on it
    /// has the device for itself.
    fn become_sole(&mut self) {
        let (count, Some(at)) = self.opened() else { return };
        let orphans: u32 = self.slots.iter().flatten().map(|slot| slot.orphans).sum();
        if self.mode != Mode::Shared || count != 1 || self.private_posted != 0 || orphans != 0 {
            return;
        }
        let Some(slot) = &mut self.slots[at] else { return };
        let Some((open, ledger)) = slot.parts() else { return };
        if let Err(misbehaviour) = open.post_stash(&mut self.nic, ledger) {
            slot.note(misbehaviour);
            return;
        }
        self.nic.rx_commit();
        self.mode = Mode::Sole(at);
    }

    /// Whether a window has something on its OUT queue.
    fn anyone_sends(&mut self) -> bool {
        self.slots.iter_mut().flatten().filter_map(Slot::parts).any(|(open, _)| open.out_waits())
    }

    /// The windows that have something to send do so in turn, a share each; a bit for each whose server waits for buffers, and got some.
    fn transmit_shared(&mut self) -> u32 {
        let mut wanted = 0;
        for _ in 0..ROUNDS {
            let (mut busy, mut full) = (false, false);
            for step in 0..WINDOWS_MAX {
                let at = (self.turn + step) % WINDOWS_MAX;
                let Some(slot) = &mut self.slots[at] else { continue };
                let Some((open, ledger)) = slot.parts() else { continue };
                if !open.out_waits() {
                    continue;
                }
                match open.drain(&mut self.nic, ledger, &mut self.counts, SHARE) {
                    Ok((drained, refused)) => {
                        open.busy = drained != Drained::Idle;
                        wanted |= u32::from(refused && open.space.wanted()) << at;
                        busy |= open.busy;
                        full = !self.nic.tx_room(SEGMENTS_MAX);
                    }
                    Err(misbehaviour) => slot.note(misbehaviour),
                }
                if full {
                    // The next one is the first when there is room again.
                    self.turn = (at + 1) % WINDOWS_MAX;
                    break;
                }
            }
            wanted |= self.reap_shared();
            busy |= full && self.anyone_sends();
            if !busy {
                break;
            }
            if !self.nic.tx_room(SEGMENTS_MAX) && !self.nic.tx_interrupt(true) {
                // The device stays busy; its interrupt goes on from here.
                return wanted;
            }
        }
        let target =
            self.slots.iter().flatten().filter_map(|slot| slot.open.as_ref()).map(|open| open.rx_target);
        let many = self.nic.tx_in_flight() * 4 >= target.max().unwrap_or(0);
        if self.nic.tx_interrupt(many) {
            wanted |= self.reap_shared();
        }
        if self.anyone_sends() {
            self.ask_again();
        }
        wanted
    }

    /// Gives the buffers of frames that have left back, each to its window; the bits are those of [`Self::transmit_shared`].
    fn reap_shared(&mut self) -> u32 {
        let (mut orphans, mut wanted) = ([0; WINDOWS_MAX], 0);
        {
            let mut returns = self.slots.each_mut().map(|slot| {
                let slot = slot.as_mut()?;
                Some(slot.open.as_mut()?.returns(slot.ledger, slot.fault))
            });
            self.nic.tx_reap(|token| {
                let at = (token >> TAG_SHIFT) as usize % WINDOWS_MAX;
                match &mut returns[at] {
                    Some(returns) => returns.push(token),
                    None => orphans[at] += 1,
                }
            });
            let mut faults = [None; WINDOWS_MAX];
            for (at, returns) in returns.into_iter().enumerate() {
                match returns.map(super::transmit::Returns::finish) {
                    None => {}
                    Some(Ok(waits)) => wanted |= u32::from(waits) << at,
                    Some(Err(misbehaviour)) => faults[at] = Some(misbehaviour),
                }
            }
            for (slot, fault) in self.slots.iter_mut().zip(faults) {
                if let (Some(slot), Some(fault)) = (slot, fault) {
                    slot.note(fault);
                }
            }
        }
        for (slot, left) in self.slots.iter_mut().zip(orphans) {
            self.orphans_reaped += u64::from(left);
            if let Some(slot) = slot {
                slot.orphans = slot.orphans.saturating_sub(left);
            }
        }
        wanted
    }

    /// Poll again, although no interrupt comes.
    fn ask_again(&mut self) {
        if let Some(open) = self.slots.iter_mut().flatten().find_map(|slot| slot.open.as_mut()) {
            open.again = true;
        }
    }
}

impl Slot<'_> {
    /// Copies a frame into a cluster of this window, and puts it on the run; `false` if the server has left no buffer for it.
    #[inline]
    fn copy_in(
        &mut self,
        counts: &mut Counts,
        run: &mut Run,
        frame: PrivateFrame<'_>,
        bytes: u32,
        family: Family,
        flags: Flags,
    ) -> bool {
        if !self.has_stash() {
            return false;
        }
        let Some((open, ledger)) = self.parts() else { return false };
        let Some(top) = open.stashed.checked_sub(1) else { return false };
        open.stashed = top;
        let item = open.stash[top % BATCH];
        let Some((located, mbuf)) = open.mapped.view().find(item) else { return false };
        let Some(index) = ledger.deliver(located) else { return false };
        let Some(offset) = open.mapped.fill(index, frame, bytes) else { return false };
        mbuf.set_packet(offset, bytes, flags);
        self.append(counts, run, item, family);
        true
    }

    /// Whether there is a pair at hand to receive into, from the pools if need be.
    #[inline]
    fn has_stash(&mut self) -> bool {
        let Some((open, ledger)) = self.parts() else { return false };
        if open.stashed != 0 {
            return true;
        }
        match open.fill_stash(ledger) {
            Ok(filled) => filled,
            Err(misbehaviour) => {
                self.note(misbehaviour);
                false
            }
        }
    }

    /// Adds a frame that is counted as delivered to the run, which goes onto its queue first if it is full or of another family.
    #[inline]
    fn append(&mut self, counts: &mut Counts, run: &mut Run, item: Item, family: Family) {
        if run.length == BATCH || run.family != family {
            self.flush(counts, run);
            run.family = family;
        }
        if let Some(open) = &mut self.open {
            open.run[run.length % BATCH] = item;
            run.length += 1;
        }
    }

    /// Puts the run on its queue: one lock for all of it.
    #[inline]
    fn flush(&mut self, counts: &mut Counts, run: &mut Run) {
        let length = core::mem::take(&mut run.length).min(BATCH);
        let Some(open) = &mut self.open else { return };
        if length == 0 {
            return;
        }
        let produced = match self.fault {
            None => open.input[run.family as usize].produce_batch(&open.run[..length]),
            Some(fault) => Err(ProduceError::Peer(fault)),
        };
        let taken = produced.unwrap_or(0);
        if taken != 0 {
            run.touched |= 1 << run.family as u32;
        }
        if taken != length {
            self.undeliver(counts, run.family, taken..length, produced);
        }
    }

    /// The queue did not take these frames of the run, as only that of a server that lies can do: they are dropped after all.
    #[cold]
    fn undeliver(
        &mut self,
        counts: &mut Counts,
        family: Family,
        frames: core::ops::Range<usize>,
        produced: Result<usize, ProduceError>,
    ) {
        let lost = frames.len() as u64;
        let cause = match produced {
            Err(ProduceError::Peer(misbehaviour)) => {
                self.note(misbehaviour);
                Counter::DropNoWindow
            }
            Ok(_) | Err(ProduceError::Full) => Counter::DropQueueFull,
            Err(_) => Counter::DropQueueLocked,
        };
        counts.take(Counter::DELIVERED[family as usize], lost);
        counts.add(cause, lost);
        // Back into the stash they came from, as far as that was not filled again; the rest is the server's loss.
        if let Some((open, ledger)) = self.parts() {
            for at in frames {
                let item = open.run[at % BATCH];
                if open.stashed < BATCH && ledger.deliver_not(item.get()).is_some() {
                    open.stash[open.stashed] = item;
                    open.stashed += 1;
                }
            }
        }
    }
}
