//! How bytes get into a socket's rings and out of them: the difference between the paths ([`abi::path`]), as far as an
//! application goes.
//!
//! By window the rings are mapped here, and a read or a write is a copy. On the other two somebody else has them, the server or
//! the kernel, and is asked by a message or a system call ([`Calls`]). What is in the socket's page, waiting included, is the same on
//! all of them.

use abi::{
    Error,
    message::{DATA_MAX, Message},
    path::Path,
    socket::{Endpoint, Record, Request},
};
use shmqueue::{
    Poster, WaitWord,
    bytes::{Consumer, Producer},
};

use super::{
    Page, Service,
    address::{from_words, to_words},
    trap,
};
use crate::{memory::Mapping, rpc::Payload};

/// How bytes get into a socket's rings and out of them.
pub(super) enum Transport {
    /// The rings are mapped here.
    Rings(Rings),
    /// They are not.
    Calls(Calls),
}

/// The application's ends of the rings, mapped here.
pub(super) struct Rings {
    pub(super) rx: Consumer<'static>,
    pub(super) tx: Producer<'static>,
    /// Where the server says that it sleeps.
    server_word: &'static WaitWord,
    bell: Poster,
    service: &'static Service,
}

impl Rings {
    pub(super) fn new((rx, tx): (Consumer<'static>, Producer<'static>), service: &'static Service) -> Self {
        Self { rx, tx, server_word: service.wait_word(), bell: Poster::new(), service }
    }

    /// After something was put where the server looks: wakes it if it sleeps and has not been woken by this socket yet.
    #[inline(always)]
    pub(super) fn ring_bell(&mut self) {
        if self.bell.should_post(self.server_word) {
            self.service.wake();
        }
    }

    /// After `taken` bytes were read. The receive ring of a connection is its window: a sender that has filled it hears of room only
    /// from the server, which then has to be told. It's told where the reader passes an eighth of the ring and the ring was
    /// at least half full: however many bytes each read takes, there is such a place soon after the ring was full.
    #[inline(always)]
    pub(super) fn after_read(&mut self, page: &Page, taken: usize) {
        let (position, eighth) = (self.rx.position(), page.rx_bytes() / 8);
        let before = position.wrapping_sub(taken as u32);
        if (position ^ before) & eighth.wrapping_neg() != 0 {
            self.tell_of_room(page, taken as u32, 4 * eighth);
        }
    }

    #[cold]
    fn tell_of_room(&mut self, page: &Page, taken: u32, full: u32) {
        if page.rx_used().saturating_add(taken) >= full {
            self.ring_bell();
        }
    }
}

/// Asks who has the rings, once for each read and each write.
///
/// No bell: who is asked is awake. Nor is it told of room in the receive ring, since it makes that room itself.
pub(super) struct Calls {
    socket: u32,
    service: &'static Service,
}

impl Calls {
    pub(super) const fn new(socket: u32, service: &'static Service) -> Self {
        Self { socket, service }
    }

    /// Puts bytes into a stream, as many as there is room for, or with a peer one datagram, all or nothing; the bytes taken.
    pub(super) fn write(&self, bytes: &[u8], peer: Option<&Endpoint>) -> Result<usize, Error> {
        if self.service.path() == Path::Monolithic {
            let record = peer.map(|&peer| Record { length: bytes.len() as u32, peer, ..Record::default() });
            return trap::socket_write(self.socket, bytes, record.as_ref());
        }
        let bytes = &bytes[..bytes.len().min(DATA_MAX)];
        let mut message = self.request(Request::Write);
        if let Some(peer) = peer {
            for (i, word) in to_words(peer).into_iter().enumerate() {
                let _ = message.set_word(1 + i, word); // there is room
            }
        }
        let payload = if bytes.len() < self.service.out_of_line() {
            Payload::Inline(bytes)
        } else {
            Payload::Pages(Mapping::with_bytes(bytes)?, bytes.len())
        };
        let reply = self.service.call(message, payload, &mut [])?;
        count(&reply, bytes.len())
    }

    /// Takes bytes of a stream; how many, 0 if there is nothing now.
    pub(super) fn read(&self, buffer: &mut [u8]) -> Result<usize, Error> {
        if self.service.path() == Path::Monolithic {
            return trap::socket_read(self.socket, buffer, None);
        }
        self.ask_for(buffer, |_| ()).map(|((), read)| read)
    }

    /// Takes a datagram, of which what does not fit is lost; its head, and the bytes in the buffer. `None` if there is nothing now.
    pub(super) fn read_record(&self, buffer: &mut [u8]) -> Result<Option<(Record, usize)>, Error> {
        let (record, read) = if self.service.path() == Path::Monolithic {
            let mut record = Record::default();
            let read = trap::socket_read(self.socket, buffer, Some(&mut record))?;
            (record, read)
        } else {
            self.ask_for(buffer, |reply| {
                let word = |i: usize| reply.word(i).unwrap_or_default();
                let peer = from_words(core::array::from_fn(|i| word(3 + i)));
                Record { length: word(2), peer, reserved: 0 }
            })?
        };
        // Whoever sends a datagram has an address.
        Ok((record.peer.family != 0).then_some((record, read)))
    }

    fn ask_for<T>(&self, buffer: &mut [u8], look: impl FnOnce(&Message) -> T) -> Result<(T, usize), Error> {
        let wanted = buffer.len().min(DATA_MAX);
        let mut message = self.request(Request::Read);
        let _ = message.set_word(1, wanted as u32); // there is room
        let mut reply = self.service.call(message, Payload::Inline(&[]), &mut buffer[..wanted])?;
        let read = count(&reply, wanted)?;
        if read != reply.data_length as usize {
            return Err(Error::PeerMisbehaviour);
        }
        let seen = look(&reply);
        if let Some(pages) = reply.take_pages() {
            pages.copy_out(&mut buffer[..read]);
        }
        Ok((seen, read))
    }

    fn request(&self, request: Request) -> Message {
        let mut message = Message::new(0, request.raw());
        let _ = message.set_word(0, self.socket); // there is room
        message
    }

    /// Something new is in the page: a write of nothing makes who has the rings look.
    pub(super) fn nudge(&self) -> Result<(), Error> {
        self.write(&[], None).map(drop)
    }
}

/// The count in a reply, which is believed up to `most`.
fn count(reply: &Message, most: usize) -> Result<usize, Error> {
    let count = reply.word(1).map(|word| word as usize);
    count.filter(|&count| count <= most).ok_or(Error::PeerMisbehaviour)
}
