//! Memory between two pages that nobody may touch: an access outside is a fault, which the fuzzer reports.
#![expect(unsafe_code, reason = "maps the memory that stands for what two sides share")]

use std::ptr::NonNull;

use shmqueue::sync::AtomicU32;

const PAGE: usize = 4096;

/// Zeroed memory that ends where a forbidden page begins.
pub struct Guarded {
    mapping: *mut libc::c_void,
    mapped: usize,
    base: NonNull<u8>,
    bytes: usize,
}

impl Guarded {
    /// `bytes` of it. It starts where a page does if `bytes` are whole pages, else at the right distance from its end.
    pub fn new(bytes: usize) -> Self {
        let inner = bytes.next_multiple_of(PAGE);
        let mapped = inner + 2 * PAGE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a fresh mapping, where there is none.
        let mapping = unsafe { libc::mmap(std::ptr::null_mut(), mapped, libc::PROT_NONE, flags, -1, 0) };
        assert_ne!(mapping, libc::MAP_FAILED);
        // SAFETY: all but the first and the last page of the mapping.
        let open =
            unsafe { libc::mprotect(mapping.byte_add(PAGE), inner, libc::PROT_READ | libc::PROT_WRITE) };
        assert_eq!(open, 0);
        let base = mapping.cast::<u8>().wrapping_add(PAGE + inner - bytes);
        Self { mapping, mapped, base: NonNull::new(base).expect("not at 0"), bytes }
    }

    pub const fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The address of the first byte.
    pub fn address(&self) -> usize {
        self.base.addr().get()
    }

    /// The word at byte `at`, a multiple of 4 inside.
    pub fn word(&self, at: usize) -> &AtomicU32 {
        // SAFETY: `at` promises what the type asks for: any bytes are an atomic word.
        unsafe { self.at(at) }
    }

    /// What lies at byte `at`.
    ///
    /// # Safety
    /// A `T` is atomics only, or nothing else reaches it while the reference lives.
    pub unsafe fn at<T>(&self, at: usize) -> &T {
        assert!(at + size_of::<T>() <= self.bytes && (self.address() + at).is_multiple_of(align_of::<T>()));
        // SAFETY: inside and aligned; the rest is the caller's promise.
        unsafe { self.base.add(at).cast().as_ref() }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: the mapping of `new`, to which no reference is left: they borrow `self`.
        unsafe { libc::munmap(self.mapping, self.mapped) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shmqueue::sync::Ordering::Relaxed;

    #[test]
    fn all_of_it_can_be_used_and_it_ends_at_a_page() {
        for bytes in [64, 4096, 5000, 12288] {
            let memory = Guarded::new(bytes);
            assert_eq!((memory.bytes(), (memory.address() + bytes) % PAGE), (bytes, 0));
            memory.word(bytes - 4).store(7, Relaxed);
            assert_eq!((memory.word(0).load(Relaxed), memory.word(bytes - 4).load(Relaxed)), (0, 7));
        }
    }
}
