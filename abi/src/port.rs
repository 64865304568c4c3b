//! Port names: small numbers, each task's own, for the rights that it holds.

/// No port: what an unused field holds.
pub const NULL: u32 = 0;
/// The calling task, as a name that every task has.
pub const TASK_SELF: u32 = 1;
/// The first thread of the calling task, as a name that every task has.
pub const THREAD_SELF: u32 = 2;
/// A send right to the port that the task's maker gave it: the name service.
pub const BOOTSTRAP: u32 = 3;
/// The right to end the machine; the first task is given it.
pub const HOST: u32 = 4;
/// Names per task, at most.
pub const NAMES_MAX: usize = 256;
