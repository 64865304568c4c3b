//! Fuzz targets: each takes bytes, makes a peer of them that writes and says what they say, and fails if the side under
//! test panics, goes on without a bound, leaves its memory, or loses or doubles a buffer.
//!
//! | target | the side under test | what lies |
//! | --- | --- | --- |
//! | [`in_queue`], [`out_queue`] | both ends of `shmqueue::dual` | every word of the queue, every link |
//! | [`item_ring`], [`byte_ring`] | both ends of `shmqueue::ring` and `shmqueue::bytes` | the other end's words, and all bytes |
//! | [`pools`] | `mbuf::InterruptSpace` with a ledger, `mbuf::ProtocolSpace`, the audit | free lists, counts, headers |
//! | [`chains`] | the server's operations on chains | the headers of the mbufs |
//! | [`endpoint_e1000`], [`endpoint_virtio`] | the kernel's end of a window, over a device made of registers | all of the window |
//! | [`application_page`] | `userlib::net::Page` | the server |
//! | [`server_page`] | `protocol_server::page::SocketPage` | the application |
//! | [`frames`] | the classifiers of the driver and of the server | the wire |
//!
//! `cargo xtask fuzz` runs them under libFuzzer, compiled with `--cfg shmqueue_inject`: then each single load of a shared word
//! may return what the bytes say (`peer`). The seeds in `corpus/` are run again by this crate's tests, with that hook
//! (`cargo xtask inject`) and without; without it the peer lies only between two calls.
//!
//! While no lie has been told, the targets compare what comes out with a model, so the same bytes test the honest way too.

#[path = "../../netdev-driver/tests/fake/mod.rs"]
mod fake;

mod buffers;
mod bytes;
mod chain;
mod endpoint;
mod input;
mod memory;
mod pages;
mod peer;
mod queues;
mod rings;
mod wire;

pub use buffers::pools;
pub use bytes::byte_ring;
pub use chain::chains;
pub use endpoint::{endpoint_e1000, endpoint_virtio};
pub use pages::{application_page, server_page};
pub use queues::{in_queue, out_queue};
pub use rings::item_ring;
pub use wire::frames;

/// A target: it fails by a panic.
pub type Target = fn(&[u8]);

/// All targets, by the names of their programs and of their folders below `corpus/`.
pub const TARGETS: &[(&str, Target)] = &[
    ("in_queue", in_queue),
    ("out_queue", out_queue),
    ("item_ring", item_ring),
    ("byte_ring", byte_ring),
    ("pools", pools),
    ("chains", chains),
    ("endpoint_e1000", endpoint_e1000),
    ("endpoint_virtio", endpoint_virtio),
    ("application_page", application_page),
    ("server_page", server_page),
    ("frames", frames),
];
