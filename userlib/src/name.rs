//! The name service ([`abi::name`]): how a server is found.

use core::time::Duration;

use abi::{
    Error,
    name::{LOOK_UP, REGISTER},
    syscall::NAME_MAX,
};

use crate::{
    message::{Outgoing, ask},
    port::{ReceiveRight, SendRight},
    task,
};

/// Registers a port of ours under a name, until the port dies.
///
/// # Errors
/// [`Error::Exists`] if a living port has the name; [`Error::Denied`] for those of servers under supervision, which are theirs; [`Error::BadArgument`] for a name that is empty or too long.
pub fn register(name: &[u8], port: &ReceiveRight) -> Result<(), Error> {
    check(name)?;
    ask(&task::bootstrap(), Outgoing::with_bytes(REGISTER, name).carry_send_to(port), None)?.status()
}

/// Finds the port of a name, waiting for it to appear no longer than `limit`.
///
/// # Errors
/// [`Error::TimedOut`] if it does not appear.
pub fn look_up(name: &[u8], limit: Option<Duration>) -> Result<SendRight, Error> {
    check(name)?;
    let mut reply = ask(&task::bootstrap(), Outgoing::with_bytes(LOOK_UP, name), limit)?;
    reply.status()?;
    reply.take_carried().map(SendRight::new).ok_or(Error::PeerMisbehaviour)
}

fn check(name: &[u8]) -> Result<(), Error> {
    if name.is_empty() || name.len() > NAME_MAX { Err(Error::BadArgument) } else { Ok(()) }
}
