//! The receive ring that is smoltcp's receive buffer: positions, the window, the end of a stream, and readers that lie.

use super::*;
use crate::socket::tcp::RX_RING;
use abi::socket::wishes;

/// Bytes of the ring as they lie there.
fn ring_bytes(app: &App, position: u32, length: u32) -> Vec<u8> {
    let ring = app.ring.as_ref().expect("a connection's ring");
    let place = |i: u32| (position.wrapping_add(i) % RX_RING) as usize;
    // SAFETY: inside of the ring, which smoltcp does not write while the test does this.
    (0..length).map(|i| unsafe { ring.base.as_ptr().add(place(i)).read_volatile() }).collect()
}

fn expect_pattern(app: &App, position: u32, length: u32) {
    for (i, byte) in ring_bytes(app, position, length).into_iter().enumerate() {
        assert_eq!(byte, pattern(position as usize + i), "byte {}", position as usize + i);
    }
}

#[test]
fn the_place_of_a_byte_is_its_position_modulo_the_capacity_whatever_the_wire_does() {
    for seed in 1..6 {
        let mut net = Net::new(Faults::default(), seed);
        let (_listener, mut client, server) = connected(&mut net, 80);
        let faults = Faults { loss: 15, duplication: 20, reordering: 60, corruption: 5 };
        net.nodes[0].server.stack.link.set_faults(faults);
        let bytes = RX_RING as usize * 5 / 2;
        let (mut written, mut head) = (0, 0u32);
        // Read in steps of an odd length: the ring empties, fills, and wraps in the middle of segments and of steps.
        net.run("transfer", |_| {
            let chunk: Vec<u8> = (written..bytes.min(written + 9000)).map(pattern).collect();
            written += client.write(&chunk);
            let held = server.published().wrapping_sub(head);
            assert!(held <= RX_RING);
            if held >= 7777 || written == bytes {
                expect_pattern(&server, head, held);
                head += if head.is_multiple_of(3) { held } else { held.min(6007) };
                server.set_head(head);
            }
            head as usize == bytes
        });
    }
}

#[test]
fn a_ring_that_is_full_closes_the_window_and_each_reader_opens_it_again() {
    let mut net = Net::new(Faults::default(), 1);
    let (_listener, mut client, mut server) = connected(&mut net, 80);
    let mut written = 0;
    for _ in 0..300 {
        let chunk: Vec<u8> = (written..written + 4000).map(pattern).collect();
        written += client.write(&chunk);
        net.step();
    }
    let full = server.published();
    assert!(
        (RX_RING - 7..=RX_RING).contains(&full),
        "all of the ring is window, as exactly as its scale can say: {full}"
    );
    assert!(written > RX_RING as usize, "and more waits behind it");
    expect_pattern(&server, 0, full);
    let before = net.micros;
    let mut read = 0;
    let mut buffer = vec![0; 50_000];
    net.run("the rest", |_| {
        let length = server.read(&mut buffer);
        for byte in &buffer[..length] {
            assert_eq!(*byte, pattern(read));
            read += 1;
        }
        read == written
    });
    assert!(net.micros - before < 100_000, "by window updates, not by probes: {}", net.micros - before);
}

#[test]
fn what_was_published_before_the_end_can_be_read_after_it() {
    // In good order, by RST, and by our own hand: unread bytes stay where they are until the application closes.
    for end in 0..3 {
        let mut net = Net::new(Faults::default(), 2);
        let (_listener, mut client, mut server) = connected(&mut net, 80);
        let sent: Vec<u8> = (0..100_000).map(pattern).collect();
        assert_eq!(client.write(&sent), sent.len());
        net.run("arrival", |_| server.published() == 100_000);
        match end {
            0 => {
                client.wish(wishes::SHUTDOWN);
                server.wish(wishes::SHUTDOWN);
            }
            1 => drop(client.ask(&mut net.nodes[0], Request::Abort, &[]).expect("aborted")),
            _ => drop(server.ask(&mut net.nodes[1], Request::Abort, &[]).expect("aborted")),
        }
        net.run("the end", |_| server.state() == State::Finished);
        net.pass_time(60_000_000); // TIME-WAIT is over: smoltcp has forgotten the stream
        assert_eq!(server.published(), 100_000, "what was given is not taken back");
        let mut got = vec![0; 200_000];
        let mut read = 0;
        while read < 100_000 {
            let more = server.read(&mut got[read..read + 30_000]);
            assert_ne!(more, 0);
            read += more;
            net.step();
        }
        assert_eq!(got[..read], sent);
        assert_eq!(server.read(&mut got), 0);
        let expected = [None, Some(Error::ConnectionReset), Some(Error::ConnectionAborted)][end];
        assert_eq!(server.error(), expected);
        assert_eq!(net.nodes[1].server.counters().get(ServerCounter::PeerMisbehaviour), 0);
        server.ask(&mut net.nodes[1], Request::Close, &[]).expect("closed");
        net.pass_time(60_000_000);
        assert_eq!(Rc::strong_count(server.ring.as_ref().expect("a ring")), 1, "unmapped by the server");
    }
}

