//! The protocol server dies, again and again, under traffic of all kinds; so do its supervisor and applications.
//!
//! `crash` in the guest ends the server at random moments, by a seeded generator. Meanwhile `ttcp -R` sends and receives, `echo` answers
//! requests, and the host pings; all of them carry on by themselves ([`peers`]). An outage is what a peer on the host sees: from its last
//! answer to the next. What else may go wrong with a server (fault, exit, hang) is tried once each.
//!
//! At each shared access of its queue code the server is ended once, too ([`accesses`]).

mod accesses;
pub(super) mod peers;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use abi::path::Path;

use super::Stage;
use super::load::Books;
use crate::console::{FAULT, PANIC};
use crate::error::{Context as _, Error, Result, failed};
use crate::machine::{Board, Machine, Nic, name_of};
use crate::network::Link;
use crate::spread::Spread;
use crate::sys;
use crate::traffic;
use crate::vm::Vm;
use peers::{Peers, Ports, Seen};

/// The generator's seed. Whoever gives the guest's `crash` the same has the same moments between the kills.
const SEED: u64 = 1;
const SOON: Duration = Duration::from_secs(30);
/// How long a server may be gone that has hung, before the supervisor sees it and another is there.
const HANG: Duration = Duration::from_secs(10);
/// How long a stream to the guest may stand still before its sender begins another.
const STREAM_TRY: Duration = Duration::from_millis(500);
pub(super) const PORTS: Ports = Ports { echo: 7, sink: 5001, source: 5002 };

/// Kills on one kind of machine.
struct Campaign {
    path: Path,
    nic: Nic,
    kills: u32,
    /// Milliseconds between two of them, on average.
    apart_ms: u64,
}

/// Runs the part.
pub fn restart(stage: &Stage<'_>) -> Result<()> {
    // QEMU's e1000 takes no frames in the first second after its receiver was enabled: what dies sooner would never have lived.
    let campaigns = if stage.short {
        [
            (Path::Window, Nic::Virtio, 10, 400),
            (Path::Ipc, Nic::Virtio, 5, 400),
            (Path::Window, Nic::E1000, 2, 2500),
        ]
    } else {
        [
            (Path::Window, Nic::Virtio, 1000, 250),
            (Path::Ipc, Nic::Virtio, 200, 250),
            (Path::Window, Nic::E1000, 50, 2500),
        ]
    };
    for (path, nic, kills, apart_ms) in campaigns {
        let name = format!("{}-{}", path.name(), name_of(&nic));
        if stage.case.is_none_or(|case| name.contains(case)) {
            Campaign { path, nic, kills, apart_ms }.run(stage, &name)?;
        }
    }
    accesses::run(stage)
}

/// The transfers, requests and pings of one round.
struct Traffic {
    peers: Peers,
    /// Where its part of the console's output begins.
    from: usize,
    limit: Duration,
}

impl Traffic {
    /// Starts all; the guest sends for so long.
    fn start(vm: &mut Vm, link: &Link, seconds: u64) -> Result<Self> {
        let from = vm.console.transcript().len();
        let peers = Peers::start(link, PORTS, STREAM_TRY)?;
        vm.console.command(&format!("ttcp -r -s -R -M -p {} &", PORTS.sink), SOON)?;
        let send = format!("ttcp -t -s -R -M -T {seconds} -p {} {} &", PORTS.source, link.host);
        vm.console.command(&send, SOON)?;
        peers.begin();
        Ok(Self { peers, from, limit: Duration::from_secs(2 * seconds) + SOON })
    }

    /// Waits for the end of all; what the peers saw, and what the guest said.
    fn end(self, vm: &mut Vm) -> Result<(Vec<Seen>, String)> {
        // The sender in the guest ends by itself; then the host's ends the other way.
        wait_for(vm, self.from, "ttcp-t: ", "bytes in", self.limit)?;
        let seen = self.peers.end()?;
        wait_for(vm, self.from, "ttcp-r: ", "bytes in", self.limit)?;
        let transcript = vm.console.transcript()[self.from..].to_owned();
        check_transfers(&transcript)?;
        Ok((seen, transcript))
    }
}

