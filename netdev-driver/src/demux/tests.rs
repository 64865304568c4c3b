use super::*;

extern crate std;
use std::{vec, vec::Vec};

/// Classifies bytes; what lies behind the frame is garbage, as in a cluster that was used before.
fn run(frame: &[u8]) -> Result<Family, Drop> {
    let mut cluster = [0x5au8; 2048];
    cluster[..frame.len()].copy_from_slice(frame);
    let asked = core::cell::Cell::new(0u32);
    classify(frame.len() as u32, |i| {
        assert!(i < WORDS && (i == 1 || 8 * i < frame.len()), "word {i} of {}", frame.len());
        assert!(asked.get() & 1 << i == 0, "a word is loaded once");
        asked.set(asked.get() | 1 << i);
        u64::from_le_bytes(cluster[8 * i..8 * i + 8].try_into().unwrap())
    })
}

/// RFC 1071, the plain way.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes.chunks(2).map(|c| u32::from(u16::from_be_bytes([c[0], c[1]]))).sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn frame(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x11; 12];
    frame.extend(kind.to_be_bytes());
    frame.extend(payload);
    frame
}

fn ipv4(header_words: u8, total: u16, padding: usize, seed: u8) -> Vec<u8> {
    let header = usize::from(header_words) * 4;
    let mut packet = vec![0; usize::from(total).max(header) + padding];
    for (i, byte) in packet.iter_mut().enumerate() {
        *byte = (i as u8).wrapping_mul(37).wrapping_add(seed);
    }
    packet[0] = 0x40 | header_words;
    packet[2..4].copy_from_slice(&total.to_be_bytes());
    packet[10..12].fill(0);
    let sum = checksum(&packet[..header]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    frame(0x0800, &packet)
}

#[test]
fn good_headers_of_all_lengths_pass_and_each_flipped_bit_is_found() {
    for words in 5..=15u8 {
        for seed in 0..50 {
            for padding in [0, 26] {
                let good = ipv4(words, u16::from(words) * 4 + 7, padding, seed);
                assert_eq!(run(&good), Ok(Family::Ipv4), "{words} words");
                for bit in 0..usize::from(words) * 32 {
                    let mut bad = good.clone();
                    bad[14 + bit / 8] ^= 1 << (bit % 8);
                    assert!(run(&bad).is_err(), "bit {bit} of {words} words");
                }
            }
        }
    }
}

#[test]
fn lengths_that_contradict_each_other_are_bad() {
    let good = ipv4(5, 100, 0, 1);
    assert_eq!(run(&good), Ok(Family::Ipv4));
    assert_eq!(run(&good[..good.len() - 1]), Err(Drop::BadHeader));
    assert_eq!(run(&good[..33]), Err(Drop::BadHeader));
    assert_eq!(run(&ipv4(5, 19, 40, 1)), Err(Drop::BadHeader));
    assert_eq!(run(&ipv4(15, 40, 40, 1)), Err(Drop::BadHeader));
    assert_eq!(run(&ipv4(15, 60, 0, 1)[..60]), Err(Drop::BadHeader));
    let mut short = ipv4(5, 100, 0, 1);
    short[14] = 0x44;
    assert_eq!(run(&short), Err(Drop::BadHeader));
    short[14] = 0x65;
    assert_eq!(run(&short), Err(Drop::BadHeader));
}

#[test]
fn ipv6_and_arp_are_checked_by_their_lengths() {
    let mut packet = vec![0; 60];
    packet[0] = 0x6f;
    packet[5] = 20;
    assert_eq!(run(&frame(0x86dd, &packet)), Ok(Family::Ipv6));
    assert_eq!(run(&frame(0x86dd, &packet[..59])), Err(Drop::BadHeader));
    assert_eq!(run(&frame(0x86dd, &packet[..39])), Err(Drop::BadHeader));
    packet[4] = 1;
    assert_eq!(run(&frame(0x86dd, &packet)), Err(Drop::BadHeader));
    (packet[0], packet[4]) = (0x45, 0);
    assert_eq!(run(&frame(0x86dd, &packet)), Err(Drop::BadHeader));

    let mut packet = vec![0; 28];
    packet[..8].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 1]);
    assert_eq!(run(&frame(0x0806, &packet)), Ok(Family::Arp));
    assert_eq!(run(&frame(0x0806, &packet[..27])), Err(Drop::BadHeader));
    for (at, byte) in [(1, 6), (0, 1), (2, 6), (4, 4), (5, 6)] {
        let mut bad = packet.clone();
        bad[at] = byte;
        assert_eq!(run(&frame(0x0806, &bad)), Err(Drop::BadHeader));
    }
}

#[test]
fn sizes_have_bounds_and_other_types_pass() {
    for len in 0..14 {
        assert_eq!(run(&vec![0; len]), Err(Drop::Runt));
    }
    assert_eq!(run(&frame(0x88b5, &[])), Ok(Family::Other));
    assert_eq!(run(&frame(0x0100, &[0; 256])), Ok(Family::Other));
    assert_eq!(run(&frame(0x8100, &[0; 1500])), Ok(Family::Other));
    assert_eq!(run(&frame(0x88b5, &[0; 1501])), Err(Drop::Oversized));
}

#[test]
fn no_frame_makes_it_panic_or_look_too_far() {
    let mut state = 1u64;
    for _ in 0..200_000 {
        let mut bytes = [0u8; 80];
        for chunk in bytes.chunks_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            chunk.copy_from_slice(&state.to_le_bytes());
        }
        let kind = [0x0800u16, 0x0806, 0x86dd, 0][state as usize % 4];
        bytes[12..14].copy_from_slice(&kind.to_be_bytes());
        let _ = run(&bytes[..state as usize / 4 % 81]);
    }
}
