//! Oriel's kernel without the machine: tasks, threads, ports, messages, memory and the system calls over them.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`machine`] | the seam: what the logic here asks of the hardware, and how the binary drives a [`Kernel`] |
//! | [`boot`], [`kernel`] | how it begins; the kernel as a whole, and who goes on after each event |
//! | [`frames`] | physical memory |
//! | [`space`], [`memory_object`], [`user`] | what tasks map, what they share, how the kernel touches it |
//! | [`task`], [`thread`], [`sched`], `lifecycle` | who runs; how they begin and end |
//! | [`port`], [`names`], `rights`, `ipc`, `data` | ports and rights, and the messages that carry them, and data |
//! | [`net_io`] | the network device on the path by message: packet filters, frames as messages |
//! | [`module`], [`elf`], [`cmdline`] | what the machine boots from |
//! | [`sockets`] | the stack in the kernel, where it is there |
//! | [`symbols`] | the kernel's functions by name, for its panic report |
//! | `syscall` | the system calls, a file for each family |
//!
//! The kernel has no heap: each kind of object is a table of fixed size, and a full table is [`abi::Error::NoResources`].
//! No code here blocks: a thread that waits leaves behind what it waits for ([`thread::State`]), in the manner of
//! continuations (Draves et al., 1991), and whoever ends the wait writes the result.

#![no_std]

#[cfg(any(test, feature = "fake"))]
extern crate std;

pub mod boot;
pub mod cmdline;
mod data;
pub mod elf;
pub mod frames;
mod hold;
mod ipc;
pub mod kernel;
mod lifecycle;
pub mod list;
pub mod machine;
pub mod memory_object;
pub mod module;
pub mod names;
pub mod net_io;
pub mod port;
pub mod quota;
mod rights;
pub mod sched;
pub mod sockets;
pub mod space;
pub mod symbols;
mod syscall;
pub mod task;
#[cfg(any(test, feature = "fake"))]
#[cfg_attr(not(test), allow(dead_code, unused_imports, reason = "what the fuzz targets use is a part of it"))]
mod tests;
pub mod thread;
pub mod user;

pub use boot::{Boot, BootError};
pub use kernel::Kernel;

/// The tests' machine of arrays, for `fuzz/kernel`, which alone asks for it.
#[cfg(feature = "fake")]
pub mod fake {
    pub use crate::tests::random::messages;
}
