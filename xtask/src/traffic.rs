//! The built-in peers: threads that send, receive and answer over the host's own TCP, and check every byte. [`datagrams`] does so
//! over UDP and ICMP.

pub mod datagrams;

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pattern::{Source, Verifier};

use crate::error::{Context as _, Error, Result, failed};
use crate::sys;

/// The longest silence of a peer that isn't a failure.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What one side saw of a transfer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moved {
    /// Bytes, or transactions of request and response.
    pub count: u64,
    /// From the first byte to the end of the last.
    pub seconds: f64,
    /// Where the first byte stood that was not the pattern's.
    pub first_error: Option<u64>,
}

/// A listener of the host that takes one connection.
pub fn listen(address: Ipv4Addr, port: u16) -> Result<TcpListener> {
    TcpListener::bind((address, port)).map_err(|error| {
        Error::Failed(format!("port {port} of {address} is not free ({error}); stop what uses it"))
    })
}

/// Accepts one connection, with patience and an ear for Ctrl-C.
pub fn accept(listener: &TcpListener) -> Result<TcpStream> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if sys::interrupted() {
            return Err(Error::Interrupted);
        }
        if sys::readable(listener, Duration::from_millis(100)).context("accept")? {
            let (stream, _) = listener.accept().context("accept")?;
            be_patient(&stream)?;
            return Ok(stream);
        }
    }
    failed(format!("nobody connected within {} s", PATIENCE.as_secs()))
}

/// Connects to the guest.
pub fn connect(to: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE).context(format!("cannot connect to {to}"))?;
    be_patient(&stream)?;
    Ok(stream)
}

fn be_patient(stream: &TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE)).context("socket")?;
    stream.set_write_timeout(Some(PATIENCE)).context("socket")
}

/// Receives to the end of the stream; compares with the pattern if `check`.
pub fn receive(stream: &mut TcpStream, check: bool) -> io::Result<Moved> {
    let mut buffer = vec![0; 128 << 10];
    let (mut verifier, mut start, mut count) = (Verifier::new(), None, 0);
    loop {
        let n = match stream.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => result?,
        };
        let start = *start.get_or_insert_with(Instant::now);
        if n == 0 {
            return Ok(Moved {
                count,
                seconds: start.elapsed().as_secs_f64(),
                first_error: verifier.first_error(),
            });
        }
        if check {
            verifier.check(&buffer[..n]);
        }
        count += n as u64;
    }
}

/// How long to send.
#[derive(Debug, Clone, Copy)]
pub enum Until {
    /// This time has gone by.
    Elapsed(Duration),
    /// This many bytes went.
    Bytes(u64),
}

/// Writes that small are read as small, and some ways of reading take a message for each.
const SMALL: usize = 100;
/// What the host holds back of them: the guest reads it within [`PATIENCE`] after the last write. A buffer that the host may let grow has more.
const SMALL_WRITES_BUFFER: usize = 64 << 10;

/// Sends the pattern in writes of `size` bytes, closes its side, and waits until the receiver has closed the other: then
/// it has read everything.
pub fn send(stream: &mut TcpStream, size: usize, until: Until) -> io::Result<Moved> {
    let mut source = Source::new();
    if size <= SMALL {
        sys::limit_send_buffer(stream, SMALL_WRITES_BUFFER);
    }
    let start = Instant::now();
    // The clock costs little beside a write of 8 KiB, and much beside one of 10 bytes.
    let writes_per_look = (4096 / size).clamp(1, 64);
    loop {
        for _ in 0..writes_per_look {
            let piece = match until {
                Until::Bytes(total) => size.min((total - source.position()) as usize),
                Until::Elapsed(_) => size,
            };
            if piece == 0 {
                break;
            }
            write_all(stream, source.peek(piece))?;
            source.advance(piece);
        }
        let done = match until {
            Until::Bytes(total) => source.position() >= total,
            Until::Elapsed(time) => start.elapsed() >= time,
        };
        if done || sys::interrupted() {
            break;
        }
    }
    stream.shutdown(Shutdown::Write)?;
    let mut rest = [0; 64];
    while stream.read(&mut rest)? != 0 {}
    Ok(Moved { count: source.position(), seconds: start.elapsed().as_secs_f64(), first_error: None })
}

/// Sends so many bytes of the pattern in writes of `size`, and closes its side; who receives is another's business.
pub fn send_only(stream: &mut TcpStream, size: usize, bytes: u64) -> io::Result<()> {
    let mut source = Source::new();
    while source.position() < bytes && !sys::interrupted() {
        let piece = size.min((bytes - source.position()) as usize);
        write_all(stream, source.peek(piece))?;
        source.advance(piece);
    }
    stream.shutdown(Shutdown::Write)
}

