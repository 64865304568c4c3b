//! A machine of arrays. It checks what hardware could not: that no page is mapped over another, that no page is both writable and
//! executable, that copies stay within a frame that is memory.

use std::collections::BTreeMap;
use std::vec;
use std::vec::Vec;

use abi::Error;
use abi::device::{Audit, NetInfo};
use abi::path::Path;
use abi::vm::PAGE_BYTES;

use netdev_driver::{claims::Address, endpoint::WINDOWS_MAX, nic::TxChecksum};

use crate::frames::Frames;
use crate::machine::{Machine, NetDevice, NetEvent, Outcome, Prot};
use crate::thread::THREADS;

/// Usable memory starts here; below is the device's window.
pub(crate) const RAM: u64 = 1 << 20;
pub(crate) const WINDOW: (u64, u64) = (0x8_0000, 0x8000);
/// The second one, where there are two.
pub(crate) const SECOND_WINDOW: (u64, u64) = (0x9_0000, 0x8000);

/// The pieces of a frame that was to be sent, and the checksum.
type Written = (Vec<(u64, usize)>, Option<TxChecksum>);

#[derive(Default)]
pub(crate) struct FakeNet {
    /// By their numbers.
    pub windows_open: [bool; WINDOWS_MAX],
    /// There are two.
    pub two: bool,
    pub claimed: Vec<(usize, Option<Address>)>,
    pub starts: u32,
    pub event: NetEvent,
    /// The stack in the kernel, where a test has one.
    pub stack: Option<super::sockets::FakeStack>,
    pub path: Path,
    /// What was to be sent, by its pieces.
    pub written: Vec<Written>,
    /// Pages that are being sent, and those that have been.
    pub sending: Vec<u64>,
    pub sent: Vec<u64>,
    /// The transmit ring is full.
    pub full: bool,
}

impl NetDevice for FakeNet {
    fn windows(&self) -> usize {
        1 + usize::from(self.two)
    }
    fn window(&self, at: usize) -> (u64, u64) {
        [WINDOW, SECOND_WINDOW][at]
    }
    fn open(&mut self, at: usize) -> Result<NetEvent, Error> {
        assert!(!core::mem::replace(&mut self.windows_open[at], true), "opened twice");
        Ok(NetEvent::default())
    }
    fn close(&mut self, at: usize) {
        assert!(core::mem::replace(&mut self.windows_open[at], false), "closed twice");
        self.sent.append(&mut self.sending);
    }
    fn claim(&mut self, at: usize, address: Option<Address>) -> Result<(), Error> {
        assert!(self.windows_open[at]);
        if self.claimed.iter().any(|&(other, claimed)| other != at && address.is_some() && claimed == address)
        {
            return Err(Error::Exists);
        }
        self.claimed.push((at, address));
        Ok(())
    }
    fn start(&mut self, at: usize) -> NetEvent {
        assert!(self.windows_open[at]);
        self.starts += 1;
        self.event
    }
    fn info(&self) -> NetInfo {
        NetInfo { mac: [2, 0, 0, 0, 0, 1], window_bytes: WINDOW.1 as u32, ..NetInfo::default() }
    }
    fn audit(&self, _: usize) -> Audit {
        Audit { mbufs_posted: 1, mbufs_transmitting: 2, clusters_posted: 3, clusters_transmitting: 4 }
    }
    fn path(&self) -> Path {
        self.path
    }
    fn write(&mut self, pieces: &[(u64, usize)], checksum: Option<TxChecksum>) -> Result<(), Error> {
        assert!(self.windows_open[0] && self.path == Path::Ipc && pieces.len() <= 2);
        let bytes: usize = pieces.iter().map(|piece| piece.1).sum();
        match bytes {
            _ if self.full => Err(Error::QueueFull),
            0..14 => Err(Error::BadArgument),
            1515.. => Err(Error::TooLong),
            _ => {
                self.written.push((pieces.to_vec(), checksum));
                Ok(())
            }
        }
    }
    fn write_page(&mut self, page: u64, bytes: usize, checksum: Option<TxChecksum>) -> Result<(), Error> {
        self.write(&[(page, bytes)], checksum)?;
        assert!(!self.sending.contains(&page), "a page sent twice");
        self.sending.push(page);
        Ok(())
    }
    fn take_sent(&mut self) -> Option<u64> {
        self.sent.pop()
    }
    fn counters(&self, counters: &mut [u64; abi::counters::COUNT]) {
        counters[abi::counters::Counter::FramesIn as usize] = 77;
    }
}

/// A frame for the root and one for each 2 MiB that holds a page.
pub(crate) struct FakeSpace {
    tables: Vec<u64>,
    pub pages: BTreeMap<u64, (u64, Prot)>,
}

