//! The first task: starts the protocol server (or several: `servers=` on the kernel's command line) and the shell, and is the name service that they and all applications share.
//!
//! It is also the only task that may end the machine, which it does when the shell asks or ends.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::{string::String, vec::Vec};

use abi::{
    Error, exit,
    message::NOTIFY_DEAD_NAME,
    name::{LOOK_UP, POWER_OFF, REGISTER, REPLY},
    path::Path,
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
};

userlib::entry!(main);

/// The shell runs above what it starts: it sees Ctrl-C.
const PRIORITY_SHELL: u64 = PRIORITY_APPLICATION + 1;
/// Look-ups that may wait for their name at once; the oldest makes room.
const WAITING_MAX: usize = 64;
/// Names that may be registered.
const NAMES_MAX: usize = 64;

fn main(_: Args) -> Result<(), Failed> {
    let port = ReceiveRight::allocate().during("port")?;
    let bootstrap = port.make_send().during("port")?;
    let mut children = Vec::new();
    let mut shell = None;
    // The kernel has looked at the number, where it matters.
    let servers = info::option("servers").and_then(|text| text.parse().ok()).unwrap_or(1);
    let numbers = ["", "1", "2", "3"].into_iter().take(servers);
    let servers = numbers.map(|number| ("protocol-server", number, PRIORITY_SERVER));
    for (program, arguments, priority) in servers.chain([("sh", "", PRIORITY_SHELL)]) {
        if program == "sh" && info::option("shell") == Some("0") {
            continue;
        }
        // There the stack is in the kernel.
        if program == "protocol-server" && info::option(Path::OPTION) == Some(Path::Monolithic.name()) {
            continue;
        }
        match Task::spawn(program, arguments, priority, bootstrap.name()) {
            Ok(task) => {
                task.right().notify_dead(&port).during("notify")?;
                if program == "sh" {
                    shell = newest(program);
                }
                children.push((program, task));
            }
            Err(error) => println!("init: {program}: {error}"),
        }
    }
    if children.is_empty() {
        println!("init: nothing to run");
        task::power_off(exit::OFF).during("power off")?;
    }
    let mut names = Names { port, registered: Vec::new(), waiting: Vec::new() };
    loop {
        let mut message = receive(&names.port, None).during("receive")?;
        match message.id {
            REGISTER => names.register(&mut message),
            LOOK_UP => names.look_up(&mut message),
            POWER_OFF if shell == Some(message.sender) => {
                task::power_off(message.word(0).unwrap_or(exit::OFF)).during("power off")?;
            }
            NOTIFY_DEAD_NAME => {
                let (dead, status) = (message.word(0).unwrap_or(0), message.word(1).unwrap_or(0));
                names.forget(dead);
                if let Some(at) = children.iter().position(|(_, task)| task.right().name() == dead) {
                    let (program, _) = children.swap_remove(at);
                    println!("init: {program}: exit status {status}");
                    if program == "sh" {
                        task::power_off(exit::OFF).during("power off")?;
                    }
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

/// What is registered, and who waits for what is not.
struct Names {
    port: ReceiveRight,
    registered: Vec<(String, SendRight)>,
    waiting: Vec<(String, Right)>,
}

impl Names {
    fn register(&mut self, message: &mut Incoming) {
        let status = match (name_of(message), message.take_carried().map(SendRight::new)) {
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
            if self.waiting[at].0 == name {
                let (_, reply) = self.waiting.swap_remove(at);
                answer(Some(reply), found(&right));
            }
        }
        self.registered.push((name, right));
        Ok(())
    }

    fn look_up(&mut self, message: &mut Incoming) {
        let (Some(name), Some(reply)) = (name_of(message), message.take_reply()) else { return };
        if let Some((_, right)) = self.registered.iter().find(|(known, _)| *known == name) {
            answer(Some(reply), found(right));
            return;
        }
        if self.waiting.len() == WAITING_MAX {
            self.waiting.remove(0);
        }
        self.waiting.push((name, reply));
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
