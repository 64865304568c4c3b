//! The Intel 82540EM, as QEMU's `e1000` has it.
//!
//! Source: Intel, "PCI/PCI-X Family of Gigabit Ethernet Controllers Software Developer's Manual" (317453; below SDM). Legacy receive
//! descriptors (3.2.3) with buffers of 2 KiB, a cluster each; TCP/IP data and context descriptors for sending (3.3.6, 3.3.7). Key type:
//! [`E1000`].
//!
//! What costs is a register access (an exit under emulation, a bus transaction on hardware), so: one write of a tail for a burst, no head is
//! ever read, and status write-back (RS) is asked for only at the end of a burst, where QEMU's synchronous transmitter leaves it
//! before the tail's write returns.

use crate::{
    dma::{DmaArray, observe, publish},
    hal::{Hal, Registers},
    nic::{Nic, NicError, RxDone, RxStatus, Segment, TxChecksum},
};
use abi::device::offload;

mod registers;

use registers as reg;

/// Descriptors of each ring. A tail that equals the head says empty, so one of them is never in use.
const RING: usize = 256;
const RING_USABLE: u32 = RING as u32 - 1;
/// A burst that is longer gets a status write-back in its middle, so that its buffers come back in time on hardware that transmits while we go on.
const WRITE_BACK_EVERY: u32 = 64;
/// Interrupts are at least this far apart, in units of 256 ns (SDM 13.4.18): 20,000 a second. A full-size frame on a gigabit link takes 12 µs,
/// so it gathers four of them; a request that waits for its answer loses at most 50 µs. QEMU's model treats everything up to 500 as 500
/// (128 µs), which is what bounds a request and its answer there. More gains nothing: at 1000, measured in QEMU, round trips per
/// second fall to half (6500 to 3400) while bulk transfers go as fast in either direction as at 0, 65 and 195.
const INTERRUPT_SPACING: u32 = 195;

/// The driver's state.
pub struct E1000<H: Hal> {
    hal: H,
    registers: H::Registers,
    /// Two words for each descriptor.
    rx_ring: DmaArray<u64, { 2 * RING }>,
    tx_ring: DmaArray<u64, { 2 * RING }>,
    rx: Rx,
    tx: Tx,
    mac: [u8; 6],
}

/// The receive ring. Positions count on without end; a descriptor's index is its position modulo [`RING`].
struct Rx {
    tokens: [u32; RING],
    /// The next to be filled by the device.
    next: u32,
    /// The next to be posted.
    tail: u32,
    /// The tail that the device knows.
    told: u32,
    /// What the descriptor of a good frame says; what none says while the last buffer was not the end of its frame.
    good: u32,
}

/// [`Rx::good`] between frames: done, and the end of a frame, without errors.
const WHOLE: u32 = reg::RXD_DONE | reg::RXD_EOP;
/// [`Rx::good`] within a frame.
const IN_FRAME: u32 = u32::MAX;

/// The transmit ring. Positions are as in [`Rx`].
struct Tx {
    /// The token of the frame that ends there, or 0.
    tokens: [u32; RING],
    /// The first that is not reaped.
    clean: u32,
    /// The next to be filled.
    tail: u32,
    /// The tail that the device knows.
    told: u32,
    frames: u32,
    /// The position after the last write-back that was asked for.
    marked: u32,
    /// The ends of the stretches with a write-back to come, oldest first: a ring too.
    marks: [u32; RING],
    first_mark: u32,
    end_mark: u32,
    context: Option<TxChecksum>,
    interrupt: bool,
}

#[inline(always)]
const fn at(position: u32) -> usize {
    position as usize % RING
}

impl Rx {
    const fn new() -> Self {
        Self { tokens: [0; RING], next: 0, tail: 0, told: 0, good: WHOLE }
    }
}

impl Tx {
    const fn new() -> Self {
        Self {
            tokens: [0; RING],
            clean: 0,
            tail: 0,
            told: 0,
            frames: 0,
            marked: 0,
            marks: [0; RING],
            first_mark: 0,
            end_mark: 0,
            context: None,
            interrupt: false,
        }
    }