impl Campaign {
    fn machine(&self, stage: &Stage<'_>) -> Result<Machine> {
        let mut machine = stage.session.plain_machine(self.nic, Board::Pc)?;
        machine.set_path(self.path);
        machine.arguments += &format!(" {}=1", abi::supervise::CHAOS);
        machine.blocks = false;
        Ok(machine)
    }

    fn run(&self, stage: &Stage<'_>, name: &str) -> Result<()> {
        let link = &stage.session.link;
        let mut vm = Vm::boot(&stage.session.counted(&self.machine(stage)?))?;
        let before = Before::new(&mut vm, link)?;

        let Self { kills, apart_ms, .. } = *self;
        let seconds = (u64::from(kills) * apart_ms * 5 / 4).div_ceil(1000) + 2;
        let traffic = Traffic::start(&mut vm, link, seconds)?;
        let killing = Instant::now();
        vm.console.command(&format!("crash -n {kills} -i {apart_ms} -s {SEED} server"), traffic.limit)?;
        let took = killing.elapsed();
        let (seen, transcript) = traffic.end(&mut vm)?;
        let again = restarts(&transcript);
        if again.is_empty() || again.len() > kills as usize {
            return failed(format!("{name}: {} restarts of {kills} kills", again.len()));
        }
        println!(
            "{name}: {kills} kills in {:.1} s (crash -n {kills} -i {apart_ms} -s {SEED} server), {} restarts",
            took.as_secs_f64(),
            again.len()
        );
        print_outages(&again, &vm, before.restarts)?;
        for Seen { what, mut gaps, moved, .. } in seen {
            gaps.sort_by(|a, b| b.total_cmp(a));
            gaps.truncate(again.len());
            let (median, worst) = median_and_worst(&gaps);
            println!("    {what}: {moved}; outage median {median:.1} ms, worst {worst:.1} ms");
        }
        vm.console.look_for_trouble()?;
        one_of_each(&mut vm, stage)?;
        before.look(&mut vm, link, name)?;
        let said = vm.console.transcript();
        let (panics, faults) = (said.matches(PANIC).count(), said.matches(FAULT).count());
        if (panics, faults) != (0, 1) {
            return failed(format!(
                "{name}: {panics} panics, {faults} faults of tasks, where one was asked for"
            ));
        }
        vm.power_off()
    }
}

/// What must be the same before and behind it all.
struct Before {
    tasks: Vec<Task>,
    books: Books,
    /// Restarts whose instructions were counted.
    restarts: usize,
}

impl Before {
    /// Starts `echo`, and looks.
    fn new(vm: &mut Vm, link: &Link) -> Result<Self> {
        vm.console.command("echo &", SOON)?;
        wait_for(vm, 0, "echo: ", "listening", SOON)?;
        // One restart before anything is counted: what is allocated once is allocated then.
        one_more_life(vm, link)?;
        let restarts = vm.instructions_between(abi::mark::DOWN, abi::mark::UP)?.len();
        Ok(Self { tasks: tasks(vm)?, books: Books::read(vm)?, restarts })
    }

    /// Looks again, at a server as new as the one before, which has served as much.
    fn look(&self, vm: &mut Vm, link: &Link, name: &str) -> Result<()> {
        one_more_life(vm, link)?;
        let after = Books::settle(vm, &self.books)?;
        println!("    {}", after.summary(&self.books));
        let after = tasks(vm)?;
        for task in self.tasks.iter().filter(|task| !RESTARTED.contains(&task.name.as_str())) {
            let Some(now) = after.iter().find(|now| now.id == task.id) else {
                return failed(format!("{name}: {} (task {}) is gone", task.name, task.id));
            };
            if now.pages > task.pages + PAGES_SPARE || now.names > task.names {
                return failed(format!("{name}: {} had {task:?}, has {now:?}", task.name));
            }
        }
        for restarted in RESTARTED {
            let of = |tasks: &[Task]| tasks.iter().filter(|task| task.name == *restarted).count();
            if of(&after) != of(&self.tasks) {
                let (now, before) = (of(&after), of(&self.tasks));
                return failed(format!("{name}: {now} of {restarted}, there were {before}"));
            }
        }
        println!(
            "    buffers leaked 0, other tasks disturbed 0 ({} looked at), kernel faults 0",
            self.tasks.len()
        );
        Ok(())
    }
}

