//! Packet filters, in the language of J. Mogul, R. Rashid and M. Accetta, "The Packet Filter: An Efficient Mechanism for User-level Network
//! Code" (1987): programs of 16-bit words for a stack machine, that a frame runs through and that says whether it is wanted.
//!
//! A word has two parts ([`instruction`]). The low ten bits are an action of the stack ([`action`]), which is done first: it pushes a
//! constant, the word behind it in the program, or a word of the frame. The high six bits are an [`Operator`], which then takes the two
//! top words and pushes a result. The numbers are those of CMU's `enet.h` and, where that has none, of Mach 3.0's
//! `device/net_status.h`.
//!
//! - All values are 16 bits wide and without sign. The words of a frame are numbered from its start, the Ethernet header included, and
//!   are numbers in network byte order, so that literals are written as RFCs write them.
//! - T1 is the top of the stack and T2 the word under it: `Lt` is T2 < T1. A comparison's result is 1 or 0.
//! - The frame is wanted if the top of the stack is not 0 at the end, or if a short-circuit operator says so before.
//! - A word that lies beyond the frame's end, if only by one byte, ends the program: the frame is not wanted.
//! - The short-circuit operators push the result of their comparison where they do not end the program, as in the paper. (Mach's code
//!   pushes nothing there.)
//!
//! There are no jumps, so that every program ends and the depth of the stack at each word is known before it runs. [`Builder`] writes
//! programs, [`programs`] are what servers need, and the kernel's side of it all is `netdev_driver::filter`.

use crate::codes::codes;

/// The longest program, in words.
pub const WORDS_MAX: usize = 128;
/// The deepest stack, in words.
pub const STACK_MAX: usize = 32;
/// The highest priority of a filter. Frames are shown to filters in falling order of their priorities, and among equals to the one first
/// that was there first.
pub const PRIORITY_MAX: u64 = 255;
/// A bit of the priority argument of [`crate::syscall::Syscall::DeviceSetFilter`]: a frame that the filter wants is shown to the
/// filters behind it as well. Without it the frame goes to this filter's port alone, if the task that sets it is above the applications;
/// theirs are always as if with it.
pub const COPY_ALL: u64 = 0x100;
/// Where the operator begins.
pub const OPERATOR_SHIFT: u32 = 10;
/// The bits of the action.
pub const ACTION_MASK: u16 = (1 << OPERATOR_SHIFT) - 1;

/// What a word does to the stack before its operator works.
pub mod action {
    /// Nothing. With an operator: it works on the two words that are there.
    pub const NO_PUSH: u16 = 0;
    /// Pushes the program's next word, which is no instruction then.
    pub const PUSH_LITERAL: u16 = 1;
    /// Pushes 0.
    pub const PUSH_ZERO: u16 = 2;
    /// Pushes 1.
    pub const PUSH_ONE: u16 = 3;
    /// Pushes 0xffff.
    pub const PUSH_FFFF: u16 = 4;
    /// Pushes 0x00ff.
    pub const PUSH_00FF: u16 = 5;
    /// Pushes 0xff00.
    pub const PUSH_FF00: u16 = 6;
    /// Takes the top and pushes the word of the frame that has this number (Mach 3.0): for what stands behind a header of any length.
    pub const PUSH_INDIRECT: u16 = 14;
    /// Pushes word 0 of the frame; with a number added, that word.
    pub const PUSH_WORD: u16 = 16;
}

