//! Frames as the fuzzer wants them: each field its own, or what would get furthest.
//!
//! A frame is put together from the bytes with the addresses and ports of those who listen, and then *repaired*: lengths and checksums that
//! are wrong would end its way early, and the fuzzer cannot guess them. One byte decides what is left wrong on purpose.

use super::host::{PEER, STATION};
use crate::fake::checksum;
use crate::input::Input;

/// IPv4 and IPv6 addresses, ours and the peer's.
pub const OURS: [u8; 4] = [10, 9, 0, 2];
pub const THEIRS: [u8; 4] = [10, 9, 0, 1];
pub const OURS_6: [u8; 16] = [0xfd, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
pub const THEIRS_6: [u8; 16] = [0xfd, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// What the peer knows of the connections: it has seen our segments.
#[derive(Clone, Copy, Default)]
pub struct Seen {
    /// Our port, and theirs.
    pub ports: (u16, u16),
    /// What they would send next, and what of ours they would acknowledge.
    pub sequence: u32,
    pub acknowledge: u32,
}

impl Seen {
    /// Reads a frame that we sent.
    pub fn take(&mut self, frame: &[u8]) {
        let start = match frame.get(12..14) {
            Some([8, 0]) => 14 + usize::from(frame[14] & 15) * 4,
            Some([0x86, 0xdd]) => 54,
            _ => return,
        };
        let protocol = if frame[12] == 8 { frame[23] } else { frame[20] };
        let Some(segment) = frame.get(start..).filter(|rest| rest.len() >= 20 && protocol == TCP) else {
            return;
        };
        let half = |at: usize| u16::from_be_bytes([segment[at], segment[at + 1]]);
        let word = |at: usize| u32::from(half(at)) << 16 | u32::from(half(at + 2));
        self.ports = (half(0), half(2));
        let length = segment.len() - usize::from(segment[12] >> 4) * 4;
        let flags = u32::from(segment[13]);
        self.acknowledge = word(4).wrapping_add(length as u32 + (flags & 1) + (flags >> 1 & 1));
        if flags & 0x10 != 0 {
            self.sequence = word(8);
        }
    }
}

fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [STATION, PEER].concat();
    frame.extend(kind.to_be_bytes());
    frame.extend(payload);
    frame
}

/// An IPv4 packet; options make the header longer.
pub fn ipv4(protocol: u8, fragment: u16, ident: u16, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let header = 20 + options.len() / 4 * 4;
    let mut packet = vec![0x40 | (header / 4) as u8, 0];
    packet.extend(((header + payload.len()) as u16).to_be_bytes());
    packet.extend(ident.to_be_bytes());
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(THEIRS);
    packet.extend(OURS);
    packet.extend(&options[..header - 20]);
    packet.extend(payload);
    ethernet(0x0800, &packet)
}

fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, 255]);
    packet.extend(THEIRS_6);
    packet.extend(OURS_6);
    packet.extend(payload);
    ethernet(0x86dd, &packet)
}

/// A segment of TCP; ports and numbers near what the connection is at.
fn segment(input: &mut Input<'_>, seen: &Seen, ports: &[u16]) -> Vec<u8> {
    let (kind, flags) = (input.byte(), input.byte());
    let port = |choice: u8| ports[usize::from(choice) % ports.len()];
    let (ours, theirs) = match kind & 3 {
        0 => (port(input.byte()), 2000 + u16::from(input.byte() & 3)),
        1 => (input.word() as u16, input.word() as u16),
        _ => seen.ports,
    };
    let near = |input: &mut Input<'_>, at: u32| match kind >> 2 & 3 {
        0 | 1 => at,
        2 => at.wrapping_add(u32::from(input.byte())).wrapping_sub(128),
        _ => input.word(),
    };
    let (sequence, acknowledge) = (near(input, seen.sequence), near(input, seen.acknowledge));
    let window = if kind & 0x10 == 0 { 0x4000 } else { input.word() as u16 };
    let options = if kind & 0x20 == 0 { &[][..] } else { input.take(usize::from(kind >> 6) * 8) };
    let mut segment = theirs.to_be_bytes().to_vec();
    segment.extend(ours.to_be_bytes());
    segment.extend(sequence.to_be_bytes());
    segment.extend(acknowledge.to_be_bytes());
    segment.extend([(5 + options.len() as u8 / 4) << 4, flags & 0x3f]);
    segment.extend(window.to_be_bytes());
    segment.extend([0, 0, input.byte() & flags >> 5, 0]);
    segment.extend(&options[..options.len() / 4 * 4]);
    let length = usize::from(input.byte());
    segment.extend(input.take(length % 64));
    segment.resize(segment.len() + if length & 0x80 != 0 { length * 4 } else { 0 }, 0x77);
    segment
}

