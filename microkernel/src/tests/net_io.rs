//! The network device on the path by message.

use std::vec;
use std::vec::Vec;

use abi::Error;
use abi::counters::Counter;
use abi::filter::{Builder, COPY_ALL, Operator, PRIORITY_MAX, WORDS_MAX, action, instruction, programs};
use abi::message::{Data, Disposition, NET_FRAME};
use abi::path::Path;
use abi::port::BOOTSTRAP;
use abi::syscall::{FOREVER, Syscall};
use abi::thread::{PRIORITY_APPLICATION, WAKE_MESSAGE, WAKE_RESUMED};
use abi::vm::{PAGE_BYTES, PROT_READ, PROT_WRITE};
use netdev_driver::nic::TxChecksum;

use super::rig::{DATA, Got, Letter, RECEIVE_AT, Rig, TEXT, program};
use crate::boot::BootError;
use crate::net_io::{FILTERS_PER_OPENER, FRAMES_PER_OPENER, OPENERS};

fn rig() -> Rig {
    let mut rig = Rig::new();
    rig.m.net.as_mut().unwrap().path = Path::Ipc;
    rig
}

fn open(rig: &mut Rig) -> Got {
    rig.poke(DATA, b"net0");
    rig.call(Syscall::DeviceOpen, &[DATA, 4])
}

fn port(rig: &mut Rig) -> u64 {
    rig.call(Syscall::PortAllocate, &[]).value()
}

fn set_filter(rig: &mut Rig, device: u64, port: u64, priority: u64, program: &Builder) -> Got {
    let words = program.words().unwrap();
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    // At an odd address, and across pages.
    rig.poke(DATA + 0xff3, &bytes);
    rig.call(Syscall::DeviceSetFilter, &[device, port, priority, DATA + 0xff3, words.len() as u64])
}

/// A frame of a type, as the demultiplexer lets it through, and its contents tell it from others.
fn frame(kind: u16, number: u16, length: usize) -> Vec<u8> {
    let mut frame = vec![0; length];
    frame[12..14].copy_from_slice(&kind.to_be_bytes());
    frame[14..16].copy_from_slice(&number.to_be_bytes());
    frame.iter_mut().skip(16).enumerate().for_each(|(i, byte)| *byte = i as u8);
    frame
}

const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;

fn of_type(kind: u16) -> Builder {
    Builder::new().require(6, kind)
}

fn came(rig: &mut Rig, frame: &[u8]) -> Result<(), Counter> {
    let came = rig.kernel.net_frame(&mut rig.m, frame, false);
    rig.kernel.net_polled(&mut rig.m, false);
    rig.audit();
    came
}

/// Receives a frame from a port with room for it, at an address that crosses a page's end.
fn take(rig: &mut Rig, port: u64) -> Vec<u8> {
    let at = DATA + 0x1f80;
    assert_eq!(rig.receive_with(port, 0, (at, 1514)), Got::Value(0));
    let letter = rig.letter(rig.kernel.current_task);
    assert_eq!((letter.id, letter.sender, letter.destination), (NET_FRAME, 0, port));
    assert_eq!((letter.data.0, letter.data.2), (at, Data::Inline.raw()));
    rig.audit();
    rig.peek(at, letter.data.1 as usize)
}

fn counter(rig: &Rig, counter: Counter) -> u64 {
    rig.kernel.counters[counter as usize]
}

