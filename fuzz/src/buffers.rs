//! Pools, reference counts and deferred free between a driver and a server whose peers lie.
//!
//! The driver keeps a ledger, as the kernel does, and whatever the words say: what it takes it did not have, and what it gives
//! it had. While all is honest no buffer is lost: at the end all are free again.
#![expect(unsafe_code, reason = "makes views of shared memory")]

use std::collections::BTreeSet;

use mbuf::{
    Audit, Claim, EXTERNAL_PAGE_BYTES, ExternalError, ExternalPage, Flags, Geometry, InterruptSpace, Located,
    Places, ProtocolSpace, View,
};
use shmqueue::{AsymmetricMutex, DualQueue, InConsumer, InProducer, Item};

use crate::{input::Input, memory::Guarded, peer::Peer};

/// Pages of external storage at most.
pub const EXTERNAL_PAGES: usize = 3;

/// A window with nothing but buffers in it, and the deferred-free queue beside it.
pub struct Window {
    pub memory: Guarded,
    queue: Guarded,
    pub geometry: Geometry,
}

impl Window {
    /// With numbers that the fuzzer chooses.
    pub fn new(input: &mut Input<'_>, pools: u32) -> Self {
        let [pools, mbufs, clusters] = [1 + input.below(pools), 1 << input.below(7), 1 << input.below(6)];
        let external = input.below(EXTERNAL_PAGES as u32 + 1) * EXTERNAL_PAGE_BYTES;
        let places =
            Places::packed(64, pools, mbufs, clusters).and_then(|places| places.with_external(external));
        let places = places.expect("few buffers");
        let geometry = Geometry::new(places).expect("packed places are good");
        let memory = Guarded::new(places.window_bytes as usize);
        let window = Self { memory, queue: Guarded::new(DualQueue::BYTES), geometry };
        mbuf::init(&window.view());
        window
    }

    pub fn view(&self) -> View<'_> {
        // SAFETY: as large as the geometry says, and reached by views and raw pointers only.
        unsafe { View::new(self.memory.base(), self.geometry) }
    }

    pub fn deferred(&self) -> &DualQueue {
        // SAFETY: atomics only, and zero bytes are an empty queue.
        unsafe { self.queue.at(0) }
    }

    /// A peer that lies about all but the clusters' bytes, which are no words, and never writes a mutex.
    pub fn peer<'d>(&self, input: Input<'d>) -> Peer<'d> {
        let (places, g) = (self.geometry.places(), &self.geometry);
        let mut shapes = vec![0, 1, 2, 1 << 31, u32::MAX, places.mbufs + 4, places.window_bytes];
        shapes.extend([0, 1, 2, g.mbufs() - 1].map(|n| places.mbufs + 128 * n));
        shapes.extend([0, 1, 2, g.clusters() - 1].map(|n| places.clusters + 2048 * n));
        shapes.extend([places.external, places.external + EXTERNAL_PAGE_BYTES]);
        shapes.extend([1, 2].map(|n| 1 << 31 | (places.clusters + 2048 * n) >> 11));
        let (base, queue) = (self.memory.address(), self.queue.address());
        let mutex = size_of::<AsymmetricMutex>();
        let second = queue + (DualQueue::BYTES - 64) / 2;
        let mut peer = Peer::new(input, shapes)
            .may_store(base + places.space_control as usize..base + places.clusters as usize)
            .may_store(queue..queue + DualQueue::BYTES)
            .honest_about(queue..queue + mutex)
            .honest_about(second..second + mutex);
        for pool in 0..g.pools() {
            let at = base + (places.pool_controls + pool * mbuf::POOL_CONTROL_BYTES) as usize;
            peer = peer.honest_about(at..at + mutex);
        }
        peer
    }

    /// Words of control blocks, counts and headers.
    pub fn scribble(&self, peer: &Peer<'_>) {
        let places = self.geometry.places();
        match peer.below(4) {
            0 => peer.scribble(&self.queue, 0..DualQueue::BYTES),
            1 => peer.scribble(&self.memory, places.space_control as usize..places.mbufs as usize),
            _ => {
                // One of the header's words of some mbuf.
                let index = peer.below(self.geometry.mbufs());
                let at = (places.mbufs + index * mbuf::MBUF_BYTES) as usize;
                peer.scribble(&self.memory, at..at + 48);
            }
        }
    }

    pub fn all(&self) -> Audit {
        Audit { mbufs: self.geometry.mbufs(), clusters: self.geometry.clusters() }
    }

    /// More accesses than any operation on so many chains can need, the longest chain being all mbufs.
    pub fn bound(&self, chains: u32) -> u32 {
        (chains + 2) * (self.geometry.mbufs() + 4) * 40
    }
}

/// What the driver has: the kernel's own truth.
#[derive(Default)]
struct Ledger {
    mbufs: BTreeSet<u32>,
    clusters: BTreeSet<u32>,
    /// Which cluster an mbuf was claimed with.
    pairs: std::collections::BTreeMap<u32, Option<u32>>,
}

