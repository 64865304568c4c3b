//! What the server itself reads of a frame: whose it is, whether its checksum is right, and, on the way out, where the checksum goes.
//!
//! smoltcp parses every frame again and has the last word. What is here saves it two things: the search of all sockets for
//! each packet ([`classify`] gives the key of the [`crate::demux`] table), and the byte-pair checksum of full segments.

use alloc::vec::Vec;

use crate::{
    checksum::{Sum, pseudo_header, pseudo_header_v4},
    socket::segment::{ACK, Numbers},
};

const ETHERNET_HEADER: usize = 14;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_ARP: u16 = 0x0806;
/// IP protocol numbers.
pub const ICMP: u8 = 1;
/// TCP.
pub const TCP: u8 = 6;
/// UDP.
pub const UDP: u8 = 17;
/// ICMP for IPv6.
pub const ICMPV6: u8 = 58;

/// What a packet is looked up by. Our own end comes first in `ports` and last in `addresses`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Key {
    /// Source and destination address of a received packet: IPv4 in the first word alone. Zeros for "any".
    pub addresses: [u64; 4],
    /// The local port in the upper half, the remote one in the lower.
    pub ports: u32,
    /// The protocol; [`ICMP`] also for ICMPv6.
    pub protocol: u8,
}

impl Key {
    /// The key of whoever takes anything that comes to a local port.
    #[inline]
    #[must_use]
    pub const fn wildcard(protocol: u8, local_port: u16) -> Self {
        Self { addresses: [0; 4], ports: (local_port as u32) << 16, protocol }
    }

    /// The wildcard that goes with this key.
    #[inline]
    #[must_use]
    pub const fn any_remote(&self) -> Self {
        Self::wildcard(self.protocol, (self.ports >> 16) as u16)
    }
}

/// Which datagram a fragment belongs to (RFC 791, section 3.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FragmentKey {
    /// Source and destination.
    pub addresses: u64,
    /// Identification and protocol.
    pub ident: u32,
}

/// What a received frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A TCP segment, and the bytes of its payload.
    Tcp(Key, u32),
    /// A UDP datagram or an ICMP echo reply, whole, for the wildcard of its key.
    Datagram(Key),
    /// The first fragment of an IPv4 datagram, for the wildcard of its key.
    FirstFragment(FragmentKey, Key),
    /// A later fragment.
    Fragment(FragmentKey),
    /// ARP or neighbour discovery: may let sockets send that had no link address for their peer.
    Neighbour,
    /// Whatever else the stack answers, or not, without a socket.
    Other,
    /// Its transport checksum is wrong.
    Corrupt,
}

#[inline(always)]
fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[inline(always)]
fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Where the transport's part of an IP packet is.
struct Transport<'f> {
    addresses: [u64; 4],
    address_bytes: &'f [u8],
    protocol: u8,
    bytes: &'f [u8],
    /// Fragment offset and More Fragments bit, and Identification.
    fragment: (u16, u16),
}

#[inline]
fn ipv4(packet: &[u8]) -> Option<Transport<'_>> {
    let header = packet.first_chunk::<20>()?;
    let header_bytes = usize::from(header[0] & 15) * 4;
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    Some(Transport {
        addresses: [u64_at(header, 12)?, 0, 0, 0],
        address_bytes: &header[12..20],
        protocol: header[9],
        bytes: packet.get(header_bytes..total)?,
        fragment: (
            u16::from_be_bytes([header[6], header[7]]) & 0x3fff,
            u16::from_be_bytes([header[4], header[5]]),
        ),
    })
}

#[inline]
fn ipv6(packet: &[u8]) -> Option<Transport<'_>> {
    let header = packet.first_chunk::<40>()?;
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    Some(Transport {
        addresses: [u64_at(header, 8)?, u64_at(header, 16)?, u64_at(header, 24)?, u64_at(header, 32)?],
        address_bytes: &header[8..40],
        protocol: header[6],
        bytes: packet.get(40..40 + length)?,
        fragment: (0, 0),
    })
}

