//! The network device on the path by message, in the manner of Mach 3.0: several tasks have it open, each sets packet filters for
//! ports of its own, and each frame that a filter wants comes to the filter's port as a message with a copy of the frame.
//!
//! Every opener has an allotment of messages and of filters, so that none can take what others need: not a task that sets many
//! filters, nor one that does not receive what it asked for. What finds no room in it is dropped and counted. These messages and
//! their frames are beside those of tasks; [`crate::port::MESSAGES`] is left to them.
//!
//! Sources: Mogul, Rashid and Accetta, "The Packet Filter" (1987), on priorities and on several filters that want one frame; Golub et
//! al., "Unix as an Application Program" (1990).

use abi::Error;
use abi::counters::Counter;
use abi::message::{Data, NET_FRAME, frame};
use abi::vm::PAGE_BYTES;
use netdev_driver::filter::{FilterTable, Program};

use crate::data::number;
use crate::hold::Hold;
use crate::kernel::Kernel;
use crate::machine::{Machine, NetDevice};
use crate::names::Right;
use crate::port::Kind;

/// Tasks that can have the device open at once, counted by opens.
pub const OPENERS: usize = 6;
/// Frames that wait to be received in the ports of one opener, at most: half of what a receive ring holds.
pub const FRAMES_PER_OPENER: u16 = 128;
/// Frames that wait to be received, at most.
pub const FRAMES_QUEUED: usize = OPENERS * FRAMES_PER_OPENER as usize;
/// Filters of one opener, at most.
pub const FILTERS_PER_OPENER: usize = 8;
/// Frames of at least so many bytes go out of line, if the command line does not say: none are that long.
pub const OUT_OF_LINE: u32 = PAGE_BYTES as u32;

/// Who has the device open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opener {
    /// The task.
    pub task: u16,
    /// The port by which it names the device.
    pub port: u16,
    /// The thread to be resumed when the transmit ring was full and has room again.
    pub thread: Option<u16>,
}

/// The openers of the device and their filters.
pub(crate) struct NetIo {
    pub openers: [Option<Opener>; OPENERS],
    /// For whom the place of an opener that has ended is kept.
    pub holds: [Option<Hold>; OPENERS],
    /// Frames queued that count for each opener, or for the one that had its place before.
    pub queued: [u16; OPENERS],
    /// By port.
    pub filters: FilterTable<u16, { OPENERS * FILTERS_PER_OPENER }>,
    /// Frames of at least so many bytes go out of line.
    pub out_of_line: u32,
}

impl NetIo {
    pub(crate) const fn new() -> Self {
        Self {
            openers: [None; OPENERS],
            holds: [None; OPENERS],
            queued: [0; OPENERS],
            filters: FilterTable::new(),
            out_of_line: OUT_OF_LINE,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.openers.iter().any(Option::is_some)
    }
}

/// Zeroes, for what is behind a frame in a page that a task gets.
static ZEROES: [u8; PAGE_BYTES as usize] = [0; PAGE_BYTES as usize];

impl<M: Machine> Kernel<M> {
    /// How many have the device open on the path by message.
    #[must_use]
    pub fn net_openers(&self) -> usize {
        self.net_io.openers.iter().flatten().count()
    }

    /// Opens the device for one task more; the task's name for it.
    ///
    /// # Errors
    /// [`Error::NoResources`].
    pub(crate) fn open_net_io(&mut self, m: &mut M, task: u16) -> Result<u32, Error> {
        let (openers, holds) = (&self.net_io.openers, &self.net_io.holds);
        let is_free = |&at: &usize| openers[at].is_none() && !self.is_kept_from(m, holds[at], task);
        // One that is kept for this task, if there is: the others stay for others.
        let own = (0..OPENERS).filter(is_free).find(|&at| self.is_kept_for(holds[at], task));
        let free = own.or_else(|| (0..OPENERS).find(is_free)).ok_or(Error::NoResources)?;
        if !self.tasks[usize::from(task)].names.has_room(1) {
            return Err(Error::NoResources);
        }
        let first = !self.net_io.is_open();
        let port = self.ports.allocate(Kind::NetIo(free as u8))?;
        if first {
            let opened = m.net().map_or(Err(Error::Dead), |net| net.open(0));
            if let Err(error) = opened {
                self.kill_port(m, port, 0);
                return Err(error);
            }
            self.note_deliveries(m);
        }
        self.net_io.openers[free] = Some(Opener { task, port, thread: None });
        self.net_io.holds[free] = None;
        self.ports.get_mut(port).references += 1;
        self.insert_right(task, Right::Send(port))
    }

    /// Ends an opener's use of the device: with its filters, and the last one's with the device's.
    pub(crate) fn close_net_io(&mut self, m: &mut M, opener: u8) {
        let Some(Opener { port, .. }) = self.net_io.openers[usize::from(opener)].take() else { return };
        for port in 0..self.ports.table.len() {
            if self.ports.table[port].filter == Some(opener) {
                self.ports.table[port].filter = None;
                self.net_io.filters.remove(port as u16);
            }
        }
        if !self.net_io.is_open()
            && let Some(net) = m.net()
        {
            net.close(0);
        }
        self.reclaim_sent_pages(m);
        self.kill_port(m, port, 0);
    }

