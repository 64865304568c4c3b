//! TCP connections: bytes between the rings and smoltcp's buffers, and what the application sees of the state.
//!
//! # Copies
//! Receive: smoltcp copies a segment's payload from the cluster into its buffer, which is the ring ([`super::set`]); here positions
//! move. What is in the buffer is the reader's at once, so what the window has lost to it comes back as it reads. Transmit: from the ring into smoltcp's buffer, where it stays until acknowledged, since the application could
//! change what is in the ring; smoltcp copies from there into the cluster.
//!
//! # When bytes leave the ring
//! As soon as smoltcp has room, except that less than a segment stays while data is on its way (RFC 896): an application that
//! writes ten bytes at a time costs one copy a segment, not one for each write.

use abi::{
    Error,
    socket::{Page, ServerCounter, State, wait_for, wishes},
};
use shmqueue::bytes::Chunk;
use smoltcp::{iface::SocketHandle, socket::tcp, time::Duration};

use super::{Context, Protocol, Served, Socket, set::Sockets};
use crate::{
    link::Link,
    page::SocketPage,
    system::{Exclusive, SharedMemory, System},
};

/// Bytes of the ring to the application, which is the receive window.
pub const RX_RING: u32 = 256 * 1024;
/// Bytes of the ring from the application.
pub const TX_RING: u32 = 256 * 1024;
/// Bytes of smoltcp's transmit buffer: what may be on its way.
pub const TX_BUFFER: usize = 128 * 1024;
/// Less than this waits for company while data is on its way.
const SEGMENT: u32 = 1448;
/// A burst: so much is sent at once, whatever is on its way.
const BURST: u32 = 8 * SEGMENT;
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
    /// Bytes that were in smoltcp's buffer when it was last served: on their way, or about to be.
    in_flight: u32,
    /// Bytes that were put there since, past the ring.
    passed: u32,
    acknowledged: u32,
    /// All that there was to send has been sent: neither the congestion window nor the peer's holds anything back.
    all_sent: bool,
    /// It was connected, or has tried.
    used: bool,
    /// We ended it.
    aborted: bool,
    /// It is over: for this reason, or in good order.
    over: Option<Option<Error>>,
}

impl Connection {
    /// For a smoltcp socket in `state`.
    #[must_use]
    pub const fn new(handle: SocketHandle, state: tcp::State) -> Self {
        let used = !matches!(state, tcp::State::Closed);
        Self {
            handle,
            seen: state,
            wishes: 0,
            in_flight: 0,
            passed: 0,
            acknowledged: 0,
            all_sent: false,
            used,
            aborted: false,
            over: None,
        }
    }

    /// Its smoltcp socket.
    #[must_use]
    pub const fn handle(&self) -> SocketHandle {
        self.handle
    }

    /// Notes that we end it.
    pub const fn abort(&mut self) {
        self.aborted = true;
    }
}

/// A connection that has not begun, with its receive ring.
#[must_use]
pub fn new_connection<M: SharedMemory>(ring: Exclusive<M>) -> (Sockets<M>, Connection) {
    let mut set = Sockets::with_capacity(1);
    let handle = set.add_connection(ring, TX_BUFFER);
    (set, Connection::new(handle, tcp::State::Closed))
}

