//! The protocol server's end of the window, as the real server has it: `mbuf` and `shmqueue`, no fakes.

use std::ptr::NonNull;

use abi::window::{Layout, Queue, RING_ITEMS};
use mbuf::{Flags, ProtocolSpace, View};
use shmqueue::{
    Item,
    queue::{
        Consume, Produce,
        either::{EitherInConsumer, EitherOutProducer, EitherQueue},
    },
};

pub struct Server {
    pub view: View<'static>,
    pub space: ProtocolSpace<'static>,
    pub input: [EitherInConsumer<'static, View<'static>, RING_ITEMS>; 4],
    pub out: EitherOutProducer<'static, View<'static>, RING_ITEMS>,
    pub deferred: EitherInConsumer<'static, View<'static>, RING_ITEMS>,
    pub layout: Layout,
    /// Whether each other packet that is sent from now on is one that the server keeps; those that it does keep.
    pub keeps: bool,
    packets: u32,
    pub kept: Vec<Item>,
}

/// A queue of the window.
pub fn queue(base: NonNull<u8>, layout: &Layout, queue: Queue) -> EitherQueue<'static, RING_ITEMS> {
    // SAFETY: of this layout, and leaked.
    unsafe { netdev_driver::queue_at(base, layout, queue) }
}

impl Server {
    /// After the endpoint has laid the window out.
    pub fn new(base: NonNull<u8>, layout: Layout) -> Self {
        // SAFETY: the window is leaked, and reached by views and raw pointers only.
        let view = unsafe { View::new(base, netdev_driver::geometry(&layout).unwrap()) };
        Self {
            view,
            space: ProtocolSpace::new(view),
            input: Queue::IN.map(|q| queue(base, &layout, q).in_consumer(view)),
            out: queue(base, &layout, Queue::Out).out_producer(view),
            deferred: queue(base, &layout, Queue::DeferredFree).in_consumer(view),
            layout,
            keeps: false,
            packets: 0,
            kept: Vec::new(),
        }
    }

    pub fn bytes(&self, item: Item) -> Vec<u8> {
        let (data, len) = self.view.data_ptr(item).unwrap();
        // SAFETY: inside the buffer, which is the server's.
        (0..len as usize).map(|i| unsafe { data.add(i).read_volatile() }).collect()
    }

    fn fill(&self, item: Item, bytes: &[u8]) {
        self.view.mbuf(item).unwrap().set_len(bytes.len() as u32);
        let (data, _) = self.view.data_ptr(item).unwrap();
        for (i, byte) in bytes.iter().enumerate() {
            // SAFETY: inside the buffer: the length was checked by `data_ptr`.
            unsafe { data.add(i).write_volatile(*byte) };
        }
    }

    /// Receives all there is: family, flags and bytes of each frame, in the order of each queue.
    pub fn receive(&mut self) -> Vec<(usize, Flags, Vec<u8>)> {
        let mut frames = Vec::new();
        for family in 0..4 {
            while let Some(item) = self.input[family].consume().unwrap() {
                let mbuf = self.view.mbuf(item).unwrap();
                assert_eq!(mbuf.packet_len(), mbuf.len());
                assert!(mbuf.next().is_none());
                frames.push((family, mbuf.flags(), self.bytes(item)));
                self.space.free_chain(item);
            }
        }
        frames
    }

    /// A frame to send, cut into pieces at `cuts`; `None` if there are no buffers.
    pub fn frame(&mut self, bytes: &[u8], cuts: &[usize]) -> Option<Item> {
        let mut first: Option<Item> = None;
        let mut last: Option<Item> = None;
        let mut start = 0;
        for &end in cuts.iter().chain([&bytes.len()]) {
            let piece = &bytes[start..end];
            let item = if piece.len() <= mbuf::INTERNAL_BYTES as usize {
                self.space.alloc()
            } else {
                self.space.alloc_cluster()
            };
            let Some(item) = item else {
                if let Some(first) = first {
                    self.space.free_chain(first);
                }
                return None;
            };
            self.fill(item, piece);
            match last {
                None => first = Some(item),
                Some(last) => self.view.mbuf(last).unwrap().set_next(Some(item)),
            }
            last = Some(item);
            start = end;
        }
        let mbuf = self.view.mbuf(first?).unwrap();
        mbuf.set_packet_len(bytes.len() as u32);
        first
    }

    /// Puts a frame on the OUT queue. `true`: the device has to be started.
    pub fn send(&mut self, item: Item) -> bool {
        self.packets += 1;
        if self.keeps && self.packets.is_multiple_of(2) {
            self.keep(item);
        }
        self.out.produce(item).unwrap();
        self.out.consumer_idle()
    }

    /// The server will keep this packet.
    pub fn keep(&mut self, item: Item) {
        self.view.mbuf(item).unwrap().set_flags(Flags::PACKET.with(Flags::KEEP));
        self.kept.push(item);
    }

    /// Takes back what was not freed.
    pub fn drain_deferred(&mut self) {
        for item in std::mem::take(&mut self.kept) {
            if self.view.mbuf(item).unwrap().is_sent() {
                self.space.free_chain(item);
            } else {
                self.kept.push(item);
            }
        }
        self.space.drain_deferred(&mut self.deferred, usize::MAX).unwrap();
    }

    /// Asserts that all buffers are accounted for, when nothing is queued.
    pub fn assert_balanced(&mut self, kernel: abi::device::Audit) {
        self.drain_deferred();
        let free = self.view.audit().unwrap();
        let config = self.layout.config;
        assert_eq!(
            free.mbufs + kernel.mbufs_posted + kernel.mbufs_transmitting,
            config.mbufs(),
            "mbufs: {free:?} {kernel:?}"
        );
        assert_eq!(
            free.clusters + kernel.clusters_posted + kernel.clusters_transmitting,
            config.clusters(),
            "clusters: {free:?} {kernel:?}"
        );
        assert!(self.space.misbehaviour().is_none());
    }
}
