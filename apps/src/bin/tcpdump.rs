//! tcpdump: shows received frames as they come, on the path by message, or sends them away as a capture file.
//!
//! It opens the network device beside the protocol server and sets a packet filter of its own ([`abi::filter`]): of the highest priority,
//! and such that the server gets all that it would get without. What is sent passes no filter, and is not seen.
//!
//! A capture goes over TCP to a host that writes it to a file, in the format of libpcap (draft-ietf-opsawg-pcap) with times in
//! nanoseconds since boot. Its own connection is left out, or each acknowledgment would be a frame to send.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::{vec, vec::Vec};
use core::{fmt, net::SocketAddr, time::Duration};

use abi::{
    counters::Counter,
    filter::{Builder, PRIORITY_MAX},
    message::NET_FRAME,
};
use apps::{
    During, Failed, Usage, expression,
    frame::Frame,
    options::{Options, Word},
};
use userlib::{
    Error,
    counters::Snapshot,
    device::Device,
    entry::{Args, ExitStatus},
    info,
    message::receive_with,
    net::{Shutdown, TcpStream},
    port::ReceiveRight,
    println,
    time::{Deadline, Instant},
};

userlib::entry!(main);

const USAGE: &str = "[-c COUNT] [-T SECONDS] [-w HOST:PORT] [EXPRESSION]";
const MORE: &str = "\
    -c COUNT     ends after so many frames
    -T SECONDS   ends after so long
    -w HOST:PORT sends a capture file there instead of printing";

const DEVICE: &str = "net0";
/// How long the other end may take for a piece of the file.
const PATIENCE: Duration = Duration::from_secs(30);
/// A piece of the file is sent when it is so long, or when no frame is there.
const PIECE_BYTES: usize = 32 << 10;

fn main(args: Args) -> Result<ExitStatus, Failure> {
    if apps::helped(&args, "tcpdump", USAGE, MORE) {
        println!("EXPRESSION: {}", expression::PRIMITIVES);
        return Ok(ExitStatus(0));
    }
    match Plan::parse(args) {
        Ok(plan) => plan.run().map(|()| ExitStatus(0)),
        Err(usage) => Ok(apps::misused("tcpdump", &usage, USAGE)),
    }
}

/// Why it went wrong.
enum Failure {
    Failed(Failed),
    /// There are no filters.
    WrongPath,
    /// The filter can't be made as it is meant to be.
    Expression(Usage<'static>),
}

impl From<Failed> for Failure {
    fn from(failed: Failed) -> Self {
        Self::Failed(failed)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(failed) => failed.fmt(f),
            Self::WrongPath => {
                f.write_str("packet filters are there on the path by message only: boot with path=ipc")
            }
            Self::Expression(usage) => usage.fmt(f),
        }
    }
}

/// What the command line asks for.
struct Plan {
    count: u64,
    limit: Option<Duration>,
    to: Option<SocketAddr>,
    program: Builder,
}

