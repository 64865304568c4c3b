//! crash: ends a protocol server or its supervisor, or makes the server misbehave, where the kernel's command line says `chaos=1`.
#![no_std]
#![no_main]

use core::time::Duration;

use abi::supervise::{EXIT, FAULT, HANG, KILL, NAME, STALL, Victim};
use apps::{
    During, Failed, Usage,
    options::{Options, Word},
};
use userlib::{
    Error,
    entry::{Args, ExitStatus},
    message::{Outgoing, ask},
    name, thread,
};

userlib::entry!(main);

const USAGE: &str =
    "[-h | -f | -e | -b LIVES] [-n TIMES] [-i MILLISECONDS] [-s SEED] server [NUMBER] | supervisor
    -h  hang, -f  fault, -e  exit, instead of being ended
    -b  ended; so many of its successors hang at their start
    -n  so often, at random moments -i milliseconds apart on average";
const LIMIT: Duration = Duration::from_secs(10);

struct Plan {
    how: u32,
    victim: Victim,
    number: u32,
    times: u64,
    apart_ms: u64,
    seed: u64,
    /// Successors that hang.
    lives: u32,
}

impl Plan {
    fn parse(args: Args) -> Result<Self, Usage<'static>> {
        let mut it = Self {
            how: KILL,
            victim: Victim::Server,
            number: 0,
            times: 1,
            apart_ms: 1000,
            seed: 1,
            lives: 0,
        };
        let mut victim = None;
        for word in Options::new(args, "nisb") {
            match word? {
                Word::Option('h', _) => it.how = HANG,
                Word::Option('f', _) => it.how = FAULT,
                Word::Option('e', _) => it.how = EXIT,
                Word::Option('b', text) => {
                    (it.how, it.lives) = (STALL, apps::number(text, 1..=100)? as u32);
                }
                Word::Option('n', text) => it.times = apps::number(text, 1..=1_000_000)?,
                Word::Option('i', text) => it.apart_ms = apps::number(text, 1..=60_000)?,
                Word::Option('s', text) => it.seed = apps::number(text, 0..=u64::MAX)?,
                Word::Option(option, _) => return Err(Usage::Unknown(option)),
                Word::Operand("server") if victim.is_none() => victim = Some(Victim::Server),
                Word::Operand("supervisor") if victim.is_none() => victim = Some(Victim::Supervisor),
                Word::Operand(text) if victim == Some(Victim::Server) => {
                    it.number = apps::number(text, 0..=3)? as u32;
                }
                Word::Operand(text) => return Err(Usage::Extra(text)),
            }
        }
        it.victim = victim.ok_or(Usage::Says("whom?"))?;
        Ok(it)
    }
}

fn main(args: Args) -> Result<ExitStatus, Failed> {
    let plan = match Plan::parse(args) {
        Ok(plan) => plan,
        Err(usage) => return Ok(apps::misused("crash", &usage, USAGE)),
    };
    let mut random = Random(plan.seed);
    for time in 0..plan.times {
        if plan.times > 1 {
            // From half to one and a half of it, to the microsecond.
            let us = plan.apart_ms * 500 + random.next() % (plan.apart_ms * 1000);
            thread::sleep(Duration::from_micros(us));
        }
        kill(&plan, time == 0).during("supervisor")?;
    }
    Ok(ExitStatus(0))
}

fn kill(&Plan { how, victim, number, lives, .. }: &Plan, first: bool) -> Result<(), Error> {
    let supervisor = name::look_up(NAME, Some(LIMIT))?;
    let request = Outgoing::with_words(how, &[victim.raw(), number, lives]);
    match ask(&supervisor, request, Some(LIMIT)) {
        Ok(reply) => match reply.status() {
            // It is between two lives.
            Err(Error::Dead) if !first => Ok(()),
            status => status,
        },
        // A supervisor that ends itself answers nobody.
        Err(Error::Dead) if victim == Victim::Supervisor => Ok(()),
        Err(error) => Err(error),
    }
}

/// Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014): SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
