//! Data that goes with messages.

use std::vec;
use std::vec::Vec;

use abi::Error;
use abi::counters::Counter;
use abi::message::{DATA_MAX, Data, Disposition};
use abi::port::BOOTSTRAP;
use abi::syscall::{FOREVER, Syscall};
use abi::vm::{PAGE_BYTES, PROT_READ, PROT_WRITE};

use super::rig::{DATA, DATA_BYTES, Got, Letter, Rig, TEXT};
use crate::port::{DATA_PAGES, DATA_PAGES_IN_FLIGHT, DATA_PAGES_PER_TASK, QUEUE_LIMIT};

const PARENT: u64 = BOOTSTRAP as u64;
const NONE: (u64, u32) = (0, 0);

/// `init` has a port, `a` a send right to it as its bootstrap; `a` runs, `init` sleeps. The port's name in `init`.
fn parent_and_child() -> (Rig, u64) {
    let mut rig = Rig::new();
    let port = rig.call(Syscall::PortAllocate, &[]).value();
    rig.spawn("a", "", 5, port).value();
    assert_eq!(rig.call(Syscall::ThreadSuspend, &[1_000_000]), Got::Blocked);
    assert_eq!(rig.pick(), Some(1));
    (rig, port)
}

/// The parent runs, the child sleeps.
fn to_parent(rig: &mut Rig) {
    assert_eq!(rig.call(Syscall::ThreadSuspend, &[10_000_000]), Got::Blocked);
    rig.m.now += 1_000_000;
    rig.kernel.tick(&mut rig.m);
    assert_eq!(rig.pick(), Some(0));
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 7 + i / 251) as u8).collect()
}

fn allocate(rig: &mut Rig, pages: u64) -> u64 {
    rig.call(Syscall::VmAllocate, &[pages * PAGE_BYTES, PROT_READ | PROT_WRITE]).value()
}

fn counter(rig: &Rig, counter: Counter) -> u64 {
    rig.kernel.counters[counter as usize]
}

#[test]
fn data_in_line_comes_byte_for_byte_whatever_pages_it_crosses() {
    let (mut rig, port) = parent_and_child();
    let from = allocate(&mut rig, 17);
    let sizes = [1, 208, 1514, 4095, 4096, 4097, 9000, DATA_MAX];
    for (i, &size) in sizes.iter().enumerate() {
        rig.poke(from + i as u64, &pattern(size));
        let letter = Letter::to(PARENT, i as u32).with_data(Data::Inline, from + i as u64, size as u32);
        assert_eq!(rig.send(&letter, 0), Got::Value(0), "{size}");
        rig.audit();
    }
    rig.poke(from, &vec![0; DATA_MAX]);
    to_parent(&mut rig);
    let room = allocate(&mut rig, 18);
    for (i, &size) in sizes.iter().enumerate() {
        let at = room + 1000 * i as u64;
        rig.poke(at, &vec![0xee; size + 1]);
        assert_eq!(rig.receive_with(port, 0, (at, size as u32)), Got::Value(0));
        let letter = rig.letter(0);
        assert_eq!((letter.id, letter.data), (i as u32, (at, size as u32, Data::Inline.raw())));
        let got = rig.peek(at, size + 1);
        assert!(got[..size] == pattern(size) && got[size] == 0xee, "{size} bytes, and none behind");
        rig.audit();
    }
    let bytes: usize = sizes.iter().sum();
    assert_eq!(counter(&rig, Counter::Copies), 2 * sizes.len() as u64);
    assert_eq!(counter(&rig, Counter::CopiedBytes), 2 * bytes as u64);
    assert_eq!(rig.kernel.messages.pages_in_flight, 0);
}

#[test]
fn a_receiver_that_waits_gets_the_data_where_it_said() {
    let mut rig = Rig::new();
    let port = rig.call(Syscall::PortAllocate, &[]).value();
    rig.spawn("a", "", 5, port).value();
    let room = allocate(&mut rig, 1);
    assert_eq!(rig.receive_with(port, FOREVER, (room + 8, 64)), Got::Blocked);
    assert_eq!(rig.pick(), Some(1));
    rig.poke(DATA, b"what is said");
    let letter = Letter::to(PARENT, 1).with_data(Data::Inline, DATA, 12).saying(b"body");
    assert_eq!(rig.send(&letter, 0), Got::Value(0));
    assert_eq!(rig.result(0), Some(Got::Value(0)));
    let letter = rig.letter(0);
    assert_eq!((letter.data, letter.body), ((room + 8, 12, Data::Inline.raw()), b"body".to_vec()));
    assert_eq!(rig.peek_in(0, room + 8, 13), b"what is said\0");
    rig.audit();
}