/// Ends the server, and waits until the next one serves.
fn one_more_life(vm: &mut Vm, link: &Link) -> Result<()> {
    crash(vm, "server")?;
    traffic::datagrams::wait_for_reply(link.guest_address(), SOON);
    served(&link.guest(PORTS.echo))
}

/// Echo serves, once it listens again.
fn served(echo: &SocketAddr) -> Result<()> {
    let deadline = Instant::now() + SOON;
    let mut stream = loop {
        match traffic::connect(*echo) {
            Err(_) if Instant::now() < deadline && !sys::interrupted() => {
                std::thread::sleep(Duration::from_millis(20));
            }
            connected => break connected?,
        }
    };
    let moved = traffic::request_response(&mut stream, Duration::from_millis(200)).context("echo")?;
    if moved.count == 0 || moved.first_error.is_some() {
        return failed(format!("echo does not serve any more: {moved:?}"));
    }
    Ok(())
}

/// Tasks that another takes the place of.
const RESTARTED: &[&str] = &["protocol-server", "supervisor"];
/// The heap of a task grows in steps.
const PAGES_SPARE: u64 = 64;

/// A row of the guest's `ps`.
#[derive(Debug)]
struct Task {
    id: u64,
    pages: u64,
    names: u64,
    name: String,
}

fn tasks(vm: &mut Vm) -> Result<Vec<Task>> {
    let output = vm.console.command("ps", SOON)?;
    let rows = output.lines().filter_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let [id, _, _, pages, names, _, name] = *words.as_slice() else { return None };
        let (id, pages, names) = (id.parse().ok()?, pages.parse().ok()?, names.parse().ok()?);
        Some(Task { id, pages, names, name: name.into() })
    });
    // `ps` itself is gone by now.
    Ok(rows.filter(|task| task.name != "ps").collect())
}

fn crash(vm: &mut Vm, how: &str) -> Result<()> {
    let from = vm.console.transcript().len();
    vm.console.command(&format!("crash {how}"), SOON)?;
    wait_for(vm, from, "supervisor: ", "again after", HANG)
}

/// A fault, an end in good order, a hang; the supervisor's own end, and the server's under the next supervisor; an application's.
fn one_of_each(vm: &mut Vm, stage: &Stage<'_>) -> Result<()> {
    let link = &stage.session.link;
    for (what, how) in [("fault", "-f server"), ("exit", "-e server"), ("hang", "-h server")] {
        // The kernel reports a fault, as it should; how many there were is counted at the end.
        vm.console.trouble_expected |= what == "fault";
        let from = vm.console.transcript().len();
        crash(vm, how)?;
        let said = &vm.console.transcript()[from..];
        if what == "fault" && !said.contains(FAULT) {
            return failed("the server did not fault");
        }
        let us = restarts(said);
        println!("    {what}: again after {:.1} ms", us.first().copied().unwrap_or_default());
        traffic::datagrams::wait_for_reply(link.guest_address(), SOON);
    }
    let from = vm.console.transcript().len();
    vm.console.command("crash supervisor", SOON)?;
    wait_for(vm, from, "supervisor: ", "goes on", HANG)?;
    crash(vm, "server")?;
    println!("    the supervisor's end: another goes on with the server that runs, and starts the next");
    traffic::datagrams::wait_for_reply(link.guest_address(), SOON);
    // An application in the midst of a connection.
    let send = format!("ttcp -t -s -T 60 -p {} {} &", PORTS.source, link.host);
    let output = vm.console.command(&send, SOON)?;
    let number = output.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(number, _)| number);
    let Some(number) = number.map(str::to_owned) else { return failed("the shell gives no task number") };
    let mut stream = traffic::accept(&traffic::listen(link.listen_address(), PORTS.source)?)?;
    std::thread::sleep(Duration::from_millis(100));
    vm.console.command(&format!("kill {number}"), SOON)?;
    let ended = traffic::receive(&mut stream, true);
    if ended.as_ref().is_ok_and(|moved| moved.first_error.is_some()) {
        return failed("what a killed application had sent was not the pattern");
    }
    println!("    an application's end: its connection ends");
    Ok(())
}

