//! A network device with buffers of the kernel's own: no window, no ledger, no peer.
//!
//! This is what a driver in an integrated kernel does, and what a Mach 3.0 kernel does before it makes messages of frames: the paths
//! that the window is compared with. The drivers, the demultiplexer and the counters are those of [`crate::endpoint`]; nobody but the
//! kernel reaches the buffers, so there is nothing to check, to lock or to fence.
//!
//! | | what it does |
//! | --- | --- |
//! | [`receive`](self) | receive ring -> demultiplexer -> frames, lent ([`Direct::lend`]) or visited ([`Direct::receive`]) |
//! | [`transmit`](self) | frames built in place -> transmit ring -> the free list |
//! | [`DirectDevice`] | one of the devices, with its buffers: what the kernel holds |
//!
//! Buffers have the size of a window's clusters. Those that receive are all in the receive ring or lent; those that send, on the free
//! list or in the transmit ring. A buffer's token is its number and one more.
#![expect(unsafe_code, reason = "borrows the bytes of buffers that are in no ring")]

use core::ptr::NonNull;

use abi::{
    counters::{COUNT, Counter},
    device::{NetInfo, offload},
    window::CLUSTER_BYTES,
};

use crate::{
    demux::FRAME_BYTES_MAX,
    endpoint::{Counts, STUCK_NS, Watchdog, describe},
    hal::DmaRegion,
    nic::{Nic, NicError, RxStatus},
};

mod device;
mod receive;
mod transmit;

pub use device::DirectDevice;
pub use receive::{Lent, Received};
pub use transmit::PAGES_MAX;

/// The bytes of a buffer.
pub const BUFFER_BYTES: u32 = CLUSTER_BYTES;
/// Buffers to receive into, at most: as many as a ring takes.
pub const RX_BUFFERS: u32 = 256;
/// Buffers to send from.
pub const TX_BUFFERS: u32 = 256;
/// The bytes of memory that all of them need.
pub const BYTES: usize = ((RX_BUFFERS + TX_BUFFERS) * BUFFER_BYTES) as usize;

/// Where the buffers are; every buffer of one device, and no other, is named by a number below `RX_BUFFERS + TX_BUFFERS`.
#[derive(Clone, Copy, Debug)]
struct Buffers {
    base: NonNull<u8>,
    phys: u64,
}

impl Buffers {
    /// Where buffer `number` begins.
    #[inline(always)]
    fn at(&self, number: u32) -> NonNull<u8> {
        let number = number & (RX_BUFFERS + TX_BUFFERS - 1);
        // SAFETY: `Direct::new` has checked that the region holds that many buffers.
        unsafe { self.base.add((number * BUFFER_BYTES) as usize) }
    }

    /// The same, for the device.
    #[inline(always)]
    const fn phys(&self, number: u32) -> u64 {
        self.phys + (number * BUFFER_BYTES) as u64
    }
}
const _: () = assert!((RX_BUFFERS + TX_BUFFERS).is_power_of_two());

// SAFETY: a description of memory that is valid for the rest of the program; it is bound to no thread.
unsafe impl Send for Buffers {}

/// A device with buffers of its own.
pub struct Direct<N> {
    nic: N,
    buffers: Buffers,
    open: bool,
    /// Buffers that receive: all that the ring takes.
    rx_count: u32,
    /// Of these, lent.
    lent: u32,
    /// Buffers that have been given back to the ring, and of which the device does not know yet.
    untold: u32,
    /// Frames may be in the receive ring for which no interrupt comes.
    again: bool,
    /// Buffers to send from that are free, the last used on top.
    free: [u16; TX_BUFFERS as usize],
    free_count: usize,
    /// Frames that have left since the device was opened, for the watchdog.
    reaped: u64,
    /// The transmit ring was full; an interrupt says when it no longer is.
    full: bool,
    pages: transmit::Pages,
    counts: Counts,
    watchdog: Watchdog,
}

/// The buffers of a device, counted where they are. When nothing moves, `posted + lent` are all that receive, and `free +
/// transmitting` all that send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DirectAudit {
    /// Buffers that receive.
    pub receive: u32,
    /// Of these, in the receive ring.
    pub posted: u32,
    /// Of these, lent.
    pub lent: u32,
    /// Buffers to send from.
    pub transmit: u32,
    /// Of these, free.
    pub free: u32,
    /// Of these, in the transmit ring.
    pub transmitting: u32,
}

/// Why a device does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectError {
    /// It is open, or some of its buffers are still lent.
    Busy,
    /// It does not start.
    Nic(NicError),
}

