//! Packets that the server has sent and keeps, to send with again ([`Flags::KEEP`]).
//!
//! Through the pools a buffer that was sent costs a free by the driver and an allocation by the server, with a look at each word that
//! says what belongs to what. One that is kept is still what it was: the driver ends its claim and marks it, the server looks for the mark.
//! Buffers come back in the order in which they were sent; if a device does not keep to that, the later ones wait for the first.
//!
//! What is kept is not there to receive into, so there is a limit; what is sent beyond it goes back to the pools.

use alloc::boxed::Box;
use mbuf::{Blank, Flags, View};
use shmqueue::Item;

/// The most that are kept: somewhat more than a device has in its ring while the server fills the next burst.
const KEPT: usize = 256;

/// Packets of one mbuf with a cluster, in the order in which they were sent.
pub struct Kept<'w> {
    blanks: Box<[Option<Blank<'w>>; KEPT]>,
    /// Counts modulo 2^32: the place of the oldest, and the one behind the newest.
    first: u32,
    end: u32,
    limit: u32,
}

impl<'w> Kept<'w> {
    /// None yet, of a window with so many clusters.
    pub fn new(clusters: u32) -> Self {
        Self { blanks: Box::new([None; KEPT]), first: 0, end: 0, limit: (clusters / 8).min(KEPT as u32) }
    }

    #[inline(always)]
    fn at(&mut self, position: u32) -> &mut Option<Blank<'w>> {
        &mut self.blanks[position as usize % KEPT]
    }

    /// Keeps a packet that is about to be sent; false if it is one too many.
    #[inline(always)]
    pub fn push(&mut self, blank: Blank<'w>) -> bool {
        let room = self.end.wrapping_sub(self.first) < self.limit;
        if room {
            *self.at(self.end) = Some(blank);
            self.end = self.end.wrapping_add(1);
        }
        room
    }

    /// The oldest, if it has left.
    #[inline(always)]
    pub fn take_sent(&mut self) -> Option<Blank<'w>> {
        if self.first == self.end {
            return None;
        }
        let blank = (*self.at(self.first)).filter(|blank| blank.mbuf().is_sent());
        self.first = self.first.wrapping_add(u32::from(blank.is_some()));
        blank
    }

    /// How many are kept, those that have not left yet among them.
    pub const fn len(&self) -> u32 {
        self.end.wrapping_sub(self.first)
    }

    /// How many have not left yet: they are on the OUT queue or the driver's.
    pub fn away(&self) -> u32 {
        let away =
            |&at: &u32| self.blanks[at as usize % KEPT].as_ref().is_some_and(|blank| !blank.mbuf().is_sent());
        (0..self.len()).map(|n| self.first.wrapping_add(n)).filter(away).count() as u32
    }
}

/// Whether a packet that could not be sent after all is one of those that are kept; then it counts as sent.
#[cold]
pub fn keep_unsent(view: &View<'_>, item: Item) -> bool {
    let kept = view.mbuf(item).filter(|mbuf| mbuf.flags().has(Flags::KEEP));
    kept.inspect(|mbuf| mbuf.mark_sent()).is_some()
}
