//! The virtio network device on PCI (Virtio 1.2, 5.1), with two split queues and the legacy interrupt line.
//!
//! Each buffer is a chain of two descriptors: the 12-byte header (5.1.6) in memory of the kernel's own, and the cluster. So no header lies in
//! the window, where the server could change what the device is told, and a cluster begins with the frame. Key type: [`VirtioNet`].

use crate::{
    dma::DmaArray,
    hal::{Hal, Registers},
    nic::{Nic, NicError, RxDone, RxStatus, SEGMENTS_MAX, Segment, TxChecksum},
};
use abi::{device::offload, window::CLUSTER_BYTES};
use queue::{DESCRIPTORS, NEXT, Queue, WRITE};
use transport::Transport;

mod queue;
mod transport;

/// Descriptors go in pairs: so many frames fit into a queue.
const SLOTS: usize = DESCRIPTORS / 2;
/// The bytes of the header, and its words with padding.
const HEADER_BYTES: u32 = 12;
const HEADER_WORDS: usize = 4;

// 5.1.3 and 6: features.
const F_CSUM: u64 = 1 << 0;
const F_GUEST_CSUM: u64 = 1 << 1;
const F_MAC: u64 = 1 << 5;
const F_STATUS: u64 = 1 << 16;
const F_EVENT_IDX: u64 = 1 << 29;
const F_VERSION_1: u64 = 1 << 32;
const WANTED: u64 = F_CSUM | F_GUEST_CSUM | F_MAC | F_STATUS | F_EVENT_IDX | F_VERSION_1;

// 2.1: device status.
const ACKNOWLEDGE: u8 = 1;
const DRIVER: u8 = 2;
const DRIVER_OK: u8 = 4;
const FEATURES_OK: u8 = 8;
const FAILED: u8 = 128;

// 4.1.4.3: offsets in the common configuration.
const DEVICE_FEATURE_SELECT: u32 = 0;
const DEVICE_FEATURE: u32 = 4;
const DRIVER_FEATURE_SELECT: u32 = 8;
const DRIVER_FEATURE: u32 = 12;
const DEVICE_STATUS: u32 = 20;

// 5.1.6: flags of a header.
const NEEDS_CSUM: u32 = 1;
const DATA_VALID: u32 = 2;

/// The driver's state.
pub struct VirtioNet<H: Hal> {
    hal: H,
    transport: Transport<H::Registers>,
    features: u64,
    mac: [u8; 6],
    rx: Slots,
    tx: Slots,
    /// Frames in the transmit ring.
    frames: u32,
    tx_interrupt: bool,
}

/// A queue whose descriptors `2 s` and `2 s + 1` are slot `s`.
struct Slots {
    queue: Queue,
    headers: DmaArray<u32, { HEADER_WORDS * SLOTS }>,
    /// The token of the chain that starts in a slot, or 0.
    tokens: [u32; SLOTS],
    /// The next slot of the chain, or itself if that is the last.
    next: [u8; SLOTS],
    free: [u8; SLOTS],
    free_count: usize,
}

impl Slots {
    fn new<H: Hal>(hal: &mut H, index: u16) -> Result<Self, NicError> {
        let queue = Queue::new(hal, index)?;
        let region = hal.dma(DmaArray::<u32, { HEADER_WORDS * SLOTS }>::BYTES).ok_or(NicError::NoMemory)?;
        let headers = DmaArray::new(&region).ok_or(NicError::NoMemory)?;
        Ok(Self { queue, headers, tokens: [0; SLOTS], next: [0; SLOTS], free: [0; SLOTS], free_count: 0 })
    }

