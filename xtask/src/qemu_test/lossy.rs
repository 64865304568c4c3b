//! A bad link and impolite peers: accidents, resets, closed windows, applications that die in the middle.

use std::io::Read as _;
use std::thread;
use std::time::Duration;

use pattern::Verifier;

use super::transfers::Pinger;
use super::{Bed, Row, SOON};
use crate::checks;
use crate::console::PROMPT;
use crate::error::{Context as _, Result, failed};
use crate::machine::{Board, Nic};
use crate::relay::{self, Impairment, Random, Relay};
use crate::traffic::{self, Until};
use crate::{sys, vm::Vm};

/// This group's tests.
pub const CASES: &[Row] = &[
    ("loss", true, |bed| impaired(bed, Impairment { loss: 200, ..CLEAN })),
    ("duplication", true, |bed| impaired(bed, Impairment { duplicate: 500, ..CLEAN })),
    ("reordering", true, |bed| impaired(bed, Impairment { reorder: 500, ..CLEAN })),
    ("corruption", true, |bed| impaired(bed, Impairment { corrupt: 200, ..CLEAN })),
    ("all-accidents", true, all_accidents),
    ("peer-resets", false, peer_resets),
    ("peer-closes-its-window", false, closed_window),
    ("start-and-stop", true, start_and_stop),
    ("sleeping-server", true, sleeping_server),
];

const CLEAN: Impairment = Impairment { loss: 0, duplicate: 0, reorder: 0, corrupt: 0 };
const SLOWLY: Duration = Duration::from_secs(120);

/// Some of everything.
pub fn all_accidents(bed: &Bed) -> Result<()> {
    impaired(bed, Impairment { loss: 100, duplicate: 100, reorder: 200, corrupt: 100 })
}

/// Two megabytes each way over the relay; where the host's kernel has netem, into the guest by that too.
fn impaired(bed: &Bed, impairment: Impairment) -> Result<()> {
    const SEED: u64 = 0x71e1;
    {
        let relay = Relay::start(bed.session.folder.path(), impairment, SEED)?;
        let mut machine = bed.machine(Nic::E1000, Board::Pc)?;
        machine.backend = relay.backend();
        let mut vm = Vm::boot(&machine)?;
        both_ways(bed, &mut vm, 2_000_000)?;
        let happened = relay.happened();
        if happened == 0 {
            return failed("the link was too good: no accident happened");
        }
        println!("    seed {SEED:#x}: {happened} accidents by the relay, in both directions");
        bed.finish(vm)?;
    }
    if relay::netem(impairment).is_err() {
        println!("    tc netem is not in this host's kernel: by the relay alone");
        return Ok(());
    }
    let result = bed.boot().and_then(|mut vm| {
        both_ways(bed, &mut vm, 2_000_000)?;
        bed.finish(vm)
    });
    relay::remove_netem()?;
    println!("    and by tc netem on the tap, into the guest");
    result
}

fn both_ways(bed: &Bed, vm: &mut Vm, bytes: u64) -> Result<()> {
    let link = &bed.session.link;
    checks::out_of_guest(vm, link, (8000, bytes / 8000), SLOWLY)?;
    checks::into_guest(vm, link, 5002, (8192, bytes), SLOWLY)
}

/// A reset in mid-transfer, each way: the application is told, and the next connection works.
fn peer_resets(bed: &Bed) -> Result<()> {
    let mut vm = bed.boot()?;
    let link = &bed.session.link;
    vm.console.type_line("ttcp -r -s -p 5001 -M")?;
    vm.console.expect("listening on 5001", SOON)?;
    let mut stream = traffic::connect(link.guest(5001))?;
    for _ in 0..50 {
        std::io::Write::write_all(&mut stream, pattern::Pattern::chunk(0, 8192)).context("sender")?;
    }
    sys::reset(stream).context("reset")?;
    let output = vm.console.expect(PROMPT, SOON)?;
    if !output.contains("exit status 1") {
        return failed(format!("the receiver was not told of the reset: {output}"));
    }
    let listener = traffic::listen(link.listen_address(), 5202)?;
    let resetter = thread::spawn(move || -> Result<()> {
        let mut stream = traffic::accept(&listener)?;
        let mut some = vec![0; 100_000];
        stream.read_exact(&mut some).context("receiver")?;
        sys::reset(stream).context("reset")
    });
    let output = vm.console.command(&format!("ttcp -t -s -T 20 -p 5202 -M {}", link.host), SOON)?;
    traffic::join(resetter)?;
    if !output.contains("exit status 1") {
        return failed(format!("the sender was not told of the reset: {output}"));
    }
    let listener = traffic::listen(link.listen_address(), 5203)?;
    let receiver = traffic::spawn_receiver(listener, true);
    vm.console.command(&format!("ttcp -t -s -l 1000 -n 500 -p 5203 {}", link.host), SOON)?;
    let moved = traffic::join(receiver)?;
    if moved.count != 500_000 || moved.first_error.is_some() {
        return failed(format!("after the resets: {moved:?}"));
    }
    bed.finish(vm)
}

