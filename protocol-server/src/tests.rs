//! Two servers on a simulated wire, with applications that do by hand what `userlib::net` does.
#![expect(unsafe_code, reason = "shared memory on the host's heap")]

use alloc::{rc::Rc, vec, vec::Vec};
use core::{
    cell::RefCell,
    ptr::NonNull,
    sync::atomic::{AtomicU32, Ordering::SeqCst},
};
use std::alloc::{Layout, alloc_zeroed, dealloc};

use abi::{
    Error,
    message::Message,
    socket::{Endpoint, Page, Request, ServerCounter, State, wait_for},
};
use shmqueue::{
    WaitWord,
    bytes::{Consumer, Control, Producer},
};
use smoltcp::{
    time::Instant,
    wire::{Ipv4Address, Ipv4Cidr},
};

use crate::{
    link::wire::{Faults, Wire},
    server::Server,
    system::{Exclusive, SharedMemory, System},
};

mod calls;
mod datagrams;
mod hostile;
mod lease;
mod ring;
mod tcp;
mod transfer;

/// Memory that server and application share; freed when both have let go of it.
struct Shared {
    base: NonNull<u8>,
    length: usize,
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and nobody has it any more.
        unsafe { dealloc(self.base.as_ptr(), Self::layout(self.length)) };
    }
}

impl Shared {
    fn layout(length: usize) -> Layout {
        Layout::from_size_align(length, 4096).expect("a layout")
    }

    fn new(length: usize) -> Rc<Self> {
        // SAFETY: the length is not zero.
        let base = NonNull::new(unsafe { alloc_zeroed(Self::layout(length)) }).expect("memory");
        Rc::new(Self { base, length })
    }

    fn word(&self, at: usize) -> &AtomicU32 {
        assert!(at.is_multiple_of(4) && at + 4 <= self.length);
        // SAFETY: inside, aligned, and only ever accessed as atomics.
        unsafe { self.base.byte_add(at).cast().as_ref() }
    }
}

/// The server's mapping, and the right to it while nobody has taken it.
struct Mapping {
    shared: Rc<Shared>,
    right: u32,
    host: Host,
}

// SAFETY: allocated until the last owner drops it, page aligned, and only its address is given out.
unsafe impl SharedMemory for Mapping {
    fn address(&self) -> NonNull<u8> {
        self.shared.base
    }

    fn length(&self) -> usize {
        self.shared.length
    }

    fn take_right(&mut self) -> u32 {
        core::mem::take(&mut self.right)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.right != 0 {
            self.host.clone().release(self.right);
        }
    }
}

/// What a right to memory denotes.
struct Object {
    shared: Rc<Shared>,
    /// It maps for reading only.
    read_only: bool,
}

/// A system that keeps a record.
#[derive(Default)]
struct Record {
    objects: Vec<Option<Object>>,
    resumed: Vec<u32>,
    released: Vec<u32>,
    watched: Vec<u32>,
}

#[derive(Clone, Default)]
struct Host(Rc<RefCell<Record>>);

const OBJECT: u32 = 1000;

impl System for Host {
    type Memory = Mapping;

    fn shared_memory(&mut self, length: usize) -> Result<Mapping, Error> {
        Ok(self.object(length, false))
    }

    fn exclusive_memory(&mut self, length: usize) -> Result<Exclusive<Mapping>, Error> {
        // SAFETY: the application of these tests only reads memory that it got by a right that is marked so.
        Ok(unsafe { Exclusive::new(self.object(length, true)) })
    }

    fn read_only(&mut self, name: u32) -> Result<u32, Error> {
        Ok(name)
    }

    fn resume(&mut self, thread: u32) {
        self.0.borrow_mut().resumed.push(thread);
    }

    fn watch(&mut self, thread: u32) -> bool {
        self.0.borrow_mut().watched.push(thread);
        true
    }

    fn release(&mut self, name: u32) {
        let mut record = self.0.borrow_mut();
        record.released.push(name);
        if let Some(object) = name.checked_sub(OBJECT).and_then(|at| record.objects.get_mut(at as usize)) {
            *object = None;
        }
    }
}

impl Host {
    fn object(&self, length: usize, read_only: bool) -> Mapping {
        let shared = Shared::new(length);
        let objects = &mut self.0.borrow_mut().objects;
        objects.push(Some(Object { shared: shared.clone(), read_only }));
        Mapping { shared, right: OBJECT + objects.len() as u32 - 1, host: self.clone() }
    }

    /// The memory that a right denotes, which is the caller's now, and whether it maps for reading only.
    fn map(&self, right: u32) -> (Rc<Shared>, bool) {
        let place = (right - OBJECT) as usize;
        let object = self.0.borrow_mut().objects[place].take().expect("a right that nobody has taken");
        (object.shared, object.read_only)
    }
}

/// A node: a server, and the time.
struct Node {
    server: Server<Wire, Host>,
    host: Host,
}

