//! The table that a person reads and the objects that a program reads.

use serde_json::{Map, Value, json};

use super::{Pattern, Row};

/// The columns of times: the pattern, its two lines of heading, what stands before its figures.
const COLUMNS: [(Pattern, &str, &str); 6] = [
    (Pattern::Pair, "pair", "ns"),
    (Pattern::Burst, "burst", "ns/pair"),
    (Pattern::Checked, "idle check", "ns/pair"),
    (Pattern::Empty, "empty poll", "ns"),
    (Pattern::Stream, "stream", "M/s"),
    (Pattern::PingPong, "ping-pong", "ns"),
];

/// How `row` compares with the best: how many times as long it takes, 1 for the fastest.
fn ratio(rows: &[Row], row: &Row, pattern: Pattern) -> Option<f64> {
    let times = rows.iter().filter(|row| row.competes()).filter_map(|row| row.best(pattern));
    Some(row.best(pattern)? / times.reduce(f64::min)?)
}

/// A time as the column shows it: a stream by its rate.
fn shown(pattern: Pattern, nanoseconds: f64) -> String {
    match pattern {
        Pattern::Stream => format!("{:.1}", 1e3 / nanoseconds),
        Pattern::PingPong => format!("{nanoseconds:.0}"),
        _ => format!("{nanoseconds:.2}"),
    }
}

/// Prints the table.
pub fn print(rows: &[Row]) {
    let counted = rows.iter().any(|row| !row.instructions.is_empty());
    let mut heading = [format!("{:<21}", ""), format!("{:<21}", "")];
    for (_, name, unit) in COLUMNS {
        heading[0] += &format!(" {name:>15}");
        heading[1] += &format!(" {unit:>9} {:>5}", "ratio");
    }
    if counted {
        heading[0] += &format!("  {:>27}", "instructions");
        heading[1] += "  ";
        for pattern in Pattern::COUNTED {
            heading[1] += &format!(" {:>7}", pattern.name());
        }
    }
    println!("{}\n{}", heading[0], heading[1]);
    for row in rows {
        println!("{}", line(rows, row, counted).trim_end());
    }
    println!(
        "\npair: push one item, pop it; burst: 32 pushes, then 32 pops, by the pair; idle check: push, ask whether the consumer\n\
         is idle (fence and load), pop; empty poll: a pop that finds nothing; stream: items a second between two threads, 128\n\
         buffers under way; ping-pong: there and back, two threads. Each figure is of the fastest sample. ratio: how many\n\
         times as long as the fastest of this run. The figures of one thread contain the loop."
    );
}

fn line(rows: &[Row], row: &Row, counted: bool) -> String {
    let mut line = format!("{:<21}", row.name);
    for (pattern, ..) in COLUMNS {
        let time = row.best(pattern).map_or("-".into(), |time| shown(pattern, time));
        let ratio = ratio(rows, row, pattern).filter(|_| row.competes());
        line += &format!(" {time:>9} {:>5}", ratio.map_or("-".into(), |ratio| format!("{ratio:.2}")));
    }
    if counted {
        line += "  ";
        for pattern in Pattern::COUNTED {
            let count = row.instructions.get(&pattern);
            line += &format!(" {:>7}", count.map_or("-".into(), |count| format!("{count:.1}")));
        }
    }
    line
}

/// An object for each queue.
pub fn to_json(rows: &[Row]) -> Vec<Value> {
    rows.iter()
        .map(|row| {
            let mut object = Map::new();
            object.insert("contestant".into(), json!(row.name));
            for (pattern, ..) in COLUMNS {
                let name = pattern.name().replace('-', "_");
                if let (Some(best), Some(median)) = (row.best(pattern), row.median(pattern)) {
                    object.insert(format!("{name}_ns"), json!(best));
                    object.insert(format!("{name}_median_ns"), json!(median));
                }
                if let Some(ratio) = ratio(rows, row, pattern).filter(|_| row.competes()) {
                    object.insert(format!("{name}_ratio"), json!(ratio));
                }
                if let Some(count) = row.instructions.get(&pattern) {
                    object.insert(format!("{name}_insns"), json!(count));
                }
            }
            Value::Object(object)
        })
        .collect()
}
