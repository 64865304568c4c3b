//! The path of Reynolds and Heller (1991, "Shared Memory & Synchronization"): frames cross in the window, without a copy or a
//! message.
//!
//! A received frame is the cluster that the device wrote; it is the server's from the moment it comes off an IN queue until it is
//! freed. A frame to send is written into a cluster, or into an mbuf if it is short enough, and goes onto the OUT queue with the
//! rest of its burst under one lock; one trap starts an idle device, none a busy one.
//!
//! The server trusts the kernel, and so borrows the bytes of buffers that it owns. The kernel does not trust the server.
#![expect(unsafe_code, reason = "borrows the bytes of buffers in the window that the server owns")]

use abi::window::{Header, Layout, POOLS_MAX, Queue, RING_ITEMS};
use alloc::{vec, vec::Vec};
use core::ptr::NonNull;
use mbuf::{Blank, Flags, INTERNAL_BYTES, ProtocolSpace, View};
use netdev_driver::{geometry, queue_at};
use shmqueue::{
    Item, PeerMisbehaviour,
    queue::{
        Consume, Produce,
        either::{Either, EitherInConsumer, EitherOutProducer, EitherQueue},
    },
};

use self::kept::{Kept, keep_unsent};
use super::{Built, Link, LinkAudit, LinkInfo, RxFrame};

mod kept;

/// Starts the device when it is idle and the OUT queue is not.
pub trait Doorbell {
    /// One trap.
    fn start(&self);

    /// What the kernel holds of the window's buffers.
    fn audit(&self) -> abi::device::Audit;
}

/// Packets of a kind that the server keeps at hand to send with: one lock of a pool for so many frames.
const STASH: usize = 16;
/// Frames that go onto the OUT queue together, at most.
const BURST: usize = 64;
/// Packets of the deferred-free queue that are freed in one go.
const DEFERRED: usize = 64;
/// The longest frame that fits into a buffer.
const BUFFER: usize = abi::window::CLUSTER_BYTES as usize;

/// Why a window cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowError {
    /// Its header is none, or does not add up, or says more than is mapped.
    Header,
}

/// The window as a link.
pub struct WindowLink<'w, D> {
    info: LinkInfo,
    doorbell: D,
    space: ProtocolSpace<'w>,
    queues: [EitherQueue<'w, RING_ITEMS>; abi::window::QUEUES as usize],
    input: [EitherInConsumer<'w, View<'w>, RING_ITEMS>; 4],
    deferred: EitherInConsumer<'w, View<'w>, RING_ITEMS>,
    out: EitherOutProducer<'w, View<'w>, RING_ITEMS>,
    /// Packets with a cluster to send with.
    stash: Vec<Blank<'w>>,
    /// Packets to send with what fits into an mbuf.
    small: Vec<Blank<'w>>,
    /// Those that were sent, and are to come back to the stash.
    kept: Kept<'w>,
    /// Frames to go onto the OUT queue.
    burst: Vec<Item>,
    /// The last [`receive`](Link::receive) stopped at its limit: there may be frames that no control block shows.
    frames_left: bool,
    /// The same of the deferred-free queue.
    deferred_left: bool,
    wants: bool,
    no_buffer: u64,
    /// Where frames are built for which there is no buffer.
    scratch: Vec<u8>,
    misbehaviour: Option<PeerMisbehaviour>,
}

/// A received frame, in its cluster.
pub struct WindowFrame<'w> {
    item: Item,
    bytes: &'w [u8],
    checksum_good: bool,
}

impl RxFrame for WindowFrame<'_> {
    #[inline(always)]
    fn bytes(&self) -> &[u8] {
        self.bytes
    }

    #[inline(always)]
    fn checksum_good(&self) -> bool {
        self.checksum_good
    }
}

/// Room to build a frame of `length` bytes that is not sent.
#[cold]
fn scratch(room: &mut Vec<u8>, length: usize) -> &mut [u8] {
    if room.len() < length {
        room.resize(length, 0);
    }
    &mut room[..length]
}

