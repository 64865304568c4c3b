//! Marks around a region whose instructions the host counts.
//!
//! A mark is the no-op `nopl disp32(%rax)`, bytes `0f 1f 80` and the mark's number, little endian. The processor does nothing
//! on it; the counting plugin of `insn-counter/` sees it go by and takes a snapshot.

/// The bytes before the number.
pub const OPCODE: [u8; 3] = [0x0f, 0x1f, 0x80];
/// The region begins.
pub const START: u32 = 0x6f72_0001;
/// The region ends.
pub const STOP: u32 = 0x6f72_0002;
/// A protocol server is about to be ended by the supervisor.
pub const DOWN: u32 = 0x6f72_0003;
/// The next one is registered.
pub const UP: u32 = 0x6f72_0004;
