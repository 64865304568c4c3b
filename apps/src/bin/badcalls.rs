//! badcalls: throws nonsense at every system call, from a table with the errors that must come, and from a seeded generator.
//!
//! It lives to say how many calls it made, and nobody else notices: that is the test.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "system calls with wild arguments are what it's for")]

use core::net::SocketAddr;

use abi::{
    Error,
    path::Path,
    port::{HOST, NULL, TASK_SELF, THREAD_SELF},
    syscall::{ARGUMENTS_MAX, CONSOLE_WRITE_MAX, NAME_MAX, Syscall},
    thread::{PRIORITY_APPLICATION, PRIORITY_MAX, STACK_TOP, STATUS_KILLED},
    vm::{PAGE_BYTES, PROT_EXECUTE, PROT_READ, PROT_WRITE, USER_END},
};
use apps::{During, Failed};
use userlib::{
    entry::{Args, ExitStatus},
    info,
    memory::Mapping,
    net::UdpSocket,
    port::ReceiveRight,
    println, raw,
};

userlib::entry!(main);

/// The generator's seed: the same nonsense each time.
const SEED: u64 = 0x0bad_ca11;

/// An address in the kernel's half.
const KERNEL: u64 = 0xffff_ffff_8000_0000;
/// The lowest address that is not canonical.
const HOLE: u64 = USER_END;
/// An address that nothing is mapped at.
const UNMAPPED: u64 = 0x0000_2222_2222_0000;
/// A name that no task has.
const NOBODY: u64 = 0xdead;
/// An array that ends past the last address.
const WRAPS: u64 = u64::MAX - 7;
/// Wherever this program's text is mapped, which nobody may write.
const TEXT: u64 = 0x40_0000;

/// What must come of it.
#[derive(Clone, Copy)]
enum Must {
    /// One of these errors.
    Fail(&'static [Error]),
    /// Success.
    Work,
}

const ADDRESS: Must = Must::Fail(&[Error::BadAddress]);
const ARGUMENT: Must = Must::Fail(&[Error::BadArgument]);
const NAME: Must = Must::Fail(&[Error::BadName]);
const RIGHT: Must = Must::Fail(&[Error::BadRight]);
/// Refused, by whichever check comes first.
const RANGE: Must = Must::Fail(&[Error::BadAddress, Error::BadArgument, Error::NoResources]);
/// There is no such call on this path; or nothing that it could be about.
const NO_CALL: Must = Must::Fail(&[Error::BadCall]);
const DENIED: Must = Must::Fail(&[Error::Denied]);

fn main(mut args: Args) -> Result<ExitStatus, Failed> {
    let calls = match apps::number(args.next().unwrap_or("20000"), 0..=100_000_000) {
        Ok(calls) => calls,
        Err(usage) => return Ok(apps::misused("badcalls", &usage, "[RANDOM-CALLS]")),
    };
    // Two pages, and nothing of ours behind them.
    let scratch = Mapping::allocate(2 * PAGE_BYTES as usize).during("scratch")?;
    let port = ReceiveRight::allocate().during("port")?;
    let mut tester = Tester { scratch: scratch.address(), port: port.name().into(), calls: 0, wrong: 0 };
    tester.unknown_numbers();
    tester.addresses();
    tester.names();
    tester.numbers();
    tester.sockets().during("socket")?;
    tester.random(calls);
    if tester.wrong != 0 {
        println!("badcalls: {} calls, {} WRONG", tester.calls, tester.wrong);
        return Ok(ExitStatus(1));
    }
    println!("badcalls: {} calls, ok", tester.calls);
    Ok(ExitStatus(0))
}

struct Tester {
    /// Memory that the kernel may write.
    scratch: u64,
    /// A port that it may look for messages at.
    port: u64,
    calls: u64,
    wrong: u64,
}

impl Tester {
    fn call(&mut self, number: u64, arguments: [u64; 6]) -> u64 {
        self.calls += 1;
        // SAFETY: what these calls may write is the scratch memory, of which nobody here has a reference; a call that ended this task or
        // unmapped its memory is not among them.
        unsafe { raw::call_number(number, arguments) }.0
    }

