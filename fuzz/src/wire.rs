//! Frames of any bytes, before the driver's demultiplexer and the server's.

use std::cell::Cell;

use netdev_driver::demux::{Drop, FRAME_BYTES_MAX, Family, WORDS, classify};
use protocol_server::frame;

use crate::input::Input;

/// What RFC 791, 826, 894 and 8200 ask of a frame, read a byte at a time.
fn reference(frame: &[u8]) -> Result<Family, Drop> {
    if frame.len() < 14 {
        return Err(Drop::Runt);
    }
    if frame.len() > FRAME_BYTES_MAX as usize {
        return Err(Drop::Oversized);
    }
    let payload = &frame[14..];
    let half = |at: usize| u32::from(payload[at]) << 8 | u32::from(payload[at + 1]);
    match frame[12..14] {
        [8, 0] => {
            if payload.len() < 20 {
                return Err(Drop::BadHeader);
            }
            let (header, total) = (usize::from(payload[0] & 15) * 4, half(2) as usize);
            if payload[0] >> 4 != 4 || header < 20 || total < header || total > payload.len() {
                return Err(Drop::BadHeader);
            }
            let mut sum: u32 = (0..header).step_by(2).map(half).sum();
            while sum > 0xffff {
                sum = (sum >> 16) + (sum & 0xffff);
            }
            if sum == 0xffff { Ok(Family::Ipv4) } else { Err(Drop::BadChecksum) }
        }
        [8, 6] => {
            let good = payload.len() >= 28 && payload[..6] == [0, 1, 8, 0, 6, 4];
            if good { Ok(Family::Arp) } else { Err(Drop::BadHeader) }
        }
        [0x86, 0xdd] => {
            let good = payload.len() >= 40 && payload[0] >> 4 == 6 && half(4) as usize + 40 <= payload.len();
            if good { Ok(Family::Ipv6) } else { Err(Drop::BadHeader) }
        }
        _ => Ok(Family::Other),
    }
}

/// The classifiers of the driver and of the server.
pub fn frames(data: &[u8]) {
    let mut input = Input::new(data);
    let (choice, stale) = (input.byte(), input.byte());
    let mut frame = input.rest().to_vec();
    // A good sum is hard to guess: half of the frames get one.
    if choice & 1 != 0 && frame.len() >= 34 && frame[14] >> 4 == 4 {
        let header = (usize::from(frame[14] & 15) * 4).clamp(20, frame.len() - 14) & !1;
        frame[24..26].fill(0);
        let sum = crate::fake::checksum(&frame[14..14 + header]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
    }
    let asked = Cell::new(0u32);
    let word = |at: usize| {
        assert!(at < WORDS && (at == 1 || at * 8 < frame.len()), "asks for what is behind the frame");
        assert_eq!(asked.get() & 1 << at, 0, "asks for a word twice: it may have changed");
        asked.set(asked.get() | 1 << at);
        // Behind the frame's end is what the buffer held before.
        let byte = |i: usize| frame.get(at * 8 + i).copied().unwrap_or(stale);
        u64::from_le_bytes(std::array::from_fn(byte))
    };
    assert_eq!(classify(frame.len() as u32, word), reference(&frame));

    for good in [false, true] {
        let class = frame::classify(&frame, good);
        if let frame::Class::Tcp(_, payload) = class {
            assert!(payload as usize <= frame.len(), "more payload than frame");
        }
    }
    let _ = (frame::is_syn(&frame), frame::icmp_fragment(&frame).is_some());
    let mut sent = frame.clone();
    if let Some(request) = frame::finish(&mut sent, choice & 2 != 0) {
        let field = usize::from(request.start) + usize::from(request.offset);
        assert!(field + 2 <= sent.len(), "a checksum behind the frame");
    }
    assert_eq!(sent.len(), frame.len());
}