#[test]
fn too_little_room_leaves_the_message_and_its_right_queued() {
    let (mut rig, port) = parent_and_child();
    let mine = rig.call(Syscall::PortAllocate, &[]).value();
    rig.poke(DATA, &pattern(300));
    let letter = Letter::to(PARENT, 5).with_data(Data::Inline, DATA, 300).with(mine, Disposition::MakeSend);
    assert_eq!(rig.send(&letter, 0), Got::Value(0));
    to_parent(&mut rig);
    let used = rig.kernel.tasks[0].names.iter().count();
    for room in
        [NONE, (DATA, 299), (0, 300), (TEXT, 300), (u64::MAX - 100, 300), (DATA + DATA_BYTES - 200, 300)]
    {
        let error = if room.1 < 300 { Error::TooLong } else { Error::BadAddress };
        assert_eq!(rig.receive_with(port, 0, room), Got::Error(error), "{room:x?}");
        assert_eq!(rig.kernel.tasks[0].names.iter().count(), used);
        rig.audit();
    }
    // A receiver that waits is told the same, and the message goes to the next that has room.
    assert_eq!(rig.receive_with(port, 0, (DATA + 100, 300)), Got::Value(0));
    assert_eq!(rig.peek(DATA + 100, 300), pattern(300));
    assert_eq!(rig.receive_with(port, FOREVER, (DATA, 2)), Got::Blocked);
    rig.m.now += 10_000_000;
    rig.kernel.tick(&mut rig.m);
    assert_eq!(rig.pick(), Some(1));
    assert_eq!(rig.send(&Letter::to(PARENT, 6).with_data(Data::Inline, DATA, 3), 0), Got::Value(0));
    assert_eq!(rig.result(0), Some(Got::Error(Error::TooLong)));
    assert_eq!(rig.kernel.messages.pages_in_flight, 1);
    rig.audit();
}

#[test]
fn pages_out_of_line_leave_the_sender_and_come_to_the_receiver_uncopied() {
    let (mut rig, port) = parent_and_child();
    let from = allocate(&mut rig, 6);
    rig.poke(from, &pattern(6 * 4096));
    let phys = |rig: &Rig, task: usize, page: u64| {
        rig.kernel.tasks[task].tables().pages.get(&page).map(|(phys, _)| *phys)
    };
    let frames: Vec<_> = (0..6).map(|page| phys(&rig, 1, from + page * 4096)).collect();
    // From the middle: the region is divided. The third page goes though one byte of it is data.
    let letter = Letter::to(PARENT, 1).with_data(Data::OutOfLine, from + 4096, 2 * 4096 + 1);
    assert_eq!(rig.send(&letter, 0), Got::Value(0));
    rig.audit();
    assert_eq!(counter(&rig, Counter::PagesMoved), 3);
    assert_eq!(counter(&rig, Counter::Copies), 0);
    for page in 1..4 {
        assert_eq!(phys(&rig, 1, from + page * 4096), None, "page {page} is gone");
    }
    assert_eq!(rig.peek(from + 4 * 4096, 8192), pattern(6 * 4096)[4 * 4096..]);
    assert_eq!(rig.send(&letter, 0), Got::Error(Error::BadAddress), "it is not there any more");
    to_parent(&mut rig);
    assert_eq!(rig.receive(port, 0), Got::Value(0), "no room is needed");
    let (at, length, kind) = rig.letter(0).data;
    assert_eq!((length, kind), (2 * 4096 + 1, Data::OutOfLine.raw()));
    for page in 0..3 {
        assert_eq!(phys(&rig, 0, at + page * 4096), frames[page as usize + 1], "the same frame");
    }
    assert_eq!(rig.peek(at, 8193), pattern(6 * 4096)[4096..][..8193]);
    rig.poke(at + 8192, &[1; 4096]);
    rig.audit();
    let own = rig.kernel.tasks[0].space.as_ref().unwrap().own_pages;
    assert_eq!(rig.call(Syscall::VmDeallocate, &[at, 3 * 4096]), Got::Value(0));
    assert_eq!(rig.kernel.tasks[0].space.as_ref().unwrap().own_pages, own - 3);
    rig.audit();
}

