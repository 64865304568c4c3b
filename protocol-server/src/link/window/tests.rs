//! The window link against a kernel's side made of the same parts: an interrupt handler and a device by hand.

use super::*;
use crate::frame::ChecksumRequest;
use abi::window::{Config, QueueKind};
use core::{cell::Cell, ops::ControlFlow};
use mbuf::{InterruptSpace, NoLedger};
use shmqueue::{
    Drained,
    queue::{
        Drain,
        either::{EitherInProducer, EitherOutConsumer},
    },
};
use std::alloc::{Layout as Allocation, alloc_zeroed};

const fn config(queue: QueueKind) -> Config {
    Config { pools: 2, mbufs_per_pool: 64, clusters_per_pool: 32, queue }
}

struct Bell<'b>(&'b Cell<u32>);

impl Doorbell for Bell<'_> {
    fn start(&self) {
        self.0.set(self.0.get() + 1);
    }

    fn audit(&self) -> abi::device::Audit {
        abi::device::Audit::default() // this device gives everything back at once
    }
}

/// The kernel's side.
struct Kernel {
    view: View<'static>,
    space: InterruptSpace<'static>,
    input: EitherInProducer<'static, View<'static>, RING_ITEMS>,
    deferred: EitherInProducer<'static, View<'static>, RING_ITEMS>,
    out: EitherOutConsumer<'static, View<'static>, RING_ITEMS>,
}

/// A window of its own for each test; it lives as long as the tests do.
fn window(queue: QueueKind, bells: &Cell<u32>) -> (Kernel, WindowLink<'static, Bell<'_>>) {
    let layout = config(queue).layout().expect("a layout");
    let length = layout.bytes as usize;
    let allocation = Allocation::from_size_align(length, 4096).expect("a layout");
    // SAFETY: the length is not zero.
    let base = NonNull::new(unsafe { alloc_zeroed(allocation) }).expect("memory");
    // SAFETY: the header fits into the page at the start.
    unsafe { base.cast::<Header>().write(layout.header(1)) };
    // SAFETY: mapped for ever, reached by views and borrowed buffers only; the tests keep to who owns what.
    let view = unsafe { View::new(base, geometry(&layout).expect("a geometry")) };
    mbuf::init(&view);
    // SAFETY: a window of this layout, mapped for ever.
    let queue = |queue| unsafe { queue_at(base, &layout, queue) };
    let mut out = queue(Queue::Out).out_consumer(view);
    out.start_idle();
    let kernel = Kernel {
        view,
        space: InterruptSpace::new(view),
        input: queue(Queue::InIpv4).in_producer(view),
        deferred: queue(Queue::DeferredFree).in_producer(view),
        out,
    };
    let info = LinkInfo { mac: [2; 6], frame_bytes_max: 1514, offload: 0 };
    // SAFETY: a window as the kernel lays it out, used by this link and by the kernel's side above.
    let link = unsafe { WindowLink::new(base, length, info, Bell(bells)) }.expect("a window");
    (kernel, link)
}

impl Kernel {
    /// An interrupt: a frame of these bytes has come.
    fn deliver(&mut self, bytes: &[u8], flags: Flags) -> bool {
        let mut got = None;
        let taken =
            self.space.try_alloc_cluster_batch(1, &mut NoLedger, |mbuf, cluster| got = Some((mbuf, cluster)));
        if taken != Ok(1) {
            return false;
        }
        let (item, cluster) = got.expect("one");
        let data = self.view.cluster_ptr(cluster).expect("a cluster");
        // SAFETY: the cluster is the kernel's until it is on the queue.
        unsafe { data.as_ptr().copy_from(bytes.as_ptr(), bytes.len()) };
        let mbuf = self.view.mbuf(item).expect("an mbuf");
        mbuf.set_packet(cluster.get(), bytes.len() as u32, Flags::PACKET.with(Flags::EXTERNAL).with(flags));
        self.input.produce(item).expect("appended");
        true
    }

