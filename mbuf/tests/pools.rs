//! The free space from outside: geometry, both sides' allocation and freeing, references, `m_want`, audits,
//! and a peer that lies.
#![cfg(not(loom))]

mod common;

use std::collections::HashSet;

use common::Window;
use mbuf::{
    Audit, CLUSTER_BYTES, Claim, Flags, Geometry, GeometryError, INTERNAL_BYTES, InterruptSpace, Located,
    MBUF_BYTES, NoLedger, Places, ProtocolSpace, View,
};
use shmqueue::{DualQueue, InConsumer, InProducer, Item, PeerMisbehaviour, sync::Ordering::Relaxed};

/// Takes `n` buffers for the driver.
fn driver_takes(space: &mut InterruptSpace<'_>, n: u32) -> Vec<Item> {
    let mut got = vec![];
    let count = space.try_alloc_cluster_batch(n, &mut NoLedger, |item, _| got.push(item)).unwrap();
    assert_eq!(count as usize, got.len());
    got
}

#[test]
fn geometry_finds_what_is_there_and_nothing_else() {
    let window = Window::new(4, 8, 4);
    let geometry = window.view().geometry().to_owned();
    let places = *geometry.places();
    assert_eq!((geometry.mbufs(), geometry.clusters()), (32, 16));
    let (mut mbufs, mut clusters) = (0, 0);
    for offset in 1..places.window_bytes + 5000 {
        let item = Item::new(offset).unwrap();
        if let Some(index) = geometry.mbuf_index(item) {
            assert_eq!((index, geometry.mbuf_at(index)), (mbufs, Some(item)));
            assert_eq!(offset, places.mbufs + index * MBUF_BYTES);
            assert_eq!(geometry.mbuf_pool(index), index / 8);
            mbufs += 1;
        }
        if let Some(index) = geometry.cluster_index(item) {
            assert_eq!((index, geometry.cluster_at(index)), (clusters, Some(item)));
            assert_eq!(geometry.cluster_pool(index), index / 4);
            clusters += 1;
        }
    }
    assert_eq!((mbufs, clusters), (32, 16));
    assert_eq!((geometry.mbuf_at(32), geometry.cluster_at(16)), (None, None));
}

#[test]
fn geometry_refuses_what_does_not_fit() {
    let good = Places::packed(64, 2, 8, 4).unwrap();
    assert!(Geometry::new(good).is_ok());
    for (places, error) in [
        (Places { pools: 0, ..good }, GeometryError::Pools),
        (Places { pools: 2000, ..good }, GeometryError::Pools),
        (Places { mbufs_per_pool: 6, ..good }, GeometryError::NotPowerOfTwo),
        (Places { clusters_per_pool: 0, ..good }, GeometryError::NotPowerOfTwo),
        (Places { mbufs: good.mbufs + 64, ..good }, GeometryError::Misaligned),
        (Places { space_control: 0, ..good }, GeometryError::Outside),
        (Places { window_bytes: good.window_bytes - 1, ..good }, GeometryError::Outside),
        (Places { mbufs_per_pool: 1 << 30, ..good }, GeometryError::Outside),
        (Places { window_bytes: u32::MAX, ..good }, GeometryError::Outside),
        (Places { pool_controls: good.space_control, ..good }, GeometryError::Overlap),
        (Places { mbufs: good.clusters, ..good }, GeometryError::Overlap),
    ] {
        assert_eq!(Geometry::new(places), Err(error), "{places:?}");
    }
    assert_eq!(Places::packed(64, 1 << 11, 1 << 24, 1), None);
    assert_eq!(Places::packed(64, 1 << 10, 1 << 20, 1 << 20), None);
}