/// Takes frames off one IN queue until it is empty or `into` holds `limit`.
///
/// # Errors
/// What the kernel put there cannot be. The frames before it were taken.
#[inline(always)]
fn take<'w>(
    into: &mut Vec<WindowFrame<'w>>,
    limit: usize,
    mut next: impl FnMut() -> Result<Option<WindowFrame<'w>>, PeerMisbehaviour>,
) -> Result<(), PeerMisbehaviour> {
    while into.len() < limit {
        let Some(frame) = next()? else { break };
        into.push(frame);
    }
    Ok(())
}

/// The frame at `item`, which has just come off an IN queue.
#[inline(always)]
fn frame_at<'w>(view: &View<'w>, item: Item) -> Result<Option<WindowFrame<'w>>, PeerMisbehaviour> {
    let refused = PeerMisbehaviour::Refused(item.get());
    let mbuf = view.mbuf(item).ok_or(refused)?;
    let (data, length) = view.data_ptr(item).ok_or(refused)?;
    // SAFETY: `data_ptr` has found `length` bytes inside one buffer of the window. It came off an IN queue, so it is the server's
    // until it is freed, which `release` does by consuming this frame: nobody writes it while it is borrowed.
    let bytes = unsafe { core::slice::from_raw_parts(data.as_ptr(), length as usize) };
    Ok(Some(WindowFrame { item, bytes, checksum_good: mbuf.flags().has(Flags::DATA_CHECKSUM_GOOD) }))
}

impl<'w, D: Doorbell> WindowLink<'w, D> {
    /// The link in the window mapped at `base`, `length` bytes of it.
    ///
    /// # Errors
    /// The header is wrong.
    ///
    /// # Safety
    /// 1. For `'w`, `length` bytes from `base`, aligned to a page, are mapped, readable and writable; they are a window as the kernel
    ///    lays it out, with empty queues.
    /// 2. Nothing else in this program accesses them.
    /// 3. The peer is the kernel: it does not write a buffer that is the server's, and writes of the rest only what the protocols say.
    pub unsafe fn new(
        base: NonNull<u8>,
        length: usize,
        info: LinkInfo,
        doorbell: D,
    ) -> Result<Self, WindowError> {
        if length < abi::vm::PAGE_BYTES as usize {
            return Err(WindowError::Header);
        }
        // SAFETY: at least a page is mapped, and the kernel has written the header for the last time.
        let header = unsafe { base.cast::<Header>().read() };
        let layout = Layout::from_header(&header).filter(|layout| layout.bytes as usize <= length);
        let layout = layout.ok_or(WindowError::Header)?;
        let geometry = geometry(&layout).ok_or(WindowError::Header)?;
        // SAFETY: 1. as promised, and the layout lies inside `length`. 2. Buffers are borrowed here only while the server owns
        // them, and the kernel leaves those alone, by 3.
        let view = unsafe { View::new(base, geometry) };
        // SAFETY: as promised by 1 and 2, and the layout lies inside `length`.
        let queue = |queue| unsafe { queue_at(base, &layout, queue) };
        let queues = [
            queue(Queue::InArp),
            queue(Queue::InIpv4),
            queue(Queue::InIpv6),
            queue(Queue::InOther),
            queue(Queue::Out),
            queue(Queue::DeferredFree),
        ];
        Ok(Self {
            info: LinkInfo { frame_bytes_max: info.frame_bytes_max.min(BUFFER), ..info },
            doorbell,
            space: ProtocolSpace::new(view),
            queues,
            input: Queue::IN.map(|input| queue(input).in_consumer(view)),
            deferred: queue(Queue::DeferredFree).in_consumer(view),
            out: queue(Queue::Out).out_producer(view),
            stash: Vec::with_capacity(STASH),
            small: Vec::with_capacity(STASH),
            kept: Kept::new(geometry.clusters()),
            burst: Vec::with_capacity(BURST),
            frames_left: false,
            deferred_left: false,
            wants: false,
            no_buffer: 0,
            scratch: vec![0; BUFFER],
            misbehaviour: None,
        })
    }

    /// The first thing in the window that cannot be: a fault of the kernel or of the server.
    pub fn misbehaviour(&self) -> Option<PeerMisbehaviour> {
        self.misbehaviour.or(self.space.misbehaviour())
    }

    #[cold]
    fn note(&mut self, misbehaviour: PeerMisbehaviour) {
        self.misbehaviour.get_or_insert(misbehaviour);
    }

