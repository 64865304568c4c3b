//! `cargo xtask queue-bench`: the queues of `shmqueue` beside those of other crates, in one table.
//!
//! Criterion takes the times (`queue-bench/benches/`), in several rounds, so that what the host does meanwhile does not meet
//! one queue alone; callgrind counts the instructions of `queue-bench/src/bin/insns.rs`, which repeat to the digit.

mod table;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use temp_dir::TempDir;

use crate::cli::QueueBenchArgs;
use crate::error::{Context as _, Error, Result, failed};
use crate::spread::Spread;
use crate::{build, report, setup};

/// The package.
const PACKAGE: &str = "queue-bench";
/// The program whose instructions are counted.
const INSNS: &str = "insns";
/// Repetitions in the two runs whose difference is taken; multiples of a burst.
const FEW: u64 = 1024;
const MANY: u64 = 11 * FEW;
/// How much slower than the fastest the ring may be at the pair: 10 %.
const LIMIT: f64 = 1.10;

/// What is measured. One thread does the first four, two threads do the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Pattern {
    Pair,
    Burst,
    Checked,
    Empty,
    Stream,
    PingPong,
}

impl Pattern {
    const TIMED: [Self; 6] =
        [Self::Pair, Self::Burst, Self::Checked, Self::Empty, Self::Stream, Self::PingPong];
    const COUNTED: [Self; 4] = [Self::Pair, Self::Burst, Self::Checked, Self::Empty];

    /// The name that `queue-bench` gives it.
    const fn name(self) -> &'static str {
        match self {
            Self::Pair => "pair",
            Self::Burst => "burst",
            Self::Checked => "checked",
            Self::Empty => "empty",
            Self::Stream => "stream",
            Self::PingPong => "ping-pong",
        }
    }
}

/// The figures of one queue.
#[derive(Debug, Clone, Default, PartialEq)]
struct Row {
    name: String,
    /// Nanoseconds for each repetition: one for each sample of each round.
    times: BTreeMap<Pattern, Vec<f64>>,
    /// Instructions for each repetition.
    instructions: BTreeMap<Pattern, f64>,
}

impl Row {
    /// The fastest sample: whatever else the host does makes a sample slower, never faster.
    fn best(&self, pattern: Pattern) -> Option<f64> {
        self.times.get(&pattern)?.iter().copied().reduce(f64::min)
    }

    fn median(&self, pattern: Pattern) -> Option<f64> {
        Spread::of(self.times.get(&pattern)?).map(|times| times.median)
    }

    /// The row that shows what the loops cost without a queue takes no part in the comparison.
    fn competes(&self) -> bool {
        !self.name.starts_with('(')
    }
}

/// Runs the command.
pub fn queue_bench(args: &QueueBenchArgs) -> Result<()> {
    report::check_writable(args.json.as_deref())?;
    if args.insns && !setup::present(setup::VALGRIND) {
        return failed("valgrind is missing; install it (Debian's package: valgrind), or leave out --insns");
    }
    let program = build::executables(build::cargo().args([
        "build",
        "--profile",
        "bench",
        "-p",
        PACKAGE,
        "--bin",
        INSNS,
    ]))?
    .remove(INSNS)
    .ok_or_else(|| Error::Failed(format!("the build gave no program `{INSNS}`")))?;
    let mut rows = contestants(&program)?;
    let rounds = if args.quick { 1 } else { 3 };
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}: times");
        time(&mut rows, args.quick)?;
    }
    if args.insns {
        eprintln!("instructions");
        count(&mut rows, &program)?;
    }
    table::print(&rows);
    if let Some(file) = &args.json {
        report::write_json(file, table::to_json(&rows))?;
    }
    verdict(&rows, args.quick)
}

/// A row for each queue, in the order of the table.
fn contestants(program: &Path) -> Result<Vec<Row>> {
    let list = output(Command::new(program).arg("list"))?.0;
    let rows: Vec<Row> = list.lines().map(|name| Row { name: name.to_owned(), ..Row::default() }).collect();
    if rows.iter().any(Row::competes) { Ok(rows) } else { failed("there are no queues to compare") }
}

/// One round of Criterion, whose samples are added to the rows.
fn time(rows: &mut [Row], quick: bool) -> Result<()> {
    let results = TempDir::new().context("a folder for the results")?;
    let seconds = if quick {
        ["--warm-up-time", "0.05", "--measurement-time", "0.2"]
    } else {
        ["--warm-up-time", "0.2", "--measurement-time", "0.6"]
    };
    output(
        build::cargo()
            .args([
                "bench",
                "--quiet",
                "-p",
                PACKAGE,
                "--bench",
                "queues",
                "--",
                "--noplot",
                "--sample-size",
                "20",
            ])
            .args(seconds)
            .env("CRITERION_HOME", results.path()),
    )?;
    for pattern in Pattern::TIMED {
        collect(rows, pattern, &results.path().join(pattern.name()))?;
    }
    match rows.iter().find(|row| row.competes() && row.times.len() != Pattern::TIMED.len()) {
        Some(row) => failed(format!("Criterion left no times of {}", row.name)),
        None => Ok(()),
    }
}

