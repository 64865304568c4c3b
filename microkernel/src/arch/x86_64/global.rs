//! State of the one processor.
#![expect(unsafe_code, reason = "hands out references to statics; the execution model makes them exclusive")]

use core::cell::UnsafeCell;

/// A static that the kernel changes.
pub struct Global<T>(UnsafeCell<T>);

// SAFETY: there is one processor, and ring 0 runs with interrupts off (see the parent module): nothing is concurrent.
unsafe impl<T> Sync for Global<T> {}

impl<T> Global<T> {
    /// Wraps a value.
    pub const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// The value.
    ///
    /// # Safety
    /// No other reference to it is alive, nor will one be made while this one is.
    #[inline]
    #[expect(clippy::mut_from_ref, reason = "the caller proves that it is exclusive")]
    pub unsafe fn get(&self) -> &mut T {
        // SAFETY: the pointer is valid; exclusive by the caller's proof.
        unsafe { &mut *self.0.get() }
    }

    /// Where it is.
    pub const fn address(&self) -> *mut T {
        self.0.get()
    }
}
