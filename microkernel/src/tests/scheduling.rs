//! Who runs when: the idle protocol, priorities, quanta, limits.

use abi::Error;
use abi::counters::Counter;
use abi::port::THREAD_SELF;
use abi::syscall::{FOREVER, Syscall};
use abi::thread::{WAKE_RESUMED, WAKE_TIMEOUT};

use super::rig::{DATA, DATA_BYTES, Got, Letter, Rig, TEXT};
use crate::machine::NetEvent;

impl Rig {
    fn thread(&mut self, priority: u64) -> (u64, u16) {
        let name = self.call(Syscall::ThreadCreate, &[TEXT, DATA + DATA_BYTES, 0, priority]).value();
        let port = match self.kernel.tasks[0].names.get(name as u32) {
            Ok(crate::names::Right::Send(port)) => port,
            other => panic!("{other:?}"),
        };
        let crate::port::Kind::Thread(thread) = self.kernel.ports.kind(port) else { panic!("no thread") };
        (name, thread)
    }

    fn set_priority(&mut self, name: u64, priority: u64) {
        assert_eq!(self.call(Syscall::ThreadSetPriority, &[name, priority]), Got::Value(0));
    }
}

const SELF: u64 = THREAD_SELF as u64;

#[test]
fn a_resume_before_the_suspend_is_not_lost_and_many_do_not_pile_up() {
    let mut rig = Rig::new();
    for _ in 0..1000 {
        assert_eq!(rig.call(Syscall::ThreadResume, &[SELF]), Got::Value(0));
    }
    assert_eq!(rig.call(Syscall::ThreadSuspend, &[FOREVER]), Got::Value(WAKE_RESUMED));
    assert_eq!(rig.call(Syscall::ThreadSuspend, &[0]), Got::Value(WAKE_TIMEOUT));
    assert_eq!(rig.call(Syscall::ThreadSuspend, &[FOREVER]), Got::Blocked);
    assert_eq!(rig.pick(), None);
    assert_eq!(rig.kernel.counters[Counter::ResumesByTask as usize], 0, "none of them woke anybody");
    rig.audit();
}

#[test]
fn a_resume_by_a_task_does_not_preempt_it_even_for_a_higher_priority() {
    let mut rig = Rig::new();
    rig.set_priority(SELF, 3);
    let me = rig.current();
    let (name, server) = rig.thread(5);
    rig.kernel.tick(&mut rig.m);
    assert_eq!(rig.pick(), Some(server));
    assert_eq!(rig.call(Syscall::ThreadSuspend, &[FOREVER]), Got::Blocked);
    assert_eq!(rig.pick(), Some(me));
    assert_eq!(rig.call(Syscall::ThreadResume, &[name]), Got::Value(0));
    assert_eq!(rig.kernel.counters[Counter::ResumesByTask as usize], 1);
    assert!(!rig.kernel.must_pick());
    rig.audit();
    rig.kernel.tick(&mut rig.m);
    assert!(rig.kernel.must_pick(), "but the next tick turns to it");
    assert_eq!(rig.pick(), Some(server));
    assert_eq!(rig.result(server), Some(Got::Value(WAKE_RESUMED)));
    assert_eq!(rig.call(Syscall::ThreadSuspend, &[FOREVER]), Got::Blocked);
    assert_eq!(rig.pick(), Some(me), "and the preempted one goes on");
}

#[test]
fn a_device_event_preempts_at_once_and_only_for_a_higher_priority() {
    for (mine, preempted) in [(3, true), (5, false), (6, false)] {
        let mut rig = Rig::new();
        rig.poke(DATA, b"net0");
        let device = rig.call(Syscall::DeviceOpen, &[DATA, 4]).value();
        let (name, server) = rig.thread(5);
        assert_eq!(rig.call(Syscall::DeviceBindThread, &[device, name]), Got::Value(0));
        rig.set_priority(SELF, 0);
        rig.kernel.tick(&mut rig.m);
        assert_eq!(rig.pick(), Some(server));
        assert_eq!(rig.call(Syscall::ThreadSuspend, &[FOREVER]), Got::Blocked);
        rig.pick();
        rig.set_priority(SELF, mine);
        rig.kernel.net_event(&mut rig.m, NetEvent { resume: 1, ..NetEvent::default() });
        assert_eq!(rig.kernel.must_pick(), preempted, "priority {mine}");
        assert_eq!(rig.result(server), Some(Got::Value(WAKE_RESUMED)));
        rig.audit();
    }
}

#[test]
fn equals_take_turns_of_ten_ticks() {
    let mut rig = Rig::new();
    let first = rig.current();
    let (_, second) = rig.thread(5);
    for turn in 0..6 {
        for tick in 0..10 {
            assert!(!rig.kernel.must_pick(), "turn {turn}, tick {tick}");
            rig.kernel.tick(&mut rig.m);
        }
        assert!(rig.kernel.must_pick());
        let expected = if turn % 2 == 0 { second } else { first };
        assert_eq!(rig.pick(), Some(expected));
    }
    assert_eq!(rig.call(Syscall::ThreadYield, &[]), Got::Blocked);
    assert_eq!(rig.pick(), Some(second));
    assert_eq!(rig.call(Syscall::ThreadSuspend, &[FOREVER]), Got::Blocked);
    rig.pick();
    assert_eq!(rig.call(Syscall::ThreadYield, &[]), Got::Value(0), "alone, it goes on");
}

