//! A kernel, a name service and a protocol server of a few lines, for one test at a time; or the kernel with the stack in it.
#![expect(unsafe_code, reason = "it plays the other side of raw memory")]

use std::{
    boxed::Box,
    cell::{Cell, RefCell},
    rc::Rc,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    vec::Vec,
};

use abi::{
    Error, info,
    message::{DATA_MAX, Data, Message, NOTIFY_DEAD_NAME, NOTIFY_SEND_ONCE},
    name::{LOOK_UP, NETWORK},
    path::Path,
    socket::{Endpoint, Kind, MAGIC, Page as At, RECORD_BYTES, REPLY, Record, Request, State, Status},
    syscall::Syscall,
    thread::{WAKE_MESSAGE, WAKE_RESUMED, WAKE_TIMEOUT},
    vm::PROT_READ,
};
use shmqueue::{
    WaitWord,
    bytes::{Consumer, Control, Producer},
};

pub use server::died;
use server::{receive, send, serve, slice, told};

use super::super::{
    address::{from_words, to_words},
    service,
};
use crate::{raw::fake, rpc};

mod server;

/// From here on data goes out of line.
pub const OUT_OF_LINE: usize = 3000;
pub const RX_BYTES: u32 = 4096;
pub const TX_BYTES: u32 = 8192;
const STATUS_NAME: u64 = 102;
const FIRST_OBJECT: u64 = 200;
/// Rights to receive rings, which map for reading only.
const FIRST_RING: u64 = 2000;

/// Memory that two sides share.
#[derive(Clone, Copy)]
pub struct Shared(*mut u8);

// SAFETY: what is in it is reached by atomics, or by one test at a time.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    fn new(bytes: usize) -> Self {
        let layout = std::alloc::Layout::from_size_align(bytes, 4096).unwrap();
        // SAFETY: the size is not 0. It is never freed: a mapping may live as long as a test.
        Self(unsafe { std::alloc::alloc_zeroed(layout) })
    }

    pub fn set(self, at: usize, value: u32) {
        assert!(at.is_multiple_of(4) && at < 4096);
        // SAFETY: in the first page.
        unsafe { self.0.add(at).cast::<u32>().write_volatile(value) }
    }

    pub fn get(self, at: usize) -> u32 {
        assert!(at.is_multiple_of(4) && at < 4096);
        // SAFETY: in the first page.
        unsafe { self.0.add(at).cast::<u32>().read_volatile() }
    }

    fn wait_word(self, at: usize) -> &'static WaitWord {
        // SAFETY: in the first page, an atomic word.
        unsafe { &*self.0.add(at).cast::<WaitWord>() }
    }

    fn control(self, at: usize) -> &'static Control {
        // SAFETY: in the first page, atomic words.
        unsafe { &*self.0.add(at).cast::<Control>() }
    }
}

/// The status page: one, since the service is found only once.
fn status_page() -> Shared {
    static STATUS: OnceLock<Shared> = OnceLock::new();
    *STATUS.get_or_init(|| {
        let page = Shared::new(4096);
        page.set(Status::MAGIC_AT, Status::MAGIC);
        page
    })
}

/// The server's end of a socket.
#[derive(Clone)]
pub struct Peer {
    pub page: Shared,
    /// The receive ring, if it is apart.
    ring: Option<Shared>,
    pub rx: Rc<RefCell<Producer<'static>>>,
    pub tx: Rc<RefCell<Consumer<'static>>>,
    /// The application's ends, where the rings are not mapped in the application.
    ends: Rc<RefCell<Option<Ends>>>,
    datagrams: bool,
}

type Ends = (Consumer<'static>, Producer<'static>);

impl Peer {
    pub fn state(&self, state: State) {
        self.page.set(At::STATE_AT, state.raw());
    }

    pub fn fails(&self, error: Error) {
        self.page.set(At::ERROR_AT, error.raw());
        self.state(State::Finished);
    }

    /// Gives bytes to the application; how many went in.
    pub fn give(&self, bytes: &[u8]) -> usize {
        self.rx.borrow_mut().write(bytes).unwrap()
    }

    /// Takes what the application wrote.
    pub fn take(&self) -> Vec<u8> {
        let mut bytes = std::vec![0; TX_BYTES as usize];
        let taken = self.tx.borrow_mut().read(&mut bytes).unwrap();
        bytes.truncate(taken);
        bytes
    }

