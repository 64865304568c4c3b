//! The table of a bench on the terminal: for each cell a row per system.

use crate::bench::plan::{Plan, System};
use crate::bench::stats::{Samples, ratio, values};
use crate::cells::Cell;
use crate::cli::{Path, Queue};
use crate::machine::{Nic, name_of};
use crate::report::{self, significant};
use crate::spread::Spread;
use crate::traffic::datagrams::offered;

/// Ratios are to this one.
pub const REFERENCE: System = System::Oriel(Path::Monolithic, Queue::Dual);

/// Prints it all.
pub fn print(plan: &Plan, all: &[Samples]) {
    for &nic in &plan.nics {
        println!("\n{}", name_of(&nic));
        print_heading(plan.counts);
        for &cell in &plan.cells {
            for (place, samples) in all.iter().filter(|s| s.nic == nic && s.cell == cell).enumerate() {
                let name = if place == 0 { cell.to_string() } else { String::new() };
                println!("{name:<12}{}", row(samples, reference(all, nic, cell)));
            }
        }
    }
    print_legend(plan);
}

/// What the ratios of a cell refer to.
pub fn reference(all: &[Samples], nic: Nic, cell: Cell) -> Option<&Samples> {
    all.iter().find(|samples| (samples.nic, samples.system, samples.cell) == (nic, REFERENCE, cell))
}

fn print_heading(counts: bool) {
    let insns = if counts { "insns per KiB, request, dot" } else { "" };
    println!(
        "{:<12}{:<14}{:>26} {:>6}  {:>26} {:>6} {:>13}  {:>6} {:>6} {:>6} {:>6} {:>6} {:>6}",
        "",
        "",
        "MB/s or 1/s",
        "times",
        insns,
        "times",
        "insns/pkt",
        "copies",
        "bytes",
        "sys-",
        "swit-",
        "inter-",
        "wake-"
    );
    println!(
        "{:<12}{:<14}{:>26} {:>6}  {:>26} {:>6} {:>13}  {:>6} {:>6} {:>6} {:>6} {:>6} {:>6}  data",
        "cell",
        "path",
        "median (range)",
        "mono",
        "median (range)",
        "mono",
        "kernel+user",
        "/pkt",
        "/pkt",
        "calls",
        "ches",
        "rupts",
        "ups"
    );
}

fn row(samples: &Samples, reference: Option<&Samples>) -> String {
    let (rates, costs) = (samples.rates(), samples.costs());
    let times = |these: &[(u32, f64)], of: fn(&Samples) -> Vec<(u32, f64)>| {
        let ratio = reference.and_then(|reference| ratio(these, &of(reference)));
        ratio.map_or("-".into(), |ratio| format!("{ratio:.2}"))
    };
    let per_packet = samples.cost_per_packet();
    let per_packet = per_packet.map_or("-".into(), |[kernel, user]| format!("{kernel:.0}+{user:.0}"));
    let Some(middle) = samples.middle() else {
        let why = samples.failures.first().map_or("not run", String::as_str);
        return format!("{:<14}FAILED: {}", samples.system.label(), why.lines().next().unwrap_or_default());
    };
    let p = report::per_packet(&middle);
    // What a system does not count is not there, which is something else than zero.
    let counted = |end: &str, value: f64| {
        let is_there = middle.counters.keys().any(|name| name.ends_with(end));
        if is_there { format!("{value:.3}") } else { "-".into() }
    };
    format!(
        "{:<14}{:>26} {:>6}  {:>26} {:>6} {per_packet:>13}  {:>6} {:>6} {:>6} {:>6} {:>6} {:>6}  {}",
        samples.system.label(),
        spread(Spread::of(&values(&rates)), significant),
        times(&rates, Samples::rates),
        spread(Spread::of(&values(&costs)), significant),
        times(&costs, Samples::costs),
        if p.copies < 100.0 { counted("_copies", p.copies) } else { format!("{:.1}", p.copies) },
        if p.copied_bytes > 0.0 { format!("{:.0}", p.copied_bytes) } else { "-".into() },
        counted("syscalls", p.syscalls),
        counted("switches", p.switches),
        counted("interrupts", p.interrupts),
        counted("resumes_sent", p.resumes_sent),
        data(samples, middle.lost)
    )
}

