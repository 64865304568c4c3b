//! smoltcp's interface with its link: takes packets in, lets sockets send, knows our addresses.
//!
//! Every socket of ours is a [`SocketSet`] of one (a listener: of its backlog). smoltcp asks all sockets of a set about each
//! packet and each turn to send; with sets of one the cost of a packet does not grow with the number of sockets.

use alloc::{boxed::Box, vec::Vec};

use smoltcp::{
    iface::{Config, Interface, PollResult, SocketSet},
    time::Instant,
    wire::{EthernetAddress, HardwareAddress, IpCidr, Ipv4Address, Ipv4Cidr, Ipv6Address, Ipv6Cidr},
};

use crate::{
    demux::{Demux, NO_SLOT, Slot},
    fragments::Fragments,
    frame::{Class, classify},
    link::{Link, RxFrame},
    phy::{Phy, Traffic},
};

/// The first of the ports that the server chooses from (RFC 6335, section 6).
const EPHEMERAL_MIN: u16 = 49152;

/// A segment with less payload is the last of its run, most likely. Whether it is, smoltcp is asked; a wrong guess costs a question.
const SHORT: u64 = 512;

/// Where a received frame has to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// To the socket in this slot.
    Socket(Slot),
    /// A whole datagram: to the socket in this slot, or to the stack itself where there's none.
    Datagram(Slot),
    /// To the stack itself.
    Stack,
    /// To the stack itself, and then sockets that wait for a link address may go on.
    Neighbour,
    /// Nowhere: its checksum is wrong.
    Corrupt,
}

/// The interface, the link under it and the table above it.
pub struct Stack<L: Link> {
    /// Boxed: it holds the buffers of a fragmented datagram, and would otherwise move across the stack.
    interface: Box<Interface>,
    /// The path.
    pub link: L,
    /// Which socket a packet belongs to.
    pub demux: Demux,
    /// No sockets at all, for what concerns none.
    nobody: SocketSet<'static>,
    /// The time of this pass.
    pub now: Instant,
    /// What has gone by since the start.
    pub traffic: Traffic,
    /// Frames by which neighbours may have been learned, or forgotten for others.
    pub neighbours_heard: u32,
    fragments: Fragments,
    next_port: u16,
    /// How often our addresses have changed.
    changes: u32,
}