    /// Does for the application what it does to the rings by window.
    fn write(&self, bytes: &[u8], peer: Option<&Endpoint>) -> usize {
        let mut ends = self.ends.borrow_mut();
        let (_, tx) = ends.as_mut().unwrap();
        let Some(peer) = peer.filter(|_| self.datagrams) else { return tx.write(bytes).unwrap() };
        let mut record: Vec<u8> = [bytes.len() as u32]
            .into_iter()
            .chain(to_words(peer))
            .chain([0])
            .flat_map(u32::to_le_bytes)
            .collect();
        record.extend(bytes);
        record.resize(record.len().next_multiple_of(4), 0);
        if tx.space().unwrap() < record.len() as u32 {
            return 0;
        }
        tx.write(&record).unwrap();
        bytes.len()
    }

    /// As above: the bytes, and the head of a datagram.
    fn read(&self, room: usize) -> (Vec<u8>, Option<Record>) {
        let mut ends = self.ends.borrow_mut();
        let (rx, _) = ends.as_mut().unwrap();
        let mut bytes = std::vec![0; room];
        if !self.datagrams {
            let read = rx.read(&mut bytes).unwrap();
            bytes.truncate(read);
            return (bytes, None);
        }
        let mut head = [0; RECORD_BYTES];
        if rx.read(&mut head).unwrap() == 0 {
            return (Vec::new(), None);
        }
        let word = |i: usize| u32::from_le_bytes(head[4 * i..][..4].try_into().unwrap());
        let length = word(0) as usize;
        let read = rx.read(&mut bytes[..room.min(length)]).unwrap();
        bytes.truncate(read);
        rx.consume(length.next_multiple_of(4) - read).unwrap();
        let peer = from_words(core::array::from_fn(|i| word(1 + i)));
        (bytes, Some(Record { length: length as u32, peer, reserved: 0 }))
    }

    /// What the application waits for, if it waits.
    pub fn waits_for(&self) -> Option<u32> {
        (self.page.get(At::WAIT_AT) & 1 == 1).then(|| self.page.get(At::WAIT_FOR_AT))
    }
}

type Hook = Box<dyn FnMut(&[Peer])>;

/// What changes a reply before it is sent.
type Forge = Box<dyn FnMut(&mut Message)>;

#[derive(Default)]
struct Books {
    path: Path,
    peers: Vec<Peer>,
    requests: Vec<Message>,
    reply: Option<Reply>,
    forge: Option<Forge>,
    /// The port's queue is full, so many times more.
    full: u32,
    /// What the next receive comes to.
    receive_fails: Option<Error>,
    /// The calls by their numbers.
    log: Vec<Syscall>,
    /// Pages that came or went out of line.
    pages: u32,
    while_suspended: Option<Hook>,
    /// System calls in all, and resumes of the server among them.
    calls: u32,
    resumes: u32,
    suspends: u32,
    /// The head of the next page, if it is to be another.
    head: Option<[u32; 4]>,
    /// The server has died, and the kernel has not told of it yet.
    dead: bool,
    untold: bool,
}

/// A reply on its way.
struct Reply {
    message: Message,
    data: Vec<u8>,
}

std::thread_local! {
    static OPTIONS: Cell<(Path, usize)> = const { Cell::new((Path::Window, 0)) };
}

/// What the kernel's command line says.
pub fn options() -> (Path, usize) {
    OPTIONS.get()
}

/// The world of one test.
pub struct World {
    state: Rc<RefCell<Books>>,
    _alone: MutexGuard<'static, ()>,
}

impl World {
    pub fn new() -> Self {
        Self::on(Path::Window)
    }

