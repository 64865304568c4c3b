//! One processor: the interrupt side runs, as a whole, before every access of the task side to a shared word, and at all
//! pairs and triples of such places. Its own accesses are counted: their numbers are constants, so it is wait-free.
#![cfg(all(shmqueue_inject, not(loom)))]

mod hook;

use std::cell::{Cell, RefCell};
use std::ops::ControlFlow;

use hook::{Run, Words, explore};
use shmqueue::{
    AsymmetricMutex, Drained, DualQueue, InConsumer, InProducer, OutConsumer, OutProducer, Poster, WaitWord,
    ring::{PushError, Ring, RingConsumer, RingProducer},
    sync::{AtomicU32, Ordering::Relaxed},
};

/// Notes the least and the most that was counted.
struct Range(Cell<(u32, u32)>);

impl Range {
    const fn new() -> Self {
        Self(Cell::new((u32::MAX, 0)))
    }

    fn note(&self, n: u32) {
        let (least, most) = self.0.get();
        self.0.set((least.min(n), most.max(n)));
    }
}

#[test]
fn the_mutex_excludes_and_its_attempts_are_of_fixed_length() {
    let (success, failure) = (Range::new(), Range::new());
    let runs = explore(3, |run| {
        let (mutex, inside) = (AsymmetricMutex::new(), Cell::new(false));
        let interrupt = |run: &Run| {
            let (guard, accesses) = run.count(|| mutex.try_lock_interrupt());
            assert!(guard.is_none() || !inside.get(), "both inside");
            if guard.is_some() { &success } else { &failure }.note(accesses);
        };
        run.go(&interrupt, || {
            for round in 0..4 {
                let guard = if round % 2 == 0 {
                    mutex.lock_protocol()
                } else {
                    mutex.try_lock_protocol().expect("no interrupt is in the middle when the task runs")
                };
                inside.set(true);
                AtomicU32::new(0).store(1, Relaxed); // a place for an interrupt
                inside.set(false);
                drop(guard);
            }
        });
        assert!(mutex.try_lock_interrupt().is_some(), "a flag was left set");
    });
    // Flag, turn, the other's flag. Where that is set, turn, which on one processor is always the other's then; and the
    // own flag back to 0.
    assert_eq!((success.0.get(), failure.0.get()), ((3, 3), (5, 5)));
    assert!(runs > 1000);
}

/// An IN queue: every append succeeds, all comes in order, no wake-up is lost. `batch` items per interrupt.
fn input(batch: u32, most: usize, expected: (u32, u32)) {
    let (appends, switched) = (Range::new(), Cell::new(0));
    let runs = explore(most, |run| {
        let (queue, words) = (DualQueue::new(), Words::new(20));
        let producer = RefCell::new(InProducer::new(&queue, &words));
        let (appended, pending) = (Cell::new(0), Cell::new(0u32));
        let interrupt = |run: &Run| {
            let mut producer = producer.borrow_mut();
            let failures = producer.stats().lock_failures;
            let items: Vec<_> = (1..=batch).map(|n| words.fill(appended.get() + n)).collect();
            let (outcome, accesses) = run.count(|| match &items[..] {
                [item] => producer.append(*item),
                items => producer.append_batch(items),
            });
            outcome.expect("the interrupt side never fails");
            appends.note(accesses);
            assert!(producer.stats().lock_failures <= failures + 1, "more than one failed attempt");
            appended.set(appended.get() + batch);
            let (idle, accesses) = run.count(|| producer.consumer_idle());
            assert_eq!(accesses, 1);
            pending.set(pending.get() + u32::from(idle));
        };
        let mut consumer = InConsumer::new(&queue, &words);
        let received = Cell::new(0);
        let accept = |item| {
            received.set(received.get() + 1);
            assert_eq!(words.empty(item), received.get(), "out of order");
        };
        run.go(&interrupt, || {
            for _ in 0..5 {
                if let Some(item) = consumer.dequeue().unwrap() {
                    accept(item);
                    continue;
                }
                consumer.set_idle();
                let next = consumer.dequeue().unwrap();
                if next.is_none() && pending.get() == 0 {
                    assert_eq!(received.get(), appended.get(), "it waits, and nobody will wake it");
                }
                // Woken, or not gone to sleep: `thread_suspend` takes the whole count.
                if next.is_none() {
                    pending.set(0);
                }
                consumer.clear_idle();
                next.into_iter().for_each(accept);
            }
        });
        consumer.flush(100, accept).unwrap();
        assert_eq!(received.get(), appended.get(), "an item was lost");
        let stats = *producer.borrow().stats();
        assert_eq!((stats.impossible, stats.switches), (0, consumer.stats().switches));
        switched.set(switched.get().max(stats.switches));
    });
    assert_eq!(appends.0.get(), expected);
    // The first item is there before the consumer can be in its critical section.
    assert_eq!(switched.get() as usize, most - 1);
    assert!(runs > 1000, "{runs} runs");
}