/// The Internet checksum (RFC 1071).
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let bytes: Vec<u8> = parts.concat();
    let mut sum: u32 =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// As `Write::write_all`, with the timeout as an error that says what it means.
fn write_all(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => io::Error::other("the receiver's window stayed closed"),
        _ => error,
    })
}

/// Sends a byte, waits for it to come back, and so on.
pub fn request_response(stream: &mut TcpStream, time: Duration) -> io::Result<Moved> {
    let moved = request_response_on(stream, time)?;
    stream.shutdown(Shutdown::Write)?;
    Ok(moved)
}

/// As [`request_response`], on a connection that stays open.
pub fn request_response_on(stream: &mut TcpStream, time: Duration) -> io::Result<Moved> {
    stream.set_nodelay(true)?;
    let mut source = Source::new();
    let mut first_error = None;
    let start = Instant::now();
    while start.elapsed() < time && !sys::interrupted() {
        let byte = source.peek(1);
        stream.write_all(byte)?;
        let mut back = [0];
        stream.read_exact(&mut back)?;
        if back != byte && first_error.is_none() {
            first_error = Some(source.position());
        }
        source.advance(1);
    }
    Ok(Moved { count: source.position(), seconds: start.elapsed().as_secs_f64(), first_error })
}

/// Answers each byte until the end of the stream: the host's side of the comparison.
fn echo(stream: &mut TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut byte = [0];
    while stream.read(&mut byte)? != 0 {
        stream.write_all(&byte)?;
    }
    Ok(())
}

/// A receiver in a thread of its own, on a connection that is yet to come.
pub fn spawn_receiver(listener: TcpListener, check: bool) -> JoinHandle<Result<Moved>> {
    thread::spawn(move || {
        let mut stream = accept(&listener)?;
        receive(&mut stream, check).context("the host's receiver")
    })
}

/// The same transfer between two threads of the host over its loopback device: what the ratios compare with.
pub fn host_to_host(size: Option<usize>, time: Duration) -> Result<Moved> {
    let listener = listen(Ipv4Addr::LOCALHOST, 0)?;
    let address = listener.local_addr().context("loopback")?;
    let other = thread::spawn(move || -> Result<Option<Moved>> {
        let mut stream = accept(&listener)?;
        match size {
            Some(_) => receive(&mut stream, true).map(Some).context("loopback"),
            None => echo(&mut stream).map(|()| None).context("loopback"),
        }
    });
    let mut stream = connect(address)?;
    let sent = match size {
        Some(size) => send(&mut stream, size, Until::Elapsed(time)).context("loopback")?,
        None => request_response(&mut stream, time).context("loopback")?,
    };
    drop(stream);
    let received = join(other)?;
    Ok(received.unwrap_or(sent))
}

/// The result of a thread; a panic in it is a failure like any other.
pub fn join<T>(thread: JoinHandle<Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|_| failed("a peer's thread panicked"))
}

/// As [`join`], for a thread that borrows.
pub fn join_scoped<T>(thread: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|_| failed("a peer's thread panicked"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_moves_the_pattern() {
        let moved = host_to_host(Some(1000), Duration::from_millis(50)).unwrap();
        assert!(moved.count >= 1000 && moved.first_error.is_none());
        let moved = host_to_host(None, Duration::from_millis(50)).unwrap();
        assert!(moved.count > 0 && moved.first_error.is_none());
    }

    #[test]
    fn a_wrong_byte_is_found() {
        let listener = listen(Ipv4Addr::LOCALHOST, 0).unwrap();
        let mut stream = connect(listener.local_addr().unwrap()).unwrap();
        let receiver = spawn_receiver(listener, true);
        let mut bytes = pattern::Pattern::chunk(0, 5000).to_vec();
        bytes[4321] ^= 1;
        stream.write_all(&bytes).unwrap();
        drop(stream);
        let moved = join(receiver).unwrap();
        assert_eq!((moved.count, moved.first_error), (5000, Some(4321)));
    }

    #[test]
    fn an_exact_number_of_bytes() {
        let listener = listen(Ipv4Addr::LOCALHOST, 0).unwrap();
        let mut stream = connect(listener.local_addr().unwrap()).unwrap();
        let receiver = spawn_receiver(listener, true);
        assert_eq!(send(&mut stream, 1000, Until::Bytes(123_456)).unwrap().count, 123_456);
        assert_eq!(join(receiver).unwrap().count, 123_456);
    }
}
