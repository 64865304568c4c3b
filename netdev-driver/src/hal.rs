//! What the drivers ask of the machine. The kernel implements it for the hardware, the tests for fakes.
//!
//! An `unsafe trait` separates who has to prove what: the implementer answers for the addresses, the drivers above stay safe code.
#![expect(unsafe_code, reason = "declares the traits whose implementers answer for addresses")]

use core::ptr::NonNull;

/// The registers behind one of a device's base address registers.
///
/// # Safety
/// The implementer keeps every access inside the mapped region, whatever `offset` is: what is outside (an access that ends at or before
/// [`len`](Self::len) is inside) reads as all ones and is not written.
pub unsafe trait Registers {
    /// The bytes of the region.
    fn len(&self) -> u32;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Reads a byte.
    fn read8(&self, offset: u32) -> u8;
    /// Reads a 16-bit register; `offset` is a multiple of 2.
    fn read16(&self, offset: u32) -> u16;
    /// Reads a 32-bit register; `offset` is a multiple of 4.
    fn read32(&self, offset: u32) -> u32;
    /// Writes a byte.
    fn write8(&self, offset: u32, value: u8);
    /// Writes a 16-bit register; `offset` is a multiple of 2.
    fn write16(&self, offset: u32, value: u16);
    /// Writes a 32-bit register; `offset` is a multiple of 4. All memory writes before it in program order are visible to the device
    /// before the register is written.
    fn write32(&self, offset: u32, value: u32);
}

/// Zeroed memory that the device reaches and that nobody but the driver that asked for it touches.
#[derive(Debug)]
pub struct DmaRegion {
    ptr: NonNull<u8>,
    phys: u64,
    bytes: usize,
}

// SAFETY: a description of memory that belongs to whoever has it; its validity is bound to no thread.
unsafe impl Send for DmaRegion {}

impl DmaRegion {
    /// Describes a region.
    ///
    /// # Safety
    /// 1. `bytes` bytes from `ptr` on are valid for reads and writes for the rest of the program, zero now, and nothing else in the program
    ///    reaches them.
    /// 2. `ptr` and `phys` are multiples of 4096, and the region is contiguous for the device from `phys` on.
    #[must_use]
    pub const unsafe fn new(ptr: NonNull<u8>, phys: u64, bytes: usize) -> Self {
        Self { ptr, phys, bytes }
    }

    pub(crate) const fn parts(&self) -> (NonNull<u8>, u64, usize) {
        (self.ptr, self.phys, self.bytes)
    }
}

/// Where the window is for the kernel and for the device.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    base: NonNull<u8>,
    phys: u64,
    bytes: usize,
}

// SAFETY: a description; its validity is bound to no thread.
unsafe impl Send for Window {}

impl Window {
    /// Describes the memory of a window.
    ///
    /// # Safety
    /// 1. `bytes` bytes from `base` on are valid for reads and writes as long as any [`Hal`] or [`Endpoint`](crate::Endpoint) that has it lives.
    /// 2. `base` and `phys` are multiples of 4096; the memory is contiguous for the device from `phys` on.
    /// 3. The kernel reaches it in no other way than through this crate while a window is open. (The server does, by a mapping of its own.)
    #[must_use]
    pub const unsafe fn new(base: NonNull<u8>, phys: u64, bytes: usize) -> Self {
        Self { base, phys, bytes }
    }

    pub(crate) const fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// The address of its first byte for the device.
    #[must_use]
    pub const fn phys(&self) -> u64 {
        self.phys
    }

    /// Its size, in bytes.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
}

/// The machine, for one device.
///
/// # Safety
/// [`dma`](Self::dma) gives regions that the device reaches where [`DmaRegion`] says, and the registers are those of this one device.
pub unsafe trait Hal {
    /// The registers of a base address register.
    type Registers: Registers;

    /// Maps the memory behind base address register `index` (0 to 5; of a 64-bit pair, the first); `None` if there is none. A driver may ask
    /// for the same one several times.
    fn bar(&mut self, index: u8) -> Option<Self::Registers>;
    /// Reads 32 bits of the device's PCI configuration space at `offset`, a multiple of 4 below 256.
    fn config_read32(&self, offset: u8) -> u32;
    /// Takes `bytes` of zeroed memory for a device's rings; it is never given back. `None`: there is none.
    fn dma(&mut self, bytes: usize) -> Option<DmaRegion>;
    /// Waits, at least so many microseconds. Only resets and the start of a device wait.
    fn delay_us(&self, us: u32);
}
