//! All of one kind of thing, taken by an application (`hog`): memory, memory objects, ports, messages, threads, tasks, sockets, listeners; and a
//! window with next to no clusters. Whoever asks for more is refused with an error; who has what he needs goes on; and when the
//! taker has ended, all of it is there again.

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use abi::path::Path;

use super::{Books, SOON, boot, paths, start_echo, stretch};
use crate::chaos::Stage;
use crate::checks::{self, counter};
use crate::console::PROMPT;
use crate::error::{Context as _, Error, Result, failed};
use crate::traffic;
use crate::vm::Vm;

const ECHO: u16 = 7;
const TTCP: u16 = 5032;
/// What is taken, and by how many at once: a task has limits of its own, below those of the machine.
const KINDS: &[(&str, usize)] = &[
    ("memory", 1),
    ("tasks", 1),
    ("ports", 6),
    ("sockets", 3),
    ("objects", 3),
    ("messages", 4),
    ("threads", 3),
    ("listeners", 2),
];
/// Of these, in the short form.
const SHORT_KINDS: usize = 4;
/// How long it is kept.
const KEPT_S: u64 = 3;
/// How long the taking may take.
const TAKEN_S: usize = 25;

/// The part.
pub fn run(stage: &Stage<'_>) -> Result<()> {
    let by_kind = stage.case.filter(|case| KINDS.iter().any(|(kind, _)| kind.contains(case)));
    let paths = if by_kind.is_some() { vec![Path::Window] } else { paths(stage, false) };
    for path in paths {
        by_hog(stage, path, by_kind)?;
        if path == Path::Window && by_kind.is_none() {
            few_clusters(stage)?;
        }
    }
    Ok(())
}

fn by_hog(stage: &Stage<'_>, path: Path, only: Option<&str>) -> Result<()> {
    let link = &stage.session.link;
    let mut vm = boot(stage, path, "")?;
    start_echo(&mut vm, ECHO)?;
    works(stage, &mut vm)?;
    stretch(stage, &mut vm, ECHO)?;
    let kinds = if stage.short && only.is_none() { &KINDS[..SHORT_KINDS] } else { KINDS };
    for (kind, takers) in kinds.iter().filter(|(kind, _)| only.is_none_or(|only| kind.contains(only))) {
        let before = Books::read(&mut vm)?;
        let mut old = traffic::connect(link.guest(ECHO))?;
        let over = AtomicBool::new(false);
        let (said, went_on, news) = thread::scope(|scope| {
            let through = scope.spawn(|| {
                let mut transactions = 0;
                // Relaxed, here and below: it only ends a loop.
                while !over.load(Ordering::Relaxed) {
                    let moved = traffic::request_response_on(&mut old, Duration::from_millis(100));
                    let moved = moved.context(format!("the connection from before, without {kind}"))?;
                    if moved.first_error.is_some() {
                        return failed(format!("the connection from before: {moved:?}"));
                    }
                    transactions += moved.count;
                }
                Ok(transactions)
            });
            let said = take(&mut vm, kind, *takers);
            // Somebody new: served or refused, but not left hanging.
            let news = try_new(link.guest(ECHO));
            let rest = vm.console.command("sleep 1", SOON);
            over.store(true, Ordering::Relaxed);
            (said.and_then(|said| Ok(said + &rest?)), traffic::join_scoped(through), news)
        });
        let (said, went_on) = (said?, went_on?);
        drop(old);
        let refusals: Vec<_> = said
            .lines()
            .filter(|line| line.contains(", then: ") || line.starts_with("sh: "))
            .map(|line| line.trim_start_matches(PROMPT).trim())
            .collect();
        if refusals.is_empty() || said.contains("and there are more") {
            return failed(format!("{kind}: nobody was refused:\n{said}"));
        }
        println!(
            "   {:<10} {kind}: {}; {went_on} transactions meanwhile; a new connection: {news}",
            path.name(),
            refusals.join("; ")
        );
        Books::settle(&mut vm, &before)
            .map_err(|error| Error::Failed(format!("{kind}: {}", error.message())))?;
        works(stage, &mut vm).map_err(|error| Error::Failed(format!("after {kind}: {}", error.message())))?;
    }
    println!("   {:<10} afterwards everything works, and the books balance", path.name());
    vm.power_off()
}

