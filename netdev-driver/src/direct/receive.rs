//! From the receive ring to whoever takes frames, and back into the ring.

use core::ptr::NonNull;

use abi::counters::Counter;

use super::{Direct, RX_BUFFERS};
use crate::{
    demux::{self, Family},
    endpoint::{BUDGET, cause, trouble},
    nic::{Nic, RxDone, RxStatus},
};

/// The device is told of buffers when so many have been given back: one register write for all of them.
const TELL_AT: u32 = 32;

/// A received frame, for the time of a visit.
#[derive(Clone, Copy, Debug)]
pub struct Received<'f> {
    /// Its bytes, without the check sequence.
    pub bytes: &'f [u8],
    /// What the demultiplexer has found it to be, with lengths that agree and a good IPv4 header checksum.
    pub family: Family,
    /// Device or driver vouch for its transport checksum.
    pub checksum_good: bool,
}

/// A received frame that is lent: its buffer is in no ring until it is [given back](Direct::give_back). One that never is stays
/// missing, and keeps the device from being reset or opened again.
#[derive(Debug)]
pub struct Lent {
    at: NonNull<u8>,
    len: u32,
    checksum_good: bool,
}

// SAFETY: memory that is valid for the rest of the program, and this frame's alone.
unsafe impl Send for Lent {}

impl Lent {
    /// Its bytes, without the check sequence.
    #[inline(always)]
    #[must_use]
    pub const fn bytes(&self) -> &[u8] {
        // SAFETY: `look` has checked the length against the buffer's, `Direct::new` the buffer. It is in no ring, and there is one value
        // for it: neither the device nor anybody here writes it until it is consumed.
        unsafe { core::slice::from_raw_parts(self.at.as_ptr(), self.len as usize) }
    }

    /// Device or driver vouch for its transport checksum.
    #[inline(always)]
    #[must_use]
    pub const fn checksum_good(&self) -> bool {
        self.checksum_good
    }
}

impl<N: Nic> Direct<N> {
    /// Takes the next good frame out of the ring; bad ones are counted, and their buffers go back. `None`: there is none, and the
    /// device interrupts for the next. Who stops before that calls [`spent`](Self::spent).
    #[inline]
    pub fn lend(&mut self) -> Option<Lent> {
        if !self.open {
            return None;
        }
        // The bound is for floods of bad frames.
        for _ in 0..BUDGET {
            let Some(done) = self.nic.rx_poll() else {
                if self.nic.rx_rearm() {
                    continue;
                }
                self.take_bogus();
                return None;
            };
            if self.untold >= TELL_AT {
                self.tell();
            }
            if let Some((number, family, checksum_good)) = self.look(done) {
                self.counts.add_frame(done.len, Counter::DELIVERED[family as usize]);
                self.lent += 1;
                return Some(Lent { at: self.buffers.at(number), len: done.len, checksum_good });
            }
        }
        self.spent();
        None
    }

    /// Gives frames back to the ring. The device is told when there are enough of them; [`tell`](Self::tell) does it at once.
    #[inline]
    pub fn give_back(&mut self, frames: impl IntoIterator<Item = Lent>) {
        for frame in frames {
            // A frame of another device names no buffer of ours.
            let offset = (frame.at.as_ptr() as usize).wrapping_sub(self.buffers.base.as_ptr() as usize);
            let number = offset / super::BUFFER_BYTES as usize;
            if number >= RX_BUFFERS as usize {
                debug_assert!(false, "a frame of another device");
                continue;
            }
            self.lent -= 1;
            if self.open {
                self.repost(number as u32);
            }
        }
        if self.untold >= TELL_AT {
            self.tell();
        }
    }

    /// Tells the device of all buffers that it has got back: one register write.
    #[inline]
    pub fn tell(&mut self) {
        self.untold = 0;
        self.nic.rx_commit();
    }

