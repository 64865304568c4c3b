//! Messages and rights.

use std::vec::Vec;

use abi::Error;
use abi::message::{Disposition, NOTIFY_SEND_ONCE};
use abi::port::{BOOTSTRAP, TASK_SELF, THREAD_SELF};
use abi::syscall::{FOREVER, Syscall};
use abi::thread::{PRIORITY_APPLICATION, PRIORITY_SERVER, WAKE_MESSAGE, WAKE_RESUMED};
use abi::vm::PROT_READ;

use super::rig::{DATA, Got, Letter, RECEIVE_AT, Rig, TEXT};
use crate::machine::NetEvent;
use crate::port::{MESSAGES, MESSAGES_FEW, MESSAGES_KEPT, MESSAGES_PER_TASK, QUEUE_LIMIT};

pub(crate) const GRANT: Disposition = Disposition::Move;

/// `init` has a port, `a` a send right to it as its bootstrap; `a` runs. The port's name in `init`, and `a`'s name there.
pub(crate) fn parent_and_child() -> (Rig, u64, u64) {
    let mut rig = Rig::new();
    let port = rig.call(Syscall::PortAllocate, &[]).value();
    let child = rig.spawn("a", "", 5, port).value();
    assert_eq!(rig.receive(port, FOREVER), Got::Blocked);
    assert_eq!(rig.pick(), Some(1));
    (rig, port, child)
}

pub(crate) const PARENT: u64 = BOOTSTRAP as u64;

#[test]
fn a_message_comes_as_it_was_sent_with_the_sender_s_number() {
    let (mut rig, port, _) = parent_and_child();
    assert_eq!(rig.send(&Letter::to(PARENT, 7).saying(b"hello"), 0), Got::Value(0));
    assert_eq!(rig.result(0), Some(Got::Value(0)));
    let letter = rig.letter(0);
    assert_eq!(
        (letter.destination, letter.id, letter.body.as_slice(), letter.sender),
        (port, 7, &b"hello"[..], 2)
    );
    assert_eq!((letter.reply, letter.carried), ((0, 0), (0, 0)));
    rig.audit();
}

#[test]
fn call_and_reply_by_a_send_once_right() {
    let (mut rig, port, _) = parent_and_child();
    let mine = rig.call(Syscall::PortAllocate, &[]).value();
    let call = Letter::to(PARENT, 1).with_reply(mine, Disposition::MakeSendOnce);
    assert_eq!(rig.send(&call, 0), Got::Value(0));
    assert_eq!(rig.receive(mine, FOREVER), Got::Blocked);
    assert_eq!(rig.pick(), Some(0));
    let reply = rig.letter(0).reply.0;
    assert_eq!(rig.send(&Letter::to(reply, 2).saying(&[9; 208]), 0), Got::Value(0));
    assert_eq!(rig.send(&Letter::to(reply, 2), 0), Got::Error(Error::BadName), "used up");
    assert_eq!(rig.receive(port, FOREVER), Got::Blocked);
    assert_eq!(rig.pick(), Some(1));
    assert_eq!(rig.result(1), Some(Got::Value(0)));
    assert_eq!(rig.letter(1).body, [9; 208]);
    rig.audit();
}

#[test]
fn a_reply_right_that_dies_unused_tells_the_caller() {
    let (mut rig, _, _) = parent_and_child();
    let mine = rig.call(Syscall::PortAllocate, &[]).value();
    rig.send(&Letter::to(PARENT, 1).with_reply(mine, Disposition::MakeSendOnce), 0).value();
    assert_eq!(rig.receive(mine, FOREVER), Got::Blocked);
    rig.pick();
    let reply = rig.letter(0).reply.0;
    assert_eq!(rig.call(Syscall::PortDeallocate, &[reply]), Got::Value(0));
    assert_eq!(rig.result(1), Some(Got::Value(0)));
    assert_eq!(rig.letter(1).id, NOTIFY_SEND_ONCE);
    rig.audit();
}

