//! Threads: suspend and the resume that counts, as Reynolds and Heller's servers wait.
//!
//! A thread waits by [`suspend`]; who has work for it calls [`ThreadRef::resume`]. A resume that comes first is not
//! lost: the next suspend returns at once, and takes all of them.
#![expect(unsafe_code, reason = "system calls")]

use core::time::Duration;

use abi::{
    Error,
    syscall::Syscall,
    thread::{WAKE_MESSAGE, WAKE_RESUMED, WAKE_TIMEOUT},
};

use crate::{
    memory::Mapping,
    net,
    port::{Right, WellKnown, right},
    raw,
    time::limit_ns,
};

/// The right to resume a thread, or to bind it to a port or a device.
#[derive(Debug)]
pub struct ThreadRef(Right);

right!(ThreadRef);

impl ThreadRef {
    /// The first thread of this task.
    #[must_use]
    pub const fn first() -> Self {
        Self(Right::well_known(WellKnown::Thread))
    }

    /// Resumes it. Counted if it is not suspended; never blocks.
    ///
    /// # Errors
    /// [`Error::Dead`] if it has ended.
    #[inline]
    pub fn resume(&self) -> Result<(), Error> {
        // SAFETY: touches no memory.
        unsafe { raw::call(Syscall::ThreadResume, [self.name().into()]) }.map(drop)
    }

    /// Sets its priority, 0 to [`abi::thread::PRIORITY_MAX`].
    ///
    /// # Errors
    /// [`Error::BadArgument`], [`Error::Denied`].
    pub fn set_priority(&self, priority: u64) -> Result<(), Error> {
        // SAFETY: touches no memory.
        unsafe { raw::call(Syscall::ThreadSetPriority, [self.name().into(), priority]) }.map(drop)
    }
}

/// Why a [`suspend`] returned: one or more of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wake(u64);

impl Wake {
    /// Somebody resumed this thread.
    #[inline]
    #[must_use]
    pub const fn resumed(self) -> bool {
        self.0 & WAKE_RESUMED != 0
    }

    /// A message waits on a port bound to this thread.
    #[inline]
    #[must_use]
    pub const fn message(self) -> bool {
        self.0 & WAKE_MESSAGE != 0
    }

    /// The limit passed.
    #[inline]
    #[must_use]
    pub const fn timed_out(self) -> bool {
        self.0 & WAKE_TIMEOUT != 0
    }
}

/// Blocks the calling thread until it is resumed, or `limit` passes.
///
/// # Errors
/// None that a correct program sees.
#[inline]
pub fn suspend(limit: Option<Duration>) -> Result<Wake, Error> {
    suspend_ns(limit_ns(limit))
}

/// As [`suspend`], for who counts in nanoseconds ([`abi::syscall::FOREVER`] is no limit).
///
/// # Errors
/// As for [`suspend`].
#[inline]
pub fn suspend_ns(limit: u64) -> Result<Wake, Error> {
    // SAFETY: touches no memory.
    let wake = unsafe { raw::call(Syscall::ThreadSuspend, [limit]) }.map(Wake)?;
    if wake.message() {
        net::look_for_death(); // it may be the message that the protocol server has died
    }
    Ok(wake)
}

/// Sleeps for a time, whoever resumes the thread meanwhile; those resumes are lost, so a thread that has sockets waits with them.
pub fn sleep(time: Duration) {
    let end = crate::time::Instant::now() + time;
    loop {
        let left = end.saturating_duration_since(crate::time::Instant::now());
        if left.is_zero() || suspend(Some(left)).is_err() {
            return;
        }
    }
}

/// Lets another thread of the same priority run.
pub fn yield_now() {
    // SAFETY: touches no memory.
    let _ = unsafe { raw::call(Syscall::ThreadYield, []) };
}

/// Starts a thread in this task that runs `body(argument)` on a stack of its own, which is never given back.
///
/// # Errors
/// [`Error::NoResources`].
pub fn spawn(
    body: extern "C" fn(u64) -> !,
    argument: u64,
    stack_bytes: usize,
    priority: u64,
) -> Result<ThreadRef, Error> {
    let stack = Mapping::allocate(stack_bytes)?;
    let top = stack.address() + stack.len() as u64;
    // SAFETY: the function never returns, and the stack is a fresh mapping that is leaked once the thread has it.
    let thread =
        unsafe { raw::call(Syscall::ThreadCreate, [body as *const () as u64, top, argument, priority]) }?;
    core::mem::forget(stack);
    Right::from_value(thread).map(ThreadRef)
}

/// Ends the calling thread; the last one ends the task.
pub fn exit() -> ! {
    loop {
        // SAFETY: what the thread still borrows is never used again.
        let _ = unsafe { raw::call(Syscall::ThreadExit, []) };
    }
}