    /// After the last [`lend`](Self::lend), where that was not `None`: more frames may be in the ring.
    pub fn spent(&mut self) {
        self.again |= !self.nic.rx_spent();
    }

    /// Whether frames may be in the ring for which no interrupt will come; asking clears it.
    #[inline(always)]
    pub fn take_again(&mut self) -> bool {
        core::mem::take(&mut self.again)
    }

    /// Shows each frame in the ring to `visit`, which says whether it was delivered or for what cause it is dropped. Its buffer goes back
    /// at once. What is more than one call does is for the next ([`take_again`](Self::take_again)).
    ///
    /// `patience` is for who is behind: after so many frames for which there was no room ([`Counter::DropPortFull`]) the others are left in the
    /// ring, and the answer is false. The device may interrupt for new ones, or not.
    #[inline]
    pub fn receive(
        &mut self,
        mut patience: u32,
        mut visit: impl FnMut(Received<'_>) -> Result<(), Counter>,
    ) -> bool {
        if !self.open {
            return true;
        }
        let mut left = BUDGET;
        let mut stop = false;
        loop {
            let Some(done) = self.nic.rx_poll() else {
                if self.nic.rx_rearm() {
                    continue;
                }
                break;
            };
            if let Some((number, family, checksum_good)) = self.look(done) {
                // SAFETY: as in `Lent::bytes`: the buffer is in no ring until it is posted below, and the borrow ends with the visit.
                let bytes = unsafe {
                    core::slice::from_raw_parts(self.buffers.at(number).as_ptr(), done.len as usize)
                };
                match visit(Received { bytes, family, checksum_good }) {
                    Ok(()) => self.counts.add_frame(done.len, Counter::DELIVERED[family as usize]),
                    Err(cause) => {
                        self.counts.add_frame(done.len, cause);
                        if cause == Counter::DropPortFull {
                            patience = patience.saturating_sub(1);
                            stop = patience == 0;
                        }
                    }
                }
                self.repost(number);
            }
            // Here, so that it is done for the buffers of bad frames as well: nothing but them may come.
            if self.untold >= TELL_AT {
                self.tell();
            }
            left -= 1;
            if left == 0 {
                self.spent();
                break;
            }
            if stop {
                self.take_bogus();
                return false;
            }
        }
        self.take_bogus();
        true
    }

    #[inline(always)]
    fn repost(&mut self, number: u32) {
        self.nic.rx_post(number + 1, self.buffers.phys(number));
        self.untold += 1;
    }

    /// One buffer from the ring: its number and what is in it; `None` where that is no good frame.
    #[inline(always)]
    fn look(&mut self, done: RxDone) -> Option<(u32, Family, bool)> {
        // The drivers hand out what they were given, once.
        let number = done.token.wrapping_sub(1);
        if number >= RX_BUFFERS {
            self.counts.add(Counter::BogusCompletions, 1);
            return None;
        }
        let checksum_good = match done.status {
            RxStatus::Good => false,
            RxStatus::ChecksumGood => true,
            status => return self.refuse(number, done, trouble(status)),
        };
        let words = self.buffers.at(number).cast::<u64>();
        let word = |index: usize| {
            debug_assert!(index < demux::WORDS);
            // SAFETY: the words that the demultiplexer may ask for lie inside the buffer, which is aligned, in no ring, and was initialised
            // when the region was made.
            u64::from_le(unsafe { words.add(index % demux::WORDS.next_power_of_two()).read() })
        };
        match demux::classify(done.len, word) {
            Ok(family) => Some((number, family, checksum_good)),
            Err(drop) => self.refuse(number, done, Some(cause(drop))),
        }
    }

    /// Counts what is no good frame, unless the rest of it is still to come; its buffer goes back into the ring.
    #[cold]
    fn refuse<T>(&mut self, number: u32, done: RxDone, cause: Option<Counter>) -> Option<T> {
        if let Some(cause) = cause {
            self.counts.add_frame(done.len, cause);
        }
        self.repost(number);
        None
    }
}
