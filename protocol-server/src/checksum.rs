//! The Internet checksum (RFC 1071), summed eight bytes at a time.
//!
//! A one's complement sum does not depend on the byte order in which it is formed (RFC 1071, section 2 B), so everything here
//! is in the processor's own. The sum of the sixteen-bit words equals that of the 64-bit words with the carry added back in,
//! which costs two instructions for eight bytes: a load-and-add and an add of the carry. (A chain of `adc` would halve
//! that, but an emulated processor calls a helper for each link of it.)

/// A one's complement sum, not yet folded to 16 bits.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// The sum of nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self(0)
    }

    #[inline(always)]
    const fn with(self, word: u64) -> Self {
        let (sum, carry) = self.0.overflowing_add(word);
        Self(sum + carry as u64) // cannot overflow again: a sum that wrapped is at most 2⁶⁴ - 2
    }

    #[inline(always)]
    const fn word(self, bytes: &[u8; 8]) -> Self {
        self.with(u64::from_ne_bytes(*bytes))
    }

    /// Adds bytes that begin at an even place of the data. An odd last byte counts as followed by a zero.
    #[inline]
    #[must_use]
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        let (words, rest) = bytes.as_chunks::<8>();
        let (blocks, words) = words.as_chunks::<16>();
        for block in blocks {
            // One loop branch for 128 bytes.
            for word in block {
                self = self.word(word);
            }
        }
        let (fours, words) = words.as_chunks::<4>();
        for [a, b, c, d] in fours {
            self = self.word(a).word(b).word(c).word(d);
        }
        for word in words {
            self = self.word(word);
        }
        if rest.is_empty() {
            return self;
        }
        // What is left, as it lies in memory, with zeros behind.
        let last = if let Some(last) = bytes.last_chunk::<8>() {
            (u64::from_le_bytes(*last) >> (8 * (8 - rest.len()))).to_le_bytes()
        } else {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            last
        };
        self.with(u64::from_ne_bytes(last))
    }

    /// Adds one 16-bit word, given as the number that it means.
    #[inline]
    #[must_use]
    pub const fn add_u16(self, word: u16) -> Self {
        self.with(word.to_be() as u64)
    }

    /// Folds to 16 bits; the bytes as they stand in a packet are `to_ne_bytes` of it.
    ///
    /// A number plus itself with its halves exchanged has the sum of the halves in its upper one, and the carry of the lower one in it too.
    #[inline]
    #[must_use]
    pub const fn fold(self) -> u16 {
        let sum = (self.0.wrapping_add(self.0.rotate_left(32)) >> 32) as u32;
        (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
    }

    /// Whether data that includes its checksum field is intact.
    #[inline]
    #[must_use]
    pub const fn is_good(self) -> bool {
        self.fold() == 0xffff
    }
}

/// The sum of the pseudo-header of TCP, UDP and ICMPv6 (RFC 9293, section 3.1; RFC 8200, section 8.1).
///
/// `addresses` are source and destination as they stand in the packet, 8 or 32 bytes.
#[inline]
#[must_use]
pub fn pseudo_header(addresses: &[u8], protocol: u8, length: usize) -> Sum {
    Sum::new().bytes(addresses).add_u16(u16::from(protocol)).add_u16(length as u16)
}

/// The same for IPv4, the addresses as one word as it lies in the packet.
#[inline(always)]
#[must_use]
pub const fn pseudo_header_v4(addresses: u64, protocol: u8, length: usize) -> Sum {
    let rest = (protocol as u16).to_be() as u64 + (length as u16).to_be() as u64;
    Sum(addresses).with(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    /// RFC 1071 as it is written: 16 bits at a time.
    fn reference(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    /// Zero has two forms; both sums agree on anything else.
    fn same(a: u16, b: u16) -> bool {
        a == b || (a.is_multiple_of(0xffff) && b.is_multiple_of(0xffff))
    }

    #[test]
    fn every_length_agrees_with_the_rfc() {
        let mut state = 0x1234_5678u32;
        let data: Vec<u8> = (0..1600)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        for length in (0..200).chain([1459, 1460, 1479, 1480, 1500, 1600]) {
            let got = u16::from_be_bytes(Sum::new().bytes(&data[..length]).fold().to_ne_bytes());
            assert!(same(got, reference(&data[..length])), "length {length}");
        }
    }

    #[test]
    fn every_carry_of_a_fold_comes_around() {
        let step = |sum: u64| (sum >> 16) + (sum & 0xffff);
        for high in [0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_0000, 0xffff_fffe, 0xffff_ffffu64] {
            for low in [0, 1, 0xffff, 0x1_0000, 0x8000_8000, 0xfffe_ffff, 0xffff_0001, 0xffff_ffff] {
                let sum = high << 32 | low;
                let slowly = step(step(step(step(step(sum)))));
                assert_eq!(u64::from(Sum(sum).fold()), slowly, "{sum:#x}");
            }
        }
    }

    #[test]
    fn both_ways_to_a_pseudo_header_agree() {
        for (bytes, length) in [([192, 168, 2, 1, 10, 0, 0, 255], 1480), ([255; 8], 65515), ([0; 8], 20)] {
            let word = u64::from_ne_bytes(bytes);
            let (quick, slow) = (pseudo_header_v4(word, 6, length), pseudo_header(&bytes, 6, length));
            assert_eq!(quick.fold(), slow.fold(), "{bytes:?} {length}");
        }
    }

    #[test]
    fn carries_are_not_lost() {
        let ones = [0xff; 1480];
        for length in 0..ones.len() {
            let got = u16::from_be_bytes(Sum::new().bytes(&ones[..length]).fold().to_ne_bytes());
            assert!(same(got, reference(&ones[..length])), "length {length}");
        }
    }

    #[test]
    fn the_example_of_rfc_1071() {
        let sum = Sum::new().bytes(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]).fold();
        assert_eq!(sum.to_ne_bytes(), [0xdd, 0xf2]);
        assert_eq!(Sum::new().add_u16(0xddf2).fold().to_ne_bytes(), [0xdd, 0xf2]);
    }
}
