//! A stream of bytes between two tasks that do not trust each other: Lamport's ring of bytes.
//!
//! Two control words, each in a cache line of its own and written by one side only, and a data region whose
//! size is a power of two. Positions run freely through 32 bits; the place of position `p` is `p % capacity`.
//! Each side keeps its own position private and publishes a copy: what a peer does to that copy hurts nobody
//! but the peer. The peer's position is loaded only when what was last seen of it shows too little, so a
//! small read or write touches one line of the control block.
//!
//! Either side may also die in the middle: what it has published is whole, what it has not does not exist.
//!
//! # Ordering
//! The producer's Release store of `tail` pairs with the consumer's Acquire load: the bytes are there before
//! the position says so. The consumer's Release store of `head` pairs with the producer's Acquire load: the
//! bytes were read before their room is given back. To wake the other side, see [`crate::wait`].
//!
//! The bytes themselves are copied by [`crate::copy`]: never is there a reference to what the peer can write.
#![expect(unsafe_code, reason = "the data region is raw memory that the peer can write")]

use core::marker::PhantomData;

use crate::{
    copy::{SHORT_BYTES, copy_bytes, copy_short},
    links::PeerMisbehaviour,
    sync::{
        AtomicU32,
        Ordering::{Acquire, Release},
        const_unless_loom,
    },
};

#[repr(C, align(64))]
struct Position(AtomicU32);

/// The control words of one ring in shared memory. Zero bytes are an empty ring.
#[repr(C, align(64))]
pub struct Control {
    /// Where the producer writes next; written by the producer.
    tail: Position,
    /// Where the consumer reads next; written by the consumer.
    head: Position,
    /// Lets loom see the accesses to the data, which has no other cells for it.
    #[cfg(loom)]
    shadow: [loom::cell::UnsafeCell<()>; 8],
}

impl Control {
    /// The size of the control words; the alignment is 64.
    #[cfg(not(loom))]
    pub const BYTES: usize = 128;

    const_unless_loom! {
        /// The control words of an empty ring.
        #[must_use]
        pub fn new() -> Self {
            Self {
                tail: Position(AtomicU32::new(0)),
                head: Position(AtomicU32::new(0)),
                #[cfg(loom)]
                shadow: Default::default(),
            }
        }
    }

    /// How many bytes the two published positions say the ring holds: for audits and `poll`, of no use for
    /// memory safety.
    #[inline]
    pub fn published(&self) -> u32 {
        self.tail.0.load(Acquire).wrapping_sub(self.head.0.load(Acquire))
    }
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Control>() == Control::BYTES);

impl Default for Control {
    fn default() -> Self {
        Self::new()
    }
}

/// Some bytes of the ring: where, and how many.
pub type Chunk = (*mut u8, usize);

/// The data region: trusted, so private to each end.
struct Region<'r> {
    data: *mut u8,
    capacity: u32,
    memory: PhantomData<&'r core::cell::UnsafeCell<[u8]>>,
}

// SAFETY: the pointer is used only by the end that has it, under the contract of `Producer::new` and
// `Consumer::new`, which holds on any thread.
unsafe impl Send for Region<'_> {}

impl Region<'_> {
    unsafe fn new(data: *mut u8, capacity: u32) -> Self {
        assert!(capacity.is_power_of_two() && capacity <= 1 << 31, "a ring's capacity is a power of two");
        Self { data, capacity, memory: PhantomData }
    }

    /// The `len` bytes from `position` on, which wrap at most once. `len` is at most the capacity.
    #[inline(always)]
    fn chunks(&self, position: u32, len: u32) -> [Chunk; 2] {
        let at = position & (self.capacity - 1);
        let first = len.min(self.capacity - at);
        // SAFETY: `at < capacity`, so the pointer stays inside the region.
        [(unsafe { self.data.add(at as usize) }, first as usize), (self.data, (len - first) as usize)]
    }
}

/// The end that writes.
pub struct Producer<'r> {
    control: &'r Control,
    region: Region<'r>,
    /// Our own position; the shared word is a copy for the peer.
    tail: u32,
    /// What was last seen of the peer's position; checked.
    head_seen: u32,
}

impl<'r> Producer<'r> {
    /// The producer of a new, empty ring.
    ///
    /// # Safety
    /// 1. For `'r`, `capacity` bytes from `data` on are valid for reads and writes.
    /// 2. This program forms no reference to any of them, and nothing in it accesses them but one producer
    ///    and one consumer.
    ///
    /// # Panics
    /// If `capacity` is no power of two.
    #[must_use]
    pub unsafe fn new(control: &'r Control, data: *mut u8, capacity: u32) -> Self {
        // SAFETY: the caller's promise, handed on.
        Self { control, region: unsafe { Region::new(data, capacity) }, tail: 0, head_seen: 0 }
    }