impl<L: Link> Stack<L> {
    /// A stack without addresses but the link-local one of IPv6 (RFC 4291, appendix A).
    pub fn new(mut link: L, seed: u64, now: Instant) -> Self {
        let mac = link.info().mac;
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(mac)));
        config.random_seed = seed;
        let mut traffic = Traffic::default();
        let mut fragments = Fragments::default();
        let mut phy = Phy { link: &mut link, frame: None, traffic: &mut traffic, fragments: &mut fragments };
        let mut interface = Box::new(Interface::new(config, &mut phy, now));
        interface.update_ip_addrs(|addresses| {
            let _ = addresses.push(IpCidr::Ipv6(Ipv6Cidr::new(link_local(mac), 64))); // room for 4
        });
        let spread = u16::MAX - EPHEMERAL_MIN;
        let next_port = EPHEMERAL_MIN + (seed >> 32) as u16 % spread;
        let nobody = SocketSet::new(Vec::new());
        Self {
            interface,
            link,
            demux: Demux::new(),
            nobody,
            now,
            traffic,
            neighbours_heard: 0,
            fragments,
            next_port,
            changes: 0,
        }
    }

    /// smoltcp's interface, for what sockets need of it.
    pub fn interface(&mut self) -> &mut Interface {
        &mut self.interface
    }

    /// Sets the IPv4 address and the gateway, in place of those before.
    pub fn set_ipv4(&mut self, address: Option<Ipv4Cidr>, gateway: Option<Ipv4Address>) {
        self.changes = self.changes.wrapping_add(1);
        self.interface.update_ip_addrs(|addresses| {
            addresses.retain(|old| !matches!(old, IpCidr::Ipv4(_)));
            if let Some(address) = address {
                // The first of all: smoltcp searches them several times for each packet.
                let _ = addresses.insert(0, IpCidr::Ipv4(address)); // room for 4
            }
        });
        let routes = self.interface.routes_mut();
        routes.remove_default_ipv4_route();
        if let Some(gateway) = gateway {
            let _ = routes.add_default_ipv4_route(gateway); // room for 4
        }
    }

    /// Adds an IPv6 address.
    pub fn add_ipv6(&mut self, address: Ipv6Cidr) {
        self.changes = self.changes.wrapping_add(1);
        self.interface.update_ip_addrs(|addresses| {
            let _ = addresses.push(IpCidr::Ipv6(address)); // room for 4
        });
    }

    /// Gives an address up.
    pub fn remove_address(&mut self, address: IpCidr) {
        self.changes = self.changes.wrapping_add(1);
        self.interface.update_ip_addrs(|addresses| addresses.retain(|old| *old != address));
    }

    /// All our addresses.
    #[must_use]
    pub fn addresses(&self) -> &[IpCidr] {
        self.interface.ip_addrs()
    }

    /// How often our addresses have changed: a look at it tells whether to look at them.
    #[must_use]
    pub const fn address_changes(&self) -> u32 {
        self.changes
    }

    /// The address to show: IPv4 if there is one.
    #[must_use]
    pub fn address(&self) -> Option<IpCidr> {
        let addresses = self.interface.ip_addrs();
        addresses.iter().find(|a| matches!(a, IpCidr::Ipv4(_))).or(addresses.first()).copied()
    }

    /// A port that `taken` does not know.
    pub fn ephemeral_port(&mut self, taken: impl Fn(u16) -> bool) -> Option<u16> {
        for _ in EPHEMERAL_MIN..=u16::MAX {
            let port = self.next_port;
            self.next_port = if port == u16::MAX { EPHEMERAL_MIN } else { port + 1 };
            if !taken(port) {
                return Some(port);
            }
        }
        None
    }

    /// Whose a frame is.
    #[inline]
    pub fn target(&mut self, frame: &L::Frame) -> Target {
        let slot = match classify(frame.bytes(), frame.checksum_good()) {
            Class::Tcp(key, payload) => {
                self.traffic.count_payload(payload);
                self.demux.segment(&key)
            }
            Class::Datagram(key) => return Target::Datagram(self.demux.find(&key)),
            Class::FirstFragment(fragment, key) => {
                let slot = self.demux.find(&key);
                self.demux.remember_fragment(fragment, slot);
                slot
            }
            Class::Fragment(fragment) => self.demux.fragment(&fragment),
            Class::Neighbour => return Target::Neighbour,
            Class::Other => NO_SLOT,
            Class::Corrupt => return Target::Corrupt,
        };
        if slot == NO_SLOT { Target::Stack } else { Target::Socket(slot) }
    }

    /// Hands a frame to one set of sockets.
    #[inline]
    pub fn ingress(&mut self, frame: &[u8], set: &mut SocketSet<'_>) {
        let mut phy = Phy {
            link: &mut self.link,
            frame: Some(frame),
            traffic: &mut self.traffic,
            fragments: &mut self.fragments,
        };
        self.interface.poll_ingress_single(self.now, &mut phy, set);
    }

    /// Hands a frame to the stack, for no socket; an answer may be a fragmented one.
    pub fn ingress_alone(&mut self, frame: &[u8]) {
        let mut phy = Phy {
            link: &mut self.link,
            frame: Some(frame),
            traffic: &mut self.traffic,
            fragments: &mut self.fragments,
        };
        self.interface.poll_ingress_single(self.now, &mut phy, &mut self.nobody);
        self.send_fragments();
    }

    /// Lets a set send all that it can; whether it sent something.
    #[inline]
    pub fn egress(&mut self, set: &mut SocketSet<'_>) -> bool {
        let before = self.traffic.sent;
        while self.send_run(set) {}
        self.traffic.sent != before
    }

    /// Lets a set send all that it can, if there is anything to do for it now; whether it sent something, and when it wants its next turn,
    /// as [`deadline`](Self::deadline) says.
    ///
    /// smoltcp's answer to "when?" costs less than a turn in vain, and after the last segment it is needed anyway.
    #[inline]
    pub fn turn(&mut self, set: &mut SocketSet<'_>) -> (bool, i64) {
        let before = self.traffic.sent;
        let deadline = loop {
            let deadline = match self.interface.poll_at(self.now, set) {
                Some(at) if at <= self.now => None,
                at => Some(self.not_too_soon(at)),
            };
            if let Some(deadline) = deadline {
                break deadline;
            }
            if !self.send_run(set) {
                break self.deadline(set);
            }
        };
        (self.traffic.sent != before, deadline)
    }

    /// Lets a set send segment after segment, until one is so short that it was the last; false: until there was nothing to send.
    #[inline(always)]
    fn send_run(&mut self, set: &mut SocketSet<'_>) -> bool {
        loop {
            let copied = self.traffic.copied_bytes;
            let mut phy = Phy {
                link: &mut self.link,
                frame: None,
                traffic: &mut self.traffic,
                fragments: &mut self.fragments,
            };
            if self.interface.poll_egress(self.now, &mut phy, set) == PollResult::None {
                return false;
            }
            if self.traffic.copied_bytes - copied < SHORT {
                return true;
            }
        }
    }

    /// Sends what is left of a fragmented datagram: smoltcp keeps one at a time, and the next one would overwrite it.
    pub fn send_fragments(&mut self) {
        // With no sockets the only reason to be polled at once is the fragmenter. The bound is a link that takes no more.
        while self.link.ready() && self.interface.poll_at(self.now, &self.nobody).is_some() {
            let mut phy = Phy {
                link: &mut self.link,
                frame: None,
                traffic: &mut self.traffic,
                fragments: &mut self.fragments,
            };
            self.interface.poll_egress(self.now, &mut phy, &mut self.nobody);
        }
    }

    /// When a set wants its next turn to send, in microseconds; `i64::MAX` for never. One that cannot send now (no buffers, say) tries
    /// again a millisecond later.
    #[inline]
    pub fn deadline(&mut self, set: &SocketSet<'_>) -> i64 {
        let at = self.interface.poll_at(self.now, set);
        self.not_too_soon(at)
    }

    #[inline(always)]
    fn not_too_soon(&self, at: Option<Instant>) -> i64 {
        at.map_or(i64::MAX, |at| at.total_micros().max(self.now.total_micros() + 1000))
    }
}

/// The link-local address of a station, from its EUI-64 (RFC 4291, appendix A).
fn link_local(mac: [u8; 6]) -> Ipv6Address {
    let [a, b, c, d, e, f] = mac;
    Ipv6Address::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}