impl Ledger {
    fn claim(&mut self, mbuf: u32, cluster: Option<u32>) -> bool {
        if self.mbufs.contains(&mbuf) || cluster.is_some_and(|cluster| self.clusters.contains(&cluster)) {
            return false;
        }
        self.mbufs.insert(mbuf);
        self.clusters.extend(cluster);
        self.pairs.insert(mbuf, cluster);
        true
    }

    fn release(&mut self, mbuf: u32) {
        self.mbufs.remove(&mbuf);
        if let Some(Some(cluster)) = self.pairs.remove(&mbuf) {
            self.clusters.remove(&cluster);
        }
    }
}

impl Claim for Ledger {
    fn take(&mut self, mbuf: Located, cluster: Located) -> bool {
        self.claim(mbuf.item().get(), Some(cluster.item().get()))
    }

    fn give(&mut self, mbuf: Located, cluster: Option<Located>) -> bool {
        let mbuf = mbuf.item().get();
        if self.pairs.get(&mbuf) != Some(&cluster.map(|cluster| cluster.item().get())) {
            return false;
        }
        self.release(mbuf);
        true
    }
}

/// The two sides, and what each has in hand.
struct World<'w, 'd> {
    window: &'w Window,
    peer: Peer<'d>,
    driver: InterruptSpace<'w>,
    to_server: InProducer<'w, View<'w>>,
    ledger: Ledger,
    posted: Vec<Item>,
    server: ProtocolSpace<'w>,
    from_driver: InConsumer<'w, View<'w>>,
    packets: Vec<Item>,
    /// Areas of external storage that are attached and have not come back.
    areas: BTreeSet<u32>,
}

/// The pools.
pub fn pools(data: &[u8]) {
    let mut input = Input::new(data);
    let window = Window::new(&mut input, 4);
    let (view, deferred) = (window.view(), window.deferred());
    let mut pages = [ExternalPage::FREE; EXTERNAL_PAGES];
    let mut world = World {
        window: &window,
        peer: window.peer(input),
        driver: InterruptSpace::new(view),
        to_server: InProducer::new(deferred, view),
        ledger: Ledger::default(),
        posted: Vec::new(),
        server: ProtocolSpace::with_external(view, &mut pages),
        from_driver: InConsumer::new(deferred, view),
        packets: Vec::new(),
        areas: BTreeSet::new(),
    };
    while let Some(operation) = world.peer.input(Input::next) {
        world.step(operation);
    }
    if world.peer.was_honest() {
        world.give_back_all();
    }
}

impl World<'_, '_> {
    fn step(&mut self, operation: u8) {
        let many = 1 + u32::from(operation >> 4);
        match operation & 15 {
            0 | 1 => self.driver_takes(many),
            2 | 3 => self.driver_frees(many as usize),
            4 => self.driver_delivers(many as usize),
            5 => self.server_takes(many, true),
            6 => self.server_takes(many, false),
            7 => self.server_frees(many as usize),
            8 => self.server_splits(),
            9 => self.server_sends(many as usize),
            10 => drop(self.server_drains(many as usize * 4)),
            11 => {
                self.peer.run_waiting(3, || self.server.want());
                let _ = self.peer.run(1, || self.driver.wanted());
                self.peer.run_waiting(3, || self.server.unwant());
            }
            12 => self.audit(),
            13 => {
                self.server_attaches(many);
                self.owner_takes_back();
            }
            _ => self.window.scribble(&self.peer),
        }
    }

    fn driver_takes(&mut self, n: u32) {
        let Self { peer, driver, ledger, posted, window, .. } = self;
        let before = posted.len();
        let bound = window.geometry.pools() * 40 + n * 12;
        let outcome =
            peer.run(bound, || driver.try_alloc_cluster_batch(n, ledger, |mbuf, _| posted.push(mbuf)));
        assert!(posted.len() - before <= n as usize);
        if peer.was_honest() {
            assert_eq!(outcome, Ok((posted.len() - before) as u32));
        }
        let distinct: BTreeSet<_> = posted.iter().collect();
        assert_eq!(distinct.len(), posted.len(), "a buffer was taken twice");
    }

    fn driver_frees(&mut self, n: usize) {
        let Self { peer, driver, ledger, posted, to_server, .. } = self;
        let items: Vec<Item> = posted[..n.min(posted.len())].to_vec();
        let (mut left, bound) = (Vec::new(), 40 * (n as u32 + 1));
        let outcome = peer.run(bound, || driver.try_free(&items, ledger, |item| left.push(item)));
        match outcome {
            Ok(freed) => assert_eq!(freed as usize + left.len(), items.len(), "some are neither"),
            Err(misbehaviour) => assert!(!peer.was_honest(), "{misbehaviour}"),
        }
        left.iter().for_each(|item| ledger.release(item.get()));
        posted.retain(|item| ledger.mbufs.contains(&item.get()));
        let appended = peer.run(40 + 2 * n as u32, || to_server.append_batch(&left));
        assert!(appended.is_ok() || !peer.was_honest());
        let _ = peer.run(1, || driver.wanted());
    }

