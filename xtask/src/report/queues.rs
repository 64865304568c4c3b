//! The kinds of queue side by side: what a frame costs with each, and what the locks and the idle protocol had to do for it.

use super::{counter, frames};
use crate::cells::Measurement;

/// What is shown of a cell with one kind of queue.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Figures {
    /// Kernel and user, per KiB or per transaction.
    instructions: Option<f64>,
    /// The rest: per thousand frames. Attempts to lock by the interrupt side that failed.
    lock_failures: f64,
    /// Changes of the sub-queue by the interrupt side.
    switches: f64,
    /// Wake-ups of the server by the device.
    sent: f64,
    /// Those that it could spare, since the server was awake.
    spared: f64,
}

fn figures(measurement: &Measurement) -> Figures {
    let thousands = frames(measurement).max(1) as f64 / 1000.0;
    let of = |name| counter(measurement, name) as f64 / thousands;
    Figures {
        instructions: measurement.instructions_per_unit().map(|[kernel, user]| kernel + user),
        lock_failures: of("lock_failures"),
        switches: of("subqueue_switches"),
        sent: of("resumes_sent"),
        spared: of("resumes_spared"),
    }
}

/// Prints each cell with each kind, and the instructions as a part of the first kind's.
pub fn print(kinds: &[(&str, Vec<Measurement>)]) {
    println!(
        "\nThe queues side by side (all but the instructions: of the driver's side, per thousand frames):"
    );
    println!(
        "{:<7} {:<5} {:>10} {:>7} {:>13} {:>10} {:>9} {:>9}",
        "cell", "queue", "insns/KiB", "ratio", "try-lock", "sub-queue", "wake-ups", "wake-ups"
    );
    println!(
        "{:<7} {:<5} {:>10} {:>7} {:>13} {:>10} {:>9} {:>9}",
        "", "", "", "", "failures", "switches", "sent", "spared"
    );
    let Some(((_, first), _)) = kinds.split_first() else { return };
    for (cell, base) in first.iter().map(figures).enumerate() {
        for (name, measurements) in kinds {
            let Some(measurement) = measurements.get(cell) else { continue };
            let shown = figures(measurement);
            let count = shown.instructions.map_or("-".into(), |n| format!("{n:.0}"));
            let ratio = match (shown.instructions, base.instructions) {
                (Some(n), Some(base)) if base > 0.0 => format!("{:.3}", n / base),
                _ => "-".into(),
            };
            println!(
                "{:<7} {name:<5} {count:>10} {ratio:>7} {:>13.2} {:>10.2} {:>9.1} {:>9.1}",
                measurement.cell.to_string(),
                shown.lock_failures,
                shown.switches,
                shown.sent,
                shown.spared
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cells::Cell, vm::Instructions};

    #[test]
    fn counters_are_by_the_thousand_frames() {
        let counters = [("frames_in", 1500), ("frames_out", 500), ("lock_failures", 3), ("resumes_sent", 40)];
        let measurement = Measurement {
            cell: Cell::Rx(1024),
            count: 2048,
            seconds: 1.0,
            host_rate: None,
            lost: None,
            instructions: Some(Instructions { kernel: 300, user: 500 }),
            executed: Vec::new(),
            calls: None,
            counters: counters.map(|(name, n)| (name.to_owned(), n)).into(),
            problem: None,
        };
        let expected =
            Figures { instructions: Some(400.0), lock_failures: 1.5, switches: 0.0, sent: 20.0, spared: 0.0 };
        assert_eq!(figures(&measurement), expected);
    }
}
