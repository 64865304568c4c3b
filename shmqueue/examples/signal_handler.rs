//! A signal handler as the interrupt side. A timer signal interrupts the task at any of its instructions, also inside
//! of a critical section, and exchanges buffers with it, without `sigprocmask` anywhere.
//!
//! ```text
//! cargo run --release --example signal_handler [-- [dual|ring|both] [seconds]]
//! ```
//! The handler is the driver of a device that receives a burst of packets at each tick. It fills free buffers and puts
//! them on the IN queue; the task checks each and gives it back by the OUT queue. Order and content are checked on both
//! ways, and at the end all buffers have to be there. The program exits with 0 only if all was right.
//!
//! What to copy: [`Interrupt`] and its `handle` (the handler's state, which nothing else touches), [`Task::run`],
//! [`Event`] (a sticky event that a signal handler may post: a pipe), and [`Installed`]. All but [`main`] is generic over
//! the kind of queue.
#![expect(unsafe_code, reason = "signals, and buffers that pass from one side to the other")]

use std::{
    cell::UnsafeCell,
    env, fmt, io, mem,
    ops::ControlFlow,
    process::ExitCode,
    ptr,
    sync::atomic::{AtomicPtr, AtomicU32, Ordering::Relaxed},
    time::{Duration, Instant},
};

use shmqueue::{
    DualQueue, InProducer, Item, Links, OutConsumer, OutProducer, Stats,
    queue::{self, Drain, InQueue, OutQueue, Produce},
    ring::{Ring, RingConsumer, RingProducer},
};

/// How many buffers there are.
const BUFFERS: usize = 1024;
/// The 64-bit words of a buffer.
const WORDS: usize = 8;
/// After how many buffers that it gave back the task asks whether the driver is idle, at the latest.
const ASK_AFTER: u32 = BUFFERS as u32 / 2;
/// The time between two signals.
const TICK_MICROSECONDS: libc::suseconds_t = 25;

/// A buffer: its link for the queue, and its data, which belong to one side at a time.
struct Buffer {
    link: AtomicU32,
    data: UnsafeCell<[u64; WORDS]>,
}

/// All buffers. Item `n` is buffer `n - 1`.
struct Pool([Buffer; BUFFERS]);

// SAFETY: the data of a buffer is reached by `Pool::with` only, whose caller has the buffer's item; the queues pass it
// from one side to the other, and order the accesses.
unsafe impl Sync for Pool {}

impl Pool {
    const fn new() -> Self {
        Self([const { Buffer { link: AtomicU32::new(0), data: UnsafeCell::new([0; WORDS]) } }; BUFFERS])
    }

    fn buffer(&self, item: Item) -> Option<&Buffer> {
        self.0.get(item.get() as usize - 1)
    }

    /// Works on the data of `item`, which the caller was given.
    fn with<T>(&self, item: Item, work: impl FnOnce(&mut [u64; WORDS]) -> T) -> Option<T> {
        // SAFETY: whoever has the item has the buffer: it was put on one queue, once, and came off it once.
        Some(work(unsafe { &mut *self.buffer(item)?.data.get() }))
    }
}

impl Links for Pool {
    fn next(&self, item: Item) -> Option<&AtomicU32> {
        Some(&self.buffer(item)?.link)
    }
}

/// What packet `number` holds. Each word tells of the number, so a torn or mixed packet shows.
fn packet(number: u64) -> [u64; WORDS] {
    std::array::from_fn(|n| number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(n as u32 * 7) ^ n as u64)
}

/// What the task makes of it.
fn answer(number: u64) -> [u64; WORDS] {
    packet(number).map(|word| !word)
}

/// A sticky event that a signal handler may post: a pipe holds what was posted until it is read.
struct Event {
    read: libc::c_int,
    write: libc::c_int,
}

