//! The path by message, as Mach 3.0 had it: the kernel runs each received frame through packet filters (Mogul, Rashid and Accetta 1987)
//! and sends it as a message to the port of the server that wants it; each frame to send is a system call with a copy.
//!
//! A message that came is one buffer here, which the stack reads in place. One whose frame came out of line is a page, which is kept to
//! send with. The server waits for frames where it waits for requests, by a receive from all its ports: a message waits in its port's queue
//! until it is taken, so there is no wake-up to lose and nothing to announce.
//!
//! [`Port`] is what the link needs of the system: system calls, or a fake in the tests.

use abi::message::DATA_MAX;
use alloc::{boxed::Box, collections::VecDeque, vec, vec::Vec};

use super::{Built, Link, LinkAudit, LinkInfo, RxFrame};
use crate::frame::ChecksumRequest;

pub mod filter;

/// Room for a frame in line, whatever the device.
pub const FRAME_ROOM: usize = 2048;
/// Frames that the device had no room for and that are sent later, at most.
const KEPT_MAX: usize = 64;
/// Frames that are taken at once, at most: requests come in between, and in a flood there is always one frame more.
const PASS: usize = 16;
/// Pages that came with frames and are kept to send with, at most.
const PAGES_MAX: usize = 32;

/// Pages of the server's own.
pub trait Pages {
    /// Their bytes.
    fn bytes(&self) -> &[u8];
    /// Their bytes.
    fn bytes_mut(&mut self) -> &mut [u8];
}

/// A frame that has come.
#[derive(Debug)]
pub struct Arrived<P> {
    /// Bytes of the frame.
    pub length: usize,
    /// Device or driver vouch for its transport checksum.
    pub checksum_good: bool,
    /// It came out of line, here; else it is where there was room for it.
    pub page: Option<P>,
}

/// The device as this path has it: a port that frames come to, and calls that send them.
pub trait Port {
    /// A page that a frame came in or goes out in.
    type Page: Pages;

    /// Takes the next frame that waits; one in line goes to the front of `room`. Never blocks.
    fn receive(&mut self, room: &mut [u8]) -> Option<Arrived<Self::Page>>;

    /// Sends a frame, which the kernel copies; false where the device's ring is full.
    fn write(&mut self, frame: &[u8], checksum: Option<ChecksumRequest>) -> bool;

    /// Sends the frame of so many bytes at the start of a page, which goes with it; gives it back where the device's ring is full.
    ///
    /// # Errors
    /// The page.
    fn write_page(
        &mut self,
        page: Self::Page,
        length: usize,
        checksum: Option<ChecksumRequest>,
    ) -> Result<(), Self::Page>;

    /// A new page to send with, if there is one.
    fn page(&mut self) -> Option<Self::Page>;
}

/// Where a frame lies.
enum Buffer<P> {
    Inline(Box<[u8]>),
    Page(P),
}

impl<P: Pages> Buffer<P> {
    fn bytes(&self) -> &[u8] {
        match self {
            Buffer::Inline(bytes) => bytes,
            Buffer::Page(page) => page.bytes(),
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Buffer::Inline(bytes) => bytes,
            Buffer::Page(page) => page.bytes_mut(),
        }
    }
}

/// A received frame.
pub struct MessageFrame<P> {
    buffer: Buffer<P>,
    length: usize,
    checksum_good: bool,
}

impl<P: Pages> RxFrame for MessageFrame<P> {
    #[inline]
    fn bytes(&self) -> &[u8] {
        self.buffer.bytes().get(..self.length).unwrap_or_default()
    }

    #[inline]
    fn checksum_good(&self) -> bool {
        self.checksum_good
    }
}

/// A frame that waits for room in the device's ring.
struct Kept<P> {
    buffer: Buffer<P>,
    length: usize,
    checksum: Option<ChecksumRequest>,
}

