//! The processor: all that names it is below here (and in `board/`, which names the chips around it).
//!
//! An architecture is one folder that offers the same names to the rest of the binary: its machine, its bus, and what the drivers
//! ask for.

mod x86_64;

pub use self::x86_64::global;
pub use self::x86_64::hal;
pub use self::x86_64::machine;
pub use self::x86_64::{pci, ports};
