//! hog: takes all that it gets of one kind of thing, keeps it for a while, and ends. What is right: an error at the end of the taking, and
//! nobody who has what he needs notices.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec::Vec;
use core::{net::SocketAddr, time::Duration};

use abi::{port, thread::PRIORITY_APPLICATION, vm::PAGE_BYTES};
use apps::{During, Failed, Usage};
use userlib::{
    Error,
    entry::{Args, ExitStatus},
    memory::{Mapping, MemoryObject},
    message::Outgoing,
    net::{Ipv4Addr, TcpListener, UdpSocket},
    port::ReceiveRight,
    println,
    task::Task,
    thread,
    time::Instant,
};

userlib::entry!(main);

const USAGE: &str = "memory|objects|ports|messages|threads|tasks|sockets|listeners|deaf [SECONDS]";
/// What a child is told: to do nothing until it is ended.
const IDLE: &str = "idle";
/// No kind of thing has more, but for pages.
const MOST: usize = 4096;
/// Where connections come to that are not read from.
const DEAF_PORT: u16 = 5030;
/// Memory is taken in pieces of so much, then in pages.
const PIECE: usize = 1 << 20;

fn main(mut args: Args) -> Result<ExitStatus, Failed> {
    let kind = args.next().unwrap_or("");
    let seconds = match apps::number(args.next().unwrap_or("0"), 0..=86_400) {
        Ok(seconds) => seconds,
        Err(usage) => return Ok(apps::misused("hog", &usage, USAGE)),
    };
    match kind {
        "memory" => keep(kind, seconds, take_memory()),
        "objects" => keep(kind, seconds, take(|_| MemoryObject::create(PAGE_BYTES as usize))),
        "ports" => keep(kind, seconds, take(|_| ReceiveRight::allocate())),
        "messages" => take_messages(kind, seconds).during("port")?,
        "threads" => keep(kind, seconds, take(|_| thread::spawn(idle, 0, 8192, PRIORITY_APPLICATION))),
        "tasks" => {
            let (children, error) = take(|_| Task::spawn("hog", IDLE, PRIORITY_APPLICATION, port::BOOTSTRAP));
            report(kind, children.len(), error);
            thread::sleep(Duration::from_secs(seconds));
            // They outlive their maker.
            for child in &children {
                child.terminate().during("terminate")?;
            }
        }
        "sockets" => keep(kind, seconds, take(|_| UdpSocket::bind(any(0)))),
        "listeners" => {
            keep(kind, seconds, take(|n| TcpListener::bind_with_backlog(any(20_000 + n as u16), 8)));
        }
        "deaf" => be_deaf(seconds)?,
        IDLE => idle(0),
        word => return Ok(apps::misused("hog", &Usage::Extra(word), USAGE)),
    }
    Ok(ExitStatus(0))
}

const fn any(port: u16) -> SocketAddr {
    SocketAddr::new(core::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)
}

extern "C" fn idle(_: u64) -> ! {
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}

/// Takes connections, and reads nothing from them.
fn be_deaf(seconds: u64) -> Result<(), Failed> {
    let mut listener = TcpListener::bind_with_backlog(any(DEAF_PORT), 8).during("listen")?;
    println!("hog: listening on {DEAF_PORT}");
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut connections = Vec::new();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        match listener.accept_timeout(left) {
            Ok((stream, _)) => connections.push(stream),
            Err(Error::TimedOut) => return Ok(()),
            Err(error) => return Err(Failed("accept", error)),
        }
    }
}

/// Takes until there is no more.
fn take<T>(mut one: impl FnMut(usize) -> Result<T, Error>) -> (Vec<T>, Option<Error>) {
    // The list itself must not be what there is no memory for.
    let mut taken = Vec::with_capacity(MOST);
    while taken.len() < MOST {
        match one(taken.len()) {
            Ok(it) => taken.push(it),
            Err(error) => return (taken, Some(error)),
        }
    }
    (taken, None)
}

fn take_memory() -> (Vec<Mapping>, Option<Error>) {
    let mut size = PIECE;
    take(|_| {
        loop {
            match Mapping::allocate(size) {
                Err(Error::NoResources) if size > PAGE_BYTES as usize => size /= 2,
                result => return result,
            }
        }
    })
}

/// Messages to oneself, as many as are kept for one task: a port takes some of them.
fn take_messages(kind: &str, seconds: u64) -> Result<(), Error> {
    let mut ports = Vec::with_capacity(MOST);
    let (sent, error) = take(|_| {
        loop {
            let full = match ports.last() {
                None => Error::QueueFull,
                Some(port) => match send_to(port) {
                    Ok(()) => return Ok(()),
                    Err(error) => error,
                },
            };
            if full != Error::QueueFull || ports.len() == MOST {
                return Err(full);
            }
            ports.push(ReceiveRight::allocate()?);
        }
    });
    report(kind, sent.len(), error);
    thread::sleep(Duration::from_secs(seconds));
    Ok(())
}

fn send_to(port: &ReceiveRight) -> Result<(), Error> {
    Outgoing::new(1).send(&port.make_send()?, Some(Duration::ZERO))
}

/// Says how much there was, and lets go of it after a while.
fn keep<T>(kind: &str, seconds: u64, (taken, error): (Vec<T>, Option<Error>)) {
    report(kind, taken.len(), error);
    thread::sleep(Duration::from_secs(seconds));
    drop(taken);
}

fn report(kind: &str, count: usize, error: Option<Error>) {
    match error {
        Some(error) => println!("hog: {count} {kind}, then: {error}"),
        None => println!("hog: {count} {kind}, and there are more"),
    }
}
