//! The rows of a JSON file as the charts and tables want them.
//!
//! `docs/reading-the-report.md` describes the file. What a row lacks is `None` here and shown as missing; nothing becomes zero.

use std::cmp::Ordering;

use abi::path::Path;
use serde_json::Value;

use crate::error::{Result, failed};
use crate::profile::category::Category;
use crate::spread::Spread;

/// What rates and costs of a cell are counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes: MB a second, costs per KiB.
    Bytes,
    /// Requests with their answers: costs for each.
    Transactions,
    /// Points drawn.
    Dots,
}

impl Unit {
    /// What follows a rate.
    pub fn rate(self) -> &'static str {
        match self {
            Self::Bytes => "MB/s",
            Self::Transactions => "/s",
            Self::Dots => "dots/s",
        }
    }

    /// What costs are per.
    pub fn per(self) -> &'static str {
        match self {
            Self::Bytes => "KiB",
            Self::Transactions => "transaction",
            Self::Dots => "dot",
        }
    }
}

/// Events that are counted beside instructions: the key of the JSON, and words.
pub const EVENTS: [(&str, &str); 8] = [
    ("copies_per_packet", "copies"),
    ("copied_bytes_per_packet", "bytes copied"),
    ("syscalls_per_packet", "traps"),
    ("device_starts_per_packet", "device starts"),
    ("switches_per_packet", "switches"),
    ("interrupts_per_packet", "interrupts"),
    ("resumes_sent_per_packet", "wake-ups"),
    ("resumes_spared_per_packet", "wake-ups spared"),
];

/// One cell of one path on one device.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The path, with the kind of queue if it isn't the usual one.
    pub path: String,
    /// The network device.
    pub nic: String,
    /// The cell.
    pub cell: String,
    /// What it counts.
    pub unit: Unit,
    /// By second.
    pub rate: Option<Spread>,
    /// Instructions per unit, of the repetition in the middle.
    pub instructions: Option<f64>,
    /// Of all repetitions.
    pub costs: Option<Spread>,
    /// The same by category.
    pub split: Option<Vec<(Category, f64)>>,
    /// [`EVENTS`] per unit.
    pub events: [Option<f64>; EVENTS.len()],
    /// Frames per unit.
    pub frames: Option<f64>,
    /// The part of the datagrams that did not arrive.
    pub lost: Option<f64>,
    /// Why its figures are worth nothing.
    pub problem: Option<String>,
}

/// All rows, and what is said about all of them.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    /// In the file's order.
    pub rows: Vec<Row>,
    /// What was measured with, and how: pairs of a name and words.
    pub about: Vec<(String, String)>,
}

impl Rows {
    /// Reads the rows of one or more files.
    ///
    /// # Errors
    /// A row has no path, device or cell, or an unknown category; or there are none.
    pub fn of(values: &[Value]) -> Result<Self> {
        let mut all = Self::default();
        for value in values {
            let row = Row::of(value)?;
            // A later row of the same place is a later measurement.
            all.rows.retain(|old| (&old.path, &old.nic, &old.cell) != (&row.path, &row.nic, &row.cell));
            all.rows.push(row);
            for (name, words) in value["about"].as_object().into_iter().flatten() {
                let words = words.as_str().map_or_else(|| words.to_string(), str::to_owned);
                let pair = (name.clone(), words);
                if !all.about.contains(&pair) {
                    all.about.push(pair);
                }
            }
        }
        if all.rows.is_empty() { failed("there are no rows to report") } else { Ok(all) }
    }

    /// The devices, in the order in which they come.
    pub fn nics(&self) -> Vec<&str> {
        distinct(self.rows.iter().map(|row| row.nic.as_str()))
    }

    /// The cells of a device, in the order of the report.
    pub fn cells(&self, nic: &str) -> Vec<&str> {
        let mut cells = distinct(self.of_nic(nic).map(|row| row.cell.as_str()));
        cells.sort_by_key(|cell| order(cell));
        cells
    }

    /// The paths: the paper's three, whether measured or not, then the others.
    pub fn paths(&self, nic: &str) -> Vec<&str> {
        let three = Path::ALL.iter().map(|path| path.name());
        distinct(three.chain(self.of_nic(nic).map(|row| row.path.as_str())))
    }

    /// The row of a place.
    pub fn find(&self, nic: &str, cell: &str, path: &str) -> Option<&Row> {
        self.of_nic(nic).find(|row| row.cell == cell && row.path == path)
    }

    fn of_nic<'a, 'n>(&'a self, nic: &'n str) -> impl Iterator<Item = &'a Row> + use<'a, 'n> {
        self.rows.iter().filter(move |row| row.nic == nic)
    }
}

fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut found = Vec::new();
    names.for_each(|name| {
        if !found.contains(&name) {
            found.push(name);
        }
    });
    found
}

