//! Reads and writes by request, as on the path by message: the application has the page of its socket and no ring.

use super::*;
use abi::socket::{Kind, wishes};

/// A node's application, which maps the page alone.
struct Caller {
    node: usize,
    task: u32,
    number: u32,
    page: Rc<Shared>,
}

/// A net whose servers keep the ends of the rings.
fn calling_net(faults: Faults, seed: u64) -> Net {
    let mut net = Net::new(faults, seed);
    net.nodes.iter_mut().for_each(|node| node.server.keep_ends());
    net
}

/// A request with data, and room for the data of its reply.
fn transfer(
    net: &mut Net,
    (node, task): (usize, u32),
    request: Request,
    words: &[u32],
    data: &[u8],
    room: &mut [u8],
) -> Result<Message, Error> {
    let mut message = Message::new(0, request.raw());
    message.sender = task;
    for (i, word) in words.iter().enumerate() {
        assert!(message.set_word(i, *word));
    }
    let now = Instant::from_micros(net.micros);
    // What the last reply left there must not show.
    let mut reply = Message::new(7, 7);
    (reply.length, reply.data_length, reply.body) = (100, 100, [0xee; _]);
    let limit = room.len();
    assert!(net.nodes[node].server.transfer(
        &message,
        data,
        |length| &mut room[..length.min(limit)],
        || now,
        &mut reply
    ));
    assert_eq!((reply.id, reply.reply, reply.carried), (abi::socket::REPLY, 0, 0));
    match reply.word(0) {
        Some(0) => Ok(reply),
        status => {
            assert_eq!((reply.length, reply.data_length), (4, 0), "an error has no data");
            Err(Error::from_raw(status.expect("a status")).expect("a known status"))
        }
    }
}

impl Caller {
    fn open(net: &mut Net, node: usize, task: u32, kind: Kind) -> Self {
        let reply = ask(&mut net.nodes[node], task, Request::Open, &[kind.raw()], THREAD).expect("a socket");
        Self::from_reply(net, node, task, &reply)
    }

    fn from_reply(net: &Net, node: usize, task: u32, reply: &Message) -> Self {
        assert_eq!((reply.reply, reply.word(3).unwrap_or(0)), (0, 0), "no right to a ring");
        let (page, _) = net.nodes[node].host.map(reply.carried);
        Self { node, task, number: reply.word(1).expect("a number"), page }
    }

    fn ask(&self, net: &mut Net, request: Request, words: &[u32]) -> Result<Message, Error> {
        ask(&mut net.nodes[self.node], self.task, request, words, 0)
    }

    fn write(&self, net: &mut Net, data: &[u8]) -> Result<usize, Error> {
        let at = (self.node, self.task);
        let reply = transfer(net, at, Request::Write, &[self.number], data, &mut [])?;
        Ok(reply.word(1).expect("a count") as usize)
    }

    fn send_to(&self, net: &mut Net, peer: Endpoint, data: &[u8]) -> Result<usize, Error> {
        let at = (self.node, self.task);
        let reply = transfer(net, at, Request::Write, &words_of(peer, self.number), data, &mut [])?;
        Ok(reply.word(1).expect("a count") as usize)
    }

    fn read(&self, net: &mut Net, wanted: u32, room: &mut [u8]) -> Result<Message, Error> {
        let reply = transfer(net, (self.node, self.task), Request::Read, &[self.number, wanted], &[], room)?;
        assert_eq!(reply.word(1), Some(reply.data_length));
        assert!(reply.data_length as usize <= room.len() && reply.data_length <= wanted);
        Ok(reply)
    }

    fn word(&self, at: usize) -> u32 {
        self.page.word(at).load(SeqCst)
    }

    fn state(&self) -> State {
        State::from_raw(self.word(Page::STATE_AT)).expect("a state")
    }

    /// How full a ring is, as its positions in the page say.
    fn held(&self, ring: usize) -> u32 {
        self.word(ring).wrapping_sub(self.word(ring + 64))
    }
}