#[test]
fn frames_come_as_messages_to_the_port_whose_filter_wants_them() {
    let mut rig = rig();
    let device = open(&mut rig).value();
    let (ip, arp) = (port(&mut rig), port(&mut rig));
    assert_eq!(came(&mut rig, &frame(IPV4, 1, 60)), Err(Counter::DropNoFilter));
    assert_eq!(set_filter(&mut rig, device, ip, 10, &of_type(IPV4)), Got::Value(0));
    assert_eq!(set_filter(&mut rig, device, arp, 10, &of_type(ARP)), Got::Value(0));
    rig.audit();
    for (number, kind, length) in [(1, IPV4, 60), (2, ARP, 60), (3, IPV4, 1514), (4, IPV4, 61)] {
        assert_eq!(came(&mut rig, &frame(kind, number, length)), Ok(()));
    }
    assert_eq!(came(&mut rig, &frame(0x86dd, 5, 60)), Err(Counter::DropNoFilter));
    assert_eq!(take(&mut rig, arp), frame(ARP, 2, 60));
    assert_eq!(rig.receive_with(arp, 0, (DATA, 1514)), Got::Error(Error::WouldBlock));
    assert_eq!(rig.kernel.net_frame(&mut rig.m, &frame(IPV4, 6, 60), true), Ok(()));
    for (number, length) in [(1, 60), (3, 1514), (4, 61)] {
        assert_eq!(take(&mut rig, ip), frame(IPV4, number, length));
        assert_eq!(rig.letter(0).body, [0; 4], "nobody vouches for the checksum");
    }
    take(&mut rig, ip);
    assert_eq!(rig.letter(0).body, [1, 0, 0, 0]);
    assert_eq!(counter(&rig, Counter::NetMessages), 5);
    assert_eq!(counter(&rig, Counter::Copies), 10, "into the message and out of it");
    // Taken away, it wants nothing more; what is queued stays.
    assert_eq!(came(&mut rig, &frame(ARP, 7, 60)), Ok(()));
    assert_eq!(rig.call(Syscall::DeviceSetFilter, &[device, arp, 0, 0, 0]), Got::Value(0));
    assert_eq!(rig.call(Syscall::DeviceSetFilter, &[device, arp, 0, 0, 0]), Got::Error(Error::NotFound));
    assert_eq!(came(&mut rig, &frame(ARP, 8, 60)), Err(Counter::DropNoFilter));
    assert_eq!(take(&mut rig, arp), frame(ARP, 7, 60));
    // A new one takes the place of the old.
    assert_eq!(set_filter(&mut rig, device, ip, 10, &of_type(ARP)), Got::Value(0));
    assert_eq!(came(&mut rig, &frame(IPV4, 9, 60)), Err(Counter::DropNoFilter));
    assert_eq!(came(&mut rig, &frame(ARP, 10, 60)), Ok(()));
}

#[test]
fn the_highest_priority_takes_a_frame_unless_it_lets_others_have_it_too() {
    let mut rig = rig();
    let device = open(&mut rig).value();
    let [low, high, listener] = [(); 3].map(|()| port(&mut rig));
    set_filter(&mut rig, device, low, 1, &programs::all()).value();
    set_filter(&mut rig, device, high, 2, &of_type(IPV4)).value();
    assert_eq!(came(&mut rig, &frame(IPV4, 1, 60)), Ok(()));
    assert_eq!(came(&mut rig, &frame(ARP, 2, 60)), Ok(()));
    set_filter(&mut rig, device, listener, 255 | COPY_ALL, &programs::all()).value();
    assert_eq!(came(&mut rig, &frame(IPV4, 3, 60)), Ok(()));
    assert_eq!(came(&mut rig, &frame(ARP, 4, 60)), Ok(()));
    assert_eq!((take(&mut rig, high)[15], take(&mut rig, high)[15]), (1, 3));
    assert_eq!((take(&mut rig, low)[15], take(&mut rig, low)[15]), (2, 4));
    assert_eq!((take(&mut rig, listener)[15], take(&mut rig, listener)[15]), (3, 4));
    for port in [low, high, listener] {
        assert_eq!(rig.receive(port, 0), Got::Error(Error::WouldBlock));
    }
    assert_eq!(counter(&rig, Counter::NetMessages), 6);
}

#[test]
fn an_application_takes_no_frame_away_from_a_server() {
    let mut rig = rig();
    let device = open(&mut rig).value();
    let server = port(&mut rig);
    set_filter(&mut rig, device, server, 100, &of_type(IPV4)).value();
    let deposit = port(&mut rig);
    rig.spawn("a", "", PRIORITY_APPLICATION, deposit).value();
    rig.call(Syscall::ThreadSuspend, &[10_000]);
    assert_eq!(rig.pick(), Some(1));
    let its_device = open(&mut rig).value();
    let greedy = port(&mut rig);
    set_filter(&mut rig, its_device, greedy, PRIORITY_MAX, &programs::all()).value();
    for number in 0..3 {
        assert_eq!(came(&mut rig, &frame(IPV4, number, 60)), Ok(()));
    }
    assert_eq!(take(&mut rig, greedy), frame(IPV4, 0, 60), "it sees them");
    rig.call(Syscall::ThreadSuspend, &[FOREVER]);
    rig.m.now += 10_000;
    rig.kernel.tick(&mut rig.m);
    assert_eq!(rig.pick(), Some(0));
    for number in 0..3 {
        assert_eq!(take(&mut rig, server), frame(IPV4, number, 60));
    }
}