/// Letters first, then numbers by their value: tx10 before tx1024.
fn order(cell: &str) -> (usize, String, u64) {
    const GROUPS: [&str; 8] = ["tx", "rx", "ftp", "dots", "rr", "udp-tx", "udp-rx", "ping"];
    let letters = cell.trim_end_matches(|c: char| c.is_ascii_digit());
    let group = GROUPS.iter().position(|group| letters.starts_with(group)).unwrap_or(GROUPS.len());
    (group, letters.to_owned(), cell[letters.len()..].parse().unwrap_or(0))
}

impl Row {
    fn of(value: &Value) -> Result<Self> {
        let text = |key: &str| value[key].as_str().map(str::to_owned);
        let number = |key: &str| value[key].as_f64().filter(|number| number.is_finite());
        let (Some(path), Some(nic), Some(cell)) = (text("path"), text("nic"), text("cell")) else {
            return failed(format!("a row has no path, nic and cell: {}", abridged(value)));
        };
        let unit = match text("unit").as_deref() {
            Some("transaction") => Unit::Transactions,
            Some("dot") => Unit::Dots,
            None if value["transactions_per_s"].is_number() => Unit::Transactions,
            _ => Unit::Bytes,
        };
        let numbers = |key: &str| -> Option<Vec<f64>> {
            Some(value[key].as_array()?.iter().filter_map(Value::as_f64).collect())
        };
        let only = number(if unit == Unit::Bytes { "mb_per_s" } else { "transactions_per_s" });
        let rates = numbers("rates").filter(|rates| !rates.is_empty()).or_else(|| Some(vec![only?]));
        let units = number("bytes").filter(|bytes| *bytes > 0.0).map(|bytes| match unit {
            Unit::Bytes => bytes / 1024.0,
            Unit::Transactions | Unit::Dots => bytes,
        });
        let frames = number("frames").and_then(|frames| Some(frames / units?));
        let split = value["split"].as_object().map(|split| {
            split
                .iter()
                .map(|(name, count)| Ok((Category::from_name(name)?, count.as_f64().unwrap_or(0.0))))
                .collect()
        });
        let mut split: Option<Vec<(Category, f64)>> = split.transpose()?;
        split.iter_mut().for_each(|split| split.sort_by_key(|(category, _)| *category));
        let failure = || Some(value["failures"].as_array()?.first()?.as_str()?.to_owned());
        let rate = Spread::of(&rates.unwrap_or_default());
        // A repetition that failed is worth a word only if there is no other.
        let problem = text("problem").or_else(|| if rate.is_none() { failure() } else { None });
        let wrong = value["verified"].as_bool() == Some(false) && problem.is_none();
        Ok(Self {
            path: path_name(path, text("queue")),
            nic,
            cell,
            unit,
            rate,
            instructions: number("insns_per_kib")
                .or(number("insns_per_transaction"))
                .or(number("insns_per_dot")),
            costs: Spread::of(&numbers("insns").unwrap_or_default()),
            lost: number("lost"),
            split,
            events: EVENTS.map(|(key, _)| Some(number(key)? * frames?)),
            frames,
            problem: problem.or(wrong.then(|| "the data was not verified".to_owned())),
        })
    }

    /// The instructions, unless something is wrong with the data.
    pub fn good_instructions(&self) -> Option<f64> {
        self.instructions.filter(|_| self.problem.is_none())
    }

    /// The rate, unless something is wrong with it.
    pub fn good_rate(&self) -> Option<Spread> {
        self.rate.filter(|rate| self.problem.is_none() && rate.median > 0.0)
    }
}

fn path_name(path: String, queue: Option<String>) -> String {
    match queue {
        Some(queue) if path == Path::Window.name() && queue != "dual" => format!("{path} ({queue})"),
        _ => path,
    }
}

fn abridged(value: &Value) -> String {
    value.to_string().chars().take(120).collect()
}

