//! The address by DHCP (RFC 2131), when the command line says `ip=dhcp`.

use alloc::vec::Vec;
use smoltcp::{
    iface::{SocketHandle, SocketSet},
    socket::dhcpv4,
};

use crate::{
    demux::{NO_SLOT, Slot},
    frame::{Key, UDP},
    link::Link,
    stack::Stack,
};

/// The client's port.
const CLIENT_PORT: u16 = 68;
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
}

impl Dhcp {
    /// A client for `stack`, which has no address yet.
    pub fn new<L: Link>(stack: &mut Stack<L>) -> Self {
        let mut set = SocketSet::new(Vec::with_capacity(1));
        let handle = set.add(dhcpv4::Socket::new());
        let entered = stack.demux.insert(Key::wildcard(UDP, CLIENT_PORT), DHCP_SLOT);
        debug_assert!(entered, "the client is made before any socket");
        Self { set, handle, deadline: 0, dirty: true }
    }

    /// Hands it a packet.
    pub fn ingress<L: Link>(&mut self, stack: &mut Stack<L>, frame: &[u8]) {
        self.dirty = true;
        stack.ingress(frame, &mut self.set);
    }

    /// Lets it send; true when the address has changed.
    pub fn serve<L: Link>(&mut self, stack: &mut Stack<L>) -> bool {
        self.dirty = false;
        let changed = match self.set.get_mut::<dhcpv4::Socket>(self.handle).poll() {
            None => false,
            Some(dhcpv4::Event::Deconfigured) => {
                stack.set_ipv4(None, None);
                true
            }
            Some(dhcpv4::Event::Configured(config)) => {
                let (address, router) = (config.address, config.router);
                stack.set_ipv4(Some(address), router);
                true
            }
        };
        stack.egress(&mut self.set);
        self.deadline = stack.deadline(&self.set);
        changed
    }
}
