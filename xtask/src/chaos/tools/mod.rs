//! The tools that others attack networks with: nmap, hping3, scripts for scapy, tcpreplay. Each runs inside the run's own namespace, against
//! the guest on the tap, while a verified transfer goes on beside it.
//!
//! What must be: the honest bytes arrive, each of them right, in both directions; what a tool finds out is true (nmap's open ports are those
//! that are open); the guest's books balance at the end, and it neither panics nor faults. [`probes`] says what is run, [`replay`] makes
//! the captures for tcpreplay from what the run itself has seen.

mod probes;
mod replay;

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use abi::path::Path;
use pattern::Digest;

use super::Stage;
use crate::console::PROMPT;
use crate::error::{Context as _, Error, Result, failed};
use crate::machine::{Board, Machine, Nic};
use crate::results::Fields;
use crate::setup::{self, Tool};
use crate::traffic;
use crate::vm::Vm;
use crate::{build, sys};

/// What is installed for this part's long form; the short form runs those that are there.
pub const TOOLS: &[Tool] = &[setup::NMAP, setup::HPING, setup::SCAPY, setup::TCPREPLAY];

/// The station address that the machine's device has.
const STATION: &str = "52:54:00:6f:72:69";
const SOON: Duration = Duration::from_secs(30);
/// The echo service, which is all that listens beside the transfers.
const ECHO: u16 = 7;
/// The transfers' ports: the guest's, then the host's.
const PORTS: std::ops::Range<u16> = 5001..5032;
const BACK: u16 = 5401;
/// At least so much arrives beside each tool.
const HONEST_BYTES: u64 = 1_000_000;

/// What a tool works with.
pub struct Field {
    /// The two ends of the link.
    pub host: Ipv4Addr,
    pub guest: Ipv4Addr,
    /// The honest connection: the guest's port and the host's.
    pub port: u16,
    pub peer_port: u16,
    /// The frames that the link has carried since the machine was started, as QEMU writes them; for a run that asks for it.
    pub capture: PathBuf,
    /// Where captures that were made may be put.
    pub folder: PathBuf,
    /// The short form.
    pub short: bool,
}

/// How a program ended.
pub struct Ran {
    /// All that it said, on either stream.
    pub said: String,
    /// Its status; `None` if its time was up.
    pub status: Option<i32>,
}

impl Field {
    /// Runs a program, for at most so many seconds; it is asked to end first, and then made to.
    pub fn run(&self, tool: Tool, arguments: &[String], seconds: u64) -> Result<Ran> {
        const TIMED_OUT: [i32; 2] = [124, 137];
        let program = setup::command(tool);
        let mut command = Command::new("timeout");
        command.args(["-k", "5", "-s", "INT", &seconds.to_string()]).arg(program.get_program());
        sys::die_with_parent(&mut command).args(arguments).stdin(Stdio::null());
        // Scripts leave nothing beside themselves.
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        let output = command.output().context("timeout")?;
        if sys::interrupted() {
            return Err(Error::Interrupted);
        }
        let said = [output.stdout, output.stderr].concat();
        let status = output.status.code().filter(|code| !TIMED_OUT.contains(code));
        Ok(Ran { said: String::from_utf8_lossy(&said).into_owned(), status })
    }

    /// A script of `xtask/scapy/`, with what it has to know; the frames that it says it sent.
    pub fn script(&self, name: &str) -> Result<u64> {
        let file = build::root().join("xtask/scapy").join(name);
        let mut arguments = vec![file.display().to_string()];
        let known = [
            ("interface", crate::network::TAP.to_owned()),
            ("guest", self.guest.to_string()),
            ("station", STATION.to_owned()),
            ("host", self.host.to_string()),
            ("port", self.port.to_string()),
            ("peer-port", self.peer_port.to_string()),
            ("rounds", if self.short { "3" } else { "20" }.to_owned()),
        ];
        arguments.extend(known.into_iter().flat_map(|(key, value)| [format!("--{key}"), value]));
        let ran = self.run(setup::PYTHON, &arguments, 120)?;
        let count = ran
            .said
            .lines()
            .rev()
            .find_map(|line| line.strip_prefix("sent ")?.split(' ').next()?.parse().ok());
        match (ran.status, count) {
            (Some(0), Some(count)) if count > 0 => Ok(count),
            _ => failed(format!("{name} ended with {:?}: {}", ran.status, tail(&ran.said))),
        }
    }
}

/// The end of what a program said.
fn tail(said: &str) -> String {
    let lines: Vec<_> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(8)..].join("\n    ")
}

