//! What is run, and in which order.
//!
//! The machine drifts by more than the paths differ, so the repetitions are interleaved: each boots every system in turn, and each
//! begins with another one. Times and instructions come from different boots, because the counting plugin slows the translated
//! code down; only `--quick` takes both from one.

use crate::cells::Cell;
use crate::cli::{Path, Queue};
use crate::linux::Offload;
use crate::machine::{Nic, name_of};
use crate::network::Net;

/// What is compared: one bar of each group in the charts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum System {
    /// Oriel, on a path and with a kind of queue, which only the window has.
    Oriel(Path, Queue),
    /// A stock Linux.
    Linux(Offload),
}

impl System {
    /// The `path` of its rows.
    pub fn name(self) -> String {
        match self {
            Self::Oriel(path, _) => name_of(&path),
            Self::Linux(Offload::Off) => "linux".into(),
            Self::Linux(Offload::On) => "linux+offload".into(),
        }
    }

    /// Oriel's path and queue; for a Linux guest those of the machine that its own is made from.
    pub fn path_and_queue(self) -> (Path, Queue) {
        match self {
            Self::Oriel(path, queue) => (path, queue),
            Self::Linux(_) => (Path::Window, Queue::Dual),
        }
    }

    /// What tells it from all others in the table.
    pub fn label(self) -> String {
        match self {
            Self::Oriel(_, Queue::Ring) => format!("{} (ring)", self.name()),
            _ => self.name(),
        }
    }

    /// Whether the cell says something about it. Segmentation by the device changes TCP's streams and nothing else.
    pub fn runs(self, cell: Cell) -> bool {
        self != Self::Linux(Offload::On) || cell.is_tcp_stream()
    }
}

/// What a boot is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Rates.
    Timed,
    /// Instructions.
    Counted,
    /// Both, where time is short.
    Both,
}

/// One machine that is started, runs its cells and is switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Boot {
    /// The repetition, from 0.
    pub rep: u32,
    /// The network device.
    pub nic: Nic,
    /// What boots.
    pub system: System,
    /// What for.
    pub purpose: Purpose,
}

/// Everything that a bench does.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The network devices.
    pub nics: Vec<Nic>,
    /// What is compared.
    pub systems: Vec<System>,
    /// The cells of each.
    pub cells: Vec<Cell>,
    /// How often.
    pub reps: u32,
    /// For how long each.
    pub seconds: u64,
    /// One boot for times and instructions.
    pub quick: bool,
    /// Whether the executor counts instructions.
    pub counts: bool,
}

impl Plan {
    /// Without the cells that the link does not carry; says which those are.
    pub fn fit(&mut self, net: Net) -> Vec<Cell> {
        let (fit, rest) = self.cells.iter().partition(|cell| cell.runs_on(net));
        self.cells = fit;
        rest
    }

    /// The boots, in order.
    pub fn schedule(&self) -> Vec<Boot> {
        let purposes: &[Purpose] = match (self.counts, self.quick) {
            (false, _) => &[Purpose::Timed],
            (true, false) => &[Purpose::Timed, Purpose::Counted],
            (true, true) => &[Purpose::Both],
        };
        let mut boots = Vec::new();
        for rep in 0..self.reps {
            for &nic in &self.nics {
                for &purpose in purposes {
                    let mut systems = self.systems.clone();
                    systems.rotate_left(rep as usize % self.systems.len().max(1));
                    let boot = |system| Boot { rep, nic, system, purpose };
                    boots.extend(
                        systems.into_iter().map(boot).filter(|boot| self.cells_of(boot).next().is_some()),
                    );
                }
            }
        }
        boots
    }

    /// The cells of a boot.
    pub fn cells_of(&self, boot: &Boot) -> impl Iterator<Item = Cell> {
        let system = boot.system;
        self.cells.iter().copied().filter(move |cell| system.runs(*cell))
    }

    /// For how long the cells of a boot run. Instructions per unit hardly depend on it.
    pub fn seconds_of(&self, boot: &Boot) -> u64 {
        if boot.purpose == Purpose::Counted { self.seconds.div_ceil(2) } else { self.seconds }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        let systems =
            [Path::Monolithic, Path::Ipc, Path::Window].map(|path| System::Oriel(path, Queue::Dual));
        Plan {
            nics: vec![Nic::E1000, Nic::Virtio],
            systems: [&systems[..], &[System::Linux(Offload::On)]].concat(),
            cells: vec![Cell::Tx(10), Cell::Rr1, Cell::PingIn],
            reps: 3,
            seconds: 3,
            quick: false,
            counts: true,
        }
    }

    #[test]
    fn repetitions_are_interleaved() {
        let boots = plan().schedule();
        assert_eq!(boots.len(), 3 * 2 * 2 * 4);
        let names = |rep, nic, purpose| -> Vec<String> {
            let those = boots.iter().filter(|b| (b.rep, b.nic, b.purpose) == (rep, nic, purpose));
            those.map(|boot| boot.system.name()).collect()
        };
        assert_eq!(names(0, Nic::E1000, Purpose::Timed), ["monolithic", "ipc", "window", "linux+offload"]);
        assert_eq!(names(1, Nic::Virtio, Purpose::Counted), ["ipc", "window", "linux+offload", "monolithic"]);
        let first: Vec<u32> = boots.iter().map(|boot| boot.rep).collect();
        assert!(first.is_sorted(), "a repetition ends before the next begins");
    }

    #[test]
    fn quick_boots_once_for_both_and_kvm_counts_nothing() {
        let quick = Plan { quick: true, reps: 1, ..plan() };
        assert!(quick.schedule().iter().all(|boot| boot.purpose == Purpose::Both));
        assert_eq!(quick.schedule().len(), 8);
        let kvm = Plan { counts: false, ..plan() };
        assert!(kvm.schedule().iter().all(|boot| boot.purpose == Purpose::Timed));
    }

    #[test]
    fn cells_where_they_mean_something() {
        let mut plan = plan();
        let boots = plan.schedule();
        assert_eq!(plan.cells_of(&boots[0]).count(), 3);
        assert_eq!(plan.cells_of(&boots[3]).collect::<Vec<_>>(), [Cell::Tx(10)], "offload is about streams");
        let idle = Plan { cells: vec![Cell::Rr1], reps: 1, ..plan.clone() };
        assert_eq!(idle.schedule().len(), 2 * 2 * 3, "nothing boots for nothing");
        assert_eq!(plan.fit(Net::User), [Cell::PingIn]);
        assert_eq!(plan.cells.len(), 2);
        assert_eq!((plan.seconds_of(&boots[0]), plan.seconds_of(&boots[4])), (3, 2));
    }
}
