//! The ring of items: order, full, empty, wrap-around, a peer that lies, two threads.

use std::{thread, vec::Vec};

use super::{PushError, Relaxed, Ring, RingConsumer, RingProducer};
use crate::{Item, PeerMisbehaviour};

fn item(n: u32) -> Item {
    Item::new(n).unwrap()
}

#[test]
fn keeps_the_order_and_says_full_and_empty() {
    let ring = Ring::<4>::new();
    let (mut producer, mut consumer) = (RingProducer::new(&ring), RingConsumer::new(&ring));
    let mut next = (1, 1);
    for round in 0..20 {
        for _ in 0..(round % 5) {
            match producer.push(item(next.0)) {
                Ok(()) => next.0 += 1,
                Err(error) => assert_eq!((error, next.0 - next.1), (PushError::Full, 4)),
            }
        }
        for _ in 0..(round % 3) {
            match consumer.pop().unwrap() {
                Some(got) => {
                    assert_eq!(got.get(), next.1);
                    next.1 += 1;
                }
                None => assert_eq!(next.0, next.1),
            }
        }
    }
    assert!(next.0 > 12, "went round more than twice");
}

#[test]
fn says_when_the_consumer_is_idle() {
    let ring = Ring::<2>::new();
    let (producer, mut consumer) = (RingProducer::new(&ring), RingConsumer::new(&ring));
    assert!(!producer.consumer_idle());
    consumer.set_idle();
    assert!(producer.consumer_idle());
    consumer.clear_idle();
    assert!(!producer.consumer_idle());
}

#[test]
fn an_index_that_cannot_be_is_the_peers_fault() {
    let ring = Ring::<4>::new();
    let (mut producer, mut consumer) = (RingProducer::new(&ring), RingConsumer::new(&ring));
    ring.tail.0.store(5, Relaxed);
    assert_eq!(consumer.pop(), Err(PeerMisbehaviour::Index(5)));
    ring.tail.0.store(1, Relaxed);
    assert_eq!(consumer.pop(), Err(PeerMisbehaviour::NotAnItem(0)));
    (1..=4).for_each(|n| producer.push(item(n)).unwrap());
    for lie in [5, 0x8000_0000, u32::MAX - 1] {
        ring.head.0.store(lie, Relaxed);
        assert_eq!(producer.push(item(9)), Err(PushError::Peer(PeerMisbehaviour::Index(lie))));
    }
}

/// A batch of any length at any place: its front goes in as far as there is room, and what a liar says of the room is seen.
#[test]
fn a_batch_goes_in_as_far_as_there_is_room() {
    let ring = Ring::<8>::new();
    let (mut producer, mut consumer) = (RingProducer::new(&ring), RingConsumer::new(&ring));
    let (mut pushed, mut popped) = (0, 0);
    for round in 0..500u32 {
        let wanted: Vec<Item> = (1..=round % 11).map(|n| item(pushed + n)).collect();
        let room = 8 - (pushed - popped);
        let expected = match wanted.len().min(room as usize) {
            0 if !wanted.is_empty() => Err(PushError::Full),
            n => Ok(n),
        };
        assert_eq!(producer.push_batch(&wanted), expected);
        pushed += expected.unwrap_or(0) as u32;
        for _ in 0..round % 6 {
            let Some(got) = consumer.pop().unwrap() else { break };
            popped += 1;
            assert_eq!(got.get(), popped);
        }
        assert_eq!(ring.is_empty(), pushed == popped);
        assert_eq!(consumer.waits(), pushed != popped);
    }
    assert!(popped > 500, "went round many times");
    while producer.push(item(1)).is_ok() {}
    for lie in [pushed + 9, u32::MAX] {
        ring.head.0.store(lie, Relaxed);
        assert_eq!(producer.push_batch(&[item(9)]), Err(PushError::Peer(PeerMisbehaviour::Index(lie))));
    }
}

#[test]
fn two_threads_pass_a_long_stream() {
    let ring = Ring::<8>::new();
    const N: u32 = if cfg!(miri) { 300 } else { 200_000 };
    thread::scope(|scope| {
        let shared = &ring;
        scope.spawn(move || {
            let mut producer = RingProducer::new(shared);
            for n in 1..=N {
                while producer.push(item(n)).is_err() {
                    thread::yield_now();
                }
            }
        });
        let mut consumer = RingConsumer::new(&ring);
        let mut expected = 1;
        while expected <= N {
            match consumer.pop().unwrap() {
                Some(got) => {
                    assert_eq!(got.get(), expected);
                    expected += 1;
                }
                None => thread::yield_now(),
            }
        }
    });
}
