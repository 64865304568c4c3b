//! Receive livelock (Mogul and Ramakrishnan, "Eliminating Receive Livelock in an Interrupt-Driven Kernel", 1996): does useful work go on
//! when more frames come than can be looked at?
//!
//! The useful work is `echo` over UDP, an application that answers requests. They are sent at a steady rate, with frames
//! between them that are of no use: datagrams to a port that nobody has, which go all the way up the stack, or packets with a bad header
//! checksum, which the driver drops. Of those, as many are offered as the step says; one for which the machine has no room
//! is lost before it, as a device drops it whose ring is full. A request is tried again until there is room, so that none is lost before Oriel
//! could have seen it: what is missing among the answers was lost in Oriel.

use std::collections::HashSet;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use abi::path::Path;

use super::forge::{Wire, datagram, ipv4};
use super::plot::{Curve, plot};
use super::{Books, SOON, boot_wired, start_echo};
use crate::chaos::Stage;
use crate::checks::counter;
use crate::error::{Context as _, Result, failed};
use crate::machine::{Nic, name_of};
use crate::results::Fields;
use crate::sys;
use crate::traffic::{self, datagrams};
use crate::vm::Vm;

/// Useless frames that are offered each second, step by step. The last is more than any host sends.
const RATES: &[u64] = &[0, 5_000, 10_000, 20_000, 40_000, 80_000, 160_000, FASTEST];
/// In the short form.
const SHORT_RATES: &[u64] = &[0, FASTEST];
const FASTEST: u64 = 10_000_000;
/// How long a machine is loaded, all steps together.
const MINUTE: Duration = Duration::from_secs(60);
/// And a step in the short form.
const SHORT_STEP: Duration = Duration::from_millis(830);
/// Requests each second.
const REQUESTS: u64 = 500;
/// Of the requests that were sent at any rate, at least so many are answered, in per cent. What collapses falls to nothing.
const FLOOR: u64 = 40;
/// The machine's clock takes 2 to this power nanoseconds for an instruction: it is busy with 31 million a second, and faster if the host is.
const SPEED: u8 = 5;
/// A host that has other things to do may make it slower than that: then its clock loses more than this, in per cent, and the step says
/// nothing about Oriel.
const LATE: u64 = 10;
/// A step of which that is so, or whose share is below the floor, is taken so often: all the host's noise has to be in all of them.
const TRIES: u32 = 3;
const ECHO: u16 = 7;
/// A port that nobody has, in the guest and on the host.
const CLOSED: u16 = 9;
/// How long a request waits for room.
const ROOM: Duration = Duration::from_millis(100);
/// How long the answers to the last requests may take.
const STRAGGLERS: Duration = Duration::from_millis(300);

/// What a useless frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chaff {
    /// A datagram to a port that nobody has.
    Closed,
    /// A packet whose header's checksum is wrong.
    Corrupt,
}

impl Chaff {
    const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed port",
            Self::Corrupt => "bad header",
        }
    }

    fn frame(self, from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
        match self {
            Self::Closed => datagram((from, CLOSED), (to, CLOSED), &[0; 18]),
            Self::Corrupt => {
                let mut frame = ipv4(from, to, 17, &[0; 26]);
                frame[24] ^= 0x5a;
                frame
            }
        }
    }
}

/// One step: all of it each second.
#[derive(Debug, Clone, Copy, Default)]
struct Point {
    /// Useless frames that were offered.
    offered: u64,
    /// Of these, taken by the machine.
    taken: u64,
    /// Requests that were sent.
    requests: u64,
    /// Answers.
    useful: u64,
    /// By how much the machine's clock gained on the host's, in per cent; all of its time, if it was as fast as it says.
    clock: u64,
}

impl Point {
    /// Answers, of the requests that were sent, in per cent.
    fn share(&self) -> u64 {
        (self.useful * 100).checked_div(self.requests).unwrap_or(0)
    }

    /// Whether it says something about Oriel.
    fn counts(&self) -> bool {
        self.clock + LATE >= 100 || self.share() >= FLOOR
    }
}

/// A machine that is overrun.
#[derive(Clone, Copy)]
struct World {
    path: Path,
    nic: Nic,
    in_short: bool,
}

