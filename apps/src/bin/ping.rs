//! ping: asks another machine for an echo (RFC 792, RFC 4443) and times the answers.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec;
use core::{net::IpAddr, time::Duration};

use apps::{
    During, Failed, Quotient, Usage,
    options::{Options, Word},
};
use pattern::Pattern;
use userlib::{
    Error,
    entry::{Args, ExitStatus},
    mark,
    net::EchoSocket,
    print, println, thread,
    time::{Deadline, Instant},
};

userlib::entry!(main);

const USAGE: &str = "[-c COUNT | -T SECONDS] [-i MILLISECONDS] [-s BYTES] [-W MILLISECONDS] [-q] [-M] HOST";
/// ICMP's header.
const HEADER_BYTES: usize = 8;
/// The longest payload that one IPv4 packet carries.
const PAYLOAD_MAX: u64 = 65_507;

struct Plan {
    to: IpAddr,
    count: u64,
    /// For so long, however many that are.
    time: Option<Duration>,
    interval: Duration,
    patience: Duration,
    bytes: usize,
    /// No line for each reply.
    quiet: bool,
    machine: bool,
}

fn main(args: Args) -> Result<ExitStatus, Failed> {
    match parse(args) {
        Ok(plan) => ping(&plan),
        Err(usage) => Ok(apps::misused("ping", &usage, USAGE)),
    }
}

fn parse(args: Args) -> Result<Plan, Usage<'static>> {
    let (mut count, mut interval, mut patience, mut bytes) = (4, 1000, 2000, 56);
    let (mut time, mut quiet, mut machine) = (None, false, false);
    let mut host = None;
    for word in Options::new(args, "ciTWs") {
        match word? {
            Word::Option('c', text) => count = apps::number(text, 1..=1_000_000)?,
            Word::Option('i', text) => interval = apps::number(text, 0..=3_600_000)?,
            Word::Option('T', text) => time = Some(Duration::from_secs(apps::number(text, 1..=86_400)?)),
            Word::Option('W', text) => patience = apps::number(text, 1..=3_600_000)?,
            Word::Option('s', text) => bytes = apps::number(text, 0..=PAYLOAD_MAX)?,
            Word::Option('q', _) => quiet = true,
            Word::Option('M', _) => machine = true,
            Word::Option(option, _) => return Err(Usage::Unknown(option)),
            Word::Operand(text) if host.is_none() => host = Some(text),
            Word::Operand(text) => return Err(Usage::Extra(text)),
        }
    }
    Ok(Plan {
        to: apps::address(host.ok_or(Usage::Says("a host is needed"))?)?,
        count,
        time,
        interval: Duration::from_millis(interval),
        patience: Duration::from_millis(patience),
        bytes: bytes as usize,
        quiet,
        machine,
    })
}

/// Round-trip times, in nanoseconds.
#[derive(Default)]
struct Times {
    received: u64,
    wrong: u64,
    shortest: u64,
    longest: u64,
    sum: u64,
}

impl Times {
    fn add(&mut self, ns: u64) {
        self.shortest = if self.received == 0 { ns } else { self.shortest.min(ns) };
        self.longest = self.longest.max(ns);
        self.sum += ns;
        self.received += 1;
    }
}

fn ping(plan: &Plan) -> Result<ExitStatus, Failed> {
    let Plan { to, bytes, .. } = *plan;
    let mut socket = EchoSocket::open().during("socket")?;
    let mut times = Times::default();
    println!("PING {to}: {bytes} data bytes");
    let before = apps::counters()?;
    mark::start();
    let count = send_all(plan, &mut socket, &mut times)?;
    mark::stop();
    let after = apps::counters()?;
    let Times { received, wrong, shortest, longest, sum } = times;
    let lost = Quotient::new(u128::from(100 * (count - received)), count.into());
    println!("--- {to} ping statistics ---");
    println!("{count} packets transmitted, {received} packets received, {lost}% packet loss");
    if received != 0 {
        let ms = |ns: u64, of: u64| Quotient::new(ns.into(), u128::from(of) * 1_000_000);
        println!("round-trip min/avg/max = {}/{}/{} ms", ms(shortest, 1), ms(sum, received), ms(longest, 1));
    }
    if plan.machine {
        let verified = u8::from(received == count && wrong == 0);
        print!(
            "#ping bytes={bytes} ns={sum} calls={count} received={received} wrong={wrong} verified={verified}"
        );
        // Each request is copied into its ring, each reply out of its.
        let copies = count + received;
        print!(" app_copies={copies} app_copied_bytes={}", copies * bytes as u64);
        apps::print_gain(&before, &after);
    }
    Ok(ExitStatus(u64::from(received == 0)))
}

/// Sends one request after the other, each when the reply to the one before has come or is given up; returns how many.
fn send_all(plan: &Plan, socket: &mut EchoSocket, times: &mut Times) -> Result<u64, Failed> {
    let start = Instant::now();
    let mut number = 0;
    loop {
        let sequence = number as u16;
        let payload = Pattern::chunk(number, plan.bytes);
        let sent = Instant::now();
        match socket.send(plan.to, sequence, payload) {
            Ok(()) => wait_for_reply(plan, socket, sequence, sent, payload, times)?,
            Err(Error::TooLong) => return Err(Failed("send", Error::TooLong)),
            Err(error) => println!("ping: send: {error}"),
        }
        number += 1;
        let over = match plan.time {
            Some(time) => start.elapsed() >= time,
            None => number == plan.count,
        };
        if over {
            return Ok(number);
        }
        if !plan.interval.is_zero() {
            let next = sent + plan.interval;
            thread::sleep(next - Instant::now());
        }
    }
}

/// Waits for the answer to one request; answers to earlier ones that come meanwhile are late.
fn wait_for_reply(
    plan: &Plan,
    socket: &mut EchoSocket,
    sequence: u16,
    sent: Instant,
    payload: &[u8],
    times: &mut Times,
) -> Result<(), Failed> {
    let mut buffer = vec![0; plan.bytes];
    let deadline = Deadline::after(Some(plan.patience));
    while let Some(left) = deadline.left_ns() {
        socket.set_read_timeout(Some(Duration::from_nanos(left)));
        let reply = match socket.receive(&mut buffer) {
            Ok(reply) => reply,
            Err(Error::TimedOut) => break,
            Err(error) => return Err(Failed("receive", error)),
        };
        if reply.sequence != sequence || reply.from != plan.to {
            continue;
        }
        let time = sent.elapsed();
        if reply.payload_bytes != payload.len() || buffer != payload {
            times.wrong += 1;
            println!("wrong data from {}: icmp_seq={sequence}", reply.from);
            return Ok(());
        }
        times.add(time.as_nanos() as u64);
        if !plan.quiet {
            println!(
                "{} bytes from {}: icmp_seq={sequence} time={} ms",
                reply.payload_bytes + HEADER_BYTES,
                reply.from,
                Quotient::new(time.as_nanos(), 1_000_000)
            );
        }
        return Ok(());
    }
    println!("no answer: icmp_seq={sequence}");
    Ok(())
}
