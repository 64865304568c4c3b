//! One processor: the driver takes and gives buffers, as a whole, before every access of the server to a shared word, and
//! at all pairs and triples of such places. No buffer has two owners, none is lost, who sleeps for want of one is woken,
//! and the driver's accesses are bounded by a constant.
#![cfg(all(shmqueue_inject, not(loom)))]

#[path = "../../mbuf/tests/common/mod.rs"]
mod common;
mod hook;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use common::Window;
use hook::{Run, explore};
use mbuf::{InterruptSpace, NoLedger, ProtocolSpace};
use shmqueue::{DualQueue, InConsumer, InProducer, Item};

/// Who has which buffer; mbufs and clusters have different offsets.
#[derive(Default)]
struct Owners(RefCell<BTreeMap<u32, &'static str>>);

impl Owners {
    fn take(&self, window: &Window, item: Item, owner: &'static str) {
        let cluster = window.view().mbuf(item).unwrap().cluster();
        for buffer in [Some(item), cluster].into_iter().flatten() {
            if let Some(other) = self.0.borrow_mut().insert(buffer.get(), owner) {
                panic!("{owner} was given what {other} has");
            }
        }
    }

    fn give(&self, window: &Window, item: Item, owner: &'static str) {
        let cluster = window.view().mbuf(item).unwrap().cluster();
        for buffer in [Some(item), cluster].into_iter().flatten() {
            assert_eq!(self.0.borrow_mut().remove(&buffer.get()), Some(owner));
        }
    }
}

/// What one interrupt of the driver costs at most, whatever it meets: a pair taken, and what a pool in vain adds to that; a
/// packet freed or deferred.
const TAKE_AT_MOST: u32 = 19;
const POOL_IN_VAIN_AT_MOST: u32 = 10;
const FREE_AT_MOST: u32 = 19;

/// The driver takes a pair when it has none, and gives it back in the next interrupt, first the one way round, then the other.
fn both_take_and_give(pools: u32) {
    let (most_taking, most_freeing, deferred_ever) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let runs = explore(3, |run| {
        let window = Window::new(pools, 4 / pools, 4 / pools);
        let (owners, queue) = (Owners::default(), DualQueue::new());
        let driver = RefCell::new((
            InterruptSpace::new(window.view()),
            InProducer::new(&queue, window.view()),
            Vec::<Item>::new(),
        ));
        let interrupt = |run: &Run| {
            let (space, defer, mine) = &mut *driver.borrow_mut();
            if let Some(item) = mine.pop() {
                owners.give(&window, item, "driver");
                let (freed, accesses) =
                    run.count(|| space.try_free(&[item], &mut NoLedger, |item| defer.append(item).unwrap()));
                assert!(freed.is_ok());
                most_freeing.set(most_freeing.get().max(accesses));
            } else {
                let (got, accesses) =
                    run.count(|| space.try_alloc_cluster_batch(1, &mut NoLedger, |item, _| mine.push(item)));
                assert!(got.is_ok());
                most_taking.set(most_taking.get().max(accesses));
                mine.iter().for_each(|&item| owners.take(&window, item, "driver"));
            }
        };
        let mut space = ProtocolSpace::new(window.view());
        let mut deferred = InConsumer::new(&queue, window.view());
        run.go(&interrupt, || {
            for _ in 0..2 {
                let pair = space.alloc_cluster();
                pair.into_iter().for_each(|item| owners.take(&window, item, "server"));
                let small = space.alloc();
                small.into_iter().for_each(|item| owners.take(&window, item, "server"));
                let back: Vec<Item> = pair.into_iter().chain(small).collect();
                back.iter().for_each(|&item| owners.give(&window, item, "server"));
                space.free_batch(&back);
                space.drain_deferred(&mut deferred, 4).unwrap();
            }
        });
        let (driver, defer, mine) = &mut *driver.borrow_mut();
        driver.try_free(mine, &mut NoLedger, |item| defer.append(item).unwrap()).unwrap();
        deferred_ever.set(deferred_ever.get().max(driver.stats().deferred));
        space.drain_deferred(&mut deferred, 4).unwrap();
        assert_eq!(space.misbehaviour(), None);
        window.assert_all_free();
    });
    let take_at_most = TAKE_AT_MOST + POOL_IN_VAIN_AT_MOST * (pools - 1);
    assert!(most_taking.get() <= take_at_most, "{} accesses to take", most_taking.get());
    assert!(most_freeing.get() <= FREE_AT_MOST, "{} accesses to free", most_freeing.get());
    assert!(deferred_ever.get() >= 1, "no interrupt met the lock");
    assert!(runs > 10_000);
}

#[test]
fn one_pool_is_shared() {
    both_take_and_give(1);
}

#[test]
fn two_pools_are_shared() {
    both_take_and_give(2);
}

/// All buffers are with the driver; each interrupt gives one back, to its pool or to the deferred-free queue, and tests
/// `m_want`. A server that would sleep with nothing pending, though a buffer is there, has lost a wake-up.
fn want(always_defer: bool) {
    let slept = Cell::new(0);
    explore(3, |run| {
        let window = Window::new(1, 2, 2);
        let queue = DualQueue::new();
        let driver = RefCell::new((
            InterruptSpace::new(window.view()),
            InProducer::new(&queue, window.view()),
            Vec::new(),
        ));
        {
            let (space, _, mine) = &mut *driver.borrow_mut();
            assert_eq!(space.try_alloc_cluster_batch(2, &mut NoLedger, |item, _| mine.push(item)), Ok(2));
        }
        let (pending, given) = (Cell::new(0u32), Cell::new(0));
        let interrupt = |_: &Run| {
            let (space, defer, mine) = &mut *driver.borrow_mut();
            if let Some(item) = mine.pop() {
                given.set(given.get() + 1);
                if always_defer {
                    defer.append(item).unwrap();
                } else {
                    space.try_free(&[item], &mut NoLedger, |item| defer.append(item).unwrap()).unwrap();
                }
            }
            pending.set(pending.get() + u32::from(space.wanted()));
        };
        let mut space = ProtocolSpace::new(window.view());
        let mut deferred = InConsumer::new(&queue, window.view());
        let mut mine = Vec::new();
        run.go(&interrupt, || {
            for _ in 0..2 {
                match space.alloc_cluster_or_want(&mut deferred).unwrap() {
                    Some(item) => mine.push(item),
                    None => {
                        if pending.get() == 0 {
                            assert_eq!(given.get(), mine.len(), "it sleeps, though a buffer is there");
                            slept.set(slept.get() + 1);
                        }
                        pending.set(0);
                        space.unwant();
                    }
                }
            }
        });
        assert_eq!(space.waiters(), 0);
        assert!(!driver.borrow().0.wanted(), "m_want is left set");
        mine.append(&mut driver.borrow_mut().2);
        space.free_batch(&mine);
        space.drain_deferred(&mut deferred, 4).unwrap();
        assert_eq!(space.misbehaviour(), None);
        window.assert_all_free();
    });
    assert!(slept.get() > 0);
}

#[test]
fn want_is_answered_by_a_free() {
    want(false);
}

#[test]
fn want_is_answered_by_a_deferred_free() {
    want(true);
}
