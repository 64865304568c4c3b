//! What all kinds of socket have in common.
#![expect(unsafe_code, reason = "the page and the ends of the rings live in mappings that the socket owns")]

use alloc::sync::Arc;
use core::{
    net::SocketAddr,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use abi::{
    Error,
    path::Path,
    port,
    socket::{Kind, Request, State, wait_for},
    vm::{PAGE_BYTES, PROT_READ},
};
use shmqueue::PeerMisbehaviour;

use super::{
    Page, Service,
    address::{from_endpoint, to_endpoint, to_words},
    transport::{Calls, Rings, Transport},
};
use crate::{
    memory::{Mapping, MemoryObject},
    message::{Incoming, Outgoing},
    port::Right,
    thread::{self, ThreadRef},
    time::Deadline,
};

/// How long a program looks for a server that does not die while it is asked for a socket.
const OPEN_LIMIT: Duration = Duration::from_secs(10);

/// What a thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Something to read, or the end of it.
    Read,
    /// Room to write: a quarter of the ring.
    Write,
    /// The end of connecting, for better or worse.
    Connected,
    /// A connection to accept.
    Accept,
    /// All that was written has been acknowledged.
    Drained,
}

impl Want {
    pub(super) const fn bits(self) -> u32 {
        match self {
            Want::Read => wait_for::READ,
            Want::Write => wait_for::WRITE,
            Want::Connected | Want::Accept => wait_for::STATE,
            Want::Drained => wait_for::DRAINED,
        }
    }
}

/// A socket of any kind.
pub struct Socket {
    pub(super) transport: Transport,
    pub(super) page: Page,
    number: u32,
    /// The thread that waits for it, by its name here.
    thread: AtomicU32,
    service: Arc<Service>,
    /// Unmapped last: the page and the transport point into them.
    _mappings: (Mapping, Option<Mapping>),
}

impl core::fmt::Debug for Socket {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Socket")
            .field("number", &self.number)
            .field("state", &self.page.state())
            .finish_non_exhaustive()
    }
}

impl Socket {
    pub(super) fn open(kind: Kind) -> Result<Self, Error> {
        Self::open_for(kind, port::THREAD_SELF)
    }

    /// Opens one that is `thread`'s.
    fn open_for(kind: Kind, thread: u32) -> Result<Self, Error> {
        let deadline = Deadline::after(Some(OPEN_LIMIT));
        loop {
            let service = Service::get(None)?;
            let request = Outgoing::with_words(Request::Open.raw(), &[kind.raw()]).carry_copy(thread);
            match service.ask(request) {
                // The server died before anybody asked it for anything: the next will do as well.
                Err(Error::NetworkReset) if deadline.left_ns().is_some() => {}
                reply => return Self::from_reply(service, reply?, thread),
            }
        }
    }

    /// After the server has died: another of the kind, on the next server, for the same thread.
    pub(super) fn open_again(&self, kind: Kind) -> Result<Self, Error> {
        let thread = self.thread.load(Relaxed);
        let socket = Self::open_for(kind, thread)?;
        socket.watch_for(thread)?;
        Ok(socket)
    }

    /// Has the thread told of the server's death.
    fn watch_for(&self, thread: u32) -> Result<(), Error> {
        let Some(right) = Right::from_name(thread) else { return Err(Error::BadRight) };
        let thread = ThreadRef::new(right);
        let watched = self.service.watch(&thread);
        let _ = thread.into_right().into_name(); // which is the program's
        watched
    }

    /// Whether the server has died that this socket was of.
    #[cold]
    pub(super) fn is_orphan(&self) -> bool {
        self.service.is_dead()
    }

    /// From the reply to `Open` or `Accept`.
    fn from_reply(service: Arc<Service>, mut reply: Incoming, thread: u32) -> Result<Self, Error> {
        let [number, bytes, ring_bytes] = super::service::words(&reply, 1)?;
        let thread = AtomicU32::new(thread);
        let object = reply.take_carried().map(MemoryObject::new).ok_or(Error::PeerMisbehaviour)?;
        let ring = reply.take_reply().map(MemoryObject::new);
        if service.path() != Path::Window {
            let mapping = object.map_shared(PAGE_BYTES as usize)?;
            // SAFETY: the socket owns the mapping, and drops it last.
            let page = unsafe { Page::new(mapping.base()) }?;
            service.enter(number, page);
            let transport = Transport::Calls(Calls::new(number, Arc::clone(&service)));
            return Ok(Self { transport, page, number, thread, service, _mappings: (mapping, None) });
        }
        if u64::from(bytes) < PAGE_BYTES {
            return Err(Error::PeerMisbehaviour);
        }
        let mapping = object.map_shared(bytes as usize)?;
        let ring = match ring {
            None => None,
            Some(object) => Some(object.map(0, ring_bytes as usize, PROT_READ)?),
        };
        let apart = ring.as_ref().map(|ring| (ring.base(), ring.len()));
        // SAFETY: the socket owns the mappings, a page at least, and drops them last.
        let page = unsafe { Page::new(mapping.base()) }?;
        // SAFETY: a new page, and the only ends; nothing here forms references to the rings' bytes.
        let ends = unsafe { page.ends(mapping.len(), apart) }?;
        service.enter(number, page);
        let transport = Transport::Rings(Rings::new(ends, Arc::clone(&service)));
        Ok(Self { transport, page, number, thread, service, _mappings: (mapping, ring) })
    }

    pub(super) fn accept(&self) -> Result<Self, Error> {
        let request =
            Outgoing::with_words(Request::Accept.raw(), &[self.number]).carry_copy(port::THREAD_SELF);
        Self::from_reply(Arc::clone(&self.service), self.service.ask(request)?, port::THREAD_SELF)
    }

