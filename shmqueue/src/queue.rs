//! What all queues here have in common, so that a program can be written once and run with either kind: dual
//! sub-queues ([`crate::dual`]) or Lamport's ring ([`crate::ring`]).
//!
//! | trait | who has it | dual | ring |
//! | --- | --- | --- | --- |
//! | [`Produce`] | any producer | [`InProducer`], [`OutProducer`] | [`RingProducer`] |
//! | [`Consume`] | a consumer that waits for an event when there is nothing: a task | [`InConsumer`] | [`RingConsumer`] |
//! | [`Drain`] | a consumer that is started by the producer when it is idle: a device driver | [`OutConsumer`] | [`RingConsumer`] |
//! | [`WaitFree`] | an end none of whose methods waits | [`InProducer`], [`OutConsumer`] | both ends |
//! | [`InQueue`], [`OutQueue`] | a kind of queue, with the types of its ends | [`DualQueue`] | [`Ring`] |
//!
//! Which kind it is may also be chosen when the program runs: [`either`](self::either) has all of them for one or the other.
//!
//! No method of a trait waits for an event: [`next`] takes from its caller how that is done. Some ends of the
//! protocol side spin for a critical section of the other side on another processor; [`WaitFree`] keeps them out of
//! an interrupt handler:
//! ```compile_fail,E0277
//! use shmqueue::{DualQueue, Links, queue::{OutQueue, Produce, WaitFree}};
//!
//! fn interrupt_handler(mut producer: impl Produce + WaitFree) {}
//!
//! fn wrong(queue: &DualQueue, links: impl Links) {
//!     interrupt_handler(queue.out_producer(links)); // the task's end, which may have to wait for the driver
//! }
//! ```
//!
//! # What differs between the kinds
//! A dual queue takes any number of items, and needs [`Links`]; a ring is [full](ProduceError::Full) after `N`, and
//! ignores them. A ring that has room for all items there are is never full. A batch goes into a dual queue as a
//! whole; [`Produce::produce_batch`] promises no more than its front, in order. What an end has met at locks
//! ([`Stats`]) is all zeros for a ring, which has none.

use core::{fmt, ops::ControlFlow};

use crate::{
    Drained, DualQueue, EnqueueError, InConsumer, InProducer, Item, Links, OutConsumer, OutProducer,
    PeerMisbehaviour, Stats,
    ring::{PushError, Ring, RingConsumer, RingProducer},
};

/// Why an item was not put on a queue. The caller still owns it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ProduceError {
    /// There is no room for it now (a ring).
    Full,
    /// The consumer was in both sub-queues, as only a wrong one can be (a dual queue, from the interrupt side).
    Locked,
    /// The caller's item is none.
    NotAnItem,
    /// What the peer wrote makes no sense.
    Peer(PeerMisbehaviour),
}

impl fmt::Display for ProduceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => PushError::Full.fmt(f),
            Self::Locked => EnqueueError::Locked.fmt(f),
            Self::NotAnItem => EnqueueError::NotAnItem.fmt(f),
            Self::Peer(misbehaviour) => misbehaviour.fmt(f),
        }
    }
}

impl core::error::Error for ProduceError {}

impl From<EnqueueError> for ProduceError {
    #[inline]
    fn from(error: EnqueueError) -> Self {
        match error {
            EnqueueError::Locked => Self::Locked,
            EnqueueError::NotAnItem => Self::NotAnItem,
            EnqueueError::Peer(misbehaviour) => Self::Peer(misbehaviour),
        }
    }
}

impl From<PushError> for ProduceError {
    #[inline]
    fn from(error: PushError) -> Self {
        match error {
            PushError::Full => Self::Full,
            PushError::Peer(misbehaviour) => Self::Peer(misbehaviour),
        }
    }
}

/// The end that puts items on a queue.
pub trait Produce {
    /// Puts `item` on the queue, behind all others. After the last of a burst, ask
    /// [`consumer_idle`](Self::consumer_idle).
    ///
    /// # Errors
    /// The item stays the caller's; see [`ProduceError`].
    fn produce(&mut self, item: Item) -> Result<(), ProduceError>;

    /// Puts items from the front of `items` on the queue, in order, as many as there is room for; returns how many.
    /// The others stay the caller's.
    ///
    /// # Errors
    /// The very first item was refused; all stay the caller's.
    fn produce_batch(&mut self, items: &[Item]) -> Result<usize, ProduceError>;

    /// FENCE, then the condition: whether the consumer has to be woken, or the device started. Once per burst, after
    /// its last item: who does not ask may strand the items.
    #[must_use = "an idle consumer that is not woken leaves the items on the queue"]
    fn consumer_idle(&self) -> bool;

    /// [`consumer_idle`](Self::consumer_idle) without the fence, for a producer of several queues that has put one
    /// [`full_fence`](crate::sync::full_fence) behind the items of all of them.
    #[must_use = "an idle consumer that is not woken leaves the items on the queue"]
    fn consumer_idle_fenced(&self) -> bool;

    /// What this end has met.
    fn stats(&self) -> Stats;
}

/// The end of a task that takes items from a queue, and waits for an event when there are none ([`next`]).
pub trait Consume {
    /// The next item, in the order in which they were put on the queue.
    ///
    /// # Errors
    /// What the peer wrote makes no sense.
    fn consume(&mut self) -> Result<Option<Item>, PeerMisbehaviour>;

