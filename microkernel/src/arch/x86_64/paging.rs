//! Page tables (SDM volume 3, chapter 4): the kernel's half, which all address spaces share, and the tables of tasks.
//!
//! | from | what |
//! | --- | --- |
//! | 0 | the task, page by page |
//! | [`DIRECT_MAP`] | all RAM, by 2 MiB pages, not executable |
//! | [`MMIO`] | device registers, not cached |
//! | [`KERNEL_BASE`] | the kernel's image: text, constants, data, each with its own rights; a hole below each stack |
#![expect(unsafe_code, reason = "reads and writes page tables through the direct map")]

use core::arch::asm;
use microkernel::frames::{FRAME_BYTES, Frames, PHYSICAL_END};
use microkernel::machine::Prot;

/// Where the image is linked; its physical address is lower by just this.
pub const KERNEL_BASE: u64 = 0xffff_ffff_8000_0000;
/// Where physical address 0 is seen.
pub const DIRECT_MAP: u64 = 0xffff_8000_0000_0000;
/// Where device registers are mapped.
pub const MMIO: u64 = 0xffff_ffff_a000_0000;
/// The user's half ends one page before the canonical hole, so that a `syscall` at its very end cannot return
/// to an address that faults in `sysretq` (SDM volume 2, SYSRET).
const USER_END: u64 = abi::vm::USER_END - FRAME_BYTES;

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const WRITE_THROUGH: u64 = 1 << 3;
const CACHE_DISABLE: u64 = 1 << 4;
const LARGE: u64 = 1 << 7;
const GLOBAL: u64 = 1 << 8;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

const ENTRIES: u64 = 512;
const LARGE_BYTES: u64 = 2 << 20;

/// Where the kernel sees a physical address.
#[inline]
pub const fn direct(phys: u64) -> *mut u8 {
    (DIRECT_MAP + phys) as *mut u8
}

/// The page tables of a task.
pub struct Space {
    /// The physical address of the highest table.
    root: u64,
}

/// The tables that only the kernel uses.
pub struct KernelSpace {
    root: u64,
    /// What CR3 holds.
    active: u64,
    /// The next free address for device registers.
    mmio_next: u64,
}

impl KernelSpace {
    /// Before [`KernelSpace::build`].
    pub const fn new() -> Self {
        Self { root: 0, active: 0, mmio_next: MMIO }
    }

    /// Builds the kernel's half with frames of `frames`, and goes over to it. `ram` gives the ranges of the
    /// direct map. `None`: out of frames.
    pub fn build(
        &mut self,
        frames: &mut Frames,
        ram: impl Iterator<Item = core::ops::Range<u64>>,
    ) -> Option<()> {
        self.root = new_table(frames)?;
        // All 256 entries' tables of the upper half that will ever be used exist from here on: spaces copy
        // the entries.
        table_below(frames, entry_of(self.root, 3, MMIO), WRITABLE)?;
        for range in ram {
            let mut phys = range.start / LARGE_BYTES * LARGE_BYTES;
            while phys < range.end.min(PHYSICAL_END) {
                let entry = walk_to(frames, self.root, DIRECT_MAP + phys, 1)?;
                store(entry, phys | PRESENT | WRITABLE | LARGE | GLOBAL | NO_EXECUTE);
                phys += LARGE_BYTES;
            }
        }
        for (range, rights) in image() {
            let mut virt = range.start;
            while virt < range.end {
                let entry = walk_to(frames, self.root, virt, 0)?;
                store(entry, (virt - KERNEL_BASE) | PRESENT | GLOBAL | rights);
                virt += FRAME_BYTES;
            }
        }
        // SAFETY: the new tables map the image, the stack in use and the direct map where the boot tables had them.
        unsafe {
            load_root(self.root);
            // CR4.PGE: kernel pages outlive changes of the space.
            asm!("mov rax, cr4", "or rax, 0x80", "mov cr4, rax", out("rax") _, options(nostack, preserves_flags));
        }
        self.active = self.root;
        Some(())
    }

