//! Beginnings and ends: boot, tasks, memory, the device.

use abi::counters::Counter;
use abi::port::{HOST, TASK_SELF};
use abi::syscall::{FOREVER, Syscall};
use abi::thread::{STACK_BYTES, STACK_TOP};
use abi::vm::{MAP_BASE, PAGE_BYTES};
use abi::{Error, exit, info};
use std::string::ToString;

use super::rig::{DATA, DATA_BYTES, Got, Rig, TEXT, program};
use crate::boot::BootError;
use crate::machine::{NetEvent, Prot};
use crate::module::ModuleError;

#[test]
fn boot_says_in_a_line_why_it_cannot() {
    let init = program(1);
    let mut rig = Rig::bare(20 << 20);
    let error = rig.boot(&[("init", &init)]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "boot: too little memory: 20480 KiB are free, 24 MiB are needed: give QEMU more with -m"
    );
    let mut rig = Rig::bare(28 << 20);
    assert_eq!(rig.boot(&[("a", &init)]), Err(BootError::Module(ModuleError::NoMember)));
    let error = rig.boot(&[("init", b"#!/bin/sh")]).unwrap_err();
    assert_eq!(error.to_string(), "boot: module init: not an ELF program for this machine");
}

#[test]
fn a_program_starts_as_it_was_linked() {
    let mut rig = Rig::new();
    let child = rig.spawn("a", "-r -s", 3, 0).value();
    assert!(child > u64::from(HOST));
    rig.call(Syscall::ThreadSuspend, &[FOREVER]);
    assert_eq!(rig.pick(), Some(1));
    let (entry, stack, args) = rig.m.contexts[1];
    assert_eq!(entry, TEXT);
    assert_eq!(stack % 16, 8);
    assert_eq!(args[1..], [5, 0]);
    assert_eq!(rig.peek(args[0], 5), b"-r -s");
    assert!(stack < args[0] && args[0] + 5 <= STACK_TOP);
    assert_eq!(rig.peek(TEXT, 64), [2; 64]);
    assert_eq!(rig.peek(DATA, DATA_BYTES as usize)[..16], [2; 16]);
    assert!(rig.peek(DATA + 16, DATA_BYTES as usize - 16).iter().all(|&byte| byte == 0));
    assert!(rig.peek(STACK_TOP - STACK_BYTES, 4096).iter().all(|&byte| byte == 0));
    let pages = &rig.kernel.tasks[1].tables().pages;
    assert_eq!(pages[&TEXT].1, Prot::READ_EXECUTE);
    assert_eq!(pages[&info::ADDRESS].1, Prot::READ);
    assert!(!pages.contains_key(&(STACK_TOP - STACK_BYTES - PAGE_BYTES)));
    assert_eq!(rig.peek(info::ADDRESS, 8), info::MAGIC.to_le_bytes());
    let line = core::mem::offset_of!(info::Info, command_line) as u64;
    assert_eq!(rig.peek(info::ADDRESS + line, 19), b"path=window pools=2");
    rig.audit();
}

#[test]
fn ten_thousand_tasks_leave_nothing_behind() {
    let mut rig = Rig::new();
    let free = rig.kernel.frames().free_count();
    for i in 0..10_000u32 {
        let child = rig.spawn(if i % 2 == 0 { "a" } else { "b" }, "x", 3, 0).value();
        if i % 3 == 0 {
            rig.call(Syscall::ThreadSuspend, &[1]);
            rig.pick();
            let object = rig.call(Syscall::MemoryObjectCreate, &[8192]).value();
            rig.call(Syscall::VmMap, &[object, 0, 8192, 3]).value();
            rig.call(Syscall::VmAllocate, &[8192, 3]).value();
            rig.call(Syscall::TaskExit, &[0]);
            rig.m.now += 10;
            rig.kernel.tick(&mut rig.m);
            rig.pick();
        } else {
            rig.call(Syscall::TaskTerminate, &[child]).value();
        }
        rig.call(Syscall::PortDeallocate, &[child]).value();
        assert_eq!(rig.kernel.frames().free_count(), free, "cycle {i}");
    }
    rig.audit();
}