/// The end of the chain; lock, head, head or link, unlock. After a failed attempt (5) all of it once more, and Enabled.
#[test]
fn an_append_takes_7_to_13_accesses() {
    input(1, 3, (7, 13));
}

#[test]
fn a_batch_takes_one_access_more_for_each_item_more() {
    input(3, 3, (9, 15));
}

/// A flush takes what there is at its end, and keeps nobody out meanwhile.
#[test]
fn a_flush_takes_all_and_locks_one_sub_queue_at_a_time() {
    explore(3, |run| {
        let (queue, words) = (DualQueue::new(), Words::new(8));
        let producer = RefCell::new(InProducer::new(&queue, &words));
        let appended = Cell::new(0);
        let interrupt = |_: &Run| {
            appended.set(appended.get() + 1);
            producer.borrow_mut().append(words.fill(appended.get())).expect("the interrupt side never fails");
        };
        interrupt(run);
        let mut consumer = InConsumer::new(&queue, &words);
        let mut received = 0;
        let mut discard = |item| {
            received += 1;
            assert_eq!(words.empty(item), received, "out of order");
        };
        run.go(&interrupt, || {
            consumer.flush(100, &mut discard).unwrap();
        });
        consumer.flush(100, &mut discard).unwrap();
        assert_eq!(received, appended.get(), "an item was lost");
    });
}

/// An OUT queue: the driver drains in traps of the server and in interrupts at any place; nothing is stranded.
#[test]
fn the_driver_sends_all_in_order_and_is_bounded() {
    let (empty, most_per_item, busy) = (Range::new(), Cell::new(0), Cell::new(0));
    let runs = explore(3, |run| {
        let (queue, words) = (DualQueue::new(), Words::new(20));
        let consumer = RefCell::new(OutConsumer::new(&queue, &words));
        consumer.borrow_mut().start_idle();
        let sent = Cell::new(0);
        let drain = |run: &Run| {
            let mut consumer = consumer.borrow_mut();
            let before = sent.get();
            let (drained, accesses) = run.count(|| {
                consumer.drain(8, |item| {
                    sent.set(sent.get() + 1);
                    assert_eq!(words.empty(item), sent.get(), "out of order");
                    ControlFlow::Continue(())
                })
            });
            assert_eq!(drained, Ok(Drained::Idle));
            match sent.get() - before {
                0 => empty.note(accesses),
                items => most_per_item.set(most_per_item.get().max(accesses.div_ceil(items))),
            }
            busy.set(busy.get().max(consumer.stats().lock_failures));
        };
        let mut producer = OutProducer::new(&queue, &words);
        run.go(&drain, || {
            for n in 1..=4 {
                producer.append(words.fill(n)).expect("the protocol side never fails");
                if producer.consumer_idle() {
                    run.trap(|| drain(run));
                }
            }
        });
        assert_eq!(sent.get(), 4, "a packet was stranded");
        assert_eq!(
            producer.stats().lock_failures,
            0,
            "the driver is never in the middle when the server runs"
        );
    });
    // Condition, head, Enabled; condition, head, Enabled once more. Each busy attempt adds 5, less the look at Enabled.
    assert_eq!(empty.0.get(), (6, 14));
    assert!(most_per_item.get() <= 6 + 8 + 5 + 1, "{} accesses per item", most_per_item.get());
    assert!(busy.get() >= 2 && runs > 1000);
}

