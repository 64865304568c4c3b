//! The server: passes over frames and sockets, and its sleep. Requests are in [`requests`].

use abi::{
    Error,
    socket::{ServerCounter, State},
    supervise::Lease,
};
use alloc::{boxed::Box, vec::Vec};
use smoltcp::{time::Instant, wire::IpCidr};

use crate::{
    demux::{NO_SLOT, Slot},
    dhcp::{DHCP_SLOT, Dhcp},
    frame::{BareAck, copy_without_checksum, is_syn},
    link::{Link, RxFrame},
    phy::Traffic,
    socket::{Context, Protocol, Served, Socket},
    stack::{Stack, Target},
    status::{Counters, StatusPage},
    system::{SharedMemory, System},
};

mod calls;
pub mod requests;
pub mod transfer;

/// Sockets of all applications together, those that still send what was written among them.
pub const SOCKETS: usize = 128;
/// Frames that are given back together.
const BATCH: usize = 32;
/// Batches of a pass: more, and acknowledgements come late.
const BATCHES: usize = 2;

/// The protocol server.
pub struct Server<L: Link, S: System> {
    /// smoltcp and the link.
    pub stack: Stack<L>,
    /// The system around.
    pub system: S,
    counters: Counters,
    sockets: Vec<Option<Box<Socket<S::Memory>>>>,
    status: StatusPage<S::Memory>,
    /// The right to the status page's memory.
    status_name: u32,
    dhcp: Option<Dhcp>,
    batch: Vec<L::Frame>,
    /// A datagram whose checksum smoltcp must not look at.
    scratch: Vec<u8>,
    /// The last pass took as many frames as a pass may.
    unfinished: bool,
    next_ident: u16,
    /// Something that was written by request waits for company.
    gathers: bool,
    /// Applications map no rings: their ends are here.
    keeps_ends: bool,
}

impl<L: Link, S: System> Server<L, S> {
    /// A server without sockets.
    ///
    /// # Errors
    /// No memory for the status page.
    pub fn new(link: L, mut system: S, seed: u64, now: Instant) -> Result<Self, Error> {
        let mut memory = system.shared_memory(abi::vm::PAGE_BYTES as usize)?;
        let status_name = memory.take_right();
        Ok(Self {
            stack: Stack::new(link, seed, now),
            system,
            counters: Counters::default(),
            sockets: Vec::new(),
            status: StatusPage::new(memory)?,
            status_name,
            dhcp: None,
            batch: Vec::with_capacity(BATCH),
            scratch: Vec::new(),
            unfinished: false,
            next_ident: seed as u16 | 1,
            gathers: false,
            keeps_ends: false,
        })
    }

    /// From now on applications map the pages of their sockets alone, and ask for each read and write ([`transfer`]).
    pub const fn keep_ends(&mut self) {
        self.keeps_ends = true;
    }

    /// Gets the address by DHCP.
    pub fn use_dhcp(&mut self) {
        self.dhcp = Some(Dhcp::new(&mut self.stack));
    }

    /// Goes on with the lease of the server whose place this one takes; only where the address comes by DHCP.
    pub fn inherit(&mut self, lease: Lease, now: Instant) {
        self.stack.now = now;
        if let Some(dhcp) = &mut self.dhcp {
            dhcp.go_on(&mut self.stack, lease);
        }
    }

    /// Whether there is an address that others can reach, not only the link-local one.
    #[must_use]
    pub fn is_up(&self) -> bool {
        match self.stack.address() {
            Some(IpCidr::Ipv4(_)) => true,
            Some(IpCidr::Ipv6(v6)) => !v6.address().is_unicast_link_local(),
            None => false,
        }
    }

    /// What it has counted.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// One pass; false if there was nothing to do.
    pub fn pass(&mut self, now: Instant) -> bool {
        self.stack.now = now;
        self.gathers = false;
        self.counters.add(ServerCounter::Passes, 1);
        let before = self.stack.traffic;
        let mut worked = self.take_frames();
        worked |= self.serve_sockets();
        if let Some(dhcp) = &mut self.dhcp
            && (dhcp.dirty || now.total_micros() >= dhcp.deadline)
        {
            worked = true;
            dhcp.serve(&mut self.stack);
        }
        worked |= self.count_traffic(&before);
        self.stack.link.flush();
        worked
    }

    /// Counts what has gone by since `before`; whether something was sent.
    fn count_traffic(&mut self, before: &Traffic) -> bool {
        let traffic = self.stack.traffic;
        let sent = traffic.sent - before.sent;
        self.counters.add(ServerCounter::FramesOut, sent);
        self.counters.add(ServerCounter::StackCopies, traffic.copies - before.copies);
        self.counters.add(ServerCounter::StackCopiedBytes, traffic.copied_bytes - before.copied_bytes);
        sent != 0
    }

