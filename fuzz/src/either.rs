//! Either kind of queue, in either direction, as the window has them: behind the traits, where the choice is made when the program runs.
#![expect(unsafe_code, reason = "takes a queue and links out of shared memory")]

use std::collections::VecDeque;
use std::ops::ControlFlow;

use shmqueue::{
    AsymmetricMutex, Drained, DualQueue, Item, Links,
    queue::{Consume, Drain, Produce, ProduceError, either::EitherQueue},
    ring::Ring,
    sync::AtomicU32,
};

use crate::{input::Input, memory::Guarded, peer::Peer};

/// Items 1 to so many: more than the ring has room for.
const ITEMS: u32 = 100;
const SLOTS: usize = 64;
/// The dual queue, the ring, the links of the items.
const RING_AT: usize = DualQueue::BYTES.next_multiple_of(64);
const LINKS_AT: usize = RING_AT + size_of::<Ring<SLOTS>>();
const BYTES: usize = (LINKS_AT + 4 * (ITEMS as usize + 1)).next_multiple_of(64);
/// Accesses for one item, of the kind that makes more of them.
const EACH: u32 = 20;

#[derive(Clone, Copy)]
struct Table<'m>(&'m Guarded);

impl Links for Table<'_> {
    fn next(&self, item: Item) -> Option<&AtomicU32> {
        (item.get() <= ITEMS).then(|| self.0.word(LINKS_AT + 4 * item.get() as usize))
    }
}

/// A queue of a kind and a direction that the first byte chooses.
pub fn either_queue(data: &[u8]) {
    let memory = Guarded::new(BYTES);
    let mut input = Input::new(data);
    let choice = input.byte();
    let (base, mutex) = (memory.address(), size_of::<AsymmetricMutex>());
    let second = (DualQueue::BYTES - 64) / 2;
    let shapes = vec![0, 1, 2, 63, 64, 65, ITEMS, ITEMS + 1, 1 << 31, u32::MAX];
    let peer = Peer::new(input, shapes)
        .may_store(base..base + BYTES)
        .honest_about(base..base + mutex)
        .honest_about(base + second..base + second + mutex);
    // SAFETY: atomics only, and zero bytes are an empty queue of either kind.
    let queue: EitherQueue<'_, SLOTS> = unsafe {
        if choice & 1 == 0 { EitherQueue::Dual(memory.at(0)) } else { EitherQueue::Ring(memory.at(RING_AT)) }
    };
    let mut run = Run { peer, memory: &memory, on_queue: VecDeque::new(), ring: choice & 1 != 0 };
    let table = Table(&memory);
    if choice & 2 == 0 {
        run.inward(queue.in_producer(table), queue.in_consumer(table));
    } else {
        run.outward(queue.out_producer(table), queue.out_consumer(table));
    }
}

struct Run<'m, 'd> {
    peer: Peer<'d>,
    memory: &'m Guarded,
    on_queue: VecDeque<u32>,
    ring: bool,
}

impl Run<'_, '_> {
    fn produce(&mut self, producer: &mut impl Produce, operation: u8, waits: bool) {
        let free = (1..=ITEMS).filter(|item| !self.on_queue.contains(item));
        let items: Vec<Item> = free.take(1 + usize::from(operation >> 3)).filter_map(Item::new).collect();
        let bound = EACH * (2 + items.len() as u32);
        let room = SLOTS - self.on_queue.len().min(SLOTS);
        let batch = || producer.produce_batch(&items);
        let outcome = if waits { self.peer.run_waiting(bound, batch) } else { self.peer.run(bound, batch) };
        let honest = self.peer.was_honest();
        let expected = if self.ring { items.len().min(room) } else { items.len() };
        match outcome {
            Ok(count) => {
                assert!(count <= items.len() && (!honest || count == expected), "{count} of {expected}");
                self.on_queue.extend(items[..count].iter().map(|item| item.get()));
            }
            // Nothing to put on it is nothing to refuse.
            Err(ProduceError::Full) => assert!(!honest || (self.ring && room == 0)),
            Err(error) => assert!(!honest, "an honest peer's queue refused: {error}"),
        }
    }

    /// What has come out is an item, and while all is honest it is the one that went in first.
    fn came(&mut self, item: Item) {
        // A ring carries numbers: whose they are is looked up by who takes them off it.
        assert!(self.ring || item.get() <= ITEMS, "{item:?} is no item");
        if self.peer.was_honest() {
            assert_eq!(self.on_queue.pop_front(), Some(item.get()), "not the first that went in");
        } else {
            self.on_queue.retain(|&other| other != item.get());
        }
    }

    fn inward(&mut self, mut producer: impl Produce, mut consumer: impl Consume) {
        while let Some(operation) = self.peer.input(Input::next) {
            match operation & 7 {
                0 | 1 => self.produce(&mut producer, operation, false),
                2 => {
                    let _ = self.peer.run(1, || producer.consumer_idle());
                }
                3 | 4 => {
                    let many = 1 + usize::from(operation >> 3);
                    let mut got = vec![Item::new(1).expect("not 0"); many];
                    let bound = EACH * (many as u32 + 2);
                    let outcome = self.peer.run_waiting(bound, || consumer.consume_batch(&mut got));
                    let waiting = self.on_queue.len();
                    let count = outcome.unwrap_or(0);
                    assert!(count <= many);
                    got.into_iter().take(count).for_each(|item| self.came(item));
                    if self.peer.was_honest() {
                        assert_eq!(outcome, Ok(waiting.min(many)));
                    }
                }
                5 => self.peer.run(1, || consumer.set_idle()),
                6 => self.peer.run(1, || consumer.clear_idle()),
                _ => self.peer.scribble(self.memory, 0..BYTES),
            }
        }
    }

    fn outward(&mut self, mut producer: impl Produce, mut consumer: impl Drain) {
        consumer.start_idle();
        while let Some(operation) = self.peer.input(Input::next) {
            match operation & 7 {
                0 | 1 => self.produce(&mut producer, operation, true),
                2 => {
                    let _ = self.peer.run(1, || producer.consumer_idle());
                }
                3..=5 => {
                    let (budget, stop) = (u32::from(operation >> 3), self.peer.below(64) as usize);
                    let mut got = Vec::new();
                    let outcome = self.peer.run(EACH * (2 * budget + 4), || {
                        consumer.drain(budget, |item| {
                            if got.len() == stop {
                                return ControlFlow::Break(());
                            }
                            got.push(item);
                            ControlFlow::Continue(())
                        })
                    });
                    assert!(got.len() <= budget as usize && got.len() <= stop);
                    got.into_iter().for_each(|item| self.came(item));
                    match outcome {
                        Ok(Drained::Idle) if self.peer.was_honest() => assert!(self.on_queue.is_empty()),
                        Ok(_) => {}
                        Err(misbehaviour) => assert!(!self.peer.was_honest(), "{misbehaviour}"),
                    }
                }
                6 => {
                    let waits = self.peer.run(EACH, || consumer.waits());
                    assert!(waits || !self.peer.was_honest() || self.on_queue.is_empty());
                }
                _ => self.peer.scribble(self.memory, 0..BYTES),
            }
        }
    }
}
