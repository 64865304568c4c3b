//! smoltcp's view of a [`Link`]: a device that holds at most one received frame.
//!
//! The received frame is borrowed where it lies, and the frame to send is written where the device takes it from: no copy in
//! either direction.

use smoltcp::{
    phy::{Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken},
    time::Instant,
};

use crate::{
    fragments::Fragments,
    frame,
    link::{Built, Link, LinkInfo},
    socket::segment::Numbers,
};

/// What smoltcp needs to know. It sums UDP datagrams, which only it sees before they are cut into fragments; the checksums of TCP and
/// ICMP are made in [`crate::frame`] and [`crate::fragments`], or by the device.
#[must_use]
pub fn capabilities(info: &LinkInfo) -> DeviceCapabilities {
    let mut checksum = ChecksumCapabilities::default();
    checksum.tcp = Checksum::None;
    checksum.icmpv4 = Checksum::Rx;
    if info.offload & abi::device::offload::RX_IPV4_HEADER != 0 {
        checksum.ipv4 = Checksum::Tx;
    }
    let mut capabilities = DeviceCapabilities::default();
    capabilities.medium = Medium::Ethernet;
    capabilities.max_transmission_unit = info.frame_bytes_max;
    capabilities.checksum = checksum;
    capabilities
}

/// What has gone by.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    /// Frames handed to the link.
    pub sent: u64,
    /// Payloads of TCP that smoltcp has copied between a frame and a socket's buffer.
    pub copies: u64,
    /// Bytes of them.
    pub copied_bytes: u64,
    /// The numbers of the last TCP segment that was sent.
    pub numbers: Numbers,
    /// The bytes of its payload.
    pub payload: u32,
}

impl Traffic {
    /// Counts a segment's payload.
    #[inline(always)]
    pub const fn count_payload(&mut self, bytes: u32) {
        self.copies += (bytes != 0) as u64;
        self.copied_bytes += bytes as u64;
    }
}

/// The device, for the time of one call of smoltcp.
pub struct Phy<'l, L> {
    /// The path.
    pub link: &'l mut L,
    /// The frame to be received, if the call is to receive one.
    pub frame: Option<&'l [u8]>,
    /// Counts what goes by.
    pub traffic: &'l mut Traffic,
    /// The message that is being sent in fragments.
    pub fragments: &'l mut Fragments,
}

/// The received frame.
pub struct Rx<'f>(&'f [u8]);

/// The right to send one frame.
pub struct Tx<'l, L> {
    link: &'l mut L,
    traffic: &'l mut Traffic,
    fragments: &'l mut Fragments,
}

impl<L: Link> Device for Phy<'_, L> {
    type RxToken<'a>
        = Rx<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = Tx<'a, L>
    where
        Self: 'a;

    #[inline]
    fn receive(&mut self, _: Instant) -> Option<(Rx<'_>, Tx<'_, L>)> {
        let frame = self.frame.take()?;
        Some((Rx(frame), Tx { link: self.link, traffic: self.traffic, fragments: self.fragments }))
    }

    #[inline]
    fn transmit(&mut self, _: Instant) -> Option<Tx<'_, L>> {
        self.link.ready().then_some(Tx { link: self.link, traffic: self.traffic, fragments: self.fragments })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        capabilities(self.link.info())
    }
}

impl RxToken for Rx<'_> {
    #[inline]
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(self.0)
    }
}

impl<L: Link> TxToken for Tx<'_, L> {
    #[inline]
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, build: F) -> R {
        let offload = self.link.info().offload & abi::device::offload::TX_CHECKSUM != 0;
        let result = self.link.transmit(length, |buffer| {
            let result = build(buffer);
            if let Some(segment) = frame::finish_segment(buffer, offload) {
                self.traffic.sent += 1;
                self.traffic.count_payload(segment.payload);
                self.traffic.numbers = segment.numbers;
                self.traffic.payload = segment.payload;
                return (result, Built::Send(segment.request));
            }
            let built = self.fragments.finish(buffer, offload);
            self.traffic.sent += u64::from(built != Built::Keep);
            if let frame::Class::Tcp(_, payload) = frame::classify(buffer, true) {
                self.traffic.count_payload(payload);
                self.traffic.numbers = Numbers::of(buffer);
            }
            (result, built)
        });
        if let Some(first) = self.fragments.take_first() {
            self.traffic.sent += 1;
            self.link.transmit(first.len(), |buffer| (buffer.copy_from_slice(&first), Built::Send(None)));
        }
        result
    }
}
