//! What a stock Linux guest runs beside Oriel in the evaluation: the applications of `apps/`, over Linux's own system calls.
//!
//! One static program, called by several names as busybox is. Each takes the flags and prints the lines of its namesake in
//! `apps/`, computes the same digests, and marks the same regions ([`abi::mark`]), so that the host drives, verifies and
//! counts both guests by the same code. What differs is below the calls, and that is what is compared.
//!
//! [`icmp`] is used by the host too, for pings in the other direction.

pub mod command;
pub mod counters;
pub mod echo;
pub mod ftp;
pub mod icmp;
pub mod mark;
pub mod offload;
pub mod ping;
pub mod port;
pub mod timer;
pub mod ttcp;
pub mod xdots;
