//! I/O ports.
#![expect(unsafe_code, reason = "port I/O")]

use x86_64::instructions::port::Port;

/// Reads a byte from a device's port.
#[inline]
pub fn read8(port: u16) -> u8 {
    // SAFETY: a port reaches a device's registers, not memory; that no device is told to overwrite memory is
    // the drivers' care.
    unsafe { Port::new(port).read() }
}

/// Writes a byte to a device's port.
#[inline]
pub fn write8(port: u16, value: u8) {
    // SAFETY: as in `read8`.
    unsafe { Port::new(port).write(value) }
}

/// Writes 16 bits to a device's port.
#[inline]
pub fn write16(port: u16, value: u16) {
    // SAFETY: as in `read8`.
    unsafe { Port::new(port).write(value) }
}

/// Reads 32 bits from a device's port.
#[inline]
pub fn read32(port: u16) -> u32 {
    // SAFETY: as in `read8`.
    unsafe { Port::new(port).read() }
}

/// Writes 32 bits to a device's port.
#[inline]
pub fn write32(port: u16, value: u32) {
    // SAFETY: as in `read8`.
    unsafe { Port::new(port).write(value) }
}
