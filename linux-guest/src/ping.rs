//! ping: asks another machine for an echo and times the answers; the namesake of `apps/src/bin/ping.rs`.

use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use pattern::Pattern;

use crate::command::{During as _, Outcome, Word, Words, number, parse, unknown};
use crate::counters::Snapshot;
use crate::icmp::{Client, PAYLOAD_MAX, Reply};
use crate::mark;

/// `ping [-c COUNT | -T SECONDS] [-i MILLISECONDS] [-s BYTES] [-W MILLISECONDS] [-q] [-M] HOST`.
///
/// # Errors
/// A wrong command line, what the network did, or no reply at all.
pub fn main(words: Words) -> Outcome {
    let (mut count, mut seconds, mut interval, mut bytes, mut patience) = (4, None, 1000, 56, 2000);
    let (mut quiet, mut machine, mut host) = (false, false, None);
    for word in parse(words, "cTisW")? {
        match word {
            Word::Option('c', text) => count = number(&text, 1..=1_000_000_000)?,
            Word::Option('T', text) => seconds = Some(number(&text, 1..=86_400)?),
            Word::Option('i', text) => interval = number(&text, 0..=3_600_000)?,
            Word::Option('s', text) => bytes = number(&text, 0..=PAYLOAD_MAX)?,
            Word::Option('W', text) => patience = number(&text, 1..=3_600_000)?,
            Word::Option('q', _) => quiet = true,
            Word::Option('M', _) => machine = true,
            Word::Operand(text) if host.is_none() => host = Some(text),
            word => return Err(unknown(&word)),
        }
    }
    let host: Ipv4Addr = host.ok_or("a host is needed")?.parse().during("the host's address")?;
    let (interval, patience) = (Duration::from_millis(interval), Duration::from_millis(patience));
    let mut client = Client::new(host).during("socket")?;
    let (mut sent, mut received, mut wrong, mut sum) = (0_u64, 0_u64, 0_u64, Duration::ZERO);
    let before = Snapshot::take();
    mark::start();
    let start = Instant::now();
    let is_over = |sent: u64| match seconds {
        Some(seconds) => start.elapsed() >= Duration::from_secs(seconds),
        None => sent == count,
    };
    while !is_over(sent) {
        let asked = Instant::now();
        match client.ask(sent as u16, Pattern::chunk(sent, bytes as usize), patience).during("send")? {
            Reply::Right(time) => {
                received += 1;
                sum += time;
                if !quiet {
                    println!(
                        "{bytes} bytes from {host}: icmp_seq={sent} time={:.2} ms",
                        time.as_secs_f64() * 1e3
                    );
                }
            }
            Reply::Wrong => wrong += 1,
            Reply::Nothing => println!("no answer: icmp_seq={sent}"),
        }
        sent += 1;
        if !interval.is_zero() && !is_over(sent) {
            thread::sleep(interval.saturating_sub(asked.elapsed()));
        }
    }
    mark::stop();
    let after = Snapshot::take();
    println!("{sent} packets transmitted, {received} packets received");
    if machine {
        let (ns, verified) = (sum.as_nanos(), u8::from(received == sent && wrong == 0));
        print!(
            "#ping bytes={bytes} ns={ns} calls={sent} received={received} wrong={wrong} verified={verified}"
        );
        // To send, to set the time to wait, to receive; each request and each reply is copied once.
        let (copies, copied) = (sent + received, (sent + received) * bytes);
        print!(" syscalls={} app_copies={copies} app_copied_bytes={copied}", 2 * sent + received);
        before.print_gain(&after);
    }
    if received == 0 { Err("no reply".into()) } else { Ok(()) }
}