#[test]
fn a_spawn_without_memory_for_it_changes_nothing() {
    let mut rig = Rig::new();
    let mut left = rig.kernel.frames().free_count();
    while left > 0 {
        // All but a few frames, then with one more free each time, until a task fits.
        let free = rig.kernel.frames().free_count();
        let take: std::vec::Vec<u64> = (0..free.saturating_sub(70 - left.min(70)))
            .map_while(|_| rig.kernel.frames().allocate())
            .collect();
        let before = rig.kernel.frames().free_count();
        let got = rig.spawn("a", "", 3, 0);
        if let Got::Value(child) = got {
            rig.call(Syscall::TaskTerminate, &[child]).value();
            rig.call(Syscall::PortDeallocate, &[child]).value();
        } else {
            assert_eq!(got, Got::Error(Error::NoResources));
        }
        assert_eq!(rig.kernel.frames().free_count(), before);
        take.into_iter().for_each(|frame| rig.kernel.frames().free(frame));
        left = if left > 70 { 70 } else { left - 1 };
    }
    rig.audit();
}

#[test]
fn tables_that_are_full_say_so() {
    let mut rig = Rig::new();
    let mut names = std::vec::Vec::new();
    while let Got::Value(name) = rig.call(Syscall::ThreadCreate, &[TEXT, DATA + 4096, 0, 0]) {
        names.push(name);
    }
    assert_eq!(names.len(), crate::thread::THREADS - 1);
    let free = rig.kernel.frames().free_count();
    assert_eq!(rig.spawn("a", "", 3, 0), Got::Error(Error::NoResources), "no thread for it");
    assert_eq!(rig.kernel.frames().free_count(), free);
    rig.audit();
    let mut rig = Rig::new();
    let mut ports = 0;
    while let Got::Value(_) = rig.call(Syscall::MemoryObjectCreate, &[1]) {
        ports += 1;
    }
    assert!(ports > 200);
    assert_eq!(rig.spawn("a", "", 3, 0), Got::Error(Error::NoResources), "no name for it");
    rig.audit();
}

#[test]
fn memory_is_where_it_was_said_and_goes_where_it_was_asked() {
    let mut rig = Rig::new();
    let first = rig.call(Syscall::VmAllocate, &[5 * 4096, 3]).value();
    let second = rig.call(Syscall::VmAllocate, &[1, 3]).value();
    assert_eq!(first, MAP_BASE);
    assert_eq!(second, MAP_BASE + 6 * 4096, "a page between them stays free");
    rig.poke(first, b"below");
    rig.poke(first + 4 * 4096, b"above");
    // Out of the middle, then across the hole, then the ends.
    assert_eq!(rig.call(Syscall::VmDeallocate, &[first + 2 * 4096, 4096]), Got::Value(0));
    rig.audit();
    assert_eq!(rig.peek(first, 5), b"below");
    assert_eq!(rig.peek(first + 4 * 4096, 5), b"above");
    assert_eq!(rig.call(Syscall::VmDeallocate, &[first, 5 * 4096]), Got::Error(Error::BadAddress));
    assert_eq!(rig.call(Syscall::VmDeallocate, &[first + 4 * 4096, 4096]), Got::Value(0));
    assert_eq!(rig.call(Syscall::VmDeallocate, &[first, 4096]), Got::Value(0));
    rig.audit();
    assert_eq!(rig.call(Syscall::VmDeallocate, &[first + 4096, 4096]), Got::Value(0));
    assert_eq!(rig.call(Syscall::VmDeallocate, &[first + 3 * 4096, 4096]), Got::Value(0));
    rig.audit();
    assert_eq!(rig.call(Syscall::VmAllocate, &[4096, 1]), Got::Value(first), "the place is used again");
    assert_eq!(rig.call(Syscall::VmDeallocate, &[info::ADDRESS, 4096]), Got::Error(Error::BadAddress));
    let object = rig.call(Syscall::MemoryObjectCreate, &[700 * 4096]).value();
    let shared = rig.call(Syscall::VmMap, &[object, 0, 700 * 4096, 3]).value();
    rig.poke(shared + 511 * 4096, &[7; 2 * 4096]);
    let again = rig.call(Syscall::VmMap, &[object, 512 * 4096, 4096, 1]).value();
    assert_eq!(rig.peek(again, 4096), [7; 4096], "beyond the first table");
    assert_eq!(rig.call(Syscall::VmDeallocate, &[shared + 4096, 4096]), Got::Value(0));
    rig.call(Syscall::PortDeallocate, &[object]).value();
    rig.audit();
}

