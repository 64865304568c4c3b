//! The sockets of applications: a page and two rings on one side, a smoltcp socket on the other.
//!
//! | module | kind |
//! | --- | --- |
//! | [`tcp`] | connections |
//! | [`listener`] | listening TCP sockets and their backlog |
//! | [`datagram`] | UDP and ICMP echo |
//! | [`blind`] | what a stranger may not do to a connection (RFC 5961) |
//! | [`closed`] | what a peer may say while our window is closed |
//! | [`ending`] | the end of a stream after a loss |
//! | [`segment`] | what these three know of segments |
//! | [`set`] | smoltcp's sockets, and the receive rings that they write into |
//! | [`end`] | the application's end of the rings, on the paths where it does not map them |
//!
//! A socket is looked at in a pass if a packet came for it, its deadline has passed, or its page shows something new
//! ([`Socket::has_work`], three loads for an idle one).

use abi::{
    Error,
    socket::{Page, ServerCounter, State, wait_for},
};
use alloc::vec::Vec;
use smoltcp::{
    socket::Socket as Any,
    wire::{IpEndpoint, IpListenEndpoint},
};

use crate::{
    addresses::to_abi,
    link::Link,
    neighbours::Peer,
    page::{Glance, SocketPage},
    stack::Stack,
    status::Counters,
    system::{SharedMemory, System},
};

pub mod blind;
pub mod closed;
pub mod datagram;
pub mod end;
pub mod ending;
pub mod listener;
pub mod segment;
pub mod set;
pub mod tcp;

use set::Sockets;

/// What a socket is.
pub enum Protocol {
    /// A connection, or what may become one.
    Tcp(tcp::Connection),
    /// A listening TCP socket.
    Listener(listener::Listener),
    /// UDP or echo.
    Datagram(datagram::Datagram),
}

/// What a socket needs of the server while it is served.
pub struct Context<'s, L: Link, S> {
    /// smoltcp and the link.
    pub stack: &'s mut Stack<L>,
    /// For resumes.
    pub system: &'s mut S,
    /// What is counted.
    pub counters: &'s mut Counters,
}

/// What is left of a socket after it was served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// It lives on.
    Open,
    /// Nobody owns it and nothing is left to send: it can go.
    Gone,
}

/// A socket.
pub struct Socket<M> {
    /// The number of the task that it belongs to; 0 when that has closed it.
    pub owner: u32,
    /// A right to the thread to be resumed; 0 for none.
    pub thread: u32,
    /// The application's ends of the rings, where it does not map them itself. Dropped before what they point into.
    pub end: Option<end::End>,
    /// The shared page, until the application has closed the socket and all that it wrote was taken.
    pub page: Option<SocketPage<M>>,
    /// The smoltcp sockets: one, or a listener's.
    pub set: Sockets<M>,
    /// What it is.
    pub protocol: Protocol,
    /// The local end, as far as chosen.
    pub local: IpListenEndpoint,
    /// The remote end, if there is one.
    pub remote: Option<IpEndpoint>,
    /// Where the remote end is on the link.
    pub peer: Peer,
    /// A packet or a request has come for it.
    pub dirty: bool,
    /// When smoltcp wants a turn, in microseconds.
    pub deadline: i64,
    /// When a closed one is given up, in microseconds.
    pub give_up: i64,
    glance: Glance,
    state: State,
    /// Events of this pass, bits of [`wait_for`].
    events: u32,
}

/// How long what was written may take to be sent after a close, in microseconds.
const LINGER: i64 = 60_000_000;

impl<M: SharedMemory> Socket<M> {
    /// A socket for `owner`, not yet anywhere.
    pub fn new(owner: u32, thread: u32, page: SocketPage<M>, set: Sockets<M>, protocol: Protocol) -> Self {
        Self {
            owner,
            thread,
            end: None,
            page: Some(page),
            set,
            protocol,
            local: IpListenEndpoint::default(),
            remote: None,
            peer: Peer::default(),
            dirty: true,
            deadline: i64::MAX,
            give_up: i64::MAX,
            glance: Glance::default(),
            state: State::Closed,
            events: 0,
        }
    }

    /// Whether it is this task's.
    #[inline(always)]
    #[must_use]
    pub const fn is_of(&self, task: u32) -> bool {
        self.owner == task && task != 0
    }

    /// Whether this pass has to serve it.
    #[inline]
    pub fn has_work(&self, now: i64) -> bool {
        self.dirty
            || now >= self.deadline
            || self.page.as_ref().is_some_and(|page| page.glance() != self.glance)
    }

