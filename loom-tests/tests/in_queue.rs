//! The IN queue: every item arrives, once, in order, whole; no append fails; no wake-up is lost.
#![cfg(loom)]

use loom::{sync::Arc, thread};
use loom_tests::{Event, Reached, Words, check, check_within};
use shmqueue::{DualQueue, InConsumer, InProducer, Stats};

struct Model {
    queue: DualQueue,
    words: Words,
    event: Event,
}

fn model() -> Arc<Model> {
    Arc::new(Model { queue: DualQueue::new(), words: Words::new(), event: Event::new() })
}

/// Appends items 1 ..= n one by one; wait-free, so it never fails and makes at most one failed attempt per
/// append.
fn produce(m: &Model, n: u32, wake: bool) -> Stats {
    let mut producer = InProducer::new(&m.queue, &m.words);
    for item in 1..=n {
        let failures = producer.stats().lock_failures;
        producer.append(m.words.fill(item, item * 11)).expect("the interrupt side never fails");
        assert!(producer.stats().lock_failures <= failures + 1, "more than one failed attempt");
        if wake && producer.consumer_idle() {
            m.event.post();
        }
    }
    *producer.stats()
}

fn accept(m: &Model, item: shmqueue::Item, expected: u32) {
    assert_eq!(item.get(), expected, "out of order");
    assert_eq!(m.words.empty(item), expected * 11, "not whole");
}

/// The consumer polls while the producer appends, then gets the rest.
fn ordered(preemptions: usize, n: u32, polls: u32, switches: &'static Reached) {
    check_within(preemptions, move || {
        let m = model();
        let interrupt = thread::spawn({
            let m = Arc::clone(&m);
            move || produce(&m, n, false)
        });
        let mut consumer = InConsumer::new(&m.queue, &m.words);
        let mut received = 0;
        for _ in 0..polls {
            if let Some(item) = consumer.dequeue().unwrap() {
                received += 1;
                accept(&m, item, received);
            }
        }
        let stats = interrupt.join().unwrap();
        switches.note(stats.switches);
        let rest = consumer
            .flush(9, |item| {
                received += 1;
                accept(&m, item, received);
            })
            .unwrap();
        assert!(rest <= n as usize);
        assert_eq!(received, n, "an item was lost");
        assert_eq!(consumer.dequeue(), Ok(None));
    });
}

#[test]
fn two_in_order() {
    static SWITCHES: Reached = Reached::new();
    ordered(3, 2, 2, &SWITCHES);
    assert!(SWITCHES.most() >= 1, "the producer never left its sub-queue");
}

#[test]
fn three_in_order() {
    static SWITCHES: Reached = Reached::new();
    ordered(3, 3, 3, &SWITCHES);
    assert!(SWITCHES.most() >= 2, "the producer never left its sub-queue");
}

/// Long enough for the producer to leave a sub-queue and come back to it.
#[test]
fn four_in_order() {
    static SWITCHES: Reached = Reached::new();
    ordered(3, 4, 4, &SWITCHES);
    assert!(SWITCHES.most() >= 2, "the producer never left its sub-queue");
}

/// The consumer goes idle by the protocol. A lost wake-up is a deadlock.
fn wakes(preemptions: usize, n: u32) {
    check_within(preemptions, move || {
        let m = model();
        let interrupt = thread::spawn({
            let m = Arc::clone(&m);
            move || produce(&m, n, true)
        });
        let mut consumer = InConsumer::new(&m.queue, &m.words);
        let mut received = 0;
        while received < n {
            let mut next = consumer.dequeue().unwrap();
            if next.is_none() {
                consumer.set_idle();
                next = consumer.dequeue().unwrap();
                if next.is_none() {
                    m.event.wait();
                }
                consumer.clear_idle();
            }
            if let Some(item) = next {
                received += 1;
                accept(&m, item, received);
            }
        }
        interrupt.join().unwrap();
    });
}

#[test]
fn one_wakes() {
    wakes(4, 1);
}

#[test]
fn two_wake() {
    wakes(3, 2);
}

#[test]
fn three_wake() {
    wakes(2, 3);
}

/// One fence and one look at the condition after a burst of two appends to two queues, as the interrupt
/// handler does it; the consumer sets both conditions and fences once.
#[test]
fn one_fence_serves_two_queues() {
    check(|| {
        let m = Arc::new(([DualQueue::new(), DualQueue::new()], Words::new(), Event::new()));
        let interrupt = thread::spawn({
            let m = Arc::clone(&m);
            move || {
                let (queues, words, event) = &*m;
                let mut producers = queues.each_ref().map(|queue| InProducer::new(queue, words));
                for (n, producer) in (1..).zip(&mut producers) {
                    producer.append(words.fill(n, n)).unwrap();
                }
                shmqueue::sync::full_fence();
                if producers.iter().any(InProducer::consumer_idle_fenced) {
                    event.post();
                }
            }
        });
        let (queues, words, event) = &*m;
        let mut consumers = queues.each_ref().map(|queue| InConsumer::new(queue, words));
        let mut received = 0;
        let mut pass = |consumers: &mut [InConsumer<'_, &Words>; 2]| {
            let before = received;
            for consumer in consumers {
                while let Some(item) = consumer.dequeue().unwrap() {
                    words.empty(item);
                    received += 1;
                }
            }
            (received != before, received)
        };
        loop {
            let (worked, received) = pass(&mut consumers);
            if received == 2 {
                break;
            }
            if worked {
                continue;
            }
            consumers.iter_mut().for_each(InConsumer::announce_idle);
            shmqueue::sync::full_fence();
            let (worked, received) = pass(&mut consumers);
            if !worked {
                event.wait();
            }
            consumers.iter_mut().for_each(InConsumer::clear_idle);
            if received == 2 {
                break;
            }
        }
        interrupt.join().unwrap();
    });
}

/// A batch is one chain: all of it arrives, between what was before and what comes after.
#[test]
fn batches_stay_in_order() {
    check(|| {
        let m = model();
        let interrupt = thread::spawn({
            let m = Arc::clone(&m);
            move || {
                let mut producer = InProducer::new(&m.queue, &m.words);
                producer.append_batch(&[m.words.fill(1, 11), m.words.fill(2, 22)]).unwrap();
                producer.append_batch(&[m.words.fill(3, 33), m.words.fill(4, 44)]).unwrap();
            }
        });
        let mut consumer = InConsumer::new(&m.queue, &m.words);
        let mut received = 0;
        let mut get = |consumer: &mut InConsumer<'_, &Words>| {
            while let Some(item) = consumer.dequeue().unwrap() {
                received += 1;
                accept(&m, item, received);
            }
            received
        };
        get(&mut consumer);
        get(&mut consumer);
        interrupt.join().unwrap();
        assert_eq!(get(&mut consumer), 4);
    });
}

/// The checks must find what is wrong: a consumer that does not look again after it has declared itself idle
/// loses a wake-up in some interleaving.
#[test]
fn a_consumer_that_does_not_look_again_is_caught() {
    static LOST: Reached = Reached::new();
    check(|| {
        let m = model();
        let interrupt = thread::spawn({
            let m = Arc::clone(&m);
            move || produce(&m, 1, true)
        });
        let mut consumer = InConsumer::new(&m.queue, &m.words);
        let nothing = consumer.dequeue().unwrap().is_none();
        consumer.set_idle();
        interrupt.join().unwrap();
        // It would wait now, and nothing is pending.
        LOST.note(u32::from(nothing && m.event.pending() == 0));
    });
    assert_eq!(LOST.most(), 1);
}
