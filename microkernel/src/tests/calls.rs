//! A send and a receive in one trap.

use abi::Error;
use abi::message::{Disposition, NOTIFY_SEND_ONCE};
use abi::port::{BOOTSTRAP, NULL, TASK_SELF};
use abi::syscall::{FOREVER, Syscall};

use super::rig::{DATA, Got, Letter, RECEIVE_AT, Rig};
use crate::port::QUEUE_LIMIT;

const PARENT: u64 = BOOTSTRAP as u64;

/// `init` waits at its port for a message of `a`, which runs and has the port named by the last.
fn server_and_client() -> (Rig, u64, u64) {
    let mut rig = Rig::new();
    let port = rig.call(Syscall::PortAllocate, &[]).value();
    rig.spawn("a", "", 5, port).value();
    assert_eq!(rig.receive(port, FOREVER), Got::Blocked);
    assert_eq!(rig.pick(), Some(1));
    let mine = rig.call(Syscall::PortAllocate, &[]).value();
    (rig, port, mine)
}

fn call(rig: &mut Rig, letter: &Letter, port: u64, limit: u64) -> Got {
    let at = DATA + 0x3000;
    rig.poke(at, &letter.bytes());
    rig.call(Syscall::MessageCall, &[at, port, RECEIVE_AT, limit])
}

fn request(id: u32, mine: u64) -> Letter {
    Letter::to(PARENT, id).with_reply(mine, Disposition::MakeSendOnce)
}

#[test]
fn a_request_and_its_reply_are_a_trap_of_each_side() {
    let (mut rig, port, mine) = server_and_client();
    assert_eq!(call(&mut rig, &request(0, mine), mine, FOREVER), Got::Blocked);
    assert_eq!(rig.pick(), Some(0));
    for id in 1..10 {
        assert_eq!(rig.result(0), Some(Got::Value(0)));
        let letter = rig.letter(0);
        assert_eq!(letter.id, id - 1);
        let reply = Letter::to(letter.reply.0, 100 + id).saying(&[id as u8; 208]);
        assert_eq!(call(&mut rig, &reply, port, FOREVER), Got::Blocked);
        rig.audit();
        assert_eq!(rig.pick(), Some(1));
        assert_eq!(rig.result(1), Some(Got::Value(0)));
        assert_eq!((rig.letter(1).id, rig.letter(1).body), (100 + id, [id as u8; 208].to_vec()));
        assert_eq!(call(&mut rig, &request(id, mine), mine, FOREVER), Got::Blocked);
        assert_eq!(rig.pick(), Some(0));
    }
    rig.audit();
}

#[test]
fn what_is_there_is_received_at_once_also_into_the_message_that_was_sent() {
    let (mut rig, _, mine) = server_and_client();
    let send = rig.call(Syscall::PortMakeSend, &[mine]).value();
    rig.send(&Letter::to(send, 7).saying(b"first"), 0).value();
    assert_eq!(call(&mut rig, &Letter::to(PARENT, 8), mine, 0), Got::Value(0));
    assert_eq!(rig.letter(1).id, 7);
    rig.poke(RECEIVE_AT, &Letter::to(send, 9).bytes());
    assert_eq!(rig.call(Syscall::MessageCall, &[RECEIVE_AT, mine, RECEIVE_AT, 0]), Got::Value(0));
    assert_eq!((rig.letter(1).id, rig.letter(1).destination), (9, mine));
    rig.audit();
}

