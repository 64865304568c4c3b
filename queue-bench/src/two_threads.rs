//! Two threads, on two processors where there are two: how many items pass, how long one takes there and back.

use std::hint::spin_loop;
use std::sync::Barrier;
use std::sync::atomic::{
    AtomicU32,
    Ordering::{Acquire, Release},
};
use std::thread;
use std::time::{Duration, Instant};

use crate::contestants::{Contestant, Pop, Push};
use crate::{BUFFERS, Cycle, out_of_order};

/// The consumer gives buffers back in bundles of so many.
const RETURNED: u32 = 32;

/// Looks so often before it gives the processor away: the other thread may wait for this one.
const LOOKS: u32 = 100;

/// A counter with a cache line of its own.
#[repr(align(128))]
struct Line(AtomicU32);

/// Polls until `look` finds something.
#[inline(always)]
fn wait<T>(mut look: impl FnMut() -> Option<T>) -> T {
    loop {
        for _ in 0..LOOKS {
            if let Some(found) = look() {
                return found;
            }
            spin_loop();
        }
        thread::yield_now();
    }
}

/// Sends `count` items from one thread to another; returns how long that took, from the moment when both were ready.
///
/// The producer reuses a buffer only after the consumer gave it back, by one counter that is the same for all queues.
///
/// # Panics
/// The queue loses or reorders items.
pub fn stream<C: Contestant>(count: u32) -> Duration {
    let mut queue = C::new();
    let (mut producer, mut consumer) = queue.split();
    let (returned, ready) = (&Line(AtomicU32::new(0)), &Barrier::new(2));
    thread::scope(|scope| {
        // Each end moves to the stack of its thread: in one frame the two would share a cache line.
        scope.spawn(move || {
            let (mut cycle, mut free) = (Cycle::default(), BUFFERS);
            ready.wait();
            for sent in 0..count {
                if free == 0 {
                    free = wait(|| {
                        let back = returned.0.load(Acquire); // pairs with the consumer's store
                        Some(BUFFERS - (sent - back)).filter(|free| *free > 0)
                    });
                }
                free -= 1;
                let item = cycle.advance();
                wait(|| producer.push(item).then_some(()));
            }
        });
        ready.wait();
        let start = Instant::now();
        let (mut cycle, mut received) = (Cycle::default(), 0);
        while received < count {
            // The bundle is whole unless the stream ends.
            let bundle = RETURNED.min(count - received);
            let mut left = bundle;
            while left > 0 {
                left -= wait(|| {
                    let popped = consumer.drain(left, |item| {
                        let expected = cycle.advance();
                        if item != expected {
                            out_of_order(Some(item), expected);
                        }
                    });
                    Some(popped).filter(|popped| *popped > 0)
                });
            }
            received += bundle;
            returned.0.store(received, Release); // pairs with the producer's load
        }
        start.elapsed()
    })
}

/// Sends one item there and back `count` times, by two queues of the same kind; returns how long that took.
///
/// # Panics
/// What comes back is not what was sent.
pub fn ping_pong<C: Contestant>(count: u32) -> Duration {
    let (mut there, mut back) = (C::new(), C::new());
    let ((mut ping, mut ping_end), (mut pong, mut pong_end)) = (there.split(), back.split());
    let ready = &Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(move || {
            ready.wait();
            for _ in 0..count {
                let item = wait(|| ping_end.pop());
                wait(|| pong.push(item).then_some(()));
            }
        });
        ready.wait();
        let start = Instant::now();
        let mut cycle = Cycle::default();
        for _ in 0..count {
            let item = cycle.advance();
            wait(|| ping.push(item).then_some(()));
            let got = wait(|| pong_end.pop());
            if got != item {
                out_of_order(Some(got), item);
            }
        }
        start.elapsed()
    })
}