impl Event {
    fn new() -> io::Result<Self> {
        let mut ends = [0; 2];
        // SAFETY: `pipe` fills two descriptors. A full pipe must not stop the handler; it holds an event already.
        let done = unsafe {
            libc::pipe(ends.as_mut_ptr()) == 0 && libc::fcntl(ends[1], libc::F_SETFL, libc::O_NONBLOCK) != -1
        };
        if done { Ok(Self { read: ends[0], write: ends[1] }) } else { Err(io::Error::last_os_error()) }
    }

    /// `write` is async-signal-safe; it may change `errno`, which a handler has to leave as it was.
    fn post(&self) {
        // SAFETY: one byte, to our own descriptor.
        unsafe { libc::write(self.write, [0u8].as_ptr().cast(), 1) };
    }

    /// Returns when something was posted since the last wait, however often.
    fn wait(&self) {
        let mut posted = [0u8; 64];
        // SAFETY: the buffer is as long as said. The caller looks again, so it does not matter if it is interrupted.
        unsafe { libc::read(self.read, posted.as_mut_ptr().cast(), posted.len()) };
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: our own descriptors, used no more.
        unsafe { (libc::close(self.read), libc::close(self.write)) };
    }
}

/// A kind of queue, both ways: what makes the rest generic.
trait Kind: for<'p> InQueue<&'p Pool> + for<'p> OutQueue<&'p Pool> + Default {}
impl<Q: for<'p> InQueue<&'p Pool> + for<'p> OutQueue<&'p Pool> + Default> Kind for Q {}

/// The interrupt side. Only the handler touches it while [`Installed`] lives.
struct Interrupt<'p, Q: Kind + 'p> {
    pool: &'p Pool,
    event: &'p Event,
    input: <Q as InQueue<&'p Pool>>::Producer<'p>,
    output: <Q as OutQueue<&'p Pool>>::Consumer<'p>,
    /// Our own buffers, a stack.
    free: [Option<Item>; BUFFERS],
    free_count: usize,
    /// The numbers of the next packet to send to the task, and to get back.
    next: u64,
    returned: u64,
    /// No new packets: the program ends.
    stopped: bool,
    counts: Counts,
}

/// What the handler has seen. It cannot print, nor panic.
#[derive(Default, Clone, Copy)]
struct Counts {
    signals: u64,
    wakeups: u64,
    spared: u64,
    without_buffer: u64,
    wrong: u64,
    refused: u64,
}

impl<'p, Q: Kind> Interrupt<'p, Q> {
    fn new(pool: &'p Pool, event: &'p Event, input: &'p Q, output: &'p Q) -> Self {
        Self {
            pool,
            event,
            input: input.in_producer(pool),
            output: output.out_consumer(pool),
            free: std::array::from_fn(|n| Item::new(n as u32 + 1)),
            free_count: BUFFERS,
            next: 0,
            returned: 0,
            stopped: false,
            counts: Counts::default(),
        }
    }

    /// One interrupt: a fixed amount of work, and no wait.
    fn handle(&mut self) {
        self.counts.signals += 1;
        self.take_back();
        // Times with much to do, in which the signal finds the task at work, and times in which it finds it waiting.
        let most = if self.counts.signals & 1024 == 0 { BUFFERS as u64 } else { 32 };
        let burst = if self.stopped { 0 } else { 1 + packet(self.counts.signals)[0] % most };
        let mut sent = false;
        for _ in 0..burst {
            let Some(item) = self.free_count.checked_sub(1).and_then(|top| self.free[top].take()) else {
                self.counts.without_buffer += 1;
                break;
            };
            self.free_count -= 1;
            self.pool.with(item, |data| *data = packet(self.next));
            match self.input.produce(item) {
                Ok(()) => (self.next, sent) = (self.next + 1, true),
                Err(_) => {
                    self.counts.refused += 1;
                    self.free[self.free_count] = Some(item);
                    self.free_count += 1;
                }
            }
        }
        if sent {
            if self.input.consumer_idle() {
                self.counts.wakeups += 1;
                self.event.post();
            } else {
                self.counts.spared += 1;
            }
        }
    }