    /// Serves it: moves bytes, lets it send, tells the application.
    #[inline]
    pub fn serve<L: Link, S: System<Memory = M>>(&mut self, context: &mut Context<'_, L, S>) -> Served {
        self.dirty = false;
        if let Some(page) = &self.page {
            // Before the rings are looked at: what comes after it is seen in the next pass.
            self.glance = page.glance();
        }
        let served = match self.protocol {
            Protocol::Tcp(_) => self.serve_connection(context),
            Protocol::Listener(_) => self.serve_listener(context),
            Protocol::Datagram(_) => self.serve_datagrams(context),
        };
        if self.events != 0 {
            self.wake(context);
        }
        served
    }

    /// One resume, if the application waits for any of the events.
    #[inline]
    fn wake<L: Link, S: System>(&mut self, context: &mut Context<'_, L, S>) {
        let events = core::mem::take(&mut self.events);
        let Some(page) = &mut self.page else { return };
        if self.thread == 0 {
            return;
        }
        if page.wants(events) {
            context.counters.add(ServerCounter::Wakes, 1);
            context.system.resume(self.thread);
        } else {
            context.counters.add(ServerCounter::WakesSpared, 1);
        }
    }

    /// Shows a state to the application. `Finished` stays.
    pub fn set_state(&mut self, state: State, error: Option<Error>) {
        if self.state == state || self.state == State::Finished {
            return;
        }
        self.state = state;
        self.events |= wait_for::STATE | wait_for::READ | wait_for::WRITE | wait_for::DRAINED;
        let Some(page) = &self.page else { return };
        page.set_endpoint(Page::LOCAL_AT, &to_abi(self.local.addr, self.local.port));
        if let Some(remote) = self.remote {
            page.set_endpoint(Page::REMOTE_AT, &to_abi(Some(remote.addr), remote.port));
        }
        page.set(Page::ERROR_AT, error.map_or(0, Error::raw));
        page.set(Page::STATE_AT, state.raw());
    }

    /// The state that the application sees.
    pub const fn state(&self) -> State {
        self.state
    }

    /// The application wrote what cannot be: this socket is over, and nothing of its page is believed any more.
    #[cold]
    fn misbehaved(&mut self, counters: &mut Counters) {
        counters.add(ServerCounter::PeerMisbehaviour, 1);
        self.set_state(State::Finished, Some(Error::PeerMisbehaviour));
        self.abort();
    }

    /// Ends it at once; a connection by RST.
    pub fn abort(&mut self) {
        self.set.for_each(|socket| match socket {
            Any::Tcp(tcp) => tcp.abort(),
            Any::Udp(udp) => udp.close(),
            _ => {}
        });
        if let Protocol::Tcp(connection) = &mut self.protocol {
            connection.abort();
        }
        self.dirty = true;
    }

    /// The application has closed it, or has died. What it wrote is still sent, if that can be within a minute.
    pub fn close<S: System>(&mut self, system: &mut S, now: i64) {
        self.owner = 0;
        self.end = None;
        if self.thread != 0 {
            system.release(self.thread);
            self.thread = 0;
        }
        self.give_up = now + LINGER;
        self.dirty = true;
        if !matches!(self.protocol, Protocol::Tcp(_)) || self.has_unread() {
            // Unread data is lost with the socket: the other end has to know (RFC 2525, section 2.17).
            self.abort();
        }
    }

    /// The local end of a connection, address and all.
    #[must_use]
    pub fn local_endpoint(&self) -> Option<IpEndpoint> {
        Some(IpEndpoint { addr: self.local.addr?, port: self.local.port })
    }

    /// Shows the local end before there is a state to go with it.
    pub fn show_local(&self) {
        if let Some(page) = &self.page {
            page.set_endpoint(Page::LOCAL_AT, &to_abi(self.local.addr, self.local.port));
        }
    }

    /// Whether the application leaves something unread, or has ruined the position that says so.
    fn has_unread(&mut self) -> bool {
        let (Protocol::Tcp(connection), Some(page)) = (&self.protocol, &mut self.page) else { return false };
        let Ok(consumed) = page.take_consumed() else { return true };
        self.set.tcp(connection.handle(), |tcp| {
            tcp::free_room(tcp, consumed);
            tcp.recv_queue() != 0
        })
    }
}

/// A buffer of smoltcp's.
fn buffer(bytes: usize) -> Vec<u8> {
    alloc::vec![0; bytes]
}