#[test]
fn a_full_queue_refuses_blocks_or_times_out_and_a_send_once_right_passes() {
    let (mut rig, port, _) = parent_and_child();
    let mine = rig.call(Syscall::PortAllocate, &[]).value();
    for i in 0..=u32::from(QUEUE_LIMIT) {
        let call = Letter::to(PARENT, i).with(mine, Disposition::MakeSendOnce);
        assert_eq!(rig.send(&call, 0), Got::Value(0), "{i}, the first of which was taken at once");
    }
    assert_eq!(rig.send(&Letter::to(PARENT, 99), 0), Got::Error(Error::QueueFull));
    assert_eq!(rig.send(&Letter::to(PARENT, 99), 1000), Got::Blocked);
    rig.m.now += 1000;
    rig.kernel.tick(&mut rig.m);
    assert_eq!(rig.result(1), Some(Got::Error(Error::TimedOut)));
    assert_eq!(rig.pick(), Some(0));
    let once = rig.letter(0).carried.0;
    rig.call(Syscall::ThreadSuspend, &[10_000]);
    assert_eq!(rig.pick(), Some(1));
    assert_eq!(rig.send(&Letter::to(PARENT, 99), FOREVER), Got::Blocked);
    rig.audit();
    rig.m.now += 10_000;
    rig.kernel.tick(&mut rig.m);
    assert_eq!(rig.pick(), Some(0));
    assert_eq!(rig.send(&Letter::to(once, 1), 0), Got::Value(0));
    for i in 1..=u32::from(QUEUE_LIMIT) {
        assert_eq!(rig.receive(port, 0), Got::Value(0));
        assert_eq!(rig.letter(0).id, i);
        rig.audit();
    }
    assert_eq!(rig.result(1), Some(Got::Value(0)), "the blocked sender got its place");
    assert_eq!(rig.receive(port, 0), Got::Value(0));
    assert_eq!(rig.letter(0).id, 99);
    assert_eq!(rig.receive(port, 0), Got::Error(Error::WouldBlock));
    rig.audit();
}

#[test]
fn a_sender_cannot_take_all_of_the_kernel_s_messages() {
    let mut rig = Rig::new();
    let sent = hoard(&mut rig);
    assert_eq!(sent, MESSAGES_PER_TASK);
    rig.audit();
}

/// Fills queues of the running task's own until a message is refused; how many were not.
fn hoard(rig: &mut Rig) -> u16 {
    let mut sent = 0;
    loop {
        let port = rig.call(Syscall::PortAllocate, &[]).value();
        let send = rig.call(Syscall::PortMakeSend, &[port]).value();
        for _ in 0..QUEUE_LIMIT {
            match rig.send(&Letter::to(send, 1), 0) {
                Got::Value(0) => sent += 1,
                other => {
                    assert_eq!(other, Got::Error(Error::NoResources));
                    return sent;
                }
            }
        }
    }
}

#[test]
fn applications_that_hoard_messages_leave_some_to_others_and_to_servers() {
    let mut rig = Rig::new();
    // All children run before `init` does again, each until it has nothing left to do.
    let mut kept = Vec::new();
    for child in 1..=5 {
        let port = rig.call(Syscall::PortAllocate, &[]).value();
        rig.spawn("a", "", if child == 5 { PRIORITY_SERVER } else { PRIORITY_APPLICATION }, port).value();
        rig.call(Syscall::ThreadSuspend, &[10_000]);
        assert_eq!(rig.pick(), Some(child));
        kept.push(hoard(&mut rig));
        rig.audit();
        rig.call(Syscall::ThreadSuspend, &[FOREVER]);
        rig.m.now += 10_000;
        rig.kernel.tick(&mut rig.m);
        assert_eq!(rig.pick(), Some(0));
    }
    let general = (MESSAGES - MESSAGES_KEPT) as u16;
    let rest = general - 2 * MESSAGES_PER_TASK;
    assert_eq!(kept, [MESSAGES_PER_TASK, MESSAGES_PER_TASK, rest, MESSAGES_FEW, MESSAGES_PER_TASK]);
}