    /// The buffers that the task gives back, in order. If the task was interrupted inside of its critical section, we
    /// find nothing; the task sees that we went idle, and calls us.
    fn take_back(&mut self) {
        let Self { pool, free, free_count, returned, counts, .. } = self;
        let drained = self.output.drain(BUFFERS as u32, |item| {
            if pool.with(item, |data| *data == answer(*returned)) != Some(true) || *free_count == BUFFERS {
                counts.wrong += 1;
                return ControlFlow::Continue(());
            }
            *returned += 1;
            free[*free_count] = Some(item);
            *free_count += 1;
            ControlFlow::Continue(())
        });
        self.counts.wrong += u64::from(drained.is_err());
    }
}

/// The interrupt side that is installed.
static INTERRUPT: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());

/// The handler: at any instruction of the task, but never inside of itself, since the signal is blocked while it runs.
extern "C" fn on_signal<Q: Kind>(_: libc::c_int) {
    let interrupt = INTERRUPT.load(Relaxed).cast::<Interrupt<'_, Q>>();
    let errno = io::Error::last_os_error();
    // SAFETY: `Installed` stored the pointer of this kind before the first signal. As long as it lives nothing but
    // this handler uses what it points to, and one handler runs at a time, on the only thread.
    if let Some(interrupt) = unsafe { interrupt.as_mut() } {
        interrupt.handle();
    }
    restore(&errno);
}

/// A handler leaves `errno` as it found it.
fn restore(errno: &io::Error) {
    let value = errno.raw_os_error().unwrap_or(0);
    // SAFETY: the calling thread's own `errno`.
    unsafe {
        #[cfg(any(target_os = "linux", target_os = "emscripten"))]
        (*libc::__errno_location() = value);
        #[cfg(any(target_os = "macos", target_os = "freebsd"))]
        (*libc::__error() = value);
    }
}

/// While it lives, the timer runs and its handler works.
struct Installed;

impl Installed {
    /// From now on `interrupt` is the handler's.
    ///
    /// # Safety
    /// It stays where it is and is not used otherwise until this is dropped; the program has one thread.
    unsafe fn new<Q: Kind>(interrupt: *mut Interrupt<'_, Q>) -> io::Result<Self> {
        INTERRUPT.store(interrupt.cast(), Relaxed);
        // SAFETY: a plain `sigaction` with all fields set; the handler uses async-signal-safe calls only.
        let done = unsafe {
            let mut action: libc::sigaction = mem::zeroed();
            action.sa_sigaction = on_signal::<Q> as extern "C" fn(libc::c_int) as usize;
            action.sa_flags = libc::SA_RESTART;
            libc::sigemptyset(&raw mut action.sa_mask);
            libc::sigaction(libc::SIGALRM, &raw const action, ptr::null_mut()) == 0
        };
        if !done {
            return Err(io::Error::last_os_error());
        }
        let installed = Self;
        set_timer(TICK_MICROSECONDS)?;
        Ok(installed)
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        let _ = set_timer(0); // it fails for a bad value only
        // SAFETY: the signal is ignored from here on, also one that is pending.
        unsafe { libc::signal(libc::SIGALRM, libc::SIG_IGN) };
        INTERRUPT.store(ptr::null_mut(), Relaxed);
    }
}

