//! liar: a protocol server that lies. It opens the network device as any task may, owns what the device gives it, and writes there, and asks of
//! the kernel, what no honest server would.
//!
//! `liar -s SEED -n OPERATIONS` is one campaign, which the seed repeats; `liar CASE` one lie of [`cases`]. Most end with the kernel ending the
//! task, as they should. So `liar -c COUNT` starts the campaigns of COUNT seeds, one after the other, and `liar -c 1 cases` each case, in
//! tasks of their own, and says how they ended. With `-p MS` it lies in every other stretch of so many milliseconds only, and says when one begins:
//! what others do meanwhile can be compared. It takes a share of the processor only: what it shows is about windows and ports, and any program
//! can spin.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "a hostile server writes anywhere into its window")]

extern crate alloc;

use core::time::Duration;

use abi::{
    message::NOTIFY_DEAD_NAME,
    port,
    thread::{PRIORITY_APPLICATION, STATUS_FAULT, STATUS_WINDOW},
};
use alloc::{format, string::String};
use apps::{
    During, Failed, Usage,
    options::{Options, Word},
};
use userlib::{
    entry::{Args, ExitStatus},
    message::receive,
    port::ReceiveRight,
    println, raw,
    task::Task,
    thread, time,
};
use window::Window;

mod cases;
mod random;
mod window;

userlib::entry!(main);

const USAGE: &str = "[-s SEED] [-n OPERATIONS] [-c COUNT] [-t SECONDS] [-p MS] [CASE | cases]";
/// How long a child may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Ends of a child that is neither done nor ended for its window, in a row, after which there is no sense in going on.
const STRANGE_MAX: u32 = 20;

/// Stretches of time in which it lies, and those between them; 0 where it always does.
#[derive(Clone, Copy)]
pub struct Stretch(u64);

impl Stretch {
    /// Whether it lies now.
    fn is_on(self) -> bool {
        self.0 == 0 || time::now_ns() / self.0 % 2 == 1
    }

    /// How long it is as it is now.
    fn left(self) -> Option<Duration> {
        (self.0 != 0).then(|| Duration::from_nanos(self.0 - time::now_ns() % self.0))
    }

    /// Waits until it lies.
    pub fn wait(self) {
        while !self.is_on() {
            thread::sleep(self.left().unwrap_or_default());
        }
    }
}

/// What the command line says.
struct Wanted<'a> {
    seed: u64,
    operations: u64,
    count: Option<u64>,
    seconds: u64,
    stretch: Stretch,
    case: Option<&'a str>,
}

fn wanted<'a>(args: impl Iterator<Item = &'a str>) -> Result<Wanted<'a>, Usage<'a>> {
    let (stretch, count, case) = (Stretch(0), None, None);
    let mut wanted = Wanted { seed: 1, operations: 2000, count, seconds: 3600, stretch, case };
    for word in Options::new(args, "snctp") {
        match word? {
            Word::Option('s', text) => wanted.seed = apps::number(text, 0..=u64::MAX)?,
            Word::Option('n', text) => wanted.operations = apps::number(text, 1..=u64::MAX)?,
            Word::Option('c', text) => wanted.count = Some(apps::number(text, 1..=u64::MAX)?),
            Word::Option('t', text) => wanted.seconds = apps::number(text, 1..=86_400)?,
            Word::Option('p', text) => wanted.stretch.0 = 1_000_000 * apps::number(text, 0..=60_000)?,
            Word::Option(other, _) => return Err(Usage::Unknown(other)),
            Word::Operand(case) if wanted.case.is_none() => wanted.case = Some(case),
            Word::Operand(extra) => return Err(Usage::Extra(extra)),
        }
    }
    Ok(wanted)
}

fn main(args: Args) -> Result<ExitStatus, Failed> {
    if apps::helped(&args, "liar", USAGE, "cases:") {
        cases::ALL.iter().for_each(|case| println!("  {:<18} {}", case.name, case.about));
        return Ok(ExitStatus(0));
    }
    let wanted = match wanted(args) {
        Ok(wanted) => wanted,
        Err(usage) => return Ok(apps::misused("liar", &usage, USAGE)),
    };
    match (wanted.count, wanted.case) {
        (Some(_), Some("cases")) => all_cases(),
        (Some(count), _) => campaigns(&wanted, count),
        (None, Some(name)) => match cases::ALL.iter().find(|case| case.name == name) {
            Some(case) => one_case(case),
            None => Ok(apps::misused("liar", &Usage::Says("no such case; --help lists them"), USAGE)),
        },
        (None, None) => {
            random::campaign(wanted.seed, wanted.operations, wanted.stretch).map(|()| ExitStatus(0))
        }
    }
}

