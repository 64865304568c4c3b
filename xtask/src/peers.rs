//! The peers that other people wrote: nuttcp in classic mode and iperf 2. Only byte counts can be compared with them.
//!
//! What was tried with nuttcp 6.1.2 and iperf 2.1.8: `nuttcp -t` falls back to the classic mode, plain bytes over one
//! connection, when nothing answers on its control port. `nuttcp -r` no longer does: it turns itself into a server that
//! wants to be told by a control connection, in one line of text, what to receive; we are that client, and the guest's ttcp
//! makes the data connection. `iperf -s` takes the first word of a connection for flags, which are zero in our pattern.

pub mod ftp;
pub mod x11;
pub mod xwd;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::error::{Context as _, Error, Result, failed};
use crate::network::Link;
use crate::{setup, sys};

/// What `--peer` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    /// Threads of this program, which verify every byte
    Builtin,
    /// nuttcp, in its classic mode
    Nuttcp,
    /// iperf 2
    Iperf,
    /// Threads of this program, and a Linux guest beside Oriel (only `bench` knows this one)
    Linux,
}

impl Peer {
    /// Whether the other end is this program.
    pub fn is_builtin(self) -> bool {
        matches!(self, Self::Builtin | Self::Linux)
    }
}

/// nuttcp's control port for receivers.
const CONTROL_PORT: u16 = 5999;

/// A peer's process, killed when dropped.
pub struct Process {
    child: Child,
    control: Option<BufReader<TcpStream>>,
    name: &'static str,
}

/// What a foreign receiver says that it got.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Received {
    /// Bytes, as exact as the program prints them.
    pub bytes: u64,
    /// By how much its figure may be off.
    pub tolerance: u64,
}

fn start(name: &'static str, command: &mut Command) -> Result<Process> {
    sys::die_with_parent(command).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let child = command.spawn().context(format!("cannot start {name}"))?;
    Ok(Process { child, control: None, name })
}

/// Sends to the guest's `ttcp -r` for so long, in writes of this size. Gives up if that takes far longer.
pub fn send(peer: Peer, link: &Link, port: u16, size: usize, seconds: u64) -> Result<()> {
    let to = link.guest(port);
    let (size, port, address) = (size.to_string(), to.port().to_string(), to.ip().to_string());
    let mut process = match peer {
        Peer::Nuttcp => start(
            "nuttcp",
            setup::command(setup::NUTTCP).args([
                "-t",
                "-l",
                &size,
                "-p",
                &port,
                "-T",
                &seconds.to_string(),
                &address,
            ]),
        )?,
        _ => start(
            "iperf",
            setup::command(setup::IPERF).args([
                "-c",
                &address,
                "-l",
                &size,
                "-p",
                &port,
                "-t",
                &seconds.to_string(),
                "-y",
                "C",
            ]),
        )?,
    };
    process.end(Duration::from_secs(seconds + 20)).map(|_| ())
}

/// A receiver that listens for the guest's `ttcp -t`.
pub fn receiver(peer: Peer, listen: Ipv4Addr, port: u16, size: usize) -> Result<Process> {
    let (address, port_text) = (listen.to_string(), port.to_string());
    if peer == Peer::Iperf {
        let mut iperf = setup::command(setup::IPERF);
        let process =
            start("iperf", iperf.args(["-s", "-P", "1", "-p", &port_text, "-B", &address, "-y", "C"]))?;
        wait_for_listener(port)?;
        return Ok(process);
    }
    let control_text = CONTROL_PORT.to_string();
    let mut nuttcp = setup::command(setup::NUTTCP);
    let mut process = start("nuttcp", nuttcp.args(["-1", "--nofork", "-P", &control_text]))?;
    wait_for_listener(CONTROL_PORT)?;
    let stream = TcpStream::connect((listen, CONTROL_PORT)).context("nuttcp's control port")?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).context("socket")?;
    let mut control = BufReader::new(stream);
    converse(&mut control, "HELO nuttcp v6.1.2\n", "HELO")?;
    converse(
        &mut control,
        &format!(
            "buflen = {size}, nbuf = 2147483647, win = 0, nstream = 1, rate = 4294967295, port = {port}, trans = 1, \
             braindead = 0, timeout = 60.000000, udp = 0, vers = 6.1.2, interval = 0.000000, reverse = 0, \
             format = 2048, traceroute = 0, irate = 0, thirdparty = _NULL_ , multicast = 0 , datamss = 0 , tos = 0 , \
             nbuf_bytes = 0 , rate_pps = 0 , nodelay = 0\n"
        ),
        "OK",
    )?;
    process.control = Some(control);
    wait_for_listener(port)?;
    Ok(process)
}

fn converse(control: &mut BufReader<TcpStream>, say: &str, hear: &str) -> Result<()> {
    control.get_mut().write_all(say.as_bytes()).context("nuttcp's control connection")?;
    let mut answer = String::new();
    control.read_line(&mut answer).context("nuttcp's control connection")?;
    if answer.starts_with(hear) { Ok(()) } else { failed(format!("nuttcp answers `{}`", answer.trim())) }
}

