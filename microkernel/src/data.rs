//! The data of messages: from the sender's memory into frames of the kernel's, and from there to the receiver, or with the frames
//! themselves from one address space into the other (Mach 3.0's out-of-line memory).
//!
//! The frames of a message are listed beside the table of messages ([`crate::port::Messages`]). They count for who pays for the
//! message, and in all, so that what lies in queues is bounded; whoever takes the message or drops it settles them.

use abi::Error;
use abi::counters::Counter;
use abi::message::{DATA_MAX, Data, Message};
use abi::vm::PAGE_BYTES;
use core::mem::offset_of;

use crate::kernel::Kernel;
use crate::machine::Machine;
use crate::port::{DATA_PAGES_IN_FLIGHT, DATA_PAGES_KEPT, DATA_PAGES_PER_TASK};
use crate::user;

/// What a sender says of its data, as checked as can be without a look at its memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    pub kind: Data,
    pub address: u64,
    pub length: u32,
}

impl Offer {
    /// Data in line of no bytes is none.
    ///
    /// # Errors
    /// [`Error::BadArgument`].
    #[inline]
    pub(crate) fn new(kind: u32, address: u64, length: u32) -> Result<Self, Error> {
        match Data::from_raw(kind) {
            Some(kind @ Data::None) if length == 0 => Ok(Self { kind, address: 0, length }),
            Some(Data::Inline) if length == 0 => Ok(Self { kind: Data::None, address: 0, length }),
            Some(kind @ Data::Inline) if length as usize <= DATA_MAX => Ok(Self { kind, address, length }),
            Some(kind @ Data::OutOfLine)
                if length > 0 && length as usize <= DATA_MAX && address.is_multiple_of(PAGE_BYTES) =>
            {
                Ok(Self { kind, address, length })
            }
            _ => Err(Error::BadArgument),
        }
    }

    fn pages(self) -> u64 {
        u64::from(self.length).div_ceil(PAGE_BYTES)
    }
}

/// Where a receiver finds data, and what undoes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivered {
    pub kind: Data,
    pub address: u64,
    pub length: u32,
}

impl Delivered {
    pub(crate) const NONE: Self = Self { kind: Data::None, address: 0, length: 0 };
}

impl<M: Machine> Kernel<M> {
    /// Is the memory that a task offers its own to send? For a sender that waits for room, so that it learns now.
    ///
    /// # Errors
    /// [`Error::BadAddress`]; [`Error::NoResources`]: a region would have to be divided and there is none free.
    #[cold]
    pub(crate) fn check_offer(&mut self, m: &M, task: u16, offer: Offer) -> Result<(), Error> {
        let Some(space) = self.tasks[usize::from(task)].space.as_ref() else { return Err(Error::Dead) };
        match offer.kind {
            Data::None => Ok(()),
            Data::Inline => user::check(m, &space.tables, offer.address, offer.length as usize, false),
            Data::OutOfLine => self.memory.check_detach(m, space, offer.address, offer.pages()),
        }
    }

    /// Copies data in line into frames that the message in `slot` has from then on. For data out of line only checks that
    /// [`Kernel::move_data`] cannot fail.
    ///
    /// # Errors
    /// [`Error::BadAddress`], [`Error::NoResources`]; the message has no data.
    #[inline(never)]
    pub(crate) fn load_data(&mut self, m: &mut M, task: u16, slot: u16, offer: Offer) -> Result<(), Error> {
        let pages = offer.pages();
        let free = match offer.kind {
            Data::Inline => self.memory.frames.free_count() as u64,
            _ => u64::MAX,
        };
        let payer = &self.tasks[usize::from(task)];
        let owed = u64::from(payer.data_pages);
        let kept = if payer.may_take_the_last(owed == 0) { 0 } else { DATA_PAGES_KEPT };
        let in_flight = u64::from(self.messages.pages_in_flight);
        if owed + pages > DATA_PAGES_PER_TASK.into()
            || in_flight + pages > (DATA_PAGES_IN_FLIGHT - kept).into()
            || pages > free
        {
            return Err(Error::NoResources);
        }
        if offer.kind == Data::OutOfLine {
            return self.check_offer(m, task, offer);
        }
        let length = offer.length as usize;
        let mut taken = 0;
        let copied = loop {
            if taken as u64 == pages {
                break Ok(());
            }
            let Some(frame) = self.memory.frames.allocate_kept() else { break Err(Error::NoResources) };
            self.messages.frames_mut(slot)[taken] = number(frame);
            taken += 1;
            let done = (taken - 1) * PAGE_BYTES as usize;
            let bytes = (length - done).min(PAGE_BYTES as usize);
            let tables = self.tasks[usize::from(task)].tables();
            if let Err(error) = user::copy_to_frame(m, tables, offer.address + done as u64, frame, bytes) {
                break Err(error);
            }
        };
        if let Err(error) = copied {
            for page in 0..taken {
                self.memory.frames.free(phys(self.messages.frames_mut(slot)[page]));
            }
            return Err(error);
        }
        self.owe_data(task, slot, Data::Inline, offer.length);
        self.count_copy(length);
        Ok(())
    }

