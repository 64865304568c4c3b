//! The first task: starts the supervisor and the shell, and is the name service that they and all applications share.
//!
//! It is also the only task that may end the machine, which it does when the shell asks or ends. It starts the supervisor again when that
//! ends, and keeps for it what must not be lost with it ([`abi::supervise`]): the protocol servers' tasks and their leases.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::{string::String, vec::Vec};
use core::time::Duration;

use abi::{
    Error, exit,
    message::NOTIFY_DEAD_NAME,
    name::{LOOK_UP, NETWORK, POWER_OFF, REGISTER, REPLY},
    path::Path,
    supervise::{ADOPT, CONTROL, KEEP, Lease, NAME, SERVER, SERVERS_MAX, START},
    syscall::NAME_MAX,
    thread::{PRIORITY_APPLICATION, PRIORITY_SERVER},
};
use apps::{During, Failed};
use userlib::{
    entry::Args,
    info,
    message::{Incoming, Outgoing, receive},
    port::{ReceiveRight, Right, SendRight},
    println,
    task::{self, Task},
    time::Instant,
};

userlib::entry!(main);

/// The shell runs above what it starts: it sees Ctrl-C.
const PRIORITY_SHELL: u64 = PRIORITY_APPLICATION + 1;
/// The supervisor runs above the servers: it sees one that never sleeps.
const PRIORITY_SUPERVISOR: u64 = PRIORITY_SERVER + 1;
/// A supervisor that ends sooner than this, so many times in a row, is not started again.
const SUPERVISOR_SOON: Duration = Duration::from_millis(200);
const SUPERVISOR_TRIES: u32 = 8;
/// Look-ups that may wait for their name at once; the oldest makes room.
const WAITING_MAX: usize = 64;
/// Names that may be registered.
const NAMES_MAX: usize = 64;

fn main(_: Args) -> Result<(), Failed> {
    let port = ReceiveRight::allocate().during("port")?;
    let bootstrap = port.make_send().during("port")?;
    let mut shell = None;
    // The shell's number, by which its wish to end the machine is known.
    let mut shell_number = None;
    let mut servers = Servers::new(bootstrap);
    // On the third path the stack is in the kernel.
    if info::option(Path::OPTION) != Some(Path::Monolithic.name()) {
        servers.start_supervisor(&port);
    }
    if info::option("shell") != Some("0") {
        match Task::spawn("sh", "", PRIORITY_SHELL, servers.bootstrap.name()) {
            Ok(task) => {
                task.right().notify_dead(&port).during("notify")?;
                shell_number = newest("sh");
                shell = Some(task);
            }
            Err(error) => println!("init: sh: {error}"),
        }
    }
    if servers.supervisor.is_none() && shell.is_none() {
        println!("init: nothing to run");
        task::power_off(exit::OFF).during("power off")?;
    }
    let mut names = Names { port, registered: Vec::new(), waiting: Vec::new() };
    loop {
        let mut message = receive(&names.port, None).during("receive")?;
        match message.id {
            REGISTER => names.register(&mut message, &servers),
            LOOK_UP => names.look_up(&mut message, &servers),
            START | ADOPT | KEEP => servers.ask(&mut message, &names.port),
            POWER_OFF if shell_number == Some(message.sender) => {
                task::power_off(message.word(0).unwrap_or(exit::OFF)).during("power off")?;
            }
            NOTIFY_DEAD_NAME => {
                let (dead, status) = (message.word(0).unwrap_or(0), message.word(1).unwrap_or(0));
                names.forget(dead);
                servers.died(dead, status, &names.port);
                if shell.as_ref().is_some_and(|task| task.right().name() == dead) {
                    println!("init: sh: exit status {status}");
                    task::power_off(exit::OFF).during("power off")?;
                }
            }
            _ => answer(message.take_reply(), Outgoing::with_words(REPLY, &[Error::Denied.raw()])),
        }
    }
}

