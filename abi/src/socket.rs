//! Sockets: what an application and the protocol server say by message, and what they share.
//!
//! Control goes by message to the port that the name service has under [`crate::name::NETWORK`]. Each socket has a page, below, in
//! which both sides find its state and wait for each other, and two byte rings. How bytes get into the rings and out of them is the path's
//! business ([`crate::path`]): by window the application maps the rings; by message it asks with [`Request::Write`] and
//! [`Request::Read`]; monolithic, by system calls. In the last two it maps the page alone.
//!
//! Each side keeps its own ring index to itself: what the other wrote is a claim, to be checked.
//!
//! A connection's receive ring is an object apart, which the application can map for reading only. Since nobody else can write it, the
//! server lets TCP put segments into it where they belong, those out of order too: it is the receive buffer, and its free
//! room the window. What lies past the published position is no one's business yet. Into all other rings the one side copies, and
//! out of them the other.
//!
//! Each request has a reply port; each reply is [`REPLY`] with body word 0 a status (0 or an [`crate::Error`]), and then as the
//! request says. A socket belongs to the task that opened it, whose number the kernel writes on each message.

use crate::codes::codes;

codes! {
    /// What an application asks.
    pub enum Request {
        /// First of all, once for each thread that uses sockets. Reply: `carried` is the [`Status`] page, to be mapped for
        /// reading; `reply` a send right to the server's thread, to be resumed.
        Hello = 0x200,
        /// Word 0: [`Kind`]. `carried`: a send right to the thread to be resumed when something happens. Reply: word 1 the
        /// socket's number; word 2 the bytes of its memory object, which `carried` is; for [`Kind::Tcp`] word 3 the bytes of the
        /// receive ring, and `reply` a right to it that maps for reading only. Word 3 is 0 for the other kinds.
        Open = 0x201,
        /// Word 0: socket; words 1 to 6: [`Endpoint`]. Sets the local end; port 0 lets the server choose. Reply: word 1 the port.
        Bind = 0x202,
        /// Word 0: socket; words 1 to 6: the remote [`Endpoint`]. TCP: the outcome shows in [`Page::STATE_AT`]. UDP: the default peer.
        Connect = 0x203,
        /// Word 0: socket; word 1: backlog, 1 to [`BACKLOG_MAX`].
        Listen = 0x204,
        /// Word 0: a listening socket. `carried`: as for `Open`. Reply as for `Open`, then words 4 to 9 the remote [`Endpoint`];
        /// `WouldBlock` if no connection waits ([`Page::ACCEPT_READY_AT`]).
        Accept = 0x205,
        /// Word 0: socket. What was written is still sent; the page may be unmapped at once.
        Close = 0x206,
        /// Word 0: socket. Ends a TCP connection by RST.
        Abort = 0x207,
        /// Word 0: socket; `carried`: a send right to another thread of this task to be resumed from now on.
        Rebind = 0x208,
        /// Reply: word 1: the address's prefix length; words 2 to 7: the interface's [`Endpoint`] (port 0).
        Interface = 0x209,
        /// Reply: words from [`audit`], the server's part of the accounting of every mbuf and cluster.
        Audit = 0x20a,
        /// On the path by message: word 0: socket; words 1 to 6 of a datagram: the peer's [`Endpoint`]. The data goes into the transmit ring, of
        /// a stream as much as there is room for, of a datagram all or nothing. Reply: word 1 the bytes taken, 0 if there is no room now,
        /// which the ring's positions in the page have shown before. A stream's write of nothing makes the server look at the page
        /// ([`Page::WISHES_AT`]).
        Write = 0x20b,
        /// On the path by message: word 0: socket; word 1: the bytes wanted, at most. Reply: word 1 the bytes that the data is, 0 if there is
        /// nothing now; of a datagram also word 2 its length before it was cut, words 3 to 8 the peer's [`Endpoint`], whose family is
        /// not 0 where there is one.
        Read = 0x20c,
        /// From whoever watches the server. Any reply is a sign of life: words 1 to 4 the [`crate::supervise::Lease`], 0 if there is none.
        Lease = 0x20d,
    }
}

