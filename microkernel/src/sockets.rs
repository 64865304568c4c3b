//! The stack in the kernel, as system calls see it: the monolithic path ([`abi::path::Path::Monolithic`]).
//!
//! The calls check what a task says and find its memory, [`Sockets`] does the rest behind the seam, as [`crate::machine::NetDevice`]
//! does for drivers. Like the rest of the kernel it never blocks: a task that waits does so on its socket's page, and is resumed
//! ([`Wakes`]).
//!
//! A page that stack and task share is memory of the stack's. It becomes a memory object when a task gets a right to it, and the stack hears
//! when the last right and mapping are gone.

use abi::message::Message;
use abi::socket::{Endpoint, Record};
use abi::vm::PAGE_BYTES;
use abi::{Error, socket};
use core::ops::Range;

use crate::frames::PHYSICAL_END;
use crate::kernel::Kernel;
use crate::machine::Machine;
use crate::space::is_user_range;
use crate::thread::THREADS;

/// The bytes of one read or write, at most; a longer one is done in part.
pub const TRANSFER_MAX: usize = 65_536;
/// Pieces of the longest, wherever it begins.
const PIECES: usize = TRANSFER_MAX / PAGE_BYTES as usize + 1;

/// Memory of the stack's that a task is to map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shared {
    /// Its physical address, a multiple of a page; it is contiguous.
    pub base: u64,
    /// How many pages.
    pub pages: u64,
    /// Also for writing?
    pub write: bool,
}

/// The stack in the kernel. The default is that there is none.
///
/// Tasks are named by their number, threads by theirs, sockets as in [`abi::socket`].
pub trait Sockets {
    /// Whether it is here.
    fn is_here(&self) -> bool {
        false
    }

    /// Does what a request asks ([`socket::Request`]); the reply. `sender` is the task, and `carried` the thread's number and one
    /// more, or 0. The reply's `carried` is 0 or a name for [`shared`](Self::shared), which is the caller's to
    /// [give back](Self::give_back).
    ///
    /// # Errors
    /// [`Error::BadCall`]: there is no stack here, or no such request.
    fn request(&mut self, _request: &Message) -> Result<Message, Error> {
        Err(Error::BadCall)
    }

    /// The memory that a reply named.
    fn shared(&self, _name: u32) -> Option<Shared> {
        None
    }

    /// Bytes that it has taken of its heap.
    fn heap_bytes(&self) -> u64 {
        0
    }

    /// Nobody but the stack has memory by that name any more.
    fn give_back(&mut self, _name: u32) {}

    /// Puts bytes into a stream, or one datagram for `peer`; how many, 0 if there is no room now.
    ///
    /// # Errors
    /// What [`abi::syscall::Syscall::SocketWrite`] says.
    fn write(
        &mut self,
        _task: u32,
        _socket: u32,
        _from: &Pieces,
        _peer: Option<&Endpoint>,
    ) -> Result<usize, Error> {
        Err(Error::BadCall)
    }

    /// Takes bytes of a stream; how many, 0 if there are none now.
    ///
    /// # Errors
    /// What [`abi::syscall::Syscall::SocketRead`] says.
    fn read(&mut self, _task: u32, _socket: u32, _into: &Pieces) -> Result<usize, Error> {
        Err(Error::BadCall)
    }

    /// Takes one datagram: its head, and how many bytes of it were copied. `None`: there is none now.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    fn read_record(
        &mut self,
        _task: u32,
        _socket: u32,
        _into: &Pieces,
    ) -> Result<Option<(Record, usize)>, Error> {
        Err(Error::BadCall)
    }

    /// A thread has ended: what waits for it is over.
    fn thread_died(&mut self, _thread: u16) {}

    /// The threads that are to be resumed; from now on none are.
    fn take_wakes(&mut self) -> Wakes {
        Wakes::default()
    }
}

/// Threads to be resumed, a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wakes([u64; THREADS.div_ceil(64)]);