/// Runs the part.
///
/// # Errors
/// A tool found what is not so, or an honest byte suffered.
pub fn attack(stage: &Stage<'_>) -> Result<()> {
    let chosen = |probe: &&probes::Probe| stage.case.is_none_or(|case| probe.name.contains(case));
    let probes: Vec<_> =
        probes::PROBES.iter().filter(chosen).filter(|probe| !stage.short || probe.short).collect();
    if probes.is_empty() {
        let names: Vec<_> = probes::PROBES.iter().map(|probe| probe.name).collect();
        return Err(Error::Usage(format!("no tool's run is called so; there are {}", names.join(", "))));
    }
    let absent: Vec<_> =
        TOOLS.iter().filter(|tool| !setup::present(**tool)).map(|tool| tool.package()).collect();
    if !absent.is_empty() && !stage.short {
        return failed(format!("missing: {}; type: apt-get install {}", absent.join(", "), absent.join(" ")));
    }
    let machines = [(Path::Window, Nic::E1000), (Path::Monolithic, Nic::Virtio), (Path::Ipc, Nic::E1000)];
    let mut wrong = Vec::new();
    for (path, nic) in &machines[..if stage.short { 1 } else { machines.len() }] {
        wrong.extend(on(stage, *path, *nic, &probes)?);
    }
    if wrong.is_empty() { Ok(()) } else { failed(wrong.join(", ")) }
}

/// All runs of tools on one machine; those that went wrong.
fn on(stage: &Stage<'_>, path: Path, nic: Nic, probes: &[&probes::Probe]) -> Result<Vec<String>> {
    let session = stage.session;
    let folder = session.folder.path().to_owned();
    let capture = folder.join(format!("{}.pcap", path.name()));
    let mut machine = session.plain_machine(nic, Board::Pc)?;
    machine.set_path(path);
    println!("path={}, {nic:?}", path.name());
    let mut vm = up(stage, &machine)?;
    let mut wrong = Vec::new();
    for (probe, port) in probes.iter().zip(PORTS.cycle()) {
        if !setup::present(probe.tool) {
            println!("  {:<16} skipped: {} is not installed", probe.name, probe.tool.package());
            continue;
        }
        if probe.captured {
            // A machine of its own: what a flood leaves in a file would fill the disk.
            audit(&mut vm)?;
            vm.power_off()?;
            vm = up(stage, &Machine { pcap: Some(capture.clone()), ..machine.clone() })?;
        }
        let mut field = Field {
            host: session.link.host,
            guest: session.link.guest_address(),
            port,
            peer_port: 0,
            capture: capture.clone(),
            folder: folder.clone(),
            short: stage.short,
        };
        let start = Instant::now();
        let result = beside(&mut vm, &mut field, probe)
            .and_then(|done| back(&mut vm, session.link.listen_address(), session.link.host).map(|()| done));
        let seconds = start.elapsed().as_secs();
        match result {
            Ok((found, honest)) => println!(
                "  {:<16} {seconds:>3} s  {found}; {} KB of honest bytes beside it, all right",
                probe.name,
                honest / 1000
            ),
            Err(Error::Failed(what)) => {
                println!("  {:<16} {seconds:>3} s  FAILED: {what}", probe.name);
                wrong.push(format!("{} on path={}", probe.name, path.name()));
                // The rest is not to suffer from it.
                drop(vm);
                vm = up(stage, &machine)?;
            }
            Err(other) => return Err(other),
        }
    }
    audit(&mut vm)?;
    vm.power_off()?;
    Ok(wrong)
}

/// The machine, serving echo.
fn up(stage: &Stage<'_>, machine: &Machine) -> Result<Vm> {
    let mut vm = Vm::boot(machine)?;
    vm.console.command("echo &", SOON)?;
    // QEMU's e1000 takes no frame in the first second after its receiver was enabled; and what was put into the background may not
    // listen yet.
    let deadline = Instant::now() + SOON;
    loop {
        match traffic::connect(stage.session.link.guest(ECHO)) {
            Ok(_) => return Ok(vm),
            Err(_) if Instant::now() < deadline && !sys::interrupted() => {
                thread::sleep(Duration::from_millis(50));
            }
            Err(error) => return Err(error),
        }
    }
}

