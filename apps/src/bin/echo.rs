//! echo: sends back what comes, by TCP and UDP (RFC 862), to many at once from one thread.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::{vec, vec::Vec};
use core::{net::SocketAddr, time::Duration};

use apps::{
    During, Failed, Usage,
    options::{Options, Word},
};
use pattern::Digest;
use userlib::{
    Error,
    entry::{Args, ExitStatus},
    mark,
    net::{AsSocket, Ipv4Addr, TcpListener, TcpStream, UdpSocket, Want, wait_any},
    print, println,
    time::Instant,
};

userlib::entry!(main);

const USAGE: &str = "[-p PORT] [-1] [-M]";
const BUFFER_BYTES: usize = 16 * 1024;
const BACKLOG: u32 = 32;

struct Plan {
    port: u16,
    /// Serve one connection, then end.
    once: bool,
    machine: bool,
}

fn main(args: Args) -> Result<ExitStatus, Failed> {
    let plan = match parse(args) {
        Ok(plan) => plan,
        Err(usage) => return Ok(apps::misused("echo", &usage, USAGE)),
    };
    if plan.once {
        serve_one(&plan)?;
    } else {
        serve_all(&plan)?;
    }
    Ok(ExitStatus(0))
}

fn parse(args: Args) -> Result<Plan, Usage<'static>> {
    let mut plan = Plan { port: 7, once: false, machine: false };
    for word in Options::new(args, "p") {
        match word? {
            Word::Option('p', text) => plan.port = apps::number(text, 1..=65_535)? as u16,
            Word::Option('1', _) => plan.once = true,
            Word::Option('M', _) => plan.machine = true,
            Word::Option(option, _) => return Err(Usage::Unknown(option)),
            Word::Operand(text) => return Err(Usage::Extra(text)),
        }
    }
    Ok(plan)
}

/// One connection, measured: the responder of a request/response test.
fn serve_one(plan: &Plan) -> Result<(), Failed> {
    let mut listener = TcpListener::bind_with_backlog(any(plan.port), 1).during("listen")?;
    println!("echo: listening on {}", plan.port);
    let (mut stream, _) = listener.accept().during("accept")?;
    let mut buffer = vec![0; BUFFER_BYTES];
    let (mut bytes, mut calls, mut digest) = (0_u64, 0_u64, Digest::new());
    let before = apps::counters()?;
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
        if plan.machine {
            digest.update(&buffer[..read]);
        }
    }
    let ns = start.elapsed().as_nanos();
    mark::stop();
    let after = apps::counters()?;
    println!("echo: {bytes} bytes in {calls} reads");
    if plan.machine {
        let (digest, verified) = (digest.finish(), u8::from(digest.finish() == Digest::of_pattern(bytes)));
        print!("#echo bytes={bytes} ns={ns} calls={calls} digest={digest:#018x} verified={verified}");
        // Each byte is copied out of one ring and into the other.
        print!(" app_copies={} app_copied_bytes={}", 2 * calls, 2 * bytes);
        apps::print_gain(&before, &after);
    }
    Ok(())
}

/// A connection, and what was read from it and is not yet written back.
struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    pending: core::ops::Range<usize>,
}

impl Connection {
    fn new(mut stream: TcpStream) -> Self {
        stream.set_nodelay(true);
        // Nothing blocks but the wait for all: one that reads slowly must not keep the others waiting.
        stream.set_read_timeout(Some(Duration::ZERO));
        stream.set_write_timeout(Some(Duration::ZERO));
        Self { stream, buffer: vec![0; BUFFER_BYTES], pending: 0..0 }
    }

    fn want(&self) -> Want {
        if self.pending.is_empty() { Want::Read } else { Want::Write }
    }

    /// Goes on as far as it can without waiting; false once the connection is over.
    fn go_on(&mut self) -> bool {
        loop {
            if self.pending.is_empty() {
                match self.stream.read(&mut self.buffer) {
                    Ok(0) => return false,
                    Ok(read) => self.pending = 0..read,
                    Err(Error::TimedOut) => return true,
                    Err(_) => return false,
                }
            }
            match self.stream.write(&self.buffer[self.pending.clone()]) {
                Ok(written) => self.pending.start += written,
                Err(Error::TimedOut) => return true,
                Err(_) => return false,
            }
        }
    }
}

fn serve_all(plan: &Plan) -> Result<(), Failed> {
    let mut listener = TcpListener::bind_with_backlog(any(plan.port), BACKLOG).during("listen")?;
    let mut datagrams = UdpSocket::bind(any(plan.port)).during("bind")?;
    datagrams.set_read_timeout(Some(Duration::ZERO));
    println!("echo: listening on {}", plan.port);
    let mut connections: Vec<Connection> = Vec::new();
    let mut datagram = vec![0; 65_536];
    loop {
        let mut waits: Vec<(&dyn AsSocket, Want)> = vec![(&listener, Want::Accept), (&datagrams, Want::Read)];
        waits.extend(connections.iter().map(|it| (&it.stream as &dyn AsSocket, it.want())));
        wait_any(&waits, None).during("wait")?;
        while listener.is_ready(Want::Accept) {
            match listener.accept_timeout(Duration::ZERO) {
                Ok((stream, _)) => connections.push(Connection::new(stream)),
                Err(Error::TimedOut) => break,
                Err(error) => {
                    println!("echo: accept: {error}");
                    break;
                }
            }
        }
        while let Ok((length, from)) = datagrams.recv_from(&mut datagram) {
            let _ = datagrams.send_to(&datagram[..length], from); // as lost as any other datagram
        }
        connections
            .retain_mut(|connection| !connection.stream.is_ready(connection.want()) || connection.go_on());
    }
}

const fn any(port: u16) -> SocketAddr {
    SocketAddr::new(core::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)
}