    fn driver_delivers(&mut self, n: usize) {
        for item in self.posted.drain(..n.min(self.posted.len())) {
            self.ledger.release(item.get());
            let mbuf = self.window.view().mbuf(item).expect("the ledger has located it");
            if let Some(cluster) = mbuf.cluster() {
                mbuf.set_packet(cluster.get(), 100, Flags::PACKET.with(Flags::EXTERNAL));
            }
            self.packets.push(item);
        }
    }

    fn server_takes(&mut self, n: u32, cluster: bool) {
        let Self { peer, server, packets, window, .. } = self;
        let bound = window.geometry.pools() * 40 + n * 12;
        let before = packets.len();
        if cluster {
            peer.run_waiting(bound, || server.alloc_cluster_batch(n, |item| packets.push(item)));
            assert!(packets.len() - before <= n as usize);
        } else {
            packets.extend(peer.run_waiting(bound, || server.alloc()));
        }
        for &item in &packets[before..] {
            window.view().mbuf(item).expect("checked by the geometry").set_len(40);
        }
    }

    fn server_frees(&mut self, n: usize) {
        let items: Vec<Item> = self.packets.drain(..n.min(self.packets.len())).collect();
        let bound = self.window.bound(items.len() as u32);
        self.peer.run_waiting(bound, || self.server.free_batch(&items));
        assert!(!self.peer.was_honest() || self.server.misbehaviour().is_none());
    }

    /// Two packets that refer to one cluster, or a chain of two, of one packet.
    fn server_splits(&mut self) {
        let Self { peer, server, packets, window, .. } = self;
        let Some(&first) = packets.last() else { return };
        let bound = window.bound(2);
        if let Ok(second) = peer.run_waiting(bound, || server.split(first, 20)) {
            if peer.below(2) == 0 && peer.run_waiting(bound, || server.concatenate(first, second)).is_ok() {
                return;
            }
            packets.push(second);
        }
    }

    fn server_attaches(&mut self, many: u32) {
        let start = self.window.geometry.places().external + EXTERNAL_PAGE_BYTES * (many % 4);
        let bytes = 1 + 700 * many;
        let bound = self.window.geometry.pools() * 40;
        match self.peer.run_waiting(bound, || self.server.attach_external(start, bytes)) {
            Ok(item) => {
                assert!(self.areas.insert(start), "one area twice");
                self.packets.push(item);
            }
            Err(ExternalError::InUse) => assert!(!self.areas.is_empty(), "the areas have all come back"),
            Err(ExternalError::NoBuffer | ExternalError::Outside) => {}
        }
    }

    fn owner_takes_back(&mut self) {
        while let Some((start, _)) = self.server.take_unreferenced() {
            assert!(self.areas.remove(&start), "an area came back that was not out");
        }
    }

    /// To the driver, which claims the first mbuf as a real one claims all of the chain.
    fn server_sends(&mut self, n: usize) {
        for item in self.packets.drain(..n.min(self.packets.len())) {
            let view = self.window.view();
            let Some(mbuf) = view.mbuf(item) else { continue };
            let cluster = mbuf.cluster().filter(|&at| self.window.geometry.cluster_index(at).is_some());
            let shared = cluster.is_some_and(|at| self.ledger.clusters.contains(&at.get()));
            let cluster = if shared { None } else { cluster };
            if self.ledger.claim(item.get(), cluster.map(Item::get)) {
                self.posted.push(item);
            } else {
                assert!(!self.peer.was_honest(), "one packet twice");
            }
        }
    }

    fn server_drains(&mut self, limit: usize) -> usize {
        let bound = (limit as u32 + 1) * 40 + self.window.bound(limit as u32);
        let outcome =
            self.peer.run_waiting(bound, || self.server.drain_deferred(&mut self.from_driver, limit));
        assert!(outcome.is_ok() || !self.peer.was_honest());
        outcome.unwrap_or(0)
    }

    /// Ends also where a list does not.
    fn audit(&self) {
        let all = self.window.all();
        let bound = self.window.geometry.pools() * (all.mbufs + 2 * all.clusters + 8) * 2;
        let audit = self.peer.run(bound, || self.window.view().audit());
        if self.peer.was_honest() {
            let audit = audit.expect("honest lists");
            assert!(audit.mbufs <= all.mbufs && audit.clusters <= all.clusters);
        }
    }

    fn give_back_all(&mut self) {
        while !self.posted.is_empty() && self.peer.was_honest() {
            self.driver_frees(16);
        }
        while self.server_drains(64) != 0 {}
        self.server_frees(usize::MAX);
        self.owner_takes_back();
        if self.peer.was_honest() {
            assert_eq!(self.window.view().audit(), Ok(self.window.all()), "a buffer is lost");
            assert_eq!(self.areas, BTreeSet::new(), "an area is lost");
        }
    }
}
