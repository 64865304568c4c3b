//! The five functions in assembly (System V ABI: `rdi rsi rdx`, result in `rax`), with SSE2 and nothing above it.
//!
//! In assembly because a compiler that sees a copying loop in Rust may turn it into a call of `memcpy`.

#![expect(
    unsafe_code,
    reason = "the compiler's own memory functions: raw pointers and symbols of fixed names"
)]

use core::arch::naked_asm;

/// Copies `n` bytes; the regions do not overlap.
///
/// # Safety
/// `src` is valid for reads and `dst` for writes of `n` bytes, and the two do not overlap.
#[unsafe(naked)]
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn memcpy(dst: *mut u8, src: *const u8, n: usize) -> *mut u8 {
    naked_asm!(
        "mov rax, rdi",
        "cmp rdx, 16",
        "jb 30f",
        "cmp rdx, 32",
        "ja 20f",
        // 16 to 32: the first 16 and the last 16, which may overlap. All loads come before the stores, here and
        // below, so that `memmove` can share the short cases.
        "movups xmm0, [rsi]",
        "movups xmm1, [rsi + rdx - 16]",
        "movups [rdi], xmm0",
        "movups [rdi + rdx - 16], xmm1",
        "ret",
        "20:",
        "cmp rdx, 64",
        "ja 22f",
        "movups xmm0, [rsi]",
        "movups xmm1, [rsi + 16]",
        "movups xmm2, [rsi + rdx - 32]",
        "movups xmm3, [rsi + rdx - 16]",
        "movups [rdi], xmm0",
        "movups [rdi + 16], xmm1",
        "movups [rdi + rdx - 32], xmm2",
        "movups [rdi + rdx - 16], xmm3",
        "ret",
        // Over 64: 128 a turn, with rdx counting up to zero below the ends, then the rest from the top.
        "22:",
        "movups xmm8, [rsi + rdx - 64]",
        "movups xmm9, [rsi + rdx - 48]",
        "movups xmm10, [rsi + rdx - 32]",
        "movups xmm11, [rsi + rdx - 16]",
        "lea r8, [rdi + rdx]",
        "sub rdx, 128",
        "jbe 25f",
        "24:",
        "movups xmm0, [rsi]",
        "movups xmm1, [rsi + 16]",
        "movups xmm2, [rsi + 32]",
        "movups xmm3, [rsi + 48]",
        "movups xmm4, [rsi + 64]",
        "movups xmm5, [rsi + 80]",
        "movups xmm6, [rsi + 96]",
        "movups xmm7, [rsi + 112]",
        "movups [rdi], xmm0",
        "movups [rdi + 16], xmm1",
        "movups [rdi + 32], xmm2",
        "movups [rdi + 48], xmm3",
        "movups [rdi + 64], xmm4",
        "movups [rdi + 80], xmm5",
        "movups [rdi + 96], xmm6",
        "movups [rdi + 112], xmm7",
        "add rsi, 128",
        "add rdi, 128",
        "sub rdx, 128",
        "ja 24b",
        // What is left is rdx + 128, 1 to 128 bytes; the last 64 of them are in xmm8 to xmm11 already.
        "25:",
        "add rdx, 64",
        "jle 26f",
        "movups xmm0, [rsi]",
        "movups xmm1, [rsi + 16]",
        "movups xmm2, [rsi + 32]",
        "movups xmm3, [rsi + 48]",
        "movups [rdi], xmm0",
        "movups [rdi + 16], xmm1",
        "movups [rdi + 32], xmm2",
        "movups [rdi + 48], xmm3",
        "26:",
        "movups [r8 - 64], xmm8",
        "movups [r8 - 48], xmm9",
        "movups [r8 - 32], xmm10",
        "movups [r8 - 16], xmm11",
        "ret",
        "30:",
        "cmp rdx, 8",
        "jb 32f",
        "mov rcx, [rsi]",
        "mov r8, [rsi + rdx - 8]",
        "mov [rdi], rcx",
        "mov [rdi + rdx - 8], r8",
        "ret",
        "32:",
        "cmp rdx, 4",
        "jb 34f",
        "mov ecx, [rsi]",
        "mov r8d, [rsi + rdx - 4]",
        "mov [rdi], ecx",
        "mov [rdi + rdx - 4], r8d",
        "ret",
        // 0 to 3: the first, the middle and the last byte.
        "34:",
        "test rdx, rdx",
        "je 36f",
        "movzx ecx, byte ptr [rsi]",
        "movzx r8d, byte ptr [rsi + rdx - 1]",
        "mov r9, rdx",
        "shr r9",
        "movzx r10d, byte ptr [rsi + r9]",
        "mov [rdi + r9], r10b",
        "mov [rdi], cl",
        "mov [rdi + rdx - 1], r8b",
        "36:",
        "ret",
    )
}

