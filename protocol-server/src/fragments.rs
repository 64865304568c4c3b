//! The checksum of an ICMP message that is cut into fragments (RFC 791, section 3.2; RFC 792).
//!
//! smoltcp 0.14 sums the whole of its fragmentation buffer, with what an earlier, longer datagram has left behind the end of this one,
//! and the receiver drops the message. So the sum is made here, as the fragments go by. The first one has the field, and is
//! kept until the last has been built; it is sent last, for the order of fragments means nothing.

use alloc::vec::Vec;

use crate::{
    checksum::Sum,
    frame::{self, IcmpFragment, finish_icmp_fragment},
    link::Built,
};

/// The message that is being sent in fragments; smoltcp sends one at a time.
#[derive(Debug, Default)]
pub struct Fragments {
    /// The first fragment's frame; empty if there is none.
    first: Vec<u8>,
    sum: Sum,
    complete: bool,
}

impl Fragments {
    /// Finishes a frame, whatever it is, and says what becomes of it.
    #[inline]
    pub fn finish(&mut self, frame: &mut [u8], offload: bool) -> Built {
        match frame::icmp_fragment(frame) {
            None => Built::Send(frame::finish(frame, offload)),
            Some(fragment) => {
                let IcmpFragment { first, last, bytes } = fragment;
                if first {
                    self.sum = Sum::new();
                }
                self.sum = self.sum.bytes(bytes);
                self.complete = last;
                if !first {
                    return Built::Send(None);
                }
                self.first.clear();
                self.first.extend_from_slice(frame);
                Built::Keep
            }
        }
    }

    /// The first fragment with its checksum, once, when all others have been built.
    #[inline]
    pub fn take_first(&mut self) -> Option<Vec<u8>> {
        if !self.complete {
            return None;
        }
        self.complete = false;
        let mut first = core::mem::take(&mut self.first);
        finish_icmp_fragment(&mut first, self.sum);
        (!first.is_empty()).then_some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    /// A fragment of `message` from `from` on, as smoltcp makes it: no checksum in the message.
    fn fragment(message: &[u8], from: usize, to: usize) -> Vec<u8> {
        let mut frame = vec![0; 14];
        frame[12] = 8;
        let total = (20 + to - from) as u16;
        let field = (from / 8) as u16 | if to < message.len() { 0x2000 } else { 0 };
        frame.extend([0x45, 0]);
        frame.extend(total.to_be_bytes());
        frame.extend([0, 7]);
        frame.extend(field.to_be_bytes());
        frame.extend([64, frame::ICMP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend(&message[from..to]);
        frame
    }

    #[test]
    fn the_first_fragment_comes_last_and_makes_the_message_good() {
        let mut fragments = Fragments::default();
        for length in [2000usize, 3001, 1481] {
            let mut message = vec![8, 0, 0, 0, 1, 2, 0, 1];
            message.extend((8..length).map(|i| (i * 13) as u8));
            let mut received = message.clone();
            let mut ends: Vec<usize> = (0..length).step_by(1480).skip(1).collect();
            ends.push(length);
            let mut from = 0;
            for to in ends {
                let mut frame = fragment(&message, from, to);
                let built = fragments.finish(&mut frame, true);
                assert_eq!(built, if from == 0 { Built::Keep } else { Built::Send(None) });
                if let Some(first) = fragments.take_first() {
                    assert_eq!(to, length);
                    received[..1480].copy_from_slice(&first[34..]);
                }
                from = to;
            }
            assert!(Sum::new().bytes(&received).is_good(), "{length}");
            assert_eq!(fragments.take_first(), None);
        }
    }

    #[test]
    fn a_whole_message_gets_its_checksum_and_others_are_left_alone() {
        let mut fragments = Fragments::default();
        let message = [8, 0, 0, 0, 1, 2, 0, 1, 99, 98, 97];
        let mut frame = fragment(&message, 0, message.len());
        assert_eq!(fragments.finish(&mut frame, true), Built::Send(None));
        assert!(Sum::new().bytes(&frame[34..]).is_good());
        let mut udp = fragment(&message, 0, 8);
        udp[23] = frame::UDP;
        let before = udp.clone();
        assert_eq!(fragments.finish(&mut udp, true), Built::Send(None));
        assert_eq!(udp, before);
    }
}
