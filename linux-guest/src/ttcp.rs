//! ttcp: sends or receives a stream, and times it; the namesake of `apps/src/bin/ttcp.rs`, with its flags and its lines.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use pattern::{Digest, MAX_CHUNK, Pieces, Source};

use crate::command::{During as _, Outcome, Word, Words, number, parse, unknown};
use crate::timer::{Timer, Took};

/// The clock is read once for so many bytes sent.
const CLOCK_BYTES: usize = 16 * 1024;
/// A UDP datagram of this length or less says "start" or "end".
const SENTINEL_BYTES: usize = 4;

/// `ttcp -t [-u] [-s] [-D] [-l LENGTH] [-n BUFFERS | -T SECONDS] [-p PORT] [-M] HOST` or `ttcp -r [-u] -s [-l LENGTH] [-p PORT] [-M]`.
///
/// # Errors
/// A wrong command line, or what the network did.
pub fn main(words: Words) -> Outcome {
    let plan = Plan::parse(words)?;
    let moved = match (plan.to, plan.udp) {
        (Some(to), false) => plan.transmit(to),
        (Some(to), true) => plan.transmit_datagrams(to),
        (None, false) => plan.receive(),
        (None, true) => plan.receive_datagrams(),
    }?;
    plan.report(&moved);
    Ok(())
}

struct Plan {
    /// Transmit to there, or receive.
    to: Option<SocketAddrV4>,
    port: u16,
    length: usize,
    buffers: u64,
    seconds: Option<u64>,
    udp: bool,
    no_delay: bool,
    machine: bool,
}

/// What went through, and what it took.
struct Moved {
    bytes: u64,
    calls: u64,
    syscalls: u64,
    digest: u64,
    verified: bool,
    took: Took,
}

impl Plan {
    fn parse(words: Words) -> Result<Self, Box<dyn std::error::Error>> {
        let mut it = Self {
            to: None,
            port: 5001,
            length: 8192,
            buffers: 2048,
            seconds: None,
            udp: false,
            no_delay: false,
            machine: false,
        };
        let (mut transmit, mut receive, mut host) = (false, false, None);
        for word in parse(words, "lnpT")? {
            match word {
                Word::Option('t', _) => transmit = true,
                Word::Option('r', _) => receive = true,
                Word::Option('u', _) => it.udp = true,
                // The pattern is all that is ever sent, and what comes is never printed.
                Word::Option('s', _) => {}
                Word::Option('D', _) => it.no_delay = true,
                Word::Option('M', _) => it.machine = true,
                Word::Option('l', text) => it.length = number(&text, 1..=MAX_CHUNK as u64)? as usize,
                Word::Option('n', text) => it.buffers = number(&text, 1..=u64::MAX)?,
                Word::Option('T', text) => it.seconds = Some(number(&text, 1..=86_400)?),
                Word::Option('p', text) => it.port = number(&text, 1..=65_535)? as u16,
                Word::Operand(text) if host.is_none() => host = Some(text),
                word => return Err(unknown(&word)),
            }
        }
        match (transmit, receive, host) {
            (true, false, Some(host)) => {
                it.to = Some(SocketAddrV4::new(host.parse().during("the host's address")?, it.port));
            }
            (false, true, None) => {}
            _ => return Err("one of -t HOST and -r".into()),
        }
        if it.udp {
            it.length = it.length.clamp(SENTINEL_BYTES + 1, 65_507);
        }
        Ok(it)
    }

    fn transmit(&self, to: SocketAddrV4) -> Result<Moved, Box<dyn std::error::Error>> {
        let mut stream = TcpStream::connect(to).during("connect")?;
        stream.set_nodelay(self.no_delay).during("socket")?;
        let mut source = Source::new();
        let timer = Timer::start();
        let calls = self.source(|| {
            stream.write_all(source.peek(self.length))?;
            source.advance(self.length);
            Ok(())
        });
        let calls = calls.during("write")?;
        stream.shutdown(Shutdown::Write).during("shutdown")?;
        // The receiver closes once it has read everything.
        while stream.read(&mut [0; 64]).during("drain")? != 0 {}
        let took = timer.stop();
        let bytes = source.position();
        Ok(Moved {
            bytes,
            calls,
            syscalls: calls + 2,
            digest: Digest::of_pattern(bytes),
            verified: true,
            took,
        })
    }

    /// Calls `write` as often, or for as long, as the command line says; returns how often.
    #[inline]
    fn source(&self, mut write: impl FnMut() -> std::io::Result<()>) -> std::io::Result<u64> {
        let mut calls = 0;
        match self.seconds {
            None => {
                while calls < self.buffers {
                    write()?;
                    calls += 1;
                }
            }
            Some(seconds) => {
                let end = Instant::now() + Duration::from_secs(seconds);
                let burst = CLOCK_BYTES.div_ceil(self.length) as u64;
                while Instant::now() < end {
                    for _ in 0..burst {
                        write()?;
                    }
                    calls += burst;
                }
            }
        }
        Ok(calls)
    }

