//! Finds which tools are missing and installs them, or says what to type.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::build;
use crate::error::{Result, failed};
use crate::sys;

/// A program that a command needs, and Debian's package for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tool {
    program: &'static str,
    package: &'static str,
}

/// Runs the guest.
pub const QEMU: Tool = Tool { program: "qemu-system-x86_64", package: "qemu-system-x86" };
/// Makes the tap device.
pub const IP: Tool = Tool { program: "ip", package: "iproute2" };
/// Impairs the link, where the host's kernel can.
pub const TC: Tool = Tool { program: "tc", package: "iproute2" };
/// Makes the network namespace.
pub const UNSHARE: Tool = Tool { program: "unshare", package: "util-linux" };
/// A peer of the transfers.
pub const NUTTCP: Tool = Tool { program: "nuttcp", package: "nuttcp" };
/// A peer of the transfers.
pub const IPERF: Tool = Tool { program: "iperf", package: "iperf" };
/// The linker driver that rustc calls.
pub const CC: Tool = Tool { program: "cc", package: "gcc" };
/// Compiles libFuzzer. Only `cargo xtask fuzz` needs it.
pub const CXX: Tool = Tool { program: "c++", package: "g++" };
/// Explores the models beside `shmqueue`. Only `cargo xtask spin` needs it.
pub const SPIN: Tool = Tool { program: "spin", package: "spin" };

/// Counts instructions on the host. Only `cargo xtask queue-bench --insns` needs it.
pub const VALGRIND: Tool = Tool { program: "valgrind", package: "valgrind" };

/// Fetches packages. Only `--peer linux` needs it, and only on its first run.
pub const APT_GET: Tool = Tool { program: "apt-get", package: "apt" };
/// Takes packages apart.
pub const DPKG_DEB: Tool = Tool { program: "dpkg-deb", package: "dpkg" };
/// Takes archives apart.
pub const TAR: Tool = Tool { program: "tar", package: "tar" };
/// The other end of the guest's `ftp`. Only what runs that needs it.
pub const VSFTPD: Tool = Tool { program: "vsftpd", package: "vsftpd" };
/// The other end of the guest's `xdots`. Only what runs that needs it.
pub const XVFB: Tool = Tool { program: "Xvfb", package: "xvfb" };
/// Scans ports, and guesses systems. Only `cargo xtask chaos tools` needs this one and the next three.
pub const NMAP: Tool = Tool { program: "nmap", package: "nmap" };
/// Sends packets of any shape.
pub const HPING: Tool = Tool { program: "hping3", package: "hping3" };
/// The library that the scripts in `xtask/scapy/` are written with.
pub const SCAPY: Tool = Tool { program: "scapy3", package: "python3-scapy" };
/// Sends what a capture holds.
pub const TCPREPLAY: Tool = Tool { program: "tcpreplay", package: "tcpreplay" };
/// Runs the scripts; comes with the library, which another interpreter that a user may have put before it would not find.
pub const PYTHON: Tool = Tool { program: "/usr/bin/python3", package: "python3" };
/// A shell.
#[cfg(test)]
pub const SH: Tool = Tool { program: "sh", package: "dash" };

/// Everything that any command needs.
pub const ALL: &[Tool] = &[QEMU, IP, TC, UNSHARE, NUTTCP, IPERF, CC];

impl Tool {
    /// Debian's package.
    pub const fn package(self) -> &'static str {
        self.package
    }
}

/// The path of a program, looked for where a shell would and in the administrator's folders.
fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let admin = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(admin).map(|folder| folder.join(program)).find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// The command for a tool; one that isn't there fails when it's started.
pub fn command(tool: Tool) -> Command {
    Command::new(find(tool.program).unwrap_or_else(|| tool.program.into()))
}

/// Whether the tool is there.
pub fn present(tool: Tool) -> bool {
    find(tool.program).is_some()
}

/// What is to be installed for a command that needs `tools`: once there is something, everything that most commands need comes with it.
fn missing(tools: &[Tool], present: impl Fn(Tool) -> bool) -> Vec<Tool> {
    let rare = tools.iter().filter(|tool| ALL.iter().all(|common| common.program != tool.program));
    ALL.iter().chain(rare).copied().filter(|tool| !present(*tool)).collect()
}

/// Installs what is missing of these.
pub fn ensure(tools: &[Tool]) -> Result<()> {
    if tools.iter().all(|tool| present(*tool)) {
        return Ok(());
    }
    let missing = missing(tools, present);
    let packages = packages(&missing);
    let programs: Vec<_> = missing.iter().map(|tool| tool.program).collect();
    let install = format!("apt-get update && apt-get install -y {}", packages.join(" "));
    let advice = format!("{} missing; type: sudo sh -c '{install}'", programs.join(", "));
    if find("apt-get").is_none() {
        return failed(format!(
            "{} missing; install them with your system's package manager (Debian's packages: {})",
            programs.join(", "),
            packages.join(" ")
        ));
    }
    let mut shell = if sys::is_root() {
        Command::new("sh")
    } else if sudo_works() {
        let mut sudo = Command::new("sudo");
        sudo.args(["-n", "sh"]);
        sudo
    } else {
        return failed(advice);
    };
    eprintln!("installing {} (for {})", packages.join(" "), programs.join(", "));
    let install = install.replace("install -y", "install -y -qq --no-install-recommends");
    let done = shell
        .args(["-c", &install])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status();
    let still: Vec<_> = missing.iter().filter(|tool| !present(**tool)).collect();
    if done.is_ok_and(|status| status.success()) && still.is_empty() { Ok(()) } else { failed(advice) }
}

/// Installs cargo-fuzz, which comes from crates.io and not from a package of the system.
pub fn ensure_cargo_fuzz() -> Result<()> {
    let present = || {
        let mut version = build::cargo();
        version.args(["fuzz", "--version"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        version.status().is_ok_and(|status| status.success())
    };
    if present() {
        return Ok(());
    }
    eprintln!("installing cargo-fuzz");
    // Not into this repository's target folder, nor with its flags.
    let mut install = build::cargo();
    install
        .args(["install", "cargo-fuzz", "--locked", "--quiet"])
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("RUSTFLAGS");
    let done = install.status();
    if done.is_ok_and(|status| status.success()) && present() {
        Ok(())
    } else {
        failed("cargo-fuzz missing; type: cargo install cargo-fuzz --locked")
    }
}

fn packages(missing: &[Tool]) -> Vec<&'static str> {
    let mut packages: Vec<_> = missing.iter().map(|tool| tool.package).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

fn sudo_works() -> bool {
    let silent = |command: &mut Command| {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
    };
    silent(Command::new("sudo").args(["-n", "true"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_installed_and_what_every_command_needs_with_it() {
        let names = |tools: &[Tool], there: &[&str]| -> Vec<&str> {
            missing(tools, |tool| there.contains(&tool.program)).iter().map(|tool| tool.program).collect()
        };
        let all: Vec<_> = ALL.iter().map(|tool| tool.program).collect();
        assert_eq!(names(&[SPIN, CC], &all), ["spin"]);
        assert_eq!(names(&[QEMU], &all[1..]), [QEMU.program]);
        assert_eq!(names(&[CC, SPIN], &[]).len(), ALL.len() + 1);
    }

    #[test]
    fn finds_programs_and_names_packages_once() {
        assert!(find("sh").is_some());
        assert!(find("no-such-program-here").is_none());
        assert_eq!(packages(&[IP, QEMU, TC]), ["iproute2", "qemu-system-x86"]);
    }
}
