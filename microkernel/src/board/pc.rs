//! QEMU's `pc`: Intel 82441FX host bridge with the 82371SB (PIIX3) south bridge and the power management function of the 82371AB
//! (PIIX4), whose data sheet is meant here.
//!
//! | what | where |
//! | --- | --- |
//! | console | 16550 at port 0x3f8, IRQ 4 |
//! | interrupts | two 8259A; PCI pins go to IRQ 10 and 11, level-triggered, as the firmware routes them (PIRQ registers, 4.1.10) |
//! | timer | 8254 at port 0x40, IRQ 0 |
//! | power | PMBA, register 0x40 of function 3 (7.1.13) |
//! | memory | up to 3 GiB (3.5 GiB with less than 4) below the hole, the rest from 4 GiB on; the loader's map says so |

use super::Board;
use crate::arch::pci::Function;

/// The board.
pub const BOARD: Board = Board {
    name: "pc",
    host_bridge: (0x8086, 0x1237),
    power: (Function::new(0, 1, 3), 0x40, (0x8086, 0x7113)),
};