codes! {
    /// What a word does with T1 and T2, the two words on top of the stack: takes them and pushes one.
    pub enum Operator {
        /// Does nothing, and takes nothing.
        Nop = 0,
        /// T2 = T1.
        Eq = 1,
        /// T2 < T1.
        Lt = 2,
        /// T2 <= T1.
        Le = 3,
        /// T2 > T1.
        Gt = 4,
        /// T2 >= T1.
        Ge = 5,
        /// The bits that are in both.
        And = 6,
        /// The bits that are in one of them.
        Or = 7,
        /// The bits in which they differ.
        Xor = 8,
        /// Short-circuit: if T2 = T1 the frame is wanted; else pushes 0.
        Cor = 9,
        /// Short-circuit: if T2 is not T1 the frame is not wanted; else pushes 1.
        Cand = 10,
        /// Short-circuit: if T2 = T1 the frame is not wanted; else pushes 0.
        Cnor = 11,
        /// Short-circuit: if T2 is not T1 the frame is wanted; else pushes 1.
        Cnand = 12,
        /// T2 is not T1.
        Neq = 13,
        /// T2 shifted to the left by T1 bits (Mach 3.0); 0 if those are 16 or more.
        Lsh = 14,
        /// T2 shifted to the right by T1 bits (Mach 3.0); 0 if those are 16 or more.
        Rsh = 15,
        /// T2 + T1, modulo 65536 (Mach 3.0).
        Add = 16,
        /// T2 - T1, modulo 65536 (Mach 3.0).
        Sub = 17,
    }
}

/// A word of a program: an action, then an operator.
#[must_use]
pub const fn instruction(action: u16, operator: Operator) -> u16 {
    action | (operator.raw() as u16) << OPERATOR_SHIFT
}

/// Numbers of a frame's words, and values in them.
mod place {
    pub const TYPE: u16 = 6;
    /// IPv4: version, header length, type of service.
    pub const IPV4_VERSION: u16 = 7;
    pub const IPV4_FRAGMENT: u16 = 10;
    pub const IPV4_PROTOCOL: u16 = 11;
    pub const IPV4_SOURCE: u16 = 13;
    pub const IPV4_DESTINATION: u16 = 15;
    pub const IPV6_DESTINATION: u16 = 19;
    pub const ARP_SENDER: u16 = 14;
    pub const ARP_TARGET: u16 = 19;

    pub const TYPE_IPV4: u16 = 0x0800;
    pub const TYPE_ARP: u16 = 0x0806;
    pub const TYPE_IPV6: u16 = 0x86dd;
}

