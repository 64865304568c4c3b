//! An 82540EM at register level.

use std::collections::{HashSet, VecDeque};

use super::{Memory, Model, checksum};

const RING: u32 = 256;

#[derive(Default)]
pub struct E1000Model {
    regs: std::collections::HashMap<u32, u32>,
    icr: u32,
    ims: u32,
    /// Buffers that the driver handed over and did not get back.
    owned: HashSet<u64>,
    /// Frames that were sent.
    pub sent: VecDeque<Vec<u8>>,
    /// Frames that found no buffer.
    pub missed: u64,
    /// The transmitter stands still.
    pub stuck: bool,
    /// The transmitter works only in `step`, not in the write of its tail.
    pub lazy: bool,
    pub contexts: u64,
    pub tail_writes: u64,
    pub resets: u64,
    frame: Vec<u8>,
    context: (usize, usize),
}

impl E1000Model {
    fn reg(&self, at: u32) -> u32 {
        *self.regs.get(&at).unwrap_or(&0)
    }

    fn base(&self, low: u32) -> u64 {
        u64::from(self.reg(low)) | u64::from(self.reg(low + 4)) << 32
    }

    pub fn interrupt(&self) -> bool {
        self.icr & self.ims != 0
    }

    /// Buffers that the device has.
    pub fn rx_owned(&self, _: &Memory) -> usize {
        self.owned.len()
    }

    /// A frame comes from the wire. `false`: no buffer for it.
    pub fn receive(&mut self, memory: &Memory, frame: &[u8]) -> bool {
        if self.reg(0x100) & 2 == 0 {
            return false;
        }
        let pieces: Vec<&[u8]> = if frame.is_empty() { vec![frame] } else { frame.chunks(2048).collect() };
        let (head, tail) = (self.reg(0x2810), self.reg(0x2818));
        if (tail + RING - head) % RING < pieces.len() as u32 {
            self.missed += 1;
            self.icr |= 0x40;
            return false;
        }
        for (i, piece) in pieces.iter().enumerate() {
            let head = self.reg(0x2810);
            let at = self.base(0x2800) + 16 * u64::from(head);
            let buffer = memory.read64(at);
            assert!(self.owned.remove(&buffer), "a descriptor that was not handed over");
            memory.write(buffer, piece);
            let eop = i + 1 == pieces.len();
            let word = piece.len() as u64 | 1 << 32 | u64::from(eop) << 33;
            memory.write(at + 8, &word.to_le_bytes());
            self.regs.insert(0x2810, (head + 1) % RING);
        }
        self.icr |= 0x80;
        true
    }

    fn rx_tail(&mut self, memory: &Memory, new: u32) {
        assert!(new < RING);
        let mut at = self.reg(0x2818);
        while at != new {
            let descriptor = self.base(0x2800) + 16 * u64::from(at);
            let buffer = memory.read64(descriptor);
            memory.assert_cluster(buffer);
            assert_eq!(memory.read64(descriptor + 8), 0, "a stale status");
            assert!(self.owned.insert(buffer), "a buffer handed over twice");
            at = (at + 1) % RING;
        }
        assert!(self.owned.len() < RING as usize, "a full ring looks empty");
        assert_eq!(
            self.owned.len() as u32,
            (new + RING - self.reg(0x2810)) % RING,
            "the tail passed the head"
        );
        self.regs.insert(0x2818, new);
    }

    /// Transmits all that the tail allows.
    pub fn step(&mut self, memory: &Memory) {
        if self.stuck || self.reg(0x400) & 2 == 0 {
            return;
        }
        while self.reg(0x3810) != self.reg(0x3818) {
            let head = self.reg(0x3810);
            let at = self.base(0x3800) + 16 * u64::from(head);
            let (first, second) = (memory.read64(at), memory.read64(at + 8));
            self.regs.insert(0x3810, (head + 1) % RING);
            assert_eq!(second >> 32 & 1, 0, "a descriptor with a stale status");
            assert_ne!(second & 1 << 29, 0, "a legacy descriptor");
            if second & 1 << 20 == 0 {
                self.contexts += 1;
                let (start, field) = ((first >> 32) as u8, (first >> 40) as u8);
                self.context = (start.into(), field.into());
                assert!(self.frame.is_empty(), "a context within a frame");
            } else {
                let len = (second & 0xfffff) as u32;
                memory.assert_sendable(first, len);
                self.frame.extend(memory.read(first, len as usize));
                if second & 1 << 24 != 0 {
                    let mut frame = std::mem::take(&mut self.frame);
                    assert_ne!(second & 1 << 25, 0, "a frame without check sequence");
                    if second & 1 << 41 != 0 {
                        let (start, field) = self.context;
                        let sum = checksum(&frame[start..]);
                        frame[field..field + 2].copy_from_slice(&sum.to_be_bytes());
                    }
                    self.sent.push_back(frame);
                }
            }
            if second & 1 << 27 != 0 {
                memory.write(at + 12, &[1]);
                self.icr |= 1;
            }
        }
    }
}

impl Model for E1000Model {
    fn bar_bytes(&self, bar: u8) -> Option<u32> {
        (bar == 0).then_some(0x20000)
    }

    fn read(&mut self, _: &Memory, _: u8, offset: u32, size: u32) -> u32 {
        assert_eq!(size, 4);
        match offset {
            0xc0 => std::mem::take(&mut self.icr),
            0x08 => 2,
            0x5400 => u32::from_le_bytes([0x52, 0x54, 0, 0x12]),
            0x5404 => 1 << 31 | 0x5634,
            _ => self.reg(offset),
        }
    }

    fn write(&mut self, memory: &Memory, _: u8, offset: u32, size: u32, value: u32) {
        assert_eq!(size, 4);
        match offset {
            0x00 if value & 1 << 26 != 0 => {
                *self = Self {
                    resets: self.resets + 1,
                    missed: self.missed,
                    stuck: self.stuck,
                    lazy: self.lazy,
                    contexts: self.contexts,
                    tail_writes: self.tail_writes,
                    sent: std::mem::take(&mut self.sent),
                    ..Self::default()
                }
            }
            0xc8 => self.icr |= value,
            0xd0 => self.ims |= value,
            0xd8 => self.ims &= !value,
            0x2818 if self.reg(0x100) & 2 != 0 => {
                self.tail_writes += 1;
                self.rx_tail(memory, value);
            }
            0x3818 => {
                assert!(value < RING);
                self.tail_writes += 1;
                self.regs.insert(offset, value);
                if !self.lazy {
                    self.step(memory);
                }
            }
            _ => {
                self.regs.insert(offset, value);
            }
        }
    }
}
