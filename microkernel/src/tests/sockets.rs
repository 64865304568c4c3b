//! The calls of the stack in the kernel, over a stack that writes down what it is asked.

use std::vec;
use std::vec::Vec;

use abi::Error;
use abi::message::{BODY_BYTES, Disposition, KERNEL_IDS, MESSAGE_BYTES, Message, NOTIFY_DEAD_NAME};
use abi::port::{TASK_SELF, THREAD_SELF};
use abi::socket::{Endpoint, REPLY, Record, Request};
use abi::syscall::{FOREVER, Syscall};
use abi::vm::{PAGE_BYTES, PROT_READ, PROT_WRITE, USER_END, USER_MIN};

use super::fake::{FakeNet, WINDOW};
use super::rig::{DATA, DATA_BYTES, Got, Rig, TEXT};
use crate::machine::{Machine, NetEvent};
use crate::sockets::{Pieces, Shared, Sockets, TRANSFER_MAX, Wakes};

/// Task, socket, and the pieces: physical addresses and bytes.
type Transfer = (u32, u32, Vec<(u64, usize)>);

/// What it was asked, and what it is to say.
#[derive(Default)]
pub(crate) struct FakeStack {
    pub requests: Vec<Message>,
    /// Names of memory that tasks have.
    pub lent: Vec<u32>,
    /// Of the last transfer: task, socket, and the pieces with their places.
    pub transfer: Option<Transfer>,
    pub peer: Option<Endpoint>,
    pub answer: Option<Error>,
    pub record: Option<Record>,
    pub wakes: Wakes,
    pub dead: Vec<u16>,
    next_name: u32,
}

impl FakeStack {
    fn note(&mut self, task: u32, socket: u32, pieces: &Pieces) -> Result<usize, Error> {
        let mut parts = Vec::new();
        pieces.each(0..pieces.bytes(), |phys, part| parts.push((phys, part.len())));
        // A range in the middle is the same bytes.
        let middle = pieces.bytes() / 3..pieces.bytes() * 2 / 3;
        let mut seen = middle.start;
        pieces.each(middle.clone(), |phys, part| {
            assert_eq!(part.start, seen - middle.start);
            let mut skipped = 0;
            let inside = parts.iter().find_map(|&(start, bytes)| {
                skipped += bytes;
                (seen < skipped).then(|| start + (seen - (skipped - bytes)) as u64)
            });
            assert_eq!(inside, Some(phys));
            seen += part.len();
        });
        assert_eq!(seen, middle.end);
        self.transfer = Some((task, socket, parts));
        match self.answer {
            Some(error) => Err(error),
            None => Ok(pieces.bytes()),
        }
    }
}

impl Sockets for FakeNet {
    fn is_here(&self) -> bool {
        self.stack.is_some()
    }

    fn request(&mut self, request: &Message) -> Result<Message, Error> {
        let stack = self.stack.as_mut().expect("asked only where it is");
        stack.requests.push(*request);
        let mut reply = Message::new(0, REPLY);
        assert!(reply.set_word(0, 0) && reply.set_word(1, 77));
        if request.id == Request::Open.raw() || request.id == Request::Hello.raw() {
            stack.next_name += 1;
            stack.lent.push(stack.next_name);
            reply.carried = stack.next_name;
        }
        Ok(reply)
    }

    fn shared(&self, name: u32) -> Option<Shared> {
        let stack = self.stack.as_ref()?;
        stack.lent.contains(&name).then_some(Shared { base: WINDOW.0, pages: 2, write: name % 2 == 1 })
    }

    fn give_back(&mut self, name: u32) {
        let lent = &mut self.stack.as_mut().expect("a stack").lent;
        let at = lent.iter().position(|&known| known == name).expect("given back once");
        lent.remove(at);
    }

    fn write(
        &mut self,
        task: u32,
        socket: u32,
        from: &Pieces,
        peer: Option<&Endpoint>,
    ) -> Result<usize, Error> {
        let stack = self.stack.as_mut().ok_or(Error::BadCall)?;
        stack.peer = peer.copied();
        stack.note(task, socket, from)
    }

