//! The clock: nanoseconds since boot, from the time-stamp counter and the information page, without a trap.
#![expect(unsafe_code, reason = "the time-stamp counter")]

use core::{
    ops::{Add, Sub},
    time::Duration,
};

use abi::syscall::FOREVER;

/// A moment: nanoseconds since boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(u64);

impl Instant {
    /// This moment.
    #[inline]
    #[must_use]
    pub fn now() -> Self {
        Self(now_ns())
    }

    /// Nanoseconds since boot.
    #[inline]
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long ago it was.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        Self::now().saturating_duration_since(self)
    }

    /// The time from `earlier` to this; zero if it is later.
    #[must_use]
    pub const fn saturating_duration_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0.saturating_add(limit_ns(Some(time))))
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.saturating_duration_since(earlier)
    }
}

/// Nanoseconds since boot.
#[cfg(not(test))]
#[inline]
#[must_use]
pub fn now_ns() -> u64 {
    let info = crate::info::page();
    // SAFETY: user code may read the counter: the kernel leaves CR4.TSD clear.
    let ticks = unsafe { core::arch::x86_64::_rdtsc() };
    abi::info::Info::nanoseconds(info.tsc_multiplier, info.tsc_shift, ticks.wrapping_sub(info.tsc_boot))
}

/// Nanoseconds since some moment, for the tests on the host, where no page tells of the counter.
#[cfg(test)]
#[must_use]
pub fn now_ns() -> u64 {
    // SAFETY: the host's user code may read the counter.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// A limit as system calls take it.
#[inline]
#[must_use]
pub fn limit_ns(limit: Option<Duration>) -> u64 {
    match limit {
        None => FOREVER,
        Some(time) => time
            .as_secs()
            .saturating_mul(1_000_000_000)
            .saturating_add(u64::from(time.subsec_nanos()))
            .min(FOREVER - 1),
    }
}

/// A limit on several waits together.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// `limit` from now; never for `None`.
    #[inline]
    #[must_use]
    pub fn after(limit: Option<Duration>) -> Self {
        Self(limit.map(|limit| Instant::now() + limit))
    }

    /// What is left of it, for the next wait; `None` once it has passed.
    #[inline]
    #[must_use]
    pub fn left_ns(self) -> Option<u64> {
        match self.0 {
            None => Some(FOREVER),
            Some(end) => match end.0.saturating_sub(now_ns()) {
                0 => None,
                left => Some(left),
            },
        }
    }
}
