//! The kernel's end of the window, in front of a network device (R&H, "Queues", "Free Space").
//!
//! | | what it does | source |
//! | --- | --- | --- |
//! | [`receive`](self) | receive ring -> demultiplexer -> IN queues; pools -> receive ring | R&H, "Early Demultiplexing" |
//! | [`transmit`](self) | OUT queue -> transmit ring -> pools or deferred-free queue | R&H, "Queues", "Free Space" |
//! | [`shared`](self) | the same, when several windows are open | [`crate::claims`] |
//! | [`windows`](self) | how windows open and close, and what their servers claim | |
//!
//! Several servers may each have a window of their own. While one window is open its clusters are the receive ring: nothing is copied. With
//! two or more, the ring holds buffers of the kernel's own, and each frame is copied once, into the window that it is for; to send still costs
//! no copy. When one alone is left, its clusters take the buffers' places one by one, as these come back.
//!
//! Key type: [`Endpoint`]. All of it runs in the interrupt handler, in a trap, or in the timer's tick, which the kernel serialises: it is "the
//! interrupt side" of `shmqueue` and `mbuf`. Every loop is bounded by a budget or by a ring. What the server wrote and cannot be is
//! answered by [`Outcome::misbehaviour`]; the caller then closes the window and ends the server.

use abi::{
    counters::{COUNT, Counter},
    device::{Audit, NetInfo, offload},
    window::{Config, ConfigError, Layout},
};
use shmqueue::PeerMisbehaviour;

use crate::{
    claims::Claims,
    demux::FRAME_BYTES_MAX,
    hal::{DmaRegion, Window},
    ledger::Ledger,
    nic::{Nic, NicError},
    private::Private,
};

use open::Open;

mod open;
mod receive;
mod shared;
mod transmit;
mod windows;

pub use crate::private::BYTES as PRIVATE_BYTES;
pub(crate) use receive::{cause, trouble};
pub(crate) use transmit::checksum_fits;

/// A device that has frames to send and sends none for so long, in ns, is reset.
pub const STUCK_NS: u64 = 2_000_000_000;
/// Frames that are received, or sent, in one interrupt or trap, at most (whole batches of 64).
pub const BUDGET: u32 = 512;
/// Frames that go through the steps together.
pub(crate) const BATCH: usize = 64;
/// Times that the device is stopped to take a window's clusters out of its receive ring because another window opens. From then on the kernel's
/// own buffers stay there, whoever is alone: else a task that opens and closes a window over and over would keep the device from the others.
const SWITCHES: u32 = 4;
/// Windows that a device can have, each for a server of its own.
pub const WINDOWS_MAX: usize = 4;
/// A buffer's token is its mbuf's offset in the window, and above that the window's number. With the highest bit it is the number of one of the
/// kernel's own buffers.
const TAG_SHIFT: u32 = 28;
const OFFSET_MASK: u32 = (1 << TAG_SHIFT) - 1;
const PRIVATE: u32 = 1 << 31;

const _: () = {
    let Ok(layout) = Config::LARGEST.layout() else { panic!() };
    assert!(layout.bytes <= OFFSET_MASK && (WINDOWS_MAX as u32) << TAG_SHIFT <= PRIVATE);
};

/// What the kernel is to do after an interrupt, a start or a tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Outcome {
    /// Resume these servers' threads, a bit for each window: they are idle and there is something for them.
    pub resume: u32,
    /// There is more to do than one call does, and no interrupt will come for it: call [`Endpoint::poll`] soon, at the next tick.
    pub again: bool,
    /// The server of the window [`culprit`](Self::culprit) wrote what cannot be: close that window, end the task.
    pub misbehaviour: Option<PeerMisbehaviour>,
    /// Whose misbehaviour it is.
    pub culprit: usize,
}

/// Why a window does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// It is open; or frames of the time before are still on their way; or another is open, and there are no buffers for several.
    Busy,
    /// There are not so many windows.
    None,
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

    /// A frame of so many bytes that the device took off the wire, and what became of it.
    #[inline(always)]
    pub fn add_frame(&mut self, bytes: u32, became: Counter) {
        self.add(Counter::FramesIn, 1);
        self.add(Counter::BytesIn, u64::from(bytes));
        self.add(became, 1);
    }

    /// Takes back what was added before, in the same pass.
    #[cold]
    pub fn take(&mut self, counter: Counter, n: u64) {
        self.0[counter as usize] -= n;
    }
}

