//! What a row was measured with, and how: the processor, QEMU, the date, the command.

use std::fs;
use std::time::SystemTime;

use serde_json::{Value, json};

use crate::setup;

/// Adds it to each row that doesn't say so yet.
pub fn add(rows: &mut [Value]) {
    let about = json!({
        "machine": machine(),
        "qemu": qemu(),
        "date": date(SystemTime::now()),
        "command": format!("cargo xtask {}", std::env::args().skip(1).collect::<Vec<_>>().join(" ")),
    });
    for row in rows.iter_mut().filter_map(Value::as_object_mut) {
        row.entry("about").or_insert_with(|| about.clone());
    }
}

/// The processor and the system of the host.
fn machine() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let count = cpus.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let model = model.map_or("an unknown processor", |(_, model)| model);
    format!("{model}, {count} logical processors, Linux {}", kernel.trim())
}

/// The first line of what QEMU says of its version.
fn qemu() -> String {
    let said = setup::command(setup::QEMU).arg("--version").output();
    let said = said.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    said.lines().next().unwrap_or("not found").to_owned()
}

/// The day, in UTC.
fn date(now: SystemTime) -> String {
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (mut day, mut year, mut month) = (seconds / 86_400, 1970, 0);
    while day >= days_of_year(year) {
        day -= days_of_year(year);
        year += 1;
    }
    while day >= days_of_month(year, month) {
        day -= days_of_month(year, month);
        month += 1;
    }
    format!("{year}-{:02}-{:02}", month + 1, day + 1)
}

fn days_of_year(year: u64) -> u64 {
    (0..12).map(|month| days_of_month(year, month)).sum()
}

fn days_of_month(year: u64, month: usize) -> u64 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    [31, 28 + u64::from(leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn days_have_their_dates() {
        let at = |seconds| date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        let all = [
            (0, "1970-01-01"),
            (951_782_399, "2000-02-28"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_735_689_599, "2024-12-31"),
            (4_107_542_400, "2100-03-01"),
        ];
        for (seconds, day) in all {
            assert_eq!(at(seconds), day);
        }
    }

    #[test]
    fn rows_keep_what_they_say_already() {
        let mut rows = [json!({ "cell": "rr1" }), json!({ "about": { "machine": "another" } })];
        add(&mut rows);
        assert!(rows[0]["about"]["machine"].as_str().unwrap().contains("Linux"));
        assert_eq!(rows[1]["about"], json!({ "machine": "another" }));
    }
}
