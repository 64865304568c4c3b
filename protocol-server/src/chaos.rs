//! Misbehaviour on demand, to try whether the rest survives it; only where the kernel's command line asks for it (`chaos=1`).
#![expect(unsafe_code, reason = "a fault on purpose")]

use abi::{
    message::Message,
    supervise::{CHAOS, EXIT, FAULT, HANG, STALLED},
};
use userlib::{info, task};

/// An address in the first page, which is never mapped.
const NOWHERE: usize = 8;

/// Does what a message asks, if it is one of these and the command line allows it.
#[cold]
pub fn obey(message: &Message) {
    if info::option(CHAOS) != Some("1") {
        return;
    }
    match message.id {
        HANG => hang(),
        // SAFETY: none: the page is not mapped, and the kernel ends this task.
        FAULT => unsafe { core::ptr::with_exposed_provenance::<u32>(NOWHERE).read_volatile() },
        EXIT => task::exit(0),
        _ => return,
    };
}

/// Whether an argument asks for a hang at the start, and the command line allows it.
pub fn is_stalled(argument: &str) -> bool {
    argument == STALLED && info::option(CHAOS) == Some("1")
}

/// Never does anything again.
pub fn hang() -> ! {
    loop {
        core::hint::spin_loop();
    }
}
