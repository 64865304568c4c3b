//! spin: takes all the processor time that it gets, for a while.
#![no_std]
#![no_main]

use core::time::Duration;

use userlib::{
    entry::{Args, ExitStatus},
    time::Instant,
};

userlib::entry!(main);

fn main(mut args: Args) -> ExitStatus {
    let seconds = match apps::number(args.next().unwrap_or("10"), 1..=86_400) {
        Ok(seconds) => seconds,
        Err(usage) => return apps::misused("spin", &usage, "[SECONDS]"),
    };
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {}
    ExitStatus(0)
}
