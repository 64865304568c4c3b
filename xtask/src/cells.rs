//! One cell of the table: a direction and a size of reads or writes, run once on a machine that is up.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use insn_counter::blocks::Block;
use pattern::Digest;

use crate::error::{Context as _, Result, failed};
use crate::network::{ECHO_PORT, GUEST_PORTS, Link};
use crate::peers::{self, Peer};
use crate::results::Fields;
use crate::traffic::{self, Moved, Until};
use crate::vm::{Instructions, Vm};

/// What `--direction` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Direction {
    /// The guest transmits
    Tx,
    /// The guest receives
    Rx,
    /// Both, one after the other
    Both,
}

/// One cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    /// The guest writes pieces of this size.
    Tx(usize),
    /// The host writes, and the guest reads, pieces of this size.
    Rx(usize),
    /// One byte there and one byte back.
    Rr1,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Tx(size) => write!(f, "tx{size}"),
            Self::Rx(size) => write!(f, "rx{size}"),
            Self::Rr1 => write!(f, "rr1"),
        }
    }
}

impl FromStr for Cell {
    type Err = String;

    /// Reads a name as it is displayed.
    fn from_str(name: &str) -> Result<Self, String> {
        let size = |digits: &str| digits.parse().ok().filter(|size| (1..=pattern::MAX_CHUNK).contains(size));
        let cell = match name.split_at_checked(2) {
            Some(("tx", digits)) => size(digits).map(Self::Tx),
            Some(("rx", digits)) => size(digits).map(Self::Rx),
            _ => (name == "rr1").then_some(Self::Rr1),
        };
        cell.ok_or_else(|| "give a cell's name, such as tx8192, rx10 or rr1".to_owned())
    }
}

impl Cell {
    /// The cells of these sizes, the largest first.
    pub fn of(direction: Direction, sizes: &[usize]) -> Vec<Self> {
        let mut sizes = sizes.to_vec();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        sizes.dedup();
        let tx = sizes.iter().copied().map(Self::Tx).filter(|_| direction != Direction::Rx);
        let rx = sizes.iter().copied().map(Self::Rx).filter(|_| direction != Direction::Tx);
        tx.chain(rx).collect()
    }
}

/// What a cell gave.
#[derive(Debug, Clone)]
pub struct Measurement {
    /// Which.
    pub cell: Cell,
    /// Bytes moved one way; transactions for [`Cell::Rr1`].
    pub count: u64,
    /// By the host's clock.
    pub seconds: f64,
    /// The same between two threads of the host, a second.
    pub host_rate: f64,
    /// Instructions of the marked region, if they were counted.
    pub instructions: Option<Instructions>,
    /// The blocks that these instructions were in, for [`crate::profile`].
    pub executed: Vec<Block>,
    /// Reads, writes of the application.
    pub calls: Option<u64>,
    /// What the guest's counters grew by.
    pub counters: BTreeMap<String, u64>,
    /// Why the data isn't as it should be.
    pub problem: Option<String>,
}

impl Measurement {
    /// MB (a million bytes) a second, or transactions a second.
    pub fn rate(&self) -> f64 {
        rate(self.cell, self.count, self.seconds)
    }
}

fn rate(cell: Cell, count: u64, seconds: f64) -> f64 {
    let unit = if cell == Cell::Rr1 { 1.0 } else { 1e6 };
    count as f64 / unit / seconds.max(1e-9)
}

/// Ports for one machine's cells, each used once: a port that was just closed may still be waiting for stragglers.
pub struct Ports(std::iter::Cycle<std::ops::Range<u16>>);

impl Ports {
    /// All of them.
    pub fn new() -> Self {
        Self(GUEST_PORTS.cycle())
    }

    /// The next.
    pub fn next(&mut self) -> u16 {
        self.0.next().unwrap_or(GUEST_PORTS.start)
    }
}

/// Where and how long a cell runs.
pub struct Setting<'a> {
    /// The machine, at its prompt.
    pub vm: &'a mut Vm,
    /// The network.
    pub link: &'a Link,
    /// The machine's ports.
    pub ports: &'a mut Ports,
    /// The other end.
    pub peer: Peer,
    /// For how long.
    pub seconds: u64,
}