/// A connection from node 0 to node 1.
fn connection(net: &mut Net, port: u16) -> (Caller, Caller, Caller) {
    let listener = Caller::open(net, 1, 20, Kind::Tcp);
    listener.ask(net, Request::Bind, &words_of(endpoint(1, port), listener.number)).expect("bound");
    listener.ask(net, Request::Listen, &[listener.number, 4]).expect("listening");
    let client = Caller::open(net, 0, 10, Kind::Tcp);
    client.ask(net, Request::Connect, &words_of(endpoint(1, port), client.number)).expect("connecting");
    net.run("connect", |_| client.state() == State::Established && listener.word(Page::ACCEPT_READY_AT) == 1);
    let reply =
        ask(&mut net.nodes[1], 20, Request::Accept, &[listener.number], THREAD).expect("a connection");
    assert_eq!(reply.reply, 0);
    let (page, _) = net.nodes[1].host.map(reply.carried);
    let server = Caller { node: 1, task: 20, number: reply.word(1).expect("a number"), page };
    (listener, client, server)
}

/// Moves bytes of the pattern from one end to the other, both by requests, and checks each.
fn move_bytes(net: &mut Net, from: &Caller, to: &Caller, bytes: usize, chunk: usize) {
    let (mut written, mut read) = (0, 0);
    let mut room = vec![0; chunk];
    net.run("transfer by requests", |net| {
        while written < bytes {
            let end = bytes.min(written + chunk);
            let data: Vec<u8> = (written..end).map(pattern).collect();
            let free = from.word(Page::TX_BYTES_AT) - from.held(Page::TX_RING_AT);
            let taken = from.write(net, &data).expect("a connection");
            assert!(taken <= data.len().min(free as usize), "the page says how much at most");
            assert_eq!(taken == 0, free == 0, "and whether");
            written += taken;
            if taken < data.len() {
                break;
            }
        }
        loop {
            let there = to.held(Page::RX_RING_AT);
            let reply = to.read(net, chunk as u32, &mut room).expect("a connection");
            assert_eq!(reply.data_length, there.min(chunk as u32), "the page says how much");
            for byte in &room[..reply.data_length as usize] {
                assert_eq!(*byte, pattern(read), "byte {read}");
                read += 1;
            }
            if reply.data_length == 0 {
                return read == bytes;
            }
        }
    });
}

#[test]
fn bytes_cross_by_requests_whatever_the_wire_does() {
    let bad = Faults { loss: 20, duplication: 10, reordering: 30, corruption: 5 };
    for (seed, faults) in [(1, Faults::default()), (2, bad)] {
        let mut net = calling_net(faults, seed);
        let (_listener, client, server) = connection(&mut net, 80);
        for chunk in [10, 1448, 65_536] {
            let bytes = if chunk == 10 { 2_000 } else { 150_000 };
            move_bytes(&mut net, &client, &server, bytes, chunk);
            move_bytes(&mut net, &server, &client, bytes, chunk);
        }
    }
}

#[test]
fn a_write_of_nothing_makes_the_server_look_at_the_page() {
    let mut net = calling_net(Faults::default(), 3);
    let (_listener, client, server) = connection(&mut net, 80);
    assert_eq!(client.write(&mut net, b"last"), Ok(4));
    client.page.word(Page::WISHES_AT).store(wishes::SHUTDOWN, SeqCst);
    let sent = net.nodes[0].server.counters().get(ServerCounter::FramesOut);
    assert_eq!(client.write(&mut net, b""), Ok(0));
    assert!(net.nodes[0].server.counters().get(ServerCounter::FramesOut) > sent, "FIN goes at once");
    net.run("the end", |_| server.state() == State::HalfClosed);
    let mut room = [0; 16];
    assert_eq!(server.read(&mut net, 16, &mut room).expect("data").data_length, 4);
    assert_eq!(room[..4], *b"last");
}

