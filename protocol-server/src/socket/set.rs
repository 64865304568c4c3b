//! smoltcp's sockets, and the receive rings that the connections among them write into.
//!
//! A connection's receive buffer is the ring that the application reads: smoltcp puts each segment where it belongs, and there is no
//! copy from buffer to ring. For smoltcp that buffer is a `&'static mut [u8]`, while in truth it's a mapping that goes with the
//! socket. So the two live and die together here, and nobody gets at a smoltcp socket but for the time of a call, like
//! [`Sockets::tcp`], which nothing of it can outlast.
//!
//! # Positions
//! smoltcp's ring buffer reads from place 0 when it is new. It moves on by what is dequeued, modulo the capacity, and by nothing else: of
//! its operations those on a receive buffer are `write_unallocated`, `enqueue_unallocated` and `dequeue_many_with`, and only a
//! socket's `reset` sets it back, before `listen` and `connect` and when all is over. (`enqueue_many_with`, which starts an empty buffer
//! anew, is used on transmit buffers alone.) The capacity is a power of two: the place of position `p` in the stream is
//! `p % capacity`, as in [`shmqueue::bytes`].
#![expect(unsafe_code, reason = "a receive buffer is a slice of a mapping that it must not outlive")]

use alloc::vec::Vec;
use core::ptr::NonNull;
use smoltcp::{
    iface::{SocketHandle, SocketSet},
    socket::{Socket as Any, tcp},
};

use super::{
    blind::challenge,
    buffer,
    closed::acknowledgment,
    ending::{Ahead, Ending},
    segment::{Numbers, is_special},
};
use crate::{
    link::Link,
    stack::Stack,
    system::{Exclusive, SharedMemory},
};

/// The smoltcp sockets of one of ours: one, or a listener's backlog.
pub struct Sockets<M> {
    /// Dropped before the rings that its sockets have slices of, being the first field.
    set: SocketSet<'static>,
    rings: Vec<Ring<M>>,
    /// The last that the one connection here has said of its window is that there is none.
    closed: bool,
    /// The end of the peer's stream, which came ahead of data that is missing.
    end: Option<Ahead>,
}

/// A connection's receive ring.
struct Ring<M> {
    handle: SocketHandle,
    memory: Exclusive<M>,
    /// The numbers of the segment that the connection sent last.
    sent: Option<Numbers>,
    /// The sequence number of its first byte, and that behind the last segment; unless that was sent along with other connections'.
    first: Option<u32>,
    end: u32,
}

impl<M> Ring<M> {
    const fn new(handle: SocketHandle, memory: Exclusive<M>) -> Self {
        Self { handle, memory, sent: None, first: None, end: 0 }
    }

    #[inline(always)]
    fn note(&mut self, numbers: Numbers, payload: u32) {
        self.sent = Some(numbers);
        let seq = numbers.seq().unwrap_or_default();
        self.end = seq.wrapping_add(payload);
        if numbers.begins() {
            self.end = seq.wrapping_add(1);
            self.first = Some(self.end);
        }
    }
}

impl<M: SharedMemory> Sockets<M> {
    /// None yet, with room for so many.
    #[must_use]
    pub fn with_capacity(sockets: usize) -> Self {
        Self {
            set: SocketSet::new(Vec::with_capacity(sockets)),
            rings: Vec::with_capacity(sockets),
            closed: false,
            end: None,
        }
    }

    /// Sockets that have buffers of their own.
    #[must_use]
    pub const fn without_rings(set: SocketSet<'static>) -> Self {
        Self { set, rings: Vec::new(), closed: false, end: None }
    }

