//! Loads, stores and fences of 32 bits are all that `shmqueue` and `mbuf` use: they run where there is no compare-and-swap.
//! Looked for in the sources, and in the machine code of every operation (`examples/footprint.rs`).
#![cfg(not(loom))]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The lines of code that name a read-modify-write of an atomic.
fn named(text: &str) -> Vec<&str> {
    const METHODS: [&str; 5] = [".compare_exchange", ".compare_and_swap(", ".fetch_", ".swap(", "AtomicBool"];
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.filter(|line| METHODS.iter().any(|method| line.contains(method))).collect()
}

#[test]
fn the_sources_name_none() {
    let mut files = Vec::new();
    for folder in ["shmqueue/src", "mbuf/src"] {
        sources(&root().join(folder), &mut files);
    }
    assert!(files.len() > 20);
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        // Loom's companions are no part of what ships.
        let text = text.replace("self.companion.fetch_add(1, Ordering::Relaxed);", "");
        assert_eq!(named(&text), [""; 0], "{}", file.display());
    }
    assert_eq!(named("a.swap(1, Relaxed)\n// a.swap(\nb.fetch_add(1)\n").len(), 2);
}

/// The instructions of an x86 listing that change memory atomically. A locked or into the stack is how some compilers write
/// a full fence.
fn atomic(listing: &str) -> Vec<&str> {
    let instructions = listing.lines().map(str::trim).filter(|line| !line.starts_with(['.', '#']));
    let suspect = |line: &&str| {
        let locked = line.starts_with("lock") && !(line.contains("orl\t$0") || line.contains("orq\t$0"));
        // An exchange with memory locks by itself.
        let exchange = line.starts_with("xchg") && line.contains('(');
        locked
            || exchange
            || line.starts_with("cmpxchg")
            || line.starts_with("xadd")
            || line.contains("__atomic_")
    };
    instructions.filter(suspect).collect()
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_machine_code_has_none() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("footprint");
    let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args([
            "rustc",
            "--quiet",
            "--release",
            "-p",
            "loom-tests",
            "--example",
            "footprint",
            "--",
            "--emit=asm",
        ])
        .args(["-Ccodegen-units=1"])
        .env("CARGO_TARGET_DIR", &folder)
        // What ships, also where this test is compiled with the hook.
        .env_remove("RUSTFLAGS")
        .current_dir(root())
        .status()
        .unwrap();
    assert!(status.success());
    let mut listings = Vec::new();
    for entry in fs::read_dir(folder.join("release/examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "s") {
            listings.push(fs::read_to_string(path).unwrap());
        }
    }
    assert!(!listings.is_empty(), "no listing");
    let source = fs::read_to_string(root().join("loom-tests/examples/footprint.rs")).unwrap();
    let operations =
        source.lines().filter_map(|line| line.strip_prefix("    ")?.split_once('(').map(|(name, _)| name));
    let mut seen = 0;
    for listing in &listings {
        assert_eq!(atomic(listing), [""; 0]);
        assert!(listing.contains("mfence") || listing.contains("lock"), "no fence: is this the code?");
        for name in operations.clone().filter(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
        {
            // Equal bodies become one function, whose other names are set to it.
            assert!(listing.contains(name), "{name} is not in the listing");
            seen += 1;
        }
    }
    assert!(seen >= 30, "{seen} operations");
}

#[test]
fn what_is_looked_for_is_found() {
    let listing = "\tlock\t\torl\t$0, -64(%rsp)\n\tmfence\n\txchgl\t%eax, (%rdi)\n\txchgw\t%ax, %ax\n\tlock\t\tcmpxchgl\t%ecx, (%rdi)\n";
    assert_eq!(atomic(listing).len(), 2);
}
