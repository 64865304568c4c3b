//! Random sequences of everything, with the books recounted as they go.

use abi::message::Disposition;
use abi::syscall::Syscall;

use super::fake::{DATA, Letter, RECEIVE_AT, Rig, TEXT};
use crate::machine::{Fault, NetEvent};

/// Marsaglia's xorshift.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn name(&mut self) -> u64 {
        self.below(24)
    }

    fn limit(&mut self) -> u64 {
        [0, 0, 500, 5000, u64::MAX][self.below(5) as usize]
    }

    /// A value that some argument could be.
    fn word(&mut self) -> u64 {
        match self.below(8) {
            0 => self.next(),
            1 => DATA + self.below(0x3000),
            2 => abi::vm::MAP_BASE + 4096 * self.below(40),
            3 => 4096 * self.below(20),
            4 => self.below(8),
            _ => self.name(),
        }
    }
}

fn random_letter(random: &mut Random) -> Letter {
    let disposition = |random: &mut Random| random.below(Disposition::ALL.len() as u64) as u32;
    let mut letter = Letter::to(random.name(), random.below(1000) as u32);
    if random.below(2) == 0 {
        letter.reply = (random.name(), disposition(random));
    }
    if random.below(2) == 0 {
        letter.carried = (random.name(), disposition(random));
    }
    letter
}

fn step(rig: &mut Rig, random: &mut Random) {
    if (rig.must_pick || rig.kernel.must_pick()) && rig.pick().is_none() {
        rig.m.now += 1000;
        rig.m.typed.push(b'x');
        rig.kernel.console_input(&mut rig.m);
        rig.kernel.net_event(&mut rig.m, NetEvent { resume: true, violation: None });
        rig.kernel.tick(&mut rig.m);
        return;
    }
    match random.below(32) {
        0 => {
            rig.m.now += random.below(2000);
            rig.kernel.tick(&mut rig.m);
        }
        1 | 2 => {
            rig.pick();
        }
        3 => {
            let name = ["a", "b", "bad", "net0"][random.below(4) as usize];
            let (priority, bootstrap) = (3 + random.below(4), random.name());
            rig.spawn(name, "-x", priority, bootstrap);
        }
        4..12 => {
            let (letter, limit) = (random_letter(random), random.limit());
            // The task may have unmapped its data by now.
            let space = rig.kernel.tasks[usize::from(rig.kernel.current_task)].tables();
            let at = DATA + 0x1000;
            let _ = crate::user::copy_out(&mut rig.m, space, at, &letter.bytes());
            rig.call(Syscall::MessageSend, &[at, limit]);
        }
        12..16 => {
            let (port, limit) = (random.name(), random.limit());
            rig.call(Syscall::MessageReceive, &[port, RECEIVE_AT, limit]);
        }
        16 => {
            let space = rig.kernel.tasks[usize::from(rig.kernel.current_task)].tables();
            let _ = crate::user::copy_out(&mut rig.m, space, DATA, b"net0");
            rig.call(Syscall::DeviceOpen, &[DATA, 4]);
        }
        17 if random.below(8) == 0 => {
            let fault = Fault { what: "page fault", address: None, pc: 0, sp: 0, code: 0 };
            if rig.kernel.current_task != 0 {
                rig.kernel.user_fault(&mut rig.m, &fault);
            }
        }
        18 => {
            let event = NetEvent {
                resume: true,
                violation: (random.below(50) == 0 && rig.kernel.device.owner != Some(0))
                    .then_some(shmqueue::PeerMisbehaviour::NotEmpty),
            };
            rig.kernel.net_event(&mut rig.m, event);
        }
        19 => {
            rig.call(Syscall::ThreadCreate, &[TEXT, DATA + 0x1000, 0, random.below(8)]);
        }
        20..23 => {
            rig.call(Syscall::PortAllocate, &[]);
        }
        23 => {
            let (port, notify) = (random.name(), random.name());
            rig.call(Syscall::PortNotifyDead, &[port, notify]);
        }
        _ => {
            let call = Syscall::ALL[random.below(Syscall::ALL.len() as u64) as usize];
            let args: [u64; 6] = core::array::from_fn(|_| random.word());
            let ends = matches!(call, Syscall::TaskExit | Syscall::TaskTerminate | Syscall::ThreadExit);
            if (rig.kernel.current_task == 0 && ends) || (call == Syscall::ThreadSuspend && args[0] > 10_000)
            {
                return;
            }
            if call == Syscall::TaskTerminate && random.below(4) != 0 {
                return;
            }
            rig.raw_call(call.raw().into(), args);
        }
    }
}

#[test]
fn the_books_balance_after_any_sequence() {
    let mut total = 0;
    for seed in 1..=12u64 {
        let mut rig = Rig::new();
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        for count in 0..6000 {
            step(&mut rig, &mut random);
            if count % 8 == 0 {
                rig.audit();
            }
            if rig.m.off.is_some() {
                break;
            }
            total += 1;
        }
        rig.audit();
        // Whatever it came to: when all tasks end, everything comes back.
        for task in 0..crate::task::TASKS as u16 {
            if rig.kernel.tasks[usize::from(task)].id != 0 {
                rig.kernel.end_task(&mut rig.m, task, 0);
                rig.audit();
            }
        }
        assert_eq!(rig.kernel.frames().free_count(), rig.frames_at_boot - 1, "all but the information page");
        let left = rig.kernel.ports.table.iter().filter(|port| port.references > 0).count();
        assert_eq!(left, 1, "the host port");
        assert_eq!(rig.m.tables, 0);
    }
    assert!(total > 40_000, "most sequences ran to their end: {total}");
}
