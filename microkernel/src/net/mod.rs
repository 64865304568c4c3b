//! The network device: what ties a driver of [`netdev_driver`] to the kernel's system calls and to the machine's interrupts.
//!
//! The command line chooses the path (`path=`, [`abi::path`]); each is a file: [`window`], [`ipc`], [`monolithic`].
#![expect(unsafe_code, reason = "takes the device's static, once")]

mod ipc;
mod monolithic;
mod window;

use crate::arch::global::Global;
use crate::arch::machine::Pc;
use crate::board;
use abi::Error;
use abi::counters::COUNT;
use abi::device::{Audit, NetInfo};
use abi::message::Message;
use abi::path::Path;
use abi::socket::{Endpoint, Record};
use core::fmt;
use microkernel::machine::{NetDevice, NetEvent};
use microkernel::sockets::{Pieces, Shared, Sockets, Wakes};
use microkernel::{Kernel, cmdline};
use netdev_driver::claims::Address;
use netdev_driver::nic::{NicError, TxChecksum};

/// Ticks between two looks of the watchdog.
const WATCHDOG_TICKS: u32 = 250;

/// The device is too large for a stack.
static NET: Global<Option<Net>> = Global::new(None);

/// The device, on one of the paths.
#[expect(clippy::large_enum_variant, reason = "there is one, in a static of the kernel")]
pub enum Net {
    /// See [`window`].
    Window(window::WindowNet),
    /// See [`ipc`].
    Ipc(ipc::IpcNet),
    /// See [`monolithic`].
    Monolithic(monolithic::MonolithicNet),
}

/// Why a machine that has a network device boots without it.
#[derive(Debug)]
pub enum InitError {
    /// The command line asks for a path that there is not.
    Path,
    /// The path by window cannot be.
    Window(window::InitError),
    /// The stack in the kernel cannot be.
    Monolithic(monolithic::InitError),
    /// There is no memory for the device's rings and buffers.
    NoMemory,
    /// The device does not answer as it should.
    Nic(NicError),
}

impl fmt::Display for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path => {
                write!(f, "boot: path= must be one of")?;
                Path::ALL.iter().try_for_each(|path| write!(f, " {}", path.name()))
            }
            Self::Window(error) => error.fmt(f),
            Self::Monolithic(error) => error.fmt(f),
            Self::NoMemory => {
                write!(f, "boot: too little memory for the network device: give QEMU more with -m")
            }
            Self::Nic(error) => write!(f, "boot: net0: {error}"),
        }
    }
}

/// Looks for a device that a driver knows, and makes it ready to be opened. A machine may have none.
///
/// # Errors
/// See [`InitError`].
pub fn init(kernel: &mut Kernel<Pc>, machine: &mut Pc, line: &'static [u8]) -> Result<(), InitError> {
    let path = match cmdline::get(line, Path::OPTION) {
        None => Path::default(),
        Some(name) => core::str::from_utf8(name).ok().and_then(Path::from_name).ok_or(InitError::Path)?,
    };
    // A line that asks for what cannot be is wrong also where there is no device.
    let shape = window::shape(line).map_err(InitError::Window)?;
    let Some((function, model)) = board::find_nic() else { return Ok(()) };
    let irq = function.irq();
    // SAFETY: this function runs once, at boot, and nothing else names the static.
    let place = unsafe { NET.get() };
    machine.net = Some(place.insert(match path {
        Path::Window => {
            Net::Window(window::init(kernel, machine, (function, model), shape).map_err(InitError::Window)?)
        }
        Path::Ipc => Net::Ipc(ipc::init(kernel, machine, (function, model))?),
        Path::Monolithic => Net::Monolithic(
            monolithic::init(kernel, machine, (function, model), line).map_err(InitError::Monolithic)?,
        ),
    }));
    if let Some(irq) = irq {
        machine.connect_nic(irq);
    }
    Ok(())
}

/// Serves the device's interrupt.
#[inline]
pub fn interrupt(kernel: &mut Kernel<Pc>, machine: &mut Pc) {
    timed(kernel, machine, serve);
}

