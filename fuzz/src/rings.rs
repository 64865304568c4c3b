//! Lamport's ring of items between ends that are lied to.
#![expect(unsafe_code, reason = "takes a ring out of shared memory")]

use std::collections::VecDeque;
use std::ops::ControlFlow;

use shmqueue::{
    Item,
    ring::{PushError, Ring, RingConsumer, RingProducer},
};

use crate::{input::Input, memory::Guarded, peer::Peer};

const SLOTS: usize = 64;

/// The ring of items.
pub fn item_ring(data: &[u8]) {
    let memory = Guarded::new(size_of::<Ring<SLOTS>>());
    // SAFETY: atomics only, and zero bytes are an empty ring.
    let ring: &Ring<SLOTS> = unsafe { memory.at(0) };
    let base = memory.address();
    let shapes = vec![0, 1, 2, 63, 64, 65, 128, 1 << 31, (1 << 31) - 1, u32::MAX];
    let peer = Peer::new(Input::new(data), shapes).may_store(base..base + memory.bytes());
    let (mut producer, mut consumer) = (RingProducer::new(ring), RingConsumer::new(ring));
    let (mut model, mut number) = (VecDeque::new(), 0u32);
    while let Some(operation) = peer.input(Input::next) {
        let many = u32::from(operation >> 3);
        match operation & 7 {
            0 | 1 => {
                for _ in 0..=many {
                    number = number.wrapping_add(1).max(1);
                    let Some(item) = Item::new(number) else { continue };
                    let outcome = peer.run(3, || producer.push(item));
                    match outcome {
                        Ok(()) => model.push_back(item),
                        Err(PushError::Full) if peer.was_honest() => assert_eq!(model.len(), SLOTS),
                        Err(PushError::Full) => {}
                        Err(PushError::Peer(what)) => assert!(!peer.was_honest(), "{what}"),
                    }
                }
            }
            2 | 3 => {
                for _ in 0..=many {
                    let outcome = peer.run(3, || consumer.pop());
                    if peer.was_honest() {
                        assert_eq!(outcome, Ok(model.pop_front()));
                    }
                }
            }
            4 | 5 => {
                let stop = peer.below(64) as usize;
                let (mut got, bound) = (Vec::new(), 3 + (many + 1) * 6);
                let outcome = peer.run(bound, || {
                    consumer.drain(many, |item| {
                        if got.len() == stop {
                            return ControlFlow::Break(());
                        }
                        got.push(item);
                        ControlFlow::Continue(())
                    })
                });
                assert!(got.len() <= many as usize && got.len() <= stop);
                if peer.was_honest() {
                    let expected: Vec<Item> = model.drain(..got.len()).collect();
                    assert_eq!(got, expected);
                    assert!(outcome != Ok(shmqueue::Drained::Idle) || model.is_empty());
                }
            }
            6 => {
                peer.run(1, || consumer.set_idle());
                let _ = peer.run(1, || producer.consumer_idle());
                peer.run(1, || consumer.clear_idle());
            }
            _ => peer.scribble(&memory, 0..memory.bytes()),
        }
    }
}
