//! A campaign: words of every shape in every place, forged frames, calls with any argument, floods of ports and events, from one seed.

use core::time::Duration;

use abi::{
    message::{DATA_MAX, Message},
    path::Path,
    port::{TASK_SELF, THREAD_SELF},
    syscall::Syscall,
    thread::PRIORITY_APPLICATION,
    vm::{PAGE_BYTES, PROT_READ, PROT_WRITE},
    window::{M_WANT_AT, MBUF_BYTES},
};
use alloc::vec::Vec;
use apps::{During, Failed};
use userlib::{
    info,
    memory::Mapping,
    port::{ReceiveRight, SendRight},
    thread, time,
};

use crate::{Stretch, call, window::Window};

/// Of the processor's time a campaign takes one part in so many.
const SHARE: u64 = 16;
/// Operations between two looks at the clock.
const BURST: u64 = 32;
const STACK: usize = 16 * 1024;

/// Marsaglia's xorshift64 ("Xorshift RNGs", 2003).
pub struct Random(u64);

impl Random {
    /// From any seed, also 0 and its neighbours.
    pub const fn new(seed: u64) -> Self {
        let mixed = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self((mixed ^ mixed >> 31) | 1)
    }

    const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 8) % limit
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

/// Runs a campaign to its end, which is seldom reached.
pub fn campaign(seed: u64, operations: u64, stretch: Stretch) -> Result<(), Failed> {
    stretch.wait();
    let mut liar = Liar::new(seed)?;
    let mut left = operations;
    while left > 0 {
        stretch.wait();
        let start = time::now_ns();
        for _ in 0..BURST.min(left) {
            liar.step();
        }
        left -= BURST.min(left);
        let pause = (time::now_ns() - start).saturating_mul(SHARE - 1).clamp(1_000_000, 1_000_000_000);
        thread::sleep(Duration::from_nanos(pause));
    }
    Ok(())
}

struct Liar {
    random: Random,
    window: Option<&'static Window>,
    /// On the path by message.
    device: Option<u64>,
    /// Memory that a call may spoil.
    scratch: Mapping,
    ports: Vec<(ReceiveRight, Option<SendRight>)>,
    /// How wild it is: of so many operations one is a call with any argument.
    wild: u64,
}

impl Liar {
    fn new(seed: u64) -> Result<Self, Failed> {
        let mut random = Random::new(seed);
        let scratch = Mapping::allocate(4 * PAGE_BYTES as usize).during("memory")?;
        let wild = 1 << random.below(8);
        let (mut window, mut device) = (None, None);
        if info::path() == Path::Ipc {
            let name = b"net0";
            let at = [name.as_ptr() as u64, name.len() as u64, 0, 0, 0, 0];
            device = Some(call(Syscall::DeviceOpen.raw().into(), at).1);
        } else {
            let open: &'static Window =
                alloc::boxed::Box::leak(alloc::boxed::Box::new(Window::open().during("net0")?));
            window = Some(open);
            if random.below(2) == 0 {
                thread::spawn(
                    scribbler,
                    core::ptr::from_ref(open).expose_provenance() as u64,
                    STACK,
                    PRIORITY_APPLICATION,
                )
                .during("thread")?;
            }
        }
        Ok(Self { random, window, device, scratch, ports: Vec::new(), wild })
    }

    fn step(&mut self) {
        if self.random.below(self.wild) == 0 {
            return self.any_call();
        }
        match (self.window, self.random.below(8)) {
            (_, 0) => self.flood(),
            (None, _) => self.frames_and_filters(),
            (Some(window), 1 | 2) => window.start(),
            (Some(window), 3 | 4) => {
                forge(window, &mut self.random);
                window.start();
            }
            (Some(window), 5) => behave(window, &mut self.random),
            (Some(window), _) => scribble(window, &mut self.random),
        }
    }

    /// Ports, messages, rights and events, as many as it gets.
    fn flood(&mut self) {
        match self.random.below(6) {
            0 => {
                while let Ok(port) = ReceiveRight::allocate() {
                    let send = port.make_send().ok();
                    self.ports.push((port, send));
                }
            }
            1 => self.ports.clear(),
            2 => {
                let message = self.message();
                for _ in 0..64 {
                    call(Syscall::MessageSend.raw().into(), [message, 0, 0, 0, 0, 0]);
                }
            }
            3 => (0..500).for_each(|_| {
                call(Syscall::ThreadResume.raw().into(), [THREAD_SELF.into(), 0, 0, 0, 0, 0]);
            }),
            4 => {
                // More memory than there is, and back.
                let (status, address) = call(
                    Syscall::VmAllocate.raw().into(),
                    [PAGE_BYTES << self.random.below(8), PROT_READ | PROT_WRITE, 0, 0, 0, 0],
                );
                if status == 0 {
                    call(Syscall::VmDeallocate.raw().into(), [address, PAGE_BYTES, 0, 0, 0, 0]);
                }
            }
            _ => {
                if let Some((port, Some(send))) = self.ports.first() {
                    let _ = send.notify_dead(port);
                }
            }
        }
    }

