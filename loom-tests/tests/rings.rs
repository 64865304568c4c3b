//! The ring of items and the ring of bytes: nothing is read before it is written or written before it is
//! read; no wake-up is lost.
#![cfg(loom)]
#![expect(unsafe_code, reason = "the ring of bytes takes a raw region")]

use loom::{sync::Arc, thread};
use loom_tests::{Event, Reached, Words, check};
use shmqueue::{
    Item,
    bytes::{self, Control},
    ring::{PushError, Ring, RingConsumer, RingProducer},
};

/// A producer of three items with `push`, which says how many of the first it took, on a ring of two; and a task that takes them.
fn pass(push: fn(&mut RingProducer<'_, 2>, &[Item]) -> Result<usize, PushError>) {
    let refused = std::sync::Arc::new(Reached::new());
    let most = std::sync::Arc::clone(&refused);
    check(move || {
        let m = Arc::new((Ring::<2>::new(), Words::new(), Event::new()));
        let producer = thread::spawn({
            let m = Arc::clone(&m);
            move || {
                let (ring, words, event) = &*m;
                let mut producer = RingProducer::new(ring);
                let items = [1, 2, 3].map(|n| words.fill(n, n * 7));
                let (mut left, mut refused) = (&items[..], 0);
                while !left.is_empty() {
                    match push(&mut producer, left) {
                        Ok(count) => left = &left[count..],
                        Err(PushError::Full) => {
                            refused += 1;
                            thread::yield_now();
                        }
                        Err(PushError::Peer(misbehaviour)) => panic!("{misbehaviour}"),
                    }
                    if producer.consumer_idle() {
                        event.post();
                    }
                }
                refused
            }
        });
        let (ring, words, event) = &*m;
        let mut consumer = RingConsumer::new(ring);
        let mut received = 0;
        while received < 3 {
            let mut next = consumer.pop().unwrap();
            if next.is_none() {
                consumer.set_idle();
                next = consumer.pop().unwrap();
                if next.is_none() {
                    event.wait();
                }
                consumer.clear_idle();
            }
            if let Some(item) = next {
                received += 1;
                assert_eq!((item.get(), words.empty(item)), (received, received * 7));
            }
        }
        most.note(producer.join().unwrap());
    });
    assert!(refused.most() > 0, "the ring was never full");
}

#[test]
fn items_pass_a_full_ring_and_wake() {
    pass(|producer, items| producer.push(items[0]).map(|()| 1));
}

/// By batches, each shown with one store, of which the ring takes the front.
#[test]
fn batches_pass_a_full_ring_and_wake() {
    pass(|producer, items| producer.push_batch(items));
}

struct Stream {
    control: Control,
    data: *mut u8,
}

// SAFETY: the region outlives the model, and its two ends are one producer and one consumer.
unsafe impl Send for Stream {}
// SAFETY: as above.
unsafe impl Sync for Stream {}

#[test]
fn bytes_pass_a_small_ring() {
    check(|| {
        let mut region = [0u8; 4];
        let m = Arc::new(Stream { control: Control::new(), data: region.as_mut_ptr() });
        let writer = thread::spawn({
            let m = Arc::clone(&m);
            move || {
                // SAFETY: the region lives until the model has joined this thread.
                let mut producer = unsafe { bytes::Producer::new(&m.control, m.data, 4) };
                let mut written = 0;
                for _ in 0..3 {
                    let piece = [written + 1, written + 2, written + 3];
                    written += producer.write(&piece).unwrap() as u8;
                }
                written
            }
        });
        // SAFETY: as above.
        let mut consumer = unsafe { bytes::Consumer::new(&m.control, m.data, 4) };
        let mut read = 0;
        let mut get = |consumer: &mut bytes::Consumer<'_>| {
            let mut piece = [0; 3];
            let len = consumer.read(&mut piece).unwrap();
            for byte in &piece[..len] {
                read += 1;
                assert_eq!(*byte, read, "a byte was lost, doubled or read too early");
            }
            read
        };
        for _ in 0..3 {
            get(&mut consumer);
        }
        let written = writer.join().unwrap();
        get(&mut consumer);
        assert_eq!(get(&mut consumer), written);
    });
}