#[test]
fn a_full_port_sheds_and_takes_nothing_from_others() {
    let mut rig = rig();
    let device = open(&mut rig).value();
    let (deaf, spare) = (port(&mut rig), port(&mut rig));
    set_filter(&mut rig, device, deaf, 9 | COPY_ALL, &programs::all()).value();
    for i in 0..FRAMES_PER_OPENER {
        assert_eq!(rig.kernel.net_frame(&mut rig.m, &frame(IPV4, i, 60), false), Ok(()));
    }
    assert_eq!(came(&mut rig, &frame(IPV4, 999, 60)), Err(Counter::DropPortFull));
    // More ports do not help one opener.
    set_filter(&mut rig, device, spare, 8, &programs::all()).value();
    assert_eq!(came(&mut rig, &frame(IPV4, 999, 60)), Err(Counter::DropPortFull));
    assert_eq!(counter(&rig, Counter::NetMessagesShed), 3);
    // Another opener has what it needs, and gets the frame though the first could not.
    let inbox = port(&mut rig);
    rig.spawn("a", "", 5, inbox).value();
    assert_eq!(rig.call(Syscall::ThreadSuspend, &[1000]), Got::Blocked);
    assert_eq!(rig.pick(), Some(1));
    let device = open(&mut rig).value();
    let mine = port(&mut rig);
    set_filter(&mut rig, device, mine, 0, &programs::all()).value();
    assert_eq!(came(&mut rig, &frame(IPV4, 7, 60)), Err(Counter::DropPortFull), "spare keeps it to itself");
    // Tasks' messages are not in the way, nor in that of frames.
    assert_eq!(rig.send(&Letter::to(BOOTSTRAP.into(), 1), 0), Got::Value(0));
    rig.call(Syscall::ThreadSuspend, &[1000]);
    rig.m.now += 1000;
    rig.kernel.tick(&mut rig.m);
    assert_eq!(rig.pick(), Some(0));
    assert_eq!(rig.call(Syscall::PortDeallocate, &[spare]), Got::Value(0));
    assert_eq!(came(&mut rig, &frame(IPV4, 8, 60)), Ok(()));
    for i in 0..FRAMES_PER_OPENER {
        assert_eq!(take(&mut rig, deaf), frame(IPV4, i, 60));
    }
    assert_eq!(came(&mut rig, &frame(IPV4, 9, 60)), Ok(()));
    assert_eq!(take(&mut rig, deaf), frame(IPV4, 9, 60));
    rig.m.now += 1000;
    rig.kernel.tick(&mut rig.m);
    rig.call(Syscall::ThreadSuspend, &[FOREVER]);
    assert_eq!(rig.pick(), Some(1));
    assert_eq!((take(&mut rig, mine)[15], take(&mut rig, mine)[15]), (8, 9));
}

#[test]
fn a_frame_resumes_the_bound_thread_or_the_receiver_and_preempts() {
    let mut rig = rig();
    let wait = |rig: &mut Rig| {
        rig.call(Syscall::ThreadCreate, &[TEXT, DATA + 0x1000, 0, 0]).value();
        let device = open(rig).value();
        let port = port(rig);
        set_filter(rig, device, port, 0, &programs::all()).value();
        port
    };
    let inbox = wait(&mut rig);
    rig.call(Syscall::PortBindThread, &[inbox, 2]).value();
    assert_eq!(rig.call(Syscall::ThreadSuspend, &[FOREVER]), Got::Blocked);
    assert_eq!(rig.pick(), Some(1), "the one of the lowest priority");
    assert!(!rig.kernel.must_pick());
    came(&mut rig, &frame(IPV4, 1, 60)).unwrap();
    assert!(rig.kernel.must_pick());
    assert_eq!(rig.pick(), Some(0));
    assert_eq!(rig.result(0), Some(Got::Value(WAKE_MESSAGE)));
    take(&mut rig, inbox);
    rig.call(Syscall::PortBindThread, &[inbox, 0]).value();
    assert_eq!(rig.receive_with(inbox, FOREVER, (DATA + 8, 60)), Got::Blocked);
    assert_eq!(rig.pick(), Some(1));
    came(&mut rig, &frame(IPV4, 2, 60)).unwrap();
    assert_eq!(rig.pick(), Some(0));
    assert_eq!(rig.result(0), Some(Got::Value(0)));
    assert_eq!(rig.peek(DATA + 8, 60), frame(IPV4, 2, 60));
    // A receiver with too little room learns it, and the frame stays.
    assert_eq!(rig.receive_with(inbox, FOREVER, (DATA + 8, 59)), Got::Blocked);
    assert_eq!(rig.pick(), Some(1));
    came(&mut rig, &frame(IPV4, 3, 60)).unwrap();
    assert_eq!(rig.pick(), Some(0));
    assert_eq!(rig.result(0), Some(Got::Error(Error::TooLong)));
    assert_eq!(take(&mut rig, inbox), frame(IPV4, 3, 60));
}