    /// A message of noise in the scratch memory, to one of its own ports or to the name service; its address.
    fn message(&mut self) -> u64 {
        let to = match self.ports.last() {
            Some((_, Some(send))) if self.random.below(4) != 0 => send.name(),
            _ => abi::port::BOOTSTRAP,
        };
        let at = self.scratch.base().cast::<u32>();
        for n in 0..size_of::<Message>() / 4 {
            let word = if self.random.below(2) == 0 { 0 } else { self.random.below(300) as u32 };
            // SAFETY: inside the scratch memory, of which there are no references.
            unsafe { at.add(n).write_volatile(word) };
        }
        let destination = core::mem::offset_of!(Message, destination) / 4;
        // SAFETY: as above.
        unsafe { at.add(destination).write_volatile(to) };
        self.scratch.address()
    }

    /// Any call with any argument, but for those that would only end it, or take what is typed.
    fn any_call(&mut self) {
        let known = self.random.below(8) != 0;
        let number = if known { self.random.one_of(Syscall::ALL).raw().into() } else { self.random.next() };
        let mut arguments = [0; 6].map(|_: u64| self.argument());
        match u32::try_from(number).ok().and_then(Syscall::from_raw) {
            Some(Syscall::TaskExit | Syscall::ThreadExit | Syscall::TaskTerminate)
                if self.random.below(64) != 0 =>
            {
                return;
            }
            Some(Syscall::ThreadCreate | Syscall::VmDeallocate) if self.random.below(16) != 0 => return,
            Some(Syscall::ConsoleWrite) => arguments[1] |= 1 << 20, // nothing shows
            Some(Syscall::ConsoleRead) => return,
            Some(Syscall::ThreadSuspend) => arguments[0] %= 1_000_000,
            Some(Syscall::MessageSend) => arguments[1] = 0,
            Some(Syscall::MessageReceive | Syscall::MessageCall) => (arguments[2], arguments[3]) = (0, 0),
            Some(Syscall::VmAllocate | Syscall::MemoryObjectCreate) => arguments[0] %= 1 << 18,
            _ => {}
        }
        call(number, arguments);
    }

    fn argument(&mut self) -> u64 {
        let base = self.scratch.address();
        match self.random.below(12) {
            0 => self.random.next(),
            1 => self.random.below(1 << 16),
            2..=4 => self.random.below(24),
            5 => self.random.one_of(&[
                u64::MAX,
                1 << 63,
                1 << 32,
                0xffff_ffff,
                u64::MAX - 4095,
                0xffff_ffff_8000_0000,
            ]),
            6 => u64::from(self.random.one_of(&[TASK_SELF, THREAD_SELF])),
            7 => self.window.map_or(0x40_0000, |window| core::ptr::from_ref(window.word(0)).addr() as u64),
            8 => base + self.random.below(4 * PAGE_BYTES),
            9 => base + 4 * PAGE_BYTES - self.random.below(64),
            10 => 0,
            _ => base,
        }
    }

