//! `memcpy`, `memmove`, `memset`, `memcmp` and `bcmp` for freestanding programs.
//!
//! The compiler calls these by name (ISO C, 7.24), and without a C library somebody has to supply them. Only binaries link this crate, with
//! `use memfuncs as _;`. The system runs under emulation first of all, where an instruction costs about the same whatever it does:
//! so copies go by unaligned 16-byte SSE moves, eight to a turn of the loop, and never by `rep movsb`, which an emulator
//! runs a byte at a time. Short lengths take two overlapping moves, not a loop.
//!
//! Neighbours: none; it uses nothing.

#![no_std]

#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "x86_64")]
pub use x86_64::{bcmp, memcmp, memcpy, memmove, memset};

#[cfg(all(test, target_arch = "x86_64"))]
mod tests;
