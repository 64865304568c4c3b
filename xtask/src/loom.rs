//! `cargo xtask loom`: the model checks of `loom-tests/`, with the bounds of an everyday run or the long ones.

use crate::build;
use crate::error::{Context as _, Result, failed};

/// Runs the command.
pub fn loom(long: bool) -> Result<()> {
    let (preemptions, branches) = if long { ("4", "20000") } else { ("3", "5000") };
    let mut cargo = build::cargo();
    cargo.args(["test", "--release", "-p", "loom-tests"]);
    if long {
        // The tests that take hours are ignored by default.
        cargo.args(["--", "--include-ignored"]);
    }
    // A target folder of its own: the flag changes every crate.
    let status = cargo
        .env("RUSTFLAGS", "--cfg loom")
        .env("CARGO_TARGET_DIR", build::root().join("target").join("loom"))
        .env("LOOM_MAX_PREEMPTIONS", preemptions)
        .env("LOOM_MAX_BRANCHES", branches)
        .status()
        .context("cannot start cargo")?;
    if status.success() { Ok(()) } else { failed("a model check failed; see above") }
}

/// `cargo xtask inject`: the tests that run one side at every access of the other, on one processor, and the seeds of the fuzz targets.
pub fn inject() -> Result<()> {
    let status = build::cargo()
        .args(["test", "--quiet", "--release", "-p", "loom-tests", "-p", "fuzz"])
        .env("RUSTFLAGS", "--cfg shmqueue_inject")
        .env("CARGO_TARGET_DIR", build::root().join("target").join("inject"))
        .status()
        .context("cannot start cargo")?;
    if status.success() { Ok(()) } else { failed("a test by injection failed; see above") }
}
