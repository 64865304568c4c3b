//! The pattern, the digest and the verifier together, through their public names.

use pattern::{Digest, MAX_CHUNK, PERIOD, Pattern, Source, Verifier};

#[test]
fn a_position_decides_its_byte() {
    for pos in [0, 1, 65_520, 65_521, 131_041, u64::MAX - 70_000] {
        let long = Pattern::chunk(pos, MAX_CHUNK);
        for step in [1, 9, 30_000, 65_521, 65_535] {
            assert_eq!(long[step], Pattern::chunk(pos + step as u64, 1)[0], "{pos} + {step}");
        }
    }
    assert_eq!(Pattern::chunk(5, 100), Pattern::chunk(5 + PERIOD as u64, 100));
}

#[test]
fn the_pattern_looks_random() {
    let mut counts = [0u32; 256];
    for byte in Pattern::chunk(0, PERIOD) {
        counts[usize::from(*byte)] += 1;
    }
    // 256 on average with a deviation of 16: six of those would be a broken generator.
    assert!(counts.iter().all(|n| (160..352).contains(n)), "{counts:?}");
}

#[test]
fn a_power_of_two_shift_shows() {
    for shift in (4..=16).map(|n| 1u64 << n) {
        assert_ne!(Pattern::chunk(0, 64), Pattern::chunk(shift, 64), "shift {shift}");
    }
}

#[test]
fn source_walks_the_pattern() {
    let mut source = Source::new();
    let mut pos = 0u64;
    for len in [10, 65_536, 0, 65_536, 1, 8192, 65_521, 1024].into_iter().cycle().take(200) {
        assert_eq!(source.peek(len), Pattern::chunk(pos, len));
        source.advance(len);
        pos += len as u64;
        assert_eq!(source.position(), pos);
    }
}

#[test]
fn digest_ignores_the_pieces() {
    let total = 20_011;
    let all = Pattern::chunk(77, total);
    let mut whole = Digest::new();
    whole.update(all);
    for piece in (1..=70).chain([100, 127, 128, 129, 1000, 1460, 8192]) {
        let mut digest = Digest::new();
        all.chunks(piece).for_each(|bytes| digest.update(bytes));
        assert_eq!(digest.finish(), whole.finish(), "pieces of {piece}");
        assert_eq!(digest.bytes(), total as u64);
    }
    // And pieces of every length in turn.
    let (mut digest, mut rest, mut next) = (Digest::new(), all, 0);
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(next.min(rest.len()));
        digest.update(piece);
        rest = after;
        next = (next * 5 + 3) % 41;
    }
    assert_eq!(digest.finish(), whole.finish());
}

#[test]
fn digest_notices() {
    let of = |bytes: &[u8]| {
        let mut digest = Digest::new();
        digest.update(bytes);
        digest.finish()
    };
    let good = Pattern::chunk(0, 4096).to_vec();
    let want = of(&good);
    let mut swapped = good.clone();
    swapped[16..48].rotate_left(16);
    assert_ne!(of(&swapped), want, "two lanes that changed places");
    for bit in 0..good.len() * 8 {
        let mut flipped = good.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_ne!(of(&flipped), want, "bit {bit}");
    }
    assert_ne!(of(&[]), of(&[0]));
    assert_ne!(of(&[0; 16]), of(&[0; 32]));
}

#[test]
fn digest_of_pattern_is_the_digest_of_the_pattern() {
    let lap = PERIOD as u64 * 16;
    let mut digest = Digest::new();
    let mut at = 0u64;
    let mut ends = [0, 1, 15, 16, 65_521, 65_537, lap - 1, lap, lap + 1, 2 * lap, 3 * lap + 12_345, 5 * lap];
    ends.sort_unstable();
    for end in ends {
        while at < end {
            let len = (end - at).min(8000) as usize;
            digest.update(Pattern::chunk(at, len));
            at += len as u64;
        }
        assert_eq!(Digest::of_pattern(end), digest.finish(), "{end} bytes");
    }
}

#[test]
fn verifier_finds_the_first_wrong_byte() {
    let mut verifier = Verifier::new();
    assert!(verifier.check(Pattern::chunk(0, 1000)));
    let mut bytes = Pattern::chunk(1000, 500).to_vec();
    bytes[123] ^= 0x40;
    bytes[300] ^= 1;
    assert!(!verifier.check(&bytes));
    assert!(!verifier.check(Pattern::chunk(1500, 10)));
    assert_eq!(verifier.first_error(), Some(1123));
    assert_eq!(verifier.bytes(), 1510);
}

#[test]
fn verifier_takes_pieces_longer_than_a_chunk() {
    let bytes: Vec<u8> = (0..4).flat_map(|_| Pattern::chunk(0, PERIOD).iter().copied()).collect();
    let mut verifier = Verifier::new();
    assert!(verifier.check(&bytes));
    assert_eq!(verifier.bytes(), 4 * PERIOD as u64);
}
