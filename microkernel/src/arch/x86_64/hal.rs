//! What the network drivers ask for ([`netdev_driver::hal`]), on PCI; and what the stack does, where it is in the kernel: the time, the
//! direct map, the console.
//!
//! Everything is made at boot: the registers mapped, memory for rings and the window taken out of the free
//! frames. So the drivers need no allocator, and a device that is reset later needs no memory.
#![expect(unsafe_code, reason = "device registers and DMA memory")]

pub use super::clock::Clock;
pub use super::paging::direct;
pub use super::serial::Out;

use super::clock::delay_us;
use super::paging::KernelSpace;
use super::pci::Function;
use core::ptr::NonNull;
use microkernel::frames::{FRAME_BYTES, Frames};
use netdev_driver::hal::{DmaRegion, Hal, Registers, Window};

/// Memory for the rings of one device, in bytes.
const RINGS_BYTES: usize = 256 << 10;
/// Registers beyond this are not mapped.
const BAR_BYTES_MAX: u64 = 1 << 20;
/// Devices are given addresses that fit 32 bits.
const DMA_END: u64 = 1 << 32;

/// A device's registers.
#[derive(Clone, Copy, Debug)]
pub struct Mmio {
    base: NonNull<u8>,
    bytes: u32,
}

// SAFETY: registers may be reached from anywhere; there is one processor.
unsafe impl Send for Mmio {}

impl Mmio {
    #[inline]
    fn at<T>(&self, offset: u32) -> Option<*mut T> {
        let inside = u64::from(offset) + size_of::<T>() as u64 <= u64::from(self.bytes);
        // SAFETY: inside the mapping.
        inside.then(|| unsafe { self.base.as_ptr().add(offset as usize).cast() })
    }

    #[inline]
    fn read<T: Copy>(&self, offset: u32, outside: T) -> T {
        // SAFETY: inside the mapping, and aligned as the trait asks.
        self.at(offset).map_or(outside, |at: *mut T| unsafe { at.read_volatile() })
    }

    #[inline]
    fn write<T>(&self, offset: u32, value: T) {
        if let Some(at) = self.at::<T>(offset) {
            // The device sees what was stored before: x86 keeps the order of stores, and this keeps the
            // compiler's. Its partner is the device.
            core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::Release);
            // SAFETY: as in `read`.
            unsafe { at.write_volatile(value) }
        }
    }
}

// SAFETY: `at` keeps every access inside the mapping.
unsafe impl Registers for Mmio {
    fn len(&self) -> u32 {
        self.bytes
    }
    #[inline]
    fn read8(&self, offset: u32) -> u8 {
        self.read(offset, !0)
    }
    #[inline]
    fn read16(&self, offset: u32) -> u16 {
        self.read(offset, !0)
    }
    #[inline]
    fn read32(&self, offset: u32) -> u32 {
        self.read(offset, !0)
    }
    #[inline]
    fn write8(&self, offset: u32, value: u8) {
        self.write(offset, value);
    }
    #[inline]
    fn write16(&self, offset: u32, value: u16) {
        self.write(offset, value);
    }
    #[inline]
    fn write32(&self, offset: u32, value: u32) {
        self.write(offset, value);
    }
}

/// A device on PCI.
pub struct PciHal {
    function: Function,
    bars: [Option<Mmio>; 6],
    /// Memory for rings that is left: its physical address and bytes.
    rings: (u64, usize),
    clock: Clock,
}

// SAFETY: the pointers are to memory of this device alone.
unsafe impl Send for PciHal {}

impl PciHal {
    /// Turns a device on and takes what it will ever need; `None` if memory does not suffice.
    pub fn new(
        function: Function,
        clock: Clock,
        space: &mut KernelSpace,
        frames: &mut Frames,
    ) -> Option<Self> {
        let mut bars = [None; 6];
        for (index, bar) in bars.iter_mut().enumerate() {
            if let Some(region) = function.region(index as u8) {
                let bytes = region.bytes.min(BAR_BYTES_MAX);
                let base = NonNull::new(space.map_mmio(frames, region.phys, bytes)?)?;
                *bar = Some(Mmio { base, bytes: bytes as u32 });
            }
        }
        let rings = take(RINGS_BYTES, frames)?;
        function.enable();
        Some(Self { function, bars, rings: (rings, RINGS_BYTES), clock })
    }
}

/// Takes the memory of a window, zeroed; `None` if there is none. It is called once for a device, and nothing
/// gives it back.
pub fn take_window(bytes: usize, frames: &mut Frames) -> Option<Window> {
    let phys = take(bytes, frames)?;
    let base = NonNull::new(direct(phys))?;
    // SAFETY: 1. and 2. are `take`'s. 3. The core maps it into the owner's space, and reaches it in no other way.
    Some(unsafe { Window::new(base, phys, bytes) })
}

/// Takes memory for a device's buffers, zeroed; `None` if there is none. Nothing gives it back.
pub fn take_buffers(bytes: usize, frames: &mut Frames) -> Option<DmaRegion> {
    let phys = take(bytes, frames)?;
    let base = NonNull::new(direct(phys))?;
    // SAFETY: cut once from frames that are never given back, zeroed in `take`, page-aligned and contiguous.
    Some(unsafe { DmaRegion::new(base, phys, bytes) })
}

/// Takes zeroed, contiguous frames for good.
fn take(bytes: usize, frames: &mut Frames) -> Option<u64> {
    let count = bytes.div_ceil(FRAME_BYTES as usize);
    let phys = frames.allocate_contiguous(count, DMA_END)?;
    // SAFETY: free frames are nobody's, and RAM is in the direct map.
    unsafe {
        direct(phys).write_bytes(0, count * FRAME_BYTES as usize);
    }
    Some(phys)
}

// SAFETY: each region is cut once from frames that are never given back, zeroed in `take`, page-aligned and
// contiguous; the registers are those behind the function's own base address registers.
unsafe impl Hal for PciHal {
    type Registers = Mmio;

    fn bar(&mut self, index: u8) -> Option<Mmio> {
        *self.bars.get(usize::from(index))?
    }

    fn config_read32(&self, offset: u8) -> u32 {
        self.function.read(offset)
    }

    fn dma(&mut self, bytes: usize) -> Option<DmaRegion> {
        let taken = bytes.checked_next_multiple_of(FRAME_BYTES as usize)?;
        let (phys, left) = self.rings;
        if bytes == 0 || taken > left {
            return None;
        }
        self.rings = (phys + taken as u64, left - taken);
        let pointer = NonNull::new(direct(phys))?;
        // SAFETY: as said above the impl.
        Some(unsafe { DmaRegion::new(pointer, phys, taken) })
    }

    fn delay_us(&self, us: u32) {
        delay_us(&self.clock, us);
    }
}
