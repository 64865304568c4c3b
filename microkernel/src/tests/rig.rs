//! A kernel on the machine of arrays, driven by system calls as tasks would make them.

use std::boxed::Box;
use std::sync::OnceLock;
use std::vec;
use std::vec::Vec;

use abi::Error;
use abi::message::{Data, Disposition, MESSAGE_BYTES};
use abi::syscall::Syscall;
use abi::vm::PAGE_BYTES;

use super::fake::{Fake, RAM};
use crate::elf::tests::{EXECUTE, Piece, READ, WRITE, file};
use crate::machine::{Next, Outcome};
use crate::module::tests::archive;
use crate::{Boot, BootError, Kernel};

/// Where the test programs have a page of text, and data that can be written.
pub(crate) const TEXT: u64 = 0x40_0000;
pub(crate) const DATA: u64 = 0x40_2000;
pub(crate) const DATA_BYTES: u64 = 0x4000;

/// A program with text that only says which it is, and data to write to.
pub(crate) fn program(mark: u8) -> Vec<u8> {
    file(
        TEXT,
        &[
            Piece(1, READ | EXECUTE, TEXT, vec![mark; 64], 64),
            Piece(1, READ | WRITE, DATA, vec![mark; 16], DATA_BYTES),
        ],
    )
}

/// A kernel on the machine, driven call by call.
pub(crate) struct Rig {
    pub kernel: Box<Kernel<Fake>>,
    pub m: Fake,
    pub frames_at_boot: usize,
    /// The last call said that its caller does not go on: the machine would `pick` now.
    pub must_pick: bool,
}

/// The answer of a call: a value, an error, or the caller blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Got {
    Value(u64),
    Error(Error),
    Blocked,
}

impl Got {
    pub(crate) fn value(self) -> u64 {
        match self {
            Got::Value(value) => value,
            other => panic!("{other:?}"),
        }
    }

    fn from(status: u64, value: u64) -> Self {
        match status {
            0 => Got::Value(value),
            Outcome::SWITCH => Got::Blocked,
            status => Got::Error(Error::from_raw(status as u32).expect("a known error")),
        }
    }
}

impl Rig {
    /// A kernel that did not boot yet, with so many bytes of memory.
    pub(crate) fn bare(memory: u64) -> Self {
        // Dirty, so that what should be zeroed and is not shows.
        Self::over(vec![0xa5; (RAM + memory) as usize])
    }

    /// The same over memory that is there; what is in it does not count.
    fn over(memory: Vec<u8>) -> Self {
        // Too large for the stack of a test on its way to the heap.
        let roomy = std::thread::Builder::new().stack_size(64 << 20);
        let mut kernel = roomy.spawn(|| Box::new(Kernel::new())).unwrap().join().unwrap();
        kernel.frames().add(RAM..memory.len() as u64);
        let frames_at_boot = kernel.frames().free_count();
        Rig { kernel, m: Fake::new(memory), frames_at_boot, must_pick: false }
    }

    pub(crate) fn boot(&mut self, members: &[(&str, &[u8])]) -> Result<(), BootError> {
        self.boot_with(b"path=window pools=2", members)
    }

    pub(crate) fn boot_with(
        &mut self,
        command_line: &'static [u8],
        members: &[(&str, &[u8])],
    ) -> Result<(), BootError> {
        self.boot_from(command_line, archive(members).leak())
    }

    fn boot_from(&mut self, command_line: &'static [u8], module: &'static [u8]) -> Result<(), BootError> {
        let boot = Boot {
            module,
            command_line,
            memory_bytes: 32 << 20,
            tsc_multiplier: 3,
            tsc_shift: 1,
            tsc_boot: 9,
        };
        self.kernel.boot(&mut self.m, &boot)
    }

    /// A booted kernel whose first task runs, with programs `init`, `a` and `b`, and one that is none.
    pub(crate) fn new() -> Self {
        Self::bare(28 << 20).booted()
    }

    /// The same with as little memory as a kernel boots with, given back by an earlier one, or new.
    pub(crate) fn small(memory: Option<Vec<u8>>) -> Self {
        let bytes = RAM + crate::boot::FRAMES_MIN as u64 * PAGE_BYTES;
        Self::over(memory.unwrap_or_else(|| vec![0xa5; bytes as usize])).booted()
    }

    /// Its memory, when it is over.
    pub(crate) fn into_memory(self) -> Vec<u8> {
        self.m.memory
    }

    fn booted(mut self) -> Self {
        static MODULE: OnceLock<Vec<u8>> = OnceLock::new();
        let module = MODULE.get_or_init(|| {
            let (init, a, b) = (program(1), program(2), program(3));
            archive(&[("init", &init), ("a", &a), ("b", &b), ("bad", b"not a program")])
        });
        self.boot_from(b"path=window pools=2", module).unwrap();
        self.pick();
        self
    }

    /// Picks; the thread that now runs.
    pub(crate) fn pick(&mut self) -> Option<u16> {
        self.must_pick = false;
        match self.kernel.pick(&mut self.m) {
            Next::Run { thread, .. } => Some(thread as u16),
            Next::Idle => None,
        }
    }

    /// A system call of the running thread.
    pub(crate) fn call(&mut self, call: Syscall, args: &[u64]) -> Got {
        let mut all = [0; 6];
        all[..args.len()].copy_from_slice(args);
        self.raw_call(call.raw().into(), all)
    }

