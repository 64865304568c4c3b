//! Items, where their link words live, and what a peer can do wrong.
//!
//! An item is an offset into the memory that the two sides share: they see it at different addresses, so no
//! pointer ever crosses. R&H convert pointers with PTOI and ITOP where zero stays zero; here zero is no item
//! at all.

use core::{fmt, num::NonZeroU32};

use crate::sync::AtomicU32;

/// The offset of something in shared memory; never zero.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Item(NonZeroU32);

impl Item {
    /// The item at `offset`; none at 0, which ends a list.
    #[inline(always)]
    #[must_use]
    pub const fn new(offset: u32) -> Option<Self> {
        match NonZeroU32::new(offset) {
            Some(offset) => Some(Self(offset)),
            None => None,
        }
    }

    /// The offset.
    #[inline(always)]
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    /// The offset of an item that may be none: 0 for none.
    #[inline(always)]
    #[must_use]
    pub const fn or_zero(item: Option<Self>) -> u32 {
        match item {
            Some(item) => item.get(),
            None => 0,
        }
    }
}

/// Knows where the link word of each item is: the field of a buffer's header that names the next packet of a
/// queue.
///
/// An implementation checks the offset by its own trusted bounds, since it may come from a peer that lies.
pub trait Links {
    /// The link word of `item`, or `None` if there is no item at that offset.
    fn next(&self, item: Item) -> Option<&AtomicU32>;

    /// How many items there are at most: no honest list is longer. Without an answer a list without an end is not noticed, though each
    /// call that follows it is bounded.
    #[inline]
    fn items(&self) -> u32 {
        u32::MAX
    }
}

impl<L: Links + ?Sized> Links for &L {
    #[inline(always)]
    fn next(&self, item: Item) -> Option<&AtomicU32> {
        (**self).next(item)
    }

    #[inline]
    fn items(&self) -> u32 {
        (**self).items()
    }
}

/// What the other side put into shared memory that no correct peer would: it is to blame, not the caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PeerMisbehaviour {
    /// An offset that is no item: outside, or not aligned.
    NotAnItem(u32),
    /// A queue that says it is not empty, though nothing was ever put there.
    NotEmpty,
    /// An index of a ring that leaves it with more than it can hold.
    Index(u32),
    /// An item that the trusted ledger of this side says the peer may not give.
    Refused(u32),
    /// A count (of references, of bytes) that cannot be.
    Count(u32),
    /// A list longer than all items together.
    Endless,
}

impl fmt::Display for PeerMisbehaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnItem(offset) => write!(f, "the peer links to offset {offset:#x}, where no item is"),
            Self::NotEmpty => f.write_str("the peer marks as filled a queue that nothing was put on"),
            Self::Index(index) => write!(f, "the peer's index {index:#x} leaves more than the ring can hold"),
            Self::Refused(offset) => {
                write!(f, "the peer gives the item at {offset:#x}, which is not its to give")
            }
            Self::Count(count) => write!(f, "the peer stored the impossible count {count:#x}"),
            Self::Endless => f.write_str("the peer's list does not end"),
        }
    }
}

impl core::error::Error for PeerMisbehaviour {}
