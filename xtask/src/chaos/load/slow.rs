//! Slow peers beside a fast transfer: some of the host's ends read a byte a second from a window of next to nothing, some write a byte a
//! second, some write to an application that never reads. The fast one must be finished, whole, and not slowed down by them.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use abi::path::Path;
use pattern::{Digest, Pattern};

use super::{Books, SOON, boot, paths, start, start_echo, stretch};
use crate::chaos::Stage;
use crate::console::PROMPT;
use crate::error::{Context as _, Result, failed};
use crate::results::Fields;
use crate::sys;
use crate::traffic::{self, Until};
use crate::vm::Vm;

const ECHO: u16 = 7;
const DEAF: u16 = 5030;
const FAST: u16 = 5031;
/// Of each kind.
const PEERS: usize = 6;
/// The fast transfer beside them has at least so many per cent of its rate alone. It has all of it where the host does nothing else; two runs
/// on a busy one differ by a factor of almost two.
const FLOOR: f64 = 35.0;
const SECOND: Duration = Duration::from_secs(1);

/// What a slow peer does.
#[derive(Clone, Copy)]
enum Kind {
    Reader,
    Writer,
    ToTheDeaf,
}

/// The part.
pub fn run(stage: &Stage<'_>) -> Result<()> {
    for path in paths(stage, false) {
        one_path(stage, path, if stage.short { 20_000_000 } else { 200_000_000 })?;
    }
    Ok(())
}

fn one_path(stage: &Stage<'_>, path: Path, bytes: u64) -> Result<()> {
    // By message each read and write is a message with a copy: less in the same time.
    let bytes = if path == Path::Ipc { bytes / 4 } else { bytes };
    let link = &stage.session.link;
    let mut vm = boot(stage, path, "")?;
    start_echo(&mut vm, ECHO)?;
    fast(stage, &mut vm, bytes / 10)?;
    let before = stretch(stage, &mut vm, ECHO)?;
    let alone = fast(stage, &mut vm, bytes)?;
    start(&mut vm, "hog deaf 3600", "listening on")?;
    let (over, stuck) = (AtomicBool::new(false), AtomicU64::new(0));
    let beside = thread::scope(|scope| {
        let mut peers = Vec::new();
        for kind in [Kind::Reader, Kind::Writer, Kind::ToTheDeaf] {
            let port = if matches!(kind, Kind::ToTheDeaf) { DEAF } else { ECHO };
            for _ in 0..PEERS {
                let stream = traffic::connect(link.guest(port));
                let (over, stuck) = (&over, &stuck);
                peers.push(scope.spawn(move || be_slow(stream?, kind, over, stuck)));
            }
        }
        // Until all of them are stuck.
        for _ in 0..100 {
            // Relaxed, here and below: a count and a flag that carry nothing else.
            if stuck.load(Ordering::Relaxed) >= 3 * PEERS as u64 || sys::interrupted() {
                break;
            }
            thread::sleep(SECOND / 10);
        }
        let beside = fast(stage, &mut vm, bytes);
        over.store(true, Ordering::Relaxed);
        for peer in peers {
            traffic::join_scoped(peer)?;
        }
        beside
    })?;
    let stuck = stuck.load(Ordering::Relaxed);
    if stuck != 3 * PEERS as u64 {
        return failed(format!("only {stuck} of {} peers came to be slow", 3 * PEERS));
    }
    let jobs = vm.console.command("ps", SOON)?;
    let deaf = jobs
        .lines()
        .find(|line| line.trim_end().ends_with("hog"))
        .and_then(|line| line.split_whitespace().next());
    let Some(deaf) = deaf else { return failed(format!("no hog is among the tasks:\n{jobs}")) };
    vm.console.command(&format!("kill {deaf}"), SOON)?;
    let books = Books::settle(&mut vm, &before)?;
    let percent = beside / alone * 100.0;
    println!(
        "   {:<10} {bytes} bytes, verified, at {:.1} MB/s alone and {:.1} beside {stuck} slow peers ({percent:.0} %); {}",
        path.name(),
        alone / 1e6,
        beside / 1e6,
        books.summary(&before)
    );
    vm.power_off()?;
    if percent < FLOOR {
        failed(format!("{}: the fast transfer was slowed down to {percent:.0} %", path.name()))
    } else {
        Ok(())
    }
}

/// The fast transfer; bytes a second.
fn fast(stage: &Stage<'_>, vm: &mut Vm, bytes: u64) -> Result<f64> {
    vm.console.type_line(&format!("ttcp -r -s -l 8192 -p {FAST} -M"))?;
    vm.console.expect(&format!("listening on {FAST}"), SOON)?;
    let mut stream = traffic::connect(stage.session.link.guest(FAST))?;
    let sent = traffic::send(&mut stream, 8192, Until::Bytes(bytes)).context("the fast transfer")?;
    drop(stream);
    let output = vm.console.expect(PROMPT, SOON)?;
    let fields = Fields::require(&output, "ttcp")?;
    if fields.number("bytes") != Some(bytes) || fields.digest() != Some(Digest::of_pattern(bytes)) {
        return failed(format!("{bytes} bytes were sent: {output}"));
    }
    Ok(bytes as f64 / sent.seconds)
}

/// Is slow until `over`, and resets its connection then.
fn be_slow(mut stream: TcpStream, kind: Kind, over: &AtomicBool, stuck: &AtomicU64) -> Result<()> {
    let (mut written, mut read) = (0, 0);
    stream.set_write_timeout(Some(SECOND)).context("socket")?;
    match kind {
        Kind::Writer => {}
        Kind::Reader | Kind::ToTheDeaf => {
            sys::be_short_of_room(&stream);
            // Until no more is taken.
            while let Ok(taken @ 1..) = stream.write(Pattern::chunk(written, 8192)) {
                written += taken as u64;
            }
        }
    }
    let mut counted = false;
    while !over.load(Ordering::Relaxed) && !sys::interrupted() {
        match kind {
            Kind::Reader => {
                let mut byte = [0];
                stream.read_exact(&mut byte).context("a slow reader")?;
                if byte != Pattern::chunk(read, 1) {
                    return failed(format!("a slow reader got another byte at {read}"));
                }
                read += 1;
            }
            Kind::Writer => {
                stream.write_all(Pattern::chunk(written, 1)).context("a slow writer")?;
                let mut byte = [0];
                stream.read_exact(&mut byte).context("a slow writer")?;
                if byte != Pattern::chunk(written, 1) {
                    return failed(format!("a slow writer got another byte back at {written}"));
                }
                written += 1;
            }
            Kind::ToTheDeaf => {}
        }
        if !counted {
            counted = true;
            stuck.fetch_add(1, Ordering::Relaxed);
        }
        for _ in 0..10 {
            if over.load(Ordering::Relaxed) {
                break;
            }
            thread::sleep(SECOND / 10);
        }
    }
    sys::reset(stream).context("socket")
}