/// Runs a tool while honest bytes go to the guest; what it found, and how many bytes there were.
fn beside(vm: &mut Vm, field: &mut Field, probe: &probes::Probe) -> Result<(String, u64)> {
    let port = field.port;
    vm.console.type_line(&format!("ttcp -r -s -l 8192 -p {port} -M"))?;
    vm.console.expect(&format!("listening on {port}"), SOON)?;
    let mut stream = traffic::connect((field.guest, port).into())?;
    field.peer_port = stream.local_addr().context("socket")?.port();
    // It says nothing but that, so that relaxed is enough.
    let enough = AtomicBool::new(false);
    let (found, sent) = thread::scope(|scope| {
        let sender = scope.spawn(|| honest(&mut stream, &enough));
        let found = probe.run(field);
        enough.store(true, Relaxed);
        (found, traffic::join_scoped(sender))
    });
    let (found, sent) = (found?, sent?);
    drop(stream);
    let output = vm.console.expect(PROMPT, Duration::from_secs(60))?;
    let fields = Fields::require(&output, "ttcp")?;
    if fields.number("bytes") != Some(sent) || fields.digest() != Some(Digest::of_pattern(sent)) {
        return failed(format!("{sent} honest bytes suffered: {output}"));
    }
    Ok((found, sent))
}

/// Honest bytes until it is enough, with air between them.
fn honest(stream: &mut TcpStream, enough: &AtomicBool) -> Result<u64> {
    let mut sent = 0;
    while sent < HONEST_BYTES || !enough.load(Relaxed) {
        if sys::interrupted() {
            return Err(Error::Interrupted);
        }
        let piece = pattern::Pattern::chunk(sent, 8192);
        stream.write_all(piece).context("honest bytes")?;
        sent += piece.len() as u64;
        thread::sleep(Duration::from_millis(1));
    }
    stream.shutdown(std::net::Shutdown::Write).context("honest bytes")?;
    Ok(sent)
}

/// And the other way, when the tool has ended.
fn back(vm: &mut Vm, listen: Ipv4Addr, host: Ipv4Addr) -> Result<()> {
    const WRITES: u64 = 50;
    let listener = traffic::listen(listen, BACK)?;
    let receiver = traffic::spawn_receiver(listener, true);
    vm.console.command(&format!("ttcp -t -s -l 8192 -n {WRITES} -p {BACK} {host}"), SOON)?;
    let moved = traffic::join(receiver)?;
    if moved.count == WRITES * 8192 && moved.first_error.is_none() {
        return Ok(());
    }
    failed(format!("after it, from the guest: {moved:?}"))
}

/// Every buffer is somewhere, every frame in a counter.
fn audit(vm: &mut Vm) -> Result<()> {
    // Connections that were begun by a tool, and never by anybody else, end by themselves.
    thread::sleep(Duration::from_secs(1));
    let output = vm.console.command("mbstat -c", SOON)?;
    if output.contains("mbstat: balanced") && !output.contains("exit status") {
        println!("  {}", output.lines().find(|line| line.contains("balanced")).unwrap_or_default().trim());
        return Ok(());
    }
    failed(format!("the books don't balance:\n{output}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field() -> Field {
        Field {
            host: Ipv4Addr::LOCALHOST,
            guest: Ipv4Addr::LOCALHOST,
            port: 1,
            peer_port: 2,
            capture: PathBuf::new(),
            folder: PathBuf::new(),
            short: true,
        }
    }

    #[test]
    fn a_program_that_does_not_end_is_ended() {
        let start = std::time::Instant::now();
        let ran = field().run(setup::SH, &["-c".into(), "echo it; exec sleep 60".into()], 1).unwrap();
        assert_eq!((ran.said.as_str(), ran.status), ("it\n", None));
        assert!(start.elapsed() < Duration::from_secs(20));
        let ran = field().run(setup::SH, &["-c".into(), "echo no >&2; exit 3".into()], 5).unwrap();
        assert_eq!((ran.said.as_str(), ran.status), ("no\n", Some(3)));
    }

    #[test]
    fn the_scripts_that_are_run_are_there() {
        for probe in probes::PROBES {
            if let probes::What::Script(script) = probe.what {
                assert!(build::root().join("xtask/scapy").join(script).exists(), "{script}");
            }
        }
    }

    #[test]
    fn honest_bytes_go_until_it_is_enough() {
        let listener = traffic::listen(Ipv4Addr::LOCALHOST, 0).unwrap();
        let mut stream = traffic::connect(listener.local_addr().unwrap()).unwrap();
        let receiver = traffic::spawn_receiver(listener, true);
        let sent = honest(&mut stream, &AtomicBool::new(true)).unwrap();
        let moved = traffic::join(receiver).unwrap();
        assert_eq!((moved.count, moved.first_error), (sent, None));
        assert!(sent >= HONEST_BYTES);
    }
}