/// The path by message as a link.
pub struct MessageLink<P: Port> {
    info: LinkInfo,
    port: P,
    /// Frames of so many bytes and more go out of line.
    out_of_line: usize,
    /// Room for anything, while nobody has it.
    room: Option<Box<[u8]>>,
    /// A frame that the server has received where it waits for everything.
    handed: Option<MessageFrame<P::Page>>,
    /// The port may hold more: the last look did not find it empty.
    more: bool,
    /// Buffers to receive in.
    free: Vec<Box<[u8]>>,
    /// Where frames are built that go in line.
    scratch: Box<[u8]>,
    /// Pages to send with.
    pages: Vec<P::Page>,
    /// Frames for which the device had no room, in their order.
    kept: VecDeque<Kept<P::Page>>,
    no_buffer: u64,
}

impl<P: Port> MessageLink<P> {
    /// The link over `port`; frames of `out_of_line` bytes and more are sent out of line.
    pub fn new(info: LinkInfo, port: P, out_of_line: usize) -> Self {
        let info = LinkInfo { frame_bytes_max: info.frame_bytes_max.min(FRAME_ROOM), ..info };
        Self {
            info,
            port,
            out_of_line,
            room: None,
            handed: None,
            more: true,
            free: Vec::new(),
            scratch: new_buffer(),
            pages: Vec::new(),
            kept: VecDeque::new(),
            no_buffer: 0,
        }
    }

    /// What the link stands on.
    pub const fn port(&mut self) -> &mut P {
        &mut self.port
    }

    /// Room to receive anything in: a frame, or the data of a request. It comes back by [`hand`](Self::hand) or
    /// [`give_room`](Self::give_room).
    pub fn take_room(&mut self) -> Box<[u8]> {
        self.room.take().unwrap_or_else(|| vec![0; DATA_MAX].into_boxed_slice())
    }

    /// Takes the room back.
    pub fn give_room(&mut self, room: Box<[u8]>) {
        self.room = Some(room);
    }

    /// Hands over a frame that was received with everything else, in `room` unless it came out of line. It is the first that the next
    /// [`Link::receive`] gives; there is one at a time.
    pub fn hand(&mut self, room: Box<[u8]>, arrived: Arrived<P::Page>) {
        debug_assert!(self.handed.is_none(), "each is taken before the next is received");
        let buffer = match arrived.page {
            None => Buffer::Inline(room),
            Some(page) => {
                self.room = Some(room);
                Buffer::Page(page)
            }
        };
        self.handed =
            Some(MessageFrame { buffer, length: arrived.length, checksum_good: arrived.checksum_good });
        self.more = true;
    }

    /// Whether frames wait for room in the device's ring, which nobody tells of: the server tries again soon.
    #[must_use]
    pub fn has_kept(&self) -> bool {
        !self.kept.is_empty()
    }

    fn take_buffer(&mut self) -> Box<[u8]> {
        self.free.pop().unwrap_or_else(new_buffer)
    }

    /// Sends one frame; gives it back where there is no room.
    #[inline]
    fn send(
        &mut self,
        buffer: Buffer<P::Page>,
        length: usize,
        checksum: Option<ChecksumRequest>,
    ) -> Result<Option<Box<[u8]>>, Kept<P::Page>> {
        match buffer {
            Buffer::Inline(bytes) => {
                if self.port.write(&bytes[..length], checksum) {
                    return Ok(Some(bytes));
                }
                Err(Kept { buffer: Buffer::Inline(bytes), length, checksum })
            }
            Buffer::Page(page) => match self.port.write_page(page, length, checksum) {
                Ok(()) => Ok(None),
                Err(page) => Err(Kept { buffer: Buffer::Page(page), length, checksum }),
            },
        }
    }

    /// Sends what waits, as far as there is room; true if nothing waits any more.
    #[cold]
    fn send_kept(&mut self) -> bool {
        while let Some(Kept { buffer, length, checksum }) = self.kept.pop_front() {
            match self.send(buffer, length, checksum) {
                Ok(buffer) => self.free.extend(buffer),
                Err(kept) => {
                    self.kept.push_front(kept);
                    return false;
                }
            }
        }
        true
    }

