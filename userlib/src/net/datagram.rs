//! Datagrams: UDP, and ICMP echo for ping. Each is one [`Record`] in a ring, published whole.
#![expect(unsafe_code, reason = "a record goes into at most two pieces of a ring")]

use core::{net::SocketAddr, time::Duration};

use abi::{
    Error,
    socket::{Endpoint, Kind, RECORD_BYTES, Record, State},
};
use shmqueue::{bytes::Chunk, copy::copy_in};

use super::{
    AsSocket, Socket, Want,
    address::{from_endpoint, from_words, to_endpoint, to_words},
    socket::misbehaved,
    transport::{Rings, Transport},
};
use crate::time::Deadline;

/// The longest payload of a UDP datagram over IPv4.
pub const PAYLOAD_MAX: usize = 65_507;

/// A UDP socket.
#[derive(Debug)]
pub struct UdpSocket {
    records: Records,
    peer: Option<Endpoint>,
}

impl UdpSocket {
    /// Binds to a local address; port 0 lets the server choose.
    ///
    /// # Errors
    /// [`Error::AddressInUse`], [`Error::NoResources`].
    pub fn bind(local: SocketAddr) -> Result<Self, Error> {
        let socket = Socket::open(Kind::Udp)?;
        socket.bind(local)?;
        let port = socket.local().port();
        let local = SocketAddr::new(local.ip(), if port == 0 { local.port() } else { port });
        let records = Records { local: Some(local), ..Records::new(socket, Kind::Udp) };
        Ok(Self { records, peer: None })
    }

    /// Sets the peer of [`send`](Self::send); datagrams of others are no longer received.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub fn connect(&mut self, peer: SocketAddr) -> Result<(), Error> {
        self.records.socket.connect(peer)?;
        self.records.peer = Some(peer);
        self.peer = Some(to_endpoint(peer));
        Ok(())
    }

    /// Sends a datagram to the peer of [`connect`](Self::connect).
    ///
    /// # Errors
    /// [`Error::NotConnected`]; as for [`send_to`](Self::send_to).
    pub fn send(&mut self, payload: &[u8]) -> Result<(), Error> {
        let peer = self.peer.ok_or(Error::NotConnected)?;
        self.records.put(payload, peer)
    }

    /// Sends a datagram, waiting for room in the ring.
    ///
    /// # Errors
    /// [`Error::TooLong`], [`Error::TimedOut`] if a limit was set.
    pub fn send_to(&mut self, payload: &[u8], peer: SocketAddr) -> Result<(), Error> {
        self.records.put(payload, to_endpoint(peer))
    }

    /// Receives a datagram; what does not fit in `buffer` is lost.
    ///
    /// # Errors
    /// [`Error::TimedOut`] if a limit was set.
    pub fn recv_from(&mut self, buffer: &mut [u8]) -> Result<(usize, SocketAddr), Error> {
        let (record, copied) = self.records.take(buffer)?;
        Ok((copied, from_endpoint(&record.peer).ok_or(Error::PeerMisbehaviour)?))
    }

    /// As [`recv_from`](Self::recv_from), not telling from whom.
    ///
    /// # Errors
    /// As for [`recv_from`](Self::recv_from).
    pub fn recv(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        self.records.take(buffer).map(|(_, copied)| copied)
    }

    /// Sets how long a receive may block; `None` for ever, zero not at all.
    pub const fn set_read_timeout(&mut self, limit: Option<Duration>) {
        self.records.read_timeout = limit;
    }

    /// Sets how long a send may block; `None` for ever, zero not at all.
    pub const fn set_write_timeout(&mut self, limit: Option<Duration>) {
        self.records.write_timeout = limit;
    }

    /// This end.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.records.socket.local()
    }

    /// Datagrams that were lost because nobody received them in time.
    #[must_use]
    pub fn dropped(&self) -> u32 {
        self.records.socket.page.rx_dropped()
    }
}

impl AsSocket for UdpSocket {
    fn as_socket(&self) -> &Socket {
        &self.records.socket
    }
}

