//! Copies to and from bytes that the peer can write at any time.
//!
//! A reference to such bytes, or `copy_nonoverlapping` on them, would promise the compiler that nobody writes
//! them meanwhile, a promise that only the peer could keep. So the accesses are made where the compiler makes
//! no assumption about the memory: in inline assembly on x86-64, as volatile accesses elsewhere. Whatever the
//! peer does, each byte read is some byte, and the private side is touched by ordinary means only.
//!
//! Short copies (up to 16 bytes) are two overlapping moves, inline. Longer ones are unrolled 16-byte SSE
//! moves: `rep movsb` is many times slower on an emulated processor.
#![expect(unsafe_code, reason = "raw copies are what this module is for")]

/// Copies `src`, which is private, to `dst` in shared memory.
///
/// # Safety
/// `src.len()` bytes from `dst` on are valid for writes, and no reference to them exists in this program.
#[inline(always)]
pub unsafe fn copy_in(dst: *mut u8, src: &[u8]) {
    // SAFETY: `src` is a live slice; for `dst` the caller vouches. A private slice does not overlap shared
    // memory.
    unsafe { copy_bytes(dst, src.as_ptr(), src.len()) }
}

/// Copies from `src` in shared memory to all of `dst`, which is private.
///
/// # Safety
/// `dst.len()` bytes from `src` on are valid for reads, and no exclusive reference to them exists in this
/// program.
#[inline(always)]
pub unsafe fn copy_out(dst: &mut [u8], src: *const u8) {
    // SAFETY: `dst` is a live slice; for `src` the caller vouches. A private slice does not overlap shared
    // memory.
    unsafe { copy_bytes(dst.as_mut_ptr(), src, dst.len()) }
}

/// The most bytes that [`copy_short`] copies.
pub const SHORT_BYTES: usize = 16;

/// Copies at most [`SHORT_BYTES`] bytes, without a call; either side may be shared.
///
/// # Safety
/// As for [`copy_bytes`], and `len` is at most [`SHORT_BYTES`].
#[inline(always)]
pub unsafe fn copy_short(dst: *mut u8, src: *const u8, len: usize) {
    debug_assert!(len <= SHORT_BYTES);
    // SAFETY: the caller's promise, handed on.
    unsafe { arch::copy_short(dst, src, len) }
}

