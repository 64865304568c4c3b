//! The mutex on one thread, and under two; what both mutexes promise is written once, for the one without `turn` too.

use super::AsymmetricMutex;

/// The tests that either mutex passes.
macro_rules! either {
    ($mutex:ident) => {
        #[test]
        fn each_side_keeps_the_other_out_and_no_flag_is_left() {
            let mutex = $mutex::new();
            for _ in 0..3 {
                let guard = mutex.lock_protocol();
                assert!(mutex.try_lock_interrupt().is_none());
                assert!(mutex.try_lock_interrupt().is_none());
                drop(guard);
                let guard = mutex.try_lock_interrupt().expect("free");
                assert!(mutex.try_lock_protocol().is_none());
                drop(guard);
                let guard = mutex.try_lock_protocol().expect("free");
                assert!(mutex.try_lock_interrupt().is_none());
                drop(guard);
            }
        }

        /// On real processors, with what they reorder. The attempts of the interrupt side end: without `turn` it could hold the other off
        /// for ever.
        #[test]
        #[expect(unsafe_code, reason = "the cell that the mutex guards")]
        fn two_threads_lose_no_increment() {
            const ROUNDS: u64 = if cfg!(miri) { 300 } else { 200_000 };
            struct Guarded($mutex, core::cell::UnsafeCell<u64>);
            // SAFETY: the cell is used under the mutex only, which is what is tested.
            unsafe impl Sync for Guarded {}
            let guarded = Guarded($mutex::new(), core::cell::UnsafeCell::new(0));
            let entered = std::thread::scope(|scope| {
                let shared = &guarded;
                let interrupt = scope.spawn(move || {
                    let mut entered = 0;
                    for _ in 0..ROUNDS {
                        if let Some(_guard) = shared.0.try_lock_interrupt() {
                            // SAFETY: under the mutex.
                            unsafe { *shared.1.get() += 1 };
                            entered += 1;
                        }
                    }
                    entered
                });
                for _ in 0..ROUNDS {
                    let _guard = shared.0.lock_protocol();
                    // SAFETY: under the mutex.
                    unsafe { *shared.1.get() += 1 };
                }
                interrupt.join().unwrap()
            });
            assert_eq!(guarded.1.into_inner(), ROUNDS + entered);
        }
    };
}
pub(super) use either;

either!(AsymmetricMutex);

#[test]
fn zero_bytes_are_an_unlocked_mutex() {
    assert_eq!((size_of::<AsymmetricMutex>(), align_of::<AsymmetricMutex>()), (192, 64));
    let fresh = AsymmetricMutex::new();
    for line in [&fresh.protocol, &fresh.interrupt, &fresh.turn] {
        assert_eq!(line.0.load(super::Ordering::Relaxed), 0);
    }
}