#[test]
fn the_server_takes_all_and_gives_all_back() {
    let window = Window::new(2, 8, 4);
    let view = window.view();
    let mut space = ProtocolSpace::new(view);
    let packets: Vec<Item> = std::iter::from_fn(|| space.alloc_cluster()).collect();
    assert_eq!(packets.len(), 8);
    let plain: Vec<Item> = std::iter::from_fn(|| space.alloc()).collect();
    assert_eq!(plain.len(), 8);
    assert_eq!(packets.iter().chain(&plain).collect::<HashSet<_>>().len(), 16, "one buffer twice");
    let clusters: HashSet<_> =
        packets.iter().map(|&item| view.mbuf(item).unwrap().cluster().unwrap()).collect();
    assert_eq!(clusters.len(), 8);
    for &item in &packets {
        let mbuf = view.mbuf(item).unwrap();
        assert!(mbuf.flags().has(Flags::EXTERNAL.with(Flags::PACKET)));
        assert_eq!(
            (mbuf.len(), mbuf.packet_len(), mbuf.next(), Some(mbuf.data())),
            (0, 0, None, mbuf.cluster().map(Item::get))
        );
        assert_eq!(view.storage(item), Some((mbuf.data(), CLUSTER_BYTES)));
    }
    for &item in &plain {
        let mbuf = view.mbuf(item).unwrap();
        assert!(!mbuf.flags().has(Flags::EXTERNAL));
        assert_eq!(view.storage(item), Some((item.get() + 48, INTERNAL_BYTES)));
        assert_eq!(view.extent(item), Some((item.get() + 48, 0)));
    }
    assert_eq!(view.audit(), Ok(Audit::default()));
    assert_eq!((space.alloc(), space.alloc_cluster()), (None, None));
    space.free_batch(&packets);
    plain.iter().for_each(|&item| space.free_chain(item));
    window.assert_all_free();
    assert_eq!(space.misbehaviour(), None);
    let stats: Vec<_> = (0..2).map(|pool| view.pool_stats(pool).unwrap()).collect();
    assert_eq!(stats.iter().map(|s| s.protocol_allocated).sum::<u32>(), 16);
    assert_eq!(stats.iter().map(|s| s.protocol_freed).sum::<u32>(), 16);
    assert!(stats.iter().all(|s| s.protocol_empty >= 1));
}

#[test]
fn the_driver_takes_batches_over_pools_and_gives_them_back() {
    let window = Window::new(2, 8, 4);
    let mut driver = InterruptSpace::new(window.view());
    let got = driver_takes(&mut driver, 6);
    assert_eq!(got.len(), 6, "from both pools");
    assert_eq!(driver_takes(&mut driver, 6).len(), 2);
    assert_eq!(driver.stats().short, 1);
    assert_eq!(driver.try_free(&got, &mut NoLedger, |_| panic!("all are simple")), Ok(6));
    assert_eq!(window.view().audit(), Ok(Audit { mbufs: 14, clusters: 6 }));
}

#[test]
fn a_locked_pool_is_passed_over_and_its_buffers_deferred() {
    let window = Window::new(2, 8, 4);
    let view = window.view();
    let mut driver = InterruptSpace::new(view);
    let in_first = driver_takes(&mut driver, 2);
    let preempted = view.pool_control(0).unwrap().mutex().lock_protocol();
    let in_second = driver_takes(&mut driver, 3);
    let pool_of = |item: Item| view.geometry().mbuf_pool(view.geometry().mbuf_index(item).unwrap());
    assert!(
        in_first.iter().all(|&item| pool_of(item) == 0) && in_second.iter().all(|&item| pool_of(item) == 1)
    );
    let mixed = [in_second[0], in_first[0], in_first[1], in_second[1]];
    let mut deferred = vec![];
    assert_eq!(driver.try_free(&mixed, &mut NoLedger, |item| deferred.push(item)), Ok(2));
    assert_eq!(deferred, in_first);
    assert_eq!((driver.stats().deferred, driver.stats().locked_out), (2, 2));
    drop(preempted);
    ProtocolSpace::new(view).free_batch(&deferred);
    ProtocolSpace::new(view).free_chain(in_second[2]);
    window.assert_all_free();
}

#[test]
fn chains_and_shared_clusters_are_too_complex_for_the_driver() {
    let window = Window::new(1, 8, 8);
    let view = window.view();
    let (mut server, mut driver) = (ProtocolSpace::new(view), InterruptSpace::new(view));
    let chain = server.packet_from(&[1; 3000]).unwrap();
    let shared = server.packet_from(&[2; 1000]).unwrap();
    let copy = server.split(shared, 500).unwrap();
    let simple = server.packet_from(&[3; 10]).unwrap();
    let cluster = view.mbuf(shared).unwrap().cluster().unwrap();
    assert_eq!(server.references(cluster), Some(2));

    let queue = DualQueue::new();
    let mut defer = InProducer::new(&queue, view);
    let freed =
        driver.try_free(&[chain, shared, simple], &mut NoLedger, |item| defer.append(item).unwrap()).unwrap();
    assert_eq!(freed, 1);
    assert_eq!(server.references(cluster), Some(2), "untouched by the driver");
    let mut deferred = InConsumer::new(&queue, view);
    assert_eq!(server.drain_deferred(&mut deferred, 1), Ok(1));
    assert_eq!(server.drain_deferred(&mut deferred, 100), Ok(1));
    assert_eq!(server.references(cluster), Some(1));
    // Now it is simple.
    assert_eq!(driver.try_free(&[copy], &mut NoLedger, |_| panic!("alone now")), Ok(1));
    window.assert_all_free();
    assert_eq!(server.misbehaviour(), None);
}