#[test]
fn frames_out_of_line_come_in_pages_with_nothing_else_in_them() {
    let mut rig = Rig::bare(28 << 20);
    let init = program(1);
    rig.boot_with(b"ool=1000", &[("init", &init)]).unwrap();
    rig.pick();
    rig.m.net.as_mut().unwrap().path = Path::Ipc;
    let device = open(&mut rig).value();
    let inbox = port(&mut rig);
    set_filter(&mut rig, device, inbox, 0, &programs::all()).value();
    for length in [999, 1000, 1514] {
        came(&mut rig, &frame(IPV4, 1, length)).unwrap();
    }
    assert_eq!(take(&mut rig, inbox).len(), 999);
    for length in [1000, 1514] {
        assert_eq!(rig.receive(inbox, 0), Got::Value(0));
        let (at, bytes, kind) = rig.letter(0).data;
        assert_eq!((bytes as usize, kind), (length, Data::OutOfLine.raw()));
        let page = rig.peek(at, PAGE_BYTES as usize);
        assert!(page[..length] == frame(IPV4, 1, length) && page[length..].iter().all(|&byte| byte == 0));
        rig.poke(at, b"mine");
        rig.audit();
        assert_eq!(rig.call(Syscall::VmDeallocate, &[at, PAGE_BYTES]), Got::Value(0));
    }
    rig.audit();
    for line in [&b"ool="[..], b"ool=0", b"ool=x", b"ool=4294967296", b"ool=-1"] {
        let mut rig = Rig::bare(28 << 20);
        assert_eq!(rig.boot_with(line, &[("init", &init)]), Err(BootError::OutOfLine));
    }
}

#[test]
fn what_is_wrong_with_a_filter_is_said_and_changes_nothing() {
    let mut rig = rig();
    let device = open(&mut rig).value();
    let inbox = port(&mut rig);
    let send = rig.call(Syscall::PortMakeSend, &[inbox]).value();
    let set = rig.call(Syscall::PortSetAllocate, &[]).value();
    set_filter(&mut rig, device, inbox, 0, &of_type(IPV4)).value();
    let good = instruction(action::PUSH_ONE, Operator::Nop).to_le_bytes();
    rig.poke(DATA, &good);
    rig.poke(DATA + 2, &instruction(action::NO_PUSH, Operator::Eq).to_le_bytes());
    for (args, error) in [
        ([device, 99, 0, DATA, 1], Error::BadName),
        ([device, u64::MAX, 0, DATA, 1], Error::BadName),
        ([device, send, 0, DATA, 1], Error::BadRight),
        ([device, set, 0, DATA, 1], Error::BadRight),
        ([device, 1, 0, DATA, 1], Error::BadRight),
        ([inbox, inbox, 0, DATA, 1], Error::BadRight),
        ([99, inbox, 0, DATA, 1], Error::BadName),
        ([device, inbox, PRIORITY_MAX + 1, DATA, WORDS_MAX as u64 + 1], Error::BadArgument),
        ([device, inbox, PRIORITY_MAX + 1 + COPY_ALL, DATA, 1], Error::BadArgument),
        ([device, inbox, 1 << 32, DATA, 1], Error::BadArgument),
        ([device, inbox, 0, DATA, WORDS_MAX as u64 + 1], Error::BadArgument),
        ([device, inbox, 0, DATA, u64::MAX], Error::BadArgument),
        ([device, inbox, 0, DATA + 2, 1], Error::BadArgument),
        ([device, inbox, 0, 0, 1], Error::BadAddress),
        ([device, inbox, 0, u64::MAX - 3, 4], Error::BadAddress),
    ] {
        assert_eq!(rig.call(Syscall::DeviceSetFilter, &args), Got::Error(error), "{args:x?}");
        rig.audit();
    }
    assert_eq!(came(&mut rig, &frame(IPV4, 1, 60)), Ok(()), "the filter is as it was");
    assert_eq!(came(&mut rig, &frame(ARP, 1, 60)), Err(Counter::DropNoFilter));
    for i in 1..FILTERS_PER_OPENER {
        let more = port(&mut rig);
        assert_eq!(set_filter(&mut rig, device, more, i as u64, &of_type(ARP)), Got::Value(0));
    }
    let more = port(&mut rig);
    assert_eq!(set_filter(&mut rig, device, more, 0, &of_type(ARP)), Got::Error(Error::NoResources));
    assert_eq!(set_filter(&mut rig, device, inbox, 0, &of_type(ARP)), Got::Value(0), "that one has a place");
    // The window's calls are none on this path.
    for call in [Syscall::DeviceMap, Syscall::DeviceStart] {
        assert_eq!(rig.call(call, &[device]), Got::Error(Error::BadCall));
    }
    assert!(matches!(rig.call(Syscall::DeviceInfo, &[device, DATA]), Got::Value(0)));
    assert_eq!(rig.peek(DATA, 6), [2, 0, 0, 0, 0, 1]);
}