/// The words of a reply to [`Request::Audit`], by their index in the body.
///
/// When nothing moves, `free + lent` and what the kernel holds ([`crate::device::Audit`]) are all there are, and no queue holds
/// anything. Counts are of free lists walked for the purpose.
pub mod audit {
    /// Pools.
    pub const POOLS: usize = 1;
    /// Mbufs in all.
    pub const MBUFS: usize = 2;
    /// Clusters in all.
    pub const CLUSTERS: usize = 3;
    /// Mbufs free in the pools.
    pub const MBUFS_FREE: usize = 4;
    /// Clusters free in the pools.
    pub const CLUSTERS_FREE: usize = 5;
    /// Mbufs that the server holds.
    pub const MBUFS_LENT: usize = 6;
    /// Clusters that the server holds.
    pub const CLUSTERS_LENT: usize = 7;
    /// A bit for each queue that holds something, by the numbers of [`crate::window::Queue`].
    pub const QUEUES_FILLED: usize = 8;
    /// For each pool two words: its free mbufs and its free clusters.
    pub const PER_POOL: usize = 9;
    /// The kernel's part, as [`crate::device::Audit`] has it: mbufs posted.
    pub const MBUFS_POSTED: usize = PER_POOL + 2 * crate::window::POOLS_MAX as usize;
    /// Mbufs in the kernel's transmit ring.
    pub const MBUFS_TRANSMITTING: usize = MBUFS_POSTED + 1;
    /// Clusters posted.
    pub const CLUSTERS_POSTED: usize = MBUFS_POSTED + 2;
    /// Clusters in the kernel's transmit ring.
    pub const CLUSTERS_TRANSMITTING: usize = MBUFS_POSTED + 3;
}

/// The reply to any of them.
pub const REPLY: u32 = 0x280;
/// Connections that may wait to be accepted, at most.
pub const BACKLOG_MAX: u32 = 32;
/// Sockets of all applications together that the server offers at least.
pub const SOCKETS_MIN: usize = 64;

codes! {
    /// Kinds of socket.
    pub enum Kind {
        /// A byte stream (RFC 9293).
        Tcp = 1,
        /// Datagrams (RFC 768), in records of [`Record`].
        Udp = 2,
        /// ICMP and ICMPv6 echo (RFC 792, RFC 4443), in records of [`Record`] whose port is the sequence number.
        Echo = 3,
    }
}

codes! {
    /// Where a socket is in its life; only the server changes it.
    pub enum State {
        /// New, or bound.
        Closed = 0,
        /// Waits for connections.
        Listening = 1,
        /// SYN sent.
        Connecting = 2,
        /// Data can go both ways.
        Established = 3,
        /// The other end has sent its last byte (FIN received); this end may still write.
        HalfClosed = 4,
        /// Over, in good order or not: [`Page::ERROR_AT`] says.
        Finished = 5,
    }
}

/// The bits of [`Page::WAIT_FOR_AT`].
pub mod wait_for {
    /// Something to read, or the end of it.
    pub const READ: u32 = 1;
    /// Room to write: a quarter of the ring, or all that there is.
    pub const WRITE: u32 = 2;
    /// A change of [`super::Page::STATE_AT`], or a connection to accept.
    pub const STATE: u32 = 4;
    /// All that was written has been acknowledged by the other end.
    pub const DRAINED: u32 = 8;
}

/// The bits of [`Page::WISHES_AT`].
pub mod wishes {
    /// No more will be written: send FIN after what is in the ring.
    pub const SHUTDOWN: u32 = 1;
    /// Send small segments at once (RFC 896 off).
    pub const NO_DELAY: u32 = 2;
    /// Keep-alive probes.
    pub const KEEP_ALIVE: u32 = 4;
}

/// "ORSK", the first word of a socket's page.
pub const MAGIC: u32 = u32::from_le_bytes(*b"ORSK");

/// An address and a port, as six words of a message and in a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Endpoint {
    /// 4, 6, or 0 for any address.
    pub family: u32,
    /// The address in network order: 4 or 16 bytes of it.
    pub address: [u8; 16],
    /// The port.
    pub port: u32,
}

/// The head of a datagram in a ring; the payload follows, padded to a multiple of 4 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Record {
    /// Bytes of payload.
    pub length: u32,
    /// The peer. For [`Kind::Echo`] the port is the sequence number.
    pub peer: Endpoint,
    /// Nothing yet.
    pub reserved: u32,
}

/// The bytes of a [`Record`].
pub const RECORD_BYTES: usize = 32;
const _: () = assert!(size_of::<Record>() == RECORD_BYTES && size_of::<Endpoint>() == 24);

/// Offsets in a socket's page. Each line of 64 bytes has one writer.
///
/// The rings are byte rings of a power of two, with free-running 32-bit positions; `*_RING_AT` is where the two lines of a ring's
/// control are, producer's first.
pub struct Page;

