//! Each queue behind the same two traits.
//!
//! A [`Contestant`] owns the queue and its buffers and gives out one producer and one consumer. What the traits add is
//! inlined away; the errors of a peer that lies are looked at, as a user would have to.

use shmqueue::Item;
use shmqueue::ring::{PushError, Ring, RingConsumer, RingProducer};

pub use dual::{DualIn, DualOut};
pub use foreign::{Crossbeam, Heapless, Ringbuf, Rtrb, SpinDeque};

use crate::{Cycle, SLOTS};

mod dual;
mod foreign;

/// The end that pushes.
pub trait Push: Send {
    /// Pushes `item`; false if there is no room.
    fn push(&mut self, item: Item) -> bool;
    /// Whether the consumer has said that it is idle, so that what was pushed is of no use unless it is woken.
    fn consumer_idle(&mut self) -> bool;
}

/// The end that pops.
pub trait Pop: Send {
    /// The next item.
    fn pop(&mut self) -> Option<Item>;

    /// Up to `limit` items, as many as there are; returns how many.
    #[inline(always)]
    fn drain(&mut self, limit: u32, mut take: impl FnMut(Item)) -> u32 {
        for count in 0..limit {
            match self.pop() {
                Some(item) => take(item),
                None => return count,
            }
        }
        limit
    }
}

/// A kind of queue.
pub trait Contestant: Sized {
    /// Its name in the table.
    const NAME: &'static str;
    /// The end that pushes.
    type Producer<'q>: Push
    where
        Self: 'q;
    /// The end that pops.
    type Consumer<'q>: Pop
    where
        Self: 'q;
    /// An empty queue.
    fn new() -> Self;
    /// Its two ends. Called once.
    fn split(&mut self) -> (Self::Producer<'_>, Self::Consumer<'_>);
}

/// Something to do with each kind of queue.
pub trait Visitor {
    /// Does it with `C`.
    fn visit<C: Contestant>(&mut self);
}

/// Shows all contestants to `visitor`, ours first.
pub fn each(visitor: &mut impl Visitor) {
    visitor.visit::<LamportRing>();
    visitor.visit::<DualIn>();
    visitor.visit::<DualOut>();
    visitor.visit::<Heapless>();
    visitor.visit::<Rtrb>();
    visitor.visit::<Ringbuf>();
    visitor.visit::<Crossbeam>();
    visitor.visit::<SpinDeque>();
}

#[cold]
#[inline(never)]
fn misbehaviour(what: impl std::fmt::Display) -> ! {
    panic!("the other end is of this program, and lies: {what}")
}

/// The loop of a pattern with no queue in it: what all figures of that pattern contain.
pub struct LoopAlone(());

impl Contestant for LoopAlone {
    const NAME: &'static str = "(the loop alone)";
    type Producer<'q> = LoopAlone;
    type Consumer<'q> = Cycle;
    fn new() -> Self {
        Self(())
    }
    fn split(&mut self) -> (LoopAlone, Cycle) {
        (Self(()), Cycle::default())
    }
}

impl Push for LoopAlone {
    #[inline(always)]
    fn push(&mut self, _: Item) -> bool {
        true
    }
    #[inline(always)]
    fn consumer_idle(&mut self) -> bool {
        false
    }
}

impl Pop for Cycle {
    #[inline(always)]
    fn pop(&mut self) -> Option<Item> {
        Some(self.advance())
    }
}

/// `shmqueue::ring`.
pub struct LamportRing(Box<Ring<SLOTS>>);

impl Contestant for LamportRing {
    const NAME: &'static str = "shmqueue ring";
    type Producer<'q> = RingProducer<'q, SLOTS>;
    type Consumer<'q> = RingConsumer<'q, SLOTS>;
    fn new() -> Self {
        Self(Box::new(Ring::new()))
    }
    fn split(&mut self) -> (Self::Producer<'_>, Self::Consumer<'_>) {
        (RingProducer::new(&self.0), RingConsumer::new(&self.0))
    }
}

impl Push for RingProducer<'_, SLOTS> {
    #[inline(always)]
    fn push(&mut self, item: Item) -> bool {
        match RingProducer::push(self, item) {
            Ok(()) => true,
            Err(PushError::Full) => false,
            Err(PushError::Peer(what)) => misbehaviour(what),
        }
    }
    #[inline(always)]
    fn consumer_idle(&mut self) -> bool {
        RingProducer::consumer_idle(self)
    }
}

impl Pop for RingConsumer<'_, SLOTS> {
    #[inline(always)]
    fn pop(&mut self) -> Option<Item> {
        RingConsumer::pop(self).unwrap_or_else(|what| misbehaviour(what))
    }
}
