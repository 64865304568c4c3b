//! What `shmqueue` and `mbuf`, which other people take out of this repository, have to stand up to besides their tests: they can be packaged
//! and built from their packages alone, and Miri finds no undefined behaviour.

use std::process::Stdio;

use crate::build;
use crate::error::{Context as _, Result, failed};

/// The crates that are published, in the order in which they would be.
const CRATES: [&str; 2] = ["shmqueue", "mbuf"];

/// What cargo says where the registry cannot be asked: that is no fault of the packages.
const NO_REGISTRY: [&str; 3] =
    ["failed to query replaced source", "failed to download", "spurious network error"];

/// `cargo publish --dry-run`: packages the crates, and builds each from its package.
pub fn package() -> Result<()> {
    let mut cargo = build::cargo();
    cargo.args(["publish", "--dry-run", "--quiet", "--allow-dirty", "--target-dir"]);
    cargo.arg(build::root().join("target").join("package-check"));
    for name in CRATES {
        cargo.args(["-p", name]);
    }
    let output = cargo.stdin(Stdio::null()).output().context("cannot start cargo")?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    if NO_REGISTRY.iter().any(|what| text.contains(what)) {
        println!("skipped: the registry cannot be reached");
        return Ok(());
    }
    failed(format!("the crates cannot be published: {}", text.trim()))
}

/// The crates' tests under Miri, where that is installed. It is a component of nightly toolchains only.
pub fn miri() -> Result<()> {
    let mut version = build::cargo();
    version.args(["miri", "--version"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if !version.status().is_ok_and(|status| status.success()) {
        println!("skipped: this toolchain has no Miri");
        return Ok(());
    }
    let mut cargo = build::cargo();
    cargo.args(["miri", "test", "--quiet", "--target-dir"]).arg(build::root().join("target").join("miri"));
    for name in CRATES {
        cargo.args(["-p", name]);
    }
    // Offsets become addresses by `NonNull::add`, so nothing needs exposed provenance.
    let status = cargo.env("MIRIFLAGS", "-Zmiri-strict-provenance").status().context("cannot start cargo")?;
    if status.success() { Ok(()) } else { failed("Miri complains; see above") }
}
