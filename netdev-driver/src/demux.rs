//! The family of a received frame, or why it is dropped (R&H, "Early Demultiplexing"): "corrupt packets" are kept "from tying up
//! resources". What is checked is what costs a few instructions and spares the server a wake-up: lengths against each other, and the
//! checksum of the IPv4 header.

/// A protocol family; its number is that of its IN queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// RFC 826.
    Arp = 0,
    /// RFC 791.
    Ipv4 = 1,
    /// RFC 8200.
    Ipv6 = 2,
    /// Every other type.
    Other = 3,
}

/// Why a frame is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drop {
    /// Shorter than an Ethernet header.
    Runt,
    /// Longer than [`FRAME_BYTES_MAX`].
    Oversized,
    /// A header that contradicts itself or the frame.
    BadHeader,
    /// A wrong IPv4 header checksum.
    BadChecksum,
}

/// The longest frame, without its check sequence: 1500 bytes and the Ethernet header.
pub const FRAME_BYTES_MAX: u32 = 1514;
/// The bytes of an Ethernet header.
pub const ETHERNET_BYTES: u32 = 14;
/// How many words of a frame [`classify`] may ask for.
pub const WORDS: usize = 10;

const TYPE_IPV4: u16 = 0x0800u16.swap_bytes();
const TYPE_ARP: u16 = 0x0806u16.swap_bytes();
const TYPE_IPV6: u16 = 0x86ddu16.swap_bytes();

/// Classifies a frame of `len` bytes. `word(i)` is the 64-bit little-endian word at byte `8 * i`; each is asked for at most once, and none
/// that begins after the frame's end.
///
/// # Errors
/// Why to drop it.
#[inline]
pub fn classify(len: u32, word: impl Fn(usize) -> u64) -> Result<Family, Drop> {
    if len < ETHERNET_BYTES {
        return Err(Drop::Runt);
    }
    if len > FRAME_BYTES_MAX {
        return Err(Drop::Oversized);
    }
    let payload = len - ETHERNET_BYTES;
    // Bytes 8..16: the end of the source address, the type at 12, the first two bytes of the payload.
    let first = word(1);
    match (first >> 32) as u16 {
        TYPE_IPV4 => ipv4(payload, first, word),
        TYPE_IPV6 => ipv6(payload, first, word),
        TYPE_ARP => arp(payload, first, word),
        _ => Ok(Family::Other),
    }
}

#[inline(always)]
fn ipv4(payload: u32, first: u64, word: impl Fn(usize) -> u64) -> Result<Family, Drop> {
    if payload < 20 {
        return Err(Drop::BadHeader);
    }
    let version_and_length = (first >> 48) as u8;
    let second = word(2); // bytes 16..24; the total length is at 16
    let total = u32::from((second as u16).swap_bytes());
    let header = u32::from(version_and_length & 15) * 4;
    if version_and_length >> 4 != 4 || header < 20 || total < header || total > payload {
        return Err(Drop::BadHeader);
    }
    // RFC 1071: the sum does not depend on the byte order, and 64-bit additions with the carry put back sum four words at a time.
    let last = word(4);
    let mut sum = add(second, word(3));
    if header == 20 {
        sum = add(sum, (first >> 48) + (last & 0xffff));
    } else {
        sum = options(add(sum, first >> 48), last, header, word);
    }
    if fold(sum) == 0xffff { Ok(Family::Ipv4) } else { Err(Drop::BadChecksum) }
}

/// Adds what of a header of 24 to 60 bytes lies in the word at 32, `last`, and behind it.
#[cold]
fn options(sum: u64, last: u64, header: u32, word: impl Fn(usize) -> u64) -> u64 {
    let end = (ETHERNET_BYTES + header) as usize;
    if end < 40 {
        return add(sum, last & 0xffff_ffff_ffff);
    }
    let mut sum = add(sum, last);
    let mut at = 40;
    while at + 8 <= end {
        sum = add(sum, word(at / 8));
        at += 8;
    }
    if at < end {
        sum = add(sum, word(at / 8) & ((1 << (8 * (end - at))) - 1));
    }
    sum
}

#[inline(always)]
fn ipv6(payload: u32, first: u64, word: impl Fn(usize) -> u64) -> Result<Family, Drop> {
    // The payload length is at 18. 0 is that of a jumbogram (RFC 2675), which no Ethernet frame holds, or of no payload.
    if payload < 40 || (first >> 52) & 15 != 6 {
        return Err(Drop::BadHeader);
    }
    let length = u32::from(((word(2) >> 16) as u16).swap_bytes());
    if 40 + length > payload { Err(Drop::BadHeader) } else { Ok(Family::Ipv6) }
}

#[inline(always)]
fn arp(payload: u32, first: u64, word: impl Fn(usize) -> u64) -> Result<Family, Drop> {
    // Hardware type 1 at 14; protocol type 0x800 at 16, address lengths 6 and 4 at 18.
    let ethernet = (first >> 48) as u16 == 1u16.swap_bytes();
    if payload < 28 || !ethernet || word(2) as u32 != u32::from_le_bytes([8, 0, 6, 4]) {
        return Err(Drop::BadHeader);
    }
    Ok(Family::Arp)
}

/// One's complement addition.
#[inline(always)]
const fn add(a: u64, b: u64) -> u64 {
    let (sum, carry) = a.overflowing_add(b);
    sum + carry as u64
}

/// A number and itself with its halves exchanged: the upper half of their sum is the sum of the halves, with the carry put back.
#[inline(always)]
const fn fold(sum: u64) -> u16 {
    let sum = (sum.wrapping_add(sum.rotate_left(32)) >> 32) as u32;
    (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
}

#[cfg(test)]
mod tests;