    /// Notes that the last descriptor will be written back.
    #[inline(always)]
    fn mark(&mut self) {
        self.marks[at(self.end_mark)] = self.tail;
        self.end_mark = self.end_mark.wrapping_add(1);
        self.marked = self.tail;
    }
}

impl<H: Hal> E1000<H> {
    /// Finds the device's registers and takes the memory of its rings; it stays silent.
    ///
    /// # Errors
    /// See [`NicError`].
    pub fn new(mut hal: H) -> Result<Self, NicError> {
        let registers = hal.bar(0).filter(|bar| bar.len() >= reg::END).ok_or(NicError::NoRegisters)?;
        let mut ring = || hal.dma(DmaArray::<u64, { 2 * RING }>::BYTES);
        let rx_ring = DmaArray::new(&ring().ok_or(NicError::NoMemory)?).ok_or(NicError::NoMemory)?;
        let tx_ring = DmaArray::new(&ring().ok_or(NicError::NoMemory)?).ok_or(NicError::NoMemory)?;
        let mut nic = Self { hal, registers, rx_ring, tx_ring, rx: Rx::new(), tx: Tx::new(), mac: [0; 6] };
        nic.reset()?;
        Ok(nic)
    }

    /// The machine.
    pub const fn hal(&self) -> &H {
        &self.hal
    }

    /// SDM 14.3 and 4.6.1: masks interrupts, resets, masks again. All DMA has ended then.
    fn reset(&mut self) -> Result<(), NicError> {
        let registers = &self.registers;
        registers.write32(reg::IMC, u32::MAX);
        registers.write32(reg::RCTL, 0);
        registers.write32(reg::TCTL, 0);
        let control = registers.read32(reg::CTRL);
        registers.write32(reg::CTRL, control | reg::CTRL_RST);
        // The bit clears itself within 1 µs; the EEPROM's contents are there after some more.
        let mut tries = 0;
        loop {
            self.hal.delay_us(10);
            if registers.read32(reg::CTRL) & reg::CTRL_RST == 0 {
                break;
            }
            tries += 1;
            if tries == 1000 {
                return Err(NicError::NoReset);
            }
        }
        registers.write32(reg::IMC, u32::MAX);
        registers.read32(reg::ICR);
        // SDM 5.6.1: the receive address 0 comes from the EEPROM.
        let (low, high) = (registers.read32(reg::RAL0), registers.read32(reg::RAH0));
        if high & reg::RAH_VALID == 0 {
            return Err(NicError::Unsupported);
        }
        let [a, b, c, d] = low.to_le_bytes();
        let [e, f, ..] = high.to_le_bytes();
        self.mac = [a, b, c, d, e, f];
        Ok(())
    }

    fn start_rx(&mut self) {
        self.rx = Rx::new();
        self.rx_ring.zero();
        let (registers, phys) = (&self.registers, self.rx_ring.phys(0));
        registers.write32(reg::RDBAL, phys as u32);
        registers.write32(reg::RDBAH, (phys >> 32) as u32);
        registers.write32(reg::RDLEN, 16 * RING as u32);
        registers.write32(reg::RDH, 0);
        registers.write32(reg::RDT, 0);
        registers.write32(reg::RDTR, 0);
        for entry in 0..128 {
            registers.write32(reg::MTA + 4 * entry, 0);
        }
        // All multicast frames: IPv6 neighbour discovery needs groups of its own for each address (RFC 4861).
        registers.write32(reg::RCTL, reg::RCTL_EN | reg::RCTL_MPE | reg::RCTL_BAM | reg::RCTL_SECRC);
    }

    fn start_tx(&mut self) {
        self.tx = Tx::new();
        self.tx_ring.zero();
        let (registers, phys) = (&self.registers, self.tx_ring.phys(0));
        registers.write32(reg::TDBAL, phys as u32);
        registers.write32(reg::TDBAH, (phys >> 32) as u32);
        registers.write32(reg::TDLEN, 16 * RING as u32);
        registers.write32(reg::TDH, 0);
        registers.write32(reg::TDT, 0);
        registers.write32(reg::TIDV, 0);
        registers.write32(reg::TIPG, reg::TIPG_COPPER);
        registers.write32(reg::TCTL, reg::TCTL_EN | reg::TCTL_PSP | reg::TCTL_COLLISION);
    }

