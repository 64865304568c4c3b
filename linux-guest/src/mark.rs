//! Marks around a region whose instructions the host counts ([`abi::mark`]), as `userlib::mark` makes them.
#![expect(unsafe_code, reason = "an instruction that no language knows")]

use abi::mark::{OPCODE, START, STOP};

/// The region begins.
#[inline(always)]
pub fn start() {
    // SAFETY: a no-op with an operand that the processor ignores.
    unsafe {
        core::arch::asm!(".byte {}, {}, {}", ".long {}", const OPCODE[0], const OPCODE[1], const OPCODE[2], const START);
    }
}

/// The region ends.
#[inline(always)]
pub fn stop() {
    // SAFETY: as in `start`.
    unsafe {
        core::arch::asm!(".byte {}, {}, {}", ".long {}", const OPCODE[0], const OPCODE[1], const OPCODE[2], const STOP);
    }
}
