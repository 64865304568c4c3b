//! Reads and writes on behalf of applications that map no rings: as from system calls, served at once.

use super::*;
use crate::socket::end::{from_slice, to_slice};
use abi::socket::{Kind, Page, Record, wishes};

/// A socket of an application that maps its page alone.
struct Caller {
    number: u32,
    task: u32,
    memory: Rc<Shared>,
}

impl Caller {
    fn from_reply(node: &Node, task: u32, reply: &Message) -> Self {
        assert_eq!((reply.reply, reply.word(3)), (0, Some(0)), "no ring of its own");
        Self { number: reply.word(1).expect("a number"), task, memory: node.host.map(reply.carried).0 }
    }

    fn open(node: &mut Node, task: u32, kind: Kind) -> Self {
        let reply = ask(node, task, Request::Open, &[kind.raw()], THREAD).expect("open");
        Self::from_reply(node, task, &reply)
    }

    fn state(&self) -> Option<State> {
        State::from_raw(self.memory.word(Page::STATE_AT).load(SeqCst))
    }

    fn ring(&self, at: usize) -> u32 {
        self.memory.word(at).load(SeqCst).wrapping_sub(self.memory.word(at + 64).load(SeqCst))
    }

    fn write(&self, node: &mut Node, now: i64, bytes: &[u8]) -> Result<usize, Error> {
        let written = node.server.write_stream(self.task, self.number, bytes.len(), from_slice(bytes))?;
        let _ = node.server.serve_written(self.number, || Instant::from_micros(now));
        Ok(written)
    }

    fn read(&self, node: &mut Node, now: i64, into: &mut [u8]) -> Result<usize, Error> {
        let length = into.len();
        let read = node.server.read_stream(self.task, self.number, length, to_slice(into))?;
        node.server.serve_read(self.number, read, || Instant::from_micros(now));
        Ok(read)
    }
}

fn net() -> Net {
    let mut net = Net::new(Faults::default(), 3);
    net.nodes.iter_mut().for_each(|node| node.server.keep_ends());
    net
}

fn connected(net: &mut Net) -> (Caller, Caller, Caller) {
    let listener = Caller::open(&mut net.nodes[1], 20, Kind::Tcp);
    ask(&mut net.nodes[1], 20, Request::Bind, &words_of(endpoint(1, 80), listener.number), 0).expect("bound");
    ask(&mut net.nodes[1], 20, Request::Listen, &[listener.number, 4], 0).expect("listening");
    let client = Caller::open(&mut net.nodes[0], 10, Kind::Tcp);
    ask(&mut net.nodes[0], 10, Request::Connect, &words_of(endpoint(1, 80), client.number), 0)
        .expect("connecting");
    net.run("connect", |_| {
        client.state() == Some(State::Established)
            && listener.memory.word(Page::ACCEPT_READY_AT).load(SeqCst) == 1
    });
    let reply = ask(&mut net.nodes[1], 20, Request::Accept, &[listener.number], THREAD).expect("accepted");
    let server = Caller::from_reply(&net.nodes[1], 20, &reply);
    (listener, client, server)
}

#[test]
fn streams_go_through_whatever_the_size_of_reads_and_writes() {
    // Below and above what goes past the ring, and mixed, so that some find the ring empty and others don't.
    for (write, read) in [(10, 7), (600, 1000), (8192, 65_536), (0, 3000)] {
        let mut net = net();
        let (_listener, client, server) = connected(&mut net);
        let (bytes, mut written, mut taken, mut round) = (900_000, 0, 0, 0);
        let bytes = if write == 10 { bytes / 20 } else { bytes };
        net.run("transfer", |net| {
            let now = net.micros;
            for _ in 0..40 {
                round += 1;
                let size = if write == 0 { [10, 2000, 400, 70_000][round % 4] } else { write };
                let chunk: Vec<u8> = (written..bytes.min(written + size)).map(pattern).collect();
                written += client.write(&mut net.nodes[0], now, &chunk).expect("written");
            }
            // The page shows it: what is written and not yet taken by TCP is in the ring.
            assert!(client.ring(Page::TX_RING_AT) <= crate::socket::tcp::TX_RING);
            for _ in 0..60 {
                let mut into = vec![0; read];
                let count = server.read(&mut net.nodes[1], now, &mut into).expect("read");
                for (i, byte) in into[..count].iter().enumerate() {
                    assert_eq!(*byte, pattern(taken + i));
                }
                taken += count;
            }
            taken == bytes
        });
        let acknowledged = || client.memory.word(Page::ACKNOWLEDGED_AT).load(SeqCst);
        net.run("acknowledged", |_| acknowledged() == bytes as u32);
        // The end: a wish in the page, and a look at it.
        client.memory.word(Page::WISHES_AT).store(wishes::SHUTDOWN, SeqCst);
        net.nodes[0].server.serve_now(client.number, Instant::from_micros(net.micros));
        net.run("the end", |_| server.state() == Some(State::HalfClosed));
        assert_eq!(server.read(&mut net.nodes[1], 0, &mut [0; 10]), Ok(0));
    }
}

