//! Blind attacks on a connection (RFC 5961): segments from someone who guesses the addresses and ports, and has to guess a sequence number
//! too. smoltcp takes a RST anywhere in the window, as RFC 793 did, and keeps silent about a SYN. Here a RST has to bear exactly the
//! number that we expect next (section 3.2), and for every other one in the window, and for a SYN (section 4.2), the other end is asked, by a
//! challenge ACK: if it is the one who has forgotten the connection, it answers with a RST that bears the right number.
//!
//! "Expected next" is the number of the last acknowledgment sent. Where an acknowledgment is still due it is less than what smoltcp expects,
//! and an honest RST costs one challenge more.

use alloc::vec::Vec;
use smoltcp::socket::tcp::State;

use crate::frame;

pub(super) const SYN: u8 = 2;
pub(super) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;
/// From the TCP header's start: sequence number, acknowledgment number, flags, window.
pub(super) const SEQ_AT: usize = 4;
const ACK_AT: usize = 8;
pub(super) const FLAGS_AT: usize = 13;
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

    pub(super) fn ack(&self) -> Option<u32> {
        word(&self.0, ACK_AT)
    }
}

pub(super) fn word(header: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*header.get(at..)?.first_chunk()?))
}

/// Whether a segment has to be looked at more closely: RST or SYN.
#[inline(always)]
pub fn is_suspicious(frame: &[u8]) -> bool {
    let flags = frame::tcp_start(frame).and_then(|start| frame.get(start + FLAGS_AT));
    flags.is_some_and(|flags| flags & (RST | SYN) != 0)
}

/// What to hand to smoltcp in place of a suspicious segment to a connection in `state`, whose last segment bore `sent`; `None`: the segment
/// itself.
#[cold]
pub fn challenge(frame: &[u8], state: State, sent: Numbers) -> Option<Vec<u8>> {
    // Before, there is nothing to lose, and smoltcp looks at the acknowledgment; after, a SYN may begin anew.
    if matches!(state, State::Closed | State::Listen | State::SynSent | State::SynReceived | State::TimeWait)
    {
        return None;
    }
    let start = frame::tcp_start(frame)?;
    let header = frame.get(start..)?;
    let expected = sent.ack()?;
    let flags = *header.get(FLAGS_AT)?;
    let seq = word(header, SEQ_AT)?;
    // Which of those that are not exact lie outside of the window smoltcp knows: it drops a RST there.
    let ahead = seq.wrapping_sub(expected).cast_signed();
    if flags & RST != 0 && (ahead <= 0 || flags & SYN != 0) {
        return None;
    }
    // smoltcp sends a challenge ACK, no more than one a second, to an acknowledgment of what was never sent.
    let mut asked: Vec<u8> = frame.get(..start + 20)?.into();
    let never = sent.seq()?.wrapping_add(1 << 30);
    asked[start + SEQ_AT..start + ACK_AT].copy_from_slice(&expected.to_be_bytes());
    asked[start + ACK_AT..start + ACK_AT + 4].copy_from_slice(&never.to_be_bytes());
    (asked[start + 12], asked[start + FLAGS_AT]) = (5 << 4, ACK);
    frame::set_payload_length(&mut asked, 20)?;
    Some(asked)
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

    const SENT: Numbers = Numbers([0, 7, 0x40, 0, 0, 0, 0, 9, 0, 0, 1, 0, 0x50, ACK, 1, 0]);

    #[test]
    fn the_exact_number_resets_and_the_rest_is_asked_about() {
        assert!(challenge(&segment(256, RST), State::Established, SENT).is_none());
        assert!(challenge(&segment(255, RST), State::Established, SENT).is_none(), "smoltcp drops it");
        let asked = challenge(&segment(257, RST), State::Established, SENT).unwrap();
        assert_eq!((asked[47], asked.len()), (ACK, 54));
        assert_eq!(asked[38..42], [0, 0, 1, 0]);
        assert_eq!(asked[42..46], (9u32 + (1 << 30)).to_be_bytes());
    }

    #[test]
    fn a_syn_is_asked_about_wherever_it_is() {
        for seq in [0, 256, 100_000] {
            assert!(challenge(&segment(seq, SYN), State::Established, SENT).is_some());
            assert!(challenge(&segment(seq, SYN), State::SynSent, SENT).is_none());
        }
    }

    #[test]
    fn only_these_two_are_suspicious() {
        assert!(is_suspicious(&segment(1, RST)) && is_suspicious(&segment(1, SYN | ACK)));
        assert!(!is_suspicious(&segment(1, ACK)) && !is_suspicious(&[0; 20]));
        assert_eq!(Numbers::of(&segment(7, ACK)).seq(), Some(7));
        assert_eq!(SENT.remote_port(), 0x4000);
    }
}
