//! The kernel's end of a window whose other side writes anything anywhere, over a device made of registers.
//!
//! The fakes are those of the driver's own tests: the device fails the run where the driver hands it what is no buffer, twice
//! the same, or what is not in the window; the window lies between pages that nobody may touch. Every received frame has to be
//! in one counter, and when the window has been closed and opened again, an honest server finds every buffer.

use std::cell::RefCell;

use abi::window::{Config, QueueKind};
use netdev_driver::Outcome;
use shmqueue::sync::{AtomicU32, Ordering::Relaxed};

use crate::{
    fake::{
        e1000::E1000Model,
        ipv4_frame,
        rig::{Rig, Wire},
        server::Server,
        virtio::VirtioModel,
    },
    input::Input,
    peer::Peer,
};

const CONFIG: Config =
    Config { pools: 2, mbufs_per_pool: 128, clusters_per_pool: 64, queue: QueueKind::Dual };
/// More accesses to the window than one interrupt can need: a budget of 512 frames each way, at most 17 mbufs in each.
const BOUND: u32 = 1_000_000;

std::thread_local! {
    // The fakes live for ever, so there is one of each, reset for each run.
    static E1000: RefCell<Option<Rig<E1000Model>>> = const { RefCell::new(None) };
    static VIRTIO: RefCell<Option<Rig<VirtioModel>>> = const { RefCell::new(None) };
}

/// The endpoint over an 82540EM.
pub fn endpoint_e1000(data: &[u8]) {
    E1000.with_borrow_mut(|rig| endpoint(rig.get_or_insert_with(|| Rig::new(CONFIG)), data));
}

/// The endpoint over a virtio network device.
pub fn endpoint_virtio(data: &[u8]) {
    VIRTIO.with_borrow_mut(|rig| endpoint(rig.get_or_insert_with(|| Rig::new(CONFIG)), data));
}

struct World<'r, 'd, W: Wire> {
    rig: &'r mut Rig<W>,
    peer: Peer<'d>,
    /// The server has written what it may not: an honest one would find nonsense.
    vandal: bool,
    /// Frames that the wire has brought.
    number: u32,
    now_ns: u64,
}

fn endpoint<W: Wire>(rig: &mut Rig<W>, data: &[u8]) {
    reopen(rig);
    let peer = peer(rig, Input::new(data));
    let mut world = World { rig, peer, vandal: false, number: 0, now_ns: 0 };
    while let Some(operation) = world.peer.input(Input::next) {
        world.step(operation);
    }
    if !world.vandal && world.peer.was_honest() {
        world.rig.settle();
    }
    world.end();
}

/// As the kernel does after a server's death; the next server is honest.
fn reopen<W: Wire>(rig: &mut Rig<W>) {
    rig.endpoint.close(0);
    rig.counts().assert_settled();
    rig.set(false, false);
    let _ = rig.endpoint.open(0).expect("a device that starts");
    rig.server = Server::new(rig.base, rig.layout);
    rig.sent();
}

fn peer<'d, W: Wire>(rig: &Rig<W>, input: Input<'d>) -> Peer<'d> {
    let layout = rig.layout;
    let phys = rig.endpoint.window(0).expect("the first window").phys();
    let base = rig.machine.memory.borrow().kernel_address(phys);
    let mut shapes = vec![0, 1, 2, 60, 1514, 2048, 1 << 31, u32::MAX, layout.bytes, layout.mbufs_at + 48];
    shapes.extend([0, 1, 2, 3, 64, 255].map(|n| layout.mbufs_at + 128 * n));
    shapes.extend([0, 1, 2, 3, 64, 127].map(|n| layout.clusters_at + 2048 * n));
    shapes.extend([1, 2].map(|n| 1 << 31 | (layout.clusters_at + 2048 * n) >> 11));
    Peer::new(input, shapes).may_store(base..base + layout.clusters_at as usize)
}

impl<W: Wire> World<'_, '_, W> {
    fn step(&mut self, operation: u8) {
        let many = 1 + u32::from(operation >> 4);
        match operation & 15 {
            0 | 1 => self.frames_come(many),
            2 => {
                let frame = self.peer.input(|input| input.take(4 * many as usize).to_vec());
                self.rig.wire(&frame);
            }
            3 | 4 => self.interrupt(),
            5 => {
                let outcome = self.kernel(|rig| rig.endpoint.start(0));
                self.obey(outcome);
            }
            6 => self.rig.step(),
            7 => {
                self.now_ns += u64::from(many) * 300_000_000;
                let now_ns = self.now_ns;
                let outcome = self.kernel(|rig| rig.endpoint.watchdog(now_ns));
                self.obey(outcome);
            }
            8 => self.rig.set(many & 1 != 0, many & 2 != 0),
            9 | 10 if !self.vandal && self.peer.was_honest() => self.honest(operation, many),
            9..=11 => self.forge(many),
            _ => {
                let layout = self.rig.layout;
                let area = match many & 3 {
                    0 => 0..layout.pools_at,
                    1 => layout.pools_at..layout.mbufs_at,
                    _ => layout.mbufs_at..layout.clusters_at,
                };
                let at = area.start + 4 * self.peer.below((area.end - area.start) / 4);
                self.peer.write(self.word(at));
                self.vandal = true;
            }
        }
        self.rig.counts().assert_settled();
    }