    pub(crate) fn raw_call(&mut self, number: u64, args: [u64; 6]) -> Got {
        assert!(!self.must_pick, "a call by a thread that does not run");
        let outcome = self.kernel.system_call(&mut self.m, number, args);
        self.must_pick = outcome.status == Outcome::SWITCH;
        Got::from(outcome.status, outcome.value)
    }

    /// The result that a thread which was blocked finds.
    pub(crate) fn result(&mut self, thread: u16) -> Option<Got> {
        self.m.results[usize::from(thread)].take().map(|(status, value)| Got::from(status, value))
    }

    pub(crate) fn current(&self) -> u16 {
        self.kernel.current.expect("somebody runs")
    }

    /// Writes to the running task's memory.
    pub(crate) fn poke(&mut self, address: u64, bytes: &[u8]) {
        let space = self.kernel.tasks[usize::from(self.kernel.current_task)].tables();
        crate::user::copy_out(&mut self.m, space, address, bytes).expect("writable");
    }

    /// Reads a task's memory.
    pub(crate) fn peek_in(&self, task: u16, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        crate::user::copy_in(&self.m, self.kernel.tasks[usize::from(task)].tables(), address, &mut bytes)
            .expect("mapped");
        bytes
    }

    pub(crate) fn peek(&self, address: u64, length: usize) -> Vec<u8> {
        self.peek_in(self.kernel.current_task, address, length)
    }

    /// Spawns a program from the running task; its name for the child.
    pub(crate) fn spawn(&mut self, name: &str, arguments: &str, priority: u64, bootstrap: u64) -> Got {
        self.poke(DATA, name.as_bytes());
        self.poke(DATA + 64, arguments.as_bytes());
        let lengths = (name.len() as u64, arguments.len() as u64);
        self.call(Syscall::TaskSpawn, &[DATA, lengths.0, DATA + 64, lengths.1, priority, bootstrap])
    }

    /// Sends a message of the running task, from the end of its data.
    pub(crate) fn send(&mut self, letter: &Letter, limit: u64) -> Got {
        let at = DATA + 0x3000;
        self.poke(at, &letter.bytes());
        self.call(Syscall::MessageSend, &[at, limit])
    }

    /// Receives into the running task's data.
    pub(crate) fn receive(&mut self, port: u64, limit: u64) -> Got {
        self.call(Syscall::MessageReceive, &[port, RECEIVE_AT, limit])
    }

    /// Receives into the running task's data, with room for data in line.
    pub(crate) fn receive_with(&mut self, port: u64, limit: u64, (address, bytes): (u64, u32)) -> Got {
        self.poke(RECEIVE_AT + DATA_AT as u64, &address.to_le_bytes());
        self.poke(RECEIVE_AT + DATA_AT as u64 + 8, &bytes.to_le_bytes());
        self.receive(port, limit)
    }

    /// What was received.
    pub(crate) fn letter(&self, task: u16) -> Letter {
        Letter::from_bytes(&self.peek_in(task, RECEIVE_AT, MESSAGE_BYTES))
    }
}

const DATA_AT: usize = core::mem::offset_of!(abi::message::Message, data_address);
const BODY_AT: usize = core::mem::offset_of!(abi::message::Message, body);

pub(crate) const RECEIVE_AT: u64 = DATA + 0x2000 + 0xfc0;

/// A message, as the tests write and read it; it crosses a page's end where it is received.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Letter {
    pub destination: u64,
    pub id: u32,
    pub reply: (u64, u32),
    pub carried: (u64, u32),
    pub body: Vec<u8>,
    pub sender: u32,
    /// Where the data is, its length, how it travels.
    pub data: (u64, u32, u32),
}

impl Letter {
    pub(crate) fn to(destination: u64, id: u32) -> Self {
        Self { destination, id, ..Self::default() }
    }

    pub(crate) fn with_reply(mut self, name: u64, disposition: Disposition) -> Self {
        self.reply = (name, disposition.raw());
        self
    }

    pub(crate) fn with(mut self, name: u64, disposition: Disposition) -> Self {
        self.carried = (name, disposition.raw());
        self
    }

    pub(crate) fn saying(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self
    }

    pub(crate) fn with_data(mut self, kind: Data, address: u64, length: u32) -> Self {
        self.data = (address, length, kind.raw());
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let words = [
            self.destination as u32,
            self.id,
            self.reply.0 as u32,
            self.reply.1,
            self.carried.0 as u32,
            self.carried.1,
            self.body.len() as u32,
            0xdead_beef,
            self.data.0 as u32,
            (self.data.0 >> 32) as u32,
            self.data.1,
            self.data.2,
        ];
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.extend(&self.body);
        bytes.resize(MESSAGE_BYTES, 0xee);
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        let word = |i: usize| u32::from_le_bytes(bytes[4 * i..4 * i + 4].try_into().unwrap());
        Self {
            destination: word(0).into(),
            id: word(1),
            reply: (word(2).into(), word(3)),
            carried: (word(4).into(), word(5)),
            body: bytes[BODY_AT..BODY_AT + word(6) as usize].to_vec(),
            sender: word(7),
            data: (u64::from(word(8)) | u64::from(word(9)) << 32, word(10), word(11)),
        }
    }
}
