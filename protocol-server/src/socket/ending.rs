//! The end of a peer's stream (RFC 9293, section 3.10.7.4: a segment that begins ahead of what is missing "should be held for later
//! processing", and one that begins before it is trimmed; both may bear a FIN).
//!
//! smoltcp takes a FIN only from a segment that begins no later than what it expects next, and has something new in front of
//! the FIN. So of a FIN ahead of missing data it keeps the data only, and where that data came, or was acknowledged, before the FIN comes again, it
//! drops the segment as a whole: after a loss near its end a stream then ended when the peer's timer had run out, twice perhaps. Here it
//! is remembered where a stream ends, and the FIN handed to smoltcp by itself once all before it has come.
//!
//! What has come is known by the last acknowledgment sent. smoltcp sends one at once when a gap closes (RFC 5681, section 4.2).

use alloc::vec::Vec;

use super::segment::{ACK, FIN, FLAGS_AT, Numbers, RST, SEQ_AT, SYN, bare, word};
use crate::frame;

/// What a segment says of the end of its stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Ending {
    /// Nothing, or smoltcp sees it for itself.
    Plain,
    /// All before it has come: a segment of it alone, for smoltcp.
    Reached(Vec<u8>),
    /// Data before it is missing.
    Ahead(Ahead),
}

impl Ending {
    /// That of a segment to a connection whose last one bore `sent` and whose receive buffer has `room` bytes in all.
    #[must_use]
    pub fn of(frame: &[u8], sent: &Numbers, room: usize) -> Self {
        Self::find(frame, sent, room).unwrap_or(Self::Plain)
    }

    fn find(frame: &[u8], sent: &Numbers, room: usize) -> Option<Self> {
        let header = frame.get(frame::tcp_start(frame)?..)?;
        if header.get(FLAGS_AT)? & (SYN | RST | ACK | FIN) != ACK | FIN {
            return None;
        }
        let (seq, expected) = (word(header, SEQ_AT)?, sent.ack()?);
        let payload = frame::tcp_payload(frame)?;
        let end = seq.wrapping_add(payload as u32);
        let segment = bare(frame, end, ACK | FIN)?;
        let (gap, missing) = (seq.wrapping_sub(expected) as usize, end.wrapping_sub(expected) as usize);
        if missing == 0 && payload != 0 {
            Some(Self::Reached(segment))
        } else if gap != 0 && gap <= missing && missing <= room {
            Some(Self::Ahead(Ahead { end, segment }))
        } else {
            None
        }
    }
}

/// An end that came ahead of missing data.
#[derive(Debug, PartialEq, Eq)]
pub struct Ahead {
    /// The FIN's sequence number.
    end: u32,
    /// The FIN alone.
    segment: Vec<u8>,
}

impl Ahead {
    /// What is acknowledged meanwhile, and the window: those of another segment of the connection's.
    #[cold]
    pub fn follow(&mut self, frame: &[u8]) {
        let flags = frame::tcp_start(frame).and_then(|start| frame.get(start + FLAGS_AT));
        if flags.is_some_and(|flags| flags & (SYN | RST | ACK) == ACK)
            && let Some(segment) = bare(frame, self.end, ACK | FIN)
        {
            self.segment = segment;
        }
    }

    /// Bytes before it that have not come, after a segment with these numbers was sent; negative: more has come.
    #[must_use]
    pub fn missing(&self, sent: &Numbers) -> i32 {
        sent.ack().map_or(i32::MAX, |come| self.end.wrapping_sub(come).cast_signed())
    }

    /// The FIN alone, for smoltcp.
    #[must_use]
    pub fn into_segment(self) -> Vec<u8> {
        self.segment
    }
}

#[cfg(test)]
mod tests {
    use super::{super::segment::tests::segment, *};

    /// Acknowledges 256.
    const SENT: Numbers = Numbers::in_header([0, 7, 0x40, 0, 0, 0, 0, 9, 0, 0, 1, 0, 0x50, ACK, 1, 0]);

    fn of(seq: u32, payload: u16, flags: u8) -> Ending {
        let mut frame = segment(seq, flags);
        frame.resize(60 + usize::from(payload), 0);
        frame::set_payload_length(&mut frame, 20 + payload).unwrap();
        Ending::of(&frame, &SENT, 1000)
    }

    #[test]
    fn an_end_behind_what_has_come_is_reached() {
        let Ending::Reached(alone) = of(246, 10, ACK | FIN) else { panic!("all has come") };
        assert_eq!((&alone[38..42], alone[47], alone.len()), (&[0, 0, 1, 0][..], ACK | FIN, 54));
        assert_eq!(of(256, 0, ACK | FIN), Ending::Plain, "smoltcp takes it");
        assert_eq!(of(250, 10, ACK | FIN), Ending::Plain, "something in it is new: smoltcp takes it");
        assert_eq!(of(246, 9, ACK | FIN), Ending::Plain, "an end before what has come is none");
    }

    #[test]
    fn an_end_ahead_of_missing_data_is_kept_if_there_is_room_before_it() {
        for payload in [0, 10] {
            let Ending::Ahead(ahead) = of(257, payload, ACK | FIN) else { panic!("a byte is missing") };
            assert_eq!(ahead.missing(&SENT), 1 + i32::from(payload));
        }
        assert_eq!(of(256, 10, ACK | FIN), Ending::Plain, "nothing is missing");
        assert_eq!(of(1255, 10, ACK | FIN), Ending::Plain);
    }

    #[test]
    fn what_is_kept_acknowledges_what_the_latest_segment_does() {
        let Ending::Ahead(mut ahead) = of(257, 0, ACK | FIN) else { panic!("a byte is missing") };
        let mut later = segment(256, ACK);
        later[45] = 77;
        ahead.follow(&later);
        later[45] = 99;
        later[47] = ACK | RST;
        ahead.follow(&later);
        let alone = ahead.into_segment();
        assert_eq!((alone[41], alone[45], alone[47]), (1, 77, ACK | FIN));
    }

    #[test]
    fn nothing_else_is_an_end() {
        for flags in [ACK, FIN, ACK | FIN | RST, ACK | FIN | SYN] {
            assert_eq!(of(257, 10, flags), Ending::Plain);
        }
        assert_eq!(Ending::of(&[0; 20], &SENT, 1000), Ending::Plain);
    }
}