fn set_timer(microseconds: libc::suseconds_t) -> io::Result<()> {
    let tick = libc::timeval { tv_sec: 0, tv_usec: microseconds };
    let timer = libc::itimerval { it_interval: tick, it_value: tick };
    // SAFETY: the timer is set from a valid value.
    let done = unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, ptr::null_mut()) == 0 };
    if done { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The protocol side.
struct Task<'p, Q: Kind + 'p> {
    pool: &'p Pool,
    event: &'p Event,
    input: <Q as InQueue<&'p Pool>>::Consumer<'p>,
    output: <Q as OutQueue<&'p Pool>>::Producer<'p>,
    received: u64,
    /// Given back since the task last asked whether the driver is idle.
    unasked: u32,
    waits: u64,
    traps: u64,
}

impl<'p, Q: Kind> Task<'p, Q> {
    fn new(pool: &'p Pool, event: &'p Event, input: &'p Q, output: &'p Q) -> Self {
        let (input, output) = (input.in_consumer(pool), output.out_producer(pool));
        Self { pool, event, input, output, received: 0, unasked: 0, waits: 0, traps: 0 }
    }

    /// Receives, checks and gives back until `end`.
    fn run(&mut self, end: Instant) -> Result<(), Wrong> {
        while Instant::now() < end {
            for _ in 0..256 {
                let Self { event, input, output, unasked, waits, traps, .. } = self;
                let item = queue::next(input, || {
                    *traps += u64::from(start_if_idle(output, unasked));
                    *waits += 1;
                    event.wait();
                })?;
                self.check_and_return(item)?;
            }
        }
        Ok(())
    }

    /// What is left when there are no new packets.
    fn finish(&mut self) -> Result<(), Wrong> {
        while let Some(item) = queue::Consume::consume(&mut self.input)? {
            self.check_and_return(item)?;
        }
        Ok(())
    }

    fn check_and_return(&mut self, item: Item) -> Result<(), Wrong> {
        let number = self.received;
        let right = self.pool.with(item, |data| {
            let right = *data == packet(number);
            *data = answer(number);
            right
        });
        if right != Some(true) {
            return Err(Wrong::Packet(number));
        }
        self.received += 1;
        self.output.produce(item)?;
        self.unasked += 1;
        if self.unasked >= ASK_AFTER {
            self.traps += u64::from(start_if_idle(&self.output, &mut self.unasked));
        }
        Ok(())
    }
}

/// The trap `device_start`, at the end of a burst: the handler has run when `raise` returns. Whether it was needed.
fn start_if_idle(output: &impl Produce, unasked: &mut u32) -> bool {
    let needed = mem::take(unasked) != 0 && output.consumer_idle();
    if needed {
        // SAFETY: raises the signal that the handler is there for, or that is ignored at the end.
        unsafe { libc::raise(libc::SIGALRM) };
    }
    needed
}

/// Why the program fails.
#[derive(Debug)]
enum Wrong {
    Packet(u64),
    Peer(shmqueue::PeerMisbehaviour),
    Produce(queue::ProduceError),
    Handler { wrong: u64, refused: u64 },
    Missing { received: u64, sent: u64, free: usize },
    Locked(u32),
    System(io::Error),
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Packet(number) => write!(f, "what came as packet {number} is not packet {number}"),
            Self::Peer(misbehaviour) => misbehaviour.fmt(f),
            Self::Produce(error) => error.fmt(f),
            Self::Handler { wrong, refused } => {
                write!(f, "the handler got back {wrong} wrong buffers, and could not send {refused}")
            }
            Self::Missing { received, sent, free } => {
                write!(f, "{sent} sent, {received} received; {free} of {BUFFERS} buffers at the end")
            }
            Self::Locked(times) => write!(f, "both sub-queues were locked, {times} times"),
            Self::System(error) => error.fmt(f),
        }
    }
}

impl From<shmqueue::PeerMisbehaviour> for Wrong {
    fn from(misbehaviour: shmqueue::PeerMisbehaviour) -> Self {
        Self::Peer(misbehaviour)
    }
}

impl From<queue::ProduceError> for Wrong {
    fn from(error: queue::ProduceError) -> Self {
        Self::Produce(error)
    }
}

impl From<io::Error> for Wrong {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

/// The statistics of an end; a ring has no locks to count.
trait Statistics {
    fn statistics(&self) -> Stats {
        Stats::default()
    }
}

impl Statistics for InProducer<'_, &Pool> {
    fn statistics(&self) -> Stats {
        *self.stats()
    }
}

