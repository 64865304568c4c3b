//! External storage: data that mbufs refer to and no pool owns (`m_ext`; W. R. Stevens and G. R. Wright, "TCP/IP
//! Illustrated", volume 2, chapter 2).
//!
//! A part of the window, the last of [`Places`](crate::Places), belongs to the server alone: pages of a file, a table, a frame
//! buffer. It [attaches](ProtocolSpace::attach_external) an *area* of whole pages to a packet, and sends that, or
//! [copies](ProtocolSpace::copy_range) of parts of it, each with headers of its own in front. The bytes are never copied:
//! the device reads them where they are.
//!
//! | here | 4.3BSD Reno and its descendants |
//! | --- | --- |
//! | [`attach_external`](ProtocolSpace::attach_external) | `MGETHDR`, `MEXTADD` |
//! | the area's offset in the mbuf's [`cluster`](crate::Mbuf::cluster) | `m_ext.ext_buf` |
//! | [`ExternalPage`] | `m_ext.ext_size`, and the list or count of the mbufs that refer to it |
//! | [`take_unreferenced`](ProtocolSpace::take_unreferenced) | `m_ext.ext_free`, called |
//!
//! # Who counts
//! The server, in memory of its own: it alone makes references (a packet, its copies, its splits), and it alone ends them. The
//! driver cannot tell who else refers to an area, so it frees no mbuf of one: that comes back by the deferred-free queue, as chains
//! and shared clusters do. So the counts need no lock, no atomic operation, and no belief in the peer; what a driver may ever conclude
//! from an offset is that it lies in the external storage, by its own geometry. When the last reference ends, the area is put on a list,
//! once; its owner takes it from there when it likes ([`take_unreferenced`](ProtocolSpace::take_unreferenced)), and may then write
//! it or attach it anew. A function called at that moment, as in BSD, would run in the middle of somebody's free.
//!
//! # Ordering
//! The device has read the bytes before the driver's append to the deferred-free queue, whose mutex orders that before the server's
//! dequeue, and so before any reuse of the area.
//!
//! ```
//! use mbuf::{EXTERNAL_PAGE_BYTES, ExternalPage, Geometry, Places, ProtocolSpace, View};
//! use std::ptr::NonNull;
//!
//! // One pool, and two pages of external storage behind it.
//! let places = Places::packed(64, 1, 8, 4).unwrap().with_external(2 * EXTERNAL_PAGE_BYTES).unwrap();
//! let geometry = Geometry::new(places)?;
//! #[repr(C, align(4096))]
//! struct Memory([u8; 1 << 15]);
//! let mut memory = Box::new(Memory([0; 1 << 15]));
//! let base = NonNull::new(memory.0.as_mut_ptr()).unwrap();
//! // SAFETY: the memory is as large as the geometry says, and is used through views only.
//! let view = unsafe { View::new(base, geometry) };
//! mbuf::init(&view);
//! let mut pages = [ExternalPage::FREE; 2];
//! let mut server = ProtocolSpace::with_external(view, &mut pages);
//!
//! // A document of 5000 bytes is in the storage. Two packets carry it, with a header each.
//! let document = server.attach_external(places.external, 5000)?;
//! let first = server.copy_range(document, 0, 3000)?;
//! let first = server.prepend(first, 40)?;
//! let second = server.copy_range(document, 3000, u32::MAX)?;
//! assert_eq!((server.chain_len(first)?, server.chain_len(second)?), (3040, 2000));
//!
//! // The document is withdrawn; its bytes are in use until both packets have left.
//! server.free_chain(document);
//! server.free_chain(second);
//! assert_eq!(server.take_unreferenced(), None);
//! server.free_chain(first);
//! assert_eq!(server.take_unreferenced(), Some((places.external, 5000)));
//! assert_eq!(server.take_unreferenced(), None); // once
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use core::fmt;

use shmqueue::{Item, PeerMisbehaviour};

use crate::{Flags, Geometry, ProtocolSpace};

/// The unit of external storage: an area is whole pages.
pub const EXTERNAL_PAGE_BYTES: u32 = 4096;
/// No more mbufs than this refer to one area; so the count cannot wrap.
const REFERENCES_MAX: u32 = 0xffff;

/// What the server knows of one page of external storage. It is in memory of the server's own, out of the window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExternalPage(State);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Of no area.
    Free,
    /// The first of an area of so many bytes.
    First { bytes: u32, references: u32 },
    /// The first of an area that nobody refers to any more; `next` is on the list behind it.
    Unreferenced { bytes: u32, next: Option<u32> },
    /// Not the first of its area.
    Rest,
}

impl ExternalPage {
    /// A page of no area.
    pub const FREE: Self = Self(State::Free);
}

/// Why an area was not attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExternalError {
    /// No free mbuf.
    NoBuffer,
    /// It does not start with a page of the external storage, has no bytes, or leaves the storage or its records.
    Outside,
    /// One of its pages belongs to an area that is in use, or has not been taken back.
    InUse,
}

impl fmt::Display for ExternalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoBuffer => "no free buffer",
            Self::Outside => "the area is not in the external storage",
            Self::InUse => "a page of the area is in use",
        })
    }
}

impl core::error::Error for ExternalError {}

