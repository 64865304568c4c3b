//! The host's ends of the traffic during which servers die, or the link is down: each carries on by itself, and notes how long it had no answer.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use linux_guest::icmp::{Client, Reply};
use pattern::{Source, Verifier};

use crate::error::{Context as _, Result, failed};
use crate::network::Link;
use crate::{sys, traffic};

/// After so long without an answer a peer tries again.
const TRY: Duration = Duration::from_millis(50);
/// The longest silence.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the ends of the transfers may take.
const ENDING: Duration = Duration::from_secs(20);

/// What a peer has seen.
pub struct Seen {
    /// Which one.
    pub what: &'static str,
    /// The times without an answer, in milliseconds.
    pub gaps: Vec<f64>,
    /// How many connections it took; none for pings.
    pub connections: u64,
    /// What it moved, for people.
    pub moved: String,
}

/// Where they find the guest's programs, and are found by them.
#[derive(Clone, Copy)]
pub struct Ports {
    /// The guest's `echo`.
    pub echo: u16,
    /// The guest's receiving `ttcp`.
    pub sink: u16,
    /// The host's receiver.
    pub source: u16,
}

/// All peers, running.
pub struct Peers {
    begun: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<Seen>>>,
}

impl Peers {
    /// Starts them; they wait for [`begin`](Self::begin). A stream to the guest that stands still for so long is followed by another.
    pub fn start(link: &Link, Ports { echo, sink, source }: Ports, stream_try: Duration) -> Result<Self> {
        let (begun, over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let listener = traffic::listen(link.listen_address(), source)?;
        let (guest, echo, sink) = (link.guest_address(), link.guest(echo), link.guest(sink));
        let flags = || Flags { begun: Arc::clone(&begun), over: Arc::clone(&over) };
        let threads = vec![
            spawn(flags(), move |flags| ping(guest, &flags)),
            spawn(flags(), move |flags| request_response(echo, &flags)),
            spawn(flags(), move |flags| send(sink, stream_try, &flags)),
            spawn(flags(), move |flags| receive(&listener, &flags)),
        ];
        Ok(Self { begun, over, threads })
    }

    /// The guest's programs are there.
    pub fn begin(&self) {
        self.begun.store(true, Relaxed); // no data goes with the flag
    }

    /// Ends all, and tells what they have seen.
    pub fn end(self) -> Result<Vec<Seen>> {
        self.over.store(true, Relaxed); // no data goes with the flag
        self.threads.into_iter().map(traffic::join).collect()
    }
}

struct Flags {
    begun: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
}

impl Flags {
    fn over(&self) -> bool {
        self.over.load(Relaxed) || sys::interrupted()
    }

