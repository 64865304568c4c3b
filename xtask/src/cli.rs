//! The command line: what can be asked for, with the limits that make sense.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::cells::{Cell, Direction, Test};
use crate::error::{Error, Result};
use crate::machine::{Accel, Board, Nic};
use crate::network::Net;
use crate::peers::Peer;

/// Builds, boots, tests and measures Oriel.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Boot the machine and run ttcp across the link: the table of what each packet cost
    Run(RunArgs),
    /// Boot the machine with a console: a shell on the serial line
    Boot(BootArgs),
    /// Everything that must pass: format, lints, layers, host tests, model checks, tests in QEMU
    Test(TestArgs),
    /// The evaluation: all paths, repeated and interleaved; medians, their spread, ratios
    Bench(BenchArgs),
    /// Where the instructions of each cell go: by part of the system, by function, by line
    Profile(ProfileArgs),
    /// A page and a chart from files that `--json` wrote
    Report(ReportArgs),
    /// The model checks of the shared-memory protocols
    Loom(LoomArgs),
    /// The tests on one processor: an interrupt at every access, a peer that lies, a server that dies
    Inject,
    /// The SPIN models of the shared-memory protocols
    Spin(SpinArgs),
    /// Hostile peers of random bytes, under libFuzzer
    Fuzz(FuzzArgs),
    /// Break the code in every way that the checks must see
    Mutants(MutantsArgs),
    /// The queues beside those of other crates: times and instructions
    QueueBench(QueueBenchArgs),
    /// Break things on purpose, and see that the rest goes on
    Chaos(ChaosArgs),
    /// The tests in QEMU alone
    QemuTest(QemuTestArgs),
    /// Install the tools that are missing
    Setup,
}

/// How applications reach the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Path {
    /// The stack is in the kernel, and called by system calls
    Monolithic,
    /// A protocol server gets frames as messages from a packet filter, and is asked by messages
    Ipc,
    /// By a window of memory that the kernel's interrupt handler and the protocol server share
    Window,
}

/// One or more of an option's values: names with commas between them, or `all`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Several<T>(pub Vec<T>);

impl<T: ValueEnum + PartialEq> std::str::FromStr for Several<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self(T::value_variants().to_vec()));
        }
        let mut values = Vec::new();
        for name in text.split(',') {
            let value = T::from_str(name, false).map_err(|_| {
                let names: Vec<String> = T::value_variants().iter().map(crate::machine::name_of).collect();
                format!("give one or more of {}, with commas between them, or all", names.join(", "))
            })?;
            if !values.contains(&value) {
                values.push(value);
            }
        }
        Ok(Self(values))
    }
}

impl<T: Copy> Several<T> {
    /// The only value, where a command takes one, or `default` if none is given.
    pub fn one(given: Option<&Self>, default: T, option: &str) -> Result<T> {
        match given.map(|given| given.0.as_slice()) {
            None => Ok(default),
            Some([value]) => Ok(*value),
            Some(_) => Err(Error::Usage(format!("{option} takes one value here; `bench` takes several"))),
        }
    }
}

/// What the queues of the window are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Queue {
    /// Two sub-queues each, with a lock for each: those of Reynolds and Heller
    Dual,
    /// Lamport's rings
    Ring,
}

/// Which machine: common to all commands that boot one.
#[derive(Debug, Clone, Args)]
pub struct MachineArgs {
    /// How applications reach the network: monolithic, ipc, window [default: window; bench: all]
    #[arg(long, value_name = "PATH")]
    pub path: Option<Several<Path>>,
    /// The queues of the window: dual, ring; bench takes both, separated by a comma, and shows them side by side
    #[arg(long, value_enum, value_delimiter = ',', default_value = "dual")]
    pub queue: Vec<Queue>,
    /// The network device: e1000, virtio [default: e1000; bench: all]
    #[arg(long, value_name = "NIC")]
    pub nic: Option<Several<Nic>>,
    /// QEMU's machine type
    #[arg(long, value_enum, default_value = "pc")]
    pub board: Board,
    /// The link to the host [default: a tap where that is possible]
    #[arg(long, value_enum)]
    pub net: Option<Net>,
    /// The executor [default: kvm where a trial shows that it runs the kernel, else tcg]
    #[arg(long, value_enum)]
    pub accel: Option<Accel>,
    /// Memory in MiB. With less than 12 the boot loader puts the programs over the kernel's entry, which then cannot complain
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u64).range(12..=65536))]
    pub memory: u64,
    /// Pools of buffers in the window
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=8))]
    pub pools: u64,
    /// Write all frames to this file, as tcpdump and Wireshark read it
    #[arg(long, value_name = "FILE")]
    pub pcap: Option<PathBuf>,
    /// Boot this kernel instead of the one built here
    #[arg(long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,
    /// Add a program to the boot module, or replace one
    #[arg(long, value_name = "NAME=FILE")]
    pub module: Vec<String>,
    /// More words for the kernel's command line
    #[arg(long, value_name = "KEY=VALUE", default_value = "")]
    pub append: String,
}

