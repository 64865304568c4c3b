//! Two servers at one device: what the honest one sends and gets is compared byte for byte, what the driver does is counted.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
};

use abi::window::{Config, QueueKind};
use netdev_driver::Outcome;

use crate::{
    fake::{
        Random, checksum, ipv4_frame,
        rig::Wire,
        several::{ADDRESSES, Several},
    },
    liar::Liar,
};

/// The honest server's window, and the liar's.
pub const HONEST: usize = 0;
pub const LIAR: usize = 1;
/// More accesses to the windows than any call of the driver may make: a budget of 512 frames received and 1024 of each window sent, with what
/// each costs at the worst (17 mbufs of 8 words, and their way back).
pub const WINDOW_BOUND: u64 = 400_000;
/// As many accesses to the device's registers: one for each batch and each turn, and the dozens of a start.
pub const REGISTER_BOUND: u64 = 1000;
/// In each frame of the honest server's, both ways.
const SECRET: [u8; 16] = *b"for one's eyes..";
const SECRET_AT: usize = 40;

/// What a campaign has done.
#[derive(Default)]
pub struct Sum {
    pub operations: u64,
    pub lies: u64,
    pub words: u64,
    pub calls: u64,
    pub forged: u64,
    pub frames: u64,
    pub closed: u64,
    pub most_window: u64,
    pub most_registers: u64,
}

pub struct World<W: Wire> {
    rig: Several<W>,
    random: RefCell<Random>,
    liar: Liar,
    /// Where the kernel has the windows' control parts.
    control: [std::ops::Range<usize>; 2],
    /// What the honest server is to get, and what is to leave for it.
    coming: VecDeque<Vec<u8>>,
    leaving: VecDeque<Vec<u8>>,
    number: u32,
    /// This time the liar behaves, but for what it answers to loads.
    patient: bool,
    now_ns: u64,
    pub sum: Sum,
}