const WORLDS: &[World] = &[
    World { path: Path::Monolithic, nic: Nic::E1000, in_short: true },
    World { path: Path::Ipc, nic: Nic::E1000, in_short: true },
    World { path: Path::Window, nic: Nic::E1000, in_short: true },
    World { path: Path::Window, nic: Nic::Virtio, in_short: false },
];

impl World {
    fn name(self) -> String {
        format!("{}-{}", self.path.name(), name_of(&self.nic))
    }
}

/// The part.
pub fn run(stage: &Stage<'_>) -> Result<()> {
    let rates = if stage.short { SHORT_RATES } else { RATES };
    let chosen = |world: &&World| match stage.case {
        Some(case) => world.name().contains(case),
        None => world.in_short || !stage.short,
    };
    let step = if stage.short { SHORT_STEP } else { MINUTE / (2 * rates.len()) as u32 };
    let (mut curves, mut collapsed) = (Vec::new(), Vec::new());
    for &world in WORLDS.iter().filter(chosen) {
        let chaffs = [Chaff::Closed, Chaff::Corrupt];
        for (chaff, points) in one_machine(stage, world, &chaffs, rates, step)? {
            let name = format!("{}, {}", world.name(), chaff.name());
            let share = |point: &Point| point.share();
            let last = points.last().map_or(0, share);
            let Some(least) = points.iter().filter(|point| point.counts()).map(share).min() else {
                println!("   {name}: the host had no time for a machine of this speed");
                continue;
            };
            println!(
                "   {name}: of the requests {last} % are answered at the highest rate, {least} at the worst"
            );
            if least < FLOOR {
                collapsed.push(format!("{name}: {least} %"));
            }
            curves.push(Curve {
                panel: chaff.name(),
                path: world.path.name(),
                nic: name_of(&world.nic),
                dashed: world.nic == Nic::Virtio,
                points: points.iter().map(|point| (point.offered as f64, point.useful as f64)).collect(),
            });
        }
    }
    if let Some(file) = stage.svg {
        std::fs::write(file, plot(&curves)).context(file.display())?;
        println!("   {}", file.display());
    }
    if collapsed.is_empty() {
        Ok(())
    } else {
        failed(format!("useful work collapses: {}", collapsed.join("; ")))
    }
}

/// The curves of one machine.
fn one_machine(
    stage: &Stage<'_>,
    world: World,
    chaffs: &[Chaff],
    rates: &[u64],
    step: Duration,
) -> Result<Vec<(Chaff, Vec<Point>)>> {
    let (host, guest) = (stage.session.link.host, stage.session.link.guest_address());
    let (mut vm, relay) = boot_wired(stage, world.path, world.nic, Some(SPEED))?;
    let name = world.name();
    let wire = Wire::beside(&relay)?;
    start_echo(&mut vm, ECHO)?;
    // QEMU's e1000 takes no frame in the first second.
    datagrams::wait_for_reply(guest, SOON);
    let socket = datagrams::bind(host, 0)?;
    let port = socket.local_addr().context("socket")?.port();
    // So that the host knows the guest's station address, and the guest the host's.
    socket.send_to(b"first", (guest, ECHO)).context("socket")?;
    let mut buffer = [0; 64];
    socket.recv(&mut buffer).context("no answer from echo")?;
    let before = Books::read(&mut vm)?;
    let mut curves = Vec::new();
    println!(
        "   {:<16} {:<12} {:>10} {:>10} {:>10} {:>10} {:>10} {:>9}",
        "path and card",
        "frames",
        "offered/s",
        "taken/s",
        "to Oriel/s",
        "requests/s",
        "answers/s",
        "its clock"
    );
    for &chaff in chaffs {
        let mut points = Vec::new();
        for &rate in rates {
            let mut best = Point::default();
            for _ in 0..TRIES {
                let (frames, clock, start) =
                    (counter(&mut vm, "frames_in")?, clock(&mut vm)?, Instant::now());
                let mut point = measure(&wire, &socket, (host, port), guest, chaff, rate, step)?;
                let passed = self::clock(&mut vm)? - clock;
                point.clock = (passed as f64 * 100.0 / start.elapsed().as_nanos() as f64) as u64;
                let frames = counter(&mut vm, "frames_in")? - frames;
                println!(
                    "   {:<16} {:<12} {:>10} {:>10} {:>10} {:>10} {:>10} {:>7} %",
                    name,
                    chaff.name(),
                    point.offered,
                    point.taken,
                    (frames as f64 / step.as_secs_f64()) as u64,
                    point.requests,
                    point.useful,
                    point.clock
                );
                if (point.counts(), point.share()) >= (best.counts(), best.share()) {
                    best = point;
                }
                if best.share() >= FLOOR {
                    break;
                }
            }
            points.push(best);
        }
        curves.push((chaff, points));
    }
    // And then all is as before, and a connection is served at once.
    let mut stream = traffic::connect((guest, ECHO).into())?;
    let after =
        traffic::request_response(&mut stream, Duration::from_millis(200)).context("after the load")?;
    if after.count == 0 || after.first_error.is_some() {
        return failed(format!("after the load: {after:?}"));
    }
    drop(stream);
    let books = Books::settle(&mut vm, &before)?;
    println!("   {name}: {}", books.summary(&before));
    vm.power_off()?;
    Ok(curves)
}