#[test]
fn a_cluster_of_another_pool_is_not_freed_under_the_wrong_lock() {
    let window = Window::new(2, 2, 2);
    let view = window.view();
    let (mut server, mut driver) = (ProtocolSpace::new(view), InterruptSpace::new(view));
    let whole = server.packet_from(&[1; 1000]).unwrap();
    let filler = server.alloc().unwrap();
    let second = server.split(whole, 400).unwrap();
    let pool_of = |item: Item| view.geometry().mbuf_pool(view.geometry().mbuf_index(item).unwrap());
    assert_eq!((pool_of(whole), pool_of(second)), (0, 1));
    server.free_batch(&[whole, filler]);
    let mut deferred = vec![];
    assert_eq!(driver.try_free(&[second], &mut NoLedger, |item| deferred.push(item)), Ok(0));
    assert_eq!(deferred, [second]);
    server.free_batch(&deferred);
    window.assert_all_free();
    assert_eq!(server.misbehaviour(), None);
}

#[test]
fn want_is_set_until_the_last_waiter_is_served() {
    let window = Window::new(1, 2, 2);
    let view = window.view();
    let (mut server, mut driver) = (ProtocolSpace::new(view), InterruptSpace::new(view));
    let queue = DualQueue::new();
    let (mut defer, mut deferred) = (InProducer::new(&queue, view), InConsumer::new(&queue, view));
    let taken = driver_takes(&mut driver, 2);
    assert!(!driver.wanted());
    assert_eq!(server.alloc_cluster_or_want(&mut deferred), Ok(None));
    assert_eq!(server.alloc_cluster_or_want(&mut deferred), Ok(None));
    assert_eq!(server.waiters(), 2);
    assert!(driver.wanted());
    driver.try_free(&taken[..1], &mut NoLedger, |_| panic!("simple")).unwrap();
    server.unwant();
    let first = server.alloc_cluster().expect("one came back");
    assert!(driver.wanted(), "the second waits on");
    server.unwant();
    // What is on the deferred-free queue is found before anyone waits.
    defer.append(taken[1]).unwrap();
    let second = server.alloc_cluster_or_want(&mut deferred).unwrap().expect("drained");
    assert!(!driver.wanted());
    assert_eq!(server.waiters(), 0);
    server.free_batch(&[first, second]);
    window.assert_all_free();
}

#[test]
fn freeing_twice_or_nonsense_is_noted_and_harmless() {
    let window = Window::new(1, 4, 4);
    let view = window.view();
    let mut server = ProtocolSpace::new(view);
    let item = server.alloc_cluster().unwrap();
    server.free_chain(item);
    view.mbuf(item).unwrap().set_next(None);
    let before = view.pool_stats(0).unwrap().clusters_free;
    server.free_chain(item);
    assert!(matches!(server.misbehaviour(), Some(PeerMisbehaviour::Refused(_))));
    assert_eq!(view.pool_stats(0).unwrap().clusters_free, before);

    let mut server = ProtocolSpace::new(view);
    server.free_chain(Item::new(3).unwrap());
    assert_eq!(server.misbehaviour(), Some(PeerMisbehaviour::NotAnItem(3)));
}

/// The ledger of a kernel: which mbufs the driver has.
#[derive(Default)]
struct Ledger(HashSet<Item>);

impl Claim for Ledger {
    fn take(&mut self, mbuf: Located, _: Located) -> bool {
        self.0.insert(mbuf.item())
    }

    fn give(&mut self, mbuf: Located, _: Option<Located>) -> bool {
        self.0.remove(&mbuf.item())
    }
}