#[test]
fn only_memory_of_one_s_own_that_one_may_write_goes_out_of_line() {
    let (mut rig, _) = parent_and_child();
    let own = allocate(&mut rig, 2);
    let read_only = rig.call(Syscall::VmAllocate, &[4096, PROT_READ]).value();
    let object = rig.call(Syscall::MemoryObjectCreate, &[8192]).value();
    let shared = rig.call(Syscall::VmMap, &[object, 0, 8192, PROT_READ | PROT_WRITE]).value();
    let out = |address, length| Letter::to(PARENT, 1).with_data(Data::OutOfLine, address, length);
    for (letter, error) in [
        (out(TEXT, 64), Error::BadAddress),
        (out(read_only, 4096), Error::BadAddress),
        (out(shared, 4096), Error::BadAddress),
        (out(own, 3 * 4096), Error::BadAddress),
        (out(abi::info::ADDRESS, 4096), Error::BadAddress),
        (out(0, 4096), Error::BadAddress),
        (out(!4095, 4096), Error::BadAddress),
        (out(0xffff_8000_0000_0000, 4096), Error::BadAddress),
        (out(own + 8, 64), Error::BadArgument),
        (out(own, 0), Error::BadArgument),
        (out(own, DATA_MAX as u32 + 1), Error::BadArgument),
        (Letter::to(PARENT, 1).with_data(Data::Inline, DATA, DATA_MAX as u32 + 1), Error::BadArgument),
        (Letter::to(PARENT, 1).with_data(Data::Inline, DATA, DATA_MAX as u32), Error::BadAddress),
        (Letter::to(PARENT, 1).with_data(Data::Inline, 8, 8), Error::BadAddress),
        (Letter::to(PARENT, 1).with_data(Data::Inline, u64::MAX - 4, 8), Error::BadAddress),
        (Letter::to(PARENT, 1).with_data(Data::None, 0, 1), Error::BadArgument),
        (Letter { data: (own, 8, 3), ..Letter::to(PARENT, 1) }, Error::BadArgument),
    ] {
        let mine = rig.call(Syscall::PortAllocate, &[]).value();
        let letter = letter.with(mine, Disposition::Move);
        assert_eq!(rig.send(&letter, 0), Got::Error(error), "{letter:x?}");
        assert_eq!(rig.call(Syscall::PortDeallocate, &[mine]), Got::Value(0), "the right was not lost");
        rig.audit();
    }
    assert_eq!(rig.send(&Letter::to(PARENT, 1).with_data(Data::Inline, 77, 0), 0), Got::Value(0), "none");
    assert_eq!(rig.kernel.messages.pages_in_flight, 0);
}

#[test]
fn a_sender_that_waits_keeps_its_memory_until_there_is_room() {
    let (mut rig, port) = parent_and_child();
    for i in 0..u32::from(QUEUE_LIMIT) {
        rig.send(&Letter::to(PARENT, i), 0).value();
    }
    let own = allocate(&mut rig, 1);
    let bad = Letter::to(PARENT, 99).with_data(Data::OutOfLine, own + 4096, 4096);
    assert_eq!(rig.send(&bad, FOREVER), Got::Error(Error::BadAddress), "it need not wait to learn that");
    rig.poke(own, b"late");
    let letter = Letter::to(PARENT, 99).with_data(Data::OutOfLine, own, 4);
    assert_eq!(rig.send(&letter, 0), Got::Error(Error::QueueFull));
    assert_eq!(rig.send(&letter, FOREVER), Got::Blocked);
    rig.audit();
    assert!(rig.kernel.tasks[1].tables().pages.contains_key(&own));
    rig.m.now += 1_000_000;
    rig.kernel.tick(&mut rig.m);
    rig.pick();
    for _ in 0..=QUEUE_LIMIT {
        assert_eq!(rig.receive(port, 0), Got::Value(0));
        rig.audit();
    }
    assert_eq!(rig.result(1), Some(Got::Value(0)));
    assert!(!rig.kernel.tasks[1].tables().pages.contains_key(&own));
    assert_eq!(rig.peek(rig.letter(0).data.0, 4), b"late");
}