#[test]
fn the_last_bytes_and_the_end_come_together() {
    let mut net = Net::new(Faults::default(), 3);
    let (_listener, mut client, mut server) = connected(&mut net, 80);
    client.write(b"all of it");
    client.wish(wishes::SHUTDOWN);
    // Whenever the state says "no more", the ring says how much there was.
    net.run("the end", |_| {
        let state = server.state();
        assert!(state != State::HalfClosed || server.published() == 9);
        state == State::HalfClosed
    });
    let mut buffer = [0; 20];
    assert_eq!(server.read(&mut buffer), 9);
}

#[test]
fn a_reader_that_closes_with_bytes_unread_resets_and_one_without_does_not() {
    for unread in [false, true] {
        let mut net = Net::new(Faults::default(), 4);
        let (_listener, mut client, mut server) = connected(&mut net, 80);
        client.write(b"a question");
        net.run("arrival", |_| server.published() == 10);
        if !unread {
            // Read after the server's last look: it looks again before it decides.
            assert_eq!(server.read(&mut [0; 10]), 10);
        }
        server.ask(&mut net.nodes[1], Request::Close, &[]).expect("closed");
        let expected = if unread { State::Finished } else { State::HalfClosed };
        net.run("what the other end sees", |_| client.state() == expected);
        assert_eq!(client.error(), unread.then_some(Error::ConnectionReset));
    }
}

#[test]
fn a_position_that_cannot_be_ends_that_connection_and_frees_no_room() {
    for lie in [1u32, RX_RING, RX_RING + 1, u32::MAX, 1 << 31, 5_001] {
        let mut net = Net::new(Faults::default(), 5);
        let (listener, mut client, server) = connected(&mut net, 80);
        let other = App::tcp(&mut net.nodes[0], 11);
        other.connect(&mut net.nodes[0], endpoint(1, 80)).expect("connecting");
        client.write(&[9; 5000]);
        net.run("arrival", |_| server.published() == 5000 && other.state() == State::Established);
        let mut there = listener.accept(&mut net.nodes[1]).expect("the other one");
        server.set_head(5000);
        net.step();
        server.set_head(5000u32.wrapping_add(lie));
        client.write(&[9; 100]);
        net.run("the end", |_| server.state() == State::Finished);
        assert_eq!(server.error(), Some(Error::PeerMisbehaviour), "{lie}");
        assert_eq!(net.nodes[1].server.counters().get(ServerCounter::PeerMisbehaviour), 1);
        net.run("its peer hears of it", |_| client.state() == State::Finished);
        assert_eq!(client.error(), Some(Error::ConnectionReset));
        // Going back is a lie as well, and a socket that is over is not believed.
        server.set_head(4999);
        let mut other = other;
        let mut transfer = Transfer::new(50_000, 3000);
        net.run("the other connection", |_| transfer.go_on(&mut other, &mut there));
        assert_eq!(net.nodes[1].server.counters().get(ServerCounter::PeerMisbehaviour), 1);
    }
}

#[test]
fn a_backlog_has_rings_of_its_own_and_gives_back_what_nobody_accepted() {
    let mut net = Net::new(Faults::default(), 6);
    let listener = App::tcp(&mut net.nodes[1], 20);
    listener.bind(&mut net.nodes[1], endpoint(1, 80)).expect("bound");
    listener.ask(&mut net.nodes[1], Request::Listen, &[3]).expect("listening");
    let mut clients: Vec<App> = (0..3)
        .map(|_| {
            let client = App::tcp(&mut net.nodes[0], 10);
            client.connect(&mut net.nodes[0], endpoint(1, 80)).expect("connecting");
            client
        })
        .collect();
    net.run("connections", |_| clients.iter().all(|c| c.state() == State::Established));
    // Data that comes before `Accept` waits in the ring that the connection keeps.
    for (n, client) in clients.iter_mut().enumerate() {
        let bytes: Vec<u8> = (0..20_000).map(|i| pattern(i) ^ n as u8).collect();
        client.write(&bytes);
    }
    net.pass_time(100_000);
    let mut servers: Vec<App> =
        (0..2).map(|_| listener.accept(&mut net.nodes[1]).expect("one waits")).collect();
    net.step();
    for server in &mut servers {
        let mut got = vec![0; 20_000];
        assert_eq!(server.read(&mut got), 20_000);
        let n = got[0] ^ pattern(0);
        assert!(got.iter().enumerate().all(|(i, byte)| *byte == pattern(i) ^ n));
    }
    listener.ask(&mut net.nodes[1], Request::Close, &[]).expect("closed");
    net.pass_time(1_000_000);
    let left = net.nodes[1].host.0.borrow().objects.iter().flatten().count();
    assert_eq!(left, 1, "no right but the status page's is left with the server");
    assert_eq!(clients.iter().filter(|c| c.error() == Some(Error::ConnectionReset)).count(), 1);
}
