//! Sockets against a server of a few lines: what costs a system call and what does not, what wakes whom, and what a peer that
//! lies can do.

mod calls;
mod death;
mod world;

use core::{net::SocketAddr, time::Duration};
use std::{vec, vec::Vec};

use abi::{
    Error,
    info::VERSION,
    path::Path,
    socket::{Endpoint, MAGIC, Page as At, Request, State, wait_for, wishes},
};
pub(super) use world::options;
use world::{Peer, RX_BYTES, TX_BYTES, World};

use super::{
    AsSocket, EchoSocket, Ipv6Addr, Shutdown, TcpListener, TcpStream, UdpSocket, Want,
    address::{from_endpoint, from_words, to_endpoint, to_words},
    service::interface,
    wait_any,
};

const REMOTE: SocketAddr =
    SocketAddr::new(core::net::IpAddr::V4(core::net::Ipv4Addr::new(10, 9, 0, 1)), 5001);

fn connected() -> (World, TcpStream, Peer) {
    connected_on(Path::Window)
}

fn connected_on(path: Path) -> (World, TcpStream, Peer) {
    let world = World::on(path);
    let stream = TcpStream::connect(REMOTE).unwrap();
    let peer = world.peer(0);
    (world, stream, peer)
}

fn bytes(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed)).collect()
}

#[test]
fn small_reads_and_writes_make_no_system_call() {
    let (world, mut stream, peer) = connected();
    peer.give(&bytes(1000, 1));
    let before = world.calls();
    let mut got = Vec::new();
    for _ in 0..100 {
        let mut ten = [0; 10];
        assert_eq!(stream.read(&mut ten), Ok(10));
        got.extend(ten);
        assert_eq!(stream.write(b"0123456789"), Ok(10));
    }
    assert_eq!(world.calls(), before);
    assert_eq!(got, bytes(1000, 1));
    assert_eq!(peer.take(), b"0123456789".repeat(100));
}

#[test]
fn a_server_that_sleeps_is_resumed_once_for_each_sleep() {
    let (world, mut stream, _peer) = connected();
    for sleep in 1..=3 {
        world.server_sleeps();
        for _ in 0..10 {
            stream.write_all(b"x").unwrap();
        }
        assert_eq!(world.resumes(), sleep);
        world.server_wakes();
        stream.write_all(b"x").unwrap();
        assert_eq!(world.resumes(), sleep);
    }
}

#[test]
fn a_writer_waits_for_room_and_everything_arrives_in_order() {
    for path in Path::ALL {
        let (world, mut stream, _peer) = connected_on(path);
        let taken = std::rc::Rc::new(core::cell::RefCell::new(Vec::new()));
        let sink = std::rc::Rc::clone(&taken);
        world.while_suspended(move |peers| {
            assert_eq!(peers[0].waits_for(), Some(wait_for::WRITE));
            sink.borrow_mut().extend(peers[0].take());
        });
        let sent = bytes(100_000, 7);
        for piece in sent.chunks(777) {
            stream.write_all(piece).unwrap();
        }
        let peer = world.peer(0);
        assert_eq!(peer.waits_for(), None);
        taken.borrow_mut().extend(peer.take());
        assert_eq!(*taken.borrow(), sent);
        assert!(world.suspends() as usize <= 100_000 / TX_BYTES as usize + 1);
    }
}

#[test]
fn a_reader_gets_everything_before_the_end() {
    for path in Path::ALL {
        let (world, mut stream, peer) = connected_on(path);
        peer.give(b"last words");
        peer.state(State::HalfClosed);
        let mut buffer = [0; 4];
        let mut got: Vec<u8> = Vec::new();
        loop {
            match stream.read(&mut buffer).unwrap() {
                0 => break,
                read => got.extend(&buffer[..read]),
            }
        }
        assert_eq!(got, b"last words");
        assert_eq!(world.suspends(), 0);
        stream.write_all(b"still open this way").unwrap();
    }
}

