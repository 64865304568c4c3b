//! Marks around a region whose instructions the host counts ([`abi::mark`]).
#![expect(unsafe_code, reason = "an instruction that no language knows")]

use abi::mark::{OPCODE, START, STOP};

/// The region begins.
#[inline(always)]
pub fn start() {
    mark::<START>();
}

/// The region ends.
#[inline(always)]
pub fn stop() {
    mark::<STOP>();
}

/// Something else that the host is to know of.
#[inline(always)]
pub fn mark<const NUMBER: u32>() {
    // SAFETY: a no-op with an operand that the processor ignores.
    unsafe {
        core::arch::asm!(".byte {}, {}, {}", ".long {}", const OPCODE[0], const OPCODE[1], const OPCODE[2], const NUMBER);
    }
}
