//! Two processes that share nothing but a memfd, mapped at different addresses, and two eventfds (Linux).
//!
//! ```text
//! cargo run --release --example two_processes [-- [dual|ring|both] [packets]]
//! ```
//! The driver (a child process) fills buffers and sends them by the IN queue; the server checks what came and gives the
//! buffers back by the OUT queue. Who has nothing to do declares itself idle, looks once more, and waits for its
//! eventfd. The program exits with 0 only if every byte of every packet was right, no wake-up was lost and all buffers
//! are there at the end.
//!
//! What to copy: [`Window`] (the layout: zero bytes are a fresh one), [`Mapping`] and its [`Links`] (offsets that are
//! checked before they become addresses), the driver's own record of what it has (a server that lies is an error, not
//! a fault), and [`Event`]. Both sides are generic over the kind of queue.
#![expect(unsafe_code, reason = "maps memory that another process writes")]

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("this example uses memfd and eventfd, which Linux has");
}

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    linux::main()
}

#[cfg(target_os = "linux")]
mod linux {
    use std::{
        cell::UnsafeCell,
        env,
        error::Error,
        io,
        marker::PhantomData,
        mem::offset_of,
        ops::ControlFlow,
        os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        process::{Command, ExitCode},
        ptr::{self, NonNull},
        sync::atomic::{AtomicU32, Ordering::Relaxed},
        time::Instant,
    };

    use shmqueue::{
        Drained, DualQueue, Item, Links, copy,
        queue::{self, Drain, InQueue, OutQueue, Produce},
        ring::Ring,
    };

    type Failure = Box<dyn Error>;

    const BUFFERS: usize = 64;
    const DATA_BYTES: usize = 2048 - 64;
    /// The most packets in one burst.
    const BURST: usize = 32;
    /// A wait that takes longer than this is a lost wake-up.
    const PATIENCE_MILLISECONDS: i32 = 10_000;

    /// The shared memory. Zero bytes, as a new memfd has them, are a fresh window.
    #[repr(C, align(64))]
    struct Window<Q> {
        /// Filled buffers, from the driver to the server.
        input: Q,
        /// Buffers given back, from the server to the driver.
        output: Q,
        buffers: [Buffer; BUFFERS],
    }

    /// A buffer belongs to one side at a time, if both keep to the rules. Neither relies on it: words are atomics, and
    /// bytes are copied by [`copy`], never referred to.
    #[repr(C, align(64))]
    struct Buffer {
        link: AtomicU32,
        len: AtomicU32,
        data: UnsafeCell<[u8; DATA_BYTES]>,
    }

    /// The window, where this process has it.
    struct Mapping<Q> {
        base: NonNull<Window<Q>>,
        window: PhantomData<Window<Q>>,
    }

    impl<Q> Mapping<Q> {
        /// Maps the memfd somewhere, but not at `elsewhere`.
        fn new(memory: &OwnedFd, elsewhere: usize) -> io::Result<Self> {
            let bytes = size_of::<Window<Q>>();
            let (access, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
            let map = || {
                // SAFETY: a new mapping where the kernel finds room.
                let at = unsafe { libc::mmap(ptr::null_mut(), bytes, access, shared, memory.as_raw_fd(), 0) };
                if at == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(at) }
            };
            let mut at = map()?;
            if at.addr() == elsewhere {
                at = map()?; // the first one stays, unused
            }
            NonNull::new(at.cast())
                .map(|base| Self { base, window: PhantomData })
                .ok_or_else(io::Error::last_os_error)
        }

        fn window(&self) -> &Window<Q> {
            // SAFETY: mapped for as long as `self` lives, aligned to a page; any bytes are atomics, or an `UnsafeCell`
            // that is never referred into. (The kinds of queue are atomics only.)
            unsafe { self.base.as_ref() }
        }

        /// The index of the buffer at `item`'s offset, if there is one: checked by what this process knows.
        fn index(&self, item: Item) -> Option<usize> {
            let into = (item.get() as usize).checked_sub(offset_of!(Window<Q>, buffers))?;
            let index = into / size_of::<Buffer>();
            (into.is_multiple_of(size_of::<Buffer>()) && index < BUFFERS).then_some(index)
        }

        fn item(&self, index: usize) -> Option<Item> {
            Item::new((offset_of!(Window<Q>, buffers) + index * size_of::<Buffer>()) as u32)
        }

        fn put(&self, index: usize, bytes: &[u8]) {
            let buffer = &self.window().buffers[index];
            assert!(bytes.len() <= DATA_BYTES);
            // SAFETY: the bytes fit, and nobody refers to them.
            unsafe { copy::copy_in(buffer.data.get().cast(), bytes) };
            buffer.len.store(bytes.len() as u32, Relaxed);
        }

