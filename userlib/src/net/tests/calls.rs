//! Sockets whose rings are somebody else's: what a read or a write costs there, and what becomes of answers that are late or wrong.

use std::{vec, vec::Vec};

use abi::{
    Error,
    message::DATA_MAX,
    path::Path,
    socket::{Page as At, Request, State, wishes},
    syscall::Syscall,
};

use super::{
    AsSocket, REMOTE, Shutdown, TcpStream, UdpSocket, bytes, connected_on,
    world::{OUT_OF_LINE, RX_BYTES, TX_BYTES, World, died},
};

const PATHS: [Path; 2] = [Path::Ipc, Path::Monolithic];

#[test]
fn a_read_or_a_write_is_one_trap() {
    for (path, [write, read]) in
        PATHS.into_iter().zip([[Syscall::MessageCall; 2], [Syscall::SocketWrite, Syscall::SocketRead]])
    {
        let (world, mut stream, peer) = connected_on(path);
        stream.write_all(b"first").unwrap();
        world.log();
        for round in 0..20 {
            stream.write_all(b"0123456789").unwrap();
            peer.give(&bytes(100, round));
            let mut got = [0; 100];
            assert_eq!(stream.read(&mut got), Ok(100));
            assert_eq!(got[..], bytes(100, round));
            assert_eq!(world.log(), [write, read], "{path:?}");
        }
        assert_eq!(peer.take(), [&b"first"[..], &b"0123456789".repeat(20)].concat());
        assert_eq!(world.resumes(), 0);
    }
}

#[test]
fn nobody_is_asked_for_what_the_page_shows_not_to_be_there() {
    for path in PATHS {
        let (world, mut stream, peer) = connected_on(path);
        let full = vec![0; TX_BYTES as usize];
        stream.write_all(&full).unwrap();
        stream.set_read_timeout(Some(core::time::Duration::ZERO));
        stream.set_write_timeout(Some(core::time::Duration::ZERO));
        world.log();
        assert_eq!(stream.read(&mut [0; 10]), Err(Error::TimedOut));
        assert_eq!(stream.write(b"x"), Err(Error::TimedOut));
        assert_eq!(world.log(), []);
        assert_eq!(peer.take().len(), full.len());
    }
}

#[test]
fn a_large_write_goes_in_as_far_as_there_is_room() {
    for path in PATHS {
        let (world, mut stream, peer) = connected_on(path);
        let sent = bytes(3 * DATA_MAX, 5);
        let written = stream.write(&sent).unwrap();
        assert_eq!(written, TX_BYTES as usize);
        assert_eq!(peer.take(), sent[..written]);
        assert_eq!(world.suspends(), 0);
    }
}

#[test]
fn long_data_goes_out_of_line_both_ways() {
    let (world, mut stream, peer) = connected_on(Path::Ipc);
    for length in [OUT_OF_LINE - 1, OUT_OF_LINE, RX_BYTES as usize] {
        let data = bytes(length, length as u8);
        let before = world.pages();
        stream.write_all(&data).unwrap();
        assert_eq!(peer.take(), data);
        assert_eq!(peer.give(&data), length);
        let mut got = vec![0; RX_BYTES as usize];
        assert_eq!(stream.read(&mut got), Ok(length));
        assert_eq!(got[..length], data);
        assert_eq!(world.pages() - before, if length < OUT_OF_LINE { 0 } else { 2 });
        let freed = world.log().into_iter().filter(|&call| call == Syscall::VmDeallocate).count();
        assert_eq!(freed, usize::from(length >= OUT_OF_LINE), "what was sent is the server's to free");
    }
}

#[test]
fn the_port_for_replies_is_kept_until_a_reply_fails_to_come() {
    let (world, mut stream, peer) = connected_on(Path::Ipc);
    let ports = || world.log().into_iter().filter(|&call| call == Syscall::PortAllocate).count();
    ports();
    for _ in 0..10 {
        stream.write_all(b"0123456789").unwrap();
    }
    assert_eq!(ports(), 1);
    // The reply to this one would come after the error: it is not the answer to the next.
    world.receive_fails(Error::NoResources);
    assert_eq!(stream.write(b"12345"), Err(Error::NoResources));
    assert_eq!(stream.write(b"123"), Ok(3));
    assert_eq!(ports(), 1);
    assert_eq!(peer.take().len(), 100 + 5 + 3);
}