    fn wait_to_begin(&self) {
        while !self.begun.load(Relaxed) && !self.over() {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn spawn(
    flags: Flags,
    peer: impl FnOnce(Flags) -> Result<Seen> + Send + 'static,
) -> JoinHandle<Result<Seen>> {
    thread::spawn(move || peer(flags))
}

/// The times between two answers.
struct Gaps {
    last: Instant,
    gaps: Vec<f64>,
}

impl Gaps {
    fn new() -> Self {
        Self { last: Instant::now(), gaps: Vec::new() }
    }

    fn answered(&mut self) {
        let now = Instant::now();
        let gap = now - self.last;
        // Shorter ones are no outages.
        if gap > Duration::from_millis(5) {
            self.gaps.push(gap.as_secs_f64() * 1000.0);
        }
        self.last = now;
    }

    fn check(&self, what: &str) -> Result<()> {
        let silence = self.last.elapsed();
        if silence > PATIENCE {
            failed(format!("{what}: no answer for {} s", silence.as_secs()))
        } else {
            Ok(())
        }
    }
}

/// A flood of pings: the next when the one before is answered, or after a while.
fn ping(to: Ipv4Addr, flags: &Flags) -> Result<Seen> {
    let what = "ping flood";
    let mut client = Client::new(to).context("a raw socket")?;
    flags.wait_to_begin();
    let (mut gaps, mut sent, mut answered) = (Gaps::new(), 0_u64, 0_u64);
    while !flags.over() {
        match client.ask(sent as u16, &[0x5a; 56], Duration::from_millis(20)) {
            Ok(Reply::Right(_)) => {
                gaps.answered();
                answered += 1;
            }
            // An error: the host has asked for the guest's station address, and had no answer either.
            Ok(Reply::Nothing) | Err(_) => gaps.check(what)?,
            Ok(Reply::Wrong) => return failed("a ping was answered with other data"),
        }
        sent += 1;
    }
    gaps.check(what)?;
    Ok(Seen { what, gaps: gaps.gaps, connections: 0, moved: format!("{answered} of {sent} answered") })
}

/// A connection, tried for again and again until there is one.
fn connect(to: SocketAddr, flags: &Flags, gaps: &Gaps, what: &str) -> Result<Option<TcpStream>> {
    while !flags.over() {
        match TcpStream::connect_timeout(&to, TRY) {
            Ok(stream) => {
                stream.set_nodelay(true).context("socket")?;
                return Ok(Some(stream));
            }
            Err(_) => gaps.check(what)?,
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok(None)
}

/// One byte there and back, on as many connections as it takes.
fn request_response(to: SocketAddr, flags: &Flags) -> Result<Seen> {
    let what = "request/response";
    flags.wait_to_begin();
    let (mut gaps, mut count, mut connections) = (Gaps::new(), 0_u64, 0_u64);
    while let Some(mut stream) = connect(to, flags, &gaps, what)? {
        stream.set_read_timeout(Some(TRY)).context("socket")?;
        connections += 1;
        while !flags.over() {
            let byte = [count as u8];
            let mut back = [0];
            // A connection that is silent for long may be one whose server has died: another will tell.
            if stream.write_all(&byte).and_then(|()| stream.read_exact(&mut back)).is_err() {
                gaps.check(what)?;
                break;
            }
            if back != byte {
                return failed(format!("{what}: the answer {count} was wrong"));
            }
            gaps.answered();
            count += 1;
        }
    }
    let moved = format!("{count} answers on {connections} connections");
    Ok(Seen { what, gaps: gaps.gaps, connections, moved })
}

/// Sends the pattern, from its start on each connection, until all is over; the last one ends in good order.
fn send(to: SocketAddr, stream_try: Duration, flags: &Flags) -> Result<Seen> {
    let what = "to the guest";
    flags.wait_to_begin();
    let (mut gaps, mut bytes, mut connections) = (Gaps::new(), 0_u64, 0_u64);
    let ending = loop {
        let Some(mut stream) = connect(to, flags, &gaps, what)? else { break Instant::now() };
        stream.set_write_timeout(Some(stream_try)).context("socket")?;
        connections += 1;
        let mut source = Source::new();
        let broken = loop {
            if flags.over() {
                break finish(&mut stream).is_err();
            }
            match stream.write(source.peek(8192)) {
                Ok(written) => {
                    source.advance(written);
                    gaps.answered();
                }
                Err(_) => {
                    gaps.check(what)?;
                    // Not as if it were the end: the guest's receiver goes on listening.
                    let _ = sys::reset(stream);
                    break true;
                }
            }
        };
        bytes += source.position();
        if !broken {
            return Ok(Seen { what, gaps: gaps.gaps, connections, moved: moved(bytes, connections) });
        }
        if flags.over() {
            break Instant::now();
        }
    };
    // The receiver waits for a connection that ends in good order.
    while ending.elapsed() < ENDING && !sys::interrupted() {
        if let Ok(mut stream) = TcpStream::connect_timeout(&to, Duration::from_secs(1))
            && finish(&mut stream).is_ok()
        {
            let connections = connections + 1;
            return Ok(Seen { what, gaps: gaps.gaps, connections, moved: moved(bytes, connections) });
        }
    }
    failed(format!("{what}: no connection ended in good order"))
}

fn moved(bytes: u64, connections: u64) -> String {
    format!("{:.1} MB on {connections} connections", bytes as f64 / 1e6)
}

/// Ends a connection, and waits until the other end has.
fn finish(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(ENDING))?;
    stream.shutdown(Shutdown::Write)?;
    while stream.read(&mut [0; 64])? != 0 {}
    Ok(())
}

/// Receives on one connection after the other; each carries the pattern from its start.
fn receive(listener: &TcpListener, flags: &Flags) -> Result<Seen> {
    let what = "from the guest";
    let (mut gaps, mut bytes, mut connections) = (Gaps::new(), 0_u64, 0_u64);
    let mut current: Option<(TcpStream, Verifier)> = None;
    let mut buffer = vec![0; 128 << 10];
    flags.wait_to_begin();
    gaps.last = Instant::now();
    loop {
        // A connection that comes follows one whose other end is gone, whatever that says.
        if sys::readable(listener, Duration::ZERO).context("accept")? {
            let (stream, _) = listener.accept().context("accept")?;
            stream.set_read_timeout(Some(Duration::from_millis(20))).context("socket")?;
            current = Some((stream, Verifier::new()));
            connections += 1;
        }
        let Some((stream, verifier)) = &mut current else {
            if flags.over() {
                return Ok(Seen { what, gaps: gaps.gaps, connections, moved: moved(bytes, connections) });
            }
            thread::sleep(Duration::from_millis(2));
            gaps.check(what)?;
            continue;
        };
        match stream.read(&mut buffer) {
            // The guest's sender has done: no server that dies says so.
            Ok(0) => {
                return Ok(Seen { what, gaps: gaps.gaps, connections, moved: moved(bytes, connections) });
            }
            Ok(read) => {
                verifier.check(&buffer[..read]);
                if let Some(at) = verifier.first_error() {
                    return failed(format!("{what}: byte {at} of connection {connections} was wrong"));
                }
                gaps.answered();
                bytes += read as u64;
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                // Whoever waits for the end has seen the guest's already.
                if flags.over() {
                    current = None;
                }
                gaps.check(what)?;
            }
            Err(_) => current = None,
        }
    }
}
