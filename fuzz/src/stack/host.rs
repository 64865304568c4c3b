//! What a server stands on here: memory that it shares with an application of the same program, and a link that keeps what it sends.
#![expect(unsafe_code, reason = "plays both sides of shared memory")]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ptr::NonNull;
use std::rc::Rc;

use abi::Error;
use netdev_driver::demux;
use protocol_server::frame::{self, Class};
use protocol_server::link::{Built, Link, LinkAudit, LinkInfo, RxFrame};
use protocol_server::system::{Exclusive, SharedMemory, System};

use crate::memory::Guarded;

/// Our station, and the one at the other end.
pub const STATION: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub const PEER: [u8; 6] = [2, 0, 0, 0, 0, 2];
const FRAME_BYTES_MAX: usize = 1514;

/// The server's mapping, and the right to it while nobody has taken it.
pub struct Mapping {
    shared: Rc<Guarded>,
    right: u32,
    host: Host,
}

// SAFETY: mapped until the last owner drops it, at the start of a page; only its address is given out.
unsafe impl SharedMemory for Mapping {
    fn address(&self) -> NonNull<u8> {
        self.shared.base()
    }

    fn length(&self) -> usize {
        self.shared.bytes()
    }

    fn take_right(&mut self) -> u32 {
        core::mem::take(&mut self.right)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.right != 0 {
            self.host.clone().release(self.right);
        }
    }
}

#[derive(Default)]
struct Books {
    objects: Vec<Option<Rc<Guarded>>>,
    /// Objects that were made and are still mapped somewhere.
    made: Vec<std::rc::Weak<Guarded>>,
    resumed: u64,
}

/// A system that keeps books.
#[derive(Clone, Default)]
pub struct Host(Rc<RefCell<Books>>);

const OBJECT: u32 = 1000;

impl Host {
    fn object(&self, length: usize) -> Mapping {
        let shared = Rc::new(Guarded::new(length.next_multiple_of(4096)));
        let mut books = self.0.borrow_mut();
        books.made.retain(|object| object.strong_count() != 0);
        books.made.push(Rc::downgrade(&shared));
        let free = books.objects.iter().position(Option::is_none);
        let place = free.unwrap_or_else(|| {
            books.objects.push(None);
            books.objects.len() - 1
        });
        books.objects[place] = Some(shared.clone());
        Mapping { shared, right: OBJECT + place as u32, host: self.clone() }
    }

    /// The memory that a right denotes, which is the caller's now.
    pub fn map(&self, right: u32) -> Rc<Guarded> {
        let object = right
            .checked_sub(OBJECT)
            .and_then(|place| self.0.borrow_mut().objects.get_mut(place as usize).and_then(Option::take));
        object.expect("a right that nobody has taken")
    }

    /// Objects that are still mapped by anybody.
    pub fn objects(&self) -> usize {
        self.0.borrow().made.iter().filter(|object| object.strong_count() != 0).count()
    }
}

impl System for Host {
    type Memory = Mapping;

    fn shared_memory(&mut self, length: usize) -> Result<Mapping, Error> {
        Ok(self.object(length))
    }

    fn exclusive_memory(&mut self, length: usize) -> Result<Exclusive<Mapping>, Error> {
        // SAFETY: the application of this program only reads what it got by the right to a receive ring.
        Ok(unsafe { Exclusive::new(self.object(length)) })
    }

    fn read_only(&mut self, name: u32) -> Result<u32, Error> {
        Ok(name)
    }

    fn resume(&mut self, _thread: u32) {
        self.0.borrow_mut().resumed += 1;
    }

    fn watch(&mut self, _thread: u32) -> bool {
        true
    }

    fn release(&mut self, name: u32) {
        let mut books = self.0.borrow_mut();
        if let Some(place) = name.checked_sub(OBJECT).and_then(|at| books.objects.get_mut(at as usize)) {
            *place = None;
        }
    }
}

