//! The peer that lies: it answers loads of shared words as the fuzzer's bytes say, and counts the accesses of the side under
//! test, which may not make more than its bound, nor store where it may not.
#![cfg_attr(shmqueue_inject, expect(unsafe_code, reason = "looks at the word that it is about to lie about"))]

use std::cell::{Cell, RefCell};
use std::ops::Range;

use shmqueue::sync::AtomicU32;
use shmqueue::sync::Ordering::Relaxed;

use crate::input::Input;
use crate::memory::Guarded;

/// One run's peer, and the bytes that it is made of.
pub struct Peer<'d> {
    input: RefCell<Input<'d>>,
    /// Values that reach the checks: offsets of items and of what lies beside them.
    shapes: Vec<u32>,
    /// Addresses of the words that a protocol side waits for: it is told the truth about them, and they are never written.
    honest: Vec<Range<usize>>,
    /// Addresses where the side under test may store.
    stores: Vec<Range<usize>>,
    lies: Cell<u32>,
}

impl<'d> Peer<'d> {
    pub fn new(input: Input<'d>, shapes: Vec<u32>) -> Self {
        Self {
            input: RefCell::new(input),
            shapes,
            honest: Vec::new(),
            stores: Vec::new(),
            lies: Cell::new(0),
        }
    }

    /// The words of a mutex.
    pub fn honest_about(mut self, addresses: Range<usize>) -> Self {
        self.honest.push(addresses);
        self
    }

    /// The side under test may store here.
    pub fn may_store(mut self, addresses: Range<usize>) -> Self {
        self.stores.push(addresses);
        self
    }

    /// Whether it has told the truth so far.
    pub fn was_honest(&self) -> bool {
        self.lies.get() == 0
    }

    /// The caller has lied in its name.
    pub fn has_lied(&self) {
        self.lies.set(self.lies.get() + 1);
    }

    /// What the fuzzer's bytes say next.
    pub fn input<R>(&self, read: impl FnOnce(&mut Input<'d>) -> R) -> R {
        read(&mut self.input.borrow_mut())
    }

    /// A number below `n`.
    pub fn below(&self, n: u32) -> u32 {
        self.input(|input| input.below(n))
    }

    /// Runs the interrupt side, which makes at most `bound` accesses, and is lied to about everything.
    pub fn run<R>(&self, bound: u32, side: impl FnOnce() -> R) -> R {
        self.watch(bound, false, side)
    }

    /// Runs the protocol side, which waits for mutexes and so has to be told the truth about them.
    pub fn run_waiting<R>(&self, bound: u32, side: impl FnOnce() -> R) -> R {
        self.watch(bound, true, side)
    }

    #[cfg(shmqueue_inject)]
    fn watch<R>(&self, bound: u32, waits: bool, side: impl FnOnce() -> R) -> R {
        use shmqueue::sync::injected::{Access, Action, with_hook};

        let accesses = Cell::new(0);
        let within = |ranges: &[Range<usize>], at| ranges.iter().any(|range| range.contains(&at));
        let hook = |access: Access| {
            accesses.set(accesses.get() + 1);
            assert!(accesses.get() <= bound, "more than {bound} accesses");
            if access.store.is_some() {
                assert!(within(&self.stores, access.address), "a store to {:#x}", access.address);
                return Action::Proceed;
            }
            if waits && within(&self.honest, access.address) {
                return Action::Proceed;
            }
            match self.lie(access.address) {
                Some(lie) => Action::Answer(lie),
                None => Action::Proceed,
            }
        };
        with_hook(&hook, side)
    }

    /// Without the hook there is no lie within a call.
    #[cfg(not(shmqueue_inject))]
    fn watch<R>(&self, _bound: u32, _waits: bool, side: impl FnOnce() -> R) -> R {
        let _ = &self.stores;
        side()
    }

    #[cfg(shmqueue_inject)]
    fn lie(&self, address: usize) -> Option<u32> {
        let kind = self.input(Input::next)?;
        if kind < 0xa0 {
            return None;
        }
        let at = std::ptr::with_exposed_provenance::<u32>(address).cast_mut();
        // SAFETY: the address of an atomic word that is about to be loaded.
        let truth = unsafe { core::sync::atomic::AtomicU32::from_ptr(at) }.load(Relaxed);
        let lie = self.invent(kind, truth);
        self.lies.set(self.lies.get() + u32::from(lie != truth));
        Some(lie)
    }

    /// A value for a word that holds `truth`.
    fn invent(&self, kind: u8, truth: u32) -> u32 {
        match kind & 7 {
            0 | 1 if !self.shapes.is_empty() => self.shapes[self.below(self.shapes.len() as u32) as usize],
            2 => self.input(Input::word),
            3 => truth.wrapping_add(1),
            4 => truth.wrapping_sub(1),
            5 => truth ^ 1 << (kind >> 3),
            6 => 1 << (kind >> 3),
            _ => self.below(256),
        }
    }

    /// Writes a word, as the peer that shares the memory can at any time; not one that it is honest about.
    pub fn write(&self, word: &AtomicU32) {
        let address = std::ptr::from_ref(word).addr();
        if self.honest.iter().any(|range| range.contains(&address)) {
            return;
        }
        let (kind, truth) = (self.input(Input::byte), word.load(Relaxed));
        let lie = self.invent(kind, truth);
        self.lies.set(self.lies.get() + u32::from(lie != truth));
        word.store(lie, Relaxed);
    }

    /// Writes one of the words at `area` of `memory`.
    pub fn scribble(&self, memory: &Guarded, area: Range<usize>) {
        let words = (area.end - area.start) / 4;
        if words != 0 {
            self.write(memory.word(area.start + 4 * self.below(words as u32) as usize));
        }
    }
}