/// The number of the youngest task that runs a program, right after it was spawned.
fn newest(program: &str) -> Option<u32> {
    let ids = task::all().filter(|row| task::program_name(row) == program).map(|row| row.id);
    ids.max().and_then(|id| u32::try_from(id).ok())
}

/// The supervisor, and what is kept for the next one.
struct Servers {
    /// What all tasks are given: the right to send here.
    bootstrap: SendRight,
    supervisor: Option<Task>,
    /// Its number, by which its messages are known.
    number: Option<u32>,
    started: Instant,
    quick_ends: u32,
    tasks: [Option<Task>; SERVERS_MAX],
    /// The numbers of the last of them: whose the names are.
    numbers: [Option<u32>; SERVERS_MAX],
    leases: [[u32; Lease::WORDS]; SERVERS_MAX],
}

impl Servers {
    fn new(bootstrap: SendRight) -> Self {
        let (started, leases) = (Instant::now(), [[0; Lease::WORDS]; SERVERS_MAX]);
        let (tasks, numbers) = ([const { None }; SERVERS_MAX], [None; SERVERS_MAX]);
        Self { bootstrap, supervisor: None, number: None, started, quick_ends: 0, tasks, numbers, leases }
    }

    fn start_supervisor(&mut self, port: &ReceiveRight) {
        self.started = Instant::now();
        let spawned = Task::spawn("supervisor", "", PRIORITY_SUPERVISOR, self.bootstrap.name())
            .and_then(|task| task.right().notify_dead(port).map(|()| task));
        match spawned {
            Ok(task) => {
                self.number = newest("supervisor");
                self.supervisor = Some(task);
            }
            Err(error) => println!("init: supervisor: {error}"),
        }
    }

    /// Answers the supervisor, and nobody else.
    fn ask(&mut self, message: &mut Incoming, port: &ReceiveRight) {
        let at = message.word(0).map(|word| word as usize).filter(|&at| at < SERVERS_MAX);
        let outcome = match at {
            _ if self.number != Some(message.sender) => Err(Error::Denied),
            None => Err(Error::BadArgument),
            Some(at) => match message.id {
                START => self.start(at, message, port),
                ADOPT => Ok(self.adopt(at)),
                _ => {
                    self.leases[at] = core::array::from_fn(|i| message.word(1 + i).unwrap_or(0));
                    Ok(Outgoing::with_words(REPLY, &[0]))
                }
            },
        };
        let reply = outcome.unwrap_or_else(|error| Outgoing::with_words(REPLY, &[error.raw()]));
        answer(message.take_reply(), reply);
    }

    fn start(
        &mut self,
        at: usize,
        message: &Incoming,
        port: &ReceiveRight,
    ) -> Result<Outgoing<'static>, Error> {
        let arguments = message.bytes().get(4..).and_then(|bytes| str::from_utf8(bytes).ok());
        let arguments = arguments.ok_or(Error::BadArgument)?;
        if let Some(task) = self.tasks[at].take() {
            let _ = task.terminate(); // it may have ended by itself
        }
        let task = Task::spawn(SERVER, arguments, PRIORITY_SERVER, self.bootstrap.name())?;
        self.numbers[at] = newest(SERVER);
        task.right().notify_dead(port)?;
        let reply = Outgoing::with_words(REPLY, &[0]).carry_copy(task.right().name());
        self.tasks[at] = Some(task);
        Ok(reply)
    }

    /// Whether a task may have a name. Those of the servers and of the supervisor are theirs alone, and their successors'.
    fn may_register(&self, name: &str, task: u32) -> bool {
        let network = name.strip_prefix(CONTROL).unwrap_or(name).as_bytes().strip_prefix(NETWORK);
        match network {
            _ if name.as_bytes() == NAME => self.number == Some(task),
            Some([]) => self.numbers[0] == Some(task),
            Some([digit @ b'1'..=b'9']) => {
                let at = usize::from(digit - b'0');
                self.numbers.get(at).is_some_and(|number| *number == Some(task))
            }
            _ => true,
        }
    }

    fn adopt(&self, at: usize) -> Outgoing<'static> {
        let reply = self.leases[at].into_iter().fold(Outgoing::with_words(REPLY, &[0]), Outgoing::word);
        match &self.tasks[at] {
            Some(task) => reply.carry_copy(task.right().name()),
            None => reply,
        }
    }

    fn died(&mut self, dead: u32, status: u32, port: &ReceiveRight) {
        for task in &mut self.tasks {
            task.take_if(|task| task.right().name() == dead);
        }
        if self.supervisor.take_if(|task| task.right().name() == dead).is_none() {
            return;
        }
        self.quick_ends = if self.started.elapsed() < SUPERVISOR_SOON { self.quick_ends + 1 } else { 0 };
        println!("init: supervisor: exit status {status}");
        if self.quick_ends < SUPERVISOR_TRIES {
            self.start_supervisor(port);
        } else {
            println!("init: supervisor: not started again");
        }
    }
}

