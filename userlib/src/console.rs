//! The console: output that goes out by lines, and lines of input with a little editing.
#![expect(unsafe_code, reason = "system calls")]

use core::{fmt, time::Duration};

use abi::{
    Error,
    syscall::{CONSOLE_WRITE_MAX, Syscall},
};

use crate::{raw, sync::Lock, time::limit_ns};

/// Output gathers here until a line ends or it is full: a line up to the longest write of one call is never torn by another task's.
const BUFFER_BYTES: usize = CONSOLE_WRITE_MAX;

static OUTPUT: Lock<Output> = Lock::new(Output { bytes: [0; BUFFER_BYTES], used: 0 });

struct Output {
    bytes: [u8; BUFFER_BYTES],
    used: usize,
}

impl Output {
    fn push(&mut self, text: &str) {
        for &byte in text.as_bytes() {
            self.bytes[self.used] = byte;
            self.used += 1;
            if byte == b'\n' || self.used == BUFFER_BYTES {
                self.flush();
            }
        }
    }

    fn flush(&mut self) {
        if self.used != 0 {
            write_bytes(&self.bytes[..self.used]);
            self.used = 0;
        }
    }
}

impl fmt::Write for Output {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text);
        Ok(())
    }
}

/// Writes at once, past the buffer. There is nobody to tell of an error.
pub fn write_bytes(bytes: &[u8]) {
    for part in bytes.chunks(CONSOLE_WRITE_MAX) {
        // SAFETY: the kernel reads bytes that we have borrowed.
        let _ = unsafe { raw::call(Syscall::ConsoleWrite, [part.as_ptr() as u64, part.len() as u64]) };
    }
}

/// What `print!` calls.
pub fn print(text: fmt::Arguments<'_>) {
    let _ = fmt::Write::write_fmt(&mut *OUTPUT.lock(), text);
}

/// What `println!` calls.
pub fn print_line(text: fmt::Arguments<'_>) {
    let mut output = OUTPUT.lock();
    let _ = fmt::Write::write_fmt(&mut *output, text);
    output.push("\n");
}

/// Writes out what has gathered: for a prompt, and before the task ends.
pub fn flush() {
    OUTPUT.lock().flush();
}

/// Prints to the console.
#[macro_export]
macro_rules! print {
    ($($part:tt)*) => { $crate::console::print(::core::format_args!($($part)*)) };
}

/// Prints a line to the console.
#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($($part:tt)*) => { $crate::console::print_line(::core::format_args!($($part)*)) };
}

/// Reads what was typed, blocking until there is at least one byte or `limit` passes.
///
/// # Errors
/// [`Error::TimedOut`]; [`Error::WouldBlock`] with a limit of zero and nothing there.
pub fn read(buffer: &mut [u8], limit: Option<Duration>) -> Result<usize, Error> {
    // SAFETY: the kernel writes into bytes that we have borrowed exclusively.
    let read = unsafe {
        raw::call(Syscall::ConsoleRead, [buffer.as_mut_ptr() as u64, buffer.len() as u64, limit_ns(limit)])
    }?;
    Ok((read as usize).min(buffer.len()))
}