    fn take_frames(&mut self) -> bool {
        let mut batch = core::mem::take(&mut self.batch);
        let mut taken = 0;
        for _ in 0..BATCHES {
            self.stack.link.receive(&mut batch, BATCH);
            let count = batch.len();
            self.take_batch(&batch);
            self.stack.link.release(&mut batch);
            taken += count;
            if count < BATCH {
                break;
            }
        }
        self.batch = batch;
        self.unfinished = taken == BATCH * BATCHES;
        self.counters.add(ServerCounter::FramesIn, taken as u64);
        taken != 0
    }

    /// Whether the last pass left frames behind, some of them perhaps where [`prepare_sleep`](Self::prepare_sleep) does not look.
    #[must_use]
    pub const fn is_unfinished(&self) -> bool {
        self.unfinished
    }

    /// Takes frames in their order, but of acknowledgments one after the other only the last, where that [is
    /// enough](Socket::hears_the_last). (RFC 3449, section 5.2.1, has a router do so.)
    #[inline]
    fn take_batch(&mut self, batch: &[L::Frame]) {
        let mut held: Option<(&L::Frame, BareAck<'_>, Slot)> = None;
        for frame in batch {
            let target = self.stack.target(frame);
            let bare = match target {
                Target::Socket(slot) if self.hears_the_last(slot) => {
                    BareAck::find(frame.bytes()).map(|ack| (frame, ack, slot))
                }
                _ => None,
            };
            if let Some((earlier, ack, slot)) = held.take() {
                match &bare {
                    Some((_, later, same)) if *same == slot && later.supersedes(&ack) => {
                        self.counters.add(ServerCounter::AcksSuperseded, 1);
                    }
                    _ => self.take_socket_frame(earlier.bytes(), slot),
                }
            }
            match bare {
                Some(_) => held = bare,
                None => self.take_frame(frame, target),
            }
        }
        if let Some((last, _, slot)) = held {
            self.take_socket_frame(last.bytes(), slot);
        }
    }

    #[inline(always)]
    fn hears_the_last(&self, slot: Slot) -> bool {
        matches!(self.sockets.get(usize::from(slot)), Some(Some(socket)) if socket.hears_the_last())
    }

    #[inline]
    fn take_frame(&mut self, frame: &L::Frame, target: Target) {
        match target {
            Target::Socket(slot) => self.take_socket_frame(frame.bytes(), slot),
            Target::Datagram(slot) => self.take_datagram(frame, slot),
            Target::Stack => self.stack.ingress_alone(frame.bytes()),
            Target::Neighbour => {
                self.stack.neighbours_heard = self.stack.neighbours_heard.wrapping_add(1);
                self.stack.ingress_alone(frame.bytes());
                for socket in self.sockets.iter_mut().flatten() {
                    socket.dirty = true;
                }
            }
            Target::Corrupt => self.counters.add(ServerCounter::DropBadChecksum, 1),
        }
    }

    /// A datagram in one frame, for a socket or for none.
    fn take_datagram(&mut self, frame: &L::Frame, slot: Slot) {
        let mut copy = core::mem::take(&mut self.scratch);
        let mut bytes = frame.bytes();
        if frame.checksum_good() && copy_without_checksum(bytes, &mut copy) {
            self.stack.traffic.count_payload(copy.len() as u32);
            bytes = &copy;
        }
        if slot == NO_SLOT {
            self.stack.ingress_alone(bytes);
        } else {
            self.take_socket_frame(bytes, slot);
        }
        self.scratch = copy;
    }

    #[inline]
    fn take_socket_frame(&mut self, frame: &[u8], slot: Slot) {
        if let Some(Some(socket)) = self.sockets.get_mut(usize::from(slot)) {
            if matches!(socket.protocol, Protocol::Listener(_)) && is_syn(frame) && !socket.has_room() {
                if !socket.make_room(frame, self.stack.now) {
                    self.counters.add(ServerCounter::BacklogFull, 1);
                    return;
                }
                self.counters.add(ServerCounter::HalfOpenReplaced, 1);
            }
            socket.dirty = true;
            if socket.peer.heard != self.stack.neighbours_heard
                && matches!(socket.protocol, Protocol::Tcp(_))
                && let Some(reply) = socket.peer.reply(frame, self.stack.neighbours_heard)
            {
                self.stack.ingress_alone(&reply);
            }
            socket.set.ingress(&mut self.stack, frame);
        } else if let (DHCP_SLOT, Some(dhcp)) = (slot, &mut self.dhcp) {
            dhcp.ingress(&mut self.stack, frame);
        }
    }

    fn serve_sockets(&mut self) -> bool {
        let now = self.stack.now.total_micros();
        let mut worked = false;
        for slot in 0..self.sockets.len() {
            let Some(Some(socket)) = self.sockets.get_mut(slot) else { continue };
            if !socket.has_work(now) {
                continue;
            }
            worked = true;
            self.serve(slot as Slot);
        }
        worked
    }

    #[inline(always)]
    fn serve(&mut self, slot: Slot) {
        let Some(Some(socket)) = self.sockets.get_mut(usize::from(slot)) else { return };
        let mut context =
            Context { stack: &mut self.stack, system: &mut self.system, counters: &mut self.counters };
        if socket.serve(&mut context) == Served::Gone {
            self.remove(slot);
        }
    }

    /// When the next timer runs out, in microseconds.
    #[must_use]
    pub fn next_deadline(&self) -> i64 {
        let dhcp = self.dhcp.as_ref().map_or(i64::MAX, |dhcp| dhcp.deadline);
        self.sockets.iter().flatten().fold(dhcp, |soonest, socket| soonest.min(socket.deadline))
    }

    /// Forgets a socket; its memory goes back.
    fn remove(&mut self, slot: Slot) {
        self.stack.demux.remove(slot);
        if let Some(place) = self.sockets.get_mut(usize::from(slot)) {
            *place = None;
        }
        while let Some(None) = self.sockets.last() {
            self.sockets.pop(); // passes look at no more slots than are in use
        }
    }

    /// Announces that the server is about to sleep, and looks again.
    ///
    /// Not after a pass that [left frames behind](Self::is_unfinished).
    ///
    /// `Some`: sleep until that time, in microseconds, or until resumed; then [`wake`](Self::wake). `None`: there is work, and it is
    /// awake.
    pub fn prepare_sleep(&mut self) -> Option<i64> {
        self.stack.link.announce_idle();
        self.status.wait_word().announce();
        // One fence for both: pairs with the interrupt handler's before it looks whether we are idle, and with each
        // application's before it loads our wait word.
        shmqueue::sync::full_fence();
        let now = self.stack.now.total_micros();
        let mut deadline = self.dhcp.as_ref().map_or(i64::MAX, |dhcp| dhcp.deadline);
        let mut work = self.stack.link.has_frames();
        let mut open = 0;
        for socket in self.sockets.iter().flatten() {
            deadline = deadline.min(socket.deadline);
            work |= socket.has_work(now);
            open += u64::from(socket.owner != 0);
        }
        if work || deadline <= now {
            self.wake();
            return None;
        }
        self.counters.add(ServerCounter::Sleeps, 1);
        self.publish(open);
        Some(deadline)
    }

    /// The server goes on after a sleep.
    pub fn wake(&mut self) {
        self.status.wait_word().finish();
        self.stack.link.clear_idle();
    }

    /// Makes the counters readable in the status page.
    pub fn publish_counters(&mut self) {
        let open = self.sockets.iter().flatten().filter(|socket| socket.owner != 0).count();
        self.publish(open as u64);
    }

    #[inline(always)]
    fn publish(&mut self, open: u64) {
        self.counters.set(ServerCounter::Sockets, open);
        self.counters.set(ServerCounter::NoBuffer, self.stack.link.no_buffer());
        let (mbufs, clusters) = self.stack.link.lent();
        self.counters.set(ServerCounter::MbufsLent, u64::from(mbufs));
        self.counters.set(ServerCounter::ClustersLent, u64::from(clusters));
        self.status.publish(&self.counters);
    }

    /// A thread has died: its sockets are closed.
    pub fn thread_died(&mut self, thread: u32) {
        let now = self.stack.now.total_micros();
        for socket in
            self.sockets.iter_mut().flatten().filter(|socket| socket.thread == thread && thread != 0)
        {
            socket.close(&mut self.system, now);
        }
    }

    /// A slot for a new socket. When all are taken, a connection that only waits for its last packets to die out makes room
    /// (RFC 9293, section 3.10.8: TIME-WAIT).
    fn free_slot(&mut self) -> Result<Slot, Error> {
        if let Some(free) = self.sockets.iter().position(Option::is_none) {
            return Ok(free as Slot);
        }
        if self.sockets.len() < SOCKETS {
            self.sockets.push(None);
            return Ok(self.sockets.len() as Slot - 1);
        }
        let finished = |socket: &Socket<S::Memory>| socket.owner == 0 && socket.state() == State::Finished;
        let victim =
            self.sockets.iter().position(|socket| socket.as_ref().is_some_and(|socket| finished(socket)));
        let victim = victim.ok_or(Error::NoResources)? as Slot;
        self.stack.demux.remove(victim);
        self.sockets[usize::from(victim)] = None;
        Ok(victim)
    }
}