    /// Empty, with the header's descriptor of each slot in its place; `write`: the device writes headers.
    fn start<R: Registers>(
        &mut self,
        transport: &Transport<R>,
        event: bool,
        write: bool,
    ) -> Result<(), NicError> {
        self.clear();
        self.queue.start(transport, event)?;
        self.headers.zero();
        let slots = self.count();
        for slot in 0..slots {
            self.set_header(slot as u8, write);
            if write {
                // All of a receive buffer's descriptor but its address, for good.
                self.queue.set_descriptor(2 * slot as u16 + 1, 0, CLUSTER_BYTES, WRITE, 0);
            }
            self.free[slots - 1 - slot] = slot as u8;
        }
        self.free_count = slots;
        Ok(())
    }

    fn clear(&mut self) {
        self.tokens.fill(0);
        self.free_count = 0;
    }

    const fn count(&self) -> usize {
        self.queue.size() as usize / 2
    }

    fn set_header(&mut self, slot: u8, write: bool) {
        let at = 2 * u16::from(slot);
        let phys = self.headers.phys(HEADER_WORDS * slot as usize);
        self.queue.set_descriptor(at, phys, HEADER_BYTES, if write { NEXT | WRITE } else { NEXT }, at + 1);
    }

    #[inline(always)]
    fn take(&mut self) -> u8 {
        debug_assert!(self.free_count > 0);
        self.free_count -= 1;
        self.free[self.free_count % SLOTS]
    }

    /// A slot for what is, so far, the last piece of a frame.
    #[inline(always)]
    fn take_last(&mut self) -> u8 {
        let slot = self.take();
        self.next[slot as usize % SLOTS] = slot;
        slot
    }

    #[inline(always)]
    fn put(&mut self, slot: u8) {
        self.free[self.free_count % SLOTS] = slot;
        self.free_count += 1;
    }

    /// The next chain that the device has used: slot, token, bytes. It may say anything: what is no chain of ours is counted and skipped.
    #[inline(always)]
    fn pop(&mut self) -> Option<(u8, u32, u32)> {
        while let Some(used) = self.queue.pop() {
            let slot = used.id / 2;
            if used.id.is_multiple_of(2) && slot < SLOTS as u32 {
                let token = core::mem::take(&mut self.tokens[slot as usize % SLOTS]);
                if token != 0 {
                    return Some((slot as u8, token, used.len));
                }
            }
            self.queue.bogus += 1;
        }
        None
    }
}

impl<H: Hal> VirtioNet<H> {
    /// Finds the device's structures and takes the memory of its queues; it stays silent.
    ///
    /// # Errors
    /// See [`NicError`].
    pub fn new(mut hal: H) -> Result<Self, NicError> {
        let transport = Transport::find(&mut hal)?;
        let (rx, tx) = (Slots::new(&mut hal, 0)?, Slots::new(&mut hal, 1)?);
        let mut nic =
            Self { hal, transport, features: 0, mac: [0; 6], rx, tx, frames: 0, tx_interrupt: false };
        nic.reset()?;
        nic.negotiate()?;
        for (i, byte) in nic.mac.iter_mut().enumerate() {
            *byte = nic.transport.device.read8(i as u32);
        }
        nic.reset()?;
        Ok(nic)
    }

    /// The machine.
    pub const fn hal(&self) -> &H {
        &self.hal
    }

    fn status(&self, status: u8) {
        self.transport.common.write8(DEVICE_STATUS, status);
    }

    /// 2.4 and 4.1.4.3.1: the device has ended all DMA when its status reads 0.
    fn reset(&mut self) -> Result<(), NicError> {
        self.status(0);
        for _ in 0..1000 {
            if self.transport.common.read8(DEVICE_STATUS) == 0 {
                return Ok(());
            }
            self.hal.delay_us(10);
        }
        Err(NicError::NoReset)
    }

