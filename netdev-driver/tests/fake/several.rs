//! An endpoint with several windows, and a server at each.

use std::{ops::Deref, ptr::NonNull, rc::Rc};

use abi::{
    counters::Counter,
    window::{Config, Layout},
};
use netdev_driver::{Endpoint, Ledger, Outcome, claims::Address, endpoint::PRIVATE_BYTES};

use super::{
    Machine,
    rig::{Counts, Wire},
    server::Server,
};

/// The servers' addresses.
pub const ADDRESSES: [[u8; 4]; 3] = [[10, 9, 0, 2], [10, 9, 0, 3], [10, 9, 0, 4]];

pub struct Several<W: Wire> {
    pub machine: Rc<Machine<W>>,
    pub endpoint: Endpoint<'static, W::Driver>,
    pub servers: [Option<Server>; 3],
    pub bases: [NonNull<u8>; 3],
    pub layout: Layout,
}

impl<W: Wire> Deref for Several<W> {
    type Target = Machine<W>;

    fn deref(&self) -> &Machine<W> {
        &self.machine
    }
}

impl<W: Wire> Several<W> {
    /// Three windows, all closed.
    pub fn new(config: Config) -> Self {
        let machine = Machine::new(W::default());
        let layout = config.layout().unwrap();
        let ledger = || Box::leak(Box::new(Ledger::new()));
        let (window, base) = machine.window(layout);
        let mut endpoint = Endpoint::new(W::driver(machine.clone()), window, config, ledger()).unwrap();
        let mut bases = [base; 3];
        for (at, base) in bases.iter_mut().enumerate().skip(1) {
            let (window, server) = machine.another_window(layout);
            *base = server;
            assert_eq!(endpoint.add_window(window, ledger()), Ok(at));
        }
        endpoint.set_private(&machine.private(PRIVATE_BYTES)).unwrap();
        assert_eq!(endpoint.windows(), 3);
        Self { machine, endpoint, servers: [None, None, None], bases, layout }
    }

    /// Opens a window, whose server claims its address.
    pub fn open(&mut self, at: usize) -> Outcome {
        let outcome = self.endpoint.open(at).unwrap();
        self.servers[at] = Some(Server::new(self.bases[at], self.layout));
        self.endpoint.claim(at, Address::Ipv4(ADDRESSES[at])).unwrap();
        outcome
    }

    pub fn close(&mut self, at: usize) {
        self.endpoint.close(at);
        self.servers[at] = None;
    }

    pub fn server(&mut self, at: usize) -> &mut Server {
        self.servers[at].as_mut().expect("it is open")
    }

    /// Handles interrupts as the kernel does, also what windows have left over.
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
            sum.again = outcome.again && outcome.misbehaviour.is_none();
            if sum.misbehaviour.is_none() {
                (sum.misbehaviour, sum.culprit) = (outcome.misbehaviour, outcome.culprit);
            }
        }
        panic!("interrupts do not end");
    }

    /// Sends; traps if the device is idle for this window. `None`: no buffer.
    pub fn send(&mut self, at: usize, bytes: &[u8]) -> Option<Outcome> {
        let server = self.server(at);
        let item = server.frame(bytes, &[])?;
        Some(if server.send(item) { self.endpoint.start(at) } else { Outcome::default() })
    }

    pub fn count(&self, counter: Counter) -> u64 {
        self.counts().of(counter)
    }

    pub fn counts(&self) -> Counts {
        Counts::new(|counters| self.endpoint.counters(counters))
    }

    /// Lets everything come to rest and asserts that no window has lost anything.
    pub fn settle(&mut self) {
        self.set(false, false);
        for tick in 0..3 {
            self.step();
            let outcome = self.interrupts();
            assert_eq!(outcome.misbehaviour, None);
            let _ = self.endpoint.watchdog(tick);
            self.servers.iter_mut().flatten().for_each(|server| drop(server.receive()));
        }
        for (at, server) in self.servers.iter_mut().enumerate() {
            let audit = self.endpoint.audit(at);
            let Some(server) = server else {
                assert_eq!(audit, abi::device::Audit::default());
                continue;
            };
            assert_eq!((audit.mbufs_transmitting, audit.clusters_transmitting), (0, 0));
            assert_eq!(audit.mbufs_posted, audit.clusters_posted);
            server.assert_balanced(audit);
        }
        self.counts().assert_settled();
    }
}
