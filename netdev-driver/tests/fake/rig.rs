//! An endpoint between a model of a device and the protocol side, and the kernel that runs it.

use std::{ops::Deref, ptr::NonNull, rc::Rc};

use abi::{
    counters::{COUNT, Counter},
    window::{Config, Layout, QueueKind},
};
use netdev_driver::{Endpoint, Ledger, Nic, Outcome, e1000::E1000, virtio_net::VirtioNet};

use super::{FakeHal, Machine, Memory, Model, e1000::E1000Model, server::Server, virtio::VirtioModel};

/// What the tests do with either model.
pub trait Wire: Model + Default + 'static {
    type Driver: Nic;
    fn driver(machine: Rc<Machine<Self>>) -> Self::Driver;
    fn receive(&mut self, memory: &Memory, frame: &[u8]) -> bool;
    fn step(&mut self, memory: &Memory);
    fn interrupt(&self) -> bool;
    fn take_sent(&mut self) -> Vec<Vec<u8>>;
    fn set(&mut self, stuck: bool, lazy: bool);
    fn owned(&self, memory: &Memory) -> usize;
    fn doorbells(&self) -> u64;
}

macro_rules! wire {
    ($model:ty, $driver:ident) => {
        impl Wire for $model {
            type Driver = $driver<FakeHal<Self>>;
            fn driver(machine: Rc<Machine<Self>>) -> Self::Driver {
                $driver::new(FakeHal(machine)).unwrap()
            }
            fn receive(&mut self, memory: &Memory, frame: &[u8]) -> bool {
                self.receive(memory, frame)
            }
            fn step(&mut self, memory: &Memory) {
                self.step(memory);
            }
            fn interrupt(&self) -> bool {
                self.interrupt()
            }
            fn take_sent(&mut self) -> Vec<Vec<u8>> {
                self.sent.drain(..).collect()
            }
            fn set(&mut self, stuck: bool, lazy: bool) {
                (self.stuck, self.lazy) = (stuck, lazy);
            }
            fn owned(&self, memory: &Memory) -> usize {
                self.rx_owned(memory)
            }
            fn doorbells(&self) -> u64 {
                self.tail_writes
            }
        }
    };
}
wire!(E1000Model, E1000);
wire!(VirtioModel, VirtioNet);

