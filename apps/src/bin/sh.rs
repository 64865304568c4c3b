//! The console shell: starts applications, in the foreground or with `&`, and tells how they ended.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::{collections::VecDeque, string::String, vec::Vec};
use core::time::Duration;

use abi::{
    Error, exit,
    message::NOTIFY_DEAD_NAME,
    name::POWER_OFF,
    port,
    thread::{PRIORITY_APPLICATION, STATUS_FAULT, STATUS_KILLED, STATUS_WINDOW},
};
use apps::{During, Failed};
use userlib::{
    console,
    entry::Args,
    message::{Outgoing, receive},
    net::Service,
    port::ReceiveRight,
    print, println,
    task::{self, Task},
    thread,
};

userlib::entry!(main);

const PROMPT: &str = "oriel> ";
/// How long the first prompt waits for the network.
const NETWORK_LIMIT: Duration = Duration::from_secs(10);
/// How often a shell that waits for a task looks for Ctrl-C.
const LOOK_PERIOD: Duration = Duration::from_millis(200);
const LINE_MAX: usize = 512;
const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;
const CTRL_U: u8 = 0x15;

const HELP: &str = "\
PROGRAM [ARGUMENTS] [&]  runs a program, with & in the background:
    ttcp      sends (-t) or receives (-r) a stream, and times it
    echo      sends back what comes, by TCP and UDP
    ping      asks another machine for an echo
    ftp       fetches or stores a file, and times it
    xdots     draws dots on an X server, and counts them
    tcpdump   shows frames as they come, on the path by message
    mbstat    pools, queues, drops; -c checks that all is accounted for
    ps        lists the tasks
    vmstat    free memory, and what of the kernel's tables is in use
    crash     ends a server or its supervisor, where the machine was booted to try that
    badcalls, fault, hog, liar, spin, spawnloop   try the kernel's patience
PROGRAM @SERVER ...      the same over another protocol server, where several run (@net1)
kill NUMBER              ends a task of this shell
wait                     waits for all tasks in the background
sleep SECONDS            does nothing
poweroff                 ends the machine";

fn main(_: Args) -> Result<(), Failed> {
    let mut shell = Shell {
        notify: ReceiveRight::allocate().during("port")?,
        jobs: Vec::new(),
        typed: VecDeque::new(),
        after_return: false,
    };
    if let Err(error) = Service::get(Some(NETWORK_LIMIT)) {
        println!("sh: no network: {error}");
    }
    loop {
        shell.reap(Duration::ZERO);
        let Some(line) = shell.read_line()? else { return Ok(()) };
        shell.run(&line);
    }
}

struct Shell {
    /// Tells of tasks that ended.
    notify: ReceiveRight,
    jobs: Vec<Job>,
    /// Typed, and not yet read as a line.
    typed: VecDeque<u8>,
    /// The last byte was a carriage return: a line feed right behind it is the same end of line.
    after_return: bool,
}

struct Job {
    number: u64,
    program: String,
    task: Task,
    foreground: bool,
}

impl Shell {
    fn run(&mut self, line: &str) {
        let line = line.trim();
        let (line, foreground) = match line.strip_suffix('&') {
            Some(line) => (line.trim_end(), false),
            None => (line, true),
        };
        let (program, arguments) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let arguments = arguments.trim();
        match program {
            "" => {}
            "help" => println!("{HELP}"),
            "kill" => self.kill(arguments),
            "wait" => self.wait_for(|_| true),
            "sleep" => match apps::number(arguments, 0..=86_400) {
                Ok(seconds) => thread::sleep(Duration::from_secs(seconds)),
                Err(usage) => println!("sh: sleep: {usage}"),
            },
            "poweroff" | "exit" => power_off(),
            _ => self.spawn(program, arguments, foreground),
        }
    }

    fn spawn(&mut self, program: &str, arguments: &str, foreground: bool) {
        let task = match Task::spawn(program, arguments, PRIORITY_APPLICATION, port::BOOTSTRAP) {
            Ok(task) => task,
            Err(Error::NotFound) => return println!("sh: {program}: not found (help lists what there is)"),
            Err(error) => return println!("sh: {program}: {error}"),
        };
        let rows = task::all().filter(|row| task::program_name(row) == program);
        let number = rows.map(|row| row.id).max().unwrap_or(0);
        if let Err(error) = task.right().notify_dead(&self.notify) {
            // Ended already, before anybody could ask to be told of it.
            return println!("sh: {program}: {error}");
        }
        if !foreground {
            println!("[{number}] {program}");
        }
        self.jobs.push(Job { number, program: program.into(), task, foreground });
        if foreground {
            self.wait_for(|job| job.foreground);
        }
    }

