//! The kernel's end of the window, in front of a network device (R&H, "Queues", "Free Space").
//!
//! | | what it does | source |
//! | --- | --- | --- |
//! | [`receive`](self) | receive ring -> demultiplexer -> IN queues; pools -> receive ring | R&H, "Early Demultiplexing" |
//! | [`transmit`](self) | OUT queue -> transmit ring -> pools or deferred-free queue | R&H, "Queues", "Free Space" |
//!
//! Key type: [`Endpoint`]. All of it runs in the interrupt handler, in a trap, or in the timer's tick, which the kernel serialises: it is "the
//! interrupt side" of `shmqueue` and `mbuf`. Every loop is bounded by a budget or by a ring. What the server wrote and cannot be is
//! answered by [`Outcome::misbehaviour`]; the caller then closes the window and ends the server.

use abi::{
    counters::{COUNT, Counter},
    device::{Audit, NetInfo, offload},
    window::{Config, ConfigError, Layout, Queue},
};
use mbuf::InterruptSpace;
use shmqueue::{
    Item, PeerMisbehaviour,
    queue::{Drain, Produce},
};

use crate::{
    demux::FRAME_BYTES_MAX,
    hal::Window,
    ledger::Ledger,
    nic::{Nic, NicError},
    window::{Input, Mapped, Output},
};

mod receive;
mod transmit;

pub(crate) use receive::{cause, trouble};
pub(crate) use transmit::checksum_fits;

/// A device that has frames to send and sends none for so long, in ns, is reset.
pub const STUCK_NS: u64 = 2_000_000_000;
/// Frames that are received, or sent, in one interrupt or trap, at most (whole batches of 64).
pub const BUDGET: u32 = 512;
/// Frames that go through the steps together.
pub(crate) const BATCH: usize = 64;

/// What the kernel is to do after an interrupt, a start or a tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Outcome {
    /// Resume the server's thread: it is idle and there is something for it.
    pub resume: bool,
    /// There is more to do than one call does, and no interrupt will come for it: call [`Endpoint::poll`] soon, at the next tick.
    pub again: bool,
    /// The server wrote what cannot be: close the window, end the task.
    pub misbehaviour: Option<PeerMisbehaviour>,
}

/// Why a window does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// One is open.
    Busy,
    /// The memory is too small for it.
    TooSmall,
    /// The device does not start.
    Nic(NicError),
}

/// The kernel's counters, as far as they are ours.
pub(crate) struct Counts(pub [u64; COUNT]);

impl Counts {
    #[inline(always)]
    pub fn add(&mut self, counter: Counter, n: u64) {
        self.0[counter as usize] += n;
    }
}

/// A device with its end of the window.
pub struct Endpoint<'w, N> {
    nic: N,
    window: Window,
    layout: Layout,
    generation: u32,
    ledger: &'w mut Ledger,
    open: Option<Open<'w>>,
    counts: Counts,
    watchdog: Watchdog,
}

/// What there is while a window is open.
struct Open<'w> {
    mapped: Mapped<'w>,
    space: InterruptSpace<'w>,
    input: [Input<'w>; 4],
    out: Output<'w>,
    deferred: Input<'w>,
    /// Buffers that the receive ring is to have, and below which nothing is lent to the server.
    rx_target: u32,
    rx_low_water: u32,
    /// Received frames on their way to one queue.
    run: [Item; BATCH],
    /// Frames that have left, on their way to the pools; those that no pool takes.
    sent: [Item; BATCH],
    unfreed: [Item; BATCH],
    /// Frames that have left since the window was opened, for the watchdog.
    reaped: u64,
    /// The last drain ended before the OUT queue did.
    busy: bool,
    /// Poll again although no interrupt comes.
    again: bool,
}

#[derive(Default)]
pub(crate) struct Watchdog {
    pub reaped: u64,
    pub since_ns: u64,
    /// The device did not start again.
    pub failed: bool,
}

const PLACEHOLDER: Item = match Item::new(1) {
    Some(item) => item,
    None => unreachable!(),
};