#[test]
fn a_receive_right_moves_with_its_queue() {
    let (mut rig, _, _) = parent_and_child();
    let moved = rig.call(Syscall::PortAllocate, &[]).value();
    let send = rig.call(Syscall::PortMakeSend, &[moved]).value();
    rig.send(&Letter::to(send, 5).saying(b"before"), 0).value();
    assert_eq!(rig.send(&Letter::to(PARENT, 1).with(moved, GRANT), 0), Got::Value(0));
    assert_eq!(rig.receive(moved, 0), Got::Error(Error::BadName));
    rig.send(&Letter::to(send, 6).saying(b"after"), 0).value();
    rig.call(Syscall::ThreadSuspend, &[FOREVER]);
    assert_eq!(rig.pick(), Some(0));
    let here = rig.letter(0).carried.0;
    for (id, body) in [(5, &b"before"[..]), (6, b"after")] {
        assert_eq!(rig.receive(here, 0), Got::Value(0));
        let letter = rig.letter(0);
        assert_eq!((letter.destination, letter.id, letter.body.as_slice()), (here, id, body));
    }
    rig.audit();
    assert_eq!(rig.call(Syscall::PortDeallocate, &[here]), Got::Value(0));
    rig.audit();
}

#[test]
fn receive_rights_cannot_vanish_into_their_own_queues() {
    let mut rig = Rig::new();
    let names: std::vec::Vec<(u64, u64)> = (0..3)
        .map(|_| {
            let port = rig.call(Syscall::PortAllocate, &[]).value();
            (port, rig.call(Syscall::PortMakeSend, &[port]).value())
        })
        .collect();
    let [(a, to_a), (b, to_b), (c, to_c)] = names[..] else { panic!() };
    assert_eq!(rig.send(&Letter::to(to_a, 1).with(a, GRANT), 0), Got::Error(Error::BadArgument));
    assert_eq!(rig.send(&Letter::to(to_b, 1).with(a, GRANT), 0), Got::Value(0));
    assert_eq!(rig.send(&Letter::to(to_c, 1).with(b, GRANT), 0), Got::Value(0));
    assert_eq!(rig.send(&Letter::to(to_a, 1).with(c, GRANT), 0), Got::Error(Error::BadArgument));
    rig.audit();
    assert_eq!(rig.call(Syscall::PortDeallocate, &[c]), Got::Value(0), "all three die, one in the other");
    assert_eq!(rig.send(&Letter::to(to_a, 1), 0), Got::Error(Error::Dead));
    rig.audit();
}

#[test]
fn the_same_right_cannot_go_twice() {
    let (mut rig, _, _) = parent_and_child();
    let port = rig.call(Syscall::PortAllocate, &[]).value();
    let both = Letter::to(PARENT, 1).with(port, GRANT).with_reply(port, GRANT);
    assert_eq!(rig.send(&both, 0), Got::Error(Error::BadArgument));
    let both = Letter::to(PARENT, 1).with(port, Disposition::MakeSend).with_reply(port, GRANT);
    assert_eq!(rig.send(&both, 0), Got::Error(Error::BadArgument));
    for name in [TASK_SELF, THREAD_SELF] {
        assert_eq!(rig.send(&Letter::to(PARENT, 1).with(name.into(), GRANT), 0), Got::Error(Error::Denied));
    }
    rig.audit();
    let parent = Letter::to(PARENT, 1).with(PARENT, GRANT);
    assert_eq!(rig.send(&parent, 0), Got::Value(0), "the right that it is sent with may go");
    assert_eq!(rig.send(&parent, 0), Got::Error(Error::BadName));
    rig.audit();
}

#[test]
fn a_send_once_right_cannot_carry_itself() {
    let (mut rig, port, _) = parent_and_child();
    let mine = rig.call(Syscall::PortAllocate, &[]).value();
    rig.send(&Letter::to(PARENT, 1).with_reply(mine, Disposition::MakeSendOnce), 0).value();
    rig.call(Syscall::ThreadSuspend, &[FOREVER]);
    rig.pick();
    let once = rig.letter(0).reply.0;
    assert_eq!(rig.send(&Letter::to(once, 1).with(once, GRANT), 0), Got::Error(Error::BadArgument));
    assert_eq!(rig.send(&Letter::to(once, 1).with(port, Disposition::MakeSend), 0), Got::Value(0));
    rig.audit();
}

