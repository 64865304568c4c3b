//! `cargo xtask`: every command that a person types to build, boot, test and measure Oriel.
//!
//! `cli` says what can be asked for; each command is a module (`run`, `boot`, `bench`, `profile`, `report`, `test`, `loom`, `spin`, `fuzz`, `mutants`,
//! `queue_bench`, `qemu_test`, `setup`).
//! Below them: `session` prepares (tools, images, namespace, link), `machine` writes every QEMU command line, `vm` is one that
//! runs, `console` talks to it, `cells` measures one transfer against `traffic` (built in) or `peers` (other people's).

mod bench;
mod boot;
mod build;
mod capture;
mod cells;
mod chaos;
mod cli;
mod console;
mod cpio;
mod elf;
mod error;
mod fuzz;
mod gdb;
mod layers;
mod linux;
mod loom;
mod machine;
mod monitor;
mod mutants;
mod network;
mod peers;
mod profile;
mod qemu_test;
mod queue_bench;
mod relay;
mod report;
mod results;
mod run;
mod session;
mod setup;
mod spin;
mod spread;
mod standalone;
mod sys;
mod test;
mod traffic;
mod vm;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Boot(args) => boot::boot(&args),
        Command::Test(args) => test::test(&args),
        Command::Bench(args) => bench::bench(&args),
        Command::Profile(args) => profile::profile(&args),
        Command::Report(args) => report::report(&args),
        Command::Loom(args) => loom::loom(args.long),
        Command::Inject => loom::inject(),
        Command::Spin(args) => spin::spin(&args),
        Command::Fuzz(args) => fuzz::fuzz(&args),
        Command::Mutants(args) => mutants::mutants(&args),
        Command::QueueBench(args) => queue_bench::queue_bench(&args),
        Command::Chaos(args) => chaos::chaos(&args),
        Command::QemuTest(args) => qemu_test::qemu_test(&args),
        Command::Setup => setup::ensure(setup::ALL),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // A failure that a signal caused is the signal's.
        Err(_) if sys::interrupted() => error::Error::Interrupted.report(),
        Err(error) => error.report(),
    }
}