impl<'w, N: Nic> Endpoint<'w, N> {
    /// The end of a window in the memory `window`, closed.
    ///
    /// # Errors
    /// The numbers do not make a window, or one that is larger than the memory ([`ConfigError::TooLarge`]).
    pub fn new(nic: N, window: Window, config: Config, ledger: &'w mut Ledger) -> Result<Self, ConfigError> {
        let layout = config.layout()?;
        if layout.bytes as usize > window.bytes() {
            return Err(ConfigError::TooLarge);
        }
        ledger.close();
        let (counts, watchdog) = (Counts([0; COUNT]), Watchdog::default());
        Ok(Self { nic, window, layout, generation: 0, ledger, open: None, counts, watchdog })
    }

    /// Where everything is in the window.
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The memory of the window.
    pub const fn window(&self) -> &Window {
        &self.window
    }

    /// The device.
    pub const fn nic(&self) -> &N {
        &self.nic
    }

    /// Whether a window is open.
    pub const fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Lays the window out afresh and starts the device.
    ///
    /// # Errors
    /// See [`OpenError`]; the window then stays closed.
    pub fn open(&mut self) -> Result<(), OpenError> {
        if self.open.is_some() {
            return Err(OpenError::Busy);
        }
        self.nic.quiesce();
        self.generation = self.generation.wrapping_add(1).max(1);
        let mapped = Mapped::open(&self.window, &self.layout, self.generation).ok_or(OpenError::TooSmall)?;
        self.ledger.open(&self.layout);
        self.nic.start().map_err(OpenError::Nic)?;
        // At least half of the clusters are for sending and for what the server has in hand.
        let rx_target = self.nic.rx_room().min(self.layout.config.clusters() / 2);
        let view = *mapped.view();
        let queue = |queue| mapped.queue(&self.layout, queue);
        let mut open = Open {
            mapped,
            space: InterruptSpace::new(view),
            input: Queue::IN.map(|input| queue(input).in_producer(view)),
            out: queue(Queue::Out).out_consumer(view),
            deferred: queue(Queue::DeferredFree).in_producer(view),
            rx_target,
            rx_low_water: N::RX_LOW_WATER.min(rx_target / 2),
            run: [PLACEHOLDER; BATCH],
            sent: [PLACEHOLDER; BATCH],
            unfreed: [PLACEHOLDER; BATCH],
            reaped: 0,
            busy: false,
            again: false,
        };
        open.out.start_idle();
        // A fresh window does not lie, and all of it is free.
        let _ = open.refill(&mut self.nic, self.ledger, 1);
        self.nic.rx_commit();
        self.watchdog = Watchdog::default();
        self.open = Some(open);
        Ok(())
    }

