//! The server's operations on chains, against the same operations on a vector of bytes; and on headers that change under them.

use std::collections::BTreeMap;

use mbuf::{
    CLUSTER_BYTES, ChainError, EXTERNAL_PAGE_BYTES, ExternalError, ExternalPage, Flags, ProtocolSpace,
};
use shmqueue::{Item, sync::Ordering::Relaxed};

use crate::{
    buffers::{EXTERNAL_PAGES, Window},
    input::Input,
    peer::Peer,
};

/// A packet, and what is to be in it.
struct Packet {
    item: Item,
    model: Vec<u8>,
}

struct World<'w, 'd> {
    window: &'w Window,
    peer: Peer<'d>,
    space: ProtocolSpace<'w>,
    packets: Vec<Packet>,
    /// Areas of external storage that are attached and have not come back, with their bytes.
    areas: BTreeMap<u32, u32>,
}

/// The chains.
pub fn chains(data: &[u8]) {
    let mut input = Input::new(data);
    let window = Window::new(&mut input, 2);
    let mut pages = [ExternalPage::FREE; EXTERNAL_PAGES];
    let mut world = World {
        window: &window,
        peer: window.peer(input),
        space: ProtocolSpace::with_external(window.view(), &mut pages),
        packets: Vec::new(),
        areas: BTreeMap::new(),
    };
    while let Some(operation) = world.peer.input(Input::next) {
        world.step(operation);
    }
    world.end();
}

impl World<'_, '_> {
    fn step(&mut self, operation: u8) {
        let at = self.peer.input(Input::word) & 0x3fff;
        let which = usize::from(operation >> 4) % self.packets.len().max(1);
        match operation & 15 {
            0 | 1 => return self.make(at as usize),
            11 => return self.attach(u32::from(operation >> 4), at),
            12 => return self.take_back(),
            15 => return self.window.scribble(&self.peer),
            _ => {}
        }
        if self.packets.is_empty() {
            return;
        }
        let mut packet = self.packets.swap_remove(which);
        let keep = match operation & 15 {
            2 | 3 => self.trim(&mut packet, at, operation & 1 == 0),
            4 | 5 => self.split(&mut packet, at),
            6 => self.join(&mut packet),
            7 | 8 => self.pull_up(&mut packet, at),
            9 | 10 => self.prepend(&mut packet, at % 100),
            13 => self.copy(&packet, at),
            _ => self.free(&packet),
        };
        if keep {
            self.compare(&packet);
            self.packets.push(packet);
        }
    }

    /// Runs an operation of the server.
    fn run<R>(&mut self, operation: impl FnOnce(&mut Self) -> R) -> R {
        let bound = self.window.bound(8);
        // The hook borrows the peer, which no operation uses.
        let peer = std::mem::replace(&mut self.peer, Peer::new(Input::new(&[]), Vec::new()));
        let result = peer.run_waiting(bound, || operation(self));
        self.peer = peer;
        result
    }

    fn make(&mut self, len: usize) {
        let model: Vec<u8> = (0..len).map(|i| (i * 31 + i / 256) as u8).collect();
        match self.run(|world| world.space.packet_from(&model)) {
            Ok(item) => {
                let packet = Packet { item, model };
                self.compare(&packet);
                self.packets.push(packet);
            }
            Err(error) => self.expect(error, &[ChainError::NoBuffer]),
        }
    }

    /// The bytes of an area, fresh each time that it is attached: it may not be written while anybody refers to it.
    fn attach(&mut self, page: u32, bytes: u32) {
        let places = *self.window.geometry.places();
        let start = places.external + EXTERNAL_PAGE_BYTES * (page % 4);
        match self.run(|world| world.space.attach_external(start, bytes)) {
            Ok(item) => {
                assert!(self.areas.insert(start, bytes).is_none(), "one area twice");
                let mut model = Vec::new();
                for at in (0..bytes.next_multiple_of(4)).step_by(4) {
                    let word = start.wrapping_add(at).wrapping_mul(0x9e37_79b9) ^ page;
                    self.window.memory.word((start + at) as usize).store(word, Relaxed);
                    model.extend(word.to_le_bytes());
                }
                model.truncate(bytes as usize);
                let packet = Packet { item, model };
                self.compare(&packet);
                self.packets.push(packet);
            }
            Err(ExternalError::InUse) => assert!(!self.areas.is_empty(), "all areas have come back"),
            Err(ExternalError::Outside) => {
                let end = places.external + places.external_bytes;
                assert!(bytes == 0 || start + bytes > end, "an area of the storage is refused");
            }
            Err(ExternalError::NoBuffer) => {}
        }
    }

    fn take_back(&mut self) {
        while let Some((start, bytes)) = self.space.take_unreferenced() {
            assert_eq!(self.areas.remove(&start), Some(bytes), "an area came back that was not out");
        }
    }