    /// Waits until no task of a kind is left; Ctrl-C ends them.
    fn wait_for(&mut self, kind: impl Fn(&Job) -> bool) {
        while self.jobs.iter().any(&kind) {
            self.reap(LOOK_PERIOD);
            self.read_typed(Some(Duration::ZERO));
            if self.typed.contains(&CTRL_C) {
                self.typed.clear();
                println!("^C");
                for job in self.jobs.iter().filter(|job| kind(job)) {
                    let _ = job.task.terminate(); // ended by itself at the same time, if not
                }
            }
        }
    }

    /// Takes note of tasks that ended; waits for the first one no longer than `limit`.
    fn reap(&mut self, limit: Duration) {
        let mut limit = limit;
        while let Ok(message) = receive(&self.notify, Some(limit)) {
            limit = Duration::ZERO;
            if message.id != NOTIFY_DEAD_NAME {
                continue;
            }
            let (dead, status) = (message.word(0).unwrap_or(0), message.word(1).unwrap_or(0));
            let Some(at) = self.jobs.iter().position(|job| job.task.right().name() == dead) else { continue };
            let job = self.jobs.swap_remove(at);
            let why = match status {
                STATUS_KILLED => " (killed)",
                STATUS_FAULT => " (fault)",
                STATUS_WINDOW => " (window)",
                _ => "",
            };
            if !job.foreground {
                println!("[{}] {}: exit status {status}{why}", job.number, job.program);
            } else if status != 0 {
                println!("sh: {}: exit status {status}{why}", job.program);
            }
        }
    }

    fn kill(&self, arguments: &str) {
        let number = arguments.parse().ok();
        match self.jobs.iter().find(|job| Some(job.number) == number) {
            Some(job) => {
                if let Err(error) = job.task.terminate() {
                    println!("sh: kill: {error}");
                }
            }
            None => println!("sh: kill: `{arguments}` is no task of this shell"),
        }
    }

    /// A line, edited as it is typed; `None` for Ctrl-D on an empty one.
    fn read_line(&mut self) -> Result<Option<String>, Failed> {
        let mut line = String::new();
        print!("{PROMPT}");
        console::flush();
        loop {
            let Some(byte) = self.typed.pop_front() else {
                self.read_typed(None);
                continue;
            };
            let after_return = core::mem::replace(&mut self.after_return, byte == b'\r');
            match byte {
                b'\n' if after_return => {}
                b'\r' | b'\n' => {
                    println!();
                    return Ok(Some(line));
                }
                CTRL_C => {
                    println!("^C");
                    line.clear();
                    print!("{PROMPT}");
                }
                CTRL_U => {
                    for _ in line.drain(..) {
                        print!("\x08 \x08");
                    }
                }
                CTRL_D if line.is_empty() => {
                    println!();
                    return Ok(None);
                }
                8 | 0x7f => {
                    if line.pop().is_some() {
                        print!("\x08 \x08");
                    }
                }
                b' '..0x7f if line.len() < LINE_MAX => {
                    line.push(char::from(byte));
                    print!("{}", char::from(byte));
                }
                _ => print!("\x07"),
            }
            if self.typed.is_empty() {
                console::flush();
            }
        }
    }

    fn read_typed(&mut self, limit: Option<Duration>) {
        let mut bytes = [0; 64];
        if let Ok(read) = console::read(&mut bytes, limit) {
            self.typed.extend(&bytes[..read]);
        }
    }
}

fn power_off() {
    let mut request = Outgoing::with_words(POWER_OFF, &[exit::OFF]);
    if let Err(error) = request.send(&task::bootstrap(), Some(Duration::from_secs(5))) {
        return println!("sh: poweroff: {error}");
    }
    thread::sleep(Duration::from_secs(5));
    println!("sh: poweroff: not heard");
}