#[test]
fn the_device_is_one_task_s_and_closes_with_it() {
    let mut rig = Rig::new();
    rig.spawn("a", "", 5, 0).value();
    rig.poke(DATA, b"net0net1");
    assert_eq!(rig.call(Syscall::DeviceOpen, &[DATA + 4, 4]), Got::Error(Error::NotFound));
    rig.call(Syscall::ThreadSuspend, &[1000]);
    assert_eq!(rig.pick(), Some(1));
    rig.poke(DATA, b"net0");
    let device = rig.call(Syscall::DeviceOpen, &[DATA, 4]).value();
    assert_eq!(rig.call(Syscall::DeviceOpen, &[DATA, 4]), Got::Error(Error::Exists));
    let window = rig.call(Syscall::DeviceMap, &[device]).value();
    let at = rig.call(Syscall::VmMap, &[window, 0, super::fake::WINDOW.1, 3]).value();
    assert_eq!(rig.kernel.tasks[1].tables().pages[&(at + 4096)].0, super::fake::WINDOW.0 + 4096);
    assert_eq!(rig.call(Syscall::DeviceStart, &[device]), Got::Value(0));
    assert_eq!(rig.m.net.as_ref().unwrap().starts, 1);
    assert_eq!(rig.call(Syscall::DeviceAudit, &[device, DATA]), Got::Value(0));
    assert_eq!(rig.peek(DATA, 16), [1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0]);
    assert_eq!(rig.call(Syscall::DeviceInfo, &[device, DATA]), Got::Value(0));
    assert_eq!(rig.peek(DATA, 6), [2, 0, 0, 0, 0, 1]);
    rig.audit();
    assert_eq!(rig.call(Syscall::PortDeallocate, &[device]), Got::Value(0));
    assert!(!rig.m.net.as_ref().unwrap().windows_open[0], "the last name gone, it is closed");
    rig.audit();
    rig.poke(DATA, b"net0");
    assert_eq!(
        rig.call(Syscall::DeviceOpen, &[DATA, 4]),
        Got::Error(Error::Exists),
        "its old window is still mapped"
    );
    rig.call(Syscall::PortDeallocate, &[window]).value();
    rig.call(Syscall::VmDeallocate, &[at, super::fake::WINDOW.1]).value();
    let device = rig.call(Syscall::DeviceOpen, &[DATA, 4]).value();
    rig.call(Syscall::DeviceMap, &[device]).value();
    rig.audit();
    rig.call(Syscall::TaskExit, &[0]);
    assert!(!rig.m.net.as_ref().unwrap().windows_open[0]);
    rig.audit();
}