    fn read(&mut self, task: u32, socket: u32, into: &Pieces) -> Result<usize, Error> {
        self.stack.as_mut().ok_or(Error::BadCall)?.note(task, socket, into)
    }

    fn read_record(
        &mut self,
        task: u32,
        socket: u32,
        into: &Pieces,
    ) -> Result<Option<(Record, usize)>, Error> {
        let stack = self.stack.as_mut().ok_or(Error::BadCall)?;
        let bytes = stack.note(task, socket, into)?;
        Ok(stack.record.map(|record| (record, bytes)))
    }

    fn thread_died(&mut self, thread: u16) {
        if let Some(stack) = &mut self.stack {
            stack.dead.push(thread);
        }
    }

    fn take_wakes(&mut self) -> Wakes {
        self.stack.as_mut().map(|stack| core::mem::take(&mut stack.wakes)).unwrap_or_default()
    }
}

const AT: u64 = DATA + 0x100;

fn rig() -> Rig {
    let mut rig = Rig::new();
    rig.m.net.as_mut().expect("a device").stack = Some(FakeStack::default());
    rig
}

fn stack(rig: &mut Rig) -> &mut FakeStack {
    rig.m.net.as_mut().and_then(|net| net.stack.as_mut()).expect("a stack")
}

/// Puts a request into the running task's memory.
fn put(rig: &mut Rig, id: u32, carried: u32, disposition: u32, length: u32) {
    let mut bytes = vec![0; MESSAGE_BYTES];
    let mut word = |at: usize, value: u32| bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    word(core::mem::offset_of!(Message, destination), 1234);
    word(core::mem::offset_of!(Message, id), id);
    word(core::mem::offset_of!(Message, reply), 4321);
    word(core::mem::offset_of!(Message, carried), carried);
    word(core::mem::offset_of!(Message, carried_disposition), disposition);
    word(core::mem::offset_of!(Message, length), length);
    word(core::mem::offset_of!(Message, sender), 99);
    bytes[core::mem::offset_of!(Message, body)..].fill(0x5a);
    rig.poke(AT, &bytes);
}

fn ask(rig: &mut Rig, request: Request, carried: u32) -> Got {
    let disposition = if carried == 0 { Disposition::None } else { Disposition::CopySend };
    put(rig, request.raw(), carried, disposition.raw(), 12);
    rig.call(Syscall::SocketRequest, &[AT])
}

fn word_at(rig: &Rig, offset: usize) -> u32 {
    u32::from_le_bytes(rig.peek(AT + offset as u64, 4).try_into().expect("four bytes"))
}

#[test]
fn without_a_stack_there_are_no_such_calls() {
    let mut rig = Rig::new();
    assert_eq!(ask(&mut rig, Request::Hello, 0), Got::Error(Error::BadCall));
    for call in [Syscall::SocketWrite, Syscall::SocketRead] {
        assert_eq!(rig.call(call, &[0, DATA, 10, 0]), Got::Error(Error::BadCall));
        assert_eq!(rig.call(call, &[0, DATA, 10, DATA + 64]), Got::Error(Error::BadCall));
    }
    rig.audit();
}

