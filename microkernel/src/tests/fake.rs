//! A machine of arrays, and a rig that makes system calls on it as tasks would.
//!
//! The machine checks what hardware could not: that no page is mapped over another, that no page is both writable and
//! executable, that copies stay within a frame that is memory.

use std::boxed::Box;
use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::vec;
use std::vec::Vec;

use abi::Error;
use abi::device::{Audit, NetInfo};
use abi::message::{Data, Disposition, MESSAGE_BYTES};
use abi::path::Path;
use abi::syscall::Syscall;
use abi::vm::PAGE_BYTES;

use netdev_driver::{claims::Address, endpoint::WINDOWS_MAX, nic::TxChecksum};

use crate::elf::tests::{EXECUTE, Piece, READ, WRITE, file};
use crate::frames::Frames;
use crate::kernel::{Boot, BootError, Kernel};
use crate::machine::{Machine, NetDevice, NetEvent, Next, Outcome, Prot};
use crate::module::tests::archive;
use crate::thread::THREADS;

/// Usable memory starts here; below is the device's window.
const RAM: u64 = 1 << 20;
pub(crate) const WINDOW: (u64, u64) = (0x8_0000, 0x8000);
/// The second one, where there are two.
pub(crate) const SECOND_WINDOW: (u64, u64) = (0x9_0000, 0x8000);

/// Where the test programs have a page of text, and data that can be written.
pub(crate) const TEXT: u64 = 0x40_0000;
pub(crate) const DATA: u64 = 0x40_2000;
pub(crate) const DATA_BYTES: u64 = 0x4000;

/// The pieces of a frame that was to be sent, and the checksum.
type Written = (Vec<(u64, usize)>, Option<TxChecksum>);

#[derive(Default)]
pub(crate) struct FakeNet {
    /// By their numbers.
    pub windows_open: [bool; WINDOWS_MAX],
    /// There are two.
    pub two: bool,
    pub claimed: Vec<(usize, Option<Address>)>,
    pub starts: u32,
    pub event: NetEvent,
    /// The stack in the kernel, where a test has one.
    pub stack: Option<super::sockets::FakeStack>,
    pub path: Path,
    /// What was to be sent, by its pieces.
    pub written: Vec<Written>,
    /// Pages that are being sent, and those that have been.
    pub sending: Vec<u64>,
    pub sent: Vec<u64>,
    /// The transmit ring is full.
    pub full: bool,
}

impl NetDevice for FakeNet {
    fn windows(&self) -> usize {
        1 + usize::from(self.two)
    }
    fn window(&self, at: usize) -> (u64, u64) {
        [WINDOW, SECOND_WINDOW][at]
    }
    fn open(&mut self, at: usize) -> Result<NetEvent, Error> {
        assert!(!core::mem::replace(&mut self.windows_open[at], true), "opened twice");
        Ok(NetEvent::default())
    }
    fn close(&mut self, at: usize) {
        assert!(core::mem::replace(&mut self.windows_open[at], false), "closed twice");
        self.sent.append(&mut self.sending);
    }
    fn claim(&mut self, at: usize, address: Option<Address>) -> Result<(), Error> {
        assert!(self.windows_open[at]);
        if self.claimed.iter().any(|&(other, claimed)| other != at && address.is_some() && claimed == address)
        {
            return Err(Error::Exists);
        }
        self.claimed.push((at, address));
        Ok(())
    }
    fn start(&mut self, at: usize) -> NetEvent {
        assert!(self.windows_open[at]);
        self.starts += 1;
        self.event
    }
    fn info(&self) -> NetInfo {
        NetInfo { mac: [2, 0, 0, 0, 0, 1], window_bytes: WINDOW.1 as u32, ..NetInfo::default() }
    }
    fn audit(&self, _: usize) -> Audit {
        Audit { mbufs_posted: 1, mbufs_transmitting: 2, clusters_posted: 3, clusters_transmitting: 4 }
    }
    fn path(&self) -> Path {
        self.path
    }
    fn write(&mut self, pieces: &[(u64, usize)], checksum: Option<TxChecksum>) -> Result<(), Error> {
        assert!(self.windows_open[0] && self.path == Path::Ipc && pieces.len() <= 2);
        let bytes: usize = pieces.iter().map(|piece| piece.1).sum();
        match bytes {
            _ if self.full => Err(Error::QueueFull),
            0..14 => Err(Error::BadArgument),
            1515.. => Err(Error::TooLong),
            _ => {
                self.written.push((pieces.to_vec(), checksum));
                Ok(())
            }
        }
    }
    fn write_page(&mut self, page: u64, bytes: usize, checksum: Option<TxChecksum>) -> Result<(), Error> {
        self.write(&[(page, bytes)], checksum)?;
        assert!(!self.sending.contains(&page), "a page sent twice");
        self.sending.push(page);
        Ok(())
    }
    fn take_sent(&mut self) -> Option<u64> {
        self.sent.pop()
    }
    fn counters(&self, counters: &mut [u64; abi::counters::COUNT]) {
        counters[abi::counters::Counter::FramesIn as usize] = 77;
    }
}

/// A frame for the root and one for each 2 MiB that holds a page.
pub(crate) struct FakeSpace {
    tables: Vec<u64>,
    pub pages: BTreeMap<u64, (u64, Prot)>,
}

