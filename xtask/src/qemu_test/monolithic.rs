//! The stack in the kernel: the same tests as by window, and what only this path can do wrong.

use std::io::Write as _;
use std::time::Instant;

use abi::path::Path;

use super::{Bed, Row, SOON, hostile, lossy, transfers};
use crate::error::{Context as _, Result, failed};
use crate::machine::{Board, Nic};
use crate::peers::Peer;
use crate::results::Fields;
use crate::traffic;
use crate::vm::Vm;

const HERE: Path = Path::Monolithic;

/// This group's tests.
pub const CASES: &[Row] = &[
    ("monolithic-cells-e1000", false, |bed| bed.by(HERE, |bed| cells(bed, Nic::E1000))),
    ("monolithic-cells-virtio", false, |bed| bed.by(HERE, |bed| cells(bed, Nic::Virtio))),
    ("monolithic-connections", true, |bed| bed.by(HERE, transfers::sixteen_connections)),
    ("monolithic-ipv6", true, |bed| bed.by(HERE, transfers::ipv6)),
    ("monolithic-ping-out", true, |bed| bed.by(HERE, transfers::ping_out)),
    ("monolithic-ping-in", true, |bed| bed.by(HERE, transfers::ping_in)),
    ("monolithic-malformed", true, |bed| bed.by(HERE, |bed| hostile::malformed(bed, Nic::E1000))),
    ("monolithic-nonsense", false, |bed| bed.by(HERE, hostile::badcalls)),
    ("monolithic-faults", false, |bed| bed.by(HERE, hostile::faults)),
    ("monolithic-spawn-and-end", false, |bed| bed.by(HERE, hostile::spawnloop)),
    ("monolithic-accidents", true, |bed| bed.by(HERE, lossy::all_accidents)),
    ("monolithic-dhcp", false, |bed| bed.by(HERE, transfers::dhcp)),
    ("monolithic-heap-is-full", false, |bed| bed.by(HERE, heap_is_full)),
];

fn cells(bed: &Bed, nic: Nic) -> Result<()> {
    transfers::cells(bed, nic, Board::Pc, Peer::Builtin)
}

/// More listeners than there is memory for: who finds none is told so, the others work, and when they have ended there is room again.
fn heap_is_full(bed: &Bed) -> Result<()> {
    /// The only port that the user network leads to is among those that find room.
    const FIRST: u16 = 5032;
    const LISTENERS: u16 = 6;
    let mut machine = bed.machine(Nic::E1000, Board::Pc)?;
    // Each has a receive window and a buffer for its backlog, and rings: near a MiB, and one is kept back.
    machine.arguments += " heap=4";
    let mut vm = Vm::boot(&machine)?;
    for _ in 0..3 {
        let from = vm.console.transcript().len();
        for port in FIRST..FIRST + LISTENERS {
            vm.console.type_line(&format!("ttcp -r -s -p {port} -M &"))?;
            // That it listens, or why it does not: one after the other, as each needs more for a moment.
            vm.console.expect("ttcp-r: listen", SOON)?;
        }
        if !vm.console.transcript()[from..].contains("out of kernel resources") {
            return failed(format!("{LISTENERS} listeners find room"));
        }
        // One byte, and the first ends; nobody else has been asked.
        let mut stream = traffic::connect(bed.session.link.guest(FIRST))?;
        stream.write_all(b"\0").context("to the first listener")?;
        drop(stream);
        vm.console.expect("#ttcp", SOON)?;
        // Its memory is free when the other end has acknowledged that it closed.
        let others = (FIRST + 1..FIRST + LISTENERS)
            .filter(|port| vm.console.transcript().contains(&format!("listening on {port}")))
            .count() as u64;
        let deadline = Instant::now() + SOON;
        while sockets(&mut vm)? > others {
            if Instant::now() > deadline {
                return failed(format!("its connection stays:{}", vm.console.last_words()));
            }
        }
    }
    // So that the shell says now who has ended, and not in between.
    vm.console.command("ps", SOON)?;
    hostile::works_still(bed, &mut vm)?;
    bed.finish(vm)
}

/// How many sockets there are, whatever the shell still has to say.
fn sockets(vm: &mut Vm) -> Result<u64> {
    vm.console.type_line("mbstat -M")?;
    vm.console.expect("#mbstat ", SOON)?;
    let line = vm.console.expect("\n", SOON)?;
    Fields::require(&format!("#mbstat {line}"), "mbstat")?.require_number("server_sockets")
}
