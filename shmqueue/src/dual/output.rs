//! The OUT queue: the protocol server produces, the device driver consumes (R&H, "Queues").
//!
//! The driver drains it in a trap (`device_start`) or in an interrupt, and must not wait for a server that
//! was preempted in its critical section. So a locked sub-queue counts as an empty one: the driver goes idle,
//! and the server, which looks at the condition after each unlock, starts it again.

use core::ops::ControlFlow;

use super::{
    DualQueue, EnqueueError, Head, Item, Links, PeerMisbehaviour, Stats, Tail, end_chain, link_chain,
};
use crate::sync::{
    Ordering::{Relaxed, Release},
    full_fence,
};

/// The protocol side's end of an OUT queue. There is one per queue, made while the queue is empty.
pub struct OutProducer<'q, L> {
    queue: &'q DualQueue,
    links: L,
    tail: Tail,
    stats: Stats,
}

impl<'q, L: Links> OutProducer<'q, L> {
    /// The producer of `queue`, which is empty.
    pub const fn new(queue: &'q DualQueue, links: L) -> Self {
        Self {
            queue,
            links,
            tail: Tail::new(),
            stats: Stats { lock_failures: 0, switches: 0, impossible: 0, locked: 0 },
        }
    }

    /// Appends `item`. After the last append of a burst, ask [`consumer_idle`](Self::consumer_idle): who
    /// appends and does not ask may strand the item, for the driver may have met the lock and gone idle.
    ///
    /// # Errors
    /// The item stays the caller's; never [`EnqueueError::Locked`].
    #[inline]
    pub fn append(&mut self, item: Item) -> Result<(), EnqueueError> {
        end_chain(&self.links, item)?;
        self.append_chain(item, item)
    }

    /// Appends all of `items` in one critical section, or none of them.
    ///
    /// # Errors
    /// The items stay the caller's; never [`EnqueueError::Locked`].
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
        if let Some(_guard) = self.queue.subs[at & 1].mutex.try_lock_protocol() {
            self.stats.locked += 1;
            return self.tail.push(self.queue, &self.links, at, first, last).map_err(EnqueueError::Peer);
        }
        self.append_to_other(first, last)
    }

    /// The driver is in the current sub-queue, on another processor.
    #[cold]
    fn append_to_other(&mut self, first: Item, last: Item) -> Result<(), EnqueueError> {
        self.stats.lock_failures += 1;
        let other = (self.tail.current & 1) ^ 1;
        let _guard = self.queue.subs[other].mutex.lock_protocol();
        self.stats.locked += 1;
        self.tail.push(self.queue, &self.links, other, first, last).map_err(EnqueueError::Peer)?;
        self.tail.move_to(self.queue, other);
        self.stats.switches += 1;
        Ok(())
    }

    /// FENCE, then the condition: whether the device has to be started. Once per burst, after its last
    /// append.
    #[inline]
    #[must_use = "an idle device that is not started leaves the packets on the queue"]
    pub fn consumer_idle(&self) -> bool {
        full_fence(); // pairs with the one in `OutConsumer::drain`
        self.consumer_idle_fenced()
    }

    /// The condition without the fence, for a producer of several queues that has put one [`full_fence`] behind all its
    /// appends.
    #[inline]
    #[must_use = "an idle device that is not started leaves the packets on the queue"]
    pub fn consumer_idle_fenced(&self) -> bool {
        self.queue.condition.0.load(Relaxed) != 0
    }

    /// What this end has met.
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }
}

/// How [`OutConsumer::drain`] ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "only an idle consumer is started again by the producer"]
pub enum Drained {
    /// Nothing is left, or what is left is locked: the condition is set, the producer starts the device
    /// again.
    Idle,
    /// The caller took no more (its ring is full). The condition is not set: the caller drains again by
    /// itself, when the device has made room.
    StoppedByCaller,
    /// The budget is spent. The condition is not set: the caller drains again by itself.
    BudgetSpent,
}

/// The interrupt side's end of an OUT queue. There is one per queue, made while the queue is empty.
pub struct OutConsumer<'q, L> {
    queue: &'q DualQueue,
    links: L,
    head: Head,
    /// Items of the list that was taken last which earlier drains have handed out.
    handed: u32,
    stats: Stats,
}