impl MachineArgs {
    /// The path, for a command that boots one machine.
    pub fn one_path(&self) -> Result<Path> {
        Several::one(self.path.as_ref(), Path::Window, "--path")
    }

    /// The network device, for such a command.
    pub fn one_nic(&self) -> Result<Nic> {
        Several::one(self.nic.as_ref(), Nic::E1000, "--nic")
    }

    /// The kind of queue, for such a command.
    pub fn one_queue(&self) -> Result<Queue> {
        match self.queue[..] {
            [queue] => Ok(queue),
            _ => Err(Error::Usage("--queue: a machine has one kind; bench compares two".into())),
        }
    }
}

/// `--size`: pieces from a byte to 64 KiB.
fn size(text: &str) -> Result<usize, String> {
    let max = pattern::MAX_CHUNK;
    match text.parse::<usize>() {
        Ok(size) if (1..=max).contains(&size) => Ok(size),
        _ => Err(format!("give a number of bytes from 1 to {max}")),
    }
}

/// Options of the commands that print figures.
#[derive(Debug, Clone, Args)]
pub struct FigureArgs {
    /// Bytes in each read and write, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "10,1024,8192", value_parser = size)]
    pub size: Vec<usize>,
    /// For how long each cell runs [default: 3; bench: 2, with --quick 1]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: Option<u64>,
    /// Which way the data goes, seen from the guest
    #[arg(long, value_enum, default_value = "both")]
    pub direction: Direction,
    /// The other end of the transfers
    #[arg(long, value_enum, default_value = "builtin")]
    pub peer: Peer,
    /// Write the figures to this file too
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

impl FigureArgs {
    /// As for a command that has its own cells, against the peer that is built in.
    pub fn builtin(seconds: u64, json: Option<PathBuf>) -> Self {
        Self {
            size: Vec::new(),
            seconds: Some(seconds),
            direction: Direction::Both,
            peer: Peer::Builtin,
            json,
        }
    }
}

/// Options of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The machine
    #[command(flatten)]
    pub machine: MachineArgs,
    /// The cells
    #[command(flatten)]
    pub figures: FigureArgs,
}

/// Options of `bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// The machine
    #[command(flatten)]
    pub machine: MachineArgs,
    /// The cells
    #[command(flatten)]
    pub figures: FigureArgs,
    /// What is measured
    #[arg(long, value_enum, value_delimiter = ',', default_value = "tcp,udp,rr,ping,ftp,dots")]
    pub tests: Vec<Test>,
    /// How often each cell is timed, and counted [default: 3; with --quick 1]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub reps: Option<u32>,
    /// The whole evaluation in under five minutes: one short repetition, timed and counted in the same boot
    #[arg(long)]
    pub quick: bool,
    /// The report
    #[command(flatten)]
    pub pages: PageArgs,
}

