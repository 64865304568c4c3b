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
    /// Takes the right to it that an application is to have; 0 if it was taken before. One that nobody takes is given up with the memory.
    fn take_right(&mut self) -> u32;
}

/// Memory that nobody but its owner can write: the right to it that applications get maps for reading only.
///
/// This is what allows a reference to its bytes, where other shared memory is reached by raw copies alone.
pub struct Exclusive<M>(M);

impl<M: SharedMemory> Exclusive<M> {
    /// Makes the promise.
    ///
    /// # Safety
    /// As long as `memory` is mapped nothing but this program can write it: all rights to it that are left, the one that
    /// `take_right` gives among them, map for reading only.
    pub const unsafe fn new(memory: M) -> Self {
        Self(memory)
    }

    /// Where it is mapped.
    pub fn address(&self) -> NonNull<u8> {
        self.0.address()
    }

    /// Its size in bytes.
    pub fn length(&self) -> usize {
        self.0.length()
    }

    /// As [`SharedMemory::take_right`].
    pub fn take_right(&mut self) -> u32 {
        self.0.take_right()
    }
}

/// The system around the server.
pub trait System {
    /// Its shared memory.
    type Memory: SharedMemory;

    /// A new object of `length` zeroed bytes, mapped.
    ///
    /// # Errors
    /// `NoResources`, as a rule.
    fn shared_memory(&mut self, length: usize) -> Result<Self::Memory, Error>;

    /// A new object of `length` zeroed bytes, mapped, whose right maps for reading only.
    ///
    /// # Errors
    /// `NoResources`, as a rule.
    fn exclusive_memory(&mut self, length: usize) -> Result<Exclusive<Self::Memory>, Error>;

    /// A new right to the object behind `name` that maps for reading only.
    ///
    /// # Errors
    /// `NoResources`, as a rule.
    fn read_only(&mut self, name: u32) -> Result<u32, Error>;

    /// Resumes an application's thread. It may have died: no matter.
    fn resume(&mut self, thread: u32);

    /// Asks to be told by message when `thread` dies; false if it is dead already.
    fn watch(&mut self, thread: u32) -> bool;

    /// Whether so many more bytes of this program's own memory can be had, in one piece. Asked before each allocation whose size or
    /// number an application decides, and which could not say that it failed.
    ///
    /// # Errors
    /// `NoResources`.
    fn room_for(&mut self, _bytes: usize) -> Result<(), Error> {
        Ok(())
    }

    /// Gives up one reference to a right.
    fn release(&mut self, name: u32);
}