/// Two nodes, 10.9.0.1 and 10.9.0.2.
struct Net {
    nodes: [Node; 2],
    micros: i64,
}

const ADDRESS: [[u8; 4]; 2] = [[10, 9, 0, 1], [10, 9, 0, 2]];

impl Net {
    fn new(faults: Faults, seed: u64) -> Self {
        let (a, b) = Wire::pair(faults, seed);
        let mut number = 0;
        let nodes = [a, b].map(|wire| {
            let host = Host::default();
            let server = Server::new(wire, host.clone(), seed + number as u64, Instant::ZERO);
            let mut server = server.unwrap_or_else(|error| panic!("{error}"));
            let address = Ipv4Address::from(ADDRESS[number]);
            server.stack.set_ipv4(Some(Ipv4Cidr::new(address, 24)), None);
            number += 1;
            Node { server, host }
        });
        Self { nodes, micros: 1_000_000 }
    }

    /// Lets both servers work until neither has anything to do, then lets a little time pass.
    fn step(&mut self) {
        for _ in 0..200 {
            let now = Instant::from_micros(self.micros);
            let mut worked = false;
            for node in &mut self.nodes {
                worked |= node.server.pass(now);
            }
            if !worked {
                break;
            }
            self.micros += 50;
        }
        self.micros += 500;
    }

    /// Steps until `done`, no longer than some simulated time.
    fn run(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let limit = self.micros + 600_000_000;
        while !done(self) {
            assert!(self.micros < limit, "{what}: did not happen");
            self.step();
        }
    }

    /// Lets simulated time pass.
    fn pass_time(&mut self, micros: i64) {
        let until = self.micros + micros;
        while self.micros < until {
            self.step();
            self.micros += micros / 100;
        }
    }
}

/// Sends a request to a node as task `task` and returns the reply, or its error.
fn ask(node: &mut Node, task: u32, request: Request, words: &[u32], carried: u32) -> Result<Message, Error> {
    let mut message = Message::new(0, request.raw());
    message.sender = task;
    message.carried = carried;
    for (i, word) in words.iter().enumerate() {
        assert!(message.set_word(i, *word));
    }
    let reply = node.server.request(&message).expect("a reply");
    match reply.word(0) {
        Some(0) => Ok(reply),
        status => Err(Error::from_raw(status.expect("a status")).expect("a known status")),
    }
}

fn words_of(endpoint: Endpoint, before: u32) -> Vec<u32> {
    let mut words = vec![before, endpoint.family];
    words.extend(endpoint.address.chunks(4).map(|four| u32::from_le_bytes(four.try_into().expect("four"))));
    words.push(endpoint.port);
    words
}

fn endpoint(node: usize, port: u16) -> Endpoint {
    let mut address = [0; 16];
    address[..4].copy_from_slice(&ADDRESS[node]);
    Endpoint { family: 4, address, port: port.into() }
}

/// An application's side of a socket.
struct App {
    number: u32,
    task: u32,
    memory: Rc<Shared>,
    /// The receive ring, if it is apart.
    ring: Option<Rc<Shared>>,
    rx: Consumer<'static>,
    tx: Producer<'static>,
}

const THREAD: u32 = 77;

impl App {
    fn open(node: &mut Node, task: u32, kind: abi::socket::Kind) -> Result<Self, Error> {
        let reply = ask(node, task, Request::Open, &[kind.raw()], THREAD)?;
        Ok(Self::from_reply(node, task, &reply))
    }

    fn from_reply(node: &Node, task: u32, reply: &Message) -> Self {
        let (memory, read_only) = node.host.map(reply.carried);
        assert!(!read_only);
        assert_eq!(reply.word(2), Some(memory.length as u32));
        let ring = (reply.reply != 0).then(|| {
            let (ring, read_only) = node.host.map(reply.reply);
            assert!(read_only, "the application must not be able to write where smoltcp does");
            ring
        });
        assert_eq!(reply.word(3), Some(ring.as_ref().map_or(0, |ring| ring.length as u32)));
        let (rx_bytes, tx_bytes) =
            (memory.word(Page::RX_BYTES_AT).load(SeqCst), memory.word(Page::TX_BYTES_AT).load(SeqCst));
        let here = if ring.is_some() { 0 } else { rx_bytes as usize };
        assert_eq!(memory.length, Page::bytes(here, tx_bytes as usize));
        // SAFETY: the memory stays until the `App`, which has both ends, drops it; offsets are those of the page. The consumer reads
        // by assembly, of which the compiler knows nothing: as far as it goes this is another program.
        let (rx, tx) = unsafe {
            let control = |at: usize| -> &'static Control { memory.base.byte_add(at).cast().as_ref() };
            let data = memory.base.as_ptr().add(Page::RINGS_AT);
            let rx_data = ring.as_ref().map_or(data, |ring| ring.base.as_ptr());
            (
                Consumer::new(control(Page::RX_RING_AT), rx_data, rx_bytes),
                Producer::new(control(Page::TX_RING_AT), data.add(here), tx_bytes),
            )
        };
        Self { number: reply.word(1).expect("a number"), task, memory, ring, rx, tx }
    }

