//! The path by message: the driver with buffers of the kernel's own. Frames go through the packet filters into messages
//! ([`Kernel::net_frame`]); what tasks send is copied into the transmit ring's buffers, or lies in pages that they gave away.

use super::{InitError, WATCHDOG_TICKS};
use crate::arch::hal::{PciHal, take_buffers};
use crate::arch::machine::{Pc, read_phys};
use crate::arch::pci::Function;
use abi::Error;
use abi::counters::COUNT;
use abi::device::NetInfo;
use microkernel::Kernel;
use microkernel::machine::Machine;
use netdev_driver::demux::FRAME_BYTES_MAX;
use netdev_driver::device::Model;
use netdev_driver::direct::{BYTES, DirectDevice, PAGES_MAX, Received};
use netdev_driver::nic::TxChecksum;

/// Frames that find no room before the next ones stay in the device's ring, until a tick has passed: who has so many waiting is
/// not helped by more, and what the device drops itself costs nothing.
const PATIENCE: u32 = 4;
/// The same where several have the device open: one that sleeps must not hold up the frames of the others.
const PATIENCE_FOR_SEVERAL: u32 = 64;

/// Frames of memory that are kept for what is in messages, packets and socket data: half of a receive ring for each of two openers, and as
/// much for data. Without them a task that takes all memory would end everybody's connections. A machine with little memory keeps less.
const KEPT: usize = 512;

/// The device.
pub struct IpcNet {
    device: DirectDevice<PciHal>,
    /// The device has more to do, and will not interrupt for it.
    again: bool,
    /// There was no room for the last frames: the next are looked at when a tick has passed.
    paused: bool,
    /// Somebody found the transmit ring full, and has not been told of room.
    waited_for: bool,
    ticks: u32,
    /// The pages in the transmit ring, by the driver's numbers.
    pages: [u64; PAGES_MAX as usize],
    /// Of these, those that have left; a bit each.
    left: u64,
}

/// Makes a device ready to be opened.
///
/// # Errors
/// See [`InitError`].
pub fn init(
    kernel: &mut Kernel<Pc>,
    machine: &mut Pc,
    (function, model): (Function, Model),
) -> Result<IpcNet, InitError> {
    let frames = kernel.frames();
    let hal = PciHal::new(function, machine.clock, &mut machine.space, frames).ok_or(InitError::NoMemory)?;
    let buffers = take_buffers(BYTES, frames).ok_or(InitError::NoMemory)?;
    let device = DirectDevice::new(model, hal, &buffers).map_err(InitError::Nic)?;
    frames.keep(KEPT.min(frames.free_count() / 16));
    Ok(IpcNet {
        device,
        again: false,
        paused: false,
        waited_for: false,
        ticks: 0,
        pages: [0; PAGES_MAX as usize],
        left: 0,
    })
}

impl IpcNet {
    /// Serves the device's interrupt. True: the transmit ring was full, and has room again.
    #[inline]
    pub fn interrupt(&mut self, kernel: &mut Kernel<Pc>, machine: &mut Pc) -> bool {
        self.device.acknowledge_interrupt() && !self.paused && self.poll(kernel, machine)
    }

    /// Were frames left in the device's ring?
    #[inline]
    pub const fn is_behind(&self) -> bool {
        self.again || self.paused
    }

    /// Looks again, before the next tick. The answer is [`IpcNet::interrupt`]'s.
    pub fn catch_up(&mut self, kernel: &mut Kernel<Pc>, machine: &mut Pc) -> bool {
        self.poll(kernel, machine)
    }

    /// Is there anything to do at this tick? Asked once at each.
    #[inline]
    pub fn wants_tick(&mut self) -> bool {
        self.ticks += 1;
        self.again || self.paused || self.waited_for || self.ticks >= WATCHDOG_TICKS
    }

    /// A tick has passed, and there is something to do. The answer is [`IpcNet::interrupt`]'s.
    pub fn tick(&mut self, kernel: &mut Kernel<Pc>, machine: &mut Pc) -> bool {
        if self.ticks >= WATCHDOG_TICKS {
            self.ticks = 0;
            self.device.watchdog(machine.now_ns());
        }
        self.poll(kernel, machine)
    }

    fn poll(&mut self, kernel: &mut Kernel<Pc>, machine: &mut Pc) -> bool {
        let patience = if kernel.net_openers() > 1 { PATIENCE_FOR_SEVERAL } else { PATIENCE };
        let deliver = |frame: Received<'_>| kernel.net_frame(machine, frame.bytes, frame.checksum_good);
        self.paused = !self.device.receive(patience, deliver);
        self.again = self.device.take_again();
        self.device.reap();
        let room = self.waited_for && self.device.tx_ready();
        self.waited_for &= !room;
        room
    }

    /// See [`microkernel::machine::NetDevice`], here and below.
    pub fn open(&mut self) -> Result<(), Error> {
        (self.again, self.paused, self.waited_for) = (false, false, false);
        self.device.open().map_err(|_| Error::NoResources)
    }

    pub fn close(&mut self) {
        self.device.close();
    }

    pub fn info(&self) -> NetInfo {
        self.device.info()
    }

    pub fn write(&mut self, pieces: &[(u64, usize)], checksum: Option<TxChecksum>) -> Result<(), Error> {
        let length = pieces.iter().map(|piece| piece.1).sum();
        self.check(length, checksum)?;
        let Some(mut buffer) = self.device.tx_buffer(length) else {
            self.waited_for = true;
            return Err(Error::QueueFull);
        };
        for &(phys, bytes) in pieces {
            let Some((piece, rest)) = buffer.split_at_mut_checked(bytes) else { break };
            read_phys(phys, piece);
            buffer = rest;
        }
        self.device.send(length, checksum);
        self.device.kick();
        Ok(())
    }

    pub fn write_page(&mut self, page: u64, bytes: usize, checksum: Option<TxChecksum>) -> Result<(), Error> {
        self.check(bytes, checksum)?;
        let Some(number) = self.device.send_page(page, bytes, checksum) else {
            self.waited_for = true;
            return Err(Error::QueueFull);
        };
        self.pages[number as usize] = page;
        self.device.kick();
        Ok(())
    }

    #[inline]
    pub fn take_sent(&mut self) -> Option<u64> {
        if self.left == 0 {
            self.left = self.device.take_left();
            if self.left == 0 {
                return None;
            }
        }
        let number = self.left.trailing_zeros();
        self.left &= self.left - 1;
        Some(self.pages[number as usize])
    }

    pub fn counters(&self, counters: &mut [u64; COUNT]) {
        self.device.counters(counters);
    }

    /// Can a frame of so many bytes, with such a checksum, be sent at all?
    #[inline]
    fn check(&self, length: usize, checksum: Option<TxChecksum>) -> Result<(), Error> {
        if self.device.sendable(length, checksum) {
            Ok(())
        } else if length > FRAME_BYTES_MAX as usize {
            Err(Error::TooLong)
        } else {
            Err(Error::BadArgument)
        }
    }
}
