//! The example runs, for a short time, and says itself whether all was right: its exit status is the verdict.
#![cfg(not(any(loom, miri)))]

use std::{
    env,
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

#[test]
fn a_document_is_sent_without_a_copy() {
    let own = env::current_exe().expect("this test's path");
    let profile = own.ancestors().nth(2).expect("target/profile/deps/test");
    let name = profile.file_name().and_then(|name| name.to_str()).expect("a profile");
    let name = if name == "debug" { "dev" } else { name };
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--example", "static_page", "--profile", name])
        .args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"), "--target-dir"])
        .arg(profile.parent().expect("target"))
        .status();
    assert!(built.expect("cargo starts").success(), "the example does not build");
    let mut child = Command::new(profile.join("examples/static_page"))
        .arg("40")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the example starts");
    // A server that lost its buffers would wait for them for ever.
    let start = Instant::now();
    while child.try_wait().expect("a child").is_none() {
        if start.elapsed() > Duration::from_secs(30) {
            child.kill().expect("a child");
            panic!("the example does not end");
        }
        thread::sleep(Duration::from_millis(5));
    }
    let Output { status, stdout, stderr } = child.wait_with_output().expect("its output");
    let text = String::from_utf8_lossy(&stdout);
    assert!(status.success(), "{status}\n{text}{}", String::from_utf8_lossy(&stderr));
    // 35 packets of 1460 bytes at most for each of 50,000.
    assert!(text.contains("40 clients, 1400 packets, 1400 right, 4 versions written"), "{text}");
    assert!(text.contains("3 of 3 places free, no buffer lost"), "{text}");
}