#[test]
fn requests_come_with_what_the_kernel_knows_and_replies_with_rights() {
    let mut rig = rig();
    assert_eq!(ask(&mut rig, Request::Open, THREAD_SELF), Got::Value(0));
    let request = stack(&mut rig).requests.pop().expect("a request");
    assert_eq!((request.id, request.length), (Request::Open.raw(), 12));
    assert_eq!(request.sender, rig.kernel.tasks[usize::from(rig.kernel.current_task)].id as u32);
    assert_eq!(request.carried, u32::from(rig.current()) + 1, "the thread's number and one more");
    assert_eq!((request.reply, request.destination), (0, 0));
    assert_eq!(request.word(0), Some(0x5a5a_5a5a));
    let [id, length, first, second] = [4, 24, 48, 52].map(|at| word_at(&rig, at));
    assert_eq!((id, length, first, second), (REPLY, 8, 0, 77));
    // The right maps what the stack shares, as it said.
    let name = u64::from(word_at(&rig, core::mem::offset_of!(Message, carried)));
    let mapped = rig.call(Syscall::VmMap, &[name, 0, 2 * PAGE_BYTES, PROT_READ | PROT_WRITE]).value();
    assert_eq!(
        rig.call(Syscall::VmMap, &[name, 0, 3 * PAGE_BYTES, PROT_READ]),
        Got::Error(Error::BadArgument)
    );
    let space = rig.kernel.tasks[usize::from(rig.kernel.current_task)].tables();
    assert_eq!(rig.m.translate(space, mapped + PAGE_BYTES, true), Some(WINDOW.0 + PAGE_BYTES));
    assert_eq!(ask(&mut rig, Request::Hello, 0), Got::Value(0));
    let status = u64::from(word_at(&rig, core::mem::offset_of!(Message, carried)));
    assert_eq!(
        rig.call(Syscall::VmMap, &[status, 0, PAGE_BYTES, PROT_READ | PROT_WRITE]),
        Got::Error(Error::Denied)
    );
    assert_eq!(stack(&mut rig).lent, [1, 2]);
    rig.call(Syscall::PortDeallocate, &[status]).value();
    assert_eq!(stack(&mut rig).lent, [1], "the last right");
    rig.call(Syscall::PortDeallocate, &[name]).value();
    assert_eq!(stack(&mut rig).lent, [1], "it is still mapped");
    rig.audit();
    rig.call(Syscall::VmDeallocate, &[mapped, 2 * PAGE_BYTES]).value();
    assert!(stack(&mut rig).lent.is_empty());
    assert_eq!(ask(&mut rig, Request::Close, 0), Got::Value(0));
    assert_eq!(word_at(&rig, core::mem::offset_of!(Message, carried)), 0);
    rig.audit();
}

#[test]
fn bad_requests_reach_nobody() {
    let mut rig = rig();
    let port = rig.call(Syscall::PortAllocate, &[]).value() as u32;
    let (none, copy) = (Disposition::None.raw(), Disposition::CopySend.raw());
    let open = Request::Open.raw();
    let bad = [
        (KERNEL_IDS, 0, none, 0, Error::BadArgument),
        (NOTIFY_DEAD_NAME, 0, none, 8, Error::BadArgument),
        (open, 0, none, BODY_BYTES as u32 + 1, Error::BadArgument),
        (open, 0, none, u32::MAX, Error::BadArgument),
        (open, THREAD_SELF, none, 4, Error::BadArgument),
        (open, 0, copy, 4, Error::BadName),
        (open, 200, copy, 4, Error::BadName),
        (open, u32::MAX, copy, 4, Error::BadName),
        (open, TASK_SELF, copy, 4, Error::BadRight),
        (open, port, copy, 4, Error::BadRight),
        (open, THREAD_SELF, Disposition::Move.raw(), 4, Error::BadArgument),
        (open, port, Disposition::MakeSend.raw(), 4, Error::BadArgument),
        (open, THREAD_SELF, 99, 4, Error::BadArgument),
    ];
    for (id, carried, disposition, length, error) in bad {
        put(&mut rig, id, carried, disposition, length);
        assert_eq!(rig.call(Syscall::SocketRequest, &[AT]), Got::Error(error), "{id:#x} {carried}");
    }
    let outside = [0, 1, USER_MIN, USER_END - 8, u64::MAX - 7, TEXT, DATA + DATA_BYTES - 8, 1 << 63];
    for at in outside {
        assert_eq!(rig.call(Syscall::SocketRequest, &[at]), Got::Error(Error::BadAddress), "{at:#x}");
    }
    // No name for the right that the reply may carry.
    put(&mut rig, open, THREAD_SELF, copy, 4);
    let mut last = 0;
    while let Got::Value(name) = rig.call(Syscall::PortAllocate, &[]) {
        last = name;
    }
    assert_eq!(rig.call(Syscall::SocketRequest, &[AT]), Got::Error(Error::NoResources));
    assert!(stack(&mut rig).requests.is_empty());
    rig.call(Syscall::PortDeallocate, &[last]).value();
    assert_eq!(rig.call(Syscall::SocketRequest, &[AT]), Got::Value(0));
    rig.audit();
}

