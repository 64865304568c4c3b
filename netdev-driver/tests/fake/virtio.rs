//! A virtio network device at the level of its structures and virtqueues.

use std::collections::{HashSet, VecDeque};

use super::{Memory, Model, checksum};

/// Address, length, whether the device writes.
type Descriptor = (u64, u32, bool);

pub struct VirtioModel {
    pub offered: u64,
    accepted: u64,
    status: u8,
    select: [u32; 3],
    queues: [Ring; 2],
    isr: u8,
    pub sent: VecDeque<Vec<u8>>,
    pub missed: u64,
    pub stuck: bool,
    pub lazy: bool,
    pub tail_writes: u64,
    notified: bool,
    pub resets: u64,
    /// Received frames carry this in their header.
    pub rx_flags: u8,
    /// What the configuration space says: tests break it.
    pub config: [u32; 64],
}

#[derive(Default, Clone)]
struct Ring {
    size: u16,
    desc: u64,
    avail: u64,
    used: u64,
    enabled: bool,
    seen: u16,
    used_index: u16,
    owned: HashSet<u16>,
}

const F_EVENT_IDX: u64 = 1 << 29;

/// Where a queue is, for a device that writes into it as it likes.
pub struct Place {
    pub size: u16,
    pub descriptors: u64,
    pub available: u64,
    pub used: u64,
}

impl Default for VirtioModel {
    fn default() -> Self {
        let mut config = [0; 64];
        config[1] = 0x10 << 16;
        config[13] = 0x40;
        let mut cap = |at: usize, next: u32, kind: u32, offset: u32, len: u32, bytes: u32| {
            config[at / 4] = 0x09 | next << 8 | bytes << 16 | kind << 24;
            config[at / 4 + 1] = 4;
            config[at / 4 + 2] = offset;
            config[at / 4 + 3] = len;
        };
        cap(0x40, 0x54, 5, 0, 0, 20); // access through the configuration space: not for us
        cap(0x54, 0x64, 1, 0, 0x1000, 16);
        cap(0x64, 0x74, 3, 0x1000, 0x1000, 16);
        cap(0x74, 0x84, 4, 0x2000, 0x1000, 16);
        cap(0x84, 0, 2, 0x3000, 0x1000, 20);
        config[0x94 / 4] = 4;
        Self {
            offered: 1 | 2 | 1 << 5 | 1 << 16 | F_EVENT_IDX | 1 << 32 | 1 << 15 | 1 << 17,
            accepted: 0,
            status: 0,
            select: [0; 3],
            queues: Default::default(),
            isr: 0,
            sent: VecDeque::new(),
            missed: 0,
            stuck: false,
            lazy: true,
            tail_writes: 0,
            notified: false,
            resets: 0,
            rx_flags: 0,
            config,
        }
    }
}

impl VirtioModel {
    fn running(&self) -> bool {
        self.status & 4 != 0
    }

    pub fn interrupt(&self) -> bool {
        self.isr != 0
    }

    /// Where a queue is, once the device runs.
    pub fn ring(&self, q: usize) -> Option<Place> {
        let ring = &self.queues[q];
        let place = Place { size: ring.size, descriptors: ring.desc, available: ring.avail, used: ring.used };
        (self.running() && ring.enabled).then_some(place)
    }

    /// Buffers that the device has.
    pub fn rx_owned(&self, memory: &Memory) -> usize {
        let ring = &self.queues[0];
        if ring.size == 0 { 0 } else { memory.read16(ring.avail + 2).wrapping_sub(ring.seen).into() }
    }

    /// Looks at the available ring, and asks to be told of the next entry.
    fn gather(&mut self, memory: &Memory, q: usize) {
        let event = self.accepted & F_EVENT_IDX != 0;
        let ring = &mut self.queues[q];
        let index = memory.read16(ring.avail + 2);
        assert!(index.wrapping_sub(ring.seen) <= ring.size, "more available than there is");
        if event {
            memory.write(ring.used + 4 + 8 * u64::from(ring.size), &index.to_le_bytes());
        }
    }

    /// The chain at the head of the available ring: descriptors as (address, length, device writes).
    fn take(&mut self, memory: &Memory, q: usize) -> Option<(u16, Vec<Descriptor>)> {
        let ring = &mut self.queues[q];
        if ring.seen == memory.read16(ring.avail + 2) {
            return None;
        }
        let head = memory.read16(ring.avail + 4 + 2 * u64::from(ring.seen % ring.size));
        ring.seen = ring.seen.wrapping_add(1);
        let (mut at, mut chain) = (head, Vec::new());
        loop {
            assert!(at < ring.size && chain.len() <= 17, "a chain that leads nowhere");
            assert!(ring.owned.insert(at), "descriptor {at} handed over twice");
            let phys = ring.desc + 16 * u64::from(at);
            let (first, second) = (memory.read64(phys), memory.read64(phys + 8));
            let flags = (second >> 32) as u16;
            chain.push((first, second as u32, flags & 2 != 0));
            if flags & 1 == 0 {
                return Some((head, chain));
            }
            at = (second >> 48) as u16;
        }
    }

    fn finish(&mut self, memory: &Memory, q: usize, head: u16, len: u32) {
        let event = self.accepted & F_EVENT_IDX != 0;
        let ring = &mut self.queues[q];
        let mut at = head;
        while ring.owned.remove(&at) {
            let second = memory.read64(ring.desc + 16 * u64::from(at) + 8);
            if second >> 32 & 1 == 0 {
                break;
            }
            at = (second >> 48) as u16;
        }
        self.complete(memory, q, u32::from(head), len, event);
    }

