//! Random sequences of everything, with the books recounted as they go.

use std::cell::Cell;
use std::vec::Vec;

use abi::counters::Counter;
use abi::filter::{COPY_ALL, programs};
use abi::message::Disposition;
use abi::path::Path;
use abi::syscall::Syscall;

use super::rig::{DATA, Letter, RECEIVE_AT, Rig, TEXT};
use crate::machine::{Fault, NetEvent};
use crate::names::Right;
use crate::port::Kind;

/// Where the choices come from.
enum Random<'d> {
    /// Marsaglia's xorshift.
    Seed(u64),
    /// The fuzzer's bytes; zeros behind their end.
    Bytes(&'d [u8]),
}

impl Random<'_> {
    fn next(&mut self) -> u64 {
        match self {
            Self::Seed(seed) => {
                *seed ^= *seed << 13;
                *seed ^= *seed >> 7;
                *seed ^= *seed << 17;
                *seed
            }
            Self::Bytes(_) => u64::from_le_bytes(core::array::from_fn(|_| self.byte())),
        }
    }

    fn byte(&mut self) -> u8 {
        match self {
            Self::Seed(_) => self.next() as u8,
            Self::Bytes(bytes) => bytes.split_off_first().copied().unwrap_or(0),
        }
    }

    fn below(&mut self, end: u64) -> u64 {
        match self {
            Self::Seed(_) => self.next() % end,
            // A byte a choice, where one is enough.
            Self::Bytes(_) if end <= 256 => u64::from(self.byte()) % end,
            Self::Bytes(_) => (u64::from(self.byte()) << 8 | u64::from(self.byte())) % end,
        }
    }

    fn name(&mut self) -> u64 {
        self.below(24)
    }

    /// A page where something could be mapped.
    fn page(&mut self) -> u64 {
        match self.below(32) {
            0 => TEXT,
            1 if self.below(8) == 0 => DATA + 4096 * self.below(4),
            _ => abi::vm::MAP_BASE + 4096 * self.below(40),
        }
    }

    /// So many bytes of data, or room for it.
    fn length(&mut self) -> u32 {
        match self.below(8) {
            0 => 0,
            1 => self.next() as u32,
            2 => abi::message::DATA_MAX as u32,
            3..6 => 1 + self.below(3 * 4096) as u32,
            _ => 1 + self.below(4096) as u32,
        }
    }

    fn limit(&mut self) -> u64 {
        [0, 0, 500, 5000, u64::MAX][self.below(5) as usize]
    }

    /// A value that some argument could be.
    fn word(&mut self) -> u64 {
        match self.below(8) {
            0 => self.next(),
            1 => DATA + self.below(0x3000),
            2 => abi::vm::MAP_BASE + 4096 * self.below(40),
            3 => 4096 * self.below(20),
            4 => self.below(8),
            _ => self.name(),
        }
    }
}

/// A name of the running task for a right of some kind, if it has one: most names that are drawn blindly denote nothing.
fn held(rig: &Rig, random: &mut Random<'_>, wanted: impl Fn(Right) -> bool) -> u64 {
    let names = &rig.kernel.tasks[usize::from(rig.kernel.current_task)].names;
    let count = names.iter().filter(|&(_, right)| wanted(right)).count() as u64;
    if count == 0 || random.below(8) == 0 {
        return random.name();
    }
    let nth = random.below(count) as usize;
    names.iter().filter(|&(_, right)| wanted(right)).nth(nth).map_or(0, |(name, _)| name.into())
}

fn random_letter(rig: &Rig, random: &mut Random<'_>) -> Letter {
    let is_port = |right| matches!(right, Right::Send(port) | Right::SendOnce(port) if rig.kernel.ports.kind(port) == Kind::Messages);
    let mut letter = Letter::to(held(rig, random, is_port), random.below(1000) as u32);
    let mut right = || {
        let disposition = random.below(Disposition::ALL.len() as u64) as u32;
        let makes = [Disposition::MakeSend, Disposition::MakeSendOnce].map(Disposition::raw);
        let name = match disposition {
            0 => return (0, 0),
            _ if makes.contains(&disposition) => {
                held(rig, random, |right| matches!(right, Right::Receive(_)))
            }
            _ => held(rig, random, |right| !matches!(right, Right::Set(_))),
        };
        (name, disposition)
    };
    (letter.reply, letter.carried) = (right(), right());
    if random.below(2) == 0 {
        let address = if random.below(2) == 0 { DATA + random.below(0x3000) } else { random.page() };
        letter.data = (address, random.length(), random.below(4) as u32);
    }
    letter
}