/// A program that is being written, word by word: works in constants too.
///
/// Each of the conditions ([`require`](Self::require), [`arp`](Self::arp), [`host`](Self::host), ...) ends the program if it does not hold, so
/// that several are joined by "and"; a program of conditions alone wants what passes all of them.
#[derive(Clone, Copy, Debug)]
pub struct Builder {
    words: [u16; WORDS_MAX],
    length: usize,
    /// Words found no room.
    overflow: bool,
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// An empty program, which is none yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { words: [0; WORDS_MAX], length: 0, overflow: false }
    }

    /// The program; `None` if it would be longer than [`WORDS_MAX`].
    #[must_use]
    pub const fn words(&self) -> Option<&[u16]> {
        if self.overflow { None } else { Some(self.words.split_at(self.length).0) }
    }

    /// Appends a word: an action that takes no literal, and an operator.
    #[must_use]
    pub const fn op(mut self, action: u16, operator: Operator) -> Self {
        self.put(instruction(action, operator));
        self
    }

    /// Pushes word `n` of the frame.
    #[must_use]
    pub const fn push_word(self, n: u16) -> Self {
        self.op(action::PUSH_WORD + n, Operator::Nop)
    }

    /// Appends a word that pushes a literal, and the literal.
    #[must_use]
    pub const fn literal(mut self, value: u16, operator: Operator) -> Self {
        self.put(instruction(action::PUSH_LITERAL, operator));
        self.put(value);
        self
    }

    const fn put(&mut self, word: u16) {
        if self.length < WORDS_MAX {
            self.words[self.length] = word;
            self.length += 1;
        } else {
            self.overflow = true;
        }
    }

    /// Condition: word `n` of the frame is this.
    #[must_use]
    pub const fn require(self, n: u16, value: u16) -> Self {
        self.push_word(n).literal(value, Operator::Cand)
    }

    /// Condition: it is ARP.
    #[must_use]
    pub const fn arp(self) -> Self {
        self.require(place::TYPE, place::TYPE_ARP)
    }

    /// Condition: it is IPv4.
    #[must_use]
    pub const fn ipv4(self) -> Self {
        self.require(place::TYPE, place::TYPE_IPV4)
    }

    /// Condition: it is IPv6.
    #[must_use]
    pub const fn ipv6(self) -> Self {
        self.require(place::TYPE, place::TYPE_IPV6)
    }

    /// Condition: it is IPv4 that carries this protocol (1 ICMP, 6 TCP, 17 UDP).
    #[must_use]
    pub const fn ipv4_protocol(self, protocol: u8) -> Self {
        self.ipv4()
            .push_word(place::IPV4_PROTOCOL)
            .op(action::PUSH_00FF, Operator::And)
            .literal(protocol as u16, Operator::Cand)
    }

    /// Condition: IPv4 and a transport with ports (6 TCP, 17 UDP), and one of the two ports is this. The header may have options. Fragments
    /// behind the first have no ports and are not wanted.
    #[must_use]
    pub const fn port(self, protocol: u8, port: u16) -> Self {
        self.ipv4_protocol(protocol)
            .no_later_fragment()
            .transport_word(0)
            .literal(port, Operator::Eq)
            .transport_word(1)
            .literal(port, Operator::Eq)
            .op(action::NO_PUSH, Operator::Or)
            .op(action::PUSH_ONE, Operator::Cand)
    }

    /// Condition: the source or destination of IPv4, or the sender's or target's address of ARP, is this.
    #[must_use]
    pub const fn host(self, address: [u8; 4]) -> Self {
        self.push_word(place::TYPE)
            .literal(place::TYPE_IPV4, Operator::Eq)
            .push_word(place::TYPE)
            .literal(place::TYPE_ARP, Operator::Eq)
            .op(action::NO_PUSH, Operator::Or)
            .op(action::PUSH_ONE, Operator::Cand)
            .address_is(place::IPV4_SOURCE, place::ARP_SENDER, address)
            .address_is(place::IPV4_DESTINATION, place::ARP_TARGET, address)
            .op(action::NO_PUSH, Operator::Or)
            .op(action::PUSH_ONE, Operator::Cand)
    }

    /// The last condition: it is not what one TCP connection receives, the one from this source with these ports.
    ///
    /// Nothing may come behind it, since it says of everything else at once that it is wanted.
    #[must_use]
    pub const fn unless_tcp(self, source: [u8; 4], source_port: u16, destination_port: u16) -> Self {
        let [high, low] = halves(source);
        self.push_word(place::TYPE)
            .literal(place::TYPE_IPV4, Operator::Cnand)
            .push_word(place::IPV4_PROTOCOL)
            .op(action::PUSH_00FF, Operator::And)
            .literal(6, Operator::Cnand)
            .push_word(place::IPV4_SOURCE)
            .literal(high, Operator::Cnand)
            .push_word(place::IPV4_SOURCE + 1)
            .literal(low, Operator::Cnand)
            .push_word(place::IPV4_FRAGMENT)
            .literal(0x1fff, Operator::And)
            .op(action::PUSH_ZERO, Operator::Cnand)
            .transport_word(0)
            .literal(source_port, Operator::Cnand)
            .transport_word(1)
            .literal(destination_port, Operator::Cnand)
            .op(action::PUSH_ZERO, Operator::Nop)
    }

    /// Condition: it is no fragment but the first.
    const fn no_later_fragment(self) -> Self {
        self.push_word(place::IPV4_FRAGMENT)
            .literal(0x1fff, Operator::And)
            .op(action::PUSH_ZERO, Operator::Cand)
    }

    /// Pushes a word of what the IPv4 header carries: the header's length is in units of four bytes, in the low half of its first byte.
    const fn transport_word(self, n: u16) -> Self {
        const ETHERNET_WORDS: u16 = 7;
        self.push_word(place::IPV4_VERSION)
            .literal(0x0f00, Operator::And)
            .literal(7, Operator::Rsh)
            .literal(ETHERNET_WORDS + n, Operator::Add)
            .op(action::PUSH_INDIRECT, Operator::Nop)
    }

    /// Pushes whether an address is this, that stands in another place in ARP than in IPv4. Only one of the two is looked at: the other may
    /// lie beyond the frame's end.
    const fn address_is(self, ipv4: u16, arp: u16, address: [u8; 4]) -> Self {
        let [high, low] = halves(address);
        self.word_of(ipv4, arp)
            .literal(high, Operator::Eq)
            .word_of(ipv4 + 1, arp + 1)
            .literal(low, Operator::Eq)
            .op(action::NO_PUSH, Operator::And)
    }

    /// Pushes word `ipv4`, or word `arp` of ARP: the number is the one, plus the difference where a comparison's 0 or 1 makes a mask.
    const fn word_of(self, ipv4: u16, arp: u16) -> Self {
        self.op(action::PUSH_ZERO, Operator::Nop)
            .push_word(place::TYPE)
            .literal(place::TYPE_ARP, Operator::Eq)
            .op(action::NO_PUSH, Operator::Sub)
            .literal(arp - ipv4, Operator::And)
            .literal(ipv4, Operator::Add)
            .op(action::PUSH_INDIRECT, Operator::Nop)
    }
}

