//! From frames built in place to the transmit ring, and back to the free list.

use core::slice;

use abi::counters::Counter;

use super::{BUFFER_BYTES, Direct, RX_BUFFERS, TX_BUFFERS};
use crate::{
    demux::{ETHERNET_BYTES, FRAME_BYTES_MAX},
    endpoint::checksum_fits,
    nic::{Nic, Segment, TxChecksum},
};

/// Pages of others that may be in the transmit ring at once.
pub const PAGES_MAX: u32 = u64::BITS;
/// The token of page 0; those of buffers are below.
const PAGE_TOKEN: u32 = RX_BUFFERS + TX_BUFFERS + 1;
/// Frames in the ring beyond which a look at what has left pays.
const REAP_AT: u32 = 32;

/// Pages that are sent from where they are. A bit each.
#[derive(Default)]
pub(super) struct Pages {
    sending: u64,
    left: u64,
}

impl Pages {
    pub(super) const fn in_flight(&self) -> u32 {
        self.sending.count_ones()
    }
}

impl<N: Nic> Direct<N> {
    /// Whether a frame can be built and sent now. Where not, an interrupt comes when it can.
    #[inline]
    pub fn tx_ready(&mut self) -> bool {
        (self.free_count != 0 && self.nic.tx_room(1)) || self.make_room()
    }

    #[cold]
    fn make_room(&mut self) -> bool {
        if !self.open || self.watchdog.failed {
            return false;
        }
        // What the device does not know of does not leave.
        self.nic.tx_kick();
        self.reap();
        let ready = |it: &Self| it.free_count != 0 && it.nic.tx_room(1);
        if ready(self) {
            return true;
        }
        self.full = true;
        if self.nic.tx_interrupt(true) {
            self.reap();
        }
        ready(self)
    }

    /// Room for a frame of `length` bytes, in the buffer that [`send`](Self::send) takes next. `None`: the device is busy, or no frame is
    /// that long.
    #[inline]
    pub fn tx_buffer(&mut self, length: usize) -> Option<&mut [u8]> {
        if length > BUFFER_BYTES as usize || !self.tx_ready() {
            return None;
        }
        let number = self.top()?;
        // SAFETY: `length` bytes lie inside of the buffer. It is on the free list, so the device does not have it, and for as long as
        // the borrow lasts nobody can send it.
        Some(unsafe { slice::from_raw_parts_mut(self.buffers.at(number).as_ptr(), length) })
    }

    #[inline(always)]
    fn top(&self) -> Option<u32> {
        let index = self.free_count.checked_sub(1)?;
        Some(u32::from(self.free[index % TX_BUFFERS as usize]))
    }

    /// Puts the frame that was built in [`tx_buffer`](Self::tx_buffer) into the transmit ring. The device is told by
    /// [`kick`](Self::kick). A frame that no device sends is counted instead.
    #[inline]
    pub fn send(&mut self, length: usize, checksum: Option<TxChecksum>) {
        let len = length as u32;
        let Some(number) = self.top() else { return };
        if !self.sendable(length, checksum) || !self.nic.tx_room(1) {
            self.counts.add(Counter::DropOutBad, 1);
            return;
        }
        self.free_count -= 1;
        let segment = Segment { phys: self.buffers.phys(number), len };
        self.nic.tx_post(number + 1, slice::from_ref(&segment), checksum);
        self.count_sent(len);
    }

    #[inline(always)]
    fn count_sent(&mut self, len: u32) {
        self.counts.add(Counter::FramesOut, 1);
        self.counts.add(Counter::BytesOut, u64::from(len));
    }

    /// Whether a frame of so many bytes can be sent, with such a checksum filled in.
    #[inline(always)]
    pub fn sendable(&self, length: usize, checksum: Option<TxChecksum>) -> bool {
        // What is too short wraps to a large number.
        length.wrapping_sub(ETHERNET_BYTES as usize) <= (FRAME_BYTES_MAX - ETHERNET_BYTES) as usize
            && checksum.is_none_or(|wanted| checksum_fits(&self.nic, wanted, length as u32))
    }

    /// Sends a frame that lies at the start of a page of somebody else's, from where it is. The answer is the page's number, below
    /// [`PAGES_MAX`], until [`take_left`](Self::take_left) has given it back: so long the page must stay. `None`: no room, or no frame
    /// that can be sent.
    #[inline]
    pub fn send_page(&mut self, phys: u64, length: usize, checksum: Option<TxChecksum>) -> Option<u32> {
        if !self.sendable(length, checksum) {
            self.counts.add(Counter::DropOutBad, 1);
            return None;
        }
        if (!self.nic.tx_room(1) && !self.make_room()) || !self.open {
            return None;
        }
        let page = (self.pages.sending | self.pages.left).trailing_ones();
        if page >= PAGES_MAX {
            self.reap();
            return None;
        }
        self.pages.sending |= 1 << page;
        let segment = Segment { phys, len: length as u32 };
        self.nic.tx_post(PAGE_TOKEN + page, slice::from_ref(&segment), checksum);
        self.count_sent(segment.len);
        Some(page)
    }

    /// The pages that have left, or were lost, since the last call, a bit each.
    #[inline]
    pub fn take_left(&mut self) -> u64 {
        core::mem::take(&mut self.pages.left)
    }

    /// The device has forgotten everything.
    pub(super) fn lose_pages(&mut self) {
        self.pages.left |= core::mem::take(&mut self.pages.sending);
    }

    /// All buffers that send are free.
    pub(super) fn free_all(&mut self) {
        // The lowest is on top.
        for (number, slot) in (RX_BUFFERS..RX_BUFFERS + TX_BUFFERS).rev().zip(&mut self.free) {
            *slot = number as u16;
        }
        (self.free_count, self.full) = (TX_BUFFERS as usize, false);
    }

    /// Tells the device of all frames that were put into the ring: one register write for the burst.
    #[inline]
    pub fn kick(&mut self) {
        self.nic.tx_kick();
        if self.nic.tx_in_flight() >= REAP_AT {
            self.reap();
        }
    }

    /// Takes back what has left. `true`: the ring was full, and has room again.
    #[inline]
    pub fn reap(&mut self) -> bool {
        let (free, count, pages) = (&mut self.free, &mut self.free_count, &mut self.pages);
        let mut reaped = 0;
        self.nic.tx_reap(|token| {
            reaped += 1;
            if token < PAGE_TOKEN {
                free[*count % TX_BUFFERS as usize] = (token - 1) as u16;
                *count += 1;
            } else {
                let page = 1 << (token - PAGE_TOKEN);
                pages.sending &= !page;
                pages.left |= page;
            }
        });
        self.reaped += reaped;
        if self.full && reaped != 0 {
            self.full = false;
            // Nobody waits any more for what comes now, so it does not matter whether something did.
            let _ = self.nic.tx_interrupt(false);
            return true;
        }
        false
    }
}
