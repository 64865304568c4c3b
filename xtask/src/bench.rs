//! `cargo xtask bench`: the seven cells, interleaved, each several times; medians.
//!
//! MB/s and instructions come from different boots: the counting plugin slows the translated code down. Each repetition
//! boots all machines anew, so that no state of one cell colours all of another's figures. Where two kinds of queue are asked
//! for each repetition runs both, and a second table shows them side by side.

use crate::cells::{Cell, Measurement, Ports, Setting};
use crate::cli::BenchArgs;
use crate::error::{Result, failed};
use crate::machine::{Accel, Machine, name_of};
use crate::profile::{self, Places};
use crate::report::{self, Setup};
use crate::run;
use crate::session::Session;
use crate::vm::Vm;

/// One machine of those that are compared.
struct Variant {
    setup: Setup,
    machine: Machine,
    /// By cell: all repetitions, timed and counted.
    timed: Vec<Vec<Measurement>>,
    counted: Vec<Vec<Measurement>>,
}

/// Runs the command.
pub fn bench(args: &BenchArgs) -> Result<()> {
    report::check_writable(args.figures.json.as_deref())?;
    args.pages.check_writable()?;
    let session = Session::for_machine(&args.machine, run::tools(&args.figures))?;
    let mut cells = Cell::of(args.figures.direction, &args.figures.size);
    cells.push(Cell::Rr1);
    let mut variants = Vec::new();
    for &queue in &args.machine.queue {
        let machine = session.machine_with(&args.machine, queue)?;
        let setup = run::setup_of(&args.machine, queue, &machine, &args.figures);
        let none = vec![Vec::new(); cells.len()];
        variants.push(Variant { setup, machine, timed: none.clone(), counted: none });
    }
    let machine = &variants[0].machine;
    println!(
        "{} cells, {} repetitions of {} s; {} on {}, executed by {}",
        cells.len(),
        args.reps,
        args.figures.seconds,
        name_of(&machine.nic),
        name_of(&machine.board),
        name_of(&machine.accel)
    );
    for rep in 1..=args.reps {
        eprintln!("repetition {rep} of {}", args.reps);
        for Variant { machine, timed, counted, .. } in &mut variants {
            pass(&session, machine, args, &cells, timed)?;
            if machine.accel == Accel::Tcg {
                pass(&session, &session.counted(machine), args, &cells, counted)?;
            }
        }
    }
    let places = Places::of(&session.images)?;
    let (mut rows, mut wrong) = (Vec::new(), Vec::new());
    let mut compared = Vec::new();
    for variant in &variants {
        println!();
        if variants.len() > 1 {
            println!("queue={}:", variant.setup.queue);
        }
        report::print_heading();
        let measurements: Vec<_> =
            variant.timed.iter().zip(&variant.counted).map(|(t, c)| combine(t, c)).collect();
        let repeated = variant.timed.iter().zip(&variant.counted);
        for (measurement, (timed, counted)) in measurements.iter().zip(repeated) {
            report::print_row(&variant.setup, measurement);
            if measurement.problem.is_some() {
                wrong.push(measurement.cell.to_string());
            }
            let mut object = report::to_json(&variant.setup, measurement);
            let rates: Vec<f64> = timed.iter().map(Measurement::rate).collect();
            object["rates"] = serde_json::json!(rates);
            object["repetitions"] = serde_json::json!(args.reps);
            if let Some(middle) = middle(counted)
                && let Some(profile) = profile::of(&places, middle)?
            {
                object["split"] = profile.split.to_json(profile::units(middle));
            }
            rows.push(object);
        }
        compared.push((variant.setup.queue.as_str(), measurements));
    }
    report::print_legend(&variants[0].setup);
    variants.iter().for_each(|variant| print_plugin_cost(&variant.timed, &variant.counted));
    if compared.len() > 1 {
        report::queues::print(&compared);
    }
    println!("To repeat: cargo xtask {}", std::env::args().skip(1).collect::<Vec<_>>().join(" "));
    report::write_results(rows, args.figures.json.as_deref(), &args.pages)?;
    if wrong.is_empty() { Ok(()) } else { failed(format!("wrong data in {}", wrong.join(", "))) }
}