pub(crate) struct Fake {
    pub(crate) memory: Vec<u8>,
    pub contexts: Vec<(u64, u64, [u64; 3])>,
    pub results: Vec<Option<(u64, u64)>>,
    pub output: Vec<u8>,
    pub typed: Vec<u8>,
    pub now: u64,
    pub off: Option<u32>,
    pub net: Option<FakeNet>,
    pub tables: usize,
}

impl Machine for Fake {
    type Space = FakeSpace;
    type Net = FakeNet;

    fn new_space(&mut self, frames: &mut Frames) -> Result<FakeSpace, Error> {
        let root = frames.allocate().ok_or(Error::NoResources)?;
        self.tables += 1;
        Ok(FakeSpace { tables: vec![root], pages: BTreeMap::new() })
    }
    fn drop_space(&mut self, frames: &mut Frames, space: FakeSpace) {
        assert!(space.pages.keys().all(|&page| page == abi::info::ADDRESS), "pages left behind");
        self.tables -= space.tables.len();
        space.tables.into_iter().for_each(|table| frames.free(table));
    }
    fn map(
        &mut self,
        frames: &mut Frames,
        space: &mut FakeSpace,
        virt: u64,
        phys: u64,
        prot: Prot,
    ) -> Result<(), Error> {
        assert!(virt.is_multiple_of(PAGE_BYTES) && phys.is_multiple_of(PAGE_BYTES));
        assert!(crate::space::is_user_range(virt, PAGE_BYTES) && virt < abi::vm::USER_END - PAGE_BYTES);
        assert!(!(prot.write && prot.execute));
        let table = virt >> 21 << 21;
        let is_new = space.pages.range(table..table + (1 << 21)).next().is_none();
        if is_new {
            space.tables.push(frames.allocate().ok_or(Error::NoResources)?);
            self.tables += 1;
        }
        assert!(space.pages.insert(virt, (phys, prot)).is_none(), "{virt:#x} mapped twice");
        Ok(())
    }
    fn unmap(&mut self, space: &mut FakeSpace, virt: u64) -> Option<u64> {
        space.pages.remove(&virt).map(|(phys, _)| phys)
    }
    fn translate(&self, space: &FakeSpace, virt: u64, write: bool) -> Option<u64> {
        let (phys, prot) = space.pages.get(&(virt & !(PAGE_BYTES - 1)))?;
        (prot.write || !write).then_some(phys + virt % PAGE_BYTES)
    }
    fn copy_to_phys(&mut self, phys: u64, bytes: &[u8]) {
        let range = self.within_frame(phys, bytes.len());
        self.memory[range].copy_from_slice(bytes);
    }
    fn copy_from_phys(&self, phys: u64, bytes: &mut [u8]) {
        bytes.copy_from_slice(&self.memory[self.within_frame(phys, bytes.len())]);
    }
    fn copy_phys(&mut self, to: u64, from: u64, bytes: usize) {
        assert_ne!(to / PAGE_BYTES, from / PAGE_BYTES, "a copy within a frame");
        let (to, from) = (self.within_frame(to, bytes), self.within_frame(from, bytes));
        self.memory.copy_within(from, to.start);
    }
    fn zero_frame(&mut self, phys: u64) {
        let range = self.within_frame(phys, PAGE_BYTES as usize);
        self.memory[range].fill(0);
    }
    fn context_start(&mut self, thread: usize, entry: u64, stack: u64, args: [u64; 3]) {
        self.contexts[thread] = (entry, stack, args);
        self.results[thread] = None;
    }
    fn context_result(&mut self, thread: usize, status: u64, value: u64) {
        assert_ne!(status, Outcome::SWITCH);
        self.results[thread] = Some((status, value));
    }
    fn print_registers(&mut self, _thread: usize) {
        self.output.extend(b"registers\n");
    }
    fn console_write(&mut self, bytes: &[u8]) {
        self.output.extend(bytes);
    }
    fn console_read(&mut self) -> Option<u8> {
        (!self.typed.is_empty()).then(|| self.typed.remove(0))
    }
    fn now_ns(&self) -> u64 {
        self.now
    }
    fn entropy(&mut self) -> u64 {
        0x1234_5678_9abc_def0
    }
    fn power_off(&mut self, code: u32) {
        self.off = Some(code);
    }
    fn net(&mut self) -> Option<&mut FakeNet> {
        self.net.as_mut()
    }
}

impl Fake {
    pub(crate) fn new(memory: Vec<u8>) -> Self {
        Self {
            memory,
            contexts: vec![(0, 0, [0; 3]); THREADS],
            results: vec![None; THREADS],
            output: Vec::new(),
            typed: Vec::new(),
            now: 1000,
            off: None,
            net: Some(FakeNet::default()),
            tables: 0,
        }
    }

    fn within_frame(&self, phys: u64, length: usize) -> core::ops::Range<usize> {
        assert!(phys % PAGE_BYTES + length as u64 <= PAGE_BYTES, "{phys:#x} + {length} leaves the frame");
        phys as usize..phys as usize + length
    }
}
