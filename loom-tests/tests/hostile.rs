//! A peer that lies: each load of a shared word by the interrupt side may return anything. All ways to tell up to three
//! lies, each out of a set of values that reaches every check, are tried on small windows. The side under test ends
//! within a fixed number of accesses, stores only where it may, and never hands out what is no item or not the peer's to give.
#![cfg(all(shmqueue_inject, not(loom)))]

#[path = "../../mbuf/tests/common/mod.rs"]
mod common;
mod hook;

use std::cell::{Cell, RefCell};
use std::ops::ControlFlow;

use common::Window;
use hook::{Words, deceive, within};
use mbuf::{Claim, Geometry, InterruptSpace, Located, Places, View};
use shmqueue::{
    DualQueue, EnqueueError, InConsumer, InProducer, Item, OutConsumer, OutProducer, PeerMisbehaviour,
    bytes::{Consumer, Control, Producer},
    ring::{PushError, Ring, RingConsumer, RingProducer},
};

/// Flags and turns (0, 1, 2), items, the number after the last item, and the far ends.
const QUEUE_LIES: [u32; 8] = [0, 1, 2, 3, 5, 6, 0x8000_0000, u32::MAX];

fn items(n: u32) -> impl Iterator<Item = Item> {
    (1..=n).filter_map(Item::new)
}

#[test]
fn an_append_is_bounded_and_stores_where_it_may() {
    let refused = Cell::new(0);
    let (queue, words) = (&RefCell::new(None), &RefCell::new(None));
    let may_store = |address| {
        queue.borrow().as_ref().is_some_and(|queue: &std::rc::Rc<DualQueue>| within(&**queue, address))
            || words.borrow().as_ref().is_some_and(|words: &std::rc::Rc<Words>| words.has(address))
    };
    let runs = deceive(3, &QUEUE_LIES, 3 * 15, &may_store, |armed| {
        let (q, w) = (std::rc::Rc::new(DualQueue::new()), std::rc::Rc::new(Words::new(5)));
        queue.replace(Some(q.clone()));
        words.replace(Some(w.clone()));
        let mut producer = InProducer::new(&q, &*w);
        let mut consumer = InConsumer::new(&q, &*w);
        for item in items(3) {
            match armed.run(|| producer.append(item)) {
                Ok(()) => {}
                Err(EnqueueError::NotAnItem) => panic!("the caller's items are items"),
                Err(_) => refused.set(refused.get() + 1),
            }
            let _ = armed.run(|| producer.consumer_idle());
        }
        // Whatever is on the queue now, an honest consumer meets no endless list.
        let _ = consumer.flush(4, |item| assert!((1..=3).contains(&item.get())));
    });
    assert!(runs > 50_000 && refused.get() > 1000, "{runs} runs, {} refused", refused.get());
}

#[test]
fn a_drain_is_bounded_and_sends_items_only() {
    const BUDGET: u32 = 2;
    let errors = Cell::new(0);
    // The condition before and after; for each item and for the last look, at most two looks of 8 accesses, and its link.
    let runs = deceive(3, &QUEUE_LIES, 2 * (3 + (BUDGET as usize + 1) * (2 * 9 + 2)), &|_| true, |armed| {
        let (queue, words) = (DualQueue::new(), Words::new(5));
        let mut producer = OutProducer::new(&queue, &words);
        let mut consumer = OutConsumer::new(&queue, &words);
        items(3).for_each(|item| producer.append(item).unwrap());
        for _ in 0..2 {
            let mut sent = 0;
            let drained = armed.run(|| {
                consumer.drain(BUDGET, |item| {
                    assert!((1..=5).contains(&item.get()));
                    sent += 1;
                    ControlFlow::Continue(())
                })
            });
            assert!(sent <= BUDGET);
            errors.set(errors.get() + u32::from(drained.is_err()));
        }
    });
    assert!(runs > 50_000 && errors.get() > 1000, "{runs} runs, {} errors", errors.get());
}

/// Indices around the ring's, and the far ends.
const INDEX_LIES: [u32; 10] = [0, 1, 2, 3, 4, 5, 6, 0x7fff_ffff, 0x8000_0000, u32::MAX];

