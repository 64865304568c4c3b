//! The whole protocol server, whose wire says anything: frames in any order, time that passes, applications that go on meanwhile.
//!
//! What must hold whatever comes: no panic; what the server sends is well formed, and no more than what has come and what applications have
//! written explain; every frame that it was lent goes back; it comes to rest; and when its applications are gone, so is their memory.
#![expect(unsafe_code, reason = "plays the application's side of shared memory")]

mod forge;
mod host;

use std::rc::Rc;

use abi::device::offload;
use abi::message::Message;
use abi::socket::{Endpoint, Kind, Request, ServerCounter};
use netdev_driver::demux;
use protocol_server::Instant;
use protocol_server::server::Server;
use shmqueue::bytes::{Consumer, Producer};
use userlib::net::Page;

use crate::input::Input;
use crate::memory::Guarded;
use forge::Seen;
use host::{Host, Wire};

/// The application's task and its thread.
const TASK: u32 = 10;
const THREAD: u32 = 77;
const LISTENER: u16 = 80;
const DATAGRAMS: u16 = 53;
const SOCKETS_MAX: usize = 12;
/// Passes without anything new after which the server has to rest.
const PASSES_MAX: usize = 400;

struct Application {
    number: u32,
    rx: Consumer<'static>,
    tx: Producer<'static>,
    /// Behind the ends, which go first.
    _memory: [Option<Rc<Guarded>>; 2],
}

struct World {
    server: Server<Wire, Host>,
    host: Host,
    applications: Vec<Application>,
    seen: Seen,
    micros: i64,
    /// Frames that have come, and bytes that were written, since the last pass.
    came: usize,
    written: usize,
    seed: Option<Vec<u8>>,
}

/// A server with an address.
pub fn stack(data: &[u8]) {
    let mut input = Input::new(data);
    let mut world = World::new(&mut input, false);
    world.open(Kind::Tcp);
    world.bind(LISTENER);
    world.ask(Request::Listen, &[4]);
    world.open(Kind::Udp);
    world.bind(DATAGRAMS);
    world.open(Kind::Echo);
    world.run(&mut input);
}

/// A server that asks for its address.
pub fn dhcp(data: &[u8]) {
    let mut input = Input::new(data);
    let mut world = World::new(&mut input, true);
    world.pass();
    while let Some(operation) = input.next() {
        match operation & 3 {
            0 | 1 => {
                let frame = forge::dhcp(&mut input, world.server.stack.link.sent.back());
                world.come(frame, operation, &mut input);
                world.pass();
            }
            2 => world.wait(i64::from(input.byte()) * 1_000_000),
            _ => world.wait(1000 << (operation >> 4)),
        }
    }
    world.end();
}

impl World {
    fn new(input: &mut Input<'_>, dhcp: bool) -> Self {
        let host = Host::default();
        let choice =
            u32::from(input.byte()) & (offload::TX_CHECKSUM | offload::RX_CHECKSUM | offload::RX_IPV4_HEADER);
        let server = Server::new(Wire::new(choice), host.clone(), 7, Instant::ZERO);
        let mut server = server.unwrap_or_else(|error| panic!("{error}"));
        if dhcp {
            server.use_dhcp();
        } else {
            let words = |key: &str| match key {
                "ip" => Some("10.9.0.2/24"),
                "gw" => Some("10.9.0.1"),
                "ip6" => Some("fd09::2/64"),
                _ => None,
            };
            server.configure(words).unwrap_or_else(|error| panic!("{error}"));
        }
        Self {
            server,
            host,
            applications: Vec::new(),
            seen: Seen::default(),
            micros: 1_000_000,
            came: 0,
            written: 0,
            seed: None,
        }
    }