    /// Sends a request about this socket.
    pub(super) fn ask(&self, request: Request, words: &[u32]) -> Result<Incoming<'static>, Error> {
        let request = Outgoing::with_words(request.raw(), &[self.number]);
        self.service.ask(words.iter().fold(request, |request, &word| request.word(word)))
    }

    pub(super) fn bind(&self, local: SocketAddr) -> Result<(), Error> {
        self.ask(Request::Bind, &to_words(&to_endpoint(local))).map(drop)
    }

    pub(super) fn connect(&self, remote: SocketAddr) -> Result<(), Error> {
        self.ask(Request::Connect, &to_words(&to_endpoint(remote))).map(drop)
    }

    pub(super) fn local(&self) -> SocketAddr {
        from_endpoint(&self.page.local()).unwrap_or_else(unspecified)
    }

    pub(super) fn remote(&self) -> SocketAddr {
        from_endpoint(&self.page.remote()).unwrap_or_else(unspecified)
    }

    /// Puts bytes into a stream, as many as there is room for; 0 if there is none now.
    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        match &mut self.transport {
            Transport::Rings(rings) => {
                let written = rings.tx.write(bytes).map_err(misbehaved)?;
                if written != 0 {
                    rings.ring_bell();
                }
                Ok(written)
            }
            Transport::Calls(_) if self.page.tx_room() == 0 => Ok(0),
            Transport::Calls(calls) => match calls.write(bytes, None) {
                Ok(0) => Err(Error::PeerMisbehaviour), // nobody else fills the ring
                // It has ended since the page was looked at, which says why.
                Err(Error::NotConnected) if self.page.state() == State::Finished => Ok(0),
                outcome => outcome,
            },
        }
    }

    /// Takes bytes of a stream; 0 if there is nothing now.
    pub(super) fn take(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        match &mut self.transport {
            Transport::Rings(rings) => {
                let read = rings.rx.read(buffer).map_err(misbehaved)?;
                if read != 0 {
                    rings.after_read(&self.page, read);
                }
                Ok(read)
            }
            Transport::Calls(_) if self.page.rx_used() == 0 => Ok(0),
            Transport::Calls(calls) => match calls.read(buffer)? {
                0 => Err(Error::PeerMisbehaviour), // nobody else empties the ring
                read => Ok(read),
            },
        }
    }

    /// Makes the server look at the page soon.
    pub(super) fn nudge(&mut self) -> Result<(), Error> {
        match &mut self.transport {
            Transport::Rings(rings) => {
                rings.ring_bell();
                Ok(())
            }
            Transport::Calls(calls) => calls.nudge(),
        }
    }

    /// The number that the server knows it by.
    pub(super) const fn number(&self) -> u32 {
        self.number
    }

    /// Is there what is wanted? Also where it will never be: the call that follows says why.
    #[must_use]
    pub fn is_ready(&self, want: Want) -> bool {
        let state = self.page.state();
        match want {
            // The state was loaded before the ring: what is in the ring when the state says "end" is all.
            Want::Read => matches!(state, State::HalfClosed | State::Finished) || self.page.rx_used() != 0,
            Want::Write => {
                let bytes = self.page.tx_bytes();
                state == State::Finished || bytes.saturating_sub(self.page.tx_used()) >= bytes / 4
            }
            Want::Connected => !matches!(state, State::Connecting | State::Closed),
            Want::Accept => state == State::Finished || self.page.accept_ready() != 0,
            Want::Drained => state == State::Finished || self.page.acknowledged() == self.page.written(),
        }
    }

    /// Blocks until [`is_ready`](Self::is_ready).
    #[cold]
    pub(super) fn wait(&self, want: Want, deadline: Deadline) -> Result<(), Error> {
        while !self.is_ready(want) {
            let left = deadline.left_ns().ok_or(Error::TimedOut)?;
            self.page.set_wait_for(want.bits());
            let word = self.page.wait_word();
            word.prepare();
            // The gap: what the server did before it could see the odd word is seen here; what it does later resumes us.
            let woken = if self.is_ready(want) { Ok(()) } else { thread::suspend_ns(left).map(drop) };
            word.finish();
            woken?;
        }
        Ok(())
    }

    /// Why the socket is over: an error, or `end` where it ended in good order.
    #[cold]
    pub(super) fn failure(&self, end: Error) -> Error {
        self.page.error().unwrap_or(end)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.service.leave(self.number);
        let _ = self.ask(Request::Close, &[]); // a server that has died has closed it already
    }
}

#[cold]
pub(super) fn misbehaved(_: PeerMisbehaviour) -> Error {
    Error::PeerMisbehaviour
}

fn unspecified() -> SocketAddr {
    SocketAddr::new(core::net::Ipv4Addr::UNSPECIFIED.into(), 0)
}

/// What is a socket.
pub trait AsSocket {
    /// The socket of it.
    fn as_socket(&self) -> &Socket;

    /// Would the call that `want` stands for go on at once?
    fn is_ready(&self, want: Want) -> bool {
        self.as_socket().is_ready(want)
    }

    /// From now on another thread of this task waits for it.
    ///
    /// # Errors
    /// [`Error::BadRight`] if that is no thread.
    fn rebind(&self, thread: &ThreadRef) -> Result<(), Error> {
        let socket = self.as_socket();
        let request = Outgoing::with_words(Request::Rebind.raw(), &[socket.number]).carry_copy(thread.name());
        socket.service.ask(request)?;
        socket.thread.store(thread.name(), Relaxed);
        socket.watch_for(thread.name())
    }
}
