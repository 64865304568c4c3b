//! Threads: what each waits for. Their registers are the machine's business ([`crate::machine`]).

use abi::thread::PRIORITY_MAX;

use crate::list::{Link, Linked};

/// Threads of all tasks, at most.
pub const THREADS: usize = 128;
/// Timer ticks, of a millisecond each, that a thread runs before an equal gets its turn.
pub const QUANTUM_TICKS: u8 = 10;

/// What a thread is doing: its continuation, if it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The slot is free.
    Free,
    /// Waits for the processor.
    Ready,
    /// Has it.
    Running,
    /// Waits to be resumed.
    Suspended,
    /// Waits for a message.
    Receiving {
        /// From this port or set.
        port: u16,
        /// To be copied here.
        buffer: u64,
    },
    /// Waits for room in a queue.
    Sending {
        /// Of this port.
        port: u16,
        /// For the message here, which is read when there is room.
        message: u64,
    },
    /// Waits for console input.
    Console {
        /// To be copied here.
        buffer: u64,
        /// At most so many bytes.
        length: u64,
    },
}

/// A thread.
#[derive(Clone, Copy, Debug)]
pub struct Thread {
    /// What it is doing.
    pub state: State,
    /// Its task.
    pub task: u16,
    /// Its port.
    pub port: u16,
    /// 0 to [`PRIORITY_MAX`].
    pub priority: u8,
    /// Ticks left of its quantum.
    pub ticks_left: u8,
    /// What came while it was not suspended: bits of [`abi::thread`]. The count of resumes needs no more than a bit, since a
    /// suspend takes all of it.
    pub pending: u32,
    /// When its wait ends at the latest, in nanoseconds since boot.
    pub deadline: u64,
    /// Its wait is the second half of a [`abi::syscall::Syscall::MessageCall`].
    pub calls: bool,
    /// Its place in a queue.
    pub link: Link,
}

impl Thread {
    /// A free slot.
    pub const FREE: Self = Self {
        state: State::Free,
        task: 0,
        port: 0,
        priority: 0,
        ticks_left: 0,
        pending: 0,
        deadline: u64::MAX,
        calls: false,
        link: Link::NONE,
    };
}

impl Linked for Thread {
    fn link(&self) -> &Link {
        &self.link
    }
    fn link_mut(&mut self) -> &mut Link {
        &mut self.link
    }
}

/// A priority as a task gave it.
///
/// # Errors
/// [`abi::Error::BadArgument`]: there is none that high.
pub fn priority(raw: u64) -> Result<u8, abi::Error> {
    if raw <= PRIORITY_MAX { Ok(raw as u8) } else { Err(abi::Error::BadArgument) }
}
