//! How much of the processor the network device may have by interrupt (Mogul and Ramakrishnan, "Eliminating Receive Livelock in an
//! Interrupt-Driven Kernel", 1996, section 6.6).
//!
//! Interrupts come before all tasks. A device that always has one more frame would so leave nothing to those for whom the frames are. So
//! time spent in its handler while a thread could have run is a debt, which each tick of the clock forgives in part. Who owes too much
//! has its line masked until enough is forgiven, or until nobody else wants the processor. Meanwhile the device's ring fills, and what finds
//! no place there costs no instruction.

/// Time that a tick forgives, in nanoseconds: half of it.
const FORGIVEN_NS: u64 = 500_000;
/// The debt at which the line is masked. More than a tick forgives, so that one long burst after a pause is served at once.
const LIMIT_NS: u64 = 1_000_000;

/// The debt of a device.
#[derive(Debug, Default)]
pub struct Quota {
    debt_ns: u64,
    masked: bool,
}

impl Quota {
    /// No debt.
    #[must_use]
    pub const fn new() -> Self {
        Self { debt_ns: 0, masked: false }
    }

    /// Whether the line is masked.
    #[inline]
    #[must_use]
    pub const fn is_masked(&self) -> bool {
        self.masked
    }

    /// The handler took so long while a thread could have run. True: mask the line now.
    #[inline]
    pub const fn spend(&mut self, ns: u64) -> bool {
        self.debt_ns += ns;
        let mask = self.debt_ns >= LIMIT_NS && !self.masked;
        self.masked |= mask;
        mask
    }

    /// A tick of the clock, a millisecond. True: let the line through now.
    #[inline]
    pub const fn tick(&mut self) -> bool {
        self.debt_ns = self.debt_ns.saturating_sub(FORGIVEN_NS);
        let unmask = self.masked && self.debt_ns < FORGIVEN_NS;
        self.masked &= !unmask;
        unmask
    }

    /// Nobody wants the processor. True: let the line through now.
    #[inline]
    pub const fn idle(&mut self) -> bool {
        self.debt_ns = 0;
        core::mem::replace(&mut self.masked, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device that is never done, served whenever it may interrupt, in handlers of so many ns; its share of a second.
    fn share(handler_ns: u64) -> u64 {
        let (mut quota, mut served, mut now) = (Quota::new(), 0, 0);
        for tick in 1..=1000 {
            while now < tick * 1_000_000 {
                if quota.is_masked() {
                    now = tick * 1_000_000;
                } else {
                    now += handler_ns;
                    served += handler_ns;
                    quota.spend(handler_ns);
                }
            }
            quota.tick();
        }
        served * 100 / now
    }

    #[test]
    fn a_device_that_is_never_done_has_half_of_the_time() {
        for handler_ns in [1_000, 50_000, 300_000, 900_000, 3_000_000, 20_000_000] {
            let share = share(handler_ns);
            assert!((40..=55).contains(&share), "{handler_ns}: {share}");
        }
    }

    #[test]
    fn one_that_takes_less_than_half_is_never_masked() {
        let mut quota = Quota::new();
        for _ in 0..1000 {
            for _ in 0..4 {
                assert!(!quota.spend(120_000));
            }
            assert!(!quota.tick());
        }
    }

    #[test]
    fn nobody_waits_for_an_idle_processor() {
        let mut quota = Quota::new();
        assert!(quota.spend(50_000_000) && quota.is_masked() && !quota.spend(1) && !quota.tick());
        assert!(quota.idle() && !quota.is_masked() && !quota.idle());
        assert!(!quota.spend(900_000), "the debt is forgotten");
    }
}
