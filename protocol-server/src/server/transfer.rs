//! Reads and writes of applications that map no rings: by system calls, or by [`abi::socket::Request::Write`] and
//! [`abi::socket::Request::Read`].
//!
//! A read or write here moves bytes between the caller and a ring, as an application that maps the ring would have done. The next pass sees
//! it ([`Socket::has_work`]); [`Server::serve_written`] and [`Server::serve_read`] serve the socket at once, for a caller that is no
//! loop.

use abi::{
    Error,
    socket::{Endpoint, Record, State},
};
use shmqueue::bytes::Chunk;
use smoltcp::time::Instant;

use super::Server;
use crate::{
    link::Link,
    socket::{Protocol, Socket, end::End},
    system::System,
};

/// Writes of at least so many bytes go past an empty ring, which spares a copy; shorter ones gather in it.
const PASS: usize = 512;

impl<L: Link, S: System> Server<L, S> {
    /// The task's socket, if it can be read and written.
    #[inline(always)]
    fn transferable(&mut self, task: u32, number: u32) -> Result<&mut Socket<S::Memory>, Error> {
        match self.sockets.get_mut(number as usize) {
            Some(Some(socket)) if socket.is_of(task) => Ok(socket),
            _ => Err(Error::BadName),
        }
    }

    /// Puts up to `length` bytes into a stream; 0: no room now. `copy` gets a piece of the ring and where in the caller's bytes that begins.
    /// Of no bytes it only asks whether the socket is the task's.
    ///
    /// # Errors
    /// [`Error::BadName`]: the task has no such socket. [`Error::NotConnected`]: it is not connected, or has said that it writes no more.
    /// [`Error::BadArgument`]: it is no stream. [`Error::PeerMisbehaviour`]: its page holds what cannot be. What `copy` says.
    #[inline]
    pub fn write_stream(
        &mut self,
        task: u32,
        number: u32,
        length: usize,
        mut copy: impl FnMut(Chunk, usize) -> Result<(), Error>,
    ) -> Result<usize, Error> {
        let socket = self.transferable(task, number)?;
        if length == 0 {
            return Ok(0);
        }
        socket.stream_end()?;
        if length >= PASS
            && let Some(passed) = socket.pass_by_ring(length, &mut copy)?
        {
            return Ok(passed);
        }
        socket.stream_end()?.write_with(length, copy)
    }

    /// Puts one datagram of `length` bytes into the transmit ring, whole; false: no room now. `copy` is as for
    /// [`write_stream`](Self::write_stream).
    ///
    /// # Errors
    /// As there, with [`Error::BadArgument`] for a stream, and [`Error::TooLong`]: there never is room.
    pub fn write_record(
        &mut self,
        task: u32,
        number: u32,
        peer: &Endpoint,
        length: usize,
        copy: impl FnMut(Chunk, usize) -> Result<(), Error>,
    ) -> Result<bool, Error> {
        self.transferable(task, number)?.record_end()?.write_record_with(peer, length, copy)
    }

    /// Takes up to `length` bytes of a stream; 0: nothing there now. `copy` gets a piece of the ring and where in the caller's bytes that
    /// goes.
    ///
    /// # Errors
    /// As for [`write_stream`](Self::write_stream), but a connection that is over can be read to its end.
    #[inline]
    pub fn read_stream(
        &mut self,
        task: u32,
        number: u32,
        length: usize,
        copy: impl FnMut(Chunk, usize) -> Result<(), Error>,
    ) -> Result<usize, Error> {
        let socket = self.transferable(task, number)?;
        let (Protocol::Tcp(_), Some(end)) = (&socket.protocol, &mut socket.end) else {
            return Err(Error::BadArgument);
        };
        end.read_with(length, copy)
    }

    /// Takes the next datagram, as much of it as `length` bytes are, and loses the rest: its head, and the bytes copied. `None`: nothing there
    /// now.
    ///
    /// # Errors
    /// As for [`write_record`](Self::write_record).
    pub fn read_record(
        &mut self,
        task: u32,
        number: u32,
        length: usize,
        copy: impl FnMut(Chunk, usize) -> Result<(), Error>,
    ) -> Result<Option<(Record, usize)>, Error> {
        self.transferable(task, number)?.record_end()?.read_record_with(length, copy)
    }

    /// Serves a socket that was written to, unless what was written may wait for company; then false, and the next pass serves it, which
    /// must come soon.
    ///
    /// `now` is asked for only if it is served.
    #[inline]
    #[must_use = "what waits must be served in the end"]
    pub fn serve_written(&mut self, number: u32, now: impl FnOnce() -> Instant) -> bool {
        if let Some(Some(socket)) = self.sockets.get_mut(number as usize)
            && socket.gathers()
        {
            return false;
        }
        self.serve_now(number, now());
        true
    }

    /// Serves a socket of which `taken` bytes were read, if the other end may wait for their room.
    #[inline]
    pub fn serve_read(&mut self, number: u32, taken: usize, now: impl FnOnce() -> Instant) {
        if let Some(Some(Socket { end: Some(end), .. })) =
            self.sockets.get_mut(number as usize).map(|place| place.as_deref_mut())
            && end.must_tell_of_room(taken)
        {
            self.serve_now(number, now());
        }
    }

    /// Serves a socket at once, and has what it sends sent.
    #[inline]
    pub fn serve_now(&mut self, number: u32, now: Instant) {
        self.stack.now = now;
        let before = self.stack.traffic;
        self.serve(number as u16);
        self.count_traffic(&before);
        self.stack.link.flush();
    }
}

impl<M: crate::system::SharedMemory> Socket<M> {
    /// The end of a connection that can be written to.
    #[inline(always)]
    fn stream_end(&mut self) -> Result<&mut End, Error> {
        let open = matches!(self.state(), State::Established | State::HalfClosed);
        match (&self.protocol, &mut self.end) {
            (Protocol::Tcp(_), Some(end)) if open => Ok(end),
            (Protocol::Tcp(_), Some(_)) => Err(Error::NotConnected),
            _ => Err(Error::BadArgument),
        }
    }

    fn record_end(&mut self) -> Result<&mut End, Error> {
        let over = self.state() == State::Finished;
        match (&self.protocol, &mut self.end) {
            (Protocol::Datagram(_), Some(end)) if !over => Ok(end),
            (Protocol::Datagram(_), Some(_)) => Err(Error::NotConnected),
            _ => Err(Error::BadArgument),
        }
    }
}
