//! Nonsense at every system call: each is answered with an error, and nothing changes.

use abi::Error;
use abi::info;
use abi::message::Disposition;
use abi::port::{HOST, TASK_SELF, THREAD_SELF};
use abi::syscall::{FOREVER, Syscall};
use abi::thread::STACK_TOP;
use abi::vm::{USER_END, USER_MIN};
use std::vec::Vec;

use super::rig::{DATA, DATA_BYTES, Got, Letter, Rig, TEXT};

/// Where nothing can be written: null, unmapped, the ends of halves, the kernel, wrapping, read-only, executable, across
/// the end of what is mapped.
fn bad_to_write() -> Vec<u64> {
    [
        0,
        1,
        USER_MIN - 1,
        USER_MIN,
        DATA + DATA_BYTES,
        DATA + DATA_BYTES - 1,
        USER_END - 1,
        USER_END,
        STACK_TOP,
        STACK_TOP - 1,
        0x0000_9000_0000_0000,
        0xffff_8000_0000_0000,
        0xffff_ffff_8000_0000,
        u64::MAX,
        u64::MAX - 100,
        TEXT,
        info::ADDRESS,
    ]
    .to_vec()
}

/// Where nothing can be read.
fn bad_to_read() -> Vec<u64> {
    bad_to_write().into_iter().filter(|address| ![TEXT, info::ADDRESS].contains(address)).collect()
}

fn bad_names() -> [u64; 6] {
    [0, 99, 255, 256, u64::from(u32::MAX), u64::MAX]
}

/// The last page of all.
const LAST_PAGE: u64 = !4095;
const HOST_NAME: u64 = HOST as u64;
const SELF: u64 = THREAD_SELF as u64;
const TASK: u64 = TASK_SELF as u64;

/// Calls, and checks that the answer is this error and that the books still balance.
fn refuse(rig: &mut Rig, call: Syscall, args: &[u64], error: Error) {
    let free = rig.kernel.frames().free_count();
    let got = rig.call(call, args);
    assert_eq!(got, Got::Error(error), "{call:?} {args:x?}");
    assert_eq!(rig.kernel.frames().free_count(), free, "{call:?} {args:x?}");
}

#[test]
fn unknown_numbers() {
    let mut rig = Rig::new();
    let known: Vec<u64> = Syscall::ALL.iter().map(|call| call.raw().into()).collect();
    let wild = [u64::MAX, 1 << 32, 1 << 32 | 19, 1 << 63];
    for number in (0..300).chain(wild).filter(|number| !known.contains(number)) {
        assert_eq!(rig.raw_call(number, [u64::MAX; 6]), Got::Error(Error::BadCall), "{number}");
    }
    rig.audit();
}

