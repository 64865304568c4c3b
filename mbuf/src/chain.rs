//! Operations on chains, for the server: those of 4.3BSD's mbufs, under their names.
//!
//! | here | 4.3BSD |
//! | --- | --- |
//! | [`chain_len`](ProtocolSpace::chain_len) | `m_length` |
//! | [`concatenate`](ProtocolSpace::concatenate) | `m_cat` |
//! | [`prepend`](ProtocolSpace::prepend) | `M_PREPEND` |
//! | [`trim_front`](ProtocolSpace::trim_front), [`trim_back`](ProtocolSpace::trim_back) | `m_adj` |
//! | [`pull_up`](ProtocolSpace::pull_up) | `m_pullup` |
//! | [`split`](ProtocolSpace::split) | `m_split` |
//! | [`copy_range`](ProtocolSpace::copy_range) | `m_copym` |
//! | [`copy_data`](ProtocolSpace::copy_data) | `m_copydata` |
//! | [`packet_from`](ProtocolSpace::packet_from) | `m_devget` |
//!
//! All walks are bounded by the number of all mbufs. Data that more than one mbuf refers to is never written, and neither is
//! external storage. An extent is loaded and checked once for each piece: what is copied lies in it also where it changes meanwhile.
#![expect(unsafe_code, reason = "copies bytes of the buffers, which are raw memory")]

use shmqueue::{
    Item,
    copy::{copy_bytes, copy_in},
};

use crate::{
    CLUSTER_BYTES, Mbuf, ProtocolSpace,
    header::{Flags, INTERNAL_BYTES},
};

mod copy;

/// Why an operation on a chain was not done. The chain is as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChainError {
    /// No free mbuf or cluster.
    NoBuffer,
    /// The packet is shorter than that.
    TooShort,
    /// More than one buffer can hold in one piece.
    TooLong,
    /// An mbuf or its extent is nonsense, or the chain does not end.
    Corrupt,
}

impl core::fmt::Display for ChainError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::NoBuffer => "no free buffer",
            Self::TooShort => "the packet is shorter than that",
            Self::TooLong => "more than one buffer holds in one piece",
            Self::Corrupt => "the chain of buffers is corrupt",
        })
    }
}

impl core::error::Error for ChainError {}

/// One mbuf of a chain, as a walk finds it.
#[derive(Clone, Copy)]
struct Piece<'w> {
    mbuf: &'w Mbuf,
    /// Where the room begins that the data lies in.
    start: u32,
    data: u32,
    len: u32,
}

