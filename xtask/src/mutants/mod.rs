//! `cargo xtask mutants`: breaks the code in every way that the specification of the shared-memory protocols names, and
//! fails if a check does not notice.
//!
//! The mutations are in `loom-tests/mutations/` ([`list`]). Each is put into a copy of the repository, the checks that it
//! names run on the copy, and the first that fails has killed it. Before that, each check has to pass on the copy as it
//! is: a check that always fails would kill everything.

mod list;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::build;
use crate::cli::MutantsArgs;
use crate::error::{Context as _, Error, Result, failed};
use crate::{setup, sys};
use list::{Check, Kind, Mutation};

/// A check that takes so many times as long as it does on the code as it is has met an endless loop.
const TIMES: u32 = 10;
/// At least so long, for checks that take no time.
const AT_LEAST: Duration = Duration::from_secs(60);

/// How one mutation ended.
struct Verdict {
    name: String,
    killed_by: Option<String>,
    seconds: f64,
}

/// Runs the command.
pub fn mutants(args: &MutantsArgs) -> Result<()> {
    setup::ensure(&[setup::CC])?;
    sys::catch_signals();
    let wanted =
        |name: &str| args.only.as_deref().is_none_or(|only| only.split(',').any(|part| name.contains(part)));
    let chosen: Vec<Mutation> = list::read(build::root())?.into_iter().filter(|m| wanted(&m.name)).collect();
    if chosen.is_empty() {
        return Err(Error::Usage("no mutation has such a name".into()));
    }
    for mutation in &chosen {
        mutation.apply(build::root())?;
    }
    if args.list {
        chosen.iter().for_each(|mutation| println!("{}", mutation.name));
        return Ok(());
    }
    let jobs = usize::try_from(args.jobs).unwrap_or(1).min(chosen.len());
    let copies = (0..jobs).map(Copy::new).collect::<Result<Vec<_>>>()?;
    let limits = baseline(&copies[0], &chosen)?;
    let width = chosen.iter().map(|mutation| mutation.name.len()).max().unwrap_or_default();
    let (queue, verdicts) = (Mutex::new(chosen.iter()), Mutex::new(Vec::new()));
    let next = || queue.lock().expect("no panics").next();
    let work = |copy: &Copy| -> Result<()> {
        while let Some(mutation) = next() {
            let verdict = try_one(copy, mutation, &limits)?;
            let by = verdict.killed_by.as_deref().unwrap_or("SURVIVED");
            println!("{:width$}  {:5.1} s  {by}", verdict.name, verdict.seconds);
            verdicts.lock().expect("no panics").push(verdict);
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = copies.iter().map(|copy| scope.spawn(|| work(copy))).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("no panics"))
    })?;
    report(args, &verdicts.into_inner().expect("no panics"))
}

fn report(args: &MutantsArgs, verdicts: &[Verdict]) -> Result<()> {
    let survivors: Vec<_> = verdicts.iter().filter(|verdict| verdict.killed_by.is_none()).collect();
    println!(
        "{} mutations, {} killed, {} survived",
        verdicts.len(),
        verdicts.len() - survivors.len(),
        survivors.len()
    );
    if let Some(path) = &args.json {
        let rows: Vec<_> = verdicts
            .iter()
            .map(|v| json!({ "mutation": v.name, "killed_by": v.killed_by, "seconds": v.seconds }))
            .collect();
        let text = serde_json::to_string_pretty(&rows).context("JSON")?;
        fs::write(path, text + "\n").context(path.display())?;
    }
    if survivors.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = survivors.iter().map(|verdict| verdict.name.as_str()).collect();
    failed(format!("no check sees: {}", names.join("; ")))
}

/// How long each check may take: it passes on the code as it is, and is timed.
fn baseline(copy: &Copy, chosen: &[Mutation]) -> Result<Vec<(Check, Duration)>> {
    let mut checks: Vec<Check> = chosen.iter().flat_map(|mutation| mutation.checks.iter().cloned()).collect();
    checks.sort();
    checks.dedup();
    let mut limits = Vec::new();
    for check in checks {
        let start = Instant::now();
        match copy.run(&check, Duration::from_secs(1200))? {
            Outcome::Passed => {}
            Outcome::DoesNotCompile => {
                return failed(format!("`{}` does not compile as it is", check.name()));
            }
            Outcome::Failed(test) => {
                return failed(format!("`{}` fails on the code as it is: {test}", check.name()));
            }
        }
        // Building is counted too; that only makes the limit longer.
        let limit = (start.elapsed() * TIMES).max(AT_LEAST);
        eprintln!("{} passes as it is ({:.1} s)", check.name(), start.elapsed().as_secs_f64());
        limits.push((check, limit));
    }
    Ok(limits)
}

