//! The mutations as they are written in `loom-tests/mutations/*.txt`, and how one is put into the source.
//!
//! ```text
//! == name
//! why: one line, where the mutation is not the specification's own word for word
//! file: shmqueue/src/mutex.rs
//! check: loom mutex
//! check: inject queues
//! <<<<
//! exact text of the source
//! ====
//! what stands there instead
//! >>>>
//! ```
//! There may be several changes, each with a `file` line if it is another one. Each `check` is tried in turn until one fails. Text outside of a mutation is comment.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Context as _, Result, failed};

/// Where a check runs, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A test of `loom-tests` under loom.
    Loom,
    /// A test of `loom-tests` with the hook in `shmqueue::sync`.
    Inject,
    /// The tests of a crate on the host.
    Host,
}

/// A test that should see a mutation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Check {
    /// Which tool.
    pub kind: Kind,
    /// A test file of `loom-tests`, or a crate.
    pub target: String,
}

impl Check {
    fn parse(words: &str) -> Option<Self> {
        let (kind, target) = words.split_once(' ')?;
        let kind = match kind {
            "loom" => Kind::Loom,
            "inject" => Kind::Inject,
            "host" => Kind::Host,
            _ => return None,
        };
        (!target.contains(' ') && !target.is_empty()).then(|| Self { kind, target: target.to_owned() })
    }

    /// As it is written.
    pub fn name(&self) -> String {
        let kind = match self.kind {
            Kind::Loom => "loom",
            Kind::Inject => "inject",
            Kind::Host => "host",
        };
        format!("{kind} {}", self.target)
    }
}

/// One mutation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutation {
    /// `part: what is broken`.
    pub name: String,
    /// The tests that should see it.
    pub checks: Vec<Check>,
    changes: Vec<Change>,
}

/// One place that is changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Change {
    file: String,
    old: String,
    new: String,
}

impl Change {
    /// The source with the change, which must apply in exactly one place.
    fn apply(&self, source: &str, name: &str) -> Result<String> {
        match source.matches(&self.old).count() {
            1 => Ok(source.replacen(&self.old, &self.new, 1)),
            0 => failed(format!("`{name}` does not apply: {} has changed", self.file)),
            n => failed(format!("`{name}` does not apply: its text is in {} {n} times", self.file)),
        }
    }
}

impl Mutation {
    /// The files that it changes below `root`, and their text with the mutation.
    pub fn apply(&self, root: &Path) -> Result<BTreeMap<PathBuf, String>> {
        let mut files = BTreeMap::new();
        for change in &self.changes {
            let path = root.join(&change.file);
            let source = match files.remove(&path) {
                Some(source) => source,
                None => fs::read_to_string(&path).context(path.display())?,
            };
            files.insert(path, change.apply(&source, &self.name)?);
        }
        Ok(files)
    }
}

/// All mutations of the repository at `root`, in the order of the files' names.
pub fn read(root: &Path) -> Result<Vec<Mutation>> {
    let folder = root.join("loom-tests/mutations");
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder).context(folder.display())? {
        let path = entry.context(folder.display())?.path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            files.push(path);
        }
    }
    files.sort();
    let mut all: Vec<Mutation> = Vec::new();
    for path in files {
        let text = fs::read_to_string(&path).context(path.display())?;
        all.extend(
            parse(&text)
                .map_err(|what| crate::error::Error::Failed(format!("{}: {what}", path.display())))?,
        );
    }
    let mut names: Vec<_> = all.iter().map(|mutation| &mutation.name).collect();
    names.sort();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return failed(format!("two mutations are called `{}`", twice[0]));
    }
    Ok(all)
}

/// The part of a mutation that a line belongs to.
enum Part {
    Head,
    Old,
    New,
}

fn parse(text: &str) -> Result<Vec<Mutation>, String> {
    let mut all: Vec<Mutation> = Vec::new();
    let (mut part, mut change) = (Part::Head, Change::default());
    for (number, line) in (1..).zip(text.lines()) {
        let wrong = |what: &str| Err(format!("line {number}: {what}"));
        if let (Part::Head, Some(name)) = (&part, line.strip_prefix("== ")) {
            all.push(Mutation { name: name.trim().to_owned(), checks: Vec::new(), changes: Vec::new() });
            change = Change::default();
            continue;
        }
        let Some(mutation) = all.last_mut() else { continue };
        match (&part, line) {
            (Part::Head, "<<<<") => part = Part::Old,
            (Part::Old, "====") => part = Part::New,
            (Part::New, ">>>>") => {
                if change.file.is_empty() || mutation.checks.is_empty() || change.old.is_empty() {
                    return wrong("the mutation has no file, no check or no text");
                }
                let next = Change { file: change.file.clone(), ..Change::default() };
                mutation.changes.push(std::mem::replace(&mut change, next));
                part = Part::Head;
            }
            (Part::Head, _) => {
                if let Some(file) = line.strip_prefix("file: ") {
                    file.trim().clone_into(&mut change.file);
                } else if let Some(check) = line.strip_prefix("check: ") {
                    let Some(check) = Check::parse(check.trim()) else { return wrong("no such check") };
                    mutation.checks.push(check);
                }
            }
            (Part::Old, _) => change.old += &format!("{line}\n"),
            (Part::New, _) => change.new += &format!("{line}\n"),
        }
    }
    if !matches!(part, Part::Head) {
        return Err("the last mutation does not end".into());
    }
    match all.iter().find(|mutation| mutation.changes.is_empty()) {
        Some(empty) => Err(format!("`{}` changes nothing", empty.name)),
        None => Ok(all),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "words\n== a: b\nwhy: so\nfile: f.rs\ncheck: loom x\ncheck: host mbuf\n<<<<\none\n====\n>>>>\n";

    #[test]
    fn a_mutation_is_read_and_applied_once() {
        let all = parse(TEXT).unwrap();
        assert_eq!(
            (all.len(), all[0].name.as_str(), all[0].checks[1].name().as_str()),
            (1, "a: b", "host mbuf")
        );
        let apply = |source| all[0].changes[0].apply(source, "a: b");
        assert_eq!(apply("zero\none\ntwo\n").unwrap(), "zero\ntwo\n");
        assert!(apply("one\none\n").unwrap_err().message().contains("2 times"));
        assert!(apply("two\n").unwrap_err().message().contains("has changed"));
    }

    #[test]
    fn nonsense_is_refused() {
        for (from, to) in [("loom x", "guess x"), (">>>>\n", ""), ("file: f.rs\n", ""), ("one\n", "")] {
            assert!(parse(&TEXT.replace(from, to)).is_err(), "{from}");
        }
    }

    /// Cheap, so that it is noticed at once when the source moves away from under a mutation.
    #[test]
    fn every_mutation_applies_to_the_source_as_it_is() {
        let root = crate::build::root();
        let all = read(root).unwrap();
        assert!(all.len() > 60, "{} mutations", all.len());
        for mutation in all {
            for (path, mutated) in mutation.apply(root).unwrap() {
                assert_ne!(mutated, fs::read_to_string(path).unwrap(), "{}", mutation.name);
            }
        }
    }
}