impl<'w> ProtocolSpace<'w> {
    /// The mbuf at `item`, with its extent as it is now.
    fn piece(&self, item: Item) -> Result<Piece<'w>, ChainError> {
        let mbuf = self.mbuf_of(item)?;
        let (start, data, len) = self.view().extent_of(item, mbuf).ok_or(ChainError::Corrupt)?;
        Ok(Piece { mbuf, start, data, len })
    }

    /// Calls `visit` for each mbuf until it returns something.
    fn walk<T>(
        &self,
        first: Item,
        mut visit: impl FnMut(&Piece<'w>) -> Option<T>,
    ) -> Result<Option<T>, ChainError> {
        let mut next = Some(first);
        for _ in 0..=self.view().geometry().mbufs() {
            let Some(item) = next else { return Ok(None) };
            let piece = self.piece(item)?;
            if let Some(found) = visit(&piece) {
                return Ok(Some(found));
            }
            next = piece.mbuf.next();
        }
        Err(ChainError::Corrupt)
    }

    /// The bytes of data in the chain, added up.
    ///
    /// # Errors
    /// [`ChainError::Corrupt`].
    pub fn chain_len(&self, first: Item) -> Result<u32, ChainError> {
        let mut sum = 0u32;
        self.walk(first, |piece| {
            sum = sum.saturating_add(piece.len);
            None::<()>
        })?;
        Ok(sum)
    }

    /// Puts the packet `second` behind the packet `first`, which is then the whole.
    ///
    /// # Errors
    /// [`ChainError::Corrupt`].
    pub fn concatenate(&mut self, first: Item, second: Item) -> Result<(), ChainError> {
        let head = self.view().mbuf(first).ok_or(ChainError::Corrupt)?;
        let tail = self.view().mbuf(second).ok_or(ChainError::Corrupt)?;
        let len = self.chain_len(second)?;
        let last = self.walk(first, |piece| piece.mbuf.next().is_none().then_some(piece.mbuf))?;
        let whole = head.packet_len().checked_add(len).ok_or(ChainError::Corrupt)?;
        last.ok_or(ChainError::Corrupt)?.set_next(Some(second));
        tail.set_flags(Flags(tail.flags().0 & !Flags::PACKET.0));
        head.set_packet_len(whole);
        Ok(())
    }

    /// Makes room for `len` bytes in front of the data: in the first mbuf if it has the room and the data is
    /// nobody else's too, else in a new mbuf. Returns the packet's first mbuf.
    ///
    /// # Errors
    /// [`ChainError::TooLong`] for more than [`INTERNAL_BYTES`], [`ChainError::NoBuffer`],
    /// [`ChainError::Corrupt`].
    pub fn prepend(&mut self, first: Item, len: u32) -> Result<Item, ChainError> {
        let Piece { mbuf, start, data, len: had } = self.piece(first)?;
        let whole = mbuf.packet_len().checked_add(len).ok_or(ChainError::Corrupt)?;
        if data - start >= len && self.writable(mbuf) {
            mbuf.set_data(data - len);
            mbuf.set_len(had + len);
            mbuf.set_packet_len(whole);
            return Ok(first);
        }
        if len > INTERNAL_BYTES {
            return Err(ChainError::TooLong);
        }
        let item = self.alloc().ok_or(ChainError::NoBuffer)?;
        let Piece { mbuf: front, start: own, .. } = self.piece(item)?;
        // At the end of its room, so that a further header fits before it.
        front.set_packet(own + INTERNAL_BYTES - len, len, Flags(mbuf.flags().0 & !Flags::EXTERNAL.0));
        front.set_packet_len(whole);
        let (sum_start, sum_offset) = mbuf.checksum();
        front.set_checksum(sum_start, sum_offset);
        mbuf.set_flags(Flags(mbuf.flags().0 & Flags::EXTERNAL.0));
        front.set_next(Some(first));
        Ok(item)
    }

    /// Whether the room in front of the data is the mbuf's alone. External storage never is: what is there has an owner.
    fn writable(&self, mbuf: &Mbuf) -> bool {
        mbuf.cluster().is_none_or(|cluster| {
            self.view().geometry().cluster_index(cluster).is_some() && self.references(cluster) == Some(1)
        })
    }

    /// Drops `len` bytes at the front. Mbufs that become empty stay in the chain.
    ///
    /// # Errors
    /// [`ChainError::TooShort`], [`ChainError::Corrupt`].
    pub fn trim_front(&mut self, first: Item, len: u32) -> Result<(), ChainError> {
        let total = self.chain_len(first)?;
        if len > total {
            return Err(ChainError::TooShort);
        }
        let mut left = len;
        self.walk(first, |piece| {
            let here = left.min(piece.len);
            piece.mbuf.set_data(piece.data + here);
            piece.mbuf.set_len(piece.len - here);
            left -= here;
            (left == 0).then_some(())
        })?;
        self.view().mbuf(first).ok_or(ChainError::Corrupt)?.set_packet_len(total - len);
        Ok(())
    }

    /// Drops `len` bytes at the end. Mbufs that become empty stay in the chain.
    ///
    /// # Errors
    /// [`ChainError::TooShort`], [`ChainError::Corrupt`].
    pub fn trim_back(&mut self, first: Item, len: u32) -> Result<(), ChainError> {
        let total = self.chain_len(first)?;
        if len > total {
            return Err(ChainError::TooShort);
        }
        let mut keep = total - len;
        self.walk(first, |piece| {
            let here = keep.min(piece.len);
            piece.mbuf.set_len(here);
            keep -= here;
            None::<()>
        })?;
        self.view().mbuf(first).ok_or(ChainError::Corrupt)?.set_packet_len(total - len);
        Ok(())
    }

    /// Brings the first `len` bytes into one piece. Returns the packet's first mbuf.
    ///
    /// # Errors
    /// [`ChainError::TooShort`]; [`ChainError::TooLong`] for more than a cluster; [`ChainError::NoBuffer`];
    /// [`ChainError::Corrupt`].
    pub fn pull_up(&mut self, first: Item, len: u32) -> Result<Item, ChainError> {
        let (_, here) = self.view().extent(first).ok_or(ChainError::Corrupt)?;
        if here >= len {
            return Ok(first);
        }
        if len > CLUSTER_BYTES {
            return Err(ChainError::TooLong);
        }
        if self.chain_len(first)? < len {
            return Err(ChainError::TooShort);
        }
        let item = if len <= INTERNAL_BYTES { self.alloc() } else { self.alloc_cluster() };
        let item = item.ok_or(ChainError::NoBuffer)?;
        let (old, new) = (self.mbuf_of(first)?, self.mbuf_of(item)?);
        let done = match self.room(item, len) {
            Ok(to) => self.gather(first, 0, to, len),
            Err(error) => Err(error),
        };
        if done != Ok(len) {
            self.free_chain(item);
            return Err(ChainError::Corrupt);
        }
        let external = new.flags().0 & Flags::EXTERNAL.0;
        new.set_packet(new.data(), len, Flags(old.flags().0 & !Flags::EXTERNAL.0 | external));
        new.set_packet_len(old.packet_len());
        let (sum_start, sum_offset) = old.checksum();
        new.set_checksum(sum_start, sum_offset);
        // What was gathered leaves the old mbufs; those that are empty now go.
        self.trim_front(first, len)?;
        let mut rest = Some(first);
        for _ in 0..=self.view().geometry().mbufs() {
            let Some(item) = rest else { break };
            let mbuf = self.mbuf_of(item)?;
            if !mbuf.is_empty() {
                mbuf.set_flags(Flags(mbuf.flags().0 & Flags::EXTERNAL.0));
                break;
            }
            rest = mbuf.next();
            mbuf.set_next(None);
            self.free_chain(item);
        }
        new.set_next(rest);
        Ok(item)
    }

    /// Cuts the packet after `at` bytes; returns the second part as a packet of its own. A cluster that the
    /// cut goes through is shared by both parts, not copied.
    ///
    /// # Errors
    /// [`ChainError::TooShort`] unless `at` leaves something to both; [`ChainError::NoBuffer`];
    /// [`ChainError::Corrupt`].
    pub fn split(&mut self, first: Item, at: u32) -> Result<Item, ChainError> {
        let total = self.chain_len(first)?;
        if at == 0 || at >= total {
            return Err(ChainError::TooShort);
        }
        let mut before = 0;
        let (left, keep) = self
            .walk(first, |piece| {
                let here = at - before;
                before += piece.len;
                (here <= piece.len).then_some((*piece, here))
            })?
            .ok_or(ChainError::Corrupt)?;
        let mbuf = left.mbuf;
        let second = if keep == left.len {
            mbuf.next().ok_or(ChainError::Corrupt)?
        } else {
            let item = self.refer(&left, keep, left.len - keep)?;
            self.mbuf_of(item)?.set_next(mbuf.next());
            mbuf.set_len(keep);
            item
        };
        mbuf.set_next(None);
        let head = self.mbuf_of(second)?;
        head.set_flags(head.flags().with(Flags::PACKET));
        head.set_packet_len(total - at);
        head.set_checksum(0, 0);
        self.mbuf_of(first)?.set_packet_len(at);
        Ok(second)
    }

    /// Copies the bytes from `offset` on, as many as there are and `destination` has room for; returns how
    /// many.
    ///
    /// # Errors
    /// [`ChainError::Corrupt`].
    pub fn copy_data(&self, first: Item, offset: u32, destination: &mut [u8]) -> Result<usize, ChainError> {
        let len = u32::try_from(destination.len()).unwrap_or(u32::MAX);
        Ok(self.gather(first, offset, destination.as_mut_ptr(), len)? as usize)
    }

    /// Copies up to `len` bytes of the chain to `to`, which is valid for as many and no part of the chain.
    fn gather(&self, first: Item, offset: u32, to: *mut u8, len: u32) -> Result<u32, ChainError> {
        let (mut skip, mut done) = (offset, 0);
        self.walk(first, |piece| {
            let past = skip.min(piece.len);
            skip -= past;
            let here = (piece.len - past).min(len - done);
            if here != 0 {
                let from = self.view().pointer(piece.data);
                // SAFETY: `past + here` bytes lie in the piece, by its checked extent; `done + here <= len`
                // at the destination.
                unsafe { copy_bytes(to.add(done as usize), from.as_ptr().add(past as usize), here as usize) };
                done += here;
            }
            (done == len).then_some(())
        })?;
        Ok(done)
    }

    /// A packet with a copy of `bytes`, in as many clusters as it takes.
    ///
    /// # Errors
    /// [`ChainError::NoBuffer`]: nothing is allocated then.
    pub fn packet_from(&mut self, bytes: &[u8]) -> Result<Item, ChainError> {
        let mut whole = None;
        let mut chunks = bytes.chunks(CLUSTER_BYTES as usize);
        loop {
            let chunk = chunks.next().unwrap_or(&[]);
            if chunk.is_empty()
                && let Some(whole) = whole
            {
                return Ok(whole);
            }
            let item =
                if chunk.len() <= INTERNAL_BYTES as usize { self.alloc() } else { self.alloc_cluster() };
            let Some(item) = item else {
                if let Some(whole) = whole {
                    self.free_chain(whole);
                }
                return Err(ChainError::NoBuffer);
            };
            let to = self.room(item, chunk.len() as u32)?;
            // SAFETY: the chunk is no longer than the room of the buffer just allocated, which is ours.
            unsafe { copy_in(to, chunk) };
            let mbuf = self.mbuf_of(item)?;
            mbuf.set_len(chunk.len() as u32);
            mbuf.set_packet_len(chunk.len() as u32);
            match whole {
                None => whole = Some(item),
                Some(whole) => self.concatenate(whole, item)?,
            }
        }
    }

    /// Where the room of a buffer just allocated begins, which is for `len` bytes at least.
    fn room(&self, item: Item, len: u32) -> Result<*mut u8, ChainError> {
        match self.view().storage(item) {
            Some((start, bytes)) if len <= bytes => Ok(self.view().pointer(start).as_ptr()),
            _ => Err(ChainError::Corrupt),
        }
    }

    fn mbuf_of(&self, item: Item) -> Result<&'w Mbuf, ChainError> {
        self.view().mbuf(item).ok_or(ChainError::Corrupt)
    }
}
