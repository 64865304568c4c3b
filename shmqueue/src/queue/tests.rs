//! The same tests, by the traits alone, for both kinds of queue.

use core::ops::ControlFlow;
use std::{
    boxed::Box,
    collections::VecDeque,
    thread,
    time::{Duration, Instant},
    vec,
    vec::Vec,
};

use super::{Consume, Drain, InQueue, OutQueue, Produce, ProduceError, either::EitherQueue, next};
use crate::{
    Drained, DualQueue, Item, Links, PeerMisbehaviour,
    ring::Ring,
    sync::{AtomicU32, full_fence},
};

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
}

fn item(n: u32) -> Item {
    Item::new(n).unwrap()
}

/// A module of tests for one kind.
macro_rules! kind {
    ($name:ident, $new:expr) => {
        mod $name {
            use super::*;

            #[test]
            fn in_order_through_the_idle_protocol() {
                super::in_order_through_the_idle_protocol(&$new, &Words::new(9));
            }

            #[test]
            fn a_driver_drains_stops_and_goes_idle() {
                super::a_driver_drains_stops_and_goes_idle(&$new, &Words::new(9));
            }

            #[test]
            fn two_threads_lose_nothing() {
                super::two_threads_lose_nothing(&$new, &$new, &Words::new(8));
            }
        }
    };
}

kind!(dual, DualQueue::new());
kind!(ring, Ring::<16>::new());
kind!(either_dual, EitherQueue::<16>::Dual(Box::leak(Box::new(DualQueue::new()))));
kind!(either_ring, EitherQueue::<16>::Ring(Box::leak(Box::new(Ring::new()))));

fn in_order_through_the_idle_protocol<'w, Q: InQueue<&'w Words>>(queue: &'w Q, words: &'w Words) {
    let (mut producer, mut consumer) = (queue.in_producer(words), queue.in_consumer(words));
    producer.produce(item(4)).unwrap();
    assert_eq!(producer.produce_batch(&[item(2), item(9)]), Ok(2));
    assert_eq!(producer.produce_batch(&[]), Ok(0));
    assert!(!producer.consumer_idle());
    let got = [(); 4].map(|()| consumer.consume().unwrap().map(Item::get));
    assert_eq!(got, [Some(4), Some(2), Some(9), None]);
    consumer.set_idle();
    assert!(producer.consumer_idle());
    consumer.clear_idle();
    assert!(!producer.consumer_idle());
    // As several queues with one fence for all.
    consumer.announce_idle();
    full_fence();
    assert!(producer.consumer_idle_fenced());
    consumer.clear_idle();
    assert!(!producer.consumer_idle_fenced());
    assert_eq!(producer.produce_batch(&[item(3), item(5), item(6)]), Ok(3));
    let mut batch = [item(1); 2];
    assert_eq!((consumer.consume_batch(&mut batch), batch), (Ok(2), [item(3), item(5)]));
    assert_eq!((consumer.consume_batch(&mut batch), batch[0]), (Ok(1), item(6)));
    assert_eq!(consumer.consume_batch(&mut batch), Ok(0));
    assert_eq!((producer.stats().lock_failures, consumer.stats().switches), (0, 0));
    // The interrupt comes while the task waits, after two events that meant nothing.
    let mut waits = 0;
    let got = next(&mut consumer, || {
        waits += 1;
        if waits == 3 {
            producer.produce(item(1)).unwrap();
        }
        assert!(producer.consumer_idle(), "a waiter is idle");
    });
    assert_eq!((got, waits), (Ok(item(1)), 3));
    assert!(!producer.consumer_idle(), "it works again");
    producer.produce(item(8)).unwrap();
    assert_eq!(next(&mut consumer, || panic!("there is one")), Ok(item(8)));
}

