//! `shmqueue::dual`, with links inside the buffers.

use std::array;
use std::ops::ControlFlow;

use shmqueue::sync::AtomicU32;
use shmqueue::{
    DualQueue, EnqueueError, InConsumer, InProducer, Item, Links, OutConsumer, OutProducer, PeerMisbehaviour,
};

use super::{Contestant, Pop, Push, misbehaviour};
use crate::{BUFFER_BYTES, BUFFERS};

#[repr(C, align(128))]
struct Buffer {
    next: AtomicU32,
}

const _: () = assert!(size_of::<Buffer>() == BUFFER_BYTES as usize);

/// The buffers whose headers hold the links. There is none at offset 0.
pub struct Buffers([Buffer; BUFFERS as usize + 1]);

impl Buffers {
    fn new() -> Box<Self> {
        Box::new(Self(array::from_fn(|_| Buffer { next: AtomicU32::new(0) })))
    }
}

impl Links for Buffers {
    #[inline(always)]
    fn next(&self, item: Item) -> Option<&AtomicU32> {
        if !item.get().is_multiple_of(BUFFER_BYTES) {
            return None;
        }
        Some(&self.0.get((item.get() / BUFFER_BYTES) as usize)?.next)
    }
}

fn appended(result: Result<(), EnqueueError>) -> bool {
    result.unwrap_or_else(|error| misbehaviour(error));
    true
}

/// The IN queue of `shmqueue::dual`: an interrupt handler produces.
pub struct DualIn(Box<DualQueue>, Box<Buffers>);

impl Contestant for DualIn {
    const NAME: &'static str = "shmqueue dual IN";
    type Producer<'q> = InProducer<'q, &'q Buffers>;
    type Consumer<'q> = InConsumer<'q, &'q Buffers>;
    fn new() -> Self {
        Self(Box::default(), Buffers::new())
    }
    fn split(&mut self) -> (Self::Producer<'_>, Self::Consumer<'_>) {
        (InProducer::new(&self.0, &self.1), InConsumer::new(&self.0, &self.1))
    }
}

impl Push for InProducer<'_, &Buffers> {
    #[inline(always)]
    fn push(&mut self, item: Item) -> bool {
        appended(self.append(item))
    }
    #[inline(always)]
    fn consumer_idle(&mut self) -> bool {
        InProducer::consumer_idle(self)
    }
}

impl Pop for InConsumer<'_, &Buffers> {
    #[inline(always)]
    fn pop(&mut self) -> Option<Item> {
        self.dequeue().unwrap_or_else(|what| misbehaviour(what))
    }
}

/// The OUT queue of `shmqueue::dual`: an interrupt handler consumes.
///
/// Its only way to take items is a drain, which declares the consumer idle when nothing is left. So a single pop costs more
/// than a part of a burst, and contains the consumer's half of the idle protocol.
pub struct DualOut(Box<DualQueue>, Box<Buffers>);

impl Contestant for DualOut {
    const NAME: &'static str = "shmqueue dual OUT";
    type Producer<'q> = OutProducer<'q, &'q Buffers>;
    type Consumer<'q> = OutConsumer<'q, &'q Buffers>;
    fn new() -> Self {
        Self(Box::default(), Buffers::new())
    }
    fn split(&mut self) -> (Self::Producer<'_>, Self::Consumer<'_>) {
        (OutProducer::new(&self.0, &self.1), OutConsumer::new(&self.0, &self.1))
    }
}

impl Push for OutProducer<'_, &Buffers> {
    #[inline(always)]
    fn push(&mut self, item: Item) -> bool {
        appended(self.append(item))
    }
    #[inline(always)]
    fn consumer_idle(&mut self) -> bool {
        OutProducer::consumer_idle(self)
    }
}

impl Pop for OutConsumer<'_, &Buffers> {
    #[inline(always)]
    fn pop(&mut self) -> Option<Item> {
        let mut popped = None;
        Pop::drain(self, 1, |item| popped = Some(item));
        popped
    }

    #[inline(always)]
    fn drain(&mut self, limit: u32, mut take: impl FnMut(Item)) -> u32 {
        let mut count = 0;
        let drained: Result<_, PeerMisbehaviour> = OutConsumer::drain(self, limit, |item| {
            take(item);
            count += 1;
            ControlFlow::Continue(())
        });
        match drained {
            Ok(_) => count,
            Err(what) => misbehaviour(what),
        }
    }
}
