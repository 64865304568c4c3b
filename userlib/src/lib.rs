//! What an Oriel task links: the entry, the system calls behind typed wrappers, a heap, the console, and sockets.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`entry!`], [`entry`] | from the kernel's first instruction to `main`, and from `main` to the exit status |
//! | [`task`], [`thread`] | tasks and threads: spawn, end, suspend, resume |
//! | [`port`], [`message`], [`rpc`], [`name`] | rights, messages, calls with data, and the service that finds a server by its name |
//! | [`memory`], [`heap`] | mappings, memory objects, the global allocator |
//! | [`device`] | what a driver in the kernel offers to a server |
//! | [`time`], [`info`], [`counters`], [`mark`] | the clock, the boot's facts, what packets cost, and marks for the host's counting |
//! | [`console`] | `print!`, `println!`, lines of input |
//! | [`net`] | `TcpStream`, `TcpListener`, `UdpSocket`, in the manner of `std::net` |
//!
//! # Example
//! ```no_run
//! use userlib::{net::TcpStream, println};
//!
//! fn greet() -> Result<(), userlib::Error> {
//!     let mut stream = TcpStream::connect(([10, 9, 0, 1], 7).into())?;
//!     stream.write_all(b"hello")?;
//!     println!("sent to {}", stream.peer_addr());
//!     Ok(())
//! }
//! # greet().unwrap();
//! ```
//!
//! The only place that holds the `syscall` instruction is [`raw`]. In this crate's own tests it goes to a fake kernel instead.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod console;
pub mod counters;
pub mod device;
pub mod entry;
pub mod heap;
pub mod info;
pub mod mark;
pub mod memory;
pub mod message;
pub mod name;
pub mod net;
pub mod port;
pub mod raw;
pub mod rpc;
pub mod sync;
pub mod task;
pub mod thread;
pub mod time;

pub use abi::Error;
