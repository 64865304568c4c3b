//! Requests to be told of a death, and those who wait on what dies.

use abi::Error;
use abi::message::{Disposition, NOTIFY_DEAD_NAME};
use abi::syscall::{FOREVER, Syscall};
use abi::thread::{STATUS_FAULT, STATUS_KILLED};

use super::ipc::{GRANT, PARENT, parent_and_child};
use super::rig::{DATA, Got, Letter, TEXT};
use crate::machine::Fault;
use crate::port::QUEUE_LIMIT;

#[test]
fn the_death_of_a_task_is_told_with_its_status() {
    for how in 0..3 {
        let (mut rig, port, child) = parent_and_child();
        rig.send(&Letter::to(PARENT, 1), 0).value();
        rig.pick();
        assert_eq!(rig.pick(), Some(1));
        rig.call(Syscall::ThreadSuspend, &[1]);
        rig.pick();
        assert_eq!(rig.call(Syscall::PortNotifyDead, &[child, port]), Got::Value(0));
        rig.audit();
        let status = match how {
            0 => {
                rig.m.now += 10;
                rig.kernel.tick(&mut rig.m);
                assert_eq!(rig.receive(port, FOREVER), Got::Blocked);
                assert_eq!(rig.pick(), Some(1));
                rig.call(Syscall::TaskExit, &[42]);
                42
            }
            1 => {
                assert_eq!(rig.call(Syscall::TaskTerminate, &[child]), Got::Value(0));
                assert_eq!(rig.receive(port, 0), Got::Value(0));
                STATUS_KILLED
            }
            _ => {
                rig.m.now += 10;
                rig.kernel.tick(&mut rig.m);
                assert_eq!(rig.receive(port, FOREVER), Got::Blocked);
                assert_eq!(rig.pick(), Some(1));
                let fault =
                    Fault { what: "page fault", address: Some(0xdead), pc: 0x40_0000, sp: 0x7000, code: 6 };
                rig.kernel.user_fault(&mut rig.m, &fault);
                let output = std::string::String::from_utf8(rig.m.output.clone()).unwrap();
                assert_eq!(
                    output,
                    "fault: task a (id 2): page fault at 0xdead, rip 0x400000, rsp 0x7000, error 0x6\nregisters\n"
                );
                STATUS_FAULT
            }
        };
        rig.pick();
        let letter = rig.letter(0);
        assert_eq!(letter.id, NOTIFY_DEAD_NAME);
        assert_eq!(letter.sender, 0);
        assert_eq!(letter.body[..4], (child as u32).to_le_bytes());
        assert_eq!(letter.body[4..8], status.to_le_bytes(), "how {how}");
        rig.audit();
        assert_eq!(rig.call(Syscall::TaskTerminate, &[child]), Got::Error(Error::Dead));
        // Who asks late is told at once, and the status is still there.
        assert_eq!(rig.call(Syscall::PortNotifyDead, &[child, port]), Got::Value(0));
        assert_eq!(rig.receive(port, 0), Got::Value(0));
        assert_eq!(rig.letter(0).id, NOTIFY_DEAD_NAME);
        assert_eq!(rig.letter(0).body[4..8], status.to_le_bytes(), "how {how}");
        rig.audit();
        assert_eq!(rig.call(Syscall::PortDeallocate, &[child]), Got::Value(0));
        rig.audit();
    }
}

#[test]
fn a_request_goes_with_its_name() {
    let (mut rig, _, _) = parent_and_child();
    let port = rig.call(Syscall::PortAllocate, &[]).value();
    let send = rig.call(Syscall::PortMakeSend, &[port]).value();
    let told = rig.call(Syscall::PortAllocate, &[]).value();
    for _ in 0..3 {
        assert_eq!(rig.call(Syscall::PortNotifyDead, &[send, told]), Got::Value(0));
    }
    rig.audit();
    assert_eq!(rig.call(Syscall::PortDeallocate, &[send]), Got::Value(0));
    assert_eq!(rig.call(Syscall::PortDeallocate, &[port]), Got::Value(0));
    assert_eq!(rig.receive(told, 0), Got::Error(Error::WouldBlock));
    rig.audit();
}

#[test]
fn a_request_goes_when_its_right_is_given_away_or_used_up() {
    let (mut rig, _, _) = parent_and_child();
    let port = rig.call(Syscall::PortAllocate, &[]).value();
    let send = rig.call(Syscall::PortMakeSend, &[port]).value();
    let told = rig.call(Syscall::PortAllocate, &[]).value();
    rig.call(Syscall::PortNotifyDead, &[send, told]).value();
    rig.send(&Letter::to(send, 1).with_reply(port, Disposition::MakeSendOnce), 0).value();
    rig.receive(port, 0).value();
    let once = rig.letter(1).reply.0;
    rig.call(Syscall::PortNotifyDead, &[once, told]).value();
    rig.send(&Letter::to(once, 1).with(send, GRANT), 0).value();
    rig.audit();
    rig.call(Syscall::PortDeallocate, &[port]).value();
    assert_eq!(rig.receive(told, 0), Got::Error(Error::WouldBlock));
    rig.audit();
}

#[test]
fn a_request_whose_teller_died_is_dropped() {
    let (mut rig, _, _) = parent_and_child();
    let port = rig.call(Syscall::PortAllocate, &[]).value();
    let send = rig.call(Syscall::PortMakeSend, &[port]).value();
    let told = rig.call(Syscall::PortAllocate, &[]).value();
    rig.call(Syscall::PortNotifyDead, &[send, told]).value();
    rig.call(Syscall::PortDeallocate, &[told]).value();
    rig.audit();
    rig.call(Syscall::PortDeallocate, &[port]).value();
    rig.audit();
}

#[test]
fn who_waits_on_a_port_that_dies_learns_it() {
    let (mut rig, _, _) = parent_and_child();
    let port = rig.call(Syscall::PortAllocate, &[]).value();
    let send = rig.call(Syscall::PortMakeSend, &[port]).value();
    rig.call(Syscall::ThreadCreate, &[TEXT, DATA + 0x1000, 0, 5]).value();
    for _ in 0..QUEUE_LIMIT {
        rig.send(&Letter::to(send, 1), 0).value();
    }
    assert_eq!(rig.send(&Letter::to(send, 1), FOREVER), Got::Blocked);
    assert_eq!(rig.pick(), Some(2));
    rig.call(Syscall::PortDeallocate, &[port]).value();
    assert_eq!(rig.result(1), Some(Got::Error(Error::Dead)));
    let other = rig.call(Syscall::PortAllocate, &[]).value();
    assert_eq!(rig.receive(other, FOREVER), Got::Blocked);
    assert_eq!(rig.pick(), Some(1));
    rig.call(Syscall::PortDeallocate, &[other]).value();
    assert_eq!(rig.result(2), Some(Got::Error(Error::Dead)));
    rig.audit();
}
