//! Either kind of queue, chosen when the program runs: a machine's command line, say, and not its build.
//!
//! [`Either`] has a trait where both of its kinds have it, [`WaitFree`] too: so the guarantee of the interrupt side stays a
//! matter of types. The choice is one comparison a call, of a word that never changes. A loop that calls for each item
//! may spare that too: it is written over the traits, and entered by a `match` on the end.
//!
//! ```
//! use shmqueue::{DualQueue, Item, Links, queue::{Consume, Produce, either::EitherQueue}, ring::Ring, sync::AtomicU32};
//!
//! struct Words([AtomicU32; 5]);
//! impl Links for Words {
//!     fn next(&self, item: Item) -> Option<&AtomicU32> {
//!         self.0.get(item.get() as usize)
//!     }
//! }
//!
//! let (dual, ring, words) = (DualQueue::new(), Ring::<4>::new(), Words([const { AtomicU32::new(0) }; 5]));
//! for queue in [EitherQueue::Dual(&dual), EitherQueue::Ring(&ring)] {
//!     let (mut producer, mut consumer) = (queue.in_producer(&words), queue.in_consumer(&words));
//!     assert_eq!(producer.produce_batch(&[Item::new(3).unwrap(), Item::new(1).unwrap()]), Ok(2));
//!     assert_eq!(consumer.consume()?, Item::new(3));
//!     assert_eq!((consumer.consume()?, consumer.consume()?), (Item::new(1), None));
//!     assert!(!producer.consumer_idle() && queue.is_empty());
//! }
//! # Ok::<(), shmqueue::PeerMisbehaviour>(())
//! ```

use super::{
    Consume, ControlFlow, Drain, Drained, DualQueue, InConsumer, InProducer, InQueue, Item, Links,
    OutConsumer, OutProducer, OutQueue, PeerMisbehaviour, Produce, ProduceError, Ring, RingConsumer,
    RingProducer, Stats, WaitFree,
};

/// A queue, or an end of one, of either kind.
#[derive(Clone, Copy, Debug)]
pub enum Either<D, R> {
    /// Dual sub-queues ([`crate::dual`]).
    Dual(D),
    /// Lamport's ring ([`crate::ring`]).
    Ring(R),
}

/// A queue in shared memory; a ring of it has room for `N`.
pub type EitherQueue<'q, const N: usize> = Either<&'q DualQueue, &'q Ring<N>>;
/// The interrupt side's end of an IN queue.
pub type EitherInProducer<'q, L, const N: usize> = Either<InProducer<'q, L>, RingProducer<'q, N>>;
/// The protocol side's end of an IN queue.
pub type EitherInConsumer<'q, L, const N: usize> = Either<InConsumer<'q, L>, RingConsumer<'q, N>>;
/// The protocol side's end of an OUT queue.
pub type EitherOutProducer<'q, L, const N: usize> = Either<OutProducer<'q, L>, RingProducer<'q, N>>;
/// The interrupt side's end of an OUT queue.
pub type EitherOutConsumer<'q, L, const N: usize> = Either<OutConsumer<'q, L>, RingConsumer<'q, N>>;

/// Does the same with whichever it is.
macro_rules! each {
    ($self:expr, $queue:ident => $body:expr) => {
        match $self {
            Either::Dual($queue) => $body,
            Either::Ring($queue) => $body,
        }
    };
}

impl<'q, const N: usize> EitherQueue<'q, N> {
    /// Whether it holds something: for audits. What a consumer of a dual queue has taken but not yet handed out does not
    /// count.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        each!(self, queue => queue.is_empty())
    }

    /// Whether the consumer has declared itself idle; for statistics and audits, without a fence.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        each!(self, queue => queue.is_idle())
    }

    /// The interrupt side's end of this IN queue, which is empty; made once.
    pub fn in_producer<L: Links>(self, links: L) -> EitherInProducer<'q, L, N> {
        match self {
            Self::Dual(queue) => Either::Dual(InProducer::new(queue, links)),
            Self::Ring(ring) => Either::Ring(RingProducer::new(ring)),
        }
    }

    /// The protocol side's end of this IN queue, which is empty; made once.
    pub fn in_consumer<L: Links>(self, links: L) -> EitherInConsumer<'q, L, N> {
        match self {
            Self::Dual(queue) => Either::Dual(InConsumer::new(queue, links)),
            Self::Ring(ring) => Either::Ring(RingConsumer::new(ring)),
        }
    }

    /// The protocol side's end of this OUT queue, which is empty; made once.
    pub fn out_producer<L: Links>(self, links: L) -> EitherOutProducer<'q, L, N> {
        match self {
            Self::Dual(queue) => Either::Dual(OutProducer::new(queue, links)),
            Self::Ring(ring) => Either::Ring(RingProducer::new(ring)),
        }
    }

    /// The interrupt side's end of this OUT queue, which is empty; made once.
    pub fn out_consumer<L: Links>(self, links: L) -> EitherOutConsumer<'q, L, N> {
        match self {
            Self::Dual(queue) => Either::Dual(OutConsumer::new(queue, links)),
            Self::Ring(ring) => Either::Ring(RingConsumer::new(ring)),
        }
    }
}

