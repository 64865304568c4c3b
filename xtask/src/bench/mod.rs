//! `cargo xtask bench`: the evaluation of Reynolds and Heller's paper. Every path, and a Linux guest beside them, with every network
//! device; interleaved repetitions; medians, spreads, ratios.
//!
//! [`plan`] says what is run and when, this module runs it, [`stats`] makes figures of it, [`table`] and [`output`] show them,
//! [`targets`] says what they ought to be.

mod output;
mod plan;
mod progress;
mod stats;
mod table;
mod targets;

use self::plan::{Boot, Plan, Purpose, System};
use self::progress::Progress;
use self::stats::{Samples, values};
use self::targets::Figure;
use crate::cells::{Cell, Measurement, Ports, Setting, Test};
use crate::cli::{BenchArgs, MachineArgs, Path, Queue};
use crate::error::{Error, Result, failed};
use crate::linux::{Linux, Offload};
use crate::machine::{Accel, Machine, name_of};
use crate::network::Net;
use crate::peers::Peer;
use crate::profile::{self, Places};
use crate::session::Session;
use crate::setup::{self, Tool};
use crate::spread::Spread;
use crate::traffic::{PATIENCE, datagrams};
use crate::vm::Vm;
use crate::{report, run};

/// After so many cells without a result in one boot, the rest of the boot is given up.
const FAILURES_MAX: usize = 3;

/// Runs the command.
pub fn bench(args: &BenchArgs) -> Result<()> {
    report::check_writable(args.figures.json.as_deref())?;
    args.pages.check_writable()?;
    // Before the namespace, in which nothing can be fetched.
    let linux = if args.figures.peer == Peer::Linux { Some(Linux::prepare()?) } else { None };
    let session = Session::for_machine(&args.machine, &tools(args))?;
    let mut plan = plan_of(args, linux.is_some());
    for cell in plan.fit(session.link.net) {
        eprintln!("note: {cell} needs the tap, and is left out");
    }
    // The executor is chosen once, by a trial where there is a choice.
    let accel = session.machine_with(&args.machine, Path::Window, Queue::Dual, plan.nics[0])?.accel;
    plan.counts = accel == Accel::Tcg;
    let options = MachineArgs { accel: Some(accel), ..args.machine.clone() };
    let places = Places::of(&session.images)?;
    let mut bench =
        Bench { args, options, plan, session, places, linux, samples: Vec::new(), lost: Vec::new() };
    bench.announce();
    let took = bench.run()?;
    bench.report(took)
}

/// The programs of the host that the cells need.
fn tools(args: &BenchArgs) -> Vec<Tool> {
    let mut tools = run::tools(&args.figures).to_vec();
    tools.extend(args.tests.contains(&Test::Ftp).then_some(setup::VSFTPD));
    tools.extend(args.tests.contains(&Test::Dots).then_some(setup::XVFB));
    tools
}

fn plan_of(args: &BenchArgs, linux: bool) -> Plan {
    let paths = args.machine.path.clone().map_or_else(every, |paths| paths.0);
    let mut systems: Vec<System> = Vec::new();
    for path in paths {
        // Only the window has queues.
        let queues = if path == Path::Window { args.machine.queue.as_slice() } else { &[Queue::Dual] };
        systems.extend(queues.iter().map(|queue| System::Oriel(path, *queue)));
    }
    if linux {
        systems.extend([Offload::Off, Offload::On].map(System::Linux));
    }
    Plan {
        nics: args.machine.nic.clone().map_or_else(every, |nics| nics.0),
        systems,
        cells: Cell::of_tests(&args.tests, args.figures.direction, &args.figures.size),
        reps: args.reps.unwrap_or(if args.quick { 1 } else { 3 }),
        seconds: args.figures.seconds.unwrap_or(if args.quick { 1 } else { 2 }),
        quick: args.quick,
        counts: true,
    }
}

fn every<T: clap::ValueEnum>() -> Vec<T> {
    T::value_variants().to_vec()
}

struct Bench<'a> {
    args: &'a BenchArgs,
    options: MachineArgs,
    plan: Plan,
    session: Session,
    places: Places,
    linux: Option<Linux>,
    samples: Vec<Samples>,
    /// Boots that came to no end, and why.
    lost: Vec<String>,
}

