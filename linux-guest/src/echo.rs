//! echo: sends back what comes on one TCP connection, measured; the namesake of `apps/src/bin/echo.rs` with `-1`.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::time::Instant;

use pattern::Digest;

use crate::command::{During as _, Outcome, Word, Words, number, parse, unknown};
use crate::counters::Snapshot;
use crate::mark;

const BUFFER_BYTES: usize = 16 * 1024;

/// `echo [-p PORT] -1 [-M]`.
///
/// # Errors
/// A wrong command line, or what the network did.
pub fn main(words: Words) -> Outcome {
    let (mut port, mut once, mut machine) = (7, false, false);
    for word in parse(words, "p")? {
        match word {
            Word::Option('p', text) => port = number(&text, 1..=65_535)? as u16,
            Word::Option('1', _) => once = true,
            Word::Option('M', _) => machine = true,
            word => return Err(unknown(&word)),
        }
    }
    if !once {
        return Err("only one connection is served here: -1".into());
    }
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).during("listen")?;
    println!("echo: listening on {port}");
    let (mut stream, _) = listener.accept().during("accept")?;
    let mut buffer = vec![0; BUFFER_BYTES];
    let (mut bytes, mut calls, mut digest) = (0_u64, 0_u64, Digest::new());
    let before = Snapshot::take();
    mark::start();
    let start = Instant::now();
    loop {
        let read = stream.read(&mut buffer).during("read")?;
        if read == 0 {
            break;
        }
        stream.write_all(&buffer[..read]).during("write")?;
        bytes += read as u64;
        calls += 1;
        if machine {
            digest.update(&buffer[..read]);
        }
    }
    let ns = start.elapsed().as_nanos();
    mark::stop();
    let after = Snapshot::take();
    println!("echo: {bytes} bytes in {calls} reads");
    if machine {
        let (digest, verified) = (digest.finish(), u8::from(digest.finish() == Digest::of_pattern(bytes)));
        print!("#echo bytes={bytes} ns={ns} calls={calls} digest={digest:#018x} verified={verified}");
        // A read and a write each time, and each copies once between this program and the kernel.
        print!(" syscalls={} app_copies={} app_copied_bytes={}", 2 * calls + 1, 2 * calls, 2 * bytes);
        before.print_gain(&after);
    }
    Ok(())
}