/// The ring with the interrupt handler as its producer, and with the idle protocol. `batch` items per interrupt, of which the ring takes
/// what it has room for.
fn ring_input<const N: usize>(batch: u32, expected: (u32, u32)) {
    let pushes = Range::new();
    explore(3, |run| {
        let (ring, words) = (Ring::<N>::new(), Words::new(16));
        let producer = RefCell::new(RingProducer::new(&ring));
        let (pushed, pending) = (Cell::new(0), Cell::new(0u32));
        let interrupt = |run: &Run| {
            let mut producer = producer.borrow_mut();
            let items: Vec<_> = (1..=batch).map(|n| words.fill(pushed.get() + n)).collect();
            let (outcome, accesses) = run.count(|| match &items[..] {
                [item] => producer.push(*item).map(|()| 1),
                items => producer.push_batch(items),
            });
            pushes.note(accesses);
            let count = match outcome {
                Ok(count) => count,
                Err(PushError::Full) => 0,
                Err(PushError::Peer(misbehaviour)) => panic!("{misbehaviour}"),
            };
            pushed.set(pushed.get() + count as u32);
            for &item in &items[count..] {
                words.empty(item);
            }
            pending.set(pending.get() + u32::from(producer.consumer_idle()));
        };
        let mut consumer = RingConsumer::new(&ring);
        let received = Cell::new(0);
        let accept = |item| {
            received.set(received.get() + 1);
            assert_eq!(words.empty(item), received.get());
        };
        run.go(&interrupt, || {
            for _ in 0..4 {
                let mut next = consumer.pop().unwrap();
                if next.is_none() {
                    consumer.set_idle();
                    next = consumer.pop().unwrap();
                    if next.is_none() {
                        assert!(pending.get() > 0 || received.get() == pushed.get(), "a wake-up was lost");
                        pending.set(0);
                    }
                    consumer.clear_idle();
                }
                next.into_iter().for_each(accept);
            }
        });
        while let Some(item) = consumer.pop().unwrap() {
            accept(item);
        }
        assert_eq!(received.get(), pushed.get(), "an item was lost");
    });
    assert_eq!(pushes.0.get(), expected);
}

/// Full: head alone. Else slot and tail, and head where the ring was full when it was last seen.
#[test]
fn the_ring_loses_nothing_to_an_interrupt_that_pushes() {
    ring_input::<2>(1, (1, 3));
}

/// Full: head alone. Else the slots and tail, once for all, and head where there was not room for all when last seen.
#[test]
fn the_ring_loses_nothing_to_an_interrupt_that_pushes_batches() {
    ring_input::<4>(3, (1, 5));
}

/// The ring with the interrupt handler as its consumer.
#[test]
fn the_ring_loses_nothing_to_an_interrupt_that_pops() {
    let pops = Range::new();
    explore(3, |run| {
        let (ring, words) = (Ring::<2>::new(), Words::new(8));
        let consumer = RefCell::new(RingConsumer::new(&ring));
        let received = Cell::new(0);
        let interrupt = |run: &Run| {
            let (item, accesses) = run.count(|| consumer.borrow_mut().pop().unwrap());
            pops.note(accesses);
            if let Some(item) = item {
                received.set(received.get() + 1);
                assert_eq!(words.empty(item), received.get());
            }
        };
        let mut producer = RingProducer::new(&ring);
        let mut pushed = 0;
        run.go(&interrupt, || {
            for _ in 0..6 {
                let item = words.fill(pushed + 1);
                match producer.push(item) {
                    Ok(()) => pushed += 1,
                    Err(PushError::Full) => drop(words.empty(item)),
                    Err(PushError::Peer(misbehaviour)) => panic!("{misbehaviour}"),
                }
            }
        });
        while let Some(item) = consumer.borrow_mut().pop().unwrap() {
            received.set(received.get() + 1);
            assert_eq!(words.empty(item), received.get());
        }
        assert_eq!(received.get(), pushed);
    });
    // Empty: tail alone. Else slot and head, and tail where it was not known that there is more.
    assert_eq!(pops.0.get(), (1, 3));
}

/// The word that counts waits: one post per wait at most, none is lost.
#[test]
fn a_wait_is_ended_by_an_interrupt_at_any_place() {
    let looks = Range::new();
    explore(3, |run| {
        let (word, work) = (WaitWord::new(), AtomicU32::new(0));
        let poster = RefCell::new(Poster::new());
        let (brought, posts, pending) = (Cell::new(0), Cell::new(0u32), Cell::new(0u32));
        let interrupt = |run: &Run| {
            brought.set(brought.get() + 1);
            work.store(brought.get(), Relaxed);
            let (post, accesses) = run.count(|| poster.borrow_mut().should_post(&word));
            looks.note(accesses);
            posts.set(posts.get() + u32::from(post));
            pending.set(pending.get() + u32::from(post));
        };
        let mut waits = 0;
        run.go(&interrupt, || {
            let mut seen = 0;
            for _ in 0..4 {
                let mut now = work.load(Relaxed);
                if now == seen {
                    word.prepare();
                    waits += 1;
                    now = work.load(Relaxed);
                    if now == seen {
                        assert!(pending.get() > 0 || brought.get() == seen, "a wake-up was lost");
                        pending.set(0);
                    }
                    word.finish();
                }
                seen = now;
            }
        });
        assert!(posts.get() <= waits, "more posts than waits");
    });
    assert_eq!(looks.0.get(), (1, 1));
}