impl ProtocolSpace<'_> {
    /// A packet of one mbuf whose data are the `bytes` of external storage from `start` on; the rest of the last page is the
    /// area's too.
    ///
    /// # Errors
    /// See [`ExternalError`]; nothing has changed.
    pub fn attach_external(&mut self, start: u32, bytes: u32) -> Result<Item, ExternalError> {
        let geometry = *self.view().geometry();
        let area = Item::new(start).ok_or(ExternalError::Outside)?;
        let first = geometry.external_index(area).ok_or(ExternalError::Outside)?;
        let records = self.external.of(&geometry, first, bytes).ok_or(ExternalError::Outside)?;
        if records.iter().any(|page| page.0 != State::Free) {
            return Err(ExternalError::InUse);
        }
        let item = self.alloc().ok_or(ExternalError::NoBuffer)?;
        let mbuf = self.view().mbuf(item).ok_or(ExternalError::NoBuffer)?;
        if let Some([head, rest @ ..]) = self.external.of(&geometry, first, bytes) {
            head.0 = State::First { bytes, references: 1 };
            rest.fill(ExternalPage(State::Rest));
        }
        mbuf.set_cluster(Some(area));
        mbuf.set_packet(start, bytes, Flags::PACKET.with(Flags::EXTERNAL));
        Ok(item)
    }

    /// The area, by start and bytes, that has been unreferenced for the longest time: it is its owner's again, and its pages are
    /// free to be attached. Each is given once.
    pub fn take_unreferenced(&mut self) -> Option<(u32, u32)> {
        let places = *self.view().geometry().places();
        let (first, bytes) = self.external.take()?;
        Some((places.external + first * EXTERNAL_PAGE_BYTES, bytes))
    }
}

/// The records of all pages, and the list of areas that nobody refers to.
pub(crate) struct External<'w> {
    pages: &'w mut [ExternalPage],
    /// First and last of the list.
    unreferenced: Option<(u32, u32)>,
}

impl<'w> External<'w> {
    pub const fn new(pages: &'w mut [ExternalPage]) -> Self {
        Self { pages, unreferenced: None }
    }

    /// The records of the area of `bytes` that starts with page `first`; `None` if it is empty or leaves the storage or
    /// the records.
    fn of(&mut self, geometry: &Geometry, first: u32, bytes: u32) -> Option<&mut [ExternalPage]> {
        let there = geometry.places().external_bytes - first * EXTERNAL_PAGE_BYTES;
        if bytes == 0 || bytes > there {
            return None;
        }
        let first = first as usize;
        self.pages.get_mut(first..first + bytes.div_ceil(EXTERNAL_PAGE_BYTES) as usize)
    }

    fn state(&mut self, geometry: &Geometry, area: Item) -> Option<(u32, &mut State)> {
        let first = geometry.external_index(area)?;
        Some((first, &mut self.pages.get_mut(first as usize)?.0))
    }

    /// One more mbuf refers to the area; `false` if there is none, or too many do.
    pub fn share(&mut self, geometry: &Geometry, area: Item) -> bool {
        match self.state(geometry, area) {
            Some((_, State::First { references, .. })) if *references < REFERENCES_MAX => {
                *references += 1;
                true
            }
            _ => false,
        }
    }

    /// How many mbufs refer to the area; 0 if none has been attached. `None` if there is no such page.
    pub fn references(&self, geometry: &Geometry, area: Item) -> Option<u32> {
        match self.pages.get(geometry.external_index(area)? as usize)?.0 {
            State::First { references, .. } => Some(references),
            _ => Some(0),
        }
    }

    /// One mbuf less refers to the area. The last one puts it on the list.
    #[cold]
    pub fn release(&mut self, geometry: &Geometry, area: Item) -> Result<(), PeerMisbehaviour> {
        let (first, state) = self.state(geometry, area).ok_or(PeerMisbehaviour::NotAnItem(area.get()))?;
        match state {
            State::First { bytes, references: 1 } => {
                *state = State::Unreferenced { bytes: *bytes, next: None };
                let last = match self.unreferenced {
                    None => None,
                    Some((_, last)) => self.pages.get_mut(last as usize),
                };
                if let Some(ExternalPage(State::Unreferenced { next, .. })) = last {
                    *next = Some(first);
                }
                self.unreferenced = Some((self.unreferenced.map_or(first, |(head, _)| head), first));
            }
            State::First { references, .. } => *references -= 1,
            State::Free | State::Unreferenced { .. } | State::Rest => {
                return Err(PeerMisbehaviour::Refused(area.get()));
            }
        }
        Ok(())
    }

    /// The first of the list: its first page, which is free then as all of its pages are, and its bytes.
    fn take(&mut self) -> Option<(u32, u32)> {
        let (first, last) = self.unreferenced?;
        let State::Unreferenced { bytes, next } = self.pages.get(first as usize)?.0 else { return None };
        self.unreferenced = next.map(|next| (next, last));
        let pages = bytes.div_ceil(EXTERNAL_PAGE_BYTES) as usize;
        self.pages.get_mut(first as usize..first as usize + pages)?.fill(ExternalPage::FREE);
        Some((first, bytes))
    }
}
