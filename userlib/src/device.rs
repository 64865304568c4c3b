//! A network device of the kernel's, as its protocol server has it.
#![expect(unsafe_code, reason = "system calls")]

use core::net::IpAddr;

use abi::{
    Error,
    device::{Audit, NetInfo},
    filter::COPY_ALL,
    syscall::Syscall,
};

use crate::{
    memory::{Mapping, MemoryObject},
    port::{ReceiveRight, Right},
    raw,
    thread::ThreadRef,
};

/// An open device, until it is dropped: this task's alone, but for the path by message.
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

    /// On the path by message: from now on frames that the packet filter `program` wants ([`abi::filter`]) come to the port, as
    /// [`NET_FRAME`](abi::message::NET_FRAME) messages; with `copy_all` filters of lower priorities may have them as well. A port has one
    /// filter.
    ///
    /// # Errors
    /// [`Error::BadArgument`] for a program that is not valid, and for an empty one, since no words take a filter away
    /// ([`clear_filter`](Self::clear_filter)); [`Error::NoResources`]; [`Error::BadCall`] on another path.
    pub fn set_filter(
        &self,
        port: &ReceiveRight,
        priority: u8,
        copy_all: bool,
        program: &[u16],
    ) -> Result<(), Error> {
        if program.is_empty() {
            return Err(Error::BadArgument);
        }
        self.call_set_filter(port, u64::from(priority) | if copy_all { COPY_ALL } else { 0 }, program)
    }

    /// Takes a port's filter away. What had come stays in the port.
    ///
    /// # Errors
    /// [`Error::NotFound`]: it has none.
    pub fn clear_filter(&self, port: &ReceiveRight) -> Result<(), Error> {
        self.call_set_filter(port, 0, &[])
    }

    fn call_set_filter(&self, port: &ReceiveRight, priority: u64, program: &[u16]) -> Result<(), Error> {
        let (device, port) = (self.0.name().into(), port.name().into());
        let address = program.as_ptr().expose_provenance() as u64;
        // SAFETY: the kernel reads so many words there, which we have borrowed.
        unsafe {
            raw::call(Syscall::DeviceSetFilter, [device, port, priority, address, program.len() as u64])
        }
        .map(drop)
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

    /// From now on frames for an address come to this task's window, where several tasks have the device open.
    ///
    /// # Errors
    /// [`Error::Exists`] if another task has claimed it; [`Error::NoResources`] for too many; [`Error::BadArgument`] if it is not the
    /// address of one station; [`Error::BadCall`] on the path by message, where filters do this.
    pub fn claim(&self, address: IpAddr) -> Result<(), Error> {
        match address {
            IpAddr::V4(v4) => self.claim_words(4, 0, u32::from(v4).into()),
            IpAddr::V6(v6) => {
                let number = u128::from(v6);
                self.claim_words(6, (number >> 64) as u64, number as u64)
            }
        }
    }

    /// Gives up all that it has claimed.
    ///
    /// # Errors
    /// [`Error::BadCall`] on the path by message.
    pub fn disclaim(&self) -> Result<(), Error> {
        self.claim_words(0, 0, 0)
    }

    fn claim_words(&self, family: u64, high: u64, low: u64) -> Result<(), Error> {
        // SAFETY: touches no memory.
        unsafe { raw::call(Syscall::DeviceClaim, [self.0.name().into(), family, high, low]) }.map(drop)
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