fn datagram(input: &mut Input<'_>, ports: &[u16]) -> Vec<u8> {
    let kind = input.byte();
    let ours = ports[usize::from(kind & 15) % ports.len()];
    let mut datagram = (3000 + u16::from(kind >> 4)).to_be_bytes().to_vec();
    datagram.extend(ours.to_be_bytes());
    let length = usize::from(input.byte());
    let payload = input.take(length % 64);
    let filler = if length & 0x40 != 0 { length * 5 } else { 0 };
    datagram.extend(((8 + payload.len() + filler) as u16).to_be_bytes());
    datagram.extend([0, 1]);
    datagram.extend(payload);
    datagram.resize(datagram.len() + filler, 0x55);
    datagram
}

/// Echo requests and replies, and errors that quote what we sent last, true or not.
fn icmp(input: &mut Input<'_>, last: Option<&Vec<u8>>) -> Vec<u8> {
    let mut message = vec![input.byte() % 20, input.byte() % 16, 0, 0];
    message.extend(input.word().to_be_bytes());
    let cut = usize::from(input.byte());
    match last.and_then(|frame| frame.get(14..)) {
        Some(packet) if cut & 1 != 0 => message.extend(&packet[..packet.len().min(cut / 2)]),
        _ => message.extend(input.take(cut)),
    }
    message
}

/// ICMPv6: neighbours, routers, echoes, errors.
fn icmp_6(input: &mut Input<'_>) -> Vec<u8> {
    let kind = [128, 129, 133, 134, 135, 136, 137, 1, 2, 3, 4][usize::from(input.byte()) % 11];
    let mut message = vec![kind, input.byte() & 7, 0, 0];
    message.extend(input.word().to_be_bytes());
    if matches!(kind, 135..=137) {
        message.extend(if input.byte() & 1 == 0 { OURS_6 } else { THEIRS_6 });
    }
    let length = usize::from(input.byte());
    message.extend(input.take(length));
    message
}

fn arp(input: &mut Input<'_>) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4, 0, 1 + (input.byte() & 1)];
    packet.extend(PEER);
    packet.extend(THEIRS);
    packet.extend(STATION);
    packet.extend(OURS);
    ethernet(0x0806, &packet)
}