#[test]
fn wild_addresses() {
    let mut rig = Rig::new();
    rig.poke(DATA, b"net0");
    let device = rig.call(Syscall::DeviceOpen, &[DATA, 4]).value();
    let port = rig.call(Syscall::PortAllocate, &[]).value();
    for at in bad_to_read() {
        refuse(&mut rig, Syscall::ConsoleWrite, &[at, 2], Error::BadAddress);
        refuse(&mut rig, Syscall::TaskSpawn, &[at, 4, 0, 0, 3, 0], Error::BadAddress);
        refuse(&mut rig, Syscall::TaskSpawn, &[DATA, 4, at, 4, 3, 0], Error::BadAddress);
        refuse(&mut rig, Syscall::MessageSend, &[at, FOREVER], Error::BadAddress);
        refuse(&mut rig, Syscall::DeviceOpen, &[at, 4], Error::BadAddress);
    }
    rig.poke(DATA + DATA_BYTES - 1, &[0x5a]);
    for at in bad_to_write() {
        refuse(&mut rig, Syscall::ConsoleRead, &[at, 2, FOREVER], Error::BadAddress);
        refuse(&mut rig, Syscall::TaskInfo, &[0, at], Error::BadAddress);
        refuse(&mut rig, Syscall::MessageReceive, &[port, at, FOREVER], Error::BadAddress);
        refuse(&mut rig, Syscall::DeviceInfo, &[device, at], Error::BadAddress);
        refuse(&mut rig, Syscall::DeviceAudit, &[device, at], Error::BadAddress);
        refuse(&mut rig, Syscall::CountersRead, &[at, 3], Error::BadAddress);
        refuse(&mut rig, Syscall::UsageRead, &[at], Error::BadAddress);
    }
    for at in [0, USER_MIN - 16, USER_END, USER_END + 16, u64::MAX - 15, 0xffff_8000_0000_0000] {
        refuse(&mut rig, Syscall::ThreadCreate, &[at, DATA + 4096, 0, 3], Error::BadAddress);
        refuse(&mut rig, Syscall::ThreadCreate, &[TEXT, at, 0, 3], Error::BadAddress);
    }
    refuse(&mut rig, Syscall::ThreadCreate, &[TEXT, DATA + 8, 0, 3], Error::BadAddress);
    for at in [0x1_0000, USER_END, 0xffff_8000_0000_0000, LAST_PAGE, DATA - 4096, info::ADDRESS] {
        refuse(&mut rig, Syscall::VmDeallocate, &[at, 4096], Error::BadAddress);
    }
    refuse(&mut rig, Syscall::VmDeallocate, &[DATA, DATA_BYTES + 4096], Error::BadAddress);
    refuse(&mut rig, Syscall::VmDeallocate, &[DATA, LAST_PAGE], Error::BadAddress);
    refuse(&mut rig, Syscall::VmDeallocate, &[DATA, 1 << 63], Error::BadAddress);
    assert_eq!(
        rig.peek(DATA + DATA_BYTES - 1, 1),
        [0x5a],
        "not even the good part of a bad range was written to"
    );
    assert!(rig.m.output.is_empty(), "not even the good part of a bad range was written");
    rig.audit();
}

#[test]
fn bad_names_and_wrong_rights() {
    let mut rig = Rig::new();
    let port = rig.call(Syscall::PortAllocate, &[]).value();
    let send = rig.call(Syscall::PortMakeSend, &[port]).value();
    let set = rig.call(Syscall::PortSetAllocate, &[]).value();
    let object = rig.call(Syscall::MemoryObjectCreate, &[1]).value();
    let dead = {
        let gone = rig.call(Syscall::PortAllocate, &[]).value();
        let name = rig.call(Syscall::PortMakeSend, &[gone]).value();
        rig.call(Syscall::PortDeallocate, &[gone]).value();
        name
    };
    let all = [port, send, set, object, HOST_NAME, SELF, TASK];
    let but = |right: &[u64]| all.into_iter().filter(|name| !right.contains(name)).collect::<Vec<_>>();
    let device_calls = [
        Syscall::DeviceMap,
        Syscall::DeviceStart,
        Syscall::DeviceInfo,
        Syscall::DeviceBindThread,
        Syscall::DeviceAudit,
        Syscall::DeviceClaim,
    ];
    let mut table: Vec<(Syscall, Vec<u64>, Vec<u64>)> = std::vec![
        (Syscall::TaskTerminate, Vec::new(), but(&[TASK])),
        (Syscall::ThreadResume, Vec::new(), but(&[SELF])),
        (Syscall::ThreadSetPriority, [3].to_vec(), but(&[SELF])),
        (Syscall::PortMoveMember, [0].to_vec(), but(&[port])),
        (Syscall::PortNotifyDead, [port].to_vec(), but(&[send, SELF, TASK, HOST_NAME])),
        (Syscall::PortBindThread, [SELF].to_vec(), but(&[port, set])),
        (Syscall::PortMakeSend, Vec::new(), but(&[port])),
        (Syscall::MessageReceive, [DATA, 0].to_vec(), but(&[port, set])),
        (Syscall::VmMap, [0, 4096, 3].to_vec(), but(&[object])),
        (Syscall::MemoryObjectReadOnly, Vec::new(), but(&[object])),
        (Syscall::PortDeallocate, Vec::new(), Vec::new()),
    ];
    table.extend(device_calls.map(|call| (call, [DATA].to_vec(), but(&[]))));
    for (call, rest, wrong) in table {
        let with = |name| [&[name], rest.as_slice()].concat();
        bad_names().into_iter().for_each(|name| refuse(&mut rig, call, &with(name), Error::BadName));
        wrong.into_iter().for_each(|name| refuse(&mut rig, call, &with(name), Error::BadRight));
        rig.audit();
    }
    for (call, before) in
        [(Syscall::PortMoveMember, port), (Syscall::PortBindThread, port), (Syscall::PortNotifyDead, send)]
    {
        for name in bad_names().into_iter().filter(|&name| name != 0) {
            refuse(&mut rig, call, &[before, name], Error::BadName);
        }
        refuse(&mut rig, call, &[before, object], Error::BadRight);
    }
    for name in bad_names().into_iter().filter(|&name| name != 0) {
        refuse(&mut rig, Syscall::TaskSpawn, &[DATA, 1, 0, 0, 3, name], Error::BadName);
    }
    refuse(&mut rig, Syscall::TaskSpawn, &[DATA, 1, 0, 0, 3, object], Error::BadRight);
    refuse(&mut rig, Syscall::ThreadResume, &[dead], Error::Dead);
    refuse(&mut rig, Syscall::PortDeallocate, &[TASK], Error::Denied);
    refuse(&mut rig, Syscall::PortDeallocate, &[SELF], Error::Denied);
    rig.audit();
}

