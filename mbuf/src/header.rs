//! The mbuf: a header of twelve words and 80 bytes of data of its own.
//!
//! The header's words are atomics with relaxed accesses: an mbuf belongs to one side at a time, and it is the
//! queue's or the pool's mutex that orders what one side wrote before what the other reads. A peer that
//! writes an mbuf which is not its own changes values, never the meaning of the program. One word orders by itself: a packet
//! that the server keeps goes back to it by its [flags](Mbuf::mark_sent), without a queue or a pool.

use shmqueue::{
    Item,
    sync::{
        AtomicU32,
        Ordering::{Acquire, Relaxed, Release},
    },
};

/// The bytes of one mbuf.
pub const MBUF_BYTES: u32 = 128;
/// The bytes of data inside an mbuf.
pub const INTERNAL_BYTES: u32 = 80;
/// Where in an mbuf its own data starts.
pub const INTERNAL_AT: u32 = MBUF_BYTES - INTERNAL_BYTES;

/// What an mbuf is, and what is known of its checksums.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Flags(pub u32);

impl Flags {
    /// None.
    pub const NONE: Self = Self(0);
    /// The data is in a cluster, or in external storage (BSD's `M_EXT`).
    pub const EXTERNAL: Self = Self(1);
    /// The first mbuf of a packet (BSD's `M_PKTHDR`).
    pub const PACKET: Self = Self(2);
    /// Receive: the device has verified the IPv4 header checksum.
    pub const IP_CHECKSUM_GOOD: Self = Self(0x10);
    /// Receive: the device has verified the TCP or UDP checksum.
    pub const DATA_CHECKSUM_GOOD: Self = Self(0x20);
    /// Transmit: the device is to fill in the IPv4 header checksum.
    pub const IP_CHECKSUM_WANTED: Self = Self(0x40);
    /// Transmit: the device is to fill in the TCP or UDP checksum, from `checksum_start` to the end, at
    /// `checksum_offset` after the start.
    pub const DATA_CHECKSUM_WANTED: Self = Self(0x80);
    /// Transmit: the server keeps the packet, to send with again. The driver does not free it when it has left, but
    /// [marks](Mbuf::mark_sent) it.
    pub const KEEP: Self = Self(1 << 31);
    /// The driver's mark: the packet has left, and is the server's.
    pub const SENT: Self = Self(0x100);

    /// Both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` are set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// An mbuf in shared memory.
#[repr(C, align(128))]
pub struct Mbuf {
    /// The next mbuf of this packet; on a pool's free list, the next free mbuf.
    pub(crate) next: AtomicU32,
    /// The next packet of a queue; the link of `shmqueue`.
    pub(crate) next_packet: AtomicU32,
    data: AtomicU32,
    len: AtomicU32,
    flags: AtomicU32,
    packet_len: AtomicU32,
    cluster: AtomicU32,
    /// Start in the low half, offset in the high half.
    checksum: AtomicU32,
    /// Room for what comes later: segment size, interface.
    spare: [AtomicU32; 4],
    #[cfg(not(loom))]
    internal: core::cell::UnsafeCell<[u8; INTERNAL_BYTES as usize]>,
}

#[cfg(not(loom))]
const _: () = assert!(
    size_of::<Mbuf>() == MBUF_BYTES as usize && core::mem::offset_of!(Mbuf, internal) == INTERNAL_AT as usize
);

impl Mbuf {
    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        let word = || AtomicU32::new(0);
        Self {
            next: word(),
            next_packet: word(),
            data: word(),
            len: word(),
            flags: word(),
            packet_len: word(),
            cluster: word(),
            checksum: word(),
            spare: [word(), word(), word(), word()],
        }
    }

    /// The next mbuf of this packet.
    #[inline(always)]
    pub fn next(&self) -> Option<Item> {
        Item::new(self.next.load(Relaxed))
    }

