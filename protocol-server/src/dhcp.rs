//! The address by DHCP (RFC 2131), when the command line says `ip=dhcp`.
//!
//! A server that takes another's place goes on with its lease ([`Dhcp::go_on`]): it uses the address at once, and asks for it anew meanwhile.
//! The DHCP server knows the station by its address, so it gives it the same lease again (RFC 2131, section 2.1).

use abi::supervise::Lease;
use alloc::{boxed::Box, vec, vec::Vec};
use smoltcp::{
    iface::{SocketHandle, SocketSet},
    socket::dhcpv4,
    wire::{DhcpRepr, Ipv4Address, Ipv4Cidr},
};

use crate::{
    demux::{NO_SLOT, Slot},
    frame::{Key, UDP},
    link::Link,
    stack::Stack,
};

/// The client's port.
const CLIENT_PORT: u16 = 68;
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

fn apply<L: Link>(stack: &mut Stack<L>, lease: Option<&Lease>) {
    let address =
        lease.map(|lease| Ipv4Cidr::new(Ipv4Address::from(lease.address), lease.prefix.min(32) as u8));
    stack.set_ipv4(address, lease.and_then(|lease| lease.router).map(Ipv4Address::from));
}