fn spread(spread: Option<Spread>, print: impl Fn(f64) -> String) -> String {
    match spread {
        None => "-".into(),
        Some(s) if s.min == s.max => print(s.median),
        Some(s) => format!("{} ({}..{})", print(s.median), print(s.min), print(s.max)),
    }
}

fn data(samples: &Samples, lost: Option<f64>) -> String {
    match (samples.problem(), lost) {
        (Some(problem), _) => format!("WRONG: {}", problem.lines().next().unwrap_or_default()),
        (None, Some(lost)) => format!("verified, {:.1}% lost", 100.0 * lost),
        (None, None) => "verified".into(),
    }
}

fn print_legend(plan: &Plan) {
    println!(
        "\nMB/s: a million bytes a second that arrived; 1/s: requests with their replies,\n\
         or dots, a second. \"times mono\": the median, over the repetitions, of the ratio to\n\
         `monolithic` in the same repetition; above 1 is better for rates, worse for instructions. insns: guest instructions, kernel and\n\
         user, without idle time. What stands behind them is per frame, in or out, of the repetition with the median rate. udp-rx is offered\n\
         {} datagrams a second ({} where they are fragmented); what is lost counts in no rate; costs of udp-tx are per KiB sent.",
        offered(1),
        offered(65_507)
    );
    if plan.systems.iter().any(|system| matches!(system, System::Linux(_))) {
        println!(
            "linux: Debian's kernel, without TSO, GSO and GRO, so that each packet is a frame, as on Oriel; linux+offload: with them.\n\
             Its copies are those between program and kernel; its wake-ups are not counted."
        );
    }
    if plan.quick {
        println!("--quick: rates are those with the counting plugin, which slows the guest down.");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cells::Measurement;
    use crate::vm::Instructions;

    fn samples(system: System, counts: &[u64], insns: u64) -> Samples {
        let measurement = |count: u64| Measurement {
            cell: Cell::UdpRx(8192),
            count,
            seconds: 1.0,
            host_rate: None,
            instructions: Some(Instructions { kernel: insns, user: insns }),
            executed: Vec::new(),
            lost: Some(0.25),
            calls: None,
            counters: [("frames_in".to_owned(), 100), ("syscalls".to_owned(), 50)].into(),
            problem: None,
        };
        let all: Vec<_> = (0..).zip(counts.iter().map(|count| measurement(*count))).collect();
        Samples { timed: all.clone(), counted: all, ..Samples::new(Nic::E1000, system, Cell::UdpRx(8192)) }
    }

    #[test]
    fn a_row_says_median_range_and_ratio() {
        let window =
            samples(System::Oriel(Path::Window, Queue::Dual), &[2_048_000, 4_096_000, 1_024_000], 1_000_000);
        let mono = samples(REFERENCE, &[1_024_000, 2_048_000, 512_000], 1_000_000);
        let row = row(&window, Some(&mono));
        for part in [
            "window",
            "2.05 (1.02..4.10)",
            " 2.00 ",
            "1000 (500..2000)",
            " 0.50 ",
            "10000+10000",
            "0.500",
            "25.0% lost",
        ] {
            assert!(row.contains(part), "{part} in {row}");
        }
    }

    #[test]
    fn what_is_missing_is_not_zero() {
        let mut window = samples(System::Oriel(Path::Window, Queue::Dual), &[2_048_000], 1);
        assert!(row(&window, None).contains(" -  "), "no ratio");
        window.timed.clear();
        window.failures.push("no `oriel>` within 30 s\nmore".into());
        assert!(row(&window, None).ends_with("FAILED: no `oriel>` within 30 s"));
    }
}