/// Says what `frame` is. Checks the transport checksum unless the device has vouched for it.
#[inline]
#[must_use]
pub fn classify(frame: &[u8], checksum_good: bool) -> Class {
    if let Some(segment) = Segment4::find(frame) {
        if !checksum_good && !segment.sum().is_good() {
            return Class::Corrupt;
        }
        return Class::Tcp(segment.key(), segment.payload());
    }
    classify_inner(frame, checksum_good).unwrap_or(Class::Other)
}

/// A TCP segment in IPv4 without options or fragments: what nearly every frame of a busy server is, so that it pays to look for the
/// fields at their fixed places.
struct Segment4<'f> {
    /// Ethernet, IPv4 and TCP headers, without the options of the last.
    head: &'f [u8; 54],
    /// The segment.
    bytes: &'f [u8],
}

impl<'f> Segment4<'f> {
    /// Where the TCP header begins.
    const START: usize = 34;

    #[inline(always)]
    fn find(frame: &'f [u8]) -> Option<Self> {
        let head = frame.first_chunk::<54>()?;
        let [.., 8, 0, 0x45, _, high, low, _, _, fragment, more, _, TCP] = *head.first_chunk::<24>()? else {
            return None;
        };
        if fragment & 0x3f != 0 || more != 0 {
            return None;
        }
        let end = ETHERNET_HEADER + usize::from(u16::from_be_bytes([high, low]));
        Some(Self { head, bytes: frame.get(Self::START..end).filter(|bytes| bytes.len() >= 20)? })
    }

    #[inline(always)]
    fn addresses(&self) -> u64 {
        u64::from_ne_bytes(core::array::from_fn(|i| self.head[26 + i]))
    }

    /// The sum of the pseudo-header.
    #[inline(always)]
    fn pseudo_header(&self) -> Sum {
        pseudo_header_v4(self.addresses(), TCP, self.bytes.len())
    }

    /// The sum of pseudo-header and segment.
    #[inline(always)]
    fn sum(&self) -> Sum {
        self.pseudo_header().bytes(self.bytes)
    }

    #[inline(always)]
    fn key(&self) -> Key {
        let remote_local = u32::from_be_bytes(core::array::from_fn(|i| self.head[Self::START + i]));
        Key { addresses: [self.addresses(), 0, 0, 0], ports: remote_local.rotate_left(16), protocol: TCP }
    }

    #[inline(always)]
    fn payload(&self) -> u32 {
        (self.bytes.len() as u32).saturating_sub(u32::from(self.head[Self::START + 12] >> 4) * 4)
    }
}

/// A segment that is an acknowledgment and nothing else: no data, no options, no other flag. (In IPv4, as nearly all that come fast
/// enough for [`supersedes`](Self::supersedes) to matter.)
#[derive(Clone, Copy)]
pub struct BareAck<'f>(&'f [u8; 54]);

impl<'f> BareAck<'f> {
    /// If `frame` is one.
    #[inline(always)]
    pub fn find(frame: &'f [u8]) -> Option<Self> {
        let Segment4 { head, bytes } = Segment4::find(frame)?;
        let [.., length, flags] = *head.first_chunk::<48>()?;
        (bytes.len() == 20 && length == 5 << 4 && flags == ACK).then_some(Self(head))
    }

    /// Whether this one says all that `earlier` says, and more: between the same ends, at the same place of the other end's stream, it
    /// acknowledges what comes later in ours.
    #[inline(always)]
    pub fn supersedes(&self, earlier: &Self) -> bool {
        let word = |head: &[u8; 54], at| u32::from_be_bytes(core::array::from_fn(|i| head[at + i]));
        // Addresses, ports and sequence number.
        [26, 30, 34, 38].iter().all(|&at| word(self.0, at) == word(earlier.0, at))
            && word(self.0, 42).wrapping_sub(word(earlier.0, 42)).cast_signed() > 0
    }
}

