// The entry: PVH ("Xen" note of type 18, XEN_ELFNOTE_PHYS32_ENTRY;
// xen/include/public/arch-x86/hvm/start_info.h). The loader comes here in 32-bit protected mode without
// paging, interrupts off, ebx = physical address of hvm_start_info.
//
// Goes to long mode (Intel SDM volume 3, 10.8.5) with the first 4 GiB mapped three times by 2 MiB pages: at
// 0, for the next few instructions; at DIRECT_MAP; and the first GiB at KERNEL_BASE. paging.rs replaces all
// this.

.section .note.Xen, "a", @note
.balign 4
.long 4, 8, 18
.asciz "Xen"
.quad boot32

.section .boot.text, "ax", @progbits
.code32
.global boot32
boot32:
    cli
    cld
    // A first module that lies over the image: what would say so later is destroyed. hvm_start_info: the number of
    // modules at 12, their list at 16; there the address at 0, the size at 8.
    cmpl $0, 12(%ebx)
    je 1f
    movl 16(%ebx), %eax
    cmpl $0, 4(%eax)
    jne 1f
    movl (%eax), %ecx
    cmpl $kernel_end_phys, %ecx
    jae 1f
    addl 8(%eax), %ecx
    jc boot_no_room
    cmpl $0x100000, %ecx
    ja boot_no_room
1:  movl %ebx, %esi
    // The seven tables may hold anything.
    movl $boot_pml4, %edi
    xorl %eax, %eax
    movl $(7 * 4096 / 4), %ecx
    rep stosl
    movl $(boot_pdpt_low + 3), boot_pml4
    movl $(boot_pdpt_low + 3), boot_pml4 + 256 * 8
    movl $(boot_pdpt_high + 3), boot_pml4 + 511 * 8
    movl $(boot_pd + 3), boot_pdpt_high + 510 * 8
    movl $(boot_pd + 0x0003), boot_pdpt_low
    movl $(boot_pd + 0x1003), boot_pdpt_low + 8
    movl $(boot_pd + 0x2003), boot_pdpt_low + 16
    movl $(boot_pd + 0x3003), boot_pdpt_low + 24
    // Present, writable, 2 MiB.
    movl $0x83, %eax
    movl $boot_pd, %edi
1:  movl %eax, (%edi)
    addl $8, %edi
    addl $0x200000, %eax
    jnc 1b

    // CR4: PAE, OSFXSR, OSXMMEXCPT. EFER: SCE, LME, NXE. CR0: PE, MP, NE, WP, PG.
    movl %cr4, %eax
    orl $0x620, %eax
    movl %eax, %cr4
    movl $boot_pml4, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x901, %eax
    wrmsr
    movl %cr0, %eax
    andl $0x9ffffff3, %eax
    orl $0x80010023, %eax
    movl %eax, %cr0
    lgdt boot_gdt_pointer
    ljmp $8, $boot64

// Says why on the first serial line, by polling (16550: line status at 5, its bits 5 and 6: ready for a byte, all sent),
// and ends QEMU as `abi::exit` has it.
boot_no_room:
    movl $boot_no_room_text, %esi
2:  movw $0x3fd, %dx
3:  inb %dx, %al
    testb $0x20, %al
    jz 3b
    lodsb
    testb %al, %al
    jz 4f
    movw $0x3f8, %dx
    outb %al, %dx
    jmp 2b
4:  inb %dx, %al
    testb $0x40, %al
    jz 4b
    movl $0x12, %eax
    movw $0xf4, %dx
    outl %eax, %dx
5:  hlt
    jmp 5b
boot_no_room_text:
    .asciz "boot: too little memory: the module lies over the kernel: give QEMU more with -m\n"

.code64
boot64:
    xorl %eax, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl %eax, %fs
    movl %eax, %gs
    movabsq $kernel_stack_top, %rsp
    xorl %ebp, %ebp
    movl %esi, %edi
    movabsq $main, %rax
    call *%rax
    ud2

.balign 8
boot_gdt:
    .quad 0
    .quad 0x00209b0000000000
boot_gdt_pointer:
    .word 15
    .long boot_gdt

.section .boot.bss, "aw", @nobits
.balign 4096
boot_pml4:      .skip 4096
boot_pdpt_low:  .skip 4096
boot_pdpt_high: .skip 4096
boot_pd:        .skip 4 * 4096
