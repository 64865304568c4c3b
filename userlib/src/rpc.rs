//! Calls of a server with data: a request and its reply in one trap, and for the server a reply and the next request.
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
    port::{ReceiveRight, Right, SendRight, Source},
    raw,
    sync::Lock,
};

/// Ports for replies that nobody uses now.
static REPLY_PORTS: Lock<Vec<ReceiveRight>> = Lock::new(Vec::new());

/// The data of a request or an answer.
#[derive(Debug)]
pub enum Payload<'d> {
    /// So many bytes, copied: at most [`DATA_MAX`].
    Inline(&'d [u8]),
    /// So many bytes at the start of pages that go to the other side.
    Pages(Mapping, usize),
}

impl Payload<'_> {
    /// Says in a message where it is.
    #[inline]
    fn describe(&self, message: &mut Message) -> Result<(), Error> {
        let (kind, address, length) = match self {
            Payload::Inline([]) => (Data::None, 0, 0),
            Payload::Inline(bytes) => (Data::Inline, bytes.as_ptr().expose_provenance() as u64, bytes.len()),
            Payload::Pages(pages, length) => (Data::OutOfLine, pages.address(), *length),
        };
        if length > DATA_MAX {
            return Err(Error::TooLong);
        }
        (message.data_kind, message.data_address, message.data_length) = (kind.raw(), address, length as u32);
        Ok(())
    }

    /// Pages that were sent are the receiver's.
    #[inline]
    fn sent(self) {
        if let Payload::Pages(pages, length) = self {
            pages.give_away(length);
        }
    }
}

/// A message that came, in memory of the receiver's that the next one overwrites.
pub type Received<'r> = Incoming<'r, &'r Message>;

/// Sends a request and waits for the reply, which goes to `reply`, and its data to the front of `room` unless it comes as pages.
///
/// # Errors
/// [`Error::Dead`] without a server; [`Error::TooLong`] for more data than a message carries, or than there is room for.
pub fn call<'r>(
    to: &SendRight,
    request: &mut Message,
    payload: Payload<'_>,
    reply: &'r mut Message,
    room: &'r mut [u8],
) -> Result<Received<'r>, Error> {
    payload.describe(request)?;
    // In a statement of its own: the lock is free again before there is a trap.
    let kept = REPLY_PORTS.lock().pop();
    let port = kept.map_or_else(ReceiveRight::allocate, Ok)?;
    request.destination = to.name();
    request.reply = port.name();
    request.reply_disposition = Disposition::MakeSendOnce.raw();
    offer_room(reply, room);
    exchange(request, payload, &port, reply)?;
    REPLY_PORTS.lock().push(port);
    let reply = Received::from_kernel(reply, room)?;
    if reply.id == NOTIFY_SEND_ONCE { Err(Error::Dead) } else { Ok(reply) }
}

/// Sends, and receives: in one trap, unless the port's queue is full, when the sender waits for room in a trap of its own.
#[inline]
fn exchange(
    request: &Message,
    payload: Payload<'_>,
    port: &ReceiveRight,
    reply: &mut Message,
) -> Result<(), Error> {
    let sent = core::ptr::from_ref(request).expose_provenance() as u64;
    let received = core::ptr::from_mut(reply).expose_provenance() as u64;
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
    payload.sent();
    match outcome? {
        0 => Ok(()),
        error => Err(raw::error(error)),
    }
}

/// Says in a message how much room there is for the data of the one that will take its place.
#[inline]
fn offer_room(message: &mut Message, room: &mut [u8]) {
    message.data_address = room.as_mut_ptr().expose_provenance() as u64;
    message.data_length = room.len().min(DATA_MAX) as u32;
}

/// An answer that is to be sent.
#[derive(Debug)]
pub struct Answer<'d> {
    /// Where to: the request's reply right.
    pub to: Right,
    /// What, but for its data; it carries no rights.
    pub message: &'d mut Message,
    /// Its data.
    pub payload: Payload<'d>,
}

/// Sends the answer to the last request, if there is one, and receives the next message, in one trap. Whoever is to have the answer may have
/// died: no matter.
///
/// # Errors
/// Those of a receive: [`Error::TimedOut`], [`Error::WouldBlock`] with a limit of zero, [`Error::TooLong`], [`Error::NoResources`].
#[inline]
pub fn answer_and_receive<'r>(
    answer: Option<Answer<'_>>,
    from: &impl Source,
    message: &'r mut Message,
    room: &'r mut [u8],
    limit_ns: u64,
) -> Result<Received<'r>, Error> {
    let from = u64::from(from.source_name());
    offer_room(message, room);
    let to = core::ptr::from_mut(message).expose_provenance() as u64;
    let received = match answer.map(|answer| send_and_receive(answer, from, to, limit_ns)) {
        Some(Ok(received)) => received,
        // SAFETY: the kernel writes one message there, any bytes of which are one, and to the room that it says, which is borrowed.
        None | Some(Err(_)) => unsafe { raw::call(Syscall::MessageReceive, [from, to, limit_ns]) }.map(drop),
    };
    received?;
    Received::from_kernel(message, room)
}

/// The outcome of the send, and in it that of the receive.
#[inline]
fn send_and_receive(
    answer: Answer<'_>,
    from: u64,
    received: u64,
    limit_ns: u64,
) -> Result<Result<(), Error>, Error> {
    let Answer { to, message, payload } = answer;
    message.destination = to.name();
    payload.describe(message)?;
    let sent = core::ptr::from_ref(message).expose_provenance() as u64;
    // SAFETY: as for the calls of `exchange`: the caller has borrowed what the receive writes.
    let error = unsafe { raw::call(Syscall::MessageCall, [sent, from, received, limit_ns]) }?;
    let _ = to.into_name(); // a right to send once, which is used up
    payload.sent();
    Ok(if error == 0 { Ok(()) } else { Err(raw::error(error)) })
}

/// The next test has another kernel.
#[cfg(test)]
pub(crate) fn forget() {
    REPLY_PORTS.lock().clear();
}
