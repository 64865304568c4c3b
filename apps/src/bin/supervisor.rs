//! supervisor: starts the protocol servers, watches them, and starts them again ([`abi::supervise`]).
//!
//! A server that ends, for whatever reason, is told by the kernel. One that hangs is found by a question now and then that a
//! living server answers: twice a second, and less often while its status page says that it sleeps. No packet costs anything for it.
//!
//! The supervisor may die like any other task: `init` has the servers' tasks and leases, and the next supervisor adopts them.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::{format, string::String, vec::Vec};
use core::time::Duration;

use abi::{
    Error,
    mark::{DOWN, UP},
    message::NOTIFY_DEAD_NAME,
    name::{self, LOOK_UP, NETWORK},
    socket::{self, Request},
    supervise::{
        ADOPT, CHAOS, EXIT, FAULT, HANG, KEEP, KILL, Lease, NAME, RESTARTS, SERVERS_MAX, START, Victim,
    },
    thread::{STATUS_FAULT, STATUS_KILLED, STATUS_WINDOW},
};
use apps::{During, Failed};
use userlib::{
    entry::Args,
    info, mark,
    message::{Incoming, Outgoing, ask, receive},
    port::{PortSet, ReceiveRight, SendRight},
    println,
    task::{self, Task},
    time::Instant,
};

userlib::entry!(main);

/// Between two questions.
const PERIOD: Duration = Duration::from_millis(500);
/// How long the answer to one may take. Asked of once more after that: it may have been the machine that stood still.
const PATIENCE: Duration = Duration::from_millis(1000);
/// A server that lived less long than this is started again only after a while.
const SOON: Duration = Duration::from_millis(100);
/// That while, the first time and at most; it doubles.
const BACKOFF: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

fn main(_: Args) -> Result<(), Failed> {
    let port = ReceiveRight::allocate().during("port")?;
    let notify = ReceiveRight::allocate().during("port")?;
    let set = PortSet::allocate().during("port")?;
    set.add(&port).during("port")?;
    set.add(&notify).during("port")?;
    // One that is told of its predecessor's death later than this one asks answers `Exists` for a moment: `init` hears of it first.
    userlib::name::register(NAME, &port).during("register")?;
    let count = info::option("servers").and_then(|text| text.parse().ok()).unwrap_or(1).clamp(1, SERVERS_MAX);
    let mut servers = Vec::new();
    for at in 0..count {
        let mut server = Server::new(at, &set).during("port")?;
        server.adopt(&notify);
        servers.push(server);
    }
    let mut restarts = 0;
    loop {
        let now = Instant::now();
        for server in &mut servers {
            server.look(now, &notify);
        }
        let next = servers.iter().map(|server| server.next).fold(now + PERIOD, Ord::min);
        let next = if next < now { now } else { next };
        let Ok(mut message) = receive(&set, Some(next - now)) else { continue };
        if message.destination == notify.name() {
            let (dead, status) = (message.word(0).unwrap_or(0), message.word(1).unwrap_or(0));
            if message.id == NOTIFY_DEAD_NAME
                && let Some(server) = servers.iter_mut().find(|server| server.is(dead))
            {
                restarts += 1;
                server.died(status, &set, &notify);
            }
        } else if message.destination == port.name() {
            let status = obey(&message, &servers);
            let reply =
                Outgoing::with_words(name::REPLY, &[status.map_or_else(Error::raw, |()| 0), restarts]);
            answer(&mut message, reply);
        } else if let Some(server) = servers.iter_mut().find(|it| it.replies.name() == message.destination) {
            server.hear(&mut message);
        }
    }
}

