//! The protocol server as this task knows it.
#![expect(unsafe_code, reason = "words of a page that the server writes")]

use alloc::boxed::Box;
use core::{
    net::IpAddr,
    sync::atomic::{
        AtomicU32, AtomicU64,
        Ordering::{Acquire, Relaxed},
    },
    time::Duration,
};

use abi::{
    Error,
    message::Message,
    name::NETWORK,
    path::Path,
    socket::{REPLY, Request, Status},
    vm::{PAGE_BYTES, PROT_READ},
};
use shmqueue::WaitWord;

use super::{address, trap};
#[cfg(not(test))]
use crate::info;
use crate::{
    counters::SERVER_COUNT,
    memory::{Mapping, MemoryObject},
    message::{Incoming, Outgoing, ask},
    name,
    port::SendRight,
    rpc::{self, Payload, Received},
    sync::Lock,
    thread::ThreadRef,
};

/// How long a socket call looks for the service before it says that there is none.
const LOOK_UP_LIMIT: Duration = Duration::from_secs(10);

/// The name of the server that this task asks.
static NAME: Lock<&'static str> = Lock::new("");

static SERVICE: Lock<Option<&'static Service>> = Lock::new(None);

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
    /// The service, found by its name the first time.
    ///
    /// # Errors
    /// [`Error::TimedOut`] where there is none within the limit (10 seconds by default).
    pub fn get(limit: Option<Duration>) -> Result<&'static Self, Error> {
        let mut known = SERVICE.lock();
        if let Some(service) = *known {
            return Ok(service);
        }
        let service: &'static Self = Box::leak(Box::new(Self::greet(limit.unwrap_or(LOOK_UP_LIMIT))?));
        *known = Some(service);
        Ok(service)
    }

    fn greet(limit: Duration) -> Result<Self, Error> {
        let (path, out_of_line) = options();
        let hello = Outgoing::new(Request::Hello.raw());
        let (server, mut reply) = if path == Path::Monolithic {
            (Server::Kernel, trap::ask(&hello)?)
        } else {
            let chosen = *NAME.lock();
            let name = if chosen.is_empty() { NETWORK } else { chosen.as_bytes() };
            let port = name::look_up(name, Some(limit))?;
            let mut reply = ask(&port, hello, Some(limit))?;
            reply.status()?;
            let thread = reply.take_reply().map(ThreadRef::new).ok_or(Error::PeerMisbehaviour)?;
            (Server::Task { port, thread }, reply)
        };
        reply.status()?;
        let object = reply.take_carried().map(MemoryObject::new).ok_or(Error::PeerMisbehaviour)?;
        let status = object.map(0, PAGE_BYTES as usize, PROT_READ)?;
        let it = Self { server, status, path, out_of_line };
        if it.word(Status::MAGIC_AT).load(Acquire) != Status::MAGIC {
            return Err(Error::PeerMisbehaviour);
        }
        Ok(it)
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

    /// The server's generation word.
    #[inline]
    pub(super) fn wait_word(&self) -> &WaitWord {
        // SAFETY: as for `word`; the word is only ever loaded here.
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
    /// What the server says, or [`Error::Dead`] if it has died.
    pub fn ask(&self, request: Outgoing<'_>) -> Result<Incoming<'static>, Error> {
        let reply = match &self.server {
            Server::Task { port, .. } => ask(port, request, None)?,
            Server::Kernel => trap::ask(&request)?,
        };
        check(&reply)?;
        Ok(reply)
    }

    /// Sends a request with data and checks the reply's status.
    ///
    /// # Errors
    /// What the server says, or [`Error::Dead`] if it has died; [`Error::BadCall`] where there is none to send to.
    #[inline]
    pub(super) fn call<'r>(
        &self,
        request: &mut Message,
        payload: Payload<'_>,
        reply: &'r mut Message,
        room: &'r mut [u8],
    ) -> Result<Received<'r>, Error> {
        let Server::Task { port, .. } = &self.server else { return Err(Error::BadCall) };
        let reply = rpc::call(port, request, payload, reply, room)?;
        check(&reply)?;
        Ok(reply)
    }
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