#[test]
fn the_ring_of_items_believes_no_index() {
    let (index_errors, slot_errors) = (Cell::new(0), Cell::new(0));
    deceive(3, &INDEX_LIES, 6 * 3, &|_| true, |armed| {
        let ring = Ring::<2>::new();
        let mut producer = RingProducer::new(&ring);
        let mut pushed = 0;
        for item in items(6) {
            match armed.run(|| producer.push(item)) {
                Ok(()) => pushed += 1,
                Err(PushError::Full) => {}
                Err(PushError::Peer(_)) => index_errors.set(index_errors.get() + 1),
            }
        }
        // Two fit; each lie can make room for two more at most.
        assert!(pushed <= 2 + 2 * armed.lies, "{pushed} pushed for {} lies", armed.lies);
    });
    deceive(3, &INDEX_LIES, 6 * 3, &|_| true, |armed| {
        let ring = Ring::<2>::new();
        let (mut producer, mut consumer) = (RingProducer::new(&ring), RingConsumer::new(&ring));
        items(2).for_each(|item| producer.push(item).unwrap());
        let mut popped = 0;
        for _ in 0..6 {
            match armed.run(|| consumer.pop()) {
                Ok(Some(_)) => popped += 1,
                Ok(None) => {}
                Err(_) => slot_errors.set(slot_errors.get() + 1),
            }
        }
        assert!(popped <= 2 + 2 * armed.lies, "{popped} popped for {} lies", armed.lies);
    });
    assert!(index_errors.get() > 100 && slot_errors.get() > 100);
}

#[test]
fn the_drain_of_a_ring_believes_no_index() {
    const BUDGET: u32 = 3;
    let errors = Cell::new(0);
    // The condition before and after; for each item and for the last look, at most two looks, its slot and its head.
    let runs = deceive(3, &INDEX_LIES, 3 * (3 + (BUDGET as usize + 1) * 6), &|_| true, |armed| {
        let ring = Ring::<2>::new();
        let (mut producer, mut consumer) = (RingProducer::new(&ring), RingConsumer::new(&ring));
        items(2).for_each(|item| producer.push(item).unwrap());
        let mut sent = 0;
        for _ in 0..3 {
            let before = sent;
            let drained = armed.run(|| {
                consumer.drain(BUDGET, |item| {
                    assert_ne!(item.get(), 0);
                    sent += 1;
                    ControlFlow::Continue(())
                })
            });
            assert!(sent - before <= BUDGET as usize);
            errors.set(errors.get() + u32::from(drained.is_err()));
        }
        assert!(sent <= 2 + 2 * armed.lies, "{sent} sent for {} lies", armed.lies);
    });
    assert!(runs > 5000 && errors.get() > 100, "{runs} runs, {} errors", errors.get());
}

/// The ring of bytes: never more than the capacity, and never outside of the region, whose surroundings are watched.
#[test]
#[expect(unsafe_code, reason = "the ring of bytes takes a raw region")]
fn the_ring_of_bytes_stays_in_its_region() {
    const CAPACITY: u32 = 4;
    let errors = Cell::new(0);
    for len in [1, 3, 4, 20] {
        deceive(3, &INDEX_LIES, 2 * 8, &|_| true, |armed| {
            let (control, mut memory) = (Control::new(), [0xeeu8; 132]);
            let region = memory.as_mut_ptr().wrapping_add(64);
            {
                // SAFETY: the region lives until the end of this block and has one producer.
                let mut producer = unsafe { Producer::new(&control, region, CAPACITY) };
                for _ in 0..3 {
                    let written = armed.run(|| producer.write(&[1; 20][..len]));
                    errors.set(errors.get() + u32::from(written.is_err()));
                    assert!(written.unwrap_or(0) <= CAPACITY as usize);
                }
            }
            {
                // SAFETY: as above, with one consumer.
                let mut consumer = unsafe { Consumer::new(&control, region, CAPACITY) };
                let mut bytes = [0; 20];
                for _ in 0..3 {
                    let read = armed.run(|| consumer.read(&mut bytes[..len]));
                    errors.set(errors.get() + u32::from(read.is_err()));
                    assert!(read.unwrap_or(0) <= CAPACITY as usize);
                    assert!(bytes.iter().all(|byte| *byte != 0xee || memory_is_new(&memory)), "read outside");
                }
            }
            assert!(memory[..64].iter().chain(&memory[68..]).all(|byte| *byte == 0xee), "wrote outside");
        });
    }
    assert!(errors.get() > 100);
}

fn memory_is_new(memory: &[u8]) -> bool {
    memory[64..68].contains(&0xee)
}

