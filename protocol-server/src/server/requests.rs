//! What applications ask by message (`abi::socket::Request`), but for reads and writes ([`super::calls`]).

use abi::{
    Error,
    message::{Disposition, Message, NOTIFY_DEAD_NAME},
    port::{NULL, THREAD_SELF},
    socket::{Endpoint, Kind, Page, REPLY, Request, State, audit},
    supervise::Lease,
};
use alloc::boxed::Box;
use smoltcp::wire::IpCidr;

use super::{Server, calls::put};
use crate::{
    addresses::{connection_key, from_abi, peer_from_abi, to_abi},
    demux::{NO_SLOT, Slot},
    dhcp::Dhcp,
    frame::{ICMP, Key, TCP, UDP},
    link::Link,
    page::SocketPage,
    socket::{Context, Protocol, Socket, datagram, tcp},
    system::{SharedMemory, System},
};

/// A reply while it is put together: body words from 1 on, and the rights.
struct Reply {
    message: Message,
    words: usize,
}

impl Reply {
    fn new() -> Self {
        Self { message: Message::new(0, REPLY), words: 1 }
    }

    fn word(mut self, value: u32) -> Self {
        let set = self.message.set_word(self.words, value);
        debug_assert!(set, "replies are far shorter than a message");
        self.words += 1;
        self
    }

    fn endpoint(mut self, endpoint: &Endpoint) -> Self {
        put_endpoint(&mut self.message, self.words, endpoint);
        self.words += 6;
        self
    }

    const fn carry(mut self, name: u32) -> Self {
        self.message.carried = name;
        self.message.carried_disposition = Disposition::Move.raw();
        self
    }

    /// What `Open` and `Accept` say of a socket: its number, its memory, and its receive ring if that is apart. The last thing that is
    /// done for them: the rights are the application's from here on.
    fn socket<M: SharedMemory>(self, slot: Slot, page: &mut SocketPage<M>, ring: Option<(u32, u32)>) -> Self {
        let (memory, bytes) = page.take_right();
        let (ring, ring_bytes) = ring.unwrap_or((NULL, 0));
        let mut reply = self.word(u32::from(slot)).word(bytes).word(ring_bytes).carry(memory);
        if ring != NULL {
            reply.message.reply = ring;
            reply.message.reply_disposition = Disposition::Move.raw();
        }
        reply
    }
}

/// Sets the six words of an endpoint in a reply.
pub(super) fn put_endpoint(reply: &mut Message, first: usize, endpoint: &Endpoint) {
    put(reply, first, endpoint.family);
    for (i, four) in endpoint.address.chunks_exact(4).enumerate() {
        put(reply, first + 1 + i, u32::from_le_bytes([four[0], four[1], four[2], four[3]]));
    }
    put(reply, first + 5, endpoint.port);
}

pub(super) fn endpoint_at(message: &Message, first: usize) -> Option<Endpoint> {
    let mut address = [0; 16];
    for (i, four) in address.chunks_exact_mut(4).enumerate() {
        four.copy_from_slice(&message.word(first + 1 + i)?.to_le_bytes());
    }
    Some(Endpoint { family: message.word(first)?, address, port: message.word(first + 5)? })
}

impl<L: Link, S: System> Server<L, S> {
    /// Does what a message asks; the answer goes to the message's reply right. `None` for a notification.
    ///
    /// The right that the message carries is kept or given up here.
    pub fn request(&mut self, message: &Message) -> Option<Message> {
        if message.id == NOTIFY_DEAD_NAME {
            if let Some(name) = message.word(0) {
                self.thread_died(name);
            }
            return None;
        }
        let outcome = match Request::from_raw(message.id) {
            None => Err(Error::BadCall),
            Some(request) => self.answer(request, message),
        };
        let keeps =
            matches!(Request::from_raw(message.id), Some(Request::Open | Request::Accept | Request::Rebind));
        if message.carried != 0 && !(keeps && outcome.is_ok()) {
            self.system.release(message.carried);
        }
        let (mut reply, status) = match outcome {
            Ok(reply) => (reply.message, 0),
            Err(error) => (Message::new(0, REPLY), error.raw()),
        };
        let set = reply.set_word(0, status);
        debug_assert!(set, "there is room for one word");
        Some(reply)
    }