    /// 3.1.1, steps 2 to 6.
    fn negotiate(&mut self) -> Result<(), NicError> {
        self.status(ACKNOWLEDGE | DRIVER);
        let common = &self.transport.common;
        let half = |select: u32| {
            common.write32(DEVICE_FEATURE_SELECT, select);
            u64::from(common.read32(DEVICE_FEATURE))
        };
        let offered = half(0) | half(1) << 32;
        self.features = offered & WANTED;
        if self.features & (F_VERSION_1 | F_MAC) != F_VERSION_1 | F_MAC {
            self.status(FAILED);
            return Err(NicError::Unsupported);
        }
        for select in 0..2u32 {
            common.write32(DRIVER_FEATURE_SELECT, select);
            common.write32(DRIVER_FEATURE, (self.features >> (32 * select)) as u32);
        }
        self.status(ACKNOWLEDGE | DRIVER | FEATURES_OK);
        if common.read8(DEVICE_STATUS) & FEATURES_OK == 0 {
            self.status(FAILED);
            return Err(NicError::Unsupported);
        }
        Ok(())
    }

    fn start_queues(&mut self) -> Result<(), NicError> {
        self.reset()?;
        self.negotiate()?;
        let event = self.features & F_EVENT_IDX != 0;
        self.rx.start(&self.transport, event, true)?;
        self.tx.start(&self.transport, event, false)?;
        (self.frames, self.tx_interrupt) = (0, false);
        self.rx.queue.interrupt_after(Some(0));
        self.tx.queue.interrupt_after(None);
        self.status(ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
        Ok(())
    }

    /// A frame in more than one piece: the further descriptors come from further slots.
    #[cold]
    fn tx_pieces(&mut self, first: u8, segments: &[Segment]) {
        let mut slot = first;
        let mut at = 2 * u16::from(slot) + 1;
        for (i, segment) in segments.iter().enumerate() {
            let mut next = 0;
            let mut flags = 0;
            if i + 1 < segments.len() {
                flags = NEXT;
                next = at + 1;
                if at % 2 == 1 {
                    let further = self.tx.take_last();
                    self.tx.next[slot as usize % SLOTS] = further;
                    slot = further;
                    next = 2 * u16::from(slot);
                }
            }
            self.tx.queue.set_descriptor(at, segment.phys, segment.len, flags, next);
            at = next;
        }
    }

    /// The slots of a frame that has left are free again.
    #[inline(always)]
    fn tx_free(&mut self, first: u8) {
        let mut slot = first;
        loop {
            self.tx.put(slot);
            let next = self.tx.next[slot as usize % SLOTS];
            if next == slot {
                break;
            }
            self.tx.set_header(next, false);
            slot = next;
        }
    }
}

impl<H: Hal> Nic for VirtioNet<H> {
    const NAME: &'static str = "virtio-net";
    const TX_CHECKSUM_REACH: u16 = u16::MAX;

    fn start(&mut self) -> Result<(), NicError> {
        let started = self.start_queues();
        if started.is_err() {
            self.quiesce();
            self.status(FAILED);
        }
        started
    }

    fn quiesce(&mut self) {
        // One that does not come out of reset must not be given new buffers: `start` fails then.
        let _ = self.reset();
        self.rx.clear();
        self.tx.clear();
        self.frames = 0;
    }

    fn mac(&self) -> [u8; 6] {
        self.mac
    }

    fn link_up(&self) -> bool {
        self.features & F_STATUS == 0 || self.transport.device.read16(6) & 1 != 0
    }

    fn offload(&self) -> u32 {
        let tx = if self.features & F_CSUM != 0 { offload::TX_CHECKSUM } else { 0 };
        let rx = if self.features & F_GUEST_CSUM != 0 { offload::RX_CHECKSUM } else { 0 };
        tx | rx
    }

    #[inline(always)]
    fn rx_room(&self) -> u32 {
        self.rx.free_count as u32
    }

    #[inline(always)]
    fn rx_posted(&self) -> u32 {
        (self.rx.count() - self.rx.free_count) as u32
    }

