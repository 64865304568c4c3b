//! The application's end of a socket's rings, where that is not mapped in the application.
//!
//! By window an application has both ends of its rings that are its own: it writes into the one and reads from the other. On the other
//! paths ([`abi::path`]) it maps the page alone, and asks; who is asked, the server or the kernel, then does here what the
//! application would have done. The rings and their positions stay what they are, so the rest of the server sees no difference,
//! and what the application sees in its page is true on every path.
//!
//! The application can write the positions in its page at any time. Each end keeps its own to itself, so that costs it the socket
//! ([`Error::PeerMisbehaviour`]), and nobody else anything.
//!
//! Bytes are copied once, from or to wherever a closure says: a slice, or pages of a task.
#![expect(unsafe_code, reason = "ends of rings in memory that a socket keeps mapped")]

use abi::{
    Error,
    socket::{Endpoint, RECORD_BYTES, Record},
};
use shmqueue::{
    PeerMisbehaviour,
    bytes::{Chunk, Consumer, Control, Producer},
    copy::{copy_in, copy_out},
};

use super::{Protocol, Socket};
use crate::{
    page::{record_bytes, record_from},
    system::SharedMemory,
};

/// Both of an application's ends.
pub struct End {
    tx: Producer<'static>,
    rx: Consumer<'static>,
    rx_bytes: u32,
    tx_bytes: u32,
}

/// A ring in shared memory: its control words, its bytes, how many.
#[derive(Clone, Copy)]
pub struct Ring {
    /// The control words.
    pub control: &'static Control,
    /// The first byte.
    pub data: *mut u8,
    /// The capacity, a power of two.
    pub bytes: u32,
}

fn misbehaved(_: PeerMisbehaviour) -> Error {
    Error::PeerMisbehaviour
}

impl End {
    /// The application's ends of two new rings.
    ///
    /// # Safety
    /// 1. The bytes of `rx` are readable and those of `tx` readable and writable, and the control words are there, for as long as this
    ///    value is.
    /// 2. Nobody in this program has another end like these. Where a reference to bytes of `rx` exists, nobody uses it during a call
    ///    here.
    #[must_use]
    pub unsafe fn new(rx: Ring, tx: Ring) -> Self {
        // SAFETY: the caller's promises, handed on. The producer and the consumer of each ring do not overlap in what they may touch. The
        // consumer copies by `shmqueue::copy`, which makes no reference either.
        unsafe {
            Self {
                tx: Producer::new(tx.control, tx.data, tx.bytes),
                rx: Consumer::new(rx.control, rx.data, rx.bytes),
                rx_bytes: rx.bytes,
                tx_bytes: tx.bytes,
            }
        }
    }

