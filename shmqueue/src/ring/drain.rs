//! A ring that a device driver drains: the same call as [`OutConsumer::drain`](crate::OutConsumer::drain).

use core::ops::ControlFlow;

use super::{Acquire, Relaxed, Release, RingConsumer};
use crate::{
    Drained,
    links::{Item, PeerMisbehaviour},
};

impl<const N: usize> RingConsumer<'_, N> {
    /// Hands items to `send` in order, at most `budget` of them, until there are none; then the consumer is idle.
    ///
    /// `send` answers `Continue` if it took the item, `Break` if it did not: that item comes first in the next drain.
    ///
    /// Bounded: no more than `budget` items, and a fixed number of accesses for each, whatever the peer does.
    ///
    /// # Errors
    /// As [`pop`](Self::pop). The items that `send` took before are sent.
    #[inline]
    pub fn drain(
        &mut self,
        budget: u32,
        mut send: impl FnMut(Item) -> ControlFlow<()>,
    ) -> Result<Drained, PeerMisbehaviour> {
        self.clear_idle();
        let mut left = budget;
        loop {
            if !self.refill()? {
                self.set_idle(); // its fence pairs with the one in `RingProducer::consumer_idle`
                if !self.refill()? {
                    return Ok(Drained::Idle);
                }
                self.clear_idle();
            }
            if left == 0 {
                return Ok(Drained::BudgetSpent);
            }
            left -= 1;
            #[cfg(loom)]
            self.ring.shadow[(self.head & super::Ring::<N>::MASK) as usize].with(|_| ());
            // Relaxed: ordered by the Acquire of `refill`.
            let slot = self.ring.slot(self.head).load(Relaxed);
            let item = Item::new(slot).ok_or(PeerMisbehaviour::NotAnItem(slot))?;
            if send(item).is_break() {
                return Ok(Drained::StoppedByCaller);
            }
            self.head = self.head.wrapping_add(1);
            // Release: pairs with the Acquire in `RingProducer::push`.
            self.ring.head.0.store(self.head, Release);
        }
    }

    /// Whether there is an item, having looked at the producer's index if none was known of.
    #[inline]
    fn refill(&mut self) -> Result<bool, PeerMisbehaviour> {
        if self.tail_seen == self.head {
            // Acquire: pairs with the Release in `RingProducer::push`.
            let tail = self.ring.tail.0.load(Acquire);
            if tail.wrapping_sub(self.head) > N as u32 {
                return Err(PeerMisbehaviour::Index(tail));
            }
            self.tail_seen = tail;
        }
        Ok(self.tail_seen != self.head)
    }
}
