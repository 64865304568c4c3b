//! The timed region of a program that measures: the clock and the counters around it, the marks of the instruction count inside.

use userlib::{counters::Snapshot, mark, time::Instant};

use crate::Failed;

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
    pub ns: u64,
    before: Snapshot,
    after: Snapshot,
}

impl Timer {
    /// Begins.
    ///
    /// # Errors
    /// No network service.
    pub fn start() -> Result<Self, Failed> {
        let before = crate::counters()?;
        mark::start();
        Ok(Self { before, start: Instant::now() })
    }

    /// When it began.
    #[must_use]
    pub const fn started(&self) -> Instant {
        self.start
    }

    /// Ends.
    ///
    /// # Errors
    /// No network service.
    pub fn stop(self) -> Result<Took, Failed> {
        let end = Instant::now();
        mark::stop();
        let after = crate::counters()?;
        Ok(Took { ns: end.as_nanos() - self.start.as_nanos(), before: self.before, after })
    }
}

impl Took {
    /// Prints what the counters gained, as the end of a line for machines.
    pub fn print_gain(&self) {
        crate::print_gain(&self.before, &self.after);
    }
}
