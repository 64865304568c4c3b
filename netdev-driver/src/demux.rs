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
/// Type, version and header length, as bytes 12 to 14 have them, of IPv4 without options.
const IPV4_20: u32 = u32::from_le_bytes([0x08, 0x00, 0x45, 0]);
const TYPE_ARP: u16 = 0x0806u16.swap_bytes();
const TYPE_IPV6: u16 = 0x86ddu16.swap_bytes();

/// Classifies a frame of `len` bytes. `word(i)` is the 64-bit little-endian word at byte `8 * i`; each is asked for at most once, and, but
/// for word 1, none that begins after the frame's end.
///
/// # Errors
/// Why to drop it.
#[inline(always)]
pub fn classify(len: u32, word: impl Fn(usize) -> u64) -> Result<Family, Drop> {
    // Bytes 8..16: the end of the source address, the type at 12, the first two bytes of the payload.
    let first = word(1);
    // What comes most: IPv4 with a header of 20 bytes, one comparison; long enough for that and not too long, another, since what is too
    // short wraps to a large number.
    let rest = len.wrapping_sub(ETHERNET_BYTES + 20);
    if (first >> 32) as u32 & 0xff_ffff != IPV4_20 || rest > FRAME_BYTES_MAX - ETHERNET_BYTES - 20 {
        return classify_other(len, first, word);
    }
    let second = word(2); // bytes 16..24; the total length is at 16
    let total = u32::from((second as u16).swap_bytes());
    if total.wrapping_sub(20) > rest {
        return Err(Drop::BadHeader);
    }
    verify(add(add(second, word(3)), (first >> 48) + (word(4) & 0xffff)))
}

/// All the rest, good or bad.
#[inline(never)]
fn classify_other(len: u32, first: u64, word: impl Fn(usize) -> u64) -> Result<Family, Drop> {
    if len < ETHERNET_BYTES {
        return Err(Drop::Runt);
    }
    if len > FRAME_BYTES_MAX {
        return Err(Drop::Oversized);
    }
    let payload = len - ETHERNET_BYTES;
    match (first >> 32) as u16 {
        TYPE_IPV4 => ipv4(payload, first, word),
        TYPE_IPV6 => ipv6(payload, first, word),
        TYPE_ARP => arp(payload, first, word),
        _ => Ok(Family::Other),
    }
}

/// A header of any length.
fn ipv4(payload: u32, first: u64, word: impl Fn(usize) -> u64) -> Result<Family, Drop> {
    if payload < 20 {
        return Err(Drop::BadHeader);
    }
    let front = first >> 48; // version, header length, type of service
    let second = word(2);
    let total = u32::from((second as u16).swap_bytes());
    let header = (front as u32 & 15) * 4;
    if front as u8 >> 4 != 4 || header < 20 || total < header || total > payload {
        return Err(Drop::BadHeader);
    }
    let (sum, last) = (add(add(second, word(3)), front), word(4));
    if header == 20 { verify(add(sum, last & 0xffff)) } else { verify(options(sum, last, header, word)) }
}

/// RFC 1071: the one's complement sum of a good header, its checksum included, is 0xffff. That sum is the number made of all its
/// bytes, whatever their order and however many are added at a time, modulo 0xffff, where 0 and 0xffff are the same; and a header with
/// a version in it does not sum to nothing. (No division: to be a multiple of a constant is a multiplication and a comparison.)
#[inline(always)]
const fn verify(sum: u64) -> Result<Family, Drop> {
    if sum.is_multiple_of(0xffff) { Ok(Family::Ipv4) } else { Err(Drop::BadChecksum) }
}

/// Adds what of a header of 24 to 60 bytes lies in the word at 32, `last`, and behind it.
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

/// One's complement addition: the carry is put back.
#[inline(always)]
const fn add(a: u64, b: u64) -> u64 {
    let (sum, carry) = a.overflowing_add(b);
    sum + carry as u64
}

#[cfg(test)]
mod tests;
