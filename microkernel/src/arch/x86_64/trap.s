// Every way from a task into the kernel and back.
//
// Ring 0 runs with interrupts off and on one stack, so that what is entered here can use statics relative to rip: no swapgs, no
// per-thread stack. The offsets are those of context.rs, which asserts them.
//
// - Interrupts and exceptions from ring 3: TSS.rsp0 points behind the frame in the running thread's Context, so the processor
//   and the pushes below fill it in place; the FPU and SSE state goes there too.
// - `syscall`: rip, rflags and rsp go on the kernel stack; the callee-saved registers stay where they are, since Rust keeps them. They are
//   stored in the Context only if another thread is to run.

.set CONTEXT_REGISTERS, 512
.set CONTEXT_RBX, 512 + 11 * 8
.set CONTEXT_RBP, 512 + 10 * 8
.set CONTEXT_R12, 512 + 3 * 8
.set CONTEXT_R13, 512 + 2 * 8
.set CONTEXT_R14, 512 + 1 * 8
.set CONTEXT_R15, 512 + 0 * 8
.set CONTEXT_RAX, 512 + 14 * 8
.set CONTEXT_RDX, 512 + 12 * 8
.set CONTEXT_RIP, 648
.set CONTEXT_RFLAGS, 664
.set CONTEXT_RSP, 672
.set CONTEXT_KIND, 688
.set CONTEXT_MXCSR, 696
.set CONTEXT_FCW, 700

.macro push_all                     // in the order of a Context's registers, from the end
    pushq %rax
    pushq %rcx
    pushq %rdx
    pushq %rbx
    pushq %rbp
    pushq %rsi
    pushq %rdi
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
.endm

.text

.balign 16
.global syscall_entry
syscall_entry:
    movq %rsp, user_stack_pointer(%rip)
    leaq kernel_stack_top(%rip), %rsp
    pushq %r11
    pushq %rcx
    pushq %rax                      // the number: the seventh argument
    pushq %rax
    movq %r10, %rcx
    call on_system_call             // status in rax, value in rdx, as they go back
    cmpq $-1, %rax
    je 1f
    addq $16, %rsp
    popq %rcx
    popq %r11
    // What Rust left in the caller-saved registers is none of the task's business.
    xorl %edi, %edi
    xorl %esi, %esi
    xorl %r8d, %r8d
    xorl %r9d, %r9d
    xorl %r10d, %r10d
    movq user_stack_pointer(%rip), %rsp
    sysretq

1:  // The thread waits, or has ended: what is not lost over a system call goes to its Context, then somebody else runs.
    movq current_context(%rip), %rdi
    movq 16(%rsp), %rcx
    movq %rcx, CONTEXT_RIP(%rdi)
    movq 24(%rsp), %rcx
    movq %rcx, CONTEXT_RFLAGS(%rdi)
    movq user_stack_pointer(%rip), %rcx
    movq %rcx, CONTEXT_RSP(%rdi)
    movq %rbx, CONTEXT_RBX(%rdi)
    movq %rbp, CONTEXT_RBP(%rdi)
    movq %r12, CONTEXT_R12(%rdi)
    movq %r13, CONTEXT_R13(%rdi)
    movq %r14, CONTEXT_R14(%rdi)
    movq %r15, CONTEXT_R15(%rdi)
    movq $1, CONTEXT_KIND(%rdi)
    stmxcsr CONTEXT_MXCSR(%rdi)
    fnstcw CONTEXT_FCW(%rdi)
    leaq kernel_stack_top(%rip), %rsp
    // Fall through.

// Asks who runs, and goes there. The stack is empty.
.global enter_next
enter_next:
    call next_context               // the Context in rax; rdx = 0 if the address space is the one that was there
enter_context:
    cmpq $0, CONTEXT_KIND(%rax)
    je 2f
    // It waits in a system call. Another task's FPU and SSE registers must not be seen; its own control words must.
    testq %rdx, %rdx
    je 1f
    fxrstor64 clean_fx(%rip)
1:  ldmxcsr CONTEXT_MXCSR(%rax)
    fldcw CONTEXT_FCW(%rax)
    movq CONTEXT_RIP(%rax), %rcx
    movq CONTEXT_RFLAGS(%rax), %r11
    movq CONTEXT_RBX(%rax), %rbx
    movq CONTEXT_RBP(%rax), %rbp
    movq CONTEXT_R12(%rax), %r12
    movq CONTEXT_R13(%rax), %r13
    movq CONTEXT_R14(%rax), %r14
    movq CONTEXT_R15(%rax), %r15
    movq CONTEXT_RDX(%rax), %rdx
    movq CONTEXT_RSP(%rax), %rsp
    movq CONTEXT_RAX(%rax), %rax
    xorl %edi, %edi
    xorl %esi, %esi
    xorl %r8d, %r8d
    xorl %r9d, %r9d
    xorl %r10d, %r10d
    sysretq

2:  // It was interrupted, or is new: all registers.
    fxrstor64 (%rax)
    leaq CONTEXT_REGISTERS(%rax), %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rdi
    popq %rsi
    popq %rbp
    popq %rbx
    popq %rdx
    popq %rcx
    popq %rax
    addq $16, %rsp
    iretq

// One stub of 16 bytes for each vector: an error code where the processor gives none, then the vector.
.balign 16
.global vector_stubs
vector_stubs:
.set vector, 0
.rept 48
    .balign 16
    .if (vector == 8) || (vector >= 10 && vector <= 14) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30)
    .else
    pushq $0
    .endif
    pushq $vector
    .if (vector == 2) || (vector == 8) || (vector == 18)
    // On a stack of their own, wherever they came from: there is no way back.
    jmp fatal
    .else
    jmp trap
    .endif
    .set vector, vector + 1
.endr

.balign 16
trap:
    testb $3, 24(%rsp)
    jz 1f
    push_all
    fxsave64 -CONTEXT_REGISTERS(%rsp)
    cld
    movq $0, CONTEXT_KIND - CONTEXT_REGISTERS(%rsp)
    movq 120(%rsp), %rdi
    movq 128(%rsp), %rsi
    leaq kernel_stack_top(%rip), %rsp
    call on_user_trap               // not 0: go back to where it came from
    testq %rax, %rax
    je enter_next
    movq current_context(%rip), %rax
    jmp 2b

1:  cmpq $32, (%rsp)
    jb fatal
    // An interrupt in the kernel comes from the idle loop's hlt alone, which counts the caller-saved registers as lost.
    movq (%rsp), %rdi
    subq $8, %rsp
    call on_idle_interrupt
    addq $24, %rsp
    iretq

fatal:
    push_all
    cld
    movq %rsp, %rdi
    andq $-16, %rsp
    call on_fatal_trap
    ud2

.section .bss.trap, "aw", @nobits
.balign 8
.global current_context
current_context:    .skip 8
user_stack_pointer: .skip 8

.section .rodata.trap, "a", @progbits
// As after a reset, with all exceptions masked (FCW 0x37f, MXCSR 0x1f80).
.balign 16
.global clean_fx
clean_fx:
    .word 0x037f
    .skip 22
    .long 0x1f80
    .skip 484