/// Waits, with the shell at its prompt, until the guest has said, in a line that begins with one text, the other.
pub fn wait_for(vm: &mut Vm, from: usize, begins: &str, contains: &str, limit: Duration) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        let said = vm.console.transcript().get(from..).unwrap_or_default();
        let complete = said.rfind('\n').map_or("", |end| &said[..end]);
        // The prompt, and what is just being typed there, may stand before what a task in the background says.
        let says = |line: &str| line.find(begins).is_some_and(|at| line[at..].contains(contains));
        if complete.lines().any(says) {
            return Ok(());
        }
        if sys::interrupted() {
            return Err(Error::Interrupted);
        }
        if Instant::now() > deadline {
            let (seconds, last) = (limit.as_secs(), vm.console.last_words());
            return failed(format!(
                "no line `{begins}...{contains}` within {seconds} s; the console's end:{last}"
            ));
        }
        // An empty line: the prompt comes back with what was said meanwhile.
        vm.console.command("sleep 0", SOON)?;
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Both transfers ended well, and every byte was right.
pub(super) fn check_transfers(transcript: &str) -> Result<()> {
    let results: Vec<_> = transcript.lines().filter_map(|line| line.split_once("#ttcp ")).collect();
    let verified = results.iter().filter(|(_, fields)| fields.contains("verified=1")).count();
    if results.len() != 2 || verified != 2 {
        return failed(format!("of two transfers {} ended and {verified} were right", results.len()));
    }
    for program in ["panic: ", "exit status 1", "ttcp: network"] {
        if let Some(line) = transcript.lines().find(|line| line.contains(program)) {
            return failed(format!("the guest says: {line}"));
        }
    }
    Ok(())
}

/// The milliseconds that the supervisor tells of, one for each restart.
pub fn restarts(transcript: &str) -> Vec<f64> {
    let us = transcript.lines().filter_map(|line| line.split_once("again after ")?.1.strip_suffix(" us"));
    us.filter_map(|us| us.parse::<f64>().ok()).map(|us| us / 1000.0).collect()
}

/// From death to registration.
fn print_outages(ms: &[f64], vm: &Vm, before: usize) -> Result<()> {
    let (median, worst) = median_and_worst(ms);
    println!("    death to registration, guest's clock: median {median:.1} ms, worst {worst:.1} ms");
    let counted = vm.instructions_between(abi::mark::DOWN, abi::mark::UP)?;
    let counted: Vec<_> = counted.iter().skip(before).map(|&count| count as f64 / 1e3).collect();
    if !counted.is_empty() {
        let (median, worst) = median_and_worst(&counted);
        println!(
            "    death to registration, guest instructions: median {median:.0} thousand, worst {worst:.0} thousand"
        );
    }
    Ok(())
}

pub(super) fn median_and_worst(values: &[f64]) -> (f64, f64) {
    Spread::of(values).map_or((0.0, 0.0), |spread| (spread.median, spread.max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_supervisors_lines_are_read() {
        let said = "oriel> supervisor: net ended with status 1 (killed), again after 26321 us\nnet: up\n\
                    supervisor: net ended with status 0, again after 500 us\n";
        assert_eq!(restarts(said), [26.321, 0.5]);
        assert_eq!(median_and_worst(&[3.0, 1.0, 2.0]), (2.0, 3.0));
        assert_eq!(median_and_worst(&[]), (0.0, 0.0));
    }

    #[test]
    fn a_transfer_that_is_not_right_is_a_failure() {
        let good = "x\n#ttcp bytes=1 verified=1 a=1\ny\n#ttcp bytes=2 verified=1\n";
        assert!(check_transfers(good).is_ok());
        assert!(check_transfers(&good.replace("bytes=2 verified=1", "bytes=2 verified=0")).is_err());
        assert!(check_transfers(&good.replace("y\n", "panic: echo: x\n")).is_err());
        assert!(check_transfers("#ttcp verified=1\n").is_err());
    }
}
