//! The name service: the messages that [`crate::port::BOOTSTRAP`] takes.
//!
//! The body holds the name, at most [`crate::syscall::NAME_MAX`] bytes of it. The reply's body word 0 is a status:
//! 0 or an [`crate::Error`].

/// Registers the carried send right under the body's name, until the port dies. The names of the supervisor and of the servers that it
/// starts are theirs alone, whether or not they live at the moment: anybody else is [`crate::Error::Denied`].
pub const REGISTER: u32 = 0x100;
/// Asks for the port of the body's name; the reply carries a send right. Waits for the name to appear for as long as body
/// says: the reply comes when it does, or never, so the asker sets a limit on its receive.
pub const LOOK_UP: u32 = 0x101;
/// The reply to any of them.
pub const REPLY: u32 = 0x102;
/// Asks to end the machine with the code of body word 0 ([`crate::exit`]). The first task alone can do so, and does for
/// the shell that it started; anybody else is [`crate::Error::Denied`].
pub const POWER_OFF: u32 = 0x103;

/// The name under which the protocol server registers.
pub const NETWORK: &[u8] = b"net";
