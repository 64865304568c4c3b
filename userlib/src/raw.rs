//! The `syscall` instruction, and nothing else; [`abi::syscall`] says what each call does.
//!
//! Everything above is typed: use [`crate::task`], [`crate::thread`] and their like, unless to throw nonsense at the kernel.
#![expect(unsafe_code, reason = "this is where the task leaves the language")]

use abi::{Error, syscall::Syscall};

/// Makes a system call of any number; returns the status and the value as they came.
///
/// # Safety
/// What the call does to this task's memory and threads must be sound: see [`abi::syscall::Syscall`].
#[cfg(not(test))]
#[inline(always)]
pub unsafe fn call_number(number: u64, arguments: [u64; 6]) -> (u64, u64) {
    let [a, b, c, d, e, f] = arguments;
    let (status, value);
    // SAFETY: the kernel changes the registers that `clobber_abi` lists, and of memory what the caller answers for.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") number => status,
            in("rdi") a,
            in("rsi") b,
            inlateout("rdx") c => value,
            in("r10") d,
            in("r8") e,
            in("r9") f,
            clobber_abi("sysv64"),
            options(nostack),
        );
    }
    (status, value)
}

/// The instruction with no more registers loaded than the call reads: the frequent calls take one or two arguments.
#[cfg(not(test))]
#[inline(always)]
unsafe fn instruction<const N: usize>(number: u64, arguments: [u64; N]) -> (u64, u64) {
    let at = |i: usize| if i < N { arguments[i] } else { 0 };
    if N > 3 {
        // SAFETY: the caller's promise, handed on.
        return unsafe { call_number(number, [at(0), at(1), at(2), at(3), at(4), at(5)]) };
    }
    let (status, value);
    // SAFETY: as in `call_number`.
    unsafe {
        if N <= 1 {
            core::arch::asm!("syscall", inlateout("rax") number => status, in("rdi") at(0), lateout("rdx") value,
                clobber_abi("sysv64"), options(nostack));
        } else {
            core::arch::asm!("syscall", inlateout("rax") number => status, in("rdi") at(0), in("rsi") at(1),
                inlateout("rdx") at(2) => value, clobber_abi("sysv64"), options(nostack));
        }
    }
    (status, value)
}

/// Makes a system call.
///
/// # Safety
/// As for [`call_number`].
#[inline(always)]
pub unsafe fn call<const N: usize>(call: Syscall, arguments: [u64; N]) -> Result<u64, Error> {
    // SAFETY: the caller's promise, handed on.
    let (status, value) = unsafe { instruction(u64::from(call.raw()), arguments) };
    if status == 0 { Ok(value) } else { Err(error(status)) }
}

/// What a status means; one that is no error of [`abi::Error`] comes from a kernel that isn't ours.
#[cold]
#[must_use]
pub fn error(status: u64) -> Error {
    u32::try_from(status).ok().and_then(Error::from_raw).unwrap_or(Error::PeerMisbehaviour)
}

#[cfg(test)]
pub(crate) use fake::instruction;

/// A kernel for this crate's tests: a closure that gets what the instruction would have carried.
#[cfg(test)]
pub(crate) mod fake {
    use std::{boxed::Box, cell::RefCell};

    type Kernel = Box<dyn FnMut(u64, [u64; 6]) -> (u64, u64)>;

    std::thread_local! {
        static KERNEL: RefCell<Option<Kernel>> = const { RefCell::new(None) };
    }

    /// Sets what answers this test thread's system calls.
    pub(crate) fn install(kernel: impl FnMut(u64, [u64; 6]) -> (u64, u64) + 'static) {
        KERNEL.with(|it| *it.borrow_mut() = Some(Box::new(kernel)));
    }

    pub(crate) unsafe fn call_number(number: u64, arguments: [u64; 6]) -> (u64, u64) {
        // Taken out meanwhile: a wrapper's destructor may call while the closure runs.
        let kernel = KERNEL.with(|it| it.borrow_mut().take());
        if kernel.is_none() && std::thread::panicking() {
            return (u64::from(abi::Error::Dead.raw()), 0); // a destructor, after the closure panicked
        }
        let mut kernel = kernel.expect("a test that makes system calls installs a fake kernel");
        let answer = kernel(number, arguments);
        KERNEL.with(|it| *it.borrow_mut() = Some(kernel));
        answer
    }

    pub(crate) unsafe fn instruction<const N: usize>(number: u64, arguments: [u64; N]) -> (u64, u64) {
        let mut all = [0; 6];
        all[..N].copy_from_slice(&arguments);
        // SAFETY: a fake has no effect but what the test gave it.
        unsafe { call_number(number, all) }
    }
}
