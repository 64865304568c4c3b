//! The queues of `shmqueue` beside those of other crates: what a pair of push and pop costs, how many items a second pass
//! between two threads, how long a ping-pong takes, what a look at an idle peer costs.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`contestants`] | each queue behind one pair of traits, with the item and the capacity that all have |
//! | [`one_thread`] | the patterns of one thread: pair, burst, pair with idle check, empty poll |
//! | [`two_threads`] | the stream and the ping-pong |
//!
//! `benches/queues.rs` times them with Criterion, `src/bin/insns.rs` runs one pattern for callgrind to count, and `cargo
//! xtask queue-bench` makes one table of both.
//!
//! # What is the same for all
//! The item is [`shmqueue::Item`], the offset of a buffer. The buffers are [`BUFFERS`] of 128 bytes that go round in order;
//! there are fewer of them than slots in a queue, as in a window, so that it is the buffers that run out. The linked queues
//! keep their links in the buffers. Each loop checks that the item that comes out is the one that it waits for.
//!
//! # What is not the same
//! Only the queues of `shmqueue` doubt what the other end wrote, and only they have a wake-up protocol. For the idle check
//! the others are given the least that would do: a flag beside the queue, and a fence before it is read.

pub mod contestants;
pub mod one_thread;
pub mod two_threads;

use shmqueue::Item;

/// Slots in each queue that has slots.
pub const SLOTS: usize = 256;

/// Buffers that go round; a power of two.
pub const BUFFERS: u32 = 128;

/// Bytes in a buffer: an mbuf's.
pub const BUFFER_BYTES: u32 = 128;

/// The buffers in the order in which both ends use them.
#[derive(Default)]
pub struct Cycle(u32);

impl Cycle {
    /// The next buffer's offset.
    #[inline(always)]
    pub fn advance(&mut self) -> Item {
        let index = self.0 & (BUFFERS - 1);
        self.0 = self.0.wrapping_add(1);
        Item::new((index + 1) * BUFFER_BYTES).expect("the first buffer is not at 0")
    }
}

/// An item that is not the one that went in at that place.
#[cold]
#[inline(never)]
fn out_of_order(got: Option<Item>, expected: Item) -> ! {
    panic!("the queue gave {got:?} instead of {expected:?}")
}

/// A push that found no room, though there are fewer buffers than slots.
#[cold]
#[inline(never)]
fn no_room() -> ! {
    panic!("a queue with {SLOTS} slots is full of {BUFFERS} buffers")
}