#[test]
fn numbers_out_of_range() {
    let mut rig = Rig::new();
    rig.poke(DATA, b"a");
    for length in [4097, 1 << 32, 1 << 63, u64::MAX] {
        refuse(&mut rig, Syscall::ConsoleWrite, &[DATA, length], Error::BadArgument);
        refuse(&mut rig, Syscall::TaskSpawn, &[DATA, length, 0, 0, 3, 0], Error::BadArgument);
        refuse(&mut rig, Syscall::TaskSpawn, &[DATA, 1, DATA, length, 3, 0], Error::BadArgument);
        refuse(&mut rig, Syscall::DeviceOpen, &[DATA, length], Error::BadArgument);
        refuse(&mut rig, Syscall::TaskInfo, &[length, DATA], Error::BadArgument);
    }
    refuse(&mut rig, Syscall::ConsoleRead, &[DATA, 0, FOREVER], Error::BadArgument);
    for priority in [8, 255, 256, u64::MAX] {
        refuse(&mut rig, Syscall::TaskSpawn, &[DATA, 1, 0, 0, priority, 0], Error::BadArgument);
        refuse(&mut rig, Syscall::ThreadCreate, &[TEXT, DATA + 4096, 0, priority], Error::BadArgument);
        refuse(&mut rig, Syscall::ThreadSetPriority, &[SELF, priority], Error::BadArgument);
    }
    for status in [0xffff_fff0, 1 << 32, u64::MAX] {
        refuse(&mut rig, Syscall::TaskExit, &[status], Error::BadArgument);
    }
    for name in ["", "bad", "missing", "kernel.sym"] {
        rig.poke(DATA + 32, name.as_bytes());
        let error = if name == "bad" { Error::BadProgram } else { Error::NotFound };
        refuse(&mut rig, Syscall::TaskSpawn, &[DATA + 32, name.len() as u64, 0, 0, 3, 0], error);
    }
    refuse(&mut rig, Syscall::PowerOff, &[0], Error::BadArgument);
    refuse(&mut rig, Syscall::PowerOff, &[u64::MAX], Error::BadArgument);
    rig.audit();
}