    fn receive(&self) -> Result<Moved, Box<dyn std::error::Error>> {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, self.port)).during("listen")?;
        println!("ttcp-r: listening on {}", self.port);
        let (mut stream, _) = listener.accept().during("accept")?;
        drop(listener);
        let mut buffer = vec![0; self.length];
        let mut sink = Sink::default();
        let timer = Timer::start();
        loop {
            let read = stream.read(&mut buffer).during("read")?;
            sink.calls += 1;
            if read == 0 {
                break;
            }
            sink.take(&buffer[..read]);
        }
        Ok(sink.moved(timer.stop()))
    }

    fn transmit_datagrams(&self, to: SocketAddrV4) -> Result<Moved, Box<dyn std::error::Error>> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).during("bind")?;
        socket.connect(to).during("connect")?;
        // A datagram that was refused is as lost as one that went astray.
        let send = |bytes: &[u8]| match socket.send(bytes) {
            Err(error) if error.kind() != ErrorKind::ConnectionRefused => Err(error),
            _ => Ok(()),
        };
        let sentinel = [0; SENTINEL_BYTES];
        let mut source = Source::new();
        let timer = Timer::start();
        send(&sentinel).during("send")?;
        let calls = self.source(|| {
            send(source.peek(self.length))?;
            source.advance(self.length);
            Ok(())
        });
        let calls = calls.during("send")?;
        for _ in 0..4 {
            send(&sentinel).during("send")?; // one may be lost
        }
        let took = timer.stop();
        let (bytes, calls) = (source.position(), calls + 5);
        Ok(Moved { bytes, calls, syscalls: calls, digest: Digest::of_pattern(bytes), verified: false, took })
    }

    fn receive_datagrams(&self) -> Result<Moved, Box<dyn std::error::Error>> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, self.port)).during("bind")?;
        println!("ttcp-r: listening on {}", self.port);
        let mut buffer = vec![0; self.length];
        let (mut pieces, mut bytes, mut calls) = (Pieces::new(), 0, 0);
        let mut timer: Option<Timer> = None;
        let took = loop {
            let read = socket.recv(&mut buffer).during("receive")?;
            calls += 1;
            if read > SENTINEL_BYTES {
                timer.get_or_insert_with(Timer::start); // the sentinel may have been lost
                pieces.check(&buffer[..read]);
                bytes += read as u64;
            } else if let Some(timer) = timer.take() {
                break timer.stop();
            } else {
                timer = Some(Timer::start());
            }
        };
        println!(
            "ttcp-r: {} datagrams, {} missed, {} wrong",
            pieces.arrived(),
            pieces.missed(),
            pieces.wrong()
        );
        Ok(Moved { bytes, calls, syscalls: calls, digest: 0, verified: pieces.wrong() == 0, took })
    }

    fn report(&self, moved: &Moved) {
        let name = if self.to.is_some() { "ttcp-t" } else { "ttcp-r" };
        let Moved { bytes, calls, syscalls, digest, .. } = *moved;
        let ns = moved.took.ns;
        println!("{name}: {bytes} bytes in {:.2} real seconds, {calls} I/O calls", ns as f64 / 1e9);
        if self.machine {
            let verified = u8::from(moved.verified);
            print!("#ttcp bytes={bytes} ns={ns} calls={calls} digest={digest:#018x} verified={verified}");
            // Each call copies once, between this program and the kernel.
            print!(" syscalls={syscalls} app_copies={calls} app_copied_bytes={bytes}");
            moved.took.print_gain();
        }
    }
}

/// What becomes of the bytes that come.
#[derive(Default)]
struct Sink {
    digest: Digest,
    bytes: u64,
    calls: u64,
}

impl Sink {
    #[inline]
    fn take(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.digest.update(bytes);
    }

    fn moved(self, took: Took) -> Moved {
        let Self { digest, bytes, calls } = self;
        let verified = digest.finish() == Digest::of_pattern(bytes);
        Moved { bytes, calls, syscalls: calls, digest: digest.finish(), verified, took }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(line: &str) -> Result<Plan, Box<dyn std::error::Error>> {
        Plan::parse(line.split_whitespace().map(str::to_owned).collect())
    }

    #[test]
    fn takes_the_lines_that_the_host_types() {
        let it = plan("-t -s -l 8192 -T 3 -p 5002 -M 10.9.0.1").unwrap();
        assert_eq!((it.length, it.seconds, it.to.unwrap().port(), it.machine), (8192, Some(3), 5002, true));
        let it = plan("-r -u -s -l 1 -p 5003 -M").unwrap();
        assert!(it.udp && it.to.is_none());
        assert_eq!(it.length, SENTINEL_BYTES + 1, "a datagram says more than a sentinel");
        assert!(plan("-t").is_err() && plan("-r 10.9.0.1").is_err() && plan("-x").is_err());
    }
}
