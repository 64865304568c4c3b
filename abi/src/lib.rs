//! What crosses Oriel's walls, and nothing else: the numbers, the layouts and the words of system calls, messages,
//! the window and the socket pages. No code of either side lives here, and this crate uses no other.
//!
//! Who reads what:
//!
//! | module | between |
//! | --- | --- |
//! | [`syscall`], [`error`], [`vm`], [`thread`] | any task and the kernel |
//! | [`message`], [`port`] | any task and the kernel, which carries messages and rights |
//! | [`window`], [`device`] | the protocol server and the kernel's driver (Reynolds and Heller 1991, "Shared Memory & Synchronization") |
//! | [`filter`] | who opens a network device on the path by message, and the kernel's driver (Mogul, Rashid and Accetta 1987) |
//! | [`socket`], [`name`] | applications and the servers |
//! | [`supervise`] | who starts the protocol servers, and starts them again |
//! | [`path`] | the kernel's command line and anyone who depends on the path |
//! | [`info`], [`counters`], [`usage`] | the kernel and anyone who measures |
//! | [`mark`], [`exit`] | the guest and the host that runs it under QEMU |
//!
//! Numbers that one side sends and the other does not know are errors, never defaults: each enumeration has a
//! `from_raw` that says so.

#![no_std]

mod codes;

pub mod counters;
pub mod device;
pub mod error;
pub mod exit;
pub mod filter;
pub mod info;
pub mod mark;
pub mod message;
pub mod name;
pub mod path;
pub mod port;
pub mod socket;
pub mod supervise;
pub mod syscall;
pub mod thread;
pub mod usage;
pub mod vm;
pub mod window;

pub use error::Error;
