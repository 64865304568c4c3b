//! Tests of the kernel as a whole, on a machine of arrays.

mod audit;
mod calls;
mod data;
mod fake;
mod holds;
mod ipc;
mod lifetimes;
mod net_io;
pub(crate) mod random;
mod scheduling;
mod sockets;
mod syscalls;
