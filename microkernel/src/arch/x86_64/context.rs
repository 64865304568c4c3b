//! A thread's registers while it does not run. trap.s fills and empties them at the offsets asserted here.
#![expect(unsafe_code, reason = "assembly writes the contexts, so they are reached through a pointer")]

use super::global::Global;
use super::segments;
use microkernel::thread::THREADS;

/// The general registers of [`Context::registers`], in its order.
const NAMES: [&str; 15] =
    ["r15", "r14", "r13", "r12", "r11", "r10", "r9", "r8", "rdi", "rsi", "rbp", "rbx", "rdx", "rcx", "rax"];
const RDI: usize = 8;
const RSI: usize = 9;
const RDX: usize = 12;
const RAX: usize = 14;

/// RFLAGS of a new thread: interrupts on, and the bit that is always 1.
const FLAGS: u64 = 0x202;

/// The registers.
#[repr(C, align(16))]
pub struct Context {
    /// FPU and SSE state, as `fxsave64` leaves it.
    pub fx: [u8; 512],
    /// The general registers, as trap.s pushes them.
    pub registers: [u64; 15],
    /// The vector of the trap.
    pub vector: u64,
    /// Its error code.
    pub error: u64,
    /// The frame that the processor pushes.
    pub rip: u64,
    /// See `rip`.
    pub cs: u64,
    /// See `rip`.
    pub rflags: u64,
    /// See `rip`.
    pub rsp: u64,
    /// See `rip`.
    pub ss: u64,
    /// 0: all is here. 1: the thread waits in a system call, and only what its convention keeps is here.
    pub kind: u64,
    /// The SSE control word of a thread in a system call.
    pub mxcsr: u32,
    /// The FPU control word of a thread in a system call.
    pub fcw: u32,
}

const _: () = {
    assert!(core::mem::offset_of!(Context, registers) == 512);
    assert!(core::mem::offset_of!(Context, rip) == 648);
    assert!(core::mem::offset_of!(Context, rflags) == 664);
    assert!(core::mem::offset_of!(Context, rsp) == 672);
    assert!(core::mem::offset_of!(Context, kind) == 688);
    assert!(core::mem::offset_of!(Context, mxcsr) == 696);
    assert!(core::mem::offset_of!(Context, fcw) == 700);
    assert!(size_of::<Context>() == 704);
};

impl Context {
    const EMPTY: Self = Self {
        fx: [0; 512],
        registers: [0; 15],
        vector: 0,
        error: 0,
        rip: 0,
        cs: 0,
        rflags: 0,
        rsp: 0,
        ss: 0,
        kind: 0,
        mxcsr: 0,
        fcw: 0,
    };

    /// Makes it a new thread's.
    pub fn start(&mut self, entry: u64, stack: u64, args: [u64; 3]) {
        *self = Self::EMPTY;
        // A return by `iretq` to an address that is not canonical would fault in ring 0: at 0 the thread
        // itself faults.
        self.rip = if entry < abi::vm::USER_END { entry } else { 0 };
        self.rsp = stack;
        self.cs = u64::from(segments::USER_CODE);
        self.ss = u64::from(segments::USER_DATA);
        self.rflags = FLAGS;
        self.registers[RDI] = args[0];
        self.registers[RSI] = args[1];
        self.registers[RDX] = args[2];
        self.fx[0..2].copy_from_slice(&0x037f_u16.to_le_bytes());
        self.fx[24..28].copy_from_slice(&0x1f80_u32.to_le_bytes());
    }

    /// Puts the result of the system call that the thread is in where trap.s loads it from.
    pub fn result(&mut self, status: u64, value: u64) {
        self.registers[RAX] = status;
        self.registers[RDX] = value;
    }

    /// Prints the registers, as whole lines.
    pub fn print(&self, out: &mut dyn core::fmt::Write) {
        print_registers(&self.registers, out);
        let _ = writeln!(out, "  rip={:016x} rsp={:016x} rflags={:08x}", self.rip, self.rsp, self.rflags);
    }

    /// Where TSS.rsp0 points while the thread runs: behind the frame.
    pub fn frame_end(&self) -> u64 {
        &raw const self.kind as u64
    }
}

/// Prints general registers in the order of trap.s, as whole lines.
pub fn print_registers(registers: &[u64; 15], out: &mut dyn core::fmt::Write) {
    for (row, names) in NAMES.rchunks(4).enumerate() {
        let end = registers.len() - 4 * row;
        for (name, value) in names.iter().zip(&registers[end - names.len()..end]).rev() {
            let _ = write!(out, "  {name:>3}={value:016x}");
        }
        let _ = out.write_str("\n");
    }
}

static CONTEXTS: Global<[Context; THREADS]> = Global::new([Context::EMPTY; THREADS]);

/// A thread's context.
#[inline]
pub fn of(thread: usize) -> &'static mut Context {
    // SAFETY: callers use it within one statement of their own and keep no second; trap.s runs at other times
    // than Rust.
    unsafe { &mut CONTEXTS.get()[thread] }
}

/// Whose context a pointer is to.
pub fn number_of(context: *const Context) -> Option<usize> {
    let base = CONTEXTS.address() as usize;
    let offset = (context as usize).checked_sub(base)?;
    (offset < THREADS * size_of::<Context>()).then_some(offset / size_of::<Context>())
}
