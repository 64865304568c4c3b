//! The tables that long mode asks for (SDM volume 3, 3.4, 6.14 and 7.7), and the registers of `syscall`.
#![expect(unsafe_code, reason = "loads descriptor tables and model-specific registers")]

use super::global::Global;
use super::paging;
use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, SS, Segment};
use x86_64::instructions::tables::load_tss;
use x86_64::registers::model_specific::{LStar, Msr, SFMask};
use x86_64::registers::rflags::RFlags;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::idt::InterruptDescriptorTable;
use x86_64::structures::tss::TaskStateSegment;

const KERNEL_CODE: u16 = 0x08;
const KERNEL_DATA: u16 = 0x10;
/// Stack segment of ring 3. `sysretq` wants it 8 below the code segment.
pub const USER_DATA: u16 = 0x18 | 3;
/// Code segment of ring 3.
pub const USER_CODE: u16 = 0x20 | 3;

/// Vectors with a stub in trap.s: exceptions and the PICs' interrupts. A task that calls another by `int` gets a
/// protection fault, and so it does for these, whose gates are for ring 0 and the hardware.
const VECTORS: usize = 48;
const STUB_BYTES: u64 = 16;

static GDT: Global<GlobalDescriptorTable> = Global::new(GlobalDescriptorTable::new());
static TSS: Global<TaskStateSegment> = Global::new(TaskStateSegment::new());
static IDT: Global<InterruptDescriptorTable> = Global::new(InterruptDescriptorTable::new());

/// Loads all of them.
pub fn init() {
    unsafe extern "C" {
        static vector_stubs: u8;
        static syscall_entry: u8;
        static kernel_stack_top: u8;
        static fault_stack_top: u8;
    }
    // SAFETY: called once, before any other function of this module.
    let (gdt, tss, idt) = unsafe { (GDT.get(), TSS.get(), IDT.get()) };
    tss.privilege_stack_table[0] = VirtAddr::new(&raw const kernel_stack_top as u64);
    // Faults of the kernel that has no stack left to fault on, and what no `cli` holds back.
    tss.interrupt_stack_table[0] = VirtAddr::new(&raw const fault_stack_top as u64);

    let kernel_code = gdt.append(Descriptor::kernel_code_segment());
    let kernel_data = gdt.append(Descriptor::kernel_data_segment());
    let user_data = gdt.append(Descriptor::user_data_segment());
    let user_code = gdt.append(Descriptor::user_code_segment());
    let task = gdt.append(Descriptor::tss_segment(tss));
    let raw = |selector: SegmentSelector| selector.0;
    assert_eq!(
        [kernel_code, kernel_data, user_data, user_code].map(raw),
        [KERNEL_CODE, KERNEL_DATA, USER_DATA, USER_CODE]
    );
    gdt.load();
    // SAFETY: the selectors are those of the table just loaded.
    unsafe {
        CS::set_reg(kernel_code);
        SS::set_reg(kernel_data);
        load_tss(task);
    }

    let stub = |vector: usize| VirtAddr::new(&raw const vector_stubs as u64 + STUB_BYTES * vector as u64);
    // SAFETY: each stub follows the convention of its vector (with or without an error code), and preserves
    // what it interrupts or does not return; stack 0 of the IST is for those that do not.
    unsafe {
        idt.divide_error.set_handler_addr(stub(0));
        idt.debug.set_handler_addr(stub(1));
        idt.non_maskable_interrupt.set_handler_addr(stub(2)).set_stack_index(0);
        idt.breakpoint.set_handler_addr(stub(3));
        idt.overflow.set_handler_addr(stub(4));
        idt.bound_range_exceeded.set_handler_addr(stub(5));
        idt.invalid_opcode.set_handler_addr(stub(6));
        idt.device_not_available.set_handler_addr(stub(7));
        idt.double_fault.set_handler_addr(stub(8)).set_stack_index(0);
        idt.invalid_tss.set_handler_addr(stub(10));
        idt.segment_not_present.set_handler_addr(stub(11));
        idt.stack_segment_fault.set_handler_addr(stub(12));
        idt.general_protection_fault.set_handler_addr(stub(13));
        idt.page_fault.set_handler_addr(stub(14));
        idt.x87_floating_point.set_handler_addr(stub(16));
        idt.alignment_check.set_handler_addr(stub(17));
        idt.machine_check.set_handler_addr(stub(18)).set_stack_index(0);
        idt.simd_floating_point.set_handler_addr(stub(19));
        for vector in 32..VECTORS {
            idt[vector as u8].set_handler_addr(stub(vector));
        }
    }
    idt.load();

    LStar::write(VirtAddr::new(&raw const syscall_entry as u64));
    SFMask::write(
        RFlags::INTERRUPT_FLAG
            | RFlags::TRAP_FLAG
            | RFlags::DIRECTION_FLAG
            | RFlags::NESTED_TASK
            | RFlags::ALIGNMENT_CHECK
            | RFlags::RESUME_FLAG,
    );
    // IA32_STAR: `syscall` takes CS and SS from bits 47:32, `sysretq` CS from bits 63:48 plus 16, SS plus 8.
    let star = u64::from(KERNEL_CODE) << 32 | u64::from(KERNEL_DATA | 3) << 48;
    // SAFETY: the selectors fit the table above.
    unsafe {
        Msr::new(0xc000_0081).write(star);
    }
    // SAFETY: writes only bytes of the segment that the processor reads when a task is interrupted; there is
    // none yet.
    assert!(paging::stack().end == unsafe { TSS.get() }.privilege_stack_table[0].as_u64());
}

/// Sets where the processor pushes the frame when ring 3 is interrupted.
#[inline]
pub fn set_interrupt_frame(end: u64) {
    // SAFETY: no other reference to the segment is alive; the processor reads it only from ring 3.
    unsafe {
        TSS.get().privilege_stack_table[0] = VirtAddr::new_truncate(end);
    }
}
