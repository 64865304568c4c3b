//! The window: the memory that the in-kernel driver and the protocol server share (Reynolds and Heller 1991, "Shared
//! Memory & Synchronization", figure "Shared Memory Window").
//!
//! ```text
//! 0            header: magic, version, sizes; m_want              one page
//! QUEUES_AT    queues: 4 IN, 1 OUT, 1 deferred-free               QueueKind::block_bytes each
//! pools        pool control blocks                                POOL_BLOCK_BYTES each
//! references   reference counts, one word for each cluster
//! mbufs        pool after pool                                    MBUF_BYTES each
//! clusters     pool after pool, so that address-to-pool is a shift CLUSTER_BYTES each
//! ```
//!
//! The two sides see it at different addresses, so what would be a pointer is an offset from its start, and 0, which is
//! the header's, is the null one. Each side computes a [`Layout`] from its own copy of the [`Config`], and believes nothing of
//! the header but to compare it.

use crate::vm::PAGE_BYTES;

/// "ORWN", the first word of the window.
pub const MAGIC: u32 = u32::from_le_bytes(*b"ORWN");
/// The version of this layout.
pub const VERSION: u32 = 2;
/// Where the word `m_want` is: the server's threads wait for free buffers.
pub const M_WANT_AT: u32 = 192;
/// Where the queues begin.
pub const QUEUES_AT: u32 = 4096;
/// The room for the control block of a dual queue, in bytes.
pub const DUAL_BLOCK_BYTES: u32 = 576;
/// The items that a ring has room for: all mbufs that a window can have. So no ring is ever full, unless its consumer lies.
pub const RING_ITEMS: usize = 2 * CLUSTERS_MAX as usize;
/// The room for a ring, in bytes: two indices and the condition, each in a line of its own, and the items.
pub const RING_BLOCK_BYTES: u32 = 192 + 4 * RING_ITEMS as u32;
/// The room for a pool's control block, in bytes.
pub const POOL_BLOCK_BYTES: u32 = 512;
/// The size of an mbuf, in bytes (BSD's `MSIZE`).
pub const MBUF_BYTES: u32 = 128;
/// The size of a cluster, in bytes (BSD's `MCLBYTES`).
pub const CLUSTER_BYTES: u32 = 2048;
/// Pools, at most.
pub const POOLS_MAX: u32 = 16;
/// Clusters of all pools together, at most; there may be twice as many mbufs.
pub const CLUSTERS_MAX: u32 = 8192;

/// The queues, in the order of their control blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Queue {
    /// IN: ARP.
    InArp = 0,
    /// IN: IPv4.
    InIpv4 = 1,
    /// IN: IPv6.
    InIpv6 = 2,
    /// IN: every other type of frame.
    InOther = 3,
    /// OUT: frames to send.
    Out = 4,
    /// Deferred free, an IN queue: buffers that the driver could not free itself.
    DeferredFree = 5,
}

/// How many queues there are.
pub const QUEUES: u32 = 6;

impl Queue {
    /// The IN queues that carry frames.
    pub const IN: [Queue; 4] = [Queue::InArp, Queue::InIpv4, Queue::InIpv6, Queue::InOther];
}

/// What all queues of a window are, by the names that they have on the kernel's command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum QueueKind {
    /// Two sub-queues each, with a lock for each (Reynolds and Heller 1991, "Queues").
    #[default]
    Dual = 0,
    /// Lamport's ring.
    Ring = 1,
}

impl QueueKind {
    /// All of them.
    pub const ALL: [QueueKind; 2] = [QueueKind::Dual, QueueKind::Ring];

    /// The option of the kernel's command line.
    pub const OPTION: &str = "queue";

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            QueueKind::Dual => "dual",
            QueueKind::Ring => "ring",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The kind of that number.
    #[must_use]
    pub fn from_raw(raw: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u32 == raw)
    }

    /// The room for a queue of this kind, in bytes.
    #[must_use]
    pub const fn block_bytes(self) -> u32 {
        match self {
            QueueKind::Dual => DUAL_BLOCK_BYTES,
            QueueKind::Ring => RING_BLOCK_BYTES,
        }
    }
}