fn step(rig: &mut Rig, random: &mut Random<'_>) {
    if (rig.must_pick || rig.kernel.must_pick()) && rig.pick().is_none() {
        if let Random::Bytes(_) = random {
            random.byte(); // else there would be no end where all wait for ever
        }
        rig.m.now += 1000;
        rig.m.typed.push(b'x');
        rig.kernel.console_input(&mut rig.m);
        rig.kernel.net_event(&mut rig.m, NetEvent { resume: 1, ..NetEvent::default() });
        rig.kernel.tick(&mut rig.m);
        return;
    }
    match random.below(32) {
        0 => {
            rig.m.now += random.below(2000);
            rig.kernel.tick(&mut rig.m);
        }
        1 | 2 => {
            rig.pick();
        }
        3 => {
            let name = ["a", "b", "bad", "net0"][random.below(4) as usize];
            let (priority, bootstrap) = (3 + random.below(4), random.name());
            // The task may have sent its data away by now.
            let space = rig.kernel.tasks[usize::from(rig.kernel.current_task)].tables();
            if crate::user::check(&rig.m, space, DATA, 4096, true).is_ok() {
                rig.spawn(name, "-x", priority, bootstrap);
            }
        }
        4..11 => {
            let (letter, limit) = (random_letter(rig, random), random.limit());
            // The task may have unmapped its data by now.
            let space = rig.kernel.tasks[usize::from(rig.kernel.current_task)].tables();
            let at = DATA + 0x1000;
            let _ = crate::user::copy_out(&mut rig.m, space, at, &letter.bytes());
            rig.call(Syscall::MessageSend, &[at, limit]);
        }
        11..16 => {
            let port = held(rig, random, |right| matches!(right, Right::Receive(_) | Right::Set(_)));
            let limit = random.limit();
            let room = [random.page().to_le_bytes(), u64::from(random.length()).to_le_bytes()].concat();
            let space = rig.kernel.tasks[usize::from(rig.kernel.current_task)].tables();
            let _ = crate::user::copy_out(&mut rig.m, space, RECEIVE_AT + 32, &room);
            if random.below(2) == 0 {
                rig.call(Syscall::MessageReceive, &[port, RECEIVE_AT, limit]);
                return;
            }
            let letter = random_letter(rig, random);
            let space = rig.kernel.tasks[usize::from(rig.kernel.current_task)].tables();
            let at = DATA + 0x1000;
            let _ = crate::user::copy_out(&mut rig.m, space, at, &letter.bytes());
            rig.call(Syscall::MessageCall, &[at, port, RECEIVE_AT, limit]);
        }
        16 => {
            let space = rig.kernel.tasks[usize::from(rig.kernel.current_task)].tables();
            let _ = crate::user::copy_out(&mut rig.m, space, DATA, b"net0");
            rig.call(Syscall::DeviceOpen, &[DATA, 4]);
        }
        17 if random.below(8) == 0 => {
            let fault = Fault { what: "page fault", address: None, pc: 0, sp: 0, code: 0 };
            if rig.kernel.current_task != 0 {
                rig.kernel.user_fault(&mut rig.m, &fault);
            }
        }
        18 | 27 | 28 if rig.m.net.as_ref().is_some_and(|net| net.path == Path::Ipc) => {
            net_io_step(rig, random);
        }
        18 => {
            let culprit = random.below(2) as usize;
            let event = NetEvent {
                resume: random.below(4) as u32,
                violation: (random.below(50) == 0 && rig.kernel.devices[culprit].owner != Some(0))
                    .then_some(shmqueue::PeerMisbehaviour::NotEmpty),
                culprit,
            };
            rig.kernel.net_event(&mut rig.m, event);
        }
        19 => {
            rig.call(Syscall::ThreadCreate, &[TEXT, DATA + 0x1000, 0, random.below(8)]);
        }
        20..23 => {
            rig.call(Syscall::PortAllocate, &[]);
        }
        26 => {
            let port = held(rig, random, |right| matches!(right, Right::Receive(_)));
            rig.call(Syscall::PortMakeSend, &[port]);
        }
        24 | 25 => {
            rig.call(Syscall::VmAllocate, &[4096 * (1 + random.below(4)), abi::vm::PROT_READ | 2]);
        }
        23 => {
            let (port, notify) = (random.name(), random.name());
            rig.call(Syscall::PortNotifyDead, &[port, notify]);
        }
        _ => {
            let call = Syscall::ALL[random.below(Syscall::ALL.len() as u64) as usize];
            let args: [u64; 6] = core::array::from_fn(|_| random.word());
            let ends = matches!(call, Syscall::TaskExit | Syscall::TaskTerminate | Syscall::ThreadExit);
            if (rig.kernel.current_task == 0 && ends) || (call == Syscall::ThreadSuspend && args[0] > 10_000)
            {
                return;
            }
            if call == Syscall::TaskTerminate && random.below(4) != 0 {
                return;
            }
            rig.raw_call(call.raw().into(), args);
        }
    }
}