    fn answer(&mut self, request: Request, message: &Message) -> Result<Reply, Error> {
        match request {
            Request::Hello => {
                let mut reply = Reply::new().carry(self.system.read_only(self.status_name)?);
                reply.message.reply = THREAD_SELF;
                reply.message.reply_disposition = Disposition::CopySend.raw();
                return Ok(reply);
            }
            Request::Open => return self.open(message),
            Request::Interface => return self.interface(),
            Request::Audit => return Ok(self.audit()),
            Request::Lease => return Ok(self.lease()),
            _ => {}
        }
        let slot = self.own_slot(message)?;
        match request {
            Request::Bind => self.bind(slot, message),
            Request::Connect => self.connect(slot, message),
            Request::Listen => self.listen(slot, message),
            Request::Accept => self.accept(slot, message),
            Request::Close => self.close(slot),
            Request::Abort => self.abort(slot),
            Request::Rebind => self.rebind(slot, message),
            // Done before they come here ([`super::calls`]), on the path that has them.
            Request::Write | Request::Read => Err(Error::BadCall),
            Request::Hello | Request::Open | Request::Interface | Request::Audit | Request::Lease => {
                Err(Error::BadCall)
            }
        }
    }

    /// The slot of the socket in word 0, if the sender owns it.
    fn own_slot(&self, message: &Message) -> Result<Slot, Error> {
        let number = message.word(0).ok_or(Error::BadArgument)?;
        match self.sockets.get(number as usize) {
            Some(Some(socket)) if socket.is_of(message.sender) => Ok(number as Slot),
            _ => Err(Error::BadName),
        }
    }

    fn socket(&mut self, slot: Slot) -> Result<&mut Socket<S::Memory>, Error> {
        self.sockets.get_mut(usize::from(slot)).and_then(|place| place.as_deref_mut()).ok_or(Error::BadName)
    }

    /// Asks to be told of the death of a thread whose right came with a message.
    fn watch(&mut self, thread: u32) -> Result<(), Error> {
        let known = self.sockets.iter().flatten().any(|socket| socket.thread == thread);
        if thread == 0 || (!known && !self.system.watch(thread)) {
            return Err(Error::BadRight);
        }
        Ok(())
    }

    fn open(&mut self, message: &Message) -> Result<Reply, Error> {
        let kind = message.word(0).and_then(Kind::from_raw).ok_or(Error::BadArgument)?;
        let slot = self.free_slot()?;
        self.watch(message.carried)?;
        let (mut page, set, protocol, ring) = match kind {
            Kind::Tcp => {
                let memory = self.system.shared_memory(Page::bytes(0, tcp::TX_RING as usize))?;
                let page = SocketPage::for_stream(memory, tcp::RX_RING, tcp::TX_RING)?;
                let ring = self.system.exclusive_memory(tcp::RX_RING as usize)?;
                self.system.room_for(tcp::TX_BUFFER)?;
                let (mut set, connection) = tcp::new_connection(ring);
                let ring = if self.keeps_ends { None } else { set.take_ring_right(connection.handle()) };
                (page, set, Protocol::Tcp(connection), ring)
            }
            Kind::Udp | Kind::Echo => {
                self.system.room_for(datagram::BUFFERS)?;
                let both = datagram::RING as usize;
                let memory = self.system.shared_memory(Page::bytes(both, both))?;
                let page = SocketPage::for_records(memory, datagram::RING)?;
                let (set, datagram) = if kind == Kind::Udp {
                    datagram::udp_set()
                } else {
                    let ident = self.free_ident();
                    if !self.stack.demux.insert(Key::wildcard(ICMP, ident), slot) {
                        return Err(Error::NoResources);
                    }
                    datagram::echo_set(ident)?
                };
                (page, set, Protocol::Datagram(datagram), None)
            }
        };
        let reply = Reply::new().socket(slot, &mut page, ring);
        let mut socket = Socket::new(message.sender, message.carried, page, set, protocol);
        if self.keeps_ends {
            socket.keep_end();
        }
        self.sockets[usize::from(slot)] = Some(Box::new(socket));
        Ok(reply)
    }

    /// An echo identifier that nobody has.
    fn free_ident(&mut self) -> u16 {
        loop {
            self.next_ident = self.next_ident.checked_add(1).unwrap_or(1);
            if self.stack.demux.find(&Key::wildcard(ICMP, self.next_ident)) == NO_SLOT {
                return self.next_ident; // there are far fewer sockets than identifiers
            }
        }
    }

