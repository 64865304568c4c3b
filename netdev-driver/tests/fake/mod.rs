//! A machine of arrays: memory at made-up physical addresses, and devices that check what a real one would choke on.
#![expect(unsafe_code, reason = "stands in for the machine")]
#![allow(dead_code, reason = "each test uses a part")]

pub mod e1000;
pub mod rig;
pub mod server;
pub mod several;
pub mod virtio;

use std::{
    alloc::{Layout, alloc_zeroed},
    cell::RefCell,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    ptr::NonNull,
    rc::Rc,
};

use netdev_driver::{
    direct::{RX_BUFFERS, TX_BUFFERS},
    hal::{DmaRegion, Hal, Registers, Window},
};

/// A device as its registers show it.
pub trait Model {
    fn bar_bytes(&self, bar: u8) -> Option<u32>;
    fn config(&self, _offset: u8) -> u32 {
        0
    }
    fn read(&mut self, memory: &Memory, bar: u8, offset: u32, size: u32) -> u32;
    fn write(&mut self, memory: &Memory, bar: u8, offset: u32, size: u32, value: u32);
}

struct Region {
    phys: u64,
    ptr: NonNull<u8>,
    bytes: usize,
}

/// The memory that a device can reach. An address outside is a bus error: the test fails.
#[derive(Default)]
pub struct Memory {
    regions: Vec<Region>,
    /// Regions that nobody uses any more.
    spare: Vec<Region>,
    /// The window: where received data may go, and what is sent must lie.
    pub window: Option<(u64, u32, abi::window::Layout)>,
    /// More windows of the same layout, and where the kernel's own receive buffers begin.
    pub others: Vec<u64>,
    pub private: Option<u64>,
    /// In place of a window, where the buffers of a direct device begin.
    pub direct: Option<u64>,
    /// Pages from which a direct device may send as well.
    pub pages: Vec<u64>,
}

impl Memory {
    /// Adds a region, at an address that has nothing to do with the pointer and does not fit into 32 bits.
    pub fn add(&mut self, bytes: usize) -> (NonNull<u8>, u64) {
        if let Some(at) = self.spare.iter().position(|region| region.bytes == bytes) {
            let region = self.spare.swap_remove(at);
            // SAFETY: so many bytes of ours, to which no driver is left that had them.
            unsafe { region.ptr.write_bytes(0, bytes) };
            let given = (region.ptr, region.phys);
            self.regions.push(region);
            return given;
        }
        let layout = Layout::from_size_align(bytes, 4096).unwrap();
        // SAFETY: the size is not 0. It is never freed.
        let ptr = NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap();
        (ptr, self.place(ptr, bytes))
    }