    /// On the path by message: filters of noise, frames of any length from anywhere.
    fn frames_and_filters(&mut self) {
        let Some(name) = self.device else { return };
        let (address, bytes) = (self.scratch.address(), self.random.below(2 * DATA_MAX as u64));
        match self.random.below(6) {
            0 => {
                // Everything, to a port that nobody receives from; or nonsense.
                let words = self.random.below(70);
                let at = self.scratch.base().cast::<u16>();
                for n in 0..words as usize {
                    let word = if self.random.below(3) == 0 {
                        self.random.next() as u16
                    } else {
                        self.random.below(64) as u16
                    };
                    // SAFETY: inside the scratch memory, of which there are no references.
                    unsafe { at.add(n).write_volatile(word) };
                }
                if self.ports.is_empty()
                    && let Ok(port) = ReceiveRight::allocate()
                {
                    let send = port.make_send().ok();
                    self.ports.push((port, send));
                }
                let port = self.ports.first().map_or(0, |(port, _)| u64::from(port.name()));
                let priority = self.random.below(300);
                call(Syscall::DeviceSetFilter.raw().into(), [name, port, priority, address, words, 0]);
            }
            1 => {
                let wild = self.argument();
                call(Syscall::DeviceWrite.raw().into(), [name, wild, bytes, 0, 0, 0]);
            }
            2 => {
                let checksum = self.random.next() >> self.random.below(64);
                call(Syscall::DeviceWrite.raw().into(), [name, address, bytes, checksum, 0, 0]);
            }
            3 => {
                let (_, page) =
                    call(Syscall::VmAllocate.raw().into(), [PAGE_BYTES, PROT_READ | PROT_WRITE, 0, 0, 0, 0]);
                call(Syscall::DeviceWritePage.raw().into(), [name, page, bytes, 0, 0, 0]);
            }
            4 => {
                let port = self.ports.first().map_or(0, |(port, _)| u64::from(port.name()));
                for _ in 0..64 {
                    call(Syscall::MessageReceive.raw().into(), [port, address, 0, 0, 0, 0]);
                }
            }
            _ => {
                call(Syscall::DeviceWrite.raw().into(), [name, address, 60 + bytes % 1400, 0, 0, 0]);
            }
        }
    }
}

/// Another thread, which writes while the first one traps.
extern "C" fn scribbler(window: u64) -> ! {
    // SAFETY: the window was leaked, and is shared for reading; what is written are atomics.
    let window = unsafe { &*core::ptr::with_exposed_provenance::<Window>(window as usize) };
    let mut random = Random::new(window as *const Window as u64 ^ time::now_ns());
    loop {
        (0..20).for_each(|_| scribble(window, &mut random));
        thread::sleep(Duration::from_millis(3));
    }
}

/// A value that comes far.
fn invent(window: &Window, random: &mut Random) -> u32 {
    match random.below(10) {
        0 => random.next() as u32,
        1 => random.below(3) as u32,
        2 => random.one_of(&[u32::MAX, 1 << 31, window.layout.bytes, window.layout.mbufs_at, 1514]),
        3 => window.mbuf(random.next() as u32) + 4 * random.below(32) as u32,
        4 => 1 << random.below(32),
        5 => 1 << 31 | random.below(u64::from(window.layout.config.clusters()) + 2) as u32,
        6 | 7 => window.mbuf(random.next() as u32),
        _ => window.cluster(random.next() as u32),
    }
}

/// Changes a word where words matter.
fn scribble(window: &Window, random: &mut Random) {
    let layout = &window.layout;
    let block = layout.config.queue.block_bytes();
    let (start, end) = match random.below(8) {
        0 | 1 => {
            let queue = 4096 + random.below(6) as u32 * block;
            (queue, queue + block.min(640))
        }
        2 => (layout.pools_at, layout.references_at),
        3 => (layout.references_at, layout.mbufs_at),
        4 => (M_WANT_AT, M_WANT_AT + 64),
        5 => (0, layout.bytes),
        _ => {
            let mbuf = window.mbuf(random.next() as u32);
            (mbuf, mbuf + 48)
        }
    };
    window.set(start + 4 * random.below(u64::from((end - start) / 4)) as u32, invent(window, random));
}

/// Frames that nobody has allocated.
fn forge(window: &Window, random: &mut Random) {
    let many = 1 + if random.below(3) == 0 { random.below(20) } else { 0 } as u32;
    let first = random.next() as u32;
    for n in 0..many {
        let at = window.mbuf(first.wrapping_add(n));
        let len = if random.below(16) == 0 { invent(window, random) } else { random.below(1600) as u32 };
        if random.below(3) == 0 {
            window.small(at, len % 90);
        } else {
            window.large(at, window.cluster(random.next() as u32), len);
        }
        if n + 1 < many {
            window.set(at, window.mbuf(first.wrapping_add(n + 1)));
        }
        if random.below(4) == 0 {
            let field = 4 * random.below(u64::from(MBUF_BYTES / 4)) as u32;
            window.set(at + field, invent(window, random));
        }
    }
    window.put(window.mbuf(first));
}

/// A frame as it should be, of a buffer that is likely to be free, so that a campaign lives.
fn behave(window: &Window, random: &mut Random) {
    let item = window.small(window.spare(random.below(64) as u32), 60 + random.below(20) as u32);
    window.put(item);
    window.start();
}
