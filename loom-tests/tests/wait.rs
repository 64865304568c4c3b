//! The generation word: no wake-up is lost, and there is at most one post per wait and poster.
#![cfg(loom)]

use loom::{sync::Arc, thread};
use loom_tests::{Event, check};
use shmqueue::{
    Poster, WaitWord,
    sync::{AtomicU32, Ordering::Relaxed},
};

struct Model {
    word: WaitWord,
    event: Event,
    work: [AtomicU32; 2],
}

fn model() -> Arc<Model> {
    Arc::new(Model {
        word: WaitWord::new(),
        event: Event::new(),
        work: [AtomicU32::new(0), AtomicU32::new(0)],
    })
}

/// Brings `n` pieces of work; returns how often it posted.
fn bring(m: &Model, to: usize, n: u32) -> u32 {
    let (mut poster, mut posts) = (Poster::new(), 0);
    for piece in 1..=n {
        m.work[to].store(piece, Relaxed); // Relaxed on purpose: the fences alone must do
        if poster.should_post(&m.word) {
            m.event.post();
            posts += 1;
        }
    }
    posts
}

/// Waits until all work is there; returns how often it waited or was about to.
fn take(m: &Model, n: u32) -> u32 {
    let done = || m.work.iter().all(|work| work.load(Relaxed) == n);
    let mut waits = 0;
    while !done() {
        m.word.prepare();
        waits += 1;
        if !done() {
            m.event.wait();
        }
        m.word.finish();
    }
    waits
}

#[test]
fn one_poster_loses_nothing() {
    check(|| {
        let m = model();
        m.work[1].store(2, Relaxed);
        let poster = thread::spawn({
            let m = Arc::clone(&m);
            move || bring(&m, 0, 2)
        });
        let waits = take(&m, 2);
        assert!(poster.join().unwrap() <= waits, "more posts than waits");
    });
}

#[test]
fn two_posters_lose_nothing() {
    check(|| {
        let m = model();
        let posters = [0, 1].map(|to| {
            let m = Arc::clone(&m);
            thread::spawn(move || bring(&m, to, 1))
        });
        take(&m, 1);
        for poster in posters {
            poster.join().unwrap();
        }
    });
}