    /// A task ends: what it has opened is closed, whoever else has a right to it.
    pub(crate) fn close_net_io_of(&mut self, m: &mut M, task: u16, hold: Option<Hold>) {
        for opener in 0..OPENERS {
            if self.net_io.openers[opener].is_some_and(|it| it.task == task) {
                self.close_net_io(m, opener as u8);
                self.net_io.holds[opener] = hold;
            }
        }
    }

    /// Sets the filter of a port, in the place of the one that it had.
    ///
    /// # Errors
    /// [`Error::NoResources`]: the opener has as many as it may have.
    pub(crate) fn set_filter(
        &mut self,
        opener: u8,
        port: u16,
        (priority, copy_all): (u8, bool),
        program: &Program,
    ) -> Result<(), Error> {
        let others = self.ports.table.iter().enumerate();
        let others = others.filter(|&(index, it)| it.filter == Some(opener) && index != usize::from(port));
        if others.count() >= FILTERS_PER_OPENER {
            return Err(Error::NoResources);
        }
        self.net_io.filters.set(port, priority, copy_all, program).map_err(|_| Error::NoResources)?;
        self.ports.get_mut(port).filter = Some(opener);
        Ok(())
    }

    /// Takes a port's filter away; false if it had none.
    pub(crate) fn remove_filter(&mut self, port: u16) -> bool {
        self.ports.get_mut(port).filter = None;
        self.net_io.filters.remove(port)
    }

    /// Shows a frame that the device received to the filters, and queues a copy at the port of each that wants it: the first that does,
    /// in the order of their priorities, and those behind it as long as each says that others may have it too. After the last
    /// frame of a burst: [`Kernel::net_polled`].
    ///
    /// # Errors
    /// Why it went to nobody, for the driver to count.
    #[inline]
    pub fn net_frame(&mut self, m: &mut M, bytes: &[u8], checksum_good: bool) -> Result<(), Counter> {
        let mut came = Err(Counter::DropNoFilter);
        let mut next = 0;
        while let Some(wanted) = self.net_io.filters.next_match(next, bytes) {
            next = wanted.next;
            if self.queue_frame(m, wanted.owner, bytes, checksum_good) {
                came = Ok(());
                self.count(Counter::NetMessages);
            } else {
                came = came.or(Err(Counter::DropPortFull));
                self.count(Counter::NetMessagesShed);
            }
        }
        came
    }

    /// Queues a copy of a frame at a port that has a filter; false if there is no room.
    fn queue_frame(&mut self, m: &mut M, port: u16, bytes: &[u8], checksum_good: bool) -> bool {
        let Some(opener) = self.ports.get(port).filter else { return false };
        let queued = self.net_io.queued[usize::from(opener)];
        if queued >= FRAMES_PER_OPENER || bytes.len() > PAGE_BYTES as usize {
            return false;
        }
        let Some(page) = self.memory.frames.allocate_kept() else { return false };
        let Ok(slot) = self.messages.allocate() else {
            self.memory.frames.free(page);
            return false;
        };
        m.copy_to_phys(page, bytes);
        let length = bytes.len() as u32;
        let out_of_line = length >= self.net_io.out_of_line;
        if out_of_line {
            // The receiver gets the whole page.
            m.copy_to_phys(page + u64::from(length), &ZEROES[bytes.len()..]);
        }
        self.messages.frames_mut(slot)[0] = number(page);
        let message = self.messages.get_mut(slot);
        message.payer = (opener.into(), 0);
        (message.id, message.sender, message.length) = (NET_FRAME, 0, 4);
        (message.reply, message.carried) = (Right::None, Right::None);
        message.data_kind = if out_of_line { Data::OutOfLine } else { Data::Inline };
        message.data_length = length;
        let known = if checksum_good { frame::CHECKSUM_GOOD } else { 0 };
        message.body[..4].copy_from_slice(&known.to_le_bytes());
        self.net_io.queued[usize::from(opener)] = queued + 1;
        self.count(Counter::Messages);
        self.count_copy(bytes.len());
        self.enqueue(m, port, slot);
        true
    }

    /// The driver has been asked for what there is, after an interrupt or a tick: whoever got a frame and has a higher priority runs at
    /// once. `room`: the transmit ring was full, and has room again.
    pub fn net_polled(&mut self, m: &mut M, room: bool) {
        self.reclaim_sent_pages(m);
        if room {
            for opener in 0..OPENERS {
                if let Some(Opener { thread: Some(thread), .. }) = self.net_io.openers[opener] {
                    self.post(m, thread, abi::thread::WAKE_RESUMED as u32);
                }
            }
        }
        self.preempt_for_any();
    }

    /// Takes back the pages that have been sent from where they were.
    #[inline]
    pub(crate) fn reclaim_sent_pages(&mut self, m: &mut M) {
        let Some(net) = m.net() else { return };
        while let Some(page) = net.take_sent() {
            self.memory.frames.free(page);
        }
    }
}
