//! A received frame in one line, in the manner of tcpdump (Jacobson, Leres and McCanne): addresses, protocol, ports, flags, lengths.
//!
//! Nothing in a frame is believed: what is cut short or contradicts itself is said to be so.

use core::{
    fmt::{self, Display, Formatter},
    net::{Ipv4Addr, Ipv6Addr},
};

/// A frame, Ethernet header first; its `Display` is the line.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a>(pub &'a [u8]);

/// Bytes of an Ethernet header.
const ETHERNET_BYTES: usize = 14;
const TYPE_IPV4: u16 = 0x0800;
const TYPE_ARP: u16 = 0x0806;
const TYPE_IPV6: u16 = 0x86dd;
const CUT_SHORT: &str = "[cut short]";

/// The least and most significant bit first, as tcpdump has them.
const TCP_FLAGS: [(u8, char); 8] =
    [(1, 'F'), (2, 'S'), (4, 'R'), (8, 'P'), (16, '.'), (32, 'U'), (64, 'E'), (128, 'W')];

impl Display for Frame<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Some((header, payload)) = self.0.split_at_checked(ETHERNET_BYTES) else {
            return write!(f, "{CUT_SHORT}, length {}", self.0.len());
        };
        match u16::from_be_bytes([header[12], header[13]]) {
            TYPE_ARP => arp(f, payload),
            TYPE_IPV4 => ipv4(f, payload),
            TYPE_IPV6 => ipv6(f, payload),
            other => write!(f, "type {other:#06x}, length {}", payload.len()),
        }
    }
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from(half(bytes, at)?) << 16 | u32::from(half(bytes, at + 2)?))
}

/// RFC 826.
fn arp(f: &mut Formatter<'_>, packet: &[u8]) -> fmt::Result {
    let address = |at| word(packet, at).map(Ipv4Addr::from_bits);
    let (Some(operation), Some(sender), Some(target)) = (half(packet, 6), address(14), address(24)) else {
        return write!(f, "ARP {CUT_SHORT}, length {}", packet.len());
    };
    match (word(packet, 0), operation) {
        (Some(0x0001_0800), 1) => write!(f, "ARP, who-has {target} tell {sender}"),
        (Some(0x0001_0800), 2) => {
            write!(f, "ARP, {sender} is-at ")?;
            let mac = packet.get(8..14).unwrap_or(&[]).iter().enumerate();
            mac.into_iter().try_for_each(|(i, byte)| write!(f, "{}{byte:02x}", if i == 0 { "" } else { ":" }))
        }
        _ => write!(f, "ARP, operation {operation}"),
    }?;
    write!(f, ", length {}", packet.len())
}

/// RFC 791.
fn ipv4(f: &mut Formatter<'_>, packet: &[u8]) -> fmt::Result {
    let header = packet.first().map_or(0, |first| usize::from(first & 15) * 4);
    let total = half(packet, 2).map_or(0, usize::from);
    if packet.len() < 20 || header < 20 || total < header || total > packet.len() {
        return write!(f, "IP {CUT_SHORT}, length {}", packet.len());
    }
    let [from, to] = [12, 16].map(|at| Ipv4Addr::from_bits(word(packet, at).unwrap_or(0)));
    let fragment = half(packet, 6).unwrap_or(0);
    // Behind the header, and without what Ethernet may have padded.
    let payload = &packet[header..total];
    f.write_str("IP ")?;
    if fragment & 0x1fff != 0 {
        let at = u32::from(fragment & 0x1fff) * 8;
        return write!(
            f,
            "{from} > {to}: protocol {}, fragment at {at}, length {}",
            packet[9],
            payload.len()
        );
    }
    transport(f, from, to, packet[9], payload)?;
    if fragment & 0x2000 != 0 { f.write_str(", first fragment") } else { Ok(()) }
}