    /// Puts bytes into a stream: as many as there is room for.
    ///
    /// # Errors
    /// [`Error::PeerMisbehaviour`]: the page holds what cannot be.
    #[inline]
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        self.tx.write(bytes).map_err(misbehaved)
    }

    /// Puts up to `length` bytes into a stream. `copy` gets a piece of the ring and where in the caller's bytes it begins, at most twice.
    ///
    /// # Errors
    /// As for [`write`](Self::write), or what `copy` says; then nothing was written.
    #[inline]
    pub fn write_with(
        &mut self,
        length: usize,
        copy: impl FnMut(Chunk, usize) -> Result<(), Error>,
    ) -> Result<usize, Error> {
        let mut outcome = Ok(());
        let written = self.tx.write_with(|[first, second]| {
            let length = length.min(first.1 + second.1);
            outcome = each(cut([first, second], 0, length), copy);
            if outcome.is_ok() { length } else { 0 }
        });
        outcome.and(written.map_err(misbehaved))
    }

    /// Puts one datagram into the ring, whole; false if there is no room for it now.
    ///
    /// # Errors
    /// [`Error::TooLong`]: there never is; as for [`write`](Self::write).
    pub fn write_record(&mut self, peer: &Endpoint, payload: &[u8]) -> Result<bool, Error> {
        self.write_record_with(peer, payload.len(), from_slice(payload))
    }

    /// As [`write_record`](Self::write_record), with a `copy` as in [`write_with`](Self::write_with).
    ///
    /// # Errors
    /// As for both.
    pub fn write_record_with(
        &mut self,
        peer: &Endpoint,
        length: usize,
        copy: impl FnMut(Chunk, usize) -> Result<(), Error>,
    ) -> Result<bool, Error> {
        let whole = length.checked_next_multiple_of(4).and_then(|padded| padded.checked_add(RECORD_BYTES));
        let whole = whole.filter(|&whole| whole <= self.tx_bytes as usize).ok_or(Error::TooLong)?;
        let head = record_bytes(&Record { length: length as u32, peer: *peer, reserved: 0 });
        let mut outcome = Ok(());
        let written = self.tx.write_with(|chunks| {
            if chunks[0].1 + chunks[1].1 < whole {
                return 0;
            }
            outcome = each(cut(chunks, 0, RECORD_BYTES), from_slice(&head))
                .and_then(|()| each(cut(chunks, RECORD_BYTES, length), copy));
            if outcome.is_ok() { whole } else { 0 }
        });
        outcome.and(written.map_err(misbehaved).map(|written| written != 0))
    }

    /// Takes bytes of a stream: as many as there are and fit.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    #[inline]
    pub fn read(&mut self, into: &mut [u8]) -> Result<usize, Error> {
        self.rx.read(into).map_err(misbehaved)
    }

    /// Takes up to `length` bytes of a stream. `copy` gets a piece of the ring, to be read, and where in the caller's bytes it goes.
    ///
    /// # Errors
    /// As for [`write`](Self::write), or what `copy` says; then nothing was taken.
    #[inline]
    pub fn read_with(
        &mut self,
        length: usize,
        copy: impl FnMut(Chunk, usize) -> Result<(), Error>,
    ) -> Result<usize, Error> {
        let mut outcome = Ok(());
        let read = self.rx.read_with(|[first, second]| {
            let length = length.min(first.1 + second.1);
            outcome = each(cut([first, second], 0, length), copy);
            if outcome.is_ok() { length } else { 0 }
        });
        outcome.and(read.map_err(misbehaved))
    }

    /// Takes the next datagram, of which what does not fit is lost: its head, and how many bytes are in `into`. `None`: there is none.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    pub fn read_record(&mut self, into: &mut [u8]) -> Result<Option<(Record, usize)>, Error> {
        let length = into.len();
        self.read_record_with(length, to_slice(into))
    }

    /// As [`read_record`](Self::read_record), with room for `length` bytes and a `copy` as in [`read_with`](Self::read_with).
    ///
    /// # Errors
    /// As for both.
    pub fn read_record_with(
        &mut self,
        length: usize,
        copy: impl FnMut(Chunk, usize) -> Result<(), Error>,
    ) -> Result<Option<(Record, usize)>, Error> {
        let mut outcome = Ok(None);
        let read = self.rx.read_with(|chunks| {
            let available = chunks[0].1 + chunks[1].1;
            if available == 0 {
                return 0;
            }
            if available < RECORD_BYTES {
                outcome = Err(Error::PeerMisbehaviour); // records are published whole
                return 0;
            }
            let mut head = [0; RECORD_BYTES];
            let _ = each(cut(chunks, 0, RECORD_BYTES), to_slice(&mut head)); // which cannot fail
            let record = record_from(&head);
            let whole = RECORD_BYTES as u64 + u64::from(record.length).next_multiple_of(4);
            if whole > available as u64 {
                outcome = Err(Error::PeerMisbehaviour);
                return 0;
            }
            let taken = length.min(record.length as usize);
            match each(cut(chunks, RECORD_BYTES, taken), copy) {
                Ok(()) => {
                    outcome = Ok(Some((record, taken)));
                    whole as usize
                }
                Err(error) => {
                    outcome = Err(error);
                    0
                }
            }
        });
        let outcome = outcome?;
        read.map_err(misbehaved)?;
        Ok(outcome)
    }

    /// How many bytes there are to read.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    #[inline]
    pub fn available(&mut self) -> Result<u32, Error> {
        self.rx.available().map_err(misbehaved)
    }

    /// The head of the next datagram, which stays where it is.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    pub fn next_record(&mut self) -> Result<Option<Record>, Error> {
        let mut head = [0; RECORD_BYTES];
        match self.rx.peek(&mut head).map_err(misbehaved)? {
            0 => Ok(None),
            RECORD_BYTES => Ok(Some(record_from(&head))),
            _ => Err(Error::PeerMisbehaviour), // records are published whole
        }
    }

    /// How far the application has read, modulo 2³².
    #[inline]
    #[must_use]
    pub const fn read_position(&self) -> u32 {
        self.rx.position()
    }

    /// Whether who fills the receive ring must be told now of the room that a read of `taken` bytes has made: a sender that has
    /// filled a stream's ring hears of room from nobody else. It is where the reader passes an eighth of the ring which was half full:
    /// however many bytes each read takes, there is such a place soon after the ring was full.
    #[inline]
    #[must_use]
    pub fn must_tell_of_room(&mut self, taken: usize) -> bool {
        let (position, eighth) = (self.rx.position(), self.rx_bytes / 8);
        let before = position.wrapping_sub(taken as u32);
        (position ^ before) & eighth.wrapping_neg() != 0
            && self.rx.available().is_ok_and(|left| left.saturating_add(taken as u32) >= 4 * eighth)
    }

    /// Lets bytes pass through the transmit ring that were put where it leads to: the positions move, the room stays. `length` is at most
    /// the ring's room, and the ring's other end is told by its owner.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    #[inline]
    pub fn pass(&mut self, length: usize) -> Result<usize, Error> {
        self.tx.write_with(|_| length).map_err(misbehaved)
    }
}

