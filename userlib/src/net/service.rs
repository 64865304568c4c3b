//! The protocol server as this task knows it.
//!
//! When the server dies the kernel tells each thread that may wait for it, by a message to a port bound to the thread. What then happens is
//! done by whichever thread hears of it first: every socket's page says from then on that the socket is over, and why
//! ([`Service::bury`]). So no call looks for the server's death by itself; it finds a socket that has ended. The next
//! [`Service::get`] looks for another server.
#![expect(unsafe_code, reason = "words of a page that the server writes")]

use alloc::{sync::Arc, vec::Vec};
use core::{
    net::IpAddr,
    sync::atomic::{
        AtomicBool, AtomicU32, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
    time::Duration,
};

use abi::{
    Error,
    message::{Message, NOTIFY_DEAD_NAME},
    name::NETWORK,
    path::Path,
    socket::{REPLY, Request, Status},
    vm::{PAGE_BYTES, PROT_READ},
};
use shmqueue::WaitWord;

use super::{Page, address, trap};
#[cfg(not(test))]
use crate::info;
use crate::{
    counters::SERVER_COUNT,
    memory::{Mapping, MemoryObject},
    message::{Incoming, Outgoing, ask, receive},
    name,
    port::{ReceiveRight, SendRight},
    rpc::{self, Payload, Received},
    sync::Lock,
    thread::{self, ThreadRef},
    time::Deadline,
};

/// How long a socket call looks for the service before it says that there is none.
const LOOK_UP_LIMIT: Duration = Duration::from_secs(10);

/// Between two tries to greet a server that has died since it registered.
const RETRY: Duration = Duration::from_millis(10);

/// The name of the server that this task asks.
static NAME: Lock<&'static str> = Lock::new("");

static SERVICE: Lock<Option<Arc<Service>>> = Lock::new(None);

/// From now on the server registered under `name` is this task's, where several run; to be said before the first socket call. A program's
/// first word `@name` says it ([`crate::entry`]).
pub fn choose(name: &'static str) {
    *NAME.lock() = name;
}

/// The server: where to ask, and whether it sleeps.
#[derive(Debug)]
pub struct Service {
    server: Server,
    status: Mapping,
    path: Path,
    out_of_line: usize,
    dead: AtomicBool,
    /// The pages of all sockets there are.
    pages: Lock<Vec<(u32, Page)>>,
    /// Where the kernel tells of its death, and the name of the thread that hears it there.
    watches: Lock<Vec<(u32, ReceiveRight)>>,
}

/// Who has the stack.
#[derive(Debug)]
enum Server {
    /// The protocol server.
    Task { port: SendRight, thread: ThreadRef },
    /// The kernel.
    Kernel,
}

impl Service {
    /// The service, found by its name the first time, and again after it has died.
    ///
    /// # Errors
    /// [`Error::TimedOut`] where there is none within the limit (10 seconds by default).
    pub fn get(limit: Option<Duration>) -> Result<Arc<Self>, Error> {
        if let Some(service) = living() {
            return Ok(service);
        }
        // Not under the lock: another thread may wait no less.
        let new = Arc::new(Self::greet(Deadline::after(Some(limit.unwrap_or(LOOK_UP_LIMIT))))?);
        let mut known = SERVICE.lock();
        match known.as_ref().filter(|service| !service.is_dead()) {
            Some(service) => Ok(Arc::clone(service)), // it was faster
            None => Ok(Arc::clone(known.insert(new))),
        }
    }

    fn greet(deadline: Deadline) -> Result<Self, Error> {
        let (path, out_of_line) = options();
        let hello = || Outgoing::new(Request::Hello.raw());
        if path == Path::Monolithic {
            return Self::new(Server::Kernel, trap::ask(&hello())?, path, out_of_line);
        }
        let chosen = *NAME.lock();
        let name = if chosen.is_empty() { NETWORK } else { chosen.as_bytes() };
        loop {
            let left = Duration::from_nanos(deadline.left_ns().ok_or(Error::TimedOut)?);
            let port = name::look_up(name, Some(left))?;
            match ask(&port, hello(), Some(left)) {
                Ok(mut reply) => {
                    reply.status()?;
                    let thread = reply.take_reply().map(ThreadRef::new).ok_or(Error::PeerMisbehaviour)?;
                    let it = Self::new(Server::Task { port, thread }, reply, path, out_of_line)?;
                    match it.watch(&ThreadRef::first()) {
                        Ok(()) => return Ok(it),
                        Err(Error::Dead) => {}
                        Err(error) => return Err(error),
                    }
                }
                Err(Error::Dead) => {}
                Err(error) => return Err(error),
            }
            thread::sleep(RETRY);
        }
    }

    fn new(server: Server, mut reply: Incoming, path: Path, out_of_line: usize) -> Result<Self, Error> {
        reply.status()?;
        let object = reply.take_carried().map(MemoryObject::new).ok_or(Error::PeerMisbehaviour)?;
        let status = object.map(0, PAGE_BYTES as usize, PROT_READ)?;
        let (dead, pages, watches) = (AtomicBool::new(false), Lock::new(Vec::new()), Lock::new(Vec::new()));
        let it = Self { server, status, path, out_of_line, dead, pages, watches };
        if it.word(Status::MAGIC_AT).load(Acquire) != Status::MAGIC {
            return Err(Error::PeerMisbehaviour);
        }
        Ok(it)
    }

    /// From now on `thread` is resumed when the server dies. The kernel does not.
    ///
    /// # Errors
    /// [`Error::Dead`] if it has; [`Error::BadRight`] if that is no thread; [`Error::NoResources`].
    pub(super) fn watch(&self, thread: &ThreadRef) -> Result<(), Error> {
        let Server::Task { port, .. } = &self.server else { return Ok(()) };
        let mut watches = self.watches.lock();
        if watches.iter().all(|(watched, _)| *watched != thread.name()) {
            let notify = ReceiveRight::allocate()?;
            notify.bind_thread(Some(thread))?;
            port.notify_dead(&notify)?;
            watches.push((thread.name(), notify));
        }
        Ok(())
    }

    /// Whether the server is known to have died.
    #[inline]
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.dead.load(Acquire) // pairs with the Release of `bury`
    }

    /// Hears what the kernel has to tell.
    fn look_for_death(&self) {
        let told = self.watches.lock().iter().any(|(_, notify)| {
            receive(notify, Some(Duration::ZERO)).is_ok_and(|message| message.id == NOTIFY_DEAD_NAME)
        });
        if told {
            self.bury();
        }
    }

    /// The server has died: so have all its sockets.
    fn bury(&self) {
        let mut pages = self.pages.lock();
        self.dead.store(true, Release); // pairs with the Acquire of `is_dead`
        for (_, page) in pages.drain(..) {
            page.fail(Error::NetworkReset);
        }
    }

    /// A socket's page. It stays mapped until [`leave`](Self::leave).
    pub(super) fn enter(&self, socket: u32, page: Page) {
        let mut pages = self.pages.lock();
        if self.is_dead() {
            page.fail(Error::NetworkReset);
        } else {
            pages.push((socket, page));
        }
    }

    /// The socket's page is no longer to be touched.
    pub(super) fn leave(&self, socket: u32) {
        let mut pages = self.pages.lock();
        if let Some(at) = pages.iter().position(|(number, _)| *number == socket) {
            pages.swap_remove(at);
        }
    }

    /// What an error means that a call of the server gave.
    #[cold]
    fn explain(&self, error: Error) -> Error {
        if error == Error::Dead {
            // The kernel's word came no later than the error.
            self.look_for_death();
        }
        if self.is_dead() { Error::NetworkReset } else { error }
    }

    /// The way to the network.
    #[inline]
    #[must_use]
    pub const fn path(&self) -> Path {
        self.path
    }

    /// From how many bytes on data goes out of line, where it goes by message.
    #[inline]
    pub(super) const fn out_of_line(&self) -> usize {
        self.out_of_line
    }

    fn word(&self, at: usize) -> &AtomicU32 {
        // SAFETY: `at` is a multiple of 4 within the page, which is mapped for as long as `self`; the server writes it by atomic stores.
        unsafe { self.status.base().add(at).cast().as_ref() }
    }

    /// The server's generation word, for whoever keeps `self` as long.
    #[inline]
    pub(super) fn wait_word(&self) -> &'static WaitWord {
        // SAFETY: as for `word`; the word is only ever loaded here. `Rings` alone asks for it, and keeps the service beside it.
        unsafe { self.status.base().add(Status::WAIT_AT).cast().as_ref() }
    }

    /// The server's counters.
    #[must_use]
    pub fn counters(&self) -> [u64; SERVER_COUNT] {
        const { assert!(Status::COUNTERS_AT + 8 * SERVER_COUNT <= PAGE_BYTES as usize) };
        core::array::from_fn(|i| {
            // SAFETY: as for `word`, with 8 bytes: the assertion says that all lie in the page.
            let word: &AtomicU64 =
                unsafe { self.status.base().add(Status::COUNTERS_AT + 8 * i).cast().as_ref() };
            word.load(Relaxed)
        })
    }

    /// Resumes the server's thread.
    #[cold]
    #[inline(never)]
    pub(super) fn wake(&self) {
        if let Server::Task { thread, .. } = &self.server {
            let _ = thread.resume(); // a dead server shows in the next request
        }
    }

    /// Sends a request and checks the reply's status.
    ///
    /// # Errors
    /// What the server says, or [`Error::NetworkReset`] if it has died.
    pub fn ask(&self, request: Outgoing<'_>) -> Result<Incoming<'static>, Error> {
        let reply = match &self.server {
            Server::Task { port, .. } => ask(port, request, None).map_err(|error| self.explain(error))?,
            Server::Kernel => trap::ask(&request)?,
        };
        check(&reply)?;
        Ok(reply)
    }

    /// Sends a request with data and checks the reply's status.
    ///
    /// # Errors
    /// What the server says, or [`Error::NetworkReset`] if it has died; [`Error::BadCall`] where there is none to send to.
    #[inline]
    pub(super) fn call<'r>(
        &self,
        request: &mut Message,
        payload: Payload<'_>,
        reply: &'r mut Message,
        room: &'r mut [u8],
    ) -> Result<Received<'r>, Error> {
        let Server::Task { port, .. } = &self.server else { return Err(Error::BadCall) };
        let reply = rpc::call(port, request, payload, reply, room).map_err(|error| self.explain(error))?;
        check(&reply)?;
        Ok(reply)
    }
}

