//! The rows of a bench for programs: what `--json` writes, and what the report is drawn from.

use serde_json::{Value, json};

use crate::bench::stats::{Samples, ratio, values};
use crate::bench::table::reference;
use crate::report::{self, Setup};
use crate::spread::Spread;

/// One row: the figures of the repetition in the middle, as of `run`, and the spread of all.
pub fn row(setup: &Setup, samples: &Samples, all: &[Samples]) -> Value {
    let mut object = match samples.middle() {
        Some(middle) => report::to_json(setup, &middle),
        None => {
            json!({ "path": setup.path, "queue": setup.queue, "cell": samples.cell.to_string(), "verified": false })
        }
    };
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
    if let Some(split) = samples.split() {
        object["split"] = split.clone();
    }
    if !samples.failures.is_empty() {
        object["failures"] = json!(samples.failures);
    }
    object
}

fn spread(values: &[f64]) -> Value {
    let Some(Spread { min, lower, median, upper, max, .. }) = Spread::of(values) else { return Value::Null };
    json!({ "min": min, "lower_quartile": lower, "median": median, "upper_quartile": upper, "max": max })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::plan::System;
    use crate::bench::table::REFERENCE;
    use crate::cells::{Cell, Measurement};
    use crate::cli::{Path, Queue};
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
            executed: Vec::new(),
            lost: None,
            calls: None,
            counters: [("frames_in".to_owned(), 100), ("frames_out".to_owned(), 100)].into(),
            problem: None,
        };
        Samples {
            timed: vec![(0, measurement.clone())],
            counted: vec![(0, measurement)],
            splits: vec![(0, json!({ "stack": 10.0 }))],
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
        let all = [samples(System::Oriel(Path::Window, Queue::Dual), 100), samples(REFERENCE, 200)];
        let object = row(&setup, &all[0], &all);
        assert_eq!(object["path"], "window");
        assert_eq!(object["nic"], "virtio");
        assert_eq!(object["cell"], "ping-in");
        assert_eq!(object["unit"], "transaction");
        assert_eq!(object["insns_per_transaction"], 10.0);
        assert_eq!(object["insns_per_packet"], 5.0);
        assert_eq!(object["rate_spread"]["median"], 50.0);
        assert_eq!(object["ratio_to_monolithic"], json!({ "rate": 0.5, "insns": 2.0 }));
        assert_eq!(object["split"], json!({ "stack": 10.0 }));
        let mut failed = all[0].clone();
        failed.timed.clear();
        failed.failures.push("why".into());
        let object = row(&setup, &failed, &all);
        assert_eq!((&object["verified"], &object["rate_spread"]), (&json!(false), &Value::Null));
        assert_eq!(object["failures"][0], "why");
    }
}
