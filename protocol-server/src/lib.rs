//! Oriel's protocol server: TCP/IP in a user task, over a link that is shared memory; or, as a library, in the kernel.
//!
//! ```text
//! applications      rings and pages (abi::socket)        control messages
//!       |                      |                                |
//!       |              [`socket`]  one per socket         [`server`] requests
//!       |                      |                                |
//!       |              [`stack`]   smoltcp, [`demux`], [`frame`], [`checksum`]
//!       |                      |
//!       |              [`link`]    a path: the window, messages, the driver
//! ```
//!
//! The protocols themselves are smoltcp's. What is here is what surrounds them: the way of a packet from the link to the one
//! socket that it concerns, the way of bytes between smoltcp's buffers and the rings, and when to wake whom. All of it
//! compiles and is tested on the host, over a simulated wire; the binary adds the system calls.
//!
//! # A pass of the server
//! 1. Frames: from the link, a batch at a time, to the stack; buffers go back a batch at a time.
//! 2. Sockets: of each that has had a packet, a timer, or something new in its page: bytes to the application, bytes from it,
//!    what TCP wants to send, the state, and one resume if the application waits for what happened.
//! 3. The link is told to start the device, once.
//! 4. Unless frames were left behind: announce sleep, look again, and if there is nothing, suspend until the next timer.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod addresses;
pub mod checksum;
pub mod config;
pub mod demux;
pub mod dhcp;
pub mod fragments;
pub mod frame;
pub mod link;
pub mod neighbours;
pub mod page;
pub mod phy;
pub mod server;
pub mod socket;
pub mod stack;
pub mod status;
pub mod system;

pub use smoltcp::time::Instant;

#[cfg(test)]
mod tests;
