//! The seam between the kernel's logic and the machine below it.
//!
//! Everything in this library above [`Machine`] is plain, safe code that runs and is tested on the host; `arch/` and
//! `board/` in the binary implement the trait for real hardware, `tests/` for a machine of arrays.
//!
//! How the binary drives a [`crate::Kernel`]:
//! - boot: [`crate::frames::Frames::add`] for each piece of usable memory, `reserve` for what is taken (kernel, module,
//!   tables), then [`crate::Kernel::boot`], then [`crate::Kernel::pick`];
//! - `syscall`: [`crate::Kernel::system_call`] with the number and the arguments. The [`Outcome`] is what goes back in
//!   `rax` and `rdx`; if its status is [`Outcome::SWITCH`] the caller does not go on now: call `pick`. The results of a
//!   thread that was blocked are already in its context ([`Machine::context_result`]);
//! - interrupt: save all registers of the interrupted thread in its context, call [`crate::Kernel::tick`],
//!   [`crate::Kernel::net_event`] or [`crate::Kernel::console_input`]; then, if [`crate::Kernel::must_pick`], `pick`, else
//!   go back to where it came from. In the idle loop: always `pick`;
//! - exception in ring 3: [`crate::Kernel::user_fault`], then `pick`;
//! - `pick` says which thread's context to load next, and whether the address space changes.
//!
//! The contexts of threads (saved registers) belong to the machine, one for each number below [`crate::thread::THREADS`],
//! because assembly writes them; the core names them by number.

use crate::frames::Frames;
use crate::sockets::Sockets;
use abi::Error;
use abi::device::{Audit, NetInfo};
use abi::path::Path;
use netdev_driver::claims::Address;
use netdev_driver::nic::TxChecksum;
use shmqueue::PeerMisbehaviour;

/// What a page of a task allows besides reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prot {
    /// It may be written.
    pub write: bool,
    /// It may be executed; never together with `write`.
    pub execute: bool,
}

impl Prot {
    /// Reading only.
    pub const READ: Self = Self { write: false, execute: false };
    /// Reading and writing.
    pub const READ_WRITE: Self = Self { write: true, execute: false };
    /// Reading and executing.
    pub const READ_EXECUTE: Self = Self { write: false, execute: true };
}

/// What a system call answers: the status and the value, as they go back in `rax` and `rdx`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Outcome {
    /// 0, an [`Error`]'s number, or [`Outcome::SWITCH`].
    pub status: u64,
    /// The value.
    pub value: u64,
}

impl Outcome {
    /// As a status: the caller does not go on now (it blocked, yielded or ended), [`crate::Kernel::pick`] says who does.
    pub const SWITCH: u64 = u64::MAX;
    /// The outcome with that status.
    pub(crate) const SWITCHED: Self = Self { status: Self::SWITCH, value: 0 };

    /// Success with a value.
    #[inline]
    #[must_use]
    pub const fn ok(value: u64) -> Self {
        Self { status: 0, value }
    }

    /// An error.
    #[inline]
    #[must_use]
    pub const fn error(error: Error) -> Self {
        Self { status: error.raw() as u64, value: 0 }
    }
}

/// Who runs next.
#[derive(Debug)]
pub enum Next<'k, M: Machine> {
    /// The thread with this number: load its context.
    Run {
        /// Its number, for the machine's table of contexts.
        thread: usize,
        /// Its address space.
        space: &'k M::Space,
        /// It is not the space that was entered last: load it, and scrub the registers that a system call does not save.
        switch_space: bool,
    },
    /// Nobody: wait for an interrupt, then `pick` again.
    Idle,
}

/// An exception that a task caused, for the report.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// What happened, in words: `page fault`, `invalid opcode`, …
    pub what: &'static str,
    /// The address it was about, if it was about one.
    pub address: Option<u64>,
    /// The instruction.
    pub pc: u64,
    /// The stack pointer.
    pub sp: u64,
    /// The processor's error code.
    pub code: u64,
}

/// What a driver wants done after a start or an interrupt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetEvent {
    /// Resume the bound threads, a bit for each window: they are idle and there is something for them. With the stack
    /// in the kernel, any bit: those that it wants resumed.
    pub resume: u32,
    /// An owner wrote what cannot be into its window: that window is closed, the task must end.
    pub violation: Option<PeerMisbehaviour>,
    /// Which window's.
    pub culprit: usize,
}

