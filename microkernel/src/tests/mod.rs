//! Tests of the kernel as a whole, on a machine of arrays.

mod audit;
mod calls;
mod data;
mod deaths;
mod fake;
mod holds;
mod ipc;
mod lifetimes;
mod net_io;
pub(crate) mod random;
mod rig;
mod scheduling;
mod sockets;
mod syscalls;