#[test]
fn the_ledger_has_the_last_word() {
    let window = Window::new(1, 8, 8);
    let view = window.view();
    let (mut driver, mut ledger) = (InterruptSpace::new(view), Ledger::default());
    let mut got = vec![];
    driver.try_alloc_cluster_batch(2, &mut ledger, |item, _| got.push(item)).unwrap();
    // The peer puts a posted buffer back on the free list.
    let mut liar = ProtocolSpace::new(view);
    liar.free_chain(got[0]);
    let outcome = driver.try_alloc_cluster_batch(2, &mut ledger, |_, _| panic!("posted already"));
    assert_eq!(outcome, Err(PeerMisbehaviour::Refused(got[0].get())));
    // The driver is asked to give what it does not have.
    let lent = ProtocolSpace::new(view).alloc().unwrap();
    let stranger = view.geometry().mbuf_at(7).unwrap();
    assert_ne!(lent, stranger);
    view.mbuf(stranger).unwrap().set_next(None);
    assert_eq!(
        driver.try_free(&[stranger], &mut ledger, |_| panic!("not deferred")),
        Err(PeerMisbehaviour::Refused(stranger.get()))
    );
}

/// Whatever words the peer writes into the window, the driver's side neither faults nor hangs, and its ledger
/// keeps each buffer single.
#[test]
fn random_words_never_hang_or_fault() {
    let mut errors = 0;
    for seed in 1..=if cfg!(miri) { 5 } else { 300u32 } {
        let window = Window::new(2, 8, 4);
        let view = window.view();
        let words = view.geometry().places().clusters as usize / 4;
        let (mut driver, mut ledger) = (InterruptSpace::new(view), Ledger::default());
        let mut mine = vec![];
        let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state
        };
        for _ in 0..if cfg!(miri) { 20 } else { 300 } {
            match random() % 4 {
                // Not the mutexes: a pool that the peer keeps locked is only passed over.
                0 => {
                    let value = match random() % 3 {
                        0 => random(),
                        1 => view.geometry().mbuf_at(random() % 16).unwrap().get(),
                        _ => view.geometry().cluster_at(random() % 8).unwrap().get(),
                    };
                    window.word(16 + random() as usize % (words - 16)).store(value, Relaxed);
                }
                1 | 2 => {
                    let outcome =
                        driver.try_alloc_cluster_batch(random() % 4, &mut ledger, |item, cluster| {
                            assert!(view.geometry().mbuf_index(item).is_some());
                            assert!(view.geometry().cluster_index(cluster).is_some());
                            assert!(!mine.contains(&item), "one buffer twice");
                            mine.push(item);
                        });
                    errors += u32::from(outcome.is_err());
                }
                _ => {
                    let Some(item) = mine.pop() else { continue };
                    let mut back = false;
                    match driver.try_free(&[item], &mut ledger, |_| back = true) {
                        Ok(freed) => assert!(freed == 1 || back),
                        Err(_) => {
                            errors += 1;
                            back = true;
                        }
                    }
                    if back {
                        ledger.0.remove(&item);
                    }
                }
            }
            let _ = driver.wanted();
            let _ = view.audit();
        }
    }
    assert!(cfg!(miri) || errors > 300, "the lies were noticed {errors} times");
}

/// Driver and server on two processors.
#[test]
fn two_threads_lose_no_buffer() {
    let window = Window::new(2, 32, 16);
    let queue = DualQueue::new();
    let rounds = if cfg!(miri) { 50 } else { 20_000 };
    let mut server = ProtocolSpace::new(window.view());
    let mut deferred = InConsumer::new(&queue, window.view());
    std::thread::scope(|scope| {
        let (view, queue): (View<'_>, _) = (window.view(), &queue);
        scope.spawn(move || {
            let (mut driver, mut defer) = (InterruptSpace::new(view), InProducer::new(queue, view));
            for round in 0..rounds {
                let got = driver_takes(&mut driver, 1 + round % 5);
                for &item in &got {
                    view.mbuf(item).unwrap().set_packet(
                        view.mbuf(item).unwrap().data(),
                        round,
                        Flags::PACKET,
                    );
                }
                for &item in &got {
                    assert_eq!(view.mbuf(item).unwrap().len(), round, "two owners");
                }
                driver.try_free(&got, &mut NoLedger, |item| defer.append(item).unwrap()).unwrap();
            }
        });
        for round in 0..rounds {
            let mut got = vec![];
            server.alloc_cluster_batch(1 + round % 7, |item| got.push(item));
            got.extend(server.alloc());
            for &item in &got {
                view.mbuf(item).unwrap().set_len(!round);
            }
            for &item in &got {
                assert_eq!(view.mbuf(item).unwrap().len(), !round, "two owners");
            }
            server.free_batch(&got);
            server.drain_deferred(&mut deferred, 64).unwrap();
        }
    });
    // What the driver deferred last.
    server.drain_deferred(&mut deferred, usize::MAX).unwrap();
    assert_eq!(server.misbehaviour(), None);
    window.assert_all_free();
}
