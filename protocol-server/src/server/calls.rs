//! [`Request::Write`] and [`Request::Read`]: requests that come with data, or ask for some.
//!
//! What they do to the rings is [`super::transfer`]'s; here are the messages. Where data lies, in line or out of line, is the business of
//! who sends and receives them: here it is a slice.

use abi::{
    Error,
    message::Message,
    socket::{REPLY, Request, ServerCounter},
};
use smoltcp::time::Instant;

use super::{
    Server,
    requests::{endpoint_at, put_endpoint},
};
use crate::{
    link::Link,
    socket::{
        Protocol,
        end::{from_slice, to_slice},
    },
    system::System,
};

impl<L: Link, S: System> Server<L, S> {
    /// Does what a message asks that is a [`Request::Write`] with this `data`, or a [`Request::Read`] whose reply's data goes to the front of
    /// what `room` gives for so many bytes, which may be less. The reply goes to `reply`, its [`Message::data_length`] says how many;
    /// false for a message that is neither, or where there are no such requests.
    ///
    /// The socket is served at once where that does something. `now` is asked for only then.
    #[inline]
    pub fn transfer<'r>(
        &mut self,
        message: &Message,
        data: &[u8],
        room: impl FnOnce(usize) -> &'r mut [u8],
        now: impl FnOnce() -> Instant,
        reply: &mut Message,
    ) -> bool {
        const WRITE: u32 = Request::Write.raw();
        const READ: u32 = Request::Read.raw();
        if !self.keeps_ends || (message.id != WRITE && message.id != READ) {
            return false;
        }
        // In the memory of the last: what is behind the length is nobody's business.
        (reply.id, reply.length, reply.data_length) = (REPLY, 0, 0);
        let outcome = if message.id == WRITE {
            self.write_request(message, data, now, reply)
        } else {
            self.read_request(message, room, now, reply)
        };
        put(reply, 0, outcome.map_or_else(Error::raw, |()| 0));
        true
    }

    /// Whether something that was written waits for company: there has to be a pass soon.
    #[inline]
    #[must_use]
    pub const fn gathers(&self) -> bool {
        self.gathers
    }

    fn write_request(
        &mut self,
        message: &Message,
        data: &[u8],
        now: impl FnOnce() -> Instant,
        reply: &mut Message,
    ) -> Result<(), Error> {
        let number = message.word(0).ok_or(Error::BadArgument)?;
        let taken = match endpoint_at(message, 1) {
            None => self.write_stream(message.sender, number, data.len(), from_slice(data))?,
            Some(peer) => {
                let put = self.write_record(message.sender, number, &peer, data.len(), from_slice(data))?;
                if put { data.len() } else { 0 }
            }
        };
        self.count_copy(taken);
        self.gathers |= !self.serve_written(number, now);
        put(reply, 1, taken as u32);
        Ok(())
    }

    fn read_request<'r>(
        &mut self,
        message: &Message,
        room: impl FnOnce(usize) -> &'r mut [u8],
        now: impl FnOnce() -> Instant,
        reply: &mut Message,
    ) -> Result<(), Error> {
        let (Some(number), Some(wanted)) = (message.word(0), message.word(1)) else {
            return Err(Error::BadArgument);
        };
        let (held, stream) = self.readable(message.sender, number)?;
        let length = held.min(wanted) as usize;
        let into: &mut [u8] = if length == 0 { &mut [] } else { room(length) };
        let into_length = into.len().min(length);
        let read = if stream {
            let read = self.read_stream(message.sender, number, into_length, to_slice(into))?;
            self.serve_read(number, read, now);
            read
        } else {
            let record = self.read_record(message.sender, number, into_length, to_slice(into))?;
            if let Some((record, _)) = &record {
                put(reply, 2, record.length);
                put_endpoint(reply, 3, &record.peer);
            }
            record.map_or(0, |(_, read)| read)
        };
        self.count_copy(read);
        put(reply, 1, read as u32);
        reply.data_length = read as u32;
        Ok(())
    }

    /// The bytes of a stream, or of the next datagram, that the task's socket holds for it; and whether it is a stream.
    fn readable(&mut self, task: u32, number: u32) -> Result<(u32, bool), Error> {
        let socket = match self.sockets.get_mut(number as usize) {
            Some(Some(socket)) if socket.is_of(task) => socket,
            _ => return Err(Error::BadName),
        };
        match (&socket.protocol, &mut socket.end) {
            (Protocol::Tcp(_), Some(end)) => Ok((end.available()?, true)),
            (Protocol::Datagram(_), Some(end)) => {
                Ok((end.next_record()?.map_or(0, |record| record.length), false))
            }
            _ => Err(Error::BadArgument),
        }
    }

    /// Counts a copy between an application and its socket.
    #[inline]
    pub fn count_copy(&mut self, bytes: usize) {
        self.counters.add(ServerCounter::Copies, u64::from(bytes != 0));
        self.counters.add(ServerCounter::CopiedBytes, bytes as u64);
    }
}

/// Sets a word of a reply, which is far shorter than a message.
#[inline]
pub(super) fn put(reply: &mut Message, index: usize, value: u32) {
    let set = reply.set_word(index, value);
    debug_assert!(set, "there is room for a few words");
}
