//! Ports and the messages queued at them, as tables; what happens when they are used is in `ipc` and
//! `rights`.
//!
//! A port counts references: each name, each right on its way in a message, each request for a notification, and the
//! kernel's own for what it keeps behind a port. A port that has died keeps its slot until the last is gone, so that a name for
//! it stays a dead name and never comes to denote another port.

use abi::Error;
use abi::message::{BODY_BYTES, DATA_MAX, Data};
use abi::vm::PAGE_BYTES;

use crate::list::{Link, Linked, List};
use crate::names::Right;
use crate::net_io::FRAMES_QUEUED;
use crate::task::TASKS;

/// Ports and port sets, at most.
pub const PORTS: usize = 1024;
/// Messages of tasks that are queued and notifications asked for, at most.
pub const MESSAGES: usize = 384;
/// Of these the last are kept for tasks that have next to none, and for those above the applications: whoever has all the rest, a request
/// and its answer still go through.
pub const MESSAGES_KEPT: usize = TASKS * MESSAGES_FEW as usize;
/// So many are next to none: one that is sent, and one that asks for a notification.
pub const MESSAGES_FEW: u16 = 2;
/// The table of messages: those, and the frames that wait to be received.
const SLOTS: usize = MESSAGES + FRAMES_QUEUED;
/// Of these, at most, sent or asked for by one task.
pub const MESSAGES_PER_TASK: u16 = 96;
/// Messages queued at one port, at most, but for those sent with send-once rights.
pub const QUEUE_LIMIT: u16 = 16;
/// Frames of one message's data, at most.
pub const DATA_PAGES: usize = DATA_MAX / PAGE_BYTES as usize;
/// Frames of data of all messages that are queued, at most: 4 MiB.
pub const DATA_PAGES_IN_FLIGHT: u16 = 1024;
/// Of these the last, as [`MESSAGES_KEPT`], for tasks that have none.
pub const DATA_PAGES_KEPT: u16 = 256;
/// Of these, at most, in messages of one task.
pub const DATA_PAGES_PER_TASK: u16 = 256;

/// What is behind a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing: the slot is free.
    Free,
    /// What was there has died; names are left.
    Dead,
    /// A queue of messages.
    Messages,
    /// A set of ports with queues.
    Set,
    /// A task.
    Task(u16),
    /// A thread.
    Thread(u16),
    /// The machine.
    Host,
    /// The network device, with the window of this number.
    Device(u8),
    /// The network device on the path by message, as one of its openers has it.
    NetIo(u8),
}

/// Where a receive right is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// With the kernel, or gone.
    Nobody,
    /// In a task's name space.
    Task {
        /// The task.
        task: u16,
        /// Its name for the right.
        name: u32,
    },
    /// In a message queued at this port.
    Transit(u16),
}

/// A port or a port set.
#[derive(Clone, Copy, Debug)]
pub struct Port {
    /// What is behind it.
    pub kind: Kind,
    /// References to the slot.
    pub references: u16,
    /// Where its receive right is.
    pub holder: Holder,
    /// Messages queued.
    pub queue: List,
    /// Their number.
    pub queued: u16,
    /// Send-once rights to it that died unused, of which its holder has not been told yet.
    pub replies_lost: u16,
    /// Threads that wait to receive.
    pub receivers: List,
    /// Threads that wait to send.
    pub senders: List,
    /// The set that it belongs to.
    pub set: Option<u16>,
    /// A set's members.
    pub members: List,
    /// The thread that a message also resumes.
    pub bound: Option<u16>,
    /// The opener of the network device that has set a packet filter for it.
    pub filter: Option<u8>,
    /// Requests to be told of its death.
    pub requests: List,
    /// Why it died: a task's exit status.
    pub status: u32,
    /// Its place in its set, or among the doomed.
    pub link: Link,
}

impl Port {
    /// A free slot.
    pub const FREE: Self = Self {
        kind: Kind::Free,
        references: 0,
        holder: Holder::Nobody,
        queue: List::EMPTY,
        queued: 0,
        replies_lost: 0,
        receivers: List::EMPTY,
        senders: List::EMPTY,
        set: None,
        members: List::EMPTY,
        bound: None,
        filter: None,
        requests: List::EMPTY,
        status: 0,
        link: Link::NONE,
    };

    /// Is there something to receive?
    #[must_use]
    pub const fn has_message(&self) -> bool {
        self.queued > 0 || self.replies_lost > 0
    }
}

impl Linked for Port {
    fn link(&self) -> &Link {
        &self.link
    }
    fn link_mut(&mut self) -> &mut Link {
        &mut self.link
    }
}

/// The table of ports.
pub struct Ports {
    /// The ports.
    pub table: [Port; PORTS],
    /// Where the search for a free slot starts.
    hint: usize,
}

impl Ports {
    /// No ports.
    #[must_use]
    pub const fn new() -> Self {
        Self { table: [Port::FREE; PORTS], hint: 0 }
    }

    /// Takes a slot, with one reference.
    ///
    /// # Errors
    /// [`Error::NoResources`]: none is free.
    pub fn allocate(&mut self, kind: Kind) -> Result<u16, Error> {
        for offset in 0..PORTS {
            let index = (self.hint + offset) % PORTS;
            if self.table[index].kind == Kind::Free {
                self.hint = index + 1;
                self.table[index] = Port { kind, references: 1, ..Port::FREE };
                return Ok(index as u16);
            }
        }
        Err(Error::NoResources)
    }

