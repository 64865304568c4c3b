//! What the tests by `shmqueue`'s hook share: interrupts at every access of the task, and lies for every load.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::cell::{Cell, RefCell};

use shmqueue::{
    Item, Links,
    sync::{
        AtomicU32,
        injected::{Access, Action, with_hook},
    },
};

/// One run of a scenario on one processor: the interrupt handler runs before the accesses of the task that the
/// explorer has chosen.
pub struct Run {
    /// Before which accesses of the task; ascending, and as often as it is there.
    fire_at: Vec<usize>,
    /// Accesses of the task so far.
    accesses: Cell<usize>,
    fired: Cell<usize>,
    in_interrupt: Cell<bool>,
    /// Accesses in the interrupt handler since the last [`Run::count`] began.
    interrupt_accesses: Cell<u32>,
}

impl Run {
    /// Runs `task`, and `interrupt` within it at the chosen places, and then as often as is still due.
    pub fn go(&self, interrupt: &dyn Fn(&Self), task: impl FnOnce()) {
        let handle = || {
            self.in_interrupt.set(true);
            interrupt(self);
            self.in_interrupt.set(false);
            self.fired.set(self.fired.get() + 1);
        };
        let hook = |_: Access| {
            if self.in_interrupt.get() {
                self.interrupt_accesses.set(self.interrupt_accesses.get() + 1);
            } else {
                while self.fire_at.get(self.fired.get()) == Some(&self.accesses.get()) {
                    handle();
                }
                self.accesses.set(self.accesses.get() + 1);
            }
            Action::Proceed
        };
        with_hook(&hook, || {
            task();
            // Those behind the last access.
            while self.fired.get() < self.fire_at.len() {
                handle();
            }
        });
    }

    /// An entry into the kernel by the task itself, which no interrupt interrupts.
    pub fn trap(&self, handler: impl FnOnce()) {
        let outer = self.in_interrupt.replace(true);
        handler();
        self.in_interrupt.set(outer);
    }

    /// How many shared words `operation` of the interrupt side accesses.
    pub fn count<R>(&self, operation: impl FnOnce() -> R) -> (R, u32) {
        self.interrupt_accesses.set(0);
        let result = operation();
        (result, self.interrupt_accesses.get())
    }
}

/// Runs `scenario` with no interrupt, and with each choice of 1 to `most` interrupts among the accesses of the
/// task, several at one place included. Returns the number of runs.
pub fn explore(most: usize, scenario: impl Fn(&Run)) -> u64 {
    fn run_and_extend(most: usize, fire_at: Vec<usize>, scenario: &dyn Fn(&Run), runs: &mut u64) {
        let run = Run {
            fire_at,
            accesses: Cell::new(0),
            fired: Cell::new(0),
            in_interrupt: Cell::new(false),
            interrupt_accesses: Cell::new(0),
        };
        scenario(&run);
        *runs += 1;
        if run.fire_at.len() < most {
            // All that comes before the last interrupt stays as it was, so only later places are new.
            let first = run.fire_at.last().copied().unwrap_or(0);
            for place in first..=run.accesses.get() {
                let mut longer = run.fire_at.clone();
                longer.push(place);
                run_and_extend(most, longer, scenario, runs);
            }
        }
    }
    let mut runs = 0;
    run_and_extend(most, Vec::new(), &scenario, &mut runs);
    runs
}

/// Runs `scenario` for a peer that tells the truth, and for each way to lie up to `most` times: at each load, with each
/// of `lies`. A run of more than `bound` accesses is a failure, as is a store outside of `may_store`. Returns the number of runs.
pub fn deceive(
    most: usize,
    lies: &[u32],
    bound: usize,
    may_store: &dyn Fn(usize) -> bool,
    scenario: impl Fn(&Armed<'_>),
) -> u64 {
    let mut runs = 0;
    // A lie: at which load, which value.
    let mut todo: Vec<Vec<(usize, u32)>> = vec![Vec::new()];
    while let Some(chosen) = todo.pop() {
        let (loads, accesses) = (Cell::new(0), Cell::new(0));
        let hook = |access: Access| {
            accesses.set(accesses.get() + 1);
            assert!(accesses.get() <= bound, "more than {bound} accesses: lies {chosen:?}");
            if access.store.is_some() {
                assert!(may_store(access.address), "a store to {:#x}: lies {chosen:?}", access.address);
                return Action::Proceed;
            }
            let load = loads.replace(loads.get() + 1);
            match chosen.iter().find(|(at, _)| *at == load) {
                Some((_, lie)) => Action::Answer(*lie),
                None => Action::Proceed,
            }
        };
        scenario(&Armed { hook: &hook, lies: chosen.len() });
        runs += 1;
        if chosen.len() < most {
            let first = chosen.last().map_or(0, |(at, _)| at + 1);
            for at in first..loads.get() {
                for &lie in lies {
                    let mut longer = chosen.clone();
                    longer.push((at, lie));
                    todo.push(longer);
                }
            }
        }
    }
    runs
}

/// The peer lies only while the side under test runs.
pub struct Armed<'h> {
    hook: &'h dyn Fn(Access) -> Action,
    /// How many lies this run tells, if it gets so far.
    pub lies: usize,
}

impl Armed<'_> {
    /// The side under test.
    pub fn run<R>(&self, side: impl FnOnce() -> R) -> R {
        with_hook(self.hook, side)
    }
}

/// Items 1 ..= n, each with a link word and a payload, which only the item's owner touches.
pub struct Words {
    links: Vec<AtomicU32>,
    payloads: RefCell<Vec<u32>>,
}

impl Words {
    /// All zero.
    pub fn new(n: u32) -> Self {
        Self {
            links: (0..=n).map(|_| AtomicU32::new(0)).collect(),
            payloads: RefCell::new(vec![0; n as usize + 1]),
        }
    }

    /// The producer fills item `n`.
    pub fn fill(&self, n: u32) -> Item {
        let before = std::mem::replace(&mut self.payloads.borrow_mut()[n as usize], n * 7);
        assert_eq!(before, 0, "item {n} is on the queue already");
        Item::new(n).expect("items start at 1")
    }

    /// The consumer empties `item`.
    pub fn empty(&self, item: Item) -> u32 {
        let value = std::mem::take(&mut self.payloads.borrow_mut()[item.get() as usize]);
        assert_eq!(value, item.get() * 7, "item {} was not on the queue", item.get());
        item.get()
    }

    /// Whether `address` is one of the link words.
    pub fn has(&self, address: usize) -> bool {
        self.links.iter().any(|link| std::ptr::from_ref(link).addr() == address)
    }
}

impl Links for Words {
    fn next(&self, item: Item) -> Option<&AtomicU32> {
        if item.get() == 0 { None } else { self.links.get(item.get() as usize) }
    }
}

/// Whether `address` lies in `object`.
pub fn within<T>(object: &T, address: usize) -> bool {
    let start = std::ptr::from_ref(object).addr();
    (start..start + size_of::<T>()).contains(&address)
}