    /// Adds a connection whose receive buffer is all of `ring`.
    pub fn add_connection(&mut self, ring: Exclusive<M>, tx_bytes: usize) -> SocketHandle {
        debug_assert!(ring.length().is_power_of_two());
        // SAFETY: 1. `SharedMemory` promises that the bytes are mapped, readable and writable, until the value is dropped, and that
        // nobody else here refers to them; `Exclusive`, that no other task can write them. (Others may read them at any time, which
        // nothing here can tell.) 2. The slice goes into a smoltcp socket in `set`, which it does not leave: others see `&`, through
        // which no buffer can be moved out, or one socket at a time, for a lifetime that they cannot name, so that they can't
        // even exchange two; and smoltcp, to which `Stack` hands the set, keeps nothing of it. 3. The value goes into `rings`, which
        // `drop` comes to after `set`; `take` moves both, `renew` drops the socket before it makes another slice.
        let bytes = unsafe { core::slice::from_raw_parts_mut(ring.address().as_ptr(), ring.length()) };
        let handle = self.set.add(new_socket(bytes, tx_bytes));
        self.rings.push(Ring::new(handle, ring));
        handle
    }

    /// Moves a connection, ring and all, to a set of its own.
    pub fn take(&mut self, handle: SocketHandle) -> Option<(Self, SocketHandle)> {
        let place = self.rings.iter().position(|ring| ring.handle == handle)?;
        let ring = self.rings.swap_remove(place);
        let mut taken = Self::with_capacity(1);
        let handle = match self.set.remove(handle) {
            Any::Tcp(tcp) => taken.set.add(tcp),
            _ => return None, // only connections have rings
        };
        taken.rings.push(Ring { handle, ..ring });
        Some((taken, handle))
    }

    /// Drops all connections and makes the first one new, with the same ring.
    pub fn renew(&mut self, tx_bytes: usize) -> Option<SocketHandle> {
        self.set = SocketSet::new(Vec::with_capacity(1));
        let ring = self.rings.drain(..).next()?;
        Some(self.add_connection(ring.memory, tx_bytes))
    }

    /// Takes the right to a connection's ring that the application is to have, and says how long the ring is.
    pub fn take_ring_right(&mut self, handle: SocketHandle) -> Option<(u32, u32)> {
        let ring = self.rings.iter_mut().find(|ring| ring.handle == handle)?;
        Some((ring.memory.take_right(), ring.memory.length() as u32))
    }

    /// Where the bytes of a connection's ring are, and how many.
    pub fn ring(&self, handle: SocketHandle) -> Option<(NonNull<u8>, usize)> {
        let ring = self.rings.iter().find(|ring| ring.handle == handle)?;
        Some((ring.memory.address(), ring.memory.length()))
    }

