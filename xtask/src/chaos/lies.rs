//! A protocol server that lies: on the host against the driver alone, and in a machine beside an honest server that carries verified transfers.
//!
//! The campaign on the host is `netdev-driver/examples/lies`, compiled so that every single load of the liar's window may be answered by a
//! lie. In the machine `liar` (`apps/src/bin/liar`) has a window of its own (`windows=2`), or on the path by message a device of its own:
//! first every directed case, then campaigns of one seed after the other, in every other half second of one long transfer to the honest
//! server: what that carries beside the liar is compared with what it carries in the half seconds between. The seed is printed; `--case NUMBER`
//! repeats it.

use std::io::Write as _;
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use pattern::Digest;

use super::Stage;
use super::load::{Books, SOON};
use crate::build;
use crate::console::PROMPT;
use crate::error::{Context as _, Result, failed};
use crate::machine::{Board, Nic};
use crate::network::TAP;
use crate::results::Fields;
use crate::spread::Spread;
use crate::sys::PacketSocket;
use crate::traffic::{self, Until};
use crate::vm::Vm;

/// Operations of the campaign on the host.
const OPERATIONS: u64 = 10_000_000;
const OPERATIONS_SHORT: u64 = 400_000;
/// Where frames for the liar go, as it claims it.
const LIAR: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 66);
const GUEST_MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x6f, 0x72, 0x69];
/// What the honest server keeps of its rate, by the issue, and what it keeps for certain: the host's noise is between.
const KEPT: f64 = 0.8;
const KEPT_SURELY: f64 = 0.7;
/// The honest server's port.
const PORT: u16 = 5001;
/// The liar lies for so long, and then it pauses for so long.
const STRETCH: Duration = Duration::from_millis(500);
/// How long the liar goes on after the transfer beside it, at most.
const LINGER: Duration = Duration::from_secs(60);

/// A machine that is lied to.
struct World {
    name: &'static str,
    path: &'static str,
    queue: &'static str,
    nic: Nic,
    in_short: bool,
}

const WORLDS: &[World] = &[
    World { name: "window-dual-e1000", path: "window", queue: "dual", nic: Nic::E1000, in_short: true },
    World { name: "window-ring-virtio", path: "window", queue: "ring", nic: Nic::Virtio, in_short: true },
    World { name: "window-ring-e1000", path: "window", queue: "ring", nic: Nic::E1000, in_short: false },
    World { name: "window-dual-virtio", path: "window", queue: "dual", nic: Nic::Virtio, in_short: false },
    World { name: "message-e1000", path: "ipc", queue: "dual", nic: Nic::E1000, in_short: true },
    World { name: "message-virtio", path: "ipc", queue: "dual", nic: Nic::Virtio, in_short: false },
];

/// The part.
pub fn run(stage: &Stage<'_>) -> Result<()> {
    let given = stage.case.and_then(|case| case.parse().ok());
    let clock = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(1, |time| time.as_secs());
    let seed: u64 = given.unwrap_or_else(|| if stage.short { 1 } else { clock() });
    println!("   seed {seed}; again: cargo xtask chaos lies --case {seed}");
    let chosen = |name: &str| given.is_some() || stage.case.is_none_or(|case| name.contains(case));
    if chosen("host") {
        host(if stage.short { OPERATIONS_SHORT } else { OPERATIONS }, seed)?;
    }
    for world in WORLDS.iter().filter(|world| chosen(world.name) && (world.in_short || !stage.short)) {
        in_a_machine(stage, world, seed)?;
    }
    Ok(())
}

/// The campaign against the driver alone.
fn host(operations: u64, seed: u64) -> Result<()> {
    // A target folder of its own: the flag changes every crate.
    let status = build::cargo()
        .args(["run", "--quiet", "--release", "-p", "netdev-driver", "--example", "lies", "--"])
        .args(["--operations", &operations.to_string(), "--seed", &seed.to_string()])
        .env("RUSTFLAGS", "--cfg shmqueue_inject")
        .env("CARGO_TARGET_DIR", build::root().join("target").join("inject"))
        .status()
        .context("cannot start cargo")?;
    if status.success() { Ok(()) } else { failed("the driver did not stand the lies; see above") }
}

