//! TCP segments as they lie on an Ethernet: built field by field, right or wrong, and taken apart again (RFC 791, 826, 9293).

use std::net::Ipv4Addr;

use crate::traffic::checksum;

/// The flags of a TCP header, as bits of its 14th byte.
pub mod flag {
    /// No more data from the sender.
    pub const FIN: u8 = 1;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 2;
    /// Reset.
    pub const RST: u8 = 4;
    /// Push.
    pub const PSH: u8 = 8;
    /// The acknowledgment field counts.
    pub const ACK: u8 = 16;
    /// The urgent pointer counts.
    pub const URG: u8 = 32;
}

/// An end of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Station {
    /// Its station address.
    pub mac: [u8; 6],
    /// Its address.
    pub address: Ipv4Addr,
}

/// A segment: what its header says, however wrong.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Segment {
    /// Source port.
    pub from: u16,
    /// Destination port.
    pub to: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number.
    pub ack: u32,
    /// Bits of [`flag`].
    pub flags: u8,
    /// Window.
    pub window: u16,
    /// Urgent pointer.
    pub urgent: u16,
    /// Options, padded by the builder.
    pub options: Vec<u8>,
    /// Data.
    pub data: Vec<u8>,
    /// Says so many words of header, instead of the truth.
    pub header_words: Option<u8>,
    /// The checksum is wrong.
    pub bad_checksum: bool,
}

const ETHERNET: usize = 14;
const TYPE_IPV4: [u8; 2] = [8, 0];
const TYPE_ARP: [u8; 2] = [8, 6];
const PROTOCOL_TCP: u8 = 6;

fn pseudo_header(from: Ipv4Addr, to: Ipv4Addr, length: usize) -> Vec<u8> {
    let mut header = [from.octets(), to.octets()].concat();
    header.extend([0, PROTOCOL_TCP]);
    header.extend((length as u16).to_be_bytes());
    header
}

fn ethernet(from: &Station, to: [u8; 6], kind: [u8; 2], payload: &[u8]) -> Vec<u8> {
    let mut frame = [to, from.mac].concat();
    frame.extend(kind);
    frame.extend(payload);
    frame.resize(frame.len().max(60), 0);
    frame
}

impl Segment {
    /// Sequence numbers that it takes up.
    pub fn length(&self) -> u32 {
        self.data.len() as u32
            + u32::from(self.flags & flag::SYN != 0)
            + u32::from(self.flags & flag::FIN != 0)
    }

    /// Whether this bit is set.
    pub const fn has(&self, bit: u8) -> bool {
        self.flags & bit != 0
    }

