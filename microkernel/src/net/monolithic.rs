//! The monolithic path: the stack of the protocol server in the kernel, over the driver itself.
//!
//! The device's interrupt runs a pass of the stack, a tick runs its timers, and each socket call what it must of a pass. All of it is the
//! library of the protocol server: sockets, TCP/IP and the boundary [`Link`](protocol_server::link::Link) are the same as on the other
//! paths. What applications map of it, status and socket pages, lies in the kernel's [heap](crate::heap).
#![expect(unsafe_code, reason = "memory that stack and tasks share, and copies between rings and tasks")]

use super::WATCHDOG_TICKS;
use crate::arch::hal::{Clock, Out, PciHal, direct, take_buffers};
use crate::arch::machine::Pc;
use crate::arch::pci::Function;
use crate::heap::{self, Block};
use abi::Error;
use abi::counters::COUNT;
use abi::device::NetInfo;
use abi::message::Message;
use abi::port::NULL;
use abi::socket::{Endpoint, Record};
use abi::vm::PAGE_BYTES;
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt::{self, Write};
use core::ptr::NonNull;
use microkernel::frames::{FRAME_BYTES, PHYSICAL_END};
use microkernel::machine::{Machine, NetEvent};
use microkernel::memory_object::OBJECTS;
use microkernel::sockets::{Pieces, Shared, Wakes};
use microkernel::{Kernel, cmdline};
use netdev_driver::device::Model;
use netdev_driver::direct::{BYTES, DirectDevice, DirectError};
use netdev_driver::nic::NicError;
use protocol_server::Instant;
use protocol_server::link::direct::DirectLink;
use protocol_server::server::Server;
use protocol_server::system::{Exclusive, SharedMemory, System};
use shmqueue::bytes::Chunk;
use shmqueue::copy::copy_bytes;

/// MiB of the heap, if the command line does not say (`heap=`), as far as that is not too much of the memory: 64 connections have 40 of them,
/// and while as many are on their way out others come in.
const HEAP: u64 = 96;
/// MiB that it can have.
const HEAP_MIN: u64 = 4;
/// See [`HEAP_MIN`].
const HEAP_MAX: u64 = 2048;
/// Passes in one interrupt, at most; each takes up to 64 frames.
const PASSES: u32 = 8;
/// The device's name.
const DEVICE: &str = "net0";

/// The stack with its device.
pub struct MonolithicNet {
    /// On the heap: it is large.
    server: Box<Server<DirectLink<PciHal>, KernelSystem>>,
    clock: Clock,
    /// It has been said where we are.
    announced: bool,
    /// Frames are left for which no interrupt comes.
    again: bool,
    /// Something was written that waits for company, until the next tick at most.
    gathering: bool,
    /// Something was counted that the status page does not show yet.
    counted: bool,
    ticks: u32,
}

/// Why there is no stack in the kernel.
#[derive(Debug)]
pub enum InitError {
    /// There is no memory for the device's rings and buffers.
    NoMemory,
    /// The device does not answer as it should.
    Nic(NicError),
    /// There is no memory for a heap of so many MiB.
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
            Self::NoMemory => {
                write!(f, "boot: too little memory for the network device: give QEMU more with -m")
            }
            Self::Nic(error) => write!(f, "boot: net0: {error}"),
            Self::Heap(mib) => write!(
                f,
                "boot: no {mib} MiB in one piece for the stack's heap: give QEMU more with -m, or less with heap="
            ),
            Self::HeapSize => write!(f, "boot: heap= must be {HEAP_MIN} to {HEAP_MAX} MiB"),
            Self::Address(key, value) => write!(f, "boot: {key}={value} is no address"),
            Self::Stack(error) => write!(f, "boot: the stack: {error}"),
        }
    }
}

