//! UDP and ICMP echo: records in the rings, one for each datagram.
//!
//! smoltcp holds at most one datagram to be sent, so that none can overwrite the rest of a fragmented one, and one whose
//! receiver cannot be found does not wait for ever before the others.

use abi::{
    Error,
    socket::{Page, Record, ServerCounter, State, wait_for},
};
use alloc::{vec, vec::Vec};
use smoltcp::{
    iface::SocketSet,
    phy::ChecksumCapabilities,
    socket::{Socket as Any, icmp, udp},
    storage::PacketMetadata,
    wire::{
        Icmpv4Message, Icmpv4Packet, Icmpv4Repr, Icmpv6Message, Icmpv6Packet, Icmpv6Repr, IpAddress,
        IpEndpoint, Ipv6Address,
    },
};

use super::{Context, Protocol, Served, Socket, buffer, set::Sockets};
use crate::{
    addresses::{peer_from_abi, to_abi},
    link::Link,
    page::SocketPage,
    status::Counters,
    system::SharedMemory,
};

/// Bytes of the rings.
pub const RING: u32 = 128 * 1024;
/// The longest payload of UDP and of an echo message: an IPv4 packet less its headers (RFC 791, RFC 768).
const PAYLOAD_MAX: u32 = 65_507;
/// Bytes of the ICMP echo header.
const ECHO_HEADER: usize = 8;
/// smoltcp's receive buffer: datagrams and bytes.
const HELD: (usize, usize) = (64, 128 * 1024);
/// smoltcp's transmit buffer: one datagram, so that "full" is "one waits", also for an empty one.
const SENDING: (usize, usize) = (1, 64 * 1024);
/// Bytes of both, generously.
pub const BUFFERS: usize = HELD.1 + SENDING.1 + 8 * 1024;
/// How long a datagram may wait for its receiver's link address, in microseconds.
const PATIENCE: i64 = 3_000_000;

/// What a datagram socket has beside its smoltcp socket.
pub struct Datagram {
    /// Echo: our identifier. UDP: `None`.
    ident: Option<u16>,
    /// Since when a datagram waits to be sent, in microseconds.
    waits_since: Option<i64>,
}

/// A set of one UDP socket, to be bound.
#[must_use]
pub fn udp_set<M: SharedMemory>() -> (Sockets<M>, Datagram) {
    let ring =
        |(datagrams, bytes)| udp::PacketBuffer::new(vec![PacketMetadata::EMPTY; datagrams], buffer(bytes));
    set_of(Any::Udp(udp::Socket::new(ring(HELD), ring(SENDING))), None)
}

/// A set of one echo socket.
///
/// # Errors
/// The identifier is 0.
pub fn echo_set<M: SharedMemory>(ident: u16) -> Result<(Sockets<M>, Datagram), Error> {
    let ring =
        |(datagrams, bytes)| icmp::PacketBuffer::new(vec![PacketMetadata::EMPTY; datagrams], buffer(bytes));
    let mut socket = icmp::Socket::new(ring(HELD), ring(SENDING));
    socket.bind(icmp::Endpoint::Ident(ident)).map_err(|_| Error::BadArgument)?;
    Ok(set_of(Any::Icmp(socket), Some(ident)))
}

fn set_of<M: SharedMemory>(socket: Any<'static>, ident: Option<u16>) -> (Sockets<M>, Datagram) {
    let mut set = SocketSet::new(Vec::with_capacity(1));
    match socket {
        Any::Udp(udp) => drop(set.add(udp)),
        Any::Icmp(icmp) => drop(set.add(icmp)),
        _ => {}
    }
    (Sockets::without_rings(set), Datagram { ident, waits_since: None })
}

impl<M: SharedMemory> Socket<M> {
    /// Tells smoltcp the local end of a UDP socket.
    ///
    /// # Errors
    /// It has one.
    pub fn bind_udp(&mut self) -> Result<(), Error> {
        let (local, mut outcome) = (self.local, Ok(()));
        self.set.for_each(|socket| {
            if let Any::Udp(udp) = socket {
                outcome = udp.bind(local).map_err(|_| Error::Exists);
            }
        });
        outcome
    }

