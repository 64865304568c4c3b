//! Which window a received frame is for, where several are open: early demultiplexing (R&H, "Early Demultiplexing") taken one step further,
//! from the family to the address.
//!
//! Each server claims its addresses ([`Claims`]). A frame for one address goes to the window that claims it; what is for all (broadcast,
//! multicast, announcements of ARP) to each; what is for an address that nobody claims to the servers that have claimed none of that family
//! yet (they may be about to get it, by DHCP say), and else to nobody. Sources: RFC 826, RFC 791, RFC 8200, RFC 4291 (section 2.7.1: the
//! solicited-node address ends in the low 24 bits of what is asked for).

use crate::demux::Family;

/// Addresses of one family that a server can claim.
pub const CLAIMS_MAX: usize = 4;

/// An address that a server claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// IPv4, in the order of the wire.
    Ipv4([u8; 4]),
    /// IPv6, in the order of the wire.
    Ipv6([u8; 16]),
}

/// Why an address is not claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimError {
    /// Another window's server has claimed it.
    Taken,
    /// [`CLAIMS_MAX`] are claimed.
    Full,
    /// It is not the address of one station.
    NotUnicast,
    /// The window is not open.
    Closed,
}

/// What one server has claimed, as the words of a frame have it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Claims {
    ipv4: [u32; CLAIMS_MAX],
    ipv6: [u128; CLAIMS_MAX],
}

/// No frame is for it.
const NONE: u32 = 0;

impl Claims {
    /// Adds an address; one that is there already stays there once.
    ///
    /// # Errors
    /// [`ClaimError::Full`], [`ClaimError::NotUnicast`].
    pub fn add(&mut self, address: Address) -> Result<(), ClaimError> {
        match address {
            Address::Ipv4(bytes) => {
                if bytes[0] == 0 || bytes[0] >= 224 {
                    return Err(ClaimError::NotUnicast);
                }
                insert(&mut self.ipv4, u32::from_le_bytes(bytes))
            }
            Address::Ipv6(bytes) => {
                if bytes[0] == 0xff || bytes == [0; 16] {
                    return Err(ClaimError::NotUnicast);
                }
                insert(&mut self.ipv6, u128::from_le_bytes(bytes))
            }
        }
    }

    /// Whether the address is among them.
    pub fn has(&self, address: Address) -> bool {
        match address {
            Address::Ipv4(bytes) => self.has_ipv4(u32::from_le_bytes(bytes)),
            Address::Ipv6(bytes) => self.ipv6.contains(&u128::from_le_bytes(bytes)),
        }
    }

    #[inline]
    fn has_ipv4(&self, address: u32) -> bool {
        address != NONE && self.ipv4.contains(&address)
    }

    /// Whether an IPv6 address of these ends in these 24 bits, the first byte lowest.
    fn has_ending(&self, ending: u32) -> bool {
        self.ipv6.iter().any(|&address| address != 0 && (address >> 104) as u32 == ending)
    }
}

fn insert<T: Copy + PartialEq + Default>(table: &mut [T], address: T) -> Result<(), ClaimError> {
    if table.contains(&address) {
        return Ok(());
    }
    let free = table.iter_mut().find(|slot| **slot == T::default()).ok_or(ClaimError::Full)?;
    *free = address;
    Ok(())
}

/// The windows that a frame is for, a bit each: of those in `windows`, pairs of a bit and what its server claims. `word(i)` is the 64-bit
/// little-endian word at byte `8 * i` of a frame that [`crate::demux::classify`] found good; it asks for no more than the first 7.
#[inline]
pub(crate) fn recipients<'c>(
    family: Family,
    word: impl Fn(usize) -> u64,
    windows: &(impl Iterator<Item = (u32, &'c Claims)> + Clone),
) -> u32 {
    let every = || those(windows, |_| true);
    // The first bit of an Ethernet address on the wire: for a group of stations.
    let group = word(0) & 1 != 0;
    match family {
        Family::Ipv4 => {
            let destination = (word(3) >> 48) as u32 | (word(4) as u32) << 16; // at 30
            match those(windows, |claims| claims.has_ipv4(destination)) {
                0 if group || destination as u8 >= 224 => every(),
                0 => those(windows, |claims| claims.ipv4 == [NONE; CLAIMS_MAX]),
                owner => owner,
            }
        }
        Family::Arp => {
            let sender = (word(3) >> 32) as u32; // at 28
            let target = (word(4) >> 48) as u32 | (word(5) as u32) << 16; // at 38
            match those(windows, |claims| claims.has_ipv4(target)) {
                // An announcement (RFC 5227).
                0 if sender == target => every(),
                0 => those(windows, |claims| claims.ipv4 == [NONE; CLAIMS_MAX]),
                owner => owner,
            }
        }
        Family::Ipv6 => {
            // At 38: two bytes of a word, two whole words, six bytes of another.
            let destination = u128::from(word(4) >> 48)
                | u128::from(word(5)) << 16
                | u128::from(word(6) & 0xffff_ffff_ffff) << 80;
            match those(windows, |claims| claims.ipv6.contains(&destination)) {
                0 if solicited_node(destination) => {
                    those(windows, |claims| claims.has_ending((destination >> 104) as u32))
                }
                0 if destination as u8 == 0xff => every(),
                0 => those(windows, |claims| claims.ipv6 == [0; CLAIMS_MAX]),
                owner => owner,
            }
        }
        Family::Other if group => every(),
        Family::Other => 0,
    }
}

/// The bits of those windows whose server's claims are so.
#[inline]
fn those<'c>(
    windows: &(impl Iterator<Item = (u32, &'c Claims)> + Clone),
    which: impl Fn(&Claims) -> bool,
) -> u32 {
    windows.clone().filter(|(_, claims)| which(claims)).fold(0, |bits, (bit, _)| bits | bit)
}

/// ff02::1:ff00:0/104, in the order of the wire's bytes.
const fn solicited_node(address: u128) -> bool {
    const PREFIX: u128 = u128::from_le_bytes([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 0]);
    address & ((1 << 104) - 1) == PREFIX
}

#[cfg(test)]
mod tests;
