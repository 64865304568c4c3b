//! The network device of the machine, whichever it is, with buffers of the kernel's own: as [`crate::device`], the choice is made once
//! for each burst where that can be, and is a comparison that always goes one way elsewhere.

use abi::{
    counters::{COUNT, Counter},
    device::NetInfo,
};

use super::{Direct, DirectAudit, DirectError, Lent, Received};
use crate::{
    device::Model,
    e1000::E1000,
    hal::{DmaRegion, Hal},
    nic::{NicError, TxChecksum},
    virtio_net::VirtioNet,
};

/// A device with its buffers. See [`Direct`] for what the methods do.
#[expect(clippy::large_enum_variant, reason = "there is one, in a static of the kernel")]
pub enum DirectDevice<H: Hal> {
    /// [`crate::e1000`].
    E1000(Direct<E1000<H>>),
    /// [`crate::virtio_net`].
    VirtioNet(Direct<VirtioNet<H>>),
}

macro_rules! each {
    ($self:expr, $direct:ident => $body:expr) => {
        match $self {
            DirectDevice::E1000($direct) => $body,
            DirectDevice::VirtioNet($direct) => $body,
        }
    };
}

impl<H: Hal> DirectDevice<H> {
    /// Finds the device behind `hal`; it stays silent.
    ///
    /// # Errors
    /// The device does not answer as it should, or the memory is less than [`super::BYTES`] ([`NicError::NoMemory`]).
    pub fn new(model: Model, hal: H, memory: &DmaRegion) -> Result<Self, NicError> {
        match model {
            Model::E1000 => Direct::new(E1000::new(hal)?, memory).map(Self::E1000),
            Model::VirtioNet => Direct::new(VirtioNet::new(hal)?, memory).map(Self::VirtioNet),
        }
    }

    /// See [`Direct::open`].
    ///
    /// # Errors
    /// See [`DirectError`].
    pub fn open(&mut self) -> Result<(), DirectError> {
        each!(self, direct => direct.open())
    }

    /// See [`Direct::close`].
    pub fn close(&mut self) {
        each!(self, direct => direct.close());
    }

    /// See [`Direct::acknowledge_interrupt`].
    #[inline]
    pub fn acknowledge_interrupt(&mut self) -> bool {
        each!(self, direct => direct.acknowledge_interrupt())
    }

    /// See [`Direct::lend`]: adds frames to `into` until that has `limit`. `true`: there were fewer.
    #[inline]
    pub fn lend(&mut self, into: &mut impl Extend<Lent>, limit: usize) -> bool {
        each!(self, direct => {
            let mut left = limit;
            into.extend(core::iter::from_fn(|| {
                left = left.checked_sub(1)?;
                let lent = direct.lend();
                left += usize::from(lent.is_none());
                lent
            }));
            left != 0
        })
    }

    /// See [`Direct::give_back`].
    #[inline]
    pub fn give_back(&mut self, frames: impl IntoIterator<Item = Lent>) {
        each!(self, direct => direct.give_back(frames));
    }

    /// See [`Direct::tell`].
    #[inline]
    pub fn tell(&mut self) {
        each!(self, direct => direct.tell());
    }

    /// See [`Direct::spent`].
    #[inline]
    pub fn spent(&mut self) {
        each!(self, direct => direct.spent());
    }

    /// See [`Direct::take_again`].
    #[inline]
    pub fn take_again(&mut self) -> bool {
        each!(self, direct => direct.take_again())
    }

    /// See [`Direct::receive`].
    #[inline]
    pub fn receive(&mut self, patience: u32, visit: impl FnMut(Received<'_>) -> Result<(), Counter>) -> bool {
        each!(self, direct => direct.receive(patience, visit))
    }

    /// See [`Direct::tx_ready`].
    #[inline]
    pub fn tx_ready(&mut self) -> bool {
        each!(self, direct => direct.tx_ready())
    }

    /// See [`Direct::tx_buffer`].
    #[inline]
    pub fn tx_buffer(&mut self, length: usize) -> Option<&mut [u8]> {
        each!(self, direct => direct.tx_buffer(length))
    }

    /// See [`Direct::send`].
    #[inline]
    pub fn send(&mut self, length: usize, checksum: Option<TxChecksum>) {
        each!(self, direct => direct.send(length, checksum));
    }

    /// See [`Direct::sendable`].
    #[inline]
    pub fn sendable(&self, length: usize, checksum: Option<TxChecksum>) -> bool {
        each!(self, direct => direct.sendable(length, checksum))
    }

    /// See [`Direct::send_page`].
    #[inline]
    pub fn send_page(&mut self, phys: u64, length: usize, checksum: Option<TxChecksum>) -> Option<u32> {
        each!(self, direct => direct.send_page(phys, length, checksum))
    }

    /// See [`Direct::take_left`].
    #[inline]
    pub fn take_left(&mut self) -> u64 {
        each!(self, direct => direct.take_left())
    }

    /// See [`Direct::kick`].
    #[inline]
    pub fn kick(&mut self) {
        each!(self, direct => direct.kick());
    }

    /// See [`Direct::reap`].
    #[inline]
    pub fn reap(&mut self) -> bool {
        each!(self, direct => direct.reap())
    }

    /// See [`Direct::watchdog`].
    pub fn watchdog(&mut self, now_ns: u64) {
        each!(self, direct => direct.watchdog(now_ns));
    }

    /// See [`Direct::info`].
    pub fn info(&self) -> NetInfo {
        each!(self, direct => direct.info())
    }

    /// See [`Direct::audit`].
    pub fn audit(&self) -> DirectAudit {
        each!(self, direct => direct.audit())
    }

    /// See [`Direct::counters`].
    pub fn counters(&self, counters: &mut [u64; COUNT]) {
        each!(self, direct => direct.counters(counters));
    }
}
