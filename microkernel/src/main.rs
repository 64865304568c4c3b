//! Oriel's kernel as a freestanding binary: the library's logic on a machine.
//!
//! `arch/` is the processor, `board/` the chips around it, [`net`] what ties the network driver to both, [`heap`] the memory of the stack where
//! that is in the kernel. How it is entered and
//! left: `arch/x86_64/trap.s`.

#![no_std]
#![no_main]

use memfuncs as _;

extern crate alloc;

mod arch;
mod board;
mod heap;
mod net;
