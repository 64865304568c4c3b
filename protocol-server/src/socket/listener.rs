//! Listening sockets: as many smoltcp sockets in LISTEN as the backlog says, since smoltcp has no backlog of its own.
//!
//! A SYN takes one of them out of LISTEN. When it has become a connection it waits in `ready` for `Accept`, which moves it to a
//! socket of its own and puts a fresh one in its place. A SYN that finds none in LISTEN is dropped, as BSD does: the other end
//! tries again, and may find room. But one that has been half open for a second makes room, and in a flood (many SYNs refused in a
//! second) the one that has been so for longest does (RFC 4987, section 3.4): then an honest peer is kept out only if the
//! whole backlog goes by within its round trip.

use abi::{
    Error,
    socket::{BACKLOG_MAX, Page, State, wait_for},
};
use alloc::vec::Vec;
use smoltcp::{
    iface::SocketHandle,
    socket::{Socket as Any, tcp},
    time::{Duration, Instant},
    wire::{IpEndpoint, IpListenEndpoint},
};

use super::{
    Context, Protocol, Served, Socket,
    set::Sockets,
    tcp::{Connection, RX_RING, TX_BUFFER},
};
use crate::{
    frame::source_port,
    link::Link,
    system::{Exclusive, SharedMemory, System},
};

/// How long a connection may stay half open.
const HALF_OPEN_LIMIT: Duration = Duration::from_secs(30);

/// So long it may in any case, unless there is a flood: longer than most round trips.
const HALF_OPEN_MIN: Duration = Duration::from_secs(1);
/// It is a flood when so many times the backlog has been refused within a second.
const FLOOD: u32 = 4;

/// A smoltcp socket of a listening socket.
struct Place {
    handle: SocketHandle,
    /// When it was seen to be half open.
    half_open: Option<Instant>,
}

/// SYNs that found no room lately.
struct Refused {
    since: Instant,
    count: u32,
    flood: bool,
}

impl Refused {
    const NONE: Self = Self { since: Instant::ZERO, count: 0, flood: false };

    /// One more. Whether there are too many, now or in the second before.
    fn flood(&mut self, now: Instant, backlog: usize) -> bool {
        let many = FLOOD * backlog as u32;
        if now - self.since >= Duration::from_secs(1) {
            self.flood = self.count >= many;
            (self.since, self.count) = (now, 0);
        }
        self.count = self.count.saturating_add(1);
        self.flood || self.count >= many
    }
}

/// What a listening socket has beside its smoltcp sockets.
pub struct Listener {
    handles: Vec<Place>,
    /// Connections that wait to be accepted, the oldest first.
    ready: Vec<SocketHandle>,
    shown: u32,
    /// Of `handles`, where to look first for the one that has been half open for longest: they are taken in turn.
    oldest: usize,
    refused: Refused,
}

impl<M: SharedMemory> Socket<M> {
    /// Makes it a listening socket.
    ///
    /// # Errors
    /// It is no TCP socket, has no local port, or is in use; there is no memory for so many rings.
    pub fn listen<S: System<Memory = M>>(&mut self, system: &mut S, backlog: u32) -> Result<(), Error> {
        if !(1..=BACKLOG_MAX).contains(&backlog) {
            return Err(Error::BadArgument);
        }
        if !matches!(self.protocol, Protocol::Tcp(_)) || self.state() != State::Closed || self.local.port == 0
        {
            return Err(Error::BadArgument);
        }
        let mut set = Sockets::with_capacity(backlog as usize);
        let mut handles = Vec::with_capacity(backlog as usize);
        for _ in 0..backlog {
            let ring = system.exclusive_memory(RX_RING as usize)?;
            system.room_for(TX_BUFFER)?;
            handles.push(Place { handle: add_listening(&mut set, ring, self.local)?, half_open: None });
        }
        // A listening socket has nothing to read or write.
        self.end = None;
        self.set = set;
        self.protocol = Protocol::Listener(Listener {
            handles,
            ready: Vec::with_capacity(backlog as usize),
            shown: 0,
            oldest: 0,
            refused: Refused::NONE,
        });
        self.dirty = true;
        self.set_state(State::Listening, None);
        Ok(())
    }

    /// Whether a new connection would find a socket in LISTEN.
    pub fn has_room(&self) -> bool {
        self.set.get().iter().any(|(_, socket)| matches!(socket, Any::Tcp(tcp) if tcp.is_listening()))
    }

