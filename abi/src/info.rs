//! The information page: mapped for reading at the same address in every task, so that the time costs no trap.

use crate::vm::{PAGE_BYTES, PROGRAM_END};

/// Where the page is.
pub const ADDRESS: u64 = PROGRAM_END;
/// "ORIELINF", as the first word of the page.
pub const MAGIC: u64 = u64::from_le_bytes(*b"ORIELINF");
/// Bytes of the kernel's command line that the page can hold.
pub const COMMAND_LINE_MAX: usize = 2048;

/// The page. The kernel writes it once, before the first task starts.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Info {
    /// [`MAGIC`].
    pub magic: u64,
    /// The version of this crate's layouts.
    pub version: u32,
    /// See [`Info::nanoseconds`].
    pub tsc_shift: u32,
    /// See [`Info::nanoseconds`].
    pub tsc_multiplier: u64,
    /// The time-stamp counter at boot.
    pub tsc_boot: u64,
    /// Bytes of memory that the boot map gave.
    pub memory_bytes: u64,
    /// Bytes of `command_line` in use.
    pub command_line_length: u32,
    /// Nothing yet.
    pub reserved: u32,
    /// The kernel's command line.
    pub command_line: [u8; COMMAND_LINE_MAX],
}

/// The version of this crate's layouts.
pub const VERSION: u32 = 1;

const _: () = assert!(size_of::<Info>() as u64 <= PAGE_BYTES);

impl Info {
    /// Nanoseconds since boot for a reading of the time-stamp counter.
    #[inline]
    #[must_use]
    pub const fn nanoseconds(multiplier: u64, shift: u32, ticks: u64) -> u64 {
        ((ticks as u128 * multiplier as u128) >> shift) as u64
    }
}
