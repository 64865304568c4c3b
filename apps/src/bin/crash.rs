//! crash: ends a protocol server or its supervisor, or makes the server misbehave, where the kernel's command line says `chaos=1`.
#![no_std]
#![no_main]

use core::time::Duration;

use abi::supervise::{EXIT, FAULT, HANG, KILL, NAME, Victim};
use apps::{
    During, Failed, Usage,
    options::{Options, Word},
};
use userlib::{
    Error,
    entry::{Args, ExitStatus},
    message::{Outgoing, ask},
    name, thread,
    time::Instant,
};

userlib::entry!(main);

const USAGE: &str = "[-h | -f | -e] [-n TIMES] [-i MILLISECONDS] [-s SEED] server [NUMBER] | supervisor
    -h  hang, -f  fault, -e  exit, instead of being ended
    -n  so often, at random moments -i milliseconds apart on average";
const LIMIT: Duration = Duration::from_secs(10);

fn main(args: Args) -> Result<ExitStatus, Failed> {
    let (mut how, mut victim, mut number) = (KILL, None, 0);
    let (mut times, mut apart, mut seed) = (1, 1000, 1);
    for word in Options::new(args, "nis") {
        let usage = match word {
            Ok(Word::Option('h', _)) => Ok(how = HANG),
            Ok(Word::Option('f', _)) => Ok(how = FAULT),
            Ok(Word::Option('e', _)) => Ok(how = EXIT),
            Ok(Word::Option('n', text)) => apps::number(text, 1..=1_000_000).map(|n| times = n),
            Ok(Word::Option('i', text)) => apps::number(text, 1..=60_000).map(|n| apart = n),
            Ok(Word::Option('s', text)) => apps::number(text, 0..=u64::MAX).map(|n| seed = n),
            Ok(Word::Option(option, _)) => Err(Usage::Unknown(option)),
            Ok(Word::Operand("server")) if victim.is_none() => Ok(victim = Some(Victim::Server)),
            Ok(Word::Operand("supervisor")) if victim.is_none() => Ok(victim = Some(Victim::Supervisor)),
            Ok(Word::Operand(text)) if victim == Some(Victim::Server) => {
                apps::number(text, 0..=3).map(|n| number = n as u32)
            }
            Ok(Word::Operand(text)) => Err(Usage::Extra(text)),
            Err(usage) => Err(usage),
        };
        if let Err(usage) = usage {
            return Ok(apps::misused("crash", &usage, USAGE));
        }
    }
    let Some(victim) = victim else {
        return Ok(apps::misused("crash", &Usage::Says("whom?"), USAGE));
    };
    let mut random = Random(seed);
    for time in 0..times {
        if times > 1 {
            // From half to one and a half of it, to the microsecond.
            let us = apart * 500 + random.next() % (apart * 1000);
            let end = Instant::now() + Duration::from_micros(us);
            thread::sleep(end - Instant::now());
        }
        kill(how, victim, number, time == 0).during("supervisor")?;
    }
    Ok(ExitStatus(0))
}

fn kill(how: u32, victim: Victim, number: u32, first: bool) -> Result<(), Error> {
    let supervisor = name::look_up(NAME, Some(LIMIT))?;
    let request = Outgoing::with_words(how, &[victim.raw(), number]);
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
