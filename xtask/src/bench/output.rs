//! The rows of a bench for programs: what `--json` writes, and what the report is drawn from.

use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::bench::stats::{Samples, Spread, ratio, values};
use crate::bench::table::reference;
use crate::report::{self, Setup};
use crate::setup;

/// What all rows have in common: when, where and how they were made.
pub fn origin(linux: Option<&str>) -> Value {
    let first_line = |program: &mut std::process::Command, argument: &str| {
        let output = program.arg(argument).stdin(Stdio::null()).output().ok()?;
        String::from_utf8(output.stdout).ok()?.lines().next().map(str::to_owned)
    };
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    json!({
        "command": format!("cargo xtask {}", std::env::args().skip(1).collect::<Vec<_>>().join(" ")),
        "unix_time": seconds,
        "qemu": first_line(&mut setup::command(setup::QEMU), "--version"),
        "cpu": cpu.map(|(_, name)| name),
        "cpus": std::thread::available_parallelism().map_or(1, usize::from),
        "linux": linux,
    })
}

/// One row: the figures of the repetition in the middle, as of `run`, and the spread of all.
pub fn row(setup: &Setup, samples: &Samples, all: &[Samples], origin: &Value) -> Value {
    let mut object = match samples.middle() {
        Some(middle) => report::to_json(setup, &middle),
        None => json!({ "path": setup.path, "cell": samples.cell.to_string(), "verified": false }),
    };
    object["run"] = origin.clone();
    object["nic"] = json!(crate::machine::name_of(&samples.nic));
    object["repetitions"] = json!(samples.timed.len());
    let (rates, costs) = (samples.rates(), samples.costs());
    object["rates"] = json!(values(&rates));
    object["insns"] = json!(values(&costs));
    object["rate_spread"] = spread(&values(&rates));
    object["insns_spread"] = spread(&values(&costs));
    if let Some([kernel, user]) = samples.cost_per_packet() {
        object["insns_per_packet"] = json!(kernel + user);
        object["insns_kernel_per_packet"] = json!(kernel);
        object["insns_user_per_packet"] = json!(user);
    }
    if let Some(reference) = reference(all, samples.nic, samples.cell) {
        object["ratio_to_monolithic"] =
            json!({ "rate": ratio(&rates, &reference.rates()), "insns": ratio(&costs, &reference.costs()) });
    }
    if !samples.failures.is_empty() {
        object["failures"] = json!(samples.failures);
    }
    object
}

fn spread(values: &[f64]) -> Value {
    let Some(Spread { min, lower, median, upper, max }) = Spread::of(values) else { return Value::Null };
    json!({ "min": min, "lower_quartile": lower, "median": median, "upper_quartile": upper, "max": max })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::plan::System;
    use crate::bench::table::REFERENCE;
    use crate::cells::{Cell, Measurement};
    use crate::cli::Path;
    use crate::machine::{Accel, Board, Nic};
    use crate::peers::Peer;
    use crate::vm::Instructions;

    fn samples(system: System, count: u64) -> Samples {
        let measurement = Measurement {
            cell: Cell::PingIn,
            count,
            seconds: 2.0,
            host_rate: None,
            instructions: Some(Instructions { kernel: 6 * 100, user: 4 * 100 }),
            lost: None,
            calls: None,
            counters: [("frames_in".to_owned(), 100), ("frames_out".to_owned(), 100)].into(),
            problem: None,
        };
        Samples {
            timed: vec![(0, measurement.clone())],
            counted: vec![(0, measurement)],
            ..Samples::new(Nic::Virtio, system, Cell::PingIn)
        }
    }

    #[test]
    fn the_names_of_the_json_stay() {
        let setup = Setup {
            path: "window".into(),
            queue: "dual".into(),
            nic: Nic::Virtio,
            board: Board::Pc,
            accel: Accel::Tcg,
            peer: Peer::Builtin,
        };
        let all = [samples(System::Oriel(Path::Window), 100), samples(REFERENCE, 200)];
        let object = row(&setup, &all[0], &all, &origin(Some("6.1")));
        assert_eq!(object["path"], "window");
        assert_eq!(object["nic"], "virtio");
        assert_eq!(object["cell"], "ping-in");
        assert_eq!(object["unit"], "transaction");
        assert_eq!(object["insns_per_transaction"], 10.0);
        assert_eq!(object["insns_per_packet"], 5.0);
        assert_eq!(object["rate_spread"]["median"], 50.0);
        assert_eq!(object["ratio_to_monolithic"], json!({ "rate": 0.5, "insns": 2.0 }));
        assert_eq!(object["run"]["linux"], "6.1");
        assert!(object["run"]["qemu"].is_string() || object["run"]["qemu"].is_null());
        let mut failed = all[0].clone();
        failed.timed.clear();
        failed.failures.push("why".into());
        let object = row(&setup, &failed, &all, &Value::Null);
        assert_eq!((&object["verified"], &object["rate_spread"]), (&json!(false), &Value::Null));
        assert_eq!(object["failures"][0], "why");
    }
}