/// ICMP echo (RFC 792) and ICMPv6 echo (RFC 4443).
#[derive(Debug)]
pub struct EchoSocket {
    records: Records,
}

/// An echo reply.
#[derive(Clone, Copy, Debug)]
pub struct EchoReply {
    /// Who answered.
    pub from: core::net::IpAddr,
    /// The sequence number.
    pub sequence: u16,
    /// Bytes of the reply's payload; the buffer may have held fewer.
    pub payload_bytes: usize,
}

impl EchoSocket {
    /// A new one, with an identifier of the server's choice.
    ///
    /// # Errors
    /// [`Error::NoResources`].
    pub fn open() -> Result<Self, Error> {
        Ok(Self { records: Records::new(Socket::open(Kind::Echo)?, Kind::Echo) })
    }

    /// Sends an echo request.
    ///
    /// # Errors
    /// [`Error::TooLong`], [`Error::TimedOut`] if a limit was set.
    pub fn send(&mut self, to: core::net::IpAddr, sequence: u16, payload: &[u8]) -> Result<(), Error> {
        self.records.put(payload, to_endpoint(SocketAddr::new(to, sequence)))
    }

    /// Receives an echo reply.
    ///
    /// # Errors
    /// [`Error::TimedOut`] if a limit was set.
    pub fn receive(&mut self, buffer: &mut [u8]) -> Result<EchoReply, Error> {
        let (record, _) = self.records.take(buffer)?;
        let from = from_endpoint(&record.peer).ok_or(Error::PeerMisbehaviour)?;
        Ok(EchoReply { from: from.ip(), sequence: from.port(), payload_bytes: record.length as usize })
    }

    /// Sets how long a receive may block; `None` for ever, zero not at all.
    pub const fn set_read_timeout(&mut self, limit: Option<Duration>) {
        self.records.read_timeout = limit;
    }
}

impl AsSocket for EchoSocket {
    fn as_socket(&self) -> &Socket {
        &self.records.socket
    }
}

/// A socket whose rings hold records. When its server has died it comes back by itself on the next one; what was in the rings is lost.
#[derive(Debug)]
struct Records {
    socket: Socket,
    kind: Kind,
    /// What it is bound to, with the port that the server chose, if it did.
    local: Option<SocketAddr>,
    /// What it is connected to.
    peer: Option<SocketAddr>,
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
}

impl Records {
    const fn new(socket: Socket, kind: Kind) -> Self {
        Self { socket, kind, local: None, peer: None, read_timeout: None, write_timeout: None }
    }

