//! The supervisor: the messages by which protocol servers are started, watched, and started again.
//!
//! Three tasks share the work, so that each can die but the first. `init` starts the supervisor again; it spawns servers at its
//! request, and keeps for it what the next supervisor has to know. The supervisor watches the servers. A server tells it by
//! [`crate::socket::Request::Lease`] what the next server is to go on with.

/// The name under which the supervisor registers.
pub const NAME: &[u8] = b"supervisor";
/// A server registers under this and its name as soon as it answers, which may be long before it has an address. The supervisor
/// asks it there.
pub const CONTROL: &str = "control-";
/// The program that it starts.
pub const SERVER: &str = "protocol-server";
/// Servers, at most.
pub const SERVERS_MAX: usize = 4;

/// To `init`, from the supervisor alone. Word 0: the server's number; the bytes behind it: its arguments. Ends the one of that number
/// that still runs, and starts another. Reply ([`crate::name::REPLY`]): a status; `carried`: the new task.
pub const START: u32 = 0x110;
/// To `init`, from the supervisor alone. Word 0: the server's number. Reply: a status, then the words of [`Lease`]; `carried`: the task, if
/// it was started and has not ended.
pub const ADOPT: u32 = 0x111;
/// To `init`, from the supervisor alone. Word 0: the server's number, then the words of a [`Lease`] to be kept. No reply.
pub const KEEP: u32 = 0x112;

/// To the supervisor. Word 0: a [`Victim`]; word 1: a server's number. Reply: a status. [`crate::Error::Denied`] unless the kernel's command
/// line says `chaos=1` ([`CHAOS`]).
pub const KILL: u32 = 0x120;
/// To the supervisor. Reply: a status; word 1: how many servers it has started again since the boot, as far as it knows.
pub const RESTARTS: u32 = 0x121;

/// To a protocol server, which obeys only if the kernel's command line says `chaos=1`: never answer again.
pub const HANG: u32 = 0x130;
/// As [`HANG`]: touch memory that is not there.
pub const FAULT: u32 = 0x131;
/// As [`HANG`]: end in good order.
pub const EXIT: u32 = 0x132;

/// To the supervisor, as [`KILL`]; word 2: so many of the next servers hang before they answer anybody.
pub const STALL: u32 = 0x133;
/// The argument of a server that is to hang so.
pub const STALLED: &str = "stalled";

/// The option of the kernel's command line without which nobody may kill servers or make them misbehave.
pub const CHAOS: &str = "chaos";

crate::codes::codes! {
    /// Who is to be killed.
    pub enum Victim {
        /// A protocol server.
        Server = 0,
        /// The supervisor itself.
        Supervisor = 1,
    }
}

/// The address that a server has by DHCP (RFC 2131), for the one that takes its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The address.
    pub address: [u8; 4],
    /// The length of its network's prefix.
    pub prefix: u32,
    /// The gateway.
    pub router: Option<[u8; 4]>,
    /// When it ends, in seconds since the boot.
    pub expires_s: u32,
}

impl Lease {
    /// How many words it is in a message.
    pub const WORDS: usize = 4;

    /// As words of a message; all 0 for none.
    #[must_use]
    pub fn to_words(lease: Option<Self>) -> [u32; Self::WORDS] {
        lease.map_or([0; Self::WORDS], |it| {
            let router = it.router.unwrap_or_default();
            [u32::from_be_bytes(it.address), it.prefix, u32::from_be_bytes(router), it.expires_s]
        })
    }

    /// From words of a message. `None` for none, and for what is none.
    #[must_use]
    pub fn from_words(words: [u32; Self::WORDS]) -> Option<Self> {
        let [address, prefix, router, expires_s] = words;
        if address == 0 || prefix > 32 {
            return None;
        }
        let router = Some(router.to_be_bytes()).filter(|_| router != 0);
        Some(Self { address: address.to_be_bytes(), prefix, router, expires_s })
    }
}
