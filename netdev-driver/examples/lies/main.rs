//! A campaign against the kernel's end of the window: one of two servers lies about everything, the other is honest.
//!
//! `lies [--operations N] [--seed N]`, compiled with `--cfg shmqueue_inject` (`cargo xtask chaos lies` does it): then each single load that the
//! driver makes of the liar's window may be answered by a lie, and its words may change between any two accesses, as if a second thread
//! of the liar's wrote there. Four worlds, each of its own seed: 82540EM and virtio, queues of R&H and Lamport's rings.
//!
//! An operation is one thing that the liar does: a load that is answered by its lie, a word that it writes, a frame that it forges or sends, a
//! trap that it makes, a window that it opens. The honest server's are not counted. What fails the run:
//! - a panic, or an access to one of the pages around each window, which nobody may touch;
//! - a call that makes more accesses to windows or to the device's registers than [`world::WINDOW_BOUND`], [`world::REGISTER_BOUND`];
//! - a store of the driver's outside of the windows' control part;
//! - an address for the device that is no buffer of a window, or a buffer that it has already (the fake devices look);
//! - a byte of the honest server's in what the liar sends, or in the liar's window; a frame of its own that is lost, late or changed.
#![expect(unsafe_code, reason = "a hostile server writes anywhere into the window")]

#[path = "../../tests/fake/mod.rs"]
mod fake;
mod liar;
mod world;

use std::{process::ExitCode, time::Instant};

use abi::window::QueueKind;
use fake::{e1000::E1000Model, rig::Wire, virtio::VirtioModel};
use world::{Sum, World};

/// All worlds together, without `--operations`.
const OPERATIONS: u64 = 10_000_000;
/// Windows are opened and closed at least once in so many operations.
const EPISODE: u64 = 4000;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (mut operations, mut seed) = (OPERATIONS, 1);
    while let Some(option) = arguments.next() {
        let value = arguments.next().and_then(|text| text.parse::<u64>().ok());
        match (option.as_str(), value) {
            ("--operations", Some(n)) => operations = n,
            ("--seed", Some(n)) => seed = n,
            _ => {
                eprintln!("lies [--operations N] [--seed N]");
                return ExitCode::from(2);
            }
        }
    }
    if !cfg!(shmqueue_inject) {
        eprintln!("lies: compile it with --cfg shmqueue_inject, as `cargo xtask chaos lies` does");
        return ExitCode::from(2);
    }
    let share = operations.div_ceil(4);
    run::<E1000Model>("e1000", QueueKind::Dual, share, seed);
    run::<E1000Model>("e1000", QueueKind::Ring, share, seed);
    run::<VirtioModel>("virtio", QueueKind::Dual, share, seed);
    run::<VirtioModel>("virtio", QueueKind::Ring, share, seed);
    ExitCode::SUCCESS
}

/// One world. Its seed is printed before it begins, so that a panic is behind its seed.
fn run<W: Wire>(device: &str, queue: QueueKind, operations: u64, seed: u64) {
    println!("lies: {device} {}, seed {seed}: {operations} operations", queue.name());
    let start = Instant::now();
    let mut world = World::<W>::new(queue, seed);
    while world.sum.operations < operations {
        world.episode(EPISODE.min(operations));
    }
    world.end();
    let Sum { operations, lies, words, calls, forged, frames, closed, .. } = world.sum;
    println!(
        "lies: {device} {}: {operations} operations in {:.1} s: {lies} lies told to loads, {words} words written, {forged} frames forged, \
         {calls} calls, {frames} honest frames whole and in order, {closed} windows closed for a lie; at most {} accesses to windows and {} to \
         registers in one call",
        queue.name(),
        start.elapsed().as_secs_f64(),
        world.sum.most_window,
        world.sum.most_registers,
    );
    // Where nothing is found out, nothing was tried.
    assert!(closed >= 10.max(operations / 200_000), "only {closed} windows were closed");
    assert!(frames > operations / 10, "only {frames} honest frames");
}