    fn expect<const N: usize>(&mut self, call: Syscall, given: [u64; N], must: Must) {
        let mut arguments = [0; 6];
        arguments[..N].copy_from_slice(&given);
        let status = self.call(call.raw().into(), arguments);
        let right = match must {
            Must::Work => status == 0,
            Must::Fail(errors) => errors.iter().any(|error| u64::from(error.raw()) == status),
        };
        if !right {
            self.wrong += 1;
            println!("badcalls: {call:?} {given:x?}: status {status}");
        }
    }

    fn unknown_numbers(&mut self) {
        for number in (0..0x200).chain([0xffff_ffff, 0x1_0000_0000, 1 << 63, u64::MAX]) {
            if u32::try_from(number).ok().and_then(Syscall::from_raw).is_some() {
                continue;
            }
            let status = self.call(number, [WRAPS; 6]);
            if status != u64::from(Error::BadCall.raw()) {
                self.wrong += 1;
                println!("badcalls: number {number:#x}: status {status}");
            }
        }
    }

    /// Every call that reads or writes the caller's memory, at every kind of address that it must not.
    fn addresses(&mut self) {
        let end = self.scratch + 2 * PAGE_BYTES;
        for at in [0, 8, UNMAPPED, KERNEL, HOLE, HOLE - 4, WRAPS, u64::MAX, end - 4, STACK_TOP + 64] {
            self.expect(Syscall::ConsoleWrite, [at, 16], ADDRESS);
            self.expect(Syscall::ConsoleRead, [at, 16, 0], ADDRESS);
            self.expect(Syscall::TaskSpawn, [at, 16, 0, 0, 3, NULL.into()], ADDRESS);
            self.expect(Syscall::TaskSpawn, [self.scratch, 8, at, 16, 3, NULL.into()], ADDRESS);
            self.expect(Syscall::TaskInfo, [0, at], ADDRESS);
            self.expect(Syscall::MessageSend, [at, 0], ADDRESS);
            self.expect(Syscall::MessageReceive, [self.port, at, 0], ADDRESS);
            self.expect(Syscall::CountersRead, [at, 4], ADDRESS);
            self.expect(Syscall::DeviceOpen, [at, 16], ADDRESS);
        }
        // Mapped, but for reading only.
        for at in [TEXT, abi::info::ADDRESS, abi::info::ADDRESS - 8] {
            self.expect(Syscall::ConsoleRead, [at, 16, 0], ADDRESS);
            self.expect(Syscall::TaskInfo, [0, at], ADDRESS);
            self.expect(Syscall::MessageReceive, [self.port, at, 0], ADDRESS);
            self.expect(Syscall::CountersRead, [at, 4], ADDRESS);
        }
        for (entry, stack) in [
            (KERNEL, self.scratch + PAGE_BYTES),
            (HOLE, self.scratch + PAGE_BYTES),
            (u64::MAX, self.scratch + PAGE_BYTES),
            (0, self.scratch + PAGE_BYTES),
            (TEXT, KERNEL),
            (TEXT, HOLE),
            (TEXT, u64::MAX),
            (TEXT, 0),
            (TEXT, self.scratch + 9),
        ] {
            self.expect(Syscall::ThreadCreate, [entry, stack, 0, 3], RANGE);
        }
        for (at, length) in [
            (0, PAGE_BYTES),
            (self.scratch + 1, PAGE_BYTES),
            (self.scratch, 0),
            (self.scratch, 1),
            (self.scratch, u64::MAX),
            (self.scratch, u64::MAX - 4095),
            (TEXT, USER_END),
            (KERNEL, PAGE_BYTES),
            (HOLE - PAGE_BYTES, 2 * PAGE_BYTES),
            (HOLE, PAGE_BYTES),
            (u64::MAX - 4095, PAGE_BYTES),
        ] {
            self.expect(Syscall::VmDeallocate, [at, length], RANGE);
        }
    }

