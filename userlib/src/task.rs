//! Tasks: programs of the boot module, spawned and ended.
#![expect(unsafe_code, reason = "system calls")]

use abi::{Error, syscall::Syscall, thread::TaskInfo, usage::Usage};

use crate::{
    port::{Right, SendRight, WellKnown},
    raw,
};

/// The right to end a task, and to learn that it died.
#[derive(Debug)]
pub struct Task(SendRight);

impl Task {
    /// Makes a task from a program of the boot module. It holds a send right to what `bootstrap` names here.
    ///
    /// # Errors
    /// [`Error::NotFound`] for no such program, [`Error::BadProgram`], [`Error::BadArgument`] for too long a string, [`Error::NoResources`].
    pub fn spawn(program: &str, arguments: &str, priority: u64, bootstrap: u32) -> Result<Self, Error> {
        let (name, name_length) = (program.as_ptr() as u64, program.len() as u64);
        let (text, text_length) = (arguments.as_ptr() as u64, arguments.len() as u64);
        // SAFETY: the kernel reads two strings that we have borrowed.
        unsafe {
            raw::call(Syscall::TaskSpawn, [name, name_length, text, text_length, priority, bootstrap.into()])
        }
        .and_then(Right::from_value)
        .map(|right| Self(SendRight::new(right)))
    }

    /// Believes that a right denotes a task; a call refuses it later if not.
    #[must_use]
    pub const fn adopt(right: SendRight) -> Self {
        Self(right)
    }

    /// Ends it, with all that it holds.
    ///
    /// # Errors
    /// [`Error::Dead`] if it has ended.
    pub fn terminate(&self) -> Result<(), Error> {
        // SAFETY: touches no memory of this task: the wrapper never names the calling one.
        unsafe { raw::call(Syscall::TaskTerminate, [self.0.name().into()]) }.map(drop)
    }

    /// The right itself, for [`SendRight::notify_dead`].
    #[must_use]
    pub const fn right(&self) -> &SendRight {
        &self.0
    }
}

/// Ends this task.
pub fn exit(status: u64) -> ! {
    loop {
        // SAFETY: what the task still borrows is never used again.
        let _ = unsafe { raw::call(Syscall::TaskExit, [status]) };
    }
}

/// Describes the task in a slot of the kernel's table; `None` for an empty slot.
///
/// # Errors
/// [`Error::BadArgument`] past the last slot.
pub fn info(index: usize) -> Result<Option<TaskInfo>, Error> {
    let mut info = TaskInfo::default();
    let address = (&raw mut info) as u64;
    // SAFETY: the kernel writes one `TaskInfo` there, and any bytes are one.
    match unsafe { raw::call(Syscall::TaskInfo, [index as u64, address]) } {
        Ok(_) => Ok(Some(info)),
        Err(Error::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

/// All tasks.
pub fn all() -> impl Iterator<Item = TaskInfo> {
    (0..).map_while(|index| info(index).ok()).flatten()
}

/// How much of the kernel's memory and tables is in use.
///
/// # Errors
/// None that a correct program sees.
pub fn usage() -> Result<Usage, Error> {
    let mut usage = Usage::default();
    // SAFETY: the kernel writes one `Usage` there, and any bytes are one.
    unsafe { raw::call(Syscall::UsageRead, [(&raw mut usage) as u64]) }.map(|_| usage)
}

/// The program's name in a row.
#[must_use]
pub fn program_name(info: &TaskInfo) -> &str {
    info.name.get(..info.name_length as usize).and_then(|name| str::from_utf8(name).ok()).unwrap_or("?")
}

/// Ends the machine with a code of [`abi::exit`].
///
/// # Errors
/// [`Error::Denied`] for a task without [`abi::port::HOST`].
pub fn power_off(code: u32) -> Result<(), Error> {
    // SAFETY: touches no memory.
    unsafe { raw::call(Syscall::PowerOff, [code.into()]) }.map(drop)
}

/// 64 bits to seed a generator with; not for keys.
///
/// # Errors
/// None that a correct program sees.
pub fn entropy() -> Result<u64, Error> {
    // SAFETY: touches no memory.
    unsafe { raw::call(Syscall::Entropy, []) }
}

/// The send right that this task's maker gave it: the name service.
#[must_use]
pub fn bootstrap() -> SendRight {
    SendRight::new(Right::well_known(WellKnown::Bootstrap))
}
