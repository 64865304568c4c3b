//! PCI configuration space by mechanism 1 (PCI Local Bus Specification 3.0, 3.2.2.3.2).

use super::ports::{read32, write32};

const ADDRESS: u16 = 0xcf8;
const DATA: u16 = 0xcfc;

const COMMAND: u8 = 0x04;
const CLASS: u8 = 0x08;
const HEADER: u8 = 0x0c;
const BARS: u8 = 0x10;
const BUS_NUMBERS: u8 = 0x18;
const INTERRUPT: u8 = 0x3c;

const COMMAND_MEMORY: u32 = 2;
const COMMAND_BUS_MASTER: u32 = 4;
/// Status bits are cleared by writing 1 to them: this keeps them as they are.
const COMMAND_MASK: u32 = 0xffff;
/// Class and subclass of a bridge to another PCI bus.
const CLASS_BRIDGE: u32 = 0x0604;

/// A function of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    bus: u8,
    device: u8,
    function: u8,
}

/// A region of memory that a function answers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its physical address.
    pub phys: u64,
    /// Its size.
    pub bytes: u64,
}

impl Function {
    /// A function by its place.
    pub const fn new(bus: u8, device: u8, function: u8) -> Self {
        Self { bus, device, function }
    }

    /// Reads 32 bits at a multiple of 4.
    pub fn read(self, offset: u8) -> u32 {
        self.select(offset);
        read32(DATA)
    }

    /// Writes 32 bits at a multiple of 4.
    pub fn write(self, offset: u8, value: u32) {
        self.select(offset);
        write32(DATA, value);
    }

    /// Vendor and device.
    pub fn id(self) -> (u16, u16) {
        let id = self.read(0);
        (id as u16, (id >> 16) as u16)
    }

    /// The line of the interrupt controllers that the firmware routed its pin to; `None` if it has none.
    pub fn irq(self) -> Option<u8> {
        let [line, pin, ..] = self.read(INTERRUPT).to_le_bytes();
        (pin != 0 && line < 16).then_some(line)
    }

    /// Lets it answer to memory accesses and make its own.
    pub fn enable(self) {
        let command = self.read(COMMAND) & COMMAND_MASK;
        self.write(COMMAND, command | COMMAND_MEMORY | COMMAND_BUS_MASTER);
    }

    /// The memory behind base address register `index`; `None` if it has none, or it is for ports, or is the
    /// upper half of another.
    pub fn region(self, index: u8) -> Option<Region> {
        let at = |index: u8| BARS + 4 * index;
        if index >= self.bars() {
            return None;
        }
        let low = self.read(at(index));
        let wide = low & 0b111 == 0b100;
        if low & 1 != 0 || (wide && index + 1 >= self.bars()) || self.is_upper_half(index) {
            return None;
        }
        // The size shows in the bits that cannot be set. The function must not answer meanwhile.
        let command = self.read(COMMAND) & COMMAND_MASK;
        self.write(COMMAND, command & !COMMAND_MEMORY);
        let size = |at: u8| {
            let old = self.read(at);
            self.write(at, !0);
            let mask = self.read(at);
            self.write(at, old);
            (old, mask)
        };
        let (_, low_mask) = size(at(index));
        let (high, high_mask) = if wide { size(at(index + 1)) } else { (0, !0) };
        self.write(COMMAND, command);
        let mask = u64::from(high_mask) << 32 | u64::from(low_mask & !0xf);
        let phys = u64::from(high) << 32 | u64::from(low & !0xf);
        let bytes = (!mask).wrapping_add(1);
        (phys != 0 && bytes != 0).then_some(Region { phys, bytes })
    }

    fn is_upper_half(self, index: u8) -> bool {
        let mut at = 0;
        while at < index {
            at += if self.read(BARS + 4 * at) & 0b111 == 0b100 { 2 } else { 1 };
        }
        at != index
    }

    /// Base address registers: a bridge has fewer.
    fn bars(self) -> u8 {
        if self.header_type() == 0 { 6 } else { 2 }
    }

    fn header_type(self) -> u8 {
        (self.read(HEADER) >> 16) as u8 & 0x7f
    }

    fn select(self, offset: u8) {
        let place = u32::from(self.bus) << 16 | u32::from(self.device) << 11 | u32::from(self.function) << 8;
        write32(ADDRESS, 1 << 31 | place | u32::from(offset & !3));
    }
}

/// Calls `visit` for every function, bus 0 first and the buses behind a bridge when the bridge is met, until
/// it gives something.
pub fn find<T>(visit: &mut dyn FnMut(Function) -> Option<T>) -> Option<T> {
    find_on(0, visit)
}

fn find_on<T>(bus: u8, visit: &mut dyn FnMut(Function) -> Option<T>) -> Option<T> {
    for device in 0..32 {
        let first = Function::new(bus, device, 0);
        if first.id().0 == 0xffff {
            continue;
        }
        let functions = if first.read(HEADER) >> 16 & 0x80 != 0 { 8 } else { 1 };
        for number in 0..functions {
            let function = Function::new(bus, device, number);
            if function.id().0 == 0xffff {
                continue;
            }
            if let Some(found) = visit(function) {
                return Some(found);
            }
            let secondary = (function.read(BUS_NUMBERS) >> 8) as u8;
            // Numbers grow away from the root: one that does not would lead round in circles.
            if function.read(CLASS) >> 16 == CLASS_BRIDGE
                && secondary > bus
                && let Some(found) = find_on(secondary, visit)
            {
                return Some(found);
            }
        }
    }
    None
}