#[test]
fn sets_serve_their_members_in_turn() {
    let mut rig = Rig::new();
    let set = rig.call(Syscall::PortSetAllocate, &[]).value();
    let mut sends = std::vec::Vec::new();
    for _ in 0..3 {
        let port = rig.call(Syscall::PortAllocate, &[]).value();
        assert_eq!(rig.call(Syscall::PortMoveMember, &[port, set]), Got::Value(0));
        sends.push((port, rig.call(Syscall::PortMakeSend, &[port]).value()));
    }
    for (_, send) in &sends {
        (0..2).for_each(|i| assert_eq!(rig.send(&Letter::to(*send, i), 0), Got::Value(0)));
    }
    for round in 0..2 {
        for (port, _) in &sends {
            assert_eq!(rig.receive(set, 0), Got::Value(0));
            let letter = rig.letter(0);
            assert_eq!((letter.destination, letter.id), (*port, round));
        }
    }
    assert_eq!(rig.receive(set, 0), Got::Error(Error::WouldBlock));
    rig.send(&Letter::to(sends[1].1, 8), 0).value();
    assert_eq!(rig.call(Syscall::PortMoveMember, &[sends[1].0, 0]), Got::Value(0));
    assert_eq!(rig.receive(set, 0), Got::Error(Error::WouldBlock), "no longer a member");
    assert_eq!(rig.call(Syscall::PortDeallocate, &[set]), Got::Value(0));
    assert_eq!(rig.receive(sends[1].0, 0), Got::Value(0));
    rig.audit();
}

#[test]
fn a_member_moved_in_with_a_message_wakes_the_set_s_receiver() {
    let mut rig = Rig::new();
    let set = rig.call(Syscall::PortSetAllocate, &[]).value();
    let port = rig.call(Syscall::PortAllocate, &[]).value();
    let send = rig.call(Syscall::PortMakeSend, &[port]).value();
    rig.send(&Letter::to(send, 8), 0).value();
    rig.call(Syscall::ThreadCreate, &[TEXT, DATA + 0x1000, 0, 5]).value();
    assert_eq!(rig.receive(set, FOREVER), Got::Blocked);
    rig.pick();
    assert_eq!(rig.call(Syscall::PortMoveMember, &[port, set]), Got::Value(0));
    assert_eq!(rig.result(0), Some(Got::Value(0)));
    rig.audit();
}

#[test]
fn a_full_member_moved_in_serves_every_receiver_and_every_sender_once() {
    let mut rig = Rig::new();
    let stack = DATA + 0x1000;
    let set = rig.call(Syscall::PortSetAllocate, &[]).value();
    let port = rig.call(Syscall::PortAllocate, &[]).value();
    let send = rig.call(Syscall::PortMakeSend, &[port]).value();
    let limit = u32::from(QUEUE_LIMIT);
    (0..limit).for_each(|i| assert_eq!(rig.send(&Letter::to(send, i), 0), Got::Value(0)));
    // Three threads that wait to receive from the set, two that wait to send, and the one that moves the port.
    for _ in 0..5 {
        rig.call(Syscall::ThreadCreate, &[TEXT, stack, 0, 5]).value();
    }
    let buffer = |thread: u64| DATA + 0x100 * thread;
    for thread in 0..3 {
        assert_eq!(rig.call(Syscall::MessageReceive, &[set, buffer(thread), FOREVER]), Got::Blocked);
        assert_eq!(rig.pick(), Some(thread as u16 + 1));
    }
    for thread in 3..5u32 {
        let at = DATA + 0x2000 + 0x100 * u64::from(thread);
        rig.poke(at, &Letter::to(send, 100 + thread).bytes());
        assert_eq!(rig.call(Syscall::MessageSend, &[at, FOREVER]), Got::Blocked);
        assert_eq!(rig.pick(), Some(thread as u16 + 1));
    }
    assert_eq!(rig.call(Syscall::PortMoveMember, &[port, set]), Got::Value(0));
    rig.audit();
    let id_at = |rig: &Rig, at: u64| u32::from_le_bytes(rig.peek(at + 4, 4).try_into().unwrap());
    let mut got: std::vec::Vec<u32> = (0..3).map(|thread| id_at(&rig, buffer(thread))).collect();
    for thread in 0..5 {
        assert_eq!(rig.result(thread), Some(Got::Value(0)), "thread {thread}");
    }
    while rig.receive(set, 0) == Got::Value(0) {
        got.push(rig.letter(0).id);
    }
    assert_eq!(got, (0..limit).chain([103, 104]).collect::<std::vec::Vec<_>>());
    rig.audit();
}

