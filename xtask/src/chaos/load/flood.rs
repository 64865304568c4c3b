//! A SYN flood (RFC 4987): from addresses that do not exist, to a port that is served, so that its backlog is full of connections that
//! will never be.
//!
//! Before it, a connection is established; through it, that one goes on carrying bytes that are compared, and new ones are tried. What
//! is promised: the first notices nothing; a new one gets in during the flood within a bounded time, and at once when it is over; and nothing
//! is left of it.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use abi::path::Path;

use super::forge::{Wire, segment};
use super::{Books, SOON, boot_wired, paths, start_echo, stretch};
use crate::chaos::Stage;
use crate::chaos::wire::segment::{Segment, flag};
use crate::checks::counter;
use crate::error::{Context as _, Result, failed};
use crate::machine::Nic;
use crate::relay::Random;
use crate::sys;
use crate::traffic;

const ECHO: u16 = 7;
const SEED: u64 = 0x5f1d;
/// SYNs a second: thirty backlogs.
const RATE: u64 = 1000;
/// How long a new connection may take during the flood: its SYN is sent again after one second, two, four.
const DURING: Duration = Duration::from_secs(8);
/// And after it. A SYN that was lost in the flood's last moment is sent again after a second.
const AFTER: Duration = Duration::from_millis(3500);

/// The part.
pub fn run(stage: &Stage<'_>) -> Result<()> {
    for path in paths(stage, false) {
        one_path(stage, path, Duration::from_secs(if stage.short { 5 } else { 20 }))?;
    }
    Ok(())
}

fn one_path(stage: &Stage<'_>, path: Path, time: Duration) -> Result<()> {
    let guest = stage.session.link.guest_address();
    let (mut vm, relay) = boot_wired(stage, path, Nic::E1000, None)?;
    let wire = Wire::beside(&relay)?;
    start_echo(&mut vm, ECHO)?;
    let mut established = traffic::connect((guest, ECHO).into())?;
    let quiet = traffic::request_response(
        &mut established.try_clone().context("socket")?,
        Duration::from_millis(100),
    );
    quiet.context("before the flood")?;
    drop(established);
    let before = stretch(stage, &mut vm, ECHO)?;
    established = traffic::connect((guest, ECHO).into())?;
    let (over, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let (went_on, opened) = thread::scope(|scope| {
        let flooder = scope.spawn(|| flood(&wire, guest, &over, &sent));
        let old = scope.spawn(|| {
            traffic::request_response(&mut established, time).context("the established connection")
        });
        // When the backlog is full.
        thread::sleep(Duration::from_millis(500));
        let opened = open_during(guest, time.saturating_sub(Duration::from_millis(600)), &over);
        let went_on = traffic::join_scoped(old);
        // Relaxed: it only ends a loop.
        over.store(true, Ordering::Relaxed);
        traffic::join_scoped(flooder).and_then(|()| Ok((went_on?, opened?)))
    })?;
    if went_on.first_error.is_some() || went_on.count == 0 {
        return failed(format!("the established connection: {went_on:?}"));
    }
    let start = Instant::now();
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((guest, ECHO)), AFTER)
        .context("a new connection after the flood")?;
    let after = start.elapsed();
    stream.set_read_timeout(Some(SOON)).context("socket")?;
    traffic::request_response(&mut stream, Duration::from_millis(100))
        .context("a new connection after the flood")?;
    drop((stream, established));
    let refused = counter(&mut vm, "server_backlog_full")?;
    let replaced = counter(&mut vm, "server_half_open_replaced")?;
    if refused + replaced < RATE {
        return failed(format!(
            "the backlog was not full: {refused} SYNs refused, {replaced} half open replaced"
        ));
    }
    // Half open connections end after 30 s.
    let books = Books::settle(&mut vm, &before)?;
    let slowest = opened.iter().max().copied().unwrap_or_default();
    println!(
        "   {:<10} {} SYNs in {} s (seed {SEED:#x}): {refused} refused, {replaced} half open replaced; {} transactions on the old \
         connection, none wrong; {} new ones in during the flood, the slowest in {} ms; one after it in {} ms",
        path.name(),
        sent.load(Ordering::Relaxed),
        time.as_secs(),
        went_on.count,
        opened.len(),
        slowest.as_millis(),
        after.as_millis()
    );
    println!("   {:<10} {}", path.name(), books.summary(&before));
    vm.power_off()
}

/// Opens connections, one after the other, and uses each; how long each took, with the tries that found their place taken by a later SYN
/// and were reset.
fn open_during(guest: Ipv4Addr, time: Duration, over: &AtomicBool) -> Result<Vec<Duration>> {
    let (start, mut took) = (Instant::now(), Vec::new());
    while start.elapsed() < time && !over.load(Ordering::Relaxed) && !sys::interrupted() {
        let begin = Instant::now();
        while let Err(error) = open_and_use(guest) {
            if begin.elapsed() > DURING {
                return failed(format!(
                    "no new connection within {} s of the flood: {error}",
                    DURING.as_secs()
                ));
            }
        }
        took.push(begin.elapsed());
        thread::sleep(Duration::from_millis(50));
    }
    Ok(took)
}

fn open_and_use(guest: Ipv4Addr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((guest, ECHO)), DURING)?;
    stream.set_read_timeout(Some(SOON))?;
    let moved = traffic::request_response(&mut stream, Duration::from_millis(10))?;
    if moved.first_error.is_some() { Err(std::io::Error::other("other bytes came back")) } else { Ok(()) }
}

/// SYNs from 198.18.0.0/15 (RFC 2544: nobody's), until `over`.
fn flood(wire: &Wire, guest: Ipv4Addr, over: &AtomicBool, sent: &AtomicU64) -> Result<()> {
    let (mut random, start) = (Random::new(SEED), Instant::now());
    while !over.load(Ordering::Relaxed) && !sys::interrupted() {
        let due = (start.elapsed().as_secs_f64() * RATE as f64) as u64;
        while sent.load(Ordering::Relaxed) < due {
            let number = random.next();
            let from = Ipv4Addr::from(0xc612_0000 | (number as u32 & 0x1_ffff));
            let syn = Segment {
                from: 1024 + (number >> 32) as u16 % 60_000,
                to: ECHO,
                seq: (number >> 20) as u32,
                flags: flag::SYN,
                window: 1024,
                ..Segment::default()
            };
            wire.insist(&segment(from, guest, &syn), SOON)?;
            sent.fetch_add(1, Ordering::Relaxed);
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