impl<'q, L: Links> OutConsumer<'q, L> {
    /// The consumer of `queue`, which is empty.
    pub const fn new(queue: &'q DualQueue, links: L) -> Self {
        Self {
            queue,
            links,
            head: Head::new(),
            handed: 0,
            stats: Stats { lock_failures: 0, switches: 0, impossible: 0, locked: 0 },
        }
    }

    /// Hands items to `send` in order, at most `budget` of them, until there are none.
    ///
    /// `send` answers `Continue` if it took the item, `Break` if it did not: that item comes first in the
    /// next drain. It may free the item at once.
    ///
    /// Bounded: no more than `budget` items, and a fixed number of accesses for each, whatever the peer does.
    ///
    /// # Errors
    /// The list leads to what is no item, or is longer than all items together ([`Links::items`]): else a list without an end, of items
    /// that are free again by the time when they come round, would keep this side busy for ever. The items that `send` took before are
    /// sent.
    #[inline]
    pub fn drain(
        &mut self,
        budget: u32,
        mut send: impl FnMut(Item) -> ControlFlow<()>,
    ) -> Result<Drained, PeerMisbehaviour> {
        self.drain_linked(budget, |_, item| send(item))
    }

    /// [`drain`](Self::drain) for a `send` that looks for the item by the queue's own [`Links`]: the compiler then sees that they have
    /// just checked it.
    ///
    /// # Errors
    /// As [`drain`](Self::drain).
    #[inline(always)]
    pub fn drain_linked(
        &mut self,
        budget: u32,
        mut send: impl FnMut(&L, Item) -> ControlFlow<()>,
    ) -> Result<Drained, PeerMisbehaviour> {
        self.set_condition(0);
        let mut left = budget;
        // What was left when the list was taken; with `handed`, how far this side has come in it.
        let mut at_list = left;
        loop {
            if self.head.taken.is_none() {
                if !self.refill() {
                    self.set_condition(1);
                    full_fence(); // pairs with the one in `OutProducer::consumer_idle`
                    if !self.refill() {
                        return Ok(Drained::Idle);
                    }
                    self.set_condition(0);
                }
                (self.handed, at_list) = (0, left);
            }
            let Some((item, next)) = self.head.first(&self.links)? else { continue };
            if left == 0 {
                self.advance(at_list)?;
                return Ok(Drained::BudgetSpent);
            }
            if send(&self.links, item).is_break() {
                self.advance(at_list - left)?;
                return Ok(Drained::StoppedByCaller);
            }
            left -= 1;
            self.head.taken = next;
        }
    }

    /// Notes that so many items more of a list were handed out, which goes on.
    fn advance(&mut self, items: u32) -> Result<(), PeerMisbehaviour> {
        self.handed = self.handed.saturating_add(items);
        if self.handed > self.links.items() { Err(PeerMisbehaviour::Endless) } else { Ok(()) }
    }

    /// Declares the consumer idle at the start, before the producer appends for the first time.
    pub fn start_idle(&mut self) {
        self.set_condition(1);
    }

    /// Whether there is something to drain: taken before and not sent, or in a sub-queue. A look without the mutex,
    /// which takes nothing.
    #[inline]
    pub fn waits(&self) -> bool {
        self.head.taken.is_some() || !self.queue.is_empty()
    }

    /// Forgets what was taken and not yet sent: the server died, and the ledger of the kernel has the last
    /// word on what is whose.
    pub fn forget(&mut self) {
        self.head = Head::new();
    }

    /// Gets the list of the current sub-queue, or of the other if the producer has gone there. A locked one
    /// counts as empty.
    #[inline]
    fn refill(&mut self) -> bool {
        if !self.head.looks_filled(self.queue) {
            if !self.head.follow(self.queue) {
                return false;
            }
            self.stats.switches += 1;
        }
        let Some(_guard) = self.queue.subs[self.head.current & 1].mutex.try_lock_interrupt() else {
            self.stats.lock_failures += 1;
            return false;
        };
        self.stats.locked += 1;
        self.head.take_all(self.queue);
        self.head.taken.is_some()
    }

    #[inline(always)]
    fn set_condition(&self, idle: u32) {
        self.queue.condition.0.store(idle, Release); // read by `OutProducer::consumer_idle`
    }

    /// What this end has met.
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }
}
