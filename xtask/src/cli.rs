//! The command line: what can be asked for, with the limits that make sense.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::cells::Direction;
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
    /// The seven cells, repeated and interleaved: medians
    Bench(BenchArgs),
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
    /// The tests in QEMU alone
    QemuTest(QemuTestArgs),
    /// Install the tools that are missing
    Setup,
}

/// How applications reach the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Path {
    /// By a window of memory that the kernel's interrupt handler and the protocol server share
    Window,
}

/// Which machine: common to all commands that boot one.
#[derive(Debug, Clone, Args)]
pub struct MachineArgs {
    /// How applications reach the network
    #[arg(long, value_enum, default_value = "window")]
    pub path: Path,
    /// The network device
    #[arg(long, value_enum, default_value = "e1000")]
    pub nic: Nic,
    /// QEMU's machine type
    #[arg(long, value_enum, default_value = "pc")]
    pub board: Board,
    /// The link to the host [default: a tap where that is possible]
    #[arg(long, value_enum)]
    pub net: Option<Net>,
    /// The executor [default: kvm where a trial shows that it runs the kernel, else tcg]
    #[arg(long, value_enum)]
    pub accel: Option<Accel>,
    /// Memory in MiB
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=65536))]
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
    /// For how long each cell runs
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,
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
    /// How often each cell is run
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub reps: u32,
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
            "boot --memory 0",
            "boot --gdb-port 99999 --gdb",
            "fly",
        ] {
            let arguments = ["cargo xtask"].into_iter().chain(line.split(' '));
            let error = Cli::try_parse_from(arguments).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
        assert!(Cli::try_parse_from(["cargo xtask", "run", "--size", "1,65536"]).is_ok());
    }
}
