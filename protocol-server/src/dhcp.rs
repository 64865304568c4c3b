//! The address by DHCP (RFC 2131), when the command line says `ip=dhcp`.
//!
//! A server that takes another's place goes on with its lease ([`Dhcp::go_on`]): it uses the address at once, and asks for it anew meanwhile.
//! The DHCP server knows the client by its identifier, so it gives it the same lease again (RFC 2131, section 2.1).
//!
//! The first server of a device is identified by the station address, as most clients are. The others share that address, so each has an
//! identifier with its number in it (RFC 4361, [`Dhcp::identify`]). smoltcp always writes the first kind, and what is given to it beside that;
//! [`finish`] takes the first kind out.

use abi::supervise::Lease;
use alloc::{boxed::Box, vec, vec::Vec};
use smoltcp::{
    iface::{SocketHandle, SocketSet},
    socket::dhcpv4,
    wire::{DhcpOption, DhcpRepr, Ipv4Address, Ipv4Cidr},
};

use crate::{
    checksum::pseudo_header,
    demux::{NO_SLOT, Slot},
    frame::{Key, UDP},
    link::Link,
    stack::Stack,
};

/// The client's port.
const CLIENT_PORT: u16 = 68;
/// What a message to a DHCP server is looked up by, where it comes.
pub const TO_SERVER: Key = Key::wildcard(UDP, 67);
/// The options (RFC 2132): where they begin in a frame, and some of them.
const OPTIONS_AT: usize = UDP_AT + 8 + 240;
const PAD: u8 = 0;
const CLIENT_ID: u8 = 61;
const END: u8 = 255;
/// Where the addresses and the datagram are in a frame without options of IP.
const ADDRESSES_AT: usize = 26;
const UDP_AT: usize = 34;
/// Room for a message of the DHCP server.
const PACKET_BYTES: usize = 1500;
/// A lease that the DHCP server gave no length, in seconds (what smoltcp takes for it).
const LEASE_DEFAULT_S: u32 = 120;
/// The slot that its packets go to: none that a socket can have.
pub const DHCP_SLOT: Slot = NO_SLOT - 1;

/// A DHCP client.
pub struct Dhcp {
    set: SocketSet<'static>,
    handle: SocketHandle,
    /// When it wants a turn, in microseconds.
    pub deadline: i64,
    /// A packet has come for it.
    pub dirty: bool,
    /// What is in use.
    lease: Option<Lease>,
    /// It is from before, and not confirmed yet.
    inherited: bool,
}

impl Dhcp {
    /// A client for `stack`, which has no address yet.
    pub fn new<L: Link>(stack: &mut Stack<L>) -> Self {
        let mut set = SocketSet::new(Vec::with_capacity(1));
        let mut socket = dhcpv4::Socket::new();
        // There is one for the life of a server; without it smoltcp does not tell how long a lease is.
        socket.set_receive_packet_buffer(Box::leak(vec![0; PACKET_BYTES].into_boxed_slice()));
        let handle = set.add(socket);
        let entered = stack.demux.insert(Key::wildcard(UDP, CLIENT_PORT), DHCP_SLOT);
        debug_assert!(entered, "the client is made before any socket");
        Self { set, handle, deadline: 0, dirty: true, lease: None, inherited: false }
    }

    /// From now on it is not the station that asks, but this one of the servers of the device.
    pub fn identify(&mut self, mac: [u8; 6], number: u32) {
        // RFC 4361, section 6.1: a type, which server, and whose (RFC 8415, section 11.4: by link-layer address, Ethernet's).
        let mut identifier = vec![255];
        identifier.extend(number.to_be_bytes());
        identifier.extend([0, 3, 0, 1]);
        identifier.extend(mac);
        // Once in the life of a server, too.
        let option = DhcpOption { kind: CLIENT_ID, data: Vec::leak(identifier) };
        self.set.get_mut::<dhcpv4::Socket>(self.handle).set_outgoing_options(Vec::leak(vec![option]));
    }

    /// Uses the lease of the server before, until it is confirmed, replaced or over.
    pub fn go_on<L: Link>(&mut self, stack: &mut Stack<L>, lease: Lease) {
        if i64::from(lease.expires_s) > stack.now.secs() {
            apply(stack, Some(&lease));
            (self.lease, self.inherited) = (Some(lease), true);
        }
    }

    /// What is in use.
    pub const fn lease(&self) -> Option<Lease> {
        self.lease
    }

    /// Hands it a packet.
    pub fn ingress<L: Link>(&mut self, stack: &mut Stack<L>, frame: &[u8]) {
        self.dirty = true;
        stack.ingress(frame, &mut self.set);
    }