#[test]
fn a_reset_says_so_after_what_came_before() {
    for path in Path::ALL {
        let (_world, mut stream, peer) = connected_on(path);
        peer.give(b"abc");
        peer.fails(Error::ConnectionReset);
        let mut buffer = [0; 8];
        assert_eq!(stream.read(&mut buffer), Ok(3));
        assert_eq!(stream.read(&mut buffer), Err(Error::ConnectionReset));
        assert_eq!(stream.write(b"x"), Err(Error::ConnectionReset));
        assert_eq!(stream.drain(), Ok(())); // nothing was written
    }
}

#[test]
fn a_reader_that_waits_is_woken_by_data_end_and_failure() {
    for path in Path::ALL {
        let (world, mut stream, _peer) = connected_on(path);
        world.while_suspended(|peers| {
            assert_eq!(peers[0].waits_for(), Some(wait_for::READ));
            peers[0].give(b"now");
        });
        let mut buffer = [0; 8];
        assert_eq!(stream.read(&mut buffer), Ok(3));
        world.while_suspended(|peers| peers[0].fails(Error::ConnectionAborted));
        assert_eq!(stream.read(&mut buffer), Err(Error::ConnectionAborted));
    }
}

#[test]
fn limits_end_waits() {
    for path in Path::ALL {
        let (world, mut stream, _peer) = connected_on(path);
        stream.set_read_timeout(Some(Duration::ZERO));
        assert_eq!(stream.read(&mut [0; 4]), Err(Error::TimedOut));
        assert_eq!(world.suspends(), 0);
        stream.set_read_timeout(Some(Duration::from_millis(3)));
        assert_eq!(stream.read(&mut [0; 4]), Err(Error::TimedOut));
        assert!(world.suspends() > 0);
        stream.set_write_timeout(Some(Duration::ZERO));
        let full = vec![0; TX_BYTES as usize];
        assert_eq!(stream.write(&full), Ok(full.len()));
        assert_eq!(stream.write(b"x"), Err(Error::TimedOut));
        assert_eq!(stream.read(&mut []), Ok(0));
    }
}

#[test]
fn the_server_is_told_of_room_only_where_it_left_the_ring_full() {
    let (world, mut stream, peer) = connected();
    let mut ten = [0; 10];
    // Half full: nobody waits for room.
    peer.give(&bytes(RX_BYTES as usize / 2, 0));
    world.server_sleeps();
    while stream.available() >= 10 {
        stream.read_exact(&mut ten).unwrap();
    }
    assert_eq!(world.resumes(), 0);
    // From every place in the ring, with reads of several sizes: full, then found within a quarter.
    for size in [1, 7, 10, 100, 1000, RX_BYTES as usize] {
        for start in (0..RX_BYTES as usize).step_by(509) {
            world.server_wakes();
            let mut skip = vec![0; RX_BYTES as usize];
            while stream.available() != 0 {
                stream.read(&mut skip).unwrap();
            }
            assert_eq!(peer.give(&bytes(start, 0)), start);
            let mut left = start;
            while left > 0 {
                left -= stream.read(&mut skip[..left]).unwrap();
            }
            assert_eq!(peer.give(&vec![0; RX_BYTES as usize]), RX_BYTES as usize);
            world.server_sleeps();
            let before = world.resumes();
            let mut read = 0;
            let mut buffer = vec![0; size];
            while read < RX_BYTES as usize / 4 + size {
                match stream.available() {
                    0 => break,
                    _ => read += stream.read(&mut buffer).unwrap(),
                }
            }
            assert_eq!(world.resumes(), before + 1, "size {size} from {start}");
        }
    }
}

#[test]
fn wishes_reach_the_page_and_ring_the_bell() {
    let (world, mut stream, peer) = connected();
    world.server_sleeps();
    stream.set_nodelay(true);
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(peer.page.get(At::WISHES_AT), wishes::NO_DELAY | wishes::SHUTDOWN);
    assert_eq!(world.resumes(), 1);
    assert_eq!(stream.write(b"x"), Err(Error::NotConnected));
    stream.shutdown(Shutdown::Abort).unwrap();
    assert_eq!(world.requests().last().unwrap().id, Request::Abort.raw());
    drop(stream);
    assert_eq!(world.requests().last().unwrap().id, Request::Close.raw());
}