impl Page {
    /// Server, once: [`MAGIC`].
    pub const MAGIC_AT: usize = 0;
    /// Server, once: [`crate::info::VERSION`].
    pub const VERSION_AT: usize = 4;
    /// Server, once: capacity of the receive ring, in bytes.
    pub const RX_BYTES_AT: usize = 8;
    /// Server, once: capacity of the transmit ring, in bytes.
    pub const TX_BYTES_AT: usize = 12;
    /// Server: a [`State`].
    pub const STATE_AT: usize = 64;
    /// Server: an [`crate::Error`], or 0.
    pub const ERROR_AT: usize = 68;
    /// Server: connections that wait to be accepted.
    pub const ACCEPT_READY_AT: usize = 72;
    /// Server: the position in the transmit ring up to which the other end has acknowledged.
    pub const ACKNOWLEDGED_AT: usize = 76;
    /// Server: datagrams dropped because the receive ring was full.
    pub const RX_DROPPED_AT: usize = 80;
    /// Server, before the state says so: the local [`Endpoint`].
    pub const LOCAL_AT: usize = 128;
    /// Server, before the state says so: the remote [`Endpoint`].
    pub const REMOTE_AT: usize = 152;
    /// The receive ring's control: the server produces, the application consumes.
    pub const RX_RING_AT: usize = 192;
    /// The transmit ring's control: the application produces, the server consumes.
    pub const TX_RING_AT: usize = 320;
    /// Application: a generation word, odd while its thread waits.
    pub const WAIT_AT: usize = 448;
    /// Application: what it waits for, bits of [`wait_for`], written before the generation.
    pub const WAIT_FOR_AT: usize = 452;
    /// Application: bits of [`wishes`].
    pub const WISHES_AT: usize = 456;
    /// Where the receive ring's bytes begin, unless they are an object apart; the transmit ring's follow them.
    pub const RINGS_AT: usize = 4096;

    /// The size of a socket's memory object, in bytes; with 0 for a receive ring apart.
    #[must_use]
    pub const fn bytes(rx_bytes: usize, tx_bytes: usize) -> usize {
        Self::RINGS_AT + rx_bytes + tx_bytes
    }
}

/// Offsets in the server's status page, which applications map for reading only.
pub struct Status;

impl Status {
    /// "ORST", the first word.
    pub const MAGIC: u32 = u32::from_le_bytes(*b"ORST");
    /// Where the magic is.
    pub const MAGIC_AT: usize = 0;
    /// The server's generation word: odd while its thread waits. Who finds it odd, after what it wrote and a fence, resumes the
    /// server's thread, once for each generation.
    pub const WAIT_AT: usize = 64;
    /// The server's counters, 64 bits each, in the order of [`SERVER_COUNTER_NAMES`].
    pub const COUNTERS_AT: usize = 128;
}

macro_rules! server_counters {
    ($($(#[$meta:meta])* $variant:ident $name:literal,)+) => {
        /// What the server counts; its place in the status page.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum ServerCounter { $($(#[$meta])* $variant,)+ }

        /// The names of the server's counters, as programs print them.
        pub const SERVER_COUNTER_NAMES: &[&str] = &[$($name,)+];
    };
}

server_counters! {
    /// Passes of the server's loop.
    Passes "server_passes",
    /// Times that it went to sleep.
    Sleeps "server_sleeps",
    /// Frames taken from the IN queues.
    FramesIn "server_frames_in",
    /// Frames put on the OUT queue.
    FramesOut "server_frames_out",
    /// Copies of payload that the server made between rings and smoltcp's buffers.
    Copies "server_copies",
    /// Bytes of them.
    CopiedBytes "server_copied_bytes",
    /// Copies of TCP payload that smoltcp made between its buffers and frames.
    StackCopies "stack_copies",
    /// Bytes of them.
    StackCopiedBytes "stack_copied_bytes",
    /// Resumes that the server sent to applications.
    Wakes "server_wakes",
    /// Resumes that it spared: the application was awake.
    WakesSpared "server_wakes_spared",
    /// Frames dropped: a wrong transport checksum.
    DropBadChecksum "server_drop_bad_checksum",
    /// Frames that could not be built for want of an mbuf or a cluster.
    NoBuffer "server_no_buffer",
    /// Connections refused because the backlog was full.
    BacklogFull "server_backlog_full",
    /// Half open connections given up for newer ones, because the backlog was full of them.
    HalfOpenReplaced "server_half_open_replaced",
    /// Acknowledgments not looked at, because a later one that came with them says more.
    AcksSuperseded "server_acks_superseded",
    /// Sockets closed because the application wrote what cannot be.
    PeerMisbehaviour "server_peer_misbehaviour",
    /// Sockets open now.
    Sockets "server_sockets",
    /// Mbufs that the server holds now.
    MbufsLent "server_mbufs_lent",
    /// Clusters that the server holds now.
    ClustersLent "server_clusters_lent",
}
