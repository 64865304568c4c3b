//! A network device of the kernel's, as its protocol server has it.
#![expect(unsafe_code, reason = "system calls")]

use abi::{
    Error,
    device::{Audit, NetInfo},
    syscall::Syscall,
};

use crate::{
    memory::{Mapping, MemoryObject},
    port::Right,
    raw,
    thread::ThreadRef,
};

/// An open device, this task's alone until it is dropped.
#[derive(Debug)]
pub struct Device(Right);

impl Device {
    /// Opens a device (`net0`).
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Exists`] if another task has it.
    pub fn open(name: &str) -> Result<Self, Error> {
        // SAFETY: the kernel reads a string that we have borrowed.
        unsafe { raw::call(Syscall::DeviceOpen, [name.as_ptr() as u64, name.len() as u64]) }
            .and_then(Right::from_value)
            .map(Self)
    }

    /// Maps the device's window, whole.
    ///
    /// # Errors
    /// [`Error::NoResources`].
    pub fn map_window(&self) -> Result<Mapping, Error> {
        let bytes = self.info()?.window_bytes as usize;
        // SAFETY: touches no memory.
        let window =
            unsafe { raw::call(Syscall::DeviceMap, [self.0.name().into()]) }.and_then(Right::from_value)?;
        MemoryObject::new(window).map_shared(bytes)
    }

    /// The OUT queue has work and the device was idle: one trap starts the whole burst.
    ///
    /// # Errors
    /// [`Error::Dead`] if the window was closed.
    #[inline]
    pub fn start(&self) -> Result<(), Error> {
        // SAFETY: the kernel changes the window only, to which nobody here has references.
        unsafe { raw::call(Syscall::DeviceStart, [self.0.name().into()]) }.map(drop)
    }

    /// What it is and what it can do.
    ///
    /// # Errors
    /// None that a correct program sees.
    pub fn info(&self) -> Result<NetInfo, Error> {
        let mut info = NetInfo::default();
        let address = (&raw mut info) as u64;
        // SAFETY: the kernel writes one `NetInfo` there, and any bytes are one.
        unsafe { raw::call(Syscall::DeviceInfo, [self.0.name().into(), address]) }?;
        Ok(info)
    }

    /// Sets the thread that its events resume.
    ///
    /// # Errors
    /// [`Error::BadName`], [`Error::BadRight`].
    pub fn bind_thread(&self, thread: &ThreadRef) -> Result<(), Error> {
        // SAFETY: touches no memory.
        unsafe { raw::call(Syscall::DeviceBindThread, [self.0.name().into(), thread.name().into()]) }
            .map(drop)
    }

    /// Sends a frame, which the kernel copies, on the path by message; `checksum` is the call's.
    ///
    /// # Errors
    /// [`Error::QueueFull`]: the device has no room now.
    #[inline]
    pub fn write(&self, frame: &[u8], checksum: u32) -> Result<(), Error> {
        let (address, length) = (frame.as_ptr() as u64, frame.len() as u64);
        // SAFETY: the kernel reads so many bytes, which we have borrowed.
        unsafe { raw::call(Syscall::DeviceWrite, [self.0.name().into(), address, length, checksum.into()]) }
            .map(drop)
    }

    /// As [`write`](Self::write), of the frame of so many bytes at the start of a page, which goes with it.
    ///
    /// # Errors
    /// As there, and the page: it is still ours.
    #[inline]
    pub fn write_page(&self, page: Mapping, length: usize, checksum: u32) -> Result<(), (Error, Mapping)> {
        let arguments = [self.0.name().into(), page.address(), length as u64, checksum.into()];
        // SAFETY: the page is ours alone, and nobody here uses it after the kernel has taken it.
        match unsafe { raw::call(Syscall::DeviceWritePage, arguments) } {
            Ok(_) => {
                page.give_away(length);
                Ok(())
            }
            Err(error) => Err((error, page)),
        }
    }

    /// The kernel's ledger, summed.
    ///
    /// # Errors
    /// None that a correct program sees.
    pub fn audit(&self) -> Result<Audit, Error> {
        let mut audit = Audit::default();
        let address = (&raw mut audit) as u64;
        // SAFETY: the kernel writes one `Audit` there, and any bytes are one.
        unsafe { raw::call(Syscall::DeviceAudit, [self.0.name().into(), address]) }?;
        Ok(audit)
    }
}