/// RFC 8200; what is behind extension headers is not looked for.
fn ipv6(f: &mut Formatter<'_>, packet: &[u8]) -> fmt::Result {
    let length = half(packet, 4).map_or(0, usize::from);
    let (Some(header), Some(payload)) = (packet.get(..40), packet.get(40..40 + length)) else {
        return write!(f, "IP6 {CUT_SHORT}, length {}", packet.len());
    };
    let [from, to] = [8, 24].map(|at| {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&header[at..at + 16]);
        Ipv6Addr::from(bytes)
    });
    f.write_str("IP6 ")?;
    transport(f, from, to, header[6], payload)
}

fn transport(
    f: &mut Formatter<'_>,
    from: impl Display,
    to: impl Display,
    protocol: u8,
    payload: &[u8],
) -> fmt::Result {
    let length = payload.len();
    match (protocol, half(payload, 0).zip(half(payload, 2))) {
        (6, Some((source, destination))) if length >= 20 => {
            write!(f, "{from}.{source} > {to}.{destination}: ")?;
            tcp(f, payload)
        }
        (17, Some((source, destination))) if length >= 8 => {
            write!(f, "{from}.{source} > {to}.{destination}: UDP, length {}", length - 8)
        }
        (1, Some(_)) if length >= 8 => {
            write!(f, "{from} > {to}: ICMP ")?;
            icmp(f, payload, &[(8, "echo request"), (0, "echo reply"), (3, "unreachable")])
        }
        (58, Some(_)) if length >= 8 => {
            write!(f, "{from} > {to}: ICMP6 ")?;
            let names = [(128, "echo request"), (129, "echo reply"), (1, "unreachable")];
            icmp(f, payload, &names)?;
            match payload[0] {
                135 => f.write_str(" (neighbor solicitation)"),
                136 => f.write_str(" (neighbor advertisement)"),
                _ => Ok(()),
            }
        }
        (1 | 6 | 17 | 58, _) => {
            write!(f, "{from} > {to}: protocol {protocol} {CUT_SHORT}, length {length}")
        }
        _ => write!(f, "{from} > {to}: protocol {protocol}, length {length}"),
    }
}

/// RFC 9293; at least 20 bytes.
fn tcp(f: &mut Formatter<'_>, segment: &[u8]) -> fmt::Result {
    let flags = segment[13];
    f.write_str("Flags [")?;
    for (bit, name) in TCP_FLAGS {
        if flags & bit != 0 {
            write!(f, "{name}")?;
        }
    }
    write!(f, "], seq {}", word(segment, 4).unwrap_or(0))?;
    if flags & 16 != 0 {
        write!(f, ", ack {}", word(segment, 8).unwrap_or(0))?;
    }
    let header = usize::from(segment[12] >> 4) * 4;
    match segment.len().checked_sub(header) {
        Some(length) if header >= 20 => {
            write!(f, ", win {}, length {length}", half(segment, 14).unwrap_or(0))
        }
        _ => write!(f, ", bad header length {header}"),
    }
}

/// RFC 792 and 4443; at least 8 bytes. The first two of the names are those of an echo.
fn icmp(f: &mut Formatter<'_>, message: &[u8], names: &[(u8, &str)]) -> fmt::Result {
    let (kind, code) = (message[0], message[1]);
    match names.iter().position(|(number, _)| *number == kind) {
        Some(i @ (0 | 1)) => {
            let (id, sequence) = (half(message, 4).unwrap_or(0), half(message, 6).unwrap_or(0));
            write!(f, "{}, id {id}, seq {sequence}", names[i].1)
        }
        Some(i) => write!(f, "{}, code {code}", names[i].1),
        None => write!(f, "type {kind}, code {code}"),
    }?;
    write!(f, ", length {}", message.len())
}

#[cfg(test)]
mod tests {
    use std::{string::ToString, vec, vec::Vec};

    use super::*;

    fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
        [&[0x52; 12][..], &kind.to_be_bytes(), payload].concat()
    }

    fn ipv4(protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
        let mut header = vec![0x45, 0];
        header.extend((20 + payload.len() as u16).to_be_bytes());
        header.extend([0, 1]);
        header.extend(fragment.to_be_bytes());
        header.extend([64, protocol, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2]);
        ethernet(TYPE_IPV4, &[&header, payload].concat())
    }

    fn line(frame: &[u8]) -> std::string::String {
        Frame(frame).to_string()
    }

    fn syn() -> Vec<u8> {
        let mut segment =
            vec![0x13, 0x89, 0x04, 0x01, 0, 0, 1, 0, 0, 0, 2, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0];
        segment.extend([7; 3]);
        segment
    }

    #[test]
    fn the_protocols_have_their_lines() {
        assert_eq!(
            line(&ipv4(6, 0x4000, &syn())),
            "IP 10.9.0.1.5001 > 10.9.0.2.1025: Flags [S], seq 256, win 65535, length 3"
        );
        let mut acknowledged = syn();
        acknowledged[13] = 0x18;
        assert!(
            line(&ipv4(6, 0, &acknowledged)).ends_with("Flags [P.], seq 256, ack 512, win 65535, length 3")
        );
        assert_eq!(
            line(&ipv4(17, 0, &[0, 53, 1, 0, 0, 9, 0, 0, 1])),
            "IP 10.9.0.1.53 > 10.9.0.2.256: UDP, length 1"
        );
        let echo = [8, 0, 0, 0, 0, 7, 0, 9, 1, 2];
        assert_eq!(
            line(&ipv4(1, 0, &echo)),
            "IP 10.9.0.1 > 10.9.0.2: ICMP echo request, id 7, seq 9, length 10"
        );
        assert_eq!(
            line(&ipv4(1, 0, &[3, 1, 0, 0, 0, 0, 0, 0])),
            "IP 10.9.0.1 > 10.9.0.2: ICMP unreachable, code 1, length 8"
        );
        assert_eq!(
            line(&ipv4(17, 0x2001, &[0; 8])),
            "IP 10.9.0.1 > 10.9.0.2: protocol 17, fragment at 8, length 8"
        );
        assert!(line(&ipv4(17, 0x2000, &[0; 8])).ends_with("UDP, length 0, first fragment"));
        let mut arp =
            [&[0, 1, 8, 0, 6, 4, 0, 1][..], &[2; 6], &[10, 9, 0, 1], &[0; 6], &[10, 9, 0, 2]].concat();
        assert_eq!(line(&ethernet(TYPE_ARP, &arp)), "ARP, who-has 10.9.0.2 tell 10.9.0.1, length 28");
        arp[7] = 2;
        assert_eq!(line(&ethernet(TYPE_ARP, &arp)), "ARP, 10.9.0.1 is-at 02:02:02:02:02:02, length 28");
        let mut six = vec![0x60, 0, 0, 0, 0, 8, 58, 255];
        six.extend([0xfd, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        six.extend([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 2]);
        six.extend([135, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(
            line(&ethernet(TYPE_IPV6, &six)),
            "IP6 fd09::1 > ff02::1:ff00:2: ICMP6 type 135, code 0, length 8 (neighbor solicitation)"
        );
        assert_eq!(line(&ethernet(0x88cc, &[0; 46])), "type 0x88cc, length 46");
    }

    #[test]
    fn padding_is_not_counted() {
        let mut frame = ipv4(6, 0, &syn()[..20]);
        frame.resize(60, 0);
        assert!(line(&frame).ends_with("length 0"));
    }

    #[test]
    fn every_piece_of_every_frame_has_a_line() {
        let whole =
            [ipv4(6, 0, &syn()), ipv4(17, 0, &[0; 9]), ipv4(1, 0, &[8; 9]), ethernet(TYPE_ARP, &[1; 28])];
        for frame in whole {
            for length in 0..frame.len() {
                assert!(!line(&frame[..length]).is_empty());
            }
            // And with each byte turned round.
            for at in 0..frame.len() {
                let mut frame = frame.clone();
                frame[at] = !frame[at];
                assert!(!line(&frame).is_empty());
            }
        }
        assert_eq!(line(&ipv4(6, 0, &[0; 19])), "IP 10.9.0.1 > 10.9.0.2: protocol 6 [cut short], length 19");
        assert_eq!(line(&[0; 13]), "[cut short], length 13");
    }
}