    /// Maps device registers; the address of `phys`. `None`: out of frames.
    pub fn map_mmio(&mut self, frames: &mut Frames, phys: u64, bytes: u64) -> Option<*mut u8> {
        let first = phys / FRAME_BYTES * FRAME_BYTES;
        let pages = phys.checked_add(bytes)?.div_ceil(FRAME_BYTES) - first / FRAME_BYTES;
        let base = self.mmio_next;
        for page in 0..pages {
            let entry = walk_to(frames, self.root, base + page * FRAME_BYTES, 0)?;
            let address = first + page * FRAME_BYTES;
            store(entry, address | PRESENT | WRITABLE | WRITE_THROUGH | CACHE_DISABLE | GLOBAL | NO_EXECUTE);
        }
        // A page that is not mapped stays between two devices.
        self.mmio_next += (pages + 1) * FRAME_BYTES;
        Some((base + phys % FRAME_BYTES) as *mut u8)
    }

    /// Makes an empty space for a task.
    pub fn new_space(&self, frames: &mut Frames) -> Option<Space> {
        let root = new_table(frames)?;
        for index in ENTRIES / 2..ENTRIES {
            store(entry_at(root, index), load(entry_at(self.root, index)));
        }
        Some(Space { root })
    }

    /// Gives the frames of a task's tables back.
    #[expect(clippy::needless_pass_by_value, reason = "nobody may use the space afterwards")]
    pub fn drop_space(&mut self, frames: &mut Frames, space: Space) {
        if self.active == space.root {
            // SAFETY: the kernel's own tables map all that ring 0 uses.
            unsafe {
                load_root(self.root);
            }
            self.active = self.root;
        }
        for index in 0..ENTRIES / 2 {
            free_below(frames, load(entry_at(space.root, index)), 2);
        }
        frames.free(space.root);
    }

    /// Makes a task's space the active one.
    #[inline]
    pub fn activate(&mut self, space: &Space) {
        if self.active != space.root {
            // SAFETY: its upper half is the kernel's.
            unsafe {
                load_root(space.root);
            }
            self.active = space.root;
        }
    }

    /// Unmaps one page of a task; the frame.
    pub fn unmap(&self, space: &Space, virt: u64) -> Option<u64> {
        let entry = leaf(space, virt)?;
        let old = load(entry);
        store(entry, 0);
        if self.active == space.root {
            // SAFETY: forgets a translation, no more.
            unsafe {
                asm!("invlpg [{}]", in(reg) virt, options(nostack, preserves_flags));
            }
        }
        (old & PRESENT != 0).then_some(old & ADDRESS)
    }

    /// The tables that CR3 names, for the panic report.
    pub const fn active(&self) -> u64 {
        self.active
    }
}

impl Space {
    /// Maps one page for the user. `None`: out of frames, or no address that the user can have.
    pub fn map(&mut self, frames: &mut Frames, virt: u64, phys: u64, prot: Prot) -> Option<()> {
        assert!(
            !(prot.write && prot.execute) && phys.is_multiple_of(FRAME_BYTES),
            "mapping {phys:#x} {prot:?}"
        );
        if virt >= USER_END {
            return None;
        }
        let entry = walk_to(frames, self.root, virt, 0)?;
        let write = if prot.write { WRITABLE } else { 0 };
        let execute = if prot.execute { 0 } else { NO_EXECUTE };
        store(entry, phys | PRESENT | USER | write | execute);
        Some(())
    }

    /// The physical address behind an address of the user.
    #[inline]
    pub fn translate(&self, virt: u64, write: bool) -> Option<u64> {
        let entry = load(leaf(self, virt)?);
        let wanted = PRESENT | USER | if write { WRITABLE } else { 0 };
        (entry & wanted == wanted).then_some((entry & ADDRESS) + virt % FRAME_BYTES)
    }
}