/// Copies `len` bytes; either side may be shared.
///
/// # Safety
/// The bytes are valid for reads at `src` and for writes at `dst`, and do not overlap. Nobody but a peer
/// outside of this program may write the bytes meanwhile.
#[inline(always)]
pub unsafe fn copy_bytes(dst: *mut u8, src: *const u8, len: usize) {
    // SAFETY: the caller's promise, handed on.
    unsafe { arch::copy(dst, src, len) }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod arch {
    use core::arch::asm;

    /// Two moves of the same width, from both ends; they overlap in the middle.
    macro_rules! ends {
        ($dst:ident, $src:ident, $len:ident, $width:literal, $first:literal, $last:literal) => {
            asm!(
                concat!("mov {a", $first, "}, [{src}]"),
                concat!("mov {b", $first, "}, [{src} + {len} - ", $width, "]"),
                concat!("mov [{dst}], {a", $first, "}"),
                concat!("mov [{dst} + {len} - ", $width, "], {b", $first, "}"),
                a = out(reg) _, b = out(reg) _,
                src = in(reg) $src, dst = in(reg) $dst, len = in(reg) $len,
                options(nostack, preserves_flags)
            )
        };
    }

    #[inline(always)]
    pub unsafe fn copy(dst: *mut u8, src: *const u8, len: usize) {
        // SAFETY: the caller's promise, with the length that each asks for.
        unsafe { if len > super::SHORT_BYTES { copy_long(dst, src, len) } else { copy_short(dst, src, len) } }
    }

    #[inline(always)]
    pub unsafe fn copy_short(dst: *mut u8, src: *const u8, len: usize) {
        // SAFETY: each branch reads and writes bytes 0..width and len-width..len, all inside since width <=
        // len <= 2 * width. Assembly that is not `pure` may touch any memory that the program could: for the
        // compiler the shared bytes are just there.
        unsafe {
            if len >= 8 {
                ends!(dst, src, len, "8", ":r", "");
            } else if len >= 4 {
                ends!(dst, src, len, "4", ":e", "");
            } else if len >= 2 {
                ends!(dst, src, len, "2", ":x", "");
            } else if len == 1 {
                asm!(
                    "mov {a}, [{src}]",
                    "mov [{dst}], {a}",
                    a = out(reg_byte) _, src = in(reg) src, dst = in(reg) dst,
                    options(nostack, preserves_flags)
                );
            }
        }
    }

    /// More than 16 bytes: 256 at a time, by an index that counts up to zero, so that a turn is the moves and two instructions; then 128 once,
    /// then 16 at a time, then the last 16, which may overlap those before.
    #[inline(never)]
    unsafe fn copy_long(dst: *mut u8, src: *const u8, len: usize) {
        debug_assert!(len > 16);
        let whole = len & !255;
        // SAFETY: `whole <= len`, so both are inside, or at the end of, what the caller promised. The first loop moves the `whole` bytes
        // before them; what follows is done only if 128 are left, and advances all three by that; the second loop advances them together and
        // stops with `left` between -16 and 0, where the last move covers the 16 bytes that end the copy, which lie inside because len > 16.
        unsafe {
            asm!(
                "test {index}, {index}",
                "jz 3f",
                ".p2align 4",
                "2:",
                "movdqu {a}, [{src} + {index}]",
                "movdqu {b}, [{src} + {index} + 16]",
                "movdqu {c}, [{src} + {index} + 32]",
                "movdqu {d}, [{src} + {index} + 48]",
                "movdqu {e}, [{src} + {index} + 64]",
                "movdqu {f}, [{src} + {index} + 80]",
                "movdqu {g}, [{src} + {index} + 96]",
                "movdqu {h}, [{src} + {index} + 112]",
                "movdqu [{dst} + {index}], {a}",
                "movdqu [{dst} + {index} + 16], {b}",
                "movdqu [{dst} + {index} + 32], {c}",
                "movdqu [{dst} + {index} + 48], {d}",
                "movdqu [{dst} + {index} + 64], {e}",
                "movdqu [{dst} + {index} + 80], {f}",
                "movdqu [{dst} + {index} + 96], {g}",
                "movdqu [{dst} + {index} + 112], {h}",
                "movdqu {a}, [{src} + {index} + 128]",
                "movdqu {b}, [{src} + {index} + 144]",
                "movdqu {c}, [{src} + {index} + 160]",
                "movdqu {d}, [{src} + {index} + 176]",
                "movdqu {e}, [{src} + {index} + 192]",
                "movdqu {f}, [{src} + {index} + 208]",
                "movdqu {g}, [{src} + {index} + 224]",
                "movdqu {h}, [{src} + {index} + 240]",
                "movdqu [{dst} + {index} + 128], {a}",
                "movdqu [{dst} + {index} + 144], {b}",
                "movdqu [{dst} + {index} + 160], {c}",
                "movdqu [{dst} + {index} + 176], {d}",
                "movdqu [{dst} + {index} + 192], {e}",
                "movdqu [{dst} + {index} + 208], {f}",
                "movdqu [{dst} + {index} + 224], {g}",
                "movdqu [{dst} + {index} + 240], {h}",
                "add {index}, 256",
                "jnz 2b",
                "3:",
                "cmp {left}, 128",
                "jb 6f",
                "movdqu {a}, [{src}]",
                "movdqu {b}, [{src} + 16]",
                "movdqu {c}, [{src} + 32]",
                "movdqu {d}, [{src} + 48]",
                "movdqu {e}, [{src} + 64]",
                "movdqu {f}, [{src} + 80]",
                "movdqu {g}, [{src} + 96]",
                "movdqu {h}, [{src} + 112]",
                "movdqu [{dst}], {a}",
                "movdqu [{dst} + 16], {b}",
                "movdqu [{dst} + 32], {c}",
                "movdqu [{dst} + 48], {d}",
                "movdqu [{dst} + 64], {e}",
                "movdqu [{dst} + 80], {f}",
                "movdqu [{dst} + 96], {g}",
                "movdqu [{dst} + 112], {h}",
                "add {src}, 128",
                "add {dst}, 128",
                "sub {left}, 128",
                // With nothing left the last 16 bytes are copied once more.
                "6:",
                "sub {left}, 16",
                "jbe 5f",
                "4:",
                "movdqu {a}, [{src}]",
                "movdqu [{dst}], {a}",
                "add {src}, 16",
                "add {dst}, 16",
                "sub {left}, 16",
                "ja 4b",
                "5:",
                "movdqu {a}, [{src} + {left}]",
                "movdqu [{dst} + {left}], {a}",
                src = inout(reg) src.add(whole) => _, dst = inout(reg) dst.add(whole) => _,
                index = inout(reg) whole.wrapping_neg() => _, left = inout(reg) len - whole => _,
                a = out(xmm_reg) _, b = out(xmm_reg) _, c = out(xmm_reg) _, d = out(xmm_reg) _,
                e = out(xmm_reg) _, f = out(xmm_reg) _, g = out(xmm_reg) _, h = out(xmm_reg) _,
                options(nostack)
            );
        }
    }
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
mod arch {
    pub use self::copy as copy_short;

    /// Words where both sides are aligned alike, else bytes.
    #[inline]
    pub unsafe fn copy(mut dst: *mut u8, mut src: *const u8, len: usize) {
        const WORD: usize = size_of::<usize>();
        let mut left = len;
        // SAFETY: both pointers advance together by what was copied, and `left` counts down to the end of
        // what the caller promised. Word accesses are made only where both pointers are aligned. Volatile
        // accesses are made once each, as written.
        unsafe {
            if (dst as usize ^ src as usize) % WORD == 0 {
                while left > 0 && src as usize % WORD != 0 {
                    dst.write_volatile(src.read_volatile());
                    (dst, src, left) = (dst.add(1), src.add(1), left - 1);
                }
                while left >= WORD {
                    dst.cast::<usize>().write_volatile(src.cast::<usize>().read_volatile());
                    (dst, src, left) = (dst.add(WORD), src.add(WORD), left - WORD);
                }
            }
            while left > 0 {
                dst.write_volatile(src.read_volatile());
                (dst, src, left) = (dst.add(1), src.add(1), left - 1);
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{copy_in, copy_out};
    use std::{vec, vec::Vec};

    #[test]
    fn every_length_and_alignment_is_copied_and_nothing_else() {
        let source: Vec<u8> = (0..400u32).map(|n| (n * 7 + 1) as u8).collect();
        for len in (0..150).chain([191, 192, 193, 255, 256, 257, 320, 383, 384, 385]) {
            for (from, to) in [(0, 0), (1, 0), (0, 1), (3, 8), (15, 15), (7, 2)] {
                let mut shared = vec![0xa5u8; 400];
                // SAFETY: `to + len` is inside `shared`, which nobody else refers to.
                unsafe { copy_in(shared.as_mut_ptr().add(to), &source[from..from + len]) };
                assert_eq!(&shared[to..to + len], &source[from..from + len], "in {len} from {from} to {to}");
                assert!(
                    shared[..to].iter().chain(&shared[to + len..]).all(|&b| b == 0xa5),
                    "in {len} spills"
                );

                let mut private = vec![0x5au8; 400];
                // SAFETY: `from + len` is inside `source`, which is only read.
                unsafe { copy_out(&mut private[to..to + len], source.as_ptr().add(from)) };
                assert_eq!(
                    &private[to..to + len],
                    &source[from..from + len],
                    "out {len} from {from} to {to}"
                );
                assert!(
                    private[..to].iter().chain(&private[to + len..]).all(|&b| b == 0x5a),
                    "out {len} spills"
                );
            }
        }
    }
}