#[test]
fn a_bound_thread_is_told_of_messages_and_of_resumes_alike() {
    let mut rig = Rig::new();
    let set = rig.call(Syscall::PortSetAllocate, &[]).value();
    let port = rig.call(Syscall::PortAllocate, &[]).value();
    let send = rig.call(Syscall::PortMakeSend, &[port]).value();
    rig.call(Syscall::PortMoveMember, &[port, set]).value();
    rig.send(&Letter::to(send, 1), 0).value();
    assert_eq!(rig.call(Syscall::ThreadSuspend, &[0]), Got::Value(4), "not bound yet");
    assert_eq!(rig.call(Syscall::PortBindThread, &[set, THREAD_SELF.into()]), Got::Value(0));
    assert_eq!(
        rig.call(Syscall::ThreadSuspend, &[FOREVER]),
        Got::Value(WAKE_MESSAGE),
        "it was queued before"
    );
    rig.call(Syscall::ThreadResume, &[THREAD_SELF.into()]).value();
    rig.send(&Letter::to(send, 1), 0).value();
    assert_eq!(rig.call(Syscall::ThreadSuspend, &[FOREVER]), Got::Value(WAKE_MESSAGE | WAKE_RESUMED));
    rig.call(Syscall::PortBindThread, &[set, 0]).value();
    rig.send(&Letter::to(send, 1), 0).value();
    assert_eq!(rig.call(Syscall::ThreadSuspend, &[0]), Got::Value(4), "not bound any more");
    rig.audit();
}

#[test]
fn a_bound_thread_that_ends_is_bound_no_more() {
    let mut rig = Rig::new();
    let port = rig.call(Syscall::PortAllocate, &[]).value();
    let send = rig.call(Syscall::PortMakeSend, &[port]).value();
    rig.poke(DATA, b"net0");
    let device = rig.call(Syscall::DeviceOpen, &[DATA, 4]).value();
    let other = rig.call(Syscall::ThreadCreate, &[TEXT, DATA + 0x1000, 0, 5]).value();
    assert_eq!(rig.call(Syscall::PortBindThread, &[port, other]), Got::Value(0));
    assert_eq!(rig.call(Syscall::DeviceBindThread, &[device, other]), Got::Value(0));
    rig.call(Syscall::ThreadSuspend, &[1]);
    assert_eq!(rig.pick(), Some(1));
    rig.call(Syscall::ThreadExit, &[]);
    rig.audit();
    rig.m.now += 10;
    rig.kernel.tick(&mut rig.m);
    rig.pick();
    rig.send(&Letter::to(send, 1), 0).value();
    rig.kernel.net_event(&mut rig.m, NetEvent { resume: 1, ..NetEvent::default() });
    assert_eq!(rig.kernel.threads[1].pending, 0);
    rig.audit();
}

