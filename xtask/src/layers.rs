//! The layer check: which crate may use which, and where hardware may be named.
//!
//! The table is ARCHITECTURE.md's. Lower layers define traits, higher ones implement them; there are no cycles.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::build;
use crate::error::{Context as _, Result, failed};

/// A crate, and the crates of this workspace that it may depend on.
const MAY_USE: &[(&str, &[&str])] = &[
    ("abi", &[]),
    ("shmqueue", &[]),
    ("pattern", &[]),
    ("memfuncs", &[]),
    ("x11", &[]),
    ("mbuf", &["shmqueue"]),
    ("netdev-driver", &["abi", "shmqueue", "mbuf"]),
    // The stack as a library: the kernel has it in it on the monolithic path.
    ("microkernel", &["abi", "shmqueue", "mbuf", "netdev-driver", "memfuncs", "protocol-server"]),
    ("userlib", &["abi", "shmqueue", "mbuf"]),
    ("protocol-server", &["userlib", "abi", "shmqueue", "mbuf", "netdev-driver", "memfuncs"]),
    // `abi` for its numbers: `badcalls` makes every system call by hand, and the shell and init speak the name service.
    ("apps", &["userlib", "abi", "pattern", "x11", "memfuncs"]),
    ("loom-tests", &["shmqueue", "mbuf"]),
    ("fuzz", &["abi", "shmqueue", "mbuf", "netdev-driver", "userlib", "protocol-server", "fuzz-kernel"]),
    ("fuzz-kernel", &["abi", "shmqueue", "mbuf", "netdev-driver", "protocol-server"]),
    ("queue-bench", &["shmqueue"]),
    ("insn-counter", &["abi"]),
    ("linux-guest", &["abi", "pattern", "x11"]),
    ("xtask", &["abi", "pattern", "x11", "insn-counter", "linux-guest"]),
];

/// Crates that only these may depend on.
const SMOLTCP_USER: &str = "protocol-server";

/// Words that name hardware. In `microkernel/src` they belong into `arch/` and `board/` only.
const HARDWARE: &[&str] = &["core::arch", "x86_64::", "asm!(", "pic8259", "uart_16550"];

/// Checks everything; the error lists all that is wrong.
pub fn check() -> Result<()> {
    let output = build::cargo()
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .output()
        .context("cannot start cargo")?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let mut wrong = dependencies(&metadata);
    wrong.extend(hardware(&build::root().join("microkernel/src"))?);
    if wrong.is_empty() {
        Ok(())
    } else {
        failed(format!("the layers are broken:\n    {}", wrong.join("\n    ")))
    }
}

fn dependencies(metadata: &Value) -> Vec<String> {
    let packages = metadata["packages"].as_array().map_or(&[][..], Vec::as_slice);
    let name_of = |value: &Value| value["name"].as_str().unwrap_or_default().to_owned();
    let members: Vec<String> = packages.iter().map(name_of).collect();
    let mut wrong = Vec::new();
    for package in packages {
        let name = name_of(package);
        let Some((_, allowed)) = MAY_USE.iter().find(|(member, _)| *member == name) else {
            wrong.push(format!("{name} is not in the table of layers (xtask/src/layers.rs)"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let (used, kind) = (name_of(dependency), dependency["kind"].as_str());
            // Tests may look upwards.
            if kind == Some("dev") {
                continue;
            }
            if members.contains(&used) && !allowed.contains(&used.as_str()) {
                wrong.push(format!("{name} may not use {used}"));
            }
            if used == "smoltcp" && name != SMOLTCP_USER {
                wrong.push(format!("{name} may not use smoltcp: only {SMOLTCP_USER} does"));
            }
        }
    }
    wrong
}

/// Looks for hardware's names outside of `arch/` and `board/`.
fn hardware(folder: &Path) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for entry in fs::read_dir(folder).context(folder.display())? {
        let path = entry.context(folder.display())?.path();
        let name = path.file_stem().unwrap_or_default();
        if name == "arch" || name == "board" {
            continue;
        }
        if path.is_dir() {
            wrong.extend(hardware(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).context(path.display())?;
            for (number, line) in text.lines().enumerate() {
                let code = line.split("//").next().unwrap_or_default();
                if let Some(word) = HARDWARE.iter().find(|word| code.contains(**word)) {
                    wrong.push(format!("{}:{} names `{word}`", path.display(), number + 1));
                }
            }
        }
    }
    Ok(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_wrong_dependency_is_found() {
        let metadata = json!({ "packages": [
            { "name": "abi", "dependencies": [
                { "name": "mbuf", "kind": null }, { "name": "bitflags", "kind": null },
                { "name": "pattern", "kind": "dev" } ] },
            { "name": "mbuf", "dependencies": [
                { "name": "shmqueue", "kind": null }, { "name": "smoltcp", "kind": null } ] },
            { "name": "shmqueue", "dependencies": [] },
            { "name": "pattern", "dependencies": [] },
            { "name": "stranger", "dependencies": [] },
        ]});
        let wrong = dependencies(&metadata);
        assert_eq!(wrong.len(), 3, "{wrong:?}");
        assert_eq!(wrong[0], "abi may not use mbuf");
        assert!(wrong[1].contains("smoltcp") && wrong[2].contains("stranger"));
    }

    #[test]
    fn hardware_is_found_where_it_should_not_be() {
        let folder = temp_dir::TempDir::new().unwrap();
        for sub in ["arch", "pure"] {
            fs::create_dir(folder.path().join(sub)).unwrap();
            fs::write(folder.path().join(sub).join("a.rs"), "// asm!( in words\nfn f() { asm!(\"hlt\") }\n")
                .unwrap();
        }
        let wrong = hardware(folder.path()).unwrap();
        assert_eq!(wrong.len(), 1);
        assert!(wrong[0].contains("pure/a.rs:2"));
    }
}
