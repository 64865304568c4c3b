//! Where pools, mbufs, reference counts, clusters and external storage lie in the shared memory.
//!
//! Each kind is one array over all pools (R&H, "Free Space": "the cluster pools are adjacent in shared
//! memory"), and the numbers per pool are powers of two: from an offset to its index and its pool is a
//! subtraction, a check and a shift. A geometry is private to each side, made from what that side trusts,
//! never from a header that the peer can write.

use core::fmt;

use shmqueue::Item;

use crate::{CLUSTER_BYTES, EXTERNAL_PAGE_BYTES, MBUF_BYTES, POOL_CONTROL_BYTES, SPACE_CONTROL_BYTES};

/// Offsets and numbers as the window's layout gives them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Places {
    /// Pools: at least 1.
    pub pools: u32,
    /// Mbufs in each pool: a power of two.
    pub mbufs_per_pool: u32,
    /// Clusters in each pool: a power of two.
    pub clusters_per_pool: u32,
    /// Where the [`SpaceControl`](crate::SpaceControl) is; aligned to 64.
    pub space_control: u32,
    /// Where the [`PoolControl`](crate::PoolControl)s are; aligned to 64.
    pub pool_controls: u32,
    /// Where the reference counts are: one 32-bit word per cluster.
    pub reference_counts: u32,
    /// Where the mbufs are; aligned to 128.
    pub mbufs: u32,
    /// Where the clusters are; aligned to 2048.
    pub clusters: u32,
    /// Where the [external storage](crate::external) is, which no pool owns; aligned to 4096.
    pub external: u32,
    /// The bytes of external storage, a multiple of 4096: 0 if there is none.
    pub external_bytes: u32,
    /// The size of the shared memory.
    pub window_bytes: u32,
}

impl Places {
    /// Everything one after the other from `start` on, in the order of the fields. `None` if it is too much
    /// for 31 bits.
    #[must_use]
    pub const fn packed(start: u32, pools: u32, mbufs_per_pool: u32, clusters_per_pool: u32) -> Option<Self> {
        const fn align(at: u64, to: u64) -> u64 {
            (at + to - 1) & !(to - 1)
        }
        let (count, m, c) = (pools as u64, mbufs_per_pool as u64, clusters_per_pool as u64);
        if pools > 1 << 10 || mbufs_per_pool > 1 << 24 || clusters_per_pool > 1 << 20 {
            return None;
        }
        let space_control = align(start as u64, 64);
        let pool_controls = space_control + SPACE_CONTROL_BYTES as u64;
        let reference_counts = pool_controls + count * POOL_CONTROL_BYTES as u64;
        let mbufs = align(reference_counts + count * c * 4, MBUF_BYTES as u64);
        let clusters = align(mbufs + count * m * MBUF_BYTES as u64, CLUSTER_BYTES as u64);
        let end = clusters + count * c * CLUSTER_BYTES as u64;
        if end >= 1 << 31 {
            return None;
        }
        Some(Self {
            pools,
            mbufs_per_pool,
            clusters_per_pool,
            space_control: space_control as u32,
            pool_controls: pool_controls as u32,
            reference_counts: reference_counts as u32,
            mbufs: mbufs as u32,
            clusters: clusters as u32,
            external: 0,
            external_bytes: 0,
            window_bytes: end as u32,
        })
    }

    /// The same, with `bytes` of external storage behind all else. `None` if that is too much for 31 bits, or no
    /// multiple of 4096.
    #[must_use]
    pub const fn with_external(self, bytes: u32) -> Option<Self> {
        let start = (self.window_bytes as u64).next_multiple_of(EXTERNAL_PAGE_BYTES as u64);
        let end = start + bytes as u64;
        if end >= 1 << 31 || !bytes.is_multiple_of(EXTERNAL_PAGE_BYTES) {
            return None;
        }
        Some(Self { external: start as u32, external_bytes: bytes, window_bytes: end as u32, ..self })
    }
}

/// Why places are no geometry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GeometryError {
    /// No pools, or more than 1024.
    Pools,
    /// Mbufs or clusters per pool are no power of two.
    NotPowerOfTwo,
    /// An array does not start where its elements may.
    Misaligned,
    /// An array leaves the shared memory or starts at offset 0, or the memory is larger than 2 GiB.
    Outside,
    /// Two arrays overlap.
    Overlap,
}

impl fmt::Display for GeometryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pools => "the number of pools is not in 1..=1024",
            Self::NotPowerOfTwo => "the number of mbufs and of clusters per pool must be powers of two",
            Self::Misaligned => "an array of the window is not aligned",
            Self::Outside => "an array lies outside the window",
            Self::Overlap => "two arrays of the window overlap",
        })
    }
}

impl core::error::Error for GeometryError {}

/// A buffer that is there: where it starts, and which of its array it is. Only a [`Geometry`] finds one, so
/// whoever is given it need not look again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Located {
    item: Item,
    index: u32,
}

impl Located {
    /// The buffer's offset.
    #[inline(always)]
    #[must_use]
    pub const fn item(self) -> Item {
        self.item
    }

    /// The buffer's number in its array, over all pools.
    #[inline(always)]
    #[must_use]
    pub const fn index(self) -> u32 {
        self.index
    }
}

/// Checked places, with the sizes worked out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    places: Places,
    mbufs_shift: u32,
    clusters_shift: u32,
    mbufs: u32,
    clusters: u32,
}

