//! The split virtqueue (Virtio 1.2, 2.7), as much of it as a network device needs.
//!
//! Not the crate `virtio-drivers`: its queue takes the buffers as `&mut [u8]`, which the window forbids (the server can write them), it does
//! not offer the checksum features, and it notifies for each frame.

use super::transport::Transport;
use crate::{
    dma::{DmaArray, observe, publish},
    hal::{Hal, Registers},
    nic::NicError,
};
use shmqueue::sync::full_fence;

/// Descriptors of a queue, at most.
pub const DESCRIPTORS: usize = 256;
/// Fewer do not hold a frame of [`crate::nic::SEGMENTS_MAX`] pieces.
const DESCRIPTORS_MIN: u16 = 32;

/// A descriptor's flags (2.7.5): more follow; the device writes.
pub const NEXT: u16 = 1;
pub const WRITE: u16 = 2;
/// The available ring's flag (2.7.6): no interrupts. The used ring's flag (2.7.8): no notifications.
const NO_INTERRUPT: u16 = 1;
const NO_NOTIFY: u32 = 1;

/// Offsets in the common configuration (4.1.4.3).
const QUEUE_SELECT: u32 = 22;
const QUEUE_SIZE: u32 = 24;
const QUEUE_ENABLE: u32 = 28;
const QUEUE_NOTIFY_OFF: u32 = 30;
const QUEUE_DESC: u32 = 32;
const QUEUE_DRIVER: u32 = 40;
const QUEUE_DEVICE: u32 = 48;

/// A queue; all that is decided by is private, what the device wrote is only compared.
pub struct Queue {
    index: u16,
    size: u16,
    /// Two words for each descriptor.
    descriptors: DmaArray<u64, { 2 * DESCRIPTORS }>,
    /// Flags, index, ring, used_event.
    available: DmaArray<u16, { 2 * DESCRIPTORS }>,
    /// Flags and index, ring of pairs, avail_event.
    used: DmaArray<u32, { 4 * DESCRIPTORS }>,
    /// The next available index.
    tail: u16,
    /// The available index that the device was told.
    told: u16,
    /// The next used index.
    head: u16,
    /// The device's used index as we saw it last.
    used_seen: u16,
    event_index: bool,
    notify_at: u32,
    /// Entries of the used ring that make no sense.
    pub bogus: u32,
}

/// An entry of the used ring.
#[derive(Clone, Copy)]
pub struct Used {
    /// The chain's first descriptor, as the device says.
    pub id: u32,
    /// The bytes that it says it wrote.
    pub len: u32,
}

impl Queue {
    /// Takes the memory.
    pub fn new<H: Hal>(hal: &mut H, index: u16) -> Result<Self, NicError> {
        let mut region = |bytes| hal.dma(bytes).ok_or(NicError::NoMemory);
        let descriptors = region(DmaArray::<u64, { 2 * DESCRIPTORS }>::BYTES)?;
        let available = region(DmaArray::<u16, { 2 * DESCRIPTORS }>::BYTES)?;
        let used = region(DmaArray::<u32, { 4 * DESCRIPTORS }>::BYTES)?;
        Ok(Self {
            index,
            size: 0,
            descriptors: DmaArray::new(&descriptors).ok_or(NicError::NoMemory)?,
            available: DmaArray::new(&available).ok_or(NicError::NoMemory)?,
            used: DmaArray::new(&used).ok_or(NicError::NoMemory)?,
            tail: 0,
            told: 0,
            head: 0,
            used_seen: 0,
            event_index: false,
            notify_at: 0,
            bogus: 0,
        })
    }

