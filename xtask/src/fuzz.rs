//! `cargo xtask fuzz`: runs the targets of `fuzz/` under libFuzzer, each for its share of the time, from the seeds in `fuzz/corpus/`.
//!
//! cargo-fuzz builds them: with coverage, with debug assertions, without a sanitizer (so that the stable compiler will do), and with the
//! hook of `shmqueue::sync`, by which each load of a shared word may return anything. A crash, an input that takes longer than
//! [`HANG_SECONDS`], or memory that grows beyond [`MEMORY_MIB`], is a failure, and its input is kept in `target/fuzz/artifacts/`. What is
//! found on the way is kept in `target/fuzz/corpus/`, for the next run; `--merge` puts a smallest set of it that covers as much into the
//! repository's seeds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::build;
use crate::cli::FuzzArgs;
use crate::error::{Context as _, Error, Result, failed};
use crate::{setup, sys};

/// An input that takes longer hangs.
const HANG_SECONDS: u32 = 10;
/// A target that holds more memory leaks.
const MEMORY_MIB: u32 = 1024;
/// Inputs are no longer than this: long enough for some hundred operations.
const INPUT_BYTES: u32 = 2048;
/// Larger seeds are not for the repository.
const SEEDS_MAX: usize = 60;

/// What a run of libFuzzer says at its end.
#[derive(Debug, Default, PartialEq, Eq)]
struct Summary {
    executions: u64,
    coverage: u64,
    features: u64,
    corpus: u64,
    memory_mib: u64,
}

/// Runs the command.
pub fn fuzz(args: &FuzzArgs) -> Result<()> {
    setup::ensure(&[setup::CC, setup::CXX])?;
    setup::ensure_cargo_fuzz()?;
    let all = targets()?;
    let wanted: Vec<String> = match &args.target {
        None => all,
        Some(named) => named
            .split(',')
            .map(|name| match all.iter().any(|known| known == name) {
                true => Ok(name.to_owned()),
                false => Err(Error::Usage(format!("no target `{name}`; there are {}", all.join(", ")))),
            })
            .collect::<Result<_>>()?,
    };
    if args.list {
        wanted.iter().for_each(|name| println!("{name}"));
        return Ok(());
    }
    let programs = build_all()?;
    let share = (args.seconds / wanted.len() as u64).max(1);
    println!("{} targets, {share} s each", wanted.len());
    let width = wanted.iter().map(String::len).max().unwrap_or_default();
    let mut wrong = Vec::new();
    for name in &wanted {
        let start = Instant::now();
        match run(&programs, name, share)? {
            Ok(summary) => println!(
                "{name:width$}  {:4.0} s  {:>10} executions  {:>5} edges  {:>6} features  {:>5} inputs  {:>4} MiB  no crash",
                start.elapsed().as_secs_f64(),
                summary.executions,
                summary.coverage,
                summary.features,
                summary.corpus,
                summary.memory_mib,
            ),
            Err(report) => {
                println!("{name:width$}  {:4.0} s  FAILED\n{report}", start.elapsed().as_secs_f64());
                wrong.push(name.as_str());
            }
        }
        if args.merge && wrong.last() != Some(&name.as_str()) {
            merge(&programs, name)?;
        }
    }
    if wrong.is_empty() { Ok(()) } else { failed(format!("fuzz targets: {}", wrong.join(", "))) }
}

fn folder() -> PathBuf {
    build::root().join("target").join("fuzz")
}

/// The seeds that the repository holds for a target.
fn seeds(name: &str) -> PathBuf {
    build::root().join("fuzz/corpus").join(name)
}

/// The targets, as the manifest names them.
fn targets() -> Result<Vec<String>> {
    let output = build::cargo()
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .output()
        .context("cannot start cargo")?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let fuzz = packages.filter(|package| package["name"] == "fuzz");
    let programs = fuzz.flat_map(|package| package["targets"].as_array().into_iter().flatten());
    let mut names: Vec<String> = programs
        .filter(|target| target["kind"][0] == "bin")
        .filter_map(|target| target["name"].as_str().map(str::to_owned))
        .collect();
    names.sort();
    Ok(names)
}

/// Builds all targets; the folder of their programs.
fn build_all() -> Result<PathBuf> {
    let mut cargo = build::cargo();
    cargo.args(["fuzz", "build", "--fuzz-dir", "fuzz", "--sanitizer", "none", "--features", "libfuzzer"]);
    cargo.args(["--no-cfg-fuzzing", "--debug-assertions", "--target-dir"]).arg(folder());
    cargo.env("RUSTFLAGS", "--cfg shmqueue_inject");
    let status = cargo.status().context("cannot start cargo")?;
    if !status.success() {
        return failed("the fuzz targets do not build; see above");
    }
    // cargo-fuzz always names the target, so it is a folder below its own.
    for entry in fs::read_dir(folder()).context(folder().display())? {
        let release = entry.context(folder().display())?.path().join("release");
        if release.join("in_queue").exists() {
            return Ok(release);
        }
    }
    failed("cargo-fuzz has left no programs where it says")
}

