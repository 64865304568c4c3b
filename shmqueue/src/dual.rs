//! IN and OUT queues: two sub-queues each, so that the side that may not wait always finds one (R&H,
//! "Queues").
//!
//! The consumer of an IN queue is the protocol server, of an OUT queue the device driver. A producer stays on
//! its current sub-queue until it finds that locked; only then it goes to the other, puts its item there and
//! sets that one's Enabled flag. The consumer locks only *its* current sub-queue, and follows when that is
//! empty and the other is Enabled. So at most one of the two is locked by the consumer, and the items come
//! out in the order they went in.
//!
//! | | producer | consumer |
//! | --- | --- | --- |
//! | IN (also the deferred-free queue) | [`InProducer`], interrupt side | [`InConsumer`], protocol side |
//! | OUT | [`OutProducer`], protocol side | [`OutConsumer`], interrupt side |
//!
//! # What differs from the paper, and why it is the same queue
//! * The consumer takes the whole list of its sub-queue in one critical section of two accesses, and hands
//!   out the items from a private chain: one lock and one fence per burst, not per packet. To the producer
//!   this cannot be told from as many dequeues in a row as fit between two of its own attempts.
//! * The consumer first looks, without the lock, whether its sub-queue is empty. Only the consumer empties it,
//!   and a producer that left a sub-queue because the consumer held it does not come back before the consumer
//!   has moved too: so "empty, and the other is Enabled" stays true once it is seen. An idle poll costs two
//!   loads and no fence.
//! * The place of the last item is private to the producer: only it needs it, and only while `head` says that
//!   the list is not empty. A peer cannot make the producer write anywhere but to a link of its own item.
//!
//! # Waking the consumer, in phases
//! 1. The producer appends, any number of items.
//! 2. FENCE, then it loads the condition ([`InProducer::consumer_idle`]); if that is set, it posts an event.
//!
//! 1. The consumer finds nothing, sets the condition, FENCE ([`InConsumer::set_idle`]).
//! 2. It looks again, at both sub-queues by the same rules. Only if there is still nothing it waits for an
//!    event.
//!
//! ```text
//! producer                      consumer
//! append                        condition = 1
//! FENCE                         FENCE
//! load condition                look again
//! ```
//! Both "append unseen" and "condition unseen" at once would be the lost wake-up; the two fences exclude it.
//! One FENCE and one load may follow several appends: the consumer that looks before the last of them and
//! goes idle has set the condition before the producer's FENCE. The event may come before the consumer waits:
//! it has to count (`thread_resume` does).

use core::fmt;

use crate::{
    links::{Item, Links, PeerMisbehaviour},
    mutex::AsymmetricMutex,
    sync::{AtomicU32, Ordering, const_unless_loom},
};
use Ordering::{Acquire, Relaxed, Release};

mod input;
mod output;

pub use input::{InConsumer, InProducer};
pub use output::{Drained, OutConsumer, OutProducer};

/// One of the two lists of a queue.
#[repr(C, align(64))]
struct SubQueue {
    mutex: AsymmetricMutex,
    /// The first item, 0 if empty. Changed only under the mutex; the consumer looks at it without.
    head: AtomicU32,
    /// Set by the producer when it moves here, cleared by the consumer when it follows.
    enabled: AtomicU32,
}

/// The control block of one queue in shared memory. All zero bytes are an empty queue with a consumer that is
/// not idle.
#[repr(C, align(64))]
pub struct DualQueue {
    subs: [SubQueue; 2],
    /// The condition variable: the consumer is idle. Written by the consumer.
    condition: Condition,
}

#[repr(C, align(64))]
struct Condition(AtomicU32);

impl SubQueue {
    const_unless_loom! {
        pub fn new() -> Self {
            Self { mutex: AsymmetricMutex::new(), head: AtomicU32::new(0), enabled: AtomicU32::new(0) }
        }
    }
}

impl DualQueue {
    /// The size of the control block; its alignment is 64.
    #[cfg(not(loom))]
    pub const BYTES: usize = 576;

    const_unless_loom! {
        /// An empty queue.
        #[must_use]
        pub fn new() -> Self {
            Self { subs: [SubQueue::new(), SubQueue::new()], condition: Condition(AtomicU32::new(0)) }
        }
    }

    /// Whether the consumer has declared itself idle; for statistics and audits, without a fence.
    pub fn is_idle(&self) -> bool {
        self.condition.0.load(Relaxed) != 0
    }

    /// Whether a sub-queue holds something: for audits. What a consumer has taken but not yet handed out does
    /// not count.
    pub fn is_empty(&self) -> bool {
        self.subs.iter().all(|sub| sub.head.load(Relaxed) == 0)
    }
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<DualQueue>() == DualQueue::BYTES);

impl Default for DualQueue {
    fn default() -> Self {
        Self::new()
    }
}

/// Why an item was not put on a queue. The caller still owns it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EnqueueError {
    /// Both sub-queues were locked. A correct consumer locks one at a time, so this cannot be; it is counted.
    Locked,
    /// The caller's item is none: [`Links`] knows no link word for it.
    NotAnItem,
    /// What the peer wrote makes no sense.
    Peer(PeerMisbehaviour),
}