    fn tcp(node: &mut Node, task: u32) -> Self {
        Self::open(node, task, abi::socket::Kind::Tcp).expect("a socket")
    }

    fn ask(&self, node: &mut Node, request: Request, more: &[u32]) -> Result<Message, Error> {
        let mut words = vec![self.number];
        words.extend(more);
        ask(node, self.task, request, &words, 0)
    }

    fn bind(&self, node: &mut Node, local: Endpoint) -> Result<u32, Error> {
        let reply = ask(node, self.task, Request::Bind, &words_of(local, self.number), 0)?;
        Ok(reply.word(1).expect("a port"))
    }

    fn connect(&self, node: &mut Node, remote: Endpoint) -> Result<(), Error> {
        ask(node, self.task, Request::Connect, &words_of(remote, self.number), 0).map(drop)
    }

    fn accept(&self, node: &mut Node) -> Result<Self, Error> {
        let reply = ask(node, self.task, Request::Accept, &[self.number], THREAD)?;
        Ok(Self::from_reply(node, self.task, &reply))
    }

    fn state(&self) -> State {
        State::from_raw(self.memory.word(Page::STATE_AT).load(SeqCst)).expect("a state")
    }

    fn error(&self) -> Option<Error> {
        Error::from_raw(self.memory.word(Page::ERROR_AT).load(SeqCst))
    }

    fn wish(&self, bits: u32) {
        self.memory.word(Page::WISHES_AT).fetch_or(bits, SeqCst);
    }

    fn write(&mut self, bytes: &[u8]) -> usize {
        self.tx.write(bytes).expect("an honest server")
    }

    fn read(&mut self, bytes: &mut [u8]) -> usize {
        self.rx.read(bytes).expect("an honest server")
    }

    /// How much of the receive ring it has been given.
    fn published(&self) -> u32 {
        self.memory.word(Page::RX_RING_AT).load(SeqCst)
    }

    /// Stores a position in the receive ring, honest or not.
    fn set_head(&self, position: u32) {
        self.memory.word(Page::RX_RING_AT + 64).store(position, SeqCst);
    }

    /// Declares that its thread waits.
    fn wait(&self, bits: u32) {
        self.memory.word(Page::WAIT_FOR_AT).store(bits, SeqCst);
        self.wait_word().prepare();
    }

    fn wait_word(&self) -> &WaitWord {
        // SAFETY: one aligned atomic word of the page.
        unsafe { &*core::ptr::from_ref(self.memory.word(Page::WAIT_AT)).cast() }
    }

    fn acknowledged(&self) -> u32 {
        self.memory.word(Page::ACKNOWLEDGED_AT).load(SeqCst)
    }
}

/// A stream of bytes that has no period of a power of two.
fn pattern(position: usize) -> u8 {
    (position as u32).wrapping_mul(2_654_435_761).rotate_left(9) as u8 ^ (position / 251) as u8
}

/// A listener on node 1 with a connection from node 0: the listener and both ends.
fn connected(net: &mut Net, port: u16) -> (App, App, App) {
    let listener = App::tcp(&mut net.nodes[1], 20);
    listener.bind(&mut net.nodes[1], endpoint(1, port)).expect("bound");
    listener.ask(&mut net.nodes[1], Request::Listen, &[4]).expect("listening");
    let client = App::tcp(&mut net.nodes[0], 10);
    client.connect(&mut net.nodes[0], endpoint(1, port)).expect("connecting");
    net.run("connect", |_| {
        client.state() == State::Established && listener.memory.word(Page::ACCEPT_READY_AT).load(SeqCst) == 1
    });
    let server = listener.accept(&mut net.nodes[1]).expect("a connection");
    (listener, client, server)
}

/// Moves `bytes` of the pattern from one end to the other, as fast as the rings allow, and checks each.
struct Transfer {
    bytes: usize,
    written: usize,
    read: usize,
    chunk: usize,
}

impl Transfer {
    fn new(bytes: usize, chunk: usize) -> Self {
        Self { bytes, written: 0, read: 0, chunk }
    }

    /// Writes and reads what goes now; true when all has arrived.
    fn go_on(&mut self, from: &mut App, to: &mut App) -> bool {
        let mut buffer = vec![0; self.chunk];
        while self.written < self.bytes {
            let length = self.chunk.min(self.bytes - self.written);
            for (i, byte) in buffer[..length].iter_mut().enumerate() {
                *byte = pattern(self.written + i);
            }
            let written = from.write(&buffer[..length]);
            self.written += written;
            if written < length {
                break;
            }
        }
        loop {
            let length = to.read(&mut buffer);
            if length == 0 {
                break;
            }
            for byte in &buffer[..length] {
                assert_eq!(*byte, pattern(self.read), "byte {}", self.read);
                self.read += 1;
            }
        }
        self.read == self.bytes
    }
}
