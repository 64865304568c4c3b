//! How much of what the kernel has is in use: what must be as before once everybody who took something has ended.

/// The answer to [`crate::syscall::Syscall::UsageRead`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Usage {
    /// Pages of memory that are free.
    pub free_pages: u64,
    /// Bytes of the kernel's heap in use: 0 where there is no stack in the kernel.
    pub heap_bytes: u64,
    /// Tasks.
    pub tasks: u32,
    /// Threads.
    pub threads: u32,
    /// Ports and port sets, the dead ones that somebody still has a name for among them.
    pub ports: u32,
    /// Memory objects.
    pub objects: u32,
}