/// One target; its summary, or what libFuzzer says went wrong.
fn run(programs: &Path, name: &str, seconds: u64) -> Result<Result<Summary, String>> {
    let (found, artifacts) = (folder().join("corpus").join(name), folder().join("artifacts").join(name));
    for needed in [&found, &artifacts, &seeds(name)] {
        fs::create_dir_all(needed).context(needed.display())?;
    }
    let output = Command::new(programs.join(name))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={HANG_SECONDS}"))
        .arg(format!("-rss_limit_mb={MEMORY_MIB}"))
        .arg(format!("-max_len={INPUT_BYTES}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .args(["-print_final_stats=1", "-use_value_profile=1"])
        .args([&found, &seeds(name)])
        .current_dir(folder())
        .stdin(Stdio::null())
        .output()
        .context(name)?;
    if sys::interrupted() {
        return Err(Error::Interrupted);
    }
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let from = text.find("panicked at").or_else(|| text.find("==")).unwrap_or_default();
        let from = text[..from].rfind('\n').map_or(from, |newline| newline + 1);
        return Ok(Err(text[from..].trim_end().to_owned()));
    }
    let summary = summary(&text);
    if summary.executions == 0 {
        return Ok(Err(format!("nothing was executed: {}", text.trim_end())));
    }
    Ok(Ok(summary))
}

/// Makes the repository's seeds a smallest set that covers what all known inputs cover.
fn merge(programs: &Path, name: &str) -> Result<()> {
    let work = temp_dir::TempDir::new().context("a temporary folder")?;
    let status = Command::new(programs.join(name))
        .args(["-set_cover_merge=1", &format!("-max_len={INPUT_BYTES}")])
        .arg(work.path())
        .args([&seeds(name), &folder().join("corpus").join(name)])
        .current_dir(folder())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .context(name)?;
    if !status.success() {
        return failed(format!("{name}: the inputs cannot be merged"));
    }
    let mut kept = Vec::new();
    for entry in fs::read_dir(work.path()).context(name)? {
        let path = entry.context(name)?.path();
        kept.push((fs::metadata(&path).context(name)?.len(), path));
    }
    kept.sort();
    fs::remove_dir_all(seeds(name)).context(name)?;
    fs::create_dir_all(seeds(name)).context(name)?;
    // The smallest first: the largest are what a few seconds find again.
    for (_, path) in kept.iter().take(SEEDS_MAX) {
        let to = seeds(name).join(path.file_name().unwrap_or_default());
        fs::copy(path, to).context(name)?;
    }
    println!("{name}: {} seeds", kept.len().min(SEEDS_MAX));
    Ok(())
}

/// Reads the last line of progress and the statistics.
fn summary(text: &str) -> Summary {
    let statistic = |name: &str| {
        let from = text.rfind(&format!("stat::{name}:"))?;
        text[from..].split_whitespace().nth(1)?.parse().ok()
    };
    let progress = |name: &str| {
        let line = text.lines().rfind(|line| line.starts_with('#') && line.contains(" cov: "))?;
        let mut words = line.split_whitespace().skip_while(|word| *word != name);
        words.nth(1)?.split('/').next()?.parse().ok()
    };
    Summary {
        executions: statistic("number_of_executed_units").unwrap_or_default(),
        memory_mib: statistic("peak_rss_mb").unwrap_or_default(),
        coverage: progress("cov:").unwrap_or_default(),
        features: progress("ft:").unwrap_or_default(),
        corpus: progress("corp:").unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_is_read_from_what_libfuzzer_says() {
        let text = "INFO: seed corpus: files: 3\n\
            #4\tINITED cov: 12 ft: 14 corp: 2/9b exec/s: 0 rss: 31Mb\n\
            #90211\tDONE   cov: 345 ft: 1200 corp: 67/890b lim: 48 exec/s: 45105 rss: 60Mb\n\
            Done 90211 runs in 2 second(s)\n\
            stat::number_of_executed_units: 90211\nstat::peak_rss_mb:              60\n";
        let expected =
            Summary { executions: 90211, coverage: 345, features: 1200, corpus: 67, memory_mib: 60 };
        assert_eq!(summary(text), expected);
        assert_eq!(summary("killed"), Summary::default());
    }

    #[test]
    fn every_target_has_seeds() {
        let targets = targets().unwrap();
        assert!(targets.len() >= 11, "{targets:?}");
        for name in targets {
            let seeds = fs::read_dir(seeds(&name)).unwrap().count();
            assert!((1..=SEEDS_MAX + 20).contains(&seeds), "{name}: {seeds} seeds");
        }
    }
}
