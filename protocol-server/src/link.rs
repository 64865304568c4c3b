//! The one boundary between the stack and the path by which frames travel.
//!
//! A path is one implementation of [`Link`], with the rest of the server unchanged: [`window`] is the shared window of Reynolds and
//! Heller, [`message`] the path that it is compared with, [`direct`] the driver itself, for a stack in the kernel.
//!
//! # A burst, in phases
//! 1. [`Link::receive`] lends frames; [`Link::release`] gives them back, all of a batch together.
//! 2. [`Link::transmit`] builds a frame in place, any number of times.
//! 3. [`Link::flush`] starts the device if it is idle: one trap for the burst, or none.
//!
//! # Sleep, in phases
//! 1. [`Link::announce_idle`] says that the server is about to wait. The server fences once for all that it announces.
//! 2. [`Link::has_frames`] looks again. Only if there is nothing the server may wait.
//! 3. [`Link::clear_idle`] when it goes on.

use alloc::vec::Vec;

use crate::frame::ChecksumRequest;

pub mod direct;
pub mod message;
pub mod window;
#[cfg(test)]
pub mod wire;

/// What is fixed about a link.
#[derive(Clone, Copy, Debug)]
pub struct LinkInfo {
    /// Our station address.
    pub mac: [u8; 6],
    /// The longest frame without its check sequence, in bytes.
    pub frame_bytes_max: usize,
    /// Bits of [`abi::device::offload`].
    pub offload: u32,
}

/// A frame that the link has lent.
pub trait RxFrame {
    /// Its bytes, from the destination address on.
    fn bytes(&self) -> &[u8];

    /// Whether device or driver vouch for its transport checksum.
    fn checksum_good(&self) -> bool;
}

/// Where the link's buffers are, for the audit. Zeros for a link that has none of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkAudit {
    /// Pools.
    pub pools: u32,
    /// Mbufs in all.
    pub mbufs: u32,
    /// Clusters in all.
    pub clusters: u32,
    /// Mbufs that the server holds.
    pub mbufs_lent: u32,
    /// Clusters that the server holds.
    pub clusters_lent: u32,
    /// A bit for each queue that holds something, by the numbers of [`abi::window::Queue`].
    pub queues_filled: u32,
    /// Of each pool the free mbufs and the free clusters.
    pub free: [(u32, u32); abi::window::POOLS_MAX as usize],
    /// What the kernel holds.
    pub kernel: abi::device::Audit,
}

/// What becomes of a frame that was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Built {
    /// It is sent; the device fills in the checksum that is asked for.
    Send(Option<ChecksumRequest>),
    /// It is not sent now: its builder has a copy, and sends that later.
    Keep,
}

/// A path for frames.
pub trait Link {
    /// A frame that was received.
    type Frame: RxFrame;

    /// What is fixed about it.
    fn info(&self) -> &LinkInfo;

    /// Adds frames that have come to `into`, at most `limit`.
    fn receive(&mut self, into: &mut Vec<Self::Frame>, limit: usize);

    /// Takes frames back.
    fn release(&mut self, frames: &mut Vec<Self::Frame>);

    /// Whether a frame of any length can be built now.
    fn ready(&mut self) -> bool;

    /// Lets `build` write a frame of `length` bytes, in place, and queues it for the device unless it is to be kept.
    ///
    /// Where no buffer is left `build` writes into one that is thrown away: the frame is lost and counted.
    fn transmit<R>(&mut self, length: usize, build: impl FnOnce(&mut [u8]) -> (R, Built)) -> R;

    /// Sees that the device sends what was queued.
    fn flush(&mut self);

    /// Says that the server is about to wait; a fence of the caller's must follow.
    fn announce_idle(&mut self);

    /// The server goes on.
    fn clear_idle(&mut self);

    /// Whether a frame waits. Asked only after a [`Link::receive`] that found fewer than its limit.
    fn has_frames(&mut self) -> bool;

    /// Frames that could not be built for want of a buffer, since the start.
    fn no_buffer(&self) -> u64;

    /// Mbufs and clusters that the server holds now.
    fn lent(&self) -> (u32, u32);

    /// Counts buffers. Slow.
    fn audit(&mut self) -> LinkAudit;
}