    /// Takes as many as there are, at most `items.len()`, into the front of `items`; returns how many.
    ///
    /// # Errors
    /// As [`consume`](Self::consume), if there was not even a first; else the next call reports it.
    #[inline]
    fn consume_batch(&mut self, items: &mut [Item]) -> Result<usize, PeerMisbehaviour> {
        let mut count = 0;
        for slot in items {
            match self.consume() {
                Ok(Some(item)) => *slot = item,
                Ok(None) => break,
                Err(misbehaviour) if count == 0 => return Err(misbehaviour),
                Err(_) => break,
            }
            count += 1;
        }
        Ok(count)
    }

    /// Declares the consumer idle: condition, FENCE. Then consume once more, and wait only if there is still nothing.
    fn set_idle(&mut self);

    /// [`set_idle`](Self::set_idle) without the fence, for a consumer of several queues that sets all their conditions
    /// and then puts one [`full_fence`](crate::sync::full_fence) before it looks at all of them again.
    fn announce_idle(&mut self);

    /// The consumer works again, having found an item or having been woken.
    fn clear_idle(&mut self);

    /// What this end has met.
    fn stats(&self) -> Stats;
}

/// The end of a device driver, which takes what there is and never waits: the producer starts it when it is idle.
pub trait Drain: WaitFree {
    /// Hands items to `send` in order, at most `budget` of them, until there are none; then the consumer is idle.
    ///
    /// `send` answers `Continue` if it took the item, `Break` if it did not: that item comes first in the next drain.
    ///
    /// # Errors
    /// What the peer wrote makes no sense. The items that `send` took before are sent.
    fn drain(
        &mut self,
        budget: u32,
        send: impl FnMut(Item) -> ControlFlow<()>,
    ) -> Result<Drained, PeerMisbehaviour>;

    /// Whether there is something to drain; a look that takes nothing.
    fn waits(&self) -> bool;

    /// Declares the consumer idle at the start, before the producer puts its first item on the queue.
    fn start_idle(&mut self);

    /// What this end has met.
    fn stats(&self) -> Stats;
}

/// An end for the side that must not wait: each of its methods makes a number of accesses that the caller's
/// arguments bound, whatever the peer does, and spins for nothing.
pub trait WaitFree {}

/// A kind of queue from the interrupt side to the protocol side.
///
/// Each end is made once, while the queue is empty, by the side that has it: the two sides may be programs that share
/// no more than the memory of the queue.
pub trait InQueue<L: Links> {
    /// The interrupt side's end.
    type Producer<'q>: Produce + WaitFree
    where
        Self: 'q,
        L: 'q;
    /// The protocol side's end.
    type Consumer<'q>: Consume
    where
        Self: 'q,
        L: 'q;

    /// The interrupt side's end of this queue, which is empty.
    fn in_producer<'q>(&'q self, links: L) -> Self::Producer<'q>
    where
        L: 'q;

    /// The protocol side's end of this queue, which is empty.
    fn in_consumer<'q>(&'q self, links: L) -> Self::Consumer<'q>
    where
        L: 'q;
}

/// A kind of queue from the protocol side to the interrupt side; the ends are made as those of an [`InQueue`].
pub trait OutQueue<L: Links> {
    /// The protocol side's end.
    type Producer<'q>: Produce
    where
        Self: 'q,
        L: 'q;
    /// The interrupt side's end.
    type Consumer<'q>: Drain
    where
        Self: 'q,
        L: 'q;

    /// The protocol side's end of this queue, which is empty.
    fn out_producer<'q>(&'q self, links: L) -> Self::Producer<'q>
    where
        L: 'q;

    /// The interrupt side's end of this queue, which is empty.
    fn out_consumer<'q>(&'q self, links: L) -> Self::Consumer<'q>
    where
        L: 'q;
}

/// The next item, having waited for it: R&H's get. `wait` returns when an event was posted, also one that came before
/// it began to wait; it may return for nothing.
///
/// ```
/// use shmqueue::{Item, queue::{self, Produce}, ring::{Ring, RingConsumer, RingProducer}};
///
/// let ring = Ring::<4>::new();
/// let (mut producer, mut consumer) = (RingProducer::new(&ring), RingConsumer::new(&ring));
/// // Here the "event" is the other side itself, which runs when this one waits.
/// let item = queue::next(&mut consumer, || producer.produce(Item::new(7).unwrap()).unwrap())?;
/// assert_eq!(item.get(), 7);
/// # Ok::<(), shmqueue::PeerMisbehaviour>(())
/// ```
///
/// # Errors
/// As [`Consume::consume`].
pub fn next(consumer: &mut impl Consume, mut wait: impl FnMut()) -> Result<Item, PeerMisbehaviour> {
    loop {
        if let Some(item) = consumer.consume()? {
            return Ok(item);
        }
        consumer.set_idle();
        let again = consumer.consume();
        if let Ok(None) = again {
            wait();
        }
        consumer.clear_idle();
        if let Some(item) = again? {
            return Ok(item);
        }
    }
}

pub mod either;
mod kinds;

#[cfg(all(test, not(loom)))]
mod tests;
