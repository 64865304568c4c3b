//! Threads and tasks as seen from outside.

use crate::syscall::NAME_MAX;

/// A thread was resumed, at least once, since its last suspend returned.
pub const WAKE_RESUMED: u64 = 1;
/// A message waits on a port or set bound to the thread ([`crate::syscall::Syscall::PortBindThread`]).
pub const WAKE_MESSAGE: u64 = 2;
/// The limit passed and nothing else happened.
pub const WAKE_TIMEOUT: u64 = 4;

/// Priorities run from 0, the lowest, to this, the highest. A higher one always runs first; equals take turns.
pub const PRIORITY_MAX: u64 = 7;
/// What applications run at.
pub const PRIORITY_APPLICATION: u64 = 3;
/// What servers run at.
pub const PRIORITY_SERVER: u64 = 5;

/// The top of the first thread's stack: it grows down from here, and its size is [`STACK_BYTES`].
pub const STACK_TOP: u64 = 0x1006_0000;
/// The size of the first thread's stack, in bytes. The page below it is never mapped.
pub const STACK_BYTES: u64 = 256 * 1024;

/// The exit status of a task that another ended. A program's own statuses are below [`STATUS_KILLED`].
pub const STATUS_KILLED: u32 = 0xffff_fff0;
/// The exit status of a task that a fault ended; the report is on the console.
pub const STATUS_FAULT: u32 = 0xffff_fff1;
/// The exit status of a task that wrote what cannot be into a device's window.
pub const STATUS_WINDOW: u32 = 0xffff_fff2;

/// A row of `ps`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct TaskInfo {
    /// The task's number: unique since boot.
    pub id: u64,
    /// Its threads.
    pub threads: u32,
    /// Its highest priority.
    pub priority: u32,
    /// Pages of memory mapped for it alone.
    pub pages: u64,
    /// The processor time that it took, in nanoseconds.
    pub cpu_ns: u64,
    /// Port names in use.
    pub names: u32,
    /// Bytes of `name` in use.
    pub name_length: u32,
    /// The program's name.
    pub name: [u8; NAME_MAX],
}
