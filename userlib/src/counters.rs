//! What packets cost: the kernel's counters and the protocol server's, read together and subtracted.
#![expect(unsafe_code, reason = "system calls")]

use abi::{
    Error,
    counters::{COUNT, Counter, NAMES},
    socket::{SERVER_COUNTER_NAMES, ServerCounter},
    syscall::Syscall,
};

use crate::{net::Service, raw};

/// How many counters the server has.
pub const SERVER_COUNT: usize = SERVER_COUNTER_NAMES.len();

/// What the server tells of now, and does not count.
const GAUGES: [ServerCounter; 3] =
    [ServerCounter::Sockets, ServerCounter::MbufsLent, ServerCounter::ClustersLent];

/// All counters at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    kernel: [u64; COUNT],
    server: [u64; SERVER_COUNT],
}

impl Snapshot {
    /// Reads them; the server's are zero where there is no service.
    ///
    /// # Errors
    /// None that a correct program sees.
    pub fn take(service: Option<&Service>) -> Result<Self, Error> {
        let mut kernel = [0; COUNT];
        // SAFETY: the kernel writes words into an array that we have borrowed exclusively.
        unsafe { raw::call(Syscall::CountersRead, [kernel.as_mut_ptr() as u64, COUNT as u64]) }?;
        Ok(Self { kernel, server: service.map_or([0; SERVER_COUNT], Service::counters) })
    }

    /// What came to be since `earlier`; what is not counted but is so now stays as it is.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut it = *self;
        for (now, then) in it.kernel.iter_mut().zip(earlier.kernel) {
            *now = now.wrapping_sub(then);
        }
        for (counter, (now, then)) in it.server.iter_mut().zip(earlier.server).enumerate() {
            if !GAUGES.iter().any(|&gauge| gauge as usize == counter) {
                // Another server began anew.
                *now = now.checked_sub(then).unwrap_or(*now);
            }
        }
        it
    }

    /// A counter of the kernel's.
    #[must_use]
    pub fn kernel(&self, counter: Counter) -> u64 {
        self.kernel[counter as usize]
    }

    /// A counter of the server's.
    #[must_use]
    pub fn server(&self, counter: ServerCounter) -> u64 {
        self.server[counter as usize]
    }

    /// All of them with their names.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let kernel = NAMES.iter().copied().zip(self.kernel);
        kernel.chain(SERVER_COUNTER_NAMES.iter().copied().zip(self.server))
    }
}