/// The first words of the window, which the kernel writes and the server compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: u32,
    /// [`VERSION`].
    pub version: u32,
    /// The window's size, in bytes.
    pub bytes: u32,
    /// [`Config::pools`].
    pub pools: u32,
    /// [`Config::mbufs_per_pool`].
    pub mbufs_per_pool: u32,
    /// [`Config::clusters_per_pool`].
    pub clusters_per_pool: u32,
    /// Counts the windows that this device has had, from 1.
    pub generation: u32,
    /// [`Config::queue`], as its number.
    pub queue: u32,
}

/// What can be chosen about a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Pools, 1 to [`POOLS_MAX`].
    pub pools: u32,
    /// Mbufs of a pool, a power of two.
    pub mbufs_per_pool: u32,
    /// Clusters of a pool, a power of two.
    pub clusters_per_pool: u32,
    /// What the queues are.
    pub queue: QueueKind,
}

/// Why a [`Config`] cannot be laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// No pool, or more than [`POOLS_MAX`].
    Pools,
    /// Mbufs or clusters of a pool are no power of two, or fewer than 16.
    NotPowerOfTwo,
    /// More than [`CLUSTERS_MAX`] clusters or twice that many mbufs in all.
    TooLarge,
}

/// Where everything is, as offsets from the window's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// What it was made from.
    pub config: Config,
    /// The first pool control block.
    pub pools_at: u32,
    /// The first reference count.
    pub references_at: u32,
    /// The first mbuf.
    pub mbufs_at: u32,
    /// The first cluster.
    pub clusters_at: u32,
    /// The size of the window, in bytes: whole pages.
    pub bytes: u32,
}

impl Config {
    /// As much of everything as there may be.
    pub const LARGEST: Self = Self {
        pools: POOLS_MAX,
        mbufs_per_pool: 2 * CLUSTERS_MAX / POOLS_MAX,
        clusters_per_pool: CLUSTERS_MAX / POOLS_MAX,
        queue: QueueKind::Ring,
    };

    /// All mbufs.
    #[must_use]
    pub const fn mbufs(self) -> u32 {
        self.pools * self.mbufs_per_pool
    }

    /// All clusters.
    #[must_use]
    pub const fn clusters(self) -> u32 {
        self.pools * self.clusters_per_pool
    }

    /// Lays a window out.
    ///
    /// # Errors
    /// A [`ConfigError`] where the numbers do not make one.
    pub const fn layout(self) -> Result<Layout, ConfigError> {
        if self.pools == 0 || self.pools > POOLS_MAX {
            return Err(ConfigError::Pools);
        }
        if !self.mbufs_per_pool.is_power_of_two()
            || !self.clusters_per_pool.is_power_of_two()
            || self.mbufs_per_pool < 16
            || self.clusters_per_pool < 16
        {
            return Err(ConfigError::NotPowerOfTwo);
        }
        if self.mbufs_per_pool > 2 * CLUSTERS_MAX / self.pools
            || self.clusters_per_pool > CLUSTERS_MAX / self.pools
        {
            return Err(ConfigError::TooLarge);
        }
        let pools_at = QUEUES_AT + QUEUES * self.queue.block_bytes();
        let references_at = pools_at + self.pools * POOL_BLOCK_BYTES;
        let mbufs_at = page_up(references_at + self.clusters() * 4);
        let clusters_at = page_up(mbufs_at + self.mbufs() * MBUF_BYTES);
        let bytes = page_up(clusters_at + self.clusters() * CLUSTER_BYTES);
        Ok(Layout { config: self, pools_at, references_at, mbufs_at, clusters_at, bytes })
    }
}

impl Layout {
    /// The offset of a queue.
    #[must_use]
    pub const fn queue_at(&self, queue: Queue) -> u32 {
        QUEUES_AT + queue as u32 * self.config.queue.block_bytes()
    }

