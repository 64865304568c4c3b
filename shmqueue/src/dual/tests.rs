//! The queues on one thread: the protocol at each point where the other side can come in, an exhaustive walk,
//! a peer that lies, and two threads.

use core::ops::ControlFlow;
use std::{
    thread,
    time::{Duration, Instant},
    vec,
    vec::Vec,
};

use super::{Drained, DualQueue, EnqueueError, InConsumer, InProducer, OutConsumer, OutProducer, Relaxed};
use crate::{Item, Links, PeerMisbehaviour, sync::AtomicU32};

struct Words(Vec<AtomicU32>);

impl Words {
    fn new(n: u32) -> Self {
        Self((0..=n).map(|_| AtomicU32::new(0)).collect())
    }
}

impl Links for Words {
    fn next(&self, item: Item) -> Option<&AtomicU32> {
        self.0.get(item.get() as usize)
    }

    fn items(&self) -> u32 {
        self.0.len() as u32 - 1
    }
}

fn item(n: u32) -> Item {
    Item::new(n).unwrap()
}

fn all(consumer: &mut InConsumer<'_, &Words>) -> Vec<u32> {
    let mut got = vec![];
    consumer.flush(1000, |item| got.push(item.get())).unwrap();
    got
}

#[test]
fn items_come_out_in_order_one_by_one_and_in_batches() {
    let (queue, words) = (DualQueue::new(), Words::new(9));
    let (mut producer, mut consumer) = (InProducer::new(&queue, &words), InConsumer::new(&queue, &words));
    assert_eq!(consumer.dequeue(), Ok(None));
    producer.append(item(4)).unwrap();
    producer.append_batch(&[item(2), item(9), item(1)]).unwrap();
    producer.append_batch(&[]).unwrap();
    assert!(!queue.is_empty());
    assert_eq!(consumer.dequeue(), Ok(Some(item(4))));
    producer.append(item(3)).unwrap();
    let mut batch = [item(9); 2];
    assert_eq!((consumer.dequeue_batch(&mut batch), batch), (Ok(2), [item(2), item(9)]));
    assert_eq!(all(&mut consumer), [1, 3]);
    assert_eq!(consumer.dequeue_batch(&mut batch), Ok(0));
    assert!(queue.is_empty());
    assert_eq!((producer.stats().switches, producer.stats().lock_failures), (0, 0));
}

#[test]
fn the_producer_goes_to_the_other_sub_queue_and_stays() {
    let (queue, words) = (DualQueue::new(), Words::new(9));
    let (mut producer, mut consumer) = (InProducer::new(&queue, &words), InConsumer::new(&queue, &words));
    producer.append(item(1)).unwrap();
    let preempted = queue.subs[0].mutex.lock_protocol();
    producer.append(item(2)).unwrap();
    producer.append(item(3)).unwrap();
    drop(preempted);
    producer.append(item(4)).unwrap();
    assert_eq!((producer.stats().switches, producer.stats().lock_failures), (1, 1));
    assert_eq!(all(&mut consumer), [1, 2, 3, 4]);
    assert_eq!(consumer.stats().switches, 1);

    // And back, now that the consumer has followed.
    let preempted = queue.subs[1].mutex.lock_protocol();
    producer.append(item(5)).unwrap();
    drop(preempted);
    assert_eq!(all(&mut consumer), [5]);
    assert_eq!((producer.stats().switches, consumer.stats().switches), (2, 2));
}

#[test]
fn both_locked_is_reported_and_counted_and_changes_nothing() {
    let (queue, words) = (DualQueue::new(), Words::new(9));
    let (mut producer, mut consumer) = (InProducer::new(&queue, &words), InConsumer::new(&queue, &words));
    let both = [queue.subs[0].mutex.lock_protocol(), queue.subs[1].mutex.lock_protocol()];
    assert_eq!(producer.append(item(1)), Err(EnqueueError::Locked));
    assert_eq!((producer.stats().impossible, producer.stats().switches), (1, 0));
    drop(both);
    assert_eq!(all(&mut consumer), [] as [u32; 0]);
    producer.append(item(1)).unwrap();
    assert_eq!(all(&mut consumer), [1]);
}

#[test]
fn what_is_no_item_is_refused() {
    let (queue, words) = (DualQueue::new(), Words::new(3));
    let mut input = InProducer::new(&queue, &words);
    assert_eq!(input.append(item(4)), Err(EnqueueError::NotAnItem));
    assert_eq!(input.append_batch(&[item(1), item(4)]), Err(EnqueueError::NotAnItem));
    assert_eq!(input.append_batch(&[item(4), item(1)]), Err(EnqueueError::NotAnItem));
    assert!(queue.is_empty());
}