    /// Every call that takes a name, with names of nothing and of the wrong thing.
    fn names(&mut self) {
        for name in [0, NOBODY, 0xffff_ffff, 1 << 32, u64::MAX, u64::from(THREAD_SELF) | 1 << 40] {
            self.expect(Syscall::TaskTerminate, [name], NAME);
            self.expect(Syscall::ThreadResume, [name], NAME);
            self.expect(Syscall::ThreadSetPriority, [name, 3], NAME);
            self.expect(Syscall::PortMoveMember, [name, 0], NAME);
            self.expect(Syscall::PortDeallocate, [name], NAME);
            self.expect(Syscall::PortNotifyDead, [name, self.port], NAME);
            self.expect(Syscall::PortBindThread, [name, 0], NAME);
            self.expect(Syscall::PortMakeSend, [name], NAME);
            self.expect(Syscall::MessageReceive, [name, self.scratch, 0], NAME);
            self.expect(Syscall::VmMap, [name, 0, PAGE_BYTES, PROT_READ], NAME);
            self.expect(Syscall::MemoryObjectReadOnly, [name], NAME);
            self.expect(Syscall::DeviceMap, [name], NAME);
            self.expect(Syscall::DeviceStart, [name], NAME);
            self.expect(Syscall::DeviceInfo, [name, self.scratch], NAME);
            self.expect(Syscall::DeviceBindThread, [name, THREAD_SELF.into()], NAME);
            self.expect(Syscall::DeviceAudit, [name, self.scratch], NAME);
        }
        let (task, thread) = (u64::from(TASK_SELF), u64::from(THREAD_SELF));
        self.expect(Syscall::TaskTerminate, [thread], RIGHT);
        self.expect(Syscall::TaskTerminate, [self.port], RIGHT);
        self.expect(Syscall::ThreadResume, [task], RIGHT);
        self.expect(Syscall::ThreadResume, [self.port], RIGHT);
        self.expect(Syscall::ThreadSetPriority, [task, 3], RIGHT);
        self.expect(Syscall::PortMoveMember, [self.port, self.port], RIGHT);
        self.expect(Syscall::PortMoveMember, [self.port, thread], RIGHT);
        self.expect(Syscall::PortMakeSend, [thread], RIGHT);
        self.expect(Syscall::PortNotifyDead, [self.port, self.port], RIGHT);
        self.expect(Syscall::PortBindThread, [self.port, task], RIGHT);
        self.expect(Syscall::MessageReceive, [thread, self.scratch, 0], RIGHT);
        self.expect(Syscall::VmMap, [self.port, 0, PAGE_BYTES, PROT_READ], RIGHT);
        self.expect(Syscall::MemoryObjectReadOnly, [thread], RIGHT);
        self.expect(Syscall::DeviceMap, [thread], RIGHT);
        self.expect(Syscall::DeviceStart, [self.port], RIGHT);
        self.expect(Syscall::DeviceInfo, [task, self.scratch], RIGHT);
        self.expect(Syscall::DeviceBindThread, [self.port, thread], RIGHT);
        self.expect(Syscall::DeviceAudit, [thread, self.scratch], RIGHT);
        self.expect(Syscall::PortDeallocate, [task], DENIED);
        self.expect(Syscall::PortDeallocate, [thread], DENIED);
        for code in [0, 0x10, 0x11, u64::MAX] {
            self.expect(Syscall::PowerOff, [code], DENIED); // only the first task has `HOST`
        }
        self.expect(Syscall::PortDeallocate, [HOST.into()], NAME);
    }

