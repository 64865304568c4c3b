//! How bytes get into a socket's rings and out of them: the difference between the paths ([`abi::path`]), as far as an
//! application goes.
//!
//! By window the rings are mapped here, and a read or a write is a copy. On the other two somebody else has them, the server or
//! the kernel, and is asked by a message or a system call ([`Calls`]). What is in the socket's page, waiting included, is the same on
//! all of them.

use alloc::{boxed::Box, sync::Arc};

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
    service: Arc<Service>,
}

impl Rings {
    pub(super) fn new((rx, tx): (Consumer<'static>, Producer<'static>), service: Arc<Service>) -> Self {
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
    service: Arc<Service>,
    /// Room for a request and its reply, on the path by message.
    messages: Option<Box<[Message; 2]>>,
}

impl Calls {
    pub(super) fn new(socket: u32, service: Arc<Service>) -> Self {
        let messages = || Box::new([Message::new(0, 0), Message::new(0, 0)]);
        let messages = (service.path() == Path::Ipc).then(messages);
        Self { socket, service, messages }
    }

    /// Puts bytes into a stream, as many as there is room for, or with a peer one datagram, all or nothing; the bytes taken.
    pub(super) fn write(&mut self, bytes: &[u8], peer: Option<&Endpoint>) -> Result<usize, Error> {
        let Some(messages) = &mut self.messages else {
            let record = peer.map(|&peer| Record { length: bytes.len() as u32, peer, ..Record::default() });
            return trap::socket_write(self.socket, bytes, record.as_ref());
        };
        let [request, reply] = &mut **messages;
        let bytes = &bytes[..bytes.len().min(DATA_MAX)];
        begin(request, Request::Write, self.socket);
        if let Some(peer) = peer {
            for (i, word) in to_words(peer).into_iter().enumerate() {
                let _ = request.set_word(1 + i, word); // there is room
            }
        }
        let payload = if bytes.len() < self.service.out_of_line() {
            Payload::Inline(bytes)
        } else {
            Payload::Pages(Mapping::with_bytes(bytes)?, bytes.len())
        };
        let reply = self.service.call(request, payload, reply, &mut [])?;
        count(&reply, bytes.len())
    }

    /// Takes bytes of a stream; how many, 0 if there is nothing now.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        if self.messages.is_none() {
            return trap::socket_read(self.socket, buffer, None);
        }
        self.ask_for(buffer, |_| ()).map(|((), read)| read)
    }

    /// Takes a datagram, of which what does not fit is lost; its head, and the bytes in the buffer. `None` if there is nothing now.
    pub(super) fn read_record(&mut self, buffer: &mut [u8]) -> Result<Option<(Record, usize)>, Error> {
        let (record, read) = if self.messages.is_none() {
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

    /// Asks for as many bytes as there is room for; what `look` sees in the reply, and how many bytes came.
    #[inline]
    fn ask_for<T>(
        &mut self,
        buffer: &mut [u8],
        look: impl FnOnce(&Message) -> T,
    ) -> Result<(T, usize), Error> {
        let [request, reply] = &mut **self.messages.as_mut().ok_or(Error::BadCall)?;
        let wanted = buffer.len().min(DATA_MAX);
        begin(request, Request::Read, self.socket);
        let _ = request.set_word(1, wanted as u32); // there is room
        let mut reply = self.service.call(request, Payload::Inline(&[]), reply, &mut buffer[..wanted])?;
        let (read, bytes) = (count(&reply, wanted)?, reply.data_length as usize);
        if read != bytes {
            return Err(Error::PeerMisbehaviour);
        }
        let (seen, pages) = (look(&reply), reply.take_pages());
        drop(reply);
        if let Some(pages) = pages {
            pages.copy_out(&mut buffer[..read]);
        }
        Ok((seen, read))
    }

    /// Something new is in the page: a write of nothing makes who has the rings look.
    pub(super) fn nudge(&mut self) -> Result<(), Error> {
        self.write(&[], None).map(drop)
    }
}

/// Begins a request in the memory of the last.
#[inline]
fn begin(message: &mut Message, request: Request, socket: u32) {
    (message.id, message.length) = (request.raw(), 0);
    let _ = message.set_word(0, socket); // there is room
}

/// The count in a reply, which is believed up to `most`.
#[inline]
fn count(reply: &Message, most: usize) -> Result<usize, Error> {
    let count = reply.word(1).map(|word| word as usize);
    count.filter(|&count| count <= most).ok_or(Error::PeerMisbehaviour)
}