    /// How many slots are taken.
    #[must_use]
    pub fn used(&self) -> usize {
        self.table.iter().filter(|port| port.kind != Kind::Free).count()
    }

    /// What is behind a port.
    #[inline]
    #[must_use]
    pub fn kind(&self, port: u16) -> Kind {
        self.table[usize::from(port)].kind
    }

    /// A port.
    #[inline]
    #[must_use]
    pub fn get(&self, port: u16) -> &Port {
        &self.table[usize::from(port)]
    }

    /// A port, to change.
    #[inline]
    pub fn get_mut(&mut self, port: u16) -> &mut Port {
        &mut self.table[usize::from(port)]
    }

    /// Would a right to receive from `moved`, queued at `at`, be out of everyone's reach for ever? It would if `at`'s own receive
    /// right lies, over however many steps, in a message queued at `moved`.
    #[must_use]
    pub fn would_be_lost(&self, moved: u16, at: u16) -> bool {
        let mut place = at;
        for _ in 0..PORTS {
            if place == moved {
                return true;
            }
            match self.get(place).holder {
                Holder::Transit(next) => place = next,
                Holder::Nobody | Holder::Task { .. } => return false,
            }
        }
        true
    }
}

impl Default for Ports {
    fn default() -> Self {
        Self::new()
    }
}

/// A message in the kernel, or a request for one.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// Its place in a queue, or among a port's requests.
    pub link: Link,
    /// Which task it counts for, by slot and number; a frame for which opener of the network device, with the number 0.
    pub payer: (u16, u64),
    /// For a request: the port to notify (a reference), and the asker's slot and name.
    pub notify: (u16, u16, u32),
    /// [`abi::message::Message::id`].
    pub id: u32,
    /// [`abi::message::Message::sender`].
    pub sender: u32,
    /// [`abi::message::Message::length`].
    pub length: u32,
    /// A right to answer to.
    pub reply: Right,
    /// A right that goes along.
    pub carried: Right,
    /// How its data travels.
    pub data_kind: Data,
    /// Bytes of data.
    pub data_length: u32,
    /// The body.
    pub body: [u8; BODY_BYTES],
}

impl Slot {
    const FREE: Self = Self {
        link: Link::NONE,
        payer: (0, 0),
        notify: (0, 0, 0),
        id: 0,
        sender: 0,
        length: 0,
        reply: Right::None,
        carried: Right::None,
        data_kind: Data::None,
        data_length: 0,
        body: [0; BODY_BYTES],
    };

    /// Frames of data.
    #[inline]
    #[must_use]
    pub const fn data_pages(&self) -> u16 {
        self.data_length.div_ceil(PAGE_BYTES as u32) as u16
    }
}

impl Linked for Slot {
    fn link(&self) -> &Link {
        &self.link
    }
    fn link_mut(&mut self) -> &mut Link {
        &mut self.link
    }
}

/// The table of messages.
pub struct Messages {
    /// The slots.
    pub table: [Slot; SLOTS],
    /// Slots that count for tasks.
    pub of_tasks: u16,
    /// The frames of data of the messages that count for tasks.
    pub pages_in_flight: u16,
    /// The numbers of the frames of each message's data.
    frames: [[u32; DATA_PAGES]; SLOTS],
    free: List,
    /// Slots from here on have never been used.
    fresh: u16,
}

impl Messages {
    /// No messages.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            table: [Slot::FREE; SLOTS],
            of_tasks: 0,
            pages_in_flight: 0,
            frames: [[0; DATA_PAGES]; SLOTS],
            free: List::EMPTY,
            fresh: 0,
        }
    }

    /// Takes a slot.
    ///
    /// # Errors
    /// [`Error::NoResources`]: none is free.
    pub fn allocate(&mut self) -> Result<u16, Error> {
        if let Some(index) = self.free.pop_front(&mut self.table) {
            return Ok(index);
        }
        if usize::from(self.fresh) == SLOTS {
            return Err(Error::NoResources);
        }
        self.fresh += 1;
        Ok(self.fresh - 1)
    }

    /// Gives a slot, which is on no list and holds no right any more, back.
    pub fn release(&mut self, index: u16) {
        self.free.push_front(&mut self.table, index);
    }

    /// The frames of a message's data, by their numbers.
    #[must_use]
    pub fn frames(&self, index: u16) -> &[u32] {
        let pages = self.get(index).data_pages();
        &self.frames[usize::from(index)][..usize::from(pages)]
    }

    /// The list of the frames of a message, to fill.
    pub fn frames_mut(&mut self, index: u16) -> &mut [u32; DATA_PAGES] {
        &mut self.frames[usize::from(index)]
    }

    /// A slot.
    #[must_use]
    pub fn get(&self, index: u16) -> &Slot {
        &self.table[usize::from(index)]
    }

    /// A slot, to change.
    pub fn get_mut(&mut self, index: u16) -> &mut Slot {
        &mut self.table[usize::from(index)]
    }
}

impl Default for Messages {
    fn default() -> Self {
        Self::new()
    }
}