    /// A local port: the one asked for, or one that nobody has.
    fn choose_port(&mut self, protocol: u8, asked: u16) -> Result<u16, Error> {
        if asked != 0 {
            return Ok(asked);
        }
        let sockets = &self.sockets;
        let taken = |port| sockets.iter().flatten().any(|socket| socket.local.port == port);
        let port = self.stack.ephemeral_port(taken).ok_or(Error::NoResources)?;
        debug_assert_eq!(self.stack.demux.find(&Key::wildcard(protocol, port)), NO_SLOT);
        Ok(port)
    }

    fn bind(&mut self, slot: Slot, message: &Message) -> Result<Reply, Error> {
        let endpoint = endpoint_at(message, 1).ok_or(Error::BadArgument)?;
        let mut local = from_abi(&endpoint).ok_or(Error::BadArgument)?;
        if let Some(address) = local.addr
            && !self.stack.interface().has_ip_addr(address)
        {
            return Err(Error::Unreachable);
        }
        let socket = self.socket(slot)?;
        if socket.local.port != 0 || socket.state() != State::Closed {
            return Err(Error::Exists);
        }
        let protocol = match socket.protocol {
            Protocol::Tcp(_) => TCP,
            Protocol::Datagram(ref datagram) if datagram.is_udp() => UDP,
            _ => return Err(Error::BadArgument),
        };
        local.port = self.choose_port(protocol, local.port)?;
        let key = Key::wildcard(protocol, local.port);
        let taken = match protocol {
            UDP => !self.stack.demux.insert(key, slot),
            _ => self.stack.demux.find(&key) != NO_SLOT,
        };
        if taken {
            return Err(Error::AddressInUse);
        }
        let socket = self.socket(slot)?;
        socket.local = local;
        socket.show_local();
        if protocol == UDP {
            socket.bind_udp()?;
        }
        Ok(Reply::new().word(u32::from(local.port)))
    }

    fn connect(&mut self, slot: Slot, message: &Message) -> Result<Reply, Error> {
        let endpoint = endpoint_at(message, 1).ok_or(Error::BadArgument)?;
        let remote = peer_from_abi(&endpoint).ok_or(Error::Unreachable)?;
        let socket = self.socket(slot)?;
        if socket.state() != State::Closed {
            return Err(Error::Exists);
        }
        if matches!(socket.protocol, Protocol::Datagram(_)) {
            socket.remote = Some(remote);
            return Ok(Reply::new());
        }
        if remote.port == 0 {
            return Err(Error::BadArgument);
        }
        let bound = socket.local.port;
        let port = self.choose_port(TCP, bound)?;
        let Some(Some(socket)) = self.sockets.get_mut(usize::from(slot)) else { return Err(Error::BadName) };
        socket.local.port = port;
        socket.remote = Some(remote);
        let mut context =
            Context { stack: &mut self.stack, system: &mut self.system, counters: &mut self.counters };
        let outcome = socket.connect(&mut context).and_then(|()| {
            let Some(local) = socket.local_endpoint() else { return Err(Error::Unreachable) };
            let entered = context.stack.demux.insert(connection_key(TCP, local, remote), slot);
            if entered { Ok(()) } else { Err(Error::AddressInUse) }
        });
        if let Err(error) = outcome {
            if error == Error::AddressInUse {
                socket.set_state(State::Finished, Some(error));
                socket.forget();
            }
            return Err(error);
        }
        Ok(Reply::new())
    }

    fn listen(&mut self, slot: Slot, message: &Message) -> Result<Reply, Error> {
        let backlog = message.word(1).ok_or(Error::BadArgument)?;
        let socket = self.socket(slot)?;
        if socket.state() != State::Closed {
            return Err(Error::BadArgument);
        }
        let bound = socket.local.port;
        let port = self.choose_port(TCP, bound)?;
        let key = Key::wildcard(TCP, port);
        if self.stack.demux.find(&key) != NO_SLOT {
            return Err(Error::AddressInUse);
        }
        let Some(Some(socket)) = self.sockets.get_mut(usize::from(slot)) else { return Err(Error::BadName) };
        socket.local.port = port;
        socket.listen(&mut self.system, backlog)?;
        if !self.stack.demux.insert(key, slot) {
            return Err(Error::NoResources);
        }
        Ok(Reply::new())
    }

