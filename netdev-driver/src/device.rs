//! The network device of the machine, whichever it is: what the kernel holds. The choice is made once for each interrupt or trap, not for
//! each packet.

use abi::{
    counters::COUNT,
    device::{Audit, NetInfo},
    window::{Config, ConfigError, Layout},
};

use crate::{
    claims::{Address, ClaimError},
    e1000::E1000,
    endpoint::{Endpoint, OpenError, Outcome},
    hal::{DmaRegion, Hal, Window},
    ledger::Ledger,
    nic::NicError,
    virtio_net::VirtioNet,
};

/// Which driver a device needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// [`crate::e1000`].
    E1000,
    /// [`crate::virtio_net`].
    VirtioNet,
}

impl Model {
    /// The model of a PCI device by its vendor's and its own number; `None`: no driver here.
    #[must_use]
    pub const fn of(vendor: u16, device: u16) -> Option<Self> {
        match (vendor, device) {
            (0x8086, 0x100e) => Some(Self::E1000),
            // Transitional and modern (Virtio 1.2, 4.1.2.1).
            (0x1af4, 0x1000 | 0x1041) => Some(Self::VirtioNet),
            _ => None,
        }
    }
}

/// A device with the kernel's ends of its windows. See [`Endpoint`] for what the methods do.
#[expect(clippy::large_enum_variant, reason = "there is one, in a static of the kernel")]
pub enum Device<'w, H: Hal> {
    /// [`crate::e1000`].
    E1000(Endpoint<'w, E1000<H>>),
    /// [`crate::virtio_net`].
    VirtioNet(Endpoint<'w, VirtioNet<H>>),
}

macro_rules! each {
    ($self:expr, $endpoint:ident => $body:expr) => {
        match $self {
            Device::E1000($endpoint) => $body,
            Device::VirtioNet($endpoint) => $body,
        }
    };
}

impl<'w, H: Hal> Device<'w, H> {
    /// Finds the device behind `hal`; it stays silent, and its window closed.
    ///
    /// # Errors
    /// The device does not answer as it should, or the window does not fit into its memory ([`NicError::NoMemory`]).
    pub fn new(
        model: Model,
        hal: H,
        window: Window,
        config: Config,
        ledger: &'w mut Ledger,
    ) -> Result<Self, NicError> {
        match model {
            Model::E1000 => Endpoint::new(E1000::new(hal)?, window, config, ledger).map(Self::E1000),
            Model::VirtioNet => {
                Endpoint::new(VirtioNet::new(hal)?, window, config, ledger).map(Self::VirtioNet)
            }
        }
        .map_err(|_| NicError::NoMemory)
    }

    /// One more window, of the same shape; its number.
    ///
    /// # Errors
    /// [`ConfigError::TooLarge`].
    pub fn add_window(&mut self, window: Window, ledger: &'w mut Ledger) -> Result<usize, ConfigError> {
        each!(self, endpoint => endpoint.add_window(window, ledger))
    }

    /// Buffers to receive into while several windows are open.
    ///
    /// # Errors
    /// [`NicError::NoMemory`].
    pub fn set_private(&mut self, memory: &DmaRegion) -> Result<(), NicError> {
        each!(self, endpoint => endpoint.set_private(memory))
    }

    /// How many windows there are, open or not.
    pub fn windows(&self) -> usize {
        each!(self, endpoint => endpoint.windows())
    }

    /// Lays a window out afresh and starts the device.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(&mut self, at: usize) -> Result<Outcome, OpenError> {
        each!(self, endpoint => endpoint.open(at))
    }

    /// Takes the device away from a window; with the last one it stops.
    pub fn close(&mut self, at: usize) {
        each!(self, endpoint => endpoint.close(at));
    }

    /// A window's server claims an address.
    ///
    /// # Errors
    /// See [`ClaimError`].
    pub fn claim(&mut self, at: usize, address: Address) -> Result<(), ClaimError> {
        each!(self, endpoint => endpoint.claim(at, address))
    }

    /// A window's server gives up all that it has claimed.
    pub fn disclaim(&mut self, at: usize) {
        each!(self, endpoint => endpoint.disclaim(at));
    }

    /// The device interrupts.
    #[inline]
    pub fn interrupt(&mut self) -> Outcome {
        each!(self, endpoint => endpoint.interrupt())
    }

    /// As for an interrupt, without asking the device: after [`Outcome::again`].
    pub fn poll(&mut self) -> Outcome {
        each!(self, endpoint => endpoint.poll())
    }

    /// The OUT queue of a window has work and the device was idle.
    #[inline]
    pub fn start(&mut self, at: usize) -> Outcome {
        each!(self, endpoint => endpoint.start(at))
    }

    /// To be called some times a second.
    pub fn watchdog(&mut self, now_ns: u64) -> Outcome {
        each!(self, endpoint => endpoint.watchdog(now_ns))
    }

    /// Where everything is in the window.
    pub const fn layout(&self) -> &Layout {
        each!(self, endpoint => endpoint.layout())
    }

    /// The memory of a window.
    pub fn window(&self, at: usize) -> Option<&Window> {
        each!(self, endpoint => endpoint.window(at))
    }

    /// Describes the device.
    pub fn info(&self) -> NetInfo {
        each!(self, endpoint => endpoint.info())
    }

    /// The ledger of a window, summed.
    pub fn audit(&self, at: usize) -> Audit {
        each!(self, endpoint => endpoint.audit(at))
    }

    /// Adds the driver's counters to the kernel's.
    pub fn counters(&self, counters: &mut [u64; COUNT]) {
        each!(self, endpoint => endpoint.counters(counters));
    }
}