    /// The sockets, to look at.
    #[inline(always)]
    pub const fn get(&self) -> &SocketSet<'static> {
        &self.set
    }

    /// Lends one connection. What is done with it works for whatever lifetime its buffers have, and so can keep none of them.
    ///
    /// # Panics
    /// If there is none by this handle.
    #[inline(always)]
    pub fn tcp<R>(
        &mut self,
        handle: SocketHandle,
        work: impl for<'a> FnOnce(&mut tcp::Socket<'a>) -> R,
    ) -> R {
        work(self.set.get_mut(handle))
    }

    /// Lends each socket in turn, like [`tcp`](Self::tcp).
    pub fn for_each(&mut self, mut work: impl for<'a> FnMut(&mut Any<'a>)) {
        for (_, socket) in self.set.iter_mut() {
            work(socket);
        }
    }

    /// Hands a frame to the sockets.
    #[inline(always)]
    pub fn ingress<L: Link>(&mut self, stack: &mut Stack<L>, frame: &[u8]) {
        let before = stack.traffic.sent;
        if self.closed
            && let [Ring { sent: Some(sent), .. }] = &self.rings[..]
            && let Some(acknowledgment) = acknowledgment(frame, sent)
        {
            stack.ingress(&acknowledgment, &mut self.set);
        }
        if is_special(frame)
            && let Some(instead) = self.instead_of(frame)
        {
            stack.ingress(&instead, &mut self.set);
        } else {
            stack.ingress(frame, &mut self.set);
        }
        if let Some(end) = &mut self.end {
            end.follow(frame);
        }
        if stack.traffic.sent != before {
            self.note_sent(stack);
        }
    }

    /// Lets the sockets send all that they can; whether they sent something.
    #[inline(always)]
    pub fn egress<L: Link>(&mut self, stack: &mut Stack<L>) -> bool {
        let sent = stack.egress(&mut self.set);
        if sent {
            self.note_sent(stack);
        }
        sent
    }

    /// The same if there is anything to do for them now, and when they want their next turn ([`Stack::turn`]).
    #[inline(always)]
    pub fn turn<L: Link>(&mut self, stack: &mut Stack<L>) -> i64 {
        let (sent, deadline) = stack.turn(&mut self.set);
        if sent && self.note_sent(stack) {
            return stack.turn(&mut self.set).1;
        }
        deadline
    }

    /// Up to where the one connection here has sent its stream, if that is known.
    #[inline(always)]
    pub fn sent_to(&self) -> Option<u32> {
        match &self.rings[..] {
            [only] => Some(only.end.wrapping_sub(only.first?)),
            _ => None,
        }
    }

    /// Remembers what the last segment said; whether the stream that comes has ended by that.
    #[inline(always)]
    fn note_sent<L: Link>(&mut self, stack: &mut Stack<L>) -> bool {
        self.remember(stack.traffic.numbers, stack.traffic.payload);
        self.end.is_some() && self.reach_end(stack)
    }

    #[inline(always)]
    fn remember(&mut self, numbers: Numbers, payload: u32) {
        match &mut self.rings[..] {
            [only] => {
                only.note(numbers, payload);
                self.closed = numbers.closes();
            }
            _ => self.remember_one_of_many(numbers, payload),
        }
    }

    /// A listener's: the connection is the one with the port that the segment went to. If there are several, none is known.
    #[cold]
    fn remember_one_of_many(&mut self, numbers: Numbers, payload: u32) {
        let Self { set, rings, .. } = self;
        let to = |handle| set.get::<tcp::Socket<'_>>(handle).remote_endpoint().map(|remote| remote.port);
        let ours = |ring: &&mut Ring<M>| to(ring.handle) == Some(numbers.remote_port());
        let known = rings.iter_mut().filter(ours).count() == 1;
        for ring in rings.iter_mut().filter(ours) {
            if known {
                ring.note(numbers, payload);
            } else {
                (ring.sent, ring.first) = (None, None);
            }
        }
    }

    /// What a connection gets in place of a segment that could be a stranger's, or whose FIN smoltcp would not see. In a backlog nobody has
    /// anything to lose yet.
    #[cold]
    fn instead_of(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        let [Ring { handle, memory, sent: Some(sent), .. }] = &self.rings[..] else { return None };
        match Ending::of(frame, sent, memory.length()) {
            Ending::Reached(alone) => return Some(alone),
            Ending::Ahead(ahead) => self.end = Some(ahead),
            Ending::Plain => {}
        }
        challenge(frame, self.set.get::<tcp::Socket<'_>>(*handle).state(), *sent)
    }

    /// Ends the stream if all before its end has come.
    #[cold]
    fn reach_end<L: Link>(&mut self, stack: &mut Stack<L>) -> bool {
        let [Ring { sent: Some(sent), .. }] = &self.rings[..] else { return false };
        match self.end.take_if(|ahead| ahead.missing(sent) <= 0) {
            // Behind what has come, it was no end.
            Some(end) if end.missing(sent) == 0 => {
                stack.ingress(&end.into_segment(), &mut self.set);
                self.remember(stack.traffic.numbers, stack.traffic.payload);
                true
            }
            _ => false,
        }
    }
}

fn new_socket(ring: &'static mut [u8], tx_bytes: usize) -> tcp::Socket<'static> {
    let mut socket = tcp::Socket::new(tcp::SocketBuffer::new(ring), tcp::SocketBuffer::new(buffer(tx_bytes)));
    socket.set_congestion_control(tcp::CongestionControl::Reno);
    socket
}
