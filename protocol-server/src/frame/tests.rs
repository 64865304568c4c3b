//! Frames built by hand, and spoiled.

use super::*;

/// An Ethernet frame with an IPv4 packet, padded to 60 bytes as on the wire.
fn ipv4_frame(protocol: u8, fragment: u16, transport: &[u8]) -> Vec<u8> {
    let mut frame = std::vec![0u8; 12];
    frame.extend([0x08, 0x00, 0x45, 0]);
    frame.extend((20 + transport.len() as u16).to_be_bytes());
    frame.extend([0x12, 0x34]);
    frame.extend(fragment.to_be_bytes());
    frame.extend([64, protocol, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2]);
    frame.extend(transport);
    frame.resize(frame.len().max(60), 0xee); // padding that no sum may include
    frame
}

fn ipv6_frame(protocol: u8, transport: &[u8]) -> Vec<u8> {
    let mut frame = std::vec![0u8; 12];
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
    frame.extend((transport.len() as u16).to_be_bytes());
    frame.extend([protocol, 64]);
    frame.extend([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
    frame.extend([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 9, 9, 9, 9, 9, 9, 9, 9]);
    frame.extend(transport);
    frame
}

fn segment(payload: &[u8]) -> Vec<u8> {
    let mut segment =
        std::vec![0x13, 0x89, 0x00, 0x50, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0];
    segment.extend(payload);
    segment
}

#[test]
fn a_finished_segment_is_intact_and_one_flipped_bit_is_seen() {
    for payload in [&b""[..], b"x", b"odd", b"a longer payload, of several words"] {
        for mut frame in [ipv4_frame(TCP, 0x4000, &segment(payload)), ipv6_frame(TCP, &segment(payload))] {
            // Don't Fragment is no fragment.
            assert_eq!(finish(&mut frame, false), None);
            let Class::Tcp(key, bytes) = classify(&frame, false) else {
                panic!("{:?}", classify(&frame, false))
            };
            assert_eq!(bytes as usize, payload.len());
            assert_eq!(key.ports, 80 << 16 | 5001);
            let transport_ends = if frame[12] == 8 { 34 + 20 + payload.len() } else { frame.len() };
            for bit in (34 * 8)..(transport_ends * 8) {
                let mut spoiled = frame.clone();
                spoiled[bit / 8] ^= 1 << (bit % 8);
                if spoiled[12] == 8 || bit / 8 >= 54 {
                    assert_eq!(classify(&spoiled, false), Class::Corrupt, "bit {bit}");
                }
            }
        }
    }
}

#[test]
fn a_device_that_sums_from_the_start_field_makes_the_same_checksum() {
    let mut by_device = ipv4_frame(TCP, 0, &segment(b"hello, device"));
    let mut by_us = by_device.clone();
    assert_eq!(finish(&mut by_us, false), None);
    let request = finish(&mut by_device, true).expect("a request");
    assert_eq!(request, ChecksumRequest { start: 34, offset: 16 });
    let end = 34 + 20 + 13; // what a driver gives the device is cut to the frame's length, here without the padding
    let sum = !Sum::new().bytes(&by_device[34..end]).fold();
    by_device[50..52].copy_from_slice(&sum.to_ne_bytes());
    assert_eq!(by_device, by_us);
}

#[test]
fn what_the_device_vouched_for_is_not_summed() {
    let frame = ipv4_frame(TCP, 0, &segment(b"unsummed"));
    assert_eq!(classify(&frame, false), Class::Corrupt);
    assert!(matches!(classify(&frame, true), Class::Tcp(..)));
}

#[test]
fn a_datagram_that_is_vouched_for_is_handed_on_without_checksum() {
    let mut copy = Vec::new();
    let udp = [0x10, 0x00, 0x00, 0x07, 0, 12, 0xab, 0xcd, 1, 2, 3, 4];
    for (mut frame, at) in [(ipv4_frame(UDP, 0, &udp), 40), (ipv6_frame(UDP, &udp), 60)] {
        assert_eq!(classify(&frame, false), Class::Corrupt, "the field holds half a sum");
        assert!(copy_without_checksum(&frame, &mut copy));
        frame[at..at + 2].fill(0);
        assert_eq!(copy, frame);
    }
    assert!(!copy_without_checksum(&ipv4_frame(TCP, 0, &segment(b"x")), &mut copy));
    let frame = ipv4_frame(UDP, 0, &udp);
    for length in 0..42 {
        assert!(!copy_without_checksum(&frame[..length], &mut copy), "{length}");
    }
}

#[test]
fn datagrams_and_their_fragments_are_told_apart() {
    let udp = [0x10, 0x00, 0x00, 0x07, 0, 12, 0, 0, 1, 2, 3, 4];
    assert_eq!(classify(&ipv4_frame(UDP, 0, &udp), false), Class::Datagram(Key::wildcard(UDP, 7)));
    let key =
        FragmentKey { addresses: u64::from_ne_bytes([10, 9, 0, 1, 10, 9, 0, 2]), ident: 0x1234 << 8 | 17 };
    assert_eq!(
        classify(&ipv4_frame(UDP, 0x2000, &udp), false),
        Class::FirstFragment(key, Key::wildcard(UDP, 7))
    );
    assert_eq!(classify(&ipv4_frame(UDP, 0x2001, &udp), false), Class::Fragment(key));
    assert_eq!(classify(&ipv4_frame(UDP, 0x0001, &udp), false), Class::Fragment(key));
}

#[test]
fn nonsense_is_left_to_the_stack_and_never_a_panic() {
    let good = ipv4_frame(TCP, 0, &segment(b"payload"));
    for length in 0..good.len() {
        let _ = classify(&good[..length], false);
        let _ = finish(&mut good[..length].to_vec(), false);
    }
    let mut seed = 1u32;
    for _ in 0..20_000 {
        let mut frame = good.clone();
        for byte in &mut frame[12..40] {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if seed >> 30 == 0 {
                *byte = (seed >> 16) as u8;
            }
        }
        let _ = classify(&frame, seed & 1 == 0);
        let _ = finish(&mut frame, seed & 2 == 0);
    }
    assert_eq!(classify(&[0; 60], false), Class::Other);
    let mut short_header = ipv4_frame(TCP, 0, &segment(b"x"));
    short_header[14] = 0x40; // header length 0: the "transport" begins at the IP header; the checksum says no
    assert_eq!(classify(&short_header, false), Class::Corrupt);
}

#[test]
fn the_short_way_and_the_long_way_agree() {
    let mut state = 7u32;
    let mut random = |below: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % below
    };
    let (mut short, mut corrupt) = (0, 0);
    for _ in 0..20_000 {
        let payload: Vec<u8> = (0..random(40)).map(|_| random(256) as u8).collect();
        let mut frame = ipv4_frame(TCP, [0, 0x4000, 0x2000, 3][random(4) as usize], &segment(&payload));
        finish(&mut frame, false);
        // One byte of the headers is another, now and then.
        if random(2) == 0 {
            let at = 12 + random(36) as usize;
            frame[at] = random(256) as u8;
        }
        frame.truncate(if random(8) == 0 { random(70) as usize } else { frame.len() });
        for good in [false, true] {
            let found = classify(&frame, good);
            assert_eq!(found, classify_inner(&frame, good).unwrap_or(Class::Other), "{frame:02x?}");
            corrupt += u32::from(found == Class::Corrupt);
        }
        short += u32::from(Segment4::find(&frame).is_some());
        let (mut one, mut other) = (frame.clone(), frame);
        for offload in [false, true] {
            if let Some(FinishedSegment { request, .. }) = finish_segment(&mut one, offload) {
                assert_eq!(request, finish(&mut other, offload));
                assert_eq!(one, other);
            }
        }
    }
    assert!(short > 5000 && corrupt > 2000, "{short} {corrupt}");
}

#[test]
fn the_later_of_two_bare_acknowledgments_says_it_all() {
    let bare = |seq: u32, ack: u32| {
        let mut segment = segment(b"");
        segment[4..8].copy_from_slice(&seq.to_be_bytes());
        segment[8..12].copy_from_slice(&ack.to_be_bytes());
        ipv4_frame(TCP, 0x4000, &segment)
    };
    let supersedes = |later: &[u8], earlier: &[u8]| match (BareAck::find(later), BareAck::find(earlier)) {
        (Some(later), Some(earlier)) => later.supersedes(&earlier),
        _ => false,
    };
    assert!(supersedes(&bare(7, 1001), &bare(7, 1000)) && supersedes(&bare(7, 5), &bare(7, u32::MAX - 5)));
    // The same again is a duplicate, which counts; one from before says less.
    assert!(!supersedes(&bare(7, 1000), &bare(7, 1000)) && !supersedes(&bare(7, 999), &bare(7, 1000)));
    assert!(!supersedes(&bare(8, 1001), &bare(7, 1000)), "from another place of the stream");
    // Another window or Identification is no difference; other ends are.
    for (at, same) in [(18, true), (48, true), (26, false), (33, false), (34, false), (37, false)] {
        let mut later = bare(7, 1001);
        later[at] ^= 1;
        assert_eq!(supersedes(&later, &bare(7, 1000)), same, "byte {at}");
    }
    // What carries anything else is not bare: data, options, FIN, RST, PSH.
    assert!(BareAck::find(&ipv4_frame(TCP, 0, &segment(b"x"))).is_none());
    for (at, value) in [(46, 0x60), (47, 0x11), (47, 0x14), (47, 0x18), (23, UDP), (14, 0x46), (12, 0x86)] {
        let mut frame = bare(7, 1000);
        assert!(BareAck::find(&frame).is_some());
        frame[at] = value;
        assert!(BareAck::find(&frame).is_none(), "byte {at}");
    }
}