/// The service that is known, unless it has died.
fn living() -> Option<Arc<Service>> {
    SERVICE.lock().as_ref().filter(|service| !service.is_dead()).map(Arc::clone)
}

/// A message has come to a port that is bound to this thread.
#[cold]
pub(crate) fn look_for_death() {
    if let Some(service) = living() {
        service.look_for_death();
    }
}

/// Waits until there is a network: a server that is not known to have died.
///
/// After [`Error::NetworkReset`] a program does this, and connects again. Listeners and datagram sockets come back by themselves.
///
/// # Errors
/// [`Error::TimedOut`] where there is none within `limit`.
pub fn wait_for_network(limit: Duration) -> Result<(), Error> {
    Service::get(Some(limit)).map(drop)
}

/// A reply has to be one, and to say that all went well.
#[inline]
fn check(reply: &Message) -> Result<(), Error> {
    if reply.id != REPLY {
        return Err(Error::PeerMisbehaviour);
    }
    match reply.word(0) {
        Some(0) => Ok(()),
        Some(raw) => Err(Error::from_raw(raw).unwrap_or(Error::PeerMisbehaviour)),
        None => Err(Error::PeerMisbehaviour),
    }
}

/// The path, and from how many bytes on data goes out of line.
#[cfg(not(test))]
fn options() -> (Path, usize) {
    (info::path(), info::out_of_line_bytes())
}

#[cfg(test)]
use super::tests::options;

/// The next test has another server.
#[cfg(test)]
pub(super) fn forget() {
    *SERVICE.lock() = None;
}

/// The interface's address and the length of its network's prefix.
///
/// # Errors
/// As for [`Service::get`].
pub fn interface() -> Result<(IpAddr, u32), Error> {
    let reply = Service::get(None)?.ask(Outgoing::new(Request::Interface.raw()))?;
    let prefix = reply.word(1).ok_or(Error::PeerMisbehaviour)?;
    let endpoint = address::from_words(words(&reply, 2)?);
    let address = address::from_endpoint(&endpoint).ok_or(Error::PeerMisbehaviour)?;
    Ok((address.ip(), prefix))
}

/// `N` words of a reply from index `from` on.
pub(super) fn words<const N: usize>(reply: &Incoming, from: usize) -> Result<[u32; N], Error> {
    let mut words = [0; N];
    for (i, word) in words.iter_mut().enumerate() {
        *word = reply.word(from + i).ok_or(Error::PeerMisbehaviour)?;
    }
    Ok(words)
}
