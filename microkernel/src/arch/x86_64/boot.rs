//! What the loader left: `hvm_start_info` (xen/include/public/arch-x86/hvm/start_info.h), found at the
//! address that boot.s was given.
#![expect(unsafe_code, reason = "reads the loader's structures at their physical addresses")]

use super::paging::direct;
use core::ops::Range;
use microkernel::frames::PHYSICAL_END;

core::arch::global_asm!(include_str!("boot.s"), options(att_syntax));

// What boot.s ends the machine with, where the module lies over the kernel.
const _: () = assert!(abi::exit::PORT == 0xf4 && abi::exit::BOOT_FAILED == 0x12);

const MAGIC: u32 = 0x336e_c578;
/// The type of usable memory in the map, as in ACPI's E820.
const RAM: u32 = 1;
/// Entries of the memory map that are looked at.
const MAP_MAX: usize = 128;

#[repr(C)]
#[derive(Clone, Copy)]
struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    module_count: u32,
    modules: u64,
    command_line: u64,
    rsdp: u64,
    map: u64,
    map_entries: u32,
    reserved: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Module {
    address: u64,
    bytes: u64,
    command_line: u64,
    reserved: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct MapEntry {
    address: u64,
    bytes: u64,
    kind: u32,
    reserved: u32,
}

/// What the loader says.
pub struct Loaded {
    info: StartInfo,
}

impl Loaded {
    /// Reads the structure at a physical address; `None` if it is none, or has no memory map.
    pub fn read(start_info: u64) -> Option<Self> {
        let info: StartInfo = read(start_info)?;
        (info.magic == MAGIC && info.version >= 1 && info.map_entries > 0).then_some(Self { info })
    }

    /// The usable memory.
    pub fn ram(&self) -> impl Iterator<Item = Range<u64>> {
        let map = self.info.map;
        (0..MAP_MAX.min(self.info.map_entries as usize))
            .filter_map(move |index| read::<MapEntry>(map + (index * size_of::<MapEntry>()) as u64))
            .filter(|entry| entry.kind == RAM)
            .map(|entry| entry.address..entry.address.saturating_add(entry.bytes))
    }

    /// Where the first module is; it may be anywhere in memory.
    pub fn module(&self) -> Option<Range<u64>> {
        if self.info.module_count == 0 {
            return None;
        }
        let module: Module = read(self.info.modules)?;
        let end = module.address.checked_add(module.bytes)?;
        let inside = self.ram().any(|ram| ram.start <= module.address && end <= ram.end);
        (inside && end <= PHYSICAL_END && module.bytes > 0).then_some(module.address..end)
    }

    /// The kernel's command line, without its zero, cut at the end of `buffer`.
    pub fn command_line<'b>(&self, buffer: &'b mut [u8]) -> &'b [u8] {
        let mut length = 0;
        if self.info.command_line != 0 {
            for slot in buffer.iter_mut() {
                let Some(byte) = read::<u8>(self.info.command_line + length as u64).filter(|&byte| byte != 0)
                else {
                    break;
                };
                *slot = byte;
                length += 1;
            }
        }
        &buffer[..length]
    }
}

/// Copies a value of the loader out of memory that the boot tables map.
fn read<T: Copy>(phys: u64) -> Option<T> {
    let end = phys.checked_add(size_of::<T>() as u64)?;
    // SAFETY: the first 4 GiB are mapped from boot.s on, nothing else uses what the loader left there, and
    // the structures (private, above) are integers, for which every bit pattern is a value.
    (end <= 1 << 32).then(|| unsafe { direct(phys).cast::<T>().read_unaligned() })
}