/// All sequences of eight steps, each one of: append; append while the consumer is inside its critical
/// section; dequeue.
#[test]
fn every_short_history_keeps_the_order() {
    const STEPS: u32 = if cfg!(miri) { 5 } else { 8 };
    for history in 0..3u32.pow(STEPS) {
        let (queue, words) = (DualQueue::new(), Words::new(STEPS));
        let (mut producer, mut consumer) = (InProducer::new(&queue, &words), InConsumer::new(&queue, &words));
        let (mut appended, mut received, mut rest) = (0, 0, history);
        for _ in 0..STEPS {
            match rest % 3 {
                0 => {
                    appended += 1;
                    producer.append(item(appended)).unwrap();
                }
                1 => {
                    // The consumer locks its own current sub-queue, and the interrupt comes then.
                    let guard = queue.subs[consumer.stats().switches as usize % 2].mutex.lock_protocol();
                    appended += 1;
                    producer.append(item(appended)).unwrap();
                    drop(guard);
                }
                _ => match consumer.dequeue().unwrap() {
                    Some(got) => {
                        received += 1;
                        assert_eq!(got.get(), received, "history {history}");
                    }
                    None => assert_eq!(received, appended, "history {history}"),
                },
            }
            rest /= 3;
        }
        let left: Vec<u32> = (received + 1..=appended).collect();
        assert_eq!(all(&mut consumer), left, "history {history}");
        assert_eq!(producer.stats().impossible, 0);
        // Both at the same sub-queue, and no flag left over: a stale one would lead the consumer to where the
        // producer may go next, and then both could be locked at once.
        assert_eq!(producer.stats().switches, consumer.stats().switches, "history {history}");
        assert!(queue.subs.iter().all(|sub| sub.enabled.load(Relaxed) == 0), "history {history}");
    }
}

#[test]
fn the_driver_drains_stops_and_goes_idle() {
    let (queue, words) = (DualQueue::new(), Words::new(9));
    let (mut producer, mut consumer) = (OutProducer::new(&queue, &words), OutConsumer::new(&queue, &words));
    consumer.start_idle();
    producer.append_batch(&[item(1), item(2), item(3)]).unwrap();
    assert!(producer.consumer_idle());
    let mut sent = vec![];
    let mut room = 2;
    let mut drain = |consumer: &mut OutConsumer<'_, &Words>, more: u32, budget: u32| {
        room += more;
        let drained = consumer.drain(budget, |item| {
            if room == 0 {
                return ControlFlow::Break(());
            }
            room -= 1;
            sent.push(item.get());
            ControlFlow::Continue(())
        });
        (drained.unwrap(), sent.clone())
    };
    assert_eq!(drain(&mut consumer, 0, 10), (Drained::StoppedByCaller, vec![1, 2]));
    assert!(!producer.consumer_idle(), "a busy device needs no trap");
    producer.append(item(4)).unwrap();
    assert_eq!(drain(&mut consumer, 9, 1), (Drained::BudgetSpent, vec![1, 2, 3]));
    assert_eq!(drain(&mut consumer, 0, 9), (Drained::Idle, vec![1, 2, 3, 4]));
    assert!(producer.consumer_idle());
}

#[test]
fn the_driver_takes_busy_for_empty() {
    let (queue, words) = (DualQueue::new(), Words::new(9));
    let (mut producer, mut consumer) = (OutProducer::new(&queue, &words), OutConsumer::new(&queue, &words));
    producer.append(item(1)).unwrap();
    let preempted = queue.subs[0].mutex.lock_protocol();
    assert_eq!(consumer.drain(9, |_| panic!("it cannot have the lock")), Ok(Drained::Idle));
    assert_eq!(consumer.stats().lock_failures, 2, "one try and one retry");
    drop(preempted);
    assert!(producer.consumer_idle(), "so the server starts it again");
    // The driver is inside on another processor: the server goes to the other sub-queue.
    let inside = queue.subs[0].mutex.try_lock_interrupt().unwrap();
    producer.append(item(2)).unwrap();
    drop(inside);
    let mut sent = vec![];
    let drained = consumer.drain(9, |item| {
        sent.push(item.get());
        ControlFlow::Continue(())
    });
    assert_eq!((drained, sent), (Ok(Drained::Idle), vec![1, 2]));
    assert_eq!((producer.stats().switches, consumer.stats().switches), (1, 1));
}

#[test]
fn lists_that_lead_astray_are_the_peers_fault() {
    let (queue, words) = (DualQueue::new(), Words::new(3));
    let (mut producer, mut consumer) = (OutProducer::new(&queue, &words), OutConsumer::new(&queue, &words));
    producer.append_batch(&[item(1), item(2)]).unwrap();
    words.0[1].store(77, Relaxed);
    let mut sent = 0;
    let drained = consumer.drain(9, |_| {
        sent += 1;
        ControlFlow::Continue(())
    });
    assert_eq!((drained, sent), (Err(PeerMisbehaviour::NotAnItem(77)), 1));
    // A circle ends with the budget, and is noticed then.
    consumer.forget();
    words.0[3].store(3, Relaxed);
    queue.subs[0].head.store(3, Relaxed);
    let mut sent = 0;
    let drained = consumer.drain(100, |_| {
        sent += 1;
        ControlFlow::Continue(())
    });
    assert_eq!((drained, sent), (Err(PeerMisbehaviour::Endless), 100));
    // A queue that nothing was put on cannot be filled.
    let mut input = InProducer::new(&queue, &words);
    queue.subs[0].head.store(9, Relaxed);
    assert_eq!(input.append(item(1)), Err(EnqueueError::Peer(PeerMisbehaviour::NotEmpty)));
}