#[test]
fn transfers_are_the_pieces_of_the_tasks_memory_and_no_others() {
    let mut rig = rig();
    let task = rig.kernel.tasks[usize::from(rig.kernel.current_task)].id as u32;
    let big = rig.call(Syscall::VmAllocate, &[40 * PAGE_BYTES, PROT_READ | PROT_WRITE]).value();
    for call in [Syscall::SocketWrite, Syscall::SocketRead] {
        for (at, length) in [
            (big, 0),
            (1, 0),
            (u64::MAX, 0),
            (big, 1),
            (big + 5, 100),
            (big + PAGE_BYTES - 1, 2),
            (big + 4000, 10_000),
            (big + 1, TRANSFER_MAX as u64),
            (big + 4095, TRANSFER_MAX as u64),
            (big, 30 * PAGE_BYTES),
            (big, u64::MAX),
        ] {
            let done = length.min(TRANSFER_MAX as u64);
            assert_eq!(rig.call(call, &[9, at, length, 0]), Got::Value(done), "{call:?} {length}");
            let (who, socket, parts) = stack(&mut rig).transfer.take().expect("a transfer");
            assert_eq!((who, socket), (task, 9));
            let space = rig.kernel.tasks[usize::from(rig.kernel.current_task)].tables();
            let mut done = 0;
            for (phys, bytes) in parts {
                assert!(bytes > 0 && phys % PAGE_BYTES + bytes as u64 <= PAGE_BYTES);
                assert_eq!(rig.m.translate(space, at + done, true), Some(phys));
                done += bytes as u64;
            }
            assert_eq!(done, length.min(TRANSFER_MAX as u64));
        }
        let end = big + 40 * PAGE_BYTES;
        let outside = [
            (0, 1),
            (1, 1),
            (end, 1),
            (end - 1, 2),
            (end - 100, u64::MAX),
            (USER_END - 1, 2),
            (u64::MAX, 1),
            (u64::MAX - 3, 100),
            (0xffff_ffff_8000_0000, 4),
            (1 << 63, 4),
        ];
        for (at, length) in outside {
            assert_eq!(rig.call(call, &[9, at, length, 0]), Got::Error(Error::BadAddress), "{at:#x}");
        }
        for socket in [1 << 32, u64::MAX] {
            assert_eq!(rig.call(call, &[socket, big, 1, 0]), Got::Error(Error::BadName));
        }
        assert!(stack(&mut rig).transfer.is_none());
        stack(&mut rig).answer = Some(Error::NotConnected);
        assert_eq!(rig.call(call, &[9, big, 1, 0]), Got::Error(Error::NotConnected));
        stack(&mut rig).answer = None;
    }
    // What can be read but not written.
    assert_eq!(rig.call(Syscall::SocketWrite, &[9, TEXT, 16, 0]), Got::Value(16));
    assert_eq!(rig.call(Syscall::SocketRead, &[9, TEXT, 16, 0]), Got::Error(Error::BadAddress));
    rig.audit();
}