    /// The device takes all that is there to be sent, and frees it.
    fn send(&mut self) -> Vec<(Vec<u8>, Flags)> {
        let mut frames = Vec::new();
        let mut items = Vec::new();
        let view = self.view;
        let drained = self.out.drain(1000, |item| {
            let (data, length) = view.data_ptr(item).expect("data");
            // SAFETY: a buffer on the OUT queue is the kernel's.
            let bytes = unsafe { core::slice::from_raw_parts(data.as_ptr(), length as usize) };
            frames.push((bytes.to_vec(), view.mbuf(item).expect("an mbuf").flags()));
            items.push(item);
            ControlFlow::Continue(())
        });
        assert_eq!(drained, Ok(Drained::Idle));
        for item in items {
            let mbuf = view.mbuf(item).expect("an mbuf");
            if mbuf.flags().has(Flags::KEEP) {
                mbuf.mark_sent();
                continue;
            }
            // As a driver does that finds the pool locked.
            self.deferred.produce(item).expect("appended");
        }
        frames
    }
}

fn assert_all_accounted_for(link: &mut WindowLink<'_, Bell<'_>>) {
    let audit = link.audit();
    assert_eq!(audit.queues_filled, 0);
    let (mbufs, clusters) = audit.free.iter().fold((0, 0), |sum, pool| (sum.0 + pool.0, sum.1 + pool.1));
    assert_eq!((mbufs + audit.mbufs_lent, clusters + audit.clusters_lent), (audit.mbufs, audit.clusters));
    assert_eq!(link.misbehaviour(), None);
}