    /// Lengths, protections, priorities, indices.
    fn numbers(&mut self) {
        for length in [CONSOLE_WRITE_MAX as u64 + 1, 1 << 32, 1 << 63, u64::MAX] {
            self.expect(Syscall::ConsoleWrite, [self.scratch, length], ARGUMENT);
        }
        self.expect(Syscall::ConsoleRead, [self.scratch, 0, 0], ARGUMENT);
        for length in [NAME_MAX as u64 + 1, 1 << 32, u64::MAX] {
            self.expect(Syscall::TaskSpawn, [self.scratch, length, 0, 0, 3, 0], ARGUMENT);
            self.expect(Syscall::DeviceOpen, [self.scratch, length], ARGUMENT);
        }
        for length in [ARGUMENTS_MAX as u64 + 1, 1 << 32, u64::MAX] {
            self.expect(Syscall::TaskSpawn, [self.scratch, 4, self.scratch, length, 3, 0], ARGUMENT);
        }
        for priority in [PRIORITY_MAX + 1, 255, 256, 1 << 32, u64::MAX] {
            self.expect(Syscall::TaskSpawn, [self.scratch, 4, 0, 0, priority, 0], ARGUMENT);
            self.expect(Syscall::ThreadSetPriority, [THREAD_SELF.into(), priority], ARGUMENT);
            self.expect(Syscall::ThreadCreate, [TEXT, self.scratch + PAGE_BYTES, 0, priority], ARGUMENT);
        }
        // It was given less than that.
        for priority in PRIORITY_APPLICATION + 1..=PRIORITY_MAX {
            self.expect(Syscall::TaskSpawn, [self.scratch, 4, 0, 0, priority, 0], DENIED);
            self.expect(Syscall::ThreadSetPriority, [THREAD_SELF.into(), priority], DENIED);
            self.expect(Syscall::ThreadCreate, [TEXT, self.scratch + PAGE_BYTES, 0, priority], DENIED);
        }
        for index in [64, 1 << 16, 1 << 32, u64::MAX] {
            self.expect(Syscall::TaskInfo, [index, self.scratch], ARGUMENT);
        }
        for status in [u64::from(STATUS_KILLED), 1 << 32, u64::MAX] {
            self.expect(Syscall::TaskExit, [status], ARGUMENT);
        }
        for length in [0, 1 << 40, 1 << 47, 1 << 63, u64::MAX, u64::MAX - 4095] {
            self.expect(Syscall::VmAllocate, [length, PROT_READ | PROT_WRITE], RANGE);
            self.expect(Syscall::MemoryObjectCreate, [length], RANGE);
        }
        for prot in [0, PROT_WRITE, PROT_EXECUTE, 8, 1 << 32, u64::MAX] {
            self.expect(Syscall::VmAllocate, [PAGE_BYTES, prot], ARGUMENT);
        }
        self.expect(Syscall::VmAllocate, [PAGE_BYTES, PROT_READ | PROT_WRITE | PROT_EXECUTE], DENIED);
        self.expect(Syscall::VmAllocate, [PAGE_BYTES, PROT_READ | PROT_EXECUTE], DENIED);
        self.expect(
            Syscall::DeviceOpen,
            [self.scratch, 0],
            Must::Fail(&[Error::BadArgument, Error::NotFound]),
        );
        // It goes on as if nothing had been.
        self.expect(Syscall::ThreadResume, [THREAD_SELF.into()], Must::Work);
        self.expect(Syscall::ThreadSuspend, [0], Must::Work);
        self.expect(Syscall::ConsoleWrite, [self.scratch, 0], Must::Work);
    }