/// Starts device and stack.
///
/// # Errors
/// See [`InitError`].
pub fn init(
    kernel: &mut Kernel<Pc>,
    machine: &mut Pc,
    (function, model): (Function, Model),
    line: &'static [u8],
) -> Result<MonolithicNet, InitError> {
    let free_mib = (kernel.frames().free_count() as u64 * FRAME_BYTES) >> 20;
    let mib = match cmdline::get(line, "heap") {
        None => HEAP.min(free_mib * 3 / 8).max(HEAP_MIN),
        Some(_) => cmdline::number(line, "heap")
            .filter(|mib| (HEAP_MIN..=HEAP_MAX).contains(mib))
            .ok_or(InitError::HeapSize)?,
    };
    let frames = kernel.frames();
    let heap_bytes = mib << 20;
    let heap = frames
        .allocate_contiguous((heap_bytes / FRAME_BYTES) as usize, PHYSICAL_END)
        .ok_or(InitError::Heap(mib))?;
    let heap_base = NonNull::new(direct(heap)).ok_or(InitError::Heap(mib))?;
    // SAFETY: this function runs once, at boot. The frames were free, are never given back, and lie in the direct map.
    unsafe { heap::init(heap_base, heap_bytes as usize) };

    let hal = PciHal::new(function, machine.clock, &mut machine.space, frames).ok_or(InitError::NoMemory)?;
    let memory = take_buffers(BYTES, frames).ok_or(InitError::NoMemory)?;
    let mut device = DirectDevice::new(model, hal, &memory).map_err(InitError::Nic)?;
    device.open().map_err(|error| match error {
        DirectError::Nic(error) => InitError::Nic(error),
        DirectError::Busy => InitError::NoMemory, // a new device is closed
    })?;
    let system = KernelSystem { lent: Lent::new(heap_base, heap), wakes: Wakes::default() };
    let clock = machine.clock;
    let server = Server::new(DirectLink::new(device), system, machine.entropy(), now(&clock));
    let mut server = Box::new(server.map_err(InitError::Stack)?);
    server.keep_ends();
    let option = |key: &str| cmdline::get(line, key).and_then(|value| str::from_utf8(value).ok());
    server.configure(option).map_err(|error| InitError::Address(error.key, error.value))?;
    Ok(MonolithicNet {
        server,
        clock,
        announced: false,
        again: true,
        gathering: false,
        counted: false,
        ticks: 0,
    })
}

fn now(clock: &Clock) -> Instant {
    Instant::from_micros((clock.now_ns() / 1000) as i64)
}

impl MonolithicNet {
    /// Serves the device's interrupt.
    #[inline]
    pub fn interrupt(&mut self) -> NetEvent {
        if !self.server.stack.link.device.acknowledge_interrupt() {
            return NetEvent::default();
        }
        self.run()
    }

    /// Passes of the stack while there are frames, but not for ever.
    fn run(&mut self) -> NetEvent {
        let now = now(&self.clock);
        (self.counted, self.gathering) = (true, false);
        let mut passes = 0;
        loop {
            self.server.pass(now);
            passes += 1;
            if !self.server.is_unfinished() {
                break;
            }
            if passes == PASSES {
                self.server.stack.link.device.spent();
                break;
            }
        }
        self.again = self.server.stack.link.device.take_again();
        NetEvent { resume: u32::from(self.server.system.wakes.any()), ..NetEvent::default() }
    }

    /// Is there more than the passes of one interrupt did?
    #[inline]
    pub const fn is_behind(&self) -> bool {
        self.again
    }

    /// Goes on before the next tick.
    pub fn catch_up(&mut self) -> NetEvent {
        self.run()
    }

    /// A tick has passed: timers of the stack, and what the device will not interrupt for.
    #[inline]
    pub fn tick(&mut self, now_ns: u64) -> NetEvent {
        self.ticks += 1;
        if self.ticks >= WATCHDOG_TICKS {
            self.ticks = 0;
            self.server.stack.link.device.watchdog(now_ns);
        }
        let mut event = NetEvent::default();
        if self.again || self.gathering || now_ns as i64 / 1000 >= self.server.next_deadline() {
            event = self.run();
        }
        if self.counted {
            self.counted = false;
            self.server.publish_counters();
        }
        if !self.announced && self.server.is_up() {
            self.announced = true;
            let net = self.server.stack.link.device.info();
            let _ = writeln!(Out, "{}", self.server.announcement("net", DEVICE, &net));
        }
        event
    }