/// Each test runs for both devices.
#[macro_export]
macro_rules! for_both {
    ($($(#[$meta:meta])* $name:ident;)+) => {$(
        mod $name {
            $(#[$meta])* #[test]
            fn e1000() { super::on::$name::<$crate::fake::e1000::E1000Model>(); }
            $(#[$meta])* #[test]
            fn virtio() { super::on::$name::<$crate::fake::virtio::VirtioModel>(); }
        }
    )+};
}

/// Each test runs for both devices, on windows with both kinds of queue.
#[macro_export]
macro_rules! for_all {
    ($($(#[$meta:meta])* $name:ident;)+) => {$(
        mod $name {
            use abi::window::QueueKind::{Dual, Ring};
            use $crate::fake::{e1000::E1000Model, virtio::VirtioModel};
            $(#[$meta])* #[test]
            fn e1000_dual() { super::on::$name::<E1000Model>(Dual); }
            $(#[$meta])* #[test]
            fn e1000_ring() { super::on::$name::<E1000Model>(Ring); }
            $(#[$meta])* #[test]
            fn virtio_dual() { super::on::$name::<VirtioModel>(Dual); }
            $(#[$meta])* #[test]
            fn virtio_ring() { super::on::$name::<VirtioModel>(Ring); }
        }
    )+};
}

pub const CONFIG: Config = config(QueueKind::Dual);

pub const fn config(queue: QueueKind) -> Config {
    Config { pools: 2, mbufs_per_pool: 512, clusters_per_pool: 256, queue }
}

pub struct Rig<W: Wire> {
    pub machine: Rc<Machine<W>>,
    pub endpoint: Endpoint<'static, W::Driver>,
    pub server: Server,
    pub base: NonNull<u8>,
    pub layout: Layout,
}

impl<W: Wire> Machine<W> {
    /// A frame comes by the wire; whether the device has taken it.
    pub fn wire(&self, frame: &[u8]) -> bool {
        self.model.borrow_mut().receive(&self.memory.borrow(), frame)
    }

    pub fn step(&self) {
        self.model.borrow_mut().step(&self.memory.borrow());
    }

    pub fn set(&self, stuck: bool, lazy: bool) {
        self.model.borrow_mut().set(stuck, lazy);
    }

    pub fn sent(&self) -> Vec<Vec<u8>> {
        self.model.borrow_mut().take_sent()
    }

    /// Buffers that the device may write.
    pub fn owned(&self) -> usize {
        self.model.borrow().owned(&self.memory.borrow())
    }

    pub fn interrupt(&self) -> bool {
        self.model.borrow().interrupt()
    }
}

/// What a driver has counted.
pub struct Counts([u64; COUNT]);

impl Counts {
    pub fn new(read: impl FnOnce(&mut [u64; COUNT])) -> Self {
        let mut counters = [0; COUNT];
        read(&mut counters);
        Self(counters)
    }

    pub fn of(&self, counter: Counter) -> u64 {
        self.0[counter as usize]
    }

    /// Frames in = delivered + dropped by cause, whatever was copied to more than one.
    pub fn assert_settled(&self) {
        let settled: u64 = Counter::SETTLED.iter().map(|&counter| self.of(counter)).sum();
        assert_eq!(self.of(Counter::FramesIn), settled);
    }

    /// All of [`super::bad_frames`] came, and nothing else.
    pub fn assert_bad_frames(&self) {
        assert_eq!(self.of(Counter::DropRunt), 500);
        assert_eq!(self.of(Counter::DropOversized), 500);
        assert_eq!(self.of(Counter::DropBadChecksum), 500);
        assert_eq!(self.of(Counter::DropBadHeader), 2000);
        assert_eq!(self.of(Counter::DeliveredIpv4), 500);
    }
}

impl<W: Wire> Deref for Rig<W> {
    type Target = Machine<W>;

    fn deref(&self) -> &Machine<W> {
        &self.machine
    }
}

impl<W: Wire> Rig<W> {
    pub fn new(config: Config) -> Self {
        Self::with(W::default(), config)
    }

    pub fn with(model: W, config: Config) -> Self {
        let machine = Machine::new(model);
        let layout = config.layout().unwrap();
        let (window, base) = machine.window(layout);
        let ledger = Box::leak(Box::new(Ledger::new()));
        let mut endpoint = Endpoint::new(W::driver(machine.clone()), window, config, ledger).unwrap();
        let _ = endpoint.open(0).unwrap();
        Self { machine, endpoint, server: Server::new(base, layout), base, layout }
    }

    pub fn counts(&self) -> Counts {
        Counts::new(|counters| self.endpoint.counters(counters))
    }

    pub fn count(&self, counter: Counter) -> u64 {
        self.counts().of(counter)
    }

    /// Handles interrupts as the kernel does: only when the device asserts one, or `again` was said.
    pub fn interrupts(&mut self) -> Outcome {
        let mut sum = Outcome::default();
        for _ in 0..100 {
            let outcome = if self.interrupt() {
                self.endpoint.interrupt()
            } else if sum.again {
                self.endpoint.poll()
            } else {
                return sum;
            };
            sum.resume |= outcome.resume;
            sum.again = outcome.again;
            sum.misbehaviour = sum.misbehaviour.or(outcome.misbehaviour);
        }
        panic!("interrupts do not end");
    }

    /// Sends; traps if the device is idle.
    pub fn send(&mut self, bytes: &[u8], cuts: &[usize]) -> bool {
        let Some(item) = self.server.frame(bytes, cuts) else { return false };
        if self.server.send(item) {
            let outcome = self.endpoint.start(0);
            assert_eq!(outcome.misbehaviour, None);
        }
        true
    }

    /// Lets everything come to rest and asserts that nothing is lost.
    pub fn settle(&mut self) {
        self.set(false, false);
        for tick in 0..3 {
            self.step();
            let _ = self.interrupts();
            let _ = self.endpoint.watchdog(tick);
            self.server.receive();
        }
        let audit = self.endpoint.audit(0);
        assert_eq!((audit.mbufs_transmitting, audit.clusters_transmitting), (0, 0));
        assert_eq!(audit.mbufs_posted, audit.clusters_posted);
        self.server.assert_balanced(audit);
        self.counts().assert_settled();
    }
}
