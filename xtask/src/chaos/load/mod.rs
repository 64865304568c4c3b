//! Oriel under load: more than it can do, more often than anybody would, and with nothing left to do it with.
//!
//! | part | what it does |
//! | --- | --- |
//! | [`livelock`] | short frames at rising rates beside requests (Mogul and Ramakrishnan, "Eliminating Receive Livelock", 1996) |
//! | [`churn`] | connections opened and closed, a thousand of them |
//! | [`flood`] | SYNs from nowhere (RFC 4987) |
//! | [`slow`] | peers that take a byte a second, applications that do not read |
//! | [`exhaustion`] | all of one kind of thing, taken by an application |
//! | [`soak`] | all sorts of traffic for minutes |
//!
//! Each part looks at the [`Books`] before and after: what the kernel and the server have must be what it was.

pub mod churn;
pub mod exhaustion;
pub mod flood;
pub mod forge;
pub mod livelock;
mod plot;
pub mod slow;
pub mod soak;

use std::thread;
use std::time::{Duration, Instant};

use abi::path::Path;

use super::Stage;
use crate::error::{Context as _, Result, failed};
use crate::machine::{Board, Machine, Nic};
use crate::relay::{Impairment, Relay};
use crate::results::Fields;
use crate::traffic;
use crate::vm::Vm;

/// Long enough for any command here that is not the load itself.
pub const SOON: Duration = Duration::from_secs(30);
/// How long what was used may take to come back: longer than a connection waits for late packets (TIME-WAIT, 10 s in this stack).
const SETTLED: Duration = Duration::from_secs(45);
/// Pages of memory that may have become page tables.
const TABLE_PAGES: u64 = 64;
/// Pages by which the heaps of server and applications may have grown: one more arena, the largest that there can be here.
const HEAP_PAGES: u64 = 4096 + 64;
/// The same, for the kernel's heap.
const HEAP_BYTES: u64 = 64 << 10;

/// What is in use of what there is: all of it is to be as before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Books {
    free_pages: u64,
    task_pages: u64,
    heap_bytes: u64,
    tasks: u64,
    threads: u64,
    ports: u64,
    objects: u64,
    sockets: u64,
}

impl Books {
    /// As they are now.
    pub fn read(vm: &mut Vm) -> Result<Self> {
        let output = vm.console.command("vmstat -M", SOON)?;
        let vmstat = Fields::require(&output, "vmstat")?;
        let output = vm.console.command("mbstat -M", SOON)?;
        let sockets = Fields::require(&output, "mbstat")?.require_number("server_sockets")?;
        Ok(Self {
            free_pages: vmstat.require_number("free_pages")?,
            task_pages: vmstat.require_number("task_pages")?,
            heap_bytes: vmstat.require_number("heap_bytes")?,
            tasks: vmstat.require_number("tasks")?,
            threads: vmstat.require_number("threads")?,
            ports: vmstat.require_number("ports")?,
            objects: vmstat.require_number("objects")?,
            sockets,
        })
    }

    /// Whether nothing was left behind since `before`.
    fn balances(&self, before: &Self) -> bool {
        let counts = |books: &Self| (books.tasks, books.threads, books.ports, books.sockets);
        counts(self) == counts(before)
            // A connection from before that was still waiting for late packets may be gone now.
            && self.objects <= before.objects
            // What left the free pages and is in no task is lost. A task's heap keeps what it once had, but does not grow for ever.
            && self.free_pages + self.task_pages + TABLE_PAGES >= before.free_pages + before.task_pages
            && self.task_pages <= before.task_pages + HEAP_PAGES
            && self.heap_bytes <= before.heap_bytes + HEAP_BYTES
    }

    /// Waits until all is as before, and lets the guest audit its buffers.
    pub fn settle(vm: &mut Vm, before: &Self) -> Result<Self> {
        let deadline = Instant::now() + SETTLED;
        let after = loop {
            // While there is nothing left of something, the programs that would say so may not start.
            let now = Self::read(vm);
            match now {
                Ok(now) if now.balances(before) => break now,
                Ok(now) if Instant::now() > deadline => {
                    return failed(format!(
                        "something was left behind:\n    before {before:?}\n    after  {now:?}"
                    ));
                }
                Err(error) if Instant::now() > deadline => return Err(error),
                _ => vm.console.look_for_trouble()?,
            }
            thread::sleep(Duration::from_millis(500));
        };
        audit(vm)?;
        Ok(after)
    }

