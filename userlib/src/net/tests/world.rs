//! A kernel, a name service and a protocol server of a few lines, for one test at a time.
#![expect(unsafe_code, reason = "it plays the other side of raw memory")]

use std::{
    boxed::Box,
    cell::RefCell,
    rc::Rc,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    vec::Vec,
};

use abi::{
    Error, info,
    message::Message,
    name::{LOOK_UP, NETWORK},
    socket::{Kind, MAGIC, Page as At, REPLY, Request, State, Status},
    syscall::Syscall,
    thread::{WAKE_RESUMED, WAKE_TIMEOUT},
    vm::PROT_READ,
};
use shmqueue::{
    WaitWord,
    bytes::{Consumer, Control, Producer},
};

use crate::raw::fake;

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
fn status() -> Shared {
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
}

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

    /// What the application waits for, if it waits.
    pub fn waits_for(&self) -> Option<u32> {
        (self.page.get(At::WAIT_AT) & 1 == 1).then(|| self.page.get(At::WAIT_FOR_AT))
    }
}

type Hook = Box<dyn FnMut(&[Peer])>;

#[derive(Default)]
struct Books {
    peers: Vec<Peer>,
    requests: Vec<Message>,
    reply: Option<Message>,
    while_suspended: Option<Hook>,
    /// System calls in all, and resumes of the server among them.
    calls: u32,
    resumes: u32,
    suspends: u32,
    /// The head of the next page, if it is to be another.
    head: Option<[u32; 4]>,
}

/// The world of one test.
pub struct World {
    state: Rc<RefCell<Books>>,
    _alone: MutexGuard<'static, ()>,
}

impl World {
    pub fn new() -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        status().set(Status::WAIT_AT, 0);
        let state = Rc::new(RefCell::new(Books::default()));
        let kernel = Rc::clone(&state);
        fake::install(move |number, arguments| answer(&kernel, number, arguments));
        Self { state, _alone: alone }
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

    /// The server goes to sleep.
    pub fn server_sleeps(&self) {
        status().wait_word(Status::WAIT_AT).prepare();
    }

    pub fn server_wakes(&self) {
        status().wait_word(Status::WAIT_AT).finish();
    }
}

fn answer(world: &Rc<RefCell<Books>>, number: u64, arguments: [u64; 6]) -> (u64, u64) {
    let call = u32::try_from(number).ok().and_then(Syscall::from_raw).unwrap();
    let mut state = world.borrow_mut();
    state.calls += 1;
    match call {
        Syscall::PortAllocate => (0, 50),
        Syscall::PortDeallocate | Syscall::VmDeallocate => (0, 0),
        Syscall::MessageSend => {
            // SAFETY: the wrapper passes a message that it has borrowed.
            let message =
                unsafe { core::ptr::with_exposed_provenance::<Message>(arguments[0] as usize).read() };
            state.reply = Some(serve(&mut state, &message));
            (0, 0)
        }
        Syscall::MessageReceive => {
            let reply = state.reply.take().unwrap();
            // SAFETY: the wrapper passes room for a message.
            unsafe { core::ptr::with_exposed_provenance_mut::<Message>(arguments[1] as usize).write(reply) };
            (0, 0)
        }
        Syscall::VmMap => {
            let page = match arguments[0] {
                STATUS_NAME => {
                    assert_eq!(arguments[3], PROT_READ);
                    status()
                }
                name @ FIRST_RING.. => {
                    assert_eq!(arguments[3], PROT_READ, "the right allows no more");
                    assert_eq!(arguments[2], RX_BYTES.into());
                    state.peers[(name - FIRST_RING) as usize].ring.unwrap()
                }
                name => state.peers[(name - FIRST_OBJECT) as usize].page,
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
            world.borrow_mut().while_suspended.get_or_insert(hook);
            (0, WAKE_RESUMED)
        }
        _ => panic!("unexpected {call:?}"),
    }
}

fn serve(state: &mut Books, message: &Message) -> Message {
    let mut reply = Message::new(50, REPLY);
    assert!(reply.set_word(0, 0));
    if message.id == LOOK_UP {
        assert_eq!(message.bytes(), NETWORK);
        reply.carried = 100;
        return reply;
    }
    state.requests.push(*message);
    match Request::from_raw(message.id).unwrap() {
        Request::Hello => (reply.reply, reply.carried) = (101, STATUS_NAME as u32),
        Request::Open | Request::Accept => {
            let number = state.peers.len() as u32;
            let stream = message.id == Request::Accept.raw() || message.word(0) == Some(Kind::Tcp.raw());
            let peer = new_peer(state.head.take(), stream);
            state.peers.push(peer);
            let here = if stream { 0 } else { RX_BYTES };
            assert!(reply.set_word(1, number));
            assert!(reply.set_word(2, At::bytes(here as usize, TX_BYTES as usize) as u32));
            assert!(reply.set_word(3, RX_BYTES - here));
            reply.carried = FIRST_OBJECT as u32 + number;
            if stream {
                reply.reply = FIRST_RING as u32 + number;
            }
        }
        Request::Connect => state.peers[message.word(0).unwrap() as usize].state(State::Established),
        _ => {}
    }
    reply
}

fn new_peer(head: Option<[u32; 4]>, stream: bool) -> Peer {
    let here = if stream { 0 } else { RX_BYTES as usize };
    let page = Shared::new(At::bytes(here, TX_BYTES as usize));
    let ring = stream.then(|| Shared::new(RX_BYTES as usize));
    let head = head.unwrap_or([MAGIC, info::VERSION, RX_BYTES, TX_BYTES]);
    for (at, word) in [At::MAGIC_AT, At::VERSION_AT, At::RX_BYTES_AT, At::TX_BYTES_AT].into_iter().zip(head) {
        page.set(at, word);
    }
    // SAFETY: both rings lie in memory of their size, which is never freed; these are the server's only ends.
    let (rx, tx) = unsafe {
        let data = page.0.add(At::RINGS_AT);
        let rx_data = ring.map_or(data, |ring| ring.0);
        (
            Producer::new(page.control(At::RX_RING_AT), rx_data, RX_BYTES),
            Consumer::new(page.control(At::TX_RING_AT), data.add(here), TX_BYTES),
        )
    };
    Peer { page, ring, rx: Rc::new(RefCell::new(rx)), tx: Rc::new(RefCell::new(tx)) }
}