    /// Lets it send; true when the address has changed.
    pub fn serve<L: Link>(&mut self, stack: &mut Stack<L>) -> bool {
        self.dirty = false;
        let before = self.lease;
        match self.set.get_mut::<dhcpv4::Socket>(self.handle).poll() {
            None => {}
            // A new client says so before it has asked anyone.
            Some(dhcpv4::Event::Deconfigured) if self.inherited => {}
            Some(dhcpv4::Event::Deconfigured) => self.lease = None,
            Some(dhcpv4::Event::Configured(config)) => {
                let length = config.packet.and_then(|packet| DhcpRepr::parse(&packet).ok()?.lease_duration);
                let ends = stack.now.secs().saturating_add(length.unwrap_or(LEASE_DEFAULT_S).into());
                self.lease = Some(Lease {
                    address: config.address.address().octets(),
                    prefix: config.address.prefix_len().into(),
                    router: config.router.map(|router| router.octets()),
                    expires_s: u32::try_from(ends).unwrap_or(u32::MAX),
                });
                self.inherited = false;
            }
        }
        if self.inherited && self.lease.is_some_and(|lease| i64::from(lease.expires_s) <= stack.now.secs()) {
            (self.lease, self.inherited) = (None, false);
        }
        let place = |lease: &Lease| (lease.address, lease.prefix, lease.router);
        let changed = self.lease.as_ref().map(place) != before.as_ref().map(place);
        if changed {
            apply(stack, self.lease.as_ref());
        }
        stack.egress(&mut self.set);
        self.deadline = stack.deadline(&self.set);
        changed
    }
}

/// Of two identifiers in a message of ours to a DHCP server the first becomes padding.
#[cold]
pub fn finish(frame: &mut [u8]) {
    if frame.get(UDP_AT..UDP_AT + 2) != Some(&CLIENT_PORT.to_be_bytes()) {
        return;
    }
    let (mut at, mut first) = (OPTIONS_AT, None);
    while let Some(&[kind, length]) = frame.get(at..at + 2)
        && kind != END
    {
        // Padding is one byte, without a length.
        let end = if kind == PAD { at + 1 } else { at + 2 + usize::from(length) };
        if kind == CLIENT_ID {
            match first.take() {
                None => first = Some(at..end),
                Some(first) => {
                    frame[first].fill(PAD);
                    return sum(frame);
                }
            }
        }
        at = end;
    }
}

/// Makes the checksum of a datagram anew (RFC 768).
fn sum(frame: &mut [u8]) {
    let (head, datagram) = frame.split_at_mut(UDP_AT);
    datagram[6..8].fill(0);
    let sum = pseudo_header(&head[ADDRESSES_AT..], UDP, datagram.len()).bytes(datagram).fold();
    let sum = if sum == u16::MAX { u16::MAX } else { !sum };
    datagram[6..8].copy_from_slice(&sum.to_ne_bytes());
}

fn apply<L: Link>(stack: &mut Stack<L>, lease: Option<&Lease>) {
    let address =
        lease.map(|lease| Ipv4Cidr::new(Ipv4Address::from(lease.address), lease.prefix.min(32) as u8));
    stack.set_ipv4(address, lease.and_then(|lease| lease.router).map(Ipv4Address::from));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(options: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; OPTIONS_AT];
        frame[23] = UDP;
        frame[UDP_AT + 1] = 68;
        frame[ADDRESSES_AT..UDP_AT].copy_from_slice(&[0, 0, 0, 0, 255, 255, 255, 255]);
        frame.extend(options);
        let length = (frame.len() - UDP_AT) as u16;
        frame[UDP_AT + 4..UDP_AT + 6].copy_from_slice(&length.to_be_bytes());
        sum(&mut frame);
        frame
    }

    fn is_good(frame: &[u8]) -> bool {
        let datagram = &frame[UDP_AT..];
        pseudo_header(&frame[ADDRESSES_AT..UDP_AT], UDP, datagram.len()).bytes(datagram).is_good()
    }

    #[test]
    fn of_two_identifiers_the_second_is_left() {
        let mut it = frame(&[53, 1, 1, 61, 3, 1, 7, 8, 0, 55, 2, 61, 61, 61, 2, 255, 9, 255]);
        assert!(is_good(&it));
        finish(&mut it);
        assert_eq!(it[OPTIONS_AT..], [53, 1, 1, 0, 0, 0, 0, 0, 0, 55, 2, 61, 61, 61, 2, 255, 9, 255]);
        assert!(is_good(&it));
    }

    #[test]
    fn one_identifier_stays_and_nothing_is_read_behind_the_end() {
        for options in
            [&[53, 1, 1, 61, 3, 1, 7, 8, 255, 61, 0][..], &[61, 1, 1, 61], &[61, 200, 1], &[0], &[]]
        {
            let before = frame(options);
            let mut it = before.clone();
            finish(&mut it);
            assert_eq!(it, before);
        }
        finish(&mut [0; 40]);
        // Nor is it anybody else's message.
        let mut other = frame(&[61, 1, 1, 61, 1, 2]);
        other[UDP_AT + 1] = 69;
        let before = other.clone();
        finish(&mut other);
        assert_eq!(other, before);
    }
}