    fn run(&mut self, input: &mut Input<'_>) {
        while let Some(operation) = input.next() {
            let many = usize::from(operation >> 4);
            match operation & 15 {
                0..=6 => {
                    let sent = self.server.stack.link.sent.len().checked_sub(1 + many % 3);
                    let sent = sent.and_then(|at| self.server.stack.link.sent.get(at));
                    let frame = forge::next(input, &self.seen, sent, &[LISTENER, DATAGRAMS, 49152]);
                    self.come(frame, operation, input);
                    if operation & 15 < 5 {
                        self.pass();
                    }
                }
                // The same once more, a little different.
                7 => {
                    let mut frame = self.seed.clone().unwrap_or_default();
                    if !frame.is_empty() {
                        let at = (usize::from(input.byte()) + 14) % frame.len();
                        frame[at] ^= 1 << (many & 7);
                        forge::repair(&mut frame, 0);
                    }
                    self.come(frame, operation, input);
                    self.pass();
                }
                8 => self.wait(1000 << many),
                9 => self.wait(i64::from(input.byte()) * 100_000),
                10 => self.write(many, input),
                11 => self.read(many),
                12 => self.connect(many, input),
                13 => self.accept(),
                14 => {
                    if !self.applications.is_empty() {
                        let at = many % self.applications.len();
                        let request = if input.byte() & 1 == 0 { Request::Close } else { Request::Abort };
                        self.ask_at(at, request, &[]);
                        self.applications.remove(at);
                    }
                }
                _ => {
                    // A device that takes no more for a while.
                    self.server.stack.link.room = if many < 8 { many } else { usize::MAX };
                    self.pass();
                }
            }
        }
        self.end();
    }

    /// A frame comes in. What the driver would not let through on the path by window is tried as well, unless the driver says that it
    /// looks at headers.
    fn come(&mut self, frame: Vec<u8>, operation: u8, input: &mut Input<'_>) {
        let flags = protocol_server::link::Link::info(&self.server.stack.link).offload;
        if flags & offload::RX_IPV4_HEADER != 0 {
            let word = |at: usize| {
                u64::from_le_bytes(std::array::from_fn(|i| frame.get(at * 8 + i).copied().unwrap_or(0)))
            };
            if demux::classify(frame.len() as u32, word).is_err() {
                return;
            }
        }
        let vouched = flags & offload::RX_CHECKSUM != 0 && operation & 0x80 != 0 && input.byte() & 1 != 0;
        self.seed = Some(frame.clone());
        self.server.stack.link.incoming.push_back((frame, vouched));
        self.came += 1;
    }

    /// A pass, and all that may follow from it at once.
    fn pass(&mut self) {
        self.server.stack.link.count = 0;
        for passes in 0.. {
            assert!(passes < PASSES_MAX, "the server does not come to rest");
            self.micros += 20;
            self.server.pass(Instant::from_micros(self.micros));
            assert_eq!(self.server.stack.link.lent.get(), 0, "frames are kept");
            if !self.server.is_unfinished()
                && let Some(deadline) = self.server.prepare_sleep()
            {
                assert!(deadline > self.micros, "it sleeps until a time that has gone by");
                self.server.wake();
                break;
            }
        }
        // An echo of the longest datagram goes in 45 fragments; a segment may set free all that was written, or have it repeated.
        let explained = 64 + 48 * self.came + self.applications.len() * 8 + self.written;
        let count = self.server.stack.link.count;
        assert!(count <= explained, "{count} frames for {} frames and {} bytes", self.came, self.written);
        self.came = 0;
        if let Some(frame) = self.server.stack.link.sent.back() {
            self.seen.take(frame);
        }
    }

    fn wait(&mut self, micros: i64) {
        self.micros += micros;
        self.pass();
    }

    fn request(&mut self, request: Request, words: &[u32], carried: u32) -> Option<Message> {
        let mut message = Message::new(0, request.raw());
        (message.sender, message.carried) = (TASK, carried);
        for (at, word) in words.iter().enumerate() {
            assert!(message.set_word(at, *word));
        }
        self.server.request(&message).filter(|reply| reply.word(0) == Some(0))
    }

    fn ask_at(&mut self, at: usize, request: Request, words: &[u32]) {
        if let Some(application) = self.applications.get(at) {
            let words = [&[application.number], words].concat();
            let _ = self.request(request, &words, 0);
            self.pass();
        }
    }

    /// Asks in the name of the last socket.
    fn ask(&mut self, request: Request, words: &[u32]) {
        self.ask_at(self.applications.len() - 1, request, words);
    }

    fn open(&mut self, kind: Kind) {
        if let Some(reply) = self.request(Request::Open, &[kind.raw()], THREAD) {
            self.has(&reply);
        }
    }

