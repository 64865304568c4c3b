//! Network buffers in memory that an interrupt handler and a task share: mbufs and clusters, in several
//! pools.
//!
//! The names are those of 4.3BSD. An [`Mbuf`] is 128 bytes: a header and 80 bytes of data. A cluster is 2 KiB
//! of data, which one or more mbufs refer to; external storage is any other memory that mbufs refer to. A packet is a chain of mbufs. All links are 32-bit offsets into
//! the shared memory, since the two sides see it at different addresses.
//!
//! The free space is divided into pools, each with a mutex of its own (F. Reynolds and J. Heller, "Kernel
//! Support For Network Protocol Servers", 1991; below R&H: "Free Space"): an interrupt handler that finds one
//! locked goes on to the next. What it cannot free, because the pool is locked or the buffer is a chain or
//! shared, it puts on the deferred-free queue.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`geometry`] | where everything is: from an offset to a pool or an index by shifts, checked |
//! | [`header`] | the mbuf's header |
//! | [`pool`] | the control block of a pool, and `m_want` |
//! | [`view`] | one side's view of the memory: the only place that makes an address of an offset |
//! | [`protocol`] | the server's allocation and freeing: may wait for a lock |
//! | [`chain`] | the server's operations on chains |
//! | [`external`] | data in storage that no pool owns |
//! | [`interrupt`] | the driver's allocation and freeing: never waits, trusts nothing |
//! | [`audit`] | counting what is free |
//!
//! # Trust
//! The driver's side loads each shared word once and checks the copy by a private [`Geometry`]; its [`Claim`]
//! asks the ledger of the kernel about every buffer it takes or gives. The server trusts the kernel, but the
//! same checks stand in its way.
//!
//! ```
//! use mbuf::{Flags, Geometry, InterruptSpace, NoLedger, Places, ProtocolSpace, View};
//! use std::ptr::NonNull;
//!
//! // The window, here ordinary memory: 2 pools of 8 mbufs and 4 clusters each.
//! let geometry = Geometry::new(Places::packed(64, 2, 8, 4).unwrap())?;
//! #[repr(C, align(4096))]
//! struct Memory([u8; 1 << 15]);
//! let mut memory = Box::new(Memory([0; 1 << 15]));
//! let base = NonNull::new(memory.0.as_mut_ptr()).unwrap();
//! // SAFETY: the memory is as large as the geometry says, and is used through views only.
//! let view = unsafe { View::new(base, geometry) };
//! mbuf::init(&view);
//!
//! // The driver takes a buffer, and the device fills it with 60 bytes.
//! let mut driver = InterruptSpace::new(view);
//! let mut posted = Vec::new();
//! driver.try_alloc_cluster_batch(1, &mut NoLedger, |mbuf, cluster| posted.push((mbuf, cluster)))?;
//! let (item, cluster) = posted[0];
//! view.mbuf(item).unwrap().set_packet(cluster.get(), 60, Flags::PACKET.with(Flags::EXTERNAL));
//!
//! // The server has used it, and frees it.
//! let mut server = ProtocolSpace::new(view);
//! assert_eq!(server.chain_len(item)?, 60);
//! server.free_chain(item);
//! assert_eq!(view.audit()?.clusters, 8);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![no_std]
#![deny(missing_docs)]

#[cfg(test)]
extern crate std;

pub mod audit;
#[cfg(not(loom))]
pub mod chain;
pub mod external;
pub mod geometry;
pub mod header;
pub mod interrupt;
#[cfg_attr(loom, path = "loom_memory.rs")]
mod memory;
pub mod pool;
pub mod protocol;
pub mod view;

pub use audit::Audit;
#[cfg(not(loom))]
pub use chain::ChainError;
pub use external::{EXTERNAL_PAGE_BYTES, ExternalError, ExternalPage};
pub use geometry::{Geometry, GeometryError, Located, Places};
pub use header::{Flags, INTERNAL_BYTES, MBUF_BYTES, Mbuf};
pub use interrupt::{Claim, InterruptSpace, NoLedger};
#[cfg(loom)]
pub use memory::LoomMemory;
pub use pool::{POOL_CONTROL_BYTES, PoolControl, PoolStats, SPACE_CONTROL_BYTES, SpaceControl, init};
pub use protocol::{Blank, ProtocolSpace};
pub use view::View;

/// The bytes of one cluster.
pub const CLUSTER_BYTES: u32 = 2048;
