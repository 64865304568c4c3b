//! Lamport's ring of items: one producer, one consumer; neither ever waits or finds a lock.
//!
//! The second kind of queue beside [`crate::dual`]. It needs no mutex, and each point at which an end could
//! die leaves it whole. What it cannot do: lists without a bound, and items taken back from the middle.
//!
//! # Ordering
//! Release of `tail` in `push` pairs with Acquire in `pop`: the slot is filled before it is said to be.
//! Release of `head` in `pop` pairs with Acquire in `push`: the slot was read before it is filled again. Idle
//! and wake-up are as in [`crate::dual`]: FENCE after the push and before the condition; FENCE after the
//! condition and before the second look.

use core::fmt;

use crate::{
    links::{Item, PeerMisbehaviour},
    sync::{
        AtomicU32,
        Ordering::{Acquire, Relaxed, Release},
        full_fence,
    },
};

mod drain;

#[repr(C, align(64))]
struct Line(AtomicU32);

/// A ring of `N` items in shared memory; `N` is a power of two. Zero bytes are an empty ring whose consumer
/// is not idle.
#[repr(C, align(64))]
pub struct Ring<const N: usize> {
    /// Where the producer writes next; written by the producer.
    tail: Line,
    /// Where the consumer reads next; written by the consumer.
    head: Line,
    /// The consumer is idle; written by the consumer.
    condition: Line,
    slots: [AtomicU32; N],
    /// Lets loom see that a slot is not filled while it is read.
    #[cfg(loom)]
    shadow: [loom::cell::UnsafeCell<()>; N],
}

impl<const N: usize> Ring<N> {
    const MASK: u32 = {
        assert!(N.is_power_of_two() && N <= 1 << 31, "a ring's capacity is a power of two");
        N as u32 - 1
    };

    /// An empty ring.
    #[cfg(not(loom))]
    #[must_use]
    pub const fn new() -> Self {
        Self {
            tail: Line(AtomicU32::new(0)),
            head: Line(AtomicU32::new(0)),
            condition: Line(AtomicU32::new(0)),
            slots: [const { AtomicU32::new(0) }; N],
        }
    }

    /// An empty ring.
    #[cfg(loom)]
    #[must_use]
    pub fn new() -> Self {
        let line = || Line(AtomicU32::new(0));
        Self {
            tail: line(),
            head: line(),
            condition: line(),
            slots: core::array::from_fn(|_| AtomicU32::new(0)),
            shadow: core::array::from_fn(|_| loom::cell::UnsafeCell::new(())),
        }
    }

    /// Whether the consumer has declared itself idle; for statistics and audits, without a fence.
    pub fn is_idle(&self) -> bool {
        self.condition.0.load(Relaxed) != 0
    }

    /// Whether there is nothing in it, by the two indices as they are now: for audits, and for a look before a wait.
    pub fn is_empty(&self) -> bool {
        self.tail.0.load(Relaxed) == self.head.0.load(Relaxed)
    }

    #[inline(always)]
    fn slot(&self, position: u32) -> &AtomicU32 {
        &self.slots[(position & Self::MASK) as usize]
    }
}

impl<const N: usize> Default for Ring<N> {
    fn default() -> Self {
        Self::new()
    }
}

/// Why an item was not pushed. The caller still owns it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PushError {
    /// `N` items are in the ring.
    Full,
    /// The consumer's index cannot be.
    Peer(PeerMisbehaviour),
}

impl fmt::Display for PushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the ring is full"),
            Self::Peer(misbehaviour) => misbehaviour.fmt(f),
        }
    }
}

impl core::error::Error for PushError {}

/// The end that pushes; one per ring, made while it is new.
pub struct RingProducer<'q, const N: usize> {
    ring: &'q Ring<N>,
    tail: u32,
    head_seen: u32,
}

impl<'q, const N: usize> RingProducer<'q, N> {
    /// The producer of the new `ring`.
    #[must_use]
    pub const fn new(ring: &'q Ring<N>) -> Self {
        Self { ring, tail: 0, head_seen: 0 }
    }

    /// Pushes `item`. After the last push of a burst, ask [`consumer_idle`](Self::consumer_idle).
    ///
    /// # Errors
    /// The item stays the caller's; see [`PushError`].
    #[inline]
    pub fn push(&mut self, item: Item) -> Result<(), PushError> {
        if self.tail.wrapping_sub(self.head_seen) == N as u32 {
            let head = self.ring.head.0.load(Acquire); // pairs with `RingConsumer::pop`
            if self.tail.wrapping_sub(head) > N as u32 {
                return Err(PushError::Peer(PeerMisbehaviour::Index(head)));
            }
            self.head_seen = head;
            if self.tail.wrapping_sub(head) == N as u32 {
                return Err(PushError::Full);
            }
        }
        #[cfg(loom)]
        self.ring.shadow[(self.tail & Ring::<N>::MASK) as usize].with_mut(|_| ());
        self.ring.slot(self.tail).store(item.get(), Relaxed);
        self.tail = self.tail.wrapping_add(1);
        self.ring.tail.0.store(self.tail, Release); // pairs with `RingConsumer::pop`
        Ok(())
    }

