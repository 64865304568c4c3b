//! Acknowledgments that come while our window is closed (RFC 9293, section 3.10.7.4: then "special allowance should be made to accept
//! valid ACKs").
//!
//! smoltcp drops a segment outside of the window together with its acknowledgment. A peer may stand outside through no fault of its own: a
//! scaled window has steps (RFC 7323, section 2.4), so its right edge may go back by some bytes as data comes, and what was sent up to
//! the old edge is then beyond a window of nothing. If both sides have such a window, neither hears the other any more, and a
//! connection that streams in both directions stands still for ever. So the acknowledgment is handed to smoltcp by itself, as if it stood at
//! the place that we expect; the segment follows, and is answered as before.

use alloc::vec::Vec;

use super::segment::{ACK, FLAGS_AT, Numbers, RST, SEQ_AT, SYN, bare, word};
use crate::frame;

/// The acknowledgment in a segment that came to a closed window, apart; `None` where smoltcp sees it anyway.
#[cold]
pub fn acknowledgment(frame: &[u8], sent: &Numbers) -> Option<Vec<u8>> {
    let start = frame::tcp_start(frame)?;
    let expected = sent.ack()?;
    let flags = *frame.get(start + FLAGS_AT)?;
    let alone = frame::tcp_payload(frame)? == 0 && word(frame.get(start..)?, SEQ_AT)? == expected;
    if flags & (SYN | RST | ACK) != ACK || alone {
        return None;
    }
    bare(frame, expected, ACK)
}

#[cfg(test)]
mod tests {
    use super::{super::segment::tests::segment, *};

    /// Acknowledges 256, with a window of nothing.
    const SENT: Numbers = Numbers::in_header([0, 7, 0x40, 0, 0, 0, 0, 9, 0, 0, 1, 0, 0x50, ACK, 0, 0]);

    #[test]
    fn an_acknowledgment_from_beyond_is_moved_to_where_it_counts() {
        assert!(SENT.closes());
        let beyond = acknowledgment(&segment(260, ACK), &SENT).unwrap();
        assert_eq!(beyond[38..42], [0, 0, 1, 0]);
        assert_eq!(beyond[42..46], segment(260, ACK)[42..46], "what it acknowledges stays");
        assert_eq!(beyond[16..18], 40u16.to_be_bytes());
    }

    #[test]
    fn what_smoltcp_sees_anyway_is_left_alone() {
        assert!(acknowledgment(&segment(256, ACK), &SENT).is_none());
        assert!(acknowledgment(&segment(260, RST | ACK), &SENT).is_none());
        assert!(acknowledgment(&segment(260, SYN), &SENT).is_none());
        assert!(acknowledgment(&[0; 30], &SENT).is_none());
    }
}