#[test]
fn drained_means_acknowledged() {
    for path in Path::ALL {
        let (world, mut stream, peer) = connected_on(path);
        stream.write_all(b"0123456789").unwrap();
        world.while_suspended(|peers| {
            assert_eq!(peers[0].waits_for(), Some(wait_for::DRAINED));
            let acknowledged = peers[0].page.get(At::ACKNOWLEDGED_AT);
            peers[0].page.set(At::ACKNOWLEDGED_AT, acknowledged + 5);
        });
        stream.drain().unwrap();
        assert_eq!(world.suspends(), 2);
        stream.write_all(b"lost").unwrap();
        peer.fails(Error::ConnectionReset);
        assert_eq!(stream.drain(), Err(Error::ConnectionReset));
    }
}

#[test]
fn a_page_that_does_not_fit_its_mapping_is_refused() {
    let world = World::new();
    for head in [
        [MAGIC + 1, VERSION, RX_BYTES, TX_BYTES],
        [MAGIC, VERSION + 1, RX_BYTES, TX_BYTES],
        [MAGIC, VERSION, RX_BYTES * 2, TX_BYTES],
        [MAGIC, VERSION, RX_BYTES, TX_BYTES * 2],
        [MAGIC, VERSION, RX_BYTES - 1, TX_BYTES],
        [MAGIC, VERSION, 0, TX_BYTES],
        [MAGIC, VERSION, RX_BYTES, 1 << 31],
        [MAGIC, VERSION, 1 << 31, 1 << 31],
    ] {
        world.next_head(head);
        assert_eq!(TcpStream::connect(REMOTE).err(), Some(Error::PeerMisbehaviour), "{head:x?}");
    }
}

#[test]
fn positions_that_cannot_be_are_an_error() {
    let (_world, mut stream, peer) = connected();
    peer.page.set(At::RX_RING_AT, RX_BYTES + 1);
    assert_eq!(stream.read(&mut [0; 16]), Err(Error::PeerMisbehaviour));
    peer.page.set(At::TX_RING_AT + 64, 5);
    assert_eq!(stream.write(&vec![0; TX_BYTES as usize + 1]), Err(Error::PeerMisbehaviour));
    peer.page.set(At::STATE_AT, 77);
    assert!(stream.read(&mut [0; 16]).is_err());
    assert!(stream.is_ready(Want::Connected));
}

#[test]
fn connecting_waits_for_the_outcome() {
    for path in Path::ALL {
        let world = World::on(path);
        let listener = TcpListener::bind(REMOTE).unwrap();
        assert!(!listener.is_ready(Want::Accept));
        let requests: Vec<u32> =
            world.requests().iter().map(|it| it.id).filter(|&id| id != Request::Hello.raw()).collect();
        assert_eq!(requests, [Request::Open, Request::Bind, Request::Listen].map(Request::raw));
        let mut listener = listener;
        world.while_suspended(|peers| {
            assert_eq!(peers[0].waits_for(), Some(wait_for::STATE));
            peers[0].page.set(At::ACCEPT_READY_AT, 1);
        });
        let (stream, _) = listener.accept().unwrap();
        assert!(stream.is_ready(Want::Write));
        assert_eq!(listener.accept_timeout(Duration::ZERO).map(drop), Ok(())); // as the page still says
    }
}