impl<N: Nic> Direct<N> {
    /// A device with its buffers in `memory`, [`BYTES`] at least; it stays silent.
    ///
    /// # Errors
    /// [`NicError::NoMemory`]: the memory is too small.
    pub fn new(nic: N, memory: &DmaRegion) -> Result<Self, NicError> {
        let (base, phys, bytes) = memory.parts();
        if bytes < BYTES {
            return Err(NicError::NoMemory);
        }
        Ok(Self {
            nic,
            buffers: Buffers { base, phys },
            open: false,
            rx_count: 0,
            lent: 0,
            untold: 0,
            again: false,
            free: [0; TX_BUFFERS as usize],
            free_count: 0,
            reaped: 0,
            full: false,
            pages: transmit::Pages::default(),
            counts: Counts([0; COUNT]),
            watchdog: Watchdog::default(),
        })
    }

    /// The device.
    pub const fn nic(&self) -> &N {
        &self.nic
    }

    /// Whether it is open.
    pub const fn is_open(&self) -> bool {
        self.open
    }

    /// Starts the device.
    ///
    /// # Errors
    /// See [`DirectError`]; it then stays closed.
    pub fn open(&mut self) -> Result<(), DirectError> {
        if self.open || self.lent != 0 {
            return Err(DirectError::Busy);
        }
        self.nic.quiesce();
        self.restart().map_err(DirectError::Nic)?;
        (self.reaped, self.again, self.watchdog) = (0, false, Watchdog::default());
        self.open = true;
        Ok(())
    }

    /// Starts a device that has no buffers with all of them. Nothing is lent.
    fn restart(&mut self) -> Result<(), NicError> {
        self.nic.start()?;
        self.free_all();
        self.rx_count = self.nic.rx_room().min(RX_BUFFERS);
        for number in 0..self.rx_count {
            self.nic.rx_post(number + 1, self.buffers.phys(number));
        }
        self.untold = 0;
        self.nic.rx_commit();
        Ok(())
    }

    /// Stops the device; what is left in the receive ring is dropped. A closed one stays so.
    pub fn close(&mut self) {
        if !core::mem::take(&mut self.open) {
            return;
        }
        for _ in 0..RX_BUFFERS {
            let Some(done) = self.nic.rx_poll() else { break };
            if done.status != RxStatus::Fragment {
                self.counts.add_frame(done.len, Counter::DropNoWindow);
            }
        }
        self.nic.quiesce();
        (self.rx_count, self.free_count) = (self.lent, 0);
        self.lose_pages();
        self.take_bogus();
    }

    /// Asks the device whether it interrupts, and so acknowledges it: one register read.
    #[inline]
    pub fn acknowledge_interrupt(&mut self) -> bool {
        self.nic.acknowledge_interrupt()
    }

    /// To be called some times a second: buffers come back from a device that does not interrupt for them, and a device that stands
    /// still is reset, when nothing of it is lent.
    pub fn watchdog(&mut self, now_ns: u64) {
        if !self.open {
            return;
        }
        self.reap();
        let watchdog = &mut self.watchdog;
        if !watchdog.failed && (self.nic.tx_in_flight() == 0 || self.reaped != watchdog.reaped) {
            (watchdog.reaped, watchdog.since_ns) = (self.reaped, now_ns);
        } else if now_ns.saturating_sub(watchdog.since_ns) >= STUCK_NS && self.lent == 0 {
            watchdog.since_ns = now_ns;
            self.counts.add(Counter::DeviceResets, 1);
            self.nic.quiesce();
            self.lose_pages();
            self.watchdog.failed = self.restart().is_err();
            if self.watchdog.failed {
                // Nothing is anywhere: neither ring has a buffer, and none is free to be sent from.
                (self.rx_count, self.free_count) = (0, 0);
            }
        }
        self.take_bogus();
    }

    #[inline(always)]
    fn take_bogus(&mut self) {
        self.counts.add(Counter::BogusCompletions, u64::from(self.nic.take_bogus()));
    }

    /// Describes the device. It has no window.
    pub fn info(&self) -> NetInfo {
        describe(&self.nic, offload::RX_IPV4_HEADER, 0)
    }

    /// Counts the buffers.
    pub fn audit(&self) -> DirectAudit {
        if !self.open || self.watchdog.failed {
            return DirectAudit { receive: self.lent, lent: self.lent, ..DirectAudit::default() };
        }
        DirectAudit {
            receive: self.rx_count,
            posted: self.nic.rx_posted(),
            lent: self.lent,
            transmit: TX_BUFFERS,
            free: self.free_count as u32,
            transmitting: self.nic.tx_in_flight().saturating_sub(self.pages.in_flight()),
        }
    }

    /// Adds the driver's counters to the kernel's.
    pub fn counters(&self, counters: &mut [u64; COUNT]) {
        for (sum, n) in counters.iter_mut().zip(self.counts.0) {
            *sum += n;
        }
    }
}

/// The longest frame fits into a buffer.
const _: () = assert!(FRAME_BYTES_MAX <= BUFFER_BYTES);
