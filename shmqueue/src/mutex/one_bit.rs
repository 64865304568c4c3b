//! The asymmetric mutex without `turn`: one flag a side, one fence a lock.
//!
//! Since the interrupt side gives up instead of waiting, two flags are enough for exclusion. What is left is the
//! one-bit algorithm (J. Burns, "Symmetry in Systems of Asynchronous Processes", 1981; L. Lamport, "The Mutual
//! Exclusion Problem: Part II", 1986) whose second process, here the interrupt side, does not try again by itself.
//!
//! # Which of the two
//! | | [`AsymmetricMutex`](super::AsymmetricMutex) | [`OneBitMutex`] |
//! | --- | --- | --- |
//! | one attempt that finds the lock free | 2 stores, 2 fences, 1 load | 1 store, 1 fence, 1 load |
//! | bytes | 192 | 128 |
//! | task waits for | one critical section of the interrupt side | as long as attempts of the interrupt side follow each other |
//!
//! (On x86 the fence between Peterson's two stores costs nothing; the second store remains.)
//!
//! The trade: an attempt shows its flag before it fails. A task that waits in
//! [`lock_protocol`](OneBitMutex::lock_protocol) has to see that flag down, and an interrupt side **on another
//! processor** that attempts, fails and attempts again can have it up each time the task looks: the task is held off
//! for ever, though no attempt succeeds either. With `turn` the second attempt lets the task in. On one processor it
//! cannot be: an interrupt handler has ended, and its flag is down, when the task looks again. Choose this mutex
//! there, or where attempts are bounded by something else, such as interrupts that come apart.
//!
//! # Ordering
//! Each side stores its flag, then loads the other's. The full fence between makes at least one side see the other's
//! flag (Dekker's pattern). `Release` of an unlock pairs with the `Acquire` load of that flag by the other side, which
//! so sees all that was done in the critical section.

use super::Line;
use crate::sync::{AtomicU32, Ordering, const_unless_loom, full_fence, spin_loop};
use Ordering::{Acquire, Release};

/// Mutual exclusion between one interrupt side and one protocol side, by two flags. All zero bytes are an unlocked
/// mutex.
///
/// ```
/// let mutex = shmqueue::mutex::OneBitMutex::new();
/// let guard = mutex.lock_protocol();
/// assert!(mutex.try_lock_interrupt().is_none()); // it does not wait
/// drop(guard);
/// assert!(mutex.try_lock_interrupt().is_some());
/// ```
#[repr(C, align(64))]
pub struct OneBitMutex {
    /// Written by the protocol side.
    protocol: Line,
    /// Written by the interrupt side.
    interrupt: Line,
}

impl OneBitMutex {
    const_unless_loom! {
        /// An unlocked mutex.
        #[must_use]
        pub fn new() -> Self {
            let [protocol, interrupt] = [Line(AtomicU32::new(0)), Line(AtomicU32::new(0))];
            Self { protocol, interrupt }
        }
    }

    /// The interrupt side's only attempt. `None` means that the protocol side has the lock or wants it.
    #[inline(always)]
    pub fn try_lock_interrupt(&self) -> Option<InterruptGuard<'_>> {
        try_lock(&self.interrupt.0, &self.protocol.0).then(|| InterruptGuard(self))
    }

    /// The protocol side's attempt that does not wait. Both sides' attempts may fail at once, as those of the other mutex may where one
    /// side looks between the other's two stores.
    #[inline(always)]
    pub fn try_lock_protocol(&self) -> Option<ProtocolGuard<'_>> {
        try_lock(&self.protocol.0, &self.interrupt.0).then(|| ProtocolGuard(self))
    }

    /// Locks for the protocol side; spins while the interrupt side's flag is up, on another processor. An interrupt
    /// side that attempts again and again there can keep it up for ever.
    #[inline(always)]
    pub fn lock_protocol(&self) -> ProtocolGuard<'_> {
        raise(&self.protocol.0);
        // Acquire: pairs with the Release of the interrupt side's unlock.
        while self.interrupt.0.load(Acquire) != 0 {
            spin_loop();
        }
        ProtocolGuard(self)
    }
}

impl Default for OneBitMutex {
    fn default() -> Self {
        Self::new()
    }
}

/// Own flag, visible before the other's is loaded.
#[inline(always)]
fn raise(own: &AtomicU32) {
    own.store(1, Release); // read by the other side's attempt or wait
    full_fence(); // with the other side's, Dekker's pattern: not both read the other's flag as it was before
}

#[inline(always)]
fn try_lock(own: &AtomicU32, theirs: &AtomicU32) -> bool {
    raise(own);
    // Acquire: pairs with the Release of the other side's unlock.
    if theirs.load(Acquire) != 0 {
        own.store(0, Release);
        return false;
    }
    true
}

/// The interrupt side holds the lock until this is dropped.
#[must_use = "the lock is released when the guard is dropped"]
pub struct InterruptGuard<'m>(&'m OneBitMutex);

impl Drop for InterruptGuard<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.0.interrupt.0.store(0, Release); // pairs with the protocol side's load
    }
}

/// The protocol side holds the lock until this is dropped.
#[must_use = "the lock is released when the guard is dropped"]
pub struct ProtocolGuard<'m>(&'m OneBitMutex);

impl Drop for ProtocolGuard<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.0.protocol.0.store(0, Release); // pairs with the interrupt side's load
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
