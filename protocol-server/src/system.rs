//! What the server needs of the system around it: shared memory, resumes, rights. The binary gives it system calls, the tests
//! something that runs on the host.
#![expect(unsafe_code, reason = "an unsafe trait: shared memory is a promise about raw addresses")]

use abi::Error;
use core::ptr::NonNull;

/// A memory object, mapped here for reading and writing for as long as this value lives; dropping it unmaps it. Its bytes are zero at first.
///
/// # Safety
/// 1. [`address`](SharedMemory::address) does not change, is aligned to 64 bytes, and the [`length`](SharedMemory::length) bytes
///    from it on are mapped, readable and writable, until the drop.
/// 2. Nothing in this program forms a reference to them but through the value's owner.
pub unsafe trait SharedMemory {
    /// Where it is mapped.
    fn address(&self) -> NonNull<u8>;
    /// Its size in bytes.
    fn length(&self) -> usize;
}

/// The system around the server.
pub trait System {
    /// Its shared memory.
    type Memory: SharedMemory;

    /// A new object of `length` zeroed bytes, mapped, and the name of the right to it.
    ///
    /// # Errors
    /// `NoResources`, as a rule.
    fn shared_memory(&mut self, length: usize) -> Result<(Self::Memory, u32), Error>;

    /// A new right to the object behind `name` that maps for reading only.
    ///
    /// # Errors
    /// `NoResources`, as a rule.
    fn read_only(&mut self, name: u32) -> Result<u32, Error>;

    /// Resumes an application's thread. It may have died: no matter.
    fn resume(&mut self, thread: u32);

    /// Asks to be told by message when `thread` dies; false if it is dead already.
    fn watch(&mut self, thread: u32) -> bool;

    /// Gives up one reference to a right.
    fn release(&mut self, name: u32);
}