/// A device with the kernel's ends of its windows.
pub struct Endpoint<'w, N> {
    nic: N,
    layout: Layout,
    slots: [Option<Slot<'w>>; WINDOWS_MAX],
    mode: Mode,
    /// Where frames are received while several windows are open; without it, one at a time is.
    private: Option<Private>,
    /// Of the receive ring's buffers, those that are private.
    private_posted: u32,
    /// How often the device was stopped because a window opened beside others.
    switches: u32,
    /// The window that is the first to send next, while several are open.
    turn: usize,
    /// Frames that have left, of windows that were closed meanwhile.
    orphans_reaped: u64,
    counts: Counts,
    watchdog: Watchdog,
}

/// What is in the receive ring.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Nothing: no window is open.
    Closed,
    /// Clusters of the only window that is open.
    Sole(usize),
    /// Buffers of the kernel's own. Where one window alone is left, clusters of that one as well: then it is soon the sole one.
    Shared,
}

/// A window: its memory, its ledger, and while it is open the ends of its queues.
struct Slot<'w> {
    window: Window,
    ledger: &'w mut Ledger,
    generation: u32,
    open: Option<Open<'w>>,
    claims: Claims,
    /// What its server did, until it is closed for it.
    fault: Option<PeerMisbehaviour>,
    /// Frames in the transmit ring that it had when it was closed.
    orphans: u32,
}

impl<'w> Slot<'w> {
    fn new(window: Window, layout: &Layout, ledger: &'w mut Ledger) -> Result<Self, ConfigError> {
        if layout.bytes as usize > window.bytes() {
            return Err(ConfigError::TooLarge);
        }
        ledger.close();
        let claims = Claims::default();
        Ok(Self { window, ledger, generation: 0, open: None, claims, fault: None, orphans: 0 })
    }

    /// Notes what a server must not have done; the first thing counts.
    #[cold]
    fn note(&mut self, misbehaviour: PeerMisbehaviour) {
        self.fault.get_or_insert(misbehaviour);
    }

    /// The window as long as its server behaves, and its ledger.
    #[inline]
    fn parts(&mut self) -> Option<(&mut Open<'w>, &mut Ledger)> {
        if self.fault.is_some() {
            return None;
        }
        Some((self.open.as_mut()?, self.ledger))
    }
}

#[derive(Default)]
pub(crate) struct Watchdog {
    pub reaped: u64,
    pub since_ns: u64,
    /// The device did not start again.
    pub failed: bool,
}

impl<'w, N: Nic> Endpoint<'w, N> {
    /// The end of a window in the memory `window`, closed.
    ///
    /// # Errors
    /// The numbers do not make a window, or one that is larger than the memory ([`ConfigError::TooLarge`]).
    pub fn new(nic: N, window: Window, config: Config, ledger: &'w mut Ledger) -> Result<Self, ConfigError> {
        let layout = config.layout()?;
        let slots = [Some(Slot::new(window, &layout, ledger)?), None, None, None];
        Ok(Self {
            nic,
            layout,
            slots,
            mode: Mode::Closed,
            private: None,
            private_posted: 0,
            switches: 0,
            turn: 0,
            orphans_reaped: 0,
            counts: Counts([0; COUNT]),
            watchdog: Watchdog::default(),
        })
    }

    /// Buffers to receive into while several windows are open, [`crate::endpoint::PRIVATE_BYTES`] of memory.
    ///
    /// # Errors
    /// [`NicError::NoMemory`]: it is less.
    pub fn set_private(&mut self, memory: &DmaRegion) -> Result<(), NicError> {
        self.private = Some(Private::new(memory).ok_or(NicError::NoMemory)?);
        Ok(())
    }

    /// One more window, of the same shape; its number.
    ///
    /// # Errors
    /// [`ConfigError::TooLarge`]: the memory is too small, or there are [`WINDOWS_MAX`].
    pub fn add_window(&mut self, window: Window, ledger: &'w mut Ledger) -> Result<usize, ConfigError> {
        let at = self.slots.iter().position(Option::is_none).ok_or(ConfigError::TooLarge)?;
        self.slots[at] = Some(Slot::new(window, &self.layout, ledger)?);
        Ok(at)
    }

