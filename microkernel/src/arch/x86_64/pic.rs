//! The two 8259A interrupt controllers (Intel 8259A data sheet), through the `pic8259` crate.
#![expect(unsafe_code, reason = "the crate's functions are unsafe: they decide which vectors interrupts use")]

use super::ports::{read8, write8};
use pic8259::ChainedPics;

/// The vector of IRQ 0; the others follow.
pub const FIRST_VECTOR: u8 = 0x20;

/// The two controllers.
pub struct Pic {
    pics: ChainedPics,
    /// A set bit: the line is masked.
    mask: u16,
}

impl Pic {
    /// Before [`Pic::init`].
    pub const fn new() -> Self {
        // SAFETY: the vectors are above the processor's own (SDM volume 3, 6.2), and the IDT has entries for them.
        Self { pics: unsafe { ChainedPics::new_contiguous(FIRST_VECTOR) }, mask: !0 }
    }

    /// Sets both up with every line masked.
    pub fn init(&mut self) {
        // SAFETY: as in `new`.
        unsafe {
            self.pics.initialize();
        }
        self.write_mask();
    }

    /// Lets a line through, and the second controller if it is one of its.
    pub fn unmask(&mut self, irq: u8) {
        self.mask &= !(1 << (irq & 15));
        if irq >= 8 {
            self.mask &= !(1 << 2);
        }
        self.write_mask();
    }

    /// Holds a line back.
    pub fn mask(&mut self, irq: u8) {
        self.mask |= 1 << (irq & 15);
        self.write_mask();
    }

    /// Is it an interrupt at all? A spurious one has no service bit set (8259A, "Default IRQ7"), and needs no end but
    /// that of the first controller if it came through the second.
    #[inline]
    pub fn is_real(irq: u8) -> bool {
        if irq & 7 != 7 {
            return true;
        }
        let command = if irq < 8 { 0x20 } else { 0xa0 };
        write8(command, 0x0b);
        let real = read8(command) & 0x80 != 0;
        if !real && irq >= 8 {
            write8(0x20, 0x20);
        }
        real
    }

    /// Ends an interrupt, once its device asks no more.
    #[inline]
    pub fn end(&mut self, irq: u8) {
        // SAFETY: the interrupt of this vector is being served.
        unsafe {
            self.pics.notify_end_of_interrupt(FIRST_VECTOR + irq);
        }
    }

    /// Makes a line level-triggered (82371AB and ICH9: ELCR1 and ELCR2), as PCI interrupts are.
    pub fn level_triggered(irq: u8) {
        let port = 0x4d0 + u16::from(irq / 8);
        write8(port, read8(port) | 1 << (irq % 8));
    }

    fn write_mask(&mut self) {
        let [low, high] = self.mask.to_le_bytes();
        // SAFETY: as in `new`.
        unsafe {
            self.pics.write_masks(low, high);
        }
    }
}