/// A ledger that keeps each buffer single, as the kernel's does.
struct Ledger {
    driver_has: Vec<u32>,
    geometry: Geometry,
}

impl Claim for Ledger {
    fn take(&mut self, mbuf: Located, cluster: Located) -> bool {
        assert_eq!(self.geometry.mbuf_at(mbuf.index()), Some(mbuf.item()), "no mbuf");
        assert_eq!(self.geometry.cluster_at(cluster.index()), Some(cluster.item()), "no cluster");
        let (mbuf, cluster) = (mbuf.item().get(), cluster.item().get());
        if self.driver_has.contains(&mbuf) || self.driver_has.contains(&cluster) {
            return false;
        }
        self.driver_has.extend([mbuf, cluster]);
        true
    }

    fn give(&mut self, mbuf: Located, cluster: Option<Located>) -> bool {
        let buffers: Vec<u32> =
            [Some(mbuf), cluster].into_iter().flatten().map(|buffer| buffer.item().get()).collect();
        // What a frame was sent with, all of it.
        let place = self.driver_has.iter().position(|have| *have == buffers[0]);
        let Some(place) = place else { return false };
        if self.driver_has.get(place..place + buffers.len()) != Some(&buffers[..]) {
            return false;
        }
        self.driver_has.drain(place..place + buffers.len());
        true
    }
}

/// Takes two pairs, gives them back, takes again: what the driver has is always what its ledger says.
#[test]
fn the_driver_keeps_each_buffer_single() {
    let places = Places::packed(64, 1, 4, 2).unwrap();
    let mbuf = |n: u32| places.mbufs + 128 * n;
    let cluster = |n: u32| places.clusters + 2048 * n;
    let lies = [
        0,
        1,
        2,
        mbuf(0),
        mbuf(1),
        mbuf(3),
        mbuf(4),
        mbuf(1) + 4,
        cluster(0),
        cluster(1),
        cluster(2),
        1 << 31,
        u32::MAX,
    ];
    let errors = Cell::new(0);
    let may_store_at = Cell::new((0, 0));
    let may_store = |address| (may_store_at.get().0..may_store_at.get().1).contains(&address);
    let runs = deceive(2, &lies, 130, &may_store, |armed| {
        let window = Window::new(1, 4, 2);
        let view: View<'_> = window.view();
        // All but the clusters' bytes are words.
        let start = std::ptr::from_ref(window.word(0)).addr();
        may_store_at.set((start + places.space_control as usize, start + places.clusters as usize));
        let mut space = InterruptSpace::new(view);
        let mut ledger = Ledger { driver_has: Vec::new(), geometry: *view.geometry() };
        let mut mine = Vec::new();
        for _ in 0..2 {
            let mut got = Vec::new();
            let outcome = armed.run(|| {
                space.try_alloc_cluster_batch(2, &mut ledger, |item, cluster| got.push((item, cluster)))
            });
            assert!(got.len() <= 2);
            errors.set(errors.get() + u32::from(outcome.is_err()));
            for (item, cluster) in got {
                assert!(!mine.contains(&item), "one buffer twice");
                assert!(ledger.driver_has.contains(&cluster.get()));
                mine.push(item);
            }
            let before = ledger.driver_has.len();
            let mut kept = Vec::new();
            let outcome = armed.run(|| space.try_free(&mine, &mut ledger, |item| kept.push(item)));
            match outcome {
                Ok(freed) => assert_eq!(freed as usize + kept.len(), mine.len()),
                Err(_) => errors.set(errors.get() + 1),
            }
            assert!(ledger.driver_has.len() <= before);
            mine.retain(|item| ledger.driver_has.contains(&item.get()));
        }
    });
    assert!(runs > 10_000 && errors.get() > 1000, "{runs} runs, {} errors", errors.get());
}

/// A free list whose first cluster is in use, by its count.
#[test]
fn a_cluster_in_use_is_not_taken() {
    let window = Window::new(1, 4, 2);
    let view = window.view();
    let places = *view.geometry().places();
    window.word(places.reference_counts as usize / 4).store(1, shmqueue::sync::Ordering::Relaxed);
    let mut ledger = Ledger { driver_has: Vec::new(), geometry: *view.geometry() };
    let outcome = InterruptSpace::new(view).try_alloc_cluster_batch(1, &mut ledger, |_, _| panic!("taken"));
    assert_eq!(outcome, Err(PeerMisbehaviour::Refused(places.clusters)));
    assert_eq!(ledger.driver_has, []);
}