#[test]
fn the_calls_of_this_path_are_none_on_the_path_by_window() {
    let mut rig = Rig::new();
    let device = open(&mut rig).value();
    let inbox = port(&mut rig);
    rig.poke(DATA, &[3, 0]);
    assert_eq!(rig.call(Syscall::DeviceSetFilter, &[device, inbox, 0, DATA, 1]), Got::Error(Error::BadCall));
    assert_eq!(rig.call(Syscall::DeviceWrite, &[device, DATA, 60, 0]), Got::Error(Error::BadCall));
    assert_eq!(rig.call(Syscall::DeviceWritePage, &[device, DATA, 60, 0]), Got::Error(Error::BadCall));
    rig.m.net.as_mut().unwrap().path = Path::Monolithic;
    assert_eq!(open(&mut rig), Got::Error(Error::Exists));
}

#[test]
fn frames_to_send_are_copied_from_wherever_they_lie() {
    let mut rig = rig();
    let device = open(&mut rig).value();
    for (address, length, pieces) in
        [(DATA, 60, 1), (DATA + 0xff0, 1514, 2), (DATA + 4096 - 60, 60, 1), (DATA + 4095, 60, 2)]
    {
        rig.poke(address, &frame(IPV4, 5, length));
        let checksum = 34 | 16 << 16;
        let args = [device, address, length as u64, checksum];
        assert_eq!(rig.call(Syscall::DeviceWrite, &args), Got::Value(0));
        let (found, checksum) = rig.m.net.as_mut().unwrap().written.pop().unwrap();
        assert_eq!(checksum, Some(TxChecksum { start: 34, offset: 16 }));
        assert_eq!(found.len(), pieces);
        let mut bytes = Vec::new();
        for (phys, length) in found {
            let mut piece = vec![0; length];
            crate::machine::Machine::copy_from_phys(&rig.m, phys, &mut piece);
            bytes.extend(piece);
        }
        assert_eq!(bytes, frame(IPV4, 5, length));
    }
    rig.call(Syscall::DeviceWrite, &[device, TEXT, 60, 0]).value();
    assert_eq!(rig.m.net.as_mut().unwrap().written.pop().unwrap().1, None);
    assert_eq!(counter(&rig, Counter::Copies), 5);
    for (args, error) in [
        ([device, DATA, 13, 0], Error::BadArgument),
        ([device, DATA, 0, 0], Error::BadArgument),
        ([device, DATA, 1515, 0], Error::TooLong),
        ([device, DATA, 4097, 0], Error::TooLong),
        ([device, DATA, u64::MAX, 0], Error::TooLong),
        ([device, DATA, 60, 1 << 32], Error::BadArgument),
        ([device, 0, 60, 0], Error::BadAddress),
        ([device, DATA + 0x4000 - 59, 60, 0], Error::BadAddress),
        ([device, u64::MAX - 10, 60, 0], Error::BadAddress),
        ([device, 0xffff_8000_0000_0000, 60, 0], Error::BadAddress),
        ([77, DATA, 60, 0], Error::BadName),
        ([1, DATA, 60, 0], Error::BadRight),
    ] {
        assert_eq!(rig.call(Syscall::DeviceWrite, &args), Got::Error(error), "{args:x?}");
    }
    rig.m.net.as_mut().unwrap().full = true;
    assert_eq!(rig.call(Syscall::DeviceWrite, &[device, DATA, 60, 0]), Got::Error(Error::QueueFull));
    // Who waits for room is told.
    rig.call(Syscall::DeviceBindThread, &[device, 2]).value();
    assert_eq!(rig.call(Syscall::ThreadSuspend, &[FOREVER]), Got::Blocked);
    rig.kernel.net_polled(&mut rig.m, true);
    assert_eq!(rig.pick(), Some(0));
    assert_eq!(rig.result(0), Some(Got::Value(WAKE_RESUMED)));
    rig.audit();
}