    /// Adds a region that the program sees at two addresses, as kernel and server see the window: both, and the device's. Before and behind
    /// either there is a page that nobody may touch.
    pub fn add_shared(&mut self, bytes: usize) -> (NonNull<u8>, NonNull<u8>, u64) {
        // SAFETY: the name is a string; the file is fresh, and lives on in its mappings.
        let file = unsafe { OwnedFd::from_raw_fd(libc::memfd_create(c"window".as_ptr(), 0)) };
        // SAFETY: an open file.
        assert_eq!(unsafe { libc::ftruncate(file.as_raw_fd(), bytes as libc::off_t) }, 0);
        let map = || {
            let around = bytes.next_multiple_of(4096) + 2 * 4096;
            let nothing = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            // SAFETY: a new mapping, where there is none yet. It is never unmapped.
            let guard = unsafe { libc::mmap(std::ptr::null_mut(), around, libc::PROT_NONE, nothing, -1, 0) };
            assert_ne!(guard, libc::MAP_FAILED);
            let inner = guard.cast::<u8>().wrapping_add(4096).cast();
            let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_FIXED);
            // SAFETY: all of the file, in place of what was mapped here just now but for its first page and its last.
            let at = unsafe { libc::mmap(inner, bytes, prot, flags, file.as_raw_fd(), 0) };
            assert_eq!(at, inner);
            NonNull::new(at.cast::<u8>()).unwrap()
        };
        let (kernel, server) = (map(), map());
        assert_ne!(kernel, server);
        (kernel, server, self.place(kernel, bytes))
    }

    /// All regions are given again: there is no driver left that has any.
    ///
    /// # Safety
    /// So it is.
    pub unsafe fn recycle(&mut self) {
        self.spare.append(&mut self.regions);
    }

    fn place(&mut self, ptr: NonNull<u8>, bytes: usize) -> u64 {
        let all = self.regions.iter().chain(&self.spare);
        let highest = all.max_by_key(|r| r.phys);
        let phys = highest.map_or(0x1_2345_6000, |r| r.phys + ((r.bytes as u64 + 0x5fff) & !0xfff));
        self.regions.push(Region { phys, ptr, bytes });
        phys
    }

    /// Where the region that was added last begins for the device.
    pub fn last_phys(&self) -> u64 {
        self.regions.last().unwrap().phys
    }

    /// Where the kernel has what the device knows as `phys`.
    pub fn kernel_address(&self, phys: u64) -> usize {
        self.at(phys, 1).addr()
    }

    fn at(&self, phys: u64, bytes: usize) -> *mut u8 {
        let region = self
            .regions
            .iter()
            .find(|r| phys >= r.phys && phys + bytes as u64 <= r.phys + r.bytes as u64)
            .unwrap_or_else(|| panic!("the device reaches for {phys:#x}, {bytes} bytes"));
        // SAFETY: inside the region.
        unsafe { region.ptr.as_ptr().add((phys - region.phys) as usize) }
    }

    pub fn read(&self, phys: u64, bytes: usize) -> Vec<u8> {
        let at = self.at(phys, bytes);
        // SAFETY: the region holds so many bytes.
        (0..bytes).map(|i| unsafe { at.add(i).read_volatile() }).collect()
    }

    pub fn write(&self, phys: u64, bytes: &[u8]) {
        let at = self.at(phys, bytes.len());
        for (i, byte) in bytes.iter().enumerate() {
            // SAFETY: as in `read`.
            unsafe { at.add(i).write_volatile(*byte) };
        }
    }

    pub fn read64(&self, phys: u64) -> u64 {
        u64::from_le_bytes(self.read(phys, 8).try_into().unwrap())
    }

    pub fn read32(&self, phys: u64) -> u32 {
        u32::from_le_bytes(self.read(phys, 4).try_into().unwrap())
    }

    pub fn read16(&self, phys: u64) -> u16 {
        u16::from_le_bytes(self.read(phys, 2).try_into().unwrap())
    }

    /// A receive buffer is exactly a cluster of the window.
    pub fn assert_cluster(&self, phys: u64) {
        if let Some(start) = self.direct {
            let offset = phys.checked_sub(start).expect("a buffer before the buffers");
            assert!(offset.is_multiple_of(2048) && offset / 2048 < u64::from(RX_BUFFERS), "{phys:#x}");
            return;
        }
        let (_, _, layout) = self.window.expect("a window");
        let is_one_of = |start: u64, count: u32| {
            let offset = phys.wrapping_sub(start);
            offset.is_multiple_of(2048) && offset / 2048 < u64::from(count)
        };
        let is_private = self.private.is_some_and(|start| is_one_of(start, 256));
        let mut windows = self.windows();
        let is_cluster =
            windows.any(|start| is_one_of(start + u64::from(layout.clusters_at), layout.config.clusters()));
        assert!(is_private || is_cluster, "{phys:#x}");
    }

    /// Where the windows begin.
    fn windows(&self) -> impl Iterator<Item = u64> {
        self.window.iter().map(|window| window.0).chain(self.others.iter().copied())
    }

    /// Data to send lies in one cluster, or in the data of one mbuf.
    pub fn assert_sendable(&self, phys: u64, bytes: u32) {
        if let Some(start) = self.direct {
            let offset = phys.wrapping_sub(start);
            let buffers = u64::from(RX_BUFFERS)..u64::from(RX_BUFFERS + TX_BUFFERS);
            let ours = buffers.contains(&(offset / 2048)) && offset.is_multiple_of(2048);
            assert!((ours || self.pages.contains(&phys)) && (1..=2048).contains(&bytes), "{phys:#x}");
            return;
        }
        let (_, _, layout) = self.window.expect("a window");
        let mut windows = self.windows();
        let start = windows.find(|&start| (start..start + u64::from(layout.bytes)).contains(&phys));
        let offset = (phys - start.expect("data outside of all windows")) as u32;
        let end = offset + bytes;
        assert!(bytes > 0 && end <= layout.bytes, "data behind the window");
        if offset >= layout.clusters_at {
            assert_eq!(
                (offset - layout.clusters_at) / 2048,
                (end - 1 - layout.clusters_at) / 2048,
                "two clusters"
            );
        } else {
            assert!(offset >= layout.mbufs_at, "data in the control blocks");
            let (first, last) = (offset - layout.mbufs_at, end - 1 - layout.mbufs_at);
            assert!(first / 128 == last / 128 && first % 128 >= 48, "a header is sent");
        }
    }
}

pub struct Machine<M> {
    pub memory: RefCell<Memory>,
    pub model: RefCell<M>,
    /// Register accesses, which are what costs.
    pub accesses: RefCell<u64>,
}

pub struct FakeHal<M>(pub Rc<Machine<M>>);

pub struct FakeRegisters<M>(Rc<Machine<M>>, u8, u32);

impl<M: Model> FakeRegisters<M> {
    fn read(&self, offset: u32, size: u32) -> u32 {
        assert!(offset.is_multiple_of(size) && offset + size <= self.2, "register {offset:#x}");
        *self.0.accesses.borrow_mut() += 1;
        self.0.model.borrow_mut().read(&self.0.memory.borrow(), self.1, offset, size)
    }

    fn write(&self, offset: u32, size: u32, value: u32) {
        assert!(offset.is_multiple_of(size) && offset + size <= self.2, "register {offset:#x}");
        *self.0.accesses.borrow_mut() += 1;
        self.0.model.borrow_mut().write(&self.0.memory.borrow(), self.1, offset, size, value);
    }
}