#[test]
fn datagrams_have_a_head_beside_the_bytes() {
    let mut rig = rig();
    let peer = Endpoint { family: 6, address: *b"0123456789abcdef", port: 5555 };
    let mut head = vec![0xff; 32];
    head[4..8].copy_from_slice(&6u32.to_le_bytes());
    head[8..24].copy_from_slice(&peer.address);
    head[24..28].copy_from_slice(&5555u32.to_le_bytes());
    rig.poke(AT, &head);
    assert_eq!(rig.call(Syscall::SocketWrite, &[3, DATA, 50, AT]), Got::Value(50));
    assert_eq!(stack(&mut rig).peer, Some(peer));
    let too_long = TRANSFER_MAX as u64 + 1;
    assert_eq!(rig.call(Syscall::SocketWrite, &[3, DATA, too_long, AT]), Got::Error(Error::TooLong));
    for at in [1, USER_END - 31, DATA + DATA_BYTES - 31, u64::MAX - 5] {
        assert_eq!(rig.call(Syscall::SocketWrite, &[3, DATA, 5, at]), Got::Error(Error::BadAddress));
        assert_eq!(rig.call(Syscall::SocketRead, &[3, DATA, 5, at]), Got::Error(Error::BadAddress));
    }
    assert_eq!(rig.call(Syscall::SocketRead, &[3, DATA, 5, TEXT]), Got::Error(Error::BadAddress));
    stack(&mut rig).record = Some(Record { length: 900, peer, reserved: 0 });
    assert_eq!(rig.call(Syscall::SocketRead, &[3, DATA, 64, AT]), Got::Value(64));
    let mut wanted = head.clone();
    wanted[..4].copy_from_slice(&900u32.to_le_bytes());
    wanted[28..].fill(0);
    assert_eq!(rig.peek(AT, 32), wanted);
    // Nothing there: nobody is the peer.
    stack(&mut rig).record = None;
    assert_eq!(rig.call(Syscall::SocketRead, &[3, DATA, 64, AT]), Got::Value(0));
    assert_eq!(rig.peek(AT, 32), vec![0; 32]);
    rig.audit();
}

#[test]
fn threads_that_the_stack_wants_resumed_are_by_calls_and_by_interrupts() {
    let mut rig = rig();
    let waiter = rig.current();
    rig.spawn("a", "", 3, 0).value();
    for interrupt in [false, true] {
        // The first waits; the other makes the call, or is interrupted.
        while rig.current() != waiter {
            rig.call(Syscall::ThreadSuspend, &[1]);
            rig.pick();
        }
        assert_eq!(rig.call(Syscall::ThreadSuspend, &[FOREVER]), Got::Blocked);
        let other = rig.pick().expect("the other task");
        assert_ne!(other, waiter);
        stack(&mut rig).wakes.add(waiter);
        stack(&mut rig).wakes.add(u16::MAX);
        if interrupt {
            let event = NetEvent { resume: 1, ..NetEvent::default() };
            rig.kernel.net_event(&mut rig.m, event);
            assert!(rig.kernel.must_pick(), "its priority is higher");
        } else {
            assert_eq!(rig.call(Syscall::SocketWrite, &[3, DATA, 5, 0]), Got::Value(5));
        }
        assert_eq!(rig.result(waiter), Some(Got::Value(abi::thread::WAKE_RESUMED)));
        assert!(!stack(&mut rig).wakes.any());
        rig.audit();
        rig.call(Syscall::ThreadSuspend, &[FOREVER]);
        assert_eq!(rig.pick(), Some(waiter));
        rig.kernel.post(&mut rig.m, other, 1);
    }
}

#[test]
fn a_task_that_ends_leaves_nothing_behind() {
    let mut rig = rig();
    let child = rig.spawn("a", "", 7, 0).value();
    rig.call(Syscall::ThreadSetPriority, &[THREAD_SELF.into(), 1]).value();
    let parent = rig.current();
    rig.call(Syscall::ThreadYield, &[]);
    let thread = rig.pick().expect("the child");
    assert_ne!(thread, parent);
    for _ in 0..5 {
        assert_eq!(ask(&mut rig, Request::Open, THREAD_SELF), Got::Value(0));
        let name = u64::from(word_at(&rig, core::mem::offset_of!(Message, carried)));
        rig.call(Syscall::VmMap, &[name, 0, PAGE_BYTES, PROT_READ]).value();
    }
    assert_eq!(stack(&mut rig).lent.len(), 5);
    assert_eq!(rig.call(Syscall::TaskExit, &[0]), Got::Blocked);
    assert_eq!(stack(&mut rig).dead, [thread]);
    assert!(stack(&mut rig).lent.is_empty());
    assert_eq!(rig.pick(), Some(parent));
    rig.call(Syscall::PortDeallocate, &[child]).value();
    rig.audit();
}
