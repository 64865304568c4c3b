//! The asymmetric mutex: exclusion, order, and no flag left behind.
#![cfg(loom)]
#![expect(unsafe_code, reason = "loom's cells hand out pointers")]

use loom::{cell::UnsafeCell, sync::Arc, thread};
use loom_tests::check;
use shmqueue::AsymmetricMutex;

struct Guarded {
    mutex: AsymmetricMutex,
    value: UnsafeCell<u32>,
}

// SAFETY: loom's cell panics where the mutex fails to exclude.
unsafe impl Sync for Guarded {}
// SAFETY: as above.
unsafe impl Send for Guarded {}

impl Guarded {
    fn new() -> Arc<Self> {
        Arc::new(Self { mutex: AsymmetricMutex::new(), value: UnsafeCell::new(0) })
    }

    fn add(&self) {
        // SAFETY: the mutex is held; loom watches.
        self.value.with_mut(|value| unsafe { *value += 1 });
    }
}

/// Two rounds on each side: a stale value of the flag or of the turn shows only in the second.
#[test]
fn excludes_and_orders() {
    check(|| {
        let guarded = Guarded::new();
        let interrupt = thread::spawn({
            let guarded = Arc::clone(&guarded);
            move || {
                let mut entered = 0;
                for _ in 0..2 {
                    if let Some(_guard) = guarded.mutex.try_lock_interrupt() {
                        guarded.add();
                        entered += 1;
                    }
                }
                entered
            }
        });
        for _ in 0..2 {
            let _guard = guarded.mutex.lock_protocol();
            guarded.add();
        }
        let entered = interrupt.join().unwrap();
        let guard = guarded.mutex.lock_protocol();
        // SAFETY: the mutex is held.
        guarded.value.with(|value| assert_eq!(unsafe { *value }, 2 + entered));
        drop(guard);
        assert!(guarded.mutex.try_lock_interrupt().is_some(), "a flag was left set");
    });
}

/// Both sides try: both may fail at once, but never enter at once.
#[test]
fn two_attempts_exclude() {
    check(|| {
        let guarded = Guarded::new();
        let interrupt = thread::spawn({
            let guarded = Arc::clone(&guarded);
            move || {
                let guard = guarded.mutex.try_lock_interrupt();
                if guard.is_some() {
                    guarded.add();
                }
                guard.is_some()
            }
        });
        let protocol = guarded.mutex.try_lock_protocol();
        if protocol.is_some() {
            guarded.add();
        }
        let entered = u32::from(protocol.is_some());
        drop(protocol);
        let entered = entered + u32::from(interrupt.join().unwrap());
        let guard = guarded.mutex.lock_protocol();
        // SAFETY: the mutex is held.
        guarded.value.with(|value| assert_eq!(unsafe { *value }, entered));
        drop(guard);
        assert!(guarded.mutex.try_lock_interrupt().is_some(), "a flag was left set");
    });
}
