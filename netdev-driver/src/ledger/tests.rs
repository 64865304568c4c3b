use super::*;

extern crate std;
use std::{boxed::Box, vec::Vec};

use abi::window::{Config, QueueKind};
use mbuf::Geometry;
use shmqueue::Item;

const LAYOUT: Layout =
    match (Config { pools: 2, mbufs_per_pool: 32, clusters_per_pool: 16, queue: QueueKind::Dual }).layout() {
        Ok(layout) => layout,
        Err(_) => panic!(),
    };

fn ledger() -> Box<Ledger> {
    let mut ledger = Box::new(Ledger::new());
    ledger.open(&LAYOUT);
    ledger
}

fn mbuf(n: u32) -> u32 {
    LAYOUT.mbufs_at + 128 * n
}

fn cluster(n: u32) -> u32 {
    LAYOUT.clusters_at + 2048 * n
}

/// The geometry of the same window: what it finds, the ledger is asked about.
fn geometry() -> Geometry {
    crate::geometry(&LAYOUT).unwrap()
}

fn m(n: u32) -> Located {
    geometry().locate_mbuf(Item::new(mbuf(n)).unwrap()).unwrap()
}

fn c(n: u32) -> Located {
    geometry().locate_cluster(Item::new(cluster(n)).unwrap()).unwrap()
}

fn audit(
    mbufs_posted: u32,
    mbufs_transmitting: u32,
    clusters_posted: u32,
    clusters_transmitting: u32,
) -> Audit {
    Audit { mbufs_posted, mbufs_transmitting, clusters_posted, clusters_transmitting }
}

#[test]
fn a_pair_goes_into_the_receive_ring_once_and_comes_out_once() {
    let mut ledger = ledger();
    assert!(ledger.take(m(3), c(5)));
    assert_eq!(ledger.audit(), audit(1, 0, 1, 0));
    assert!(!ledger.take(m(3), c(6)));
    assert!(!ledger.take(m(4), c(5)));
    assert_eq!(ledger.send(m(4), Some(c(5)), Flags::NONE), Err(PeerMisbehaviour::Refused(cluster(5))));
    assert_eq!(ledger.send(m(3), None, Flags::NONE), Err(PeerMisbehaviour::Refused(mbuf(3))));
    assert!(!ledger.release(mbuf(3)) && !ledger.give(m(3), Some(c(5))));
    assert_eq!(ledger.deliver_not(mbuf(3)), None);
    assert_eq!((ledger.deliver(m(3)), ledger.deliver(m(3))), (Some(5), None));
    assert_eq!(ledger.audit(), Audit::default());
    assert_eq!(ledger.deliver_not(mbuf(3)), Some(cluster(5)));
    assert_eq!(ledger.audit(), audit(1, 0, 1, 0));
    assert_eq!((ledger.deliver(m(3)), ledger.deliver(m(3))), (Some(5), None));
    assert_eq!(ledger.audit(), Audit::default());
}

#[test]
fn a_frame_is_released_whole() {
    let mut ledger = ledger();
    ledger.send(m(0), Some(c(0)), Flags::NONE).unwrap();
    ledger.send_rest(m(0), m(1), Some(c(0))).unwrap();
    ledger.send_rest(m(1), m(63), None).unwrap();
    assert_eq!(ledger.audit(), audit(0, 3, 0, 1));
    for bites in [0, 1, 63] {
        assert_eq!(ledger.send_rest(m(63), m(bites), None), Err(PeerMisbehaviour::Refused(mbuf(bites))));
    }
    assert!(!ledger.release(mbuf(1)), "not the first");
    assert!(!ledger.give(m(0), Some(c(0))), "a chain is not simple");
    assert!(ledger.release(mbuf(0)) && !ledger.release(mbuf(0)));
    assert_eq!(ledger.audit(), Audit::default());
}

#[test]
fn a_shared_cluster_is_counted() {
    let mut ledger = ledger();
    ledger.send(m(0), Some(c(1)), Flags::NONE).unwrap();
    ledger.send(m(1), Some(c(1)), Flags::NONE).unwrap();
    assert!(!ledger.take(m(2), c(1)));
    assert!(!ledger.give(m(0), Some(c(1))), "another frame still sends it");
    assert!(ledger.release(mbuf(0)));
    assert!(!ledger.give(m(1), None), "it had a cluster");
    assert!(!ledger.give(m(1), Some(c(2))), "it had another cluster");
    assert!(ledger.give(m(1), Some(c(1))));
    assert_eq!(ledger.audit(), Audit::default());
}