    /// Writes the next transmit descriptor. `token` is that of the frame that ends there, or 0.
    #[inline(always)]
    fn tx_descriptor(&mut self, first: u64, second: u64, token: u32) {
        let position = self.tx.tail;
        self.tx_ring.set(2 * at(position), first);
        self.tx_ring.set(2 * at(position) + 1, second);
        self.tx.tokens[at(position)] = token;
        self.tx.tail = position.wrapping_add(1);
    }

    /// SDM 3.3.6. The device keeps a context until the next one, so frames of the same kind need one together.
    #[cold]
    fn tx_context(&mut self, checksum: TxChecksum) {
        self.tx.context = Some(checksum);
        let first = u64::from(checksum.start) << 32 | u64::from(checksum.start + checksum.offset) << 40;
        self.tx_descriptor(first, reg::TXD_EXTENDED, 0);
    }

    /// Asks for a write-back of the last descriptor, which the device does not know of yet.
    #[inline]
    fn tx_mark(&mut self) {
        let second = 2 * at(self.tx.tail.wrapping_sub(1)) + 1;
        self.tx_ring.set(second, self.tx_ring.get(second) | reg::TXD_RS);
        self.tx.mark();
    }

    /// Whether the oldest write-back has happened; the end of its stretch.
    #[inline(always)]
    fn tx_oldest_done(&self) -> Option<u32> {
        if self.tx.first_mark == self.tx.end_mark {
            return None;
        }
        let end = self.tx.marks[at(self.tx.first_mark)];
        (self.tx_ring.get(2 * at(end.wrapping_sub(1)) + 1) & reg::TXD_DONE != 0).then_some(end)
    }
}

impl<H: Hal> Nic for E1000<H> {
    const NAME: &'static str = "e1000";
    // Eight bits of a context descriptor.
    const TX_CHECKSUM_REACH: u16 = 255;

    fn start(&mut self) -> Result<(), NicError> {
        self.reset()?;
        self.start_rx();
        self.start_tx();
        let registers = &self.registers;
        let control = registers.read32(reg::CTRL) & !(reg::CTRL_LRST | reg::CTRL_ILOS | reg::CTRL_PHY_RST);
        registers.write32(reg::CTRL, control | reg::CTRL_SLU | reg::CTRL_ASDE);
        registers.write32(reg::ITR, INTERRUPT_SPACING);
        registers.write32(reg::IMS, reg::INT_RX | reg::INT_LSC);
        Ok(())
    }

    fn quiesce(&mut self) {
        // A device that does not come out of reset has its receiver and transmitter off all the same.
        let _ = self.reset();
        self.rx = Rx::new();
        self.tx = Tx::new();
    }

    fn mac(&self) -> [u8; 6] {
        self.mac
    }

    fn link_up(&self) -> bool {
        self.registers.read32(reg::STATUS) & reg::STATUS_LU != 0
    }

    fn offload(&self) -> u32 {
        // The receive checksums are there on hardware, but not in QEMU's model, which tells to ignore them.
        offload::TX_CHECKSUM
    }

    #[inline(always)]
    fn rx_room(&self) -> u32 {
        RING_USABLE - self.rx_posted()
    }

    #[inline(always)]
    fn rx_posted(&self) -> u32 {
        self.rx.tail.wrapping_sub(self.rx.next)
    }

    #[inline(always)]
    fn rx_post(&mut self, token: u32, phys: u64) {
        debug_assert!(self.rx_posted() < RING_USABLE);
        let position = self.rx.tail;
        self.rx.tokens[at(position)] = token;
        self.rx_ring.set(2 * at(position), phys);
        self.rx_ring.set(2 * at(position) + 1, 0);
        self.rx.tail = position.wrapping_add(1);
    }

    #[inline]
    fn rx_commit(&mut self) {
        if self.rx.told != self.rx.tail {
            self.rx.told = self.rx.tail;
            publish();
            self.registers.write32(reg::RDT, at(self.rx.tail) as u32);
        }
    }