pub(crate) struct Fake {
    memory: Vec<u8>,
    pub contexts: Vec<(u64, u64, [u64; 3])>,
    pub results: Vec<Option<(u64, u64)>>,
    pub output: Vec<u8>,
    pub typed: Vec<u8>,
    pub now: u64,
    pub off: Option<u32>,
    pub net: Option<FakeNet>,
    pub tables: usize,
}

impl Machine for Fake {
    type Space = FakeSpace;
    type Net = FakeNet;

    fn new_space(&mut self, frames: &mut Frames) -> Result<FakeSpace, Error> {
        let root = frames.allocate().ok_or(Error::NoResources)?;
        self.tables += 1;
        Ok(FakeSpace { tables: vec![root], pages: BTreeMap::new() })
    }
    fn drop_space(&mut self, frames: &mut Frames, space: FakeSpace) {
        assert!(space.pages.keys().all(|&page| page == abi::info::ADDRESS), "pages left behind");
        self.tables -= space.tables.len();
        space.tables.into_iter().for_each(|table| frames.free(table));
    }
    fn map(
        &mut self,
        frames: &mut Frames,
        space: &mut FakeSpace,
        virt: u64,
        phys: u64,
        prot: Prot,
    ) -> Result<(), Error> {
        assert!(virt.is_multiple_of(PAGE_BYTES) && phys.is_multiple_of(PAGE_BYTES));
        assert!(crate::space::is_user_range(virt, PAGE_BYTES) && virt < abi::vm::USER_END - PAGE_BYTES);
        assert!(!(prot.write && prot.execute));
        let table = virt >> 21 << 21;
        let is_new = space.pages.range(table..table + (1 << 21)).next().is_none();
        if is_new {
            space.tables.push(frames.allocate().ok_or(Error::NoResources)?);
            self.tables += 1;
        }
        assert!(space.pages.insert(virt, (phys, prot)).is_none(), "{virt:#x} mapped twice");
        Ok(())
    }
    fn unmap(&mut self, space: &mut FakeSpace, virt: u64) -> Option<u64> {
        space.pages.remove(&virt).map(|(phys, _)| phys)
    }
    fn translate(&self, space: &FakeSpace, virt: u64, write: bool) -> Option<u64> {
        let (phys, prot) = space.pages.get(&(virt & !(PAGE_BYTES - 1)))?;
        (prot.write || !write).then_some(phys + virt % PAGE_BYTES)
    }
    fn copy_to_phys(&mut self, phys: u64, bytes: &[u8]) {
        let range = self.within_frame(phys, bytes.len());
        self.memory[range].copy_from_slice(bytes);
    }
    fn copy_from_phys(&self, phys: u64, bytes: &mut [u8]) {
        bytes.copy_from_slice(&self.memory[self.within_frame(phys, bytes.len())]);
    }
    fn copy_phys(&mut self, to: u64, from: u64, bytes: usize) {
        assert_ne!(to / PAGE_BYTES, from / PAGE_BYTES, "a copy within a frame");
        let (to, from) = (self.within_frame(to, bytes), self.within_frame(from, bytes));
        self.memory.copy_within(from, to.start);
    }
    fn zero_frame(&mut self, phys: u64) {
        let range = self.within_frame(phys, PAGE_BYTES as usize);
        self.memory[range].fill(0);
    }
    fn context_start(&mut self, thread: usize, entry: u64, stack: u64, args: [u64; 3]) {
        self.contexts[thread] = (entry, stack, args);
        self.results[thread] = None;
    }
    fn context_result(&mut self, thread: usize, status: u64, value: u64) {
        assert_ne!(status, Outcome::SWITCH);
        self.results[thread] = Some((status, value));
    }
    fn print_registers(&mut self, _thread: usize) {
        self.output.extend(b"registers\n");
    }
    fn console_write(&mut self, bytes: &[u8]) {
        self.output.extend(bytes);
    }
    fn console_read(&mut self) -> Option<u8> {
        (!self.typed.is_empty()).then(|| self.typed.remove(0))
    }
    fn now_ns(&self) -> u64 {
        self.now
    }
    fn entropy(&mut self) -> u64 {
        0x1234_5678_9abc_def0
    }
    fn power_off(&mut self, code: u32) {
        self.off = Some(code);
    }
    fn net(&mut self) -> Option<&mut FakeNet> {
        self.net.as_mut()
    }
}

impl Fake {
    fn new(memory: Vec<u8>) -> Self {
        Self {
            memory,
            contexts: vec![(0, 0, [0; 3]); THREADS],
            results: vec![None; THREADS],
            output: Vec::new(),
            typed: Vec::new(),
            now: 1000,
            off: None,
            net: Some(FakeNet::default()),
            tables: 0,
        }
    }

    fn within_frame(&self, phys: u64, length: usize) -> core::ops::Range<usize> {
        assert!(phys % PAGE_BYTES + length as u64 <= PAGE_BYTES, "{phys:#x} + {length} leaves the frame");
        phys as usize..phys as usize + length
    }
}

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
        let bytes = RAM + crate::kernel::FRAMES_MIN as u64 * PAGE_BYTES;
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
