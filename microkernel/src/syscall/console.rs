//! The console, and the machine's end.

use abi::syscall::CONSOLE_WRITE_MAX;
use abi::{Error, exit};

use super::Answer;
use crate::kernel::Kernel;
use crate::machine::{Machine, Outcome};
use crate::names::Right;
use crate::thread::State;
use crate::user;

/// Bytes copied at once, on the kernel's stack.
const PIECE_BYTES: usize = 256;

impl<M: Machine> Kernel<M> {
    pub(super) fn console_write(&mut self, m: &mut M, address: u64, length: u64) -> Answer {
        if length > CONSOLE_WRITE_MAX as u64 {
            return Err(Error::BadArgument);
        }
        let space = self.tasks[usize::from(self.current_task)].tables();
        user::check(m, space, address, length as usize, false)?;
        let mut piece = [0; PIECE_BYTES];
        let mut done = 0;
        while done < length {
            let bytes = (length - done).min(PIECE_BYTES as u64) as usize;
            user::copy_in(m, space, address + done, &mut piece[..bytes])?;
            m.console_write(&piece[..bytes]);
            done += bytes as u64;
        }
        Ok(Outcome::ok(0))
    }

    pub(super) fn console_read(
        &mut self,
        m: &mut M,
        thread: u16,
        address: u64,
        length: u64,
        limit: u64,
    ) -> Answer {
        let length = length.min(PIECE_BYTES as u64);
        if length == 0 {
            return Err(Error::BadArgument);
        }
        user::check(m, self.tasks[usize::from(self.current_task)].tables(), address, length as usize, true)?;
        // Who came first is served first.
        if self.typists.is_empty() {
            let bytes = self.console_take(m, self.current_task, address, length)?;
            if bytes > 0 {
                return Ok(Outcome::ok(bytes));
            }
        }
        if limit == 0 {
            return Err(Error::WouldBlock);
        }
        let deadline = self.deadline(m, limit);
        self.block(thread, State::Console { buffer: address, length }, deadline);
        self.typists.push_back(&mut self.threads, thread);
        Ok(Outcome::SWITCHED)
    }

    /// Copies what was typed to a task; the number of bytes, 0 if nothing was.
    ///
    /// # Errors
    /// [`Error::BadAddress`]: the buffer is gone; nothing of the input is.
    pub(crate) fn console_take(&self, m: &mut M, task: u16, address: u64, length: u64) -> Result<u64, Error> {
        let space = self.tasks[usize::from(task)].tables();
        user::check(m, space, address, length as usize, true)?;
        let mut piece = [0; PIECE_BYTES];
        let mut bytes = 0;
        while bytes < length as usize
            && let Some(byte) = m.console_read()
        {
            piece[bytes] = byte;
            bytes += 1;
        }
        user::copy_out(m, space, address, &piece[..bytes])?;
        Ok(bytes as u64)
    }

    pub(super) fn power_off(&mut self, m: &mut M, task: u16, code: u64) -> Answer {
        if !self.tasks[usize::from(task)].names.holds(Right::Send(self.host_port)) {
            return Err(Error::Denied);
        }
        if code != u64::from(exit::OFF) {
            return Err(Error::BadArgument);
        }
        m.power_off(exit::OFF);
        Ok(Outcome::ok(0))
    }
}