/// A reply of a server of DHCP (RFC 2131) to the request that we sent last.
pub fn dhcp(input: &mut Input<'_>, request: Option<&Vec<u8>>) -> Vec<u8> {
    let mut message = vec![2, 1, 6, 0];
    let xid = request.and_then(|frame| frame.get(46..50));
    message.extend(xid.unwrap_or(&[0; 4]));
    message.extend([0; 8]);
    message.extend([10, 9, 0, 100 + (input.byte() & 7)]);
    message.extend(THEIRS);
    message.extend([0; 4]);
    message.extend(STATION);
    message.resize(236, 0);
    message.extend([0x63, 0x82, 0x53, 0x63]);
    let kind = input.byte();
    message.extend([53, 1, [2, 5, 6, kind][usize::from(kind & 3)]]);
    if kind & 4 == 0 {
        message.extend([54, 4]);
        message.extend(THEIRS);
        message.extend([51, 4]);
        message.extend(if kind & 8 == 0 { 60u32 } else { input.word() }.to_be_bytes());
        message.extend([1, 4, 255, 255, 255, if kind & 16 == 0 { 0 } else { input.byte() }]);
    }
    let length = usize::from(input.byte());
    message.extend(input.take(length));
    message.push(255);
    let mut datagram = vec![0, 67, 0, 68];
    datagram.extend(((8 + message.len()) as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(message);
    let mut frame = ipv4(UDP, 0, 1, &[], &datagram);
    frame[30..34].copy_from_slice(&if kind & 32 == 0 { [255; 4] } else { [10, 9, 0, 100] });
    frame
}

/// The next frame. `sent`: the last that we sent.
pub fn next(input: &mut Input<'_>, seen: &Seen, sent: Option<&Vec<u8>>, ports: &[u16]) -> Vec<u8> {
    let kind = input.byte();
    let mut frame = match kind % 12 {
        0 => {
            let length = usize::from(input.byte());
            input.take(length).to_vec()
        }
        1..=3 => ipv4(TCP, 0, 7, &[], &segment(input, seen, ports)),
        4 => ipv6(TCP, &segment(input, seen, ports)),
        5 => ipv4(UDP, 0, 8, &[], &datagram(input, ports)),
        6 => ipv6(UDP, &datagram(input, ports)),
        7 => ipv4(ICMP, 0, 9, &[], &icmp(input, sent)),
        8 => ipv6(ICMPV6, &icmp_6(input)),
        9 => arp(input),
        10 => fragment(input, ports),
        // What we sent, sent back: with the two ends exchanged, or as it is, from our own address to another.
        _ => {
            let mut frame = sent.cloned().unwrap_or_default();
            if frame.len() >= 34 && frame[12..14] == [8, 0] {
                frame[..6].copy_from_slice(&STATION);
                frame[6..12].copy_from_slice(&PEER);
                let land = input.byte() & 1 != 0;
                frame[26..30].copy_from_slice(if land { &OURS } else { &THEIRS });
                frame[30..34].copy_from_slice(&OURS);
            }
            frame
        }
    };
    let wrong = input.byte();
    if wrong & 0xc0 == 0xc0 && !frame.is_empty() {
        // One byte of it is something else.
        let at = usize::from(input.byte()) % frame.len();
        frame[at] = input.byte();
    }
    repair(&mut frame, wrong);
    frame
}

/// Fragments of few datagrams: the same numbers again and again, so that some come together, overlapping or not.
fn fragment(input: &mut Input<'_>, ports: &[u16]) -> Vec<u8> {
    let (choice, at) = (input.byte(), input.byte());
    let protocol = [ICMP, UDP, TCP, UDP][usize::from(choice & 3)];
    let more = if choice & 4 != 0 { 0x2000 } else { 0 };
    let offset = match choice >> 3 & 3 {
        0 => 0,
        1 => u16::from(at & 31),
        2 => 185 * u16::from(at & 63),
        _ => 0x1f00 | u16::from(at),
    };
    let mut payload = match (protocol, offset) {
        (ICMP, 0) => vec![8, 0, 0, 0, 0, 1, 0, 1],
        (UDP, 0) => datagram(input, ports),
        _ => Vec::new(),
    };
    let length = usize::from(input.byte());
    payload.extend(input.take(length % 64));
    payload.resize(if length & 0x80 != 0 { 1480 } else { payload.len().next_multiple_of(8) }, 0x99);
    ipv4(protocol, more | offset, u16::from(choice >> 5 & 1), &[], &payload)
}

/// Makes checksums right, but for what `wrong` says.
pub fn repair(frame: &mut [u8], wrong: u8) {
    let (start, protocol, addresses) = match frame.get(12..14) {
        Some([8, 0]) if frame.len() >= 34 => {
            let header = (usize::from(frame[14] & 15) * 4).clamp(20, frame.len() - 14);
            if wrong & 0x0f != 1 {
                frame[24..26].fill(0);
                let sum = checksum(&frame[14..14 + header]);
                frame[24..26].copy_from_slice(&sum.to_be_bytes());
            }
            if frame[20] & 0x3f != 0 || frame[21] != 0 {
                return; // a fragment has no checksum of its own
            }
            (14 + header, frame[23], 26..34)
        }
        Some([0x86, 0xdd]) if frame.len() >= 54 => (54, frame[20], 22..54),
        _ => return,
    };
    let at = match protocol {
        TCP => 16,
        UDP => 6,
        ICMP | ICMPV6 => 2,
        _ => return,
    };
    let field = start + at;
    if wrong & 0x0f == 2 || frame.len() < field + 2 {
        return;
    }
    frame[field..field + 2].fill(0);
    let mut covered = Vec::new();
    if protocol != ICMP {
        covered.extend(&frame[addresses]);
        covered.extend([0, 0]);
        covered.extend(((frame.len() - start) as u16).to_be_bytes());
        covered.extend([0, 0, 0, protocol]);
    }
    covered.extend(&frame[start..]);
    let sum = checksum(&covered);
    frame[field..field + 2].copy_from_slice(&if sum == 0 { 0xffff } else { sum }.to_be_bytes());
}
