//! The example runs, for a short time, and says itself whether all was right: its exit status is the verdict.
#![cfg(not(any(loom, miri)))]

use std::{env, process::Command};

#[test]
fn a_document_is_sent_without_a_copy() {
    let own = env::current_exe().expect("this test's path");
    let profile = own.ancestors().nth(2).expect("target/profile/deps/test");
    let name = profile.file_name().and_then(|name| name.to_str()).expect("a profile");
    let name = if name == "debug" { "dev" } else { name };
    let output = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--example", "static_page", "--profile", name])
        .args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"), "--target-dir"])
        .arg(profile.parent().expect("target"))
        .args(["--", "40"])
        .output()
        .expect("cargo starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}\n{text}{}", output.status, String::from_utf8_lossy(&output.stderr));
    // 35 packets of 1460 bytes at most for each of 50,000.
    assert!(text.contains("40 clients, 1400 packets, 1400 right, 4 versions written"), "{text}");
    assert!(text.contains("3 of 3 places free, no buffer lost"), "{text}");
}