#[test]
fn a_full_queue_is_waited_for() {
    let (world, mut stream, peer) = connected_on(Path::Ipc);
    stream.write_all(b"a").unwrap();
    world.log();
    world.server_is_full(1);
    stream.write_all(b"b").unwrap();
    assert_eq!(world.log(), [Syscall::MessageCall, Syscall::MessageSend, Syscall::MessageReceive]);
    world.server_is_full(1);
    stream.write_all(&bytes(OUT_OF_LINE, 1)).unwrap();
    assert!(!world.log().contains(&Syscall::VmDeallocate));
    assert_eq!(peer.take().len(), 2 + OUT_OF_LINE);
}

#[test]
fn wishes_are_told_by_a_write_of_nothing() {
    for path in PATHS {
        let (world, mut stream, peer) = connected_on(path);
        stream.set_nodelay(true);
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(peer.page.get(At::WISHES_AT), wishes::NO_DELAY | wishes::SHUTDOWN);
        let writes = match path {
            Path::Monolithic => world.log().into_iter().filter(|&it| it == Syscall::SocketWrite).count(),
            _ => world.requests().iter().filter(|it| it.id == Request::Write.raw()).count(),
        };
        assert_eq!((writes, peer.take().len(), world.resumes()), (2, 0, 0), "{path:?}");
    }
}

#[test]
fn a_server_that_dies_or_lies_is_an_error() {
    type Forge = fn(&mut abi::message::Message);
    let cases: [(Forge, Error); 6] = [
        (died, Error::Dead),
        (|reply| reply.id += 1, Error::PeerMisbehaviour),
        (|reply| reply.length = 0, Error::PeerMisbehaviour),
        (|reply| assert!(reply.set_word(0, Error::NoResources.raw())), Error::NoResources),
        (|reply| assert!(reply.set_word(0, 0xdead)), Error::PeerMisbehaviour),
        (|reply| assert!(reply.set_word(1, 11)), Error::PeerMisbehaviour),
    ];
    for (forge, error) in cases {
        let (world, mut stream, peer) = connected_on(Path::Ipc);
        peer.give(b"0123456789");
        world.forge(forge);
        assert_eq!(stream.write(b"0123456789"), Err(error));
        assert_eq!(stream.read(&mut [0; 10]), Err(error));
        world.forge(|_| {});
    }
    // It took none, or gave none, though the page says that it could.
    let (world, mut stream, peer) = connected_on(Path::Ipc);
    peer.give(b"0123456789");
    world.forge(|reply| assert!(reply.set_word(1, 0)));
    assert_eq!(stream.write(b"x"), Err(Error::PeerMisbehaviour));
    assert_eq!(stream.read(&mut [0; 10]), Err(Error::PeerMisbehaviour));
    world.forge(|_| {});
}

#[test]
fn a_connection_that_ends_during_a_write_says_why() {
    let (world, mut stream, peer) = connected_on(Path::Ipc);
    let ends = peer.clone();
    world.forge(move |reply| {
        ends.fails(Error::ConnectionReset);
        assert!(reply.set_word(0, Error::NotConnected.raw()));
    });
    assert_eq!(stream.write(b"x"), Err(Error::ConnectionReset));
}

#[test]
fn a_connection_that_has_not_ended_is_not_believed_to_have() {
    let (world, mut stream, _peer) = connected_on(Path::Ipc);
    world.forge(|reply| assert!(reply.set_word(0, Error::NotConnected.raw())));
    assert_eq!(stream.write(b"x"), Err(Error::NotConnected));
    world.forge(|_| {});
}

#[test]
fn the_page_alone_is_mapped_whatever_the_reply_says_of_rings() {
    for path in PATHS {
        let world = World::on(path);
        let stream = TcpStream::connect(REMOTE).unwrap(); // the world checks the length
        let maps: Vec<_> = world.log().into_iter().filter(|&call| call == Syscall::VmMap).collect();
        assert_eq!(maps.len(), 2, "the status page and the socket's");
        drop(stream);
        assert_eq!(world.requests().last().unwrap().id, Request::Close.raw());
    }
}

#[test]
fn an_empty_datagram_is_one() {
    for path in Path::ALL {
        let world = World::on(path);
        let mut socket = UdpSocket::bind(REMOTE).unwrap();
        let peer = world.peer(0);
        socket.send_to(&[], REMOTE).unwrap();
        let record = peer.take();
        assert_eq!(record.len(), 32);
        peer.give(&record);
        assert_eq!(socket.recv_from(&mut [0; 4]), Ok((0, REMOTE)));
        assert_eq!(socket.as_socket().page.rx_used(), 0);
        peer.state(State::Finished);
        assert!(socket.recv_from(&mut [0; 4]).is_err());
    }
}
