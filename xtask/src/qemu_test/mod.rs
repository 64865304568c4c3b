//! `cargo xtask qemu-test`: the tests that boot a machine. Each boots its own, with a time limit on every step.
//!
//! A test ends with [`Bed::finish`]: the guest audits itself (`mbstat -c`: every buffer accounted for, frames in = delivered
//! plus dropped, nothing waits while its queue holds something) and powers off with its own status. Silence, a fault or a
//! panic that nobody asked for, or another status is a failure.

mod applications;
mod boots;
mod filters;
pub mod hostile;
mod input;
mod lossy;
mod message_path;
mod monolithic;
mod restart;
mod servers;
mod transfers;

use std::cell::Cell;
use std::time::{Duration, Instant};

use abi::path::Path;

use crate::cli::QemuTestArgs;
use crate::error::{Error, Result, failed};
use crate::machine::{Board, Machine, Nic};
use crate::network::Net;
use crate::session::Session;
use crate::setup::{self, Tool};
use crate::vm::Vm;

/// What a test works with.
pub struct Bed {
    /// Images, link, temporary folder.
    pub session: Session,
    /// How applications reach the network on the machines of the test that runs.
    path: Cell<Path>,
}

/// A named test.
pub struct Case {
    name: &'static str,
    /// Whether it needs the tap.
    tap: bool,
    run: fn(&Bed) -> Result<()>,
}

/// Long enough for any command that is not a long transfer.
pub const SOON: Duration = Duration::from_secs(30);

/// What the other ends of the tests are.
const TOOLS: &[Tool] = &[setup::NUTTCP, setup::IPERF, setup::TC, setup::VSFTPD, setup::XVFB];

fn cases() -> Vec<Case> {
    [
        transfers::CASES,
        lossy::CASES,
        hostile::CASES,
        boots::CASES,
        input::CASES,
        applications::CASES,
        filters::CASES,
        message_path::CASES,
        monolithic::CASES,
        restart::CASES,
        servers::CASES,
    ]
    .into_iter()
    .flatten()
    .map(|(name, tap, run)| Case { name, tap: *tap, run: *run })
    .collect()
}

/// A row of a group's table.
pub type Row = (&'static str, bool, fn(&Bed) -> Result<()>);

impl Bed {
    /// A machine with 256 MiB.
    pub fn machine(&self, nic: Nic, board: Board) -> Result<Machine> {
        let mut machine = self.session.plain_machine(nic, board)?;
        machine.set_path(self.path.get());
        Ok(machine)
    }

    /// Runs a test on machines whose applications reach the network in another way.
    pub fn by(&self, path: Path, test: impl FnOnce(&Self) -> Result<()>) -> Result<()> {
        let before = self.path.replace(path);
        let outcome = test(self);
        self.path.set(before);
        outcome
    }

    /// The most common machine, up.
    pub fn boot(&self) -> Result<Vm> {
        Vm::boot(&self.machine(Nic::E1000, Board::Pc)?)
    }

    /// The audit and the power switch.
    pub fn finish(&self, mut vm: Vm) -> Result<()> {
        self.audit(&mut vm)?;
        vm.power_off()
    }

    /// The audit alone.
    pub fn audit(&self, vm: &mut Vm) -> Result<()> {
        // The last frames of a connection that just ended may still be on their way.
        std::thread::sleep(Duration::from_millis(300));
        let output = vm.console.command("mbstat -c", SOON)?;
        if output.contains("mbstat: balanced") && !output.contains("exit status") {
            return Ok(());
        }
        failed(format!("the books don't balance:\n{output}"))
    }
}

/// Runs the command.
pub fn qemu_test(args: &QemuTestArgs) -> Result<()> {
    let mut cases = cases();
    if let Some(only) = &args.only {
        cases.retain(|case| only.split(',').any(|part| case.name.contains(part)));
        if cases.is_empty() {
            return Err(Error::Usage(format!("no test's name contains `{only}`; --list shows all")));
        }
    }
    if args.list {
        cases.iter().for_each(|case| println!("{}", case.name));
        return Ok(());
    }
    let session = Session::open(None, TOOLS, None, &[])?;
    let tap = session.link.net == Net::Tap;
    let bed = Bed { session, path: Cell::new(Path::Window) };
    let (mut passed, mut failures, mut skipped) = (0, Vec::new(), 0);
    for case in &cases {
        if case.tap && !tap {
            println!("{:<28} skipped: no tap here", case.name);
            skipped += 1;
            continue;
        }
        let start = Instant::now();
        let result = (case.run)(&bed);
        let seconds = start.elapsed().as_secs_f64();
        match result {
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Ok(()) => {
                passed += 1;
                println!("{:<28} ok ({seconds:.1} s)", case.name);
            }
            Err(error) => {
                println!("{:<28} FAILED ({seconds:.1} s): {}", case.name, error.message());
                failures.push(case.name);
            }
        }
    }
    println!("QEMU: {passed} passed, {} failed, {skipped} skipped", failures.len());
    if failures.is_empty() {
        return Ok(());
    }
    failed(format!("failed: {}; repeat one with: cargo xtask qemu-test --only NAME", failures.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ() {
        let mut names: Vec<_> = cases().iter().map(|case| case.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