#[test]
fn a_thread_preempted_in_its_turn_keeps_the_rest_of_it() {
    let mut rig = Rig::new();
    let first = rig.current();
    let (_, second) = rig.thread(5);
    (0..4).for_each(|_| rig.kernel.tick(&mut rig.m));
    let (_, urgent) = rig.thread(7);
    rig.kernel.tick(&mut rig.m);
    assert_eq!(rig.pick(), Some(urgent));
    rig.call(Syscall::ThreadExit, &[]);
    assert_eq!(rig.pick(), Some(first));
    (0..5).for_each(|_| rig.kernel.tick(&mut rig.m));
    assert_eq!(rig.pick(), Some(second));
    rig.audit();
}

#[test]
fn limits_pass_in_their_order() {
    let mut rig = Rig::new();
    let me = rig.current();
    let (_, other) = rig.thread(5);
    assert_eq!(rig.call(Syscall::ThreadSuspend, &[5000]), Got::Blocked);
    assert_eq!(rig.pick(), Some(other));
    let port = rig.call(Syscall::PortAllocate, &[]).value();
    assert_eq!(rig.receive(port, 2000), Got::Blocked);
    assert_eq!(rig.pick(), None);
    for (now, thread, expected) in [
        (2999, other, None),
        (3000, other, Some(Got::Error(Error::TimedOut))),
        (5999, me, None),
        (u64::MAX, me, Some(Got::Value(WAKE_TIMEOUT))),
    ] {
        rig.m.now = now;
        rig.kernel.tick(&mut rig.m);
        assert_eq!(rig.result(thread), expected, "at {now}");
        rig.audit();
    }
    assert_eq!(rig.pick(), Some(other));
    assert_eq!(rig.call(Syscall::ThreadSuspend, &[FOREVER - 1]), Got::Blocked, "a limit that would wrap");
    rig.audit();
}

#[test]
fn typed_bytes_go_to_who_asked_first() {
    let mut rig = Rig::new();
    let me = rig.current();
    let (_, other) = rig.thread(5);
    assert_eq!(rig.call(Syscall::ConsoleRead, &[DATA, 3, 0]), Got::Error(Error::WouldBlock));
    assert_eq!(rig.call(Syscall::ConsoleRead, &[DATA, 3, FOREVER]), Got::Blocked);
    assert_eq!(rig.pick(), Some(other));
    assert_eq!(rig.call(Syscall::ConsoleRead, &[DATA + 8, 3, FOREVER]), Got::Blocked);
    assert_eq!(rig.pick(), None);
    rig.m.typed.extend(b"hello");
    rig.kernel.console_input(&mut rig.m);
    assert_eq!(rig.result(me), Some(Got::Value(3)));
    assert_eq!(rig.result(other), Some(Got::Value(2)));
    rig.pick();
    assert_eq!(rig.peek(DATA, 3), b"hel");
    assert_eq!(rig.peek(DATA + 8, 2), b"lo");
    rig.m.typed.extend(b"xy");
    rig.kernel.console_input(&mut rig.m);
    assert_eq!(rig.call(Syscall::ConsoleRead, &[DATA, 100, 0]), Got::Value(2));
    rig.audit();
}

#[test]
fn switches_are_counted_only_when_they_happen() {
    let mut rig = Rig::new();
    rig.spawn("a", "", 5, 0).value();
    let counts = |rig: &Rig| {
        (
            rig.kernel.counters[Counter::Switches as usize],
            rig.kernel.counters[Counter::ThreadSwitches as usize],
        )
    };
    assert_eq!(counts(&rig), (1, 1));
    rig.pick();
    assert_eq!(counts(&rig), (1, 1), "picked again");
    rig.call(Syscall::ThreadSuspend, &[1000]);
    rig.pick();
    assert_eq!(counts(&rig), (2, 2));
    rig.call(Syscall::ThreadSuspend, &[FOREVER]);
    assert_eq!(rig.pick(), None);
    rig.m.now += 10_000;
    rig.kernel.tick(&mut rig.m);
    rig.pick();
    assert_eq!(counts(&rig), (3, 3));
}

#[test]
fn tasks_pay_for_their_time_and_not_for_idling() {
    let mut rig = Rig::new();
    rig.m.now += 500;
    rig.call(Syscall::ThreadSuspend, &[1000]);
    assert_eq!(rig.pick(), None);
    rig.m.now += 5000;
    rig.kernel.tick(&mut rig.m);
    rig.pick();
    rig.m.now += 7;
    rig.pick();
    assert_eq!(rig.kernel.tasks[0].cpu_ns, 507);
}