/// Starts the takers, and looks whether the shell still answers; what all of them said.
fn take(vm: &mut Vm, kind: &str, takers: usize) -> Result<String> {
    let mut said = String::new();
    for _ in 0..takers {
        said += &vm.console.command(&format!("hog {kind} {KEPT_S} &"), SOON)?;
    }
    let reports = |said: &str| {
        [", then: ", "there are more", "sh: hog: "]
            .map(|text| said.matches(text).count())
            .iter()
            .sum::<usize>()
    };
    for _ in 0..TAKEN_S {
        if reports(&said) >= takers {
            break;
        }
        said += &vm.console.command("sleep 1", SOON)?;
    }
    said += &vm.console.command("ps", SOON)?;
    Ok(said)
}

/// What becomes of one who comes now.
fn try_new(to: SocketAddr) -> &'static str {
    let Ok(mut stream) = TcpStream::connect_timeout(&to, Duration::from_secs(2)) else { return "not taken" };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
    match traffic::request_response(&mut stream, Duration::from_millis(20)) {
        Ok(moved) if moved.first_error.is_none() && moved.count > 0 => "served",
        _ => "refused",
    }
}

/// A transfer each way.
fn works(stage: &Stage<'_>, vm: &mut Vm) -> Result<()> {
    let link = &stage.session.link;
    checks::into_guest(vm, link, TTCP, (8192, 500_000), SOON)?;
    checks::out_of_guest(vm, link, (8192, 50), SOON)
}

/// The smallest windows that there are: 16 clusters and 32 mbufs a pool, for many connections at once.
fn few_clusters(stage: &Stage<'_>) -> Result<()> {
    const CONNECTIONS: u64 = 12;
    const BYTES: u64 = 200_000;
    for (pools, clusters) in [(1, 16), (2, 32)] {
        let mut vm = boot(stage, Path::Window, &format!("pools={pools} clusters={clusters}"))?;
        start_echo(&mut vm, ECHO)?;
        drop(traffic::connect(stage.session.link.guest(ECHO))?);
        let crowd = |bytes| {
            thread::scope(|scope| {
                let all: Vec<_> =
                    (0..CONNECTIONS).map(|_| scope.spawn(move || there_and_back(stage, bytes))).collect();
                all.into_iter().try_for_each(traffic::join_scoped)
            })
        };
        crowd(BYTES / 10)?;
        let before = Books::read(&mut vm)?;
        crowd(BYTES)?;
        let dropped = counter(&mut vm, "drop_no_buffer")?;
        let wanted = counter(&mut vm, "server_no_buffer")?;
        if dropped + wanted == 0 {
            return failed(format!("{clusters} clusters were enough"));
        }
        Books::settle(&mut vm, &before)?;
        println!(
            "   window     {clusters} clusters in {pools} pools: {CONNECTIONS} connections moved {BYTES} bytes there and back, verified; \
             {dropped} frames dropped for want of a buffer, {wanted} times the server had none"
        );
        vm.power_off()?;
    }
    Ok(())
}

/// So many bytes to echo, compared as they come back.
fn there_and_back(stage: &Stage<'_>, bytes: u64) -> Result<()> {
    let mut stream = traffic::connect(stage.session.link.guest(ECHO))?;
    let mut back = stream.try_clone().context("socket")?;
    thread::scope(|scope| {
        let receiver = scope.spawn(move || traffic::receive(&mut back, true).context("what comes back"));
        let mut source = pattern::Source::new();
        while source.position() < bytes {
            let piece = 4096.min((bytes - source.position()) as usize);
            std::io::Write::write_all(&mut stream, source.peek(piece)).context("what goes there")?;
            source.advance(piece);
        }
        stream.shutdown(std::net::Shutdown::Write).context("socket")?;
        let moved = traffic::join_scoped(receiver)?;
        if moved.count == bytes && moved.first_error.is_none() {
            Ok(())
        } else {
            failed(format!("{moved:?}"))
        }
    })
}