/// The peer writes any word at any time: neither interrupt side faults, hangs or hands out what is no item.
#[test]
fn random_words_never_hang_or_fault() {
    let (input, output, words) = (DualQueue::new(), DualQueue::new(), Words::new(15));
    let mut producer = InProducer::new(&input, &words);
    let mut consumer = OutConsumer::new(&output, &words);
    let mut state = 0x9e37_79b9u32;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    const STEPS: u32 = if cfg!(miri) { 5_000 } else { 100_000 };
    let mut errors = 0;
    for _ in 0..STEPS {
        let value = if random() % 4 == 0 { random() } else { random() % 17 };
        let sub = &[&input, &output][random() as usize % 2].subs[random() as usize % 2];
        match random() % 7 {
            0 => sub.head.store(value, Relaxed),
            1 => sub.enabled.store(value, Relaxed),
            2 => words.0[random() as usize % 16].store(value, Relaxed),
            3 if value % 2 == 0 => core::mem::forget(sub.mutex.try_lock_protocol()), // taken for ever
            3 => drop(sub.mutex.lock_protocol()),
            4 => errors += u32::from(producer.append(item(1 + random() % 15)).is_err()),
            _ => {
                let mut count = 0;
                let drained = consumer.drain(20, |item| {
                    assert!((1..16).contains(&item.get()));
                    count += 1;
                    ControlFlow::Continue(())
                });
                assert!(count <= 20);
                if drained.is_err() {
                    errors += 1;
                    consumer.forget();
                }
            }
        }
    }
    assert!(errors > STEPS / 100);
}

/// An IN queue under two threads, each with its processor, with the idle protocol and a counting event.
#[test]
fn two_threads_lose_nothing() {
    const N: u32 = if cfg!(miri) { 300 } else { 100_000 };
    let (queue, words) = (DualQueue::new(), Words::new(N));
    let consumer_thread = thread::current();
    let switches = thread::scope(|scope| {
        let (queue, words) = (&queue, &words);
        let interrupt = scope.spawn(move || {
            let mut producer = InProducer::new(queue, words);
            for n in 1..=N {
                producer.append(item(n)).expect("the interrupt side never fails");
                if producer.consumer_idle() {
                    consumer_thread.unpark(); // sticky, as `thread_resume`
                }
            }
            producer.stats().switches
        });
        let mut consumer = InConsumer::new(queue, words);
        let mut expected = 1;
        while expected <= N {
            let mut next = consumer.dequeue().unwrap();
            if next.is_none() {
                consumer.set_idle();
                next = consumer.dequeue().unwrap();
                if next.is_none() {
                    let start = Instant::now();
                    thread::park_timeout(Duration::from_secs(20));
                    assert!(start.elapsed() < Duration::from_secs(20), "a wake-up was lost");
                }
                consumer.clear_idle();
            }
            if let Some(got) = next {
                assert_eq!(got.get(), expected);
                expected += 1;
            }
        }
        interrupt.join().unwrap()
    });
    assert!(switches < N);
}

/// The peer links the last item to the first. Each drain is bounded by its budget; what notices that there is no end is the count over all of
/// them.
#[test]
fn a_list_without_an_end_is_noticed() {
    for budget in [1, 2, 3, 7, 100] {
        let (queue, words) = (DualQueue::new(), Words::new(5));
        let (mut producer, mut consumer) =
            (OutProducer::new(&queue, &words), OutConsumer::new(&queue, &words));
        // What an honest producer can have: all items, twice, in drains of every length.
        for _ in 0..2 {
            producer.append_batch(&[1, 2, 3, 4, 5].map(item)).unwrap();
            let mut got = 0;
            while consumer
                .drain(budget, |_| {
                    got += 1;
                    ControlFlow::Continue(())
                })
                .unwrap()
                != Drained::Idle
            {}
            assert_eq!(got, 5);
        }
        producer.append_batch(&[1, 2, 3].map(item)).unwrap();
        words.0[3].store(1, Relaxed);
        let mut got = 0;
        let noticed = (0..=5).find_map(|_| {
            consumer
                .drain(budget, |_| {
                    got += 1;
                    ControlFlow::Continue(())
                })
                .err()
        });
        assert_eq!(noticed, Some(PeerMisbehaviour::Endless), "budget {budget}");
        assert!(got <= 5 + budget, "{got}");
    }
    // A caller that takes nothing does not make a list longer.
    let (queue, words) = (DualQueue::new(), Words::new(5));
    let (mut producer, mut consumer) = (OutProducer::new(&queue, &words), OutConsumer::new(&queue, &words));
    producer.append_batch(&[1, 2, 3].map(item)).unwrap();
    for _ in 0..20 {
        assert_eq!(consumer.drain(9, |_| ControlFlow::Break(())), Ok(Drained::StoppedByCaller));
    }
}