    fn bytes(&self, from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
        let options = self.options.len().next_multiple_of(4);
        let words = self.header_words.unwrap_or((20 + options) as u8 / 4);
        let mut bytes = [self.from.to_be_bytes(), self.to.to_be_bytes()].concat();
        bytes.extend(self.seq.to_be_bytes());
        bytes.extend(self.ack.to_be_bytes());
        bytes.extend([words << 4, self.flags]);
        bytes.extend(self.window.to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(self.urgent.to_be_bytes());
        bytes.extend(&self.options);
        bytes.resize(20 + options, 0);
        bytes.extend(&self.data);
        let sum = checksum(&[&pseudo_header(from, to, bytes.len()), &bytes]);
        let sum = if self.bad_checksum { sum ^ 0x5a5a } else { sum };
        bytes[16..18].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    /// The frame that carries it.
    pub fn frame(&self, from: &Station, to: &Station) -> Vec<u8> {
        let segment = self.bytes(from.address, to.address);
        let mut packet = vec![0x45, 0];
        packet.extend(((20 + segment.len()) as u16).to_be_bytes());
        packet.extend([0, 0, 0, 0, 64, PROTOCOL_TCP, 0, 0]);
        packet.extend(from.address.octets());
        packet.extend(to.address.octets());
        let sum = checksum(&[&packet]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet.extend(segment);
        ethernet(from, to.mac, TYPE_IPV4, &packet)
    }
}

/// What a frame is to the player.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// A segment to one of its ports.
    Segment(Segment),
    /// Somebody asks for its station address.
    ArpRequest,
}

/// Takes a frame apart that came for `own`; `None` for everything else. A segment with a wrong checksum is an error.
pub fn hear(frame: &[u8], own: &Station) -> Result<Option<Heard>, String> {
    let Some((header, packet)) = frame.split_at_checked(ETHERNET) else { return Ok(None) };
    match [header[12], header[13]] {
        TYPE_ARP if packet.len() >= 28 && packet[7] == 1 && packet[24..28] == own.address.octets() => {
            Ok(Some(Heard::ArpRequest))
        }
        TYPE_IPV4
            if packet.len() >= 20 && packet[16..20] == own.address.octets() && packet[9] == PROTOCOL_TCP =>
        {
            let header = usize::from(packet[0] & 15) * 4;
            let total = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
            let Some(bytes) = packet.get(header..total) else {
                return Err("a packet of wrong length".into());
            };
            let from = Ipv4Addr::new(packet[12], packet[13], packet[14], packet[15]);
            parse(bytes, from, own.address).map(|segment| Some(Heard::Segment(segment)))
        }
        _ => Ok(None),
    }
}

fn parse(bytes: &[u8], from: Ipv4Addr, to: Ipv4Addr) -> Result<Segment, String> {
    if bytes.len() < 20 || usize::from(bytes[12] >> 4) * 4 > bytes.len() || bytes[12] >> 4 < 5 {
        return Err(format!("a segment of {} bytes with a wrong header", bytes.len()));
    }
    // Devices that fill checksums in later are told not to, so it must be right on the wire.
    if checksum(&[&pseudo_header(from, to, bytes.len()), bytes]) != 0 {
        return Err("a segment with a wrong checksum".into());
    }
    let header = usize::from(bytes[12] >> 4) * 4;
    let half = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let word = |at: usize| u32::from(half(at)) << 16 | u32::from(half(at + 2));
    Ok(Segment {
        from: half(0),
        to: half(2),
        seq: word(4),
        ack: word(8),
        flags: bytes[13],
        window: half(14),
        urgent: half(18),
        options: bytes[20..header].to_vec(),
        data: bytes[header..].to_vec(),
        header_words: None,
        bad_checksum: false,
    })
}

/// The answer to an ARP request for `own` (RFC 826).
pub fn arp_reply(own: &Station, asker: &Station) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4, 0, 2];
    packet.extend(own.mac);
    packet.extend(own.address.octets());
    packet.extend(asker.mac);
    packet.extend(asker.address.octets());
    ethernet(own, asker.mac, TYPE_ARP, &packet)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Station = Station { mac: [2, 0, 0, 0, 0, 1], address: Ipv4Addr::new(10, 0, 0, 1) };
    const B: Station = Station { mac: [2, 0, 0, 0, 0, 2], address: Ipv4Addr::new(10, 0, 0, 2) };

    fn segment() -> Segment {
        Segment {
            from: 40_000,
            to: 7,
            seq: u32::MAX,
            ack: 5,
            flags: flag::ACK | flag::URG,
            window: 100,
            urgent: 3,
            options: vec![2, 4, 1, 0],
            data: b"odd".to_vec(),
            ..Segment::default()
        }
    }

    #[test]
    fn a_segment_comes_apart_as_it_was_built() {
        let frame = segment().frame(&A, &B);
        assert_eq!(hear(&frame, &B), Ok(Some(Heard::Segment(segment()))));
        assert_eq!(hear(&frame, &A), Ok(None));
    }

    #[test]
    fn a_wrong_checksum_is_seen() {
        let frame = Segment { bad_checksum: true, ..segment() }.frame(&A, &B);
        assert!(hear(&frame, &B).is_err());
    }

    #[test]
    fn lengths_count_syn_and_fin() {
        let one = Segment { flags: flag::SYN | flag::FIN, data: vec![0; 5], ..Segment::default() };
        assert_eq!(one.length(), 7);
    }
}