#[test]
fn writes_gather_while_data_is_on_its_way_and_no_longer_than_a_burst() {
    let mut net = net();
    let (_listener, client, _server) = connected(&mut net);
    let now = net.micros;
    let mut served = Vec::new();
    for _ in 0..30 {
        let node = &mut net.nodes[0];
        node.server.write_stream(client.task, client.number, 1000, from_slice(&[1; 1000])).expect("written");
        served.push(node.server.serve_written(client.number, || Instant::from_micros(now)));
    }
    let turns = served.iter().filter(|&&served| served).count();
    assert!(served[0], "nothing is on its way: at once");
    assert!(!served[1] && (2..6).contains(&turns), "{served:?}");
    // Whoever asks for no delay gets none.
    client.memory.word(Page::WISHES_AT).store(wishes::NO_DELAY, SeqCst);
    let node = &mut net.nodes[0];
    for _ in 0..3 {
        node.server.write_stream(client.task, client.number, 10, from_slice(&[1; 10])).expect("written");
        assert!(node.server.serve_written(client.number, || Instant::from_micros(now)));
    }
}

#[test]
fn other_tasks_sockets_and_wrong_kinds_are_refused() {
    let mut net = net();
    let (listener, client, _server) = connected(&mut net);
    let udp = Caller::open(&mut net.nodes[0], 10, Kind::Udp);
    let fresh = Caller::open(&mut net.nodes[0], 10, Kind::Tcp);
    let mut write = |node: usize, task: u32, number: u32| {
        net.nodes[node].server.write_stream(task, number, 4, from_slice(&[1; 4])).err()
    };
    assert_eq!(write(0, 11, client.number), Some(Error::BadName));
    assert_eq!(write(0, 0, client.number), Some(Error::BadName));
    assert_eq!(write(0, 10, 9999), Some(Error::BadName));
    assert_eq!(write(0, 10, u32::MAX), Some(Error::BadName));
    assert_eq!(write(0, 10, udp.number), Some(Error::BadArgument));
    assert_eq!(write(0, 10, fresh.number), Some(Error::NotConnected));
    assert_eq!(write(1, 20, listener.number), Some(Error::BadArgument));
    assert_eq!(write(0, 10, client.number), None);
    let server = &mut net.nodes[0].server;
    let peer = endpoint(1, 9);
    let put = server.write_record(10, client.number, &peer, 4, from_slice(&[1; 4]));
    assert_eq!(put.err(), Some(Error::BadArgument));
    assert_eq!(
        server.read_record(10, client.number, 4, to_slice(&mut [0; 4])).err(),
        Some(Error::BadArgument)
    );
    assert_eq!(server.read_stream(10, udp.number, 4, to_slice(&mut [0; 4])).err(), Some(Error::BadArgument));
    assert_eq!(
        server.read_record(10, udp.number, 4, to_slice(&mut [0; 4])).ok(),
        Some(None::<(Record, usize)>)
    );
    // What a closed socket was is nobody's.
    ask(&mut net.nodes[0], 10, Request::Close, &[client.number], 0).expect("closed");
    let late = net.nodes[0].server.write_stream(10, client.number, 4, from_slice(&[1; 4]));
    assert_eq!(late.err(), Some(Error::BadName));
}

#[test]
fn a_page_that_lies_costs_the_socket_and_a_copy_that_fails_nothing() {
    let mut net = net();
    let (_listener, client, server) = connected(&mut net);
    let now = net.micros;
    let node = &mut net.nodes[0];
    for length in [100, 5000] {
        let failed = node.server.write_stream(10, client.number, length, |_, _| Err(Error::BadAddress));
        assert_eq!(failed, Err(Error::BadAddress));
    }
    assert_eq!(client.write(node, now, &[7; 5000]), Ok(5000));
    let mut into = vec![0; 6000];
    net.run("arrival", |_| server.ring(Page::RX_RING_AT) == 5000);
    let node = &mut net.nodes[1];
    let failed = node.server.read_stream(20, server.number, 6000, |_, _| Err(Error::BadAddress));
    assert_eq!(failed, Err(Error::BadAddress));
    assert_eq!(server.read(node, now, &mut into), Ok(5000));
    assert!(into[..5000].iter().all(|&byte| byte == 7));
    // Positions that cannot be, in each ring.
    server.memory.word(Page::RX_RING_AT).store(u32::MAX / 2, SeqCst);
    assert_eq!(server.read(node, now, &mut into), Err(Error::PeerMisbehaviour));
    client.memory.word(Page::TX_RING_AT).store(12_345_678, SeqCst);
    let node = &mut net.nodes[0];
    assert_eq!(client.write(node, now, &[7; 5000]), Err(Error::PeerMisbehaviour));
    net.run("the end", |_| client.state() == Some(State::Finished));
}