#[test]
fn lengths_and_protections_of_memory() {
    let mut rig = Rig::new();
    let object = rig.call(Syscall::MemoryObjectCreate, &[8192]).value();
    for length in [1 << 30, 1 << 40, 1 << 63, u64::MAX] {
        refuse(&mut rig, Syscall::VmAllocate, &[length, 3], Error::NoResources);
        refuse(&mut rig, Syscall::MemoryObjectCreate, &[length], Error::NoResources);
        refuse(&mut rig, Syscall::VmMap, &[object, 0, length, 3], Error::BadArgument);
        refuse(&mut rig, Syscall::VmMap, &[object, length, 4096, 3], Error::BadArgument);
    }
    refuse(&mut rig, Syscall::VmAllocate, &[0, 3], Error::BadArgument);
    refuse(&mut rig, Syscall::MemoryObjectCreate, &[0], Error::BadArgument);
    refuse(&mut rig, Syscall::VmMap, &[object, 0, 0, 3], Error::BadArgument);
    refuse(&mut rig, Syscall::VmMap, &[object, 1, 4096, 3], Error::BadArgument);
    refuse(&mut rig, Syscall::VmMap, &[object, LAST_PAGE, 8192, 3], Error::BadArgument);
    for (prot, error) in [
        (0, Error::BadArgument),
        (2, Error::BadArgument),
        (8 | 1, Error::BadArgument),
        (u64::MAX, Error::BadArgument),
        (4 | 1, Error::Denied),
        (4 | 2 | 1, Error::Denied),
    ] {
        refuse(&mut rig, Syscall::VmAllocate, &[4096, prot], error);
        refuse(&mut rig, Syscall::VmMap, &[object, 0, 4096, prot], error);
    }
    for (address, length) in [(DATA + 1, 4096), (DATA, 4095), (DATA, 0), (u64::MAX, u64::MAX)] {
        refuse(&mut rig, Syscall::VmDeallocate, &[address, length], Error::BadArgument);
    }
    rig.audit();
}

#[test]
fn messages_that_cannot_be() {
    let mut rig = Rig::new();
    let port = rig.call(Syscall::PortAllocate, &[]).value();
    let send = rig.call(Syscall::PortMakeSend, &[port]).value();
    let set = rig.call(Syscall::PortSetAllocate, &[]).value();
    let object = rig.call(Syscall::MemoryObjectCreate, &[1]).value();
    use Disposition::{CopySend, MakeSend, MakeSendOnce, Move};
    let wrong = Letter::to(send, 1);
    let letters = [
        (Letter::to(send, 0xffff_0000), Error::BadArgument),
        (Letter::to(send, u32::MAX), Error::BadArgument),
        (wrong.clone().with(99, Move), Error::BadName),
        (wrong.clone().with(0, Move), Error::BadName),
        (wrong.clone().with_reply(99, CopySend), Error::BadName),
        (Letter { carried: (send, 0), ..wrong.clone() }, Error::BadArgument),
        (Letter { carried: (send, 5), ..wrong.clone() }, Error::BadArgument),
        (Letter { reply: (send, u32::MAX), ..wrong.clone() }, Error::BadArgument),
        (wrong.clone().with(port, CopySend), Error::BadRight),
        (wrong.clone().with(send, MakeSend), Error::BadRight),
        (wrong.clone().with(send, MakeSendOnce), Error::BadRight),
        (wrong.clone().with(object, MakeSend), Error::BadRight),
        (wrong.clone().with(set, Move), Error::BadRight),
        (wrong.clone().with(set, CopySend), Error::BadRight),
        (Letter::to(port, 1), Error::BadRight),
        (Letter::to(set, 1), Error::BadRight),
        (Letter::to(object, 1), Error::BadRight),
        (Letter::to(TASK, 1), Error::BadRight),
        (Letter::to(SELF, 1), Error::BadRight),
        (Letter::to(HOST_NAME, 1), Error::BadRight),
        (Letter::to(0, 1), Error::BadName),
    ];
    for (letter, error) in letters {
        assert_eq!(rig.send(&letter, 0), Got::Error(error), "{letter:?}");
        rig.audit();
    }
    for length in [225u32, 256, u32::MAX] {
        let mut bytes = Letter::to(send, 1).bytes();
        bytes[24..28].copy_from_slice(&length.to_le_bytes());
        rig.poke(DATA, &bytes);
        refuse(&mut rig, Syscall::MessageSend, &[DATA, 0], Error::BadArgument);
    }
    rig.audit();
}