/// A task gets a priority from who makes it. It and what it makes go no higher, and it has no say about others' threads, also where it
/// holds a right to resume one.
#[test]
fn no_task_runs_above_what_it_was_given() {
    let mut rig = Rig::new();
    let mine = rig.call(Syscall::PortAllocate, &[]).value();
    rig.spawn("a", "", 3, mine).value();
    // It gets a right to the first task's thread, as a server's client does.
    let given = rig.kernel.retain(crate::names::Right::Send(rig.kernel.threads[0].port));
    assert_eq!(given, Ok(()));
    let port = rig.kernel.threads[0].port;
    let server = rig.kernel.insert_right(1, crate::names::Right::Send(port)).unwrap();
    rig.call(Syscall::ThreadSuspend, &[1 << 40]);
    assert_eq!(rig.pick(), Some(1));
    for priority in [4, 5, 7] {
        assert_eq!(rig.call(Syscall::ThreadSetPriority, &[SELF, priority]), Got::Error(Error::Denied));
        let thread = rig.call(Syscall::ThreadCreate, &[TEXT, DATA + DATA_BYTES, 0, priority]);
        assert_eq!(thread, Got::Error(Error::Denied));
        assert_eq!(rig.spawn("a", "", priority, 0), Got::Error(Error::Denied));
    }
    rig.set_priority(SELF, 1);
    rig.set_priority(SELF, 3);
    for priority in [0, 3] {
        let refused = rig.call(Syscall::ThreadSetPriority, &[server.into(), priority]);
        assert_eq!(refused, Got::Error(Error::Denied), "another task's thread");
    }
    assert_eq!(rig.call(Syscall::ThreadResume, &[server.into()]), Got::Value(0));
    // A child of its own is bound as well, at whatever it was made with.
    rig.spawn("a", "", 2, 0).value();
    assert_eq!(rig.kernel.tasks[2].ceiling, 2);
    rig.audit();
}

#[test]
fn a_server_that_always_has_work_leaves_the_applications_a_part_of_the_time() {
    let mut rig = Rig::new();
    rig.set_priority(SELF, 3);
    let me = rig.current();
    let (_, server) = rig.thread(5);
    let mut ticks = [0, 0];
    for _ in 0..1000 {
        rig.kernel.tick(&mut rig.m);
        if rig.kernel.must_pick() {
            rig.pick();
        }
        let runs = rig.current();
        assert!(runs == me || runs == server);
        ticks[usize::from(runs == me)] += 1;
        // An interrupt in the applications' time does not end it.
        rig.kernel.net_event(&mut rig.m, NetEvent { resume: 1, ..NetEvent::default() });
    }
    assert!((200..=300).contains(&ticks[1]), "the application had {} of 1000 ticks", ticks[1]);
    rig.audit();
}

#[test]
fn who_is_relieved_goes_on_when_the_server_has_answered() {
    let mut rig = Rig::new();
    rig.set_priority(SELF, 3);
    let me = rig.current();
    let port = rig.call(Syscall::PortAllocate, &[]).value();
    let answer = Letter::to(rig.call(Syscall::PortMakeSend, &[port]).value(), 1);
    let (_, server) = rig.thread(5);
    rig.kernel.tick(&mut rig.m);
    assert_eq!(rig.pick(), Some(server));
    while !rig.kernel.must_pick() {
        rig.kernel.tick(&mut rig.m);
    }
    assert_eq!(rig.pick(), Some(me));
    for _ in 0..3 {
        assert_eq!(rig.receive(port, FOREVER), Got::Blocked);
        assert_eq!(rig.pick(), Some(server));
        assert_eq!(rig.send(&answer, 0), Got::Value(0));
        assert!(rig.kernel.must_pick(), "it is still the application's tick");
        assert_eq!(rig.pick(), Some(me));
    }
    assert_eq!(rig.receive(port, FOREVER), Got::Blocked);
    assert_eq!(rig.pick(), Some(server));
    rig.kernel.tick(&mut rig.m);
    assert_eq!(rig.send(&answer, 0), Got::Value(0));
    assert!(!rig.kernel.must_pick(), "the tick is over");
    rig.audit();
}

#[test]
fn who_is_relieved_gives_the_rest_back_by_waiting() {
    let mut rig = Rig::new();
    rig.set_priority(SELF, 3);
    let me = rig.current();
    let (_, server) = rig.thread(5);
    rig.kernel.tick(&mut rig.m);
    assert_eq!(rig.pick(), Some(server));
    let tick_of_relief = (1..20).find(|_| {
        rig.kernel.tick(&mut rig.m);
        rig.kernel.must_pick()
    });
    assert_eq!(tick_of_relief, Some(3));
    assert_eq!(rig.pick(), Some(me));
    assert_eq!(rig.call(Syscall::ThreadSuspend, &[FOREVER]), Got::Blocked);
    assert_eq!(rig.pick(), Some(server));
    for _ in 0..20 {
        rig.kernel.tick(&mut rig.m);
        assert!(!rig.kernel.must_pick(), "nobody is kept waiting");
    }
}
