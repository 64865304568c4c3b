//! `cargo xtask chaos`: what Oriel survives, tried. Each part breaks something on purpose and looks whether the rest goes on.
//!
//! | part | what it does |
//! | --- | --- |
//! | [`load`] | receive livelock, churn, SYN flood, slow peers, exhaustion, soak |
//! | [`wire`] | odd TCP segments, with Linux's answers beside Oriel's |
//!
//! The short form of all parts is a step of `cargo xtask test`; docs/what-oriel-survives.md lists each fault with the part that shows it.

mod load;
mod wire;

use std::path::Path;
use std::time::Instant;

use crate::cli::ChaosArgs;
use crate::error::{Error, Result, failed};
use crate::machine::{Board, Nic};
use crate::network::Net;
use crate::session::Session;
use crate::vm::Vm;

/// What a part works with.
pub struct Stage<'a> {
    /// Images, link, temporary folder.
    pub session: &'a Session,
    /// The short form.
    pub short: bool,
    /// Only what is called so, inside of the part.
    pub case: Option<&'a str>,
    /// Where curves are drawn.
    pub svg: Option<&'a Path>,
    /// How long the soak takes.
    pub minutes: Option<u64>,
}

/// A part of the campaign.
struct Part {
    name: &'static str,
    about: &'static str,
    run: fn(&Stage<'_>) -> Result<()>,
}

const PARTS: &[Part] = &[
    Part { name: "wire", about: "odd TCP segments, beside Linux's answers", run: odd_segments },
    Part {
        name: "livelock",
        about: "short frames at rising rates, beside requests",
        run: load::livelock::run,
    },
    Part { name: "churn", about: "a thousand connections, opened and closed", run: load::churn::run },
    Part { name: "flood", about: "SYNs from nowhere, with the backlog full", run: load::flood::run },
    Part { name: "slow", about: "slow readers and writers beside a fast transfer", run: load::slow::run },
    Part { name: "exhaustion", about: "all of one kind of thing, taken", run: load::exhaustion::run },
    Part { name: "soak", about: "all sorts of traffic at once, for minutes", run: load::soak::run },
];

/// Runs the command.
pub fn chaos(args: &ChaosArgs) -> Result<()> {
    if args.list {
        PARTS.iter().for_each(|part| println!("{:<12} {}", part.name, part.about));
        return Ok(());
    }
    let chosen = |part: &&Part| args.only.is_empty() || args.only.iter().any(|name| name == part.name);
    if let Some(unknown) = args.only.iter().find(|name| PARTS.iter().all(|part| part.name != **name)) {
        return Err(Error::Usage(format!("no part is called `{unknown}`; --list shows all")));
    }
    let session = Session::open(Some(Net::Tap), &[], None, &[])?;
    let stage = Stage {
        session: &session,
        short: args.short,
        case: args.case.as_deref(),
        svg: args.svg.as_deref(),
        minutes: args.minutes,
    };
    let mut failures = Vec::new();
    for part in PARTS.iter().filter(chosen) {
        println!("== {}: {}", part.name, part.about);
        let start = Instant::now();
        let result = (part.run)(&stage);
        let seconds = start.elapsed().as_secs();
        match result {
            Ok(()) => println!("== {}: ok ({seconds} s)\n", part.name),
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(error) => {
                println!("== {}: FAILED ({seconds} s): {}\n", part.name, error.message());
                failures.push(part.name);
            }
        }
    }
    if failures.is_empty() { Ok(()) } else { failed(format!("failed: {}", failures.join(", "))) }
}

impl Stage<'_> {
    /// The most common machine, up.
    pub fn boot(&self) -> Result<Vm> {
        Vm::boot(&self.session.plain_machine(Nic::E1000, Board::Pc)?)
    }
}

fn odd_segments(stage: &Stage<'_>) -> Result<()> {
    let mut vm = stage.boot()?;
    wire::compare(&mut vm, stage.session.link.guest_address(), stage.case, stage.short)?;
    vm.power_off()
}
