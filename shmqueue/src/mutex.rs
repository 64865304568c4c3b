//! The asymmetric mutex: Peterson's algorithm, whose interrupt side gives up instead of waiting (R&H,
//! "Software Mutex").
//!
//! An interrupt handler that spun for a lock held by the task it interrupted would never return. So
//! [`AsymmetricMutex::try_lock_interrupt`] makes one attempt, of a fixed number of accesses, and reports
//! failure; only the protocol side may wait, and it waits for no more than one critical section of the
//! interrupt side.
//!
//! There is one slot for each side. The mutex guards no data of its own: what it protects lives in shared
//! memory beside it, behind offsets.
//!
//! # Ordering
//! Each side stores its own flag, then `turn`, then loads the other's flag and `turn`. The full fence before
//! the loads makes at least one side see the other's flag (Dekker's pattern); the fence between the two
//! stores keeps `turn` from being seen without the flag. `Release` of an unlock pairs with the `Acquire` load
//! of that flag by the other side, which so sees all that was done in the critical section.
//!
//! [`OneBitMutex`] does without `turn`, and says what that costs.

use crate::sync::{AtomicU32, Ordering, const_unless_loom, full_fence, spin_loop, store_fence};
use Ordering::{Acquire, Release};

pub mod one_bit;

pub use one_bit::OneBitMutex;

const INTERRUPT: u32 = 1;
const PROTOCOL: u32 = 2;

/// One cache line, so that a word that one side writes does not move the line that the other side writes.
#[repr(C, align(64))]
struct Line(AtomicU32);

/// Mutual exclusion between one interrupt side and one protocol side. All zero bytes are an unlocked mutex.
///
/// ```
/// let mutex = shmqueue::AsymmetricMutex::new();
/// let guard = mutex.lock_protocol();
/// assert!(mutex.try_lock_interrupt().is_none()); // it does not wait
/// drop(guard);
/// assert!(mutex.try_lock_interrupt().is_some());
/// ```
#[repr(C, align(64))]
pub struct AsymmetricMutex {
    /// Written by the protocol side.
    protocol: Line,
    /// Written by the interrupt side.
    interrupt: Line,
    /// Written by both: who goes first if both want it.
    turn: Line,
}

impl AsymmetricMutex {
    const_unless_loom! {
        /// An unlocked mutex.
        #[must_use]
        pub fn new() -> Self {
            let [protocol, interrupt, turn] =
                [Line(AtomicU32::new(0)), Line(AtomicU32::new(0)), Line(AtomicU32::new(0))];
            Self { protocol, interrupt, turn }
        }
    }

    /// The interrupt side's only attempt. `None` means that the protocol side holds the lock or was there
    /// first.
    #[inline(always)]
    pub fn try_lock_interrupt(&self) -> Option<InterruptGuard<'_>> {
        try_lock(&self.interrupt.0, &self.protocol.0, &self.turn.0, PROTOCOL).then(|| InterruptGuard(self))
    }

    /// The protocol side's attempt that does not wait: for a producer that has another sub-queue to go to.
    #[inline(always)]
    pub fn try_lock_protocol(&self) -> Option<ProtocolGuard<'_>> {
        try_lock(&self.protocol.0, &self.interrupt.0, &self.turn.0, INTERRUPT).then(|| ProtocolGuard(self))
    }

    /// Locks for the protocol side; spins while the interrupt side is in its critical section on another
    /// processor.
    #[inline(always)]
    pub fn lock_protocol(&self) -> ProtocolGuard<'_> {
        announce(&self.protocol.0, &self.turn.0, INTERRUPT);
        while held(&self.interrupt.0, &self.turn.0, INTERRUPT) {
            spin_loop();
        }
        ProtocolGuard(self)
    }
}

impl Default for AsymmetricMutex {
    fn default() -> Self {
        Self::new()
    }
}

/// Own flag, then the turn to the other, each visible before what follows.
#[inline(always)]
fn announce(own: &AtomicU32, turn: &AtomicU32, other: u32) {
    own.store(1, Release); // read by the other side's `held`
    store_fence();
    turn.store(other, Release); // read by the other side's `held`
    full_fence(); // with the other side's, Dekker's pattern: not both read the other's flag as it was before
}

/// Whether the other side wants the lock and is to go first.
#[inline(always)]
fn held(theirs: &AtomicU32, turn: &AtomicU32, other: u32) -> bool {
    // Acquire: pairs with the Release of the other side's unlock.
    theirs.load(Acquire) != 0 && turn.load(Acquire) == other
}

#[inline(always)]
fn try_lock(own: &AtomicU32, theirs: &AtomicU32, turn: &AtomicU32, other: u32) -> bool {
    announce(own, turn, other);
    if held(theirs, turn, other) {
        own.store(0, Release);
        return false;
    }
    true
}

/// The interrupt side holds the lock until this is dropped.
#[must_use = "the lock is released when the guard is dropped"]
pub struct InterruptGuard<'m>(&'m AsymmetricMutex);

impl Drop for InterruptGuard<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.0.interrupt.0.store(0, Release); // pairs with the protocol side's `held`
    }
}

/// The protocol side holds the lock until this is dropped.
#[must_use = "the lock is released when the guard is dropped"]
pub struct ProtocolGuard<'m>(&'m AsymmetricMutex);

impl Drop for ProtocolGuard<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.0.protocol.0.store(0, Release); // pairs with the interrupt side's `held`
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