    fn complete(&mut self, memory: &Memory, q: usize, id: u32, len: u32, event: bool) {
        let ring = &mut self.queues[q];
        let at = ring.used + 4 + 8 * u64::from(ring.used_index % ring.size);
        memory.write(at, &id.to_le_bytes());
        memory.write(at + 4, &len.to_le_bytes());
        let old = ring.used_index;
        ring.used_index = old.wrapping_add(1);
        memory.write(ring.used + 2, &ring.used_index.to_le_bytes());
        let wanted = if event {
            memory.read16(ring.avail + 4 + 2 * u64::from(ring.size)) == old
        } else {
            memory.read16(ring.avail) & 1 == 0
        };
        self.isr |= u8::from(wanted);
    }

    /// Completes what was never posted.
    pub fn lie(&mut self, memory: &Memory, q: usize, id: u32) {
        let event = self.accepted & F_EVENT_IDX != 0;
        self.complete(memory, q, id, 60, event);
    }

    /// Says that far more was used than there is.
    pub fn leap(&mut self, memory: &Memory, q: usize) {
        let ring = &mut self.queues[q];
        ring.used_index = ring.used_index.wrapping_add(1000);
        memory.write(ring.used + 2, &ring.used_index.to_le_bytes());
    }

    pub fn receive(&mut self, memory: &Memory, frame: &[u8]) -> bool {
        if !self.running() || frame.len() > 2048 {
            return false;
        }
        let Some((head, chain)) = self.take(memory, 0) else {
            self.missed += 1;
            self.gather(memory, 0);
            return false;
        };
        let [(header, 12, true), (buffer, 2048, true)] = chain[..] else {
            panic!("a strange buffer: {chain:?}")
        };
        memory.assert_cluster(buffer);
        memory.write(header, &[self.rx_flags, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
        memory.write(buffer, frame);
        self.finish(memory, 0, head, frame.len() as u32 + 12);
        true
    }

    pub fn step(&mut self, memory: &Memory) {
        if self.stuck || !self.running() || !self.notified {
            return;
        }
        self.notified = false;
        while let Some((head, chain)) = self.take(memory, 1) {
            let [(header, 12, false), data @ ..] = &chain[..] else { panic!("a strange frame: {chain:?}") };
            let mut frame = Vec::new();
            for &(phys, len, write) in data {
                assert!(!write);
                memory.assert_sendable(phys, len);
                frame.extend(memory.read(phys, len as usize));
            }
            if memory.read(*header, 1)[0] == 1 {
                let start = memory.read16(header + 6) as usize;
                let field = start + memory.read16(header + 8) as usize;
                let sum = checksum(&frame[start..]);
                frame[field..field + 2].copy_from_slice(&sum.to_be_bytes());
            }
            self.sent.push_back(frame);
            self.finish(memory, 1, head, 0);
        }
        self.gather(memory, 1);
    }
}

impl Model for VirtioModel {
    fn bar_bytes(&self, bar: u8) -> Option<u32> {
        (bar == 4).then_some(0x4000)
    }

    fn config(&self, offset: u8) -> u32 {
        assert!(offset.is_multiple_of(4));
        self.config[offset as usize / 4]
    }

    fn read(&mut self, _: &Memory, _: u8, offset: u32, size: u32) -> u32 {
        let ring = |model: &Self| model.queues.get(model.select[2] as usize).cloned().unwrap_or_default();
        match (offset, size) {
            (4, 4) => (self.offered >> (32 * self.select[0])) as u32,
            (20, 1) => self.status.into(),
            (24, 2) => match ring(self).size {
                0 => 256,
                size => size.into(),
            },
            (30, 2) => self.select[2],
            (0x1000, 1) => std::mem::take(&mut self.isr).into(),
            (0x2000..0x2006, 1) => u32::from([0x52u8, 0x54, 0, 0x12, 0x34, 0x56][offset as usize - 0x2000]),
            (0x2006, 2) => 1,
            _ => panic!("a read of {size} bytes at {offset:#x}"),
        }
    }

    fn write(&mut self, memory: &Memory, _: u8, offset: u32, size: u32, value: u32) {
        let select = self.select[2] as usize & 1;
        match (offset, size) {
            (0, 4) => self.select[0] = value,
            (8, 4) => self.select[1] = value,
            (12, 4) => {
                let shift = 32 * self.select[1];
                self.accepted = self.accepted & !(0xffff_ffff << shift) | u64::from(value) << shift;
                assert_eq!(self.accepted & !self.offered, 0, "a feature that was not offered");
            }
            (20, 1) if value == 0 => {
                self.status = 0;
                self.queues = Default::default();
                (self.isr, self.accepted) = (0, 0);
                self.resets += 1;
            }
            (20, 1) => self.status = value as u8,
            (22, 2) => self.select[2] = value,
            (24, 2) => self.queues[select].size = value as u16,
            (28, 2) => self.queues[select].enabled = value == 1,
            (32..56, 4) => {
                let ring = &mut self.queues[select];
                let address = match offset {
                    32..40 => &mut ring.desc,
                    40..48 => &mut ring.avail,
                    _ => &mut ring.used,
                };
                let shift = 8 * (offset % 8);
                *address = *address & !(0xffff_ffff << shift) | u64::from(value) << shift;
            }
            (0x3000 | 0x3004, 2) => {
                assert!(
                    self.running() && value == (offset - 0x3000) / 4 && self.queues[value as usize].enabled
                );
                self.tail_writes += 1;
                self.notified |= value == 1;
                if value == 1 && !self.lazy {
                    self.step(memory);
                }
            }
            _ => panic!("a write of {size} bytes at {offset:#x}"),
        }
    }
}
