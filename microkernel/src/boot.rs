//! The kernel's boot: what the machine gives it, the page that all tasks can read, and the first task.

use abi::Error;
use abi::info::{COMMAND_LINE_MAX, Info, MAGIC, VERSION};
use abi::port::{HOST, NULL};
use abi::thread::{PRIORITY_MAX, PRIORITY_SERVER};
use core::mem::offset_of;

use crate::cmdline;
use crate::kernel::Kernel;
use crate::machine::Machine;
use crate::module::{self, ModuleError};
use crate::names::Right;
use crate::port::Kind;

/// Frames that must be free for the first task to start: 24 MiB.
pub const FRAMES_MIN: usize = (24 << 20) / 4096;

/// What the machine was booted with.
#[derive(Clone, Copy, Debug)]
pub struct Boot {
    /// The boot module: a cpio archive.
    pub module: &'static [u8],
    /// The kernel's command line.
    pub command_line: &'static [u8],
    /// Bytes of usable memory in the boot map.
    pub memory_bytes: u64,
    /// See [`Info::nanoseconds`].
    pub tsc_multiplier: u64,
    /// See [`Info::nanoseconds`].
    pub tsc_shift: u32,
    /// See [`Info::tsc_boot`].
    pub tsc_boot: u64,
}

/// Why the machine cannot boot. What it displays is the one line for a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootError {
    /// There is no module, or nothing in it.
    NoModule,
    /// The module could not be read, or has no `init`.
    Module(ModuleError),
    /// `init` could not be started.
    Init(Error),
    /// So many bytes are free.
    TooLittleMemory(u64),
    /// The command line is longer than tasks can be shown.
    CommandLine,
    /// The command line's `ool=` is no number of bytes.
    OutOfLine,
}

impl core::fmt::Display for BootError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NoModule => {
                write!(f, "boot: there is no module: give QEMU the archive of programs with -initrd")
            }
            Self::Module(error) => write!(f, "boot: module init: {error}"),
            Self::Init(error) => write!(f, "boot: module init: {error}"),
            Self::TooLittleMemory(free) => {
                let need = FRAMES_MIN >> 8;
                write!(
                    f,
                    "boot: too little memory: {} KiB are free, {need} MiB are needed: give QEMU more with -m",
                    free >> 10
                )
            }
            Self::OutOfLine => write!(f, "boot: ool= must be a number of bytes, at least 1"),
            Self::CommandLine => write!(f, "boot: the command line is longer than {COMMAND_LINE_MAX} bytes"),
        }
    }
}

impl<M: Machine> Kernel<M> {
    /// Makes the first task, from the program `init` of the module; [`Kernel::pick`] then starts it.
    ///
    /// # Errors
    /// The machine cannot go on; the error says why in a line.
    pub fn boot(&mut self, m: &mut M, boot: &Boot) -> Result<(), BootError> {
        if boot.module.is_empty() {
            return Err(BootError::NoModule);
        }
        let free = self.memory.frames.free_count();
        if free < FRAMES_MIN {
            return Err(BootError::TooLittleMemory(free as u64 * 4096));
        }
        if boot.command_line.len() > COMMAND_LINE_MAX {
            return Err(BootError::CommandLine);
        }
        if cmdline::get(boot.command_line, "ool").is_some() {
            let bytes = cmdline::number(boot.command_line, "ool").and_then(|n| u32::try_from(n).ok());
            self.net_io.out_of_line = bytes.filter(|&n| n > 0).ok_or(BootError::OutOfLine)?;
        }
        self.module = boot.module;
        module::find(boot.module, b"init").map_err(BootError::Module)?;
        self.host_port = self.ports.allocate(Kind::Host).map_err(BootError::Init)?;
        self.make_info(m, boot).map_err(BootError::Init)?;
        self.since = m.now_ns();
        let task = self.spawn(m, b"init", &[], PRIORITY_SERVER as u8).map_err(BootError::Init)?;
        // Whom it starts it gives what they need.
        self.tasks[usize::from(task)].ceiling = PRIORITY_MAX as u8;
        self.first_task = Some(task);
        self.ports.get_mut(self.host_port).references += 1;
        self.tasks[usize::from(task)].names.insert_at(HOST, Right::Send(self.host_port));
        debug_assert_eq!(NULL, 0);
        Ok(())
    }

    /// Fills the page that all tasks can read.
    fn make_info(&mut self, m: &mut M, boot: &Boot) -> Result<(), Error> {
        let frame = self.memory.frames.allocate().ok_or(Error::NoResources)?;
        m.zero_frame(frame);
        let mut put = |at: usize, bytes: &[u8]| m.copy_to_phys(frame + at as u64, bytes);
        put(offset_of!(Info, magic), &MAGIC.to_le_bytes());
        put(offset_of!(Info, version), &VERSION.to_le_bytes());
        put(offset_of!(Info, tsc_shift), &boot.tsc_shift.to_le_bytes());
        put(offset_of!(Info, tsc_multiplier), &boot.tsc_multiplier.to_le_bytes());
        put(offset_of!(Info, tsc_boot), &boot.tsc_boot.to_le_bytes());
        put(offset_of!(Info, memory_bytes), &boot.memory_bytes.to_le_bytes());
        put(offset_of!(Info, command_line_length), &(boot.command_line.len() as u32).to_le_bytes());
        put(offset_of!(Info, command_line), boot.command_line);
        self.info_frame = frame;
        Ok(())
    }
}
