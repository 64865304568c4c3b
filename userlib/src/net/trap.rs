//! The system calls of sockets, where the stack is in the kernel ([`abi::path::Path::Monolithic`]).
#![expect(unsafe_code, reason = "system calls")]

use abi::{Error, message::Message, socket::Record, syscall::Syscall};

use crate::{
    message::{Incoming, Outgoing},
    raw,
};

/// Asks the stack in the kernel what would be asked of the server.
pub(super) fn ask(request: &Outgoing<'_>) -> Result<Incoming<'static>, Error> {
    let mut message = *request.message();
    socket_request(&mut message)?;
    Incoming::from_kernel(message, &[])
}

/// One of [`abi::socket::Request`]: the message becomes the reply.
pub(super) fn socket_request(message: &mut Message) -> Result<(), Error> {
    let address = core::ptr::from_mut(message) as u64;
    // SAFETY: the kernel reads and writes one message there, which we have borrowed exclusively; any bytes are a message.
    unsafe { raw::call(Syscall::SocketRequest, [address]) }.map(drop)
}

/// Puts bytes into a stream, or with a record one datagram; the bytes taken.
pub(super) fn socket_write(socket: u32, bytes: &[u8], record: Option<&Record>) -> Result<usize, Error> {
    let record = record.map_or(core::ptr::null(), core::ptr::from_ref) as u64;
    // SAFETY: the kernel reads what we have borrowed: the bytes, and a record or nothing.
    unsafe {
        raw::call(Syscall::SocketWrite, [socket.into(), bytes.as_ptr() as u64, bytes.len() as u64, record])
    }
    .map(|taken| taken as usize)
}

/// Takes bytes of a stream, or with a record the next datagram; how many are in the buffer.
pub(super) fn socket_read(
    socket: u32,
    buffer: &mut [u8],
    record: Option<&mut Record>,
) -> Result<usize, Error> {
    let record = record.map_or(core::ptr::null_mut(), core::ptr::from_mut) as u64;
    // SAFETY: the kernel writes what we have borrowed exclusively: the buffer, and a record, any bytes of which are one, or nothing.
    unsafe {
        raw::call(
            Syscall::SocketRead,
            [socket.into(), buffer.as_mut_ptr() as u64, buffer.len() as u64, record],
        )
    }
    .map(|read| read as usize)
}