#[test]
fn what_came_before_a_reset_is_read_after_it() {
    let mut net = calling_net(Faults::default(), 4);
    let (_listener, client, server) = connection(&mut net, 80);
    assert_eq!(client.write(&mut net, b"before"), Ok(6));
    net.run("arrives", |_| server.held(Page::RX_RING_AT) == 6);
    client.ask(&mut net, Request::Abort, &[client.number]).expect("aborted");
    net.run("the reset", |_| server.state() == State::Finished);
    let mut room = [0; 4];
    assert_eq!(server.read(&mut net, 4, &mut room).expect("data").data_length, 4);
    assert_eq!(server.read(&mut net, 4, &mut room).expect("data").data_length, 2);
    assert_eq!(server.read(&mut net, 4, &mut room).expect("nothing").data_length, 0);
    assert_eq!(server.write(&mut net, b"x"), Err(Error::NotConnected));
    assert_eq!(client.write(&mut net, b"x"), Err(Error::NotConnected));
}

#[test]
fn datagrams_cross_whole_empty_or_cut() {
    let mut net = calling_net(Faults::default(), 5);
    let sockets = [0, 1].map(|node| {
        let socket = Caller::open(&mut net, node, 30, Kind::Udp);
        socket.ask(&mut net, Request::Bind, &words_of(endpoint(node, 700), socket.number)).expect("bound");
        socket
    });
    let [from, to] = &sockets;
    let mut room = vec![0; 65_536];
    for length in [0, 1, 3, 1472, 1473, 20_000, 65_507] {
        let data: Vec<u8> = (0..length).map(pattern).collect();
        assert_eq!(from.send_to(&mut net, endpoint(1, 700), &data), Ok(length));
        net.run("a datagram", |_| to.held(Page::RX_RING_AT) != 0);
        let cut = length - length / 3;
        let reply = to.read(&mut net, cut as u32, &mut room).expect("a datagram");
        assert_eq!((reply.word(1), reply.word(2)), (Some(cut as u32), Some(length as u32)));
        assert_eq!(room[..cut], data[..cut]);
        let peer: Vec<u32> = (3..9).map(|i| reply.word(i).expect("the peer")).collect();
        assert_eq!(peer, words_of(endpoint(0, 700), 0)[1..]);
        assert_eq!(to.held(Page::RX_RING_AT), 0, "the rest is lost with it");
        let nothing = to.read(&mut net, 100, &mut room).expect("nothing");
        assert_eq!((nothing.word(1), nothing.word(2)), (Some(0), None));
    }
    // A ring has an end, and nobody answers for that address.
    let mut nobody = endpoint(1, 700);
    nobody.address[3] = 9;
    let data = vec![1; 60_000];
    assert_eq!(from.send_to(&mut net, nobody, &data), Ok(60_000));
    while from.send_to(&mut net, nobody, &data) == Ok(60_000) {}
    assert_eq!(from.send_to(&mut net, nobody, &data), Ok(0), "no room now");
    assert_eq!(from.send_to(&mut net, nobody, &vec![0; 131_072]), Err(Error::TooLong));
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let mut net = calling_net(Faults::default(), 6);
    let (listener, client, _server) = connection(&mut net, 80);
    let udp = Caller::open(&mut net, 0, 10, Kind::Udp);
    let fresh = Caller::open(&mut net, 0, 10, Kind::Tcp);
    let mut room = [0; 8];
    for (task, number, error) in [
        (99, client.number, Error::BadName),
        (0, client.number, Error::BadName),
        (10, 1000, Error::BadName),
        (10, u32::MAX, Error::BadName),
        (10, udp.number, Error::BadArgument),
        (10, fresh.number, Error::NotConnected),
    ] {
        let write = transfer(&mut net, (0, task), Request::Write, &[number], b"data", &mut []);
        assert_eq!(write.map(drop), Err(error), "{task} {number}");
        if error == Error::BadName {
            let read = transfer(&mut net, (0, task), Request::Read, &[number, 8], &[], &mut room);
            assert_eq!(read.map(drop), Err(error));
        }
    }
    assert_eq!(listener.write(&mut net, b"x"), Err(Error::BadArgument));
    assert_eq!(listener.read(&mut net, 8, &mut room).map(drop), Err(Error::BadArgument));
    assert_eq!(
        client.send_to(&mut net, endpoint(1, 80), b"x"),
        Err(Error::BadArgument),
        "a stream has one peer"
    );
    assert_eq!(
        udp.send_to(&mut net, Endpoint { family: 77, ..Endpoint::default() }, b"to nobody"),
        Ok(9),
        "a datagram may be lost, as by window"
    );
    for words in [&[][..], &[client.number]] {
        let read = transfer(&mut net, (0, 10), Request::Read, words, &[], &mut room);
        assert_eq!(read.map(drop), Err(Error::BadArgument));
    }
    assert_eq!(
        transfer(&mut net, (0, 10), Request::Write, &[], b"x", &mut []).map(drop),
        Err(Error::BadArgument)
    );
    client.ask(&mut net, Request::Close, &[client.number]).expect("closed");
    assert_eq!(client.write(&mut net, b"x"), Err(Error::BadName));
    assert_eq!(client.read(&mut net, 8, &mut room).map(drop), Err(Error::BadName));
}

