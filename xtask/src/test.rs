//! `cargo xtask test`: all that must pass before a change goes in. `.ci/run` calls exactly this.

use std::process::Command;
use std::time::Instant;

use crate::build;
use crate::cli::TestArgs;
use crate::error::{Context as _, Error, Result, failed};
use crate::{layers, loom, setup, standalone};

type Step = (&'static str, fn() -> Result<()>);

const STEPS: &[Step] = &[
    ("format", format),
    ("lints", lints),
    ("layers", layers::check),
    ("host tests", host_tests),
    ("tests by injection", loom::inject),
    ("model checks", || loom::loom(false)),
    ("packages", standalone::package),
    ("Miri", standalone::miri),
];

/// In processes of their own: they replace theirs by one inside a namespace.
const IN_QEMU: &[Step] = &[
    ("tests in QEMU", || own(&["qemu-test"], "a test in QEMU failed; see above")),
    ("chaos, the short form", || own(&["chaos", "--short"], "something did not survive; see above")),
];

/// Runs the command: every step, also after one that failed.
pub fn test(args: &TestArgs) -> Result<()> {
    setup::ensure(if args.no_qemu { &[setup::CC] } else { setup::ALL })?;
    let (mut passed, mut failures) = (0, Vec::new());
    for (name, step) in STEPS.iter().chain(if args.no_qemu { &[] } else { IN_QEMU }) {
        println!("== {name}");
        let start = Instant::now();
        let result = step();
        let seconds = start.elapsed().as_secs();
        match result {
            Ok(()) => {
                passed += 1;
                println!("== {name}: ok ({seconds} s)\n");
            }
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(error) => {
                println!("== {name}: FAILED ({seconds} s): {}\n", error.message());
                failures.push(*name);
            }
        }
    }
    println!("{passed} passed, {} failed", failures.len());
    if failures.is_empty() { Ok(()) } else { failed(format!("failed: {}", failures.join(", "))) }
}

fn succeed(command: &mut Command, advice: &str) -> Result<()> {
    let status = command.status().context("cannot start cargo")?;
    match (status.success(), status.code()) {
        (true, _) => Ok(()),
        (false, Some(130)) => Err(Error::Interrupted),
        _ => failed(advice),
    }
}

fn format() -> Result<()> {
    succeed(build::cargo().args(["fmt", "--all", "--check"]), "the formatting differs; run `cargo fmt`")
}

fn lints() -> Result<()> {
    let clippy = ["clippy", "--quiet", "--workspace", "--all-targets", "--features", "insn-counter/plugin"];
    succeed(build::cargo().args(clippy).args(["--", "-D", "warnings"]), "clippy complains; see above")
}

fn host_tests() -> Result<()> {
    // loom's crate is tested by itself, with the flag that it needs.
    succeed(
        build::cargo().args(["test", "--quiet", "--workspace", "--exclude", "loom-tests"]),
        "a host test failed; see above",
    )
}

fn own(arguments: &[&str], advice: &str) -> Result<()> {
    let own = std::env::current_exe().context("this program's path")?;
    succeed(Command::new(own).args(arguments), advice)
}
