//! Model checks of `shmqueue` and `mbuf`: loom runs the code that ships through all interleavings, and all
//! values that C11 lets a load return, within a bound on preemptions.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test --release -p loom-tests --target-dir target/loom
//! ```
//! `LOOM_MAX_PREEMPTIONS` sets the bound (3 by default); larger values are for the long run.
//!
//! Here is what the tests share: a place for items ([`Words`]), an event that counts ([`Event`]), and
//! [`check`]. Loom reports a lost wake-up as a deadlock, and an unordered access as a fault of a cell: so
//! whatever passes from side to side is a cell here.
//!
//! Loom does not see load buffering, an interrupt that runs to its end within one instruction of the task,
//! endless streams, index wrap-around, a death in the middle, and a peer that lies. Endless streams and
//! wrap-around are explored by the SPIN models of `shmqueue/spin/` and `mbuf/spin/` (`cargo xtask spin`), lies about large
//! windows by the targets of `fuzz/` (`cargo xtask fuzz`), the others by the tests here that are compiled with the hook of
//! `shmqueue::sync` (`cargo xtask inject`):
//!
//! | test | |
//! | --- | --- |
//! | `one_processor_queues`, `one_processor_pools` | the interrupt side at every access of the task, at all pairs and triples |
//! | `hostile` | every load of the interrupt side may return anything |
//! | `death` | the server dies at every access |
//! | `no_read_modify_write` | loads, stores and fences are all that the compiled code uses |
//!
//! `mutations/` lists what the checks have to notice; `cargo xtask mutants` sees to it that they do.
#![cfg(loom)]

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use loom::{
    cell::UnsafeCell,
    sync::{Condvar, Mutex},
};
use shmqueue::{Item, Links};

/// Runs `model` through the interleavings.
pub fn check(model: impl Fn() + Sync + Send + 'static) {
    check_within(3, model);
}

/// [`check`] with another default bound on preemptions. The model runs with and without companions to its
/// atomics ([`shmqueue::sync::watch_loads`] says why).
pub fn check_within(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let model = Arc::new(model);
    for watch in [false, true] {
        shmqueue::sync::watch_loads(watch);
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound.get_or_insert(preemptions);
        builder.max_branches = builder.max_branches.max(5000);
        let explored = Arc::new(AtomicU32::new(0));
        let (model, counter) = (Arc::clone(&model), Arc::clone(&explored));
        builder.check(move || {
            counter.fetch_add(1, Ordering::Relaxed);
            model();
        });
        eprintln!("explored {} interleavings (loads watched: {watch})", explored.load(Ordering::Relaxed));
    }
}

/// Whether something happened in any of the interleavings: a model that never reaches the case it is about
/// proves nothing. It lives outside of loom's world, so it changes nothing there.
pub struct Reached(AtomicU32);

impl Reached {
    /// Not yet.
    #[expect(clippy::new_without_default, reason = "for statics and locals of tests")]
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// It happened so often in this interleaving.
    pub fn note(&self, times: u32) {
        self.0.fetch_max(times, Ordering::Relaxed);
    }

    /// The most that was noted in one interleaving.
    pub fn most(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Items 1 ..= 8, each with a link word and a payload that loom watches.
pub struct Words {
    links: [shmqueue::sync::AtomicU32; 9],
    payloads: [UnsafeCell<u32>; 9],
}

// One thread at a time has an item; loom proves it at each access of the cell.
#[expect(unsafe_code, reason = "loom checks the exclusion that this promises")]
// SAFETY: loom's cell panics on an access that is not ordered after the last one of another thread.
unsafe impl Sync for Words {}

impl Words {
    /// All zero.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "a model is made inside of the check only")]
    pub fn new() -> Self {
        Self {
            links: core::array::from_fn(|_| shmqueue::sync::AtomicU32::new(0)),
            payloads: core::array::from_fn(|_| UnsafeCell::new(0)),
        }
    }

    /// The producer fills item `n`.
    #[expect(unsafe_code, reason = "loom's cell hands out a pointer")]
    pub fn fill(&self, n: u32, value: u32) -> Item {
        // SAFETY: loom's cell vouches for the pointer while the closure runs.
        self.payloads[n as usize].with_mut(|payload| unsafe { *payload = value });
        Item::new(n).expect("items start at 1")
    }

    /// The consumer empties `item`: reads and writes its payload, for it is the consumer's now.
    #[expect(unsafe_code, reason = "loom's cell hands out a pointer")]
    pub fn empty(&self, item: Item) -> u32 {
        // SAFETY: loom's cell vouches for the pointer while the closure runs.
        self.payloads[item.get() as usize].with_mut(|payload| unsafe { core::mem::take(&mut *payload) })
    }
}

impl Links for Words {
    fn next(&self, item: Item) -> Option<&shmqueue::sync::AtomicU32> {
        self.links.get(item.get() as usize)
    }
}

/// A sticky event that counts: `thread_resume` and `thread_suspend`. The wait takes the whole count.
pub struct Event {
    count: Mutex<u32>,
    changed: Condvar,
}

impl Event {
    /// Nothing pending.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "a model is made inside of the check only")]
    pub fn new() -> Self {
        Self { count: Mutex::new(0), changed: Condvar::new() }
    }

    /// `thread_resume`.
    pub fn post(&self) {
        *self.count.lock().expect("no panics") += 1;
        self.changed.notify_one();
    }

    /// How much is pending.
    pub fn pending(&self) -> u32 {
        *self.count.lock().expect("no panics")
    }

    /// `thread_suspend`: returns at once if something is pending. Returns how much there was.
    pub fn wait(&self) -> u32 {
        let mut count = self.count.lock().expect("no panics");
        while *count == 0 {
            count = self.changed.wait(count).expect("no panics");
        }
        core::mem::take(&mut *count)
    }
}
