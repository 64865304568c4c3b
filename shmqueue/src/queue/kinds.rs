//! The traits, for the ends of both kinds: each method is the end's own, under the common name.

use super::{
    Consume, ControlFlow, Drain, Drained, DualQueue, InConsumer, InProducer, InQueue, Item, Links,
    OutConsumer, OutProducer, OutQueue, PeerMisbehaviour, Produce, ProduceError, Ring, RingConsumer,
    RingProducer, Stats, WaitFree,
};

impl<L> WaitFree for InProducer<'_, L> {}
impl<L> WaitFree for OutConsumer<'_, L> {}
impl<const N: usize> WaitFree for RingProducer<'_, N> {}
impl<const N: usize> WaitFree for RingConsumer<'_, N> {}

/// The two producers of dual queues.
macro_rules! produce {
    ($end:ident) => {
        impl<L: Links> Produce for $end<'_, L> {
            #[inline]
            fn produce(&mut self, item: Item) -> Result<(), ProduceError> {
                Ok(self.append(item)?)
            }

            /// All of them, or none.
            #[inline]
            fn produce_batch(&mut self, items: &[Item]) -> Result<usize, ProduceError> {
                self.append_batch(items)?;
                Ok(items.len())
            }

            #[inline]
            fn consumer_idle(&self) -> bool {
                $end::consumer_idle(self)
            }

            #[inline]
            fn consumer_idle_fenced(&self) -> bool {
                $end::consumer_idle_fenced(self)
            }

            fn stats(&self) -> Stats {
                *$end::stats(self)
            }
        }
    };
}

produce!(InProducer);
produce!(OutProducer);

impl<const N: usize> Produce for RingProducer<'_, N> {
    #[inline]
    fn produce(&mut self, item: Item) -> Result<(), ProduceError> {
        Ok(self.push(item)?)
    }

    #[inline]
    fn produce_batch(&mut self, items: &[Item]) -> Result<usize, ProduceError> {
        Ok(self.push_batch(items)?)
    }

    #[inline]
    fn consumer_idle(&self) -> bool {
        RingProducer::consumer_idle(self)
    }

    #[inline]
    fn consumer_idle_fenced(&self) -> bool {
        RingProducer::consumer_idle_fenced(self)
    }

    fn stats(&self) -> Stats {
        Stats::default()
    }
}

impl<L: Links> Consume for InConsumer<'_, L> {
    #[inline]
    fn consume(&mut self) -> Result<Option<Item>, PeerMisbehaviour> {
        self.dequeue()
    }

    #[inline]
    fn set_idle(&mut self) {
        InConsumer::set_idle(self);
    }

    #[inline]
    fn announce_idle(&mut self) {
        InConsumer::announce_idle(self);
    }

    #[inline]
    fn clear_idle(&mut self) {
        InConsumer::clear_idle(self);
    }

    fn stats(&self) -> Stats {
        *InConsumer::stats(self)
    }
}

impl<const N: usize> Consume for RingConsumer<'_, N> {
    #[inline]
    fn consume(&mut self) -> Result<Option<Item>, PeerMisbehaviour> {
        self.pop()
    }

    #[inline]
    fn set_idle(&mut self) {
        RingConsumer::set_idle(self);
    }

    #[inline]
    fn announce_idle(&mut self) {
        RingConsumer::announce_idle(self);
    }

    #[inline]
    fn clear_idle(&mut self) {
        RingConsumer::clear_idle(self);
    }

    fn stats(&self) -> Stats {
        Stats::default()
    }
}

impl<L: Links> Drain for OutConsumer<'_, L> {
    #[inline]
    fn drain(
        &mut self,
        budget: u32,
        send: impl FnMut(Item) -> ControlFlow<()>,
    ) -> Result<Drained, PeerMisbehaviour> {
        OutConsumer::drain(self, budget, send)
    }

    #[inline]
    fn waits(&self) -> bool {
        OutConsumer::waits(self)
    }

    fn start_idle(&mut self) {
        OutConsumer::start_idle(self);
    }

    fn stats(&self) -> Stats {
        *OutConsumer::stats(self)
    }
}

impl<const N: usize> Drain for RingConsumer<'_, N> {
    #[inline]
    fn drain(
        &mut self,
        budget: u32,
        send: impl FnMut(Item) -> ControlFlow<()>,
    ) -> Result<Drained, PeerMisbehaviour> {
        RingConsumer::drain(self, budget, send)
    }

    #[inline]
    fn waits(&self) -> bool {
        RingConsumer::waits(self)
    }

    fn start_idle(&mut self) {
        RingConsumer::announce_idle(self);
    }

    fn stats(&self) -> Stats {
        Stats::default()
    }
}

impl<L: Links> InQueue<L> for DualQueue {
    type Producer<'q>
        = InProducer<'q, L>
    where
        L: 'q;
    type Consumer<'q>
        = InConsumer<'q, L>
    where
        L: 'q;

    fn in_producer<'q>(&'q self, links: L) -> InProducer<'q, L>
    where
        L: 'q,
    {
        InProducer::new(self, links)
    }

    fn in_consumer<'q>(&'q self, links: L) -> InConsumer<'q, L>
    where
        L: 'q,
    {
        InConsumer::new(self, links)
    }
}

impl<L: Links> OutQueue<L> for DualQueue {
    type Producer<'q>
        = OutProducer<'q, L>
    where
        L: 'q;
    type Consumer<'q>
        = OutConsumer<'q, L>
    where
        L: 'q;

    fn out_producer<'q>(&'q self, links: L) -> OutProducer<'q, L>
    where
        L: 'q,
    {
        OutProducer::new(self, links)
    }

    fn out_consumer<'q>(&'q self, links: L) -> OutConsumer<'q, L>
    where
        L: 'q,
    {
        OutConsumer::new(self, links)
    }
}

impl<const N: usize, L: Links> InQueue<L> for Ring<N> {
    type Producer<'q>
        = RingProducer<'q, N>
    where
        L: 'q;
    type Consumer<'q>
        = RingConsumer<'q, N>
    where
        L: 'q;

    fn in_producer<'q>(&'q self, _: L) -> RingProducer<'q, N>
    where
        L: 'q,
    {
        RingProducer::new(self)
    }

    fn in_consumer<'q>(&'q self, _: L) -> RingConsumer<'q, N>
    where
        L: 'q,
    {
        RingConsumer::new(self)
    }
}

impl<const N: usize, L: Links> OutQueue<L> for Ring<N> {
    type Producer<'q>
        = RingProducer<'q, N>
    where
        L: 'q;
    type Consumer<'q>
        = RingConsumer<'q, N>
    where
        L: 'q;

    fn out_producer<'q>(&'q self, _: L) -> RingProducer<'q, N>
    where
        L: 'q,
    {
        RingProducer::new(self)
    }

    fn out_consumer<'q>(&'q self, _: L) -> RingConsumer<'q, N>
    where
        L: 'q,
    {
        RingConsumer::new(self)
    }
}
