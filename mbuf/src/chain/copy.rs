//! Copies of chains that refer to the same data (4.3BSD's `m_copym`).

use shmqueue::{Item, copy::copy_bytes};

use super::{ChainError, Piece};
use crate::{ProtocolSpace, header::Flags};

impl<'w> ProtocolSpace<'w> {
    /// A packet of the `len` bytes from `offset` on: what lies in clusters and in external storage is referred to once
    /// more, what lies in mbufs is copied. [`u32::MAX`] asks for all the rest (`M_COPYALL`).
    ///
    /// What its sender keeps until it is acknowledged, say, goes to the device as such a copy.
    ///
    /// # Errors
    /// [`ChainError::TooShort`]; [`ChainError::NoBuffer`]; [`ChainError::Corrupt`]: nothing is kept then.
    pub fn copy_range(&mut self, first: Item, offset: u32, len: u32) -> Result<Item, ChainError> {
        let total = self.chain_len(first)?;
        let rest = total.checked_sub(offset).ok_or(ChainError::TooShort)?;
        let len = if len == u32::MAX { rest } else { len };
        if len > rest {
            return Err(ChainError::TooShort);
        }
        let mut whole = None;
        match self.copy_pieces(first, offset, len, &mut whole) {
            Ok(()) => {}
            Err(error) => {
                if let Some(whole) = whole {
                    self.free_chain(whole);
                }
                return Err(error);
            }
        }
        let whole = match whole {
            Some(whole) => whole,
            None => self.alloc().ok_or(ChainError::NoBuffer)?, // of no bytes at all
        };
        let (from, to) = (self.mbuf_of(first)?, self.mbuf_of(whole)?);
        let external = to.flags().0 & Flags::EXTERNAL.0;
        // What is known of the packet's checksums is true of a copy with the same start.
        let known = if offset == 0 { from.flags().0 & !Flags::EXTERNAL.0 } else { 0 };
        to.set_flags(Flags(known | external).with(Flags::PACKET));
        let (sum_start, sum_offset) = if offset == 0 { from.checksum() } else { (0, 0) };
        to.set_checksum(sum_start, sum_offset);
        to.set_packet_len(len);
        Ok(whole)
    }

    /// The mbufs of the copy, linked, from `whole` on; as many as were made if there is an error.
    fn copy_pieces(
        &mut self,
        first: Item,
        offset: u32,
        len: u32,
        whole: &mut Option<Item>,
    ) -> Result<(), ChainError> {
        let (mut skip, mut left, mut next, mut last) = (offset, len, Some(first), None);
        for _ in 0..=self.view().geometry().mbufs() {
            let Some(item) = next else { break };
            if left == 0 {
                return Ok(());
            }
            let piece = self.piece(item)?;
            let past = skip.min(piece.len);
            skip -= past;
            let here = (piece.len - past).min(left);
            if here != 0 {
                let copy = self.refer(&piece, past, here)?;
                match last.replace(self.mbuf_of(copy)?) {
                    None => *whole = Some(copy),
                    Some(last) => last.set_next(Some(copy)),
                }
                left -= here;
            }
            next = piece.mbuf.next();
        }
        if left == 0 { Ok(()) } else { Err(ChainError::Corrupt) }
    }

    /// A new mbuf with the `len` bytes of `piece` from its byte `past` on: where those lie outside of the mbuf, one more
    /// reference to them, else a copy.
    pub(super) fn refer(&mut self, piece: &Piece<'w>, past: u32, len: u32) -> Result<Item, ChainError> {
        let item = self.alloc().ok_or(ChainError::NoBuffer)?;
        let new = self.mbuf_of(item)?;
        if let Some(storage) = piece.mbuf.cluster() {
            if !self.share(storage) {
                self.free_chain(item);
                return Err(ChainError::Corrupt);
            }
            new.set_cluster(Some(storage));
            new.set_packet(piece.data + past, len, Flags::EXTERNAL);
            return Ok(item);
        }
        // An mbuf that had a cluster when its extent was checked has more bytes than fit here.
        let Ok(to) = self.room(item, len) else {
            self.free_chain(item);
            return Err(ChainError::Corrupt);
        };
        let from = self.view().pointer(piece.data);
        // SAFETY: `past + len` bytes lie in the piece, by its checked extent; `len` lie in the room of the new mbuf, which
        // is ours and not the same.
        unsafe { copy_bytes(to, from.as_ptr().add(past as usize), len as usize) };
        new.set_len(len);
        Ok(item)
    }
}
