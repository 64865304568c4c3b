//! The mutex without `turn`: on one thread, under two, and what `turn` is for.

use std::{sync::mpsc, thread, time::Duration};

use super::OneBitMutex;
use crate::{AsymmetricMutex, sync::Ordering::Relaxed};

#[test]
fn zero_bytes_are_an_unlocked_mutex() {
    assert_eq!((size_of::<OneBitMutex>(), align_of::<OneBitMutex>()), (128, 64));
    let fresh = OneBitMutex::new();
    assert_eq!([&fresh.protocol, &fresh.interrupt].map(|line| line.0.load(Relaxed)), [0, 0]);
}

crate::mutex::tests::either!(OneBitMutex);

/// The trade, made certain: an interrupt side that is in the middle of an attempt each time the task looks. Its words
/// are stored here as the attempt stores them, and left as they are until the task was given time.
#[test]
fn an_attempt_holds_the_task_off_where_peterson_lets_it_in() {
    let (one_bit, peterson) = (OneBitMutex::new(), AsymmetricMutex::new());
    let patience = Duration::from_millis(50);
    thread::scope(|scope| {
        let (sent, locked) = mpsc::channel();
        one_bit.interrupt.0.store(1, Relaxed);
        let mutex = &one_bit;
        scope.spawn(move || {
            let _guard = mutex.lock_protocol();
            sent.send(()).unwrap();
        });
        assert!(locked.recv_timeout(patience).is_err(), "it entered though the flag is up");
        one_bit.interrupt.0.store(0, Relaxed);
        locked.recv().unwrap();
    });
    thread::scope(|scope| {
        let (sent, locked) = mpsc::channel();
        let interrupt = peterson.try_lock_interrupt().expect("free");
        let mutex = &peterson;
        scope.spawn(move || {
            let _guard = mutex.lock_protocol();
            sent.send(()).unwrap();
        });
        assert!(locked.recv_timeout(patience).is_err(), "it entered a critical section");
        // The next attempt, before the task has looked: the flag is up again, but the turn is the task's.
        drop(interrupt);
        peterson.interrupt.0.store(1, Relaxed);
        peterson.turn.0.store(crate::mutex::PROTOCOL, Relaxed);
        locked.recv_timeout(Duration::from_secs(20)).expect("the task's turn");
    });
}
