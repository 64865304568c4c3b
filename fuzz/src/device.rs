//! The drivers over devices that lie: whatever they write into descriptor rings, used rings, headers, clusters, registers and PCI's
//! configuration space, the driver hands them only buffers of the window, each buffer stays accounted for, and a reset makes all good.
//!
//! The devices here move no frame by themselves: all that a real one would write is what the fuzzer says. The server is honest.
#![expect(unsafe_code, reason = "says that a driver is gone, whose memory is given again")]

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use abi::window::{Config, Queue, QueueKind};
use netdev_driver::{e1000::E1000, endpoint::STUCK_NS, virtio_net::VirtioNet};

use crate::fake::{
    FakeHal, Machine, Memory, Model, ipv4_frame,
    rig::{Rig, Wire},
    server::{Server, queue},
    virtio::VirtioModel,
};
use crate::input::Input;

const CONFIG: Config =
    Config { pools: 2, mbufs_per_pool: 128, clusters_per_pool: 64, queue: QueueKind::Ring };
const E1000_RING: u32 = 256;
/// A header, and the pieces of a frame.
const CHAIN_MAX: usize = 17;

/// What the fuzzer does in a device's name.
trait Liar: Wire {
    /// Writes something back. `queue`: 0 what is received, 1 what is sent.
    fn write_back(&mut self, memory: &Memory, queue: usize, input: &mut Input<'_>);
    /// The next reads of registers say this.
    fn mislead(&mut self, words: &[u8]);
    /// From now on it tells the truth.
    fn repent(&mut self);
}

/// Answers of registers that are not so.
#[derive(Default)]
struct Lies(RefCell<VecDeque<u8>>);

impl Lies {
    /// What a register says that holds `truth`.
    fn answer(&self, truth: u32) -> u32 {
        match self.0.borrow_mut().pop_front() {
            None | Some(0..0x80) => truth,
            Some(0x80) => u32::MAX,
            Some(0x81) => 0,
            Some(kind) => truth ^ 1 << (kind & 31),
        }
    }
}

/// The registers of an 82540EM, and nothing behind them.
#[derive(Default)]
struct BareE1000 {
    registers: HashMap<u32, u32>,
    lies: Lies,
    doorbells: u64,
    /// Where it writes back next.
    at: [u32; 2],
    asserted: Cell<bool>,
}

impl BareE1000 {
    fn register(&self, at: u32) -> u32 {
        self.registers.get(&at).copied().unwrap_or(0)
    }

    fn descriptor(&self, queue: usize, at: u32) -> u64 {
        let base = [0x2800, 0x3800][queue];
        (u64::from(self.register(base)) | u64::from(self.register(base + 4)) << 32) + 16 * u64::from(at)
    }

    /// What was handed over between two tails is the window's.
    fn inspect(&self, memory: &Memory, queue: usize, new: u32) {
        assert!(new < E1000_RING, "a tail behind the ring");
        let mut at = self.register([0x2818, 0x3818][queue]);
        while at != new {
            let descriptor = self.descriptor(queue, at);
            let (first, second) = (memory.read64(descriptor), memory.read64(descriptor + 8));
            match queue {
                0 => memory.assert_cluster(first),
                _ if second & 1 << 20 != 0 => memory.assert_sendable(first, (second & 0xf_ffff) as u32),
                _ => {}
            }
            at = (at + 1) % E1000_RING;
        }
    }
}

impl Model for BareE1000 {
    fn bar_bytes(&self, bar: u8) -> Option<u32> {
        (bar == 0).then_some(0x2_0000)
    }

    fn read(&mut self, _: &Memory, _: u8, offset: u32, _: u32) -> u32 {
        let truth = match offset {
            0xc0 => {
                self.asserted.set(false);
                0xc1
            }
            0x08 => 2,
            0x5400 => u32::from_le_bytes([0x52, 0x54, 0, 0x12]),
            0x5404 => 1 << 31 | 0x5634,
            _ => self.register(offset),
        };
        self.lies.answer(truth)
    }