impl Plan {
    fn parse(args: Args) -> Result<Self, Usage<'static>> {
        let (mut count, mut limit, mut to) = (u64::MAX, None, None);
        let mut words = Vec::new();
        for word in Options::new(args, "cTw") {
            match word? {
                Word::Option('c', text) => count = apps::number(text, 1..=u64::MAX)?,
                Word::Option('T', text) => limit = Some(Duration::from_secs(apps::number(text, 1..=86_400)?)),
                Word::Option('w', text) => to = Some(text.parse().map_err(|_| Usage::BadAddress(text))?),
                Word::Option(option, _) => return Err(Usage::Unknown(option)),
                Word::Operand(text) => words.push(text),
            }
        }
        Ok(Self { count, limit, to, program: expression::parse(words.into_iter())? })
    }

    fn run(&self) -> Result<(), Failure> {
        let device = match Device::open(DEVICE) {
            // On the other paths the server has it, or there is no server.
            Err(Error::Exists | Error::BadCall | Error::Denied) if info::option("path") != Some("ipc") => {
                return Err(Failure::WrongPath);
            }
            opened => opened.during("open")?,
        };
        let (mut file, mut program) = (None, self.program);
        if let Some(to) = self.to {
            let stream = connect(to).during("connect")?;
            program = expression::without_connection(program, stream.peer_addr(), stream.local_addr().port())
                .map_err(Failure::Expression)?;
            file = Some(Capture::begin(stream)?);
        }
        let port = ReceiveRight::allocate().during("port")?;
        let words = program.words().unwrap_or(&[]);
        device.set_filter(&port, PRIORITY_MAX as u8, true, words).during("filter")?;
        println!("tcpdump: listening on {DEVICE}");
        // The kernel's alone: to print, no server need be there.
        let before = Snapshot::take(None).during("counters")?;
        let room = device.info().during("device")?.frame_bytes_max as usize;
        let seen = self.watch(&port, room, file.as_mut())?;
        device.clear_filter(&port).during("filter")?;
        if let Some(file) = file {
            file.end()?;
        }
        // Of all ports with filters: the kernel does not say of which.
        let gain = Snapshot::take(None).during("counters")?.since(&before);
        let lost = gain.kernel(Counter::NetMessagesShed);
        println!("tcpdump: {seen} frames, {lost} lost because a port was full");
        Ok(())
    }

    /// Shows or stores frames until it is enough.
    fn watch(
        &self,
        port: &ReceiveRight,
        room: usize,
        mut file: Option<&mut Capture>,
    ) -> Result<u64, Failure> {
        let mut buffer = vec![0; room];
        let deadline = Deadline::after(self.limit);
        let mut seen = 0;
        while seen < self.count {
            let Some(left) = deadline.left_ns() else { break };
            // What the file still holds back goes before a wait.
            let holds = file.as_ref().is_some_and(|file| !file.held.is_empty());
            let limit = match left {
                _ if holds => Some(Duration::ZERO),
                abi::syscall::FOREVER => None,
                left => Some(Duration::from_nanos(left)),
            };
            let message = match receive_with(port, &mut buffer, limit) {
                Ok(message) if message.id == NET_FRAME => message,
                Ok(_) => continue,
                Err(Error::WouldBlock | Error::TimedOut) => {
                    if let Some(file) = &mut file {
                        file.flush()?;
                    }
                    continue;
                }
                Err(error) => return Err(Failed("receive", error).into()),
            };
            let now = Instant::now().as_nanos();
            seen += 1;
            match &mut file {
                Some(file) => file.frame(now, message.data())?,
                None => {
                    let (seconds, rest) = (now / 1_000_000_000, now % 1_000_000_000);
                    println!("{seconds}.{:06} {}", rest / 1000, Frame(message.data()));
                }
            }
        }
        Ok(seen)
    }
}

fn connect(to: SocketAddr) -> Result<TcpStream, Error> {
    let mut stream = TcpStream::connect_timeout(to, PATIENCE)?;
    stream.set_write_timeout(Some(PATIENCE));
    Ok(stream)
}

/// A capture file on its way.
struct Capture {
    stream: TcpStream,
    held: Vec<u8>,
}

impl Capture {
    /// Sends the file's header.
    fn begin(stream: TcpStream) -> Result<Self, Failed> {
        /// Times are seconds and nanoseconds.
        const MAGIC: u32 = 0xa1b2_3c4d;
        const VERSION: [u16; 2] = [2, 4];
        const LENGTH_MAX: u32 = 65_535;
        const ETHERNET: u32 = 1;
        let mut file = Self { stream, held: Vec::new() };
        file.words([MAGIC, u32::from(VERSION[1]) << 16 | u32::from(VERSION[0]), 0, 0, LENGTH_MAX, ETHERNET]);
        file.flush()?;
        Ok(file)
    }

    fn frame(&mut self, ns: u64, frame: &[u8]) -> Result<(), Failed> {
        let length = frame.len() as u32;
        self.words([(ns / 1_000_000_000) as u32, (ns % 1_000_000_000) as u32, length, length]);
        self.held.extend(frame);
        if self.held.len() < PIECE_BYTES { Ok(()) } else { self.flush() }
    }

    fn words<const N: usize>(&mut self, words: [u32; N]) {
        self.held.extend(words.into_iter().flat_map(u32::to_le_bytes));
    }

    fn flush(&mut self) -> Result<(), Failed> {
        self.stream.write_all(&self.held).during("write")?;
        self.held.clear();
        Ok(())
    }

    fn end(mut self) -> Result<(), Failed> {
        self.flush()?;
        self.stream.shutdown(Shutdown::Write).during("shutdown")?;
        self.stream.drain().during("write")
    }
}