/// Options of `profile`.
#[derive(Debug, Args)]
pub struct ProfileArgs {
    /// The machine
    #[command(flatten)]
    pub machine: MachineArgs,
    /// The cells: tx or rx and a size, or rr1
    #[arg(value_name = "CELL", default_values = ["tx8192", "rx8192", "rr1"])]
    pub cells: Vec<Cell>,
    /// For how long each cell runs
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,
    /// Print so many functions and lines too, those with the most instructions
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub top: usize,
    /// Write the figures to this file too
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Options of `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// The files; of two rows for the same cell, path and device, the later one counts
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Where to
    #[command(flatten)]
    pub pages: PageArgs,
}

/// Which pages to write.
#[derive(Debug, Clone, Args)]
pub struct PageArgs {
    /// Write the report to this file: charts and tables on one page of HTML
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Write one compact chart to this file
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

/// Options of `boot`.
#[derive(Debug, Args)]
pub struct BootArgs {
    /// The machine
    #[command(flatten)]
    pub machine: MachineArgs,
    /// Wait for a debugger before the first instruction
    #[arg(long)]
    pub gdb: bool,
    /// The port that the debugger connects to
    #[arg(long, default_value_t = 1234, requires = "gdb")]
    pub gdb_port: u16,
    /// Run this shell command at the host's end once the guest is up, then power off
    #[arg(long, value_name = "COMMAND")]
    pub exec: Option<String>,
    /// Type this line at the guest's prompt first, together with --exec (may be repeated)
    #[arg(long, value_name = "LINE", requires = "exec")]
    pub guest: Vec<String>,
    /// Start an FTP server at the host's end, for the guest's `ftp`
    #[arg(long)]
    pub ftp: bool,
    /// Start an X server at the host's end, for the guest's `xdots`, and write its screen to this PNG file at the end
    #[arg(long, value_name = "FILE")]
    pub x11: Option<PathBuf>,
    /// Write what the guest's `tcpdump -w` sends to this file
    #[arg(long, value_name = "FILE")]
    pub capture: Option<PathBuf>,
}

/// Options of `test`.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// Leave out the tests in QEMU
    #[arg(long)]
    pub no_qemu: bool,
}

/// Options of `loom`.
#[derive(Debug, Args)]
pub struct LoomArgs {
    /// The long bounds: more packets, more preemptions
    #[arg(long)]
    pub long: bool,
}

/// Options of `spin`.
#[derive(Debug, Args)]
pub struct SpinArgs {
    /// Only the models and variants whose name contains this, or one of these, separated by commas
    #[arg(long, value_name = "NAME")]
    pub only: Option<String>,
}

/// Options of `fuzz`.
#[derive(Debug, Args)]
pub struct FuzzArgs {
    /// Only this target, or these, separated by commas
    #[arg(value_name = "TARGET")]
    pub target: Option<String>,
    /// For how long in all
    #[arg(long, value_name = "N", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub seconds: u64,
    /// Make the seeds in the repository a smallest set that covers what was found
    #[arg(long)]
    pub merge: bool,
    /// Print the names and end
    #[arg(long)]
    pub list: bool,
}

/// Options of `mutants`.
#[derive(Debug, Args)]
pub struct MutantsArgs {
    /// Only the mutations whose name contains this, or one of these, separated by commas
    #[arg(long, value_name = "NAME")]
    pub only: Option<String>,
    /// Print the names and end
    #[arg(long)]
    pub list: bool,
    /// Write the table to this file too
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// How many mutations are tried at a time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=64))]
    pub jobs: u64,
}

/// Options of `queue-bench`.
#[derive(Debug, Args)]
pub struct QueueBenchArgs {
    /// Count instructions too, by valgrind's callgrind
    #[arg(long)]
    pub insns: bool,
    /// Write the figures to this file too
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// One short round: for a look, not for a claim
    #[arg(long)]
    pub quick: bool,
}

/// Options of `chaos`.
#[derive(Debug, Args)]
pub struct ChaosArgs {
    /// Only these parts
    #[arg(value_name = "PART")]
    pub only: Vec<String>,
    /// The short form of each part: all of them in under five minutes
    #[arg(long)]
    pub short: bool,
    /// Of a part, only the cases whose name contains this
    #[arg(long, value_name = "NAME")]
    pub case: Option<String>,
    /// Draw the curves of the part `livelock` into this file
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// How long the part `soak` takes: 10 if not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub minutes: Option<u64>,
    /// Print the names and end
    #[arg(long)]
    pub list: bool,
}

/// Options of `qemu-test`.
#[derive(Debug, Args)]
pub struct QemuTestArgs {
    /// Only the tests whose name contains this, or one of these, separated by commas
    #[arg(long, value_name = "NAME")]
    pub only: Option<String>,
    /// Print the names and end
    #[arg(long)]
    pub list: bool,
    /// Print what the guest said in each test that fails
    #[arg(long)]
    pub transcript: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn nonsense_is_a_usage_error() {
        for line in [
            "run --size 0",
            "run --size 1099511627776",
            "run --size 10,x",
            "run --nic rtl8139",
            "run --what",
            "fuzz --seconds 0",
            "run --seconds 0",
            "boot --memory 11",
            "boot --gdb-port 99999 --gdb",
            "profile tx0",
            "profile rr1 --accel kvm --top x",
            "report",
            "report x.json --html",
            "bench --queue dual,heap",
            "fly",
        ] {
            let arguments = ["cargo xtask"].into_iter().chain(line.split(' '));
            let error = Cli::try_parse_from(arguments).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
        assert!(Cli::try_parse_from(["cargo xtask", "run", "--size", "1,65536"]).is_ok());
    }

    #[test]
    fn several_values_and_all() {
        let paths = |text: &str| text.parse::<Several<Path>>();
        assert_eq!(paths("all").unwrap().0, [Path::Monolithic, Path::Ipc, Path::Window]);
        assert_eq!(paths("window,ipc,window").unwrap().0, [Path::Window, Path::Ipc]);
        assert!(paths("window,").unwrap_err().contains("monolithic, ipc, window"));
        assert_eq!("e1000,virtio-net".parse::<Several<Nic>>().unwrap().0, [Nic::E1000, Nic::Virtio]);
        assert_eq!(Several::one(None, Path::Ipc, "--path").unwrap(), Path::Ipc);
        assert!(Several::one(Some(&paths("all").unwrap()), Path::Ipc, "--path").is_err());
    }
}