#[test]
fn what_is_wrong_with_the_send_is_the_status_and_nothing_is_received() {
    let (mut rig, _, mine) = server_and_client();
    let send = rig.call(Syscall::PortMakeSend, &[mine]).value();
    rig.send(&Letter::to(send, 7), 0).value();
    for (letter, error) in [
        (Letter::to(NULL.into(), 1), Error::BadName),
        (Letter::to(999, 1), Error::BadName),
        (Letter::to(TASK_SELF.into(), 1), Error::BadRight),
        (Letter::to(PARENT, abi::message::KERNEL_IDS), Error::BadArgument),
        (Letter::to(PARENT, 1).with(999, Disposition::Move), Error::BadName),
    ] {
        assert_eq!(call(&mut rig, &letter, mine, FOREVER), Got::Error(error));
    }
    assert_eq!(
        rig.call(Syscall::MessageCall, &[1 << 60, mine, RECEIVE_AT, 0]),
        Got::Error(Error::BadAddress)
    );
    // A queue without room is not waited for.
    for id in 0..=QUEUE_LIMIT {
        rig.send(&Letter::to(PARENT, id.into()), 0).value();
    }
    assert_eq!(call(&mut rig, &Letter::to(PARENT, 1), mine, FOREVER), Got::Error(Error::QueueFull));
    assert_eq!(rig.receive(mine, 0), Got::Value(0), "it is still there");
    assert_eq!(rig.letter(1).id, 7);
    rig.audit();
}

#[test]
fn what_is_wrong_with_the_receive_is_the_value() {
    let (mut rig, port, mine) = server_and_client();
    let failed = |error: Error| Got::Value(error.raw().into());
    let letter = Letter::to(PARENT, 1);
    assert_eq!(call(&mut rig, &letter, mine, 0), failed(Error::WouldBlock));
    assert_eq!(call(&mut rig, &letter, 999, FOREVER), failed(Error::BadName));
    assert_eq!(call(&mut rig, &letter, 1 << 40, FOREVER), failed(Error::BadName));
    assert_eq!(call(&mut rig, &letter, PARENT, FOREVER), failed(Error::BadRight));
    rig.poke(DATA, &letter.bytes());
    assert_eq!(rig.call(Syscall::MessageCall, &[DATA, mine, 1 << 60, FOREVER]), failed(Error::BadAddress));
    // And where the wait ends so.
    assert_eq!(call(&mut rig, &letter, mine, 1000), Got::Blocked);
    rig.m.now += 1000;
    rig.kernel.tick(&mut rig.m);
    assert_eq!(rig.result(1), Some(failed(Error::TimedOut)));
    assert_eq!(rig.pick(), Some(0), "the sends were sends");
    for _ in 0..5 {
        assert_eq!(rig.receive(port, 0), Got::Value(0));
    }
    assert_eq!(rig.receive(port, 0), Got::Error(Error::WouldBlock));
    rig.audit();
}

#[test]
fn a_wait_after_a_call_has_its_own_status_again() {
    let (mut rig, _, mine) = server_and_client();
    assert_eq!(call(&mut rig, &Letter::to(PARENT, 1), mine, 1000), Got::Blocked);
    rig.m.now += 1000;
    rig.kernel.tick(&mut rig.m);
    assert_eq!(rig.result(1), Some(Got::Value(Error::TimedOut.raw().into())));
    assert_eq!(rig.pick(), Some(0));
    rig.call(Syscall::ThreadSuspend, &[FOREVER]);
    assert_eq!(rig.pick(), Some(1));
    assert_eq!(rig.receive(mine, 1000), Got::Blocked);
    rig.m.now += 1000;
    rig.kernel.tick(&mut rig.m);
    assert_eq!(rig.result(1), Some(Got::Error(Error::TimedOut)));
    rig.audit();
}

#[test]
fn a_server_that_drops_the_right_to_answer_or_dies_ends_the_wait() {
    let (mut rig, port, mine) = server_and_client();
    assert_eq!(call(&mut rig, &request(1, mine), mine, FOREVER), Got::Blocked);
    assert_eq!(rig.pick(), Some(0));
    let reply = rig.letter(0).reply.0;
    rig.call(Syscall::PortDeallocate, &[reply]).value();
    assert_eq!(rig.result(1), Some(Got::Value(0)));
    assert_eq!(rig.letter(1).id, NOTIFY_SEND_ONCE);
    assert_eq!(rig.receive(port, FOREVER), Got::Blocked);
    assert_eq!(rig.pick(), Some(1));
    // A thread that waits in a call ends as any other.
    assert_eq!(call(&mut rig, &request(2, mine), mine, FOREVER), Got::Blocked);
    assert_eq!(rig.pick(), Some(0));
    rig.audit();
}
