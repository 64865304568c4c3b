//! TCP: streams and listeners.

use core::{net::SocketAddr, time::Duration};

use abi::{
    Error,
    socket::{Kind, Request, State, wishes},
};

use super::{AsSocket, Socket, Want, transport::Transport};
use crate::time::Deadline;

/// Connections that wait for [`TcpListener::accept`] unless the program says otherwise.
const BACKLOG: u32 = 8;

/// A TCP connection.
///
/// Dropped, it closes: what was written is still sent.
#[derive(Debug)]
pub struct TcpStream {
    socket: Socket,
    /// This side has said that it writes no more.
    write_shut: bool,
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
}

/// Which direction of a connection to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// No more will be written: FIN follows what is in the ring.
    Write,
    /// Both, at once, by RST.
    Abort,
}

impl TcpStream {
    /// Connects.
    ///
    /// # Errors
    /// [`Error::ConnectionRefused`], [`Error::TimedOut`], [`Error::Unreachable`], [`Error::NoResources`].
    pub fn connect(remote: SocketAddr) -> Result<Self, Error> {
        Self::connect_within(remote, None)
    }

    /// Connects, or gives up after `limit`.
    ///
    /// # Errors
    /// As for [`connect`](Self::connect).
    pub fn connect_timeout(remote: SocketAddr, limit: Duration) -> Result<Self, Error> {
        Self::connect_within(remote, Some(limit))
    }

    fn connect_within(remote: SocketAddr, limit: Option<Duration>) -> Result<Self, Error> {
        let deadline = Deadline::after(limit);
        let socket = Socket::open(Kind::Tcp)?;
        socket.connect(remote)?;
        socket.wait(Want::Connected, deadline)?;
        match socket.page.state() {
            State::Finished => Err(socket.failure(Error::ConnectionAborted)),
            _ => Ok(Self::new(socket)),
        }
    }

    const fn new(socket: Socket) -> Self {
        Self { socket, write_shut: false, read_timeout: None, write_timeout: None }
    }

    /// Writes some of `bytes`, at least one: as many as there is room for.
    ///
    /// # Errors
    /// [`Error::NotConnected`] after [`shutdown`](Self::shutdown), [`Error::ConnectionReset`], [`Error::ConnectionAborted`],
    /// [`Error::NetworkReset`], [`Error::TimedOut`] if a limit was set.
    #[inline]
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        match self.write_at_once(bytes) {
            0 => self.write_slowly(bytes),
            written => Ok(written),
        }
    }

    /// What can be done without a look at why not: 0 says that there is something to be found out.
    #[inline(always)]
    fn write_at_once(&mut self, bytes: &[u8]) -> usize {
        if !self.can_write() {
            return 0;
        }
        let Transport::Rings(rings) = &mut self.socket.transport else { return 0 };
        match rings.tx.write(bytes) {
            Ok(0) | Err(_) => 0,
            Ok(written) => {
                rings.ring_bell();
                written
            }
        }
    }

    /// Established, or half closed by the other end: the two states between [`State::Connecting`] and [`State::Finished`].
    #[inline(always)]
    fn can_write(&self) -> bool {
        const { assert!(State::Established.raw() + 1 == State::HalfClosed.raw()) };
        self.socket.page.state_raw().wrapping_sub(State::Established.raw()) <= 1 && !self.write_shut
    }

    #[cold]
    #[inline(never)]
    fn write_slowly(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let deadline = Deadline::after(self.write_timeout);
        loop {
            if !self.can_write() {
                return Err(if self.write_shut {
                    Error::NotConnected
                } else {
                    self.socket.failure(Error::ConnectionAborted)
                });
            }
            let written = self.socket.put(bytes)?;
            if written != 0 {
                return Ok(written);
            }
            self.socket.wait(Want::Write, deadline)?;
        }
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// As for [`write`](Self::write); how much was written before is not told.
    #[inline(always)]
    pub fn write_all(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let written = self.write_at_once(bytes);
        if written == bytes.len() { Ok(()) } else { self.write_rest(&bytes[written..]) }
    }

    #[inline(never)]
    fn write_rest(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let mut written = 0;
        while written < bytes.len() {
            written += self.write_slowly(&bytes[written..])?;
        }
        Ok(())
    }

    /// Reads what there is into the front of `buffer`; 0 at the stream's end.
    ///
    /// # Errors
    /// [`Error::ConnectionReset`], [`Error::ConnectionAborted`], [`Error::NetworkReset`], [`Error::TimedOut`] if a limit was set.
    #[inline]
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        if let Transport::Rings(rings) = &mut self.socket.transport
            && let Ok(read @ 1..) = rings.rx.read(buffer)
        {
            rings.after_read(&self.socket.page, read);
            return Ok(read);
        }
        self.read_slowly(buffer) // which finds out why not
    }

    #[cold]
    #[inline(never)]
    fn read_slowly(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let deadline = Deadline::after(self.read_timeout);
        loop {
            // Before the ring: when the state says that there is no more, what is in the ring is all.
            let state = self.socket.page.state();
            let read = self.socket.take(buffer)?;
            if read != 0 {
                return Ok(read);
            }
            match state {
                State::HalfClosed => return Ok(0),
                State::Finished => return self.socket.page.error().map_or(Ok(0), Err),
                _ => self.socket.wait(Want::Read, deadline)?,
            }
        }
    }

    /// Reads exactly as much as `buffer` takes.
    ///
    /// # Errors
    /// As for [`read`](Self::read); [`Error::ConnectionAborted`] if the stream ends before.
    pub fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), Error> {
        let mut read = 0;
        while read < buffer.len() {
            match self.read(&mut buffer[read..])? {
                0 => return Err(Error::ConnectionAborted),
                more => read += more,
            }
        }
        Ok(())
    }

    /// Bytes that can be read at once.
    #[must_use]
    pub fn available(&self) -> usize {
        self.socket.page.rx_used().min(self.socket.page.rx_bytes()) as usize
    }

    /// Waits until the other end has acknowledged all that was written, no longer than the limit for writes.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    pub fn drain(&mut self) -> Result<(), Error> {
        let deadline = Deadline::after(self.write_timeout);
        self.socket.wait(Want::Drained, deadline)?;
        if self.socket.page.acknowledged() == self.socket.page.written() {
            return Ok(());
        }
        Err(self.socket.failure(Error::ConnectionAborted))
    }

    /// Ends one direction, or all of it.
    ///
    /// # Errors
    /// [`Error::NetworkReset`] if the server has died.
    pub fn shutdown(&mut self, how: Shutdown) -> Result<(), Error> {
        self.write_shut = true;
        if self.socket.is_orphan() {
            return Err(Error::NetworkReset);
        }
        match how {
            Shutdown::Write => {
                self.socket.page.wish(wishes::SHUTDOWN, true);
                self.socket.nudge()
            }
            Shutdown::Abort => self.socket.ask(Request::Abort, &[]).map(drop),
        }
    }

    /// Small segments go at once (true), or wait for what is on its way (false, RFC 896).
    pub fn set_nodelay(&mut self, on: bool) {
        self.wish(wishes::NO_DELAY, on);
    }

    /// Probes a silent other end.
    pub fn set_keepalive(&mut self, on: bool) {
        self.wish(wishes::KEEP_ALIVE, on);
    }

    fn wish(&mut self, bit: u32, on: bool) {
        self.socket.page.wish(bit, on);
        let _ = self.socket.nudge(); // a dead server shows in the next request
    }

    /// Sets how long a read may block; `None` for ever, zero not at all.
    pub const fn set_read_timeout(&mut self, limit: Option<Duration>) {
        self.read_timeout = limit;
    }

    /// Sets how long a write, or [`drain`](Self::drain), may block; `None` for ever, zero not at all.
    pub const fn set_write_timeout(&mut self, limit: Option<Duration>) {
        self.write_timeout = limit;
    }

    /// The other end.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.socket.remote()
    }

    /// This end.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.socket.local()
    }
}

