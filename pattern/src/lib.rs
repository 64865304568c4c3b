//! The test data of every transfer, and the digest that both of its ends compute.
//!
//! [`Pattern`] is an endless stream of pseudo-random bytes: the byte at a position follows from the position
//! alone, so that a receiver knows what must come without being told. [`Source`] walks along it for a sender,
//! [`Verifier`] compares what arrives with it, [`Pieces`] where some of it may be lost, and [`Digest`] sums up a stream whatever the pieces it came in.
//!
//! The period is a prime just below 64 KiB. A power of two would hide the very mistakes that a ring buffer makes: a
//! piece that is repeated, lost or moved by one lap would carry the right bytes. `apps` (guest) and `xtask` (host)
//! use this crate, so that the two ends can't disagree about what the pattern is.

#![cfg_attr(not(test), no_std)]

mod digest;
mod lanes;
mod pieces;
mod table;
mod verify;

pub use digest::Digest;
pub use pieces::Pieces;
pub use table::{MAX_CHUNK, PERIOD, Pattern, Source};
pub use verify::Verifier;
