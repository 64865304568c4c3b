//! Which socket a packet belongs to: one table for all of them, so that a packet costs the same however many there are.
//!
//! smoltcp asks each socket of a set in turn. Here each socket is a set of its own, and this table says which to hand
//! to smoltcp. Connections are entered with all of their key; listeners, UDP and echo sockets by wildcard.

use alloc::{boxed::Box, vec};

use crate::frame::{FragmentKey, Key};

/// The number of a slot in the table of sockets.
pub type Slot = u16;

/// Places of the hash table: a power of two, more than twice the sockets.
const PLACES: usize = 512;
/// Entries at most, so that a search ends soon.
const ENTRIES_MAX: usize = PLACES / 2;
/// Datagrams whose fragments are remembered; smoltcp reassembles as many at a time.
const FRAGMENTED: usize = 4;

/// The table.
#[derive(Debug)]
pub struct Demux {
    places: Box<[Option<(Key, Slot)>]>,
    entries: usize,
    /// The last answer: packets come in runs of one connection.
    last: (Key, Slot),
    fragments: [(FragmentKey, Slot); FRAGMENTED],
    next_fragment: usize,
}

/// No socket.
pub const NO_SLOT: Slot = Slot::MAX;

impl Default for Demux {
    fn default() -> Self {
        Self::new()
    }
}

#[inline]
fn place(key: &Key) -> usize {
    let [a, b, c, d] = key.addresses;
    let mixed =
        a.wrapping_add(b.rotate_left(17)).wrapping_add(c.rotate_left(31)).wrapping_add(d.rotate_left(47));
    let mixed =
        (mixed ^ u64::from(key.ports) ^ u64::from(key.protocol) << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 55) as usize // the upper 9 bits: PLACES
}

const _: () = assert!(PLACES == 1 << (64 - 55));

impl Demux {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self {
            places: vec![None; PLACES].into_boxed_slice(),
            entries: 0,
            last: (Key::default(), NO_SLOT),
            fragments: [(FragmentKey::default(), NO_SLOT); FRAGMENTED],
            next_fragment: 0,
        }
    }

    /// The socket that a TCP segment belongs to: the connection, else the listener of its port.
    #[inline]
    pub fn segment(&mut self, key: &Key) -> Slot {
        if self.last.0 == *key {
            return self.last.1;
        }
        let slot = self.find(key);
        if slot == NO_SLOT {
            return self.find(&key.any_remote());
        }
        self.last = (*key, slot);
        slot
    }

    /// The socket entered under exactly this key.
    #[must_use]
    pub fn find(&self, key: &Key) -> Slot {
        let mut at = place(key);
        while let Some(Some((found, slot))) = self.places.get(at) {
            if found == key {
                return *slot;
            }
            at = (at + 1) % PLACES;
        }
        NO_SLOT
    }

    /// Enters a socket; false if the table is full or the key is taken.
    #[must_use]
    pub fn insert(&mut self, key: Key, slot: Slot) -> bool {
        if self.entries == ENTRIES_MAX || self.find(&key) != NO_SLOT {
            return false;
        }
        let mut at = place(&key);
        while self.places[at].is_some() {
            at = (at + 1) % PLACES;
        }
        self.places[at] = Some((key, slot));
        self.entries += 1;
        true
    }

    /// Removes all that leads to a slot. The rest is entered anew, since a gap would end searches early.
    pub fn remove(&mut self, slot: Slot) {
        self.last = (Key::default(), NO_SLOT);
        for fragment in &mut self.fragments {
            if fragment.1 == slot {
                fragment.1 = NO_SLOT;
            }
        }
        let old = core::mem::replace(&mut self.places, vec![None; PLACES].into_boxed_slice());
        self.entries = 0;
        for (key, owner) in old.iter().flatten().filter(|(_, owner)| *owner != slot) {
            let entered = self.insert(*key, *owner);
            debug_assert!(entered, "it had room before");
        }
    }

    /// Remembers whose the later fragments of a datagram are.
    pub fn remember_fragment(&mut self, key: FragmentKey, slot: Slot) {
        // A first fragment that comes again, perhaps for another socket by now, takes the place of the one before.
        if let Some(known) = self.fragments.iter_mut().find(|known| known.0 == key) {
            known.1 = slot;
            return;
        }
        self.fragments[self.next_fragment] = (key, slot);
        self.next_fragment = (self.next_fragment + 1) % FRAGMENTED;
    }

    /// Whose a later fragment is.
    #[must_use]
    pub fn fragment(&self, key: &FragmentKey) -> Slot {
        self.fragments.iter().find(|(known, _)| known == key).map_or(NO_SLOT, |(_, slot)| *slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{TCP, UDP};

    fn connection(n: u64) -> Key {
        Key { addresses: [n % 7, 0, 0, 0], ports: 80 << 16 | n as u32, protocol: TCP }
    }

    #[test]
    fn connections_come_before_their_listener_and_removal_leaves_the_rest() {
        let mut demux = Demux::new();
        assert!(demux.insert(Key::wildcard(TCP, 80), 0));
        for n in 1..200 {
            assert!(demux.insert(connection(n), n as Slot));
        }
        assert!(!demux.insert(connection(5), 7), "taken");
        for n in (1..200).step_by(3) {
            demux.remove(n as Slot);
        }
        for n in 1..200 {
            let expected = if n % 3 == 1 { 0 } else { n as Slot };
            assert_eq!(demux.segment(&connection(n)), expected, "{n}");
            assert_eq!(demux.segment(&connection(n)), expected, "{n} again, from the cache");
        }
        assert_eq!(demux.find(&Key::wildcard(UDP, 80)), NO_SLOT);
    }

    #[test]
    fn a_full_table_says_so() {
        let mut demux = Demux::new();
        let entered = (0..600).filter(|&n| demux.insert(connection(n), 1)).count();
        assert_eq!(entered, ENTRIES_MAX);
        assert_eq!(demux.find(&connection(599)), NO_SLOT);
    }

    #[test]
    fn fragments_follow_their_first() {
        let mut demux = Demux::new();
        let key = |n| FragmentKey { addresses: 1, ident: n };
        for n in 0..5 {
            demux.remember_fragment(key(n), n as Slot);
        }
        assert_eq!(demux.fragment(&key(0)), NO_SLOT);
        assert_eq!(demux.fragment(&key(4)), 4);
        demux.remove(4);
        assert_eq!(demux.fragment(&key(4)), NO_SLOT);
    }

    #[test]
    fn a_first_fragment_that_comes_again_is_whose_it_is_now() {
        let mut table = Demux::new();
        let datagram = FragmentKey { addresses: 1, ident: 7 };
        table.remember_fragment(datagram, 3);
        table.remove(3);
        table.remember_fragment(datagram, 5);
        assert_eq!(table.fragment(&datagram), 5);
        // And takes no second place: three others still fit beside it.
        for ident in 8..11 {
            table.remember_fragment(FragmentKey { addresses: 1, ident }, 6);
        }
        assert_eq!(table.fragment(&datagram), 5);
    }
}
