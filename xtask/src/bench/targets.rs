//! What the comparison is to show, and whether it does: printed below the table, never a failure.
//!
//! In instructions per unit, for each network device. The first three are Reynolds and Heller's results in our terms: the window wins
//! back what the messages cost, and is ahead of the integrated kernel where receives are small.

use std::fmt;

use crate::cells::Cell;
use crate::machine::{Nic, name_of};
use crate::report::significant;

/// One median.
#[derive(Debug, Clone)]
pub struct Figure {
    /// The network device.
    pub nic: Nic,
    /// The path, or `linux`.
    pub path: String,
    /// The cell.
    pub cell: Cell,
    /// Instructions per KiB or transaction.
    pub cost: f64,
}

/// One target with one network device.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// What is asked for.
    pub target: String,
    /// Each cell with its figures; those that miss the target are marked.
    pub cells: Vec<(String, bool)>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let met = self.cells.iter().all(|(_, met)| *met);
        let cells: Vec<String> = self
            .cells
            .iter()
            .map(|(text, met)| if *met { text.clone() } else { format!("{text} (missed)") })
            .collect();
        write!(f, "{} {}: {}", if met { "met    " } else { "NOT MET" }, self.target, cells.join(", "))
    }
}

/// The cells of a target, and by which factor at most the window's cost may be another path's there.
struct Target {
    text: &'static str,
    against: &'static str,
    applies: fn(Cell) -> bool,
    at_most: f64,
}

const TARGETS: &[Target] = &[
    Target {
        text: "window within 5 % of monolithic in TCP",
        against: "monolithic",
        applies: Cell::is_tcp_stream,
        at_most: 1.05,
    },
    Target {
        text: "window ahead of monolithic at 10-byte receive",
        against: "monolithic",
        applies: |cell| cell == Cell::Rx(10),
        at_most: 1.0,
    },
    Target {
        text: "window 3 times better than ipc at 10 bytes",
        against: "ipc",
        applies: |cell| matches!(cell, Cell::Tx(10) | Cell::Rx(10)),
        at_most: 1.0 / 3.0,
    },
    Target {
        text: "window 1.5 times better than ipc at 8 KiB",
        against: "ipc",
        applies: |cell| matches!(cell, Cell::Tx(8192) | Cell::Rx(8192)),
        at_most: 1.0 / 1.5,
    },
    Target {
        text: "window below linux without segmentation offload",
        against: "linux",
        applies: |_| true,
        at_most: 1.0,
    },
];

/// The verdicts on all targets for which there are figures of both sides.
pub fn check(figures: &[Figure]) -> Vec<Verdict> {
    let mut nics: Vec<Nic> = Vec::new();
    for figure in figures {
        if !nics.contains(&figure.nic) {
            nics.push(figure.nic);
        }
    }
    nics.iter().flat_map(|nic| TARGETS.iter().filter_map(|target| target.verdict(*nic, figures))).collect()
}

impl Target {
    fn verdict(&self, nic: Nic, figures: &[Figure]) -> Option<Verdict> {
        let of = |path: &'static str| figures.iter().filter(move |f| f.nic == nic && f.path == path);
        let cells: Vec<(String, bool)> = of("window")
            .filter(|ours| (self.applies)(ours.cell))
            .filter_map(|ours| {
                let theirs = of(self.against).find(|theirs| theirs.cell == ours.cell)?;
                // "Ahead of" is less than; with a factor that is not 1 equality will do.
                let met = if self.at_most == 1.0 {
                    ours.cost < theirs.cost
                } else {
                    ours.cost <= theirs.cost * self.at_most
                };
                let (a, b) = (significant(ours.cost), significant(theirs.cost));
                Some((format!("{} {a} to {b} = {:.2}", ours.cell, ours.cost / theirs.cost), met))
            })
            .collect();
        (!cells.is_empty()).then(|| Verdict { target: format!("{}, {}", name_of(&nic), self.text), cells })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(of: &[(&str, Cell, f64)]) -> Vec<Figure> {
        let figure = |(path, cell, cost): &(&str, Cell, f64)| Figure {
            nic: Nic::E1000,
            path: (*path).into(),
            cell: *cell,
            cost: *cost,
        };
        of.iter().map(figure).collect()
    }

    fn met(of: &[(&str, Cell, f64)]) -> Vec<bool> {
        check(&figures(of)).iter().map(|verdict| verdict.cells.iter().all(|(_, met)| *met)).collect()
    }

    #[test]
    fn within_five_per_cent_and_ahead() {
        let rx10 = |cost| [("window", Cell::Rx(10), cost), ("monolithic", Cell::Rx(10), 100.0)];
        assert_eq!(met(&rx10(104.0)), [true, false]);
        assert_eq!(met(&rx10(99.0)), [true, true]);
        assert_eq!(met(&rx10(106.0)), [false, false]);
    }

    #[test]
    fn factors_against_messages() {
        let both = |ten, large| {
            [
                ("window", Cell::Tx(10), 100.0),
                ("ipc", Cell::Tx(10), ten),
                ("window", Cell::Rx(8192), 100.0),
                ("ipc", Cell::Rx(8192), large),
            ]
        };
        assert_eq!(met(&both(300.0, 150.0)), [true, true]);
        assert_eq!(met(&both(299.0, 149.0)), [false, false]);
    }

    #[test]
    fn one_cell_above_linux_is_said() {
        let verdicts = check(&figures(&[
            ("window", Cell::Rr1, 9000.0),
            ("window", Cell::PingIn, 9000.0),
            ("linux", Cell::Rr1, 20000.0),
            ("linux", Cell::PingIn, 8000.0),
            ("linux+offload", Cell::Rr1, 1.0),
        ]));
        assert_eq!(verdicts.len(), 1);
        let text = verdicts[0].to_string();
        assert!(text.starts_with("NOT MET e1000, window below linux"), "{text}");
        assert!(text.contains("rr1 9000 to 20000 = 0.45, ping-in 9000 to 8000 = 1.12 (missed)"), "{text}");
        assert!(check(&figures(&[("window", Cell::Rr1, 1.0)])).is_empty(), "nothing to compare with");
    }
}