/// Copies `n` bytes between regions that may overlap.
///
/// # Safety
/// `src` is valid for reads and `dst` for writes of `n` bytes.
#[unsafe(naked)]
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn memmove(dst: *mut u8, src: *const u8, n: usize) -> *mut u8 {
    naked_asm!(
        // Up to 64 bytes `memcpy` loads all before it stores. Beyond, it is right where the destination does not begin inside the source
        // (dst - src, unsigned, not below n) and its last 64 bytes, loaded first, are not below what it overwrites.
        "mov rcx, rdi",
        "sub rcx, rsi",
        "cmp rcx, rdx",
        "jae 10f",
        "cmp rdx, 64",
        "ja 20f",
        "10:",
        "jmp {memcpy}",
        // Backward: from the end, the first 64 bytes loaded beforehand.
        "20:",
        "mov rax, rdi",
        "movups xmm8, [rsi]",
        "movups xmm9, [rsi + 16]",
        "movups xmm10, [rsi + 32]",
        "movups xmm11, [rsi + 48]",
        "24:",
        "movups xmm0, [rsi + rdx - 16]",
        "movups xmm1, [rsi + rdx - 32]",
        "movups xmm2, [rsi + rdx - 48]",
        "movups xmm3, [rsi + rdx - 64]",
        "movups [rdi + rdx - 16], xmm0",
        "movups [rdi + rdx - 32], xmm1",
        "movups [rdi + rdx - 48], xmm2",
        "movups [rdi + rdx - 64], xmm3",
        "sub rdx, 64",
        "cmp rdx, 64",
        "ja 24b",
        "movups [rdi], xmm8",
        "movups [rdi + 16], xmm9",
        "movups [rdi + 32], xmm10",
        "movups [rdi + 48], xmm11",
        "ret",
        memcpy = sym memcpy,
    )
}

/// Sets `n` bytes to the low byte of `value`.
///
/// # Safety
/// `dst` is valid for writes of `n` bytes.
#[unsafe(naked)]
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn memset(dst: *mut u8, value: i32, n: usize) -> *mut u8 {
    naked_asm!(
        "mov rax, rdi",
        // The byte in all eight places of rcx.
        "movzx ecx, sil",
        "movabs r8, 0x0101010101010101",
        "imul rcx, r8",
        "cmp rdx, 16",
        "jb 30f",
        "movq xmm0, rcx",
        "punpcklqdq xmm0, xmm0",
        "lea r8, [rdi + rdx - 16]",
        "sub rdx, 64",
        "jb 22f",
        "20:",
        "movups [rdi], xmm0",
        "movups [rdi + 16], xmm0",
        "movups [rdi + 32], xmm0",
        "movups [rdi + 48], xmm0",
        "add rdi, 64",
        "sub rdx, 64",
        "jae 20b",
        // The rest, rdx + 64 bytes, is below 64: stores of 16 up to the last, which may overlap.
        "22:",
        "add rdx, 64 - 16",
        "js 26f",
        "24:",
        "movups [rdi], xmm0",
        "add rdi, 16",
        "sub rdx, 16",
        "jns 24b",
        "26:",
        "movups [r8], xmm0",
        "ret",
        "30:",
        "cmp rdx, 8",
        "jb 32f",
        "mov [rdi], rcx",
        "mov [rdi + rdx - 8], rcx",
        "ret",
        "32:",
        "cmp rdx, 4",
        "jb 34f",
        "mov [rdi], ecx",
        "mov [rdi + rdx - 4], ecx",
        "ret",
        "34:",
        "test rdx, rdx",
        "je 36f",
        "mov [rdi], cl",
        "mov [rdi + rdx - 1], cl",
        "shr rdx",
        "mov [rdi + rdx], cl",
        "36:",
        "ret",
    )
}

/// Compares `n` bytes as unsigned numbers: below, equal to or above 0.
///
/// # Safety
/// `a` and `b` are valid for reads of `n` bytes.
#[unsafe(naked)]
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, n: usize) -> i32 {
    naked_asm!(
        "sub rdx, 16",
        "jb 30f",
        "20:",
        "movups xmm0, [rdi]",
        "movups xmm1, [rsi]",
        "pcmpeqb xmm0, xmm1",
        "pmovmskb eax, xmm0",
        "xor eax, 0xffff",
        "jne 40f",
        "test rdx, rdx",
        "je 26f",
        "add rdi, 16",
        "add rsi, 16",
        "sub rdx, 16",
        "jae 20b",
        // 1 to 15 are left, behind at least 16: step back so that the last 16 end with them.
        "add rdi, rdx",
        "add rsi, rdx",
        "xor edx, edx",
        "jmp 20b",
        "26:",
        "xor eax, eax",
        "ret",
        // The first byte that differs.
        "40:",
        "bsf ecx, eax",
        "movzx eax, byte ptr [rdi + rcx]",
        "movzx ecx, byte ptr [rsi + rcx]",
        "sub eax, ecx",
        "ret",
        "30:",
        "add rdx, 8",
        "js 32f",
        // 8 to 15: as two big-endian numbers, of which the second may overlap the first.
        "mov rax, [rdi]",
        "mov rcx, [rsi]",
        "bswap rax",
        "bswap rcx",
        "cmp rax, rcx",
        "jne 50f",
        "mov rax, [rdi + rdx]",
        "mov rcx, [rsi + rdx]",
        "bswap rax",
        "bswap rcx",
        "cmp rax, rcx",
        "jne 50f",
        "xor eax, eax",
        "ret",
        "50:",
        "sbb eax, eax",
        "or eax, 1",
        "ret",
        "32:",
        "add rdx, 8",
        "je 26b",
        "34:",
        "movzx eax, byte ptr [rdi]",
        "movzx ecx, byte ptr [rsi]",
        "sub eax, ecx",
        "jne 36f",
        "inc rdi",
        "inc rsi",
        "dec rdx",
        "jne 34b",
        "36:",
        "ret",
    )
}

/// Compares `n` bytes: 0 where they are equal.
///
/// # Safety
/// `a` and `b` are valid for reads of `n` bytes.
#[unsafe(naked)]
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, n: usize) -> i32 {
    naked_asm!("jmp {memcmp}", memcmp = sym memcmp)
}