    pub(super) fn serve_datagrams<L: Link, S>(&mut self, context: &mut Context<'_, L, S>) -> Served {
        if self.owner == 0 {
            return Served::Gone;
        }
        if self.state() == State::Finished {
            return Served::Open;
        }
        let Protocol::Datagram(datagram) = &mut self.protocol else { return Served::Open };
        let Some(page) = &mut self.page else { return Served::Open };
        let mut outcome = Ok(false);
        self.set.for_each(|socket| {
            outcome = match socket {
                Any::Udp(udp) => deliver_udp(udp, page, self.remote, context.counters),
                Any::Icmp(icmp) => deliver_echoes(icmp, page, self.remote, context.counters),
                _ => Ok(false),
            };
        });
        match outcome {
            Ok(true) => self.events |= wait_for::READ,
            Ok(false) => {}
            Err(_) => {
                self.misbehaved(context.counters);
                return Served::Open;
            }
        }

        let mut taken = false;
        loop {
            if waits(self.set.get()) {
                self.set.egress(context.stack);
                context.stack.send_fragments();
                if !datagram.is_sent(&mut self.set, self.local, context.stack.now.total_micros()) {
                    break;
                }
                continue;
            }
            match page.peek_record() {
                Ok(None) => break,
                Ok(Some(record)) => {
                    taken = true;
                    queue(&mut self.set, datagram.ident, page, &record, self.remote, context.counters);
                }
                Err(_) => {
                    self.misbehaved(context.counters);
                    return Served::Open;
                }
            }
        }
        if let Some(page) = &self.page {
            if taken && page.tx_room() >= page.tx_capacity() / 4 {
                self.events |= wait_for::WRITE;
            }
            if taken && datagram.waits_since.is_none() {
                page.set(Page::ACKNOWLEDGED_AT, page.tx.position());
                self.events |= wait_for::DRAINED;
            }
        }
        self.deadline = context.stack.deadline(self.set.get());
        Served::Open
    }
}

impl Datagram {
    /// Whether it is a UDP socket, which can be bound.
    #[must_use]
    pub const fn is_udp(&self) -> bool {
        self.ident.is_none()
    }

    /// Whether the datagram in smoltcp's buffer has gone. One that has waited for too long is thrown away with the buffer.
    fn is_sent<M: SharedMemory>(
        &mut self,
        set: &mut Sockets<M>,
        local: smoltcp::wire::IpListenEndpoint,
        now: i64,
    ) -> bool {
        if !waits(set.get()) {
            self.waits_since = None;
            return true;
        }
        let since = *self.waits_since.get_or_insert(now);
        if now - since < PATIENCE {
            return false;
        }
        self.waits_since = None;
        match self.ident {
            None => set.for_each(|socket| {
                if let Any::Udp(udp) = socket {
                    udp.close();
                    let _ = udp.bind(local); // as it was bound before
                }
            }),
            Some(ident) => {
                // An icmp::Socket cannot be emptied: it gets a successor.
                if let Ok((fresh, _)) = echo_set(ident) {
                    *set = fresh;
                }
            }
        }
        true
    }
}

/// Whether a datagram waits in smoltcp's transmit buffer.
fn waits(set: &SocketSet<'static>) -> bool {
    match set.iter().next() {
        Some((_, Any::Udp(udp))) => !udp.can_send(),
        Some((_, Any::Icmp(icmp))) => !icmp.can_send(),
        _ => false,
    }
}

/// Whether a datagram from `from` is for a socket connected to `peer`.
fn from_peer(peer: Option<IpEndpoint>, from: IpEndpoint) -> bool {
    peer.is_none_or(|peer| peer == from)
}

fn deliver_udp<M: SharedMemory>(
    udp: &mut udp::Socket<'_>,
    page: &mut SocketPage<M>,
    peer: Option<IpEndpoint>,
    counters: &mut Counters,
) -> Result<bool, Error> {
    let mut some = false;
    while let Ok((payload, meta)) = udp.recv() {
        if from_peer(peer, meta.endpoint) {
            some |= put(page, to_abi(Some(meta.endpoint.addr), meta.endpoint.port), payload, counters)?;
        }
    }
    Ok(some)
}