    /// Pushes items from the front of `items`, in order, as many as there is room for, and shows all of them to the
    /// consumer with one store; returns how many.
    ///
    /// # Errors
    /// Not even the first was pushed; see [`PushError`].
    #[inline]
    pub fn push_batch(&mut self, items: &[Item]) -> Result<usize, PushError> {
        let mut room = self.room();
        if room < items.len() {
            let head = self.ring.head.0.load(Acquire); // pairs with `RingConsumer::pop`, which reads before it
            if self.tail.wrapping_sub(head) as usize > N {
                return Err(PushError::Peer(PeerMisbehaviour::Index(head)));
            }
            self.head_seen = head;
            room = self.room();
            if room == 0 {
                return Err(PushError::Full);
            }
        }
        let items = &items[..room.min(items.len())];
        let mut tail = self.tail;
        for item in items {
            #[cfg(loom)]
            self.ring.shadow[(tail & Ring::<N>::MASK) as usize].with_mut(|_| ());
            self.ring.slot(tail).store(item.get(), Relaxed);
            tail = tail.wrapping_add(1);
        }
        self.tail = tail;
        self.ring.tail.0.store(tail, Release); // pairs with `RingConsumer::pop`: all slots are filled before
        Ok(items.len())
    }

    /// The room that there was when the consumer's index was last looked at.
    #[inline(always)]
    const fn room(&self) -> usize {
        // Never negative: `head_seen` is a checked index of the consumer, and `tail` went no further than its room.
        N - self.tail.wrapping_sub(self.head_seen) as usize
    }

    /// FENCE, then the condition: whether the consumer has to be woken. Once per burst, after its last push.
    #[inline]
    #[must_use = "an idle consumer that is not woken leaves the items in the ring"]
    pub fn consumer_idle(&self) -> bool {
        full_fence(); // pairs with the one in `RingConsumer::set_idle`
        self.consumer_idle_fenced()
    }

    /// The condition without the fence, for a producer of several rings that has put one [`full_fence`] behind all its
    /// pushes.
    #[inline]
    #[must_use = "an idle consumer that is not woken leaves the items in the ring"]
    pub fn consumer_idle_fenced(&self) -> bool {
        self.ring.condition.0.load(Relaxed) != 0
    }
}

/// The end that pops; one per ring, made while it is new.
///
/// ```
/// use shmqueue::{Item, ring::{Ring, RingConsumer, RingProducer}};
/// let ring = Ring::<4>::new();
/// let (mut producer, mut consumer) = (RingProducer::new(&ring), RingConsumer::new(&ring));
/// producer.push(Item::new(640).unwrap()).unwrap();
/// assert_eq!(consumer.pop()?, Item::new(640));
/// assert_eq!(consumer.pop()?, None);
/// # Ok::<(), shmqueue::PeerMisbehaviour>(())
/// ```
pub struct RingConsumer<'q, const N: usize> {
    ring: &'q Ring<N>,
    head: u32,
    tail_seen: u32,
}

impl<'q, const N: usize> RingConsumer<'q, N> {
    /// The consumer of the new `ring`.
    #[must_use]
    pub const fn new(ring: &'q Ring<N>) -> Self {
        Self { ring, head: 0, tail_seen: 0 }
    }

    /// The next item, in the order of the pushes.
    ///
    /// # Errors
    /// The producer's index cannot be, or a slot that it says is filled holds 0.
    #[inline]
    pub fn pop(&mut self) -> Result<Option<Item>, PeerMisbehaviour> {
        if self.tail_seen == self.head {
            let tail = self.ring.tail.0.load(Acquire); // pairs with `RingProducer::push`
            if tail.wrapping_sub(self.head) > N as u32 {
                return Err(PeerMisbehaviour::Index(tail));
            }
            self.tail_seen = tail;
            if tail == self.head {
                return Ok(None);
            }
        }
        #[cfg(loom)]
        self.ring.shadow[(self.head & Ring::<N>::MASK) as usize].with(|_| ());
        let item =
            Item::new(self.ring.slot(self.head).load(Relaxed)).ok_or(PeerMisbehaviour::NotAnItem(0))?;
        self.head = self.head.wrapping_add(1);
        self.ring.head.0.store(self.head, Release); // pairs with `RingProducer::push`
        Ok(Some(item))
    }

    /// Declares the consumer idle: condition, FENCE. Then pop once more, and wait only if there is still
    /// nothing.
    #[inline]
    pub fn set_idle(&mut self) {
        self.announce_idle();
        full_fence(); // pairs with the one in `RingProducer::consumer_idle`
    }

    /// [`set_idle`](Self::set_idle) without the fence, for a consumer of several rings that sets all their conditions and
    /// then puts one [`full_fence`] before it looks at all of them again; and for one that is idle from the start,
    /// before the producer pushes for the first time.
    #[inline]
    pub fn announce_idle(&mut self) {
        self.ring.condition.0.store(1, Release);
    }

    /// Whether there is an item, by the producer's index as it is now; a look that takes nothing and checks nothing.
    #[inline]
    pub fn waits(&self) -> bool {
        self.tail_seen != self.head || self.ring.tail.0.load(Relaxed) != self.head
    }

    /// The consumer works again.
    #[inline]
    pub fn clear_idle(&mut self) {
        self.ring.condition.0.store(0, Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