#[test]
fn one_thread_waits_for_many() {
    for path in Path::ALL {
        let (world, stream, _peer) = connected_on(path);
        let second = TcpStream::connect(REMOTE).unwrap();
        let third = TcpListener::bind(REMOTE).unwrap();
        let waits: [(&dyn AsSocket, Want); 4] =
            [(&stream, Want::Read), (&second, Want::Read), (&third, Want::Accept), (&second, Want::Drained)];
        world.peer(1).page.set(At::ACKNOWLEDGED_AT, 99);
        world.while_suspended(|peers| {
            assert_eq!(peers[0].waits_for(), Some(wait_for::READ));
            assert_eq!(peers[1].waits_for(), Some(wait_for::READ | wait_for::DRAINED));
            assert_eq!(peers[2].waits_for(), Some(wait_for::STATE));
            peers[1].give(b"!");
        });
        assert_eq!(wait_any(&waits, None), Ok(1));
        for index in 0..3 {
            assert_eq!(world.peer(index).waits_for(), None);
        }
        assert_eq!(wait_any(&waits[..1], Some(Duration::ZERO)), Err(Error::TimedOut));
        assert_eq!(wait_any(&[], None), Err(Error::BadArgument));
    }
}

#[test]
fn datagrams_are_records_wherever_the_ring_wraps() {
    for path in Path::ALL {
        let world = World::on(path);
        let mut socket = UdpSocket::bind(REMOTE).unwrap();
        let peer = world.peer(0);
        for length in (0..700).step_by(13) {
            let payload = bytes(length, length as u8);
            socket.send_to(&payload, REMOTE).unwrap();
            let record = peer.take();
            assert_eq!(record.len(), 32 + length.next_multiple_of(4));
            assert_eq!(record[..4], (length as u32).to_le_bytes());
            assert_eq!(record[32..32 + length], payload);
            // And back, read into a buffer that is too short every other time.
            assert_eq!(peer.give(&record), record.len());
            let room = if length % 2 == 0 { length } else { length / 2 };
            let mut buffer = vec![0; room];
            assert_eq!(socket.recv_from(&mut buffer), Ok((room, REMOTE)));
            assert_eq!(buffer, payload[..room]);
            assert_eq!(socket.as_socket().page.rx_used(), 0);
        }
        assert_eq!(socket.send_to(&vec![0; TX_BYTES as usize - 28], REMOTE), Err(Error::TooLong));
        assert_eq!(socket.send(b"x"), Err(Error::NotConnected));
        socket.connect(REMOTE).unwrap();
        socket.send(b"x").unwrap();
    }
}

#[test]
fn a_record_that_lies_is_an_error() {
    for length in [5_u32, RX_BYTES, u32::MAX - 3, u32::MAX] {
        let world = World::new();
        let mut socket = EchoSocket::open().unwrap();
        let mut record = [0; 36];
        record[..4].copy_from_slice(&length.to_le_bytes());
        world.peer(0).give(&record);
        assert_eq!(socket.receive(&mut [0; 64]).map(drop), Err(Error::PeerMisbehaviour), "{length}");
    }
    let world = World::new();
    let mut socket = EchoSocket::open().unwrap();
    world.peer(0).give(&[0; 31]);
    assert_eq!(socket.receive(&mut [0; 64]).map(drop), Err(Error::PeerMisbehaviour));
}

#[test]
fn a_datagram_waits_for_room_and_not_longer() {
    for path in Path::ALL {
        let world = World::on(path);
        let mut socket = UdpSocket::bind(REMOTE).unwrap();
        socket.set_write_timeout(Some(Duration::ZERO));
        let payload = [0; 1000];
        while socket.send_to(&payload, REMOTE).is_ok() {}
        assert_eq!(socket.send_to(&payload, REMOTE), Err(Error::TimedOut));
        socket.set_write_timeout(None);
        world.while_suspended(|peers| drop(peers[0].take()));
        socket.send_to(&payload, REMOTE).unwrap();
    }
}

#[test]
fn addresses_cross_unchanged() {
    for address in [REMOTE, SocketAddr::new(Ipv6Addr::new(0xfd09, 1, 2, 3, 4, 5, 6, 7).into(), 65_535)] {
        let endpoint = to_endpoint(address);
        assert_eq!(from_words(to_words(&endpoint)), endpoint);
        assert_eq!(from_endpoint(&endpoint), Some(address));
    }
    assert_eq!(from_endpoint(&Endpoint { family: 5, ..Endpoint::default() }), None);
    assert_eq!(from_endpoint(&Endpoint { family: 4, port: 65_536, ..Endpoint::default() }), None);
}
