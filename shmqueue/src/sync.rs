//! The atomics that the rest of the crate uses: those of `core`, or loom's when the crate is compiled with
//! `--cfg loom`, so that the model checker runs the code that ships.
//!
//! Only 32-bit loads, stores and fences are used: no exchange, no compare-and-swap. And no `SeqCst` access,
//! only `SeqCst` fences, whose meaning C11, x86 and loom agree on.
//!
//! With `--cfg shmqueue_inject` a test is asked before each access, and can run the other side there, lie about
//! what a load returns, or let this side die.

#[cfg(not(loom))]
pub use core::sync::atomic::{Ordering, fence};
#[cfg(not(any(loom, shmqueue_inject)))]
pub use core::{hint::spin_loop, sync::atomic::AtomicU32};
#[cfg(all(shmqueue_inject, not(loom)))]
pub use injected::{AtomicU32, spin_loop};
#[cfg(loom)]
pub use loom::{
    hint::spin_loop,
    sync::atomic::{Ordering, fence},
};

#[cfg(loom)]
pub use watched::{AtomicU32, watch_loads};

/// The fence between two stores to shared words: neither may be seen without the one before it, in the single
/// total order that the [full fence](full_fence)s of the other side take part in.
///
/// C11 asks for a full fence here. x86 does not reorder stores, so there it only has to stop the compiler.
#[inline(always)]
pub fn store_fence() {
    #[cfg(all(target_arch = "x86_64", not(loom)))]
    core::sync::atomic::compiler_fence(Ordering::SeqCst);
    #[cfg(not(all(target_arch = "x86_64", not(loom))))]
    fence(Ordering::SeqCst);
}

/// The fence between a store to one shared word and a load of another (Dekker's pattern): of two sides that
/// both store, fence and load, at least one sees the other's store.
#[inline(always)]
pub fn full_fence() {
    fence(Ordering::SeqCst);
}

#[cfg(all(shmqueue_inject, not(loom)))]
pub mod injected;

/// Loom's atomic, with more places to switch threads.
///
/// Loom 0.7 looks for a switch only at the last access to the same variable. Where one thread loads, and
/// another loads and then stores, it takes the second load for the last access and never tries to run the
/// first load later. While loads are watched, each load and store is preceded by a relaxed read-modify-write
/// of a companion, which loom does take into account. Together with fences, companions order a little more
/// than the code does: so the checks run once with them and once without.
#[cfg(loom)]
mod watched {
    extern crate std;

    use core::cell::Cell;

    use super::Ordering;

    std::thread_local! {
        // Loom runs all threads of a model on one thread of the host.
        static WATCH: Cell<bool> = const { Cell::new(false) };
    }

    /// Switches the companions on or off for the models that this thread runs.
    pub fn watch_loads(on: bool) {
        WATCH.set(on);
    }

    /// Loads and stores only, as everywhere here.
    #[derive(Debug, Default)]
    pub struct AtomicU32 {
        value: loom::sync::atomic::AtomicU32,
        companion: loom::sync::atomic::AtomicU32,
    }

    impl AtomicU32 {
        /// As in `core`.
        #[track_caller]
        pub fn new(value: u32) -> Self {
            Self { value: loom::sync::atomic::AtomicU32::new(value), companion: Default::default() }
        }

        /// As in `core`.
        #[track_caller]
        pub fn load(&self, order: Ordering) -> u32 {
            self.visit();
            self.value.load(order)
        }

        /// As in `core`.
        #[track_caller]
        pub fn store(&self, value: u32, order: Ordering) {
            self.visit();
            self.value.store(value, order);
        }

        fn visit(&self) {
            if WATCH.get() {
                self.companion.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// `const fn`, but where loom's atomics, which have no constant constructor, stand in.
macro_rules! const_unless_loom {
    ($(#[$meta:meta])* pub fn $name:ident($($arg:ident: $type:ty),*) -> $ret:ty $body:block) => {
        #[cfg(not(loom))]
        $(#[$meta])* pub const fn $name($($arg: $type),*) -> $ret $body
        #[cfg(loom)]
        $(#[$meta])* pub fn $name($($arg: $type),*) -> $ret $body
    };
}
pub(crate) use const_unless_loom;
