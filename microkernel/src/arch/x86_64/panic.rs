//! The report of a kernel that cannot go on: the message, the registers, who ran, and a backtrace with names.
//!
//! The kernel is built without frame pointers and without unwind tables. The backtrace therefore looks
//! through the stack for return addresses: words that point into the text, right behind a call instruction.
//! One whose call goes to the very function of the entry before it is certain; any other, marked `?`, can be
//! left over from an earlier call, or come from a call through a pointer.
#![expect(unsafe_code, reason = "reads the stack, and registers, of a kernel that is already broken")]

use super::context::{self, print_registers};
use super::serial::{self, Out};
use super::{global::Global, machine, paging};
use core::fmt::Write;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};
use microkernel::symbols::{Symbol, Symbols};

/// Certain entries of a backtrace, at most.
const CERTAIN_MAX: usize = 48;
/// Doubtful ones, at most.
const DOUBTFUL_MAX: usize = 16;

static SYMBOLS: Global<Option<Symbols<'static>>> = Global::new(None);
/// A panic within the report must not start another.
static PANICKING: AtomicBool = AtomicBool::new(false);

/// Gives the report names to print, if they are of this very build.
pub fn set_symbols(text: &'static [u8]) {
    let address = on_fatal_trap as *const () as u64;
    if Symbols(text).find(address) != Some(Symbol { address, name: "on_fatal_trap" }) {
        return;
    }
    // SAFETY: called once, at boot; no other reference is alive.
    unsafe {
        *SYMBOLS.get() = Some(Symbols(text));
    }
}

/// What a trap of the kernel pushed (trap.s, `fatal`).
#[repr(C)]
pub struct TrapFrame {
    registers: [u64; 15],
    vector: u64,
    error: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

/// An exception in the kernel, or one that there is no return from.
#[unsafe(no_mangle)]
extern "C" fn on_fatal_trap(frame: &TrapFrame) -> ! {
    begin();
    let what = super::trap::exception_name(frame.vector);
    let _ = writeln!(
        Out,
        "PANIC: {what} in {} at {:#x}, error {:#x}, cr2 {:#x}",
        if frame.cs & 3 == 0 { "the kernel" } else { "a task" },
        frame.rip,
        frame.error,
        super::trap::fault_address(),
    );
    print_registers(&frame.registers, &mut Out);
    let _ = writeln!(Out, "  rip={:016x} rsp={:016x} rflags={:08x}", frame.rip, frame.rsp, frame.rflags);
    report(frame.rip, frame.rsp)
}

#[panic_handler]
fn on_panic(info: &PanicInfo<'_>) -> ! {
    // The registers of the caller that still are what they were.
    let (rsp, rbx, rbp, r12, r13, r14, r15): (u64, u64, u64, u64, u64, u64, u64);
    // SAFETY: copies registers.
    unsafe {
        core::arch::asm!("mov {}, rsp", "mov {}, rbx", "mov {}, rbp", "mov {}, r12", "mov {}, r13",
            out(reg) rsp, out(reg) rbx, out(reg) rbp, out(reg) r12, out(reg) r13, options(nomem, nostack, preserves_flags));
        core::arch::asm!("mov {}, r14", "mov {}, r15", out(reg) r14, out(reg) r15, options(nomem, nostack, preserves_flags));
    }
    begin();
    let _ = write!(Out, "PANIC: {}", info.message());
    if let Some(place) = info.location() {
        let _ = write!(Out, " at {}:{}:{}", place.file(), place.line(), place.column());
    }
    let _ = writeln!(Out, "\n  rsp={rsp:016x} rbp={rbp:016x} rbx={rbx:016x} r12={r12:016x}");
    let _ = writeln!(Out, "  r13={r13:016x} r14={r14:016x} r15={r15:016x}");
    report(on_panic as *const () as u64, rsp)
}

/// Makes sure that a panic of the report itself ends the machine at once. The order has no partner: one processor.
fn begin() {
    if PANICKING.swap(true, Ordering::Relaxed) {
        serial::write(b"\nPANIC: again, within the report\n");
        machine::end(abi::exit::PANIC);
    }
}

fn report(pc: u64, sp: u64) -> ! {
    let _ = writeln!(Out, "  cr3={:016x}", machine::active_tables());
    if let Some(thread) = super::trap::current_thread() {
        let _ = writeln!(Out, "last thread {thread}, as it was when it last left the processor:");
        context::of(thread).print(&mut Out);
    }
    backtrace(pc, sp);
    machine::end(abi::exit::PANIC)
}

fn backtrace(pc: u64, sp: u64) {
    // SAFETY: written once, at boot.
    let symbols = unsafe { *SYMBOLS.get() };
    let _ = writeln!(
        Out,
        "backtrace{}:",
        if symbols.is_some() { "" } else { " (no kernel.sym of this build in the module)" }
    );
    let stack = paging::stack();
    let find = |address| symbols.and_then(|symbols: Symbols<'static>| symbols.find(address));
    let mut function = find(pc);
    print_entry(pc, function, true);
    if !stack.contains(&sp) {
        let _ = writeln!(Out, "  the stack pointer {sp:#x} is outside the kernel's stack");
    }
    // A stack that overflowed is shown from its last page up.
    let mut at = sp.clamp(stack.start, stack.end) & !7;
    // The caller by pointer that came last: what called it directly is as certain as it is.
    let mut by_pointer: Option<Symbol<'_>> = None;
    let (mut certain, mut doubtful) = (0, 0);
    while at < stack.end && certain < CERTAIN_MAX {
        // SAFETY: inside the kernel's stack, which is mapped and aligned.
        let word = unsafe { (at as *const u64).read_volatile() };
        at += 8;
        let Some(call) = call_before(word) else { continue };
        let symbol = find(word - 1);
        let calls = |callee: Option<Symbol<'_>>| matches!((call, callee), (Call::Direct(target), Some(callee)) if target == callee.address);
        if calls(function) || calls(by_pointer) {
            function = symbol;
            by_pointer = None;
            certain += 1;
            print_entry(word, symbol, true);
        } else if doubtful < DOUBTFUL_MAX {
            doubtful += 1;
            print_entry(word, symbol, false);
            if call == Call::Indirect {
                by_pointer = symbol;
            }
        }
    }
}

fn print_entry(address: u64, symbol: Option<Symbol<'_>>, certain: bool) {
    let mark = if certain { ' ' } else { '?' };
    let _ = match symbol {
        Some(symbol) => {
            writeln!(Out, " {mark} {address:#x} {} + {:#x}", symbol.name, address - symbol.address)
        }
        None => writeln!(Out, " {mark} {address:#x}"),
    };
}

/// A call instruction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    /// Of this address.
    Direct(u64),
    /// Through a register or memory.
    Indirect,
}

/// The call instruction right before this address of the text.
fn call_before(address: u64) -> Option<Call> {
    let text = paging::text();
    if address < text.start + 8 || address >= text.end {
        return None;
    }
    // SAFETY: the eight bytes before it are in the text.
    let bytes = unsafe { ((address - 8) as *const [u8; 8]).read_unaligned() };
    let [.., 0xe8, a, b, c, d] = bytes else {
        // ff /2, of 2 (a register, or memory without a displacement), 3, 6 or 7 bytes.
        let indirect = |length: usize| bytes[8 - length] == 0xff && bytes[9 - length] >> 3 & 7 == 2;
        return [2, 3, 6, 7].into_iter().any(indirect).then_some(Call::Indirect);
    };
    let target = address.wrapping_add_signed(i64::from(i32::from_le_bytes([a, b, c, d])));
    text.contains(&target).then_some(Call::Direct(target))
}