impl Geometry {
    /// Checks that all arrays are aligned, inside the window and disjoint.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub const fn new(places: Places) -> Result<Self, GeometryError> {
        let p = places;
        if p.pools == 0 || p.pools > 1024 {
            return Err(GeometryError::Pools);
        }
        if !p.mbufs_per_pool.is_power_of_two() || !p.clusters_per_pool.is_power_of_two() {
            return Err(GeometryError::NotPowerOfTwo);
        }
        let (count, m, c) = (p.pools as u64, p.mbufs_per_pool as u64, p.clusters_per_pool as u64);
        let arrays = [
            (p.space_control, SPACE_CONTROL_BYTES as u64, 64),
            (p.pool_controls, count * POOL_CONTROL_BYTES as u64, 64),
            (p.reference_counts, count * c * 4, 4),
            (p.mbufs, count * m * MBUF_BYTES as u64, MBUF_BYTES),
            (p.clusters, count * c * CLUSTER_BYTES as u64, CLUSTER_BYTES),
            (p.external, p.external_bytes as u64, EXTERNAL_PAGE_BYTES),
        ];
        if p.window_bytes > 1 << 31 {
            return Err(GeometryError::Outside);
        }
        if !p.external_bytes.is_multiple_of(EXTERNAL_PAGE_BYTES) {
            return Err(GeometryError::Misaligned);
        }
        let mut i = 0;
        // The last is none where there are no bytes of it.
        let count = if p.external_bytes == 0 { arrays.len() - 1 } else { arrays.len() };
        while i < count {
            let (start, bytes, align) = arrays[i];
            if !start.is_multiple_of(align) {
                return Err(GeometryError::Misaligned);
            }
            if start == 0 || start as u64 + bytes > p.window_bytes as u64 {
                return Err(GeometryError::Outside);
            }
            let mut j = 0;
            while j < i {
                let (other, other_bytes, _) = arrays[j];
                if (start as u64) < other as u64 + other_bytes && (other as u64) < start as u64 + bytes {
                    return Err(GeometryError::Overlap);
                }
                j += 1;
            }
            i += 1;
        }
        Ok(Self {
            places,
            mbufs_shift: p.mbufs_per_pool.trailing_zeros(),
            clusters_shift: p.clusters_per_pool.trailing_zeros(),
            mbufs: p.pools * p.mbufs_per_pool,
            clusters: p.pools * p.clusters_per_pool,
        })
    }

    /// What this was made from.
    #[must_use]
    pub const fn places(&self) -> &Places {
        &self.places
    }

    /// The number of pools.
    #[inline(always)]
    #[must_use]
    pub const fn pools(&self) -> u32 {
        self.places.pools
    }

    /// All mbufs.
    #[inline(always)]
    #[must_use]
    pub const fn mbufs(&self) -> u32 {
        self.mbufs
    }

    /// All clusters.
    #[inline(always)]
    #[must_use]
    pub const fn clusters(&self) -> u32 {
        self.clusters
    }

    /// Which mbuf starts at `item`; `None` if none does.
    #[inline(always)]
    #[must_use]
    pub const fn mbuf_index(&self, item: Item) -> Option<u32> {
        index(item.get(), self.places.mbufs, self.mbufs, MBUF_BYTES)
    }

    /// The mbuf that starts at `item`; `None` if none does.
    #[inline(always)]
    #[must_use]
    pub const fn locate_mbuf(&self, item: Item) -> Option<Located> {
        match self.mbuf_index(item) {
            Some(index) => Some(Located { item, index }),
            None => None,
        }
    }

    /// The cluster that starts at `item`; `None` if none does.
    #[inline(always)]
    #[must_use]
    pub const fn locate_cluster(&self, item: Item) -> Option<Located> {
        match self.cluster_index(item) {
            Some(index) => Some(Located { item, index }),
            None => None,
        }
    }

    /// Which cluster starts at `item`; `None` if none does.
    #[inline(always)]
    #[must_use]
    pub const fn cluster_index(&self, item: Item) -> Option<u32> {
        index(item.get(), self.places.clusters, self.clusters, CLUSTER_BYTES)
    }

    /// Which page of the external storage starts at `item`; `None` if none does.
    #[inline]
    #[must_use]
    pub const fn external_index(&self, item: Item) -> Option<u32> {
        let pages = self.places.external_bytes / EXTERNAL_PAGE_BYTES;
        index(item.get(), self.places.external, pages, EXTERNAL_PAGE_BYTES)
    }

    /// The mbuf with `index`, if there are as many.
    #[inline(always)]
    #[must_use]
    pub const fn mbuf_at(&self, index: u32) -> Option<Item> {
        if index >= self.mbufs() { None } else { Item::new(self.places.mbufs + index * MBUF_BYTES) }
    }

    /// The cluster with `index`, if there are as many.
    #[inline(always)]
    #[must_use]
    pub const fn cluster_at(&self, index: u32) -> Option<Item> {
        if index >= self.clusters() { None } else { Item::new(self.places.clusters + index * CLUSTER_BYTES) }
    }

    /// The pool that the mbuf with `index` belongs to (R&H's `mtop`).
    #[inline(always)]
    #[must_use]
    pub const fn mbuf_pool(&self, index: u32) -> u32 {
        index >> self.mbufs_shift
    }

    /// The pool that the cluster with `index` belongs to.
    #[inline(always)]
    #[must_use]
    pub const fn cluster_pool(&self, index: u32) -> u32 {
        index >> self.clusters_shift
    }
}

/// `offset` as an index into an array of `count` elements of `size` bytes, a power of two. One comparison
/// checks all: what is below the start wraps to a large number, and so does, rotated, what is not a multiple of
/// the size.
#[inline(always)]
const fn index(offset: u32, start: u32, count: u32, size: u32) -> Option<u32> {
    let index = offset.wrapping_sub(start).rotate_right(size.trailing_zeros());
    if index < count { Some(index) } else { None }
}