impl<M: SharedMemory> Socket<M> {
    /// Keeps the application's ends of the rings of a new socket here: it maps neither.
    pub fn keep_end(&mut self) {
        let Some(page) = &self.page else { return };
        let stream = match &self.protocol {
            Protocol::Tcp(connection) => self.set.ring(connection.handle()),
            _ => None,
        };
        let (rx, tx) = page.rings(stream);
        // SAFETY: 1. the page and the set keep the memory; `end` is dropped before them, by `close` and `listen` and as the earlier
        // field. 2. They are new, and this is called once. smoltcp has the bytes of a stream's ring as a slice, which it uses only
        // while one of its calls runs.
        self.end = Some(unsafe { End::new(rx, tx) });
    }
}

/// A `copy` for writes: from a slice, which has at least as many bytes as are written.
///
/// # Panics
/// If it has fewer.
pub fn from_slice(bytes: &[u8]) -> impl FnMut(Chunk, usize) -> Result<(), Error> {
    move |(to, length), at| {
        // SAFETY: a piece of free room in a ring, to which nobody has a reference.
        unsafe { copy_in(to, &bytes[at..at + length]) };
        Ok(())
    }
}

/// A `copy` for reads: to a slice, which has room for at least as many bytes as are read.
///
/// # Panics
/// If it has not.
pub fn to_slice(into: &mut [u8]) -> impl FnMut(Chunk, usize) -> Result<(), Error> {
    move |(from, length), at| {
        // SAFETY: a piece of what a ring holds.
        unsafe { copy_out(&mut into[at..at + length], from) };
        Ok(())
    }
}

/// The `length` bytes at `from` of what two chunks are one after the other: again at most two.
#[inline(always)]
fn cut([first, second]: [Chunk; 2], from: usize, length: usize) -> [Chunk; 2] {
    let skip = from.min(first.1);
    let here = length.min(first.1 - skip);
    let (skip_second, rest) = (from - skip, length - here);
    debug_assert!(skip_second + rest <= second.1 || rest == 0);
    // SAFETY: neither skips more than its chunk has: the first by the minimum above, the second because the callers ask for no more than
    // both chunks hold (where nothing is wanted of it, it is not skipped into).
    unsafe {
        [(first.0.add(skip), here), (if rest == 0 { second.0 } else { second.0.add(skip_second) }, rest)]
    }
}

/// Hands out what there is of two chunks.
#[inline(always)]
fn each(
    [first, second]: [Chunk; 2],
    mut copy: impl FnMut(Chunk, usize) -> Result<(), Error>,
) -> Result<(), Error> {
    if first.1 != 0 {
        copy(first, 0)?;
    }
    if second.1 != 0 {
        copy(second, first.1)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