    fn write(&mut self, memory: &Memory, _: u8, offset: u32, _: u32, value: u32) {
        match offset {
            0x00 if value & 1 << 26 != 0 => {
                self.registers.clear();
                (self.at, self.doorbells) = ([0; 2], self.doorbells);
                return;
            }
            0x2818 if self.register(0x100) & 2 != 0 => self.inspect(memory, 0, value),
            0x3818 if self.register(0x400) & 2 != 0 => self.inspect(memory, 1, value),
            _ => {}
        }
        self.doorbells += u64::from(matches!(offset, 0x2818 | 0x3818));
        self.registers.insert(offset, value);
    }
}

impl Liar for BareE1000 {
    fn write_back(&mut self, memory: &Memory, queue: usize, input: &mut Input<'_>) {
        if self.register([0x2808, 0x3808][queue]) == 0 {
            return;
        }
        let kind = input.byte();
        let at = match kind & 3 {
            0 => u32::from(input.byte()),
            _ => self.at[queue],
        };
        self.at[queue] = (at + 1) % E1000_RING;
        let descriptor = self.descriptor(queue, at);
        match queue {
            // Length, checksum, status, errors.
            0 => {
                let status = if kind & 4 == 0 { 3 } else { input.byte() };
                let errors = if kind & 8 == 0 { 0 } else { input.byte() };
                let length = if kind & 16 == 0 { 60 } else { input.word() as u16 };
                memory.write(descriptor + 8, &length.to_le_bytes());
                memory.write(descriptor + 12, &[status, errors]);
                if kind & 32 != 0 {
                    let buffer = memory.read64(descriptor);
                    let frame = ipv4_frame(usize::from(length).clamp(38, 1514), u32::from(kind));
                    if buffer != 0 {
                        memory.write(buffer, &frame);
                    }
                }
            }
            _ => memory.write(descriptor + 12, &[if kind & 4 == 0 { 1 } else { kind }]),
        }
        self.asserted.set(true);
    }

    fn mislead(&mut self, words: &[u8]) {
        self.lies.0.get_mut().extend(words);
    }

    fn repent(&mut self) {
        self.lies.0.get_mut().clear();
    }
}

/// The structures of a virtio device, and nothing behind them.
#[derive(Default)]
struct BareVirtio {
    inner: VirtioModel,
    lies: Lies,
    /// Its registers may lie anywhere, and so are none in particular.
    anywhere: bool,
    /// The used indices as it told them.
    used: [u16; 2],
    seen: [u16; 2],
}

impl BareVirtio {
    fn inspect(&mut self, memory: &Memory, queue: usize) {
        let Some(ring) = self.inner.ring(queue) else { return };
        let index = memory.read16(ring.available + 2);
        assert!(index.wrapping_sub(self.seen[queue]) <= ring.size, "more made available than there is");
        while self.seen[queue] != index {
            let entry = ring.available + 4 + 2 * u64::from(self.seen[queue] % ring.size);
            self.seen[queue] = self.seen[queue].wrapping_add(1);
            let (mut at, mut pieces) = (memory.read16(entry), 0);
            // A device that says it has sent what it has not been shown yet gets descriptors that are in use again: chains of pieces of
            // several frames. It hurts itself only, as long as each piece is one that it may have.
            while pieces < CHAIN_MAX {
                assert!(at < ring.size, "a descriptor that there is not");
                let descriptor = ring.descriptors + 16 * u64::from(at);
                let (phys, word) = (memory.read64(descriptor), memory.read64(descriptor + 8));
                let header = word as u32 == 12 && self.headers(memory, phys);
                match queue {
                    _ if header || word as u32 == 0 => {}
                    0 => memory.assert_cluster(phys),
                    _ => memory.assert_sendable(phys, word as u32),
                }
                assert_eq!(word >> 33 & 1 == 1, queue == 0, "who writes");
                pieces += 1;
                if word >> 32 & 1 == 0 {
                    break;
                }
                at = (word >> 48) as u16;
            }
            assert!(queue == 1 || pieces == 2, "a buffer to receive into is a header and a cluster");
        }
    }

    /// Whether an address is none of the window's, which leaves what the driver has for its headers.
    fn headers(&self, memory: &Memory, phys: u64) -> bool {
        memory.window.is_none_or(|(start, bytes, _)| !(start..start + u64::from(bytes)).contains(&phys))
    }
}

impl Model for BareVirtio {
    fn bar_bytes(&self, bar: u8) -> Option<u32> {
        self.inner.bar_bytes(bar)
    }

    fn config(&self, offset: u8) -> u32 {
        let truth = self.inner.config(offset);
        if self.anywhere { self.lies.answer(truth) } else { truth }
    }

    fn read(&mut self, memory: &Memory, bar: u8, offset: u32, size: u32) -> u32 {
        if self.anywhere {
            return self.lies.answer(0) & u32::MAX >> (32 - 8 * size);
        }
        // Features are offered as the model has them, or it would find fault with the driver's honest choice.
        let truth = self.inner.read(memory, bar, offset, size);
        if offset == 4 { truth } else { self.lies.answer(truth) & u32::MAX >> (32 - 8 * size) }
    }