impl AsSocket for TcpStream {
    fn as_socket(&self) -> &Socket {
        &self.socket
    }
}

/// A socket that takes connections.
///
/// When the server dies it is ready for [`accept`](Self::accept), which then waits for the next server whatever its limit, listens there as
/// before, and goes on.
#[derive(Debug)]
pub struct TcpListener {
    socket: Socket,
    /// With the port that the server chose, if it did.
    local: SocketAddr,
    backlog: u32,
}

impl TcpListener {
    /// Listens on an address; the unspecified one stands for all.
    ///
    /// # Errors
    /// [`Error::AddressInUse`], [`Error::NoResources`].
    pub fn bind(local: SocketAddr) -> Result<Self, Error> {
        Self::bind_with_backlog(local, BACKLOG)
    }

    /// Listens, with room for so many connections that wait, 1 to [`abi::socket::BACKLOG_MAX`].
    ///
    /// # Errors
    /// As for [`bind`](Self::bind); [`Error::BadArgument`].
    pub fn bind_with_backlog(local: SocketAddr, backlog: u32) -> Result<Self, Error> {
        let socket = Socket::open(Kind::Tcp)?;
        socket.bind(local)?;
        socket.ask(Request::Listen, &[backlog])?;
        let port = socket.local().port();
        let local = SocketAddr::new(local.ip(), if port == 0 { local.port() } else { port });
        Ok(Self { socket, local, backlog })
    }

    /// The server has died: listens on the next one.
    #[cold]
    fn listen_again(&mut self) -> Result<(), Error> {
        let socket = self.socket.open_again(Kind::Tcp)?;
        socket.bind(self.local)?;
        socket.ask(Request::Listen, &[self.backlog])?;
        self.socket = socket;
        Ok(())
    }

    /// Waits for a connection and takes it.
    ///
    /// # Errors
    /// [`Error::NoResources`].
    pub fn accept(&mut self) -> Result<(TcpStream, SocketAddr), Error> {
        self.accept_within(None)
    }

    /// Takes a connection that comes within `limit`; zero does not wait.
    ///
    /// # Errors
    /// [`Error::TimedOut`]; as for [`accept`](Self::accept).
    pub fn accept_timeout(&mut self, limit: Duration) -> Result<(TcpStream, SocketAddr), Error> {
        self.accept_within(Some(limit))
    }

    fn accept_within(&mut self, limit: Option<Duration>) -> Result<(TcpStream, SocketAddr), Error> {
        let deadline = Deadline::after(limit);
        loop {
            self.socket.wait(Want::Accept, deadline)?;
            if self.socket.page.state() == State::Finished {
                if !self.socket.is_orphan() {
                    return Err(self.socket.failure(Error::ConnectionAborted));
                }
                match self.listen_again() {
                    // That one has died as well.
                    Ok(()) | Err(Error::NetworkReset) => continue,
                    Err(error) => return Err(error),
                }
            }
            match self.socket.accept() {
                Ok(socket) => {
                    let stream = TcpStream::new(socket);
                    let peer = stream.peer_addr();
                    return Ok((stream, peer));
                }
                // It was reset while it waited, or the server has died.
                Err(Error::WouldBlock | Error::NetworkReset) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// This end.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.socket.local()
    }
}

impl AsSocket for TcpListener {
    fn as_socket(&self) -> &Socket {
        &self.socket
    }
}
