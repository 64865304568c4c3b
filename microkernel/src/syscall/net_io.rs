//! The network device on the path by message: packet filters, and frames to send.

use abi::Error;
use abi::counters::Counter;
use abi::filter::{COPY_ALL, PRIORITY_MAX, WORDS_MAX};
use abi::thread::PRIORITY_APPLICATION;
use abi::vm::PAGE_BYTES;
use netdev_driver::filter::Program;
use netdev_driver::nic::TxChecksum;

use super::{Answer, name};
use crate::kernel::Kernel;
use crate::machine::{Machine, NetDevice, Outcome};
use crate::names::Right;
use crate::port::Kind;
use crate::user;

/// Where the device is to fill in a checksum, as a task gave it.
fn checksum(raw: u64) -> Result<Option<TxChecksum>, Error> {
    let raw = u32::try_from(raw).map_err(|_| Error::BadArgument)?;
    Ok((raw != 0).then_some(TxChecksum { start: raw as u16, offset: (raw >> 16) as u16 }))
}

/// The length of a frame, as a task gave it. What is longer than a page no device sends; the driver knows the rest.
fn frame_length(raw: u64) -> Result<usize, Error> {
    if raw <= PAGE_BYTES { Ok(raw as usize) } else { Err(Error::TooLong) }
}

impl<M: Machine> Kernel<M> {
    /// The opener that the running task is by this name for the device.
    #[inline]
    pub(super) fn net_io_named(&self, raw: u64) -> Result<u8, Error> {
        let Right::Send(port) = self.tasks[usize::from(self.current_task)].names.get(name(raw)?)? else {
            return Err(Error::BadRight);
        };
        match self.ports.kind(port) {
            Kind::NetIo(opener) => match &self.net_io.openers[usize::from(opener)] {
                Some(it) if it.task == self.current_task => Ok(opener),
                _ => Err(Error::Denied),
            },
            Kind::Device(_) => Err(Error::BadCall),
            Kind::Dead => Err(Error::Dead),
            _ => Err(Error::BadRight),
        }
    }

    pub(super) fn device_set_filter(&mut self, m: &mut M, args: &[u64; 6]) -> Answer {
        let [device, port, priority, program, words, _] = *args;
        let opener = self.net_io_named(device)?;
        let task = &self.tasks[usize::from(self.current_task)];
        let Right::Receive(port) = task.names.get(name(port)?)? else { return Err(Error::BadRight) };
        if words == 0 {
            return if self.remove_filter(port) { Ok(Outcome::ok(0)) } else { Err(Error::NotFound) };
        }
        if words > WORDS_MAX as u64 || priority & !COPY_ALL > PRIORITY_MAX {
            return Err(Error::BadArgument);
        }
        let mut bytes = [0; 2 * WORDS_MAX];
        let bytes = &mut bytes[..2 * words as usize];
        user::copy_in(m, task.tables(), program, bytes)?;
        let mut text = [0; WORDS_MAX];
        for (word, pair) in text.iter_mut().zip(bytes.chunks_exact(2)) {
            *word = u16::from_le_bytes([pair[0], pair[1]]);
        }
        let program = Program::validate(&text[..words as usize]).map_err(|_| Error::BadArgument)?;
        // An application can listen, but takes nothing away from those behind.
        let copy_all = priority & COPY_ALL != 0 || u64::from(task.ceiling) <= PRIORITY_APPLICATION;
        self.set_filter(opener, port, (priority as u8, copy_all), &program)?;
        Ok(Outcome::ok(0))
    }

    pub(super) fn device_write(
        &mut self,
        m: &mut M,
        device: u64,
        buffer: u64,
        length: u64,
        raw: u64,
    ) -> Answer {
        self.net_io_named(device)?;
        let (length, checksum) = (frame_length(length)?, checksum(raw)?);
        let tables = self.tasks[usize::from(self.current_task)].tables();
        let (pieces, count) = user::locate(m, tables, buffer, length)?;
        let Some(net) = m.net() else { return Err(Error::Dead) };
        net.write(&pieces[..count], checksum)?;
        self.count_copy(length);
        Ok(Outcome::ok(0))
    }

    pub(super) fn device_write_page(
        &mut self,
        m: &mut M,
        device: u64,
        buffer: u64,
        length: u64,
        raw: u64,
    ) -> Answer {
        self.net_io_named(device)?;
        let (length, checksum) = (frame_length(length)?, checksum(raw)?);
        if !buffer.is_multiple_of(PAGE_BYTES) {
            return Err(Error::BadArgument);
        }
        // What has been sent makes room.
        self.reclaim_sent_pages(m);
        let Some(space) = self.tasks[usize::from(self.current_task)].space.as_mut() else {
            return Err(Error::Dead);
        };
        self.memory.check_detach(m, space, buffer, 1)?;
        let page = m.translate(&space.tables, buffer, true).ok_or(Error::BadAddress)?;
        let Some(net) = m.net() else { return Err(Error::Dead) };
        net.write_page(page, length, checksum)?;
        let taken = self.memory.detach(m, space, buffer, 1, |_| {});
        debug_assert!(taken.is_ok(), "checked before");
        self.count(Counter::PagesMoved);
        Ok(Outcome::ok(0))
    }
}