fn deliver_echoes<M: SharedMemory>(
    icmp: &mut icmp::Socket<'_>,
    page: &mut SocketPage<M>,
    peer: Option<IpEndpoint>,
    counters: &mut Counters,
) -> Result<bool, Error> {
    let mut some = false;
    while let Ok((message, from)) = icmp.recv() {
        // Its checksum was right when smoltcp took it.
        let reply = match from {
            IpAddress::Ipv4(_) => {
                let packet = Icmpv4Packet::new_checked(message);
                packet.ok().filter(|p| p.msg_type() == Icmpv4Message::EchoReply).map(|p| p.echo_seq_no())
            }
            IpAddress::Ipv6(_) => {
                let packet = Icmpv6Packet::new_checked(message);
                packet.ok().filter(|p| p.msg_type() == Icmpv6Message::EchoReply).map(|p| p.echo_seq_no())
            }
        };
        let (Some(sequence), Some(payload)) = (reply, message.get(ECHO_HEADER..)) else { continue };
        if peer.is_none_or(|peer| peer.addr == from) {
            some |= put(page, to_abi(Some(from), sequence), payload, counters)?;
        }
    }
    Ok(some)
}

fn put<M: SharedMemory>(
    page: &mut SocketPage<M>,
    peer: abi::socket::Endpoint,
    payload: &[u8],
    counters: &mut Counters,
) -> Result<bool, Error> {
    if !page.write_record(peer, payload)? {
        page.count_rx_dropped();
        return Ok(false);
    }
    counters.add(ServerCounter::Copies, 1);
    counters.add(ServerCounter::CopiedBytes, payload.len() as u64);
    Ok(true)
}

/// Moves one record into smoltcp's buffer. One that cannot be sent is dropped, as a network may.
fn queue<M: SharedMemory>(
    set: &mut Sockets<M>,
    ident: Option<u16>,
    page: &mut SocketPage<M>,
    record: &Record,
    peer: Option<IpEndpoint>,
    counters: &mut Counters,
) {
    let receiver = peer_from_abi(&record.peer).or(peer);
    let length = record.length as usize;
    let mut sent = false;
    set.for_each(|socket| {
        sent = match (socket, receiver) {
            _ if record.length > PAYLOAD_MAX => false,
            (Any::Udp(udp), Some(receiver)) => {
                udp.send(length, receiver).map(|room| page.take_record(record, room)).is_ok()
            }
            (Any::Icmp(icmp), Some(receiver)) => {
                let room = icmp.send(ECHO_HEADER + length, receiver.addr);
                room.map(|room| {
                    page.take_record(record, &mut room[ECHO_HEADER..]);
                    write_echo(room, receiver, ident.unwrap_or_default());
                })
                .is_ok()
            }
            _ => false,
        };
    });
    if sent {
        counters.add(ServerCounter::Copies, 1);
        counters.add(ServerCounter::CopiedBytes, u64::from(record.length));
    } else {
        page.take_record(record, &mut []);
    }
}

/// Writes the header of an echo request before its payload; smoltcp sums it when it is sent.
fn write_echo(message: &mut [u8], receiver: IpEndpoint, ident: u16) {
    let sequence = receiver.port;
    // Zero length of data: the payload is in place already.
    match receiver.addr {
        IpAddress::Ipv4(_) => Icmpv4Repr::EchoRequest { ident, seq_no: sequence, data: &[] }
            .emit(&mut Icmpv4Packet::new_unchecked(message), &ChecksumCapabilities::ignored()),
        IpAddress::Ipv6(_) => Icmpv6Repr::EchoRequest { ident, seq_no: sequence, data: &[] }.emit(
            &Ipv6Address::UNSPECIFIED,
            &Ipv6Address::UNSPECIFIED,
            &mut Icmpv6Packet::new_unchecked(message),
            &ChecksumCapabilities::ignored(),
        ),
    }
}
