//! The modern PCI transport (Virtio 1.2, 4.1): where the device's structures are, found through its capabilities.
//!
//! The device's word is checked: capabilities that form a loop, name no memory or a structure that does not fit end the search with an error.

use crate::{
    hal::{Hal, Registers},
    nic::NicError,
};

// 4.1.4: types of structures.
const COMMON: u8 = 1;
const NOTIFY: u8 = 2;
const ISR: u8 = 3;
const DEVICE: u8 = 4;

/// More capabilities than this do not fit into the configuration space: it is a loop.
const CAPABILITIES_MAX: usize = 48;
const CAPABILITY_VENDOR: u8 = 0x09;

/// A structure in one of the device's memory regions.
pub struct Structure<R> {
    registers: R,
    at: u32,
    /// Its size, in bytes.
    pub len: u32,
}

impl<R: Registers> Structure<R> {
    #[inline(always)]
    pub fn read8(&self, offset: u32) -> u8 {
        self.registers.read8(self.at + offset)
    }
    #[inline(always)]
    pub fn read16(&self, offset: u32) -> u16 {
        self.registers.read16(self.at + offset)
    }
    #[inline(always)]
    pub fn read32(&self, offset: u32) -> u32 {
        self.registers.read32(self.at + offset)
    }
    #[inline(always)]
    pub fn write8(&self, offset: u32, value: u8) {
        self.registers.write8(self.at + offset, value);
    }
    #[inline(always)]
    pub fn write16(&self, offset: u32, value: u16) {
        self.registers.write16(self.at + offset, value);
    }
    #[inline(always)]
    pub fn write32(&self, offset: u32, value: u32) {
        self.registers.write32(self.at + offset, value);
    }
    /// 4.1.3.1: a 64-bit field is two 32-bit ones.
    pub fn write64(&self, offset: u32, value: u64) {
        self.write32(offset, value as u32);
        self.write32(offset + 4, (value >> 32) as u32);
    }
}

/// All of them.
pub struct Transport<R> {
    /// 4.1.4.3.
    pub common: Structure<R>,
    /// 4.1.4.4.
    pub notify: Structure<R>,
    /// The distance between the notification addresses of two queues.
    pub notify_multiplier: u32,
    /// 4.1.4.5.
    pub isr: Structure<R>,
    /// 5.1.4: the network device's configuration.
    pub device: Structure<R>,
}

impl<R: Registers> Transport<R> {
    /// Walks the capabilities.
    pub fn find<H: Hal<Registers = R>>(hal: &mut H) -> Result<Self, NicError> {
        let (mut common, mut notify, mut isr, mut device) = (None, None, None, None);
        let mut multiplier = 0;
        if hal.config_read32(4) >> 16 & 0x10 == 0 {
            return Err(NicError::Unsupported); // no list of capabilities
        }
        let mut at = hal.config_read32(0x34) as u8 & 0xfc;
        let mut seen = 0;
        while at != 0 {
            seen += 1;
            if seen > CAPABILITIES_MAX || at < 0x40 {
                return Err(NicError::Unsupported);
            }
            let [id, next, bytes, kind] = hal.config_read32(at).to_le_bytes();
            if id == CAPABILITY_VENDOR && bytes >= 16 && at <= 240 {
                // 4.1.4: of several structures of one type the first that is good is the one to use.
                let slot = match kind {
                    COMMON => Some((&mut common, 56)),
                    NOTIFY if bytes >= 20 && at <= 236 => Some((&mut notify, 2)),
                    ISR => Some((&mut isr, 1)),
                    DEVICE => Some((&mut device, 8)),
                    _ => None,
                };
                if let Some((slot @ None, bytes_min)) = slot {
                    *slot = structure(hal, at, bytes_min);
                    if kind == NOTIFY && slot.is_some() {
                        multiplier = hal.config_read32(at + 16);
                    }
                }
            }
            at = next & 0xfc;
        }
        match (common, notify, isr, device) {
            (Some(common), Some(notify), Some(isr), Some(device)) => {
                Ok(Self { common, notify, notify_multiplier: multiplier, isr, device })
            }
            _ => Err(NicError::NoRegisters),
        }
    }

    /// 4.1.4.4: where to write the number of a queue to notify the device of it.
    pub fn notify_offset(&self, queue_notify_off: u16) -> Option<u32> {
        let offset = u32::from(queue_notify_off).checked_mul(self.notify_multiplier)?;
        (offset.checked_add(2)? <= self.notify.len && offset.is_multiple_of(2)).then_some(offset)
    }
}

/// The structure that the capability at `at` tells of, if it lies in one of the device's regions.
fn structure<H: Hal>(hal: &mut H, at: u8, bytes_min: u32) -> Option<Structure<H::Registers>> {
    let bar = hal.config_read32(at + 4) as u8;
    let (offset, len) = (hal.config_read32(at + 8), hal.config_read32(at + 12));
    if bar > 5 || len < bytes_min || !offset.is_multiple_of(4) {
        return None;
    }
    let registers = hal.bar(bar)?;
    (offset.checked_add(len)? <= registers.len()).then_some(Structure { registers, at: offset, len })
}