/// Gives smoltcp back the room of bytes that the application has read.
#[inline]
pub fn free_room(tcp: &mut tcp::Socket<'_>, consumed: u32) {
    let mut left = consumed as usize;
    while left != 0 {
        // As much as lies in one piece: twice at most. Nothing, when smoltcp has forgotten the stream, which is over.
        match tcp.recv(|bytes| (left.min(bytes.len()), left.min(bytes.len()))) {
            Ok(0) | Err(_) => break,
            Ok(freed) => left -= freed,
        }
    }
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
        let local = self.local;
        let local = self.set.tcp(connection.handle, |tcp| {
            tcp.connect(context.stack.interface().context(), remote, local)
                .map_err(|_| Error::Unreachable)?;
            tcp.set_timeout(Some(CONNECT_LIMIT));
            Ok(tcp.local_endpoint())
        })?;
        if let Some(local) = local {
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
        if let (Protocol::Tcp(connection), Some(handle)) = (&mut self.protocol, self.set.renew(TX_BUFFER)) {
            *connection = Connection::new(handle, tcp::State::Closed);
            connection.aborted = true;
        }
    }

    /// Whether of several acknowledgments that have come together the last one is enough, as if the others had been lost on the way.
    ///
    /// The congestion window grows by the number of acknowledgments (RFC 5681, section 3.1). So while it is what limits the
    /// connection, each of them counts; where all has been sent it does not, and ought not to grow (RFC 7661).
    #[inline(always)]
    pub const fn hears_the_last(&self) -> bool {
        matches!(&self.protocol, Protocol::Tcp(connection) if connection.all_sent)
    }

    /// Whether what was written lately may wait for company, because data is on its way whose acknowledgement will have the socket served:
    /// less than a burst of segments. (RFC 896 has less than one wait. On the path by window writes gather until the server gets the
    /// processor; here each would cost a turn of TCP's.)
    #[inline]
    pub fn gathers(&mut self) -> bool {
        let (Protocol::Tcp(connection), Some(page)) = (&self.protocol, &mut self.page) else { return false };
        connection.in_flight != 0
            && !self.dirty
            && connection.wishes & (wishes::NO_DELAY | wishes::SHUTDOWN) == 0
            && page.wishes() == connection.wishes
            && page.tx.available().is_ok_and(|held| held + connection.passed < BURST)
    }

    /// Puts bytes straight into smoltcp's buffer, past the ring, which is empty: as many as there is room for. `copy` is as for
    /// [`End::write_with`](super::end::End::write_with). `None`: they have to go through the ring.
    ///
    /// # Errors
    /// As for [`End::write_with`](super::end::End::write_with).
    #[inline]
    pub fn pass_by_ring(
        &mut self,
        length: usize,
        copy: &mut impl FnMut(Chunk, usize) -> Result<(), Error>,
    ) -> Result<Option<usize>, Error> {
        let (Protocol::Tcp(connection), Some(page), Some(end)) =
            (&mut self.protocol, &mut self.page, &mut self.end)
        else {
            return Ok(None);
        };
        if connection.aborted
            || connection.wishes & wishes::SHUTDOWN != 0
            || page.tx.available().map_err(|_| Error::PeerMisbehaviour)? != 0
        {
            return Ok(None);
        }
        let mut passed = 0;
        self.set.tcp(connection.handle, |tcp| {
            // The buffer has its room in two pieces at most.
            while passed < length && tcp.can_send() {
                let put = tcp.send(|room| {
                    let part = room.len().min(length - passed);
                    match copy((room.as_mut_ptr(), part), passed) {
                        Ok(()) => (part, Ok(part)),
                        Err(error) => (0, Err(error)),
                    }
                });
                match put {
                    Ok(Ok(0)) | Err(_) => break,
                    Ok(Ok(part)) => passed += part,
                    // The first piece, if there was one, is written: that is an answer too.
                    Ok(Err(error)) if passed == 0 => return Err(error),
                    Ok(Err(_)) => break,
                }
            }
            Ok(())
        })?;
        // Through the ring in name: its positions move, and with them what the application sees.
        end.pass(passed)?;
        page.tx.consume(passed).map_err(|_| Error::PeerMisbehaviour)?;
        connection.passed += passed as u32;
        Ok((passed != 0).then_some(passed))
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
        let owned = self.owner != 0;
        let overdue = self.give_up <= context.stack.now.total_micros();
        let page = &mut self.page;
        let moved = self.set.tcp(handle, |tcp| {
            connection.note_end(tcp.state(), End::Packet);
            let moved = match page {
                Some(page) if !connection.aborted => connection.exchange(tcp, page, owned),
                _ => Ok(Moved::default()),
            };
            // Nobody will read: what comes now is answered by RST, and so is a peer that takes too long.
            let hopeless = !owned && (overdue || tcp.state() == tcp::State::SynSent || tcp.recv_queue() != 0);
            if moved.is_err() || hopeless {
                connection.aborted = true;
                tcp.abort();
            }
            let limit = match tcp.state() {
                tcp::State::SynSent | tcp::State::SynReceived => Some(CONNECT_LIMIT),
                _ if tcp.send_queue() != 0 => Some(DATA_LIMIT),
                _ => None,
            };
            if tcp.timeout() != limit {
                tcp.set_timeout(limit);
            }
            moved
        });
        let misbehaved = moved.is_err();
        let Moved { received, taken, copies } = moved.unwrap_or_default();
        context.counters.add(ServerCounter::Copies, u64::from(copies));
        context.counters.add(ServerCounter::CopiedBytes, u64::from(taken));

        // Its turn to send.
        let deadline = self.set.turn(context.stack);
        let (state, queued, forgotten) = self.set.tcp(handle, |tcp| {
            let state = tcp.state();
            (state, tcp.send_queue(), state == tcp::State::Closed && tcp.remote_endpoint().is_none())
        });
        connection.note_end(state, End::Timer);
        connection.seen = state;
        (connection.in_flight, connection.passed) = (queued as u32, 0);

        // What the application sees.
        let mut events = 0;
        if received != 0 {
            events |= wait_for::READ;
        }
        if let Some(page) = &mut self.page {
            connection.all_sent = self.set.sent_to() == Some(page.tx.position());
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
        self.deadline = deadline.min(self.give_up);
        let over = connection.over;
        if misbehaved {
            self.misbehaved(context.counters);
        } else if let Some(error) = over {
            self.set_state(State::Finished, error);
        } else if let Some(seen) = shown(state) {
            self.set_state(seen, None);
        }
        if !owned {
            // Overdue, it has had its turn to send the RST: who cannot be reached even for that need not be told.
            return self.serve_closed(forgotten || overdue);
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

/// What a turn has moved.
#[derive(Clone, Copy, Debug, Default)]
struct Moved {
    /// Bytes that the application may read now.
    received: u32,
    /// Bytes taken from it.
    taken: u32,
    copies: u32,
}

/// What closed a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Something that came, seen before its turn to send.
    Packet,
    /// A time that has run out, seen after it.
    Timer,
}

impl Connection {
    /// Notes how a connection ended, if it has just done so.
    #[inline]
    fn note_end(&mut self, state: tcp::State, by: End) {
        if state == tcp::State::Closed && self.seen != tcp::State::Closed && self.over.is_none() {
            self.over = Some(self.reason(by));
        }
    }

    #[cold]
    fn reason(&self, by: End) -> Option<Error> {
        match (self.seen, by) {
            _ if self.aborted => Some(Error::ConnectionAborted),
            (tcp::State::TimeWait, _) | (tcp::State::LastAck | tcp::State::Closing, End::Packet) => None,
            (tcp::State::SynSent, End::Packet) => Some(Error::ConnectionRefused),
            (tcp::State::SynSent, End::Timer) => Some(Error::TimedOut),
            (_, End::Packet) => Some(Error::ConnectionReset),
            (_, End::Timer) => Some(Error::ConnectionAborted),
        }
    }

    /// Moves what there is between the rings and smoltcp.
    ///
    /// # Errors
    /// The application's positions cannot be.
    #[inline]
    fn exchange<M: SharedMemory>(
        &mut self,
        tcp: &mut tcp::Socket<'_>,
        page: &mut SocketPage<M>,
        owned: bool,
    ) -> Result<Moved, Error> {
        // To the application: room back first, since the window of the acknowledgement depends on it.
        let consumed = page.take_consumed()?;
        free_room(tcp, consumed);
        let received = if owned { page.publish_received(tcp.recv_queue()) } else { 0 };

        // From the application.
        let wished = page.wishes();
        if wished != self.wishes {
            self.wishes = wished;
            tcp.set_nagle_enabled(wished & wishes::NO_DELAY == 0);
            tcp.set_keep_alive((wished & wishes::KEEP_ALIVE != 0).then_some(KEEP_ALIVE));
        }
        let closing = !owned || wished & wishes::SHUTDOWN != 0;
        let at_once = closing || wished & wishes::NO_DELAY != 0;
        let mut left = page.tx.available().map_err(|_| Error::PeerMisbehaviour)?;
        let (mut taken, mut copies) = (0, 0);
        while left != 0 && tcp.can_send() {
            if left < SEGMENT && !at_once && tcp.send_queue() != 0 {
                break;
            }
            let copied = tcp.send(|room| match page.tx.read(room) {
                Ok(length) => (length, Ok(length as u32)),
                Err(_) => (0, Err(Error::PeerMisbehaviour)),
            });
            match copied {
                Ok(Ok(0)) | Err(_) => break,
                Ok(Ok(length)) => {
                    (taken, copies) = (taken + length, copies + 1);
                    left = left.saturating_sub(length);
                }
                Ok(Err(error)) => return Err(error),
            }
        }
        if closing && left == 0 && tcp.state() != tcp::State::SynSent {
            tcp.close();
        }
        Ok(Moved { received, taken, copies })
    }
}

/// What a TCP state looks like to the application. All that came before the end of the stream has been published by then.
const fn shown(state: tcp::State) -> Option<State> {
    Some(match state {
        tcp::State::SynSent | tcp::State::SynReceived => State::Connecting,
        tcp::State::Established | tcp::State::FinWait1 | tcp::State::FinWait2 => State::Established,
        tcp::State::CloseWait | tcp::State::LastAck | tcp::State::Closing => State::HalfClosed,
        tcp::State::TimeWait => State::Finished,
        tcp::State::Closed | tcp::State::Listen => return None,
    })
}
