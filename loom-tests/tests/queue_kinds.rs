//! The traits of `shmqueue::queue`, by which a program is written once for both kinds of queue: a driver that drains
//! until it is idle is started again, and a task that gets by [`queue::next`] is woken. Nothing is lost, nothing is
//! read too early.
#![cfg(loom)]

use core::ops::ControlFlow;

use loom::{sync::Arc, thread};
use loom_tests::{Event, Reached, Words, check};
use shmqueue::{
    Drained, DualQueue,
    queue::{self, Drain, InQueue, OutQueue, Produce},
    ring::Ring,
};

const ITEMS: u32 = 2;

/// The task appends, and starts the driver when it is idle; the driver drains and waits to be started.
fn a_driver_is_started_again<Q>(new: fn() -> Q)
where
    Q: for<'w> OutQueue<&'w Words> + 'static,
{
    let started = std::sync::Arc::new(Reached::new());
    let most = std::sync::Arc::clone(&started);
    check(move || {
        let m = Arc::new((new(), Words::new(), Event::new()));
        let driver = thread::spawn({
            let (m, started) = (Arc::clone(&m), most.clone());
            move || {
                let (queue, words, event) = &*m;
                let mut consumer = queue.out_consumer(words);
                let (mut sent, mut waits) = (0, 0);
                loop {
                    let drained = consumer.drain(ITEMS + 1, |item| {
                        sent += 1;
                        assert_eq!((item.get(), words.empty(item)), (sent, sent * 7));
                        ControlFlow::Continue(())
                    });
                    assert_eq!(drained, Ok(Drained::Idle));
                    if sent == ITEMS {
                        break;
                    }
                    waits += 1;
                    event.wait();
                }
                started.note(waits);
            }
        });
        let (queue, words, event) = &*m;
        let mut producer = queue.out_producer(words);
        for n in 1..=ITEMS {
            producer.produce(words.fill(n, n * 7)).unwrap();
            if producer.consumer_idle() {
                event.post();
            }
        }
        driver.join().unwrap();
    });
    assert!(started.most() > 0, "the driver never waited");
}

/// The interrupt side produces; the task gets.
fn a_task_is_woken<Q>(new: fn() -> Q)
where
    Q: for<'w> InQueue<&'w Words> + 'static,
{
    let woken = std::sync::Arc::new(Reached::new());
    let most = std::sync::Arc::clone(&woken);
    check(move || {
        let m = Arc::new((new(), Words::new(), Event::new()));
        let interrupt = thread::spawn({
            let m = Arc::clone(&m);
            move || {
                let (queue, words, event) = &*m;
                let mut producer = queue.in_producer(words);
                for n in 1..=ITEMS {
                    producer.produce(words.fill(n, n * 7)).unwrap();
                    if producer.consumer_idle() {
                        event.post();
                    }
                }
            }
        });
        let (queue, words, event) = &*m;
        let mut consumer = queue.in_consumer(words);
        let mut waits = 0;
        for n in 1..=ITEMS {
            let item = queue::next(&mut consumer, || {
                waits += 1;
                event.wait();
            });
            let item = item.unwrap();
            assert_eq!((item.get(), words.empty(item)), (n, n * 7));
        }
        most.note(waits);
        interrupt.join().unwrap();
    });
    assert!(woken.most() > 0, "the task never waited");
}

#[test]
fn a_driver_is_started_again_dual() {
    a_driver_is_started_again(DualQueue::new);
}

#[test]
fn a_driver_is_started_again_ring() {
    a_driver_is_started_again(Ring::<2>::new);
}

#[test]
fn a_task_is_woken_dual() {
    a_task_is_woken(DualQueue::new);
}

#[test]
fn a_task_is_woken_ring() {
    a_task_is_woken(Ring::<2>::new);
}
