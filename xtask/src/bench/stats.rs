//! From repetitions to figures: which is in the middle, what it cost, ratios.

use serde_json::Value;

use crate::bench::plan::System;
use crate::cells::{Cell, Measurement};
use crate::machine::Nic;
use crate::report;
use crate::spread::Spread;
use crate::vm::Instructions;

/// All that was measured of one cell on one system with one network device. Each with its repetition.
#[derive(Debug, Clone)]
pub struct Samples {
    /// The network device.
    pub nic: Nic,
    /// What booted.
    pub system: System,
    /// The cell.
    pub cell: Cell,
    /// Without the plugin.
    pub timed: Vec<(u32, Measurement)>,
    /// With it.
    pub counted: Vec<(u32, Measurement)>,
    /// Where the instructions of the counted ones went, per unit, as the JSON has it.
    pub splits: Vec<(u32, Value)>,
    /// Repetitions that came to no result, and why.
    pub failures: Vec<String>,
}

impl Samples {
    /// Nothing yet.
    pub fn new(nic: Nic, system: System, cell: Cell) -> Self {
        Self {
            nic,
            system,
            cell,
            timed: Vec::new(),
            counted: Vec::new(),
            splits: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// Rates by repetition.
    pub fn rates(&self) -> Vec<(u32, f64)> {
        self.timed.iter().map(|(rep, m)| (*rep, m.rate())).collect()
    }

    /// Instructions per unit by repetition, kernel and tasks together.
    pub fn costs(&self) -> Vec<(u32, f64)> {
        let cost = |m: &Measurement| m.instructions_per_unit().map(|[kernel, user]| kernel + user);
        self.counted.iter().filter_map(|(rep, m)| Some((*rep, cost(m)?))).collect()
    }

    /// What is wrong, if anything.
    pub fn problem(&self) -> Option<String> {
        let wrong = self.timed.iter().chain(&self.counted).find_map(|(_, m)| m.problem.clone());
        wrong.or_else(|| self.failures.first().cloned())
    }

    /// The repetition with the median rate, with the instructions of the counted one with the median of those.
    pub fn middle(&self) -> Option<Measurement> {
        let mut result = median(&self.timed, Measurement::rate)?.1.clone();
        if let Some((_, counted)) = self.middle_counted() {
            // Scaled to the timed one's units, since these are what the report divides by.
            let scale = result.units() / counted.units();
            result.instructions = counted.instructions.map(|i| Instructions {
                kernel: (i.kernel as f64 * scale) as u64,
                user: (i.user as f64 * scale) as u64,
            });
        }
        result.problem = self.problem();
        Some(result)
    }

    /// Instructions per packet of the counted repetition in the middle: the kernel's, the tasks'.
    pub fn cost_per_packet(&self) -> Option<[f64; 2]> {
        let (_, counted) = self.middle_counted()?;
        let frames = Some(report::frames(counted)).filter(|frames| *frames != 0)? as f64;
        counted.instructions.map(|i| [i.kernel as f64 / frames, i.user as f64 / frames])
    }

    /// Where the instructions of that repetition went.
    pub fn split(&self) -> Option<&Value> {
        let (rep, _) = self.middle_counted()?;
        self.splits.iter().find(|(of, _)| *of == rep).map(|(_, split)| split)
    }

    fn middle_counted(&self) -> Option<(u32, &Measurement)> {
        median(&self.counted, |m| m.instructions_per_unit().map_or(0.0, |[kernel, user]| kernel + user))
    }
}

fn median(all: &[(u32, Measurement)], key: impl Fn(&Measurement) -> f64) -> Option<(u32, &Measurement)> {
    let mut sorted: Vec<_> = all.iter().map(|(rep, measurement)| (*rep, measurement)).collect();
    sorted.sort_by(|(_, a), (_, b)| key(a).total_cmp(&key(b)));
    sorted.get(sorted.len().checked_sub(1)? / 2).copied()
}

/// The values alone.
pub fn values(by_rep: &[(u32, f64)]) -> Vec<f64> {
    by_rep.iter().map(|(_, value)| *value).collect()
}

/// By how much `these` are more than `those`: the median of the ratios within each repetition, which drift disturbs least.
pub fn ratio(these: &[(u32, f64)], those: &[(u32, f64)]) -> Option<f64> {
    let ratios: Vec<f64> = these
        .iter()
        .filter_map(|(rep, value)| {
            let other = those.iter().find(|(other, _)| other == rep)?.1;
            (other > 0.0).then(|| value / other)
        })
        .collect();
    Spread::of(&ratios).map(|spread| spread.median)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Path, Queue};

    fn measurement(count: u64, instructions: Option<u64>) -> Measurement {
        Measurement {
            cell: Cell::Tx(10),
            count,
            seconds: 1.0,
            host_rate: None,
            instructions: instructions.map(|user| Instructions { kernel: user, user }),
            executed: Vec::new(),
            lost: None,
            calls: None,
            counters: [("frames_in".to_owned(), 10), ("frames_out".to_owned(), 40)].into(),
            problem: None,
        }
    }

    fn samples(timed: &[u64], counted: &[u64]) -> Samples {
        let numbered = |all: Vec<Measurement>| (0..).zip(all).collect();
        Samples {
            timed: numbered(timed.iter().map(|count| measurement(*count, None)).collect()),
            counted: numbered(counted.iter().map(|i| measurement(50, Some(*i))).collect()),
            ..Samples::new(Nic::E1000, System::Oriel(Path::Window, Queue::Dual), Cell::Tx(10))
        }
    }

    #[test]
    fn medians_of_rate_and_of_instructions_apart() {
        let samples = samples(&[300, 100, 200], &[500, 100, 200]);
        let middle = samples.middle().unwrap();
        assert_eq!(middle.count, 200);
        assert_eq!(middle.instructions, Some(Instructions { kernel: 800, user: 800 }));
        assert_eq!(samples.cost_per_packet(), Some([4.0, 4.0]));
        assert_eq!(Samples { timed: vec![], ..samples }.middle().map(|m| m.count), None);
    }

    #[test]
    fn what_the_host_loses_costs_the_guest_nothing() {
        let mut samples = samples(&[100], &[100]);
        for (_, m) in samples.timed.iter_mut().chain(&mut samples.counted) {
            (m.cell, m.count, m.lost) = (Cell::UdpTx(1024), 10 * 1024, Some(0.5));
        }
        assert_eq!(samples.costs(), [(0, 10.0)], "200 instructions for the 20 KiB that were sent");
        samples.timed[0].1.lost = Some(0.0);
        assert_eq!(samples.middle().unwrap().instructions_per_unit(), Some([5.0, 5.0]));
    }

    #[test]
    fn one_wrong_repetition_spoils_the_cell() {
        let mut samples = samples(&[5, 1], &[1]);
        assert_eq!(samples.problem(), None);
        samples.failures.push("stopped".into());
        assert_eq!(samples.middle().unwrap().problem.as_deref(), Some("stopped"));
        samples.counted[0].1.problem = Some("wrong".into());
        assert_eq!(samples.problem().as_deref(), Some("wrong"));
    }

    #[test]
    fn ratios_pair_the_repetitions() {
        let these = [(0, 2.0), (1, 40.0), (2, 9.0)];
        let those = [(0, 1.0), (1, 20.0), (3, 1.0)];
        assert_eq!(ratio(&these, &those), Some(2.0));
        assert_eq!(ratio(&these, &[]), None);
        assert_eq!(ratio(&these, &[(0, 0.0)]), None);
    }
}
