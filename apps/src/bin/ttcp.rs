//! ttcp: sends or receives a stream, and times it. The flags and closing lines are the classic ones (M. Muuss and T. Slattery, 1984), so that
//! any other ttcp will do as its peer, and nuttcp in classic mode, and iperf 2.
//!
//! There is no standard input here: `-t` always sends the pattern of the `pattern` crate, of which any receiver of ours knows the
//! digest. `-r` without `-s` writes what comes to the console.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec;
use core::{net::SocketAddr, time::Duration};

use apps::{
    During, Failed, Quotient, Usage,
    options::{Options, Word},
    timer::{Timer, Took},
};
use pattern::{Digest, MAX_CHUNK, Pieces, Source};
use userlib::{
    Error, console,
    entry::{Args, ExitStatus},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, TcpListener, TcpStream, UdpSocket, wait_for_network},
    print, println, thread,
    time::{Deadline, Instant},
};

userlib::entry!(main);

const USAGE: &str =
    "-t [-u] [-s] [-D] [-R] [-l LENGTH] [-n BUFFERS | -T SECONDS] [-p PORT] [-b BYTES] [-v] [-M] HOST
       ttcp -r [-u] [-s] [-6] [-R] [-l LENGTH] [-p PORT] [-b BYTES] [-v] [-M]
    -R, --reconnect  a connection that breaks is followed by another; each begins with the pattern's first byte,
                     and each is verified by itself";

/// The clock is read once for so many bytes sent.
const CLOCK_BYTES: usize = 16 * 1024;
/// How long -R tries to connect again, and how long it waits between two tries.
const RECONNECT_LIMIT: Duration = Duration::from_secs(20);
const RECONNECT_PAUSE: Duration = Duration::from_millis(20);
/// A UDP datagram of this length or less says "start" or "end".
const SENTINEL_BYTES: usize = 4;

fn main(args: Args) -> ExitStatus {
    let plan = match Plan::parse(args) {
        Ok(plan) => plan,
        Err(usage) => return apps::misused("ttcp", &usage, USAGE),
    };
    match plan.run() {
        Ok(()) => ExitStatus(0),
        Err(failed) => {
            println!("{}: {failed}", plan.name());
            ExitStatus(1)
        }
    }
}

/// What the command line asks for.
struct Plan {
    /// Transmit to there, or receive.
    to: Option<SocketAddr>,
    port: u16,
    length: usize,
    buffers: u64,
    seconds: Option<u64>,
    udp: bool,
    sink: bool,
    no_delay: bool,
    six: bool,
    reconnect: bool,
    verbose: bool,
    machine: bool,
}

