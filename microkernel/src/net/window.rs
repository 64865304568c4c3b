//! The path by window: the driver's end of the memory that the kernel shares with the protocol server.
//!
//! The command line chooses the shape of the window: `pools=` and `clusters=` (of all pools together; each pool has a power
//! of two of them, and twice as many mbufs), what its queues are: `queue=dual` (the default) or `queue=ring`, and how many windows
//! there are: `servers=` (1 by default), each for a protocol server of its own, or `windows=` where other tasks are to have some too.
#![expect(unsafe_code, reason = "takes the ledgers' statics, once")]

use super::WATCHDOG_TICKS;
use crate::arch::global::Global;
use crate::arch::hal::{PciHal, take_buffers, take_window};
use crate::arch::machine::Pc;
use crate::arch::pci::Function;
use abi::Error;
use abi::device::{Audit, NetInfo};
use abi::window::{Config, ConfigError, POOLS_MAX, QueueKind};
use core::fmt;
use microkernel::machine::NetEvent;
use microkernel::{Kernel, cmdline};
use netdev_driver::claims::{Address, ClaimError};
use netdev_driver::device::{Device, Model};
use netdev_driver::endpoint::{OpenError, Outcome, PRIVATE_BYTES, WINDOWS_MAX};
use netdev_driver::ledger::Ledger;
use netdev_driver::nic::NicError;

/// Pools, if the command line does not say.
const POOLS: u64 = 2;
/// Clusters of all pools together, if the command line does not say: four times what a receive ring takes.
const CLUSTERS: u64 = 1024;

/// The ledgers are too large for a stack.
static LEDGERS: [Global<Ledger>; WINDOWS_MAX] = [const { Global::new(Ledger::new()) }; WINDOWS_MAX];

/// The device.
pub struct WindowNet {
    device: Device<'static, PciHal>,
    /// The device has more to do, and will not interrupt for it.
    again: bool,
    ticks: u32,
}

/// Why a machine that has a network device boots without it.
#[derive(Debug)]
pub enum InitError {
    /// The command line asks for a window that cannot be.
    Config(ConfigError),
    /// The command line asks for a kind of queue that there is not.
    Queue,
    /// The command line asks for no server, or for too many.
    Servers,
    /// The command line asks for fewer windows than servers, or for too many.
    Windows,
    /// There is no memory for its rings and the windows.
    NoMemory,
    /// The device does not answer as it should.
    Nic(NicError),
}

impl fmt::Display for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(ConfigError::Pools) => write!(f, "boot: pools= must be 1 to {POOLS_MAX}"),
            Self::Config(ConfigError::NotPowerOfTwo) => {
                write!(f, "boot: clusters= must be at least 16 for each pool")
            }
            Self::Config(ConfigError::TooLarge) => {
                write!(f, "boot: clusters= is more than a window can hold")
            }
            Self::Queue => write!(f, "boot: queue= must be dual or ring"),
            Self::Servers => write!(f, "boot: servers= must be 1 to {WINDOWS_MAX}"),
            Self::Windows => {
                write!(f, "boot: windows= must be one for each server at least, and at most {WINDOWS_MAX}")
            }
            Self::NoMemory => write!(f, "boot: too little memory for the window: give QEMU more with -m"),
            Self::Nic(error) => write!(f, "boot: net0: {error}"),
        }
    }
}

/// Makes a device ready to be opened.
///
/// # Errors
/// See [`InitError`].
pub fn init(
    kernel: &mut Kernel<Pc>,
    machine: &mut Pc,
    (function, model): (Function, Model),
    (config, windows): (Config, usize),
) -> Result<WindowNet, InitError> {
    let layout = config.layout().map_err(InitError::Config)?;
    let frames = kernel.frames();
    let hal = PciHal::new(function, machine.clock, &mut machine.space, frames).ok_or(InitError::NoMemory)?;
    let mut window = || take_window(layout.bytes as usize, frames).ok_or(InitError::NoMemory);
    // SAFETY: this function runs once, at boot, and nothing else names the statics.
    let ledger = |at: usize| unsafe { LEDGERS[at].get() };
    let mut device = Device::new(model, hal, window()?, config, ledger(0)).map_err(InitError::Nic)?;
    for at in 1..windows {
        device.add_window(window()?, ledger(at)).map_err(InitError::Config)?;
    }
    if windows > 1 {
        let buffers = take_buffers(PRIVATE_BYTES, frames).ok_or(InitError::NoMemory)?;
        device.set_private(&buffers).map_err(InitError::Nic)?;
    }
    Ok(WindowNet { device, again: false, ticks: 0 })
}