/// Waits until some process of this namespace listens on the port, without connecting to it.
fn wait_for_listener(port: u16) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        let tables =
            ["/proc/net/tcp", "/proc/net/tcp6"].map(|file| std::fs::read_to_string(file).unwrap_or_default());
        if tables.iter().any(|table| is_listening(table, port)) {
            return Ok(());
        }
        if sys::interrupted() {
            return Err(Error::Interrupted);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    failed(format!("the peer doesn't listen on port {port} after 10 s"))
}

fn is_listening(table: &str, port: u16) -> bool {
    const LISTEN: &str = "0A";
    let wanted = format!(":{port:04X}");
    table.lines().skip(1).any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        fields.next().is_some_and(|local| local.ends_with(&wanted)) && fields.nth(1) == Some(LISTEN)
    })
}

impl Process {
    /// Waits for the receiver's own end and reads its figure.
    pub fn received(&mut self) -> Result<Received> {
        if let Some(mut control) = self.control.take() {
            let mut report = String::new();
            control.read_to_string(&mut report).context("nuttcp's report")?;
            self.end(Duration::from_secs(20))?;
            return nuttcp_report(&report)
                .ok_or_else(|| Error::Failed(format!("nuttcp reports `{}`", report.trim())));
        }
        let report = self.end(Duration::from_secs(20))?;
        iperf_report(&report).ok_or_else(|| Error::Failed(format!("iperf reports `{}`", report.trim())))
    }

    fn end(&mut self, at_most: Duration) -> Result<String> {
        let deadline = Instant::now() + at_most;
        while self.child.try_wait().context(self.name)?.is_none() {
            if sys::interrupted() {
                return Err(Error::Interrupted);
            }
            if Instant::now() > deadline {
                return failed(format!("{} didn't end within {} s", self.name, at_most.as_secs()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut output = String::new();
        if let Some(mut pipe) = self.child.stdout.take() {
            pipe.read_to_string(&mut output).context(self.name)?;
        }
        Ok(output)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// "nuttcp-r: 3869.8281 MB in 2.00 real seconds = …": MiB to four places.
fn nuttcp_report(report: &str) -> Option<Received> {
    const MIB: f64 = 1_048_576.0;
    let line = report.lines().find(|line| line.contains("MB in") && line.contains("real seconds"))?;
    let before = line.split(" MB in").next()?;
    let mib: f64 = before.rsplit(' ').next()?.parse().ok()?;
    Some(Received { bytes: (mib * MIB).round() as u64, tolerance: 106 })
}

/// "date,address,port,address,port,id,0.0-2.0,bytes,bits per second"; the flags' four bytes are not counted.
fn iperf_report(report: &str) -> Option<Received> {
    let line = report.lines().rfind(|line| line.split(',').count() >= 9)?;
    Some(Received { bytes: line.split(',').nth(7)?.parse().ok()?, tolerance: 4 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_of_real_programs() {
        let report =
            "nuttcp-r: v6.1.2: socket\nnuttcp-r: 3869.8281 MB in 2.00 real seconds = 1982247.98 KB/sec\n";
        assert_eq!(nuttcp_report(report), Some(Received { bytes: 4_057_808_870, tolerance: 106 }));
        let report = "19700101000000,127.0.0.1,39126,127.0.0.1,5933,1,0.0-0.0,8191996,13263705322\n";
        assert_eq!(iperf_report(report), Some(Received { bytes: 8_191_996, tolerance: 4 }));
        assert_eq!(iperf_report("error"), None);
        assert_eq!(nuttcp_report(""), None);
    }

    #[test]
    fn listeners_are_seen() {
        let table = "  sl  local_address rem_address   st\n   0: 0100007F:1389 00000000:0000 0A 0\n   1: 0100007F:138A 0:0 01 0\n";
        assert!(is_listening(table, 5001));
        assert!(!is_listening(table, 5002), "connected, not listening");
    }

    #[test]
    fn nuttcp_takes_our_orders() {
        if !setup::present(setup::NUTTCP) {
            return;
        }
        let mut process = receiver(Peer::Nuttcp, Ipv4Addr::LOCALHOST, 5987, 8192).unwrap();
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, 5987)).unwrap();
        for _ in 0..100 {
            stream.write_all(pattern::Pattern::chunk(0, 8192)).unwrap();
        }
        drop(stream);
        let received = process.received().unwrap();
        assert!(received.bytes.abs_diff(819_200) <= received.tolerance, "{received:?}");
    }

    #[test]
    fn iperf_takes_the_pattern() {
        if !setup::present(setup::IPERF) {
            return;
        }
        let mut process = receiver(Peer::Iperf, Ipv4Addr::LOCALHOST, 5986, 8192).unwrap();
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, 5986)).unwrap();
        for _ in 0..100 {
            stream.write_all(pattern::Pattern::chunk(0, 8192)).unwrap();
        }
        drop(stream);
        let received = process.received().unwrap();
        assert!(received.bytes.abs_diff(819_200) <= received.tolerance, "{received:?}");
    }
}
