//! One cell of the table: what is done and with which size, run once on a machine that is up.
//!
//! [`Cell`] names it, [`Setting::measure`] runs it, a [`Measurement`] is what it gave.

mod measure;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use insn_counter::blocks::Block;

pub use self::measure::Setting;
use crate::network::{GUEST_PORTS, Net};
use crate::vm::Instructions;

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

/// What `--tests` takes: a kind of cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Test {
    /// ttcp over TCP
    Tcp,
    /// ttcp over UDP, with losses
    Udp,
    /// One byte there and one back, over TCP
    Rr,
    /// ICMP echo, from the guest and to it
    Ping,
    /// A file from vsftpd, and one to it
    Ftp,
    /// Dots on the screen of an X server
    Dots,
}

/// One cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    /// The guest writes pieces of this size.
    Tx(usize),
    /// The host writes, and the guest reads, pieces of this size.
    Rx(usize),
    /// The guest sends datagrams of this size.
    UdpTx(usize),
    /// The host sends datagrams of this size.
    UdpRx(usize),
    /// One byte there and one byte back.
    Rr1,
    /// The guest pings the host.
    PingOut,
    /// The host pings the guest.
    PingIn,
    /// The guest fetches a file.
    FtpGet,
    /// The guest stores a file.
    FtpPut,
    /// The guest draws dots.
    Dots,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Tx(size) => write!(f, "tx{size}"),
            Self::Rx(size) => write!(f, "rx{size}"),
            Self::UdpTx(size) => write!(f, "udp-tx{size}"),
            Self::UdpRx(size) => write!(f, "udp-rx{size}"),
            Self::Rr1 => write!(f, "rr1"),
            Self::PingOut => write!(f, "ping-out"),
            Self::PingIn => write!(f, "ping-in"),
            Self::FtpGet => write!(f, "ftp-get"),
            Self::FtpPut => write!(f, "ftp-put"),
            Self::Dots => write!(f, "dots"),
        }
    }
}

impl FromStr for Cell {
    type Err = String;

    /// Reads a name as it is displayed.
    fn from_str(name: &str) -> Result<Self, String> {
        let size = |digits: &str, least: usize, most: usize| {
            digits.parse().ok().filter(|size| (least..=most).contains(size))
        };
        let stream = |digits| size(digits, 1, pattern::MAX_CHUNK);
        let datagram = |digits| size(digits, DATAGRAM_LENGTHS.0, DATAGRAM_LENGTHS.1);
        let letters = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let digits = &name[letters.len()..];
        let cell = match letters {
            "tx" => stream(digits).map(Self::Tx),
            "rx" => stream(digits).map(Self::Rx),
            "udp-tx" => datagram(digits).map(Self::UdpTx),
            "udp-rx" => datagram(digits).map(Self::UdpRx),
            _ => SINGLE.iter().copied().find(|cell| cell.to_string() == name),
        };
        cell.ok_or_else(|| "give a cell's name, such as tx8192, rx10, udp-tx1024, rr1 or ping-out".to_owned())
    }
}

/// The cells that have no size.
const SINGLE: &[Cell] = &[Cell::Rr1, Cell::PingOut, Cell::PingIn, Cell::FtpGet, Cell::FtpPut, Cell::Dots];
/// ttcp's datagrams are longer than its sentinels, and fit an IP packet.
const DATAGRAM_LENGTHS: (usize, usize) = (5, 65_507);

/// What a cell counts, and what its instructions are divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes are counted; rates are in MB a second, costs per KiB.
    Kib,
    /// Requests with their replies.
    Transaction,
    /// Points drawn.
    Dot,
}

impl Unit {
    /// Its name in the JSON: `insns_per_…`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kib => "kib",
            Self::Transaction => "transaction",
            Self::Dot => "dot",
        }
    }

    /// What a rate is given in.
    pub const fn rate_name(self) -> &'static str {
        match self {
            Self::Kib => "MB/s",
            Self::Transaction => "/s",
            Self::Dot => "dots/s",
        }
    }

    /// MB (a million bytes) a second, or transactions a second.
    pub fn rate(self, count: u64, seconds: f64) -> f64 {
        let unit = if self == Self::Kib { 1e6 } else { 1.0 };
        count as f64 / unit / seconds.max(1e-9)
    }

    /// How many units a count is.
    pub fn of(self, count: u64) -> f64 {
        let unit = if self == Self::Kib { 1024.0 } else { 1.0 };
        count.max(1) as f64 / unit
    }
}

impl Cell {
    /// The TCP cells of these sizes, the largest first.
    pub fn of(direction: Direction, sizes: &[usize]) -> Vec<Self> {
        Self::sized(direction, sizes, Self::Tx, Self::Rx)
    }

    fn sized(
        direction: Direction,
        sizes: &[usize],
        tx: fn(usize) -> Self,
        rx: fn(usize) -> Self,
    ) -> Vec<Self> {
        let mut sizes = sizes.to_vec();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        sizes.dedup();
        let tx = sizes.iter().copied().map(tx).filter(|_| direction != Direction::Rx);
        let rx = sizes.iter().copied().map(rx).filter(|_| direction != Direction::Tx);
        tx.chain(rx).collect()
    }

