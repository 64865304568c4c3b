//! A lock between the threads of a task.
//!
//! One processor and preemption: who finds it taken sleeps for a moment, so that a holder of a lower priority gets to run.
#![expect(unsafe_code, reason = "a lock is what makes the cell safe")]

use core::{
    cell::UnsafeCell,
    ops::{Deref, DerefMut},
    sync::atomic::{
        AtomicBool,
        Ordering::{Acquire, Relaxed, Release},
    },
};

/// How long a thread that finds a lock taken sleeps, in nanoseconds: about a tick.
const RETRY_NS: u64 = 1_000_000;

/// A value that one thread at a time uses.
#[derive(Debug)]
pub struct Lock<T> {
    taken: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the flag lets one thread at a time to the value.
unsafe impl<T: Send> Sync for Lock<T> {}

impl<T> Lock<T> {
    /// A lock, free.
    #[must_use]
    pub const fn new(value: T) -> Self {
        Self { taken: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Waits for it and takes it.
    #[inline]
    pub fn lock(&self) -> Guard<'_, T> {
        // Acquire pairs with the Release of `Guard::drop`.
        while self.taken.compare_exchange(false, true, Acquire, Relaxed).is_err() {
            let _ = crate::thread::suspend_ns(RETRY_NS);
        }
        Guard { lock: self }
    }
}

/// The value, until it is dropped.
#[derive(Debug)]
pub struct Guard<'l, T> {
    lock: &'l Lock<T>,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this guard is the only one.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard is the only one, and it is borrowed exclusively.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.taken.store(false, Release); // pairs with the Acquire of `lock`
    }
}