#[test]
fn a_page_that_is_sent_is_the_device_s_until_it_has_left() {
    let mut rig = rig();
    let device = open(&mut rig).value();
    let pages = rig.call(Syscall::VmAllocate, &[5 * PAGE_BYTES, PROT_READ | PROT_WRITE]).value();
    let object = rig.call(Syscall::MemoryObjectCreate, &[4096]).value();
    let shared = rig.call(Syscall::VmMap, &[object, 0, 4096, PROT_READ | PROT_WRITE]).value();
    let write =
        |rig: &mut Rig, page: u64, length| rig.call(Syscall::DeviceWritePage, &[device, page, length, 0]);
    for (page, length, error) in [
        (pages + 2, 60, Error::BadArgument),
        (pages, 13, Error::BadArgument),
        (pages, 1515, Error::TooLong),
        (shared, 60, Error::BadAddress),
        (TEXT, 60, Error::BadAddress),
        (pages + 5 * 4096, 60, Error::BadAddress),
        (!4095, 60, Error::BadAddress),
    ] {
        assert_eq!(write(&mut rig, page, length), Got::Error(error), "{page:x} {length}");
        rig.audit();
    }
    let free = rig.kernel.frames().free_count();
    assert_eq!(write(&mut rig, pages + 4096, 60), Got::Value(0));
    assert_eq!(write(&mut rig, pages + 4096, 60), Got::Error(Error::BadAddress), "it is gone");
    assert_eq!(write(&mut rig, pages + 2 * 4096, 1514), Got::Value(0));
    rig.audit();
    rig.m.net.as_mut().unwrap().full = true;
    assert_eq!(write(&mut rig, pages, 60), Got::Error(Error::QueueFull));
    rig.poke(pages, b"still mine");
    rig.m.net.as_mut().unwrap().full = false;
    assert_eq!(rig.kernel.frames().free_count(), free);
    let sent = rig.m.net.as_mut().unwrap().sending.remove(0);
    rig.m.net.as_mut().unwrap().sent.push(sent);
    rig.kernel.net_polled(&mut rig.m, false);
    assert_eq!(rig.kernel.frames().free_count(), free + 1);
    rig.audit();
    // The last opener closes: what is on its way comes back.
    assert_eq!(rig.call(Syscall::PortDeallocate, &[device]), Got::Value(0));
    assert_eq!(rig.kernel.frames().free_count(), free + 2);
    assert_eq!(counter(&rig, Counter::PagesMoved), 2);
    rig.audit();
}

#[test]
fn openers_come_and_go_and_take_their_filters_with_them() {
    let mut rig = rig();
    let inbox = port(&mut rig);
    let mut devices = Vec::new();
    for _ in 0..OPENERS {
        devices.push(open(&mut rig).value());
        rig.audit();
    }
    assert_eq!(open(&mut rig), Got::Error(Error::NoResources));
    let other = port(&mut rig);
    set_filter(&mut rig, devices[0], inbox, 5, &of_type(IPV4)).value();
    set_filter(&mut rig, devices[1], other, 6, &of_type(ARP)).value();
    came(&mut rig, &frame(IPV4, 1, 60)).unwrap();
    for device in &devices[2..] {
        assert_eq!(rig.call(Syscall::PortDeallocate, &[*device]), Got::Value(0));
    }
    assert_eq!(rig.call(Syscall::PortDeallocate, &[devices[0]]), Got::Value(0));
    assert_eq!(came(&mut rig, &frame(IPV4, 2, 60)), Err(Counter::DropNoFilter));
    assert_eq!(take(&mut rig, inbox)[15], 1, "what had come stays");
    assert_eq!(came(&mut rig, &frame(ARP, 3, 60)), Ok(()));
    assert!(rig.m.net.as_ref().unwrap().windows_open[0], "one is left");
    // A port that dies takes its filter along, and what is queued there.
    let send = rig.call(Syscall::PortMakeSend, &[other]).value();
    assert_eq!(rig.call(Syscall::PortDeallocate, &[other]), Got::Value(0));
    assert_eq!(came(&mut rig, &frame(ARP, 4, 60)), Err(Counter::DropNoFilter));
    assert_eq!(rig.kernel.net_io.queued, [0; OPENERS]);
    rig.call(Syscall::PortDeallocate, &[send]).value();
    assert_eq!(rig.call(Syscall::PortDeallocate, &[devices[1]]), Got::Value(0));
    assert!(!rig.m.net.as_ref().unwrap().windows_open[0]);
    assert_eq!(open(&mut rig), Got::Value(devices[0]), "and open again");
    rig.audit();
}