fn pass(
    session: &Session,
    machine: &Machine,
    args: &BenchArgs,
    cells: &[Cell],
    results: &mut [Vec<Measurement>],
) -> Result<()> {
    let mut vm = Vm::boot(machine)?;
    let mut ports = Ports::new();
    let (peer, seconds) = (args.figures.peer, args.figures.seconds);
    for (cell, results) in cells.iter().zip(results) {
        let mut setting = Setting { vm: &mut vm, link: &session.link, ports: &mut ports, peer, seconds };
        results.push(setting.measure(*cell)?);
    }
    vm.power_off()
}

/// The repetition with the median rate, with the instructions of the counted one with the median of those.
fn combine(timed: &[Measurement], counted: &[Measurement]) -> Measurement {
    let mut result = median(timed, Measurement::rate).clone();
    if let Some(middle) = middle(counted) {
        // Scaled to the timed one's count, since that is what the report divides by.
        let scale = result.count as f64 / middle.count.max(1) as f64;
        result.instructions = middle.instructions.map(|i| crate::vm::Instructions {
            kernel: (i.kernel as f64 * scale) as u64,
            user: (i.user as f64 * scale) as u64,
        });
    }
    result.problem = timed.iter().chain(counted).find_map(|m| m.problem.clone());
    result
}

/// The counted repetition with the median of the instructions per unit.
fn middle(counted: &[Measurement]) -> Option<&Measurement> {
    let per_unit =
        |m: &Measurement| m.instructions.map_or(0.0, |i| (i.kernel + i.user) as f64 / m.count.max(1) as f64);
    (!counted.is_empty()).then(|| median(counted, per_unit))
}

fn median(all: &[Measurement], key: impl Fn(&Measurement) -> f64) -> &Measurement {
    let mut sorted: Vec<_> = all.iter().collect();
    sorted.sort_by(|a, b| key(a).total_cmp(&key(b)));
    sorted[(sorted.len() - 1) / 2]
}

/// By how much the plugin slows the cells down.
fn print_plugin_cost(timed: &[Vec<Measurement>], counted: &[Vec<Measurement>]) {
    let ratios: Vec<String> = timed
        .iter()
        .zip(counted)
        .filter(|(_, counted)| !counted.is_empty())
        .map(|(timed, counted)| {
            let rate = |all: &[Measurement]| median(all, Measurement::rate).rate();
            format!("{} {:.2}", timed[0].cell, rate(counted) / rate(timed))
        })
        .collect();
    if !ratios.is_empty() {
        println!(
            "MB/s with the counting plugin as a part of MB/s without (those of the table): {}",
            ratios.join(", ")
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::Instructions;

    fn measurement(count: u64, instructions: Option<u64>) -> Measurement {
        Measurement {
            cell: Cell::Tx(10),
            count,
            seconds: 1.0,
            host_rate: 1.0,
            instructions: instructions.map(|user| Instructions { kernel: user, user }),
            executed: Vec::new(),
            calls: None,
            counters: Default::default(),
            problem: None,
        }
    }

    #[test]
    fn medians_of_rate_and_of_instructions_apart() {
        let timed = [measurement(300, None), measurement(100, None), measurement(200, None)];
        let counted = [measurement(50, Some(500)), measurement(50, Some(100)), measurement(50, Some(200))];
        let result = combine(&timed, &counted);
        assert_eq!(result.count, 200);
        assert_eq!(result.instructions, Some(Instructions { kernel: 800, user: 800 }));
    }

    #[test]
    fn one_wrong_repetition_spoils_the_cell() {
        let mut wrong = measurement(1, None);
        wrong.problem = Some("wrong".into());
        assert!(combine(&[measurement(5, None), wrong], &[]).problem.is_some());
    }
}
