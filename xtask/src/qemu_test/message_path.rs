//! The path by message: what the other groups do on the path by window, frames out of line, and more frames than the server takes.

use std::thread;
use std::time::Duration;

use abi::path::Path;
use pattern::Digest;

use super::boots::expect_refusal;
use super::hostile::{badcalls, malformed};
use super::transfers::{Pinger, measure, sixteen_connections};
use super::{Bed, Row, SOON};
use crate::cells::{Cell, Ports};
use crate::checks::counter;
use crate::console::PROMPT;
use crate::error::{Context as _, Result, failed};
use crate::machine::{Board, Machine, Nic};
use crate::network::TAP;
use crate::peers::Peer;
use crate::results::Fields;
use crate::sys::PacketSocket;
use crate::traffic::{self, Until};
use crate::vm::Vm;

const HERE: Path = Path::Ipc;

/// This group's tests.
pub const CASES: &[Row] = &[
    ("message-cells-e1000", false, |bed| bed.by(HERE, |bed| cells(bed, boot(bed, Nic::E1000, "")?))),
    ("message-cells-virtio", false, |bed| bed.by(HERE, |bed| cells(bed, boot(bed, Nic::Virtio, "")?))),
    ("message-pages-e1000", false, |bed| bed.by(HERE, |bed| pages(bed, Nic::E1000))),
    ("message-pages-virtio", false, |bed| bed.by(HERE, |bed| pages(bed, Nic::Virtio))),
    ("message-connections", true, |bed| bed.by(HERE, sixteen_connections)),
    ("message-malformed-frames", true, |bed| bed.by(HERE, |bed| malformed(bed, Nic::E1000))),
    ("message-flood", true, |bed| bed.by(HERE, flood)),
    ("message-nonsense-calls", false, |bed| bed.by(HERE, badcalls)),
    ("no-such-path", false, no_such_path),
];

fn machine(bed: &Bed, nic: Nic, arguments: &str) -> Result<Machine> {
    let mut machine = bed.machine(nic, Board::Pc)?;
    machine.arguments += &format!(" {arguments}");
    Ok(machine)
}

fn boot(bed: &Bed, nic: Nic, arguments: &str) -> Result<Vm> {
    Vm::boot(&machine(bed, nic, arguments)?)
}

/// Both ways in large and in small pieces. What is read in small pieces is little: each read is a message there and one back, and what
/// the host has written by the time it is told to end is more than is read in a minute.
fn cells(bed: &Bed, mut vm: Vm) -> Result<()> {
    const LITTLE: u64 = 20_000;
    let link = &bed.session.link;
    let mut ports = Ports::new();
    let tx = [65_536, 8192, 1461, 1024, 10, 1].map(Cell::Tx);
    for cell in tx.into_iter().chain([65_536, 8192, 1024].map(Cell::Rx)).chain([Cell::Rr1]) {
        measure(&mut vm, link, &mut ports, Peer::Builtin, cell)?;
    }
    for size in [1, 10] {
        let port = ports.next();
        vm.console.type_line(&format!("ttcp -r -s -l {size} -p {port} -M"))?;
        vm.console.expect(&format!("listening on {port}"), SOON)?;
        let mut stream = traffic::connect(link.guest(port))?;
        traffic::send(&mut stream, 1000, Until::Bytes(LITTLE)).context("sender")?;
        drop(stream);
        let output = vm.console.expect(PROMPT, SOON)?;
        let fields = Fields::require(&output, "ttcp")?;
        if fields.number("bytes") != Some(LITTLE) || fields.digest() != Some(Digest::of_pattern(LITTLE)) {
            return failed(format!("{LITTLE} bytes read by {size}: {output}"));
        }
    }
    bed.finish(vm)
}

/// Frames of 1000 bytes and more go in pages, and so does what is written and read at once.
fn pages(bed: &Bed, nic: Nic) -> Result<()> {
    let mut vm = boot(bed, nic, "ool=1000")?;
    let before = counter(&mut vm, "pages_moved")?;
    let ping = format!("ping -c 5 -i 20 -s 1400 -M {}", bed.session.link.host);
    let output = vm.console.command(&ping, SOON)?;
    let moved = counter(&mut vm, "pages_moved")? - before;
    if moved < 10 {
        return failed(format!("{moved} pages moved for five pings there and back: {output}"));
    }
    cells(bed, vm)
}

/// Frames faster than the server takes them are shed at its port, and counted; afterwards everything is as before.
fn flood(bed: &Bed) -> Result<()> {
    const FRAMES: u32 = 60_000;
    let mut vm = boot(bed, Nic::E1000, "")?;
    let guest = bed.session.link.guest_address();
    let pinger = Pinger::open(guest.into())?;
    pinger.ping(0, 100)?;
    let socket = PacketSocket::open(TAP).context("packet socket")?;
    // Datagrams to a port that nobody has, whose checksum nobody computes.
    let mut frame = vec![0x52, 0x54, 0x00, 0x6f, 0x72, 0x69, 2, 0, 0, 0, 0, 1, 8, 0];
    frame.extend([0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend(bed.session.link.host.octets());
    frame.extend(guest.octets());
    let sum = traffic::checksum(&[&frame[14..]]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame.extend([0, 9, 0, 9, 0, 26, 0, 0]);
    frame.resize(60, 0x5a);
    for _ in 0..FRAMES {
        while socket.send(&frame).is_err() {
            thread::sleep(Duration::from_micros(100));
        }
    }
    thread::sleep(Duration::from_millis(500));
    pinger.ping(1, 1000)?;
    let (came, messages, shed) = (
        counter(&mut vm, "frames_in")?,
        counter(&mut vm, "net_messages")?,
        counter(&mut vm, "drop_port_full")?,
    );
    // The tap's own queue loses most of them before.
    if came < 2000 || messages + shed < came / 10 * 9 || shed == 0 {
        return failed(format!(
            "of {FRAMES} frames {came} came, {messages} were queued, {shed} found no room"
        ));
    }
    bed.finish(vm)
}

/// What the kernel does not know is said, and nothing is booted.
fn no_such_path(bed: &Bed) -> Result<()> {
    for arguments in ["path=paper", "path=", "ool=0", "ool=some"] {
        expect_refusal(&machine(bed, Nic::E1000, arguments)?)?;
    }
    Ok(())
}
