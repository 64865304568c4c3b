//! All sorts of traffic at once, for minutes: transfers both ways, echo over TCP and UDP, pings, connections opened and closed or
//! reset, and wrong frames between them. Every byte is compared, and the books must balance at the end.

use std::io::{Read as _, Write as _};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use abi::path::Path;
use pattern::Pattern;

use super::{Books, SOON, boot, paths, start_echo, stretch};
use crate::chaos::Stage;
use crate::checks;
use crate::error::{Context as _, Error, Result, failed};
use crate::network::TAP;
use crate::qemu_test::hostile::Forger;
use crate::relay::Random;
use crate::sys::{self, PacketSocket};
use crate::traffic::{self, datagrams};
use crate::vm::Vm;

const ECHO: u16 = 7;
const TTCP: u16 = 5029;
const SEED: u64 = 0x50a2;
const SHORT: Duration = Duration::from_secs(15);
const MINUTES: u64 = 10;
/// Bytes of a transfer, there and back.
const TRANSFER: u64 = 4_000_000;
/// Of so many datagrams, this many answers at least, in per cent: UDP may lose some.
const ANSWERED: u64 = 50;

/// What the peers have done.
#[derive(Default)]
struct Tally {
    echoed: AtomicU64,
    connections: AtomicU64,
    resets: AtomicU64,
    sent: AtomicU64,
    answered: AtomicU64,
    pings: AtomicU64,
    wrong_frames: AtomicU64,
}

/// The part.
pub fn run(stage: &Stage<'_>) -> Result<()> {
    let all = match (stage.minutes, stage.short) {
        (Some(minutes), _) => Duration::from_secs(60 * minutes),
        (None, true) => SHORT,
        (None, false) => Duration::from_secs(60 * MINUTES),
    };
    // The time is for all paths together.
    let paths = paths(stage, false);
    let each = all / paths.len().max(1) as u32;
    paths.into_iter().try_for_each(|path| one_path(stage, path, each))
}

fn one_path(stage: &Stage<'_>, path: Path, time: Duration) -> Result<()> {
    let (host, guest) = (stage.session.link.host, stage.session.link.guest_address());
    let mut vm = boot(stage, path, "")?;
    start_echo(&mut vm, ECHO)?;
    transfers(stage, &mut vm, Instant::now())?;
    let before = stretch(stage, &mut vm, ECHO)?;
    let (over, tally) = (AtomicBool::new(false), Tally::default());
    let moved = thread::scope(|scope| {
        let peers = [
            scope.spawn(|| bulk(guest, &over, &tally)),
            scope.spawn(|| come_and_go(guest, &over, &tally)),
            scope.spawn(|| datagrams_there_and_back(host, guest, &over, &tally)),
            scope.spawn(|| pings(guest, &over, &tally)),
            scope.spawn(|| wrong_frames(host, guest, &over, &tally)),
        ];
        let moved = transfers(stage, &mut vm, Instant::now() + time);
        // Relaxed, as all here: a flag and counts, which carry nothing else.
        over.store(true, Ordering::Relaxed);
        let outcomes: Vec<_> = peers.into_iter().map(traffic::join_scoped).collect();
        outcomes.into_iter().collect::<Result<Vec<()>>>()?;
        moved
    })?;
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    println!(
        "   {:<10} {} s: {moved} transfers by ttcp; {} MB echoed; {} connections opened and closed, {} reset; {} of {} datagrams answered; \
         {} pings; {} wrong frames (seed {SEED:#x})",
        path.name(),
        time.as_secs(),
        count(&tally.echoed) / 1_000_000,
        count(&tally.connections),
        count(&tally.resets),
        count(&tally.answered),
        count(&tally.sent),
        count(&tally.pings),
        count(&tally.wrong_frames)
    );
    for (what, n) in [("bytes", &tally.echoed), ("connections", &tally.connections), ("pings", &tally.pings)]
    {
        if count(n) == 0 {
            return failed(format!("no {what} went through"));
        }
    }
    if count(&tally.answered) * 100 < count(&tally.sent) * ANSWERED {
        return failed("too few datagrams were answered");
    }
    let books = Books::settle(&mut vm, &before)?;
    println!("   {:<10} {}", path.name(), books.summary(&before));
    vm.power_off()
}

