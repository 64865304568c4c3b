//! Every function against a byte-wise model, over all short lengths, alignments and overlaps.

#![expect(unsafe_code, reason = "the functions under test take raw pointers")]

extern crate std;

use std::vec::Vec;

const LENGTHS: [usize; 12] = [0, 1, 2, 3, 100, 255, 256, 511, 1000, 1514, 4096, 4097];

/// Every length up to three turns of the longest loop, and a few beyond.
fn lengths() -> impl Iterator<Item = usize> {
    (0..400).chain(LENGTHS)
}

/// Bytes that differ from their neighbours, and from each other between two calls of different seeds.
fn bytes(n: usize, seed: u32) -> Vec<u8> {
    (0..n as u32).map(|i| (i.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 13) as u8).collect()
}

#[test]
fn memcpy_copies_exactly() {
    for n in lengths() {
        for (from, to) in [(0, 0), (1, 0), (0, 3), (7, 15), (16, 1)] {
            let source = bytes(n + 32, 1);
            let mut target = bytes(n + 64, 2);
            let mut expected = target.clone();
            expected[to + 8..to + 8 + n].copy_from_slice(&source[from..from + n]);
            // SAFETY: both buffers are longer than what is copied, and two.
            let result =
                unsafe { crate::memcpy(target.as_mut_ptr().add(to + 8), source.as_ptr().add(from), n) };
            assert_eq!(result, target[to + 8..].as_mut_ptr());
            assert_eq!(target, expected, "n {n} from {from} to {to}");
        }
    }
}

#[test]
fn memmove_copies_over_any_overlap() {
    for n in lengths() {
        for distance in [0, 1, 2, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 127, 128, 129, 300] {
            for forward in [false, true] {
                let mut buffer = bytes(n + distance, 3);
                let mut expected = buffer.clone();
                let (from, to) = if forward { (distance, 0) } else { (0, distance) };
                expected.copy_within(from..from + n, to);
                let base = buffer.as_mut_ptr();
                // SAFETY: the buffer holds n bytes behind either place.
                unsafe { crate::memmove(base.add(to), base.add(from), n) };
                assert_eq!(buffer, expected, "n {n} distance {distance} forward {forward}");
            }
        }
    }
}

#[test]
fn memset_fills_exactly() {
    for n in lengths() {
        for at in 0..4 {
            let mut target = bytes(n + 32, 4);
            let mut expected = target.clone();
            expected[at + 8..at + 8 + n].fill(0xa5);
            // SAFETY: the buffer is longer than what is set.
            let result = unsafe { crate::memset(target.as_mut_ptr().add(at + 8), 0x1a5, n) };
            assert_eq!(result, target[at + 8..].as_mut_ptr());
            assert_eq!(target, expected, "n {n} at {at}");
        }
    }
}

#[test]
fn memcmp_orders_as_unsigned_bytes() {
    for n in (0..200).chain([255, 256, 1000]) {
        let a = bytes(n, 5);
        // SAFETY: both are n bytes long, here and below.
        assert_eq!(unsafe { crate::memcmp(a.as_ptr(), a.clone().as_ptr(), n) }, 0);
        for i in 0..n {
            for change in [1u8, 0x80, 0xff] {
                let mut b = a.clone();
                b[i] ^= change;
                // A later difference of the opposite sign must not matter.
                if let Some(last) = b.last_mut().filter(|_| i + 1 < n) {
                    *last = if a[i] < a[i] ^ change { 0 } else { 0xff };
                }
                // SAFETY: as above.
                let (ab, ba, differs) = unsafe {
                    (
                        crate::memcmp(a.as_ptr(), b.as_ptr(), n),
                        crate::memcmp(b.as_ptr(), a.as_ptr(), n),
                        crate::bcmp(a.as_ptr(), b.as_ptr(), n),
                    )
                };
                assert_eq!(ab.signum(), a.cmp(&b) as i32, "n {n} i {i}");
                assert_eq!(ba.signum(), b.cmp(&a) as i32, "n {n} i {i}");
                assert_ne!(differs, 0);
            }
        }
    }
}