#[inline(always)]
fn classify_inner(frame: &[u8], checksum_good: bool) -> Option<Class> {
    let packet = frame.get(ETHERNET_HEADER..)?;
    let (transport, v6) = match u16_at(frame, 12)? {
        ETHERTYPE_IPV4 => (ipv4(packet)?, false),
        ETHERTYPE_IPV6 => (ipv6(packet)?, true),
        ETHERTYPE_ARP => return Some(Class::Neighbour),
        _ => return None,
    };
    if transport.fragment.0 != 0 {
        return fragment(&transport);
    }
    if !checksum_good && !is_intact(&transport, v6) {
        return Some(Class::Corrupt);
    }
    let ports = |bytes: &[u8]| {
        let remote_local = u32::from_be_bytes(*bytes.first_chunk()?);
        Some(remote_local.rotate_left(16))
    };
    Some(match transport.protocol {
        TCP => {
            let key = Key { addresses: transport.addresses, ports: ports(transport.bytes)?, protocol: TCP };
            Class::Tcp(key, payload_bytes(transport.bytes) as u32)
        }
        UDP => Class::Datagram(Key::wildcard(UDP, (ports(transport.bytes)? >> 16) as u16)),
        ICMP if !v6 && *transport.bytes.first()? == 0 => {
            Class::Datagram(Key::wildcard(ICMP, u16_at(transport.bytes, 4)?))
        }
        ICMPV6 if v6 => match *transport.bytes.first()? {
            129 => Class::Datagram(Key::wildcard(ICMP, u16_at(transport.bytes, 4)?)),
            133..=137 => Class::Neighbour,
            _ => Class::Other,
        },
        _ => Class::Other,
    })
}

#[cold]
fn fragment(transport: &Transport<'_>) -> Option<Class> {
    let key = FragmentKey {
        addresses: transport.addresses[0],
        ident: u32::from(transport.fragment.1) << 8 | u32::from(transport.protocol),
    };
    if transport.fragment.0 & 0x1fff != 0 {
        return Some(Class::Fragment(key));
    }
    let wildcard = match transport.protocol {
        UDP => Key::wildcard(UDP, u16_at(transport.bytes, 2)?),
        ICMP if *transport.bytes.first()? == 0 => Key::wildcard(ICMP, u16_at(transport.bytes, 4)?),
        // TCP avoids fragments (RFC 9293, section 3.7.5); a connection that gets some anyway repeats the segment in vain.
        _ => return Some(Class::Fragment(key)),
    };
    Some(Class::FirstFragment(key, wildcard))
}

#[inline(always)]
fn is_intact(transport: &Transport<'_>, v6: bool) -> bool {
    let with_pseudo_header = match transport.protocol {
        TCP => true,
        UDP if v6 => true,
        UDP => transport.bytes.get(6..8) != Some(&[0, 0]), // no checksum (RFC 768)
        ICMPV6 if v6 => true,
        ICMP if !v6 => return Sum::new().bytes(transport.bytes).is_good(),
        _ => return true,
    };
    !with_pseudo_header
        || pseudo_header(transport.address_bytes, transport.protocol, transport.bytes.len())
            .bytes(transport.bytes)
            .is_good()
}

/// The bytes of payload in a TCP segment.
fn payload_bytes(segment: &[u8]) -> usize {
    let header = segment.get(12).map_or(0, |first| usize::from(first >> 4) * 4);
    segment.len().saturating_sub(header)
}

/// Copies a frame to `copy` with the field of its UDP checksum set to zero, "none"; false if it holds no UDP datagram.
///
/// A device that vouches for a checksum may do so because the frame never was on a wire, and then the field holds what the device of the
/// sender would have gone on with. smoltcp sums each datagram that has a checksum, and would take this one for damaged.
pub fn copy_without_checksum(frame: &[u8], copy: &mut Vec<u8>) -> bool {
    const CHECKSUM_AT: usize = 6;
    let transport = match u16_at(frame, 12) {
        Some(ETHERTYPE_IPV4) if frame.get(23) == Some(&UDP) => usize::from(frame[ETHERNET_HEADER] & 0xf) * 4,
        Some(ETHERTYPE_IPV6) if frame.get(20) == Some(&UDP) => 40,
        _ => return false,
    };
    let at = ETHERNET_HEADER + transport + CHECKSUM_AT;
    copy.clear();
    copy.extend_from_slice(frame);
    match copy.get_mut(at..at + 2) {
        Some(field) => {
            field.fill(0);
            true
        }
        None => false,
    }
}

