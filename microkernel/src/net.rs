//! The network device: what ties a driver of [`netdev_driver`] to the kernel's system calls and to the machine's interrupts. A file for each path
//! ([`abi::path`]), of which `path=` on the command line chooses one.
#![expect(clippy::large_enum_variant, reason = "there is one, in a static")]

use crate::arch::machine::Pc;
use crate::board;
use abi::Error;
use abi::counters::COUNT;
use abi::device::{Audit, NetInfo};
use abi::message::Message;
use abi::path::Path;
use abi::socket::{Endpoint, Record};
use abi::window::{ConfigError, POOLS_MAX};
use core::fmt;
use microkernel::machine::{NetDevice, NetEvent};
use microkernel::sockets::{Pieces, Shared, Sockets, Wakes};
use microkernel::{Kernel, cmdline};
use netdev_driver::nic::NicError;

mod monolithic;
mod window;

use monolithic::Monolithic;
use window::Window;

/// Ticks between two looks of the watchdog.
const WATCHDOG_TICKS: u32 = 250;

/// The device, on one path.
pub enum Net {
    /// It has a window, for a protocol server.
    Window(Window),
    /// It is the kernel's, and so is the stack.
    Monolithic(Monolithic),
}

/// Why a machine that has a network device boots without it.
#[derive(Debug)]
pub enum InitError {
    /// The command line asks for a path that is none.
    Path,
    /// The command line asks for a window that cannot be.
    Config(ConfigError),
    /// There is no memory for its rings and the window, or buffers.
    NoMemory,
    /// The device does not answer as it should.
    Nic(NicError),
    /// There is no memory for the stack's heap of so many MiB.
    Heap(u64),
    /// What the command line says of `heap=` is no number that a heap can have.
    HeapSize,
    /// An address on the command line is none: the option and what it says.
    Address(&'static str, &'static str),
    /// The stack did not start.
    Stack(Error),
}

impl fmt::Display for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path => {
                write!(f, "boot: path= must be one of")?;
                Path::ALL.iter().try_for_each(|path| write!(f, " {}", path.name()))
            }
            Self::Config(ConfigError::Pools) => write!(f, "boot: pools= must be 1 to {POOLS_MAX}"),
            Self::Config(ConfigError::NotPowerOfTwo) => {
                write!(f, "boot: clusters= must be at least 16 for each pool")
            }
            Self::Config(ConfigError::TooLarge) => {
                write!(f, "boot: clusters= is more than a window can hold")
            }
            Self::NoMemory => write!(f, "boot: too little memory for the window: give QEMU more with -m"),
            Self::Nic(error) => write!(f, "boot: net0: {error}"),
            Self::Heap(mib) => write!(
                f,
                "boot: no {mib} MiB in one piece for the stack's heap: give QEMU more with -m, or less with heap="
            ),
            Self::HeapSize => {
                write!(f, "boot: heap= must be {} to {} MiB", monolithic::HEAP_MIN, monolithic::HEAP_MAX)
            }
            Self::Address(key, value) => write!(f, "boot: {key}={value} is no address"),
            Self::Stack(error) => write!(f, "boot: the stack: {error}"),
        }
    }
}

/// Looks for a device that a driver knows, and makes it ready. A machine may have none.
///
/// # Errors
/// See [`InitError`].
pub fn init(kernel: &mut Kernel<Pc>, machine: &mut Pc, line: &'static [u8]) -> Result<(), InitError> {
    let path = match cmdline::get(line, Path::OPTION) {
        None => Path::default(),
        Some(name) => str::from_utf8(name).ok().and_then(Path::from_name).ok_or(InitError::Path)?,
    };
    let Some((function, model)) = board::find_nic() else { return Ok(()) };
    let irq = function.irq();
    machine.net = Some(match path {
        Path::Window => Net::Window(window::init(kernel, machine, line, function, model)?),
        Path::Monolithic => Net::Monolithic(monolithic::init(kernel, machine, line, function, model)?),
        Path::Ipc => return Err(InitError::Path),
    });
    if let Some(irq) = irq {
        machine.connect_nic(irq);
    }
    Ok(())
}

macro_rules! each {
    ($self:expr, $net:ident => $body:expr) => {
        match $self {
            Net::Window($net) => $body,
            Net::Monolithic($net) => $body,
        }
    };
}

impl Net {
    /// Serves the device's interrupt.
    #[inline]
    pub fn interrupt(&mut self) -> NetEvent {
        each!(self, net => net.interrupt())
    }

    /// A tick has passed.
    #[inline]
    pub fn tick(&mut self, now_ns: u64) -> NetEvent {
        each!(self, net => net.tick(now_ns))
    }
}

impl NetDevice for Net {
    fn window(&self) -> (u64, u64) {
        each!(self, net => net.window())
    }

    fn open(&mut self) -> Result<(), Error> {
        each!(self, net => net.open())
    }

    fn close(&mut self) {
        each!(self, net => net.close());
    }

    #[inline]
    fn start(&mut self) -> NetEvent {
        each!(self, net => net.start())
    }

    fn info(&self) -> NetInfo {
        each!(self, net => net.info())
    }

    fn audit(&self) -> Audit {
        each!(self, net => net.audit())
    }

    fn counters(&self, counters: &mut [u64; COUNT]) {
        each!(self, net => net.counters(counters));
    }
}

impl Sockets for Net {
    fn is_here(&self) -> bool {
        matches!(self, Net::Monolithic(_))
    }

    fn request(&mut self, request: &Message) -> Result<Message, Error> {
        match self {
            Net::Monolithic(net) => net.request(request),
            Net::Window(_) => Err(Error::BadCall),
        }
    }

    fn shared(&self, name: u32) -> Option<Shared> {
        match self {
            Net::Monolithic(net) => net.shared(name),
            Net::Window(_) => None,
        }
    }

    fn give_back(&mut self, name: u32) {
        if let Net::Monolithic(net) = self {
            net.give_back(name);
        }
    }

    #[inline]
    fn write(
        &mut self,
        task: u32,
        socket: u32,
        from: &Pieces,
        peer: Option<&Endpoint>,
    ) -> Result<usize, Error> {
        match self {
            Net::Monolithic(net) => net.write(task, socket, from, peer),
            Net::Window(_) => Err(Error::BadCall),
        }
    }

    #[inline]
    fn read(&mut self, task: u32, socket: u32, into: &Pieces) -> Result<usize, Error> {
        match self {
            Net::Monolithic(net) => net.read(task, socket, into),
            Net::Window(_) => Err(Error::BadCall),
        }
    }

    fn read_record(
        &mut self,
        task: u32,
        socket: u32,
        into: &Pieces,
    ) -> Result<Option<(Record, usize)>, Error> {
        match self {
            Net::Monolithic(net) => net.read_record(task, socket, into),
            Net::Window(_) => Err(Error::BadCall),
        }
    }

    fn thread_died(&mut self, thread: u16) {
        if let Net::Monolithic(net) = self {
            net.thread_died(thread);
        }
    }

    #[inline]
    fn take_wakes(&mut self) -> Wakes {
        match self {
            Net::Monolithic(net) => net.take_wakes(),
            Net::Window(_) => Wakes::default(),
        }
    }
}