    /// How many bytes fit, having looked at the peer's position.
    ///
    /// # Errors
    /// The peer's position cannot be.
    #[inline]
    pub fn space(&mut self) -> Result<u32, PeerMisbehaviour> {
        let head = self.control.head.0.load(Acquire); // pairs with `Consumer::publish`
        // The peer may be anywhere between where it was last seen and our own position.
        if self.tail.wrapping_sub(head) > self.tail.wrapping_sub(self.head_seen) {
            return Err(PeerMisbehaviour::Index(head));
        }
        self.head_seen = head;
        Ok(self.known_space())
    }

    #[inline(always)]
    fn known_space(&self) -> u32 {
        self.region.capacity - self.tail.wrapping_sub(self.head_seen)
    }

    /// Writes as much of `source` as fits and publishes it; returns how much that was.
    ///
    /// # Errors
    /// The peer's position cannot be. Nothing is written.
    #[inline]
    pub fn write(&mut self, source: &[u8]) -> Result<usize, PeerMisbehaviour> {
        let len = source.len();
        let at = self.tail & (self.region.capacity - 1);
        // The way of short writes: known room, no wrap.
        if len <= SHORT_BYTES && len as u32 <= self.known_space() && len as u32 <= self.region.capacity - at {
            self.track(len as u32);
            // SAFETY: `at + len` is at most the capacity, and the room is ours until we publish it.
            unsafe { copy_short(self.region.data.add(at as usize), source.as_ptr(), len) };
            self.publish(len as u32);
            return Ok(len);
        }
        self.write_long(source)
    }

    #[inline(never)]
    fn write_long(&mut self, source: &[u8]) -> Result<usize, PeerMisbehaviour> {
        let mut len = self.known_space();
        if (len as usize) < source.len() {
            len = self.space()?;
        }
        len = source.len().min(len as usize) as u32;
        if len == 0 {
            return Ok(0);
        }
        self.track(len);
        let [(to, first), (wrapped, rest)] = self.region.chunks(self.tail, len);
        // SAFETY: both chunks lie in the region, in room that is ours until we publish it, and are together
        // no longer than `source`.
        unsafe {
            copy_bytes(to, source.as_ptr(), first);
            if rest != 0 {
                copy_bytes(wrapped, source.as_ptr().add(first), rest);
            }
        }
        self.publish(len);
        Ok(len as usize)
    }

    /// Lets `fill` write into the free room, as at most two chunks, and publishes as many bytes as it says.
    ///
    /// What `fill` writes it writes through the raw pointers, by [`crate::copy`]: the peer may write the same
    /// bytes.
    ///
    /// # Errors
    /// The peer's position cannot be; `fill` is not called.
    #[inline]
    pub fn write_with(&mut self, fill: impl FnOnce([Chunk; 2]) -> usize) -> Result<usize, PeerMisbehaviour> {
        let space = self.space()?;
        self.track(space);
        let len = fill(self.region.chunks(self.tail, space)).min(space as usize);
        self.publish(len as u32);
        Ok(len)
    }

    #[inline(always)]
    fn publish(&mut self, len: u32) {
        self.tail = self.tail.wrapping_add(len);
        self.control.tail.0.store(self.tail, Release); // pairs with `Consumer::available`
    }

    #[inline(always)]
    fn track(&self, _len: u32) {
        #[cfg(loom)]
        for position in 0.._len.min(8) {
            self.control.shadow[(self.tail.wrapping_add(position) & (self.region.capacity - 1)) as usize % 8]
                .with_mut(|_| ());
        }
    }

    /// The number of bytes written since the ring was new, modulo 2³².
    #[must_use]
    pub const fn position(&self) -> u32 {
        self.tail
    }
}

/// The end that reads.
pub struct Consumer<'r> {
    control: &'r Control,
    region: Region<'r>,
    /// Our own position; the shared word is a copy for the peer.
    head: u32,
    /// What was last seen of the peer's position; checked.
    tail_seen: u32,
}

impl<'r> Consumer<'r> {
    /// The consumer of a new, empty ring.
    ///
    /// # Safety
    /// As for [`Producer::new`].
    ///
    /// # Panics
    /// If `capacity` is no power of two.
    #[must_use]
    pub unsafe fn new(control: &'r Control, data: *mut u8, capacity: u32) -> Self {
        // SAFETY: the caller's promise, handed on.
        Self { control, region: unsafe { Region::new(data, capacity) }, head: 0, tail_seen: 0 }
    }