    /// The cells of these tests, in the tests' own order. Pings come last: the guest's network has woken up by then.
    pub fn of_tests(tests: &[Test], direction: Direction, sizes: &[usize]) -> Vec<Self> {
        let (least, most) = DATAGRAM_LENGTHS;
        let lengths: Vec<usize> = sizes.iter().map(|size| (*size).clamp(least, most)).collect();
        let wanted = Test::value_variants().iter().filter(|test| tests.contains(test));
        let cells = wanted.flat_map(|test| match test {
            Test::Tcp => Self::of(direction, sizes),
            Test::Udp => Self::sized(direction, &lengths, Self::UdpTx, Self::UdpRx),
            Test::Rr => vec![Self::Rr1],
            Test::Ping => vec![Self::PingOut, Self::PingIn],
            Test::Ftp => vec![Self::FtpGet, Self::FtpPut],
            Test::Dots => vec![Self::Dots],
        });
        cells.collect()
    }

    /// Whether this link carries it: QEMU's user network forwards TCP alone into the guest.
    pub fn runs_on(self, net: Net) -> bool {
        net == Net::Tap || !matches!(self, Self::UdpRx(_) | Self::PingOut | Self::PingIn)
    }

    /// What it counts.
    pub const fn unit(self) -> Unit {
        match self {
            Self::Tx(_) | Self::Rx(_) | Self::UdpTx(_) | Self::UdpRx(_) => Unit::Kib,
            Self::FtpGet | Self::FtpPut => Unit::Kib,
            Self::Dots => Unit::Dot,
            Self::Rr1 | Self::PingOut | Self::PingIn => Unit::Transaction,
        }
    }

    /// Whether it is one of ttcp's over TCP.
    pub const fn is_tcp_stream(self) -> bool {
        matches!(self, Self::Tx(_) | Self::Rx(_))
    }
}

/// What a cell gave.
#[derive(Debug, Clone)]
pub struct Measurement {
    /// Which.
    pub cell: Cell,
    /// Bytes that arrived, or transactions: see [`Cell::unit`].
    pub count: u64,
    /// By the host's clock, where the host can know.
    pub seconds: f64,
    /// The same between two threads of the host, a second.
    pub host_rate: Option<f64>,
    /// Instructions of the marked region, if they were counted.
    pub instructions: Option<Instructions>,
    /// The blocks that these instructions were in, for [`crate::profile`].
    pub executed: Vec<Block>,
    /// The part of the bytes that did not arrive, where nothing is sent again.
    pub lost: Option<f64>,
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
        self.cell.unit().rate(self.count, self.seconds)
    }

    /// What costs are divided by. Datagrams that the guest has sent have cost it what they cost, whether the host lost them or not.
    pub fn units(&self) -> f64 {
        let arrived = match (self.cell, self.lost) {
            (Cell::UdpTx(_), Some(lost)) if lost < 1.0 => 1.0 - lost,
            _ => 1.0,
        };
        self.cell.unit().of(self.count) / arrived
    }

    /// Instructions per unit: the kernel's, the tasks'.
    pub fn instructions_per_unit(&self) -> Option<[f64; 2]> {
        let units = self.units();
        self.instructions.map(|counted| [counted.kernel, counted.user].map(|count| count as f64 / units))
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn names(cells: &[Cell]) -> Vec<String> {
        cells.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn names_and_order() {
        let of = |direction| names(&Cell::of(direction, &[10, 1024, 8192, 10]));
        assert_eq!(of(Direction::Both), ["tx8192", "tx1024", "tx10", "rx8192", "rx1024", "rx10"]);
        assert_eq!(of(Direction::Rx), ["rx8192", "rx1024", "rx10"]);
    }

    #[test]
    fn tests_become_cells() {
        let of = |tests: &[Test]| names(&Cell::of_tests(tests, Direction::Both, &[1, 8192]));
        assert_eq!(of(&[Test::Ping, Test::Rr]), ["rr1", "ping-out", "ping-in"]);
        assert_eq!(of(&[Test::Udp]), ["udp-tx8192", "udp-tx5", "udp-rx8192", "udp-rx5"]);
        let cells = Cell::of_tests(Test::value_variants(), Direction::Both, &[10, 1024, 8192]);
        assert_eq!(cells.len(), 18);
        assert_eq!(cells.iter().filter(|cell| cell.is_tcp_stream()).count(), 6);
        assert_eq!(cells.iter().filter(|cell| cell.runs_on(Net::User)).count(), 13);
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for cell in Cell::of_tests(Test::value_variants(), Direction::Both, &[10, 8192]) {
            assert_eq!(cell.to_string().parse(), Ok(cell));
        }
        for wrong in ["", "t", "tx", "tx0", "tx999999", "rr2", "ä10", "udp-tx4", "udp-rx65508", "ping"] {
            assert!(wrong.parse::<Cell>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn units() {
        assert_eq!(Cell::Tx(10).unit().rate(3_000_000, 2.0), 1.5);
        assert_eq!(Cell::Rr1.unit().rate(3_000, 2.0), 1500.0);
        assert_eq!((Unit::Kib.of(2048), Unit::Transaction.of(2048)), (2.0, 2048.0));
    }
}
