//! The window as the kernel maps it: the only place where an offset becomes an address here, beside `mbuf`'s view; and the ends of its
//! queues, of whichever kind they are. The server's end has the layout from here too.
#![expect(
    unsafe_code,
    reason = "makes references to queues and reads frames at checked offsets of the window"
)]

use core::{marker::PhantomData, ptr::NonNull};

use abi::window::{
    CLUSTER_BYTES, DUAL_BLOCK_BYTES, Header, Layout, M_WANT_AT, POOL_BLOCK_BYTES, Queue, QueueKind,
    RING_BLOCK_BYTES, RING_ITEMS,
};
use mbuf::{Geometry, POOL_CONTROL_BYTES, Places, SPACE_CONTROL_BYTES, View};
use shmqueue::{
    DualQueue,
    queue::either::{Either, EitherInProducer, EitherOutConsumer, EitherQueue},
    ring::Ring,
};

use crate::{demux, hal::Window, private::PrivateFrame};

const _: () = assert!(DualQueue::BYTES <= DUAL_BLOCK_BYTES as usize && align_of::<DualQueue>() <= 64);
const _: () = assert!(size_of::<Ring<RING_ITEMS>>() <= RING_BLOCK_BYTES as usize);
const _: () = assert!(align_of::<Ring<RING_ITEMS>>() <= 64 && RING_BLOCK_BYTES.is_multiple_of(64));
const _: () = assert!(POOL_CONTROL_BYTES <= POOL_BLOCK_BYTES);
const _: () = assert!(size_of::<Header>() as u32 <= M_WANT_AT && SPACE_CONTROL_BYTES <= 4096 - M_WANT_AT);

/// What `mbuf` calls a layout. Both sides make it from the same numbers.
#[must_use]
pub fn geometry(layout: &Layout) -> Option<Geometry> {
    Geometry::new(Places {
        pools: layout.config.pools,
        mbufs_per_pool: layout.config.mbufs_per_pool,
        clusters_per_pool: layout.config.clusters_per_pool,
        space_control: M_WANT_AT,
        pool_controls: layout.pools_at,
        reference_counts: layout.references_at,
        mbufs: layout.mbufs_at,
        clusters: layout.clusters_at,
        external: 0,
        external_bytes: 0,
        window_bytes: layout.bytes,
    })
    .ok()
}

/// A queue of a window, for either end.
///
/// # Safety
/// For `'w` a window of this layout is mapped at `base`, readable and writable; of the bytes of its queues nobody makes anything but
/// what this returns.
pub unsafe fn queue_at<'w>(base: NonNull<u8>, layout: &Layout, queue: Queue) -> EitherQueue<'w, RING_ITEMS> {
    // SAFETY: the block begins in the window, whose layout has `block_bytes` for each queue before the pools.
    let at = unsafe { base.add(layout.queue_at(queue) as usize) };
    match layout.config.queue {
        // SAFETY: as large as the block and aligned to 64 as that is (asserted above), atomics only; zero bytes are a value.
        QueueKind::Dual => Either::Dual(unsafe { at.cast().as_ref() }),
        // SAFETY: as above.
        QueueKind::Ring => Either::Ring(unsafe { at.cast().as_ref() }),
    }
}

/// The kernel's end of an IN queue, or of the deferred-free queue.
pub(crate) type Input<'w> = EitherInProducer<'w, View<'w>, RING_ITEMS>;
/// The kernel's end of the OUT queue.
pub(crate) type Output<'w> = EitherOutConsumer<'w, View<'w>, RING_ITEMS>;

/// An open window.
#[derive(Clone, Copy)]
pub(crate) struct Mapped<'w> {
    base: NonNull<u8>,
    phys: u64,
    view: View<'w>,
}

// SAFETY: the base is only read through: atomics, and volatile reads of bytes that others write anyway; nothing is bound to a thread.
unsafe impl Send for Mapped<'_> {}

impl<'w> Mapped<'w> {
    /// Lays a window out afresh: zero, then header and free lists. `None` if it does not fit into the memory.
    pub fn open(window: &Window, layout: &Layout, generation: u32) -> Option<Self> {
        let geometry = geometry(layout)?;
        if layout.bytes as usize > window.bytes() {
            return None;
        }
        let base = window.base();
        // SAFETY: `Window::new`, 1 and 3: valid for writes, and nothing of this crate refers to it, since the window is not open. What
        // the server before has left is gone.
        unsafe { base.write_bytes(0, layout.bytes as usize) };
        // SAFETY: the header fits in front of m_want (asserted above), at the start of the page-aligned window.
        unsafe { base.cast::<Header>().write_volatile(layout.header(generation)) };
        // SAFETY: `Window::new`, 1 and 3; this crate forms no reference to bytes of mbufs or clusters.
        let view = unsafe { View::new(base, geometry) };
        mbuf::pool::init(&view);
        Some(Self { base, phys: window.phys(), view })
    }

    #[inline(always)]
    pub const fn view(&self) -> &View<'w> {
        &self.view
    }

    /// A queue. The layout is the one that the window was opened with.
    pub fn queue(&self, layout: &Layout, queue: Queue) -> EitherQueue<'w, RING_ITEMS> {
        // SAFETY: `Window::new`, 1 and 3, as in `open`, which has zeroed the queues.
        unsafe { queue_at(self.base, layout, queue) }
    }

    /// The address of an offset for the device; the ledger has found a buffer there.
    #[inline(always)]
    pub const fn phys(&self, offset: u32) -> u64 {
        self.phys + offset as u64
    }

    /// Copies the first `bytes` bytes of a frame, at most a cluster's, into the cluster with `index`; that cluster's offset, `None` if there is
    /// no such cluster.
    #[inline]
    pub fn fill(&self, index: u32, frame: PrivateFrame<'_>, bytes: u32) -> Option<u32> {
        let (offset, at) = self.view.cluster_numbered(index)?;
        let bytes = bytes.min(CLUSTER_BYTES) as usize;
        // SAFETY: a cluster is as long at both ends, and they are different memory: the window, and buffers that are the kernel's alone. A
        // server that writes there meanwhile spoils its own frame.
        unsafe { shmqueue::copy::copy_bytes(at.as_ptr(), frame.start().as_ptr(), bytes) };
        Some(offset)
    }

    /// The frame in the cluster with `index`, and that cluster's offset; `None` if there is no such cluster.
    #[inline(always)]
    pub fn frame(&self, index: u32) -> Option<(u32, Frame<'w>)> {
        let (offset, at) = self.view.cluster_numbered(index)?;
        Some((offset, Frame { at: at.cast(), window: PhantomData }))
    }
}

/// The head of a received frame, for a look at it.
#[derive(Clone, Copy)]
pub(crate) struct Frame<'w> {
    at: NonNull<u64>,
    window: PhantomData<&'w DualQueue>,
}

impl Frame<'_> {
    /// The 64-bit little-endian word at byte `8 * index`.
    #[inline(always)]
    pub fn word(self, index: usize) -> u64 {
        debug_assert!(index < demux::WORDS);
        // SAFETY: 2048 bytes from the start of a cluster on are inside the window (`Mapped::frame`) and aligned, the index is masked to them. The server can
        // write there: a volatile load of a copy, from which nothing is concluded but about these very bytes.
        u64::from_le(unsafe { self.at.add(index % (CLUSTER_BYTES as usize / 8)).read_volatile() })
    }
}
