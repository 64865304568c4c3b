//! Runs one pattern with one queue, for a tool that counts instructions: `insns CONTESTANT PATTERN COUNT`.
//!
//! `insns list` prints the contestants. The instructions of one repetition are the difference of two runs, divided by the
//! difference of their counts: what comes before and after the loop is in both.

use std::process::ExitCode;

use queue_bench::contestants::{self, Contestant, LoopAlone, Visitor};
use queue_bench::one_thread::Pattern;

struct List;

impl Visitor for List {
    fn visit<C: Contestant>(&mut self) {
        println!("{}", C::NAME);
    }
}

struct Run<'a> {
    name: &'a str,
    pattern: Pattern,
    count: u64,
    done: bool,
}

impl Visitor for Run<'_> {
    fn visit<C: Contestant>(&mut self) {
        if C::NAME == self.name {
            self.pattern.run::<C>(self.count);
            self.done = true;
        }
    }
}

fn run(name: &str, pattern: &str, count: &str) -> Result<(), String> {
    let pattern =
        Pattern::ALL.into_iter().find(|known| known.name() == pattern).ok_or("no such pattern".to_owned())?;
    let count = count.parse().map_err(|error| format!("{count}: {error}"))?;
    let mut run = Run { name, pattern, count, done: false };
    contestants::each(&mut run);
    // The loop alone gives an item each time.
    if pattern != Pattern::Empty {
        run.visit::<LoopAlone>();
    }
    if run.done { Ok(()) } else { Err(format!("no contestant `{name}` for this pattern")) }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["list"] => {
            println!("{}", LoopAlone::NAME);
            contestants::each(&mut List);
            Ok(())
        }
        [name, pattern, count] => run(name, pattern, count),
        _ => Err("usage: insns list | insns CONTESTANT PATTERN COUNT".to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(2)
        }
    }
}