#[test]
fn a_receiver_without_room_for_names_keeps_the_message() {
    let (mut rig, port, _) = parent_and_child();
    let mine = rig.call(Syscall::PortAllocate, &[]).value();
    let object = rig.call(Syscall::MemoryObjectCreate, &[4096]).value();
    rig.send(&Letter::to(PARENT, 1), 0).value();
    let letter = Letter::to(PARENT, 2).with_reply(mine, Disposition::MakeSend).with(object, GRANT);
    rig.send(&letter, 0).value();
    rig.call(Syscall::ThreadSuspend, &[FOREVER]);
    assert_eq!(rig.pick(), Some(0));
    let mut last = 0;
    while let Got::Value(name) = rig.call(Syscall::PortAllocate, &[]) {
        last = name;
    }
    assert_eq!(rig.receive(port, 0), Got::Error(Error::NoResources));
    rig.call(Syscall::PortDeallocate, &[last]).value();
    assert_eq!(rig.receive(port, 0), Got::Error(Error::NoResources), "one of two");
    rig.audit();
    rig.call(Syscall::PortDeallocate, &[last - 1]).value();
    assert_eq!(rig.receive(port, 0), Got::Value(0));
    let letter = rig.letter(0);
    assert_eq!((letter.reply.0, letter.carried.0), (last - 1, last));
    rig.audit();
}

#[test]
fn a_receiver_whose_buffer_went_away_learns_it_and_the_message_stays() {
    let (mut rig, port, _) = parent_and_child();
    rig.call(Syscall::ThreadSuspend, &[1]);
    rig.m.now += 10;
    let space = rig.kernel.tasks[0].space.as_mut().unwrap();
    let page = RECEIVE_AT & !4095;
    rig.kernel.memory.unmap(&mut rig.m, space, page, 1).unwrap();
    rig.kernel.tick(&mut rig.m);
    assert_eq!(rig.pick(), Some(1));
    assert_eq!(rig.send(&Letter::to(PARENT, 7), 0), Got::Value(0));
    assert_eq!(rig.result(0), Some(Got::Error(Error::BadAddress)));
    rig.call(Syscall::ThreadSuspend, &[FOREVER]);
    rig.pick();
    assert_eq!(rig.call(Syscall::MessageReceive, &[port, DATA, 0]), Got::Value(0));
    rig.audit();
}

#[test]
fn shared_memory_is_shared_and_a_read_only_right_stays_so() {
    let (mut rig, _, _) = parent_and_child();
    let object = rig.call(Syscall::MemoryObjectCreate, &[3 * 4096]).value();
    let reading = rig.call(Syscall::MemoryObjectReadOnly, &[object]).value();
    let mine = rig.call(Syscall::VmMap, &[object, 0, 3 * 4096, 3]).value();
    assert_eq!(rig.peek(mine, 3 * 4096), std::vec![0; 3 * 4096], "zeroed");
    rig.poke(mine + 4090, b"across the pages");
    assert_eq!(rig.call(Syscall::VmMap, &[reading, 0, 4096, 3]), Got::Error(Error::Denied));
    rig.send(&Letter::to(PARENT, 1).with(reading, Disposition::CopySend), 0).value();
    rig.call(Syscall::PortDeallocate, &[object]).value();
    rig.call(Syscall::PortDeallocate, &[reading]).value();
    rig.call(Syscall::TaskExit, &[0]);
    assert_eq!(rig.pick(), Some(0));
    let there = rig.letter(0).carried.0;
    assert_eq!(rig.call(Syscall::VmMap, &[there, 0, 4096, 3]), Got::Error(Error::Denied));
    let rights = rig.call(Syscall::MemoryObjectReadOnly, &[there]).value();
    assert_eq!(rig.call(Syscall::VmMap, &[rights, 0, 4096, 3]), Got::Error(Error::Denied));
    assert_eq!(
        rig.call(Syscall::VmMap, &[there, 0, 3 * 4096 + 1, PROT_READ]),
        Got::Error(Error::BadArgument)
    );
    assert_eq!(rig.call(Syscall::VmMap, &[there, 4096, 3 * 4096, PROT_READ]), Got::Error(Error::BadArgument));
    let here = rig.call(Syscall::VmMap, &[there, 4096, 2 * 4096, PROT_READ]).value();
    assert_eq!(rig.peek(here, 10), b" the pages");
    rig.audit();
    rig.call(Syscall::PortDeallocate, &[there]).value();
    rig.call(Syscall::PortDeallocate, &[rights]).value();
    rig.audit();
    rig.call(Syscall::VmDeallocate, &[here, 2 * 4096]).value();
    rig.audit();
}
