//! What trap.s calls: system calls, traps of tasks, interrupts of the idle loop, and the choice of who runs next.
#![expect(unsafe_code, reason = "called from assembly, and reaches the kernel's statics")]

use super::context::{self, Context};
use super::machine::{KERNEL, MACHINE};
use super::pic::{FIRST_VECTOR, Pic};
use super::{clock, segments, serial};
use crate::net;
use abi::counters::Counter;
use core::arch::{asm, global_asm};
use microkernel::machine::{Fault, Next, Outcome};

global_asm!(include_str!("trap.s"), options(att_syntax));

unsafe extern "C" {
    /// The context of the thread that runs, or ran last; trap.s reads it.
    static mut current_context: *mut Context;
    fn enter_next() -> !;
}

/// What [`next_context`] answers, in `rax` and `rdx`.
#[repr(C)]
struct Entry {
    context: *mut Context,
    /// Not 0: the address space changes.
    switch_space: u64,
}

#[unsafe(no_mangle)]
extern "C" fn on_system_call(a: u64, b: u64, c: u64, d: u64, e: u64, f: u64, number: u64) -> Outcome {
    // SAFETY: entered from ring 3, so no Rust of the kernel is running that could hold them (here and below).
    let (kernel, machine) = unsafe { (KERNEL.get(), MACHINE.get()) };
    kernel.system_call(machine, number, [a, b, c, d, e, f])
}

/// A trap from ring 3, whose registers are in the running thread's context. Not 0: go back there.
#[unsafe(no_mangle)]
extern "C" fn on_user_trap(vector: u64, error: u64) -> u64 {
    if vector >= u64::from(FIRST_VECTOR) {
        interrupt(vector);
        // SAFETY: as in `on_system_call`.
        return u64::from(!unsafe { KERNEL.get() }.must_pick());
    }
    // SAFETY: as in `on_system_call`; the pointer was set when the thread was entered.
    let (kernel, machine, context) = unsafe { (KERNEL.get(), MACHINE.get(), &*current_context) };
    let address = (vector == PAGE_FAULT).then(fault_address);
    let fault =
        Fault { what: exception_name(vector), address, pc: context.rip, sp: context.rsp, code: error };
    kernel.user_fault(machine, &fault);
    0
}

/// An interrupt in the idle loop.
#[unsafe(no_mangle)]
extern "C" fn on_idle_interrupt(vector: u64) {
    interrupt(vector);
}

#[inline]
fn interrupt(vector: u64) {
    let irq = vector as u8 - FIRST_VECTOR;
    // SAFETY: entered from ring 3 or from the idle loop, which hold neither.
    let (kernel, machine) = unsafe { (KERNEL.get(), MACHINE.get()) };
    if !Pic::is_real(irq) {
        return;
    }
    kernel.count(Counter::Interrupts);
    if irq == clock::IRQ {
        kernel.tick(machine);
        net::tick(kernel, machine);
    } else if Some(irq) == machine.nic_irq {
        kernel.count(Counter::NetInterrupts);
        net::interrupt(kernel, machine);
    } else if irq == serial::IRQ && machine.serial.interrupt() {
        kernel.console_input(machine);
    }
    machine.pic.end(irq);
}

/// Chooses who runs, waiting for an interrupt while nobody can, and makes ready to enter it.
#[unsafe(no_mangle)]
extern "C" fn next_context() -> Entry {
    loop {
        // SAFETY: no other Rust of the kernel is running: entered with an empty stack, or again after the
        // idle loop's interrupt.
        let (kernel, machine) = unsafe { (KERNEL.get(), MACHINE.get()) };
        match kernel.pick(machine) {
            Next::Run { thread, space, switch_space } => {
                machine.space.activate(space);
                let context = context::of(thread);
                segments::set_interrupt_frame(context.frame_end());
                let pointer = &raw mut *context;
                // SAFETY: only this function writes it, and nothing reads it meanwhile.
                unsafe {
                    current_context = pointer;
                }
                return Entry { context: pointer, switch_space: u64::from(switch_space) };
            }
            Next::Idle => {
                net::idle(kernel, machine);
                if kernel.is_wanted() {
                    continue;
                }
                // SAFETY: the one place where ring 0 takes an interrupt. Its handler keeps the callee-saved
                // registers only, hence the clobbers; `sti` holds interrupts back for one instruction more, so
                // that none is lost before the `hlt`.
                unsafe { asm!("sti", "hlt", "cli", clobber_abi("C")) }
            }
        }
    }
}

/// Leaves the boot for the first task.
pub fn run() -> ! {
    // SAFETY: everything that traps and system calls need is set up; the stack's contents are not needed again.
    unsafe { asm!("lea rsp, [rip + kernel_stack_top]", "jmp {}", sym enter_next, options(noreturn)) }
}

/// The number of the thread whose context was entered last.
pub fn current_thread() -> Option<usize> {
    // SAFETY: read in a panic, when nothing writes it any more.
    let context = unsafe { current_context };
    context::number_of(context)
}

const PAGE_FAULT: u64 = 14;

/// The address of the last page fault: CR2.
pub fn fault_address() -> u64 {
    let address;
    // SAFETY: reads a register.
    unsafe {
        asm!("mov {}, cr2", out(reg) address, options(nomem, nostack, preserves_flags));
    }
    address
}

/// An exception in words (SDM volume 3, table 6-1).
pub const fn exception_name(vector: u64) -> &'static str {
    match vector {
        0 => "division error",
        1 => "debug exception",
        2 => "non-maskable interrupt",
        3 => "breakpoint",
        4 => "overflow",
        5 => "bound range exceeded",
        6 => "invalid opcode",
        7 => "device not available",
        8 => "double fault",
        10 => "invalid TSS",
        11 => "segment not present",
        12 => "stack segment fault",
        13 => "general protection fault",
        PAGE_FAULT => "page fault",
        16 => "x87 floating-point error",
        17 => "alignment check",
        18 => "machine check",
        19 => "SIMD floating-point error",
        _ => "exception",
    }
}