/// Whether a frame that [`classify`] found to be TCP asks for a new connection: SYN without ACK.
#[must_use]
pub fn is_syn(frame: &[u8]) -> bool {
    let flags = tcp_start(frame).and_then(|start| frame.get(start + 13));
    flags.is_some_and(|flags| flags & 0x12 == 0x02)
}

/// The port that a TCP segment comes from.
#[must_use]
pub fn source_port(frame: &[u8]) -> Option<u16> {
    u16_at(frame, tcp_start(frame)?)
}

/// Where the TCP header of a frame begins that is TCP.
#[inline(always)]
pub fn tcp_start(frame: &[u8]) -> Option<usize> {
    match u16_at(frame, 12)? {
        ETHERTYPE_IPV4 => Some(ETHERNET_HEADER + usize::from(frame.get(ETHERNET_HEADER)? & 15) * 4),
        _ => Some(ETHERNET_HEADER + 40),
    }
}

/// Bytes of payload of a frame that is TCP.
pub fn tcp_payload(frame: &[u8]) -> Option<usize> {
    let start = tcp_start(frame)?;
    let end = match u16_at(frame, 12)? {
        ETHERTYPE_IPV4 => ETHERNET_HEADER + usize::from(u16_at(frame, 16)?),
        _ => start + usize::from(u16_at(frame, 18)?),
    };
    let header = usize::from(frame.get(start + 12)? >> 4) * 4;
    end.checked_sub(start + header)
}

/// Makes the IP header say that so many bytes follow it. The transport's checksum is the caller's.
pub fn set_payload_length(frame: &mut [u8], bytes: u16) -> Option<()> {
    let kind = u16_at(frame, 12)?;
    let packet = frame.get_mut(ETHERNET_HEADER..)?;
    if kind != ETHERTYPE_IPV4 {
        *packet.get_mut(4..)?.first_chunk_mut()? = bytes.to_be_bytes();
        return Some(());
    }
    let length = usize::from(packet.first()? & 15) * 4;
    let header = packet.get_mut(..length)?;
    *header.get_mut(2..)?.first_chunk_mut()? = (bytes + length as u16).to_be_bytes();
    *header.get_mut(10..)?.first_chunk_mut()? = [0; 2];
    let sum = !Sum::new().bytes(header).fold();
    *header.get_mut(10..)?.first_chunk_mut()? = sum.to_ne_bytes();
    Some(())
}

/// A checksum that the device is to fill in: the sum from `start` to the frame's end goes to `start + offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChecksumRequest {
    /// Where the transport header begins, from the frame's start.
    pub start: u16,
    /// Where the field is, from there.
    pub offset: u16,
}

/// Where TCP has its checksum.
const TCP_CHECKSUM_AT: usize = 16;

/// Where ICMP has its checksum.
const ICMP_CHECKSUM_AT: usize = 2;

/// A TCP segment that was finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FinishedSegment {
    /// What the device is to do.
    pub request: Option<ChecksumRequest>,
    /// The bytes of its payload.
    pub payload: u32,
    /// Its numbers.
    pub numbers: Numbers,
}