/// Does what somebody asks, if the command line allows it.
fn obey(message: &Incoming, servers: &[Server]) -> Result<(), Error> {
    if message.id == RESTARTS {
        return Ok(());
    }
    if info::option(CHAOS) != Some("1") {
        return Err(Error::Denied);
    }
    let server = message.word(1).and_then(|at| servers.get(at as usize)).ok_or(Error::BadArgument)?;
    match (message.id, message.word(0).and_then(Victim::from_raw)) {
        (KILL, Some(Victim::Server)) => {
            let task = server.task.as_ref().ok_or(Error::Dead)?;
            if server.down.is_none() {
                mark::mark::<DOWN>();
            }
            task.terminate()
        }
        // No one is answered then.
        (KILL, Some(Victim::Supervisor)) => task::exit(u64::from(u8::MAX)),
        (HANG | FAULT | EXIT, _) => {
            let port = server.port.as_ref().ok_or(Error::Dead)?;
            Outgoing::new(message.id).send(port, Some(Duration::ZERO))
        }
        _ => Err(Error::BadArgument),
    }
}

fn answer(message: &mut Incoming, mut reply: Outgoing<'_>) {
    if let Some(to) = message.take_reply() {
        let _ = reply.answer(to); // who asked may have died
    }
}

/// A protocol server.
struct Server {
    at: usize,
    /// What its name is registered as.
    name: String,
    task: Option<Task>,
    /// Where it is asked, once it is registered.
    port: Option<SendRight>,
    /// Where its answers come, and the name service's. One for each life: what comes too late goes nowhere.
    replies: ReceiveRight,
    lease: Option<Lease>,
    /// A question has been out since then; it was put so often.
    asked: Option<(Instant, u32)>,
    /// When there is something to be done.
    next: Instant,
    started: Instant,
    /// When the one before ended, until this one is registered.
    down: Option<(Instant, u32)>,
    quick_ends: u32,
    /// One of its lives came so far as to be registered.
    has_lived: bool,
    /// None of its lives would.
    given_up: bool,
}

impl Server {
    fn new(at: usize, set: &PortSet) -> Result<Self, Error> {
        let replies = ReceiveRight::allocate()?;
        set.add(&replies)?;
        let now = Instant::now();
        let network = str::from_utf8(NETWORK).unwrap_or_default();
        Ok(Self {
            at,
            name: if at == 0 { network.into() } else { format!("{network}{at}") },
            task: None,
            port: None,
            replies,
            lease: None,
            asked: None,
            next: now,
            started: now,
            down: None,
            quick_ends: 0,
            has_lived: false,
            given_up: false,
        })
    }

    fn is(&self, task: u32) -> bool {
        self.task.as_ref().is_some_and(|it| it.right().name() == task)
    }

    /// Goes on from where the supervisor before this one was.
    fn adopt(&mut self, notify: &ReceiveRight) {
        let request = Outgoing::with_words(ADOPT, &[self.at as u32]);
        let Ok(mut reply) = ask(&task::bootstrap(), request, None) else { return };
        self.lease = Lease::from_words(core::array::from_fn(|i| reply.word(1 + i).unwrap_or(0)));
        if let Some(right) = reply.take_carried() {
            let task = Task::adopt(SendRight::new(right));
            // If it has died meanwhile there is nothing to adopt.
            if task.right().notify_dead(notify).is_ok() {
                println!("supervisor: {} goes on", self.name);
                self.has_lived = true;
                self.task = Some(task);
                self.find();
            }
        }
    }

    /// Does what is due.
    fn look(&mut self, now: Instant, notify: &ReceiveRight) {
        if now < self.next {
            return;
        }
        self.next = now + PERIOD;
        if self.given_up {
            // There is nothing to be done.
        } else if self.task.is_none() {
            self.start(notify);
        } else if let Some(port) = &self.port {
            match self.asked {
                None => {
                    let mut question = Outgoing::new(Request::Lease.raw()).reply_once_to(&self.replies);
                    // A full queue is no answer either; of a death there is a message.
                    let _ = question.send(port, Some(Duration::ZERO));
                    self.asked = Some((now, 1));
                    self.next = now + PATIENCE;
                }
                Some((since, 1)) => {
                    self.asked = Some((since, 2));
                    self.next = now + PATIENCE;
                }
                Some((since, _)) => {
                    let ms = since.elapsed().as_millis();
                    println!("supervisor: {} has not answered for {ms} ms: ending it", self.name);
                    self.asked = None;
                    if let Some(task) = &self.task {
                        let _ = task.terminate(); // of which there will be a message
                    }
                }
            }
        }
    }

