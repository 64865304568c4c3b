//! Frames for the parts that need more of them, or others, than a socket of the host's sends.

use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::chaos::wire::segment::{Segment, Station};
use crate::error::{Context as _, Result, failed};
use crate::machine::Backend;
use crate::relay::Relay;
use crate::traffic::checksum;

/// The guest's station address.
pub const GUEST_MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x6f, 0x72, 0x69];
/// A station that nobody is.
const NOBODY_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 7];
/// The shortest frame, without its check sequence.
const SHORTEST: usize = 60;

/// A UDP datagram with a good checksum, in a frame for the guest.
pub fn datagram(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), payload: &[u8]) -> Vec<u8> {
    let length = (8 + payload.len()) as u16;
    let mut udp = [from.1.to_be_bytes(), to.1.to_be_bytes(), length.to_be_bytes(), [0, 0]].concat();
    udp.extend(payload);
    let mut pseudo = [from.0.octets(), to.0.octets()].concat();
    pseudo.extend([0, 17]);
    pseudo.extend(length.to_be_bytes());
    let sum = checksum(&[&pseudo, &udp]);
    udp[6..8].copy_from_slice(&if sum == 0 { [0xff; 2] } else { sum.to_be_bytes() });
    ipv4(from.0, to.0, 17, &udp)
}

/// A packet with a good header, in a frame for the guest.
pub fn ipv4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend(((20 + payload.len()) as u16).to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, protocol, 0, 0]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    let sum = checksum(&[&packet]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(payload);
    let mut frame = [GUEST_MAC, NOBODY_MAC].concat();
    frame.extend([8, 0]);
    frame.extend(packet);
    frame.resize(frame.len().max(SHORTEST), 0);
    frame
}

/// A segment in a frame for the guest.
pub fn segment(from: Ipv4Addr, to: Ipv4Addr, segment: &Segment) -> Vec<u8> {
    let from = Station { mac: NOBODY_MAC, address: from };
    segment.frame(&from, &Station { mac: GUEST_MAC, address: to })
}

/// Hands frames to the machine itself, past the tap, which drops in silence what it has no room for: this wire says so. The machine's backend is
/// a [`Relay`] without accidents, which carries everything else.
pub struct Wire {
    socket: UnixDatagram,
    machine: PathBuf,
}

impl Wire {
    /// The wire into the machine behind a relay.
    pub fn beside(relay: &Relay) -> Result<Self> {
        let Backend::Relay(machine, _) = relay.backend() else { return failed("a relay has sockets") };
        let socket = UnixDatagram::unbound().context("a socket for frames")?;
        socket.set_nonblocking(true).context("a socket for frames")?;
        Ok(Self { socket, machine })
    }

    /// Whether there was room for the frame.
    pub fn offer(&self, frame: &[u8]) -> Result<bool> {
        match self.socket.send_to(frame, &self.machine) {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(false),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(false),
            Err(error) => Err(error).context("a socket for frames"),
        }
    }

    /// Tries until there is room, at most so long.
    pub fn insist(&self, frame: &[u8], at_most: Duration) -> Result<bool> {
        let deadline = Instant::now() + at_most;
        while !self.offer(frame)? {
            if Instant::now() > deadline {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_micros(20));
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_have_good_sums() {
        let (from, to) = (Ipv4Addr::new(10, 9, 0, 1), Ipv4Addr::new(10, 9, 0, 2));
        let frame = datagram((from, 1000), (to, 7), b"abc");
        assert_eq!((frame.len(), &frame[..6]), (SHORTEST, &GUEST_MAC[..]));
        assert_eq!(checksum(&[&frame[14..34]]), 0);
        let pseudo = [&frame[26..34], &[0, 17], &frame[38..40]].concat();
        assert_eq!(checksum(&[&pseudo, &frame[34..45]]), 0);
    }
}