    #[inline(always)]
    fn rx_poll(&mut self) -> Option<RxDone> {
        let position = self.rx.next;
        if position == self.rx.tail {
            return None;
        }
        let word = self.rx_ring.get(2 * at(position) + 1);
        let said = (word >> 32) as u32 & (reg::RXD_DONE | reg::RXD_EOP | reg::RXD_ERRORS);
        let mut status = RxStatus::Good;
        if said != self.rx.good {
            if said & reg::RXD_DONE == 0 {
                return None;
            }
            status = rx_trouble(&mut self.rx.good, said);
        }
        observe();
        self.rx.next = position.wrapping_add(1);
        Some(RxDone { token: self.rx.tokens[at(position)], len: (word & 0xffff) as u32, status })
    }

    #[inline(always)]
    fn rx_rearm(&mut self) -> bool {
        // A cause that comes after the read of ICR asserts the interrupt again.
        false
    }

    fn rx_spent(&mut self) -> bool {
        self.registers.write32(reg::ICS, reg::INT_RXT0);
        true
    }

    #[inline(always)]
    fn tx_room(&self, segments: usize) -> bool {
        // One more for a context.
        self.tx.tail.wrapping_sub(self.tx.clean) < RING_USABLE - segments as u32
    }

    #[inline(always)]
    fn tx_post(&mut self, token: u32, segments: &[Segment], checksum: Option<TxChecksum>) {
        let mut options = reg::TXD_DATA;
        if let Some(checksum) = checksum {
            options |= reg::TXD_TXSM;
            if self.tx.context != Some(checksum) {
                self.tx_context(checksum);
            }
        }
        let [rest @ .., last] = segments else { return };
        for segment in rest {
            self.tx_descriptor(segment.phys, options | u64::from(segment.len), 0);
        }
        self.tx_descriptor(last.phys, options | reg::TXD_EOP | u64::from(last.len), token);
        self.tx.frames += 1;
        if self.tx.tail.wrapping_sub(self.tx.marked) > WRITE_BACK_EVERY {
            self.tx_mark();
        }
    }

    #[inline]
    fn tx_kick(&mut self) {
        if self.tx.told == self.tx.tail {
            return;
        }
        self.tx.told = self.tx.tail;
        if self.tx.marked != self.tx.tail {
            self.tx_mark();
        }
        publish();
        self.registers.write32(reg::TDT, at(self.tx.tail) as u32);
    }

    #[inline]
    fn tx_reap(&mut self, mut done: impl FnMut(u32)) {
        while let Some(end) = self.tx_oldest_done() {
            observe();
            self.tx.first_mark = self.tx.first_mark.wrapping_add(1);
            let mut position = self.tx.clean;
            self.tx.clean = end;
            while position != end {
                let token = self.tx.tokens[at(position)];
                if token != 0 {
                    self.tx.frames -= 1;
                    done(token);
                }
                position = position.wrapping_add(1);
            }
        }
    }

    #[inline(always)]
    fn tx_in_flight(&self) -> u32 {
        self.tx.frames
    }

    #[inline]
    fn tx_interrupt(&mut self, wanted: bool) -> bool {
        if wanted != self.tx.interrupt {
            self.tx.interrupt = wanted;
            self.registers.write32(if wanted { reg::IMS } else { reg::IMC }, reg::INT_TXDW);
        }
        wanted && self.tx_oldest_done().is_some()
    }

    #[inline]
    fn acknowledge_interrupt(&mut self) -> bool {
        // Reading clears all causes, also those that are masked.
        let tx = if self.tx.interrupt { reg::INT_TXDW } else { 0 };
        self.registers.read32(reg::ICR) & (reg::INT_RX | reg::INT_LSC | tx) != 0
    }

    #[inline(always)]
    fn take_bogus(&mut self) -> u32 {
        // Completion is a bit in a descriptor of our own ring: the device cannot name a buffer that was never posted.
        0
    }
}

/// A frame over more than one buffer, or with an error (SDM 3.2.3.2, 3.2.3.3).
#[cold]
fn rx_trouble(good: &mut u32, said: u32) -> RxStatus {
    let (continued, ends) = (*good == IN_FRAME, said & reg::RXD_EOP != 0);
    *good = if ends { WHOLE } else { IN_FRAME };
    match (ends, continued) {
        (false, _) => RxStatus::Fragment,
        (true, true) => RxStatus::Oversized,
        (true, false) => RxStatus::Error,
    }
}
