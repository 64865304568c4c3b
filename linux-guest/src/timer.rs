//! The timed region of a program that measures: the clock and the counters around it, the marks inside.

use std::time::Instant;

use crate::counters::Snapshot;
use crate::mark;

/// A region that has begun.
#[derive(Debug)]
pub struct Timer {
    before: Snapshot,
    start: Instant,
}

/// What a region took.
#[derive(Debug)]
pub struct Took {
    /// Nanoseconds.
    pub ns: u128,
    before: Snapshot,
    after: Snapshot,
}

impl Timer {
    /// Begins.
    #[must_use]
    pub fn start() -> Self {
        let before = Snapshot::take();
        mark::start();
        Self { before, start: Instant::now() }
    }

    /// Ends.
    #[must_use]
    pub fn stop(self) -> Took {
        let ns = self.start.elapsed().as_nanos();
        mark::stop();
        Took { ns, before: self.before, after: Snapshot::take() }
    }
}

impl Took {
    /// Prints what the counters gained, as the end of a line for machines.
    pub fn print_gain(&self) {
        self.before.print_gain(&self.after);
    }
}