/// The receiver stops reading for longer than several probes of the closed window take.
fn closed_window(bed: &Bed) -> Result<()> {
    let mut vm = bed.boot()?;
    let link = &bed.session.link;
    let listener = traffic::listen(link.listen_address(), 5204)?;
    let sleeper = thread::spawn(move || -> Result<(u64, Option<u64>)> {
        let mut stream = traffic::accept(&listener)?;
        let mut verifier = Verifier::new();
        let mut buffer = vec![0; 64 << 10];
        // Twice, so that the window opens, fills and closes again.
        for _ in 0..2 {
            thread::sleep(Duration::from_secs(4));
            let n = stream.read(&mut buffer).context("receiver")?;
            verifier.check(&buffer[..n]);
        }
        loop {
            match stream.read(&mut buffer).context("receiver")? {
                0 => return Ok((verifier.bytes(), verifier.first_error())),
                n => verifier.check(&buffer[..n]),
            };
        }
    });
    // More than all buffers between the two ends hold together.
    let output =
        vm.console.command(&format!("ttcp -t -s -l 8192 -n 4000 -p 5204 -M {}", link.host), SLOWLY)?;
    match traffic::join(sleeper)? {
        (32_768_000, None) => bed.finish(vm),
        other => failed(format!("the sleeping receiver got {other:?}\n{output}")),
    }
}

/// Twenty applications killed in mid-transfer, in both directions.
fn start_and_stop(bed: &Bed) -> Result<()> {
    let mut vm = bed.boot()?;
    let link = &bed.session.link;
    let mut random = Random::new(20);
    for round in 0..20u16 {
        let port = 5001 + round;
        let transmits = round % 2 == 0;
        let listener = traffic::listen(link.listen_address(), 5300 + round)?;
        let to = link.guest(port);
        if transmits {
            vm.console.type_line(&format!("ttcp -t -s -T 60 -p {} {} &", 5300 + round, link.host))?;
        } else {
            vm.console.type_line(&format!("ttcp -r -s -p {port} &"))?;
        }
        vm.console.expect("\n[", SOON)?;
        let number = vm.console.expect("]", SOON)?;
        // Either end of the transfer dies with the connection, in its own way; only the guest's health counts here.
        let peer = if transmits {
            thread::spawn(move || {
                traffic::receive(&mut traffic::accept(&listener)?, true).context("receiver")
            })
        } else {
            vm.console.expect(&format!("listening on {port}"), SOON)?;
            thread::spawn(move || {
                let until = Until::Elapsed(Duration::from_secs(60));
                traffic::send(&mut traffic::connect(to)?, 8192, until).context("sender")
            })
        };
        thread::sleep(Duration::from_millis(u64::from(100 + random.below(300))));
        vm.console.type_line(&format!("kill {number}"))?;
        vm.console.type_line("")?;
        vm.console.expect(&format!("[{number}] ttcp: exit status"), SOON)?;
        if let Ok(moved) = traffic::join(peer)
            && (moved.count == 0 || moved.first_error.is_some())
        {
            return failed(format!("round {round}: {moved:?} before the kill"));
        }
    }
    vm.console.type_line("ps")?;
    vm.console.expect("CPU ms NAME", SOON)?;
    let tasks = vm.console.expect(PROMPT, SOON)?;
    if tasks.contains("ttcp") {
        return failed(format!("a killed task is left:\n{tasks}"));
    }
    bed.finish(vm)
}

/// One frame at a time with pauses between, so that the server has gone to sleep before each: no wake-up may be lost.
fn sleeping_server(bed: &Bed) -> Result<()> {
    let vm = bed.boot()?;
    let pinger = Pinger::open(bed.session.link.guest_address().into())?;
    let mut random = Random::new(3);
    // QEMU's e1000 takes no frame for a second after its receiver was enabled (`flush_queue_timer`); and the addresses are
    // not resolved yet.
    pinger.ping(0, 56)?;
    for sequence in 1..300 {
        let took = pinger.ping(sequence, 56)?;
        // A lost wake-up shows as the next tick, or as the next frame, coming to the rescue.
        if took > Duration::from_millis(500) {
            return failed(format!("ping {sequence} was answered after {took:?}"));
        }
        thread::sleep(Duration::from_micros(u64::from(random.below(20_000))));
    }
    bed.finish(vm)
}
