//! One wake-up per wait, by a word that counts waits.
//!
//! A [`WaitWord`] lies in shared memory. Its owner, the waiter, makes it odd before it waits and even when it
//! goes on: each wait has an odd number of its own. A [`Poster`] that has brought work looks at the word, and
//! posts an event only if the waiter waits and has not already had an event from this poster for this wait.
//! Unlike a plain flag, a word that only the waiter writes can be mapped read-only into each poster, and many
//! items brought before the waiter gets the processor cost one system call.
//!
//! # Phases
//! ```text
//! poster                        waiter
//! 1 bring work                  1 look for work: none
//! 2 FENCE                       2 word = odd; FENCE          (prepare)
//! 3 load word                   3 look again
//! 4 odd and new: post           4 none: wait for the event
//!                               5 word = even                (finish)
//! ```
//! The gap in which a wake-up could be lost lies between the waiter's look (1) and its wait (4). Work brought
//! in it is seen in (3), or else the poster's load (3) sees the odd word: of two sides that store, fence and
//! load, one sees the other (Dekker's pattern). The event may be posted before the waiter has begun to wait;
//! it has to count, as `thread_resume` does.
//!
//! A waiter that finds work in (3) makes the word even without having waited. The poster may have posted by
//! then: the next wait ends at once, and for nothing. It costs one look for work. A poster posts once for each odd
//! number; posts for waits that never began add up until one does, which takes them all, so an event that keeps one
//! bit is as good as one that counts.
//!
//! The word wraps after 2³¹ waits. A poster that last posted exactly that many waits ago would spare one
//! wake-up; waits with a time-out, as the server's are, bound what that could cost.

use crate::sync::{
    AtomicU32,
    Ordering::{Relaxed, Release},
    const_unless_loom, full_fence,
};

/// The word in shared memory: odd while its owner waits. Zero bytes are a waiter that works.
#[repr(C)]
pub struct WaitWord(AtomicU32);

impl WaitWord {
    const_unless_loom! {
        /// The word of a waiter that works.
        #[must_use]
        pub fn new() -> Self {
            Self(AtomicU32::new(0))
        }
    }

    /// Waiter, phase 2: the word becomes odd, FENCE. Then look for work again, and wait only if there is
    /// none.
    #[inline]
    pub fn prepare(&self) {
        self.announce();
        full_fence(); // pairs with the one in `Poster::should_post`
    }

    /// [`prepare`](Self::prepare) without the fence, for a waiter that puts one [`full_fence`] behind several
    /// announcements.
    #[inline]
    pub fn announce(&self) {
        // Only the waiter writes the word, so load and store need not be one.
        let generation = self.0.load(Relaxed);
        // A new odd number, also from an odd one.
        self.0.store(generation.wrapping_add(1 + (generation & 1)), Release);
    }

    /// Waiter, phase 5: the word becomes even.
    #[inline]
    pub fn finish(&self) {
        let generation = self.0.load(Relaxed);
        self.0.store(generation.wrapping_add(generation & 1), Release);
    }

    /// Whether the waiter says that it waits; for statistics, without a fence.
    pub fn is_waiting(&self) -> bool {
        self.0.load(Relaxed) & 1 == 1
    }
}

impl Default for WaitWord {
    fn default() -> Self {
        Self::new()
    }
}

/// A poster's private memory of the last wait that it ended.
///
/// ```
/// use shmqueue::{Poster, WaitWord};
/// let (word, mut poster) = (WaitWord::new(), Poster::new());
/// assert!(!poster.should_post(&word)); // the waiter works
/// word.prepare();
/// assert!(poster.should_post(&word)); // it waits
/// assert!(!poster.should_post(&word)); // and has been woken
/// word.finish();
/// word.prepare();
/// assert!(poster.should_post(&word)); // it waits again
/// ```
#[derive(Clone, Copy, Default, Debug)]
pub struct Poster {
    /// The last generation posted: odd, or 0 for none.
    last: u32,
}

impl Poster {
    /// A poster that has posted nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { last: 0 }
    }

    /// FENCE, then the word: whether to post an event. Call it after the work is where the waiter looks; then
    /// post.
    #[inline]
    #[must_use = "a waiter that is not woken leaves the work undone"]
    pub fn should_post(&mut self, word: &WaitWord) -> bool {
        full_fence(); // pairs with the one in `WaitWord::prepare`
        self.should_post_fenced(word)
    }

    /// [`should_post`](Self::should_post) without the fence, for a poster that has put one [`full_fence`]
    /// behind its work already.
    #[inline]
    #[must_use = "a waiter that is not woken leaves the work undone"]
    pub fn should_post_fenced(&mut self, word: &WaitWord) -> bool {
        let generation = word.0.load(Relaxed);
        if generation & 1 == 0 || generation == self.last {
            return false;
        }
        self.last = generation;
        true
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