    fn start(&mut self, notify: &ReceiveRight) {
        let mut arguments = if self.at == 0 { String::new() } else { format!("{}", self.at) };
        if self.lease.is_some() {
            let [address, prefix, router, ends] = Lease::to_words(self.lease);
            arguments += &format!(" lease={address},{prefix},{router},{ends}");
        }
        let mut body = Vec::from((self.at as u32).to_le_bytes());
        body.extend(arguments.as_bytes());
        self.started = Instant::now();
        let started =
            ask(&task::bootstrap(), Outgoing::with_bytes(START, &body), None).and_then(|mut reply| {
                reply.status()?;
                let task = reply.take_carried().map(SendRight::new).ok_or(Error::PeerMisbehaviour)?;
                task.notify_dead(notify)?;
                Ok(Task::adopt(task))
            });
        match started {
            Ok(task) => {
                self.task = Some(task);
                self.find();
            }
            Err(error) => {
                println!("supervisor: {}: {error}", self.name);
                self.next = self.started + self.backoff();
            }
        }
    }

    /// Asks the name service for it: the answer comes when it has registered.
    fn find(&self) {
        let mut request = Outgoing::with_bytes(LOOK_UP, self.name.as_bytes()).reply_once_to(&self.replies);
        if let Err(error) = request.send(&task::bootstrap(), None) {
            println!("supervisor: {}: {error}", self.name);
        }
    }

    /// Something came for it.
    fn hear(&mut self, message: &mut Incoming) {
        if message.id == socket::REPLY {
            self.asked = None;
            self.next = Instant::now() + PERIOD;
            let lease = Lease::from_words(core::array::from_fn(|i| message.word(1 + i).unwrap_or(0)));
            if lease != self.lease {
                self.lease = lease;
                let words = Lease::to_words(lease);
                let mut keep =
                    words.into_iter().fold(Outgoing::with_words(KEEP, &[self.at as u32]), Outgoing::word);
                let _ = keep.send(&task::bootstrap(), None); // as long as there is an `init`
            }
        } else if message.id == name::REPLY
            && let Some(right) = message.take_carried()
        {
            self.port = Some(SendRight::new(right));
            self.has_lived = true;
            self.next = Instant::now(); // there may be a lease to know of
            if let Some((since, status)) = self.down.take() {
                mark::mark::<UP>();
                let us = since.elapsed().as_micros();
                let why = match status {
                    STATUS_KILLED => " (killed)",
                    STATUS_FAULT => " (fault)",
                    STATUS_WINDOW => " (window)",
                    _ => "",
                };
                println!("supervisor: {} ended with status {status}{why}, again after {us} us", self.name);
            }
        }
    }

    fn backoff(&mut self) -> Duration {
        let wait = BACKOFF.saturating_mul(1 << self.quick_ends.min(16)).min(BACKOFF_MAX);
        self.quick_ends += 1;
        wait
    }

    /// It has ended: starts another, at once unless this one lived very shortly.
    fn died(&mut self, status: u32, set: &PortSet, notify: &ReceiveRight) {
        let now = Instant::now();
        (self.task, self.port, self.asked) = (None, None, None);
        if !self.has_lived && status < STATUS_KILLED {
            // It has said why: a wrong option, no device. Another would say the same.
            println!("supervisor: {}: exit status {status}, not started again", self.name);
            self.given_up = true;
            return;
        }
        if let Ok(replies) = ReceiveRight::allocate()
            && set.add(&replies).is_ok()
        {
            self.replies = replies;
        }
        // One that could not be used for a while is down since its predecessor ended.
        let down = self.down.map_or(now, |(since, _)| since);
        self.down = Some((down, status));
        if now - self.started < SOON {
            self.next = now + self.backoff();
        } else {
            self.quick_ends = 0;
            self.next = now;
            self.look(now, notify);
        }
    }
}
