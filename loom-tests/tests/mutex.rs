//! The asymmetric mutex, with `turn` and without: exclusion, order, and no flag left behind.
#![cfg(loom)]

/// The tests of one of the two.
macro_rules! tests {
    ($name:ident, $mutex:ident) => {
        mod $name {
            #![expect(unsafe_code, reason = "loom's cells hand out pointers")]

            use loom::{cell::UnsafeCell, sync::Arc, thread};
            use loom_tests::{Reached, check};
            use shmqueue::mutex::$mutex;

            struct Guarded {
                mutex: $mutex,
                value: UnsafeCell<u32>,
            }

            // SAFETY: loom's cell panics where the mutex fails to exclude.
            unsafe impl Sync for Guarded {}
            // SAFETY: as above.
            unsafe impl Send for Guarded {}

            impl Guarded {
                fn new() -> Arc<Self> {
                    Arc::new(Self { mutex: $mutex::new(), value: UnsafeCell::new(0) })
                }

                fn add(&self) {
                    // SAFETY: the mutex is held; loom watches.
                    self.value.with_mut(|value| unsafe { *value += 1 });
                }

                /// At the end: as often entered as counted, and the lock is free.
                fn ends_with(&self, entered: u32) {
                    let guard = self.mutex.lock_protocol();
                    // SAFETY: the mutex is held.
                    self.value.with(|value| assert_eq!(unsafe { *value }, entered));
                    drop(guard);
                    assert!(self.mutex.try_lock_interrupt().is_some(), "a flag was left set");
                }
            }

            /// Two rounds on each side: a stale value of a flag or of the turn shows only in the second. The interrupt side's attempts end,
            /// so that the task's wait does.
            #[test]
            fn excludes_and_orders() {
                static FAILED: Reached = Reached::new();
                static ENTERED: Reached = Reached::new();
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
                    FAILED.note(2 - entered);
                    ENTERED.note(entered);
                    guarded.ends_with(2 + entered);
                });
                assert_eq!((FAILED.most(), ENTERED.most()), (2, 2), "some interleavings were not met");
            }

            /// Both sides try: both may fail at once (with `turn`, where one looks between the other's two stores), but never enter at once.
            #[test]
            fn two_attempts_exclude() {
                static BOTH_FAILED: Reached = Reached::new();
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
                    BOTH_FAILED.note(u32::from(entered == 0));
                    guarded.ends_with(entered);
                });
                assert_eq!(BOTH_FAILED.most(), 1, "that interleaving was not met");
            }
        }
    };
}

tests!(with_turn, AsymmetricMutex);
tests!(one_bit, OneBitMutex);
