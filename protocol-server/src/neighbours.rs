//! A connection's peer keeps its place among the neighbours.
//!
//! smoltcp learns stations from ARP alone, into a table of fixed size from which others can push a peer by asking for us in many names; and
//! it asks for one address a second whoever is sought, so that a peer that was pushed out may wait for long behind others that never answer.
//! But a peer that goes on sending says in each frame where it is. So a connection remembers the station that it was first heard from, and
//! when neighbours have been heard of since, the next segment from there has the entry written anew: by a reply of ARP (RFC 826) that
//! is made here. What comes from another station changes nothing: who has moved says so by ARP.

use crate::frame::tcp_start;

/// Bytes of a frame that holds a packet of ARP for IPv4 over Ethernet.
pub const ARP_FRAME_BYTES: usize = 42;
const IPV4: [u8; 2] = [8, 0];

/// What a connection knows of its peer's station.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Zeros before it was heard from.
    station: [u8; 6],
    /// How often neighbours had been heard of when this one was last seen to be known.
    pub heard: u32,
}

impl Peer {
    /// A frame from the peer has come, `heard` is now another number: the frame that tells the stack again where it is.
    #[cold]
    pub fn reply(&mut self, frame: &[u8], heard: u32) -> Option<[u8; ARP_FRAME_BYTES]> {
        self.heard = heard;
        let (ours, theirs) = (*frame.first_chunk::<6>()?, *frame.get(6..)?.first_chunk::<6>()?);
        if self.station == [0; 6] {
            self.station = theirs;
        }
        // An address of a group is nobody's station (RFC 1112).
        if self.station != theirs || theirs[0] & 1 != 0 || ours[0] & 1 != 0 || frame.get(12..14)? != IPV4 {
            return None;
        }
        tcp_start(frame)?;
        let (source, destination) = (frame.get(26..30)?, frame.get(30..34)?);
        let mut reply = [0; ARP_FRAME_BYTES];
        for (at, part) in [
            (0, &ours[..]),
            (6, &theirs),
            // ARP; hardware Ethernet, protocol IPv4, their lengths, a reply.
            (12, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2]),
            (22, &theirs),
            (28, source),
            (32, &ours),
            (38, destination),
        ] {
            reply.get_mut(at..at + part.len())?.copy_from_slice(part);
        }
        Some(reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn segment(to: u8, from: u8) -> Vec<u8> {
        let mut frame = [[2, 0, 0, 0, 0, to], [2, 0, 0, 0, 0, from]].concat();
        frame.extend([8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2]);
        frame.resize(54, 0);
        frame
    }

    #[test]
    fn only_the_first_station_is_told_again() {
        let mut peer = Peer::default();
        let reply = peer.reply(&segment(2, 1), 5).expect("a reply");
        assert_eq!(reply[12..22], [8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
        assert_eq!(reply[22..32], [2, 0, 0, 0, 0, 1, 10, 9, 0, 1]);
        assert_eq!(reply[38..], [10, 9, 0, 2]);
        assert_eq!(peer.heard, 5);
        assert_eq!(peer.reply(&segment(2, 9), 6), None, "somebody else in its name");
        assert!(peer.reply(&segment(2, 1), 7).is_some());
        let mut group = segment(2, 3);
        group[6] = 3;
        assert_eq!(Peer::default().reply(&group, 1), None);
        for length in 0..34 {
            assert_eq!(Peer::default().reply(&segment(2, 1)[..length], 1), None);
        }
    }
}