/// As [`finish`], for most TCP segments and for nothing else.
#[inline]
pub fn finish_segment(frame: &mut [u8], offload: bool) -> Option<FinishedSegment> {
    let segment = Segment4::find(frame)?;
    let payload = segment.payload();
    // The field itself is zero, as smoltcp leaves it.
    let value = if offload { segment.pseudo_header().fold() } else { !segment.sum().fold() };
    let numbers = Numbers::in_header(core::array::from_fn(|i| segment.head[Segment4::START + i]));
    let head = frame.first_chunk_mut::<54>()?;
    let field = Segment4::START + TCP_CHECKSUM_AT;
    [head[field], head[field + 1]] = value.to_ne_bytes();
    let request = ChecksumRequest { start: Segment4::START as u16, offset: TCP_CHECKSUM_AT as u16 };
    Some(FinishedSegment { request: offload.then_some(request), payload, numbers })
}

/// Gives a finished TCP segment its checksum, or seeds the field for the device, and an ICMP message its own. Other frames are left as
/// they are: smoltcp sums them. What is cut into fragments is the business of [`crate::fragments`].
#[inline]
pub fn finish(frame: &mut [u8], offload: bool) -> Option<ChecksumRequest> {
    let packet = frame.get(ETHERNET_HEADER..)?;
    let (transport, header_bytes) = match u16_at(frame, 12)? {
        ETHERTYPE_IPV4 => (ipv4(packet)?, usize::from(packet.first()? & 15) * 4),
        ETHERTYPE_IPV6 => (ipv6(packet)?, 40),
        _ => return None,
    };
    let start = ETHERNET_HEADER + header_bytes;
    if transport.protocol != TCP || transport.fragment.0 != 0 {
        if transport.protocol == ICMP && transport.fragment.0 == 0 {
            let sum = Sum::new().bytes(transport.bytes);
            set_icmp_checksum(frame, start, sum)?;
        }
        return None;
    }
    let sum = pseudo_header(transport.address_bytes, TCP, transport.bytes.len());
    // The field itself is zero, as smoltcp leaves it.
    let value = if offload { sum.fold() } else { !sum.bytes(transport.bytes).fold() };
    let field = frame.get_mut(start + TCP_CHECKSUM_AT..)?.first_chunk_mut::<2>()?;
    *field = value.to_ne_bytes();
    offload.then_some(ChecksumRequest { start: start as u16, offset: TCP_CHECKSUM_AT as u16 })
}

/// Writes the checksum of the ICMP message that begins at `start`, from the sum of all of it with the field zero.
fn set_icmp_checksum(frame: &mut [u8], start: usize, sum: Sum) -> Option<()> {
    let field = frame.get_mut(start + ICMP_CHECKSUM_AT..)?.first_chunk_mut::<2>()?;
    *field = (!sum.fold()).to_ne_bytes();
    Some(())
}

/// A fragment of an ICMP message, as [`crate::fragments`] needs it.
pub struct IcmpFragment<'f> {
    /// Is it the first?
    pub first: bool,
    /// Is it the last?
    pub last: bool,
    /// Its part of the message.
    pub bytes: &'f [u8],
}

/// What a frame is a fragment of, if that is an ICMP message in IPv4.
#[inline]
#[must_use]
pub fn icmp_fragment(frame: &[u8]) -> Option<IcmpFragment<'_>> {
    // The one byte that tells most frames from it; asked of every frame.
    if *frame.get(ETHERNET_HEADER + 9)? != ICMP || u16_at(frame, 12)? != ETHERTYPE_IPV4 {
        return None;
    }
    let transport = ipv4(frame.get(ETHERNET_HEADER..)?)?;
    let (more, offset) = (transport.fragment.0 & 0x2000 != 0, transport.fragment.0 & 0x1fff);
    if !more && offset == 0 {
        return None;
    }
    Some(IcmpFragment { first: offset == 0, last: !more, bytes: transport.bytes })
}

/// Completes the first fragment of an ICMP message: `sum` is that of the whole message, the field zero.
pub fn finish_icmp_fragment(frame: &mut [u8], sum: Sum) {
    let header_bytes = frame.get(ETHERNET_HEADER).map_or(0, |first| usize::from(first & 15) * 4);
    let _ = set_icmp_checksum(frame, ETHERNET_HEADER + header_bytes, sum);
}

#[cfg(test)]
mod tests;
