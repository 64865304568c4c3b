//! The host's ends of the UDP cells and of the pings.
//!
//! UDP's classic ttcp: a short datagram says "start", one or more say "end", what is between is the data. Nothing is sent again:
//! what was lost is counted.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use linux_guest::icmp::{Client, Reply};
use pattern::{Pattern, Pieces, Source};

use super::{Moved, PATIENCE};
use crate::error::{Context as _, Error, Result, failed};
use crate::sys;

/// A datagram of this length or less says "start" or "end".
const SENTINEL: [u8; 4] = [0; 4];
/// After so long without a datagram all sentinels must have been lost.
const SILENCE: Duration = Duration::from_secs(2);
/// Room for bursts that come while this program does not run.
const BUFFER_BYTES: usize = 8 << 20;
/// The longest datagram that Ethernet takes in one frame.
const UNFRAGMENTED_BYTES: usize = 1472;
/// The pings' payload, as everybody's ping has it.
pub const PING_BYTES: usize = 56;

/// A socket that waits for the guest's datagrams.
pub fn bind(address: Ipv4Addr, port: u16) -> Result<UdpSocket> {
    let socket = UdpSocket::bind((address, port)).context(format!("UDP port {port} of {address}"))?;
    sys::enlarge_receive_buffer(&socket, BUFFER_BYTES);
    socket.set_read_timeout(Some(Duration::from_millis(100))).context("socket")?;
    Ok(socket)
}

/// Receives from the first datagram to the sentinel at the end. The first wrong piece is `first_error`'s, by number.
pub fn receive(socket: &UdpSocket) -> Result<Moved> {
    let mut buffer = vec![0; 1 << 16];
    let (mut pieces, mut bytes) = (Pieces::new(), 0);
    let (mut first, mut last, mut first_error) = (None, Instant::now(), None);
    loop {
        if sys::interrupted() {
            return Err(Error::Interrupted);
        }
        let length = match socket.recv(&mut buffer) {
            Ok(length) => length,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                match first {
                    None if last.elapsed() > PATIENCE => return failed("no datagram came"),
                    Some(first) if last.elapsed() > SILENCE => {
                        return Ok(Moved { count: bytes, seconds: seconds(first, last), first_error });
                    }
                    _ => continue,
                }
            }
            Err(error) => return Err(error).context("the host's receiver"),
        };
        last = Instant::now();
        let first = *first.get_or_insert(last);
        if length > SENTINEL.len() {
            bytes += length as u64;
            if !pieces.check(&buffer[..length]) {
                first_error.get_or_insert(pieces.arrived() - 1);
            }
        } else if bytes > 0 {
            return Ok(Moved { count: bytes, seconds: seconds(first, last), first_error });
        }
    }
}

fn seconds(from: Instant, to: Instant) -> f64 {
    to.duration_since(from).as_secs_f64()
}

/// Sends [`offered`] datagrams a second for so long, then sentinels until `over`. Says what was sent.
///
/// Nothing tells a sender of datagrams to wait. As fast as the host can would be some hundred thousand a second, of which a guest
/// loses nearly all, and the cell would measure how it loses them.
pub fn send(to: SocketAddr, size: usize, time: Duration, over: &AtomicBool) -> Result<Moved> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("socket")?;
    socket.connect(to).context("socket")?;
    let mut source = Source::new();
    put(&socket, &SENTINEL)?;
    let start = Instant::now();
    let (mut sent, per_second) = (0, offered(size));
    loop {
        let elapsed = start.elapsed();
        if elapsed >= time || sys::interrupted() {
            break;
        }
        // As many as are due by now, in small bursts, as a timer of a millisecond makes them.
        let due = (elapsed.as_secs_f64() * per_second as f64) as u64;
        while sent < due {
            if put(&socket, source.peek(size))? {
                source.advance(size);
            }
            sent += 1;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let seconds = start.elapsed().as_secs_f64();
    let deadline = Instant::now() + PATIENCE;
    // Relaxed: no data goes with the flag, which is set by who waits for the guest's end.
    while !over.load(Ordering::Relaxed) && Instant::now() < deadline && !sys::interrupted() {
        // First a pause: what is queued on the way drains, and leaves room for the sentinel.
        std::thread::sleep(Duration::from_millis(20));
        put(&socket, &SENTINEL)?;
    }
    Ok(Moved { count: source.position(), seconds, first_error: None })
}

/// Datagrams a second that are sent to the guest: fewer of those that are cut into fragments.
pub const fn offered(size: usize) -> u64 {
    if size <= UNFRAGMENTED_BYTES { 5000 } else { 1500 }
}

/// Whether the datagram was taken. A queue that is full, or a guest that has no such port any more, is a loss like others.
fn put(socket: &UdpSocket, bytes: &[u8]) -> Result<bool> {
    match socket.send(bytes) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(true),
        Err(error)
            if error.raw_os_error() == Some(libc::ENOBUFS) || error.kind() == ErrorKind::WouldBlock =>
        {
            Ok(false)
        }
        Err(error) => Err(error).context("the host's sender"),
    }
}

/// Pings the guest until it answers, or patience ends: then what comes next will say why.
pub fn wait_for_reply(to: Ipv4Addr, at_most: Duration) {
    let deadline = Instant::now() + at_most;
    let Ok(mut client) = Client::new(to) else { return };
    for sequence in 0.. {
        let reply = client.ask(sequence, &[], Duration::from_millis(200));
        if matches!(reply, Ok(Reply::Right(_))) || Instant::now() > deadline || sys::interrupted() {
            return;
        }
    }
}

/// Pings the guest, one after the other, for so long.
pub fn ping(to: Ipv4Addr, time: Duration) -> Result<Moved> {
    let mut client = Client::new(to).context("a raw socket")?;
    let (mut count, mut first_error) = (0, None);
    let start = Instant::now();
    while start.elapsed() < time && !sys::interrupted() {
        let payload = Pattern::chunk(count, PING_BYTES);
        let reply = client.ask(count as u16, payload, Duration::from_secs(2)).context("the host's ping")?;
        if !matches!(reply, Reply::Right(_)) {
            first_error.get_or_insert(count);
        }
        count += 1;
    }
    Ok(Moved { count, seconds: start.elapsed().as_secs_f64(), first_error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_and_losses() {
        let socket = bind(Ipv4Addr::LOCALHOST, 0).unwrap();
        let other = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        other.connect(socket.local_addr().unwrap()).unwrap();
        other.send(&SENTINEL).unwrap();
        for piece in [0, 1, 3] {
            other.send(Pattern::chunk(piece * 1000, 1000)).unwrap();
        }
        other.send(&SENTINEL).unwrap();
        let moved = receive(&socket).unwrap();
        assert_eq!((moved.count, moved.first_error), (3000, None));
        other.send(Pattern::chunk(5, 1000)).unwrap();
        other.send(&SENTINEL).unwrap();
        assert_eq!(receive(&socket).unwrap().first_error, Some(0));
    }

    #[test]
    fn a_flood_ends() {
        let socket = bind(Ipv4Addr::LOCALHOST, 0).unwrap();
        let to = socket.local_addr().unwrap();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| send(to, 100, Duration::from_millis(30), &over).unwrap());
            let moved = receive(&socket).unwrap();
            over.store(true, Ordering::Relaxed);
            let sent = sender.join().unwrap();
            assert!(moved.count > 0 && moved.count <= sent.count && moved.first_error.is_none());
        });
    }
}
