//! The inner loop of [`Digest`](crate::Digest): sums over lanes of 16 bytes, each two little-endian 64-bit words.
//!
//! On x86-64 it's written with SSE2, which is part of that architecture: three instructions a lane (load, add, add).
//! Elsewhere, and as the reference that the tests compare with, there's the same in plain Rust.

#![cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "SSE2 loads take raw pointers"))]

/// Bytes in a lane.
pub(crate) const LANE: usize = 16;

/// The running sums: `a` of the lanes, `b` of the values that `a` went through (as in Fletcher's checksum, RFC 1146),
/// each as two words that wrap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub a: [u64; 2],
    pub b: [u64; 2],
}

impl Sums {
    /// Adds one lane.
    #[inline]
    pub(crate) fn add_lane(&mut self, lane: [u64; 2]) {
        for (i, word) in lane.into_iter().enumerate() {
            self.a[i] = self.a[i].wrapping_add(word);
            self.b[i] = self.b[i].wrapping_add(self.a[i]);
        }
    }

    /// Adds all lanes of `bytes`, whose length is a multiple of [`LANE`] (what is beyond is left out).
    #[inline]
    pub(crate) fn add_lanes(&mut self, bytes: &[u8]) {
        #[cfg(target_arch = "x86_64")]
        self.add_lanes_sse2(bytes);
        #[cfg(not(target_arch = "x86_64"))]
        self.add_lanes_portable(bytes);
    }

    #[cfg(any(test, not(target_arch = "x86_64")))]
    pub(crate) fn add_lanes_portable(&mut self, bytes: &[u8]) {
        for lane in bytes.as_chunks::<LANE>().0 {
            self.add_lane(words(lane));
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    fn add_lanes_sse2(&mut self, bytes: &[u8]) {
        use core::arch::x86_64::{__m128i, _mm_add_epi64, _mm_loadu_si128, _mm_storeu_si128};

        let step = |(a, b): (__m128i, __m128i), lane: &[u8; LANE]| {
            // SAFETY: `lane` is 16 readable bytes, the load asks for no alignment, and x86-64 has SSE2.
            unsafe {
                let a = _mm_add_epi64(a, _mm_loadu_si128(lane.as_ptr().cast()));
                (a, _mm_add_epi64(b, a))
            }
        };
        // SAFETY: each field is an array of 16 bytes, and the unaligned load asks for no alignment.
        let mut sums =
            unsafe { (_mm_loadu_si128(self.a.as_ptr().cast()), _mm_loadu_si128(self.b.as_ptr().cast())) };
        let (blocks, rest) = bytes.as_chunks::<{ LANE * 8 }>();
        for block in blocks {
            // Unrolled by the compiler: the bounds are constants.
            for lane in block.as_chunks::<LANE>().0 {
                sums = step(sums, lane);
            }
        }
        for lane in rest.as_chunks::<LANE>().0 {
            sums = step(sums, lane);
        }
        // SAFETY: each field is an array of 16 bytes that this method holds exclusively.
        unsafe {
            _mm_storeu_si128(self.a.as_mut_ptr().cast(), sums.0);
            _mm_storeu_si128(self.b.as_mut_ptr().cast(), sums.1);
        }
    }
}

/// A lane's two words.
#[inline]
pub(crate) fn words(lane: &[u8; LANE]) -> [u64; 2] {
    let all = u128::from_le_bytes(*lane);
    [all as u64, (all >> 64) as u64]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pattern;

    #[test]
    fn sse2_and_portable_agree() {
        for len in (0..600).chain([4096, 65_536]) {
            for pos in [0, 1, 7, 65_520] {
                let bytes = Pattern::chunk(pos, len);
                let start = Sums { a: [3, u64::MAX], b: [u64::MAX - 9, 1] };
                let (mut fast, mut plain) = (start, start);
                fast.add_lanes(bytes);
                plain.add_lanes_portable(bytes);
                assert_eq!(fast, plain, "len {len} pos {pos}");
            }
        }
    }
}
