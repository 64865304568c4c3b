//! TCP connections: bytes between the rings and smoltcp's buffers, and what the application sees of the state.
//!
//! # Copies
//! Receive: smoltcp copies a segment's payload from the cluster into its buffer, where segments out of order wait; here it
//! goes on into the ring. Transmit: from the ring into smoltcp's buffer, where it stays until acknowledged, since the application could
//! change what is in the ring; smoltcp copies from there into the cluster.
//!
//! # When bytes leave the ring
//! As soon as smoltcp has room, except that less than a segment stays while data is on its way (RFC 896): an application that
//! writes ten bytes at a time costs one copy a segment, not one for each write.

use abi::{
    Error,
    socket::{Page, ServerCounter, State, wait_for, wishes},
};
use alloc::vec::Vec;
use smoltcp::{
    iface::{SocketHandle, SocketSet},
    socket::tcp,
    time::Duration,
};

use super::{Context, Protocol, Served, Socket, buffer};
use crate::{
    link::Link,
    system::{SharedMemory, System},
};

/// Bytes of the ring to the application.
pub const RX_RING: u32 = 128 * 1024;
/// Bytes of the ring from the application.
pub const TX_RING: u32 = 128 * 1024;
/// smoltcp's buffers: the receive window, and what may be on its way.
pub const BUFFER: usize = 128 * 1024;
/// Less than this waits for company while data is on its way.
const SEGMENT: u32 = 1448;
/// How long a connection may take to come about.
const CONNECT_LIMIT: Duration = Duration::from_secs(75);
/// How long data may remain without any answer.
const DATA_LIMIT: Duration = Duration::from_secs(120);
/// Between keep-alive probes.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// What a connection has beside its smoltcp socket.
pub struct Connection {
    handle: SocketHandle,
    /// smoltcp's state when it was last served.
    seen: tcp::State,
    wishes: u32,
    acknowledged: u32,
    /// It was connected, or has tried.
    used: bool,
    /// We ended it.
    aborted: bool,
    /// It is over: for this reason, or in good order. Shown when the last byte before the end is in the ring.
    over: Option<Option<Error>>,
}

impl Connection {
    /// Notes that we end it.
    pub const fn abort(&mut self) {
        self.aborted = true;
    }
}

/// A smoltcp socket of our sizes.
#[must_use]
pub fn new_socket() -> tcp::Socket<'static> {
    let mut socket =
        tcp::Socket::new(tcp::SocketBuffer::new(buffer(BUFFER)), tcp::SocketBuffer::new(buffer(BUFFER)));
    socket.set_congestion_control(tcp::CongestionControl::Reno);
    socket
}

/// A set of one connection.
#[must_use]
pub fn set_of(socket: tcp::Socket<'static>) -> (SocketSet<'static>, Connection) {
    let (seen, used) = (socket.state(), socket.is_open());
    let mut set = SocketSet::new(Vec::with_capacity(1));
    let handle = set.add(socket);
    (set, Connection { handle, seen, wishes: 0, acknowledged: 0, used, aborted: false, over: None })
}

impl<M: SharedMemory> Socket<M> {
    /// Starts to connect from `local`, whose port is chosen, to `remote`.
    ///
    /// # Errors
    /// It has been connected before, or there is no way to send there.
    pub fn connect<L: Link, S>(&mut self, context: &mut Context<'_, L, S>) -> Result<(), Error> {
        let (Protocol::Tcp(connection), Some(remote)) = (&mut self.protocol, self.remote) else {
            return Err(Error::BadArgument);
        };
        if connection.used {
            return Err(Error::Exists);
        }
        let tcp = self.set.get_mut::<tcp::Socket>(connection.handle);
        tcp.connect(context.stack.interface().context(), remote, self.local)
            .map_err(|_| Error::Unreachable)?;
        tcp.set_timeout(Some(CONNECT_LIMIT));
        if let Some(local) = tcp.local_endpoint() {
            self.local = local.into();
        }
        connection.used = true;
        connection.seen = tcp::State::SynSent;
        self.dirty = true;
        self.set_state(State::Connecting, None);
        Ok(())
    }

    /// Forgets a connection that has sent nothing yet: its four-tuple is another's.
    pub fn forget(&mut self) {
        let (set, mut connection) = set_of(new_socket());
        connection.aborted = true;
        (self.set, self.protocol) = (set, Protocol::Tcp(connection));
    }