fn in_a_machine(stage: &Stage<'_>, world: &World, seed: u64) -> Result<()> {
    let window = world.path == "window";
    let mut machine = stage.session.plain_machine(world.nic, Board::Pc)?;
    machine.arguments += &format!(" path={} queue={} windows=2", world.path, world.queue);
    let mut vm = Vm::boot(&machine)?;
    vm.console.trouble_expected = true; // the reports of what the kernel ends
    let stray = Stray::start()?;
    let result = in_a_world(stage, world, seed, window, &mut vm);
    stray.end()?;
    let summary = result?;
    // A panic would end the machine in another way.
    vm.power_off()?;
    println!("   {}: {summary}", world.name);
    Ok(())
}

fn in_a_world(stage: &Stage<'_>, world: &World, seed: u64, window: bool, vm: &mut Vm) -> Result<String> {
    let to = SocketAddr::new(stage.session.link.guest_address().into(), PORT);
    // The server's heap grows with its first connection.
    vm.console.type_line(&format!("ttcp -r -s -l 8192 -p {PORT}"))?;
    vm.console.expect(&format!("listening on {PORT}"), SOON)?;
    traffic::send(&mut traffic::connect(to)?, 8192, Until::Elapsed(Duration::from_secs(1)))
        .context("sender")?;
    vm.console.expect(PROMPT, SOON)?;
    let before = Books::read(vm)?;
    let mut cases = String::new();
    if window {
        let output = vm.console.command("liar -c 1 cases", Duration::from_secs(150))?;
        let Some(line) = output.lines().find(|line| line.starts_with("liar: tried=")) else {
            return failed(format!("liar says:\n{output}"));
        };
        if !line.contains("wrong=0") {
            return failed(format!("a lie had another end than it should:\n{output}"));
        }
        cases = format!("{}; ", line.trim_start_matches("liar: "));
    }
    let stretches = if stage.short { 20 } else { 80 };
    let seconds = (STRETCH.as_millis() as u64 * stretches).div_ceil(1000) + 4;
    let line = format!("liar -s {seed} -c 99999 -t {seconds} -n 5000 -p {} &", STRETCH.as_millis());
    let begun = vm.console.transcript().len();
    vm.console.command(&line, SOON)?;
    let (beside, alone) = transfer(vm, to, stretches)?;
    vm.console.type_line("wait")?;
    vm.console.expect(PROMPT, LINGER)?;
    // It may have ended before the transfer did.
    let said = vm.console.transcript().get(begun..).unwrap_or_default();
    let Some(said) = said.rfind("liar: seed=").map(|at| said[at..].to_owned()) else {
        return failed(format!("the liar does not say what it did:\n{said}"));
    };
    let number = |key: &str| {
        said.split_whitespace()
            .find_map(|word| word.strip_prefix(key)?.strip_prefix('=')?.parse::<u64>().ok())
            .unwrap_or(0)
    };
    let (started, windows) = (number("started"), number("windows"));
    // A campaign against a window ends with that, early; one by message goes on to its end.
    let least = if window { stretches / 10 } else { 1 };
    if started < least || window && windows * 2 < started {
        return failed(format!(
            "{started} campaigns, of which {windows} ended for their window: nothing was tried"
        ));
    }
    let kept = beside / alone;
    let after = Books::settle(vm, &before)?;
    let summary = format!(
        "{cases}{started} campaigns, {windows} ended for their window; the honest server carries {:.1} MB/s beside the liar, {:.1} \
         alone: {:.0} %{}; {}",
        beside / 1e6,
        alone / 1e6,
        100.0 * kept,
        if kept < KEPT { ", less than 80" } else { "" },
        after.summary(&before)
    );
    // By message, who asks for every frame makes the kernel copy every frame for it, up to its allotment: there is no floor, and this is told only.
    // Nor in the short form, which is part of the tests: no test depends on how fast a machine is.
    if window && !stage.short && kept < KEPT_SURELY {
        return failed(format!("{}: the honest server suffers: {summary}", world.name));
    }
    Ok(summary)
}