    pub fn on(path: Path) -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        status_page().set(Status::WAIT_AT, 0);
        let state = Rc::new(RefCell::new(Books { path, ..Books::default() }));
        let kernel = Rc::clone(&state);
        fake::install(move |number, arguments| answer(&kernel, number, arguments));
        OPTIONS.set((path, OUT_OF_LINE));
        service::forget();
        rpc::forget();
        // What it took to forget the last world.
        state.borrow_mut().log.clear();
        Self { state, _alone: alone }
    }

    /// Each reply is changed before it is sent.
    pub fn forge(&self, forge: impl FnMut(&mut Message) + 'static) {
        self.state.borrow_mut().forge = Some(Box::new(forge));
    }

    /// The server's queue has no room, so many times.
    pub fn server_is_full(&self, times: u32) {
        self.state.borrow_mut().full = times;
    }

    /// The next receive fails, and the reply is left in the queue.
    pub fn receive_fails(&self, error: Error) {
        self.state.borrow_mut().receive_fails = Some(error);
    }

    /// The calls since this was last asked.
    pub fn log(&self) -> Vec<Syscall> {
        core::mem::take(&mut self.state.borrow_mut().log)
    }

    /// How often data went out of line.
    pub fn pages(&self) -> u32 {
        self.state.borrow().pages
    }

    /// What happens when the application's thread suspends.
    pub fn while_suspended(&self, hook: impl FnMut(&[Peer]) + 'static) {
        self.state.borrow_mut().while_suspended = Some(Box::new(hook));
    }

    pub fn next_head(&self, head: [u32; 4]) {
        self.state.borrow_mut().head = Some(head);
    }

    pub fn peer(&self, index: usize) -> Peer {
        self.state.borrow().peers[index].clone()
    }

    pub fn calls(&self) -> u32 {
        self.state.borrow().calls
    }

    pub fn resumes(&self) -> u32 {
        self.state.borrow().resumes
    }

    pub fn suspends(&self) -> u32 {
        self.state.borrow().suspends
    }

    pub fn requests(&self) -> Vec<Message> {
        self.state.borrow().requests.clone()
    }

    /// What kills the server: nobody answers any more, and the kernel tells those who asked to be told.
    pub fn killer(&self) -> impl FnMut() + 'static {
        let state = Rc::clone(&self.state);
        move || {
            let mut state = state.borrow_mut();
            (state.dead, state.untold) = (true, true);
        }
    }

    /// The server goes to sleep.
    pub fn server_sleeps(&self) {
        status_page().wait_word(Status::WAIT_AT).prepare();
    }

    pub fn server_wakes(&self) {
        status_page().wait_word(Status::WAIT_AT).finish();
    }
}