    /// How many windows there are, open or not.
    pub fn windows(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    /// Where everything is in a window.
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The memory of a window.
    pub fn window(&self, at: usize) -> Option<&Window> {
        self.slots.get(at)?.as_ref().map(|slot| &slot.window)
    }

    /// The device.
    pub const fn nic(&self) -> &N {
        &self.nic
    }

    /// Whether a window is open.
    pub fn is_open(&self, at: usize) -> bool {
        self.slots.get(at).and_then(Option::as_ref).is_some_and(|slot| slot.open.is_some())
    }

    /// How many windows are open, and the first of them.
    fn opened(&self) -> (usize, Option<usize>) {
        let mut open = (0..WINDOWS_MAX).filter(|&at| self.is_open(at));
        let first = open.next();
        (open.count() + usize::from(first.is_some()), first)
    }

    /// The device interrupts: reads why, once, and does what [`poll`](Self::poll) does.
    #[inline]
    pub fn interrupt(&mut self) -> Outcome {
        if !self.nic.acknowledge_interrupt() {
            return Outcome::default();
        }
        self.poll()
    }

    /// The only window that is open, if its clusters are the receive ring.
    #[inline(always)]
    fn sole(&mut self) -> Option<(usize, &mut N, &mut Open<'w>, &mut Ledger, &mut Counts)> {
        let Mode::Sole(at) = self.mode else { return None };
        let slot = self.slots[at % WINDOWS_MAX].as_mut()?;
        Some((at, &mut self.nic, slot.open.as_mut()?, slot.ledger, &mut self.counts))
    }

    /// Receives, reaps what was sent, and looks at the OUT queues (R&H, "Summary": "another opportunity is when a message is received").
    #[inline]
    pub fn poll(&mut self) -> Outcome {
        let Some((at, nic, open, ledger, counts)) = self.sole() else { return self.poll_shared() };
        let outcome = open.poll(nic, ledger, counts).at(at);
        self.take_bogus();
        outcome
    }

    /// The server put frames on the OUT queue of an idle device (R&H's `device_start`).
    #[inline]
    pub fn start(&mut self, from: usize) -> Outcome {
        self.counts.add(Counter::DeviceStarts, 1);
        let Some((at, nic, open, ledger, counts)) = self.sole() else { return self.start_shared() };
        if at != from {
            return Outcome::default();
        }
        let sent = open.transmit(nic, ledger, counts);
        open.passed(sent).at(at)
    }

    /// To be called some times a second: buffers come back from a device that does not interrupt for them, and a device that stands still is reset.
    pub fn watchdog(&mut self, now_ns: u64) -> Outcome {
        if self.mode == Mode::Closed {
            return Outcome::default();
        }
        let mut outcome = self.poll();
        let reaped = self.reaped();
        let watchdog = &mut self.watchdog;
        if !watchdog.failed && (self.nic.tx_in_flight() == 0 || reaped != watchdog.reaped) {
            (watchdog.reaped, watchdog.since_ns) = (reaped, now_ns);
        } else if now_ns.saturating_sub(watchdog.since_ns) >= STUCK_NS {
            watchdog.since_ns = now_ns;
            self.counts.add(Counter::DeviceResets, 1);
            self.nic.quiesce();
            outcome.resume |= self.take_back();
            self.watchdog.failed = self.restart().is_err();
            outcome = self.with_faults(outcome);
        }
        self.take_bogus();
        outcome
    }

    /// Frames that have left.
    fn reaped(&self) -> u64 {
        let open = self.slots.iter().flatten().filter_map(|slot| slot.open.as_ref());
        open.map(Open::reaped).sum::<u64>() + self.orphans_reaped
    }

    #[inline(always)]
    fn take_bogus(&mut self) {
        self.counts.add(Counter::BogusCompletions, u64::from(self.nic.take_bogus()));
    }

    /// Describes the device.
    pub fn info(&self) -> NetInfo {
        describe(&self.nic, offload::RX_IPV4_HEADER, self.layout.bytes)
    }

    /// The ledger of a window, summed.
    pub fn audit(&self, at: usize) -> Audit {
        self.slots.get(at).and_then(Option::as_ref).map_or_else(Audit::default, |slot| slot.ledger.audit())
    }

    /// Adds the driver's counters to the kernel's.
    pub fn counters(&self, counters: &mut [u64; COUNT]) {
        let mut all = Counts(self.counts.0);
        for open in self.slots.iter().flatten().filter_map(|slot| slot.open.as_ref()) {
            open.add_stats(&mut all);
        }
        for (sum, n) in counters.iter_mut().zip(all.0) {
            *sum += n;
        }
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
