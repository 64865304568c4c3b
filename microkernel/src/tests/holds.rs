//! What is kept for the successor of a task that has ended, and from whom.

use abi::Error;
use abi::path::Path;
use abi::syscall::{FOREVER, Syscall};

use super::rig::{DATA, Got, Rig};
use crate::hold::HOLD_NS;
use crate::net_io::OPENERS;

/// 10.9.0.2, as `DeviceClaim` has it.
const ADDRESS: [u64; 3] = [4, 0, 0x0a09_0002];

/// A machine with a server that `init` has made, about to run; and, asleep, another task, which a task of `init`'s has made.
fn rig(two_windows: bool, path: Path) -> (Rig, u16, u16) {
    let mut rig = Rig::new();
    let net = rig.m.net.as_mut().unwrap();
    (net.two, net.path) = (two_windows, path);
    rig.spawn("b", "", 6, 0).value();
    rig.kernel.tick(&mut rig.m);
    let shell = rig.pick().unwrap();
    rig.spawn("a", "", 6, 0).value();
    assert_eq!(rig.call(Syscall::ThreadSuspend, &[FOREVER]), Got::Blocked);
    let stranger = rig.pick().unwrap();
    assert!(shell != 0 && stranger != 0 && stranger != shell, "{shell} {stranger}");
    assert_eq!(rig.call(Syscall::ThreadSuspend, &[1]), Got::Blocked);
    assert_eq!(rig.pick(), Some(0));
    let server = start(&mut rig);
    (rig, server, stranger)
}

/// `init` makes a server, which runs.
fn start(rig: &mut Rig) -> u16 {
    rig.spawn("a", "", 6, 0).value();
    rig.kernel.tick(&mut rig.m);
    rig.pick().unwrap()
}

/// The running task sleeps or has ended, and the other one wakes, after so long.
fn turn(rig: &mut Rig, ns: u64, to: u16) {
    rig.pick();
    rig.m.now += ns + 1;
    rig.kernel.tick(&mut rig.m);
    assert_eq!(rig.pick(), Some(to));
}

fn open(rig: &mut Rig) -> Got {
    rig.poke(DATA, b"net0");
    rig.call(Syscall::DeviceOpen, &[DATA, 4])
}

fn claim(rig: &mut Rig, device: u64) -> Got {
    rig.call(Syscall::DeviceClaim, &[device, ADDRESS[0], ADDRESS[1], ADDRESS[2]])
}

#[test]
fn a_window_is_kept_for_the_next_server() {
    let (mut rig, _, stranger) = rig(false, Path::Window);
    open(&mut rig).value();
    assert_eq!(rig.call(Syscall::TaskExit, &[1]), Got::Blocked);
    turn(&mut rig, 10, stranger);
    assert_eq!(open(&mut rig), Got::Error(Error::Exists), "a stranger does not get it");
    assert_eq!(rig.call(Syscall::ThreadSuspend, &[1]), Got::Blocked);
    assert_eq!(rig.pick(), Some(0));
    start(&mut rig);
    open(&mut rig).value();
    rig.audit();
    assert_eq!(rig.call(Syscall::TaskExit, &[1]), Got::Blocked);
    turn(&mut rig, HOLD_NS, stranger);
    open(&mut rig).value();
    rig.audit();
}

#[test]
fn an_address_is_kept_for_the_next_server() {
    let (mut rig, _, stranger) = rig(true, Path::Window);
    let device = open(&mut rig).value();
    assert_eq!(claim(&mut rig, device), Got::Value(0));
    assert_eq!(claim(&mut rig, device), Got::Value(0), "once more is no more");
    assert_eq!(rig.call(Syscall::TaskExit, &[1]), Got::Blocked);
    turn(&mut rig, 10, stranger);
    let window = open(&mut rig).value();
    assert_eq!(rig.m.net.as_ref().unwrap().windows_open[..2], [false, true], "the other window");
    assert_eq!(claim(&mut rig, window), Got::Error(Error::Exists));
    assert_eq!(rig.call(Syscall::ThreadSuspend, &[1]), Got::Blocked);
    assert_eq!(rig.pick(), Some(0));
    start(&mut rig);
    let device = open(&mut rig).value();
    assert_eq!(rig.m.net.as_ref().unwrap().windows_open[..2], [true, true], "its own window");
    assert_eq!(claim(&mut rig, device), Got::Value(0));
    // What it gives up itself is kept for nobody, and what it has at its end not for ever.
    assert_eq!(rig.call(Syscall::DeviceClaim, &[device, 0, 0, 0]), Got::Value(0));
    rig.m.net.as_mut().unwrap().claimed.clear();
    assert_eq!(rig.call(Syscall::TaskExit, &[1]), Got::Blocked);
    turn(&mut rig, 10, stranger);
    assert_eq!(claim(&mut rig, window), Got::Value(0));
    rig.audit();
}

#[test]
fn an_address_is_kept_for_a_while() {
    let (mut rig, _, stranger) = rig(true, Path::Window);
    let device = open(&mut rig).value();
    assert_eq!(claim(&mut rig, device), Got::Value(0));
    rig.m.net.as_mut().unwrap().claimed.clear();
    assert_eq!(rig.call(Syscall::TaskExit, &[1]), Got::Blocked);
    turn(&mut rig, HOLD_NS / 2, stranger);
    let window = open(&mut rig).value();
    assert_eq!(claim(&mut rig, window), Got::Error(Error::Exists));
    assert_eq!(rig.call(Syscall::ThreadSuspend, &[1]), Got::Blocked);
    turn(&mut rig, HOLD_NS / 2, stranger);
    assert_eq!(claim(&mut rig, window), Got::Value(0));
    rig.audit();
}

#[test]
fn an_opener_s_place_is_kept_for_the_next_server() {
    let (mut rig, _, stranger) = rig(false, Path::Ipc);
    open(&mut rig).value();
    assert_eq!(rig.call(Syscall::TaskExit, &[1]), Got::Blocked);
    turn(&mut rig, 10, stranger);
    for _ in 1..OPENERS {
        open(&mut rig).value();
    }
    assert_eq!(open(&mut rig), Got::Error(Error::NoResources), "the last place is kept");
    assert_eq!(rig.call(Syscall::ThreadSuspend, &[1]), Got::Blocked);
    assert_eq!(rig.pick(), Some(0));
    start(&mut rig);
    open(&mut rig).value();
    rig.audit();
}

#[test]
fn nothing_is_kept_for_a_creator_that_has_ended() {
    let (mut rig, _, stranger) = rig(false, Path::Window);
    assert_eq!(rig.call(Syscall::TaskExit, &[1]), Got::Blocked);
    turn(&mut rig, 10, stranger);
    open(&mut rig).value();
    assert_eq!(rig.call(Syscall::TaskExit, &[1]), Got::Blocked);
    assert_eq!(rig.pick(), Some(0));
    let server = start(&mut rig);
    assert_eq!(open(&mut rig), Got::Error(Error::Exists), "kept for the shell's");
    let shell = rig.kernel.tasks.iter().position(|task| task.name() == b"b").unwrap();
    rig.kernel.end_task(&mut rig.m, shell as u16, 0);
    assert_eq!(rig.kernel.current, Some(server));
    open(&mut rig).value();
    rig.audit();
}
