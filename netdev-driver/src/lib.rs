//! Oriel's network drivers and the kernel's end of the window.
//!
//! The levels are those of F. Reynolds and J. Heller, "Kernel Support For Network Protocol Servers" (1991; below R&H), figure "Early
//! demultiplexing": what a device is ([`nic`]), what a family of networks is ([`demux`]), and what depends on neither ([`endpoint`]).
//!
//! | module | what it is | source |
//! | --- | --- | --- |
//! | [`hal`] | what the drivers ask of the machine: registers, DMA memory, the window | |
//! | `dma` | descriptor rings in memory that a device writes | |
//! | [`nic`] | what every network device does: buffers in, buffers out | |
//! | [`e1000`] | Intel 82540EM | Intel, "PCI/PCI-X Family of Gigabit Ethernet Controllers Software Developer's Manual" |
//! | [`virtio_net`] | virtio network device on PCI | OASIS, "Virtual I/O Device (VIRTIO) Version 1.2" |
//! | [`demux`] | the family of a received frame, or why it is dropped | R&H, "Early Demultiplexing"; RFC 791, 826, 8200 |
//! | [`filter`] | which tasks want a frame, on the path by message | Mogul, Rashid and Accetta 1987 |
//! | [`claims`] | which window a frame is for, where several are open | R&H, "Early Demultiplexing"; RFC 4291 |
//! | [`ledger`] | who holds each buffer: the kernel's own truth | R&H, "Shared Memory Window" |
//! | [`endpoint`] | the window's queues and pools on one side, a device on the other | R&H, "Queues", "Free Space" |
//! | [`device`] | one of the devices, with its endpoint: what the kernel holds | |
//! | [`direct`] | a device with buffers of the kernel's own, for the paths without a window | Mach 3.0; an integrated kernel |
//!
//! # Trust
//! The kernel believes neither the window, which the server can write at any time, nor the device: an offset is loaded once, checked, and
//! claimed in the ledger before it is used; a completion is believed only for a buffer that was posted. A server that lies loses its
//! window ([`endpoint::Outcome::misbehaviour`]), a device that lies costs a counter.
#![no_std]

pub mod claims;
pub mod demux;
pub mod device;
pub mod direct;
mod dma;
pub mod e1000;
pub mod endpoint;
pub mod filter;
pub mod hal;
pub mod ledger;
pub mod nic;
mod private;
pub mod virtio_net;
mod window;

pub use device::Device;
pub use direct::{Direct, DirectDevice};
pub use endpoint::{Endpoint, Outcome};
pub use hal::{Hal, Registers};
pub use ledger::Ledger;
pub use nic::Nic;
pub use window::{geometry, queue_at};
