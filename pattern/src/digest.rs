//! A streaming digest: the same for the same bytes in the same order, whatever the pieces.

use crate::lanes::{LANE, Sums, words};
use crate::table::{PERIOD, Pattern};

/// Sums up a stream. Sensitive to each bit, to order and to length; not a defence against a forger.
///
/// Long pieces cost about three instructions for 16 bytes; a piece of a few bytes is gathered into a lane with two or
/// three overlapping moves, not byte by byte, since one of the measured cells reads 10 bytes at a time.
#[derive(Debug, Clone, Default)]
pub struct Digest {
    sums: Sums,
    /// `carry[..filled]` waits for its lane to fill; the second half takes what spills over it.
    carry: [u8; 2 * LANE],
    /// Less than [`LANE`].
    filled: usize,
    len: u64,
}

impl Digest {
    /// Of the empty stream.
    #[must_use]
    pub const fn new() -> Self {
        Self { sums: Sums { a: [0; 2], b: [0; 2] }, carry: [0; 2 * LANE], filled: 0, len: 0 }
    }

    /// Appends `bytes` to the stream.
    #[inline]
    pub fn update(&mut self, bytes: &[u8]) {
        self.len = self.len.wrapping_add(bytes.len() as u64);
        if bytes.len() < LANE {
            self.push_short(bytes);
        } else {
            self.push_long(bytes);
        }
    }

    /// How many bytes were appended.
    #[inline]
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.len
    }

    /// The digest of all bytes so far; more can be appended after it.
    #[must_use]
    pub fn finish(&self) -> u64 {
        let mut sums = self.sums;
        let mut last = [0; LANE];
        last[..self.filled].copy_from_slice(&self.carry[..self.filled]);
        sums.add_lane(words(&last));
        // Murmur3's finaliser between the words: without it two sums that err by the same amount could cancel out.
        let mut hash = self.len ^ 0x9e37_79b9_7f4a_7c15;
        for word in sums.a.into_iter().chain(sums.b) {
            hash = mix(hash ^ word);
        }
        hash
    }

    /// The digest of the first `len` bytes of the [`Pattern`], in a time that doesn't grow with `len`.
    ///
    /// A sender that writes straight from the pattern's table needs this once, after the measured time.
    #[must_use]
    pub fn of_pattern(len: u64) -> u64 {
        // Lanes and the pattern are in step again after LANE periods: a lap. The sums over any number of laps follow
        // from those over one: `a` grows by A a lap; `b` grows by B and, for each lane of the lap, by the `a` before it.
        const LAP: u64 = (PERIOD * LANE) as u64;
        let mut digest = Self::new();
        let laps = len / LAP;
        if laps > 0 {
            let mut lap = Self::new();
            lap.take_pattern(LAP);
            // laps * (laps - 1) is even, halved before it can wrap.
            let pairs = if laps.is_multiple_of(2) {
                (laps / 2).wrapping_mul(laps - 1)
            } else {
                laps.wrapping_mul((laps - 1) / 2)
            };
            for i in 0..2 {
                let (a, b) = (lap.sums.a[i], lap.sums.b[i]);
                digest.sums.a[i] = a.wrapping_mul(laps);
                digest.sums.b[i] =
                    b.wrapping_mul(laps).wrapping_add(a.wrapping_mul(PERIOD as u64).wrapping_mul(pairs));
            }
            digest.len = laps * LAP;
        }
        // A lap begins where the pattern begins, so the rest stands at the stream's start too.
        digest.take_pattern(len % LAP);
        digest.finish()
    }

    fn take_pattern(&mut self, len: u64) {
        let mut at = 0;
        while at < len {
            let piece = (len - at).min(PERIOD as u64) as usize;
            self.update(Pattern::chunk(at, piece));
            at += piece as u64;
        }
    }

    /// Fewer than [`LANE`] bytes: into the carry, and a lane of it into the sums when it's full.
    #[inline]
    fn push_short(&mut self, bytes: &[u8]) {
        let n = bytes.len();
        // The masks tell the compiler what the invariant says, which spares the bounds checks.
        let at = self.filled & (LANE - 1);
        let to = &mut self.carry[at..at + (n & (LANE - 1))];
        // Two moves that overlap cover every length of their class.
        if n >= 8 {
            copy_ends::<8>(to, bytes);
        } else if n >= 4 {
            copy_ends::<4>(to, bytes);
        } else {
            for (to, byte) in to.iter_mut().zip(bytes) {
                *to = *byte;
            }
        }
        let filled = at + n;
        if filled >= LANE {
            let (lane, spill) = self.carry.split_at_mut(LANE);
            let lane: &mut [u8; LANE] = lane.try_into().expect("the first half of the carry");
            self.sums.add_lane(words(lane));
            lane.copy_from_slice(spill);
        }
        self.filled = filled & (LANE - 1);
    }

    #[inline]
    fn push_long(&mut self, bytes: &[u8]) {
        // First what completes the lane that was begun.
        let missing = (LANE - self.filled) & (LANE - 1);
        let (head, rest) = bytes.split_at(missing);
        self.push_short(head);
        let whole = rest.len() & !(LANE - 1);
        let (whole, tail) = rest.split_at(whole);
        self.sums.add_lanes(whole);
        self.push_short(tail);
    }
}

/// Copies `from` to `to` (of one length, from `N` to `2 * N`) as its first and its last `N` bytes.
#[inline]
fn copy_ends<const N: usize>(to: &mut [u8], from: &[u8]) {
    let (Some(first), Some(last)) = (from.first_chunk::<N>(), from.last_chunk::<N>()) else { return };
    if let Some(to) = to.first_chunk_mut::<N>() {
        *to = *first;
    }
    if let Some(to) = to.last_chunk_mut::<N>() {
        *to = *last;
    }
}

const fn mix(mut x: u64) -> u64 {
    x ^= x >> 33;
    x = x.wrapping_mul(0xff51_afd7_ed55_8ccd);
    x ^= x >> 33;
    x = x.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}