/// Does the device's work, and makes it pay for the time, if somebody could have had it.
#[inline]
fn timed(kernel: &mut Kernel<Pc>, machine: &mut Pc, work: impl FnOnce(&mut Kernel<Pc>, &mut Pc)) {
    if !kernel.is_wanted() {
        work(kernel, machine);
        return;
    }
    let start = machine.clock.now_ns();
    work(kernel, machine);
    let spent = machine.clock.now_ns() - start;
    if machine.nic_quota.spend(spent)
        && let Some(irq) = machine.nic_irq
    {
        machine.pic.mask(irq);
    }
}

/// Nobody wants the processor: the device can have it. What it was to wait with for a tick is done now.
#[inline]
pub fn idle(kernel: &mut Kernel<Pc>, machine: &mut Pc) {
    if machine.nic_quota.idle()
        && let Some(irq) = machine.nic_irq
    {
        machine.pic.unmask(irq);
    }
    let event = match machine.net.as_deref_mut() {
        Some(Net::Window(net)) if net.is_behind() => net.catch_up(),
        Some(Net::Monolithic(net)) if net.is_behind() => net.catch_up(),
        Some(Net::Ipc(net)) if net.is_behind() => return with_ipc(kernel, machine, ipc::IpcNet::catch_up),
        _ => return,
    };
    kernel.net_event(machine, event);
}

#[inline]
fn serve(kernel: &mut Kernel<Pc>, machine: &mut Pc) {
    match machine.net.as_deref_mut() {
        None => {}
        Some(Net::Window(net)) => {
            let event = net.interrupt();
            kernel.net_event(machine, event);
        }
        Some(Net::Ipc(_)) => with_ipc(kernel, machine, ipc::IpcNet::interrupt),
        Some(Net::Monolithic(net)) => {
            let event = net.interrupt();
            kernel.net_event(machine, event);
        }
    }
}

/// A tick has passed: what the device will not interrupt for.
#[inline]
pub fn tick(kernel: &mut Kernel<Pc>, machine: &mut Pc) {
    if machine.nic_quota.tick()
        && let Some(irq) = machine.nic_irq
    {
        machine.pic.unmask(irq);
    }
    // What has had too much of the processor does not get more by the clock.
    if !machine.nic_quota.is_masked() {
        timed(kernel, machine, poll);
    }
}

#[inline]
fn poll(kernel: &mut Kernel<Pc>, machine: &mut Pc) {
    let ipc_is_due = match machine.net.as_deref_mut() {
        None => false,
        Some(Net::Window(net)) => {
            let event = net.tick(machine.clock.now_ns());
            kernel.net_event(machine, event);
            false
        }
        Some(Net::Ipc(net)) => net.wants_tick(),
        Some(Net::Monolithic(net)) => {
            let event = net.tick(machine.clock.now_ns());
            kernel.net_event(machine, event);
            false
        }
    };
    if ipc_is_due {
        with_ipc(kernel, machine, ipc::IpcNet::tick);
    }
}

/// Lets the device on the path by message put frames into messages, while it is out of the kernel's sight.
fn with_ipc(
    kernel: &mut Kernel<Pc>,
    machine: &mut Pc,
    poll: impl FnOnce(&mut ipc::IpcNet, &mut Kernel<Pc>, &mut Pc) -> bool,
) {
    let Some(net) = machine.net.take() else { return };
    let room = match net {
        Net::Ipc(net) => poll(net, kernel, machine),
        Net::Window(_) | Net::Monolithic(_) => false,
    };
    machine.net = Some(net);
    kernel.net_polled(machine, room);
}

impl NetDevice for Net {
    fn windows(&self) -> usize {
        match self {
            Self::Window(net) => net.windows(),
            Self::Ipc(_) | Self::Monolithic(_) => 0,
        }
    }

    fn window(&self, at: usize) -> (u64, u64) {
        match self {
            Self::Window(net) => net.window(at),
            Self::Ipc(_) | Self::Monolithic(_) => (0, 0),
        }
    }

    fn open(&mut self, at: usize) -> Result<NetEvent, Error> {
        match self {
            Self::Window(net) => net.open(at),
            Self::Ipc(net) => net.open().map(|()| NetEvent::default()),
            // The stack has it.
            Self::Monolithic(_) => Err(Error::Exists),
        }
    }