    fn write(&mut self, memory: &Memory, bar: u8, offset: u32, size: u32, value: u32) {
        if self.anywhere {
            return;
        }
        if offset == 20 && value == 0 {
            (self.used, self.seen) = ([0; 2], [0; 2]);
        }
        if offset >= 0x3000 {
            // A lie about where to notify sends this elsewhere; it is looked at all the same.
            self.inspect(memory, value as usize & 1);
            self.inner.tail_writes += 1;
            return;
        }
        self.inner.write(memory, bar, offset, size, value);
    }
}

impl Liar for BareVirtio {
    fn write_back(&mut self, memory: &Memory, queue: usize, input: &mut Input<'_>) {
        // The device sees what is available without being told.
        self.inspect(memory, queue);
        let Some(ring) = self.inner.ring(queue) else { return };
        let kind = input.byte();
        let index = self.used[queue];
        let head = memory.read16(ring.available + 4 + 2 * u64::from(index % ring.size));
        let id = match kind & 7 {
            0 => input.word(),
            1 => u32::from(input.byte()),
            _ => u32::from(head),
        };
        let length = if kind & 8 == 0 { 72 } else { input.word() };
        let entry = ring.used + 4 + 8 * u64::from(index % ring.size);
        memory.write(entry, &id.to_le_bytes());
        memory.write(entry + 4, &length.to_le_bytes());
        if kind & 16 != 0 && id < u32::from(ring.size) {
            let descriptor = ring.descriptors + 16 * u64::from(id & !1);
            let (header, buffer) = (memory.read64(descriptor), memory.read64(descriptor + 16));
            if queue == 0 && header != 0 {
                memory.write(header, &[input.byte()]);
            }
            if queue == 0 && buffer != 0 {
                memory.write(buffer, &ipv4_frame((length as usize).clamp(50, 1526) - 12, 5));
            }
        }
        self.used[queue] = match kind >> 5 {
            0 => input.word() as u16,
            1 => index.wrapping_add(u16::from(input.byte())),
            2 => index,
            _ => index.wrapping_add(1),
        };
        memory.write(ring.used + 2, &self.used[queue].to_le_bytes());
        if kind & 0xc0 == 0x40 {
            // Flags, and where it wants to be told.
            memory.write(ring.used, &[kind]);
            memory.write(ring.used + 4 + 8 * u64::from(ring.size), &[input.byte(), input.byte()]);
        }
    }

    fn mislead(&mut self, words: &[u8]) {
        self.lies.0.get_mut().extend(words);
    }