#[test]
fn two_tasks_have_a_window_each_and_one_that_lies_loses_its_own() {
    use netdev_driver::claims::Address::{Ipv4, Ipv6};
    let mut rig = Rig::new();
    rig.m.net.as_mut().unwrap().two = true;
    rig.poke(DATA, b"net0");
    let mine = rig.call(Syscall::DeviceOpen, &[DATA, 4]).value();
    assert_eq!(rig.call(Syscall::DeviceOpen, &[DATA, 4]), Got::Error(Error::Exists), "one for each task");
    let window = rig.call(Syscall::DeviceMap, &[mine]).value();
    let at = rig.call(Syscall::VmMap, &[window, 0, super::fake::WINDOW.1, 3]).value();
    assert_eq!(rig.kernel.tasks[0].tables().pages[&at].0, super::fake::WINDOW.0);
    rig.spawn("a", "", 6, 0).value();
    rig.kernel.tick(&mut rig.m);
    assert_eq!(rig.pick(), Some(1));
    rig.poke(DATA, b"net0");
    let other = rig.call(Syscall::DeviceOpen, &[DATA, 4]).value();
    let window = rig.call(Syscall::DeviceMap, &[other]).value();
    let at = rig.call(Syscall::VmMap, &[window, 0, super::fake::WINDOW.1, 3]).value();
    assert_eq!(rig.kernel.tasks[1].tables().pages[&at].0, super::fake::SECOND_WINDOW.0);
    let claim = |rig: &mut Rig, words: [u64; 3]| {
        rig.call(Syscall::DeviceClaim, &[other, words[0], words[1], words[2]])
    };
    assert_eq!(claim(&mut rig, [4, 0, 0x0a09_0003]), Got::Value(0));
    assert_eq!(claim(&mut rig, [6, 0xfd09 << 48, 3]), Got::Value(0));
    for wrong in [[4, 1, 0x0a09_0003], [4, 0, 1 << 32], [5, 0, 1], [u64::MAX, 0, 1]] {
        assert_eq!(claim(&mut rig, wrong), Got::Error(Error::BadArgument));
    }
    assert_eq!(claim(&mut rig, [0, 0, 0]), Got::Value(0));
    let mut six = [0; 16];
    (six[0], six[1], six[15]) = (0xfd, 9, 3);
    let claimed = &rig.m.net.as_ref().unwrap().claimed;
    assert_eq!(claimed[..], [(1, Some(Ipv4([10, 9, 0, 3]))), (1, Some(Ipv6(six))), (1, None)]);
    // Each one's thread is resumed for its own; and the second one's lie is the second one's.
    let thread = rig.kernel.current.unwrap();
    assert_eq!(rig.call(Syscall::DeviceBindThread, &[other, abi::port::THREAD_SELF.into()]), Got::Value(0));
    rig.kernel.net_event(&mut rig.m, NetEvent { resume: 1, ..NetEvent::default() });
    assert_eq!(rig.kernel.threads[usize::from(thread)].pending, 0);
    rig.kernel.net_event(&mut rig.m, NetEvent { resume: 2, ..NetEvent::default() });
    assert_ne!(rig.kernel.threads[usize::from(thread)].pending, 0);
    rig.audit();
    let violation = Some(shmqueue::PeerMisbehaviour::NotEmpty);
    rig.kernel.net_event(&mut rig.m, NetEvent { resume: 3, violation, culprit: 1 });
    assert_eq!(rig.m.net.as_ref().unwrap().windows_open[..2], [true, false]);
    assert_eq!(rig.pick(), Some(0), "the first goes on");
    assert_eq!(rig.call(Syscall::DeviceStart, &[mine]), Got::Value(0));
    rig.audit();
}

#[test]
fn a_window_that_lies_ends_its_task() {
    for by_interrupt in [true, false] {
        let mut rig = Rig::new();
        rig.spawn("a", "", 6, 0).value();
        rig.kernel.tick(&mut rig.m);
        assert_eq!(rig.pick(), Some(1));
        rig.poke(DATA, b"net0");
        let device = rig.call(Syscall::DeviceOpen, &[DATA, 4]).value();
        let event = NetEvent { resume: 1, violation: Some(shmqueue::PeerMisbehaviour::NotEmpty), culprit: 0 };
        if by_interrupt {
            rig.kernel.net_event(&mut rig.m, event);
            assert!(rig.kernel.must_pick());
        } else {
            rig.m.net.as_mut().unwrap().event = event;
            assert_eq!(rig.call(Syscall::DeviceStart, &[device]), Got::Blocked);
        }
        let said = b"fault: task a (id 2): the window of net0 holds what cannot be: the peer marks as filled a queue";
        assert!(rig.m.output.starts_with(said));
        assert!(!rig.m.net.as_ref().unwrap().windows_open[0]);
        assert_eq!(rig.pick(), Some(0));
        rig.audit();
    }
}

