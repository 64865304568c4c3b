//! The table that a person reads and the JSON that a program reads, from the same measurements; below, the pages made of that JSON.

mod about;
mod bars;
mod html;
pub mod markup;
mod pages;
mod paper;
pub mod queues;
mod rows;
mod stack;
pub mod style;
mod svg;
mod tables;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::cells::{Cell, Measurement, Unit};
use crate::error::{Context as _, Result};
use crate::machine::{Accel, Board, Nic, name_of};
use crate::peers::Peer;

pub use self::pages::{report, write_results};

/// What all cells of a run have in common.
#[derive(Debug, Clone)]
pub struct Setup {
    /// How applications reach the network.
    pub path: String,
    /// The kind of queue in the window.
    pub queue: String,
    /// The network device.
    pub nic: Nic,
    /// The machine type.
    pub board: Board,
    /// The executor.
    pub accel: Accel,
    /// The other end.
    pub peer: Peer,
}

/// Costs by packet: frames in both directions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PerPacket {
    /// Copies by the processor.
    pub copies: f64,
    /// Bytes that they moved.
    pub copied_bytes: f64,
    /// Traps by tasks.
    pub syscalls: f64,
    /// Of them, those that start the device.
    pub device_starts: f64,
    /// Changes of the address space.
    pub switches: f64,
    /// The device's interrupts.
    pub interrupts: f64,
    /// Wake-ups.
    pub resumes_sent: f64,
    /// Wake-ups that were not needed.
    pub resumes_spared: f64,
}

fn counter(measurement: &Measurement, name: &str) -> u64 {
    measurement.counters.get(name).copied().unwrap_or(0)
}

/// The sum of the counters whose names end so: the server and the application each count their own copies.
fn ending(measurement: &Measurement, end: &str) -> u64 {
    measurement.counters.iter().filter(|(name, _)| name.ends_with(end)).map(|(_, value)| value).sum()
}

/// Frames in and out.
pub fn frames(measurement: &Measurement) -> u64 {
    counter(measurement, "frames_in") + counter(measurement, "frames_out")
}

