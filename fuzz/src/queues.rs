//! The dual queues between a producer and a consumer whose peer lies.
//!
//! The protocol side waits for the mutex, and believes those three words: its peer is the kernel. About everything else it is
//! lied to, and the interrupt side about all.
#![expect(unsafe_code, reason = "takes a queue and links out of shared memory")]

use std::collections::VecDeque;
use std::ops::ControlFlow;

use shmqueue::{
    AsymmetricMutex, DualQueue, EnqueueError, InConsumer, InProducer, Item, Links, OutConsumer, OutProducer,
    sync::AtomicU32,
};

use crate::{input::Input, memory::Guarded, peer::Peer};

/// Items 1 to so many.
const ITEMS: u32 = 200;
const LINKS_AT: usize = DualQueue::BYTES;
const BYTES: usize = LINKS_AT + 4 * (ITEMS as usize + 1);
/// Accesses to lock, to unlock, and to see that it is locked.
const LOCK: u32 = 6;

/// The link words behind the queue.
#[derive(Clone, Copy)]
struct Table<'m>(&'m Guarded);

impl Links for Table<'_> {
    fn next(&self, item: Item) -> Option<&AtomicU32> {
        (item.get() <= ITEMS).then(|| self.0.word(LINKS_AT + 4 * item.get() as usize))
    }
}

fn shared() -> Guarded {
    Guarded::new(BYTES.next_multiple_of(64))
}

fn queue(memory: &Guarded) -> &DualQueue {
    // SAFETY: atomics only, and zero bytes are an empty queue.
    unsafe { memory.at(0) }
}

fn peer<'d>(data: &'d [u8], memory: &Guarded) -> Peer<'d> {
    let base = memory.address();
    let mutex = size_of::<AsymmetricMutex>();
    let second = (DualQueue::BYTES - 64) / 2;
    Peer::new(Input::new(data), vec![0, 1, 2, 3, ITEMS - 1, ITEMS, ITEMS + 1, 1 << 31, u32::MAX])
        .may_store(base..base + BYTES)
        .honest_about(base..base + mutex)
        .honest_about(base + second..base + second + mutex)
}

/// The next items that are not on the queue, at most `n`, marked as on it.
fn fresh(on_queue: &mut VecDeque<u32>, n: u32) -> Vec<Item> {
    let free = (1..=ITEMS).filter(|item| !on_queue.contains(item)).take(n as usize);
    let items: Vec<Item> = free.filter_map(Item::new).collect();
    on_queue.extend(items.iter().map(|item| item.get()));
    items
}

/// What has come out is an item, and while all is honest it is the one that went in first.
fn came(peer: &Peer<'_>, on_queue: &mut VecDeque<u32>, item: Item) {
    assert!(item.get() <= ITEMS, "{item:?} is no item");
    if peer.was_honest() {
        assert_eq!(on_queue.pop_front(), Some(item.get()), "not the first that went in");
    } else {
        on_queue.retain(|&other| other != item.get());
    }
}

/// The items of a refused append are still the caller's.
fn refused(peer: &Peer<'_>, on_queue: &mut VecDeque<u32>, items: usize, error: EnqueueError) {
    assert!(!peer.was_honest(), "an honest peer's queue refused: {error}");
    assert_ne!(error, EnqueueError::NotAnItem, "the caller's items are items");
    on_queue.truncate(on_queue.len() - items);
}

/// The IN queue.
pub fn in_queue(data: &[u8]) {
    let memory = shared();
    let (queue, table, peer) = (queue(&memory), Table(&memory), peer(data, &memory));
    let (mut producer, mut consumer) = (InProducer::new(queue, table), InConsumer::new(queue, table));
    let mut on_queue = VecDeque::new();
    while let Some(operation) = peer.input(Input::next) {
        match operation & 7 {
            0 | 1 => {
                let items = fresh(&mut on_queue, 1 + u32::from(operation >> 3));
                let bound = 2 * LOCK + 6 + 2 * items.len() as u32;
                if let Err(error) = peer.run(bound, || producer.append_batch(&items)) {
                    refused(&peer, &mut on_queue, items.len(), error);
                }
            }
            2 => {
                let _ = peer.run(1, || producer.consumer_idle());
            }
            3 | 4 => {
                let limit = 1 + u32::from(operation >> 3);
                let (mut got, bound) = (Vec::new(), (limit + 1) * (LOCK + 8));
                let outcome =
                    peer.run_waiting(bound, || consumer.flush(limit as usize, |item| got.push(item)));
                assert!(got.len() <= limit as usize);
                got.into_iter().for_each(|item| came(&peer, &mut on_queue, item));
                match outcome {
                    Ok(count) if peer.was_honest() => assert!(count == limit as usize || on_queue.is_empty()),
                    Ok(_) => {}
                    Err(misbehaviour) => assert!(!peer.was_honest(), "{misbehaviour}"),
                }
            }
            5 => peer.run(1, || consumer.set_idle()),
            6 => peer.run(1, || consumer.clear_idle()),
            _ => peer.scribble(&memory, 0..BYTES),
        }
    }
}

/// The OUT queue.
pub fn out_queue(data: &[u8]) {
    let memory = shared();
    let (queue, table, peer) = (queue(&memory), Table(&memory), peer(data, &memory));
    let (mut producer, mut consumer) = (OutProducer::new(queue, table), OutConsumer::new(queue, table));
    let mut on_queue = VecDeque::new();
    while let Some(operation) = peer.input(Input::next) {
        match operation & 7 {
            0 | 1 => {
                let items = fresh(&mut on_queue, 1 + u32::from(operation >> 3));
                let bound = 2 * LOCK + 6 + 2 * items.len() as u32;
                if let Err(error) = peer.run_waiting(bound, || producer.append_batch(&items)) {
                    refused(&peer, &mut on_queue, items.len(), error);
                    assert_ne!(error, EnqueueError::Locked, "the server waits for the lock");
                }
            }
            2 => {
                let _ = peer.run(1, || producer.consumer_idle());
            }
            3..=5 => {
                let (budget, stop) = (u32::from(operation >> 3), peer.below(64) as usize);
                let (mut got, bound) = (Vec::new(), 4 + (budget + 2) * 2 * (LOCK + 10));
                let outcome = peer.run(bound, || {
                    consumer.drain(budget, |item| {
                        if got.len() == stop {
                            return ControlFlow::Break(());
                        }
                        got.push(item);
                        ControlFlow::Continue(())
                    })
                });
                assert!(got.len() <= budget as usize && got.len() <= stop);
                got.into_iter().for_each(|item| came(&peer, &mut on_queue, item));
                match outcome {
                    Ok(shmqueue::Drained::Idle) if peer.was_honest() => assert!(on_queue.is_empty()),
                    Ok(_) => {}
                    Err(misbehaviour) => assert!(!peer.was_honest(), "{misbehaviour}"),
                }
            }
            6 => {
                if !peer.was_honest() {
                    consumer.forget();
                }
            }
            _ => peer.scribble(&memory, 0..BYTES),
        }
    }
}
