//! Calls of a server with data: a request and its reply, in one trap.
//!
//! Each call needs a port for its reply. To make one and give it up again would be two traps more, so ports are kept, as many as there ever
//! were threads that called at once. A port is kept only if the reply came: so a reply that comes too late finds its port gone,
//! and is never taken for that of a later call.
#![expect(unsafe_code, reason = "system calls")]

use alloc::vec::Vec;

use abi::{
    Error,
    message::{DATA_MAX, Data, Disposition, Message, NOTIFY_SEND_ONCE},
    syscall::{FOREVER, Syscall},
};

use crate::{
    memory::Mapping,
    message::Incoming,
    port::{ReceiveRight, SendRight},
    raw,
    sync::Lock,
};

/// Ports for replies that nobody uses now.
static REPLY_PORTS: Lock<Vec<ReceiveRight>> = Lock::new(Vec::new());

/// The data of a request.
#[derive(Debug)]
pub enum Payload<'d> {
    /// So many bytes, copied: at most [`DATA_MAX`].
    Inline(&'d [u8]),
    /// So many bytes at the start of pages that go to the server.
    Pages(Mapping, usize),
}

/// Sends a request and waits for the reply, whose data goes to the front of `room` unless it comes as pages.
///
/// # Errors
/// [`Error::Dead`] without a server; [`Error::TooLong`] for more data than a message carries, or than there is room for.
pub fn call<'r>(
    to: &SendRight,
    mut request: Message,
    payload: Payload<'_>,
    room: &'r mut [u8],
) -> Result<Incoming<'r>, Error> {
    let (kind, address, length) = match &payload {
        Payload::Inline([]) => (Data::None, 0, 0),
        Payload::Inline(bytes) => (Data::Inline, bytes.as_ptr() as u64, bytes.len()),
        Payload::Pages(pages, length) => (Data::OutOfLine, pages.address(), *length),
    };
    if length > DATA_MAX {
        return Err(Error::TooLong);
    }
    // In a statement of its own: the lock is free again before there is a trap.
    let kept = REPLY_PORTS.lock().pop();
    let port = kept.map_or_else(ReceiveRight::allocate, Ok)?;
    request.destination = to.name();
    request.reply = port.name();
    request.reply_disposition = Disposition::MakeSendOnce.raw();
    (request.data_kind, request.data_address, request.data_length) = (kind.raw(), address, length as u32);
    let mut reply = Message::new(0, 0);
    reply.data_address = room.as_mut_ptr() as u64;
    reply.data_length = room.len().min(DATA_MAX) as u32;
    exchange(&request, payload, &port, &mut reply)?;
    REPLY_PORTS.lock().push(port);
    let reply = Incoming::from_kernel(reply, room)?;
    if reply.id == NOTIFY_SEND_ONCE { Err(Error::Dead) } else { Ok(reply) }
}

/// Sends, and receives: in one trap, unless the port's queue is full, when the sender waits for room in a trap of its own.
fn exchange(
    request: &Message,
    payload: Payload<'_>,
    port: &ReceiveRight,
    reply: &mut Message,
) -> Result<(), Error> {
    let (sent, received) = (core::ptr::from_ref(request) as u64, core::ptr::from_mut(reply) as u64);
    let port = u64::from(port.name());
    // SAFETY: the kernel reads the one message and writes the other, any bytes of which are a message. It reads the data, which is borrowed
    // or pages that are ours, and writes no further than the room that the other message says, which is borrowed exclusively.
    let outcome = match unsafe { raw::call(Syscall::MessageCall, [sent, port, received, FOREVER]) } {
        Err(Error::QueueFull) => {
            // SAFETY: as above.
            unsafe { raw::call(Syscall::MessageSend, [sent, FOREVER]) }?;
            // SAFETY: as above.
            unsafe { raw::call(Syscall::MessageReceive, [port, received, FOREVER]) }.map(|_| 0)
        }
        outcome => Ok(outcome?),
    };
    if let Payload::Pages(pages, length) = payload {
        pages.give_away(length);
    }
    match outcome? {
        0 => Ok(()),
        error => Err(raw::error(error)),
    }
}

/// The next test has another kernel.
#[cfg(test)]
pub(crate) fn forget() {
    REPLY_PORTS.lock().clear();
}
