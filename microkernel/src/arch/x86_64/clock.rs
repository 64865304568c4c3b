//! Time: the 8254 interval timer (Intel 8254 data sheet) ticks, the time-stamp counter tells the time.

use super::ports::{read8, write8};
use abi::info::Info;

/// The timer's input clock, in Hz.
const PIT_HZ: u64 = 1_193_182;
/// Ticks per second.
pub const TICK_HZ: u64 = 1000;
/// The interrupt request line of timer channel 0.
pub const IRQ: u8 = 0;

const CHANNEL_0: u16 = 0x40;
const CHANNEL_2: u16 = 0x42;
const COMMAND: u16 = 0x43;
/// Bit 0: gate of channel 2; bit 1: its way to the speaker.
const SPEAKER: u16 = 0x61;

/// Bits that [`Clock::multiplier`] is shifted by.
const SHIFT: u32 = 32;
/// Input clocks that a calibration takes: 20 ms.
const CALIBRATION: u16 = 23_864;

/// What turns readings of the time-stamp counter into nanoseconds since boot.
#[derive(Clone, Copy)]
pub struct Clock {
    /// The counter at boot.
    pub boot: u64,
    /// Nanoseconds per tick of the counter, times 2 to the power of `shift`.
    pub multiplier: u64,
    /// See `multiplier`.
    pub shift: u32,
}

impl Clock {
    /// Before it is set: time stands still.
    pub const fn new() -> Self {
        Self { boot: 0, multiplier: 0, shift: SHIFT }
    }

    /// Measures the time-stamp counter against the timer.
    pub fn calibrate() -> Self {
        let boot = tsc();
        // Channel 2, both bytes, mode 0 (counts down once), gate on, speaker off.
        write8(SPEAKER, read8(SPEAKER) & !2 | 1);
        write8(COMMAND, 0b1011_0000);
        write8(CHANNEL_2, 0xff);
        write8(CHANNEL_2, 0xff);
        let (start, start_tsc) = reading();
        // A timer that does not count would hold the boot up for ever.
        let mut end = start;
        let mut tries = 0;
        while start.wrapping_sub(end) < CALIBRATION && tries < 10_000_000 {
            end = latched();
            tries += 1;
        }
        let (end, end_tsc) = reading();
        let pit = u64::from(start.wrapping_sub(end)).max(1);
        let nanoseconds = u128::from(pit * 1_000_000_000 / PIT_HZ);
        let ticks = u128::from(end_tsc.wrapping_sub(start_tsc).max(1));
        Self { boot, multiplier: ((nanoseconds << SHIFT) / ticks) as u64, shift: SHIFT }
    }

    /// Nanoseconds since boot.
    #[inline]
    pub fn now_ns(&self) -> u64 {
        Info::nanoseconds(self.multiplier, self.shift, tsc().wrapping_sub(self.boot))
    }
}

/// Starts the tick on channel 0: both bytes, mode 2 (rate generator).
pub fn start_ticks() {
    let [low, high] = ((PIT_HZ / TICK_HZ) as u16).to_le_bytes();
    write8(COMMAND, 0b0011_0100);
    write8(CHANNEL_0, low);
    write8(CHANNEL_0, high);
}

/// The time-stamp counter.
#[inline]
#[expect(unsafe_code, reason = "an intrinsic for an instruction that every x86-64 has")]
pub fn tsc() -> u64 {
    // SAFETY: reads a counter.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Waits, at least so many microseconds.
pub fn delay_us(clock: &Clock, us: u32) {
    let end = clock.now_ns() + 1000 * u64::from(us);
    while clock.now_ns() < end {
        core::hint::spin_loop();
    }
}

/// Channel 2's count.
fn latched() -> u16 {
    write8(COMMAND, 0b1000_0000);
    u16::from_le_bytes([read8(CHANNEL_2), read8(CHANNEL_2)])
}

/// Channel 2's count, and the time-stamp counter at that moment: of several tries the one that took the shortest.
fn reading() -> (u16, u64) {
    let mut best = (0, 0, u64::MAX);
    for _ in 0..8 {
        let before = tsc();
        let count = latched();
        let took = tsc().wrapping_sub(before);
        if took < best.2 {
            best = (count, before + took / 2, took);
        }
    }
    (best.0, best.1)
}