    /// Empties the queue and tells the device, which was reset, where it is (4.1.5.1.3).
    pub fn start<R: Registers>(
        &mut self,
        transport: &Transport<R>,
        event_index: bool,
    ) -> Result<(), NicError> {
        let common = &transport.common;
        common.write16(QUEUE_SELECT, self.index);
        let offered = common.read16(QUEUE_SIZE);
        // A split queue's size is a power of 2 (2.7).
        let size = if offered >= DESCRIPTORS as u16 { DESCRIPTORS as u16 } else { offered };
        if !size.is_power_of_two() || size < DESCRIPTORS_MIN {
            return Err(NicError::Unsupported);
        }
        self.descriptors.zero();
        self.available.zero();
        self.used.zero();
        (self.size, self.tail, self.told, self.head, self.used_seen) = (size, 0, 0, 0, 0);
        self.event_index = event_index;
        common.write16(QUEUE_SIZE, size);
        common.write64(QUEUE_DESC, self.descriptors.phys(0));
        common.write64(QUEUE_DRIVER, self.available.phys(0));
        common.write64(QUEUE_DEVICE, self.used.phys(0));
        self.notify_at =
            transport.notify_offset(common.read16(QUEUE_NOTIFY_OFF)).ok_or(NicError::Unsupported)?;
        common.write16(QUEUE_ENABLE, 1);
        Ok(())
    }

    /// Its descriptors.
    #[inline(always)]
    pub const fn size(&self) -> u16 {
        self.size
    }

    /// Writes a whole descriptor.
    #[inline(always)]
    pub fn set_descriptor(&mut self, at: u16, phys: u64, len: u32, flags: u16, next: u16) {
        self.set_address(at, phys);
        self.descriptors
            .set(2 * at as usize + 1, u64::from(len) | u64::from(flags) << 32 | u64::from(next) << 48);
    }

    /// Writes a descriptor's address; the rest of it stays.
    #[inline(always)]
    pub fn set_address(&mut self, at: u16, phys: u64) {
        self.descriptors.set(2 * at as usize, phys);
    }

    /// Makes the chain at `head` available; the device learns of it by [`publish`](Self::publish).
    #[inline(always)]
    pub fn push(&mut self, head: u16) {
        self.available.set(2 + (self.tail & (self.size - 1)) as usize, head);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows the device all that was pushed, and notifies it if it wants that (2.7.13).
    #[inline]
    pub fn publish<R: Registers>(&mut self, transport: &Transport<R>) {
        let old = self.told;
        if old == self.tail {
            return;
        }
        self.told = self.tail;
        publish();
        self.available.set(1, self.tail);
        full_fence(); // the device stores its event index, fences and looks at ours (2.7.10)
        let wanted = if self.event_index {
            let event = self.used.get(1 + 2 * self.size as usize) as u16;
            need_event(event, self.tail, old)
        } else {
            self.used.get(0) & NO_NOTIFY == 0
        };
        if wanted {
            transport.notify.write16(self.notify_at, self.index);
        }
    }

    /// Whether there is something in the used ring.
    #[inline(always)]
    pub fn has_used(&mut self) -> bool {
        if self.head != self.used_seen {
            return true;
        }
        let seen = (self.used.get(0) >> 16) as u16;
        if seen == self.head {
            return false;
        }
        if seen.wrapping_sub(self.head) > self.size {
            // It has used more than there ever was. Go on from there.
            self.bogus += 1;
            (self.head, self.used_seen) = (seen, seen);
            return false;
        }
        self.used_seen = seen;
        observe();
        true
    }

    /// Takes the next entry of the used ring; the caller checks what it says.
    #[inline(always)]
    pub fn pop(&mut self) -> Option<Used> {
        if !self.has_used() {
            return None;
        }
        let at = 1 + 2 * (self.head & (self.size - 1)) as usize;
        self.head = self.head.wrapping_add(1);
        Some(Used { id: self.used.get(at), len: self.used.get(at + 1) })
    }

    /// Asks for an interrupt when `after` more entries than one are used; `None`: for none. `true` if some are used already.
    #[inline]
    pub fn interrupt_after(&mut self, after: Option<u16>) -> bool {
        if self.event_index {
            // Far enough away for the device never to get there before the next call, which comes before as many entries are used.
            let event = self.head.wrapping_add(after.unwrap_or(1 << 14));
            self.available.set(2 + self.size as usize, event);
        } else {
            self.available.set(0, if after.is_some() { 0 } else { NO_INTERRUPT });
        }
        if after.is_none() {
            return false;
        }
        full_fence(); // the device stores its used index, fences and looks at our event index (2.7.10)
        self.has_used()
    }
}

/// 2.7.10: whether going from `old` to `new` passes `event`.
#[inline(always)]
const fn need_event(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}
