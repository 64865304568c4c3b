//! The free space: no buffer has two owners, none is lost, reference counts hold, and who sleeps for want of
//! buffers is woken.
#![cfg(loom)]
#![expect(unsafe_code, reason = "promises of exclusion that loom's cells check")]

use loom::{cell::UnsafeCell, sync::Arc, thread};
use loom_tests::{Event, check, check_within};
use mbuf::{Audit, Flags, Geometry, InterruptSpace, LoomMemory, NoLedger, Places, ProtocolSpace, View};
use shmqueue::{DualQueue, InConsumer, InProducer, Item};

struct Model {
    memory: LoomMemory,
    geometry: Geometry,
    /// One cell for each mbuf and for each cluster: its owner touches it.
    mbufs: Vec<UnsafeCell<u32>>,
    clusters: Vec<UnsafeCell<u32>>,
    deferred: DualQueue,
    event: Event,
}

// SAFETY: loom's cells panic where a buffer has two owners.
unsafe impl Sync for Model {}
// SAFETY: as above.
unsafe impl Send for Model {}

impl Model {
    fn new(pools: u32, mbufs: u32, clusters: u32) -> Arc<Self> {
        let geometry = Geometry::new(Places::packed(64, pools, mbufs, clusters).unwrap()).unwrap();
        let cells = |n| (0..n).map(|_| UnsafeCell::new(0)).collect();
        let model = Arc::new(Self {
            memory: LoomMemory::new(&geometry),
            geometry,
            mbufs: cells(geometry.mbufs()),
            clusters: cells(geometry.clusters()),
            deferred: DualQueue::new(),
            event: Event::new(),
        });
        mbuf::init(&model.view());
        model
    }

    fn view(&self) -> View<'_> {
        View::new(&self.memory, self.geometry)
    }

    /// The owner of the buffer writes it.
    fn own(&self, item: Item) {
        self.mbufs[self.geometry.mbuf_index(item).unwrap() as usize].with_mut(|_| ());
        if let Some(cluster) = self.view().mbuf(item).unwrap().cluster() {
            self.clusters[self.geometry.cluster_index(cluster).unwrap() as usize].with_mut(|_| ());
        }
    }

    fn all_free(&self) {
        let all = Audit { mbufs: self.geometry.mbufs(), clusters: self.geometry.clusters() };
        assert_eq!(self.view().audit(), Ok(all), "a buffer was lost");
        let sums = (0..self.geometry.pools()).map(|pool| self.view().pool_stats(pool).unwrap());
        let (mbufs, clusters) = sums.fold((0, 0), |(m, c), s| (m + s.mbufs_free, c + s.clusters_free));
        assert_eq!((mbufs, clusters), (all.mbufs, all.clusters), "the counts of free buffers");
    }
}

/// The driver: takes one buffer if it can, fills it, gives it back if it can.
fn driver_turn(m: &Model, space: &mut InterruptSpace<'_>) -> Vec<Item> {
    let mut got = Vec::new();
    space.try_alloc_cluster_batch(1, &mut NoLedger, |item, _| got.push(item)).unwrap();
    got.iter().for_each(|&item| m.own(item));
    let mut left = Vec::new();
    space.try_free(&got, &mut NoLedger, |item| left.push(item)).unwrap();
    left
}

fn both_take_and_give(pools: u32, preemptions: usize) {
    check_within(preemptions, move || {
        let m = Model::new(pools, 2 / pools, 2 / pools);
        let driver = thread::spawn({
            let m = Arc::clone(&m);
            move || driver_turn(&m, &mut InterruptSpace::new(m.view()))
        });
        let mut space = ProtocolSpace::new(m.view());
        for _ in 0..2 {
            if let Some(item) = space.alloc_cluster() {
                m.own(item);
                space.free_chain(item);
            }
        }
        let left = driver.join().unwrap();
        space.free_batch(&left);
        assert_eq!(space.misbehaviour(), None);
        m.all_free();
    });
}

#[test]
fn both_sides_share_one_pool() {
    both_take_and_give(1, 3);
}

#[test]
fn both_sides_share_two_pools() {
    both_take_and_give(2, 2);
}

/// Two mbufs refer to one cluster: one is freed by the driver, one by the server. The cluster is freed once,
/// by whoever comes last.
#[test]
fn a_shared_cluster_is_freed_once() {
    check(|| {
        let m = Model::new(1, 2, 2);
        let mut space = ProtocolSpace::new(m.view());
        let [first, second] = [space.alloc_cluster().unwrap(), space.alloc_cluster().unwrap()];
        let cluster = m.view().mbuf(first).unwrap().cluster().unwrap();
        let other = m.view().mbuf(second).unwrap().cluster().unwrap();
        assert!(space.share(cluster));
        let driver = thread::spawn({
            let m = Arc::clone(&m);
            move || {
                let mut left = Vec::new();
                let mut space = InterruptSpace::new(m.view());
                space.try_free(&[first], &mut NoLedger, |item| left.push(item)).unwrap();
                left
            }
        });
        // The server refers to `cluster` once more, as a split would, and drops that reference.
        if space.references(other) == Some(1) {
            space.free_chain(second);
        }
        let left = driver.join().unwrap();
        assert_eq!(left, [first], "shared, so too complex for the driver");
        space.free_batch(&left);
        assert_eq!(space.references(cluster), Some(1));
        assert_eq!(space.misbehaviour(), None);
    });
}

