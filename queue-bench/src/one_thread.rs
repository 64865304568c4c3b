//! What one thread can do with both ends: the cost of the code alone, with everything in the first cache.

use std::hint::black_box;
use std::sync::atomic::{Ordering::SeqCst, compiler_fence};

use crate::contestants::{Contestant, Pop, Push};
use crate::{Cycle, no_room, out_of_order};

/// Items in a burst.
pub const BURST: u64 = 32;

/// What is repeated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pattern {
    /// Push one item, pop it.
    Pair,
    /// Push [`BURST`] items, pop them all; counted by the pair.
    Burst,
    /// Push one item, ask whether the consumer is idle, pop the item.
    Checked,
    /// Pop from the empty queue.
    Empty,
}

impl Pattern {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Pair, Self::Burst, Self::Checked, Self::Empty];

    /// Its name on the command line and in results.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pair => "pair",
            Self::Burst => "burst",
            Self::Checked => "checked",
            Self::Empty => "empty",
        }
    }

    /// Repeats the pattern `count` times, rounded up to whole bursts, with a queue of kind `C` that is made for it.
    ///
    /// # Panics
    /// The queue gives an item that it should not.
    pub fn run<C: Contestant>(self, count: u64) {
        self.prepare::<C, ()>(|repeat| repeat(count));
    }

    /// Makes a queue and lets `with` repeat the pattern with it, as often as it likes.
    pub fn prepare<C: Contestant, R>(self, with: impl FnOnce(&mut dyn FnMut(u64)) -> R) -> R {
        let mut queue = C::new();
        let (mut producer, mut consumer) = queue.split();
        let (mut sent, mut received) = (Cycle::default(), Cycle::default());
        // The ends live in memory that others may see, as in a driver: the compiler must not keep them in registers from one
        // call to the next.
        let (producer, consumer) = black_box((&mut producer, &mut consumer));
        match self {
            Self::Pair => with(&mut |count| {
                for _ in 0..count {
                    push(producer, &mut sent);
                    pop(consumer, &mut received);
                }
            }),
            Self::Burst => with(&mut |count| {
                for _ in 0..count.div_ceil(BURST) {
                    for _ in 0..BURST {
                        push(producer, &mut sent);
                    }
                    let mut left = BURST as u32;
                    while left > 0 {
                        left -= consumer.drain(left, |item| check(Some(item), &mut received));
                    }
                }
            }),
            Self::Checked => with(&mut |count| {
                let mut idle = 0;
                for _ in 0..count {
                    push(producer, &mut sent);
                    idle += u64::from(producer.consumer_idle());
                    pop(consumer, &mut received);
                }
                black_box(idle);
            }),
            Self::Empty => with(&mut |count| {
                for _ in 0..count {
                    if let Some(item) = black_box(consumer.pop()) {
                        out_of_order(Some(item), item);
                    }
                }
            }),
        }
    }
}

#[inline(always)]
fn push(producer: &mut impl Push, sent: &mut Cycle) {
    if !producer.push(black_box(sent.advance())) {
        no_room();
    }
    // What was pushed must be in memory before it is popped: the two ends are never one function in use.
    compiler_fence(SeqCst);
}

#[inline(always)]
fn pop(consumer: &mut impl Pop, received: &mut Cycle) {
    check(consumer.pop(), received);
    compiler_fence(SeqCst);
}

#[inline(always)]
fn check(got: Option<shmqueue::Item>, received: &mut Cycle) {
    let expected = received.advance();
    if got != Some(expected) {
        out_of_order(got, expected);
    }
}