/// The shape of a window that the command line asks for, and how many there are to be.
///
/// # Errors
/// See [`InitError`].
pub fn shape(line: &[u8]) -> Result<(Config, usize), InitError> {
    let count = |key, default| match cmdline::get(line, key) {
        None => default,
        Some(_) => cmdline::number(line, key).map_or(0, |n| usize::try_from(n).unwrap_or(0)),
    };
    let servers = count("servers", 1);
    if !(1..=WINDOWS_MAX).contains(&servers) {
        return Err(InitError::Servers);
    }
    let windows = count("windows", servers);
    if !(servers..=WINDOWS_MAX).contains(&windows) {
        return Err(InitError::Windows);
    }
    config(line).map(|config| (config, windows))
}

fn config(line: &[u8]) -> Result<Config, InitError> {
    let number = |key, default| match cmdline::get(line, key) {
        // What is no number is as wrong as one that is too large.
        Some(_) => cmdline::number(line, key).and_then(|n| u32::try_from(n).ok()).unwrap_or(u32::MAX),
        None => default as u32,
    };
    let (pools, clusters) = (number("pools", POOLS), number("clusters", CLUSTERS));
    let share = clusters.checked_div(pools).ok_or(InitError::Config(ConfigError::Pools))?;
    let clusters_per_pool: u32 = share.checked_ilog2().map_or(0, |bits| 1 << bits);
    let queue = match cmdline::get(line, QueueKind::OPTION) {
        None => QueueKind::default(),
        Some(name) => {
            core::str::from_utf8(name).ok().and_then(QueueKind::from_name).ok_or(InitError::Queue)?
        }
    };
    Ok(Config { pools, mbufs_per_pool: clusters_per_pool.saturating_mul(2), clusters_per_pool, queue })
}

impl WindowNet {
    /// Serves the device's interrupt.
    #[inline]
    pub fn interrupt(&mut self) -> NetEvent {
        let outcome = self.device.interrupt();
        self.event(outcome)
    }

    /// A tick has passed: what the device will not interrupt for.
    #[inline]
    pub fn tick(&mut self, now_ns: u64) -> NetEvent {
        self.ticks += 1;
        if self.ticks >= WATCHDOG_TICKS {
            self.ticks = 0;
            let outcome = self.device.watchdog(now_ns);
            self.event(outcome)
        } else if self.again {
            let outcome = self.device.poll();
            self.event(outcome)
        } else {
            NetEvent::default()
        }
    }

    /// Is there more than one look did, and no interrupt will come for it?
    #[inline]
    pub const fn is_behind(&self) -> bool {
        self.again
    }

    /// Looks again, before the next tick.
    pub fn catch_up(&mut self) -> NetEvent {
        let outcome = self.device.poll();
        self.event(outcome)
    }

    #[inline]
    fn event(&mut self, outcome: Outcome) -> NetEvent {
        self.again = outcome.again;
        let Outcome { resume, again: _, misbehaviour, culprit } = outcome;
        NetEvent { resume, violation: misbehaviour, culprit }
    }
}

impl WindowNet {
    /// See [`microkernel::machine::NetDevice`], here and below.
    pub fn windows(&self) -> usize {
        self.device.windows()
    }

    pub fn window(&self, at: usize) -> (u64, u64) {
        let phys = self.device.window(at).map_or(0, |window| window.phys());
        (phys, u64::from(self.device.layout().bytes))
    }

    pub fn open(&mut self, at: usize) -> Result<NetEvent, Error> {
        let outcome = self.device.open(at).map_err(|error| match error {
            // Frames of the time before are still on their way.
            OpenError::Busy => Error::Exists,
            _ => Error::NoResources,
        })?;
        let before = self.again;
        let event = self.event(outcome);
        self.again |= before;
        Ok(event)
    }

    pub fn close(&mut self, at: usize) {
        self.device.close(at);
    }

    #[inline]
    pub fn start(&mut self, at: usize) -> NetEvent {
        let outcome = self.device.start(at);
        // What a poll has left behind is left.
        let before = self.again;
        let event = self.event(outcome);
        self.again |= before;
        event
    }

    pub fn claim(&mut self, at: usize, address: Option<Address>) -> Result<(), Error> {
        let Some(address) = address else {
            self.device.disclaim(at);
            return Ok(());
        };
        self.device.claim(at, address).map_err(|error| match error {
            ClaimError::Taken => Error::Exists,
            ClaimError::Full => Error::NoResources,
            ClaimError::NotUnicast => Error::BadArgument,
            ClaimError::Closed => Error::Dead,
        })
    }

    pub fn info(&self) -> NetInfo {
        self.device.info()
    }

    pub fn audit(&self, at: usize) -> Audit {
        self.device.audit(at)
    }

    pub fn counters(&self, counters: &mut [u64; abi::counters::COUNT]) {
        self.device.counters(counters);
    }
}