/// The two words of an IPv4 address.
const fn halves(address: [u8; 4]) -> [u16; 2] {
    let [a, b, c, d] = address;
    [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]
}

/// Programs that servers set.
pub mod programs {
    use super::{Builder, Operator, action, halves, place};

    /// Every frame.
    #[must_use]
    pub const fn all() -> Builder {
        Builder::new().op(action::PUSH_ONE, Operator::Nop)
    }

    /// ARP that asks for, or answers to, an address: what its owner needs.
    #[must_use]
    pub const fn arp(target: [u8; 4]) -> Builder {
        let [high, low] = halves(target);
        // The target's low half differs between the hosts of a network, so it comes first.
        Builder::new().require(place::ARP_TARGET + 1, low).arp().require(place::ARP_TARGET, high)
    }

    /// All IPv4: for a server that has no address yet (RFC 2131).
    #[must_use]
    pub const fn ipv4() -> Builder {
        Builder::new().ipv4()
    }

    /// IPv4 to an address, to 255.255.255.255, or to a group (RFC 1112).
    #[must_use]
    pub const fn ipv4_to(destination: [u8; 4]) -> Builder {
        let [high, low] = halves(destination);
        let n = place::IPV4_DESTINATION;
        // What is above 224.0.0.0 are the groups, and all hosts. A pair of comparisons says yes for the address itself; the rest is rare.
        Builder::new()
            .ipv4()
            .push_word(n)
            .literal(high, Operator::Xor)
            .push_word(n + 1)
            .literal(low, Operator::Xor)
            .op(action::NO_PUSH, Operator::Or)
            .op(action::PUSH_ZERO, Operator::Cor)
            .push_word(n)
            .literal(0xe000, Operator::Ge)
    }

    /// TCP over IPv4, with this source or destination port.
    #[must_use]
    pub const fn ipv4_tcp_port(port: u16) -> Builder {
        Builder::new().port(6, port)
    }

    /// IPv6 to an address or to a group (RFC 4291).
    #[must_use]
    pub const fn ipv6_to(destination: [u8; 16]) -> Builder {
        let n = place::IPV6_DESTINATION;
        let mut it = Builder::new()
            .ipv6()
            .push_word(n)
            .op(action::PUSH_FF00, Operator::And)
            .op(action::PUSH_FF00, Operator::Cor);
        let mut i = 8;
        while i > 0 {
            i -= 1;
            it = it.require(n + i as u16, u16::from_be_bytes([destination[2 * i], destination[2 * i + 1]]));
        }
        it
    }
}