    /// Sets the next mbuf of this packet.
    #[inline(always)]
    pub fn set_next(&self, next: Option<Item>) {
        self.next.store(Item::or_zero(next), Relaxed);
    }

    /// The offset in shared memory of the first byte of data.
    #[inline(always)]
    pub fn data(&self) -> u32 {
        self.data.load(Relaxed)
    }

    /// Sets where the data starts.
    #[inline(always)]
    pub fn set_data(&self, offset: u32) {
        self.data.store(offset, Relaxed);
    }

    /// The bytes of data in this mbuf.
    #[inline(always)]
    pub fn len(&self) -> u32 {
        self.len.load(Relaxed)
    }

    /// Whether there is no data in this mbuf.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sets the number of bytes in this mbuf.
    #[inline(always)]
    pub fn set_len(&self, len: u32) {
        self.len.store(len, Relaxed);
    }

    /// The flags.
    #[inline(always)]
    pub fn flags(&self) -> Flags {
        Flags(self.flags.load(Relaxed))
    }

    /// Sets the flags.
    #[inline(always)]
    pub fn set_flags(&self, flags: Flags) {
        self.flags.store(flags.0, Relaxed);
    }

    /// The driver has done with a packet that the server [keeps](Flags::KEEP): from now on it is the server's.
    #[inline(always)]
    pub fn mark_sent(&self) {
        self.flags.store(Flags::SENT.0, Release); // pairs with the acquire in `is_sent`
    }

    /// Whether a packet that the server [keeps](Flags::KEEP) has left.
    #[inline(always)]
    pub fn is_sent(&self) -> bool {
        Flags(self.flags.load(Acquire)).has(Flags::SENT) // pairs with the release in `mark_sent`
    }

    /// The bytes of the whole packet; means something in the packet's first mbuf.
    #[inline(always)]
    pub fn packet_len(&self) -> u32 {
        self.packet_len.load(Relaxed)
    }

    /// Sets the bytes of the whole packet.
    #[inline(always)]
    pub fn set_packet_len(&self, len: u32) {
        self.packet_len.store(len, Relaxed);
    }

    /// The cluster that the data is in, if it is in one; or the first page of the [area](crate::external) of external
    /// storage that it is in. Which of the two, the [geometry](crate::Geometry) says.
    #[inline(always)]
    pub fn cluster(&self) -> Option<Item> {
        Item::new(self.cluster.load(Relaxed))
    }

    /// Only the allocators and the operations on chains give an mbuf a cluster or an area: the reference counts go
    /// with it.
    #[inline(always)]
    pub(crate) fn set_cluster(&self, cluster: Option<Item>) {
        self.cluster.store(Item::or_zero(cluster), Relaxed);
    }

    /// Where the checksum that a device fills in starts to sum (from the packet's first byte), and how far
    /// after that it is put. Means something with [`Flags::DATA_CHECKSUM_WANTED`].
    #[inline(always)]
    pub fn checksum(&self) -> (u16, u16) {
        Self::checksum_from(self.checksum_word())
    }

    /// The same as it stands in the mbuf, for a comparison with that of another.
    #[inline(always)]
    pub fn checksum_word(&self) -> u32 {
        self.checksum.load(Relaxed)
    }

    /// What such a word means.
    #[inline(always)]
    #[must_use]
    pub const fn checksum_from(word: u32) -> (u16, u16) {
        (word as u16, (word >> 16) as u16)
    }

    /// Sets where the checksum starts and where it is put.
    #[inline(always)]
    pub fn set_checksum(&self, start: u16, offset: u16) {
        self.checksum.store(u32::from(start) | u32::from(offset) << 16, Relaxed);
    }

    /// The whole of a packet that is one mbuf: its data at `data`, `len` bytes of it.
    #[inline(always)]
    pub fn set_packet(&self, data: u32, len: u32, flags: Flags) {
        self.set_data(data);
        self.set_len(len);
        self.set_packet_len(len);
        self.set_flags(flags);
    }
}