/// The guest's clock, in nanoseconds.
fn clock(vm: &mut Vm) -> Result<u64> {
    let output = vm.console.command("vmstat -M", SOON)?;
    Fields::require(&output, "vmstat")?.require_number("clock_ns")
}

/// One step.
fn measure(
    wire: &Wire,
    socket: &UdpSocket,
    own: (Ipv4Addr, u16),
    guest: Ipv4Addr,
    chaff: Chaff,
    rate: u64,
    time: Duration,
) -> Result<Point> {
    // Marks this step's requests: what comes late from the step before does not count.
    let mark = rate.rotate_left(32) ^ (chaff as u64) << 63 ^ 0x006f_7269_656c;
    let over = AtomicBool::new(false);
    let (answers, sent) = thread::scope(|scope| {
        let listener = scope.spawn(|| listen(socket, mark, &over));
        let sent = send(wire, own, guest, &chaff.frame(own.0, guest), mark, rate, time);
        thread::sleep(STRAGGLERS);
        // Relaxed: it only ends a loop.
        over.store(true, Ordering::Relaxed);
        (traffic::join_scoped(listener), sent)
    });
    let (answers, (offered, taken, requests)) = (answers?, sent?);
    let each_second = |n: u64| (n as f64 / time.as_secs_f64()) as u64;
    Ok(Point {
        offered: each_second(offered),
        taken: each_second(taken),
        requests: each_second(requests),
        useful: each_second(answers),
        clock: 0,
    })
}

/// Counts the answers that are right, each once.
fn listen(socket: &UdpSocket, mark: u64, over: &AtomicBool) -> Result<u64> {
    let (mut seen, mut buffer) = (HashSet::new(), [0; 64]);
    while !over.load(Ordering::Relaxed) {
        if let Ok(length) = socket.recv(&mut buffer)
            && let Ok(payload) = <[u8; 16]>::try_from(&buffer[..length])
        {
            let [its_mark, number] =
                [0, 8].map(|at| u64::from_le_bytes(std::array::from_fn(|i| payload[at + i])));
            if its_mark == mark {
                seen.insert(number);
            }
        }
    }
    Ok(seen.len() as u64)
}

/// Sends both kinds of frames for so long; how many useless ones were offered and taken, and how many requests were sent.
fn send(
    wire: &Wire,
    own: (Ipv4Addr, u16),
    guest: Ipv4Addr,
    chaff: &[u8],
    mark: u64,
    rate: u64,
    time: Duration,
) -> Result<(u64, u64, u64)> {
    /// Frames between two looks at the clock.
    const BURST: u64 = 32;
    let (mut offered, mut taken, mut number, mut requests) = (0, 0, 0_u64, 0);
    let start = Instant::now();
    loop {
        let elapsed = start.elapsed();
        if elapsed >= time || sys::interrupted() {
            return Ok((offered, taken, requests));
        }
        let due = |rate: u64| (elapsed.as_secs_f64() * rate as f64) as u64;
        let (chaff_due, requests_due) = (due(rate), due(REQUESTS));
        while number < requests_due {
            let payload = [mark.to_le_bytes(), number.to_le_bytes()].concat();
            requests += u64::from(wire.insist(&datagram(own, (guest, ECHO), &payload), ROOM)?);
            number += 1;
        }
        for _ in 0..BURST.min(chaff_due.saturating_sub(offered)) {
            offered += 1;
            taken += u64::from(wire.offer(chaff)?);
        }
        if offered >= chaff_due {
            thread::sleep(Duration::from_micros(200));
        }
    }
}
