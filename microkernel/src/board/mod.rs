//! The board: what stands around the processor and differs from one machine to the next. A new board is one file here and a
//! line in [`BOARDS`].

mod pc;
mod q35;

use crate::arch::pci::{self, Function};
use crate::arch::ports;
use netdev_driver::device::Model;

/// What the kernel asks of a board.
#[derive(Debug)]
pub struct Board {
    /// Its name.
    pub name: &'static str,
    /// Vendor and device of the PCI host bridge, bus 0, device 0: how the board is known.
    pub host_bridge: (u16, u16),
    /// The function whose register holds the address of the power management ports, that register's offset, and the function's id.
    pub power: (Function, u8, (u16, u16)),
}

const BOARDS: [&Board; 2] = [&pc::BOARD, &q35::BOARD];

/// SLP_EN with sleep type 0, which both chip sets take as soft off (ACPI 4.8.3.2.1, PM1 control).
const SOFT_OFF: u16 = 1 << 13;
const PM1_CONTROL: u16 = 4;

impl Board {
    /// The board that this is; `None` if it is none that is known.
    pub fn detect() -> Option<&'static Self> {
        let bridge = Function::new(0, 0, 0).id();
        BOARDS.into_iter().find(|board| board.host_bridge == bridge)
    }

    /// Ends the machine: by QEMU's exit device if there is one, else by the chip set.
    pub fn power_off(board: Option<&Self>, code: u32) {
        ports::write32(abi::exit::PORT, code);
        if let Some(board) = board {
            let (function, register, id) = board.power;
            let base = (function.read(register) & 0xffc0) as u16;
            if function.id() == id && base != 0 {
                ports::write16(base + PM1_CONTROL, SOFT_OFF);
            }
        }
    }
}

/// The first network device that a driver knows.
pub fn find_nic() -> Option<(Function, Model)> {
    pci::find(&mut |function| {
        let (vendor, device) = function.id();
        Some((function, Model::of(vendor, device)?))
    })
}