        /// Copies the data out; `None` if the buffer's length cannot be.
        fn get<'b>(&self, index: usize, bytes: &'b mut [u8; DATA_BYTES]) -> Option<&'b [u8]> {
            let buffer = &self.window().buffers[index];
            let bytes = bytes.get_mut(..buffer.len.load(Relaxed) as usize)?; // loaded once, then checked
            // SAFETY: as many bytes are there, and nobody refers to them.
            unsafe { copy::copy_out(bytes, buffer.data.get().cast()) };
            Some(bytes)
        }
    }

    impl<Q> Drop for Mapping<Q> {
        fn drop(&mut self) {
            // SAFETY: our mapping; whatever borrows it is gone.
            unsafe { libc::munmap(self.base.as_ptr().cast(), size_of::<Window<Q>>()) };
        }
    }

    impl<Q> Links for Mapping<Q> {
        fn next(&self, item: Item) -> Option<&AtomicU32> {
            Some(&self.window().buffers[self.index(item)?].link)
        }
    }

    /// A sticky event: an eventfd, which adds up what is posted until a wait takes it all.
    struct Event(OwnedFd);

    impl Event {
        fn new() -> io::Result<Self> {
            // SAFETY: a new descriptor, which the child inherits.
            owned(unsafe { libc::eventfd(0, 0) }).map(Self)
        }

        fn post(&self) {
            let one = 1u64;
            // SAFETY: eight bytes, as an eventfd takes them. (The count is far from full.)
            unsafe { libc::write(self.0.as_raw_fd(), (&raw const one).cast(), 8) };
        }

        fn wait(&self) {
            let mut ready = libc::pollfd { fd: self.0.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            let mut count = 0u64;
            // SAFETY: one descriptor, and eight bytes.
            unsafe {
                assert_eq!(libc::poll(&raw mut ready, 1, PATIENCE_MILLISECONDS), 1, "a wake-up was lost");
                libc::read(self.0.as_raw_fd(), (&raw mut count).cast(), 8);
            }
        }
    }

    /// Takes over a descriptor that was just made or inherited.
    fn owned(descriptor: RawFd) -> io::Result<OwnedFd> {
        if descriptor == -1 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a valid descriptor that nobody else closes.
        Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
    }

    /// What both processes have.
    struct Ends<Q> {
        mapping: Mapping<Q>,
        server_event: Event,
        driver_event: Event,
        packets: u32,
    }

    /// A kind of queue, both ways, of whose items `Mapping` knows the links.
    trait Kind: Sized + for<'m> InQueue<&'m Mapping<Self>> + for<'m> OutQueue<&'m Mapping<Self>> {}
    impl Kind for DualQueue {}
    impl Kind for Ring<BUFFERS> {}

    /// What packet `number` is: 16 to 1984 bytes.
    fn packet(number: u32, bytes: &mut [u8; DATA_BYTES]) -> &[u8] {
        let seed = number.wrapping_mul(0x9e37_79b9) | 1;
        let bytes = &mut bytes[..16 + seed as usize % (DATA_BYTES - 15)];
        for (at, word) in bytes.chunks_mut(4).enumerate() {
            let value = seed.wrapping_mul(2 * at as u32 + 1).to_le_bytes();
            word.copy_from_slice(&value[..word.len()]);
        }
        bytes
    }

    /// The interrupt side. It believes nothing that comes from the server.
    fn driver<Q: Kind>(ends: &Ends<Q>) -> Result<(), Failure> {
        let (mapping, window) = (&ends.mapping, ends.mapping.window());
        let mut input = window.input.in_producer(mapping);
        let mut output = window.output.out_consumer(mapping);
        // Our own record of what is ours, which the server cannot write.
        let mut ours = [true; BUFFERS];
        let mut free: Vec<usize> = (0..BUFFERS).collect();
        let mut bytes = [0; DATA_BYTES];
        let mut sent = 0;
        while sent < ends.packets || free.len() < BUFFERS {
            let mut lie = None;
            let drained = output.drain(BUFFERS as u32, |item| {
                match mapping.index(item) {
                    Some(index) if !ours[index] => {
                        ours[index] = true;
                        free.push(index);
                    }
                    _ => lie = Some(item),
                }
                ControlFlow::Continue(())
            })?;
            if let Some(item) = lie {
                return Err(format!("the server gives back {item:?}, which it does not have").into());
            }
            let burst = free.len().min(BURST).min((ends.packets - sent) as usize);
            for index in free.drain(free.len() - burst..) {
                mapping.put(index, packet(sent, &mut bytes));
                ours[index] = false;
                input.produce(mapping.item(index).ok_or("no item")?)?;
                sent += 1;
            }
            if burst != 0 {
                if input.consumer_idle() {
                    ends.server_event.post();
                }
            } else if drained == Drained::Idle && free.len() < BUFFERS {
                // The drain has declared us idle and looked again: the server posts when it gives something back.
                ends.driver_event.wait();
            }
        }
        Ok(())
    }

    /// The protocol side.
    fn server<Q: Kind>(ends: &Ends<Q>) -> Result<u32, Failure> {
        let (mapping, window) = (&ends.mapping, ends.mapping.window());
        let mut input = window.input.in_consumer(mapping);
        let mut output = window.output.out_producer(mapping);
        let (mut got, mut expected) = ([0; DATA_BYTES], [0; DATA_BYTES]);
        let mut waits = 0;
        for number in 0..ends.packets {
            let item = queue::next(&mut input, || {
                waits += 1;
                ends.server_event.wait();
            })?;
            let index = mapping.index(item).ok_or("the driver sends what is no buffer")?;
            if mapping.get(index, &mut got) != Some(packet(number, &mut expected)) {
                return Err(format!("what came as packet {number} is not packet {number}").into());
            }
            output.produce(item)?;
            if output.consumer_idle() {
                ends.driver_event.post();
            }
        }
        Ok(waits)
    }

    /// The server's process: makes the window, starts the driver's process, and waits for it.
    fn serve<Q: Kind>(kind: &str, packets: u32) -> Result<(), Failure> {
        // SAFETY: a new descriptor, which the child inherits.
        let memory = owned(unsafe { libc::memfd_create(c"window".as_ptr(), 0) })?;
        // SAFETY: our memfd.
        if unsafe { libc::ftruncate(memory.as_raw_fd(), size_of::<Window<Q>>() as libc::off_t) } != 0 {
            return Err(io::Error::last_os_error().into());
        }
        let mapping = Mapping::<Q>::new(&memory, 0)?;
        let here = mapping.base.addr().get();
        let ends = Ends { mapping, server_event: Event::new()?, driver_event: Event::new()?, packets };
        let descriptors = [&memory, &ends.server_event.0, &ends.driver_event.0].map(AsRawFd::as_raw_fd);
        let start = Instant::now();
        let mut child = Command::new(env::current_exe()?)
            .args(["driver", kind, &packets.to_string(), &here.to_string()])
            .args(descriptors.map(|descriptor| descriptor.to_string()))
            .spawn()?;
        let served = server(&ends);
        if served.is_err() {
            child.kill()?;
        }
        let status = child.wait()?;
        let waits = served?;
        if !status.success() {
            return Err(format!("the driver's process: {status}").into());
        }
        println!(
            "{kind}: {packets} packets, each byte right, in {:.2} s; the server waited {waits} times; its window at {here:#x}",
            start.elapsed().as_secs_f64()
        );
        Ok(())
    }

    /// The driver's process.
    fn drive<Q: Kind>(
        kind: &str,
        packets: u32,
        elsewhere: usize,
        descriptors: [RawFd; 3],
    ) -> Result<(), Failure> {
        let [memory, server_event, driver_event] = descriptors.map(owned);
        let mapping = Mapping::<Q>::new(&memory?, elsewhere)?;
        let here = mapping.base.addr().get();
        if here == elsewhere {
            return Err("both processes have the window at the same address".into());
        }
        println!("{kind}: the driver has the window at {here:#x}");
        driver(&Ends {
            mapping,
            server_event: Event(server_event?),
            driver_event: Event(driver_event?),
            packets,
        })
    }

    fn run(arguments: &[&str]) -> Result<(), Failure> {
        match *arguments {
            ["driver", kind, packets, elsewhere, memory, server_event, driver_event] => {
                let descriptors = [memory.parse()?, server_event.parse()?, driver_event.parse()?];
                let drive = if kind == "dual" { drive::<DualQueue> } else { drive::<Ring<BUFFERS>> };
                drive(kind, packets.parse()?, elsewhere.parse()?, descriptors)
            }
            [] => run(&["both"]),
            [kind] => run(&[kind, "200000"]),
            ["dual", packets] => serve::<DualQueue>("dual", packets.parse()?),
            ["ring", packets] => serve::<Ring<BUFFERS>>("ring", packets.parse()?),
            ["both", packets] => run(&["dual", packets]).and_then(|()| run(&["ring", packets])),
            _ => Err("usage: two_processes [dual|ring|both] [packets]".into()),
        }
    }

    pub fn main() -> ExitCode {
        let arguments: Vec<String> = env::args().skip(1).collect();
        match run(&arguments.iter().map(String::as_str).collect::<Vec<_>>()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                eprintln!("WRONG: {failure}");
                ExitCode::FAILURE
            }
        }
    }
}