/// The network device as system calls see it. The driver, the path and the window's layout are behind it.
pub trait NetDevice {
    /// How many windows there are, at most [`netdev_driver::endpoint::WINDOWS_MAX`]: so many tasks can have the device open.
    fn windows(&self) -> usize;
    /// Where a window is: its physical address and size, both multiples of a page; they never change.
    fn window(&self, at: usize) -> (u64, u64);
    /// A task opened the device: lay its window out afresh and start the hardware. What was found to do for others meanwhile.
    ///
    /// # Errors
    /// The hardware does not answer.
    fn open(&mut self, at: usize) -> Result<NetEvent, Error>;
    /// The owner gave the device up or died: no more DMA into its window, rebuild the ledger. Called once for each `open`.
    fn close(&mut self, at: usize);
    /// The OUT queue of a window has work and the device was idle.
    fn start(&mut self, at: usize) -> NetEvent;
    /// Frames for an address go to this window; `None`: its owner gives up all that it has claimed.
    ///
    /// # Errors
    /// See [`abi::syscall::Syscall::DeviceClaim`].
    fn claim(&mut self, at: usize, address: Option<Address>) -> Result<(), Error>;
    /// Describes the device.
    fn info(&self) -> NetInfo;
    /// The ledger of a window, summed.
    fn audit(&self, at: usize) -> Audit;
    /// The path that it was made for. The calls above are for the path by window, and those below for the path by message, but
    /// for `open`, `close` and `info`, which are for both.
    fn path(&self) -> Path;
    /// Sends a copy of a frame that lies in these pieces of usable memory, each an address and bytes within one frame.
    ///
    /// # Errors
    /// [`Error::QueueFull`]: no room; [`Error::TooLong`], [`Error::BadArgument`]: no frame that can be sent. Nothing was changed.
    fn write(&mut self, pieces: &[(u64, usize)], checksum: Option<TxChecksum>) -> Result<(), Error>;
    /// Sends a frame from where it is. If there is no error, the page is the device's until [`NetDevice::take_sent`] gives it back.
    ///
    /// # Errors
    /// As for [`NetDevice::write`]; the page is still the caller's.
    fn write_page(&mut self, page: u64, bytes: usize, checksum: Option<TxChecksum>) -> Result<(), Error>;
    /// A page that has been sent, or never will be since the device was closed.
    fn take_sent(&mut self) -> Option<u64>;
    /// Adds the driver's counters to the kernel's.
    fn counters(&self, counters: &mut [u64; abi::counters::COUNT]);
}

/// The machine below the kernel. A frame is a page of physical memory; addresses of frames are physical.
pub trait Machine: Sized {
    /// The page tables of a task.
    type Space;
    /// The network device.
    type Net: NetDevice + Sockets;

    /// Makes an address space that maps nothing for the user; the kernel's half is shared.
    ///
    /// # Errors
    /// [`Error::NoResources`]: out of frames; none is kept.
    fn new_space(&mut self, frames: &mut Frames) -> Result<Self::Space, Error>;
    /// Ends an address space: the frames of its tables go back (those of its pages are the core's business). It may be
    /// the one that is active: the machine leaves it first.
    fn drop_space(&mut self, frames: &mut Frames, space: Self::Space);
    /// Maps one page for the user; nothing is mapped there yet.
    ///
    /// # Errors
    /// [`Error::NoResources`]: out of frames for tables; tables that were made may stay until the space is dropped.
    fn map(
        &mut self,
        frames: &mut Frames,
        space: &mut Self::Space,
        virt: u64,
        phys: u64,
        prot: Prot,
    ) -> Result<(), Error>;
    /// Unmaps one page (and forgets it in the TLB if the space is active); its frame, `None` if nothing was mapped.
    fn unmap(&mut self, space: &mut Self::Space, virt: u64) -> Option<u64>;
    /// The physical address behind an address of the user, `None` if it is not mapped for the user, or not for writing
    /// where `write` asks for that. `virt` can be any number, also one in the kernel's half or not canonical.
    fn translate(&self, space: &Self::Space, virt: u64, write: bool) -> Option<u64>;

    /// Copies to physical memory; the bytes lie within one frame of usable memory.
    fn copy_to_phys(&mut self, phys: u64, bytes: &[u8]);
    /// Copies from physical memory; the bytes lie within one frame of usable memory.
    fn copy_from_phys(&self, phys: u64, bytes: &mut [u8]);
    /// Copies from frame to frame; each end lies within one frame of usable memory, and they are not the same frame.
    fn copy_phys(&mut self, to: u64, from: u64, bytes: usize);
    /// Zeroes a frame.
    fn zero_frame(&mut self, phys: u64);

    /// Makes the context of a thread that starts at `entry` with stack pointer `stack` (used as it is) and its first
    /// arguments in the registers of the C ABI; all other registers are zero, the FPU and SSE state fresh.
    fn context_start(&mut self, thread: usize, entry: u64, stack: u64, args: [u64; 3]);
    /// Puts the result of the system call that a thread is in into its context.
    fn context_result(&mut self, thread: usize, status: u64, value: u64);
    /// Prints a thread's registers for a fault report, as whole lines.
    fn print_registers(&mut self, thread: usize);

    /// Writes to the console; `\n` becomes what the console needs.
    fn console_write(&mut self, bytes: &[u8]);
    /// A byte that was typed, if there is one.
    fn console_read(&mut self) -> Option<u8>;
    /// Nanoseconds since boot.
    fn now_ns(&self) -> u64;
    /// Some entropy.
    fn entropy(&mut self) -> u64;
    /// Ends the machine with a code of [`abi::exit`]. Only a machine made for tests returns.
    fn power_off(&mut self, code: u32);
    /// The network device, if there is one.
    fn net(&mut self) -> Option<&mut Self::Net>;
}

/// Writes formatted text to the console.
pub struct Console<'m, M>(pub &'m mut M);

impl<M: Machine> core::fmt::Write for Console<'_, M> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.0.console_write(text.as_bytes());
        Ok(())
    }
}
