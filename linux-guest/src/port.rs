//! Ends the machine as Oriel does, by QEMU's debug-exit device ([`abi::exit`]).

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use crate::command::{During as _, Outcome, Word, Words, unknown};

/// `poweroff`.
///
/// # Errors
/// No `/dev/port`, or no such device behind it.
pub fn power_off(words: Words) -> Outcome {
    if let Some(word) = words.into_iter().next() {
        return Err(unknown(&Word::Operand(word)));
    }
    let ports = File::options().write(true).open("/dev/port").during("/dev/port")?;
    // The code fits a byte, and the device takes one.
    const CODE: u8 = abi::exit::OFF as u8;
    const { assert!(CODE as u32 == abi::exit::OFF) };
    ports.write_all_at(&[CODE], abi::exit::PORT.into()).during("/dev/port")?;
    Err("the machine goes on".into())
}
