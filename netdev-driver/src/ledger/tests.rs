use super::*;

extern crate std;
use std::{boxed::Box, vec::Vec};

use abi::window::Config;

const LAYOUT: Layout = match (Config { pools: 2, mbufs_per_pool: 32, clusters_per_pool: 16 }).layout() {
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

fn item(offset: u32) -> Item {
    Item::new(offset).unwrap()
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
    assert!(ledger.take(item(mbuf(3)), item(cluster(5))));
    assert_eq!(ledger.audit(), audit(1, 0, 1, 0));
    assert!(!ledger.take(item(mbuf(3)), item(cluster(6))));
    assert!(!ledger.take(item(mbuf(4)), item(cluster(5))));
    assert_eq!(ledger.send(mbuf(4), Some(cluster(5))), Err(PeerMisbehaviour::Refused(cluster(5))));
    assert_eq!(ledger.send(mbuf(3), None), Err(PeerMisbehaviour::Refused(mbuf(3))));
    assert!(!ledger.release(mbuf(3)) && !ledger.give(item(mbuf(3)), Some(item(cluster(5)))));
    assert_eq!(ledger.deliver_not(mbuf(3)), None);
    assert_eq!((ledger.deliver(mbuf(3)), ledger.deliver(mbuf(3))), (Some(cluster(5)), None));
    assert_eq!(ledger.audit(), Audit::default());
    assert_eq!(ledger.deliver_not(mbuf(3)), Some(cluster(5)));
    assert_eq!(ledger.audit(), audit(1, 0, 1, 0));
    assert_eq!((ledger.deliver(mbuf(3)), ledger.deliver(mbuf(3))), (Some(cluster(5)), None));
    assert_eq!(ledger.audit(), Audit::default());
}

#[test]
fn a_frame_is_released_whole() {
    let mut ledger = ledger();
    ledger.send(mbuf(0), Some(cluster(0))).unwrap();
    ledger.send_rest(mbuf(0), mbuf(1), Some(cluster(0))).unwrap();
    ledger.send_rest(mbuf(1), mbuf(63), None).unwrap();
    assert_eq!(ledger.audit(), audit(0, 3, 0, 1));
    for bites in [mbuf(0), mbuf(1), mbuf(63)] {
        assert_eq!(ledger.send_rest(mbuf(63), bites, None), Err(PeerMisbehaviour::Refused(bites)));
    }
    assert!(!ledger.release(mbuf(1)), "not the first");
    assert!(!ledger.give(item(mbuf(0)), Some(item(cluster(0)))), "a chain is not simple");
    assert!(ledger.release(mbuf(0)) && !ledger.release(mbuf(0)));
    assert_eq!(ledger.audit(), Audit::default());
}

#[test]
fn a_shared_cluster_is_counted() {
    let mut ledger = ledger();
    ledger.send(mbuf(0), Some(cluster(1))).unwrap();
    ledger.send(mbuf(1), Some(cluster(1))).unwrap();
    assert!(!ledger.take(item(mbuf(2)), item(cluster(1))));
    assert!(!ledger.give(item(mbuf(0)), Some(item(cluster(1)))), "another frame still sends it");
    assert!(ledger.release(mbuf(0)));
    assert!(!ledger.give(item(mbuf(1)), None), "it had a cluster");
    assert!(!ledger.give(item(mbuf(1)), Some(item(cluster(2)))), "it had another cluster");
    assert!(ledger.give(item(mbuf(1)), Some(item(cluster(1)))));
    assert_eq!(ledger.audit(), Audit::default());
}

#[test]
fn what_is_no_buffer_is_refused() {
    let mut ledger = ledger();
    let wrong =
        [1, 127, mbuf(0) - 128, mbuf(0) + 1, mbuf(64), cluster(0), cluster(32), u32::MAX, u32::MAX - 127];
    for offset in wrong {
        assert_eq!(ledger.send(offset, None), Err(PeerMisbehaviour::NotAnItem(offset)));
        assert_eq!((ledger.deliver(offset), ledger.deliver_not(offset)), (None, None));
        assert!(!ledger.release(offset) && !ledger.give(item(offset), None));
        assert!(!ledger.take(item(offset), item(cluster(0))));
    }
    for offset in [mbuf(0), cluster(0) + 8, cluster(32), u32::MAX] {
        assert_eq!(ledger.send(mbuf(0), Some(offset)), Err(PeerMisbehaviour::NotAnItem(offset)));
        assert!(!ledger.take(item(mbuf(0)), item(offset)));
    }
    assert_eq!(ledger.audit(), Audit::default());
    ledger.close();
    assert!(!ledger.take(item(mbuf(0)), item(cluster(0))), "no window");
}

#[test]
fn recovery_finds_everything() {
    let mut ledger = ledger();
    for n in 0..8 {
        assert!(ledger.take(item(mbuf(2 * n)), item(cluster(n))));
        ledger.send(mbuf(2 * n + 1), Some(cluster(16 + n))).unwrap();
    }
    let mut posted = Vec::new();
    ledger.each_posted(|mbuf, cluster| posted.push((mbuf, cluster)));
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
