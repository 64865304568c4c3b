//! Atomics that ask a test before each access. Compiled with `--cfg shmqueue_inject` only.
//!
//! On one processor an interrupt handler runs as a whole between two instructions of the task. Only accesses to
//! shared words matter, so a test that runs the handler before each of them has run it everywhere. The same
//! hook counts accesses, replaces what a load returns (a peer that lies), and drops the stores of a side that
//! has died.
#![expect(unsafe_code, reason = "a hook that borrows from its test is kept in a thread-local")]

extern crate std;

use core::{cell::Cell, mem::transmute, sync::atomic};

use super::Ordering;

/// What is about to be done to a shared word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    /// The word's address.
    pub address: usize,
    /// What is to be stored; `None` for a load.
    pub store: Option<u32>,
}

/// What becomes of the access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// It is done.
    Proceed,
    /// A load returns this instead.
    Answer(u32),
    /// A store is not done. (A load is.)
    Suppress,
}

type Hook = dyn Fn(Access) -> Action;

std::thread_local! {
    static HOOK: Cell<Option<*const Hook>> = const { Cell::new(None) };
}

/// Runs `run` with `hook` before each access that this thread makes. The hook's own accesses come to it too.
pub fn with_hook<R>(hook: &dyn Fn(Access) -> Action, run: impl FnOnce() -> R) -> R {
    struct Restore(Option<*const Hook>);
    impl Drop for Restore {
        fn drop(&mut self) {
            HOOK.set(self.0);
        }
    }
    // SAFETY: only the lifetime changes. `Restore` takes the pointer away before the borrow ends, also when
    // `run` unwinds, and no other thread sees it.
    let hook = unsafe { transmute::<*const (dyn Fn(Access) -> Action + '_), *const Hook>(hook) };
    let _restore = Restore(HOOK.replace(Some(hook)));
    run()
}

fn ask(access: Access) -> Action {
    match HOOK.get() {
        // SAFETY: `with_hook` keeps the hook borrowed for as long as its pointer is here.
        Some(hook) => unsafe { (*hook)(access) },
        None => Action::Proceed,
    }
}

/// Loads and stores only, as everywhere here.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct AtomicU32(atomic::AtomicU32);

impl AtomicU32 {
    /// As in `core`.
    #[must_use]
    pub const fn new(value: u32) -> Self {
        Self(atomic::AtomicU32::new(value))
    }

    /// As in `core`, unless the hook answers.
    pub fn load(&self, order: Ordering) -> u32 {
        match ask(Access { address: (&raw const self.0).addr(), store: None }) {
            Action::Answer(value) => value,
            Action::Proceed | Action::Suppress => self.0.load(order),
        }
    }

    /// As in `core`, unless the hook suppresses it.
    pub fn store(&self, value: u32, order: Ordering) {
        if ask(Access { address: (&raw const self.0).addr(), store: Some(value) }) != Action::Suppress {
            self.0.store(value, order);
        }
    }
}

/// On one thread, who waits for the other side waits for ever.
pub fn spin_loop() {
    if HOOK.get().is_some() {
        panic!("one side waits for the other");
    }
    core::hint::spin_loop();
}