    fn repent(&mut self) {
        self.lies.0.get_mut().clear();
    }
}

macro_rules! wire {
    ($model:ty, $driver:ident, $interrupt:expr, $doorbells:expr) => {
        impl Wire for $model {
            type Driver = $driver<FakeHal<Self>>;
            fn driver(machine: Rc<Machine<Self>>) -> Self::Driver {
                $driver::new(FakeHal(machine)).expect("an honest device")
            }
            fn receive(&mut self, _: &Memory, _: &[u8]) -> bool {
                false
            }
            fn step(&mut self, _: &Memory) {}
            fn interrupt(&self) -> bool {
                $interrupt(self)
            }
            fn take_sent(&mut self) -> Vec<Vec<u8>> {
                Vec::new()
            }
            fn set(&mut self, _: bool, _: bool) {}
            fn owned(&self, _: &Memory) -> usize {
                0
            }
            fn doorbells(&self) -> u64 {
                $doorbells(self)
            }
        }
    };
}
wire!(BareE1000, E1000, |it: &Self| it.asserted.get(), |it: &Self| it.doorbells);
wire!(BareVirtio, VirtioNet, |_: &Self| false, |it: &Self| it.inner.tail_writes);

std::thread_local! {
    // The machines live for ever, so there is one of each, reset for each run.
    static BARE_E1000: RefCell<Option<Rig<BareE1000>>> = const { RefCell::new(None) };
    static BARE_VIRTIO: RefCell<Option<Rig<BareVirtio>>> = const { RefCell::new(None) };
    static CONFIGURED: RefCell<Option<Rc<Machine<BareVirtio>>>> = const { RefCell::new(None) };
}

/// An 82540EM that lies.
pub fn device_e1000(data: &[u8]) {
    BARE_E1000.with_borrow_mut(|rig| device(rig.get_or_insert_with(|| Rig::new(CONFIG)), data));
}

/// A virtio network device that lies.
pub fn device_virtio(data: &[u8]) {
    BARE_VIRTIO.with_borrow_mut(|rig| device(rig.get_or_insert_with(|| Rig::new(CONFIG)), data));
}

/// PCI's configuration space and the structures that it names, before a driver of virtio that looks for its device.
pub fn configuration(data: &[u8]) {
    let mut input = Input::new(data);
    // As the list of capabilities is by default, the registers are where the model has them: then more is looked at.
    let mut model = BareVirtio { anywhere: input.byte() & 1 != 0, ..BareVirtio::default() };
    while let Some(at) = input.next() {
        match at & 3 {
            0 | 1 if !model.anywhere => model.mislead(&[at ^ 0x80]),
            0 => model.inner.config[usize::from(input.byte()) & 63] = input.word(),
            1 => {
                // One byte of the list of capabilities, near what is right.
                let at = usize::from(input.byte()) & 0x7f;
                let word = &mut model.inner.config[0x34 / 4 + at / 4];
                *word = *word & !(0xff << (8 * (at & 3))) | u32::from(input.byte()) << (8 * (at & 3));
            }
            2 => model.inner.offered ^= 1 << (input.byte() & 63),
            _ => {
                let lies = input.take(usize::from(at >> 2));
                model.mislead(lies);
            }
        }
    }
    let machine = CONFIGURED.with_borrow_mut(|machine| {
        machine.get_or_insert_with(|| Machine::new(BareVirtio::default())).clone()
    });
    *machine.model.borrow_mut() = model;
    // SAFETY: the driver of the last run ended with it.
    unsafe { machine.memory.borrow_mut().recycle() };
    let Ok(mut driver) = VirtioNet::new(FakeHal(machine)) else { return };
    if netdev_driver::Nic::start(&mut driver).is_ok() {
        let _ = netdev_driver::Nic::link_up(&driver);
        assert!(netdev_driver::Nic::rx_room(&driver) >= 16, "fewer descriptors than the driver asks for");
    }
    netdev_driver::Nic::quiesce(&mut driver);
}

/// A clean window, and a device that has been reset.
fn reopen<W: Liar>(rig: &mut Rig<W>) {
    rig.endpoint.close(0);
    rig.machine.model.borrow_mut().repent();
    let _ = rig.endpoint.open(0).expect("a device that tells the truth starts");
    rig.server = Server::new(rig.base, rig.layout);
}

fn device<W: Liar>(rig: &mut Rig<W>, data: &[u8]) {
    let mut input = Input::new(data);
    reopen(rig);
    let mut now_ns = 0;
    while let Some(operation) = input.next() {
        let many = 1 + usize::from(operation >> 4);
        match operation & 15 {
            0..=5 => {
                let memory = rig.machine.memory.borrow();
                let mut model = rig.machine.model.borrow_mut();
                for _ in 0..many {
                    model.write_back(&memory, usize::from(operation & 1), &mut input);
                }
            }
            6 | 7 => obey(rig, |rig| rig.endpoint.interrupt()),
            8 => obey(rig, |rig| rig.endpoint.poll()),
            9 | 10 => {
                for _ in 0..many {
                    let (length, cut) = (14 + usize::from(input.byte()) * 5, usize::from(input.byte()));
                    let cuts = if cut < length { &[cut][..] } else { &[] };
                    let Some(item) = rig.server.frame(&vec![7; length], cuts) else { break };
                    if rig.server.send(item) {
                        obey(rig, |rig| rig.endpoint.start(0));
                    }
                }
            }
            11 => {
                rig.server.receive();
                rig.server.drain_deferred();
            }
            12 => {
                let lies = input.take(many);
                rig.machine.model.borrow_mut().mislead(lies);
            }
            13 => {
                now_ns += STUCK_NS / 2 * many as u64;
                obey(rig, |rig| rig.endpoint.watchdog(now_ns));
            }
            14 => {
                rig.endpoint.close(0);
                if rig.endpoint.open(0).is_err() {
                    // It did not start: it may do so when it tells the truth.
                    reopen(rig);
                }
                rig.server = Server::new(rig.base, rig.layout);
            }
            _ => {
                let _ = rig.endpoint.info();
            }
        }
        rig.counts().assert_settled();
    }
    settle(rig);
    reopen(rig);
    settle(rig);
}

/// The kernel's code. The server is honest, so it loses its window only if the device does not start again.
fn obey<W: Liar>(rig: &mut Rig<W>, code: impl FnOnce(&mut Rig<W>) -> netdev_driver::Outcome) {
    let outcome = code(rig);
    assert_eq!(outcome.misbehaviour, None, "an honest server is accused of what its device did");
}

/// With nothing queued, each buffer is somewhere.
fn settle<W: Liar>(rig: &mut Rig<W>) {
    obey(rig, |rig| rig.endpoint.start(0));
    rig.server.receive();
    let audit = rig.endpoint.audit(0);
    assert!(audit.mbufs_posted <= E1000_RING, "more in the ring than it holds: {audit:?}");
    assert_eq!(audit.mbufs_posted, audit.clusters_posted);
    // A device that sends nothing leaves frames on the OUT queue.
    if queue(rig.base, &rig.layout, Queue::Out).is_empty() {
        rig.server.assert_balanced(audit);
    }
}