// SAFETY: there is no memory behind these registers.
unsafe impl<M: Model> Registers for FakeRegisters<M> {
    fn len(&self) -> u32 {
        self.2
    }
    fn read8(&self, offset: u32) -> u8 {
        self.read(offset, 1) as u8
    }
    fn read16(&self, offset: u32) -> u16 {
        self.read(offset, 2) as u16
    }
    fn read32(&self, offset: u32) -> u32 {
        self.read(offset, 4)
    }
    fn write8(&self, offset: u32, value: u8) {
        self.write(offset, 1, value.into());
    }
    fn write16(&self, offset: u32, value: u16) {
        self.write(offset, 2, value.into());
    }
    fn write32(&self, offset: u32, value: u32) {
        self.write(offset, 4, value);
    }
}

// SAFETY: regions are leaked, page-aligned and zeroed; the models reach them by the addresses that `add` made up.
unsafe impl<M: Model> Hal for FakeHal<M> {
    type Registers = FakeRegisters<M>;
    fn bar(&mut self, index: u8) -> Option<Self::Registers> {
        let bytes = self.0.model.borrow().bar_bytes(index)?;
        Some(FakeRegisters(self.0.clone(), index, bytes))
    }
    fn config_read32(&self, offset: u8) -> u32 {
        self.0.model.borrow().config(offset)
    }
    fn dma(&mut self, bytes: usize) -> Option<DmaRegion> {
        let (ptr, phys) = self.0.memory.borrow_mut().add(bytes);
        // SAFETY: fresh and leaked.
        Some(unsafe { DmaRegion::new(ptr, phys, bytes) })
    }
    fn delay_us(&self, _: u32) {}
}

impl<M: Model> Machine<M> {
    pub fn new(model: M) -> Rc<Self> {
        Rc::new(Self { memory: RefCell::default(), model: RefCell::new(model), accesses: RefCell::new(0) })
    }

    /// Memory for a window: as the kernel has it, and where the server sees it, which is elsewhere. So whatever crosses it has to be an
    /// offset, in every test.
    pub fn window(&self, layout: abi::window::Layout) -> (Window, NonNull<u8>) {
        let mut memory = self.memory.borrow_mut();
        let (kernel, server, phys) = memory.add_shared(layout.bytes as usize);
        memory.window = Some((phys, layout.bytes, layout));
        // SAFETY: fresh and leaked.
        (unsafe { Window::new(kernel, phys, layout.bytes as usize) }, server)
    }
}

impl<M: Model> Machine<M> {
    /// Memory for one window more, as the kernel has it and where its server sees it.
    pub fn another_window(&self, layout: abi::window::Layout) -> (Window, NonNull<u8>) {
        let mut memory = self.memory.borrow_mut();
        let (kernel, server, phys) = memory.add_shared(layout.bytes as usize);
        memory.others.push(phys);
        // SAFETY: fresh and leaked.
        (unsafe { Window::new(kernel, phys, layout.bytes as usize) }, server)
    }

    /// Memory for the kernel's own receive buffers.
    pub fn private(&self, bytes: usize) -> DmaRegion {
        let mut memory = self.memory.borrow_mut();
        let (ptr, phys) = memory.add(bytes);
        memory.private = Some(phys);
        // SAFETY: fresh and leaked.
        unsafe { DmaRegion::new(ptr, phys, bytes) }
    }
}

/// Xorshift: the same numbers in each run.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    pub fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n
    }
}

/// The Internet checksum of bytes (RFC 1071), the plain way.
pub fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A good IPv4 frame whose payload begins with a number.
pub fn ipv4_frame(len: usize, number: u32) -> Vec<u8> {
    let mut frame = vec![0xa5; len.max(38)];
    let total = (frame.len() - 14) as u16;
    frame[12..34].copy_from_slice(&[8, 0, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame[16..18].copy_from_slice(&total.to_be_bytes());
    let sum = checksum(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame[34..38].copy_from_slice(&number.to_be_bytes());
    frame
}

/// 4,000 frames: of each eight one is good, and each other is bad in a way of its own. What they are counted as says
/// [`rig::Counts::assert_bad_frames`].
pub fn bad_frames() -> Vec<Vec<u8>> {
    let (good, mut random) = (ipv4_frame(100, 0), Random(77));
    let frame = |round| {
        let mut frame = good.clone();
        match round % 8 {
            0 => frame.truncate(random.below(14) as usize),
            1 => frame.resize(1515 + random.below(500) as usize, 0),
            2 => frame.truncate(14 + random.below(20) as usize),
            3 => frame[24] ^= 0xff,
            4 => frame[16..18].copy_from_slice(&[5, 0xdc]),
            5 => frame[14] = 0x43,
            6 => frame[12..14].copy_from_slice(&[0x86, 0xdd]),
            _ => {}
        }
        frame
    };
    (0..4000).map(frame).collect()
}
