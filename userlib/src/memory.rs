//! Memory: mappings of this task, and memory objects that tasks share.
#![expect(unsafe_code, reason = "system calls, and pointers into mappings")]

use core::ptr::NonNull;

use abi::{
    Error,
    syscall::Syscall,
    vm::{PAGE_BYTES, PROT_READ, PROT_WRITE},
};

use shmqueue::copy::{copy_in, copy_out};

use crate::{
    port::{Right, right},
    raw,
};

/// Pages mapped into this task, until it is dropped.
///
/// It hands out no references: what is mapped may be shared with a task that writes it.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping belongs to the task, not to a thread, and gives no access but by raw pointers.
unsafe impl Send for Mapping {}
// SAFETY: as above; all methods are reads of private fields.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Zeroed memory of its own, for reading and writing.
    ///
    /// # Errors
    /// [`Error::NoResources`]; [`Error::BadArgument`] for a length of 0.
    pub fn allocate(len: usize) -> Result<Self, Error> {
        let len = len.next_multiple_of(PAGE_BYTES as usize);
        // SAFETY: a new mapping overlaps nothing that the task has.
        let address = unsafe { raw::call(Syscall::VmAllocate, [len as u64, PROT_READ | PROT_WRITE]) }?;
        Self::at(address, len)
    }

    /// Takes over pages that the kernel has mapped for this task.
    ///
    /// # Safety
    /// All `len` bytes, whole pages, are mapped for reading and writing, and nobody else unmaps them.
    pub(crate) unsafe fn adopt(address: u64, len: usize) -> Result<Self, Error> {
        Self::at(address, len)
    }

    /// The pages of the first `length` bytes have left the address space: what is behind them goes now.
    pub(crate) fn give_away(self, length: usize) {
        let gone = length.next_multiple_of(PAGE_BYTES as usize).min(self.len);
        let (address, len) = (self.address() + gone as u64, self.len - gone);
        core::mem::forget(self);
        if len > 0 {
            drop(Self::at(address, len));
        }
    }

    fn at(address: u64, len: usize) -> Result<Self, Error> {
        let base = NonNull::new(core::ptr::with_exposed_provenance_mut(address as usize));
        Ok(Self { base: base.ok_or(Error::PeerMisbehaviour)?, len })
    }

    /// Memory of its own that begins with `bytes`.
    ///
    /// # Errors
    /// As for [`allocate`](Self::allocate).
    pub fn with_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let it = Self::allocate(bytes.len())?;
        // SAFETY: the mapping is new, as long as the bytes at least, and nothing refers to it.
        unsafe { copy_in(it.base.as_ptr(), bytes) };
        Ok(it)
    }

    /// Copies the front of it to all of `bytes`, or as much as there is.
    pub fn copy_out(&self, bytes: &mut [u8]) {
        let length = bytes.len().min(self.len);
        // SAFETY: so many bytes are mapped for as long as `self`, and nobody has an exclusive reference to them: see the type.
        unsafe { copy_out(&mut bytes[..length], self.base.as_ptr()) };
    }

    /// Where it begins.
    #[inline]
    #[must_use]
    pub const fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Where it begins, as a number.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.base.as_ptr().expose_provenance() as u64
    }

    /// Its length in bytes.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Never: a mapping has at least a page.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: who made pointers into it promised not to use them any longer than it lives.
        let _ = unsafe { raw::call(Syscall::VmDeallocate, [self.address(), self.len as u64]) };
    }
}

/// A memory object: zeroed, wired pages that tasks can share.
#[derive(Debug)]
pub struct MemoryObject(Right);

right!(MemoryObject);

impl MemoryObject {
    /// A new one.
    ///
    /// # Errors
    /// [`Error::NoResources`]; [`Error::BadArgument`] for a length of 0.
    pub fn create(len: usize) -> Result<Self, Error> {
        // SAFETY: touches no memory of this task.
        unsafe { raw::call(Syscall::MemoryObjectCreate, [len as u64]) }.and_then(Right::from_value).map(Self)
    }

    /// Maps `len` bytes from `offset` on, with protections of [`abi::vm`].
    ///
    /// # Errors
    /// [`Error::BadArgument`] outside of the object, [`Error::Denied`] for writing through a read-only right, [`Error::NoResources`].
    pub fn map(&self, offset: u64, len: usize, prot: u64) -> Result<Mapping, Error> {
        let len = len.next_multiple_of(PAGE_BYTES as usize);
        // SAFETY: a new mapping overlaps nothing that the task has.
        let address = unsafe { raw::call(Syscall::VmMap, [self.name().into(), offset, len as u64, prot]) }?;
        Mapping::at(address, len)
    }

    /// Maps `len` bytes from the start for reading and writing.
    ///
    /// # Errors
    /// As for [`map`](Self::map).
    pub fn map_shared(&self, len: usize) -> Result<Mapping, Error> {
        self.map(0, len, PROT_READ | PROT_WRITE)
    }

    /// A right to the same object that maps for reading only.
    ///
    /// # Errors
    /// [`Error::NoResources`].
    pub fn read_only(&self) -> Result<Self, Error> {
        // SAFETY: touches no memory of this task.
        unsafe { raw::call(Syscall::MemoryObjectReadOnly, [self.name().into()]) }
            .and_then(Right::from_value)
            .map(Self)
    }
}