    /// Stops the device and forgets the window; what is left in the receive ring is dropped. Without a window it does nothing.
    pub fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        for _ in 0..BUDGET {
            let Some(frame) = self.nic.rx_poll() else { break };
            if frame.status != crate::nic::RxStatus::Fragment {
                self.counts.add(Counter::FramesIn, 1);
                self.counts.add(Counter::BytesIn, u64::from(frame.len));
                self.counts.add(Counter::DropNoWindow, 1);
            }
        }
        self.nic.quiesce();
        self.ledger.close();
        open.add_stats(&mut self.counts);
        self.take_bogus();
    }

    /// The device interrupts: reads why, once, and does what [`poll`](Self::poll) does.
    #[inline]
    pub fn interrupt(&mut self) -> Outcome {
        if !self.nic.acknowledge_interrupt() {
            return Outcome::default();
        }
        self.poll()
    }

    /// Receives, reaps what was sent, and looks at the OUT queue (R&H, "Summary": "another opportunity is when a message is received").
    #[inline]
    pub fn poll(&mut self) -> Outcome {
        let Some(open) = &mut self.open else { return Outcome::default() };
        let outcome = open.poll(&mut self.nic, self.ledger, &mut self.counts);
        self.take_bogus();
        outcome
    }

    /// The server put frames on the OUT queue of an idle device (R&H's `device_start`).
    #[inline]
    pub fn start(&mut self) -> Outcome {
        self.counts.add(Counter::DeviceStarts, 1);
        let Some(open) = &mut self.open else { return Outcome::default() };
        let sent = open.transmit(&mut self.nic, self.ledger, &mut self.counts);
        open.outcome(sent)
    }

    /// To be called some times a second: buffers come back from a device that does not interrupt for them, and a device that stands still is reset.
    pub fn watchdog(&mut self, now_ns: u64) -> Outcome {
        let Some(open) = &mut self.open else { return Outcome::default() };
        let mut outcome = open.poll(&mut self.nic, self.ledger, &mut self.counts);
        let watchdog = &mut self.watchdog;
        if !watchdog.failed && (self.nic.tx_in_flight() == 0 || open.reaped != watchdog.reaped) {
            (watchdog.reaped, watchdog.since_ns) = (open.reaped, now_ns);
        } else if now_ns.saturating_sub(watchdog.since_ns) >= STUCK_NS {
            watchdog.since_ns = now_ns;
            self.counts.add(Counter::DeviceResets, 1);
            match open.reset(&mut self.nic, self.ledger) {
                Ok((started, wanted)) => {
                    watchdog.failed = !started;
                    outcome.resume |= wanted;
                }
                Err(misbehaviour) => outcome.misbehaviour = Some(misbehaviour),
            }
        }
        self.take_bogus();
        outcome
    }

    #[inline(always)]
    fn take_bogus(&mut self) {
        self.counts.add(Counter::BogusCompletions, u64::from(self.nic.take_bogus()));
    }

    /// Describes the device.
    pub fn info(&self) -> NetInfo {
        describe(&self.nic, offload::RX_IPV4_HEADER, self.layout.bytes)
    }

    /// The ledger, summed.
    pub fn audit(&self) -> Audit {
        self.ledger.audit()
    }

    /// Adds the driver's counters to the kernel's.
    pub fn counters(&self, counters: &mut [u64; COUNT]) {
        let mut all = Counts(self.counts.0);
        if let Some(open) = &self.open {
            open.add_stats(&mut all);
        }
        for (sum, n) in counters.iter_mut().zip(all.0) {
            *sum += n;
        }
    }
}

impl Open<'_> {
    #[inline]
    fn poll<N: Nic>(&mut self, nic: &mut N, ledger: &mut Ledger, counts: &mut Counts) -> Outcome {
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
        Outcome { resume, again, misbehaviour: result.err() }
    }

    fn outcome(&mut self, result: Result<bool, PeerMisbehaviour>) -> Outcome {
        let again = core::mem::take(&mut self.again);
        match result {
            Ok(resume) => Outcome { resume, again, misbehaviour: None },
            Err(misbehaviour) => Outcome { resume: false, again, misbehaviour: Some(misbehaviour) },
        }
    }

    /// What the ends of the queues have counted.
    fn add_stats(&self, counts: &mut Counts) {
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

    /// The device stands still: takes everything back, starts it again, and gives it its receive buffers. Says whether it started, and
    /// whether the server waits for buffers.
    #[cold]
    fn reset<N: Nic>(&mut self, nic: &mut N, ledger: &mut Ledger) -> Result<(bool, bool), PeerMisbehaviour> {
        nic.quiesce();
        let mut from = 0;
        while let Some(token) = ledger.next_sending(from) {
            from = token;
            ledger.release(token);
            if let Some(item) = Item::new(token) {
                self.defer(item)?;
            }
        }
        if nic.start().is_err() {
            return Ok((false, self.space.wanted()));
        }
        let mapped = self.mapped;
        ledger.each_posted(|mbuf, cluster| {
            if nic.rx_room() > 0 {
                nic.rx_post(mbuf, mapped.phys(cluster));
            }
        });
        self.refill(nic, ledger, 1)?;
        nic.rx_commit();
        Ok((true, self.space.wanted()))
    }
}

/// Describes a device that the driver adds `offload` to.
pub(crate) fn describe<N: Nic>(nic: &N, offload: u32, window_bytes: u32) -> NetInfo {
    let mut driver = [0; 16];
    let length = N::NAME.len().min(driver.len());
    driver[..length].copy_from_slice(&N::NAME.as_bytes()[..length]);
    NetInfo {
        mac: nic.mac(),
        link_up: u16::from(nic.link_up()),
        frame_bytes_max: FRAME_BYTES_MAX,
        offload: nic.offload() | offload,
        window_bytes,
        driver_length: length as u32,
        driver,
    }
}