    /// Takes frames off the IN queue `at`, until `into` holds `limit`.
    #[inline(never)]
    fn receive_from(&mut self, at: usize, into: &mut Vec<WindowFrame<'w>>, limit: usize) {
        // The choice once a queue, not once a frame.
        let taken = match &mut self.input[at] {
            Either::Dual(input) => take(into, limit, || match input.dequeue()? {
                Some(item) => frame_at(input.links(), item),
                None => Ok(None),
            }),
            Either::Ring(input) => {
                let view = *self.space.view();
                take(into, limit, || match input.pop()? {
                    Some(item) => frame_at(&view, item),
                    None => Ok(None),
                })
            }
        };
        if let Err(misbehaviour) = taken {
            self.note(misbehaviour);
        }
    }

    /// Frees what the driver could not; most times that is nothing, and two loads say so.
    #[inline]
    fn free_deferred(&mut self) {
        if self.deferred_left || !self.queues[Queue::DeferredFree as usize].is_empty() {
            self.drain_deferred();
        }
    }

    #[cold]
    fn drain_deferred(&mut self) {
        match self.space.drain_deferred(&mut self.deferred, DEFERRED) {
            Ok(freed) => self.deferred_left = freed == DEFERRED,
            Err(misbehaviour) => self.note(misbehaviour),
        }
    }

    /// Fills the stash with what was sent and has left, or else from the pools.
    #[inline(never)]
    fn refill(&mut self) -> bool {
        while self.stash.len() < STASH
            && let Some(blank) = self.kept.take_sent()
        {
            self.stash.push(blank);
        }
        !self.stash.is_empty() || self.refill_from_pools()
    }

    fn refill_from_pools(&mut self) -> bool {
        let stash = &mut self.stash;
        self.space.alloc_blank_cluster_batch(STASH as u32, |blank| stash.push(blank)) != 0
    }

    #[inline(never)]
    fn refill_small(&mut self) {
        let small = &mut self.small;
        self.space.alloc_blank_batch(STASH as u32, |blank| small.push(blank));
    }

    /// No pool has a cluster: R&H's `m_want`. The driver resumes the server when it frees one.
    #[cold]
    fn refill_or_want(&mut self) -> bool {
        if !self.wants {
            self.wants = true;
            self.space.want();
        }
        self.free_deferred();
        self.refill()
    }

    /// Takes a buffer back that was not sent after all.
    #[cold]
    fn keep(&mut self, blank: Blank<'w>) {
        if blank.has_cluster() { self.stash.push(blank) } else { self.small.push(blank) }
    }

    /// A buffer for a frame of `length` bytes, with at least so much room.
    #[inline(always)]
    fn buffer(&mut self, length: usize) -> Option<Blank<'w>> {
        if length <= INTERNAL_BYTES as usize {
            if self.small.is_empty() {
                self.refill_small();
            }
            if let Some(blank) = self.small.pop() {
                return Some(blank);
            }
        }
        if length > BUFFER || !self.ready() {
            return None;
        }
        self.stash.pop()
    }
}

impl<'w, D: Doorbell> Link for WindowLink<'w, D> {
    type Frame = WindowFrame<'w>;

    #[inline(always)]
    fn info(&self) -> &LinkInfo {
        &self.info
    }

    #[inline]
    fn receive(&mut self, into: &mut Vec<WindowFrame<'w>>, limit: usize) {
        let left = core::mem::take(&mut self.frames_left);
        for at in 0..self.input.len() {
            // Two loads of the control block, before all that it takes to look into the queue.
            if left || !self.queues[at].is_empty() {
                self.receive_from(at, into, limit);
            }
        }
        self.frames_left = into.len() >= limit;
    }

    #[inline]
    fn release(&mut self, frames: &mut Vec<WindowFrame<'w>>) {
        if frames.is_empty() {
            return;
        }
        self.space.free_each(frames.iter().map(|frame| frame.item));
        frames.clear();
    }

    #[inline]
    fn ready(&mut self) -> bool {
        if !self.stash.is_empty() {
            return true;
        }
        let got = self.refill() || self.refill_or_want();
        if got && self.wants {
            self.wants = false;
            self.space.unwant();
        }
        got
    }

