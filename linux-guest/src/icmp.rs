//! Echo requests and replies over IPv4 (RFC 792), by a raw socket: for the guest's `ping`, and for the host's.
#![expect(unsafe_code, reason = "the standard library makes no raw sockets")]

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::FromRawFd as _;
use std::time::{Duration, Instant};

const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;
/// ICMP's header.
pub const HEADER_BYTES: usize = 8;
/// The longest payload that one IPv4 packet carries.
pub const PAYLOAD_MAX: u64 = 65_507;

/// Asks one address.
#[derive(Debug)]
pub struct Client {
    socket: UdpSocket,
    identifier: u16,
    packet: Vec<u8>,
    buffer: Vec<u8>,
}

/// What came of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// The payload came back as it was, after this time.
    Right(Duration),
    /// Something else came back.
    Wrong,
    /// Nothing did.
    Nothing,
}

impl Client {
    /// A client with a raw socket, for which it takes root, or `CAP_NET_RAW`.
    ///
    /// # Errors
    /// No permission.
    pub fn new(to: Ipv4Addr) -> io::Result<Self> {
        // SAFETY: no pointers; the result is checked, and nobody else has the descriptor.
        let socket = unsafe {
            let fd = libc::socket(libc::AF_INET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::IPPROTO_ICMP);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            // Of the calls of this type only those are used that every kind of datagram socket has.
            UdpSocket::from_raw_fd(fd)
        };
        socket.connect(SocketAddrV4::new(to, 0))?;
        let identifier = std::process::id() as u16;
        Ok(Self { socket, identifier, packet: Vec::new(), buffer: vec![0; 1 << 16] })
    }

    /// Sends one request and waits for its reply.
    ///
    /// # Errors
    /// The network refused the request.
    pub fn ask(&mut self, sequence: u16, payload: &[u8], patience: Duration) -> io::Result<Reply> {
        self.packet.clear();
        self.packet.extend([ECHO_REQUEST, 0, 0, 0]);
        self.packet.extend(self.identifier.to_be_bytes());
        self.packet.extend(sequence.to_be_bytes());
        self.packet.extend(payload);
        let sum = checksum(&self.packet);
        self.packet[2..4].copy_from_slice(&sum.to_be_bytes());
        let sent = Instant::now();
        self.socket.send(&self.packet)?;
        loop {
            let left = patience.saturating_sub(sent.elapsed());
            if left.is_zero() {
                return Ok(Reply::Nothing);
            }
            self.socket.set_read_timeout(Some(left))?;
            let length = match self.socket.recv(&mut self.buffer) {
                Ok(length) => length,
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) =>
                {
                    continue;
                }
                Err(error) => return Err(error),
            };
            let took = sent.elapsed();
            if let Some(back) = reply_in(&self.buffer[..length], self.identifier, sequence) {
                return Ok(if back == payload { Reply::Right(took) } else { Reply::Wrong });
            }
        }
    }
}

/// The payload, if this IPv4 packet is the reply to that request.
fn reply_in(packet: &[u8], identifier: u16, sequence: u16) -> Option<&[u8]> {
    let header_bytes = usize::from(packet.first()? & 0xf) * 4;
    let icmp = packet.get(header_bytes..)?;
    let is_ours = icmp.len() >= HEADER_BYTES
        && icmp[0] == ECHO_REPLY
        && icmp[4..6] == identifier.to_be_bytes()
        && icmp[6..8] == sequence.to_be_bytes();
    is_ours.then(|| &icmp[HEADER_BYTES..])
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let (pairs, odd) = bytes.as_chunks::<2>();
    let mut sum: u64 = pairs.iter().map(|pair| u64::from(u16::from_be_bytes(*pair))).sum();
    if let [last] = odd {
        sum += u64::from(*last) << 8;
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_rfc() {
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
        assert_eq!(checksum(&[0xff]), !0xff00);
    }

    #[test]
    fn only_the_right_reply_counts() {
        let mut packet = vec![0x45; 20];
        packet.extend([ECHO_REPLY, 0, 0, 0, 0x12, 0x34, 0, 7, b'x']);
        assert_eq!(reply_in(&packet, 0x1234, 7), Some(&b"x"[..]));
        assert_eq!(reply_in(&packet, 0x1234, 8), None);
        assert_eq!(reply_in(&packet, 1, 7), None);
        assert_eq!(reply_in(&packet[..25], 0x1234, 7), None);
        packet[20] = ECHO_REQUEST;
        assert_eq!(reply_in(&packet, 0x1234, 7), None);
    }
}