/// The pages of the image with their rights, as the link script lays them out.
fn image() -> [(core::ops::Range<u64>, u64); 5] {
    unsafe extern "C" {
        static kernel_text_start: u8;
        static kernel_text_end: u8;
        static kernel_rodata_start: u8;
        static kernel_rodata_end: u8;
        static kernel_data_start: u8;
        static kernel_stack_guard: u8;
        static kernel_stack_bottom: u8;
        static fault_stack_guard: u8;
        static fault_stack_bottom: u8;
        static kernel_data_end: u8;
    }
    let data = WRITABLE | NO_EXECUTE;
    let range = |start: *const u8, end: *const u8| start as u64..end as u64;
    [
        (range(&raw const kernel_text_start, &raw const kernel_text_end), 0),
        (range(&raw const kernel_rodata_start, &raw const kernel_rodata_end), NO_EXECUTE),
        (range(&raw const kernel_data_start, &raw const kernel_stack_guard), data),
        (range(&raw const kernel_stack_bottom, &raw const fault_stack_guard), data),
        (range(&raw const fault_stack_bottom, &raw const kernel_data_end), data),
    ]
}

/// The physical addresses of the image.
pub fn image_physical() -> core::ops::Range<u64> {
    unsafe extern "C" {
        static kernel_data_end: u8;
    }
    0x10_0000..&raw const kernel_data_end as u64 - KERNEL_BASE
}

/// The addresses of the kernel's code.
pub fn text() -> core::ops::Range<u64> {
    image()[0].0.clone()
}

/// The addresses of the stack that the kernel runs on.
pub fn stack() -> core::ops::Range<u64> {
    image()[3].0.clone()
}

/// Where an entry is, as the kernel sees it.
type Entry = *mut u64;

#[inline]
const fn entry_at(table: u64, index: u64) -> Entry {
    direct(table + index * 8).cast()
}

/// The entry for an address in a table of a level: 3 is the highest, 0 the last.
#[inline]
const fn entry_of(table: u64, level: u32, virt: u64) -> Entry {
    entry_at(table, virt >> (12 + 9 * level) & (ENTRIES - 1))
}

#[inline]
fn load(entry: Entry) -> u64 {
    // SAFETY: entries come from `entry_at` with tables that this module made, in the direct map.
    unsafe { entry.read_volatile() }
}

#[inline]
fn store(entry: Entry, value: u64) {
    // SAFETY: as in `load`.
    unsafe { entry.write_volatile(value) }
}

/// A zeroed table.
fn new_table(frames: &mut Frames) -> Option<u64> {
    let phys = frames.allocate()?;
    // SAFETY: a free frame is nobody's, and RAM is in the direct map.
    unsafe {
        direct(phys).write_bytes(0, FRAME_BYTES as usize);
    }
    Some(phys)
}

/// The table that an entry names, made if there is none.
fn table_below(frames: &mut Frames, entry: Entry, rights: u64) -> Option<u64> {
    let value = load(entry);
    if value & PRESENT != 0 {
        return Some(value & ADDRESS);
    }
    let table = new_table(frames)?;
    store(entry, table | PRESENT | rights);
    Some(table)
}

/// The entry of an address at a level, its tables made where they are missing.
fn walk_to(frames: &mut Frames, root: u64, virt: u64, level: u32) -> Option<Entry> {
    let rights = WRITABLE | if virt < USER_END { USER } else { 0 };
    let mut table = root;
    for above in (level + 1..4).rev() {
        table = table_below(frames, entry_of(table, above, virt), rights)?;
    }
    Some(entry_of(table, level, virt))
}

/// The last entry of a user's address, if there are tables for it.
#[inline]
fn leaf(space: &Space, virt: u64) -> Option<Entry> {
    if virt >= USER_END {
        return None;
    }
    let mut table = space.root;
    for level in (1..4).rev() {
        let value = load(entry_of(table, level, virt));
        if value & PRESENT == 0 {
            return None;
        }
        table = value & ADDRESS;
    }
    Some(entry_of(table, 0, virt))
}

/// Gives back the table that an entry names and, `depth` levels deep, those below it; what the last level maps stays.
fn free_below(frames: &mut Frames, value: u64, depth: u32) {
    if value & PRESENT == 0 {
        return;
    }
    let table = value & ADDRESS;
    if depth > 0 {
        for index in 0..ENTRIES {
            free_below(frames, load(entry_at(table, index)), depth - 1);
        }
    }
    frames.free(table);
}

/// # Safety
/// The tables map the kernel's half.
#[inline]
unsafe fn load_root(root: u64) {
    // SAFETY: by the caller's proof; it also forgets the translations of the user's half.
    unsafe { asm!("mov cr3, {}", in(reg) root, options(nostack, preserves_flags)) }
}