    /// See [`microkernel::machine::NetDevice`].
    pub fn info(&self) -> NetInfo {
        self.server.stack.link.device.info()
    }

    /// See [`microkernel::machine::NetDevice`].
    pub fn counters(&self, counters: &mut [u64; COUNT]) {
        self.server.stack.link.device.counters(counters);
    }

    /// See [`Sockets::request`](microkernel::sockets::Sockets::request).
    pub fn request(&mut self, request: &Message) -> Result<Message, Error> {
        self.server.stack.now = now(&self.clock);
        let mut reply = self.server.request(request).ok_or(Error::BadCall)?;
        // The thread that a server would have.
        reply.reply = NULL;
        // What the request has begun: a SYN, a RST, the last of a closed socket.
        let _ = self.run();
        Ok(reply)
    }

    /// See [`Sockets::shared`](microkernel::sockets::Sockets::shared).
    pub fn shared(&self, name: u32) -> Option<Shared> {
        self.server.system.lent.get(name)
    }

    /// See [`Sockets::give_back`](microkernel::sockets::Sockets::give_back).
    pub fn give_back(&mut self, name: u32) {
        self.server.system.lent.take_back(name);
    }

    /// See [`Sockets::write`](microkernel::sockets::Sockets::write).
    #[inline]
    pub fn write(
        &mut self,
        task: u32,
        socket: u32,
        from: &Pieces,
        peer: Option<&Endpoint>,
    ) -> Result<usize, Error> {
        let (server, clock) = (&mut self.server, &self.clock);
        self.counted = true;
        let copy = |(to, length): Chunk, at: usize| {
            from.each(at..at + length, |phys, part| {
                // SAFETY: `Pieces` are frames of the running task's, whole in the direct map, and nobody here has a reference to them.
                // `to` is a piece of free room in a ring; the parts together are its length.
                unsafe { copy_bytes(to.add(part.start), direct(phys), part.len()) };
            });
            Ok(())
        };
        let Some(peer) = peer else {
            let written = server.write_stream(task, socket, from.bytes(), copy)?;
            if written != 0 {
                self.gathering |= !server.serve_written(socket, || now(clock));
            } else if from.bytes() == 0 {
                // Something new in its page.
                server.serve_now(socket, now(clock));
            }
            return Ok(written);
        };
        if !server.write_record(task, socket, peer, from.bytes(), copy)? {
            return Ok(0);
        }
        server.serve_now(socket, now(clock));
        Ok(from.bytes())
    }

    /// See [`Sockets::read`](microkernel::sockets::Sockets::read).
    #[inline]
    pub fn read(&mut self, task: u32, socket: u32, into: &Pieces) -> Result<usize, Error> {
        let (server, clock) = (&mut self.server, &self.clock);
        let read = server.read_stream(task, socket, into.bytes(), copy_to(into))?;
        self.counted = true;
        if read != 0 {
            server.serve_read(socket, read, || now(clock));
        }
        Ok(read)
    }

    /// See [`Sockets::read_record`](microkernel::sockets::Sockets::read_record).
    pub fn read_record(
        &mut self,
        task: u32,
        socket: u32,
        into: &Pieces,
    ) -> Result<Option<(Record, usize)>, Error> {
        self.server.read_record(task, socket, into.bytes(), copy_to(into))
    }

    /// See [`Sockets::thread_died`](microkernel::sockets::Sockets::thread_died).
    pub fn thread_died(&mut self, thread: u16) {
        self.server.stack.now = now(&self.clock);
        self.server.thread_died(name_of(thread));
        let _ = self.run();
    }

    /// See [`Sockets::take_wakes`](microkernel::sockets::Sockets::take_wakes).
    #[inline]
    pub fn take_wakes(&mut self) -> Wakes {
        core::mem::take(&mut self.server.system.wakes)
    }
}

fn copy_to(into: &Pieces) -> impl FnMut(Chunk, usize) -> Result<(), Error> + '_ {
    |(from, length), at| {
        into.each(at..at + length, |phys, part| {
            // SAFETY: as in `MonolithicNet::write`, the other way.
            unsafe { copy_bytes(direct(phys), from.add(part.start), part.len()) };
        });
        Ok(())
    }
}

