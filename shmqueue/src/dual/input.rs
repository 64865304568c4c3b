//! The IN queue: an interrupt handler produces, the protocol server consumes (R&H, "Queues").
//!
//! Also the deferred-free queue, on which the driver must be able to put every buffer that it cannot free
//! itself.

use super::{
    DualQueue, EnqueueError, Head, Item, Links, PeerMisbehaviour, Stats, Tail, end_chain, link_chain,
};
use crate::sync::{
    Ordering::{Relaxed, Release},
    full_fence,
};

/// The interrupt side's end of an IN queue. Wait-free: at most one failed attempt to lock per append.
///
/// There is one per queue, made while the queue is empty.
pub struct InProducer<'q, L> {
    queue: &'q DualQueue,
    links: L,
    tail: Tail,
    stats: Stats,
}

impl<'q, L: Links> InProducer<'q, L> {
    /// The producer of `queue`, which is empty.
    pub const fn new(queue: &'q DualQueue, links: L) -> Self {
        Self {
            queue,
            links,
            tail: Tail::new(),
            stats: Stats { lock_failures: 0, switches: 0, impossible: 0, locked: 0 },
        }
    }

    /// Appends `item`. After the last append of a burst, ask [`consumer_idle`](Self::consumer_idle).
    ///
    /// # Errors
    /// The item stays the caller's; see [`EnqueueError`].
    #[inline]
    pub fn append(&mut self, item: Item) -> Result<(), EnqueueError> {
        end_chain(&self.links, item)?;
        self.append_chain(item, item)
    }

    /// Appends all of `items` in one critical section, or none of them.
    ///
    /// # Errors
    /// The items stay the caller's; see [`EnqueueError`].
    #[inline]
    pub fn append_batch(&mut self, items: &[Item]) -> Result<(), EnqueueError> {
        match link_chain(&self.links, items)? {
            Some((first, last)) => self.append_chain(first, last),
            None => Ok(()),
        }
    }

    #[inline(always)]
    fn append_chain(&mut self, first: Item, last: Item) -> Result<(), EnqueueError> {
        let at = self.tail.current;
        if let Some(_guard) = self.queue.subs[at & 1].mutex.try_lock_interrupt() {
            self.stats.locked += 1;
            return self.tail.push(self.queue, &self.links, at, first, last).map_err(EnqueueError::Peer);
        }
        self.append_to_other(first, last)
    }

    /// The consumer holds the current sub-queue, so it does not hold the other.
    #[cold]
    fn append_to_other(&mut self, first: Item, last: Item) -> Result<(), EnqueueError> {
        self.stats.lock_failures += 1;
        let other = (self.tail.current & 1) ^ 1;
        let Some(_guard) = self.queue.subs[other].mutex.try_lock_interrupt() else {
            self.stats.lock_failures += 1;
            self.stats.impossible += 1;
            return Err(EnqueueError::Locked);
        };
        self.stats.locked += 1;
        self.tail.push(self.queue, &self.links, other, first, last).map_err(EnqueueError::Peer)?;
        self.tail.move_to(self.queue, other);
        self.stats.switches += 1;
        Ok(())
    }

    /// FENCE, then the condition: whether the consumer has to be woken. Once per burst, after its last
    /// append.
    #[inline]
    #[must_use = "an idle consumer that is not woken leaves the packets on the queue"]
    pub fn consumer_idle(&self) -> bool {
        full_fence(); // pairs with the one in `InConsumer::set_idle`
        self.consumer_idle_fenced()
    }

    /// The condition without the fence, for a producer of several queues that has put one [`full_fence`]
    /// behind all its appends.
    #[inline]
    #[must_use = "an idle consumer that is not woken leaves the packets on the queue"]
    pub fn consumer_idle_fenced(&self) -> bool {
        self.queue.condition.0.load(Relaxed) != 0
    }

    /// What this end has met.
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }
}