    /// The kernel's code, whose loads of the window are lied to.
    fn kernel(&mut self, code: impl FnOnce(&mut Rig<W>) -> Outcome) -> Outcome {
        self.peer.run(BOUND, || code(self.rig))
    }

    fn interrupt(&mut self) {
        for _ in 0..8 {
            let asserted = self.rig.interrupt();
            let outcome =
                self.kernel(|rig| if asserted { rig.endpoint.interrupt() } else { rig.endpoint.poll() });
            self.obey(outcome);
            if !outcome.again {
                return;
            }
        }
    }

    /// A server that lies loses its window.
    fn obey(&mut self, outcome: Outcome) {
        if let Some(misbehaviour) = outcome.misbehaviour {
            assert!(self.vandal || !self.peer.was_honest(), "an honest server is accused: {misbehaviour}");
            reopen(self.rig);
        }
    }

    fn frames_come(&mut self, many: u32) {
        for _ in 0..many {
            let len = 38 + self.peer.below(256) as usize * 6;
            self.rig.wire(&ipv4_frame(len.min(1514), self.number));
            self.number += 1;
        }
    }

    fn honest(&mut self, operation: u8, many: u32) {
        if operation & 1 == 0 {
            self.rig.server.receive();
            self.rig.server.drain_deferred();
            return;
        }
        let mut start = false;
        for _ in 0..many {
            let (len, cut) = (14 + self.peer.below(256) as usize * 5, self.peer.below(256) as usize);
            let cuts = if cut < 100 && cut < len { &[cut][..] } else { &[] };
            let Some(item) = self.rig.server.frame(&vec![cut as u8; len], cuts) else { break };
            start |= self.rig.server.send(item);
        }
        if start {
            let outcome = self.kernel(|rig| rig.endpoint.start(0));
            self.obey(outcome);
        }
    }

    /// A frame on the OUT queue that nobody has allocated, of mbufs whose every word the fuzzer chooses.
    fn forge(&mut self, many: u32) {
        self.vandal = true;
        let layout = self.rig.layout;
        let mbuf = |index: u32| layout.mbufs_at + 128 * (index % layout.config.mbufs());
        let first = self.peer.below(layout.config.mbufs());
        for index in first..first + many.min(20) {
            let kind = self.peer.input(Input::byte);
            let cluster = layout.clusters_at + 2048 * self.peer.below(layout.config.clusters());
            let last = index + 1 == first + many.min(20);
            let next = if last { 0 } else { mbuf(index + 1) };
            let own = kind & 1 != 0;
            let start = if own { mbuf(index) + 48 } else { cluster };
            let words = [
                (0, next),
                (8, start.wrapping_add(if kind & 2 != 0 { self.peer.below(256) } else { 0 })),
                (12, if own { 20 + u32::from(kind >> 4) } else { 60 + 8 * u32::from(kind >> 2) }),
                (16, if kind & 4 != 0 { 0x82 } else { 2 }),
                (24, if own { 0 } else { cluster }),
                (28, u32::from(kind >> 3) << 16 | 34),
            ];
            for (at, value) in words {
                self.word(mbuf(index) + at).store(value, Relaxed);
            }
        }
        // As the first of the first sub-queue, or behind whatever is there, wherever the kernel looks.
        let queue = self.rig.layout.queue_at(abi::window::Queue::Out);
        for sub in 0..2 {
            self.word(queue + 256 * sub + 192).store(mbuf(first), Relaxed);
        }
        let outcome = self.kernel(|rig| rig.endpoint.start(0));
        self.obey(outcome);
    }

    /// A word of the window, at the address where the server has it.
    #[expect(unsafe_code, reason = "a hostile server writes anywhere into the window")]
    fn word(&self, at: u32) -> &'static AtomicU32 {
        assert!(at + 4 <= self.rig.layout.bytes && at.is_multiple_of(4));
        // SAFETY: inside the window, which is never unmapped; what is behind the pages of control is atomics.
        unsafe { self.rig.base.add(at as usize).cast().as_ref() }
    }

    /// After all that a new server has every buffer, and frames go both ways.
    fn end(self) {
        let rig = self.rig;
        reopen(rig);
        assert!(rig.wire(&ipv4_frame(60, 1)) && rig.send(&ipv4_frame(60, 2), &[]));
        assert_eq!(rig.interrupts().misbehaviour, None);
        assert_eq!(rig.server.receive().len(), 1);
        rig.settle();
        assert_eq!(rig.sent(), [ipv4_frame(60, 2)]);
    }
}