/// The fuzzer's end of a wire.
pub struct Wire {
    info: LinkInfo,
    /// What has come, and whether the device vouches for it.
    pub incoming: VecDeque<(Vec<u8>, bool)>,
    /// The last frames that were sent.
    pub sent: VecDeque<Vec<u8>>,
    /// Frames that were sent since the count was set to 0.
    pub count: usize,
    /// Frames that the server holds.
    pub lent: Rc<Cell<usize>>,
    /// So many more are taken.
    pub room: usize,
}

/// So many of what was sent are kept, to be answered.
const KEPT: usize = 16;

/// A frame off the wire, counted while the server has it.
pub struct WireFrame {
    bytes: Vec<u8>,
    good: bool,
    lent: Rc<Cell<usize>>,
}

impl Drop for WireFrame {
    fn drop(&mut self) {
        self.lent.set(self.lent.get() - 1);
    }
}

impl RxFrame for WireFrame {
    fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn checksum_good(&self) -> bool {
        self.good
    }
}

impl Wire {
    /// `offload`: bits of [`abi::device::offload`].
    pub fn new(offload: u32) -> Self {
        Self {
            info: LinkInfo { mac: STATION, frame_bytes_max: FRAME_BYTES_MAX, offload },
            incoming: VecDeque::new(),
            sent: VecDeque::new(),
            count: 0,
            lent: Rc::default(),
            room: usize::MAX,
        }
    }

    /// What a receiver would check of a frame that leaves.
    fn inspect(&self, bytes: &[u8], request: Option<frame::ChecksumRequest>) {
        assert!((14..=FRAME_BYTES_MAX).contains(&bytes.len()), "a frame of {} bytes", bytes.len());
        assert_eq!(bytes[6..12], STATION, "sent in another's name");
        let word = |at: usize| {
            u64::from_le_bytes(std::array::from_fn(|i| bytes.get(at * 8 + i).copied().unwrap_or(0)))
        };
        // The driver's own demultiplexer, by which a peer of our kind would judge.
        assert!(demux::classify(bytes.len() as u32, word).is_ok(), "a bad frame is sent: {bytes:02x?}");
        match request {
            Some(request) => {
                assert_ne!(self.info.offload & abi::device::offload::TX_CHECKSUM, 0);
                let field = usize::from(request.start) + usize::from(request.offset);
                assert!(field + 2 <= bytes.len(), "a checksum behind the frame");
            }
            None => {
                assert_ne!(frame::classify(bytes, false), Class::Corrupt, "a bad checksum: {bytes:02x?}");
            }
        }
    }
}

impl Link for Wire {
    type Frame = WireFrame;

    fn info(&self) -> &LinkInfo {
        &self.info
    }

    fn receive(&mut self, into: &mut Vec<WireFrame>, limit: usize) {
        while into.len() < limit
            && let Some((bytes, good)) = self.incoming.pop_front()
        {
            self.lent.set(self.lent.get() + 1);
            into.push(WireFrame { bytes, good, lent: self.lent.clone() });
        }
    }

    fn release(&mut self, frames: &mut Vec<WireFrame>) {
        frames.clear();
    }

    fn ready(&mut self) -> bool {
        self.room != 0
    }

    fn transmit<R>(&mut self, length: usize, build: impl FnOnce(&mut [u8]) -> (R, Built)) -> R {
        let mut bytes = vec![0xa5; length]; // what was in a buffer before
        let (result, built) = build(&mut bytes);
        match built {
            Built::Send(_) if self.room == 0 => {}
            Built::Send(request) => {
                self.inspect(&bytes, request);
                self.count += 1;
                self.room -= 1;
                self.sent.push_back(bytes);
                if self.sent.len() > KEPT {
                    self.sent.pop_front();
                }
            }
            Built::Keep => {}
        }
        result
    }

    fn flush(&mut self) {}

    fn announce_idle(&mut self) {}

    fn clear_idle(&mut self) {}

    fn has_frames(&mut self) -> bool {
        !self.incoming.is_empty()
    }

    fn no_buffer(&self) -> u64 {
        0
    }

    fn lent(&self) -> (u32, u32) {
        let lent = self.lent.get() as u32;
        (lent, lent)
    }

    fn audit(&mut self) -> LinkAudit {
        LinkAudit::default()
    }
}