impl Setting<'_> {
    /// Runs one cell.
    pub fn measure(&mut self, cell: Cell) -> Result<Measurement> {
        // Regions from other commands don't belong to this cell.
        self.vm.instructions()?;
        let (moved, output, program) = match cell {
            Cell::Tx(size) => self.transmit(size)?,
            Cell::Rx(size) => self.receive(size)?,
            Cell::Rr1 => self.transact()?,
        };
        let fields = Fields::require(&output, program)?;
        let problem = self.problem(cell, &moved, &fields)?;
        let instructions = self.vm.instructions()?.last().copied();
        let executed = if instructions.is_some() { self.vm.executed()? } else { Vec::new() };
        let size = match cell {
            Cell::Tx(size) | Cell::Rx(size) => Some(size),
            Cell::Rr1 => None,
        };
        // Right beside it, so that both see the same weather on the host.
        let host = traffic::host_to_host(size, Duration::from_millis(500))?;
        Ok(Measurement {
            cell,
            count: moved.count,
            seconds: moved.seconds,
            host_rate: rate(cell, host.count, host.seconds),
            instructions,
            executed,
            calls: fields.number("calls"),
            counters: fields.counters(),
            problem,
        })
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(self.seconds + 30)
    }

    fn transmit(&mut self, size: usize) -> Result<(Moved, String, &'static str)> {
        let port = self.ports.next();
        let line = format!("ttcp -t -s -l {size} -T {} -p {port} -M {}", self.seconds, self.link.host);
        if self.peer == Peer::Builtin {
            let listener = traffic::listen(self.link.listen_address(), port)?;
            let receiver = traffic::spawn_receiver(listener, true);
            let output = self.vm.console.command(&line, self.patience())?;
            return Ok((traffic::join(receiver)?, output, "ttcp"));
        }
        let mut receiver = peers::receiver(self.peer, self.link.listen_address(), port, size)?;
        let output = self.vm.console.command(&line, self.patience())?;
        let received = receiver.received()?;
        let fields = Fields::require(&output, "ttcp")?;
        let (bytes, ns) = (fields.require_number("bytes")?, fields.require_number("ns")?);
        if bytes.abs_diff(received.bytes) > received.tolerance {
            return failed(format!("ttcp sent {bytes} bytes and the peer received {}", received.bytes));
        }
        Ok((Moved { count: bytes, seconds: ns as f64 / 1e9, first_error: None }, output, "ttcp"))
    }

    fn receive(&mut self, size: usize) -> Result<(Moved, String, &'static str)> {
        let port = self.ports.next();
        let console = &mut self.vm.console;
        console.type_line(&format!("ttcp -r -s -l {size} -p {port} -M"))?;
        console.expect(&format!("listening on {port}"), Duration::from_secs(10))?;
        let moved = if self.peer == Peer::Builtin {
            let to = self.link.guest(port);
            let time = Duration::from_secs(self.seconds);
            let sender = thread::spawn(move || {
                traffic::send(&mut traffic::connect(to)?, size, Until::Elapsed(time))
                    .context("the host's sender")
            });
            traffic::join(sender)?
        } else {
            let start = Instant::now();
            peers::send(self.peer, self.link, port, size, self.seconds)?;
            Moved { count: 0, seconds: start.elapsed().as_secs_f64(), first_error: None }
        };
        let output = self.vm.console.expect(crate::console::PROMPT, self.patience())?;
        if self.peer == Peer::Builtin {
            return Ok((moved, output, "ttcp"));
        }
        // nuttcp and iperf print what they wrote into their socket; the guest's own count and clock are the measure.
        let fields = Fields::require(&output, "ttcp")?;
        let (bytes, ns) = (fields.require_number("bytes")?, fields.require_number("ns")?);
        Ok((Moved { count: bytes, seconds: ns as f64 / 1e9, first_error: None }, output, "ttcp"))
    }

    fn transact(&mut self) -> Result<(Moved, String, &'static str)> {
        self.vm.console.type_line(&format!("echo -p {ECHO_PORT} -1 -M"))?;
        self.vm.console.expect(&format!("listening on {ECHO_PORT}"), Duration::from_secs(10))?;
        let to = self.link.guest(ECHO_PORT);
        let time = Duration::from_secs(self.seconds);
        let client = thread::spawn(move || {
            traffic::request_response(&mut traffic::connect(to)?, time).context("the host's client")
        });
        let moved = traffic::join(client)?;
        let output = self.vm.console.expect(crate::console::PROMPT, self.patience())?;
        Ok((moved, output, "echo"))
    }

    /// Compares what the two ends say.
    fn problem(&self, cell: Cell, moved: &Moved, fields: &Fields) -> Result<Option<String>> {
        let bytes = fields.require_number("bytes")?;
        if moved.count == 0 {
            return Ok(Some("nothing moved".into()));
        }
        if let Some(at) = moved.first_error {
            return Ok(Some(format!("byte {at} is wrong at the host")));
        }
        if bytes != moved.count {
            return Ok(Some(format!("the guest counts {bytes} bytes, the host {}", moved.count)));
        }
        if self.peer != Peer::Builtin || cell == Cell::Rr1 {
            return Ok(None);
        }
        if fields.digest() != Some(Digest::of_pattern(moved.count)) {
            return Ok(Some("the digests differ".into()));
        }
        let verified = fields.number("verified") == Some(1) || matches!(cell, Cell::Tx(_));
        Ok((!verified).then(|| "the guest found a wrong byte".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_order() {
        let names = |direction| -> Vec<String> {
            Cell::of(direction, &[10, 1024, 8192, 10]).iter().map(ToString::to_string).collect()
        };
        assert_eq!(names(Direction::Both), ["tx8192", "tx1024", "tx10", "rx8192", "rx1024", "rx10"]);
        assert_eq!(names(Direction::Rx), ["rx8192", "rx1024", "rx10"]);
        assert_eq!(Cell::Rr1.to_string(), "rr1");
        for cell in [Cell::Tx(8192), Cell::Rx(10), Cell::Rr1] {
            assert_eq!(cell.to_string().parse(), Ok(cell));
        }
        for wrong in ["", "t", "tx", "tx0", "tx999999", "rr2", "ä10"] {
            assert!(wrong.parse::<Cell>().is_err(), "{wrong}");
        }
    }
}
