//! x86-64, after the Intel Software Developer's Manual (SDM) and the AMD64 Architecture Programmer's Manual.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`boot`] | PVH entry to long mode; what the loader says of memory, module and command line |
//! | [`start`] | the order of things from there to the first task |
//! | [`paging`] | the kernel's half of the address space, and the tables of tasks |
//! | [`segments`] | GDT, TSS, IDT, the registers of `syscall` |
//! | [`trap`] | every way into the kernel and back |
//! | [`context`] | a thread's registers |
//! | [`machine`] | the seam to the core, [`microkernel::machine::Machine`] |
//! | [`serial`], [`clock`], [`pic`], [`pci`] | UART, PIT and TSC, interrupt controllers, configuration space |
//! | [`hal`] | what the network drivers ask for |
//! | [`panic`] | the report of a kernel that cannot go on |
//!
//! # Execution model
//! Ring 0 runs with interrupts off, on one stack, and never blocks in the middle. The one place that takes an
//! interrupt is the idle loop's `sti; hlt; cli`. Hence the globals below need no lock.

mod boot;
mod clock;
mod context;
pub mod global;
pub mod hal;
pub mod machine;
mod paging;
mod panic;
pub mod pci;
mod pic;
pub mod ports;
mod segments;
mod serial;
mod start;
mod trap;
