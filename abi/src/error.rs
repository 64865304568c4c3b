//! Why the kernel, or a server, said no.

use crate::codes::codes;

codes! {
    /// An error as it crosses a wall: the status of a system call (0 is success) or of a server's reply.
    pub enum Error {
        /// The system call's number is not in [`crate::syscall::Syscall`].
        BadCall = 1,
        /// An address is not mapped for the access, wraps, is unaligned where that matters, or lies in the kernel's half.
        BadAddress = 2,
        /// An argument is out of its range.
        BadArgument = 3,
        /// The name is not in the task's port name table.
        BadName = 4,
        /// The name is there, but denotes no such right, or the object behind it is of another kind.
        BadRight = 5,
        /// The port, task, thread or device behind the name has died.
        Dead = 6,
        /// A kernel table or memory is exhausted; nothing was changed.
        NoResources = 7,
        /// The time limit passed first.
        TimedOut = 8,
        /// It would have blocked, and the caller asked not to.
        WouldBlock = 9,
        /// The receiver's queue is full.
        QueueFull = 10,
        /// There is nothing of that name.
        NotFound = 11,
        /// It is there already: a second server of one name, a second opener of an exclusive device, a port in use.
        Exists = 12,
        /// The caller may not.
        Denied = 13,
        /// The program is no ELF file that Oriel can run.
        BadProgram = 14,
        /// The other end refused the connection (RFC 9293: RST in answer to SYN).
        ConnectionRefused = 20,
        /// The other end reset the connection (RFC 9293: RST).
        ConnectionReset = 21,
        /// The connection was given up: no answer within the limit, or closed by this side.
        ConnectionAborted = 22,
        /// The socket is not connected.
        NotConnected = 23,
        /// The address is in use.
        AddressInUse = 24,
        /// No route or no address to send from.
        Unreachable = 25,
        /// The datagram is longer than the socket or the protocol can carry.
        TooLong = 26,
        /// The other side of a shared page wrote what cannot be.
        PeerMisbehaviour = 27,
        /// The protocol server died, and with it the connection; another takes its place.
        NetworkReset = 28,
    }
}

impl Error {
    /// One line that a person can read.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Error::BadCall => "no such system call",
            Error::BadAddress => "bad address",
            Error::BadArgument => "invalid argument",
            Error::BadName => "no such port name",
            Error::BadRight => "the name denotes no such right",
            Error::Dead => "the object has died",
            Error::NoResources => "out of kernel resources",
            Error::TimedOut => "timed out",
            Error::WouldBlock => "would block",
            Error::QueueFull => "message queue full",
            Error::NotFound => "not found",
            Error::Exists => "already there",
            Error::Denied => "permission denied",
            Error::BadProgram => "not an ELF program for this machine",
            Error::ConnectionRefused => "connection refused",
            Error::ConnectionReset => "connection reset by peer",
            Error::ConnectionAborted => "connection aborted",
            Error::NotConnected => "not connected",
            Error::AddressInUse => "address in use",
            Error::Unreachable => "network unreachable",
            Error::TooLong => "message too long",
            Error::PeerMisbehaviour => "the peer of a shared page misbehaved",
            Error::NetworkReset => "the network service died; the connection is lost",
        }
    }
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.message())
    }
}

impl core::error::Error for Error {}
