//! The machine below the core: [`microkernel::machine::Machine`] for a PC.
#![expect(unsafe_code, reason = "copies to and from physical memory through the direct map")]

use super::clock::{self, Clock};
use super::context;
use super::global::Global;
use super::paging::{KernelSpace, Space, direct};
use super::pic::Pic;
use super::serial::{self, Serial};
use crate::board::Board;
use crate::net::Net;
use abi::Error;
use core::fmt::Write;
use microkernel::Kernel;
use microkernel::frames::{FRAME_BYTES, Frames, PHYSICAL_END};
use microkernel::machine::{Machine, Prot};
use microkernel::quota::Quota;

/// The kernel.
pub static KERNEL: Global<Kernel<Pc>> = Global::new(Kernel::new());
/// The machine that it runs on.
pub static MACHINE: Global<Pc> = Global::new(Pc::new());

/// A PC's state.
pub struct Pc {
    /// The kernel's half of the address space.
    pub space: KernelSpace,
    /// The time.
    pub clock: Clock,
    /// The console.
    pub serial: Serial,
    /// The interrupt controllers.
    pub pic: Pic,
    /// What stands around.
    pub board: Option<&'static Board>,
    /// The network device.
    pub net: Option<&'static mut Net>,
    /// Its interrupt request line.
    pub nic_irq: Option<u8>,
    /// What it takes of the processor.
    pub nic_quota: Quota,
    entropy: u64,
}

impl Pc {
    const fn new() -> Self {
        Self {
            space: KernelSpace::new(),
            clock: Clock::new(),
            serial: Serial::new(),
            pic: Pic::new(),
            board: None,
            net: None,
            nic_irq: None,
            nic_quota: Quota::new(),
            entropy: 0,
        }
    }

    /// Prints a message of the kernel.
    pub fn print(&mut self, text: core::fmt::Arguments<'_>) {
        let _ = serial::Out.write_fmt(text);
    }

    /// From now on the network device's interrupts come in.
    pub fn connect_nic(&mut self, irq: u8) {
        self.nic_irq = Some(irq);
        Pic::level_triggered(irq);
        self.pic.unmask(irq);
    }
}

impl Machine for Pc {
    type Space = Space;
    type Net = Net;

    fn new_space(&mut self, frames: &mut Frames) -> Result<Space, Error> {
        self.space.new_space(frames).ok_or(Error::NoResources)
    }

    fn drop_space(&mut self, frames: &mut Frames, space: Space) {
        self.space.drop_space(frames, space);
    }

    fn map(
        &mut self,
        frames: &mut Frames,
        space: &mut Space,
        virt: u64,
        phys: u64,
        prot: Prot,
    ) -> Result<(), Error> {
        space.map(frames, virt, phys, prot).ok_or(Error::NoResources)
    }

    fn unmap(&mut self, space: &mut Space, virt: u64) -> Option<u64> {
        self.space.unmap(space, virt)
    }

    #[inline]
    fn translate(&self, space: &Space, virt: u64, write: bool) -> Option<u64> {
        space.translate(virt, write)
    }

    #[inline]
    fn copy_to_phys(&mut self, phys: u64, bytes: &[u8]) {
        check(phys, bytes.len());
        // SAFETY: RAM is in the direct map; what lies there is a task's page or the core's, and no reference
        // to it exists.
        unsafe {
            direct(phys).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        }
    }

    #[inline]
    fn copy_from_phys(&self, phys: u64, bytes: &mut [u8]) {
        read_phys(phys, bytes);
    }

    #[inline]
    fn copy_phys(&mut self, to: u64, from: u64, bytes: usize) {
        check(to, bytes);
        check(from, bytes);
        assert_ne!(to / FRAME_BYTES, from / FRAME_BYTES, "a copy within a frame");
        // SAFETY: as in `copy_to_phys`, at both ends; they lie in different frames.
        unsafe {
            direct(to).copy_from_nonoverlapping(direct(from), bytes);
        }
    }

    fn zero_frame(&mut self, phys: u64) {
        check(phys, FRAME_BYTES as usize);
        // SAFETY: as in `copy_to_phys`.
        unsafe {
            direct(phys).write_bytes(0, FRAME_BYTES as usize);
        }
    }

    fn context_start(&mut self, thread: usize, entry: u64, stack: u64, args: [u64; 3]) {
        context::of(thread).start(entry, stack, args);
    }

    #[inline]
    fn context_result(&mut self, thread: usize, status: u64, value: u64) {
        context::of(thread).result(status, value);
    }

    fn print_registers(&mut self, thread: usize) {
        context::of(thread).print(&mut serial::Out);
    }

    fn console_write(&mut self, bytes: &[u8]) {
        serial::write(bytes);
    }

    fn console_read(&mut self) -> Option<u8> {
        self.serial.read()
    }

    #[inline]
    fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    /// A generator (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014) that each call
    /// stirs with the time-stamp counter and, where there is one, the processor's own source.
    fn entropy(&mut self) -> u64 {
        self.entropy = self.entropy.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ clock::tsc() ^ hardware_random();
        let mut z = self.entropy;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn power_off(&mut self, code: u32) {
        end(code);
    }

    #[inline]
    fn net(&mut self) -> Option<&mut Net> {
        self.net.as_deref_mut()
    }
}

/// Copies from physical memory; the bytes lie within one frame of usable memory.
#[inline]
pub fn read_phys(phys: u64, bytes: &mut [u8]) {
    check(phys, bytes.len());
    // SAFETY: RAM is in the direct map; what lies there is a task's page or the core's, and no reference to it exists.
    unsafe {
        direct(phys).copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len());
    }
}

/// The bytes lie in one frame that the direct map can have.
#[inline]
fn check(phys: u64, bytes: usize) {
    assert!(
        phys < PHYSICAL_END && phys % FRAME_BYTES + bytes as u64 <= FRAME_BYTES,
        "{phys:#x}, {bytes} bytes"
    );
}

/// Ends the machine.
pub fn end(code: u32) -> ! {
    serial::drain();
    // SAFETY: nothing goes on after this; the board is only read.
    let board = unsafe { MACHINE.get() }.board;
    Board::power_off(board, code);
    loop {
        // SAFETY: interrupts are off: this stops the processor.
        unsafe { core::arch::asm!("cli", "hlt") }
    }
}

/// The page tables that are loaded, for the panic report.
pub fn active_tables() -> u64 {
    // SAFETY: reads a word of a machine that has stopped.
    unsafe { MACHINE.get() }.space.active()
}

/// RDRAND, where CPUID says that there is one; else 0.
fn hardware_random() -> u64 {
    const RDRAND: u32 = 1 << 30;
    if core::arch::x86_64::__cpuid(1).ecx & RDRAND == 0 {
        return 0;
    }
    let (value, valid): (u64, u8);
    // SAFETY: the processor has the instruction; without a value it leaves 0.
    unsafe {
        core::arch::asm!("rdrand {}", "setc {}", out(reg) value, out(reg_byte) valid, options(nomem, nostack));
    }
    if valid != 0 { value } else { 0 }
}
