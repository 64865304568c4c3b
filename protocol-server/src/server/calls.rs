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
    requests::{Reply, endpoint_at},
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
    /// what `room` gives for so many bytes, which may be less. The reply's [`Message::data_length`] is how many; `None` for a message
    /// that is neither, or no request of this path.
    ///
    /// The socket is served at once where that does something. `now` is asked for only then.
    pub fn transfer<'r>(
        &mut self,
        message: &Message,
        data: &[u8],
        room: impl FnOnce(usize) -> &'r mut [u8],
        now: impl FnOnce() -> Instant,
    ) -> Option<Message> {
        const WRITE: u32 = Request::Write.raw();
        const READ: u32 = Request::Read.raw();
        if !self.keeps_ends {
            return None;
        }
        let outcome = match message.id {
            WRITE => self.write_request(message, data, now),
            READ => self.read_request(message, room, now),
            _ => return None,
        };
        let (mut reply, status) = match outcome {
            Ok(reply) => (reply.message, 0),
            Err(error) => (Message::new(0, REPLY), error.raw()),
        };
        let set = reply.set_word(0, status);
        debug_assert!(set, "there is room for one word");
        Some(reply)
    }

    fn write_request(
        &mut self,
        message: &Message,
        data: &[u8],
        now: impl FnOnce() -> Instant,
    ) -> Result<Reply, Error> {
        let number = message.word(0).ok_or(Error::BadArgument)?;
        let taken = match endpoint_at(message, 1) {
            None => self.write_stream(message.sender, number, data.len(), from_slice(data))?,
            Some(peer) => {
                let put = self.write_record(message.sender, number, &peer, data.len(), from_slice(data))?;
                if put { data.len() } else { 0 }
            }
        };
        self.count_copy(taken);
        self.serve_written(number, now);
        Ok(Reply::new().word(taken as u32))
    }

    fn read_request<'r>(
        &mut self,
        message: &Message,
        room: impl FnOnce(usize) -> &'r mut [u8],
        now: impl FnOnce() -> Instant,
    ) -> Result<Reply, Error> {
        let (Some(number), Some(wanted)) = (message.word(0), message.word(1)) else {
            return Err(Error::BadArgument);
        };
        let (held, stream) = self.readable(message.sender, number)?;
        let length = held.min(wanted) as usize;
        let into: &mut [u8] = if length == 0 { &mut [] } else { room(length) };
        let into_length = into.len().min(length);
        if stream {
            let read = self.read_stream(message.sender, number, into_length, to_slice(into))?;
            self.count_copy(read);
            self.serve_read(number, read, now);
            return Ok(Reply::new().word(read as u32).data(read));
        }
        Ok(match self.read_record(message.sender, number, into_length, to_slice(into))? {
            None => Reply::new().word(0),
            Some((record, read)) => {
                self.count_copy(read);
                Reply::new().word(read as u32).word(record.length).endpoint(&record.peer).data(read)
            }
        })
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

    fn count_copy(&mut self, bytes: usize) {
        self.counters.add(ServerCounter::Copies, u64::from(bytes != 0));
        self.counters.add(ServerCounter::CopiedBytes, bytes as u64);
    }
}
