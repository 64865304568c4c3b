//! The packet filter of a protocol server: what it asks the kernel for.
//!
//! The device gives frames for this station, for groups and for all. Of IPv4 the server wants what is for its address, a group or all
//! stations, of ARP what asks for or is about its address, all of IPv6 (whose groups are many and whose addresses are the stack's to tell
//! apart), and until it has an address everything (RFC 2131: the offer may come to an address that is not yet its own).

use abi::filter::{Builder, Operator, action};
use smoltcp::wire::{Ipv4Address, Ipv4Cidr};

/// The filter's priority: above it is room for who wants to see frames before the server.
pub const PRIORITY: u8 = 100;

/// Numbers of 16-bit words of a frame.
mod word {
    pub const ETHERTYPE: u16 = 6;
    pub const IPV4_DESTINATION: u16 = 15;
    pub const ARP_TARGET: u16 = 19;
}

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;

/// The filter of a server with this address and network.
#[must_use]
pub fn program(address: Option<Ipv4Cidr>) -> Builder {
    let Some(cidr) = address else { return anything() };
    let own = halves(cidr.address());
    // What comes most is asked for first, and its low half first, which the hosts of a network differ in. Each "or" is a short circuit;
    // an "and" of what may be false has to be computed, since a false one must not end the program.
    let mut ipv4 = ipv4_to(Builder::new(), own);
    if let Some(broadcast) = cidr.broadcast() {
        ipv4 = ipv4_to(ipv4, halves(broadcast));
    }
    // 224.0.0.0 and above: groups (RFC 1112), and all stations.
    let groups = ipv4
        .push_word(word::IPV4_DESTINATION)
        .literal(0xe000, Operator::Ge)
        .push_word(word::ETHERTYPE)
        .literal(ETHERTYPE_IPV4, Operator::Eq)
        .op(action::NO_PUSH, Operator::And)
        .op(action::PUSH_ONE, Operator::Cor);
    let ipv6 = groups.push_word(word::ETHERTYPE).literal(ETHERTYPE_IPV6, Operator::Cor);
    // Last, since its words lie furthest behind.
    ipv6.require(word::ETHERTYPE, ETHERTYPE_ARP)
        .require(word::ARP_TARGET, own[0])
        .require(word::ARP_TARGET + 1, own[1])
}

/// Appends: wanted, if it is IPv4 to this address.
fn ipv4_to(program: Builder, [high, low]: [u16; 2]) -> Builder {
    program
        .push_word(word::IPV4_DESTINATION + 1)
        .literal(low, Operator::Eq)
        .push_word(word::IPV4_DESTINATION)
        .literal(high, Operator::Eq)
        .op(action::NO_PUSH, Operator::And)
        .push_word(word::ETHERTYPE)
        .literal(ETHERTYPE_IPV4, Operator::Eq)
        .op(action::NO_PUSH, Operator::And)
        .op(action::PUSH_ONE, Operator::Cor)
}

const fn halves(address: Ipv4Address) -> [u16; 2] {
    let [a, b, c, d] = address.octets();
    [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]
}

/// Every frame.
const fn anything() -> Builder {
    Builder::new().op(action::PUSH_ONE, Operator::Nop)
}

#[cfg(test)]
mod tests;
