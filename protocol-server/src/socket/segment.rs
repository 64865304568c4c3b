//! TCP segments that are not what smoltcp makes of them: their places and flags (RFC 9293, section 3.1), and segments made of others.

use alloc::vec::Vec;

use crate::frame;

/// No more data from the sender.
pub const FIN: u8 = 1;
/// Synchronize sequence numbers.
pub const SYN: u8 = 2;
/// Reset the connection.
pub const RST: u8 = 4;
/// The acknowledgment number counts.
pub const ACK: u8 = 16;
/// The sequence number, in bytes from the header's start.
pub const SEQ_AT: usize = 4;
/// The acknowledgment number.
pub const ACK_AT: usize = 8;
/// The flags.
pub const FLAGS_AT: usize = 13;
const WINDOW_AT: usize = 14;

/// The beginning of the header of the last segment that a connection sent: ports, sequence and acknowledgment number, and up to
/// the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers([u8; 16]);

impl Numbers {
    /// Those of the segment whose header begins so.
    #[inline(always)]
    pub const fn in_header(start: [u8; 16]) -> Self {
        Self(start)
    }

    /// Those of a TCP segment that is being sent.
    #[inline(always)]
    pub fn of(frame: &[u8]) -> Self {
        let header = frame::tcp_start(frame).and_then(|start| frame.get(start..)?.first_chunk());
        Self(header.copied().unwrap_or_default())
    }

    /// The port that it went to.
    pub const fn remote_port(&self) -> u16 {
        u16::from_be_bytes([self.0[2], self.0[3]])
    }

    /// Whether it said that there is no room.
    #[inline(always)]
    pub const fn closes(&self) -> bool {
        self.0[WINDOW_AT] | self.0[WINDOW_AT + 1] == 0
    }

    /// Where it stood in the stream.
    #[inline(always)]
    pub fn seq(&self) -> Option<u32> {
        word(&self.0, SEQ_AT)
    }

    /// Whether it began the stream.
    #[inline(always)]
    pub const fn begins(&self) -> bool {
        self.0[FLAGS_AT] & SYN != 0
    }

    /// The acknowledgment number: what has come.
    pub fn ack(&self) -> Option<u32> {
        word(&self.0, ACK_AT)
    }
}

/// A number of a header.
pub fn word(header: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*header.get(at..)?.first_chunk()?))
}

/// Whether a segment has to be looked at more closely: RST, SYN or FIN.
#[inline(always)]
pub fn is_special(frame: &[u8]) -> bool {
    let flags = frame::tcp_start(frame).and_then(|start| frame.get(start + FLAGS_AT));
    flags.is_some_and(|flags| flags & (RST | SYN | FIN) != 0)
}

/// A segment with nothing but a header: of the same connection, acknowledgment and window as another, with these flags, at this place.
pub fn bare(frame: &[u8], seq: u32, flags: u8) -> Option<Vec<u8>> {
    let start = frame::tcp_start(frame)?;
    let mut bare: Vec<u8> = frame.get(..start + 20)?.into();
    bare[start + SEQ_AT..start + SEQ_AT + 4].copy_from_slice(&seq.to_be_bytes());
    (bare[start + 12], bare[start + FLAGS_AT]) = (5 << 4, flags);
    frame::set_payload_length(&mut bare, 20)?;
    Some(bare)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use alloc::vec;

    /// A frame: Ethernet, IPv4 of 40 bytes, TCP.
    pub fn segment(seq: u32, flags: u8) -> Vec<u8> {
        let mut frame = vec![0; 60];
        frame[12..14].copy_from_slice(&[8, 0]);
        frame[14] = 0x45;
        frame[16..18].copy_from_slice(&40u16.to_be_bytes());
        frame[23] = frame::TCP;
        frame[38..42].copy_from_slice(&seq.to_be_bytes());
        frame[46] = 5 << 4;
        frame[47] = flags;
        frame
    }

    #[test]
    fn only_these_are_special() {
        assert!([RST, SYN | ACK, FIN | ACK].iter().all(|&flags| is_special(&segment(1, flags))));
        assert!(!is_special(&segment(1, ACK)) && !is_special(&[0; 20]));
    }

    #[test]
    fn numbers_are_found_where_they_are() {
        assert_eq!(Numbers::of(&segment(7, ACK)).seq(), Some(7));
        assert_eq!(
            Numbers::in_header([0, 7, 0x40, 0, 0, 0, 0, 9, 0, 0, 1, 0, 0x50, ACK, 1, 0]).remote_port(),
            0x4000
        );
    }
}