#[test]
fn what_the_server_keeps_is_released_and_not_given() {
    let mut ledger = ledger();
    let keep = Flags::PACKET.with(Flags::KEEP);
    ledger.send(m(0), Some(c(0)), keep).unwrap();
    ledger.send(m(1), None, keep).unwrap();
    ledger.send(m(2), Some(c(2)), keep).unwrap();
    ledger.send_rest(m(2), m(63), Some(c(0))).unwrap();
    ledger.send(m(4), Some(c(4)), Flags::PACKET).unwrap();
    assert_eq!(ledger.audit(), audit(0, 5, 0, 3));
    assert!(!ledger.give(m(0), Some(c(0))) && !ledger.give(m(1), None), "no pool gets them");
    assert!(ledger.send(m(0), Some(c(0)), keep).is_err() && !ledger.take(m(1), c(1)));
    for other in [m(4), m(63), m(5)] {
        assert!(!ledger.release_kept(other), "not one of them");
    }
    for kept in [0, 1, 2] {
        assert!(ledger.release_kept(m(kept)) && !ledger.release_kept(m(kept)));
    }
    assert_eq!(ledger.audit(), audit(0, 1, 0, 1));
    assert!(ledger.give(m(4), Some(c(4))));
    ledger.send(m(0), Some(c(0)), keep).unwrap();
    ledger.close();
    assert!(!ledger.release_kept(m(0)));
}

#[test]
fn what_is_no_buffer_is_refused() {
    let mut ledger = ledger();
    let wrong =
        [1, 127, mbuf(0) - 128, mbuf(0) + 1, mbuf(64), cluster(0), cluster(32), u32::MAX, u32::MAX - 127];
    for offset in wrong {
        assert_eq!(geometry().locate_mbuf(Item::new(offset).unwrap()), None);
        assert_eq!(ledger.deliver_not(offset), None);
        assert!(!ledger.release(offset));
    }
    for offset in [mbuf(0), cluster(0) + 8, cluster(32), u32::MAX] {
        assert_eq!(geometry().locate_cluster(Item::new(offset).unwrap()), None);
    }
    assert_eq!(ledger.audit(), Audit::default());
}

#[test]
fn without_a_window_and_outside_of_it_everything_is_refused() {
    let mut ledger = ledger();
    let larger = Config { pools: 4, mbufs_per_pool: 32, clusters_per_pool: 16, queue: QueueKind::Dual }
        .layout()
        .unwrap();
    let larger = crate::geometry(&larger).unwrap();
    let outside = [larger.mbuf_at(64).unwrap(), larger.mbuf_at(127).unwrap()];
    let far = larger.locate_cluster(larger.cluster_at(32).unwrap()).unwrap();
    let refuses = |ledger: &mut Ledger, mbuf: Located, cluster: Located| {
        !ledger.take(mbuf, cluster)
            && ledger.send(mbuf, Some(cluster), Flags::NONE).is_err()
            && !ledger.give(mbuf, Some(cluster))
            && ledger.deliver(mbuf).is_none()
    };
    for item in outside {
        let mbuf = larger.locate_mbuf(item).unwrap();
        assert!(refuses(&mut ledger, mbuf, c(0)) && ledger.send(mbuf, None, Flags::NONE).is_err());
    }
    assert!(refuses(&mut ledger, m(0), far));
    ledger.close();
    assert!(refuses(&mut ledger, m(0), c(0)) && ledger.send(m(0), None, Flags::NONE).is_err());
    assert_eq!(ledger.audit(), Audit::default());
    ledger.open(&LAYOUT);
    assert!(ledger.take(m(0), c(0)));
}

#[test]
fn recovery_finds_everything() {
    let mut ledger = ledger();
    for n in 0..8 {
        assert!(ledger.take(m(2 * n), c(n)));
        ledger.send(m(2 * n + 1), Some(c(16 + n)), Flags::NONE).unwrap();
    }
    let mut posted = Vec::new();
    let mut from = 0;
    while let Some(mbuf) = ledger.next_posted(from) {
        let located = geometry().locate_mbuf(Item::new(mbuf).unwrap()).unwrap();
        posted.push((mbuf, ledger.posted_cluster(located).unwrap()));
        from = mbuf + 1;
    }
    assert_eq!(posted, (0..8).map(|n| (mbuf(2 * n), cluster(n))).collect::<Vec<_>>());
    let (mut from, mut sending) = (0, Vec::new());
    while let Some(token) = ledger.next_sending(from) {
        from = token;
        sending.push(token);
        assert!(ledger.release(token));
    }
    assert_eq!(sending, (0..8).map(|n| mbuf(2 * n + 1)).collect::<Vec<_>>());
    assert_eq!(ledger.audit(), audit(8, 0, 8, 0));
}