#[test]
fn data_in_flight_is_bounded_for_each_task_and_in_all_and_comes_back() {
    let mut rig = Rig::new();
    let big = DATA + 0x1000;
    let mut sent = 0;
    let port = rig.call(Syscall::PortAllocate, &[]).value();
    let send = rig.call(Syscall::PortMakeSend, &[port]).value();
    let from = allocate(&mut rig, 16);
    let letter = Letter::to(send, 1).with_data(Data::Inline, from, DATA_MAX as u32);
    loop {
        match rig.send(&letter, 0) {
            Got::Value(0) => sent += 1,
            other => {
                assert_eq!(other, Got::Error(Error::NoResources));
                break;
            }
        }
        assert!(sent < 100);
        if sent % u64::from(QUEUE_LIMIT) == 0 {
            break;
        }
    }
    assert_eq!(sent * DATA_PAGES as u64, u64::from(DATA_PAGES_PER_TASK));
    let more = rig.call(Syscall::PortAllocate, &[]).value();
    let to_more = rig.call(Syscall::PortMakeSend, &[more]).value();
    let one = Letter::to(to_more, 1).with_data(Data::Inline, big, 1);
    assert_eq!(rig.send(&one, 0), Got::Error(Error::NoResources), "the task's share is used up");
    let page = allocate(&mut rig, 1);
    let out = Letter::to(to_more, 1).with_data(Data::OutOfLine, page, 1);
    assert_eq!(rig.send(&out, 0), Got::Error(Error::NoResources), "pages that move count too");
    assert_eq!(rig.send(&Letter::to(to_more, 1), 0), Got::Value(0), "without data");
    rig.audit();
    // As many tasks as it takes to use up the whole.
    let shares = DATA_PAGES_IN_FLIGHT / DATA_PAGES_PER_TASK;
    for child in 1..=shares {
        let deposit = rig.call(Syscall::PortAllocate, &[]).value();
        rig.spawn("a", "", 6, deposit).value();
        rig.call(Syscall::ThreadSuspend, &[10_000]);
        assert_eq!(rig.pick(), Some(child));
        let from = allocate(&mut rig, 16);
        let letter = Letter::to(PARENT, 1).with_data(Data::Inline, from, DATA_MAX as u32);
        let wanted = if child < shares { Got::Value(0) } else { Got::Error(Error::NoResources) };
        for _ in 0..QUEUE_LIMIT {
            assert_eq!(rig.send(&letter, 0), wanted);
        }
        rig.audit();
        rig.call(Syscall::ThreadSuspend, &[FOREVER]);
        rig.m.now += 10_000;
        rig.kernel.tick(&mut rig.m);
        assert_eq!(rig.pick(), Some(0));
    }
    assert_eq!(rig.kernel.messages.pages_in_flight, DATA_PAGES_IN_FLIGHT);
    // The senders' end changes nothing; the ports' end gives everything back.
    for child in 1..=shares {
        rig.kernel.end_task(&mut rig.m, child, 0);
        rig.audit();
    }
    assert_eq!(rig.kernel.messages.pages_in_flight, DATA_PAGES_IN_FLIGHT);
    assert_eq!(rig.call(Syscall::PortDeallocate, &[port]), Got::Value(0));
    rig.audit();
    assert_eq!(rig.send(&one, 0), Got::Value(0));
    rig.kernel.end_task(&mut rig.m, 0, 0);
    assert_eq!(rig.kernel.messages.pages_in_flight, 0);
    assert_eq!(rig.kernel.frames().free_count(), rig.frames_at_boot - 1);
}

#[test]
fn a_receiver_without_room_for_rights_or_pages_gets_neither() {
    let (mut rig, port) = parent_and_child();
    let (own, mine) = (allocate(&mut rig, 1), rig.call(Syscall::PortAllocate, &[]).value());
    let letter = Letter::to(PARENT, 1).with_data(Data::OutOfLine, own, 1).with(mine, Disposition::MakeSend);
    assert_eq!(rig.send(&letter, 0), Got::Value(0));
    to_parent(&mut rig);
    let mut names = Vec::new();
    while let Got::Value(name) = rig.call(Syscall::PortAllocate, &[]) {
        names.push(name);
    }
    assert_eq!(rig.receive(port, 0), Got::Error(Error::NoResources));
    rig.audit();
    assert_eq!(rig.call(Syscall::PortDeallocate, &[names[0]]), Got::Value(0));
    let mut regions = Vec::new();
    while let Got::Value(region) = rig.call(Syscall::VmAllocate, &[4096, PROT_READ]) {
        regions.push(region);
    }
    assert_eq!(rig.receive(port, 0), Got::Error(Error::NoResources));
    rig.audit();
    assert_eq!(rig.call(Syscall::VmDeallocate, &[regions[3], 4096]), Got::Value(0));
    assert_eq!(rig.receive(port, 0), Got::Value(0));
    assert_eq!(rig.letter(0).data.0, regions[3]);
    rig.audit();
}

#[test]
fn data_goes_while_a_task_has_all_memory() {
    let (mut rig, _) = parent_and_child();
    let from = allocate(&mut rig, 2);
    rig.kernel.frames().keep(4);
    let mut pages = 1 << 16;
    while pages > 0 {
        match rig.call(Syscall::VmAllocate, &[pages * PAGE_BYTES, PROT_READ | PROT_WRITE]) {
            Got::Error(Error::NoResources) => pages /= 2,
            other => drop(other.value()),
        }
    }
    assert_eq!(rig.call(Syscall::MemoryObjectCreate, &[PAGE_BYTES]), Got::Error(Error::NoResources));
    let letter = Letter::to(PARENT, 1).with_data(Data::Inline, from, 2 * PAGE_BYTES as u32);
    for _ in 0..2 {
        assert_eq!(rig.send(&letter, 0), Got::Value(0));
    }
    assert_eq!(rig.send(&letter, 0), Got::Error(Error::NoResources), "as much as is kept");
    rig.audit();
}