    /// Puts the socket that has been half open for longest back into LISTEN, without a word to its peer, for the SYN in `frame`. False: it has
    /// not been so for long, and there is no flood; or none is half open; or the SYN is that of one of them again.
    #[cold]
    pub fn make_room(&mut self, frame: &[u8], now: Instant) -> bool {
        let local = self.local;
        let Protocol::Listener(listener) = &mut self.protocol else { return false };
        let (from, count) = (source_port(frame), listener.handles.len());
        let mut victim = None;
        for at in (0..count).map(|n| (listener.oldest + n) % count) {
            self.set.tcp(listener.handles[at].handle, |socket| {
                if socket.state() == tcp::State::SynReceived {
                    victim = victim.or(Some(at));
                    // Its peer is impatient. It would only take its own place.
                    if socket.remote_endpoint().map(|remote| remote.port) == from {
                        victim = Some(count);
                    }
                }
            });
        }
        let flood = listener.refused.flood(now, count);
        let Some(place) = victim.and_then(|victim| listener.handles.get_mut(victim)) else { return false };
        if !flood && place.half_open.is_none_or(|since| now - since < HALF_OPEN_MIN) {
            return false;
        }
        place.half_open = None;
        listener.oldest = victim.map_or(0, |victim| (victim + 1) % count);
        self.set.tcp(place.handle, |socket| {
            socket.abort();
            socket.set_timeout(None);
            socket.listen(local).is_ok() // it is closed now, and what it would have sent is forgotten
        })
    }

    /// Whether a connection waits to be accepted.
    pub const fn has_ready(&self) -> bool {
        matches!(&self.protocol, Protocol::Listener(listener) if !listener.ready.is_empty())
    }

    /// The next connection that waits, with a fresh socket in its place.
    ///
    /// # Errors
    /// `WouldBlock` if none waits, `BadArgument` for a socket that does not listen; no memory for another ring.
    pub fn take_ready<S: System<Memory = M>>(
        &mut self,
        system: &mut S,
    ) -> Result<(Sockets<M>, Connection, [IpEndpoint; 2]), Error> {
        let local = self.local;
        let Protocol::Listener(listener) = &mut self.protocol else { return Err(Error::BadArgument) };
        let Some(&handle) = listener.ready.first() else { return Err(Error::WouldBlock) };
        let ends = self.set.tcp(handle, |tcp| {
            tcp.set_timeout(None);
            (tcp.local_endpoint(), tcp.remote_endpoint())
        });
        let (Some(here), Some(there)) = ends else { return Err(Error::WouldBlock) }; // reset in the meantime
        let ring = system.exclusive_memory(RX_RING as usize)?;
        system.room_for(TX_BUFFER)?;
        let new = add_listening(&mut self.set, ring, local)?;
        listener.ready.remove(0);
        for known in listener.handles.iter_mut().filter(|known| known.handle == handle) {
            *known = Place { handle: new, half_open: None };
        }
        self.dirty = true;
        let (mut set, handle) = self.set.take(handle).ok_or(Error::WouldBlock)?;
        let state = set.tcp(handle, |tcp| tcp.state());
        Ok((set, Connection::new(handle, state), [here, there]))
    }

    pub(super) fn serve_listener<L: Link, S>(&mut self, context: &mut Context<'_, L, S>) -> Served {
        if self.owner == 0 {
            return self.stop_listening(context);
        }
        let local = self.local;
        let Protocol::Listener(listener) = &mut self.protocol else { return Served::Open };
        let before = listener.ready.len();
        for place in &mut listener.handles {
            let handle = place.handle;
            let waits = listener.ready.contains(&handle);
            self.set.tcp(handle, |socket| match socket.state() {
                tcp::State::SynReceived if socket.timeout().is_none() => {
                    socket.set_timeout(Some(HALF_OPEN_LIMIT));
                    place.half_open = Some(context.stack.now);
                }
                tcp::State::Established | tcp::State::CloseWait if !waits => {
                    socket.set_timeout(None);
                    listener.ready.push(handle);
                }
                // Reset or given up before anyone accepted it.
                tcp::State::Closed => {
                    listener.ready.retain(|&ready| ready != handle);
                    if socket.remote_endpoint().is_none() {
                        let _ = socket.listen(local); // it is closed and has a port
                    }
                }
                _ => {}
            });
        }
        let arrived = listener.ready.len() > before;
        let ready = listener.ready.len() as u32;
        if ready != listener.shown {
            listener.shown = ready;
            if let Some(page) = &self.page {
                page.set(Page::ACCEPT_READY_AT, ready);
            }
        }
        if arrived {
            self.events |= wait_for::STATE | wait_for::READ;
        }
        self.set.egress(context.stack);
        self.deadline = context.stack.deadline(self.set.get());
        Served::Open
    }

    /// Resets what nobody accepted.
    fn stop_listening<L: Link, S>(&mut self, context: &mut Context<'_, L, S>) -> Served {
        self.abort();
        self.set.egress(context.stack);
        Served::Gone
    }
}

/// Adds a socket in LISTEN.
fn add_listening<M: SharedMemory>(
    set: &mut Sockets<M>,
    ring: Exclusive<M>,
    local: IpListenEndpoint,
) -> Result<SocketHandle, Error> {
    let handle = set.add_connection(ring, TX_BUFFER);
    set.tcp(handle, |tcp| tcp.listen(local)).map_err(|_| Error::BadArgument)?;
    Ok(handle)
}
