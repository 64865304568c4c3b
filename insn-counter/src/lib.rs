//! Counts the instructions that a guest executes under QEMU's TCG, by kernel and user and by marked region.
//!
//! QEMU loads this as a plugin (`-plugin file=libinsn_counter.so,out=FILE`). Each translated block adds its number of
//! instructions to one counter as it runs, by inline code; nothing is called. A program marks the start and the end of
//! what it measures with a no-op that carries a number ([`abi::mark`]); there the plugin appends a snapshot of all
//! counters to `FILE`, which `xtask` reads by way of [`layout`]. `hlt` executes nothing, so idle time isn't counted.
//!
//! A block counts as a whole when it's entered. One that faults midway is counted in full, and so is the block that a mark
//! stands in: a few instructions in millions.
//!
//! With `blocks=FILE` it also counts how often each block runs, by a second inline addition, and keeps these counts of the last
//! marked region in a file that [`blocks`] describes: enough to tell every instruction's share. Both kinds of counts are taken at
//! the same marks, so their sums agree exactly.
//!
//! Arguments: `out=FILE`; `blocks=FILE`; any number of `range=START-END` (hexadecimal, END exclusive), each of which gets a counter of its
//! own beside kernel and user, such as the text of one part of the kernel.
//!
//! Built with `cargo build -p insn-counter --features plugin`.
//!
//! Source: QEMU's `qemu-plugin.h`, plugin API versions 0 and 1 (QEMU 4.2 to 8.2 and later ones that still offer 1).

pub mod blocks;
pub mod layout;
#[cfg(all(feature = "plugin", not(test)))]
mod plugin;
pub mod select;