    /// The socket is over: an error, unless that is because the server has died; then another takes its place.
    #[cold]
    fn revive(&mut self) -> Result<(), Error> {
        if !self.socket.is_orphan() {
            return Err(self.socket.failure(Error::ConnectionAborted));
        }
        let socket = self.socket.open_again(self.kind)?;
        let bound = self.local.map_or(Ok(()), |local| socket.bind(local));
        let set_up = bound.and_then(|()| self.peer.map_or(Ok(()), |peer| socket.connect(peer)));
        match set_up {
            // That one has died as well; the next call finds it so.
            Ok(()) | Err(Error::NetworkReset) => self.socket = socket,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn put(&mut self, payload: &[u8], peer: Endpoint) -> Result<(), Error> {
        let whole = RECORD_BYTES + payload.len().next_multiple_of(4);
        if payload.len() > PAYLOAD_MAX || whole > self.socket.page.tx_bytes() as usize {
            return Err(Error::TooLong);
        }
        let deadline = Deadline::after(self.write_timeout);
        loop {
            if self.socket.page.state() == State::Finished {
                self.revive()?;
                continue;
            }
            let room = match &mut self.socket.transport {
                Transport::Rings(rings) => rings.tx.space().map_err(misbehaved)?,
                Transport::Calls(_) => self.socket.page.tx_room(),
            };
            if room as usize >= whole {
                break;
            }
            deadline.left_ns().ok_or(Error::TimedOut)?;
            self.socket.wait(Want::Write, deadline)?;
        }
        match &mut self.socket.transport {
            Transport::Rings(rings) => {
                let head = head_bytes(payload.len() as u32, &peer);
                let put = rings.tx.write_with(|chunks| {
                    put_at(chunks, 0, &head);
                    put_at(chunks, RECORD_BYTES, payload);
                    whole
                });
                put.map_err(misbehaved)?;
                rings.ring_bell();
                Ok(())
            }
            Transport::Calls(calls) => match calls.write(payload, Some(&peer)) {
                Ok(taken) if taken == payload.len() => Ok(()),
                Ok(_) => Err(Error::PeerMisbehaviour), // there was room
                // As lost as one that was on its way.
                Err(Error::NetworkReset) => Ok(()),
                Err(error) => Err(error),
            },
        }
    }

    fn take(&mut self, buffer: &mut [u8]) -> Result<(Record, usize), Error> {
        let deadline = Deadline::after(self.read_timeout);
        loop {
            let state = self.socket.page.state();
            let taken = match &mut self.socket.transport {
                Transport::Rings(rings) => take_record(rings, buffer)?,
                Transport::Calls(_) if self.socket.page.rx_used() == 0 => None,
                Transport::Calls(calls) => match calls.read_record(buffer) {
                    Err(Error::NetworkReset) => None,
                    record => Some(record?.ok_or(Error::PeerMisbehaviour)?),
                },
            };
            match taken {
                Some(taken) => return Ok(taken),
                None if state == State::Finished => self.revive()?,
                None => self.socket.wait(Want::Read, deadline)?,
            }
        }
    }
}

/// Takes the next record out of the receive ring, its payload as far as the buffer goes.
fn take_record(rings: &mut Rings, buffer: &mut [u8]) -> Result<Option<(Record, usize)>, Error> {
    let rx = &mut rings.rx;
    let mut head = [0; RECORD_BYTES];
    match rx.peek(&mut head).map_err(misbehaved)? {
        0 => return Ok(None),
        RECORD_BYTES => {}
        _ => return Err(Error::PeerMisbehaviour),
    }
    let record = parse_head(&head);
    let padded = u64::from(record.length).next_multiple_of(4);
    if u64::from(rx.available().map_err(misbehaved)?) < RECORD_BYTES as u64 + padded {
        return Err(Error::PeerMisbehaviour); // records are published whole
    }
    let room = buffer.len().min(record.length as usize);
    rx.consume(RECORD_BYTES).map_err(misbehaved)?;
    let copied = rx.read(&mut buffer[..room]).map_err(misbehaved)?;
    rx.consume(padded as usize - copied).map_err(misbehaved)?;
    Ok(Some((record, copied)))
}

/// Copies `bytes` to offset `at` of the room that `chunks` are; what does not fit is left out.
fn put_at(chunks: [Chunk; 2], at: usize, bytes: &[u8]) {
    let (mut at, mut bytes) = (at, bytes);
    for (start, len) in chunks {
        if at >= len {
            at -= len;
            continue;
        }
        let part = bytes.len().min(len - at);
        // SAFETY: `at + part <= len`: inside the chunk, which is room of ours in the ring.
        unsafe { copy_in(start.add(at), &bytes[..part]) };
        (at, bytes) = (0, &bytes[part..]);
    }
}

/// A [`Record`] as it lies in a ring.
fn head_bytes(length: u32, peer: &Endpoint) -> [u8; RECORD_BYTES] {
    let mut bytes = [0; RECORD_BYTES];
    let peer = to_words(peer);
    for (to, word) in bytes.chunks_exact_mut(4).zip(core::iter::once(length).chain(peer)) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

fn parse_head(bytes: &[u8; RECORD_BYTES]) -> Record {
    let mut words = [0; RECORD_BYTES / 4];
    for (word, from) in words.iter_mut().zip(bytes.chunks_exact(4)) {
        *word = u32::from_le_bytes([from[0], from[1], from[2], from[3]]);
    }
    let [length, a, b, c, d, e, f, reserved] = words;
    Record { length, peer: from_words([a, b, c, d, e, f]), reserved }
}
