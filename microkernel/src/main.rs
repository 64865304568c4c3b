//! Oriel's kernel as a freestanding binary: the library's logic on a machine.
//!
//! `arch/` is the processor, `board/` the chips around it, [`net`] what ties the network driver to both. How it is entered and
//! left: `arch/x86_64/trap.s`.

#![no_std]
#![no_main]

use memfuncs as _;

mod arch;
mod board;
mod net;
