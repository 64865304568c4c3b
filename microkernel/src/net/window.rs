//! The path by window: the driver's end of the memory that the kernel shares with the protocol server.
//!
//! The command line chooses the shape of the window: `pools=` and `clusters=` (of all pools together; each pool has a power
//! of two of them, and twice as many mbufs), and what its queues are: `queue=dual` (the default) or `queue=ring`.
#![expect(unsafe_code, reason = "takes the ledger's static, once")]

use super::WATCHDOG_TICKS;
use crate::arch::global::Global;
use crate::arch::hal::{PciHal, take_window};
use crate::arch::machine::Pc;
use crate::arch::pci::Function;
use abi::Error;
use abi::device::{Audit, NetInfo};
use abi::window::{Config, ConfigError, POOLS_MAX, QueueKind};
use core::fmt;
use microkernel::machine::NetEvent;
use microkernel::{Kernel, cmdline};
use netdev_driver::device::{Device, Model};
use netdev_driver::endpoint::Outcome;
use netdev_driver::ledger::Ledger;
use netdev_driver::nic::NicError;

/// Pools, if the command line does not say.
const POOLS: u64 = 2;
/// Clusters of all pools together, if the command line does not say: four times what a receive ring takes.
const CLUSTERS: u64 = 1024;

/// The ledger is too large for a stack.
static LEDGER: Global<Ledger> = Global::new(Ledger::new());

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
    /// There is no memory for its rings and the window.
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
    config: Config,
) -> Result<WindowNet, InitError> {
    let layout = config.layout().map_err(InitError::Config)?;
    let frames = kernel.frames();
    let hal = PciHal::new(function, machine.clock, &mut machine.space, frames).ok_or(InitError::NoMemory)?;
    let window = take_window(layout.bytes as usize, frames).ok_or(InitError::NoMemory)?;
    // SAFETY: this function runs once, at boot, and nothing else names the static.
    let ledger = unsafe { LEDGER.get() };
    let device = Device::new(model, hal, window, config, ledger).map_err(InitError::Nic)?;
    Ok(WindowNet { device, again: false, ticks: 0 })
}

/// The shape of the window that the command line asks for.
///
/// # Errors
/// See [`InitError`].
pub fn config(line: &[u8]) -> Result<Config, InitError> {
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

    #[inline]
    fn event(&mut self, outcome: Outcome) -> NetEvent {
        self.again = outcome.again;
        NetEvent { resume: outcome.resume, violation: outcome.misbehaviour }
    }
}

impl WindowNet {
    /// See [`microkernel::machine::NetDevice`], here and below.
    pub fn window(&self) -> (u64, u64) {
        (self.device.window().phys(), u64::from(self.device.layout().bytes))
    }

    pub fn open(&mut self) -> Result<(), Error> {
        self.again = false;
        self.device.open().map_err(|_| Error::NoResources)
    }

    pub fn close(&mut self) {
        self.device.close();
    }

    #[inline]
    pub fn start(&mut self) -> NetEvent {
        let outcome = self.device.start();
        self.event(outcome)
    }

    pub fn info(&self) -> NetInfo {
        self.device.info()
    }

    pub fn audit(&self) -> Audit {
        self.device.audit()
    }

    pub fn counters(&self, counters: &mut [u64; abi::counters::COUNT]) {
        self.device.counters(counters);
    }
}
