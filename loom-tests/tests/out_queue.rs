//! The OUT queue: the driver never waits; what it leaves behind for want of a lock is started again.
#![cfg(loom)]

use core::ops::ControlFlow;

use loom::{
    sync::{Arc, Mutex},
    thread,
};
use loom_tests::{Event, Words, check_within};
use shmqueue::{Drained, DualQueue, OutConsumer, OutProducer};

struct Model {
    queue: DualQueue,
    words: Words,
    event: Event,
    sent: Mutex<u32>,
}

/// The device runs on a processor of its own and waits to be started; the server appends and starts it if it
/// is idle. A stranded packet is a deadlock. `full_after`: the device's ring takes so many, then it is full
/// once.
fn carries(preemptions: usize, n: u32, full_after: Option<u32>) {
    check_within(preemptions, move || {
        let m = Arc::new(Model {
            queue: DualQueue::new(),
            words: Words::new(),
            event: Event::new(),
            sent: Mutex::new(0),
        });
        let device = thread::spawn({
            let m = Arc::clone(&m);
            move || {
                let mut consumer = OutConsumer::new(&m.queue, &m.words);
                let mut full = full_after;
                let mut received = 0;
                while received < n {
                    let drained = consumer
                        .drain(8, |item| {
                            if full == Some(received) {
                                full = None;
                                return ControlFlow::Break(());
                            }
                            received += 1;
                            assert_eq!(item.get(), received, "out of order");
                            assert_eq!(m.words.empty(item), received * 11, "not whole");
                            ControlFlow::Continue(())
                        })
                        .unwrap();
                    match drained {
                        Drained::Idle if received < n => drop(m.event.wait()),
                        Drained::Idle | Drained::StoppedByCaller => {}
                        Drained::BudgetSpent => panic!("the list does not end"),
                    }
                }
                *m.sent.lock().unwrap() = received;
            }
        });
        let mut producer = OutProducer::new(&m.queue, &m.words);
        for item in 1..=n {
            producer.append(m.words.fill(item, item * 11)).expect("the protocol side waits, it never fails");
            if producer.consumer_idle() {
                m.event.post();
            }
        }
        device.join().unwrap();
        assert_eq!(*m.sent.lock().unwrap(), n);
    });
}

#[test]
fn one_is_carried() {
    carries(4, 1, None);
}

#[test]
fn two_are_carried() {
    carries(3, 2, None);
}

#[test]
fn three_are_carried() {
    carries(2, 3, None);
}

#[test]
fn a_full_ring_keeps_the_order() {
    carries(2, 2, Some(1));
}