impl fmt::Display for EnqueueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked => f.write_str("both sub-queues were locked by the consumer"),
            Self::NotAnItem => f.write_str("the offset to put on the queue is no item"),
            Self::Peer(misbehaviour) => misbehaviour.fmt(f),
        }
    }
}

impl core::error::Error for EnqueueError {}

/// What one end of a queue met; private to that end.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Stats {
    /// Attempts to lock that found the other side there.
    pub lock_failures: u32,
    /// Moves to the other sub-queue.
    pub switches: u32,
    /// Items refused because both sub-queues were locked: 0, unless the peer lies.
    pub impossible: u32,
    /// Critical sections entered.
    pub locked: u32,
}

/// A producer's private half: its sub-queue, and the last item of each list.
struct Tail {
    current: usize,
    last: [u32; 2],
}

impl Tail {
    const fn new() -> Self {
        Self { current: 0, last: [0; 2] }
    }

    /// Adds the chain `first ..= last` to sub-queue `at`. The caller holds that sub-queue's mutex.
    #[inline(always)]
    fn push<L: Links>(
        &mut self,
        queue: &DualQueue,
        links: &L,
        at: usize,
        first: Item,
        last: Item,
    ) -> Result<(), PeerMisbehaviour> {
        let sub = &queue.subs[at & 1];
        let tail = &mut self.last[at & 1];
        // Relaxed: the mutex orders head and links. The consumer's look without the mutex takes nothing from
        // them.
        if sub.head.load(Relaxed) == 0 {
            sub.head.store(first.get(), Relaxed);
        } else {
            // Not the peer's word: our own last item, which is still on the list.
            let link =
                Item::new(*tail).and_then(|tail| links.next(tail)).ok_or(PeerMisbehaviour::NotEmpty)?;
            link.store(first.get(), Relaxed);
        }
        *tail = last.get();
        Ok(())
    }

    /// The rest of a move to sub-queue `to`, under its mutex and after the push.
    #[inline(always)]
    fn move_to(&mut self, queue: &DualQueue, to: usize) {
        // Release: pairs with the Acquire load in `Head::follow`, which so finds the item that came before.
        queue.subs[to & 1].enabled.store(1, Release);
        self.current = to;
    }
}

/// Ends the chain at `last`.
#[inline(always)]
fn end_chain<L: Links>(links: &L, last: Item) -> Result<(), EnqueueError> {
    // Relaxed: published by the unlock of the push.
    links.next(last).ok_or(EnqueueError::NotAnItem)?.store(0, Relaxed);
    Ok(())
}

/// Links `items` into a chain that ends, before any lock is taken. Returns its last item.
#[inline]
fn link_chain<L: Links>(links: &L, items: &[Item]) -> Result<Option<(Item, Item)>, EnqueueError> {
    let [first, rest @ ..] = items else { return Ok(None) };
    let mut last = *first;
    for &item in rest {
        links.next(last).ok_or(EnqueueError::NotAnItem)?.store(item.get(), Relaxed);
        last = item;
    }
    end_chain(links, last)?;
    Ok(Some((*first, last)))
}

/// A consumer's private half: its sub-queue, and what it took from it and has not yet handed out.
struct Head {
    current: usize,
    taken: Option<Item>,
}

impl Head {
    const fn new() -> Self {
        Self { current: 0, taken: None }
    }

    /// Whether the current sub-queue shows something; a look without the mutex.
    #[inline(always)]
    fn looks_filled(&self, queue: &DualQueue) -> bool {
        queue.subs[self.current & 1].head.load(Relaxed) != 0
    }

    /// Goes to the other sub-queue if the producer has gone there. Called only when the current one is empty.
    #[inline(always)]
    fn follow(&mut self, queue: &DualQueue) -> bool {
        let other = (self.current & 1) ^ 1;
        let enabled = &queue.subs[other].enabled;
        // Acquire: pairs with the Release in `Tail::move_to`.
        if enabled.load(Acquire) == 0 {
            return false;
        }
        self.current = other;
        // Release, before the lock of the sub-queue we came to: the producer sets this flag again only after
        // it failed on the lock that we take next.
        enabled.store(0, Release);
        true
    }

    /// Takes the whole list of the current sub-queue. The caller holds its mutex.
    #[inline(always)]
    fn take_all(&mut self, queue: &DualQueue) {
        let head = &queue.subs[self.current & 1].head;
        self.taken = Item::new(head.load(Relaxed));
        head.store(0, Relaxed);
    }

    /// The first item of the private chain and the one after it; each link is loaded once and checked when it
    /// is its turn.
    #[inline(always)]
    fn first<L: Links>(&self, links: &L) -> Result<Option<(Item, Option<Item>)>, PeerMisbehaviour> {
        let Some(item) = self.taken else { return Ok(None) };
        // Relaxed: written before the unlock that our lock synchronised with.
        let link = links.next(item).ok_or(PeerMisbehaviour::NotAnItem(item.get()))?;
        Ok(Some((item, Item::new(link.load(Relaxed)))))
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
