//! Ports and rights to them: names that this task owns, and gives up when they are dropped.
//!
//! A [`SendRight`] also denotes what the kernel itself serves: a task, a thread, a device, a memory object.
#![expect(unsafe_code, reason = "system calls")]

use core::num::NonZeroU32;

use abi::{Error, port, syscall::Syscall};

use crate::{raw, thread::ThreadRef};

/// A right of some kind, owned: as it comes in a message.
#[derive(Debug, PartialEq, Eq)]
pub struct Right(NonZeroU32);

/// The names that every task has from its start ([`abi::port`]); they are never given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum WellKnown {
    /// The task itself.
    Task = port::TASK_SELF,
    /// Its first thread.
    Thread = port::THREAD_SELF,
    /// What its maker gave it: the name service.
    Bootstrap = port::BOOTSTRAP,
    /// The right to end the machine, in the first task.
    Host = port::HOST,
}

impl Right {
    /// One of the names that every task has.
    #[must_use]
    pub const fn well_known(name: WellKnown) -> Self {
        Self(NonZeroU32::MIN.saturating_add(name as u32 - 1))
    }

    /// Takes over a name that a system call or a message gave; `None` for the null name.
    #[must_use]
    pub const fn from_name(name: u32) -> Option<Self> {
        match NonZeroU32::new(name) {
            Some(name) => Some(Self(name)),
            None => None,
        }
    }

    /// From a system call's value.
    pub(crate) fn from_value(value: u64) -> Result<Self, Error> {
        u32::try_from(value).ok().and_then(Self::from_name).ok_or(Error::PeerMisbehaviour)
    }

    /// The name.
    #[must_use]
    pub const fn name(&self) -> u32 {
        self.0.get()
    }

    /// Gives the name away, without giving the right up.
    #[must_use]
    pub const fn into_name(self) -> u32 {
        let name = self.0.get();
        core::mem::forget(self);
        name
    }
}

impl Drop for Right {
    fn drop(&mut self) {
        if self.name() <= port::HOST {
            return; // every task has these, and keeps them
        }
        // SAFETY: touches no memory. A name that is no longer good is refused, which is as well.
        let _ = unsafe { raw::call(Syscall::PortDeallocate, [u64::from(self.name())]) };
    }
}

/// A right of a known kind: how it is made of a [`Right`], and becomes one again.
macro_rules! right {
    ($kind:ident) => {
        impl $kind {
            /// Believes that the right is one of this kind; a call refuses it later if not.
            #[must_use]
            pub const fn new(right: $crate::port::Right) -> Self {
                Self(right)
            }

            /// The name.
            #[must_use]
            pub const fn name(&self) -> u32 {
                self.0.name()
            }

            /// As a right of some kind, to be sent.
            #[must_use]
            pub fn into_right(self) -> $crate::port::Right {
                self.0
            }
        }
    };
}
pub(crate) use right;

/// The right to send to a port, once or for ever.
#[derive(Debug, PartialEq, Eq)]
pub struct SendRight(Right);

right!(SendRight);

impl SendRight {
    /// Asks for one message of [`abi::message::NOTIFY_DEAD_NAME`] on `notify` when what this denotes dies.
    ///
    /// # Errors
    /// [`Error::Dead`] if it has; [`Error::NoResources`].
    pub fn notify_dead(&self, notify: &ReceiveRight) -> Result<(), Error> {
        // SAFETY: touches no memory.
        unsafe { raw::call(Syscall::PortNotifyDead, [self.name().into(), notify.name().into()]) }.map(drop)
    }
}

/// The right to receive from a port, which lives as long as this.
#[derive(Debug, PartialEq, Eq)]
pub struct ReceiveRight(Right);

right!(ReceiveRight);

impl ReceiveRight {
    /// A new port.
    ///
    /// # Errors
    /// [`Error::NoResources`].
    pub fn allocate() -> Result<Self, Error> {
        // SAFETY: touches no memory.
        unsafe { raw::call(Syscall::PortAllocate, []) }.and_then(Right::from_value).map(Self)
    }

    /// A new send right to this port.
    ///
    /// # Errors
    /// [`Error::NoResources`].
    pub fn make_send(&self) -> Result<SendRight, Error> {
        // SAFETY: touches no memory.
        unsafe { raw::call(Syscall::PortMakeSend, [self.name().into()]) }
            .and_then(Right::from_value)
            .map(SendRight)
    }

    /// From now on a message that is queued here also resumes `thread`; `None` undoes it.
    ///
    /// # Errors
    /// [`Error::BadName`], [`Error::BadRight`].
    pub fn bind_thread(&self, thread: Option<&ThreadRef>) -> Result<(), Error> {
        bind(self.name(), thread)
    }
}

/// Several ports to receive from at once.
#[derive(Debug, PartialEq, Eq)]
pub struct PortSet(Right);

impl PortSet {
    /// A new set without members.
    ///
    /// # Errors
    /// [`Error::NoResources`].
    pub fn allocate() -> Result<Self, Error> {
        // SAFETY: touches no memory.
        unsafe { raw::call(Syscall::PortSetAllocate, []) }.and_then(Right::from_value).map(Self)
    }

    /// The name.
    #[must_use]
    pub const fn name(&self) -> u32 {
        self.0.name()
    }

    /// Moves a port into the set, out of any other.
    ///
    /// # Errors
    /// [`Error::BadName`], [`Error::BadRight`].
    pub fn add(&self, port: &ReceiveRight) -> Result<(), Error> {
        // SAFETY: touches no memory.
        unsafe { raw::call(Syscall::PortMoveMember, [port.name().into(), self.name().into()]) }.map(drop)
    }

    /// Moves a port out of the set.
    ///
    /// # Errors
    /// [`Error::BadName`], [`Error::BadRight`].
    pub fn remove(&self, port: &ReceiveRight) -> Result<(), Error> {
        // SAFETY: touches no memory.
        unsafe { raw::call(Syscall::PortMoveMember, [port.name().into(), 0]) }.map(drop)
    }

    /// As [`ReceiveRight::bind_thread`], for all members.
    ///
    /// # Errors
    /// [`Error::BadName`], [`Error::BadRight`].
    pub fn bind_thread(&self, thread: Option<&ThreadRef>) -> Result<(), Error> {
        bind(self.name(), thread)
    }
}

fn bind(name: u32, thread: Option<&ThreadRef>) -> Result<(), Error> {
    let thread = thread.map_or(port::NULL, ThreadRef::name);
    // SAFETY: touches no memory.
    unsafe { raw::call(Syscall::PortBindThread, [name.into(), thread.into()]) }.map(drop)
}

/// Where messages are received: a port, or a set of them.
pub trait Source {
    /// The name for [`Syscall::MessageReceive`].
    fn source_name(&self) -> u32;
}

impl Source for ReceiveRight {
    fn source_name(&self) -> u32 {
        self.name()
    }
}

impl Source for PortSet {
    fn source_name(&self) -> u32 {
        self.name()
    }
}
