//! Addresses and protections.

/// The size of a page, in bytes.
pub const PAGE_BYTES: u64 = 4096;
/// The lowest address that a task can use: the page at 0 and its neighbours are never mapped.
pub const USER_MIN: u64 = 0x1_0000;
/// One past the highest address that a task can use.
pub const USER_END: u64 = 0x0000_8000_0000_0000;
/// One past the highest address that a program's own segments can have.
///
/// Programs, the information page, the first stack and the first mappings lie within one GiB, and the last three within one table of pages: a
/// change of the address space makes the processor (and an emulated one all the more) read every table anew that the task touches.
pub const PROGRAM_END: u64 = 0x1000_0000;
/// Where the kernel puts what a task maps without choosing an address.
pub const MAP_BASE: u64 = 0x1008_0000;
/// One past the highest address that a task can map by a call.
pub const MAP_END: u64 = 0x0000_7000_0000_0000;

/// A mapping may be read; every mapping may.
pub const PROT_READ: u64 = 1;
/// A mapping may be written.
pub const PROT_WRITE: u64 = 2;
/// A mapping may be executed; never together with [`PROT_WRITE`].
pub const PROT_EXECUTE: u64 = 4;