/// The protocol side's end of an IN queue.
///
/// There is one per queue, made while the queue is empty.
///
/// ```
/// use shmqueue::{DualQueue, InConsumer, InProducer, Item, Links, sync::AtomicU32};
///
/// /// Items are 1 ..= 4; item n has its link in word n.
/// struct Words([AtomicU32; 5]);
/// impl Links for Words {
///     fn next(&self, item: Item) -> Option<&AtomicU32> {
///         self.0.get(item.get() as usize)
///     }
/// }
///
/// let (queue, words) = (DualQueue::new(), Words([const { AtomicU32::new(0) }; 5]));
/// let mut producer = InProducer::new(&queue, &words);
/// let mut consumer = InConsumer::new(&queue, &words);
///
/// producer.append(Item::new(3).unwrap())?;
/// assert!(!producer.consumer_idle()); // it need not be woken
/// assert_eq!(consumer.dequeue()?, Item::new(3));
///
/// consumer.set_idle();
/// assert_eq!(consumer.dequeue()?, None); // looked again: now it may wait for an event
/// producer.append(Item::new(1).unwrap())?;
/// assert!(producer.consumer_idle()); // post the event
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct InConsumer<'q, L> {
    queue: &'q DualQueue,
    links: L,
    head: Head,
    stats: Stats,
}

impl<'q, L: Links> InConsumer<'q, L> {
    /// The consumer of `queue`, which is empty.
    pub const fn new(queue: &'q DualQueue, links: L) -> Self {
        Self {
            queue,
            links,
            head: Head::new(),
            stats: Stats { lock_failures: 0, switches: 0, impossible: 0, locked: 0 },
        }
    }

    /// The next item, in the order of the appends.
    ///
    /// # Errors
    /// The list leads to what is no item. It stays so: each further call says the same.
    #[inline]
    pub fn dequeue(&mut self) -> Result<Option<Item>, PeerMisbehaviour> {
        if self.head.taken.is_none() && !self.refill() {
            return Ok(None);
        }
        let Some((item, next)) = self.head.first(&self.links)? else { return Ok(None) };
        self.head.taken = next;
        Ok(Some(item))
    }

    /// The links by which it finds items: who looks for an item by them right after it came has the compiler see that they have just
    /// checked it.
    #[inline(always)]
    pub const fn links(&self) -> &L {
        &self.links
    }

    /// Dequeues as many as there are, at most `items.len()`, into the front of `items`; returns how many.
    ///
    /// # Errors
    /// As [`dequeue`](Self::dequeue), if the very first item is none.
    #[inline]
    pub fn dequeue_batch(&mut self, items: &mut [Item]) -> Result<usize, PeerMisbehaviour> {
        let mut count = 0;
        for slot in items {
            match self.dequeue() {
                Ok(Some(item)) => *slot = item,
                Ok(None) => break,
                Err(misbehaviour) if count == 0 => return Err(misbehaviour),
                Err(_) => break, // the next call reports it
            }
            count += 1;
        }
        Ok(count)
    }

    /// Gets the list of the current sub-queue, or of the other if the producer has gone there.
    #[inline]
    fn refill(&mut self) -> bool {
        if !self.head.looks_filled(self.queue) {
            if !self.head.follow(self.queue) {
                return false;
            }
            self.stats.switches += 1;
        }
        self.stats.locked += 1;
        let _guard = self.queue.subs[self.head.current & 1].mutex.lock_protocol();
        self.head.take_all(self.queue);
        self.head.taken.is_some()
    }

    /// Declares the consumer idle: condition, FENCE. Then dequeue once more, and wait only if there is still
    /// nothing.
    #[inline]
    pub fn set_idle(&mut self) {
        self.announce_idle();
        full_fence(); // pairs with the one in `InProducer::consumer_idle`
    }

    /// [`set_idle`](Self::set_idle) without the fence, for a consumer of several queues that sets all their
    /// conditions and then puts one [`full_fence`] before it looks at all of them again.
    #[inline]
    pub fn announce_idle(&mut self) {
        self.queue.condition.0.store(1, Release);
    }

    /// The consumer works again, having found an item or having been woken.
    #[inline]
    pub fn clear_idle(&mut self) {
        self.queue.condition.0.store(0, Release);
    }

    /// Dequeues until there is nothing, handing each item to `discard`, at most `limit` of them; returns how
    /// many.
    ///
    /// # Errors
    /// As [`dequeue`](Self::dequeue).
    pub fn flush(&mut self, limit: usize, mut discard: impl FnMut(Item)) -> Result<usize, PeerMisbehaviour> {
        for count in 0..limit {
            match self.dequeue()? {
                Some(item) => discard(item),
                None => return Ok(count),
            }
        }
        Ok(limit)
    }

    /// What this end has met.
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }
}
