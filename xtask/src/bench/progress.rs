//! Says what is running and how much is left, on the error output, so that a table on the standard output stays one.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use crate::bench::plan::{Boot, Plan, Purpose};
use crate::cells::{Cell, Measurement};
use crate::machine::name_of;
use crate::report::significant;

/// What a boot and a cell take beside the cell's own seconds; what they really took corrects it as it goes.
const BOOT: Duration = Duration::from_secs(4);
const CELL: Duration = Duration::from_millis(700);

/// Where a bench is.
pub struct Progress {
    start: Instant,
    /// What each boot was thought to take.
    estimates: Vec<Duration>,
    at: usize,
}

impl Progress {
    /// Before the first boot.
    pub fn new(plan: &Plan, boots: &[Boot]) -> Self {
        let estimates = boots.iter().map(|boot| estimate(plan, boot)).collect();
        Self { start: Instant::now(), estimates, at: 0 }
    }

    /// A boot begins.
    pub fn boot(&mut self, boot: &Boot) {
        let purpose = match boot.purpose {
            Purpose::Timed => "timed",
            Purpose::Counted => "instructions counted",
            Purpose::Both => "timed and counted",
        };
        self.at += 1;
        let of = self.estimates.len();
        let left = left(&self.estimates, self.at - 1, self.start.elapsed());
        eprint!(
            "[{:>width$}/{of}] {} to go; repetition {}: {} on {}, {purpose}:",
            self.at,
            words(left),
            boot.rep + 1,
            boot.system.label(),
            name_of(&boot.nic),
            width = of.to_string().len()
        );
        self.flush();
    }

    /// A cell begins.
    pub fn cell(&self, cell: Cell) {
        eprint!(" {cell}");
        self.flush();
    }

    /// A cell ended.
    pub fn measured(&self, measurement: &Measurement) {
        eprint!(" {}", significant(measurement.rate()));
        if measurement.problem.is_some() {
            eprint!(" WRONG");
        }
        self.flush();
    }

    /// A cell came to no result.
    pub fn failed(&self, why: &str) {
        eprint!(" FAILED ({})", why.lines().next().unwrap_or_default());
    }

    /// A boot ended.
    pub fn end(&self) {
        eprintln!();
    }

    /// How long it has taken.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    fn flush(&self) {
        let mut out = std::io::stderr();
        if out.is_terminal() {
            out.flush().ok();
        }
    }
}

fn estimate(plan: &Plan, boot: &Boot) -> Duration {
    let cells = plan.cells_of(boot).count() as u32;
    BOOT + (Duration::from_secs(plan.seconds_of(boot)) + CELL) * cells
}

/// What is left after the first `done` boots took so long.
fn left(estimates: &[Duration], done: usize, elapsed: Duration) -> Duration {
    let (before, after) = estimates.split_at(done.min(estimates.len()));
    let sum = |all: &[Duration]| all.iter().sum::<Duration>();
    if before.is_empty() { sum(after) } else { sum(after).mul_f64(elapsed.div_duration_f64(sum(before))) }
}

/// A duration for people.
pub fn words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 90 { format!("{seconds} s") } else { format!("{} min", (seconds + 30) / 60) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_follows_what_it_took() {
        let estimates = [Duration::from_secs(10), Duration::from_secs(10), Duration::from_secs(20)];
        assert_eq!(left(&estimates, 0, Duration::ZERO), Duration::from_secs(40));
        assert_eq!(left(&estimates, 1, Duration::from_secs(30)), Duration::from_secs(90));
        assert_eq!(left(&estimates, 3, Duration::from_secs(30)), Duration::ZERO);
    }

    #[test]
    fn durations_in_words() {
        assert_eq!(words(Duration::from_secs(89)), "89 s");
        assert_eq!(words(Duration::from_secs(100)), "2 min");
    }
}