    pub(super) fn serve_connection<L: Link, S: System<Memory = M>>(
        &mut self,
        context: &mut Context<'_, L, S>,
    ) -> Served {
        let Protocol::Tcp(connection) = &mut self.protocol else { return Served::Open };
        let handle = connection.handle;
        if !connection.used {
            return if self.owner == 0 { Served::Gone } else { Served::Open };
        }
        let tcp = self.set.get_mut::<tcp::Socket>(handle);

        // A connection that is closed now was closed by a packet; one that is closed after its turn to send, by a timer.
        let before = connection.seen;
        if tcp.state() == tcp::State::Closed && before != tcp::State::Closed {
            connection.over = Some(match before {
                _ if connection.aborted => Some(Error::ConnectionAborted),
                tcp::State::LastAck | tcp::State::TimeWait | tcp::State::Closing => None,
                tcp::State::SynSent => Some(Error::ConnectionRefused),
                _ => Some(Error::ConnectionReset),
            });
        }

        let mut received = 0;
        let mut taken = 0;
        let mut copies = 0;
        let mut outcome = Ok(());
        if let Some(page) = &mut self.page
            && !connection.aborted
        {
            // To the application.
            while tcp.can_recv() {
                let moved = tcp.recv(|bytes| match page.rx.write(bytes) {
                    Ok(length) => (length, Ok(length)),
                    Err(_) => (0, Err(Error::PeerMisbehaviour)),
                });
                match moved {
                    Ok(Ok(0)) | Err(_) => break,
                    Ok(Ok(length)) => (received, copies) = (received + length, copies + 1),
                    Ok(Err(error)) => {
                        outcome = Err(error);
                        break;
                    }
                }
            }
            // From the application.
            let wished = page.wishes();
            if wished != connection.wishes {
                connection.wishes = wished;
                tcp.set_nagle_enabled(wished & wishes::NO_DELAY == 0);
                tcp.set_keep_alive((wished & wishes::KEEP_ALIVE != 0).then_some(KEEP_ALIVE));
            }
            let closing = self.owner == 0 || wished & wishes::SHUTDOWN != 0;
            let at_once = closing || wished & wishes::NO_DELAY != 0;
            let mut left = page.tx.available().map_err(|_| Error::PeerMisbehaviour);
            while outcome.is_ok() && tcp.can_send() {
                match left {
                    Err(error) => outcome = Err(error),
                    Ok(0) => break,
                    Ok(available) if available < SEGMENT && !at_once && tcp.send_queue() != 0 => break,
                    Ok(available) => match tcp.send(|room| match page.tx.read(room) {
                        Ok(length) => (length, Ok(length)),
                        Err(_) => (0, Err(Error::PeerMisbehaviour)),
                    }) {
                        Ok(Ok(0)) | Err(_) => break,
                        Ok(Ok(length)) => {
                            (taken, copies) = (taken + length, copies + 1);
                            left = Ok(available.saturating_sub(length as u32));
                        }
                        Ok(Err(error)) => outcome = Err(error),
                    },
                }
            }
            if closing && left == Ok(0) && tcp.state() != tcp::State::SynSent {
                tcp.close();
            }
        }
        context.counters.add(ServerCounter::Copies, copies);
        context.counters.add(ServerCounter::CopiedBytes, (received + taken) as u64);
        if outcome.is_err() {
            connection.aborted = true;
            tcp.abort();
        }
        if self.owner == 0 {
            // Nobody will read: what comes now is answered by RST, and so is a peer that takes too long.
            let hopeless =
                tcp.state() == tcp::State::SynSent || self.give_up <= context.stack.now.total_micros();
            if tcp.can_recv() || hopeless {
                connection.aborted = true;
                tcp.abort();
            }
        }

        // Its turn to send. When TIME-WAIT ends smoltcp forgets what was not read, so that has to wait.
        if tcp.state() != tcp::State::TimeWait || !tcp.can_recv() {
            context.stack.egress(&mut self.set);
        }
        let tcp = self.set.get_mut::<tcp::Socket>(handle);
        let state = tcp.state();
        if state == tcp::State::Closed && before != tcp::State::Closed && connection.over.is_none() {
            connection.over = Some(match before {
                _ if connection.aborted => Some(Error::ConnectionAborted),
                tcp::State::TimeWait => None,
                tcp::State::SynSent => Some(Error::TimedOut),
                _ => Some(Error::ConnectionAborted),
            });
        }
        connection.seen = state;
        let queued = tcp.send_queue();
        let limit = match state {
            tcp::State::SynSent | tcp::State::SynReceived => Some(CONNECT_LIMIT),
            _ if queued != 0 => Some(DATA_LIMIT),
            _ => None,
        };
        if tcp.timeout() != limit {
            tcp.set_timeout(limit);
        }
        let unread = tcp.can_recv();
        let forgotten = state == tcp::State::Closed && tcp.remote_endpoint().is_none();
        let over = connection.over.filter(|error| error.is_some() || !unread);

        // What the application sees.
        let mut events = 0;
        if received != 0 {
            events |= wait_for::READ;
        }
        if let Some(page) = &mut self.page {
            let acknowledged = page.tx.position().wrapping_sub(queued as u32);
            if acknowledged != connection.acknowledged && !connection.aborted {
                connection.acknowledged = acknowledged;
                page.set(Page::ACKNOWLEDGED_AT, acknowledged);
                if queued == 0 && page.tx_room() == page.tx_capacity() {
                    events |= wait_for::DRAINED;
                }
            }
            if taken != 0 && page.tx_room() >= page.tx_capacity() / 4 {
                events |= wait_for::WRITE;
            }
        }
        self.events |= events;
        self.deadline = context.stack.deadline(&self.set).min(self.give_up);
        if outcome.is_err() {
            self.misbehaved(context.counters);
        } else if let Some(error) = over {
            self.set_state(State::Finished, error);
        } else if let Some(seen) = shown(state, unread) {
            self.set_state(seen, None);
        }
        if self.owner == 0 {
            return self.serve_closed(forgotten);
        }
        Served::Open
    }

    /// A connection that nobody owns gives its page back when all was taken from it, and goes when TCP is done.
    fn serve_closed(&mut self, forgotten: bool) -> Served {
        if forgotten {
            return Served::Gone;
        }
        if let Some(page) = &mut self.page
            && !matches!(page.tx.available(), Ok(1..))
        {
            self.page = None;
            // Without a page nothing is taken any more, so the end has been asked for already.
        }
        Served::Open
    }
}

/// What a TCP state looks like to the application. The end of the stream shows only when all before it is in the ring.
const fn shown(state: tcp::State, unread: bool) -> Option<State> {
    Some(match state {
        tcp::State::SynSent | tcp::State::SynReceived => State::Connecting,
        tcp::State::Established | tcp::State::FinWait1 | tcp::State::FinWait2 => State::Established,
        _ if unread => State::Established,
        tcp::State::CloseWait | tcp::State::LastAck | tcp::State::Closing => State::HalfClosed,
        tcp::State::TimeWait => State::Finished,
        tcp::State::Closed | tcp::State::Listen => return None,
    })
}
