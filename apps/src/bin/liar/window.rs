//! The window in the hands of who knows how it is made: words at offsets, without any of the promises that make it safe.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use abi::{
    Error,
    counters::Counter,
    device::Audit,
    window::{Header, Layout, MBUF_BYTES, Queue, QueueKind},
};
use core::net::{IpAddr, Ipv4Addr};
use userlib::{counters::Snapshot, device::Device, info, memory::Mapping, thread::ThreadRef};

/// The address that the liar claims, so that frames come to it.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 66);
/// Control blocks of pools are so far apart: `mbuf`'s `POOL_CONTROL_BYTES`.
const POOL_BYTES: u32 = 320;
/// Attempts to open the device: frames of the one before may be on their way.
const ATTEMPTS: u32 = 40;

/// Whether the windows' queues are of this kind.
pub fn is_queue(kind: QueueKind) -> bool {
    info::option(QueueKind::OPTION).and_then(QueueKind::from_name).unwrap_or_default() == kind
}

pub struct Window {
    pub device: Device,
    memory: Mapping,
    pub layout: Layout,
}

impl Window {
    /// The device, as an honest server opens it.
    pub fn open() -> Result<Self, Error> {
        let mut left = ATTEMPTS;
        let device = loop {
            left -= 1;
            match Device::open("net0") {
                Err(Error::Exists) if left > 0 => {
                    userlib::thread::sleep(core::time::Duration::from_millis(50));
                }
                result => break result?,
            }
        };
        let memory = device.map_window()?;
        // SAFETY: the header is at the start of the mapping, and any bytes are one.
        let header = unsafe { memory.base().cast::<Header>().read_volatile() };
        let layout = Layout::from_header(&header).ok_or(Error::PeerMisbehaviour)?;
        device.bind_thread(&ThreadRef::first())?;
        device.claim(IpAddr::V4(ADDRESS))?;
        Ok(Self { device, memory, layout })
    }

    pub fn word(&self, at: u32) -> &AtomicU32 {
        let at = (at as usize & !3).min(self.memory.len() - 4);
        // SAFETY: inside the mapping, aligned, and reached as atomics only.
        unsafe { self.memory.base().add(at).cast().as_ref() }
    }

    pub fn set(&self, at: u32, value: u32) {
        self.word(at).store(value, Relaxed);
    }

    pub fn get(&self, at: u32) -> u32 {
        self.word(at).load(Relaxed)
    }

    pub const fn mbuf(&self, index: u32) -> u32 {
        self.layout.mbufs_at + MBUF_BYTES * (index % self.layout.config.mbufs())
    }

    pub const fn cluster(&self, index: u32) -> u32 {
        self.layout.clusters_at + 2048 * (index % self.layout.config.clusters())
    }

    /// An mbuf that the kernel has not taken for its receive ring: from the end of the last pool.
    pub const fn spare(&self, n: u32) -> u32 {
        self.mbuf(self.layout.config.mbufs() - 1 - n)
    }

    /// The trap that an honest server makes for a burst.
    pub fn start(&self) {
        let _ = self.device.start();
    }

    pub fn audit(&self) -> Audit {
        self.device.audit().unwrap_or_default()
    }

    /// What the kernel has counted.
    pub fn counter(&self, counter: Counter) -> u64 {
        Snapshot::take(None).map_or(0, |all| all.kernel(counter))
    }

    /// A frame of one mbuf with data of its own.
    pub fn small(&self, at: u32, len: u32) -> u32 {
        for (offset, value) in [(0, 0), (4, 0), (8, at + 48), (12, len), (16, 2), (20, len), (24, 0), (28, 0)]
        {
            self.set(at + offset, value);
        }
        at
    }

    /// A frame of one mbuf with its data in a cluster, whose reference is counted.
    pub fn large(&self, at: u32, cluster: u32, len: u32) -> u32 {
        self.small(at, len);
        self.set(at + 8, cluster);
        self.set(at + 16, 3);
        self.set(at + 24, cluster);
        self.set(self.references(cluster), 1);
        at
    }

    pub const fn references(&self, cluster: u32) -> u32 {
        self.layout.references_at + 4 * ((cluster - self.layout.clusters_at) / 2048)
    }

    /// Puts items on the OUT queue, linked as they are.
    pub fn put(&self, item: u32) {
        let queue = self.layout.queue_at(Queue::Out);
        match self.layout.config.queue {
            // Wherever the kernel looks.
            QueueKind::Dual => (0..2).for_each(|sub| self.set(queue + 256 * sub + 192, item)),
            QueueKind::Ring => {
                let tail = self.get(queue);
                let slots = (self.layout.config.queue.block_bytes() - 192) / 4;
                self.set(queue + 192 + 4 * (tail % slots), item);
                self.set(queue, tail.wrapping_add(1));
            }
        }
    }

    /// A pool's control block.
    pub const fn pool(&self, pool: u32) -> u32 {
        self.layout.pools_at + POOL_BYTES * pool
    }

    /// Takes a lock and never gives it back.
    pub fn hold(&self, mutex: u32) {
        self.set(mutex, 1);
        self.set(mutex + 128, 1);
    }

    /// Where each lock is: of the pools, and of the sub-queues.
    pub fn locks(&self) -> impl Iterator<Item = u32> {
        let Layout { config, pools_at, .. } = self.layout;
        let pools = (0..config.pools).map(move |pool| pools_at + POOL_BYTES * pool);
        let queues = if config.queue == QueueKind::Dual { 6 } else { 0 };
        let block = config.queue.block_bytes();
        pools.chain((0..queues).flat_map(move |queue| [0, 256].map(|sub| 4096 + queue * block + sub)))
    }
}