/// A transfer in, one out, and so on; how many. One pair at least.
fn transfers(stage: &Stage<'_>, vm: &mut Vm, until: Instant) -> Result<u64> {
    const BYTES: u64 = 2_000_000;
    let link = &stage.session.link;
    let mut count = 0;
    loop {
        checks::into_guest(vm, link, TTCP, (1000, BYTES), SOON)?;
        checks::out_of_guest(vm, link, (8192, 250), SOON)?;
        count += 2;
        if Instant::now() >= until {
            return Ok(count);
        }
        if sys::interrupted() {
            return Err(Error::Interrupted);
        }
    }
}

fn goes_on(over: &AtomicBool) -> bool {
    !over.load(Ordering::Relaxed) && !sys::interrupted()
}

/// Megabytes to echo and back, in pieces, one connection after the other.
fn bulk(guest: Ipv4Addr, over: &AtomicBool, tally: &Tally) -> Result<()> {
    const PIECE: usize = 16_384;
    let mut back = vec![0; PIECE];
    while goes_on(over) {
        let mut stream = traffic::connect((guest, ECHO).into())?;
        let mut at = 0;
        while at < TRANSFER && goes_on(over) {
            let piece = Pattern::chunk(at, PIECE);
            stream.write_all(piece).context("what echo gets")?;
            stream.read_exact(&mut back).context("what echo sends back")?;
            if back != piece {
                return failed(format!("other bytes came back behind {at}"));
            }
            at += PIECE as u64;
            tally.echoed.fetch_add(PIECE as u64, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// Short connections; each third is reset.
fn come_and_go(guest: Ipv4Addr, over: &AtomicBool, tally: &Tally) -> Result<()> {
    while goes_on(over) {
        let mut stream = traffic::connect((guest, ECHO).into())?;
        let moved = traffic::request_response_on(&mut stream, Duration::from_millis(5))
            .context("a short connection")?;
        if moved.first_error.is_some() {
            return failed(format!("a short connection: {moved:?}"));
        }
        if tally.connections.fetch_add(1, Ordering::Relaxed) % 3 == 2 {
            tally.resets.fetch_add(1, Ordering::Relaxed);
            sys::reset(stream).context("socket")?;
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Datagrams of all sizes that fit into a frame: among the wrong frames are fragments, which keep the places where others would be put together.
fn datagrams_there_and_back(host: Ipv4Addr, guest: Ipv4Addr, over: &AtomicBool, tally: &Tally) -> Result<()> {
    let socket = datagrams::bind(host, 0)?;
    socket.connect((guest, ECHO)).context("socket")?;
    let (mut random, mut buffer) = (Random::new(SEED), vec![0; 1 << 16]);
    while goes_on(over) {
        let text = Pattern::chunk(random.next() >> 40, 1 + random.below(1400) as usize);
        tally.sent.fetch_add(1, Ordering::Relaxed);
        socket.send(text).context("a datagram")?;
        // A late answer to one before is not this one's.
        while let Ok(length) = socket.recv(&mut buffer) {
            if buffer[..length] == *text {
                tally.answered.fetch_add(1, Ordering::Relaxed);
                break;
            }
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

fn pings(guest: Ipv4Addr, over: &AtomicBool, tally: &Tally) -> Result<()> {
    while goes_on(over) {
        let moved = datagrams::ping(guest, Duration::from_millis(500))?;
        tally.pings.fetch_add(moved.count, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// Frames that no honest stack sends, some hundreds a second.
fn wrong_frames(host: Ipv4Addr, guest: Ipv4Addr, over: &AtomicBool, tally: &Tally) -> Result<()> {
    let mut forger = Forger { random: Random::new(SEED), from: host, to: guest };
    let socket = PacketSocket::open(TAP).context("packet socket")?;
    while goes_on(over) {
        match socket.send(&forger.frame()) {
            Ok(()) => {
                tally.wrong_frames.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
            Err(error) => return Err(error).context("packet socket"),
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
