//! Boots that must fail, and how: each says why on the console and ends QEMU with a status of its own.

use std::fs;
use std::time::Duration;

use super::{Bed, Row, SOON};
use crate::console::{PANIC, PROMPT};
use crate::error::{Context as _, Result, failed};
use crate::machine::{Board, Machine, Nic};
use crate::vm::Vm;

/// This group's tests.
pub const CASES: &[Row] = &[
    ("kernel-panic", false, kernel_panic),
    ("too-little-memory", false, too_little_memory),
    ("module-over-the-kernel", false, module_over_the_kernel),
    ("unknown-kind-of-queue", false, unknown_queue),
    ("first-task-is-no-elf", false, |bed| broken_program(bed, b"#!/bin/sh\necho no\n")),
    ("first-task-cut-short", false, |bed| {
        let init = fs::read(&bed.session.images.programs["init"]).context("init")?;
        broken_program(bed, &init[..init.len() / 3])
    }),
    ("program-is-no-elf", false, program_is_no_elf),
    ("module-is-noise", false, module_is_noise),
];

/// A panic prints registers and a backtrace with names.
fn kernel_panic(bed: &Bed) -> Result<()> {
    let mut machine = bed.machine(Nic::E1000, Board::Pc)?;
    machine.arguments += " panic=test";
    let mut vm = Vm::start(&machine)?;
    vm.console.trouble_expected = true;
    vm.expect_exit(abi::exit::PANIC, SOON)?;
    let report = vm.console.transcript();
    let Some(at) = report.find(PANIC) else { return failed(format!("no panic:\n{report}")) };
    let report = &report[at..];
    // At least the machine's own entry, by name.
    if !report.contains("rsp=") || !report.contains("microkernel::") {
        return failed(format!("no registers or no names:\n{report}"));
    }
    Ok(())
}

/// Boots, and waits for the status that says that it can't, and a line that says why.
pub fn expect_refusal(machine: &Machine) -> Result<()> {
    let mut vm = Vm::start(machine)?;
    vm.expect_exit(abi::exit::BOOT_FAILED, Duration::from_secs(40))?;
    let said = vm.console.transcript();
    if said.contains(PROMPT) || said.trim().is_empty() {
        return failed(format!("a machine that can't boot said: {said}"));
    }
    Ok(())
}

fn too_little_memory(bed: &Bed) -> Result<()> {
    let mut machine = bed.machine(Nic::E1000, Board::Pc)?;
    machine.memory_mib = 20;
    expect_refusal(&machine)
}

/// QEMU puts the module as high as it can, here into the kernel's data, which begins at 2 MiB and is nearly as long.
fn module_over_the_kernel(bed: &Bed) -> Result<()> {
    let mut machine = bed.machine(Nic::E1000, Board::Pc)?;
    let bytes = fs::metadata(&machine.module).context(machine.module.display())?.len();
    machine.memory_mib = bytes.div_ceil(1 << 20) + 3;
    let mut vm = Vm::start(&machine)?;
    vm.expect_exit(abi::exit::BOOT_FAILED, Duration::from_secs(40))?;
    let said = vm.console.transcript();
    if said.contains("lies over the kernel") { Ok(()) } else { failed(format!("it said: {said}")) }
}

fn unknown_queue(bed: &Bed) -> Result<()> {
    let mut machine = bed.machine(Nic::E1000, Board::Pc)?;
    machine.arguments += " queue=heap";
    let mut vm = Vm::start(&machine)?;
    vm.expect_exit(abi::exit::BOOT_FAILED, Duration::from_secs(40))?;
    let said = vm.console.transcript();
    if said.contains("queue= must be") { Ok(()) } else { failed(format!("it said: {said}")) }
}

/// A machine whose boot module has this content under this name.
fn with_program(bed: &Bed, name: &str, content: &[u8]) -> Result<Machine> {
    let file = bed.session.folder.path().join("broken");
    fs::write(&file, content).context(file.display())?;
    let mut images = bed.session.images.clone();
    images.programs.insert(name.into(), file);
    let mut machine = bed.machine(Nic::E1000, Board::Pc)?;
    machine.module = bed.session.write_module("broken.cpio", &images)?;
    Ok(machine)
}

fn broken_program(bed: &Bed, init: &[u8]) -> Result<()> {
    expect_refusal(&with_program(bed, "init", init)?)
}

/// One bad application is a line at the prompt, and everything else goes on.
fn program_is_no_elf(bed: &Bed) -> Result<()> {
    let mut vm = Vm::boot(&with_program(bed, "spin", b"\x7fELF and nothing more")?)?;
    let output = vm.console.command("spin 1", SOON)?;
    if !output.contains("sh: spin:") {
        return failed(format!("the shell says: {output}"));
    }
    bed.finish(vm)
}

fn module_is_noise(bed: &Bed) -> Result<()> {
    let file = bed.session.folder.path().join("noise.cpio");
    fs::write(&file, pattern::Pattern::chunk(4, 50_000)).context(file.display())?;
    let mut machine = bed.machine(Nic::E1000, Board::Pc)?;
    machine.module = file;
    expect_refusal(&machine)
}