fn answer(world: &Rc<RefCell<Books>>, number: u64, arguments: [u64; 6]) -> (u64, u64) {
    let call = u32::try_from(number).ok().and_then(Syscall::from_raw).unwrap();
    let mut state = world.borrow_mut();
    state.calls += 1;
    state.log.push(call);
    let [first, second, third, fourth, ..] = arguments;
    match call {
        Syscall::PortAllocate => (0, 50),
        Syscall::PortDeallocate => {
            if first == 50 {
                state.reply = None; // dies with its port
            }
            (0, 0)
        }
        Syscall::VmDeallocate => (0, 0),
        Syscall::VmAllocate => (0, Shared::new(first as usize).0.expose_provenance() as u64),
        Syscall::MessageSend => {
            let served = send(&mut state, first);
            (status(served), 0)
        }
        Syscall::PortBindThread | Syscall::PortNotifyDead => (0, 0),
        // What the kernel has to tell, which nobody waits for.
        Syscall::MessageReceive if third == 0 => (status(told(&mut state, second)), 0),
        Syscall::MessageReceive => (status(receive(&mut state, second)), 0),
        Syscall::MessageCall if state.full != 0 => {
            state.full -= 1;
            (Error::QueueFull.raw().into(), 0)
        }
        Syscall::MessageCall => {
            assert_eq!((second, fourth), (50, abi::syscall::FOREVER));
            match send(&mut state, first) {
                Ok(()) => (0, status(receive(&mut state, third))),
                Err(error) => (error.raw().into(), 0),
            }
        }
        Syscall::SocketRequest => {
            assert_eq!(state.path, Path::Monolithic);
            // SAFETY: the wrapper passes a message that it has borrowed.
            let message = unsafe { &mut *core::ptr::with_exposed_provenance_mut::<Message>(first as usize) };
            let reply = serve(&mut state, message, &[]);
            *message = reply.message;
            (0, 0)
        }
        Syscall::SocketWrite => {
            assert_eq!(state.path, Path::Monolithic);
            // SAFETY: the wrapper passes a slice and a record that it has borrowed, or no record.
            let (bytes, record) = unsafe {
                let record = core::ptr::with_exposed_provenance::<Record>(fourth as usize);
                (slice(second, third), record.as_ref())
            };
            let peer = record.map(|record| {
                assert_eq!(record.length as usize, bytes.len());
                record.peer
            });
            (0, state.peers[first as usize].write(bytes, peer.as_ref()) as u64)
        }
        Syscall::SocketRead => {
            assert_eq!(state.path, Path::Monolithic);
            let (bytes, head) = state.peers[first as usize].read(third as usize);
            // SAFETY: the wrapper passes room for so many bytes, and for a record or nothing.
            unsafe {
                let to = core::ptr::with_exposed_provenance_mut::<u8>(second as usize);
                to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
                let record = core::ptr::with_exposed_provenance_mut::<Record>(fourth as usize).as_mut();
                if let (Some(record), Some(head)) = (record, head) {
                    *record = head;
                }
            }
            (0, bytes.len() as u64)
        }
        Syscall::VmMap => {
            let page = match arguments[0] {
                STATUS_NAME => {
                    assert_eq!(arguments[3], PROT_READ);
                    status_page()
                }
                name @ FIRST_RING.. => {
                    assert_eq!(state.path, Path::Window, "rings are nobody else's business");
                    assert_eq!(arguments[3], PROT_READ, "the right allows no more");
                    assert_eq!(arguments[2], RX_BYTES.into());
                    state.peers[(name - FIRST_RING) as usize].ring.unwrap()
                }
                name => {
                    assert!(state.path == Path::Window || arguments[2] == 4096, "the page alone");
                    state.peers[(name - FIRST_OBJECT) as usize].page
                }
            };
            (0, page.0.expose_provenance() as u64)
        }
        Syscall::ThreadResume => {
            state.resumes += 1;
            (0, 0)
        }
        Syscall::ThreadSuspend => {
            state.suspends += 1;
            assert!(state.suspends < 1000, "a wait without an end");
            let (hook, peers) = (state.while_suspended.take(), state.peers.clone());
            drop(state);
            let Some(mut hook) = hook else {
                std::thread::sleep(core::time::Duration::from_millis(1));
                return (0, WAKE_TIMEOUT);
            };
            hook(&peers);
            let mut state = world.borrow_mut();
            state.while_suspended.get_or_insert(hook);
            (0, if state.untold { WAKE_MESSAGE } else { WAKE_RESUMED })
        }
        _ => panic!("unexpected {call:?}"),
    }
}

fn status(outcome: Result<(), Error>) -> u64 {
    outcome.map_or_else(|error| error.raw().into(), |()| 0)
}

fn new_peer(head: Option<[u32; 4]>, stream: bool) -> Peer {
    let here = if stream { 0 } else { RX_BYTES as usize };
    let page = Shared::new(At::bytes(here, TX_BYTES as usize));
    let ring = stream.then(|| Shared::new(RX_BYTES as usize));
    let head = head.unwrap_or([MAGIC, info::VERSION, RX_BYTES, TX_BYTES]);
    for (at, word) in [At::MAGIC_AT, At::VERSION_AT, At::RX_BYTES_AT, At::TX_BYTES_AT].into_iter().zip(head) {
        page.set(at, word);
    }
    // SAFETY: both rings lie in memory of their size, which is never freed; these are the server's only ends, and the application's where it has none itself.
    let (rx, tx, ends) = unsafe {
        let data = page.0.add(At::RINGS_AT);
        let rx_data = ring.map_or(data, |ring| ring.0);
        let (rx, tx) = (page.control(At::RX_RING_AT), page.control(At::TX_RING_AT));
        (
            Producer::new(rx, rx_data, RX_BYTES),
            Consumer::new(tx, data.add(here), TX_BYTES),
            (Consumer::new(rx, rx_data, RX_BYTES), Producer::new(tx, data.add(here), TX_BYTES)),
        )
    };
    let cell = |ends| Rc::new(RefCell::new(Some(ends)));
    let (rx, tx) = (Rc::new(RefCell::new(rx)), Rc::new(RefCell::new(tx)));
    Peer { page, ring, rx, tx, ends: cell(ends), datagrams: !stream }
}