    /// What a reader wants to know of two of them that balance.
    pub fn summary(&self, before: &Self) -> String {
        let kib = 4 * (self.free_pages.cast_signed() - before.free_pages.cast_signed());
        format!(
            "books balance: {} tasks, {} threads, {} ports, {} objects, {} sockets as before; free memory {kib:+} KiB",
            self.tasks, self.threads, self.ports, self.objects, self.sockets
        )
    }
}

/// Every mbuf and cluster is accounted for, every frame delivered or its drop counted.
pub fn audit(vm: &mut Vm) -> Result<()> {
    thread::sleep(Duration::from_millis(300));
    let output = vm.console.command("mbstat -c", SOON)?;
    if output.contains("mbstat: balanced") && !output.contains("exit status") {
        return Ok(());
    }
    failed(format!("the books don't balance:\n{output}"))
}

/// A machine on this path, up, with more on the kernel's command line.
pub fn boot(stage: &Stage<'_>, path: Path, more: &str) -> Result<Vm> {
    Vm::boot(&machine(stage, path, Nic::E1000, more)?)
}

/// As [`boot`], with a [`forge::Wire`] into it beside the tap.
pub fn boot_wired(stage: &Stage<'_>, path: Path, nic: Nic, icount: Option<u8>) -> Result<(Vm, Relay)> {
    // As many frames wait before the machine as a tap holds; without the permission, ten.
    std::fs::write("/proc/sys/net/unix/max_dgram_qlen", "500").ok();
    let relay = Relay::start(stage.session.folder.path(), Impairment::default(), 0)?;
    let mut machine = machine(stage, path, nic, "")?;
    machine.backend = relay.backend();
    machine.icount = icount;
    Ok((Vm::boot(&machine)?, relay))
}

fn machine(stage: &Stage<'_>, path: Path, nic: Nic, more: &str) -> Result<Machine> {
    let mut machine = stage.session.plain_machine(nic, Board::Pc)?;
    machine.set_path(path);
    machine.arguments += &format!(" {more}");
    Ok(machine)
}

/// Starts the echo service in the background.
pub fn start_echo(vm: &mut Vm, port: u16) -> Result<()> {
    start(vm, &format!("echo -p {port}"), &format!("listening on {port}"))
}

/// Opens many connections to echo at once and closes them: then server and echo have as much heap as any load here makes them take, which
/// they keep. The books as they are after that.
pub fn stretch(stage: &Stage<'_>, vm: &mut Vm, port: u16) -> Result<Books> {
    const CONNECTIONS: usize = 56;
    let mut streams = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut stream = traffic::connect(stage.session.link.guest(port))?;
        let moved = traffic::request_response_on(&mut stream, Duration::from_millis(1)).context("echo")?;
        if moved.first_error.is_some() {
            return failed(format!("echo: {moved:?}"));
        }
        streams.push(stream);
    }
    let high = Books::read(vm)?;
    drop(streams);
    let deadline = Instant::now() + SOON;
    loop {
        let now = Books::read(vm)?;
        if now.sockets + CONNECTIONS as u64 <= high.sockets && now.objects < high.objects {
            return Ok(now);
        }
        if Instant::now() > deadline {
            return failed(format!("{CONNECTIONS} connections are not over: {now:?}"));
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// Starts a program in the background, and waits until it has said `ready`. The shell is at its prompt then.
pub fn start(vm: &mut Vm, line: &str, ready: &str) -> Result<()> {
    let output = vm.console.command(&format!("{line} &"), SOON)?;
    // It speaks before the next prompt or behind it.
    if output.contains(ready) { Ok(()) } else { vm.console.expect(ready, SOON).map(drop) }
}

/// A counter of the guest's.
pub fn counter(vm: &mut Vm, name: &str) -> Result<u64> {
    let output = vm.console.command("mbstat -M", SOON)?;
    Fields::require(&output, "mbstat")?.require_number(name)
}

/// The paths that are tried: all, or the one that matters most.
pub fn paths(stage: &Stage<'_>, all_in_short: bool) -> Vec<Path> {
    let wanted = |path: &Path| stage.case.is_none_or(|case| path.name().contains(case));
    let all =
        if stage.short && !all_in_short && stage.case.is_none() { &[Path::Window][..] } else { &Path::ALL };
    all.iter().copied().filter(wanted).collect()
}
