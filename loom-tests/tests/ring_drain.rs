//! Lamport's ring with a driver that drains it: full, and stopped in the middle, nothing is sent twice, stranded, or read after its
//! slot has been filled again.
#![cfg(loom)]

use core::ops::ControlFlow;

use loom::{sync::Arc, thread};
use loom_tests::{Event, Reached, Words, check_within};
use shmqueue::{
    Drained,
    ring::{PushError, Ring, RingConsumer, RingProducer},
};

const ITEMS: u32 = 3;

/// The device's ring takes so many items, and is then full once; the driver goes on by itself, as it does when the device has made
/// room. The task waits where the ring of two is full.
fn drains(preemptions: usize, full_after: Option<u32>, budget: u32) {
    let refused = std::sync::Arc::new(Reached::new());
    let most = std::sync::Arc::clone(&refused);
    check_within(preemptions, move || {
        let m = Arc::new((Ring::<2>::new(), Words::new(), Event::new()));
        let driver = thread::spawn({
            let m = Arc::clone(&m);
            move || {
                let (ring, words, event) = &*m;
                let mut consumer = RingConsumer::new(ring);
                let (mut sent, mut full) = (0, full_after);
                while sent < ITEMS {
                    let drained = consumer.drain(budget, |item| {
                        if full == Some(sent) {
                            full = None;
                            return ControlFlow::Break(());
                        }
                        sent += 1;
                        assert_eq!((item.get(), words.empty(item)), (sent, sent * 7), "twice, or not whole");
                        ControlFlow::Continue(())
                    });
                    if drained == Ok(Drained::Idle) && sent < ITEMS {
                        event.wait();
                    }
                }
            }
        });
        let (ring, words, event) = &*m;
        let mut producer = RingProducer::new(ring);
        let mut times = 0;
        for n in 1..=ITEMS {
            let item = words.fill(n, n * 7);
            loop {
                match producer.push(item) {
                    Ok(()) => break,
                    Err(PushError::Full) => {
                        times += 1;
                        thread::yield_now();
                    }
                    Err(PushError::Peer(misbehaviour)) => panic!("{misbehaviour}"),
                }
            }
            if producer.consumer_idle() {
                event.post();
            }
        }
        most.note(times);
        driver.join().unwrap();
    });
    assert!(refused.most() > 0, "the ring was never full");
}

#[test]
fn a_full_ring_is_drained() {
    drains(2, None, 8);
}

#[test]
#[ignore = "long: cargo xtask loom --long"]
fn a_drain_that_stops_goes_on() {
    drains(2, Some(1), 8);
}

#[test]
#[ignore = "long: cargo xtask loom --long"]
fn a_budget_that_is_spent_strands_nothing() {
    drains(2, None, 1);
}