#[test]
fn other_requests_and_other_paths_are_none_of_its_business() {
    let mut net = calling_net(Faults::default(), 7);
    let mut reply = Message::new(0, 0);
    let now = || panic!("nothing is served");
    for id in [Request::Open.raw(), Request::Close.raw(), 0, 0xffff_0001] {
        let message = Message::new(0, id);
        assert!(!net.nodes[0].server.transfer(&message, b"x", |_| &mut [], now, &mut reply));
    }
    // By window the application does it itself.
    let mut net = Net::new(Faults::default(), 8);
    let app = App::tcp(&mut net.nodes[0], 10);
    for request in [Request::Write, Request::Read] {
        let message = Message::new(0, request.raw());
        assert!(!net.nodes[0].server.transfer(&message, b"x", |_| &mut [], now, &mut reply));
        assert_eq!(app.ask(&mut net.nodes[0], request, &[8]).map(drop), Err(Error::BadCall));
    }
}

#[test]
fn a_page_that_lies_costs_its_socket_only() {
    let mut caught = 0;
    for seed in 1..40 {
        let mut random = hostile::Random(seed * 0x9e37_79b9);
        let mut net = calling_net(Faults::default(), seed);
        let (_listener, client, server) = connection(&mut net, 80);
        let kind = [Kind::Tcp, Kind::Udp, Kind::Echo][seed as usize % 3];
        let bad = Caller::open(&mut net, 0, 66, kind);
        let to = words_of(endpoint(1, 80), bad.number);
        match kind {
            Kind::Udp => drop(bad.ask(&mut net, Request::Bind, &words_of(endpoint(0, 9), bad.number))),
            Kind::Tcp => drop(bad.ask(&mut net, Request::Connect, &to)),
            Kind::Echo => {}
        }
        net.step();
        for _ in 0..30 {
            for _ in 0..random.next() % 4 {
                let at = random.next() as usize % (Page::RINGS_AT / 4) * 4;
                let value =
                    if random.next().is_multiple_of(2) { random.next() } else { random.next() % 300_000 };
                bad.page.word(at).store(value, SeqCst);
            }
            for at in [Page::RX_RING_AT, Page::RX_RING_AT + 64, Page::TX_RING_AT, Page::TX_RING_AT + 64] {
                if random.next().is_multiple_of(4) {
                    bad.page.word(at).store(random.next() % 400_000, SeqCst);
                }
            }
            let (words, data) = (
                if kind == Kind::Tcp { vec![bad.number] } else { to.clone() },
                vec![7; random.next() as usize % 3000],
            );
            let mut room = vec![0; random.next() as usize % 3000];
            let outcomes = [
                transfer(&mut net, (0, 66), Request::Write, &words, &data, &mut []).map(drop),
                transfer(&mut net, (0, 66), Request::Read, &[bad.number, random.next()], &[], &mut room)
                    .map(drop),
            ];
            caught += outcomes.iter().filter(|it| **it == Err(Error::PeerMisbehaviour)).count();
            net.step();
        }
        move_bytes(&mut net, &client, &server, 20_000, 3000);
        let counted = net.nodes[0].server.counters().get(ServerCounter::PeerMisbehaviour);
        assert!(counted <= 1, "a socket that is over is not believed again");
    }
    assert!(caught > 100, "{caught} lies were found out");
}
