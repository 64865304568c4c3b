//! fault: does what a task must not do, one way at a time. It never prints `survived` on a kernel that works.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "undefined behaviour, on purpose, in a task of its own")]

use core::arch::asm;

use apps::Usage;
use userlib::{
    console,
    entry::{Args, ExitStatus},
    println,
};

userlib::entry!(main);

const USAGE: &str = "null|write-text|write-rodata|exec-stack|exec-data|kernel|kernel-exec|noncanonical|info|div|ud|privileged|io|stack|panic|jump-null";

static CONSTANT: u64 = 1;
static mut DATA: [u8; 16] = [0xc3; 16]; // ret

fn main(mut args: Args) -> ExitStatus {
    let Some(way) = args.next() else { return apps::misused("fault", &Usage::Says("say how"), USAGE) };
    console::flush();
    // SAFETY: none of these is sound. The kernel ends the task at the instruction, or it is broken, which is what this program is for.
    unsafe {
        match way {
            "null" => touch(0),
            "write-text" => poke(main as *const () as u64),
            "write-rodata" => poke((&raw const CONSTANT) as u64),
            "exec-stack" => {
                let code = [0xc3_u8; 16];
                call((&raw const code) as u64);
            }
            "exec-data" => call((&raw const DATA) as u64),
            "kernel" => touch(0xffff_ffff_8000_0000),
            "kernel-exec" => call(0xffff_ffff_8000_0000),
            "noncanonical" => touch(0x0000_8000_0000_0000),
            "info" => poke(abi::info::ADDRESS),
            "div" => asm!("div {zero:e}", zero = in(reg) 0, inout("eax") 1 => _, inout("edx") 0 => _),
            "ud" => asm!("ud2"),
            "privileged" => asm!("cli"),
            "io" => asm!("out dx, al", in("dx") abi::exit::PORT, in("al") 0_u8),
            "stack" => println!("{}", deeper(1)),
            "panic" => panic!("on purpose"),
            "jump-null" => call(0),
            _ => return apps::misused("fault", &Usage::Extra(way), USAGE),
        }
    }
    println!("fault: survived {way}");
    ExitStatus(3)
}

/// # Safety
/// It is not.
unsafe fn touch(address: u64) {
    // SAFETY: see `main`.
    unsafe { asm!("mov {to}, [{from}]", from = in(reg) address, to = out(reg) _) }
}

/// # Safety
/// It is not.
unsafe fn poke(address: u64) {
    // SAFETY: see `main`.
    unsafe { asm!("mov byte ptr [{to}], 0x90", to = in(reg) address) }
}

/// # Safety
/// It is not.
unsafe fn call(address: u64) {
    // SAFETY: see `main`.
    unsafe { asm!("call {to}", to = in(reg) address, clobber_abi("sysv64")) }
}

/// Runs off the stack's end.
#[inline(never)]
fn deeper(depth: u64) -> u64 {
    let frame = core::hint::black_box([depth; 64]);
    if depth == 0 { 0 } else { deeper(depth + 1) + frame[7] }
}
