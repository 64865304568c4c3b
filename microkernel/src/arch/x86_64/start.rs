//! From the first Rust function to the first task.
#![expect(unsafe_code, reason = "called from assembly, and fills the kernel's statics")]

use super::boot::Loaded;
use super::clock::{self, Clock};
use super::global::Global;
use super::machine::{self, KERNEL, MACHINE};
use super::{paging, panic, segments, serial, trap};
use crate::board::Board;
use abi::info::COMMAND_LINE_MAX;
use core::fmt::Write;
use core::ops::Range;
use microkernel::{Boot, cmdline, module};

/// Below this, firmware and the loader keep what they need, and PCs have holes.
const LOW_END: u64 = 1 << 20;

/// One byte more than tasks can be shown, so that the core can tell that it is too long.
static COMMAND_LINE: Global<[u8; COMMAND_LINE_MAX + 1]> = Global::new([0; COMMAND_LINE_MAX + 1]);

/// boot.s comes here, in long mode, with the physical address of the loader's structure.
#[unsafe(no_mangle)]
extern "C" fn main(start_info: u64) -> ! {
    serial::init();
    segments::init();
    // SAFETY: the only code that runs until the first trap; neither is reached in another way below. A
    // panic's report does reach the machine, but does not return.
    let (kernel, machine) = unsafe { (KERNEL.get(), MACHINE.get()) };
    machine.board = Board::detect();

    let Some(loaded) = Loaded::read(start_info) else {
        fail(format_args!("boot: the loader left no memory map (PVH start info of version 1 is needed)"))
    };
    // SAFETY: used here only.
    let line = loaded.command_line(unsafe { COMMAND_LINE.get() });
    let module = loaded.module();
    let frames = kernel.frames();
    let mut memory_bytes = 0;
    for ram in loaded.ram() {
        memory_bytes += ram.end - ram.start;
        frames.add(ram);
    }
    frames.reserve(0..LOW_END);
    frames.reserve(paging::image_physical());
    if let Some(module) = &module {
        frames.reserve(module.clone());
    }
    let ram = loaded.ram().chain([0..LOW_END, paging::image_physical()]);
    if machine.space.build(frames, ram).is_none() {
        fail(format_args!("boot: too little memory for page tables: give QEMU more with -m"));
    }

    let module = module.map_or(&[][..], |range| contents(&range));
    if let Ok(text) = module::find(module, b"kernel.sym") {
        panic::set_symbols(text);
    }
    machine.pic.init();
    machine.clock = Clock::calibrate();
    let name = machine.board.map_or("unknown board", |board| board.name);
    machine.print(format_args!("oriel: {name}, {} MiB of memory\n", memory_bytes.div_ceil(1 << 20)));
    if let Err(error) = crate::net::init(kernel, machine, line) {
        fail(format_args!("{error}"))
    }

    let boot = Boot {
        module,
        command_line: line,
        memory_bytes,
        tsc_multiplier: machine.clock.multiplier,
        tsc_shift: machine.clock.shift,
        tsc_boot: machine.clock.boot,
    };
    if let Err(error) = kernel.boot(machine, &boot) {
        fail(format_args!("{error}"));
    }
    match cmdline::get(line, "panic") {
        Some(b"test") => panic_on_purpose(3),
        Some(b"stack") => {
            core::hint::black_box(overflow_on_purpose(1));
        }
        _ => {}
    }
    machine.pic.unmask(clock::IRQ);
    machine.pic.unmask(serial::IRQ);
    serial::enable_interrupt();
    clock::start_ticks();
    trap::run()
}

/// The boot module, as the kernel sees it for good.
fn contents(range: &Range<u64>) -> &'static [u8] {
    // SAFETY: RAM, which is in the direct map; its frames are reserved, so nothing writes there any more.
    unsafe { core::slice::from_raw_parts(paging::direct(range.start), (range.end - range.start) as usize) }
}

/// Ends a machine that cannot boot with a line that says why.
fn fail(why: core::fmt::Arguments<'_>) -> ! {
    let _ = writeln!(serial::Out, "{why}");
    machine::end(abi::exit::BOOT_FAILED)
}

/// `panic=test` on the command line: a panic a few calls deep, to try the report.
#[inline(never)]
fn panic_on_purpose(depth: u32) {
    assert!(depth > 0, "on purpose, because the command line says panic=test");
    panic_on_purpose(core::hint::black_box(depth - 1));
    core::hint::black_box(depth);
}

/// `panic=stack`: the kernel's stack overflows, to try its guard page.
#[inline(never)]
fn overflow_on_purpose(depth: u64) -> u64 {
    let frame = core::hint::black_box([depth; 64]);
    let deeper = if frame[0] < u64::MAX { overflow_on_purpose(depth + 1) } else { 0 };
    deeper + frame[core::hint::black_box(7)]
}
