//! `--peer linux`: a stock Linux guest in the same rig, for comparison.
//!
//! The kernel is the one that Debian's `linux-image-amd64` stands for, the shell is Debian's static busybox; the programs that
//! are measured are those of `linux-guest/`. [`packages`] fetches, [`initrd`] puts together. All of it stays in `target/linux`
//! and nothing is installed.

mod initrd;
mod packages;

use std::fs;
use std::path::{Path, PathBuf};

use crate::build;
use crate::error::{Context as _, Error, Result, failed};
use crate::machine::{Backend, Machine};
use crate::network::{Link, Net};

/// What such a guest boots.
#[derive(Debug, Clone)]
pub struct Linux {
    kernel: PathBuf,
    initrd: PathBuf,
    /// The kernel's version, as the package has it.
    pub version: String,
}

/// Whether the Linux guest's drivers and its device may cut and join TCP's segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offload {
    /// No TSO, GSO, GRO: each packet that the stack handles is a frame, as on Oriel.
    Off,
    /// As the drivers come up.
    On,
}

impl Linux {
    /// Fetches, builds and writes what is missing. Inside the namespace, where nothing can be fetched, it only finds what the
    /// process outside prepared.
    pub fn prepare() -> Result<Self> {
        let folder = folder()?;
        let (kernel, initrd) = (folder.join("vmlinuz"), folder.join("initrd"));
        let inside = std::env::var_os(build::BUILT).is_some();
        if !inside {
            fs::create_dir_all(&folder).context(folder.display())?;
            let parts = packages::fetch(&folder)?;
            let program = build::linux_program()?;
            fs::copy(&parts.kernel, &kernel).context(kernel.display())?;
            fs::write(folder.join("version"), &parts.version).context(folder.display())?;
            fs::write(&initrd, initrd::archive(&parts, &program)?).context(initrd.display())?;
        }
        let version = fs::read_to_string(folder.join("version"));
        match version {
            Ok(version) if kernel.is_file() && initrd.is_file() => Ok(Self { kernel, initrd, version }),
            _ => failed(format!("{} is not complete; remove it and try again", folder.display())),
        }
    }

    /// The machine that boots Linux where `oriel` would boot Oriel.
    pub fn machine(&self, oriel: &Machine, offload: Offload) -> Machine {
        // A QEMU that gets no processor for a while is late with the timer ticks that Linux counts at its start, and Linux then gives up.
        let mut arguments = "console=ttyS0 quiet panic=-1 no_timer_check".to_owned();
        if let Backend::Link(link) = &oriel.backend {
            arguments += &addresses(link);
        }
        arguments += match offload {
            Offload::Off => " offload=off",
            Offload::On => " offload=on",
        };
        // Which of Linux's lines costs what is not the question.
        let (kernel, module) = (self.kernel.clone(), self.initrd.clone());
        Machine { kernel, module, arguments, blocks: false, ..oriel.clone() }
    }
}

/// The variables that the guest's first script reads; Linux hands words that it does not know to its first process.
fn addresses(link: &Link) -> String {
    match link.net {
        Net::Tap => " guest_ip=10.9.0.2/24 guest_gw=10.9.0.1".into(),
        Net::User => " guest_ip=10.0.2.15/24 guest_gw=10.0.2.2".into(),
    }
}

/// Where everything is kept: beside the other things that cargo's folder has.
fn folder() -> Result<PathBuf> {
    // target/debug/xtask
    let own = std::env::current_exe().context("this program's path")?;
    let target = own.ancestors().nth(2).map(Path::to_owned);
    let target = target.ok_or_else(|| Error::Failed("this program is in no target folder".into()))?;
    Ok(target.join("linux"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::tests::example;

    #[test]
    fn the_same_machine_with_another_kernel() {
        let linux = Linux { kernel: "/v".into(), initrd: "/i".into(), version: "6.1".into() };
        let oriel = example();
        let machine = linux.machine(&oriel, Offload::Off);
        assert_eq!((&machine.kernel, &machine.module), (&linux.kernel, &linux.initrd));
        assert_eq!(
            (machine.memory_mib, machine.nic, machine.board),
            (oriel.memory_mib, oriel.nic, oriel.board)
        );
        assert!(
            machine.arguments.contains("guest_ip=10.9.0.2/24") && machine.arguments.ends_with("offload=off")
        );
        assert!(!machine.arguments.contains("path="));
        assert!(linux.machine(&oriel, Offload::On).arguments.ends_with("offload=on"));
    }
}