fn try_one(copy: &Copy, mutation: &Mutation, limits: &[(Check, Duration)]) -> Result<Verdict> {
    let start = Instant::now();
    let mut originals = Vec::new();
    for (path, mutated) in mutation.apply(&copy.source)? {
        originals.push((path.clone(), fs::read_to_string(&path).context(path.display())?));
        fs::write(&path, mutated).context(path.display())?;
    }
    let mut killed_by = None;
    for check in &mutation.checks {
        let limit = limits.iter().find(|(known, _)| known == check).map_or(AT_LEAST, |(_, limit)| *limit);
        match copy.run(check, limit) {
            Ok(Outcome::Passed) => {}
            Ok(Outcome::Failed(test)) => {
                killed_by = Some(format!("{}: {test}", check.name()));
                break;
            }
            Ok(Outcome::DoesNotCompile) => {
                return failed(format!("`{}` does not compile: it proves nothing", mutation.name));
            }
            Err(error) => return Err(error),
        }
    }
    for (path, original) in originals {
        fs::write(&path, original).context(path.display())?;
    }
    Ok(Verdict { name: mutation.name.clone(), killed_by, seconds: start.elapsed().as_secs_f64() })
}

/// How a check ended.
enum Outcome {
    Passed,
    /// The first test that failed, or what else went wrong.
    Failed(String),
    DoesNotCompile,
}

/// A copy of the repository, with build folders of its own that outlive the run.
struct Copy {
    source: PathBuf,
    target: PathBuf,
}

impl Copy {
    fn new(number: usize) -> Result<Self> {
        let base = build::root().join("target/mutants").join(number.to_string());
        let copy = Self { source: base.join("source"), target: base.join("target") };
        // What an interrupted run has left may be mutated.
        let _ = fs::remove_dir_all(&copy.source);
        copy_folder(build::root(), &copy.source)?;
        Ok(copy)
    }

    fn run(&self, check: &Check, limit: Duration) -> Result<Outcome> {
        let (flags, folder) = match check.kind {
            Kind::Loom => ("--cfg loom", "loom"),
            Kind::Inject => ("--cfg shmqueue_inject", "inject"),
            Kind::Host => ("", "host"),
        };
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["test", "--quiet"]);
        match check.kind {
            Kind::Loom | Kind::Inject => {
                cargo.args(["--release", "-p", "loom-tests", "--test", &check.target]);
            }
            Kind::Host => drop(cargo.args(["-p", &check.target, "--lib", "--tests"])),
        }
        // A mutation leaves things unused.
        cargo.env("RUSTFLAGS", format!("{flags} --cap-lints allow"));
        cargo.env("CARGO_TARGET_DIR", self.target.join(folder));
        cargo.env("RUST_BACKTRACE", "0").env_remove("LOOM_MAX_PREEMPTIONS");
        cargo.current_dir(&self.source).stdin(Stdio::null());
        let log = self.target.join("log");
        fs::create_dir_all(&self.target).context(self.target.display())?;

        let mut building = again(&cargo);
        building.arg("--no-run").stdout(Stdio::null()).stderr(Stdio::null());
        let status = building.status().context("cannot start cargo")?;
        if sys::interrupted() {
            return Err(Error::Interrupted);
        }
        if !status.success() {
            return Ok(Outcome::DoesNotCompile);
        }
        let output = fs::File::create(&log).context(log.display())?;
        cargo.args(["--", "--test-threads=1"]).stderr(output.try_clone().context("log")?).stdout(output);
        let mut child = group(&mut cargo).spawn().context("cannot start cargo")?;
        let status = wait(&mut child, limit)?;
        let text = fs::read(&log).context(log.display())?;
        Ok(match status {
            Some(true) => Outcome::Passed,
            Some(false) => Outcome::Failed(first_failure(&String::from_utf8_lossy(&text))),
            None => Outcome::Failed("it does not end".into()),
        })
    }
}

/// A command of the same program, arguments, environment and folder.
fn again(command: &Command) -> Command {
    let mut other = Command::new(command.get_program());
    other.args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => other.env(key, value),
            None => other.env_remove(key),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        other.current_dir(folder);
    }
    other
}

/// The child leads a process group, so that all it starts can be ended with it.
fn group(command: &mut Command) -> &mut Command {
    use std::os::unix::process::CommandExt as _;
    command.process_group(0)
}

/// Whether it succeeded; `None` if it had to be ended.
fn wait(child: &mut Child, limit: Duration) -> Result<Option<bool>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().context("waiting for cargo")? {
            return Ok(Some(status.success()));
        }
        if start.elapsed() > limit || sys::interrupted() {
            sys::kill_group(child);
            child.wait().context("waiting for cargo")?;
            return if sys::interrupted() { Err(Error::Interrupted) } else { Ok(None) };
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// The name of the first test that failed, from what the test harness printed.
fn first_failure(output: &str) -> String {
    let names = output.lines().filter_map(|line| {
        let name = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----"));
        name.or_else(|| line.strip_prefix("thread '")?.split('\'').next())
    });
    names.into_iter().find(|name| *name != "main").unwrap_or("aborted").to_owned()
}

/// Copies all but what is built and git's own.
fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).context(to.display())?;
    for entry in fs::read_dir(from).context(from.display())? {
        let entry = entry.context(from.display())?;
        let (name, kind) = (entry.file_name(), entry.file_type().context(from.display())?);
        if name == "target" || name == ".git" {
            continue;
        }
        if kind.is_dir() {
            copy_folder(&entry.path(), &to.join(name))?;
        } else if kind.is_file() {
            fs::copy(entry.path(), to.join(name)).context(entry.path().display())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_is_named() {
        let output = "running 2 tests\n\nthread 'two_wake' (77) panicked at x\n---- two_wake stdout ----\n";
        assert_eq!(first_failure(output), "two_wake");
        assert_eq!(first_failure("signal: 11"), "aborted");
    }
}