/// What happened beside instructions, by name.
pub fn events(measurement: &Measurement) -> [(&'static str, u64); 8] {
    let of = |name| counter(measurement, name);
    [
        ("copies", ending(measurement, "_copies")),
        ("bytes copied", ending(measurement, "_copied_bytes")),
        ("traps", of("syscalls")),
        ("device starts", of("device_starts")),
        ("switches", of("switches")),
        ("interrupts", of("interrupts")),
        ("wake-ups", of("resumes_sent") + of("task_resumes")),
        ("spared", of("resumes_spared") + of("server_wakes_spared")),
    ]
}

/// The counters of a cell by packet.
pub fn per_packet(measurement: &Measurement) -> PerPacket {
    let packets = frames(measurement).max(1) as f64;
    let by = |count: u64| count as f64 / packets;
    let of = |name| by(counter(measurement, name));
    PerPacket {
        copies: by(ending(measurement, "_copies")),
        copied_bytes: by(ending(measurement, "_copied_bytes")),
        syscalls: of("syscalls"),
        device_starts: of("device_starts"),
        switches: of("switches"),
        interrupts: of("interrupts"),
        // By the kernel to the server, and by the server and the applications to each other.
        resumes_sent: of("resumes_sent") + of("task_resumes"),
        resumes_spared: of("resumes_spared") + of("server_wakes_spared"),
    }
}

/// Above the rows.
pub fn print_heading() {
    println!(
        "{:<7} {:<7} {:>8} {:>6} {:>9} {:>9}  {:>6} {:>7} {:>6} {:>6} {:>6} {:>6} {:>6} {:>6}  data",
        "",
        "",
        "",
        "of the",
        "",
        "insns/",
        "copies",
        "bytes",
        "sys-",
        "device",
        "swit-",
        "inter-",
        "resumes",
        "resumes"
    );
    println!(
        "{:<7} {:<7} {:>8} {:>6} {:>9} {:>9}  {:>6} {:>7} {:>6} {:>6} {:>6} {:>6} {:>6} {:>7}",
        "nic",
        "cell",
        "MB/s",
        "host's",
        "frames",
        "KiB",
        "/pkt",
        "copied",
        "calls",
        "starts",
        "ches",
        "rupts",
        "sent",
        "spared"
    );
}

/// One row, as soon as the cell is done.
pub fn print_row(setup: &Setup, measurement: &Measurement) {
    let p = per_packet(measurement);
    let counted = measurement.instructions_per_unit().map_or("-".into(), |[k, u]| format!("{:.0}", k + u));
    println!(
        "{:<7} {:<7} {:>8} {:>6} {:>9} {:>9}  {:>6.3} {:>7.1} {:>6.3} {:>6.3} {:>6.3} {:>6.3} {:>6.3} {:>6.3}  {}",
        name_of(&setup.nic),
        measurement.cell.to_string(),
        significant(measurement.rate()),
        measurement.host_rate.map_or("-".into(), |host| format!("{:.1}%", 100.0 * measurement.rate() / host)),
        frames(measurement),
        counted,
        p.copies,
        p.copied_bytes,
        p.syscalls,
        p.device_starts,
        p.switches,
        p.interrupts,
        p.resumes_sent,
        p.resumes_spared,
        verdict(setup, measurement),
    );
}

fn verdict(setup: &Setup, measurement: &Measurement) -> String {
    match &measurement.problem {
        Some(problem) => format!("WRONG: {problem}"),
        None if setup.peer.is_builtin() || measurement.cell == Cell::Rr1 => "verified".into(),
        None => "counts agree".into(),
    }
}

/// Below the rows: what the columns mean.
pub fn print_legend(setup: &Setup) {
    println!(
        "\nMB/s: a million bytes a second (rr1: transactions a second), by the {} clock; \"of the host's\": as a part of what two\n\
         threads of the host reach over its own loopback with the same writes, right after the cell. insns: guest instructions,\n\
         kernel and user, without idle time, per KiB (rr1: per transaction). All columns after it: per frame, in or out.",
        if setup.peer.is_builtin() { "host's" } else { "guest's" }
    );
}

/// Three digits or so.
pub fn significant(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

/// One cell as the JSON file has it.
pub fn to_json(setup: &Setup, measurement: &Measurement) -> Value {
    let p = per_packet(measurement);
    let mut object = json!({
        "path": setup.path,
        "queue": setup.queue,
        "nic": name_of(&setup.nic),
        "board": name_of(&setup.board),
        "accel": name_of(&setup.accel),
        "peer": name_of(&setup.peer),
        "cell": measurement.cell.to_string(),
        "bytes": measurement.count,
        "seconds": measurement.seconds,
        "frames": frames(measurement),
        "copies_per_packet": p.copies,
        "copied_bytes_per_packet": p.copied_bytes,
        "syscalls_per_packet": p.syscalls,
        "device_starts_per_packet": p.device_starts,
        "switches_per_packet": p.switches,
        "interrupts_per_packet": p.interrupts,
        "resumes_sent_per_packet": p.resumes_sent,
        "resumes_spared_per_packet": p.resumes_spared,
        "verified": measurement.problem.is_none(),
        "counters": measurement.counters,
    });
    let unit = measurement.cell.unit();
    if unit == Unit::Kib || measurement.cell == Cell::Rr1 {
        object["mb_per_s"] = json!(Unit::Kib.rate(measurement.count, measurement.seconds));
    }
    if unit == Unit::Transaction {
        object["transactions_per_s"] = json!(measurement.rate());
    }
    object["unit"] = json!(unit.name());
    object["rate"] = json!(measurement.rate());
    object["rate_unit"] = json!(unit.rate_name());
    if let Some(host) = measurement.host_rate {
        object["ratio_to_host"] = json!(measurement.rate() / host);
    }
    if let Some(lost) = measurement.lost {
        object["lost"] = json!(lost);
    }
    object["calls"] = json!(measurement.calls);
    if let Some(problem) = &measurement.problem {
        object["problem"] = json!(problem);
    }
    if let Some([kernel, user]) = measurement.instructions_per_unit() {
        let unit = unit.name();
        object[format!("insns_per_{unit}")] = json!(kernel + user);
        object[format!("insns_kernel_per_{unit}")] = json!(kernel);
        object[format!("insns_user_per_{unit}")] = json!(user);
    }
    object
}

/// Writes the file of `--json`. Each row says what it was measured with and how.
pub fn write_json(file: &Path, mut cells: Vec<Value>) -> Result<()> {
    about::add(&mut cells);
    let text = format!("{:#}\n", Value::Array(cells));
    fs::write(file, text).context(format!("cannot write {}", file.display()))
}

/// Fails before the machine starts if the file could not be written after it ended.
pub fn check_writable(file: Option<&Path>) -> Result<()> {
    let Some(file) = file else { return Ok(()) };
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let is_new = !file.exists();
    fs::File::options().append(true).create(true).open(file).context(format!(
        "cannot write {} (in {})",
        file.display(),
        folder.display()
    ))?;
    if is_new {
        fs::remove_file(file).ok();
    }
    Ok(())
}

/// Compares with a file that was looked at, or writes it if UPDATE_GOLDEN is set.
#[cfg(test)]
fn golden(name: &str, text: &str) {
    let file = crate::build::root().join("xtask/src/report/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&file, text).unwrap();
    }
    let wanted = fs::read_to_string(&file).unwrap_or_default();
    let first = text.lines().zip(wanted.lines()).find(|(is, was)| is != was);
    assert!(text == wanted, "{} differs, first here: {first:?}", file.display());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::Instructions;

    fn example(cell: Cell) -> (Setup, Measurement) {
        let setup = Setup {
            path: "window".into(),
            queue: "dual".into(),
            nic: Nic::E1000,
            board: Board::Pc,
            accel: Accel::Tcg,
            peer: Peer::Builtin,
        };
        let counters = [
            ("frames_in", 30),
            ("frames_out", 70),
            ("server_copies", 150),
            ("app_copies", 50),
            ("syscalls", 10),
        ];
        let measurement = Measurement {
            cell,
            count: 2_048_000,
            seconds: 2.0,
            host_rate: Some(4.096),
            lost: None,
            instructions: Some(Instructions { kernel: 500_000, user: 1_500_000 }),
            executed: Vec::new(),
            calls: Some(5),
            counters: counters.map(|(name, value)| (name.to_owned(), value)).into(),
            problem: None,
        };
        (setup, measurement)
    }

    #[test]
    fn the_names_of_the_json_stay() {
        let (setup, measurement) = example(Cell::Tx(8192));
        let object = to_json(&setup, &measurement);
        assert_eq!(object["path"], "window");
        assert_eq!(object["queue"], "dual");
        assert_eq!(object["nic"], "e1000");
        assert_eq!(object["cell"], "tx8192");
        assert_eq!(object["bytes"], 2_048_000);
        assert_eq!(object["seconds"], 2.0);
        assert_eq!(object["mb_per_s"], 1.024);
        assert_eq!(object["insns_per_kib"], 1000.0);
        assert_eq!(object["copies_per_packet"], 2.0);
        assert_eq!(object["syscalls_per_packet"], 0.1);
        assert_eq!(object["ratio_to_host"], 0.25);
        assert_eq!(object["verified"], true);
        assert!(object.get("insns_per_transaction").is_none());
    }

    #[test]
    fn transactions_have_their_own_name() {
        let (setup, measurement) = example(Cell::Rr1);
        let object = to_json(&setup, &measurement);
        assert!(object.get("insns_per_kib").is_none());
        assert_eq!(object["insns_per_transaction"], 2_000_000.0 / 2_048_000.0);
        assert_eq!(object["transactions_per_s"], 1_024_000.0);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_noticed_early() {
        assert!(check_writable(Some(Path::new("/nowhere/at/all.json"))).is_err());
        let folder = temp_dir::TempDir::new().unwrap();
        let file = folder.path().join("x.json");
        check_writable(Some(&file)).unwrap();
        assert!(!file.exists());
    }
}
