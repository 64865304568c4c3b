//! The path of an integrated kernel: stack and driver are one program, and a frame goes from the one to the other by a call.
//!
//! A received frame is the buffer that the device wrote, lent for the time of a batch. A frame to send is written into the buffer that the
//! device reads. There is no queue between the two, no lock, and no announcement of sleep: who has the stack runs it when the
//! device interrupts.

use alloc::{vec, vec::Vec};

use netdev_driver::{
    DirectDevice, Hal,
    direct::{BUFFER_BYTES, Lent},
    nic::TxChecksum,
};

use super::{Built, Link, LinkAudit, LinkInfo, RxFrame};

/// The driver as a link.
pub struct DirectLink<H: Hal> {
    info: LinkInfo,
    /// The driver, for interrupts, ticks and counters.
    pub device: DirectDevice<H>,
    /// Where frames are built for which there is no buffer.
    scratch: Vec<u8>,
    no_buffer: u64,
    /// There are frames to be sent of which the device has not been told.
    unsent: bool,
}

impl RxFrame for Lent {
    #[inline(always)]
    fn bytes(&self) -> &[u8] {
        Lent::bytes(self)
    }

    #[inline(always)]
    fn checksum_good(&self) -> bool {
        Lent::checksum_good(self)
    }
}

impl<H: Hal> DirectLink<H> {
    /// The link over an open device.
    pub fn new(device: DirectDevice<H>) -> Self {
        let net = device.info();
        let info =
            LinkInfo { mac: net.mac, frame_bytes_max: net.frame_bytes_max as usize, offload: net.offload };
        Self { info, device, scratch: vec![0; BUFFER_BYTES as usize], no_buffer: 0, unsent: false }
    }
}

impl<H: Hal> Link for DirectLink<H> {
    type Frame = Lent;

    #[inline(always)]
    fn info(&self) -> &LinkInfo {
        &self.info
    }

    #[inline]
    fn receive(&mut self, into: &mut Vec<Lent>, limit: usize) {
        self.device.lend(into, limit.saturating_sub(into.len()));
    }

    #[inline]
    fn release(&mut self, frames: &mut Vec<Lent>) {
        self.device.give_back(frames.drain(..));
    }

    #[inline]
    fn ready(&mut self) -> bool {
        self.device.tx_ready()
    }

    #[inline]
    fn transmit<R>(&mut self, length: usize, build: impl FnOnce(&mut [u8]) -> (R, Built)) -> R {
        let (buffer, sendable) = match self.device.tx_buffer(length) {
            Some(buffer) => (buffer, true),
            None => {
                self.no_buffer += 1;
                if self.scratch.len() < length {
                    self.scratch.resize(length, 0);
                }
                (&mut self.scratch[..length], false)
            }
        };
        // Called at one place, so that all of it is compiled into here.
        let (result, built) = build(buffer);
        if !sendable {
            return result;
        }
        if let Built::Send(checksum) = built {
            let checksum = checksum.map(|wanted| TxChecksum { start: wanted.start, offset: wanted.offset });
            self.device.send(length, checksum);
            self.unsent = true;
        }
        result
    }

    #[inline]
    fn flush(&mut self) {
        if core::mem::take(&mut self.unsent) {
            self.device.kick();
        }
    }

    fn announce_idle(&mut self) {}

    fn clear_idle(&mut self) {}

    fn has_frames(&mut self) -> bool {
        false // the device interrupts for them
    }

    fn no_buffer(&self) -> u64 {
        self.no_buffer
    }

    fn lent(&self) -> (u32, u32) {
        (0, self.device.audit().lent)
    }

    /// The driver's buffers as clusters of two pools: those that receive, of which none is ever free, and those that send.
    fn audit(&mut self) -> LinkAudit {
        self.device.reap();
        let audit = self.device.audit();
        let mut all = LinkAudit {
            pools: 2,
            clusters: audit.receive + audit.transmit,
            clusters_lent: audit.lent,
            ..LinkAudit::default()
        };
        all.free[1].1 = audit.free;
        all.kernel.clusters_posted = audit.posted;
        all.kernel.clusters_transmitting = audit.transmitting;
        all
    }
}