/// Two mbufs refer to one cluster. The server is done with the data and drops its reference; the driver, if it comes after
/// that, frees the cluster and fills it anew.
#[test]
fn the_last_reference_may_be_the_drivers() {
    check(|| {
        let m = Model::new(1, 2, 2);
        let mut space = ProtocolSpace::new(m.view());
        let [first, second] = [space.alloc_cluster().unwrap(), space.alloc_cluster().unwrap()];
        let cluster = m.view().mbuf(first).unwrap().cluster().unwrap();
        assert!(space.share(cluster));
        // Its own cluster is given up for the model.
        m.memory.refer(m.geometry.mbuf_index(second).unwrap(), cluster);
        let driver = thread::spawn({
            let m = Arc::clone(&m);
            move || {
                let (mut left, mut taken) = (Vec::new(), Vec::new());
                let mut space = InterruptSpace::new(m.view());
                let freed = space.try_free(&[first], &mut NoLedger, |item| left.push(item)).unwrap();
                if freed == 1 {
                    space.try_alloc_cluster_batch(1, &mut NoLedger, |item, _| taken.push(item)).unwrap();
                    taken.iter().for_each(|&item| m.own(item));
                }
                left.extend(taken);
                left
            }
        });
        m.own(second);
        space.free_chain(second);
        space.free_batch(&driver.join().unwrap());
        assert_eq!(space.misbehaviour(), None);
        assert_eq!(m.view().audit(), Ok(Audit { mbufs: 2, clusters: 1 }));
    });
}

/// The count goes up and down on one side while the other side frees and takes in the same pool.
#[test]
fn counts_hold_while_the_driver_works() {
    check_within(2, || {
        let m = Model::new(1, 2, 2);
        let mut space = ProtocolSpace::new(m.view());
        let item = space.alloc_cluster().unwrap();
        let cluster = m.view().mbuf(item).unwrap().cluster().unwrap();
        let driver = thread::spawn({
            let m = Arc::clone(&m);
            move || driver_turn(&m, &mut InterruptSpace::new(m.view()))
        });
        assert!(space.share(cluster));
        assert_eq!(space.references(cluster), Some(2));
        let left = driver.join().unwrap();
        space.free_batch(&left);
        space.free_chain(item);
        assert_eq!(space.references(cluster), Some(1));
        assert_eq!(m.view().audit(), Ok(Audit { mbufs: 2, clusters: 1 }));
    });
}

/// All buffers are with the driver. The server wants one and sleeps for it; the driver returns it to the pool
/// or, finding that locked or being told so, to the deferred-free queue, and tests `m_want` afterwards. A
/// lost wake-up is a deadlock.
fn want(preemptions: usize, always_defer: bool) {
    check_within(preemptions, move || {
        let m = Model::new(1, 1, 1);
        let mut taken = Vec::new();
        InterruptSpace::new(m.view())
            .try_alloc_cluster_batch(1, &mut NoLedger, |item, _| taken.push(item))
            .unwrap();
        let driver = thread::spawn({
            let m = Arc::clone(&m);
            move || {
                let mut space = InterruptSpace::new(m.view());
                let mut deferred = InProducer::new(&m.deferred, m.view());
                taken.iter().for_each(|&item| m.own(item));
                if always_defer {
                    taken.iter().for_each(|&item| deferred.append(item).unwrap());
                } else {
                    space.try_free(&taken, &mut NoLedger, |item| deferred.append(item).unwrap()).unwrap();
                }
                if space.wanted() {
                    m.event.post();
                }
            }
        });
        let mut space = ProtocolSpace::new(m.view());
        let mut deferred = InConsumer::new(&m.deferred, m.view());
        let item = loop {
            if let Some(item) = space.alloc_cluster_or_want(&mut deferred).unwrap() {
                break item;
            }
            m.event.wait();
            space.unwant();
        };
        m.own(item);
        driver.join().unwrap();
        assert_eq!(space.waiters(), 0);
        space.free_chain(item);
        m.all_free();
    });
}

#[test]
fn want_is_answered_after_a_free() {
    want(3, false);
}

#[test]
fn want_is_answered_after_a_deferred_free() {
    want(3, true);
}

/// The only packet is with the driver, and the server keeps it: what it waits for is the mark, which the driver makes before it tests
/// `m_want`, as before that it frees.
#[test]
fn a_packet_that_is_kept_comes_back_by_its_mark() {
    check_within(3, || {
        let m = Model::new(1, 1, 1);
        let mut space = ProtocolSpace::new(m.view());
        let item = space.alloc_cluster().unwrap();
        let mbuf = m.view().mbuf(item).unwrap();
        mbuf.set_flags(Flags::PACKET.with(Flags::KEEP));
        m.own(item);
        let driver = thread::spawn({
            let m = Arc::clone(&m);
            move || {
                let space = InterruptSpace::new(m.view());
                m.own(item);
                m.view().mbuf(item).unwrap().mark_sent();
                if space.wanted() {
                    m.event.post();
                }
            }
        });
        while !mbuf.is_sent() {
            space.want();
            if !mbuf.is_sent() && space.alloc_cluster().is_none() {
                m.event.wait();
            }
            space.unwant();
        }
        m.own(item);
        driver.join().unwrap();
        assert_eq!(space.waiters(), 0);
        space.free_chain(item);
        m.all_free();
    });
}