/// A case in this task: 0 if the kernel took it, which is right for some.
fn one_case(case: &cases::Case) -> Result<ExitStatus, Failed> {
    let mut window = Window::open().during("net0")?;
    (case.lie)(&mut window);
    if case.ends {
        // The kernel may find it out when a frame comes.
        for _ in 0..40 {
            window.start();
            thread::sleep(Duration::from_millis(100));
        }
    }
    Ok(ExitStatus(0))
}

/// Each case in a task of its own.
fn all_cases() -> Result<ExitStatus, Failed> {
    let notify = ReceiveRight::allocate().during("port")?;
    let (mut tried, mut wrong) = (0, 0);
    for case in cases::ALL.iter().filter(|case| case.queue.is_none_or(window::is_queue)) {
        let status = child(&notify, case.name, Stretch(0))?;
        let right = status == Some(if case.ends { STATUS_WINDOW } else { 0 });
        tried += 1;
        wrong += u32::from(!right);
        println!("liar: {}: {}{}", case.name, said(status), if right { "" } else { ", WRONG" });
    }
    println!("liar: tried={tried} wrong={wrong}");
    Ok(ExitStatus(u64::from(wrong != 0)))
}

fn said(status: Option<u32>) -> String {
    match status {
        Some(0) => "lives on".into(),
        Some(STATUS_WINDOW) => "ended for its window".into(),
        Some(STATUS_FAULT) => "ended for a fault of its own".into(),
        Some(other) => format!("ended with status {other:#x}"),
        None => "does not end".into(),
    }
}

/// The campaigns of so many seeds, or as many as there are in the time.
fn campaigns(wanted: &Wanted<'_>, count: u64) -> Result<ExitStatus, Failed> {
    let notify = ReceiveRight::allocate().during("port")?;
    let end = time::Instant::now() + Duration::from_secs(wanted.seconds);
    let (mut started, mut windows, mut done, mut faults, mut other, mut row) = (0, 0, 0, 0, 0, 0);
    while started < count && !end.saturating_duration_since(time::Instant::now()).is_zero() {
        let Wanted { seed, operations, stretch, .. } = wanted;
        let seed = seed.wrapping_add(started);
        let arguments = format!("-s {seed} -n {operations} -p {}", stretch.0 / 1_000_000);
        started += 1;
        row += 1;
        match child(&notify, &arguments, *stretch)? {
            Some(STATUS_WINDOW) => (windows, row) = (windows + 1, 0),
            Some(0) => (done, row) = (done + 1, 0),
            // A wild argument can be one that ends the caller.
            Some(STATUS_FAULT) => (faults, row) = (faults + 1, 0),
            status => {
                other += 1;
                println!("liar: {arguments}: {}", said(status));
                if status.is_none() {
                    return Ok(ExitStatus(1));
                }
            }
        }
        if row >= STRANGE_MAX {
            println!("liar: nothing comes of it");
            return Ok(ExitStatus(1));
        }
        // The device is not to be opened and closed all the time.
        thread::sleep(Duration::from_millis(20));
    }
    println!(
        "liar: seed={} started={started} windows={windows} done={done} faults={faults} other={other}",
        wanted.seed
    );
    Ok(ExitStatus(0))
}

/// Runs a child to its end; its status, `None` if it does not end.
fn child(notify: &ReceiveRight, arguments: &str, stretch: Stretch) -> Result<Option<u32>, Failed> {
    let child = Task::spawn("liar", arguments, PRIORITY_APPLICATION, port::BOOTSTRAP).during("spawn")?;
    child.right().notify_dead(notify).during("notify")?;
    let end = time::Instant::now() + PATIENCE;
    let message = loop {
        let left = end.saturating_duration_since(time::Instant::now());
        if let Ok(message) = receive(notify, Some(stretch.left().unwrap_or(left).min(left))) {
            break message;
        }
        if left.is_zero() {
            let _ = child.terminate();
            return Ok(None);
        }
        if stretch.left().is_some() {
            println!("liar: {}", if stretch.is_on() { "begins" } else { "pauses" });
        }
    };
    Ok(if message.id == NOTIFY_DEAD_NAME { message.word(1) } else { None })
}

/// Any call with any argument.
fn call(number: u64, arguments: [u64; 6]) -> (u64, u64) {
    // SAFETY: a call that changes memory or threads which this program needs ends it, which is one of the answers.
    unsafe { raw::call_number(number, arguments) }
}