    /// A buffer for a frame of `length` bytes.
    fn buffer(&mut self, length: usize) -> Buffer<P::Page> {
        if length >= self.out_of_line
            && let Some(page) = self.pages.pop().or_else(|| self.port.page())
            && page.bytes().len() >= length
        {
            return Buffer::Page(page);
        }
        let mut bytes = core::mem::take(&mut self.scratch);
        if bytes.len() < length {
            bytes = vec![0; length.max(FRAME_ROOM)].into_boxed_slice();
        }
        Buffer::Inline(bytes)
    }

    fn give_back(&mut self, buffer: Buffer<P::Page>) {
        match buffer {
            Buffer::Inline(bytes) => self.scratch = bytes,
            Buffer::Page(page) => self.keep_page(page),
        }
    }

    fn keep_page(&mut self, page: P::Page) {
        if self.pages.len() < PAGES_MAX && page.bytes().len() >= self.info.frame_bytes_max {
            self.pages.push(page);
        }
    }
}

fn new_buffer() -> Box<[u8]> {
    vec![0; FRAME_ROOM].into_boxed_slice()
}

impl<P: Port> Link for MessageLink<P> {
    type Frame = MessageFrame<P::Page>;

    fn info(&self) -> &LinkInfo {
        &self.info
    }

    #[inline]
    fn receive(&mut self, into: &mut Vec<Self::Frame>, limit: usize) {
        if !self.more {
            return;
        }
        into.extend(self.handed.take());
        while into.len() < limit.min(PASS) {
            let mut buffer = self.take_buffer();
            let Some(Arrived { length, checksum_good, page }) = self.port.receive(&mut buffer) else {
                self.free.push(buffer);
                self.more = false;
                return;
            };
            let buffer = match page {
                None => Buffer::Inline(buffer),
                Some(page) => {
                    self.free.push(buffer);
                    Buffer::Page(page)
                }
            };
            into.push(MessageFrame { buffer, length, checksum_good });
        }
    }

    #[inline]
    fn release(&mut self, frames: &mut Vec<Self::Frame>) {
        for frame in frames.drain(..) {
            match frame.buffer {
                Buffer::Inline(bytes) if bytes.len() > FRAME_ROOM => self.room = Some(bytes),
                Buffer::Inline(bytes) => self.free.push(bytes),
                Buffer::Page(page) if self.out_of_line <= self.info.frame_bytes_max => self.keep_page(page),
                Buffer::Page(_) => {} // nothing is sent in pages
            }
        }
    }

    #[inline]
    fn ready(&mut self) -> bool {
        self.kept.is_empty() || self.send_kept()
    }

    #[inline]
    fn transmit<R>(&mut self, length: usize, build: impl FnOnce(&mut [u8]) -> (R, Built)) -> R {
        let mut buffer = self.buffer(length);
        let (result, built) = build(&mut buffer.bytes_mut()[..length]);
        let Built::Send(checksum) = built else {
            self.give_back(buffer);
            return result;
        };
        let sent = if self.ready() {
            self.send(buffer, length, checksum)
        } else {
            Err(Kept { buffer, length, checksum }) // behind the others
        };
        match sent {
            Ok(Some(bytes)) => self.scratch = bytes,
            Ok(None) => {}
            Err(kept) if self.kept.len() < KEPT_MAX => self.kept.push_back(kept),
            Err(kept) => {
                self.no_buffer += 1;
                self.give_back(kept.buffer);
            }
        }
        result
    }

    #[inline]
    fn flush(&mut self) {
        let _ = self.ready();
    }

    fn announce_idle(&mut self) {}

    fn clear_idle(&mut self) {}

    #[inline]
    fn has_frames(&mut self) -> bool {
        self.more
    }

    fn no_buffer(&self) -> u64 {
        self.no_buffer
    }

    fn lent(&self) -> (u32, u32) {
        (0, 0)
    }

    fn audit(&mut self) -> LinkAudit {
        LinkAudit::default()
    }
}

#[cfg(test)]
mod tests;
