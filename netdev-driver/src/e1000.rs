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
use abi::{device::offload, window::CLUSTER_BYTES};

mod registers;

use registers as reg;

/// Descriptors of each ring. A tail that equals the head says empty, so one of them is never in use.
const RING: usize = 256;
const RING_USABLE: u32 = RING as u32 - 1;
/// A burst that is longer gets a status write-back in its middle, so that its buffers come back in time on hardware that transmits while we go on.
const WRITE_BACK_EVERY: u32 = 64;
/// Interrupts are at least this far apart, in units of 256 ns (SDM 13.4.18): 20,000 a second. A full-size frame on a gigabit link takes 12 µs,
/// so it gathers four of them; a request that waits for its answer loses at most 50 µs. (QEMU makes at least 128 µs of it.)
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

/// The receive ring; positions are modulo [`RING`].
struct Rx {
    tokens: [u32; RING],
    /// The next to be filled by the device.
    next: usize,
    /// The next to be posted.
    tail: usize,
    posted: u32,
    uncommitted: bool,
    /// The last buffer was not the end of its frame.
    in_frame: bool,
}

/// The transmit ring; positions are modulo [`RING`].
struct Tx {
    /// The token of the frame that ends there, or 0.
    tokens: [u32; RING],
    /// The first that is not reaped.
    clean: usize,
    /// The next to be filled.
    tail: usize,
    used: u32,
    frames: u32,
    /// The second word of the last descriptor, which the device does not know of yet; 0 if it knows all.
    unkicked: u64,
    since_mark: u32,
    /// The descriptors with a write-back to come, oldest first.
    marks: [u8; RING],
    first_mark: usize,
    end_mark: usize,
    context: Option<TxChecksum>,
    interrupt: bool,
}

impl Rx {
    const fn new() -> Self {
        Self { tokens: [0; RING], next: 0, tail: 0, posted: 0, uncommitted: false, in_frame: false }
    }
}

impl Tx {
    const fn new() -> Self {
        Self {
            tokens: [0; RING],
            clean: 0,
            tail: 0,
            used: 0,
            frames: 0,
            unkicked: 0,
            since_mark: 0,
            marks: [0; RING],
            first_mark: 0,
            end_mark: 0,
            context: None,
            interrupt: false,
        }
    }

    /// Notes that the descriptor `at` will be written back.
    #[inline(always)]
    fn mark(&mut self, at: usize) {
        self.marks[self.end_mark % RING] = at as u8;
        self.end_mark = (self.end_mark + 1) % RING;
        self.since_mark = 0;
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

    /// Writes the next transmit descriptor.
    #[inline(always)]
    fn tx_descriptor(&mut self, first: u64, second: u64) -> usize {
        let at = self.tx.tail;
        self.tx_ring.set(2 * at, first);
        self.tx_ring.set(2 * at + 1, second);
        self.tx.tail = (at + 1) % RING;
        self.tx.used += 1;
        self.tx.since_mark += 1;
        at
    }

    /// SDM 3.3.6. The device keeps a context until the next one, so frames of the same kind need one together.
    #[cold]
    fn tx_context(&mut self, checksum: TxChecksum) {
        self.tx.context = Some(checksum);
        let first = u64::from(checksum.start) << 32 | u64::from(checksum.start + checksum.offset) << 40;
        self.tx_descriptor(first, reg::TXD_EXTENDED);
    }

    /// Whether the oldest write-back has happened.
    #[inline(always)]
    fn tx_oldest_done(&self) -> Option<usize> {
        if self.tx.first_mark == self.tx.end_mark {
            return None;
        }
        let at = self.tx.marks[self.tx.first_mark % RING] as usize;
        (self.tx_ring.get(2 * at + 1) & reg::TXD_DONE != 0).then_some(at)
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
        RING_USABLE - self.rx.posted
    }

    #[inline(always)]
    fn rx_posted(&self) -> u32 {
        self.rx.posted
    }

    #[inline(always)]
    fn rx_post(&mut self, token: u32, phys: u64) {
        debug_assert!(self.rx.posted < RING_USABLE);
        let at = self.rx.tail;
        self.rx.tokens[at % RING] = token;
        self.rx_ring.set(2 * at, phys);
        self.rx_ring.set(2 * at + 1, 0);
        self.rx.tail = (at + 1) % RING;
        self.rx.posted += 1;
        self.rx.uncommitted = true;
    }

    #[inline]
    fn rx_commit(&mut self) {
        if self.rx.uncommitted {
            self.rx.uncommitted = false;
            publish();
            self.registers.write32(reg::RDT, self.rx.tail as u32);
        }
    }

    #[inline(always)]
    fn rx_poll(&mut self) -> Option<RxDone> {
        let at = self.rx.next;
        if self.rx.posted == 0 {
            return None;
        }
        let word = self.rx_ring.get(2 * at + 1);
        if word & reg::RXD_DONE == 0 {
            return None;
        }
        observe();
        self.rx.next = (at + 1) % RING;
        self.rx.posted -= 1;
        let mut status = RxStatus::Good;
        if word & (reg::RXD_EOP | reg::RXD_ERRORS) != reg::RXD_EOP || self.rx.in_frame {
            status = rx_trouble(&mut self.rx.in_frame, word);
        }
        // The device cannot write more than the buffer holds; believe no other number.
        let len = ((word & 0xffff) as u32).min(CLUSTER_BYTES);
        Some(RxDone { token: self.rx.tokens[at % RING], len, status })
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
        self.tx.used + (segments as u32) < RING_USABLE
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
            self.tx_descriptor(segment.phys, options | u64::from(segment.len));
        }
        let mut second = options | reg::TXD_EOP | u64::from(last.len);
        if self.tx.since_mark >= WRITE_BACK_EVERY {
            second |= reg::TXD_RS;
        }
        let at = self.tx_descriptor(last.phys, second);
        if second & reg::TXD_RS != 0 {
            self.tx.mark(at);
        }
        self.tx.tokens[at % RING] = token;
        self.tx.frames += 1;
        self.tx.unkicked = second;
    }

    #[inline]
    fn tx_kick(&mut self) {
        let last = core::mem::take(&mut self.tx.unkicked);
        if last == 0 {
            return;
        }
        if last & reg::TXD_RS == 0 {
            let at = (self.tx.tail + RING - 1) % RING;
            self.tx_ring.set(2 * at + 1, last | reg::TXD_RS);
            self.tx.mark(at);
        }
        publish();
        self.registers.write32(reg::TDT, self.tx.tail as u32);
    }

    #[inline]
    fn tx_reap(&mut self, mut done: impl FnMut(u32)) {
        while let Some(end) = self.tx_oldest_done() {
            observe();
            self.tx.first_mark = (self.tx.first_mark + 1) % RING;
            let mut at = self.tx.clean;
            self.tx.used -= ((end + RING - at) % RING) as u32 + 1;
            loop {
                let token = core::mem::take(&mut self.tx.tokens[at % RING]);
                if token != 0 {
                    self.tx.frames -= 1;
                    done(token);
                }
                if at == end {
                    break;
                }
                at = (at + 1) % RING;
            }
            self.tx.clean = (end + 1) % RING;
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
fn rx_trouble(in_frame: &mut bool, word: u64) -> RxStatus {
    let (continued, ends) = (*in_frame, word & reg::RXD_EOP != 0);
    *in_frame = !ends;
    match (ends, continued) {
        (false, _) => RxStatus::Fragment,
        (true, true) => RxStatus::Oversized,
        (true, false) => RxStatus::Error,
    }
}
