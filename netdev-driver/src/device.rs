//! The network device of the machine, whichever it is: what the kernel holds. The choice is made once for each interrupt or trap, not for
//! each packet.

use abi::{
    counters::COUNT,
    device::{Audit, NetInfo},
    window::{Config, Layout},
};

use crate::{
    e1000::E1000,
    endpoint::{Endpoint, OpenError, Outcome},
    hal::{Hal, Window},
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

/// A device with its end of the window. See [`Endpoint`] for what the methods do.
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

    /// Lays the window out afresh and starts the device.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(&mut self) -> Result<(), OpenError> {
        each!(self, endpoint => endpoint.open())
    }

    /// Stops the device and forgets the window.
    pub fn close(&mut self) {
        each!(self, endpoint => endpoint.close());
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

    /// The OUT queue has work and the device was idle.
    #[inline]
    pub fn start(&mut self) -> Outcome {
        each!(self, endpoint => endpoint.start())
    }

    /// To be called some times a second.
    pub fn watchdog(&mut self, now_ns: u64) -> Outcome {
        each!(self, endpoint => endpoint.watchdog(now_ns))
    }

    /// Where everything is in the window.
    pub const fn layout(&self) -> &Layout {
        each!(self, endpoint => endpoint.layout())
    }

    /// The memory of the window.
    pub const fn window(&self) -> &Window {
        each!(self, endpoint => endpoint.window())
    }

    /// Describes the device.
    pub fn info(&self) -> NetInfo {
        each!(self, endpoint => endpoint.info())
    }

    /// The ledger, summed.
    pub fn audit(&self) -> Audit {
        each!(self, endpoint => endpoint.audit())
    }

    /// Adds the driver's counters to the kernel's.
    pub fn counters(&self, counters: &mut [u64; COUNT]) {
        each!(self, endpoint => endpoint.counters(counters));
    }
}