impl<const N: usize, L: Links> InQueue<L> for EitherQueue<'_, N> {
    type Producer<'q>
        = EitherInProducer<'q, L, N>
    where
        Self: 'q,
        L: 'q;
    type Consumer<'q>
        = EitherInConsumer<'q, L, N>
    where
        Self: 'q,
        L: 'q;

    fn in_producer<'q>(&'q self, links: L) -> Self::Producer<'q>
    where
        L: 'q,
    {
        (*self).in_producer(links)
    }

    fn in_consumer<'q>(&'q self, links: L) -> Self::Consumer<'q>
    where
        L: 'q,
    {
        (*self).in_consumer(links)
    }
}

impl<const N: usize, L: Links> OutQueue<L> for EitherQueue<'_, N> {
    type Producer<'q>
        = EitherOutProducer<'q, L, N>
    where
        Self: 'q,
        L: 'q;
    type Consumer<'q>
        = EitherOutConsumer<'q, L, N>
    where
        Self: 'q,
        L: 'q;

    fn out_producer<'q>(&'q self, links: L) -> Self::Producer<'q>
    where
        L: 'q,
    {
        (*self).out_producer(links)
    }

    fn out_consumer<'q>(&'q self, links: L) -> Self::Consumer<'q>
    where
        L: 'q,
    {
        (*self).out_consumer(links)
    }
}

impl<D: WaitFree, R: WaitFree> WaitFree for Either<D, R> {}

impl<D: Produce, R: Produce> Produce for Either<D, R> {
    #[inline]
    fn produce(&mut self, item: Item) -> Result<(), ProduceError> {
        each!(self, end => end.produce(item))
    }

    #[inline]
    fn produce_batch(&mut self, items: &[Item]) -> Result<usize, ProduceError> {
        each!(self, end => end.produce_batch(items))
    }

    #[inline]
    fn consumer_idle(&self) -> bool {
        each!(self, end => end.consumer_idle())
    }

    #[inline]
    fn consumer_idle_fenced(&self) -> bool {
        each!(self, end => end.consumer_idle_fenced())
    }

    fn stats(&self) -> Stats {
        each!(self, end => end.stats())
    }
}

impl<D: Consume, R: Consume> Consume for Either<D, R> {
    #[inline]
    fn consume(&mut self) -> Result<Option<Item>, PeerMisbehaviour> {
        each!(self, end => end.consume())
    }

    #[inline]
    fn consume_batch(&mut self, items: &mut [Item]) -> Result<usize, PeerMisbehaviour> {
        each!(self, end => end.consume_batch(items))
    }

    #[inline]
    fn set_idle(&mut self) {
        each!(self, end => end.set_idle());
    }

    #[inline]
    fn announce_idle(&mut self) {
        each!(self, end => end.announce_idle());
    }

    #[inline]
    fn clear_idle(&mut self) {
        each!(self, end => end.clear_idle());
    }

    fn stats(&self) -> Stats {
        each!(self, end => end.stats())
    }
}

impl<D: Drain, R: Drain> Drain for Either<D, R> {
    #[inline]
    fn drain(
        &mut self,
        budget: u32,
        send: impl FnMut(Item) -> ControlFlow<()>,
    ) -> Result<Drained, PeerMisbehaviour> {
        each!(self, end => end.drain(budget, send))
    }

    #[inline]
    fn waits(&self) -> bool {
        each!(self, end => end.waits())
    }

    fn start_idle(&mut self) {
        each!(self, end => end.start_idle());
    }

    fn stats(&self) -> Stats {
        each!(self, end => end.stats())
    }
}