impl<W: Wire> World<W> {
    pub fn new(queue: QueueKind, seed: u64) -> Self {
        let mut rig =
            Several::<W>::new(Config { pools: 2, mbufs_per_pool: 256, clusters_per_pool: 128, queue });
        let _ = (rig.open(HONEST), rig.open(LIAR));
        let control = [HONEST, LIAR].map(|at| {
            let phys = rig.endpoint.window(at).expect("it is there").phys();
            let base = rig.machine.memory.borrow().kernel_address(phys);
            base..base + rig.layout.clusters_at as usize
        });
        // Neither 0 nor the neighbour's numbers: splitmix64's step.
        let mixed = (seed.wrapping_add(1)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let random = RefCell::new(Random((mixed ^ mixed >> 31) | 1));
        let liar = Liar::new(rig.bases[LIAR], rig.layout);
        let (coming, leaving) = (VecDeque::new(), VecDeque::new());
        Self {
            rig,
            random,
            liar,
            control,
            coming,
            leaving,
            number: 0,
            patient: false,
            now_ns: 0,
            sum: Sum::default(),
        }
    }

    fn below(&self, n: u64) -> u64 {
        self.random.borrow_mut().below(n)
    }

    /// Opens the liar's window and lets it live until it is found out, or for so many operations.
    pub fn episode(&mut self, operations: u64) {
        let end = self.sum.operations + operations;
        // Sometimes nearly honest, so that it lives long; sometimes nothing but lies.
        self.liar.lies_in = 1 << self.below(14);
        self.liar.rewrites_in = 1 << (2 + self.below(12));
        self.liar.vandal = false;
        self.patient = self.below(8) == 0;
        let mut found = None;
        while found.is_none() && self.sum.operations < end {
            found = self.step();
        }
        self.sum.closed += u64::from(found.is_some());
        self.reopen();
    }

    fn step(&mut self) -> Option<Outcome> {
        let many = 1 + self.below(8);
        match self.below(16) {
            0..=2 => {
                for _ in 0..many {
                    let frame = self.honest_frame();
                    if self.rig.wire(&frame) {
                        self.coming.push_back(frame);
                    }
                }
                self.calls()
            }
            3 | 4 => {
                for _ in 0..many {
                    let mut frame = ipv4_frame(40 + self.below(1474) as usize, self.number);
                    address(&mut frame, ADDRESSES[LIAR]);
                    self.rig.wire(&frame);
                }
                self.calls()
            }
            5 | 6 => {
                for _ in 0..many {
                    let frame = self.honest_frame();
                    let Some(item) = self.rig.server(HONEST).frame(&frame, &[]) else { break };
                    self.leaving.push_back(frame);
                    if self.rig.server(HONEST).send(item) {
                        let outcome = self.kernel(|rig| rig.endpoint.start(HONEST));
                        if outcome.misbehaviour.is_some() {
                            return self.found(outcome);
                        }
                    }
                }
                None
            }
            7 => {
                let lazy = self.below(2) == 0;
                self.rig.set(false, lazy);
                None
            }
            8 => self.tick(),
            9 => self.behave(),
            10 | 11 => self.start_liar(),
            // A while of good behaviour leads where a vandal does not come.
            12.. if self.patient => self.behave(),
            12 | 13 => {
                self.sum.words += many;
                self.sum.operations += many;
                let mut random = self.random.borrow_mut();
                (0..many).for_each(|_| self.liar.scribble(&mut random));
                None
            }
            _ => {
                self.sum.forged += 1;
                self.sum.operations += 1;
                self.liar.forge(&mut self.random.borrow_mut());
                self.start_liar()
            }
        }
    }

    /// The liar does what an honest server does, as long as its window is in order, and starts the device.
    fn behave(&mut self) -> Option<Outcome> {
        if self.liar.vandal {
            return self.start_liar();
        }
        let many = if self.below(16) == 0 { 100 } else { 1 + self.below(4) };
        for _ in 0..many {
            let number = self.number;
            self.number += 1;
            let frame = ipv4_frame(100 + (number % 1300) as usize, number);
            let cuts = if number.is_multiple_of(3) { &[50][..] } else { &[] };
            let server = self.rig.server(LIAR);
            drop(server.receive());
            server.drain_deferred();
            let Some(item) = server.frame(&frame, cuts) else { break };
            let _ = server.send(item);
            self.sum.operations += 1;
        }
        self.start_liar()
    }

    fn start_liar(&mut self) -> Option<Outcome> {
        self.sum.operations += 1;
        let outcome = self.kernel(|rig| rig.endpoint.start(LIAR));
        self.found(outcome)
    }

    /// The device works, its interrupts are served, and the honest server takes what is its.
    fn calls(&mut self) -> Option<Outcome> {
        self.rig.step();
        // A lock that the liar holds for ever is looked at again at each tick of the clock, of which a few pass here.
        let mut ticks = 8;
        let mut again = false;
        for _ in 0..100 {
            let asserted = self.rig.interrupt();
            if !asserted && (!again || ticks == 0) {
                self.compare();
                return None;
            }
            let outcome =
                self.kernel(|rig| if asserted { rig.endpoint.interrupt() } else { rig.endpoint.poll() });
            again = outcome.again;
            ticks -= u32::from(!asserted);
            if let Some(outcome) = self.found(outcome) {
                return Some(outcome);
            }
        }
        panic!("interrupts do not end");
    }

    /// A while has passed.
    fn tick(&mut self) -> Option<Outcome> {
        self.now_ns += 1_000_000;
        let now_ns = self.now_ns;
        let outcome = self.kernel(|rig| rig.endpoint.watchdog(now_ns));
        self.found(outcome)
    }

    /// The outcome if it tells of a lie; nobody but the liar is accused.
    fn found(&self, outcome: Outcome) -> Option<Outcome> {
        outcome.misbehaviour?;
        assert_eq!(outcome.culprit, LIAR, "an honest server is accused: {outcome:?}");
        Some(outcome)
    }

    /// What has come to the honest server, and what has left, is what was sent: all of it, in order.
    fn compare(&mut self) {
        for (_, _, bytes) in self.rig.server(HONEST).receive() {
            assert_eq!(Some(bytes), self.coming.pop_front(), "a frame to the honest server");
            self.sum.frames += 1;
        }
        self.rig.server(HONEST).drain_deferred();
        for frame in self.rig.sent() {
            if self.leaving.front() == Some(&frame) {
                self.leaving.pop_front();
                self.sum.frames += 1;
            } else {
                assert!(!frame.windows(SECRET.len()).any(|bytes| bytes == SECRET), "the liar sends a secret");
            }
        }
        self.rig.counts().assert_settled();
    }

    /// A frame from or to the honest server, with its secret.
    fn honest_frame(&mut self) -> Vec<u8> {
        self.number += 1;
        let mut frame = ipv4_frame(60 + self.below(1454) as usize, self.number);
        address(&mut frame, ADDRESSES[HONEST]);
        frame[SECRET_AT..SECRET_AT + SECRET.len()].copy_from_slice(&SECRET);
        frame
    }

    /// Closes the liar's window, as the kernel does when its task ends, and opens it for the next.
    fn reopen(&mut self) {
        self.liar.assert_no_secret(SECRET_AT, &SECRET);
        self.rig.close(LIAR);
        // For a while the honest one may be alone.
        for _ in 0..self.below(4) {
            let frame = self.honest_frame();
            if self.rig.wire(&frame) {
                self.coming.push_back(frame);
            }
            assert_eq!(self.calls(), None);
        }
        self.rig.set(false, false);
        assert_eq!(self.calls(), None);
        // What the liar had in the transmit ring has left; no interrupt says so.
        assert_eq!(self.tick(), None);
        assert_eq!(self.calls(), None);
        self.sum.operations += 1;
        assert_eq!(self.rig.open(LIAR).misbehaviour, None);
        assert_eq!(self.calls(), None);
    }

    /// Runs the driver's code, which is lied to about every word of the liar's window, and counted.
    fn kernel(&mut self, code: impl FnOnce(&mut Several<W>) -> Outcome) -> Outcome {
        let registers = *self.rig.machine.accesses.borrow();
        let (count, lies, words) = (Cell::new(0), Cell::new(0), Cell::new(0));
        let outcome = {
            let (liar, random, [honest, lying]) = (&self.liar, &self.random, &self.control);
            let access = |address: usize, store: bool| {
                count.set(count.get() + 1);
                assert!(count.get() <= WINDOW_BOUND, "more than {WINDOW_BOUND} accesses to windows");
                if !lying.contains(&address) {
                    assert!(!store || honest.contains(&address), "a store to {address:#x}");
                    return None;
                }
                let random = &mut *random.borrow_mut();
                if random.below(liar.rewrites_in) == 0 {
                    words.set(words.get() + 1);
                    liar.rewrite(random);
                }
                if store || random.below(liar.lies_in) != 0 {
                    return None;
                }
                lies.set(lies.get() + 1);
                Some(liar.invent(random))
            };
            hooked(&access, || code(&mut self.rig))
        };
        self.liar.vandal |= lies.get() + words.get() != 0;
        let registers = *self.rig.machine.accesses.borrow() - registers;
        assert!(registers <= REGISTER_BOUND, "{registers} accesses to registers in one call");
        let sum = &mut self.sum;
        sum.calls += 1;
        sum.lies += lies.get();
        sum.words += words.get();
        sum.operations += lies.get() + words.get();
        sum.most_window = sum.most_window.max(count.get());
        sum.most_registers = sum.most_registers.max(registers);
        outcome
    }

    /// After all that two honest servers find every buffer, and the honest one has missed nothing.
    pub fn end(&mut self) {
        self.rig.settle();
        self.compare();
        assert_eq!((self.coming.len(), self.leaving.len()), (0, 0), "the honest server has lost frames");
    }
}

/// Changes the receiver's address.
fn address(frame: &mut [u8], to: [u8; 4]) {
    frame[30..34].copy_from_slice(&to);
    frame[24..26].fill(0);
    let sum = checksum(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
}

/// Asks `access` before each access of the driver's to a shared word (its address, whether it is a store): a load gets its answer.
#[cfg(shmqueue_inject)]
fn hooked<R>(access: &dyn Fn(usize, bool) -> Option<u32>, code: impl FnOnce() -> R) -> R {
    use shmqueue::sync::injected::{Access, Action, with_hook};

    let hook = |Access { address, store }: Access| match access(address, store.is_some()) {
        Some(lie) => Action::Answer(lie),
        None => Action::Proceed,
    };
    with_hook(&hook, code)
}

/// Without the hook there is no lie within a call.
#[cfg(not(shmqueue_inject))]
fn hooked<R>(_access: &dyn Fn(usize, bool) -> Option<u32>, code: impl FnOnce() -> R) -> R {
    code()
}