impl Bench<'_> {
    fn announce(&self) {
        let list = |names: Vec<String>| names.join(", ");
        let Plan { nics, systems, cells, reps, seconds, .. } = &self.plan;
        println!(
            "{} on {}; {} cells of {seconds} s, {reps} repetitions; {}, executed by {}",
            list(systems.iter().map(|system| system.name()).collect()),
            list(nics.iter().map(name_of).collect()),
            cells.len(),
            name_of(&self.args.machine.board),
            self.options.accel.map_or_else(String::new, |accel| name_of(&accel)),
        );
        if let Some(linux) = &self.linux {
            println!("linux is {}", linux.version);
        }
    }

    /// All boots; what they took. One that is lost is the end only if none before it came to a result.
    fn run(&mut self) -> Result<std::time::Duration> {
        let boots = self.plan.schedule();
        let mut progress = Progress::new(&self.plan, &boots);
        for boot in &boots {
            progress.boot(boot);
            let result = self.boot(boot, &progress);
            match result {
                Err(error) if matches!(error, Error::Interrupted) || self.samples.is_empty() => {
                    progress.end();
                    return Err(error);
                }
                Err(error) => {
                    progress.failed(error.message());
                    self.lost.push(format!("a boot in repetition {}: {}", boot.rep + 1, error.message()));
                }
                Ok(()) => {}
            }
            progress.end();
        }
        Ok(progress.elapsed())
    }

    fn machine(&self, boot: &Boot) -> Result<Machine> {
        let (path, queue) = boot.system.path_and_queue();
        let oriel = self.session.machine_with(&self.options, path, queue, boot.nic)?;
        let machine = match (boot.system, &self.linux) {
            (System::Linux(offload), Some(linux)) => linux.machine(&oriel, offload),
            _ => oriel,
        };
        let counts = self.plan.counts && boot.purpose != Purpose::Timed;
        Ok(if counts { self.session.counted(&machine) } else { machine })
    }

    /// One machine with its cells. One cell without a result is not the end: the machine is started again for the next.
    fn boot(&mut self, boot: &Boot, progress: &Progress) -> Result<()> {
        let machine = self.machine(boot)?;
        let start = || {
            Vm::boot(&machine).map_err(|error| match error {
                Error::Interrupted => error,
                other => Error::Failed(format!(
                    "{} on {} does not boot: {}",
                    boot.system.name(),
                    name_of(&boot.nic),
                    other.message()
                )),
            })
        };
        let (mut vm, mut ports) = (start()?, Ports::new());
        self.wake_link();
        let mut failures = 0;
        for cell in self.plan.cells_of(boot).collect::<Vec<_>>() {
            progress.cell(cell);
            let mut setting = Setting {
                vm: &mut vm,
                link: &self.session.link,
                ports: &mut ports,
                peer: self.args.figures.peer,
                seconds: self.plan.seconds_of(boot),
            };
            match setting.measure(cell) {
                Ok(measurement) => {
                    progress.measured(&measurement);
                    self.keep(boot, measurement)?;
                }
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Err(error) => {
                    progress.failed(error.message());
                    let why = format!("repetition {}: {}", boot.rep + 1, error.message());
                    self.samples_of(boot, cell).failures.push(why);
                    failures += 1;
                    if failures == FAILURES_MAX {
                        return Ok(());
                    }
                    // Dropped before the next starts: both have the same tap.
                    drop(vm);
                    vm = start()?;
                    self.wake_link();
                }
            }
        }
        vm.power_off()
    }

    /// Waits until frames go both ways and the two sides know each other's addresses: QEMU's e1000 takes none in its first second.
    fn wake_link(&self) {
        if self.session.link.net == Net::Tap {
            datagrams::wait_for_reply(self.session.link.guest_address(), PATIENCE);
        }
    }

    fn keep(&mut self, boot: &Boot, mut measurement: Measurement) -> Result<()> {
        let (rep, purpose) = (boot.rep, boot.purpose);
        // Divided at once: the blocks are many.
        let blocks = !measurement.executed.is_empty();
        let profile = if blocks { profile::of(&self.places, &measurement)? } else { None };
        measurement.executed = Vec::new();
        let samples = self.samples_of(boot, measurement.cell);
        if purpose != Purpose::Timed {
            let split = profile.map(|profile| profile.split.to_json(profile::units(&measurement)));
            samples.splits.extend(split.map(|split| (rep, split)));
            samples.counted.push((rep, measurement.clone()));
        }
        if purpose != Purpose::Counted {
            samples.timed.push((rep, measurement));
        }
        Ok(())
    }

    fn samples_of(&mut self, boot: &Boot, cell: Cell) -> &mut Samples {
        let is_it = |s: &Samples| (s.nic, s.system, s.cell) == (boot.nic, boot.system, cell);
        let place = self.samples.iter().position(is_it).unwrap_or_else(|| {
            self.samples.push(Samples::new(boot.nic, boot.system, cell));
            self.samples.len() - 1
        });
        &mut self.samples[place]
    }

    /// Table, verdicts, files.
    fn report(&self, took: std::time::Duration) -> Result<()> {
        table::print(&self.plan, &self.samples);
        self.print_queues();
        self.print_plugin_cost();
        self.print_verdicts();
        println!("\n{}, {} boots. ", progress::words(took), self.plan.schedule().len());
        println!("To repeat: cargo xtask {}", std::env::args().skip(1).collect::<Vec<_>>().join(" "));
        report::write_results(self.rows()?, self.args.figures.json.as_deref(), &self.args.pages)?;
        let wrong = self.samples.iter().filter(|samples| samples.problem().is_some());
        let wrong = wrong.map(|s| format!("{} on {} ({})", s.cell, s.system.label(), name_of(&s.nic)));
        let wrong: Vec<String> = wrong.chain(self.lost.iter().cloned()).collect();
        if wrong.is_empty() { Ok(()) } else { failed(format!("wrong or missing: {}", wrong.join(", "))) }
    }

    fn rows(&self) -> Result<Vec<serde_json::Value>> {
        let row = |samples: &Samples| {
            let boot = Boot { rep: 0, nic: samples.nic, system: samples.system, purpose: Purpose::Timed };
            let (name, queue) = (samples.system.name(), samples.system.path_and_queue().1);
            let setup = run::setup_of(&name, queue, &self.machine(&boot)?, &self.args.figures);
            let mut row = output::row(&setup, samples, &self.samples);
            if let (System::Linux(_), Some(linux)) = (samples.system, &self.linux) {
                row["linux"] = serde_json::json!(linux.version);
            }
            Ok(row)
        };
        self.samples.iter().map(row).collect()
    }

    /// The kinds of queue side by side, where there are two.
    fn print_queues(&self) {
        for &nic in &self.plan.nics {
            let mut kinds: Vec<(String, Vec<Measurement>)> = Vec::new();
            for &queue in &self.args.machine.queue {
                let system = System::Oriel(Path::Window, queue);
                let those = self.samples.iter().filter(|s| s.nic == nic && s.system == system);
                kinds.push((name_of(&queue), those.filter_map(Samples::middle).collect()));
            }
            if kinds.len() > 1 {
                println!("\n{}", name_of(&nic));
                let kinds: Vec<_> = kinds.iter().map(|(name, all)| (name.as_str(), all.clone())).collect();
                report::queues::print(&kinds);
            }
        }
    }

    /// By how much the plugin slows the cells down.
    fn print_plugin_cost(&self) {
        let rate = |all: &[(u32, Measurement)]| {
            let rates: Vec<f64> = all.iter().map(|(_, measurement)| measurement.rate()).collect();
            Spread::of(&rates).map(|spread| spread.median)
        };
        let ratio = |samples: &Samples| Some(rate(&samples.counted)? / rate(&samples.timed)?);
        let ratios: Vec<f64> = self.samples.iter().filter_map(ratio).collect();
        if let Some(spread) = Spread::of(&ratios).filter(|_| !self.plan.quick) {
            println!(
                "Rates with the counting plugin are {:.2} ({:.2} to {:.2}) of those without, which are those of the table.",
                spread.median, spread.min, spread.max
            );
        }
    }

    fn print_verdicts(&self) {
        let figure = |samples: &Samples| {
            let cost = Spread::of(&values(&samples.costs()))?.median;
            Some(Figure { nic: samples.nic, path: samples.system.label(), cell: samples.cell, cost })
        };
        let figures: Vec<Figure> = self.samples.iter().filter_map(figure).collect();
        let verdicts = targets::check(&figures);
        if !verdicts.is_empty() {
            println!("\nTargets, in instructions per KiB or transaction:");
        }
        for verdict in verdicts {
            println!("{verdict}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use crate::machine::Nic;
    use clap::Parser as _;

    fn plan(line: &str) -> Plan {
        let arguments = ["cargo xtask", "bench"].into_iter().chain(line.split_whitespace());
        let Command::Bench(args) = Cli::try_parse_from(arguments).unwrap().command else { panic!("bench") };
        plan_of(&args, args.figures.peer == Peer::Linux)
    }

    #[test]
    fn without_options_everything_of_oriels_is_compared() {
        let plan = plan("");
        assert_eq!(plan.systems.len(), 3);
        assert_eq!((plan.nics.len(), plan.cells.len(), plan.reps, plan.seconds), (2, 18, 3, 2));
    }

    #[test]
    fn options_narrow_it_down() {
        let narrow =
            plan("--path window --nic e1000 --peer linux --quick --tests tcp,rr --size 10 --seconds 4");
        let names: Vec<String> = narrow.systems.iter().map(|system| system.name()).collect();
        assert_eq!(names, ["window", "linux", "linux+offload"]);
        assert_eq!(narrow.cells, [Cell::Tx(10), Cell::Rx(10), Cell::Rr1]);
        assert_eq!((narrow.nics, narrow.reps, narrow.seconds), (vec![Nic::E1000], 1, 4));
        assert_eq!(plan("--quick").seconds, 1);
    }
}