#[test]
fn the_machine_ends_with_its_first_task_and_at_the_host_port_s_holder_s_wish() {
    for (status, code) in [(0, exit::OFF), (3, exit::BOOT_FAILED)] {
        let mut rig = Rig::new();
        rig.call(Syscall::TaskExit, &[status]);
        assert_eq!(rig.m.off, Some(code));
        assert_eq!(rig.pick(), None);
    }
    let mut rig = Rig::new();
    rig.spawn("a", "", 5, 0).value();
    rig.call(Syscall::ThreadSuspend, &[1000]);
    rig.pick();
    assert_eq!(rig.call(Syscall::PowerOff, &[exit::OFF.into()]), Got::Error(Error::Denied));
    rig.m.now += 2000;
    rig.kernel.tick(&mut rig.m);
    rig.call(Syscall::ThreadSuspend, &[FOREVER]);
    assert_eq!(rig.pick(), Some(0));
    assert_eq!(rig.call(Syscall::PowerOff, &[exit::PANIC.into()]), Got::Error(Error::BadArgument));
    assert_eq!(rig.m.off, None);
    rig.call(Syscall::PowerOff, &[exit::OFF.into()]);
    assert_eq!(rig.m.off, Some(exit::OFF));
}

#[test]
fn threads_of_a_task_end_with_it_and_the_last_ends_it() {
    let mut rig = Rig::new();
    rig.spawn("a", "", 6, 0).value();
    rig.kernel.tick(&mut rig.m);
    assert_eq!(rig.pick(), Some(1));
    let other = rig.call(Syscall::ThreadCreate, &[TEXT, DATA + 4096, 7, 6]).value();
    assert_eq!(rig.m.contexts[2], (TEXT, DATA + 4096 - 8, [7, 0, 0]));
    assert_eq!(rig.call(Syscall::ThreadExit, &[]), Got::Blocked);
    rig.audit();
    assert_eq!(rig.pick(), Some(2));
    assert_eq!(rig.call(Syscall::ThreadResume, &[2]), Got::Error(Error::Dead));
    assert_eq!(rig.call(Syscall::ThreadResume, &[other]), Got::Value(0));
    assert_eq!(rig.call(Syscall::ThreadExit, &[]), Got::Blocked);
    assert_eq!(rig.kernel.tasks[1].id, 0);
    rig.audit();
    assert_eq!(rig.pick(), Some(0));
    assert_eq!(rig.call(Syscall::PortDeallocate, &[TASK_SELF.into()]), Got::Error(Error::Denied));
}

#[test]
fn counters_and_task_rows_can_be_read() {
    let mut rig = Rig::new();
    let count = abi::counters::COUNT as u64;
    assert_eq!(rig.call(Syscall::CountersRead, &[DATA, count]), Got::Value(count));
    let word = |rig: &Rig, counter: Counter| {
        u64::from_le_bytes(rig.peek(DATA + 8 * counter as u64, 8).try_into().unwrap())
    };
    assert_eq!(word(&rig, Counter::Syscalls), 1);
    assert_eq!(word(&rig, Counter::FramesIn), 77);
    rig.poke(DATA, &[0xaa; 32]);
    assert_eq!(rig.call(Syscall::CountersRead, &[DATA, 2]), Got::Value(2));
    assert_eq!(rig.peek(DATA + 16, 1), [0xaa]);
    assert_eq!(rig.call(Syscall::CountersRead, &[DATA, u64::MAX]), Got::Value(count));
    assert_eq!(rig.call(Syscall::TaskInfo, &[0, DATA]), Got::Value(0));
    let row = rig.peek(DATA, size_of::<abi::thread::TaskInfo>());
    assert_eq!(row[..16], [1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0]);
    assert!(row.ends_with(&[b"init".as_slice(), &[0; 28]].concat()));
    assert_eq!(rig.call(Syscall::TaskInfo, &[1, DATA]), Got::Error(Error::NotFound));
    assert_eq!(rig.call(Syscall::TaskInfo, &[64, DATA]), Got::Error(Error::BadArgument));
}
