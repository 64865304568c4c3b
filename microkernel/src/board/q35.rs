//! QEMU's `q35`: Intel 82G33 (Q35) host bridge with the ICH9 south bridge (Intel I/O Controller Hub 9 data sheet).
//!
//! | what | where |
//! | --- | --- |
//! | console | 16550 at port 0x3f8, IRQ 4 |
//! | interrupts | two 8259A; PCI pins go to IRQ 10 and 11, level-triggered, as the firmware routes them (PIRQ registers, 13.1.14) |
//! | timer | 8254 at port 0x40, IRQ 0 |
//! | power | PMBASE, register 0x40 of the LPC bridge (13.1.13) |
//! | memory | up to 2 GiB (2.75 GiB with less) below the hole, the rest from 4 GiB on; the loader's map says so |

use super::Board;
use crate::arch::pci::Function;

/// The board.
pub const BOARD: Board = Board {
    name: "q35",
    host_bridge: (0x8086, 0x29c0),
    power: (Function::new(0, 31, 0), 0x40, (0x8086, 0x2918)),
};
