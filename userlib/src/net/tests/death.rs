//! The protocol server dies, and another takes its place.

use abi::message::Message;

use super::*;

const PATHS: [Path; 2] = [Path::Window, Path::Ipc];

/// Kills the server when the application's thread next sleeps.
fn dies_while_suspended(world: &World) {
    let mut kill = world.killer();
    world.while_suspended(move |_| kill());
}

#[test]
fn whatever_a_stream_waits_for_ends_at_once() {
    type Wait = fn(&mut TcpStream) -> Result<(), Error>;
    let waits: [Wait; 3] = [
        |stream| stream.read(&mut [0; 8]).map(drop),
        |stream| stream.write_all(&[7; 3 * TX_BYTES as usize]),
        |stream| {
            // Something that is not acknowledged.
            stream.write_all(b"x")?;
            stream.drain()
        },
    ];
    for path in PATHS {
        for wait in waits {
            let world = World::on(path);
            let mut stream = TcpStream::connect(REMOTE).unwrap();
            dies_while_suspended(&world);
            assert_eq!(wait(&mut stream), Err(Error::NetworkReset));
            // And every later call.
            assert_eq!(stream.read(&mut [0; 8]), Err(Error::NetworkReset));
            assert_eq!(stream.write(b"x"), Err(Error::NetworkReset));
            assert_eq!(stream.shutdown(Shutdown::Write), Err(Error::NetworkReset));
            assert_eq!(world.suspends(), 1);
        }
    }
}

#[test]
fn a_call_that_finds_the_server_dead_says_so() {
    for path in PATHS {
        let world = World::on(path);
        let mut stream = TcpStream::connect(REMOTE).unwrap();
        world.peer(0).give(b"before");
        world.killer()();
        assert_eq!(interface().map(drop), Err(Error::NetworkReset));
        // What had come is there to be read by window; by message the server had it.
        let mut buffer = [0; 16];
        let read = stream.read(&mut buffer);
        assert_eq!(read, if path == Path::Window { Ok(6) } else { Err(Error::NetworkReset) });
        assert_eq!(stream.read(&mut buffer), Err(Error::NetworkReset));
        assert_eq!(world.suspends(), 0);
        // The next one finds the next server.
        let mut stream = TcpStream::connect(REMOTE).unwrap();
        stream.write_all(b"after").unwrap();
        assert_eq!(world.peer(1).take(), b"after");
    }
}

#[test]
fn a_listener_comes_back_by_itself() {
    for path in PATHS {
        let world = World::on(path);
        let mut listener = TcpListener::bind_with_backlog(REMOTE, 5).unwrap();
        let mut kill = world.killer();
        let mut nights = 0;
        world.while_suspended(move |peers| {
            nights += 1;
            match nights {
                1 => kill(),
                // On the second server a connection comes.
                _ => peers.last().unwrap().page.set(abi::socket::Page::ACCEPT_READY_AT, 1),
            }
        });
        listener.accept().unwrap();
        let asked = |request: Request| {
            let of = |message: &&Message| message.id == request.raw();
            world
                .requests()
                .iter()
                .filter(of)
                .map(|message| (message.word(0), message.word(1)))
                .collect::<Vec<_>>()
        };
        assert_eq!(asked(Request::Listen), [(Some(0), Some(5)), (Some(1), Some(5))]);
        assert_eq!(asked(Request::Bind)[1].0, Some(1));
        assert_eq!(world.suspends(), 2);
    }
}

#[test]
fn datagram_sockets_come_back_by_themselves() {
    for path in PATHS {
        let world = World::on(path);
        let mut socket = UdpSocket::bind(REMOTE).unwrap();
        socket.connect(REMOTE).unwrap();
        let mut echo = EchoSocket::open().unwrap();
        world.killer()();
        assert_eq!(interface().map(drop), Err(Error::NetworkReset));
        socket.send(b"again").unwrap();
        let record = world.peer(2).take();
        assert_eq!(record[32..37], *b"again");
        echo.send(REMOTE.ip(), 1, b"ping").unwrap();
        assert_eq!(world.peer(3).take()[32..36], *b"ping");
        // Bound and connected as before.
        let requests = world.requests();
        let count = |request: Request| requests.iter().filter(|message| message.id == request.raw()).count();
        assert_eq!((count(Request::Bind), count(Request::Connect)), (2, 2));
    }
}

#[test]
fn one_that_waits_for_several_is_told_of_all() {
    let world = World::new();
    let (stream, other) = (TcpStream::connect(REMOTE).unwrap(), TcpStream::connect(REMOTE).unwrap());
    dies_while_suspended(&world);
    let waits: [(&dyn AsSocket, Want); 2] = [(&stream, Want::Read), (&other, Want::Write)];
    assert_eq!(wait_any(&waits[..1], None), Ok(0));
    assert!(waits.iter().all(|(socket, want)| socket.is_ready(*want)));
}

#[test]
fn a_dropped_socket_is_not_touched_again() {
    let world = World::new();
    let stream = TcpStream::connect(REMOTE).unwrap();
    let peer = world.peer(0);
    drop(stream);
    world.killer()();
    assert_eq!(interface().map(drop), Err(Error::NetworkReset));
    assert_eq!(peer.page.get(abi::socket::Page::STATE_AT), State::Established.raw());
}