impl Wakes {
    /// Adds a thread; one that cannot be is none.
    #[inline]
    pub const fn add(&mut self, thread: u16) {
        let thread = thread as usize;
        if thread < THREADS {
            self.0[thread / 64] |= 1 << (thread % 64);
        }
    }

    /// Whether there are any.
    #[inline]
    #[must_use]
    pub const fn any(&self) -> bool {
        let mut at = 0;
        while at < self.0.len() {
            if self.0[at] != 0 {
                return true;
            }
            at += 1;
        }
        false
    }

    /// Takes one of them out.
    #[inline]
    pub fn take(&mut self) -> Option<u16> {
        for (at, word) in self.0.iter_mut().enumerate() {
            if *word != 0 {
                let bit = word.trailing_zeros();
                *word &= *word - 1;
                return Some((64 * at as u32 + bit) as u16);
            }
        }
        None
    }
}

/// A range of a task's memory as the frames that it lies in: checked, and good until the task runs again.
pub struct Pieces {
    /// The frames' numbers. Small, since all of it is cleared for each call.
    frames: [u32; PIECES],
    /// Where the range begins in the first of them.
    offset: usize,
    bytes: usize,
}

impl Pieces {
    /// The frames of `length` bytes at `address`, at most [`TRANSFER_MAX`] of them, to be read or written.
    ///
    /// # Errors
    /// [`Error::BadAddress`]: not all of them are the task's to read, or to write.
    #[inline]
    pub fn new<M: Machine>(
        m: &M,
        space: &M::Space,
        address: u64,
        length: usize,
        write: bool,
    ) -> Result<Self, Error> {
        let bytes = length.min(TRANSFER_MAX);
        let offset = (address % PAGE_BYTES) as usize;
        let mut it = Self { frames: [0; PIECES], offset, bytes };
        // Nothing is nowhere: an empty slice has no address.
        if bytes == 0 {
            return Ok(it);
        }
        if !is_user_range(address, bytes as u64) {
            return Err(Error::BadAddress);
        }
        let first = address - address % PAGE_BYTES;
        for (number, frame) in it.frames.iter_mut().enumerate().take((offset + bytes).div_ceil(PAGE)) {
            let phys = m.translate(space, first + number as u64 * PAGE_BYTES, write);
            *frame = (phys.ok_or(Error::BadAddress)? / PAGE_BYTES) as u32;
        }
        Ok(it)
    }

    /// How many bytes they are together.
    #[inline]
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Calls `with` for each part of a range of the bytes: a physical address, and which bytes of the range lie there. None crosses a frame.
    #[inline(always)]
    pub fn each(&self, range: Range<usize>, mut with: impl FnMut(u64, Range<usize>)) {
        debug_assert!(range.end <= self.bytes);
        let (mut at, mut done, length) = (self.offset + range.start, 0, range.len());
        while done < length {
            let here = (PAGE - at % PAGE).min(length - done);
            let Some(&frame) = self.frames.get(at / PAGE) else { return };
            with(u64::from(frame) * PAGE_BYTES + (at % PAGE) as u64, done..done + here);
            (at, done) = (at + here, done + here);
        }
    }
}

const PAGE: usize = PAGE_BYTES as usize;
// A frame's number fits.
const _: () = assert!(PHYSICAL_END / PAGE_BYTES <= 1 << 32);

impl<M: Machine> Kernel<M> {
    /// Resumes all that the stack wants resumed; `interrupted`: at once, if their priority is higher.
    #[inline]
    pub(crate) fn resume_socket_threads(&mut self, m: &mut M, interrupted: bool) {
        let Some(net) = m.net() else { return };
        let mut wakes = net.take_wakes();
        while let Some(thread) = wakes.take() {
            self.post(m, thread, abi::thread::WAKE_RESUMED as u32);
            if interrupted {
                self.preempt_for(thread);
            }
        }
    }
}

const _: () = assert!(socket::RECORD_BYTES < PAGE_BYTES as usize);