    /// How many bytes there are, having looked at the peer's position.
    ///
    /// # Errors
    /// The peer's position cannot be.
    #[inline]
    pub fn available(&mut self) -> Result<u32, PeerMisbehaviour> {
        let tail = self.control.tail.0.load(Acquire); // pairs with `Producer::publish`
        let held = tail.wrapping_sub(self.head);
        // Not more than the ring holds, and not less than the peer has already given.
        if held > self.region.capacity || held < self.known() {
            return Err(PeerMisbehaviour::Index(tail));
        }
        self.tail_seen = tail;
        Ok(held)
    }

    #[inline(always)]
    fn known(&self) -> u32 {
        self.tail_seen.wrapping_sub(self.head)
    }

    #[inline(always)]
    fn available_for(&mut self, wanted: usize) -> Result<u32, PeerMisbehaviour> {
        let mut known = self.known();
        if (known as usize) < wanted {
            known = self.available()?;
        }
        Ok(if (known as usize) < wanted { known } else { wanted as u32 })
    }

    /// Reads as much as there is into the front of `destination` and gives its room back; returns how much
    /// that was.
    ///
    /// # Errors
    /// The peer's position cannot be. Nothing is read.
    #[inline]
    pub fn read(&mut self, destination: &mut [u8]) -> Result<usize, PeerMisbehaviour> {
        let len = destination.len();
        let at = self.head & (self.region.capacity - 1);
        // The way of short reads: all of it is known to be there, no wrap.
        if len <= SHORT_BYTES && len as u32 <= self.known() && len as u32 <= self.region.capacity - at {
            self.track(len as u32);
            // SAFETY: `at + len` is at most the capacity, and the peer has given the bytes.
            unsafe { copy_short(destination.as_mut_ptr(), self.region.data.add(at as usize), len) };
            self.publish(len as u32);
            return Ok(len);
        }
        self.read_long(destination)
    }

    #[inline(never)]
    fn read_long(&mut self, destination: &mut [u8]) -> Result<usize, PeerMisbehaviour> {
        let len = self.peek(destination)?;
        if len != 0 {
            self.publish(len as u32);
        }
        Ok(len)
    }

    /// Reads as [`read`](Self::read) does, but leaves the bytes in the ring.
    ///
    /// # Errors
    /// The peer's position cannot be.
    #[inline]
    pub fn peek(&mut self, destination: &mut [u8]) -> Result<usize, PeerMisbehaviour> {
        let len = self.available_for(destination.len())?;
        if len == 0 {
            return Ok(0);
        }
        self.track(len);
        let [(from, first), (wrapped, rest)] = self.region.chunks(self.head, len);
        let to = destination.as_mut_ptr();
        // SAFETY: both chunks lie in the region, in what the peer has given, and are together no longer than
        // `destination`.
        unsafe {
            copy_bytes(to, from, first);
            if rest != 0 {
                copy_bytes(to.add(first), wrapped, rest);
            }
        }
        Ok(len as usize)
    }

    /// Lets `take` read what there is, as at most two chunks, and gives back the room of as many bytes as it
    /// says.
    ///
    /// What `take` reads it reads through the raw pointers, by [`crate::copy`], and once: the peer may change
    /// the bytes.
    ///
    /// # Errors
    /// The peer's position cannot be; `take` is not called.
    #[inline]
    pub fn read_with(&mut self, take: impl FnOnce([Chunk; 2]) -> usize) -> Result<usize, PeerMisbehaviour> {
        let available = self.available()?;
        self.track(available);
        let len = take(self.region.chunks(self.head, available)).min(available as usize);
        self.publish(len as u32);
        Ok(len)
    }

    /// Gives back the room of up to `len` bytes that were peeked at; returns how many.
    ///
    /// # Errors
    /// The peer's position cannot be.
    #[inline]
    pub fn consume(&mut self, len: usize) -> Result<usize, PeerMisbehaviour> {
        let len = self.available_for(len)?;
        self.publish(len);
        Ok(len as usize)
    }

    #[inline(always)]
    fn publish(&mut self, len: u32) {
        self.head = self.head.wrapping_add(len);
        self.control.head.0.store(self.head, Release); // pairs with `Producer::space`
    }

    #[inline(always)]
    fn track(&self, _len: u32) {
        #[cfg(loom)]
        for position in 0.._len.min(8) {
            self.control.shadow[(self.head.wrapping_add(position) & (self.region.capacity - 1)) as usize % 8]
                .with(|_| ());
        }
    }

    /// The number of bytes read since the ring was new, modulo 2³².
    #[must_use]
    pub const fn position(&self) -> u32 {
        self.head
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