/// How the stack names a thread: not 0.
const fn name_of(thread: u16) -> u32 {
    thread as u32 + 1
}

/// The system around the stack: the kernel itself.
struct KernelSystem {
    lent: Lent,
    wakes: Wakes,
}

/// A block, and whether tasks may write it.
type LentBlock = (Rc<Block>, bool);

/// Memory that tasks have rights to, by name; one for each memory object at most.
#[derive(Clone)]
struct Lent {
    table: Rc<RefCell<Vec<Option<LentBlock>>>>,
    /// Where the heap is, as a pointer and as a physical address.
    heap: (NonNull<u8>, u64),
}

impl Lent {
    fn new(heap_base: NonNull<u8>, heap: u64) -> Self {
        let table = (0..OBJECTS).map(|_| None).collect();
        Self { table: Rc::new(RefCell::new(table)), heap: (heap_base, heap) }
    }

    /// Names a block; 0 if no name is free.
    fn lend(&self, block: &Rc<Block>, write: bool) -> u32 {
        let mut table = self.table.borrow_mut();
        match table.iter().position(Option::is_none) {
            Some(free) => {
                table[free] = Some((block.clone(), write));
                free as u32 + 1
            }
            None => NULL,
        }
    }

    fn get(&self, name: u32) -> Option<Shared> {
        let table = self.table.borrow();
        let (block, write) = table.get((name as usize).checked_sub(1)?)?.as_ref()?;
        let (heap_base, heap) = self.heap;
        let offset = block.base().as_ptr() as u64 - heap_base.as_ptr() as u64;
        Some(Shared { base: heap + offset, pages: block.bytes() as u64 / PAGE_BYTES, write: *write })
    }

    fn take_back(&self, name: u32) {
        let at = (name as usize).wrapping_sub(1);
        if let Some(place) = self.table.borrow_mut().get_mut(at) {
            *place = None;
        }
    }
}

/// A block as the stack has it.
struct Memory {
    block: Rc<Block>,
    lent: Lent,
    write: bool,
    taken: bool,
}

// SAFETY: 1. a block is whole pages at one place until it is dropped, which is not before this value. 2. It hands out its address only.
unsafe impl SharedMemory for Memory {
    fn address(&self) -> NonNull<u8> {
        self.block.base()
    }

    fn length(&self) -> usize {
        self.block.bytes()
    }

    fn take_right(&mut self) -> u32 {
        if core::mem::replace(&mut self.taken, true) { NULL } else { self.lent.lend(&self.block, self.write) }
    }
}

impl KernelSystem {
    fn memory(&self, length: usize, write: bool) -> Result<Memory, Error> {
        let block = Block::new(length).ok_or(Error::NoResources)?;
        Ok(Memory { block: Rc::new(block), lent: self.lent.clone(), write, taken: false })
    }
}

impl System for KernelSystem {
    type Memory = Memory;

    fn shared_memory(&mut self, length: usize) -> Result<Memory, Error> {
        self.memory(length, true)
    }

    fn exclusive_memory(&mut self, length: usize) -> Result<Exclusive<Memory>, Error> {
        let memory = self.memory(length, false)?;
        // SAFETY: the only right that there will be is that of `take_right`, which maps for reading only.
        Ok(unsafe { Exclusive::new(memory) })
    }

    fn read_only(&mut self, name: u32) -> Result<u32, Error> {
        let block = match self.lent.table.borrow().get((name as usize).wrapping_sub(1)) {
            Some(Some((block, _))) => block.clone(),
            _ => return Err(Error::BadName),
        };
        match self.lent.lend(&block, false) {
            NULL => Err(Error::NoResources),
            name => Ok(name),
        }
    }

    #[inline]
    fn resume(&mut self, thread: u32) {
        self.wakes.add(thread.wrapping_sub(1) as u16);
    }

    fn watch(&mut self, _: u32) -> bool {
        true // the kernel tells of each thread that ends, and a request's has not
    }

    fn room_for(&mut self, bytes: usize) -> Result<(), Error> {
        if heap::room_for(bytes) { Ok(()) } else { Err(Error::NoResources) }
    }

    fn release(&mut self, _: u32) {}
}
