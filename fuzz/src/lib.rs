//! Fuzz targets: each takes bytes, makes a peer of them that writes and says what they say, and fails if the side under
//! test panics, goes on without a bound, leaves its memory, or loses or doubles a buffer.
//!
//! | target | the side under test | what lies |
//! | --- | --- | --- |
//! | [`in_queue`], [`out_queue`] | both ends of `shmqueue::dual` | every word of the queue, every link |
//! | [`either_queue`] | the same behind the traits, and either kind of queue | as above |
//! | [`item_ring`], [`byte_ring`] | both ends of `shmqueue::ring` and `shmqueue::bytes` | the other end's words, and all bytes |
//! | [`pools`] | `mbuf::InterruptSpace` with a ledger, `mbuf::ProtocolSpace`, the audit | free lists, counts, headers |
//! | [`chains`] | the server's operations on chains | the headers of the mbufs |
//! | [`endpoint_e1000`], [`endpoint_virtio`] | the kernel's end of a window, over a device made of registers | all of the window |
//! | [`application_page`] | `userlib::net::Page` | the server |
//! | [`server_page`] | `protocol_server::page::SocketPage` | the application |
//! | [`frames`] | the classifiers of the driver and of the server | the wire |
//! | [`stack`] | the whole protocol server, with sockets of every kind | the wire, in any order, while time passes |
//! | [`dhcp`] | the protocol server that asks for its address | the server of DHCP |
//! | [`sockets`], [`fragments`] | the server's table of sockets, and its maker of fragments | nobody: any order, beside a model |
//! | [`filters`] | packet filters and their table | the task that sets them, and the wire |
//! | [`device_e1000`], [`device_virtio`] | the drivers | the device: descriptors, used rings, registers |
//! | [`configuration`] | the search for a virtio device's structures | PCI's configuration space |
//! | [`program`], [`archive`], [`command_line`] | what the kernel boots from | ELF files, cpio archives, the command line, the symbol table |
//! | [`messages`] | the kernel's system calls, most of them messages, over a machine of arrays | tasks |
//!
//! `cargo xtask fuzz` runs them under libFuzzer, compiled with `--cfg shmqueue_inject`: then each single load of a shared word
//! may return what the bytes say (`peer`). The seeds in `corpus/` are run again by this crate's tests, with that hook
//! (`cargo xtask inject`) and without; without it the peer lies only between two calls.
//!
//! While no lie has been told, the targets compare what comes out with a model, so the same bytes test the honest way too.

#[path = "../../netdev-driver/tests/fake/mod.rs"]
mod fake;
#[path = "../../netdev-driver/src/filter/tests/language.rs"]
mod language;

mod boot;
mod buffers;
mod bytes;
mod chain;
mod device;
mod either;
mod endpoint;
mod filters;
mod input;
mod memory;
mod pages;
mod peer;
mod queues;
mod rings;
mod stack;
mod tables;
mod wire;

pub use boot::{archive, command_line, program};
pub use buffers::pools;
pub use bytes::byte_ring;
pub use chain::chains;
pub use device::{configuration, device_e1000, device_virtio};
pub use either::either_queue;
pub use endpoint::{endpoint_e1000, endpoint_virtio};
pub use filters::filters;
pub use fuzz_kernel::fake::messages;
pub use pages::{application_page, server_page};
pub use queues::{in_queue, out_queue};
pub use rings::item_ring;
pub use stack::{dhcp, stack};
pub use tables::{fragments, sockets};
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
    ("stack", stack),
    ("dhcp", dhcp),
    ("sockets", sockets),
    ("fragments", fragments),
    ("filters", filters),
    ("device_e1000", device_e1000),
    ("device_virtio", device_virtio),
    ("configuration", configuration),
    ("program", program),
    ("archive", archive),
    ("command_line", command_line),
    ("messages", messages),
    ("either_queue", either_queue),
];