/// By how much `a` is more than `b`.
pub fn ratio(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) if b.partial_cmp(&0.0) == Some(Ordering::Greater) => Some(a / b),
        _ => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    /// A small file: three paths on one device, with a hole and a wrong row, and text that must be escaped.
    pub(in super::super) fn example() -> Vec<Value> {
        let row = |path: &str, cell: &str, rates: [f64; 3], instructions: f64| {
            json!({
                "path": path, "queue": "dual", "nic": "e1000", "cell": cell, "bytes": 1_024_000, "frames": 1000,
                "rates": rates, "insns_per_kib": instructions, "verified": true,
                "copies_per_packet": 2.0, "copied_bytes_per_packet": 2048.0, "syscalls_per_packet": 0.5,
                "split": { "stack": instructions * 0.5, "copying": instructions * 0.3, "driver": instructions * 0.2 },
                "about": { "machine": "A <small> & \"old\" one", "command": "cargo xtask bench --json a&b" },
            })
        };
        let mut rows = vec![
            row("monolithic", "tx8192", [100.0, 90.0, 110.0], 2000.0),
            row("ipc", "tx8192", [30.0, 32.0, 31.0], 4000.0),
            row("window", "tx8192", [80.0, 70.0, 75.0], 2200.0),
            row("monolithic", "tx10", [50.0, 50.0, 50.0], 12_000.0),
            row("window", "tx10", [60.0, 60.0, 60.0], 11_000.0),
            row("ipc", "rx10", [1.0, 1.0, 1.0], 11_000.0),
        ];
        rows[5]["verified"] = json!(false);
        rows[5]["problem"] = json!("the digests <differ>");
        let rr = json!({
            "path": "window", "queue": "dual", "nic": "e1000", "cell": "rr1", "bytes": 9000, "frames": 18_000,
            "transactions_per_s": 3000.0, "insns_per_transaction": 9100.0, "verified": true,
        });
        rows.push(rr);
        rows
    }

    #[test]
    fn what_is_not_there_stays_missing() {
        let rows = Rows::of(&example()).unwrap();
        assert_eq!(rows.nics(), ["e1000"]);
        assert_eq!(rows.cells("e1000"), ["tx10", "tx8192", "rx10", "rr1"]);
        assert_eq!(rows.paths("e1000"), ["monolithic", "ipc", "window"]);
        assert!(rows.find("e1000", "tx10", "ipc").is_none());
        let wrong = rows.find("e1000", "rx10", "ipc").unwrap();
        assert!(wrong.rate.is_some() && wrong.good_rate().is_none());
        let rr = rows.find("e1000", "rr1", "window").unwrap();
        assert_eq!((rr.unit, rr.split.as_ref(), rr.events[0]), (Unit::Transactions, None, None));
        assert_eq!(rr.rate.map(|rate| (rate.median, rate.count)), Some((3000.0, 1)));
    }

    #[test]
    fn costs_are_per_unit() {
        let rows = Rows::of(&example()).unwrap();
        let row = rows.find("e1000", "tx8192", "window").unwrap();
        assert_eq!(row.rate, Spread::of(&[70.0, 75.0, 80.0]));
        assert_eq!((row.frames, row.events[0], row.events[1]), (Some(1.0), Some(2.0), Some(2048.0)));
        assert_eq!(row.split.as_ref().unwrap()[0], (Category::Driver, 440.0));
    }

    #[test]
    fn a_row_of_failures_alone_says_why() {
        let failed = json!({ "path": "linux", "nic": "e1000", "cell": "rr1", "verified": false, "failures": ["no <kernel>"] });
        let rows = Rows::of(&[failed]).unwrap();
        assert_eq!(rows.rows[0].problem.as_deref(), Some("no <kernel>"));
        assert_eq!(rows.rows[0].rate, None);
    }

    #[test]
    fn pings_are_transactions_and_datagrams_may_be_lost() {
        let ping = json!({ "path": "window", "nic": "e1000", "cell": "ping-out", "unit": "transaction", "rates": [3.0, 1.0],
            "insns_per_transaction": 5.0, "insns": [5.0, 7.0, 6.0] });
        let udp = json!({ "path": "window", "nic": "e1000", "cell": "udp-rx10", "unit": "kib", "rates": [3.0], "lost": 0.25 });
        let rows = Rows::of(&[ping, udp]).unwrap();
        assert_eq!(rows.rows[0].unit, Unit::Transactions);
        assert_eq!(
            rows.rows[0].costs.map(|costs| (costs.min, costs.median, costs.max)),
            Some((5.0, 6.0, 7.0))
        );
        assert_eq!((rows.rows[1].unit, rows.rows[1].lost), (Unit::Bytes, Some(0.25)));
    }

    #[test]
    fn another_queue_is_another_path_and_a_later_row_wins() {
        let mut values = example();
        let mut ring = values[2].clone();
        ring["queue"] = json!("ring");
        let mut again = values[2].clone();
        again["rates"] = json!([99.0]);
        values.extend([ring, again]);
        let rows = Rows::of(&values).unwrap();
        assert_eq!(rows.paths("e1000"), ["monolithic", "ipc", "window", "window (ring)"]);
        assert_eq!(rows.find("e1000", "tx8192", "window").unwrap().rate.unwrap().median, 99.0);
    }

    #[test]
    fn rows_that_are_none_are_refused() {
        assert!(Rows::of(&[]).is_err());
        assert!(Rows::of(&[json!({ "path": "window" })]).is_err());
        let mut row = example().remove(0);
        row["split"] = json!({ "magic": 1 });
        assert!(Rows::of(&[row]).is_err());
    }

    #[test]
    fn a_ratio_needs_both() {
        assert_eq!(ratio(Some(1.0), Some(2.0)), Some(0.5));
        assert_eq!(ratio(Some(1.0), Some(0.0)), None);
        assert_eq!(ratio(None, Some(1.0)), None);
    }
}