/// One long transfer to the honest server, verified; its rate in the stretches in which the liar lies, and in those between: medians.
fn transfer(vm: &mut Vm, to: SocketAddr, stretches: u64) -> Result<(f64, f64)> {
    vm.console.type_line(&format!("ttcp -r -s -l 8192 -p {PORT} -M"))?;
    vm.console.expect(&format!("listening on {PORT}"), SOON)?;
    let (done, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let sender = {
        let (done, sent) = (Arc::clone(&done), Arc::clone(&sent));
        let mut stream = traffic::connect(to)?;
        thread::spawn(move || -> Result<u64> {
            let mut position = 0;
            // Relaxed, here and below: one ends the loop, the other is a figure.
            while !done.load(Ordering::Relaxed) {
                let piece = pattern::Pattern::chunk(position, 8192);
                stream.write_all(piece).context("honest bytes")?;
                position += piece.len() as u64;
                sent.store(position, Ordering::Relaxed);
            }
            stream.shutdown(Shutdown::Write).context("honest bytes")?;
            Ok(position)
        })
    };
    let (mut rates, mut last) = ([Vec::new(), Vec::new()], None);
    for _ in 0..=stretches {
        vm.console.expect("liar: ", SOON)?;
        let pauses = vm.console.expect("s", SOON)?.starts_with("pau");
        let now = (Instant::now(), sent.load(Ordering::Relaxed), pauses);
        if let Some((then, before, paused)) = last.replace(now)
            && paused != pauses
        {
            let seconds: f64 = now.0.duration_since(then).as_secs_f64();
            rates[usize::from(paused)].push((now.1 - before) as f64 / seconds);
        }
    }
    done.store(true, Ordering::Relaxed);
    let bytes = traffic::join(sender)?;
    vm.console.expect("#ttcp", SOON)?;
    let fields = Fields::require(&format!("#ttcp{}", vm.console.expect("\n", SOON)?), "ttcp")?;
    if fields.number("bytes") != Some(bytes) || fields.digest() != Some(Digest::of_pattern(bytes)) {
        return failed(format!("{bytes} bytes were sent, and the guest says {fields:?}"));
    }
    vm.console.expect(PROMPT, SOON)?;
    let [beside, alone] = rates.map(|rates| Spread::of(&rates));
    let counts = [beside, alone].map(|rates| rates.map_or(0, |rates| rates.count));
    match (beside, alone) {
        (Some(beside), Some(alone)) if counts.iter().all(|&count| count >= stretches as usize / 4) => {
            Ok((beside.median, alone.median))
        }
        _ => failed(format!("only {} and {} stretches were whole", counts[0], counts[1])),
    }
}

/// Frames for the liar and for everybody, as long as it lives: what it does to its free lists shows when one comes.
struct Stray {
    done: Arc<AtomicBool>,
    sender: JoinHandle<Result<()>>,
}

impl Stray {
    fn start() -> Result<Self> {
        let socket = PacketSocket::open(TAP).context("packet socket")?;
        let done = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&done);
        let frames = [datagram(), announcement()];
        let sender = thread::spawn(move || -> Result<()> {
            let mut number = 0_usize;
            // Relaxed: it only ends the loop.
            while !ended.load(Ordering::Relaxed) {
                // Every eighth is for all.
                let frame = &frames[usize::from(number.is_multiple_of(8))];
                number += 1;
                match socket.send(frame) {
                    // A full queue of the tap is no frame sent.
                    Err(error) if error.raw_os_error() != Some(libc::ENOBUFS) => {
                        return failed(error.to_string());
                    }
                    _ => thread::sleep(Duration::from_millis(2)),
                }
            }
            Ok(())
        });
        Ok(Self { done, sender })
    }

    fn end(self) -> Result<()> {
        self.done.store(true, Ordering::Relaxed);
        traffic::join(self.sender)
    }
}

/// A datagram to the liar (RFC 768).
fn datagram() -> Vec<u8> {
    let mut frame = [&GUEST_MAC[..], &[2, 0, 0, 0, 0, 1, 8, 0]].concat();
    let mut packet = vec![0x45, 0, 0, 28 + 100, 0, 0, 0, 0, 64, 17, 0, 0, 10, 9, 0, 1];
    packet.extend(LIAR.octets());
    let sum = crate::traffic::checksum(&[&packet]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend([0x13, 0x88, 0x13, 0x88, 0, 108, 0, 0]);
    packet.extend([0x5a; 100]);
    frame.extend(packet);
    frame
}

/// An ARP announcement (RFC 5227) of an address that nobody asks for.
fn announcement() -> Vec<u8> {
    let (sender, address) = ([2, 0, 0, 0, 0, 1], [10, 9, 0, 200]);
    let head =
        [&[0xff; 6][..], &sender, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &sender, &address, &[0; 6], &address];
    let mut frame = head.concat();
    frame.resize(60, 0);
    frame
}
