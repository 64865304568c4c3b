//! The examples run, each for a short time, and say themselves whether all was right: their exit status is the verdict.
#![cfg(not(any(loom, miri)))]

use std::{
    env,
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::Once,
    thread,
    time::{Duration, Instant},
};

/// The examples' folder, of the profile of this test. They are built anew, since `cargo test --test examples` does not.
fn examples() -> PathBuf {
    let own = env::current_exe().expect("this test's path");
    let profile = own.ancestors().nth(2).expect("target/profile/deps/test");
    let name = profile.file_name().and_then(|name| name.to_str()).expect("a profile");
    let name = if name == "debug" { "dev" } else { name };
    static BUILT: Once = Once::new();
    BUILT.call_once(|| {
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--examples", "--profile", name])
            .args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"), "--target-dir"])
            .arg(profile.parent().expect("target"))
            .status();
        assert!(status.expect("cargo starts").success(), "the examples do not build");
    });
    profile.join("examples")
}

/// Runs an example for no longer than a minute. (What it prints fits into a pipe.)
fn run(example: &str, arguments: &[&str]) -> String {
    let mut child = Command::new(examples().join(example))
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the example starts");
    let start = Instant::now();
    while child.try_wait().expect("a child").is_none() {
        if start.elapsed() > Duration::from_secs(60) {
            child.kill().expect("a child");
            panic!("{example} does not end");
        }
        thread::sleep(Duration::from_millis(5));
    }
    let Output { status, stdout, stderr } = child.wait_with_output().expect("its output");
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{example}: {status}\n{stdout}{stderr}");
    stdout.into_owned()
}

/// The number that stands before `what`.
fn count(text: &str, what: &str) -> u64 {
    let before = text.split(what).next().filter(|before| before.len() < text.len());
    let number = before.and_then(|before| before.split_whitespace().next_back());
    number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no `{what}` in\n{text}"))
}

#[test]
fn a_signal_handler_exchanges_buffers_by_dual_queues() {
    let text = run("signal_handler", &["dual", "1"]);
    assert!(count(&text, " signals") > 100 && count(&text, " buffers in order") > 1000, "{text}");
    // Else the signal never came where it matters.
    let failures = count(&text, " of the handler on IN") + count(&text, " of the handler on OUT");
    assert!(failures > 0, "{text}");
}

#[test]
fn a_signal_handler_exchanges_buffers_by_rings() {
    let text = run("signal_handler", &["ring", "1"]);
    assert!(count(&text, " signals") > 100 && count(&text, " buffers in order") > 1000, "{text}");
}

#[test]
#[cfg(target_os = "linux")]
fn two_processes_share_a_memfd() {
    let text = run("two_processes", &["both", "20000"]);
    assert_eq!(text.matches("20000 packets, each byte right").count(), 2, "{text}");
}

#[test]
fn the_skeleton_of_a_microcontroller_runs() {
    let text = run("rtic_skeleton", &[]);
    assert_eq!(count(&text, " frames in"), 20_000);
}
