//! The queues of other crates, each by the interface that its documentation shows first.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed, Ordering::SeqCst, fence};

use crossbeam_queue::ArrayQueue;
use ringbuf::traits::{Consumer as _, Producer as _, SplitRef};
use ringbuf::{CachingCons, CachingProd, StaticRb};
use shmqueue::Item;
use spin::Mutex;

use super::{Contestant, Pop, Push};
use crate::SLOTS;

/// The idle flag that the others lack, in a cache line of its own.
#[repr(align(64))]
#[derive(Default)]
pub struct IdleFlag(AtomicU32);

/// A producer of a queue that has no idle flag, and a flag.
pub struct Flagged<'q, P> {
    inner: P,
    flag: &'q IdleFlag,
}

impl<P: PushOnly> Push for Flagged<'_, P> {
    #[inline(always)]
    fn push(&mut self, item: Item) -> bool {
        self.inner.push_only(item)
    }
    #[inline(always)]
    fn consumer_idle(&mut self) -> bool {
        // The same two instructions as in `shmqueue`; a consumer would store, fence and look again.
        fence(SeqCst);
        self.flag.0.load(Relaxed) != 0
    }
}

/// What queues without an idle flag can do.
pub trait PushOnly: Send {
    /// Pushes `item`; false if there is no room.
    fn push_only(&mut self, item: Item) -> bool;
}

/// `heapless::spsc`, with as many slots; it leaves one of them empty.
pub struct Heapless(heapless::spsc::Queue<Item, SLOTS>, IdleFlag);

impl Contestant for Heapless {
    const NAME: &'static str = "heapless::spsc";
    type Producer<'q> = Flagged<'q, heapless::spsc::Producer<'q, Item>>;
    type Consumer<'q> = heapless::spsc::Consumer<'q, Item>;
    fn new() -> Self {
        Self(heapless::spsc::Queue::new(), IdleFlag::default())
    }
    fn split(&mut self) -> (Self::Producer<'_>, Self::Consumer<'_>) {
        let (inner, consumer) = self.0.split();
        (Flagged { inner, flag: &self.1 }, consumer)
    }
}

impl PushOnly for heapless::spsc::Producer<'_, Item> {
    #[inline(always)]
    fn push_only(&mut self, item: Item) -> bool {
        self.enqueue(item).is_ok()
    }
}

impl Pop for heapless::spsc::Consumer<'_, Item> {
    #[inline(always)]
    fn pop(&mut self) -> Option<Item> {
        self.dequeue()
    }
}

/// `rtrb`, whose two ends share an allocation.
pub struct Rtrb(IdleFlag);

impl Contestant for Rtrb {
    const NAME: &'static str = "rtrb";
    type Producer<'q> = Flagged<'q, rtrb::Producer<Item>>;
    type Consumer<'q> = rtrb::Consumer<Item>;
    fn new() -> Self {
        Self(IdleFlag::default())
    }
    fn split(&mut self) -> (Self::Producer<'_>, Self::Consumer<'_>) {
        let (inner, consumer) = rtrb::RingBuffer::new(SLOTS);
        (Flagged { inner, flag: &self.0 }, consumer)
    }
}

impl PushOnly for rtrb::Producer<Item> {
    #[inline(always)]
    fn push_only(&mut self, item: Item) -> bool {
        self.push(item).is_ok()
    }
}

impl Pop for rtrb::Consumer<Item> {
    #[inline(always)]
    fn pop(&mut self) -> Option<Item> {
        rtrb::Consumer::pop(self).ok()
    }
}

type StaticRing = StaticRb<Item, SLOTS>;

/// `ringbuf` with slots inside, whose ends keep a copy of the other's index.
pub struct Ringbuf(Box<StaticRing>, IdleFlag);

impl Contestant for Ringbuf {
    const NAME: &'static str = "ringbuf";
    type Producer<'q> = Flagged<'q, CachingProd<&'q StaticRing>>;
    type Consumer<'q> = CachingCons<&'q StaticRing>;
    fn new() -> Self {
        Self(Box::default(), IdleFlag::default())
    }
    fn split(&mut self) -> (Self::Producer<'_>, Self::Consumer<'_>) {
        let (inner, consumer) = self.0.split_ref();
        (Flagged { inner, flag: &self.1 }, consumer)
    }
}

impl PushOnly for CachingProd<&StaticRing> {
    #[inline(always)]
    fn push_only(&mut self, item: Item) -> bool {
        self.try_push(item).is_ok()
    }
}

impl Pop for CachingCons<&StaticRing> {
    #[inline(always)]
    fn pop(&mut self) -> Option<Item> {
        self.try_pop()
    }
}

/// `crossbeam_queue::ArrayQueue`, which serves any number of producers and consumers.
pub struct Crossbeam(ArrayQueue<Item>, IdleFlag);

impl Contestant for Crossbeam {
    const NAME: &'static str = "crossbeam ArrayQueue";
    type Producer<'q> = Flagged<'q, &'q ArrayQueue<Item>>;
    type Consumer<'q> = &'q ArrayQueue<Item>;
    fn new() -> Self {
        Self(ArrayQueue::new(SLOTS), IdleFlag::default())
    }
    fn split(&mut self) -> (Self::Producer<'_>, Self::Consumer<'_>) {
        (Flagged { inner: &self.0, flag: &self.1 }, &self.0)
    }
}

impl PushOnly for &ArrayQueue<Item> {
    #[inline(always)]
    fn push_only(&mut self, item: Item) -> bool {
        ArrayQueue::push(self, item).is_ok()
    }
}

impl Pop for &ArrayQueue<Item> {
    #[inline(always)]
    fn pop(&mut self) -> Option<Item> {
        ArrayQueue::pop(self)
    }
}

type LockedDeque = Mutex<VecDeque<Item>>;

/// A `VecDeque` behind a spin lock: what one writes first. Useless between a task and its interrupt handler.
pub struct SpinDeque(LockedDeque, IdleFlag);

impl Contestant for SpinDeque {
    const NAME: &'static str = "spin-locked VecDeque";
    type Producer<'q> = Flagged<'q, &'q LockedDeque>;
    type Consumer<'q> = &'q LockedDeque;
    fn new() -> Self {
        Self(Mutex::new(VecDeque::with_capacity(SLOTS)), IdleFlag::default())
    }
    fn split(&mut self) -> (Self::Producer<'_>, Self::Consumer<'_>) {
        (Flagged { inner: &self.0, flag: &self.1 }, &self.0)
    }
}

impl PushOnly for &LockedDeque {
    #[inline(always)]
    fn push_only(&mut self, item: Item) -> bool {
        let mut deque = self.lock();
        let room = deque.len() < SLOTS;
        if room {
            deque.push_back(item);
        }
        room
    }
}

impl Pop for &LockedDeque {
    #[inline(always)]
    fn pop(&mut self) -> Option<Item> {
        self.lock().pop_front()
    }
}
