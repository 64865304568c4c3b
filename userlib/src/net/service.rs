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
    name::NETWORK,
    socket::{REPLY, Request, Status},
    vm::{PAGE_BYTES, PROT_READ},
};
use shmqueue::WaitWord;

use super::address;
use crate::{
    counters::SERVER_COUNT,
    memory::{Mapping, MemoryObject},
    message::{Incoming, Outgoing, ask},
    name,
    port::SendRight,
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
    port: SendRight,
    thread: ThreadRef,
    status: Mapping,
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
        let chosen = *NAME.lock();
        let name = if chosen.is_empty() { NETWORK } else { chosen.as_bytes() };
        let port = name::look_up(name, Some(limit))?;
        let mut reply = ask(&port, Outgoing::new(Request::Hello.raw()), Some(limit))?;
        reply.status()?;
        let thread = reply.take_reply().map(ThreadRef::new).ok_or(Error::PeerMisbehaviour)?;
        let object = reply.take_carried().map(MemoryObject::new).ok_or(Error::PeerMisbehaviour)?;
        let status = object.map(0, PAGE_BYTES as usize, PROT_READ)?;
        let it = Self { port, thread, status };
        if it.word(Status::MAGIC_AT).load(Acquire) != Status::MAGIC {
            return Err(Error::PeerMisbehaviour);
        }
        Ok(it)
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
        let _ = self.thread.resume(); // a dead server shows in the next request
    }

    /// Sends a request and checks the reply's status.
    ///
    /// # Errors
    /// What the server says, or [`Error::Dead`] if it has died.
    pub fn ask(&self, request: Outgoing<'_>) -> Result<Incoming<'static>, Error> {
        let reply = ask(&self.port, request, None)?;
        if reply.id != REPLY {
            return Err(Error::PeerMisbehaviour);
        }
        reply.status()?;
        Ok(reply)
    }
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
