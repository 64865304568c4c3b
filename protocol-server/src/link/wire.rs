//! A simulated wire between two nodes, for the tests on the host: seeded loss, duplication, reordering and corruption.
//!
//! It has no offload, so that every checksum of both directions is ours to make and to check.

use alloc::{collections::VecDeque, rc::Rc, vec::Vec};
use core::cell::RefCell;

use super::{Built, Link, LinkAudit, LinkInfo, RxFrame};

/// What the wire does to frames: chances in 1000.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// A frame vanishes.
    pub loss: u32,
    /// A frame comes twice.
    pub duplication: u32,
    /// A frame comes after the next one.
    pub reordering: u32,
    /// One bit of a frame flips, behind the Ethernet header.
    pub corruption: u32,
}

/// One direction of a wire.
#[derive(Debug, Default)]
struct Direction {
    frames: VecDeque<Vec<u8>>,
    faults: Faults,
    seed: u64,
}

impl Direction {
    fn random(&mut self) -> u32 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        (self.seed >> 20) as u32
    }

    fn happens(&mut self, chance: u32) -> bool {
        self.random() % 1000 < chance
    }

    fn carry(&mut self, mut frame: Vec<u8>) {
        let faults = self.faults;
        if self.happens(faults.loss) {
            return;
        }
        if self.happens(faults.duplication) {
            self.frames.push_back(frame.clone());
        }
        if self.happens(faults.corruption) {
            // In the transport part, where the checksum is the server's business; the kernel drops a bad IP header.
            let bits = (frame.len() - 34.min(frame.len())) * 8;
            if bits != 0 {
                let bit = 34 * 8 + self.random() as usize % bits;
                frame[bit / 8] ^= 1 << (bit % 8);
            }
        }
        if self.happens(faults.reordering) && !self.frames.is_empty() {
            let last = self.frames.len() - 1;
            self.frames.insert(last, frame);
        } else {
            self.frames.push_back(frame);
        }
    }
}

/// One end of a wire.
pub struct Wire {
    info: LinkInfo,
    incoming: Rc<RefCell<Direction>>,
    outgoing: Rc<RefCell<Direction>>,
    idle: bool,
}

/// A frame off the wire.
pub struct WireFrame(Vec<u8>);

impl RxFrame for WireFrame {
    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn checksum_good(&self) -> bool {
        false
    }
}

impl Wire {
    /// Two ends of one wire. What a seed gives it gives each time.
    pub fn pair(faults: Faults, seed: u64) -> (Self, Self) {
        let direction = |n: u64| {
            let seed = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(n as u32 * 29) | 1;
            Rc::new(RefCell::new(Direction { faults, seed, ..Direction::default() }))
        };
        let (there, back) = (direction(0), direction(1));
        let end = |last, incoming: &Rc<RefCell<Direction>>, outgoing: &Rc<RefCell<Direction>>| Self {
            info: LinkInfo { mac: [2, 0, 0, 0, 0, last], frame_bytes_max: 1514, offload: 0 },
            incoming: incoming.clone(),
            outgoing: outgoing.clone(),
            idle: false,
        };
        (end(1, &back, &there), end(2, &there, &back))
    }

    /// Changes what the wire does, in both directions.
    pub fn set_faults(&self, faults: Faults) {
        self.incoming.borrow_mut().faults = faults;
        self.outgoing.borrow_mut().faults = faults;
    }

    /// Puts a frame on the wire as it is, to come in at this end.
    pub fn inject(&self, frame: Vec<u8>) {
        self.incoming.borrow_mut().frames.push_back(frame);
    }

    /// Takes off the wire what has not come in at this end yet.
    pub fn intercept(&self) -> Vec<Vec<u8>> {
        self.incoming.borrow_mut().frames.drain(..).collect()
    }

    /// Whether the server has said that it sleeps.
    pub const fn is_idle(&self) -> bool {
        self.idle
    }
}

impl Link for Wire {
    type Frame = WireFrame;

    fn info(&self) -> &LinkInfo {
        &self.info
    }

    fn receive(&mut self, into: &mut Vec<WireFrame>, limit: usize) {
        let mut incoming = self.incoming.borrow_mut();
        while into.len() < limit
            && let Some(frame) = incoming.frames.pop_front()
        {
            into.push(WireFrame(frame));
        }
    }

    fn release(&mut self, frames: &mut Vec<WireFrame>) {
        frames.clear();
    }

    fn ready(&mut self) -> bool {
        true
    }

    fn transmit<R>(&mut self, length: usize, build: impl FnOnce(&mut [u8]) -> (R, Built)) -> R {
        let mut frame = alloc::vec![0xa5; length]; // what was in a buffer before
        let (result, built) = build(&mut frame);
        match built {
            Built::Send(request) => {
                assert_eq!(request, None, "this wire has no offload");
                self.outgoing.borrow_mut().carry(frame);
            }
            Built::Keep => {}
        }
        result
    }

    fn flush(&mut self) {}

    fn announce_idle(&mut self) {
        self.idle = true;
    }

    fn clear_idle(&mut self) {
        self.idle = false;
    }

    fn has_frames(&mut self) -> bool {
        !self.incoming.borrow().frames.is_empty()
    }

    fn no_buffer(&self) -> u64 {
        0
    }

    fn lent(&self) -> (u32, u32) {
        (0, 0)
    }

    fn audit(&mut self) -> LinkAudit {
        LinkAudit::default()
    }
}