    fn accept(&mut self, listener: Slot, message: &Message) -> Result<Reply, Error> {
        if !self.socket(listener)?.has_ready() {
            return match self.socket(listener)?.protocol {
                Protocol::Listener(_) => Err(Error::WouldBlock),
                _ => Err(Error::BadArgument),
            };
        }
        // All that can fail comes before the connection leaves the listener.
        self.watch(message.carried)?;
        let slot = self.free_slot()?;
        let memory = self.system.shared_memory(Page::bytes(0, tcp::TX_RING as usize))?;
        let mut page = SocketPage::for_stream(memory, tcp::RX_RING, tcp::TX_RING)?;
        let Some(Some(waiting)) = self.sockets.get_mut(usize::from(listener)) else {
            return Err(Error::BadName);
        };
        let (mut set, connection, [local, remote]) = waiting.take_ready(&mut self.system)?;
        if !self.stack.demux.insert(connection_key(TCP, local, remote), slot) {
            return Err(Error::NoResources);
        }
        let ring = if self.keeps_ends { None } else { set.take_ring_right(connection.handle()) };
        let reply = Reply::new().socket(slot, &mut page, ring);
        let mut socket = Socket::new(message.sender, message.carried, page, set, Protocol::Tcp(connection));
        socket.local = local.into();
        socket.remote = Some(remote);
        if self.keeps_ends {
            socket.keep_end();
        }
        socket.set_state(State::Established, None);
        self.sockets[usize::from(slot)] = Some(Box::new(socket));
        Ok(reply.endpoint(&to_abi(Some(remote.addr), remote.port)))
    }

    fn close(&mut self, slot: Slot) -> Result<Reply, Error> {
        let now = self.stack.now.total_micros();
        if let Some(Some(socket)) = self.sockets.get_mut(usize::from(slot)) {
            socket.close(&mut self.system, now);
        }
        Ok(Reply::new())
    }

    fn abort(&mut self, slot: Slot) -> Result<Reply, Error> {
        self.socket(slot)?.abort();
        Ok(Reply::new())
    }

    fn rebind(&mut self, slot: Slot, message: &Message) -> Result<Reply, Error> {
        self.watch(message.carried)?;
        let socket = self.socket(slot)?;
        let old = core::mem::replace(&mut socket.thread, message.carried);
        // What has happened meanwhile may have resumed the old thread.
        socket.dirty = true;
        self.system.release(old);
        Ok(Reply::new())
    }

    fn interface(&self) -> Result<Reply, Error> {
        let address = self.stack.address().ok_or(Error::Unreachable)?;
        let prefix = match address {
            IpCidr::Ipv4(v4) => v4.prefix_len(),
            IpCidr::Ipv6(v6) => v6.prefix_len(),
        };
        Ok(Reply::new().word(u32::from(prefix)).endpoint(&to_abi(Some(address.address()), 0)))
    }

    /// What the next server is to go on with.
    fn lease(&self) -> Reply {
        let words = Lease::to_words(self.dhcp.as_ref().and_then(Dhcp::lease));
        words.into_iter().fold(Reply::new(), Reply::word)
    }

    fn audit(&mut self) -> Reply {
        self.publish_counters();
        let link = self.stack.link.audit();
        let free = |pick: fn(&(u32, u32)) -> u32| link.free.iter().map(pick).sum::<u32>();
        let words: [(usize, u32); 8] = [
            (audit::POOLS, link.pools),
            (audit::MBUFS, link.mbufs),
            (audit::CLUSTERS, link.clusters),
            (audit::MBUFS_FREE, free(|pool| pool.0)),
            (audit::CLUSTERS_FREE, free(|pool| pool.1)),
            (audit::MBUFS_LENT, link.mbufs_lent),
            (audit::CLUSTERS_LENT, link.clusters_lent),
            (audit::QUEUES_FILLED, link.queues_filled),
        ];
        let mut reply = Reply::new();
        for (index, value) in words {
            debug_assert_eq!(index, reply.words);
            reply = reply.word(value);
        }
        for (mbufs, clusters) in &link.free {
            reply = reply.word(*mbufs).word(*clusters);
        }
        debug_assert_eq!(audit::MBUFS_POSTED, reply.words);
        let kernel = link.kernel;
        reply
            .word(kernel.mbufs_posted)
            .word(kernel.mbufs_transmitting)
            .word(kernel.clusters_posted)
            .word(kernel.clusters_transmitting)
    }
}