/// What is registered, and who waits for what is not.
struct Names {
    port: ReceiveRight,
    registered: Vec<(String, SendRight)>,
    waiting: Vec<Waiting>,
}

/// Who waits for a name.
struct Waiting {
    name: String,
    reply: Right,
    task: u32,
}

impl Names {
    fn register(&mut self, message: &mut Incoming, servers: &Servers) {
        let status = match (name_of(message), message.take_carried().map(SendRight::new)) {
            (Some(name), Some(_)) if !servers.may_register(&name, message.sender) => Error::Denied.raw(),
            (Some(name), Some(right)) => self.insert(name, right).map_or_else(Error::raw, |()| 0),
            _ => Error::BadArgument.raw(),
        };
        answer(message.take_reply(), Outgoing::with_words(REPLY, &[status]));
    }

    fn insert(&mut self, name: String, right: SendRight) -> Result<(), Error> {
        if self.registered.iter().any(|(known, _)| *known == name) {
            return Err(Error::Exists);
        }
        if self.registered.len() == NAMES_MAX {
            return Err(Error::NoResources);
        }
        right.notify_dead(&self.port)?;
        for at in (0..self.waiting.len()).rev() {
            if self.waiting[at].name == name {
                answer(Some(self.waiting.remove(at).reply), found(&right));
            }
        }
        self.registered.push((name, right));
        Ok(())
    }

    fn look_up(&mut self, message: &mut Incoming, servers: &Servers) {
        let (Some(name), Some(reply)) = (name_of(message), message.take_reply()) else { return };
        if let Some((_, right)) = self.registered.iter().find(|(known, _)| *known == name) {
            answer(Some(reply), found(right));
            return;
        }
        if self.waiting.len() == WAITING_MAX {
            // The supervisor waits for as many as there are servers, and must not wait in vain.
            let oldest = self.waiting.iter().position(|it| servers.number != Some(it.task));
            self.waiting.remove(oldest.unwrap_or(0));
        }
        self.waiting.push(Waiting { name, reply, task: message.sender });
    }

    fn forget(&mut self, dead: u32) {
        self.registered.retain(|(_, right)| right.name() != dead);
    }
}

fn found(right: &SendRight) -> Outgoing<'static> {
    Outgoing::with_words(REPLY, &[0]).carry_copy(right.name())
}

fn name_of(message: &Incoming) -> Option<String> {
    let name = message.bytes();
    if name.is_empty() || name.len() > NAME_MAX {
        return None;
    }
    str::from_utf8(name).ok().map(String::from)
}

/// An asker that has gone away is no concern of ours.
fn answer(to: Option<Right>, mut reply: Outgoing<'_>) {
    if let Some(to) = to {
        let _ = reply.answer(to);
    }
}
