//! One thread that waits for several sockets.

use core::time::Duration;

use abi::Error;
use shmqueue::sync::full_fence;

use super::{AsSocket, Want};
use crate::{thread, time::Deadline};

/// Blocks until at least one of the sockets has what is wanted of it; returns the index of the first that has.
///
/// All the sockets are the calling thread's. A socket may be there more than once.
///
/// # Errors
/// [`Error::TimedOut`] after `limit`; [`Error::BadArgument`] for no sockets and no limit, which would be for ever.
pub fn wait_any(waits: &[(&dyn AsSocket, Want)], limit: Option<Duration>) -> Result<usize, Error> {
    if waits.is_empty() && limit.is_none() {
        return Err(Error::BadArgument);
    }
    let ready = || waits.iter().position(|(socket, want)| socket.as_socket().is_ready(*want));
    let deadline = Deadline::after(limit);
    loop {
        if let Some(index) = ready() {
            return Ok(index);
        }
        let left = deadline.left_ns().ok_or(Error::TimedOut)?;
        for (index, (socket, _)) in waits.iter().enumerate() {
            let number = socket.as_socket().number();
            // A socket that is there twice is announced once, with all that is wanted of it.
            if waits[..index].iter().any(|(other, _)| other.as_socket().number() == number) {
                continue;
            }
            let same = waits.iter().filter(|(other, _)| other.as_socket().number() == number);
            let page = &socket.as_socket().page;
            page.set_wait_for(same.fold(0, |bits, (_, want)| bits | want.bits()));
            page.wait_word().announce();
        }
        full_fence(); // one for all: pairs with the server's, between what it does and its look at each word
        let found = ready();
        let woken = if found.is_some() { Ok(()) } else { thread::suspend_ns(left).map(drop) };
        for (socket, _) in waits {
            socket.as_socket().page.wait_word().finish();
        }
        woken?;
        if let Some(index) = found {
            return Ok(index);
        }
    }
}