/// Reads the samples of one group: a folder for each queue.
fn collect(rows: &mut [Row], pattern: Pattern, group: &Path) -> Result<()> {
    for entry in fs::read_dir(group).context(group.display())? {
        let folder = entry.context(group.display())?.path().join("new");
        let read = |file: &str| -> Result<Value> {
            let file = folder.join(file);
            let text = fs::read_to_string(&file).context(file.display())?;
            serde_json::from_str(&text).context(file.display())
        };
        let (benchmark, sample) = (read("benchmark.json")?, read("sample.json")?);
        let Some(row) = rows.iter_mut().find(|row| benchmark["function_id"] == row.name) else {
            return failed(format!("Criterion timed {}, which is not in the list", benchmark["function_id"]));
        };
        row.times.entry(pattern).or_default().extend(samples(&benchmark, &sample)?);
    }
    Ok(())
}

/// Nanoseconds for each repetition, by Criterion's two files.
fn samples(benchmark: &Value, sample: &Value) -> Result<Vec<f64>> {
    let numbers = |name: &str| -> Vec<f64> {
        sample[name].as_array().into_iter().flatten().filter_map(Value::as_f64).collect()
    };
    let (times, counts) = (numbers("times"), numbers("iters"));
    let unit = benchmark["throughput"]["Elements"].as_f64().unwrap_or(0.0);
    if times.is_empty()
        || times.len() != counts.len()
        || unit <= 0.0
        || counts.iter().any(|count| *count <= 0.0)
    {
        return failed(format!("Criterion's samples of {} make no sense", benchmark["full_id"]));
    }
    Ok(times.iter().zip(counts).map(|(time, count)| time / count / unit).collect())
}

/// Counts the instructions of each pattern, as the difference of two runs.
fn count(rows: &mut [Row], program: &Path) -> Result<()> {
    for row in rows {
        for pattern in Pattern::COUNTED {
            if !row.competes() && pattern == Pattern::Empty {
                continue; // there is nothing that could be empty
            }
            let run = |count: u64| -> Result<u64> {
                let mut command = setup::command(setup::VALGRIND);
                command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(program);
                let messages = output(command.args([&row.name, pattern.name(), &count.to_string()]))?.1;
                collected(&messages)
                    .ok_or_else(|| Error::Failed(format!("callgrind counted nothing:\n{messages}")))
            };
            let instructions = run(MANY)?.saturating_sub(run(FEW)?);
            row.instructions.insert(pattern, instructions as f64 / (MANY - FEW) as f64);
        }
    }
    Ok(())
}

/// The number in callgrind's line "Collected : N".
fn collected(messages: &str) -> Option<u64> {
    let (_, after) = messages.split_once("Collected : ")?;
    after.split_whitespace().next()?.parse().ok()
}

/// What a program wrote to its two outputs; what it complained about, if it failed.
fn output(command: &mut Command) -> Result<(String, String)> {
    let output = command.output().context(format!("cannot start {}", command.get_program().display()))?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    match output.status.code() {
        Some(0) => Ok((out.into_owned(), err.into_owned())),
        Some(130) => Err(Error::Interrupted),
        _ => failed(format!("{command:?} failed ({}):\n{out}{err}", output.status)),
    }
}

/// The pair of push and pop of the ring, as a multiple of the fastest other queue's.
fn ring_to_fastest(rows: &[Row]) -> Option<(f64, &Row)> {
    let ring = rows.iter().find(|row| row.name == "shmqueue ring")?;
    let others = rows.iter().filter(|row| row.competes() && !row.name.starts_with("shmqueue"));
    let (time, fastest) = others
        .filter_map(|row| Some((row.best(Pattern::Pair)?, row)))
        .min_by(|(one, _), (other, _)| one.total_cmp(other))?;
    Some((ring.best(Pattern::Pair)? / time, fastest))
}

/// Says whether the ring keeps its promise; a quick run is too short to fail for it.
fn verdict(rows: &[Row], quick: bool) -> Result<()> {
    let Some((ratio, fastest)) = ring_to_fastest(rows) else { return failed("the ring was not timed") };
    let fastest = &fastest.name;
    println!(
        "\nThe ring's pair takes {ratio:.2} of the time of the fastest other queue ({fastest}); the limit is {LIMIT:.2}."
    );
    if ratio <= LIMIT || quick {
        Ok(())
    } else {
        failed(format!("the ring's pair is slower than {fastest}'s: {ratio:.2} of its time"))
    }
}

#[cfg(test)]
mod tests;