impl Plan {
    fn parse(args: Args) -> Result<Self, Usage<'static>> {
        let mut it = Self {
            to: None,
            port: 5001,
            length: 8192,
            buffers: 2048,
            seconds: None,
            udp: false,
            sink: false,
            no_delay: false,
            six: false,
            reconnect: false,
            verbose: false,
            machine: false,
        };
        let (mut transmit, mut receive, mut host) = (false, false, None);
        let words = args.map(|word| if word == "--reconnect" { "-R" } else { word });
        for word in Options::new(words, "lnpTb") {
            match word? {
                Word::Option('t', _) => transmit = true,
                Word::Option('r', _) => receive = true,
                Word::Option('u', _) => it.udp = true,
                Word::Option('s', _) => it.sink = true,
                Word::Option('D', _) => it.no_delay = true,
                Word::Option('6', _) => it.six = true,
                Word::Option('R', _) => it.reconnect = true,
                Word::Option('v', _) => it.verbose = true,
                Word::Option('M', _) => it.machine = true,
                Word::Option('l', text) => it.length = apps::number(text, 1..=MAX_CHUNK as u64)? as usize,
                Word::Option('n', text) => it.buffers = apps::number(text, 1..=u64::MAX)?,
                Word::Option('T', text) => it.seconds = Some(apps::number(text, 1..=86_400)?),
                Word::Option('p', text) => it.port = apps::number(text, 1..=65_535)? as u16,
                // The rings' sizes are the server's choice; a number all the same.
                Word::Option('b', text) => drop(apps::number(text, 1..=u64::MAX)?),
                Word::Option(option, _) => return Err(Usage::Unknown(option)),
                Word::Operand(text) if host.is_none() => host = Some(text),
                Word::Operand(text) => return Err(Usage::Extra(text)),
            }
        }
        match (transmit, receive, host) {
            (true, false, Some(host)) => it.to = Some(SocketAddr::new(apps::address(host)?, it.port)),
            (true, false, None) => return Err(Usage::Says("-t needs a host")),
            (false, true, None) => {}
            (false, true, Some(host)) => return Err(Usage::Extra(host)),
            _ => return Err(Usage::Says("one of -t and -r")),
        }
        if it.udp {
            it.length = it.length.clamp(SENTINEL_BYTES + 1, 65_507);
        }
        Ok(it)
    }

    const fn name(&self) -> &'static str {
        if self.to.is_some() { "ttcp-t" } else { "ttcp-r" }
    }

    fn run(&self) -> Result<(), Failed> {
        let kind = if self.udp { "udp" } else { "tcp" };
        match self.to {
            Some(to) => {
                let Self { length, buffers, port, .. } = self;
                match self.seconds {
                    None => println!(
                        "ttcp-t: buflen={length}, nbuf={buffers}, port={port}  {kind}  -> {}",
                        to.ip()
                    ),
                    Some(seconds) => {
                        println!(
                            "ttcp-t: buflen={length}, time={seconds}, port={port}  {kind}  -> {}",
                            to.ip()
                        );
                    }
                }
                if self.udp { self.transmit_datagrams(to) } else { self.transmit(to) }
            }
            None => {
                println!("ttcp-r: buflen={}, port={}  {kind}", self.length, self.port);
                if self.udp { self.receive_datagrams() } else { self.receive() }
            }
        }
    }

    fn transmit(&self, to: SocketAddr) -> Result<(), Failed> {
        let mut stream = self.connect(to)?;
        println!("ttcp-t: connect to {}", stream.peer_addr());
        let mut source = Source::new();
        let mut earlier = 0;
        let timer = Timer::start()?;
        let mut calls = 0;
        loop {
            let outcome = self
                .source(&mut calls, &timer, || {
                    stream.write_all(source.peek(self.length))?;
                    source.advance(self.length);
                    Ok(())
                })
                .during("write")
                .and_then(|()| stream.shutdown(Shutdown::Write).during("shutdown"))
                .and_then(|()| stream.drain().during("drain"));
            match outcome {
                Ok(()) => break,
                Err(Failed(_, error)) if self.goes_on_after(error) => {
                    println!("ttcp-t: after {} bytes: {error}; again", source.position());
                    earlier += source.position();
                    source = Source::new();
                    stream = self.connect_again(to)?;
                }
                Err(failed) => return Err(failed),
            }
        }
        let took = timer.stop()?;
        // The pattern was sent, all of the last connection's was acknowledged: the digest is that of the pattern.
        let digest = Digest::of_pattern(source.position());
        let bytes = earlier + source.position();
        self.report(&took, &Moved { bytes, calls, digest, verified: true });
        Ok(())
    }

    fn connect(&self, to: SocketAddr) -> Result<TcpStream, Failed> {
        let mut stream = TcpStream::connect(to).during("connect")?;
        if self.no_delay {
            stream.set_nodelay(true);
        }
        Ok(stream)
    }

    /// Connects once there is a network again; as long as the other end refuses it may not have noticed yet.
    fn connect_again(&self, to: SocketAddr) -> Result<TcpStream, Failed> {
        let deadline = Deadline::after(Some(RECONNECT_LIMIT));
        loop {
            match wait_for_network(RECONNECT_LIMIT).during("network").and_then(|()| self.connect(to)) {
                Err(Failed(_, error)) if self.goes_on_after(error) && deadline.left_ns().is_some() => {
                    thread::sleep(RECONNECT_PAUSE);
                }
                outcome => return outcome,
            }
        }
    }

    /// Does another connection follow one that ended like this?
    const fn goes_on_after(&self, error: Error) -> bool {
        self.reconnect
            && matches!(
                error,
                Error::NetworkReset
                    | Error::ConnectionReset
                    | Error::ConnectionAborted
                    | Error::ConnectionRefused
            )
    }

    /// Calls `write` as often, or for as long since the timer's start, as the command line says, and counts.
    #[inline]
    fn source(
        &self,
        calls: &mut u64,
        timer: &Timer,
        mut write: impl FnMut() -> Result<(), Error>,
    ) -> Result<(), Error> {
        match self.seconds {
            None => {
                while *calls < self.buffers {
                    write()?;
                    *calls += 1;
                }
            }
            Some(seconds) => {
                let end = timer.started() + Duration::from_secs(seconds);
                let burst = CLOCK_BYTES.div_ceil(self.length) as u64;
                while Instant::now() < end {
                    for _ in 0..burst {
                        write()?;
                    }
                    *calls += burst;
                }
            }
        }
        Ok(())
    }

    fn receive(&self) -> Result<(), Failed> {
        let mut listener = TcpListener::bind_with_backlog(self.any(), 1).during("listen")?;
        println!("ttcp-r: listening on {}", self.port);
        let (mut stream, peer) = listener.accept().during("accept")?;
        // With -R it goes on listening.
        let mut listener = Some(listener).filter(|_| self.reconnect);
        println!("ttcp-r: accept from {}", peer.ip());
        let mut buffer = vec![0; self.length];
        let mut sink = Sink::new(self.sink);
        let (mut earlier, mut calls, mut intact) = (0, 0, true);
        let timer = Timer::start()?;
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => {
                    sink.calls += 1;
                    break;
                }
                Ok(read) => {
                    sink.calls += 1;
                    sink.take(&buffer[..read]);
                }
                Err(error) if self.goes_on_after(error) => {
                    let Some(listener) = &mut listener else { return Err(Failed("read", error)) };
                    println!("ttcp-r: after {} bytes: {error}; again", sink.bytes);
                    let moved = core::mem::replace(&mut sink, Sink::new(self.sink)).moved();
                    (earlier, calls) = (earlier + moved.bytes, calls + moved.calls);
                    intact &= moved.verified;
                    stream = listener.accept().during("accept")?.0;
                }
                Err(error) => return Err(Failed("read", error)),
            }
        }
        let took = timer.stop()?;
        // The digest is the last connection's.
        let last = sink.moved();
        let (bytes, calls) = (earlier + last.bytes, calls + last.calls);
        self.report(&took, &Moved { bytes, calls, digest: last.digest, verified: intact && last.verified });
        Ok(())
    }

    fn transmit_datagrams(&self, to: SocketAddr) -> Result<(), Failed> {
        let local = match to {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let mut socket = UdpSocket::bind(SocketAddr::new(local, 0)).during("bind")?;
        socket.connect(to).during("connect")?;
        let sentinel = [0; SENTINEL_BYTES];
        let mut source = Source::new();
        let timer = Timer::start()?;
        socket.send(&sentinel).during("send")?;
        let mut calls = 0;
        let sent = self.source(&mut calls, &timer, || {
            socket.send(source.peek(self.length))?;
            source.advance(self.length);
            Ok(())
        });
        sent.during("send")?;
        for _ in 0..4 {
            socket.send(&sentinel).during("send")?; // one may be lost
        }
        let took = timer.stop()?;
        // What was lost only the receiver knows: nothing is verified here.
        let digest = Digest::of_pattern(source.position());
        self.report(&took, &Moved { bytes: source.position(), calls: calls + 5, digest, verified: false });
        Ok(())
    }

    fn receive_datagrams(&self) -> Result<(), Failed> {
        let mut socket = UdpSocket::bind(self.any()).during("bind")?;
        println!("ttcp-r: listening on {}", self.port);
        let mut buffer = vec![0; self.length];
        let mut sink = Sink::new(false);
        let (mut pieces, mut calls) = (Pieces::new(), 0);
        let mut timer = None;
        let took = loop {
            let read = socket.recv(&mut buffer).during("receive")?;
            calls += 1;
            if read > SENTINEL_BYTES {
                if timer.is_none() {
                    timer = Some(Timer::start()?); // the sentinel was lost
                }
                if self.sink {
                    pieces.check(&buffer[..read]);
                    sink.bytes += read as u64;
                } else {
                    sink.take(&buffer[..read]);
                }
            } else if let Some(timer) = timer.take() {
                break timer.stop()?;
            } else {
                timer = Some(Timer::start()?);
            }
        };
        // Datagrams get lost, so that there's no digest of all: each was compared with the pattern by itself.
        let verified = self.sink && pieces.wrong() == 0;
        if self.sink {
            println!(
                "ttcp-r: {} datagrams, {} missed, {} wrong",
                pieces.arrived(),
                pieces.missed(),
                pieces.wrong()
            );
        }
        self.report(&took, &Moved { bytes: sink.bytes, calls, digest: 0, verified });
        Ok(())
    }

    const fn any(&self) -> SocketAddr {
        let ip = if self.six { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
        SocketAddr::new(ip, self.port)
    }

    fn report(&self, took: &Took, moved: &Moved) {
        let (name, ns) = (self.name(), u128::from(took.ns));
        let Moved { bytes, calls, digest, verified } = *moved;
        let (wide, giga) = (u128::from(bytes), 1_000_000_000);
        println!(
            "{name}: {bytes} bytes in {} real seconds = {} KB/sec +++",
            Quotient::new(ns, giga),
            Quotient::new(wide * giga, ns * 1024)
        );
        let n = u128::from(calls);
        println!(
            "{name}: {calls} I/O calls, msec/call = {}, calls/sec = {}",
            Quotient::new(ns, n * 1_000_000),
            Quotient::new(n * giga, ns)
        );
        if self.verbose {
            println!(
                "{name}: digest {digest:#018x}, {}",
                if verified { "the pattern" } else { "not compared" }
            );
        }
        if self.machine {
            let verified = u8::from(verified);
            print!("#ttcp bytes={bytes} ns={ns} calls={calls} digest={digest:#018x} verified={verified}");
            // Each call copies once, between its buffer and the ring.
            print!(" app_copies={calls} app_copied_bytes={bytes}");
            took.print_gain();
        }
    }
}

/// What went through.
struct Moved {
    bytes: u64,
    calls: u64,
    digest: u64,
    verified: bool,
}

/// What becomes of the bytes that come.
struct Sink {
    digest: Option<Digest>,
    bytes: u64,
    calls: u64,
}

impl Sink {
    fn new(digest: bool) -> Self {
        Self { digest: digest.then(Digest::new), bytes: 0, calls: 0 }
    }

    #[inline]
    fn take(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        match &mut self.digest {
            Some(digest) => digest.update(bytes),
            None => console::write_bytes(bytes),
        }
    }

    fn moved(self) -> Moved {
        let digest = self.digest.map(|digest| digest.finish());
        let verified = digest == Some(Digest::of_pattern(self.bytes));
        Moved { bytes: self.bytes, calls: self.calls, digest: digest.unwrap_or(0), verified }
    }
}
