//! A running machine: QEMU, its console, its instruction counts. Dropping it ends QEMU.

use std::fs;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use insn_counter::blocks::{self, Block};
use insn_counter::layout::{self, Snapshot};

use crate::console::{Console, PROMPT};
use crate::error::{Context as _, Result, failed};
use crate::machine::{self, Machine};
use crate::sys;

/// How long a boot may take, network and all.
pub const BOOT: Duration = Duration::from_secs(120);

/// Instructions of one marked region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instructions {
    /// Of the kernel.
    pub kernel: u64,
    /// Of all tasks.
    pub user: u64,
}

/// A machine that runs.
pub struct Vm {
    qemu: Child,
    complaints: Option<ChildStderr>,
    counts: Option<PathBuf>,
    blocks: Option<PathBuf>,
    regions_seen: usize,
    /// The serial line.
    pub console: Console,
}

impl Vm {
    /// Starts the machine.
    pub fn start(machine: &Machine) -> Result<Self> {
        let mut command = machine.command();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut qemu = command.spawn().context("cannot start QEMU")?;
        let (Some(input), Some(output)) = (qemu.stdin.take(), qemu.stdout.take()) else {
            return failed("QEMU has no console");
        };
        let complaints = qemu.stderr.take();
        let counts = machine.plugin.as_ref().map(|(_, out)| out.clone());
        let blocks = counts.as_deref().filter(|_| machine.blocks).map(machine::blocks_file);
        Ok(Self { qemu, complaints, counts, blocks, regions_seen: 0, console: Console::new(input, output) })
    }

    /// Starts the machine and waits for the shell.
    pub fn boot(machine: &Machine) -> Result<Self> {
        let mut vm = Self::start(machine)?;
        match vm.console.expect(PROMPT, BOOT) {
            Ok(_) => Ok(vm),
            Err(_) if sys::interrupted() => Err(crate::error::Error::Interrupted),
            Err(error) => failed(vm.why_not(error.message())),
        }
    }

    /// One message out of QEMU's complaints, its status and the console.
    fn why_not(&mut self, otherwise: &str) -> String {
        let Ok(Some(status)) = self.wait(Duration::from_millis(500)) else { return otherwise.to_owned() };
        let mut text = String::new();
        if let Some(mut complaints) = self.complaints.take() {
            complaints.read_to_string(&mut text).ok();
        }
        if status.code() == Some(abi::exit::qemu_status(abi::exit::BOOT_FAILED).cast_signed()) {
            let last = self.console.transcript().lines().rev().find(|line| !line.trim().is_empty());
            return format!("the guest can't boot: {}", last.unwrap_or("no reason given").trim());
        }
        match text.lines().rfind(|line| !line.trim().is_empty()) {
            Some(complaint) => format!("QEMU doesn't start: {complaint}"),
            None => otherwise.to_owned(),
        }
    }

    /// The instructions of the regions that were marked since the last call.
    pub fn instructions(&mut self) -> Result<Vec<Instructions>> {
        let regions = layout::regions(&self.snapshots()?);
        let new = regions.iter().skip(self.regions_seen);
        let new = new.map(|r| Instructions { kernel: r[layout::KERNEL], user: r[layout::USER] }).collect();
        self.regions_seen = regions.len();
        Ok(new)
    }

    /// All instructions of each region between two such marks, since the boot.
    pub fn instructions_between(&self, first: u32, last: u32) -> Result<Vec<u64>> {
        let regions = layout::between(&self.snapshots()?, first, last);
        Ok(regions.iter().map(|region| region.iter().sum()).collect())
    }

    fn snapshots(&self) -> Result<Vec<Snapshot>> {
        let Some(path) = &self.counts else { return Ok(Vec::new()) };
        let file = fs::read(path).context(path.display())?;
        match layout::snapshots(&file) {
            Ok(snapshots) => Ok(snapshots),
            Err(_) => failed("the instruction counter's file is not right"),
        }
    }

    /// The blocks that ran in the last marked region.
    pub fn executed(&self) -> Result<Vec<Block>> {
        let Some(path) = &self.blocks else { return Ok(Vec::new()) };
        let file = fs::read(path).context(path.display())?;
        match blocks::last_region(&file) {
            Ok(region) => Ok(region.blocks),
            Err(layout::BadFile::NotWritten) => failed("the counter's file of blocks is not right"),
            Err(layout::BadFile::Overflow) => failed("the counter had no room for all blocks of the guest"),
        }
    }

    /// Waits for QEMU's end; `None` if it goes on.
    pub fn wait(&mut self, at_most: Duration) -> Result<Option<ExitStatus>> {
        let deadline = Instant::now() + at_most;
        loop {
            if let Some(status) = self.qemu.try_wait().context("QEMU")? {
                return Ok(Some(status));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for the guest's own end with this code of [`abi::exit`]; gives the rest of its output.
    pub fn expect_exit(&mut self, code: u32, at_most: Duration) -> Result<String> {
        let rest = self.console.drain(at_most)?;
        let want = abi::exit::qemu_status(code).cast_signed();
        match self.wait(Duration::from_secs(5))? {
            Some(status) if status.code() == Some(want) => Ok(rest),
            Some(status) => failed(format!(
                "QEMU ended with {status}, not with status {want}; the console's end:{}",
                self.console.last_words()
            )),
            None => failed("the console is closed and QEMU goes on"),
        }
    }

    /// Types `poweroff` and checks that all ended well.
    pub fn power_off(mut self) -> Result<()> {
        self.console.type_line("poweroff")?;
        self.expect_exit(abi::exit::OFF, Duration::from_secs(20))?;
        self.console.look_for_trouble()
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        self.qemu.kill().ok();
        self.qemu.wait().ok();
    }
}
