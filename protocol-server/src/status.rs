//! The status page: the server's own wait word and its counters, which applications map for reading.
//!
//! One word serves all sockets: an application that has written into a ring fences, loads it, and resumes the server's thread
//! only if it is odd and was not resumed for that wait already. While the server works, its clients' doorbells are free.
#![expect(unsafe_code, reason = "turns the address of a shared memory object into atomics, once")]

use abi::{
    Error,
    socket::{SERVER_COUNTER_NAMES, ServerCounter, Status},
};
use core::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Relaxed, Release},
};
use shmqueue::WaitWord;

use crate::system::SharedMemory;

/// How many counters there are.
pub const COUNTERS: usize = SERVER_COUNTER_NAMES.len();

/// The server's counters. Counted privately, published before each sleep.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters([u64; COUNTERS]);

impl Counters {
    /// Adds to one.
    #[inline(always)]
    pub fn add(&mut self, counter: ServerCounter, n: u64) {
        self.0[counter as usize] += n;
    }

    /// Sets one that goes up and down.
    #[inline(always)]
    pub fn set(&mut self, counter: ServerCounter, n: u64) {
        self.0[counter as usize] = n;
    }

    /// Reads one.
    #[must_use]
    pub const fn get(&self, counter: ServerCounter) -> u64 {
        self.0[counter as usize]
    }
}

/// The page.
pub struct StatusPage<M> {
    wait: &'static WaitWord,
    counters: &'static [AtomicU64; COUNTERS],
    /// Kept mapped for as long as the above are here.
    _memory: M,
}

const _: () = assert!(Status::COUNTERS_AT + COUNTERS * 8 <= abi::vm::PAGE_BYTES as usize);

impl<M: SharedMemory> StatusPage<M> {
    /// Lays the page out in zeroed memory.
    ///
    /// # Errors
    /// The memory is less than a page.
    pub fn new(memory: M) -> Result<Self, Error> {
        if memory.length() < abi::vm::PAGE_BYTES as usize {
            return Err(Error::NoResources);
        }
        let base = memory.address();
        // SAFETY: a whole page is mapped, aligned to 64 bytes, until `memory`, the last field, is dropped; the references stay in
        // this struct. All three places are atomics inside the page and do not overlap. Applications can only read it.
        let (magic, wait, counters) = unsafe {
            (
                base.byte_add(Status::MAGIC_AT).cast::<AtomicU32>().as_ref(),
                base.byte_add(Status::WAIT_AT).cast().as_ref(),
                base.byte_add(Status::COUNTERS_AT).cast().as_ref(),
            )
        };
        magic.store(Status::MAGIC, Release);
        Ok(Self { wait, counters, _memory: memory })
    }

    /// The server's wait word.
    #[must_use]
    pub const fn wait_word(&self) -> &WaitWord {
        self.wait
    }

    /// Makes the counters readable.
    #[inline]
    pub fn publish(&self, counters: &Counters) {
        for (word, &value) in self.counters.iter().zip(&counters.0) {
            word.store(value, Relaxed);
        }
    }
}
