//! Blind attacks on a connection (RFC 5961): segments from someone who guesses the addresses and ports, and has to guess a sequence number
//! too. smoltcp takes a RST anywhere in the window, as RFC 793 did, and keeps silent about a SYN. Here a RST has to bear exactly the
//! number that we expect next (section 3.2), and for every other one in the window, and for a SYN (section 4.2), the other end is asked, by a
//! challenge ACK: if it is the one who has forgotten the connection, it answers with a RST that bears the right number.
//!
//! "Expected next" is the number of the last acknowledgment sent. Where an acknowledgment is still due it is less than what smoltcp expects,
//! and an honest RST costs one challenge more.

use alloc::vec::Vec;
use smoltcp::socket::tcp::State;

use super::segment::{ACK, ACK_AT, FLAGS_AT, Numbers, RST, SEQ_AT, SYN, bare, word};
use crate::frame;

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
    if flags & (RST | SYN) == 0 {
        return None;
    }
    let seq = word(header, SEQ_AT)?;
    // Which of those that are not exact lie outside of the window smoltcp knows: it drops a RST there.
    let ahead = seq.wrapping_sub(expected).cast_signed();
    if flags & RST != 0 && (ahead <= 0 || flags & SYN != 0) {
        return None;
    }
    // smoltcp sends a challenge ACK, no more than one a second, to an acknowledgment of what was never sent.
    let mut asked = bare(frame, expected, ACK)?;
    let never = sent.seq()?.wrapping_add(1 << 30);
    asked[start + ACK_AT..start + ACK_AT + 4].copy_from_slice(&never.to_be_bytes());
    Some(asked)
}

#[cfg(test)]
mod tests {
    use super::{super::segment::tests::segment, *};

    const SENT: Numbers = Numbers::in_header([0, 7, 0x40, 0, 0, 0, 0, 9, 0, 0, 1, 0, 0x50, ACK, 1, 0]);

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
    fn nothing_else_is_asked_about() {
        assert!(challenge(&segment(257, ACK), State::Established, SENT).is_none());
        assert!(challenge(&[0; 20], State::Established, SENT).is_none());
    }

    #[test]
    fn a_syn_is_asked_about_wherever_it_is() {
        for seq in [0, 256, 100_000] {
            assert!(challenge(&segment(seq, SYN), State::Established, SENT).is_some());
            assert!(challenge(&segment(seq, SYN), State::SynSent, SENT).is_none());
        }
    }
}