    /// A copy of all from `at` on, or of less.
    fn copy(&mut self, packet: &Packet, at: u32) -> bool {
        let (item, total) = (packet.item, packet.model.len());
        let len = if at & 1 == 0 { u32::MAX } else { self.peer.input(Input::word) & 0xfff };
        match self.run(|world| world.space.copy_range(item, at, len)) {
            Ok(copy) => {
                let end = if len == u32::MAX { total } else { (at + len) as usize };
                let model = packet.model.get(at as usize..end).unwrap_or_default().to_vec();
                let copy = Packet { item: copy, model };
                self.compare(&copy);
                self.packets.push(copy);
            }
            Err(error) => self.expect(error, &[ChainError::TooShort, ChainError::NoBuffer]),
        }
        true
    }

    fn trim(&mut self, packet: &mut Packet, at: u32, front: bool) -> bool {
        let item = packet.item;
        let outcome =
            self.run(
                |world| {
                    if front { world.space.trim_front(item, at) } else { world.space.trim_back(item, at) }
                },
            );
        let len = packet.model.len();
        match outcome {
            Ok(()) if at as usize > len => assert!(!self.peer.was_honest()),
            Ok(()) if front => drop(packet.model.drain(..at as usize)),
            Ok(()) => packet.model.truncate(len - at as usize),
            Err(error) => self.expect(error, &[ChainError::TooShort]),
        }
        true
    }

    fn split(&mut self, packet: &mut Packet, at: u32) -> bool {
        let item = packet.item;
        match self.run(|world| world.space.split(item, at)) {
            Ok(second) => {
                let at = (at as usize).min(packet.model.len());
                let second = Packet { item: second, model: packet.model.split_off(at) };
                self.compare(&second);
                self.packets.push(second);
            }
            Err(error) => self.expect(error, &[ChainError::TooShort, ChainError::NoBuffer]),
        }
        true
    }

    fn join(&mut self, packet: &mut Packet) -> bool {
        let Some(second) = self.packets.pop() else { return true };
        let (first, other) = (packet.item, second.item);
        match self.run(|world| world.space.concatenate(first, other)) {
            Ok(()) => packet.model.extend(second.model),
            Err(error) => {
                self.expect(error, &[]);
                self.packets.push(second);
            }
        }
        true
    }

    fn pull_up(&mut self, packet: &mut Packet, at: u32) -> bool {
        let item = packet.item;
        match self.run(|world| world.space.pull_up(item, at)) {
            Ok(first) => {
                packet.item = first;
                if self.peer.was_honest() {
                    let (_, here) = self.space.view().extent(first).expect("an honest extent");
                    assert!(here >= at, "not in one piece");
                }
            }
            Err(ChainError::TooLong) => assert!(at > CLUSTER_BYTES),
            Err(error) => self.expect(error, &[ChainError::TooShort, ChainError::NoBuffer]),
        }
        true
    }

    fn prepend(&mut self, packet: &mut Packet, len: u32) -> bool {
        let item = packet.item;
        match self.run(|world| world.space.prepend(item, len)) {
            Ok(first) => {
                packet.item = first;
                // The new bytes are whatever was there: take them over.
                let mut front = vec![0; len as usize];
                let copied = self.run(|world| world.space.copy_data(first, 0, &mut front));
                assert!(copied == Ok(len as usize) || !self.peer.was_honest());
                packet.model.splice(..0, front);
            }
            Err(error) => self.expect(error, &[ChainError::TooLong, ChainError::NoBuffer]),
        }
        true
    }

    fn free(&mut self, packet: &Packet) -> bool {
        let item = packet.item;
        self.run(|world| world.space.free_chain(item));
        assert!(!self.peer.was_honest() || self.space.misbehaviour().is_none());
        false
    }

    fn expect(&self, error: ChainError, expected: &[ChainError]) {
        assert!(expected.contains(&error) || !self.peer.was_honest(), "{error}");
    }

    /// The packet holds what it is to hold, and says so.
    fn compare(&mut self, packet: &Packet) {
        let (item, len) = (packet.item, packet.model.len());
        let mut bytes = vec![0; len + 5];
        let copied = self.run(|world| world.space.copy_data(item, 0, &mut bytes));
        if self.peer.was_honest() {
            assert_eq!(copied, Ok(len), "the packet's length");
            assert!(bytes[..len] == packet.model, "the packet's bytes");
            let mbuf = self.space.view().mbuf(item).expect("an item");
            assert_eq!(mbuf.packet_len() as usize, len, "what the header says");
            assert!(mbuf.flags().has(Flags::PACKET));
        }
    }

    /// All packets are whole, and when they are freed all buffers are.
    fn end(&mut self) {
        for packet in std::mem::take(&mut self.packets) {
            self.compare(&packet);
            self.free(&packet);
        }
        self.take_back();
        if self.peer.was_honest() {
            assert_eq!(self.window.view().audit(), Ok(self.window.all()), "a buffer is lost");
            assert_eq!(self.areas, BTreeMap::new(), "an area is lost");
        }
    }
}
