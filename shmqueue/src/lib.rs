//! Queues between an interrupt handler and a task that share a window of memory, by nothing more than 32-bit
//! atomic loads, stores and fences.
//!
//! The design is that of F. Reynolds and J. Heller, "Kernel Support For Network Protocol Servers" (1991;
//! below R&H). The interrupt side never waits and never fails for want of a lock; the protocol side may be
//! preempted at any instruction, also while it holds one. Neither compare-and-swap nor the right to mask
//! interrupts is needed, so the crate serves a Cortex-M0 or a POSIX signal handler as well.
//!
//! | module | what it is | source |
//! | --- | --- | --- |
//! | [`mutex`] | the asymmetric mutex, with `turn` and without | R&H, "Software Mutex" |
//! | [`dual`] | IN and OUT queues of two sub-queues each, with the Enabled and the condition variable protocols | R&H, "Queues" |
//! | [`ring`] | Lamport's ring of items | L. Lamport, "Specifying Concurrent Program Modules" (1983) |
//! | [`queue`] | what both kinds of queue have in common, as traits | |
//! | [`wait`] | one wake-up per wait, by a generation word | R&H, "Queues": the condition variable |
//! | [`bytes`] | a byte stream between two tasks that do not trust each other | Lamport's ring |
//! | [`copy`] | copies to and from bytes that the peer can write at any time | |
//! | [`links`] | what an item is and where its link word lives | |
//! | [`sync`] | the atomics: of `core`, or of loom when it explores the interleavings | |
//!
//! # Trust
//! Each word that the peer can write is loaded once into a local, and the copy is checked. What decides about
//! memory safety (capacity, own index, the place of the last item) stays outside the shared memory. A peer
//! that lies is answered with [`PeerMisbehaviour`], never with a fault or an endless loop.
//!
//! # Sides
//! There is one interrupt side and one protocol side. The kernel serialises its interrupt handlers, the
//! server its threads: two concurrent users of one side break the order of the items, though never memory
//! safety.
#![no_std]
#![deny(missing_docs)]

#[cfg(test)]
extern crate std;

pub mod bytes;
pub mod copy;
pub mod dual;
pub mod links;
pub mod mutex;
pub mod queue;
pub mod ring;
pub mod sync;
pub mod wait;

pub use dual::{Drained, DualQueue, EnqueueError, InConsumer, InProducer, OutConsumer, OutProducer, Stats};
pub use links::{Item, Links, PeerMisbehaviour};
pub use mutex::{AsymmetricMutex, OneBitMutex};
pub use wait::{Poster, WaitWord};