    /// A new socket.
    fn has(&mut self, reply: &Message) {
        let memory = self.host.map(reply.carried);
        let ring = (reply.reply != 0).then(|| self.host.map(reply.reply));
        let apart = ring.as_ref().map(|ring| (ring.base(), ring.bytes()));
        // SAFETY: the application keeps both until it has dropped the ends, which are made once; nothing refers to the bytes of the rings
        // but the server's stack, to those that only it writes.
        let (rx, tx) = unsafe {
            let page = Page::new(memory.base()).expect("an honest server");
            page.ends(memory.bytes(), apart).expect("an honest server")
        };
        let number = reply.word(1).expect("a number");
        self.applications.push(Application { number, rx, tx, _memory: [Some(memory), ring] });
    }

    fn bind(&mut self, port: u16) {
        self.ask(Request::Bind, &words(&Endpoint { family: 4, address: [0; 16], port: port.into() }));
    }

    fn connect(&mut self, many: usize, input: &mut Input<'_>) {
        if self.applications.len() >= SOCKETS_MAX {
            return;
        }
        let kind = if many & 8 == 0 { Kind::Tcp } else { Kind::Udp };
        let before = self.applications.len();
        self.open(kind);
        if self.applications.len() == before {
            return;
        }
        let mut address = [0; 16];
        let family = if many & 4 == 0 {
            address[..4].copy_from_slice(&forge::THEIRS);
            4
        } else {
            address = forge::THEIRS_6;
            6
        };
        let remote = Endpoint { family, address, port: 2000 + u32::from(input.byte() & 3) };
        self.ask(Request::Connect, &words(&remote));
    }

    fn accept(&mut self) {
        let Some(number) = self.applications.first().map(|listener| listener.number) else { return };
        if self.applications.len() >= SOCKETS_MAX {
            return;
        }
        if let Some(reply) = self.request(Request::Accept, &[number], THREAD) {
            self.has(&reply);
        }
        self.pass();
    }

    fn write(&mut self, many: usize, input: &mut Input<'_>) {
        if self.applications.is_empty() {
            return;
        }
        let at = many % self.applications.len();
        let length = usize::from(input.byte()) * 8;
        let written = self.applications[at].tx.write(&vec![0x5a; length]);
        self.written += written.expect("an honest server");
        self.pass();
    }

    fn read(&mut self, many: usize) {
        if self.applications.is_empty() {
            return;
        }
        let at = many % self.applications.len();
        let mut bytes = [0; 4096];
        self.applications[at].rx.read(&mut bytes).expect("an honest server");
        self.pass();
    }

    /// All applications end.
    fn end(&mut self) {
        self.server.stack.link.room = usize::MAX;
        for application in core::mem::take(&mut self.applications) {
            let _ = self.request(Request::Abort, &[application.number], 0);
        }
        self.server.thread_died(THREAD);
        self.written = usize::MAX / 2;
        // Connections that still had something to say give up after a while.
        for _ in 0..20 {
            if self.host.objects() == 1 {
                break;
            }
            self.wait(60_000_000);
        }
        self.server.publish_counters();
        assert_eq!(self.server.counters().get(ServerCounter::Sockets), 0, "sockets that nobody has");
        assert_eq!(self.host.objects(), 1, "memory is left behind, beside the page of the server's state");
    }
}

fn words(endpoint: &Endpoint) -> Vec<u32> {
    let mut words = vec![endpoint.family];
    words.extend(endpoint.address.chunks(4).map(|four| u32::from_le_bytes(four.try_into().expect("four"))));
    words.push(endpoint.port);
    words
}

/// A server that is told its addresses by any text: it takes them, or says which it does not understand.
pub fn configure(text: &[u8]) {
    let host = Host::default();
    let server = Server::new(Wire::new(0), host, 7, Instant::ZERO);
    let mut server = server.unwrap_or_else(|error| panic!("{error}"));
    let option = |key: &str| std::str::from_utf8(fuzz_kernel::cmdline::get(text, key)?).ok();
    if let Err(wrong) = server.configure(option) {
        assert!(["ip", "ip6", "gw"].contains(&wrong.key) && option(wrong.key) == Some(wrong.value));
        let _ = wrong.to_string();
    }
    server.pass(Instant::from_micros(1_000_000));
}
