//! The program, run by the kernel's interpreter.

use super::*;
use netdev_driver::filter::Program;
use std::vec::Vec;

const OURS: [u8; 4] = [10, 9, 0, 2];

fn own_filter() -> Program {
    let cidr = Ipv4Cidr::new(Ipv4Address::from(OURS), 24);
    Program::validate(program(Some(cidr)).words().unwrap()).unwrap()
}

fn frame(ethertype: u16, length: usize) -> Vec<u8> {
    let mut frame = [0x52, 0x54, 0, 0x12, 0x34, 0x56, 2, 0, 0, 0, 0, 1].to_vec();
    frame.extend(ethertype.to_be_bytes());
    frame.resize(length, 0);
    frame
}

fn ipv4(destination: [u8; 4]) -> Vec<u8> {
    let mut frame = frame(ETHERTYPE_IPV4, 60);
    frame[30..34].copy_from_slice(&destination);
    frame
}

fn arp(target: [u8; 4]) -> Vec<u8> {
    let mut frame = frame(ETHERTYPE_ARP, 42);
    frame[38..42].copy_from_slice(&target);
    frame
}

#[test]
fn a_server_gets_what_is_for_its_address_and_for_all() {
    let filter = own_filter();
    for destination in [OURS, [255; 4], [224, 0, 0, 1], [239, 255, 255, 250], [10, 9, 0, 255]] {
        assert!(filter.matches(&ipv4(destination)), "{destination:?}");
    }
    assert!(filter.matches(&arp(OURS)));
    assert!(filter.matches(&frame(ETHERTYPE_IPV6, 54)));
}

#[test]
fn it_does_not_get_what_is_for_others() {
    let filter = own_filter();
    for destination in [[10, 9, 0, 3], [10, 8, 0, 2], [9, 9, 0, 2], [10, 9, 1, 2], [0; 4]] {
        assert!(!filter.matches(&ipv4(destination)), "{destination:?}");
        assert!(!filter.matches(&arp(destination)), "{destination:?}");
    }
    // The words of an IPv4 destination, in what is not IPv4.
    let mut other = ipv4(OURS);
    other[12..14].copy_from_slice(&[0x88, 0xcc]);
    assert!(!filter.matches(&other));
    other[30] = 0xff;
    assert!(!filter.matches(&other));
    // Too short to say.
    for length in 0..34 {
        assert!(!filter.matches(&ipv4(OURS)[..length]));
    }
    assert!(!filter.matches(&arp(OURS)[..41]));
}

#[test]
fn without_an_address_it_gets_everything() {
    let filter = Program::validate(program(None).words().unwrap()).unwrap();
    for frame in [ipv4([1, 2, 3, 4]), arp([1, 2, 3, 4]), frame(0x88cc, 60)] {
        assert!(filter.matches(&frame));
    }
}