fn a_driver_drains_stops_and_goes_idle<'w, Q: OutQueue<&'w Words>>(queue: &'w Q, words: &'w Words) {
    let (mut producer, mut consumer) = (queue.out_producer(words), queue.out_consumer(words));
    let mut sent = vec![];
    let mut drain = |consumer: &mut Q::Consumer<'w>, budget, room| {
        let drained = consumer.drain(budget, |item| {
            if sent.len() == room {
                return ControlFlow::Break(());
            }
            sent.push(item.get());
            ControlFlow::Continue(())
        });
        (drained.unwrap(), sent.len())
    };
    assert!(!producer.consumer_idle());
    consumer.start_idle();
    assert!(producer.consumer_idle() && producer.consumer_idle_fenced(), "idle from the start");
    assert_eq!(drain(&mut consumer, 9, 9), (Drained::Idle, 0));
    assert!(producer.consumer_idle() && !consumer.waits(), "the device is to be started");
    assert_eq!(producer.produce_batch(&[item(1), item(2), item(3), item(4)]), Ok(4));
    assert!(consumer.waits());
    assert_eq!(drain(&mut consumer, 9, 2), (Drained::StoppedByCaller, 2));
    assert!(consumer.waits(), "what was taken and not sent waits too");
    assert!(!producer.consumer_idle(), "a busy device needs no trap");
    assert_eq!(drain(&mut consumer, 1, 9), (Drained::BudgetSpent, 3));
    producer.produce(item(5)).unwrap();
    assert_eq!(drain(&mut consumer, 9, 9), (Drained::Idle, 5));
    assert_eq!(sent, [1, 2, 3, 4, 5]);
    assert!(producer.consumer_idle() && !consumer.waits());
    assert_eq!((producer.stats().lock_failures, consumer.stats().switches), (0, 0));
}

/// There and back: the driver fills, the task returns; both waits are real ones, with an event that keeps one bit.
fn two_threads_lose_nothing<'w, Q>(filled: &'w Q, returned: &'w Q, words: &'w Words)
where
    Q: InQueue<&'w Words> + OutQueue<&'w Words> + Sync,
{
    const N: u32 = if cfg!(miri) { 300 } else { 50_000 };
    let wait = || {
        let start = Instant::now();
        thread::park_timeout(Duration::from_secs(20));
        assert!(start.elapsed() < Duration::from_secs(20), "a wake-up was lost");
    };
    let task = thread::current();
    thread::scope(|scope| {
        let driver = scope.spawn(move || {
            let (mut produce, mut drain) = (filled.in_producer(words), returned.out_consumer(words));
            let mut free: Vec<Item> = (1..=8).map(item).collect();
            let (mut sent, mut expected) = (0, VecDeque::new());
            while sent < N || free.len() < 8 {
                let drained = drain.drain(8, |item| {
                    assert_eq!(expected.pop_front(), Some(item));
                    free.push(item);
                    ControlFlow::Continue(())
                });
                let burst: Vec<Item> = free.drain(..free.len().min((N - sent) as usize)).collect();
                sent += burst.len() as u32;
                expected.extend(&burst);
                if !burst.is_empty() {
                    assert_eq!(produce.produce_batch(&burst), Ok(burst.len()));
                    if produce.consumer_idle() {
                        task.unpark();
                    }
                } else if drained == Ok(Drained::Idle) && free.len() < 8 {
                    wait();
                }
            }
        });
        let (mut consume, mut produce) = (filled.in_consumer(words), returned.out_producer(words));
        for _ in 0..N {
            let item = next(&mut consume, wait).unwrap();
            produce.produce(item).unwrap();
            if produce.consumer_idle() {
                driver.thread().unpark();
            }
        }
    });
}

#[test]
fn a_full_ring_takes_the_front_of_a_batch() {
    let ring = Ring::<4>::new();
    let words = Words::new(9);
    let mut producer = ring.in_producer(&words);
    let mut consumer = InQueue::in_consumer(&ring, &words);
    producer.produce(item(9)).unwrap();
    let batch = [1, 2, 3, 4, 5].map(item);
    assert_eq!(producer.produce_batch(&batch), Ok(3));
    assert_eq!(producer.produce_batch(&batch[3..]), Err(ProduceError::Full));
    assert_eq!(producer.produce(item(4)), Err(ProduceError::Full));
    let got = [(); 5].map(|()| consumer.consume().unwrap().map(Item::get));
    assert_eq!(got, [Some(9), Some(1), Some(2), Some(3), None]);
}

#[test]
fn a_ring_that_lies_is_drained_no_further() {
    let ring = Ring::<4>::new();
    let words = Words::new(9);
    // Two producers, as no correct program has them: the second says that there is less than there was.
    let (mut honest, mut consumer) = (ring.in_producer(&words), ring.out_consumer(&words));
    assert_eq!(honest.produce_batch(&[1, 2, 3].map(item)), Ok(3));
    let mut sent = 0;
    let mut drain = |consumer: &mut crate::ring::RingConsumer<'_, 4>| {
        consumer.drain(9, |_| {
            sent += 1;
            ControlFlow::Continue(())
        })
    };
    assert_eq!(drain(&mut consumer), Ok(Drained::Idle));
    let mut liar = ring.in_producer(&words);
    liar.produce(item(1)).unwrap();
    assert_eq!(drain(&mut consumer), Err(PeerMisbehaviour::Index(1)));
    assert_eq!(sent, 3);
}