    #[inline(always)]
    fn rx_post(&mut self, token: u32, phys: u64) {
        let slot = self.rx.take();
        self.rx.tokens[slot as usize % SLOTS] = token;
        let head = 2 * u16::from(slot);
        self.rx.queue.set_address(head + 1, phys);
        self.rx.queue.push(head);
    }

    #[inline]
    fn rx_commit(&mut self) {
        self.rx.queue.publish(&self.transport);
    }

    #[inline(always)]
    fn rx_poll(&mut self) -> Option<RxDone> {
        let (slot, token, bytes) = self.rx.pop()?;
        self.rx.put(slot);
        let flags = self.rx.headers.get(HEADER_WORDS * slot as usize);
        let mut status = RxStatus::Good;
        // NEEDS_CSUM: the frame never was on a wire, and its checksum is not filled in; its bytes are good (5.1.6.4.1).
        if flags & (NEEDS_CSUM | DATA_VALID) != 0 {
            status = RxStatus::ChecksumGood;
        }
        let len = bytes.wrapping_sub(HEADER_BYTES);
        if len > CLUSTER_BYTES {
            return Some(RxDone { token, len: 0, status: RxStatus::Error });
        }
        Some(RxDone { token, len, status })
    }

    #[inline]
    fn rx_rearm(&mut self) -> bool {
        self.rx.queue.interrupt_after(Some(0))
    }

    fn rx_spent(&mut self) -> bool {
        // The next interrupt would come for a frame after those that wait, and there is no way to raise one.
        false
    }

    #[inline(always)]
    fn tx_room(&self, segments: usize) -> bool {
        self.tx.free_count * 2 > segments
    }

    #[inline(always)]
    fn tx_post(&mut self, token: u32, segments: &[Segment], checksum: Option<TxChecksum>) {
        debug_assert!(segments.len() <= SEGMENTS_MAX);
        let slot = self.tx.take_last();
        let header = HEADER_WORDS * slot as usize;
        match checksum {
            None => self.tx.headers.set(header, 0),
            Some(TxChecksum { start, offset }) => {
                self.tx.headers.set(header, NEEDS_CSUM);
                self.tx.headers.set(header + 1, u32::from(start) << 16);
                self.tx.headers.set(header + 2, u32::from(offset));
            }
        }
        let head = 2 * u16::from(slot);
        match segments {
            [one] => self.tx.queue.set_descriptor(head + 1, one.phys, one.len, 0, 0),
            _ => self.tx_pieces(slot, segments),
        }
        self.tx.tokens[slot as usize % SLOTS] = token;
        self.tx.queue.push(head);
        self.frames += 1;
    }

    #[inline]
    fn tx_kick(&mut self) {
        self.tx.queue.publish(&self.transport);
    }

    #[inline]
    fn tx_reap(&mut self, mut done: impl FnMut(u32)) {
        let before = self.frames;
        while let Some((slot, token, _)) = self.tx.pop() {
            self.tx_free(slot);
            self.frames -= 1;
            done(token);
        }
        if before != self.frames && !self.tx_interrupt {
            self.tx.queue.interrupt_after(None);
        }
    }

    #[inline(always)]
    fn tx_in_flight(&self) -> u32 {
        self.frames
    }

    #[inline]
    fn tx_interrupt(&mut self, wanted: bool) -> bool {
        if !wanted && !self.tx_interrupt {
            return false;
        }
        self.tx_interrupt = wanted;
        // One interrupt when half of them have left.
        self.tx.queue.interrupt_after(wanted.then_some((self.frames / 2) as u16))
    }

    #[inline]
    fn acknowledge_interrupt(&mut self) -> bool {
        // 4.1.4.5: reading clears it. Bit 0: a queue, bit 1: the configuration.
        self.transport.isr.read8(0) & 3 != 0
    }

    #[inline(always)]
    fn take_bogus(&mut self) -> u32 {
        core::mem::take(&mut self.rx.queue.bogus) + core::mem::take(&mut self.tx.queue.bogus)
    }
}