    /// The calls of the stack in the kernel: there, with a socket of ours to be wrong about, and elsewhere.
    fn sockets(&mut self) -> Result<(), Error> {
        let (near, record) = (self.scratch, self.scratch + PAGE_BYTES);
        if info::path() != Path::Monolithic {
            self.expect(Syscall::SocketRequest, [near], NO_CALL);
            self.expect(Syscall::SocketWrite, [0, near, 1, 0], NO_CALL);
            self.expect(Syscall::SocketRead, [0, near, 1, record], NO_CALL);
            return Ok(());
        }
        let _socket = UdpSocket::bind(SocketAddr::from(([0, 0, 0, 0], 0)))?;
        // Ours is the one that says that a stream is not what it is.
        let mut ours = None;
        for number in 0..200 {
            let status = self.call(Syscall::SocketWrite.raw().into(), [number, near, 1, 0, 0, 0]);
            if status == u64::from(Error::BadArgument.raw()) {
                ours = Some(number);
            } else if status != u64::from(Error::BadName.raw()) {
                self.wrong += 1;
                println!("badcalls: socket {number}: status {status}");
            }
        }
        let ours = ours.ok_or(Error::NotFound)?;
        self.expect(Syscall::SocketRead, [ours, near, 1, 0], ARGUMENT);
        let end = self.scratch + 2 * PAGE_BYTES;
        for at in [8, UNMAPPED, KERNEL, HOLE, HOLE - 4, WRAPS, u64::MAX, end - 4, STACK_TOP + 64] {
            self.expect(Syscall::SocketRequest, [at], ADDRESS);
            self.expect(Syscall::SocketWrite, [ours, at, 16, 0], ADDRESS);
            self.expect(Syscall::SocketWrite, [ours, at, 16, record], ADDRESS);
            self.expect(Syscall::SocketWrite, [ours, near, 16, at], ADDRESS);
            self.expect(Syscall::SocketRead, [ours, at, 16, record], ADDRESS);
            self.expect(Syscall::SocketRead, [ours, near, 16, at], ADDRESS);
        }
        for at in [TEXT, abi::info::ADDRESS] {
            self.expect(Syscall::SocketRequest, [at], ADDRESS);
            self.expect(Syscall::SocketRead, [ours, at, 16, record], ADDRESS);
            self.expect(Syscall::SocketRead, [ours, near, 16, at], ADDRESS);
        }
        for number in [NOBODY, 0xffff_ffff, 1 << 32, u64::MAX] {
            self.expect(Syscall::SocketWrite, [number, near, 1, 0], NAME);
            self.expect(Syscall::SocketRead, [number, near, 1, record], NAME);
        }
        for length in [65_537, 1 << 32, u64::MAX] {
            self.expect(Syscall::SocketWrite, [ours, near, length, record], Must::Fail(&[Error::TooLong]));
        }
        // Nothing has come, and an empty read says so.
        self.expect(Syscall::SocketRead, [ours, near, 16, record], Must::Work);
        Ok(())
    }

    /// Calls of every kind with arguments from a pool of nonsense.
    fn random(&mut self, calls: u64) {
        let pool = [
            0,
            NOBODY,
            4,
            16,
            255,
            256,
            0xfff,
            PAGE_BYTES,
            0x1001,
            UNMAPPED,
            UNMAPPED + 1,
            KERNEL,
            HOLE,
            HOLE - 1,
            0xffff_8000_0000_0000,
            WRAPS,
            u64::MAX,
            1 << 31,
            1 << 32,
            1 << 63,
            abi::info::ADDRESS,
            TEXT,
            STACK_TOP,
            self.scratch,
            self.scratch + 1,
            self.scratch + PAGE_BYTES - 8,
            self.scratch + 2 * PAGE_BYTES - 8,
            self.port,
        ];
        let mut random = Random(SEED);
        let mut tried = 0;
        while tried < calls {
            let call = Syscall::ALL[random.below(Syscall::ALL.len())];
            let mut arguments = [0; 6].map(|_: u64| match random.below(8) {
                0 => random.next(),
                1 => random.next() & 0xffff,
                _ => pool[random.below(pool.len())],
            });
            match call {
                // Nonsense here could be sense: an end, a thread at some address, this program unmapped.
                Syscall::TaskExit | Syscall::ThreadExit | Syscall::ThreadCreate | Syscall::VmDeallocate => {
                    continue;
                }
                Syscall::TaskTerminate if arguments[0] == TASK_SELF.into() => continue,
                // Real memory, and as much of it as is asked for.
                Syscall::VmAllocate | Syscall::MemoryObjectCreate if arguments[0] < 1 << 36 => continue,
                // Names pile up by design, until there are no more.
                Syscall::PortAllocate | Syscall::PortSetAllocate | Syscall::PortMakeSend => continue,
                Syscall::PortDeallocate if arguments[0] == self.port => continue,
                Syscall::ConsoleWrite => arguments[1] |= 1 << 20, // so that nothing shows
                Syscall::ThreadSuspend => arguments[0] = 0,
                Syscall::MessageSend => arguments[1] = 0,
                Syscall::ConsoleRead | Syscall::MessageReceive => arguments[2] = 0,
                _ => {}
            }
            tried += 1;
            let _ = self.call(call.raw().into(), arguments);
        }
    }
}

/// Marsaglia's xorshift64 ("Xorshift RNGs", 2003).
struct Random(u64);

impl Random {
    const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    const fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}