    fn close(&mut self, at: usize) {
        match self {
            Self::Window(net) => net.close(at),
            Self::Ipc(net) => net.close(),
            Self::Monolithic(_) => {}
        }
    }

    #[inline]
    fn start(&mut self, at: usize) -> NetEvent {
        match self {
            Self::Window(net) => net.start(at),
            Self::Ipc(_) | Self::Monolithic(_) => NetEvent::default(),
        }
    }

    fn claim(&mut self, at: usize, address: Option<Address>) -> Result<(), Error> {
        match self {
            Self::Window(net) => net.claim(at, address),
            Self::Ipc(_) | Self::Monolithic(_) => Err(Error::BadCall),
        }
    }

    fn info(&self) -> NetInfo {
        match self {
            Self::Window(net) => net.info(),
            Self::Ipc(net) => net.info(),
            Self::Monolithic(net) => net.info(),
        }
    }

    fn audit(&self, at: usize) -> Audit {
        match self {
            Self::Window(net) => net.audit(at),
            // No mbuf or cluster is anywhere.
            Self::Ipc(_) | Self::Monolithic(_) => Audit::default(),
        }
    }

    fn path(&self) -> Path {
        match self {
            Self::Window(_) => Path::Window,
            Self::Ipc(_) => Path::Ipc,
            Self::Monolithic(_) => Path::Monolithic,
        }
    }

    #[inline]
    fn write(&mut self, pieces: &[(u64, usize)], checksum: Option<TxChecksum>) -> Result<(), Error> {
        match self {
            Self::Window(_) | Self::Monolithic(_) => Err(Error::BadCall),
            Self::Ipc(net) => net.write(pieces, checksum),
        }
    }

    fn write_page(&mut self, page: u64, bytes: usize, checksum: Option<TxChecksum>) -> Result<(), Error> {
        match self {
            Self::Window(_) | Self::Monolithic(_) => Err(Error::BadCall),
            Self::Ipc(net) => net.write_page(page, bytes, checksum),
        }
    }

    #[inline]
    fn take_sent(&mut self) -> Option<u64> {
        match self {
            Self::Window(_) | Self::Monolithic(_) => None,
            Self::Ipc(net) => net.take_sent(),
        }
    }

    fn counters(&self, counters: &mut [u64; COUNT]) {
        match self {
            Self::Window(net) => net.counters(counters),
            Self::Ipc(net) => net.counters(counters),
            Self::Monolithic(net) => net.counters(counters),
        }
    }
}

impl Sockets for Net {
    fn is_here(&self) -> bool {
        matches!(self, Self::Monolithic(_))
    }

    fn request(&mut self, request: &Message) -> Result<Message, Error> {
        match self {
            Self::Monolithic(net) => net.request(request),
            _ => Err(Error::BadCall),
        }
    }

    fn shared(&self, name: u32) -> Option<Shared> {
        match self {
            Self::Monolithic(net) => net.shared(name),
            _ => None,
        }
    }

    fn heap_bytes(&self) -> u64 {
        match self {
            Self::Monolithic(_) => crate::heap::used() as u64,
            _ => 0,
        }
    }

    fn give_back(&mut self, name: u32) {
        if let Self::Monolithic(net) = self {
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
            Self::Monolithic(net) => net.write(task, socket, from, peer),
            _ => Err(Error::BadCall),
        }
    }

    #[inline]
    fn read(&mut self, task: u32, socket: u32, into: &Pieces) -> Result<usize, Error> {
        match self {
            Self::Monolithic(net) => net.read(task, socket, into),
            _ => Err(Error::BadCall),
        }
    }

    fn read_record(
        &mut self,
        task: u32,
        socket: u32,
        into: &Pieces,
    ) -> Result<Option<(Record, usize)>, Error> {
        match self {
            Self::Monolithic(net) => net.read_record(task, socket, into),
            _ => Err(Error::BadCall),
        }
    }

    fn thread_died(&mut self, thread: u16) {
        if let Self::Monolithic(net) = self {
            net.thread_died(thread);
        }
    }

    #[inline]
    fn take_wakes(&mut self) -> Wakes {
        match self {
            Self::Monolithic(net) => net.take_wakes(),
            _ => Wakes::default(),
        }
    }
}
