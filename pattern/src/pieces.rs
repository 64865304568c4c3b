//! The receiving end's comparison where pieces may be lost: datagrams.

use crate::table::{MAX_CHUNK, PERIOD, Pattern};

/// Compares datagrams of one length with the [`Pattern`], of which the sender put one piece after the other into them.
///
/// A piece that is not the expected one is looked for further on: those between are lost. It is not found if it is damaged,
/// and found only where half a period has gone by if it came twice or too late; both count as wrong. Losses of more pieces in
/// a row than that (some 32,000) would be taken for it.
#[derive(Debug, Clone, Default)]
pub struct Pieces {
    position: u64,
    arrived: u64,
    missed: u64,
    wrong: u64,
}

impl Pieces {
    /// Before the first datagram.
    #[must_use]
    pub const fn new() -> Self {
        Self { position: 0, arrived: 0, missed: 0, wrong: 0 }
    }

    /// Takes a datagram; says whether it is a piece of the pattern, in its place or behind a gap.
    #[inline]
    pub fn check(&mut self, bytes: &[u8]) -> bool {
        self.arrived += 1;
        if bytes.len() <= MAX_CHUNK && bytes == Pattern::chunk(self.position, bytes.len()) {
            self.position += bytes.len() as u64;
            return true;
        }
        self.resume(bytes)
    }

    /// Looks for the end of the gap.
    fn resume(&mut self, bytes: &[u8]) -> bool {
        let length = bytes.len() as u64;
        for missing in 1..PERIOD as u64 / 2 {
            let at = self.position + missing * length;
            if bytes.len() <= MAX_CHUNK && bytes == Pattern::chunk(at, bytes.len()) {
                self.missed += missing;
                self.position = at + length;
                return true;
            }
        }
        self.wrong += 1;
        false
    }

    /// Datagrams that came.
    #[must_use]
    pub const fn arrived(&self) -> u64 {
        self.arrived
    }

    /// Datagrams that must have been sent before the last one that came, and did not come.
    #[must_use]
    pub const fn missed(&self) -> u64 {
        self.missed
    }

    /// Datagrams that were damaged, came twice or came too late.
    #[must_use]
    pub const fn wrong(&self) -> u64 {
        self.wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_measured() {
        for length in [5, 10, 1024, 8192, 65_507] {
            let piece = |n: u64| Pattern::chunk(n * length as u64, length);
            let mut pieces = Pieces::new();
            assert!([0, 1, 5, 6, 2006].into_iter().all(|n| pieces.check(piece(n))), "{length}");
            assert_eq!((pieces.arrived(), pieces.missed(), pieces.wrong()), (5, 2002, 0), "{length}");
        }
    }

    #[test]
    fn damage_and_repetition_are_wrong() {
        let mut pieces = Pieces::new();
        let piece = |n: u64| Pattern::chunk(n * 100, 100);
        assert!(pieces.check(piece(0)) && pieces.check(piece(1)));
        assert!(!pieces.check(piece(1)), "twice");
        assert!(!pieces.check(piece(0)), "late");
        let mut damaged = piece(2).to_vec();
        damaged[99] ^= 1;
        assert!(!pieces.check(&damaged));
        assert!(pieces.check(piece(2)));
        assert_eq!((pieces.arrived(), pieces.missed(), pieces.wrong()), (6, 0, 3));
    }
}
