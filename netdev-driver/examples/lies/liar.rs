//! The liar: what it writes into its window, and what it answers in place of it.

use std::{
    ptr::NonNull,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use abi::window::{CLUSTER_BYTES, Layout, M_WANT_AT, MBUF_BYTES, Queue, QueueKind};

use crate::fake::Random;

pub struct Liar {
    base: NonNull<u8>,
    layout: Layout,
    /// Of so many loads of its window, one is answered by a lie.
    pub lies_in: u64,
    /// Before one of so many accesses to its window a word of it changes.
    pub rewrites_in: u64,
    /// It has written what it may not: its honest half would find nonsense.
    pub vandal: bool,
}

impl Liar {
    pub const fn new(base: NonNull<u8>, layout: Layout) -> Self {
        Self { base, layout, lies_in: 1, rewrites_in: 1, vandal: false }
    }

    fn word(&self, at: u32) -> &'static AtomicU32 {
        assert!(at + 4 <= self.layout.bytes && at.is_multiple_of(4));
        // SAFETY: inside the window, which is never unmapped; nobody has references to it but to atomics.
        unsafe { self.base.add(at as usize).cast().as_ref() }
    }

    fn mbuf(&self, random: &mut Random) -> u32 {
        self.layout.mbufs_at + MBUF_BYTES * random.below(self.layout.config.mbufs().into()) as u32
    }

    fn cluster(&self, random: &mut Random) -> u32 {
        self.layout.clusters_at + CLUSTER_BYTES * random.below(self.layout.config.clusters().into()) as u32
    }

    /// A value that comes far: an offset of an item, or of what lies beside it; a count; a flag; an end of the range.
    pub fn invent(&self, random: &mut Random) -> u32 {
        match random.below(10) {
            0 => random.next() as u32,
            1 => random.below(3) as u32,
            2 => [u32::MAX, 1 << 31, self.layout.bytes, self.layout.mbufs_at, 0x8000_0001, 1514]
                [random.below(6) as usize],
            3 => self.mbuf(random) + 4 * random.below(32) as u32,
            4 => 1 << random.below(32),
            // A free cluster's count is the number of the next one, with the highest bit.
            5 => 1 << 31 | random.below(u64::from(self.layout.config.clusters()) + 2) as u32,
            6 | 7 => self.mbuf(random),
            _ => self.cluster(random),
        }
    }

    /// Where a word matters: each kind of block as likely as the others.
    fn place(&self, random: &mut Random) -> u32 {
        let layout = &self.layout;
        let block = layout.config.queue.block_bytes();
        let area = match random.below(8) {
            0 | 1 => {
                // The words in front of each queue are its own; a ring's items come after them.
                let queue = 4096 + random.below(6) as u32 * block;
                queue..queue + block.min(640)
            }
            2 => layout.pools_at..layout.references_at,
            3 => layout.references_at..layout.mbufs_at,
            4 => M_WANT_AT..M_WANT_AT + 64,
            5 => layout.queue_at(Queue::Out)..layout.queue_at(Queue::Out) + block.min(640),
            _ => {
                let mbuf = self.mbuf(random);
                mbuf..mbuf + 48
            }
        };
        area.start + 4 * random.below(u64::from((area.end - area.start) / 4)) as u32
    }

    /// Changes a word while the driver looks: the second thread.
    pub fn rewrite(&self, random: &mut Random) {
        let (at, value) = (self.place(random), self.invent(random));
        self.word(at).store(value, Relaxed);
    }

    /// Changes a word between two calls.
    pub fn scribble(&mut self, random: &mut Random) {
        self.vandal = true;
        if random.below(16) == 0 {
            // A cycle, a double free, a lock that is held for ever: what a random word seldom makes.
            let (first, second) = (self.mbuf(random), self.mbuf(random));
            match random.below(3) {
                0 => {
                    self.word(first).store(second, Relaxed);
                    self.word(second).store(first, Relaxed);
                }
                1 => self.word(first + 24).store(self.word(second + 24).load(Relaxed), Relaxed),
                _ => {
                    let pool = self.layout.pools_at + mbuf::POOL_CONTROL_BYTES * random.below(2) as u32;
                    // The first line is the server's word, the third whose turn it is.
                    (0..2).for_each(|line| self.word(pool + 128 * line).store(1, Relaxed));
                }
            }
            return;
        }
        self.rewrite(random);
    }

    /// A frame on the OUT queue that nobody has allocated.
    pub fn forge(&mut self, random: &mut Random) {
        self.vandal = true;
        let many = 1 + if random.below(3) == 0 { random.below(20) as u32 } else { 0 };
        // Instead of one frame, a circle of many, which are free again by the time when they come round.
        let circle = random.below(16) == 0;
        let many = if circle { 60 + random.below(120) as u32 } else { many };
        let first = random.below(u64::from(self.layout.config.mbufs() - many)) as u32;
        let at = |index: u32| self.layout.mbufs_at + MBUF_BYTES * index;
        for index in first..first + many {
            let cluster = self.cluster(random);
            let own = random.below(3) == 0;
            let (start, room) = if own { (at(index) + 48, 80) } else { (cluster, CLUSTER_BYTES) };
            let shift = if random.below(4) == 0 { random.below(300) as u32 } else { 0 };
            let len =
                if random.below(16) == 0 { self.invent(random) } else { random.below(room.into()) as u32 };
            let last = index + 1 == first + many;
            let after = at(if last { first } else { index + 1 });
            let stray = if random.below(4) == 0 { self.mbuf(random) } else { 0 };
            let words = [
                (0, if circle || last { 0 } else { after }),
                (4, if circle { after } else { stray }),
                (8, start.wrapping_add(shift)),
                (12, len),
                (16, if random.below(3) == 0 { 0x82 } else { 2 }),
                (24, if own { 0 } else { cluster }),
                (28, (random.below(80) as u32) << 16 | 34),
            ];
            for (offset, value) in words {
                self.word(at(index) + offset).store(value, Relaxed);
            }
        }
        let queue = self.layout.queue_at(Queue::Out);
        match self.layout.config.queue {
            // The head of either sub-queue, wherever the driver looks.
            QueueKind::Dual => {
                (0..2).for_each(|sub| self.word(queue + 256 * sub + 192).store(at(first), Relaxed));
            }
            QueueKind::Ring => {
                let tail = self.word(queue);
                let slots = (self.layout.config.queue.block_bytes() - 192) / 4;
                let slot = tail.load(Relaxed) % slots;
                self.word(queue + 192 + 4 * slot).store(at(first), Relaxed);
                tail.store(tail.load(Relaxed).wrapping_add(1), Relaxed);
            }
        }
    }

    /// No frame of the other server's is in a cluster here.
    pub fn assert_no_secret(&self, at: usize, secret: &[u8]) {
        for cluster in 0..self.layout.config.clusters() {
            let start = (self.layout.clusters_at + CLUSTER_BYTES * cluster) as usize + at;
            // SAFETY: inside the window, as for `word`.
            let byte = |n: usize| unsafe { self.base.add(start + n).read_volatile() };
            assert!((0..secret.len()).any(|n| byte(n) != secret[n]), "a secret in cluster {cluster}");
        }
    }
}