impl Statistics for OutConsumer<'_, &Pool> {
    fn statistics(&self) -> Stats {
        *self.stats()
    }
}

impl Statistics for OutProducer<'_, &Pool> {
    fn statistics(&self) -> Stats {
        *self.stats()
    }
}

impl Statistics for RingProducer<'_, BUFFERS> {}
impl Statistics for RingConsumer<'_, BUFFERS> {}

/// Runs both sides for `time`, and checks what is left.
fn run<Q: Kind>(name: &str, time: Duration) -> Result<(), Wrong>
where
    for<'p> <Q as InQueue<&'p Pool>>::Producer<'p>: Statistics,
    for<'p> <Q as OutQueue<&'p Pool>>::Producer<'p>: Statistics,
    for<'p> <Q as OutQueue<&'p Pool>>::Consumer<'p>: Statistics,
{
    let (pool, event) = (Pool::new(), Event::new()?);
    let (input, output) = (Q::default(), Q::default());
    let mut interrupt = Interrupt::new(&pool, &event, &input, &output);
    let mut task = Task::new(&pool, &event, &input, &output);
    // SAFETY: `interrupt` is used again only after `installed` is dropped, and this program has one thread.
    let installed = unsafe { Installed::new(&raw mut interrupt)? };
    task.run(Instant::now() + time)?;
    drop(installed);

    // The handler as a plain function, to take back what is on its way.
    interrupt.stopped = true;
    for _ in 0..2 {
        task.finish()?;
        interrupt.handle();
    }
    let counts = interrupt.counts;
    let (sent, received) = (interrupt.next, task.received);
    let [handler_in, handler_out, task_out] =
        [interrupt.input.statistics(), interrupt.output.statistics(), task.output.statistics()];
    println!(
        "{name}: {received} buffers in order, content right on both ways; {} signals\n    \
         lock failures: {} of the handler on IN, {} of the handler on OUT, {} of the task\n    \
         sub-queue switches: {} on IN, {} on OUT\n    \
         wake-ups: {} posted, {} spared; {} waits of the task; {} traps; {} times no buffer was free",
        counts.signals,
        handler_in.lock_failures,
        handler_out.lock_failures,
        task_out.lock_failures,
        handler_in.switches,
        task_out.switches,
        counts.wakeups,
        counts.spared,
        task.waits,
        task.traps,
        counts.without_buffer,
    );
    if counts.wrong + counts.refused != 0 {
        return Err(Wrong::Handler { wrong: counts.wrong, refused: counts.refused });
    }
    if handler_in.impossible != 0 {
        return Err(Wrong::Locked(handler_in.impossible));
    }
    if sent == 0 || received != sent || interrupt.returned != sent || interrupt.free_count != BUFFERS {
        return Err(Wrong::Missing { received, sent, free: interrupt.free_count });
    }
    Ok(())
}

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let kind = arguments.next().unwrap_or_else(|| "both".into());
    let seconds = arguments.next().map_or(Ok(2.5), |seconds| seconds.parse());
    let time = match seconds.map(Duration::try_from_secs_f64) {
        Ok(Ok(time)) if ["dual", "ring", "both"].contains(&kind.as_str()) => time,
        _ => {
            eprintln!("usage: signal_handler [dual|ring|both] [seconds for each]");
            return ExitCode::from(2);
        }
    };
    let mut code = ExitCode::SUCCESS;
    type Run = fn(&str, Duration) -> Result<(), Wrong>;
    for (name, run) in [("dual", run::<DualQueue> as Run), ("ring", run::<Ring<BUFFERS>>)] {
        if kind != "both" && kind != name {
            continue;
        }
        if let Err(wrong) = run(name, time) {
            eprintln!("{name}: WRONG: {wrong}");
            code = ExitCode::FAILURE;
        }
    }
    code
}