    #[inline]
    fn transmit<R>(&mut self, length: usize, build: impl FnOnce(&mut [u8]) -> (R, Built)) -> R {
        let found = self.buffer(length).and_then(|blank| Some((self.space.view().room_ptr(&blank)?, blank)));
        let bytes = match &found {
            Some((data, blank)) => {
                debug_assert!(length <= blank.bytes() as usize);
                // SAFETY: `buffer` has given a packet with room for `length` bytes, which was allocated by this space: it is the server's,
                // it is on no queue yet, and no other reference to its bytes exists.
                unsafe { core::slice::from_raw_parts_mut(data.as_ptr(), length) }
            }
            None => scratch(&mut self.scratch, length),
        };
        // Called at one place, so that all of it is compiled into here.
        let (result, built) = build(bytes);
        let Some((_, blank)) = found else {
            self.no_buffer += 1;
            return result;
        };
        let Built::Send(checksum) = built else {
            self.keep(blank);
            return result;
        };
        let mbuf = blank.mbuf();
        let place = match blank.has_cluster() {
            false => Flags::PACKET,
            true if self.kept.push(blank) => Flags::PACKET.with(Flags::EXTERNAL).with(Flags::KEEP),
            true => Flags::PACKET.with(Flags::EXTERNAL),
        };
        let flags = match checksum {
            Some(request) => {
                mbuf.set_checksum(request.start, request.offset);
                place.with(Flags::DATA_CHECKSUM_WANTED)
            }
            None => place,
        };
        mbuf.set_packet(blank.start(), length as u32, flags);
        self.burst.push(blank.item());
        if self.burst.len() == BURST {
            self.flush();
        }
        result
    }

    #[inline]
    fn flush(&mut self) {
        self.free_deferred();
        if self.burst.is_empty() {
            return;
        }
        let sent = self.out.produce_batch(&self.burst).unwrap_or(0);
        if sent < self.burst.len() {
            // Cannot be: all are mbufs of ours; a dual queue's second half is free when the first is not, and a ring has room for all mbufs.
            let (unsent, view) = (&self.burst[sent..], *self.space.view());
            self.space.free_each(unsent.iter().copied().filter(|&item| !keep_unsent(&view, item)));
            self.no_buffer += unsent.len() as u64;
        }
        self.burst.clear();
        if self.out.consumer_idle() {
            self.doorbell.start();
        }
    }

    #[inline]
    fn announce_idle(&mut self) {
        for queue in &mut self.input {
            queue.announce_idle();
        }
    }

    #[inline]
    fn clear_idle(&mut self) {
        for queue in &mut self.input {
            queue.clear_idle();
        }
    }

    #[inline]
    fn has_frames(&mut self) -> bool {
        // The last `receive` found fewer than its limit, so no queue has anything in private: what there is shows in the control blocks.
        self.queues[..4].iter().any(|queue| !queue.is_empty())
    }

    fn no_buffer(&self) -> u64 {
        self.no_buffer
    }

    fn lent(&self) -> (u32, u32) {
        let clusters = self.stash.len() as u32 + self.kept.len();
        (clusters + self.small.len() as u32, clusters)
    }

    fn audit(&mut self) -> LinkAudit {
        self.free_deferred();
        let view = self.space.view();
        let geometry = view.geometry();
        let mut free = [(0, 0); POOLS_MAX as usize];
        let mut wrong = None;
        for (pool, free) in (0..geometry.pools()).zip(&mut free) {
            match view.audit_pool(pool) {
                Ok(audit) => *free = (audit.mbufs, audit.clusters),
                Err(misbehaviour) => wrong = Some(misbehaviour),
            }
        }
        let mut queues_filled = 0;
        for (number, queue) in self.queues.iter().enumerate() {
            queues_filled |= u32::from(!queue.is_empty()) << number;
        }
        let (mbufs_lent, clusters_lent) = self.lent();
        let away = self.kept.away();
        let (mbufs_lent, clusters_lent) = (mbufs_lent - away, clusters_lent - away);
        let audit = LinkAudit {
            pools: geometry.pools(),
            mbufs: geometry.mbufs(),
            clusters: geometry.clusters(),
            mbufs_lent,
            clusters_lent,
            queues_filled,
            free,
            kernel: self.doorbell.audit(),
        };
        if let Some(misbehaviour) = wrong {
            self.note(misbehaviour);
        }
        audit
    }
}

#[cfg(test)]
mod tests;