    /// Takes the pages of data out of line, as checked by [`Kernel::load_data`], out of the sender's address space.
    #[inline(never)]
    pub(crate) fn move_data(&mut self, m: &mut M, task: u16, slot: u16, offer: Offer) {
        let Some(space) = self.tasks[usize::from(task)].space.as_mut() else { return };
        let frames = self.messages.frames_mut(slot);
        let mut taken = 0;
        let moved = self.memory.detach(m, space, offer.address, offer.pages(), |frame| {
            frames[taken] = number(frame);
            taken += 1;
        });
        debug_assert!(moved.is_ok() && taken as u64 == offer.pages(), "checked before");
        self.owe_data(task, slot, Data::OutOfLine, offer.length);
        self.counters[Counter::PagesMoved as usize] += offer.pages();
    }

    /// The message in `slot` has data now, which counts for a task.
    fn owe_data(&mut self, task: u16, slot: u16, kind: Data, length: u32) {
        let message = self.messages.get_mut(slot);
        (message.data_kind, message.data_length) = (kind, length);
        let pages = message.data_pages();
        self.messages.pages_in_flight += pages;
        self.tasks[usize::from(task)].data_pages += pages;
    }

    /// Gives the data of a message to a task: copies it to where `buffer`, a message in its memory, says that there is room, or maps
    /// its pages. The message keeps its frames until [`Kernel::settle_data`].
    ///
    /// # Errors
    /// [`Error::TooLong`], [`Error::BadAddress`], [`Error::NoResources`]; the message is as it was.
    #[inline(never)]
    pub(crate) fn hand_over_data(
        &mut self,
        m: &mut M,
        task: u16,
        slot: u16,
        buffer: u64,
    ) -> Result<Delivered, Error> {
        let message = self.messages.get(slot);
        let (kind, length) = (message.data_kind, message.data_length);
        let Some(space) = self.tasks[usize::from(task)].space.as_mut() else { return Err(Error::Dead) };
        let frames = self.messages.frames(slot);
        if kind == Data::OutOfLine {
            let address = self.memory.attach(m, space, frames.iter().map(|&frame| phys(frame)))?;
            return Ok(Delivered { kind, address, length });
        }
        let mut room = [0; 12];
        user::copy_in(m, &space.tables, buffer + offset_of!(Message, data_address) as u64, &mut room)?;
        let [a, b, c, d, e, f, g, h, size @ ..] = room;
        let address = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        if u32::from_le_bytes(size) < length {
            return Err(Error::TooLong);
        }
        for (page, &frame) in frames.iter().enumerate() {
            let done = page * PAGE_BYTES as usize;
            let bytes = (length as usize - done).min(PAGE_BYTES as usize);
            let at = address.checked_add(done as u64).ok_or(Error::BadAddress)?;
            user::copy_from_frame(m, &space.tables, at, phys(frame), bytes)?;
        }
        self.count_copy(length as usize);
        Ok(Delivered { kind, address, length })
    }

    /// Undoes [`Kernel::hand_over_data`]: the message is not received after all.
    #[cold]
    pub(crate) fn take_back_data(&mut self, m: &mut M, task: u16, delivered: Delivered) {
        if delivered.kind == Data::OutOfLine
            && let Some(space) = self.tasks[usize::from(task)].space.as_mut()
        {
            let pages = u64::from(delivered.length).div_ceil(PAGE_BYTES);
            let taken = self.memory.detach(m, space, delivered.address, pages, |_| {});
            debug_assert!(taken.is_ok(), "just mapped, as a region of its own");
        }
    }

    /// The message has no data any more: its frames are free, or the receiver's.
    pub(crate) fn settle_data(&mut self, slot: u16, received: bool) {
        let message = self.messages.get(slot);
        let (pages, kind, (task, id)) = (message.data_pages(), message.data_kind, message.payer);
        if kind == Data::None {
            return;
        }
        if !(received && kind == Data::OutOfLine) {
            for &frame in self.messages.frames(slot) {
                self.memory.frames.free(phys(frame));
            }
        }
        let message = self.messages.get_mut(slot);
        (message.data_kind, message.data_length) = (Data::None, 0);
        if id == 0 {
            return; // a frame, which counts as one
        }
        self.messages.pages_in_flight -= pages;
        if self.tasks[usize::from(task)].id == id {
            self.tasks[usize::from(task)].data_pages -= pages;
        }
    }

    /// Counts a copy of data, whoever it is for.
    #[inline]
    pub(crate) fn count_copy(&mut self, bytes: usize) {
        self.counters[Counter::Copies as usize] += 1;
        self.counters[Counter::CopiedBytes as usize] += bytes as u64;
    }
}

/// A frame as the list of a message's frames has it.
#[inline]
pub(crate) const fn number(phys: u64) -> u32 {
    (phys / PAGE_BYTES) as u32
}

/// The physical address of a frame in that list.
#[inline]
pub(crate) const fn phys(number: u32) -> u64 {
    number as u64 * PAGE_BYTES
}
