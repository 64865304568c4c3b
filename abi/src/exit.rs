//! How the guest tells the host why the machine ended, through QEMU's `isa-debug-exit` device.
//!
//! The device makes QEMU exit with `(code << 1) | 1`. The codes are such that QEMU's own failure, 1, is never one of them.

/// The I/O port of the device.
pub const PORT: u16 = 0xf4;
/// Powered off in good order.
pub const OFF: u32 = 0x10;
/// The kernel panicked; its report is on the console.
pub const PANIC: u32 = 0x11;
/// The kernel could not boot, and said why on the console.
pub const BOOT_FAILED: u32 = 0x12;

/// The exit status of QEMU for a code.
#[must_use]
pub const fn qemu_status(code: u32) -> u32 {
    code << 1 | 1
}