    /// The header that goes with this layout.
    #[must_use]
    pub const fn header(&self, generation: u32) -> Header {
        Header {
            magic: MAGIC,
            version: VERSION,
            bytes: self.bytes,
            pools: self.config.pools,
            mbufs_per_pool: self.config.mbufs_per_pool,
            clusters_per_pool: self.config.clusters_per_pool,
            generation,
            queue: self.config.queue as u32,
        }
    }

    /// The configuration that a header tells of, if it is one of this version and adds up.
    #[must_use]
    pub fn from_header(header: &Header) -> Option<Layout> {
        let config = Config {
            pools: header.pools,
            mbufs_per_pool: header.mbufs_per_pool,
            clusters_per_pool: header.clusters_per_pool,
            queue: QueueKind::from_raw(header.queue)?,
        };
        let layout = config.layout().ok()?;
        (layout.header(header.generation) == *header).then_some(layout)
    }
}

const fn page_up(offset: u32) -> u32 {
    (offset + PAGE_BYTES as u32 - 1) & !(PAGE_BYTES as u32 - 1)
}

const _: () = assert!(size_of::<Header>() as u32 <= M_WANT_AT && M_WANT_AT < QUEUES_AT);
const _: () = {
    let dual = Config { pools: 2, mbufs_per_pool: 1024, clusters_per_pool: 512, queue: QueueKind::Dual };
    let ring = Config { queue: QueueKind::Ring, ..dual };
    let (Ok(layout), Ok(longer)) = (dual.layout(), ring.layout()) else { panic!() };
    assert!(layout.pools_at == 0x1d80 && layout.references_at == 0x2180 && layout.mbufs_at == 0x4000);
    assert!(layout.clusters_at == 0x44000 && layout.bytes == 0x244000);
    assert!(layout.queue_at(Queue::DeferredFree) == 0x1b40);
    assert!(longer.queue_at(Queue::InIpv4) == 0x110c0 && longer.pools_at == 0x61480);
    assert!(longer.mbufs_at == 0x63000 && longer.bytes == 0x2a3000);
};
const _: () = {
    assert!(Config::LARGEST.layout().is_ok());
    assert!(Config::LARGEST.mbufs() as usize <= RING_ITEMS && RING_ITEMS.is_power_of_two());
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_refuses_what_does_not_add_up() {
        let config = |pools, mbufs_per_pool, clusters_per_pool| {
            Config { pools, mbufs_per_pool, clusters_per_pool, queue: QueueKind::Dual }.layout()
        };
        assert_eq!(config(0, 64, 64), Err(ConfigError::Pools));
        assert_eq!(config(17, 64, 64), Err(ConfigError::Pools));
        assert_eq!(config(2, 48, 64), Err(ConfigError::NotPowerOfTwo));
        assert_eq!(config(2, 64, 8), Err(ConfigError::NotPowerOfTwo));
        assert_eq!(config(1, 64, 1 << 31), Err(ConfigError::TooLarge));
        assert!(config(3, 64, 64).is_ok());
    }

    #[test]
    fn a_header_is_believed_only_whole() {
        for queue in QueueKind::ALL {
            let config = Config { pools: 2, mbufs_per_pool: 64, clusters_per_pool: 32, queue };
            let layout = config.layout().unwrap();
            let header = layout.header(7);
            assert_eq!(Layout::from_header(&header), Some(layout));
            assert_eq!(Layout::from_header(&Header { bytes: header.bytes + 4096, ..header }), None);
            assert_eq!(Layout::from_header(&Header { version: 1, ..header }), None);
            assert_eq!(Layout::from_header(&Header { pools: u32::MAX, ..header }), None);
            // Of another kind it would be of another size; and there are no more kinds.
            assert_eq!(Layout::from_header(&Header { queue: header.queue ^ 1, ..header }), None);
            assert_eq!(Layout::from_header(&Header { queue: 2, ..header }), None);
        }
    }

    #[test]
    fn a_kind_has_a_name_and_a_number() {
        for kind in QueueKind::ALL {
            assert_eq!(QueueKind::from_name(kind.name()), Some(kind));
            assert_eq!(QueueKind::from_raw(kind as u32), Some(kind));
        }
        assert_eq!((QueueKind::from_name("Dual"), QueueKind::from_raw(2)), (None, None));
    }
}