/// Something that the device does, or is told, on the path by message.
fn net_io_step(rig: &mut Rig, random: &mut Random<'_>) {
    let device = held(
        rig,
        random,
        |right| matches!(right, Right::Send(port) if matches!(rig.kernel.ports.kind(port), Kind::NetIo(_))),
    );
    match random.below(8) {
        0 | 1 => {
            let port = held(rig, random, |right| matches!(right, Right::Receive(_)));
            let space = rig.kernel.tasks[usize::from(rig.kernel.current_task)].tables();
            let program = if random.below(2) == 0 { programs::all() } else { programs::ipv4() };
            let words = program.words().unwrap();
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            let _ = crate::user::copy_out(&mut rig.m, space, DATA, &bytes);
            let priority = random.below(300) | (random.below(2) * COPY_ALL);
            let args = [device, port, priority, DATA, words.len() as u64 * random.below(8).min(1)];
            rig.call(Syscall::DeviceSetFilter, &args);
        }
        2 => {
            let page = random.page();
            rig.call(Syscall::DeviceWritePage, &[device, page, 10 + random.below(1600), 0]);
        }
        3 => {
            let net = rig.m.net.as_mut().unwrap();
            net.sent.append(&mut net.sending);
            rig.kernel.net_polled(&mut rig.m, true);
        }
        _ => {
            for _ in 0..random.below(40) {
                let frame = std::vec![random.next() as u8; 14 + random.below(1501) as usize];
                let _ = rig.kernel.net_frame(&mut rig.m, &frame, random.below(2) == 0);
            }
            rig.kernel.net_polled(&mut rig.m, false);
        }
    }
}

/// What the bytes say, a choice after the other: system calls of any task, most of them messages, and what the machine does. The books
/// balance after each, and when all tasks have ended everything has come back.
pub fn messages(bytes: &[u8]) {
    std::thread_local! {
        static MEMORY: Cell<Option<Vec<u8>>> = const { Cell::new(None) };
    }
    let mut random = Random::Bytes(bytes);
    let mut rig = Rig::small(MEMORY.take());
    if random.byte() & 1 != 0 {
        rig.m.net.as_mut().unwrap().path = Path::Ipc;
        rig.kernel.net_io.out_of_line = 800;
    }
    while !matches!(random, Random::Bytes([])) && rig.m.off.is_none() {
        step(&mut rig, &mut random);
        rig.audit();
    }
    end(&mut rig);
    MEMORY.set(Some(rig.into_memory()));
}

/// Whatever it came to: when all tasks end, everything comes back.
fn end(rig: &mut Rig) {
    for task in 0..crate::task::TASKS as u16 {
        if rig.kernel.tasks[usize::from(task)].id != 0 {
            rig.kernel.end_task(&mut rig.m, task, 0);
            rig.audit();
        }
    }
    assert_eq!(rig.kernel.frames().free_count(), rig.frames_at_boot - 1, "all but the information page");
    let left = rig.kernel.ports.table.iter().filter(|port| port.references > 0).count();
    assert_eq!(left, 1, "the host port");
    assert_eq!(rig.m.tables, 0);
}

#[test]
fn the_books_balance_after_any_sequence() {
    let (mut total, mut frames, mut messages, mut moved, mut copied) = (0, 0, 0, 0, 0);
    for seed in 1..=12u64 {
        let mut rig = Rig::new();
        if seed % 2 == 0 {
            rig.m.net.as_mut().unwrap().path = Path::Ipc;
            rig.kernel.net_io.out_of_line = 800;
        }
        let mut random = Random::Seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        for count in 0..6000 {
            step(&mut rig, &mut random);
            if count % 8 == 0 {
                rig.audit();
            }
            if rig.m.off.is_some() {
                break;
            }
            total += 1;
        }
        rig.audit();
        end(&mut rig);
        frames += rig.kernel.counters[Counter::NetMessages as usize];
        messages += rig.kernel.counters[Counter::Messages as usize];
        moved += rig.kernel.counters[Counter::PagesMoved as usize];
        copied += rig.kernel.counters[Counter::Copies as usize];
    }
    assert!(total > 40_000, "most sequences ran to their end: {total}");
    assert!(frames > 1000, "few frames came: {frames}");
    assert!(messages > 1000, "few sends got through: {messages}");
    assert!(moved > 50 && copied > 50, "{moved} pages moved, {copied} copies");
}

#[test]
fn the_fuzzers_bytes_are_choices_too() {
    let mut random = Random::Seed(0x9e37_79b9_7f4a_7c15);
    messages(&[]);
    for length in [1, 100, 2000] {
        let bytes: Vec<u8> = (0..length).map(|_| random.byte()).collect();
        messages(&bytes);
    }
}
