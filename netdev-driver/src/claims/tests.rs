//! Each kind of frame, and whose it is.

use super::*;

extern crate std;
use std::{vec, vec::Vec};

const A4: [u8; 4] = [10, 9, 0, 2];
const B4: [u8; 4] = [10, 9, 0, 3];
const A6: [u8; 16] = [0xfd, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x12, 0x34, 0x56];
const B6: [u8; 16] = [0xfd, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x78, 0x9a, 0xbc];

/// Window 0 is A's, 1 B's; 2 has claimed nothing.
fn whose(family: Family, frame: &[u8]) -> u32 {
    let (mut a, mut b) = (Claims::default(), Claims::default());
    for (claims, addresses) in [(&mut a, (A4, A6)), (&mut b, (B4, B6))] {
        claims.add(Address::Ipv4(addresses.0)).unwrap();
        claims.add(Address::Ipv6(addresses.1)).unwrap();
    }
    let none = Claims::default();
    let mut bytes = frame.to_vec();
    bytes.resize(64, 0xa5);
    let word = |i: usize| u64::from_le_bytes(bytes[8 * i..8 * i + 8].try_into().unwrap());
    recipients(family, word, &[(1, &a), (2, &b), (4, &none)].into_iter())
}

fn ethernet(group: bool) -> Vec<u8> {
    let mut frame = vec![0; 54];
    frame[0] = if group { 0xff } else { 0x52 };
    frame
}

fn ipv4(group: bool, to: [u8; 4]) -> u32 {
    let mut frame = ethernet(group);
    frame[30..34].copy_from_slice(&to);
    whose(Family::Ipv4, &frame)
}

fn arp(from: [u8; 4], to: [u8; 4]) -> u32 {
    let mut frame = ethernet(true);
    frame[28..32].copy_from_slice(&from);
    frame[38..42].copy_from_slice(&to);
    whose(Family::Arp, &frame)
}

fn ipv6(to: [u8; 16]) -> u32 {
    let mut frame = ethernet(to[0] == 0xff);
    frame[38..54].copy_from_slice(&to);
    whose(Family::Ipv6, &frame)
}

#[test]
fn ipv4_goes_to_its_address_and_what_is_for_all_to_all() {
    assert_eq!((ipv4(false, A4), ipv4(false, B4)), (1, 2));
    assert_eq!(ipv4(true, A4), 1, "also where the link carried it to all");
    assert_eq!(ipv4(true, [10, 9, 0, 255]), 7);
    assert_eq!((ipv4(false, [255; 4]), ipv4(false, [224, 0, 0, 1])), (7, 7));
    assert_eq!(ipv4(false, [10, 9, 0, 4]), 4, "to who may be about to get it");
}

#[test]
fn arp_goes_by_the_target_in_requests_and_replies() {
    let host = [10, 9, 0, 1];
    assert_eq!((arp(host, A4), arp(host, B4)), (1, 2));
    assert_eq!(arp(host, host), 7, "an announcement");
    assert_eq!(arp(host, [10, 9, 0, 77]), 4);
    assert_eq!(arp(host, [0; 4]), 4, "nobody claims nothing");
}

#[test]
fn ipv6_goes_by_address_and_solicitations_by_their_end() {
    assert_eq!((ipv6(A6), ipv6(B6)), (1, 2));
    let all_nodes = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    assert_eq!(ipv6(all_nodes), 7);
    let solicited = |end: [u8; 3]| {
        let mut address = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 0];
        address[13..].copy_from_slice(&end);
        ipv6(address)
    };
    assert_eq!((solicited([0x12, 0x34, 0x56]), solicited([0x78, 0x9a, 0xbc])), (1, 2));
    assert_eq!(solicited([0, 0, 0]), 0);
    let mut other = A6;
    other[15] = 0;
    assert_eq!(ipv6(other), 4);
}

#[test]
fn other_types_go_to_all_or_nobody() {
    assert_eq!(whose(Family::Other, &ethernet(true)), 7);
    assert_eq!(whose(Family::Other, &ethernet(false)), 0);
}

#[test]
fn what_can_be_claimed() {
    let mut claims = Claims::default();
    for wrong in [[0, 0, 0, 0], [224, 0, 0, 1], [255; 4]] {
        assert_eq!(claims.add(Address::Ipv4(wrong)), Err(ClaimError::NotUnicast));
    }
    for wrong in [[0; 16], [0xff; 16]] {
        assert_eq!(claims.add(Address::Ipv6(wrong)), Err(ClaimError::NotUnicast));
    }
    for last in 0..CLAIMS_MAX as u8 {
        assert_eq!(claims.add(Address::Ipv4([10, 0, 0, last])), Ok(()));
        assert_eq!(claims.add(Address::Ipv4([10, 0, 0, last])), Ok(()), "once");
    }
    assert_eq!(claims.add(Address::Ipv4([10, 0, 0, 99])), Err(ClaimError::Full));
    assert_eq!(claims.add(Address::Ipv6(A6)), Ok(()), "each family has its own");
    assert!(claims.has(Address::Ipv6(A6)) && claims.has(Address::Ipv4([10, 0, 0, 3])));
    assert!(!claims.has(Address::Ipv6(B6)) && !claims.has(Address::Ipv4([10, 0, 0, 99])));
}