/// Each test runs with both kinds of queue.
macro_rules! for_both {
    ($($name:ident;)+) => {
        mod dual {
            $(#[test] fn $name() { super::$name(super::QueueKind::Dual); })+
        }
        mod ring {
            $(#[test] fn $name() { super::$name(super::QueueKind::Ring); })+
        }
    };
}

for_both! {
    frames_are_borrowed_in_order_and_given_back;
    a_burst_is_sent_with_one_trap_and_none_while_the_device_works;
    what_was_sent_is_sent_with_again_and_the_pools_are_left_alone;
    without_buffers_frames_are_lost_and_counted_and_the_driver_is_told;
}

fn frames_are_borrowed_in_order_and_given_back(queue: QueueKind) {
    let bells = Cell::new(0);
    let (mut kernel, mut link) = window(queue, &bells);
    for n in 0..20u8 {
        assert!(kernel.deliver(
            &vec![n; 60 + usize::from(n)],
            if n % 2 == 0 { Flags::DATA_CHECKSUM_GOOD } else { Flags::NONE }
        ));
    }
    assert!(link.has_frames());
    let mut frames = Vec::new();
    link.receive(&mut frames, 12);
    assert_eq!(frames.len(), 12);
    link.receive(&mut frames, 64);
    for (n, frame) in frames.iter().enumerate() {
        assert_eq!(frame.bytes(), vec![n as u8; 60 + n]);
        assert_eq!(frame.checksum_good(), n % 2 == 0);
    }
    link.release(&mut frames);
    assert!(!link.has_frames() && frames.is_empty());
    assert_all_accounted_for(&mut link);
}

fn a_burst_is_sent_with_one_trap_and_none_while_the_device_works(queue: QueueKind) {
    let bells = Cell::new(0);
    let (mut kernel, mut link) = window(queue, &bells);
    for n in 0..10u8 {
        let length = if n % 2 == 0 { 54 } else { 1514 };
        let request = (n == 4).then_some(ChecksumRequest { start: 34, offset: 16 });
        link.transmit(length, |room| {
            room.fill(n);
            ((), Built::Send(request))
        });
    }
    assert_eq!(bells.get(), 0);
    link.flush();
    assert_eq!(bells.get(), 1);
    let sent = kernel.send();
    for (n, (bytes, flags)) in sent.iter().enumerate() {
        assert_eq!(*bytes, vec![n as u8; if n % 2 == 0 { 54 } else { 1514 }]);
        assert_eq!(flags.has(Flags::EXTERNAL), n % 2 == 1, "short frames take no cluster");
        assert_eq!(flags.has(Flags::DATA_CHECKSUM_WANTED), n == 4);
    }
    assert_eq!(sent.len(), 10);
    link.flush();
    assert_eq!(bells.get(), 1, "nothing to send, no trap");
    assert_all_accounted_for(&mut link);
}

fn what_was_sent_is_sent_with_again_and_the_pools_are_left_alone(queue: QueueKind) {
    let bells = Cell::new(0);
    let (mut kernel, mut link) = window(queue, &bells);
    let allocated = |kernel: &Kernel| {
        (0..2).map(|pool| kernel.view.pool_stats(pool).expect("a pool").protocol_allocated).sum::<u32>()
    };
    let mut first = 0;
    for n in 0..1000u32 {
        // Now and then two at a time.
        for _ in 0..=u32::from(n % 10 == 0) {
            link.transmit(1514, |room| (room.fill(n as u8), Built::Send(None)));
        }
        link.flush();
        for (bytes, flags) in kernel.send() {
            assert_eq!(bytes, vec![n as u8; 1514]);
            // The first of all come from the pools, more than may be kept.
            assert!(flags.has(Flags::KEEP) || n < 20);
            assert!(!flags.has(Flags::SENT));
        }
        assert_eq!(link.kept.away(), 0);
        if n == 20 {
            first = allocated(&kernel);
        }
        if n % 100 == 0 {
            assert_all_accounted_for(&mut link);
        }
    }
    assert_eq!(allocated(&kernel), first);
    // More than may be kept at a time: the others go by the pools.
    for _ in 0..20 {
        link.transmit(1514, |room| (room.fill(0), Built::Send(None)));
    }
    link.flush();
    let kept = kernel.send().iter().filter(|(_, flags)| flags.has(Flags::KEEP)).count();
    assert_eq!(kept as u32, config(queue).clusters() / 8);
    assert_all_accounted_for(&mut link);
}

fn without_buffers_frames_are_lost_and_counted_and_the_driver_is_told(queue: QueueKind) {
    let bells = Cell::new(0);
    let (mut kernel, mut link) = window(queue, &bells);
    let all = config(queue).clusters();
    for _ in 0..all {
        assert!(link.ready());
        link.transmit(1000, |room| (room.fill(1), Built::Send(None)));
    }
    assert!(!link.ready());
    assert!(kernel.space.wanted(), "m_want is set");
    link.transmit(1000, |room| (room.fill(2), Built::Send(None)));
    assert_eq!(link.no_buffer(), 1);
    link.flush();
    assert_eq!(kernel.send().len(), all as usize);
    assert!(link.ready(), "deferred-free was drained");
    assert!(!kernel.space.wanted());
    assert_all_accounted_for(&mut link);
}

#[test]
fn a_header_that_lies_is_no_window() {
    let layout = config(QueueKind::Dual).layout().expect("a layout");
    for (header, length) in [
        (Header { magic: 0, ..layout.header(1) }, layout.bytes as usize),
        (Header { pools: 3, ..layout.header(1) }, layout.bytes as usize),
        (Header { queue: QueueKind::Ring as u32, ..layout.header(1) }, layout.bytes as usize),
        (Header { queue: 2, ..layout.header(1) }, layout.bytes as usize),
        (layout.header(1), layout.bytes as usize - 4096),
        (layout.header(1), 100),
    ] {
        let allocation = Allocation::from_size_align(layout.bytes as usize, 4096).expect("a layout");
        // SAFETY: the length is not zero.
        let base = NonNull::new(unsafe { alloc_zeroed(allocation) }).expect("memory");
        // SAFETY: the header fits.
        unsafe { base.cast::<Header>().write(header) };
        let info = LinkInfo { mac: [2; 6], frame_bytes_max: 1514, offload: 0 };
        let bells = Cell::new(0);
        // SAFETY: mapped, and refused before anything but the header is read.
        assert!(unsafe { WindowLink::new(base, length, info, Bell(&bells)) }.is_err());
    }
}