#[test]
fn a_task_that_ends_gives_up_its_opens_and_others_cannot_use_them() {
    let mut rig = rig();
    let inbox = port(&mut rig);
    let child = rig.spawn("a", "", 5, inbox).value();
    assert_eq!(rig.receive(inbox, FOREVER), Got::Blocked);
    assert_eq!(rig.pick(), Some(1));
    let device = open(&mut rig).value();
    let (mine, moved) = (port(&mut rig), port(&mut rig));
    set_filter(&mut rig, device, mine, 5, &of_type(ARP)).value();
    set_filter(&mut rig, device, moved, 5, &of_type(IPV4)).value();
    came(&mut rig, &frame(IPV4, 1, 60)).unwrap();
    let letter = Letter::to(BOOTSTRAP.into(), 1)
        .with_reply(device, Disposition::CopySend)
        .with(moved, Disposition::Move);
    assert_eq!(rig.send(&letter, 0), Got::Value(0));
    came(&mut rig, &frame(IPV4, 2, 60)).unwrap();
    rig.call(Syscall::ThreadSuspend, &[FOREVER]);
    assert_eq!(rig.pick(), Some(0));
    let (device, moved) = (rig.letter(0).reply.0, rig.letter(0).carried.0);
    // A right to the device is not the opener's place; the filter went with its port.
    rig.poke(DATA, &[3, 0]);
    assert_eq!(rig.call(Syscall::DeviceSetFilter, &[device, inbox, 0, DATA, 1]), Got::Error(Error::Denied));
    assert_eq!(rig.call(Syscall::DeviceWrite, &[device, DATA, 60, 0]), Got::Error(Error::Denied));
    assert_eq!((take(&mut rig, moved)[15], take(&mut rig, moved)[15]), (1, 2));
    came(&mut rig, &frame(IPV4, 3, 60)).unwrap();
    assert_eq!(rig.call(Syscall::TaskTerminate, &[child]), Got::Value(0));
    rig.audit();
    assert!(!rig.m.net.as_ref().unwrap().windows_open[0]);
    assert_eq!(came(&mut rig, &frame(IPV4, 4, 60)), Err(Counter::DropNoFilter));
    assert_eq!(rig.call(Syscall::DeviceWrite, &[device, DATA, 60, 0]), Got::Error(Error::Dead));
    assert_eq!(take(&mut rig, moved)[15], 3);
    assert_eq!(rig.kernel.net_io.queued, [0; OPENERS]);
}

#[test]
fn a_machine_out_of_memory_drops_frames() {
    let mut rig = rig();
    let device = open(&mut rig).value();
    let inbox = port(&mut rig);
    set_filter(&mut rig, device, inbox, 0, &programs::all()).value();
    let mut taken = Vec::new();
    while let Some(frame) = rig.kernel.frames().allocate() {
        taken.push(frame);
    }
    let came = rig.kernel.net_frame(&mut rig.m, &frame(IPV4, 1, 60), false);
    assert_eq!(came, Err(Counter::DropPortFull));
    taken.into_iter().for_each(|frame| rig.kernel.frames().free(frame));
    assert_eq!(rig.kernel.net_frame(&mut rig.m, &frame(IPV4, 2, 4097), false), Err(Counter::DropPortFull));
    rig.audit();
    assert_eq!(rig.receive_with(inbox, 0, (RECEIVE_AT, 0)), Got::Error(Error::WouldBlock));
}
