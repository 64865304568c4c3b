//! `cargo xtask spin`: explores the SPIN models beside `shmqueue` and `mbuf`, which cover what loom cannot: streams without an end,
//! indices that wrap around, and the store buffers of x86, spelled out.
//!
//! Each model of `shmqueue/spin/` and `mbuf/spin/` runs with sequential consistency and with store buffers (`-DTSO`), and must have no
//! error. Each variant that the model names in a line `// broken: NAME` (`-DBROKEN_NAME`, with store buffers) must have one:
//! a model that accepts anything proves nothing.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Instant;

use crate::build;
use crate::cli::SpinArgs;
use crate::error::{Context as _, Error, Result, failed};
use crate::setup;

/// Where the models are.
const FOLDERS: [&str; 2] = ["shmqueue/spin", "mbuf/spin"];

/// One exploration.
struct Case {
    name: String,
    model: PathBuf,
    defines: Vec<String>,
    correct: bool,
}

/// Runs the command.
pub fn spin(args: &SpinArgs) -> Result<()> {
    setup::ensure(&[setup::SPIN, setup::CC])?;
    let wanted =
        |name: &str| args.only.as_deref().is_none_or(|only| only.split(',').any(|part| name.contains(part)));
    let cases: Vec<Case> = cases()?.into_iter().filter(|case| wanted(&case.name)).collect();
    if cases.is_empty() {
        return Err(Error::Usage("no model has such a name".into()));
    }
    let width = cases.iter().map(|case| case.name.len()).max().unwrap_or_default();
    let mut wrong = Vec::new();
    for case in &cases {
        let start = Instant::now();
        let (states, errors) = explore(case)?;
        let verdict = match (case.correct, errors) {
            (true, 0) => "no error",
            (true, _) => "WRONG: an error was found",
            (false, 0) => "WRONG: the error was not found",
            (false, _) => "error found, as it has to be",
        };
        println!(
            "{:width$}  {:5.1} s  {states:>10} states  {verdict}",
            case.name,
            start.elapsed().as_secs_f64()
        );
        if case.correct != (errors == 0) {
            wrong.push(case.name.as_str());
        }
    }
    if wrong.is_empty() { Ok(()) } else { failed(format!("SPIN models: {}", wrong.join(", "))) }
}

/// The files of all models.
fn models() -> Result<Vec<PathBuf>> {
    let mut models = Vec::new();
    for folder in FOLDERS.map(|folder| build::root().join(folder)) {
        for entry in fs::read_dir(&folder).context(folder.display())? {
            let path = entry.context(folder.display())?.path();
            if path.extension().is_some_and(|extension| extension == "pml") {
                models.push(path);
            }
        }
    }
    models.sort();
    Ok(models)
}

/// Each model twice, and each of its variants.
fn cases() -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for model in models()? {
        let text = fs::read_to_string(&model).context(model.display())?;
        let short = model.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let case = |what: &str, defines: &[&str], correct| Case {
            name: format!("{short} {what}"),
            model: model.clone(),
            defines: defines.iter().map(|define| format!("-D{define}")).collect(),
            correct,
        };
        cases.push(case("sc", &[], true));
        cases.push(case("tso", &["TSO"], true));
        for variant in broken(&text) {
            cases.push(case(&variant.to_lowercase(), &["TSO", &format!("BROKEN_{variant}")], false));
        }
    }
    Ok(cases)
}

/// The variants that a model names.
fn broken(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("// broken: ")?.split_whitespace().next()).collect()
}

/// Generates, compiles and runs the search; the numbers of states and of errors.
fn explore(case: &Case) -> Result<(u64, u64)> {
    let work = temp_dir::TempDir::new().context("a temporary folder")?;
    let mut generate = setup::command(setup::SPIN);
    generate.args(&case.defines).arg("-a").arg(&case.model);
    succeed(generate.current_dir(work.path()), case)?;
    let mut compile = setup::command(setup::CC);
    compile.args(["-O2", "-w", "-DSAFETY", "-DNOCLAIM", "-DCOLLAPSE", "-DVECTORSZ=2048", "-DMEMLIM=3000"]);
    succeed(compile.args(["-o", "pan", "pan.c"]).current_dir(work.path()), case)?;
    let output = succeed(
        Command::new(work.path().join("pan")).args(["-m2000000", "-n"]).current_dir(work.path()),
        case,
    )?;
    let text = String::from_utf8_lossy(&output.stdout);
    let (Some(states), Some(errors)) =
        (number_before(&text, " states, stored"), number_after(&text, "errors: "))
    else {
        return failed(format!("`{}`: the search says: {text}", case.name));
    };
    // A search that ended early has found nothing only because it did not look.
    if errors == 0
        && ["Search not completed", "max search depth too small", "out of memory"]
            .iter()
            .any(|w| text.contains(w))
    {
        return failed(format!("`{}`: the search is not complete: {text}", case.name));
    }
    Ok((states, errors))
}

fn succeed(command: &mut Command, case: &Case) -> Result<Output> {
    let output = command.output().context(format!("cannot start {:?}", command.get_program()))?;
    if output.status.success() {
        return Ok(output);
    }
    let text = [output.stdout, output.stderr].concat();
    failed(format!("`{}`: {}", case.name, String::from_utf8_lossy(&text).trim()))
}

fn number_before(text: &str, what: &str) -> Option<u64> {
    text[..text.find(what)?].rsplit(char::is_whitespace).next()?.parse().ok()
}

fn number_after(text: &str, what: &str) -> Option<u64> {
    text[text.find(what)? + what.len()..].split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_found() {
        let text = "State-vector 80 byte, depth reached 9, errors: 1\n      123 states, stored\n";
        assert_eq!(
            (number_before(text, " states, stored"), number_after(text, "errors: ")),
            (Some(123), Some(1))
        );
        assert_eq!(number_after("", "errors: "), None);
    }

    #[test]
    fn every_model_names_variants_that_it_has() {
        let lock = fs::read_to_string(build::root().join("shmqueue/spin/lock.h")).unwrap();
        let models = models().unwrap();
        assert!(models.len() >= 7);
        for path in models {
            let text = fs::read_to_string(&path).unwrap();
            let variants = broken(&text);
            assert!(!variants.is_empty(), "{}", path.display());
            for variant in variants {
                let name = format!("BROKEN_{variant}");
                assert!(text.contains(&name) || lock.contains(&name), "{variant}");
            }
        }
    }
}
