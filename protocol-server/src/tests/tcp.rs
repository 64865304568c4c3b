//! Connections, from the SYN to the last byte.

use super::*;
use abi::socket::wishes;

#[test]
fn bytes_arrive_in_order_both_ways_and_the_end_shows() {
    let mut net = Net::new(Faults::default(), 1);
    let (_listener, mut client, mut server) = connected(&mut net, 5001);
    let mut there = Transfer::new(1_000_000, 8192);
    let mut back = Transfer::new(300_000, 1000);
    net.run("transfer", |_| {
        let a = there.go_on(&mut client, &mut server);
        let b = back.go_on(&mut server, &mut client);
        a && b
    });
    client.wish(wishes::SHUTDOWN);
    net.run("end of stream", |_| server.state() == State::HalfClosed);
    assert_eq!(client.state(), State::Established, "this end may still read");
    net.run("acknowledgement", |_| client.acknowledged() == client.tx.position());
    server.write(b"last words");
    server.wish(wishes::SHUTDOWN);
    let mut last = [0; 20];
    net.run("last words", |_| client.state() == State::Finished);
    assert_eq!(client.read(&mut last), 10);
    assert_eq!(&last[..10], b"last words");
    net.run("other end", |_| server.state() == State::Finished);
    assert_eq!((client.error(), server.error()), (None, None));
}

#[test]
fn small_writes_are_gathered_into_segments() {
    let mut net = Net::new(Faults::default(), 2);
    let (_listener, mut client, mut server) = connected(&mut net, 5001);
    let before = net.nodes[0].server.counters().get(ServerCounter::FramesOut);
    let mut transfer = Transfer::new(500_000, 10);
    net.run("transfer", |_| transfer.go_on(&mut client, &mut server));
    let frames = net.nodes[0].server.counters().get(ServerCounter::FramesOut) - before;
    assert!(frames < 500_000 / 1460 * 13 / 10, "{frames} frames for 500,000 bytes");
    let copies = net.nodes[0].server.counters().get(ServerCounter::Copies);
    assert!(copies < 1000, "{copies} copies");
}

#[test]
fn a_bad_wire_costs_time_not_bytes() {
    for seed in 0..12 {
        let mut net = Net::new(Faults::default(), seed);
        let (_listener, mut client, mut server) = connected(&mut net, 5001);
        net.nodes[0].server.stack.link.set_faults(Faults {
            loss: 20,
            duplication: 20,
            reordering: 50,
            corruption: 20,
        });
        let mut there = Transfer::new(300_000, 4096);
        let mut back = Transfer::new(100_000, 512);
        net.run("transfer", |_| {
            let a = there.go_on(&mut client, &mut server);
            let b = back.go_on(&mut server, &mut client);
            a && b
        });
        let dropped: u64 =
            net.nodes.iter().map(|node| node.server.counters().get(ServerCounter::DropBadChecksum)).sum();
        assert!(dropped > 0, "seed {seed}: the wire corrupts");
    }
}

/// The congestion window grows by acknowledgments, so while anything is held back each of them counts.
#[test]
fn acknowledgments_are_passed_over_only_where_all_has_been_sent() {
    for passive in [false, true] {
        let mut net = Net::new(Faults::default(), 21);
        let (_listener, client, server) = connected(&mut net, 5001);
        // Who sends: the one who connected, or the other.
        let (at, mut from, mut to) = if passive { (1, server, client) } else { (0, client, server) };
        let count = |net: &Net, counter| net.nodes[at].server.counters().get(counter);
        // As much as smoltcp takes at once, and more than the window lets go at the beginning.
        assert_eq!(from.write(&(0..100_000).map(pattern).collect::<Vec<_>>()), 100_000);
        let (mut bytes, mut read, mut held_back) = (vec![0; 100_000], 0, 0);
        net.run("the beginning", |net| {
            read += to.read(&mut bytes[read..]);
            if count(net, ServerCounter::StackCopiedBytes) < 100_000 {
                assert_eq!(count(net, ServerCounter::AcksSuperseded), 0);
                held_back += 1;
            }
            read == 100_000
        });
        assert!(bytes.iter().enumerate().all(|(at, byte)| *byte == pattern(at)));
        assert!(held_back > 1, "{held_back}");
        // Until the window holds all that may be on its way. The other end takes that in several passes, and says so in each.
        let before = count(&net, ServerCounter::AcksSuperseded);
        let mut transfer = Transfer::new(12_000_000, 8192);
        while !transfer.go_on(&mut from, &mut to) {
            for node in [at, 1 - at, 1 - at, 1 - at] {
                net.nodes[node].server.pass(Instant::from_micros(net.micros));
                transfer.go_on(&mut from, &mut to);
                net.micros += 50;
            }
        }
        let passed_over = count(&net, ServerCounter::AcksSuperseded) - before;
        assert!(passed_over > 20, "{passed_over}");
    }
}

#[test]
fn sixty_four_connections_at_once() {
    let mut net = Net::new(Faults { loss: 5, ..Faults::default() }, 3);
    let listener = App::tcp(&mut net.nodes[1], 20);
    listener.bind(&mut net.nodes[1], endpoint(1, 80)).expect("bound");
    listener.ask(&mut net.nodes[1], Request::Listen, &[8]).expect("listening");
    let mut pairs = Vec::new();
    for _ in 0..64 {
        let client = App::tcp(&mut net.nodes[0], 10);
        client.connect(&mut net.nodes[0], endpoint(1, 80)).expect("connecting");
        let mut accepted = None;
        net.run("accept", |net| {
            if accepted.is_none() {
                accepted = listener.accept(&mut net.nodes[1]).ok();
            }
            accepted.is_some() && client.state() == State::Established
        });
        pairs.push((client, accepted.expect("accepted"), Transfer::new(20_000, 777)));
    }
    net.run("64 transfers", |_| {
        pairs.iter_mut().fold(true, |all, (client, server, transfer)| transfer.go_on(client, server) && all)
    });
    for (client, server, _) in &pairs {
        client.ask(&mut net.nodes[0], Request::Close, &[]).expect("closed");
        server.ask(&mut net.nodes[1], Request::Close, &[]).expect("closed");
    }
    net.pass_time(15_000_000);
    for node in &mut net.nodes {
        node.server.prepare_sleep();
    }
    assert_eq!(net.nodes[0].server.counters().get(ServerCounter::Sockets), 0);
    assert_eq!(net.nodes[1].server.counters().get(ServerCounter::Sockets), 1, "the listener");
    let freed = |app: &App| {
        let counts = [&app.memory, app.ring.as_ref().expect("a ring")].map(Rc::strong_count);
        counts == [1, 1]
    };
    assert!(pairs.iter().all(|(client, server, _)| freed(client) && freed(server)), "all memory came back");
}

#[test]
fn a_full_backlog_is_counted_and_the_next_try_succeeds() {
    let mut net = Net::new(Faults::default(), 4);
    let listener = App::tcp(&mut net.nodes[1], 20);
    listener.bind(&mut net.nodes[1], endpoint(1, 80)).expect("bound");
    listener.ask(&mut net.nodes[1], Request::Listen, &[2]).expect("listening");
    let clients: Vec<App> = (0..3)
        .map(|_| {
            let client = App::tcp(&mut net.nodes[0], 10);
            client.connect(&mut net.nodes[0], endpoint(1, 80)).expect("connecting");
            client
        })
        .collect();
    net.run("two connect", |_| clients.iter().filter(|c| c.state() == State::Established).count() == 2);
    net.pass_time(100_000);
    assert!(net.nodes[1].server.counters().get(ServerCounter::BacklogFull) > 0);
    let _first = listener.accept(&mut net.nodes[1]).expect("one waits");
    net.run("the third connects", |_| clients.iter().all(|c| c.state() == State::Established));
    let (_second, _third) = (listener.accept(&mut net.nodes[1]), listener.accept(&mut net.nodes[1]));
    assert!(matches!(listener.accept(&mut net.nodes[1]), Err(Error::WouldBlock)));
}

#[test]
fn refusal_reset_and_silence_are_told_apart() {
    let mut net = Net::new(Faults::default(), 5);
    let refused = App::tcp(&mut net.nodes[0], 10);
    refused.connect(&mut net.nodes[0], endpoint(1, 9)).expect("connecting");
    net.run("refusal", |_| refused.state() == State::Finished);
    assert_eq!(refused.error(), Some(Error::ConnectionRefused));

    let (_listener, client, server) = connected(&mut net, 80);
    server.ask(&mut net.nodes[1], Request::Abort, &[]).expect("aborted");
    net.run("reset", |_| client.state() == State::Finished && server.state() == State::Finished);
    assert_eq!(client.error(), Some(Error::ConnectionReset));
    assert_eq!(server.error(), Some(Error::ConnectionAborted));

    net.nodes[0].server.stack.link.set_faults(Faults { loss: 1000, ..Faults::default() });
    let silent = App::tcp(&mut net.nodes[0], 10);
    silent.connect(&mut net.nodes[0], endpoint(1, 80)).expect("connecting");
    net.run("silence", |_| silent.state() == State::Finished);
    assert_eq!(silent.error(), Some(Error::TimedOut));
}

#[test]
fn data_written_before_a_close_still_arrives() {
    let mut net = Net::new(Faults { loss: 30, ..Faults::default() }, 6);
    let (_listener, mut client, mut server) = connected(&mut net, 80);
    let mut transfer = Transfer::new(100_000, 100_000);
    transfer.go_on(&mut client, &mut server);
    assert_eq!(transfer.written, 100_000);
    client.ask(&mut net.nodes[0], Request::Close, &[]).expect("closed");
    assert!(matches!(client.ask(&mut net.nodes[0], Request::Close, &[]), Err(Error::BadName)), "once only");
    net.run("the rest", |_| transfer.go_on(&mut client, &mut server));
    net.run("end of stream", |_| server.state() == State::HalfClosed);
    assert_eq!(server.error(), None);
}

#[test]
fn a_reader_that_does_not_read_stops_the_writer_and_nothing_is_lost() {
    let mut net = Net::new(Faults::default(), 7);
    let (_listener, mut client, mut server) = connected(&mut net, 80);
    let block = vec![0; 4096];
    let mut written = 0;
    for _ in 0..400 {
        written += client.write(&block);
        net.step();
    }
    assert!(written < 400 * 4096, "the window must have closed");
    net.pass_time(20_000_000); // zero-window probes
    let mut read = 0;
    let mut buffer = vec![0; 65536];
    net.run("everything", |_| {
        read += server.read(&mut buffer);
        read == written
    });
}

#[test]
fn a_waiting_application_is_resumed_once_for_each_wait() {
    let mut net = Net::new(Faults::default(), 8);
    let (_listener, mut client, mut server) = connected(&mut net, 80);
    let resumed = |net: &Net| net.nodes[1].host.0.borrow().resumed.len();
    server.wait(wait_for::READ);
    let before = resumed(&net);
    for _ in 0..5 {
        client.write(b"some bytes");
        net.step();
    }
    assert_eq!(resumed(&net), before + 1, "one resume, however much came");
    server.wait_word().finish();
    client.write(b"more");
    net.step();
    assert_eq!(resumed(&net), before + 1, "none for a reader that is awake");
    assert!(net.nodes[1].server.counters().get(ServerCounter::WakesSpared) > 0);

    let mut buffer = [0; 100];
    while server.read(&mut buffer) != 0 {}
    server.wait(wait_for::WRITE);
    client.write(b"not what it waits for");
    net.step();
    assert_eq!(resumed(&net), before + 1);
}

#[test]
fn drained_means_acknowledged() {
    let mut net = Net::new(Faults::default(), 9);
    let (_listener, mut client, _server) = connected(&mut net, 80);
    client.write(&[7; 5000]);
    client.wait(wait_for::DRAINED);
    assert_ne!(client.acknowledged(), client.tx.position());
    net.run("drained", |_| client.acknowledged() == client.tx.position());
    assert_eq!(net.nodes[0].host.0.borrow().resumed.iter().filter(|&&thread| thread == THREAD).count(), 1);
}

#[test]
fn the_death_of_a_thread_closes_its_sockets() {
    let mut net = Net::new(Faults::default(), 10);
    let (_listener, client, server) = connected(&mut net, 80);
    let mut notice = Message::new(0, abi::message::NOTIFY_DEAD_NAME);
    assert!(notice.set_word(0, THREAD));
    assert!(net.nodes[0].server.request(&notice).is_none());
    net.run("end of stream", |_| server.state() == State::HalfClosed);
    assert!(net.nodes[0].host.0.borrow().released.contains(&THREAD));
    assert!(client.ask(&mut net.nodes[0], Request::Close, &[]).is_err());
}

#[test]
fn a_sleeping_server_has_said_so_and_has_looked_again() {
    let mut net = Net::new(Faults::default(), 11);
    let (_listener, mut client, _server) = connected(&mut net, 80);
    net.pass_time(1_000_000);
    client.write(b"written after the last pass, before the sleep");
    assert_eq!(net.nodes[0].server.prepare_sleep(), None, "it looks again");
    assert!(!net.nodes[0].server.stack.link.is_idle());
    net.pass_time(1_000_000);
    assert!(net.nodes[0].server.prepare_sleep().is_some());
    assert!(net.nodes[0].server.stack.link.is_idle());
}

#[test]
fn ipv6_with_neighbour_discovery_over_a_bad_wire() {
    let mut net = Net::new(Faults { loss: 20, corruption: 20, ..Faults::default() }, 12);
    // The link-local addresses that come from the stations' (RFC 4291, appendix A).
    let mut address = [0; 16];
    address[..2].copy_from_slice(&[0xfe, 0x80]);
    address[11..].copy_from_slice(&[0xff, 0xfe, 0, 0, 2]);
    let there = Endpoint { family: 6, address, port: 5001 };
    let listener = App::tcp(&mut net.nodes[1], 20);
    listener.bind(&mut net.nodes[1], Endpoint { port: 5001, ..Endpoint::default() }).expect("bound");
    listener.ask(&mut net.nodes[1], Request::Listen, &[1]).expect("listening");
    let mut client = App::tcp(&mut net.nodes[0], 10);
    client.connect(&mut net.nodes[0], there).expect("connecting");
    let mut accepted = None;
    net.run("connect", |net| {
        accepted = accepted.take().or_else(|| listener.accept(&mut net.nodes[1]).ok());
        accepted.is_some() && client.state() == State::Established
    });
    let mut server = accepted.expect("a connection");
    let mut transfer = Transfer::new(200_000, 3000);
    net.run("transfer", |_| transfer.go_on(&mut client, &mut server));
}

#[test]
fn deadlines_let_an_idle_server_sleep_and_wake_it_for_its_timers() {
    let mut net = Net::new(Faults::default(), 13);
    let (_listener, mut client, _server) = connected(&mut net, 80);
    net.pass_time(1_000_000);
    assert_eq!(net.nodes[0].server.prepare_sleep(), Some(i64::MAX), "an idle connection has no timer");
    net.nodes[0].server.wake();
    net.nodes[0].server.stack.link.set_faults(Faults { loss: 1000, ..Faults::default() });
    client.write(b"lost on the way");
    net.step();
    let now = net.micros;
    let deadline = net.nodes[0].server.prepare_sleep().expect("it sleeps until the retransmission");
    assert!(deadline > now && deadline < now + 3_000_000, "{}", deadline - now);
    net.nodes[0].server.wake();
}

/// What fuzzing found: with nobody there to be told of the end, the socket stayed, and its deadline too, which had gone by.
#[test]
fn a_connection_to_nobody_whose_owner_has_died_is_forgotten() {
    let mut net = Net::new(Faults::default(), 3);
    let client = App::tcp(&mut net.nodes[0], 10);
    client.connect(&mut net.nodes[0], endpoint_of([10, 9, 0, 77], 80)).expect("connecting");
    net.step();
    client.ask(&mut net.nodes[0], Request::Abort, &[]).expect("aborted");
    net.nodes[0].server.thread_died(THREAD);
    net.pass_time(120_000_000);
    assert!(net.nodes[0].server.next_deadline() > net.micros, "it would never sleep again");
    assert_eq!(Rc::strong_count(&client.memory), 1, "the server still maps the socket's memory");
}

fn endpoint_of(address: [u8; 4], port: u16) -> Endpoint {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&address);
    Endpoint { family: 4, address: bytes, port: port.into() }
}

/// What captures of slow transfers showed: after a loss near a stream's end the peer had to send its FIN again and again, until it came alone.
#[test]
fn a_stream_ends_as_soon_as_all_of_it_has_come() {
    // In another order; and in order, but the FIN only when all else had come out of order.
    for orders in [vec![1, 0], vec![2, 0, 1]] {
        let mut net = Net::new(Faults::default(), 14);
        let (_listener, mut client, mut server) = connected(&mut net, 80);
        client.write(&[7; 2000]);
        client.wish(wishes::SHUTDOWN);
        net.nodes[0].server.pass(Instant::from_micros(net.micros));
        let receiver = &mut net.nodes[1].server;
        let mut segments = receiver.stack.link.intercept();
        assert_eq!(segments.len(), 2);
        segments.push(without_fin(&segments[1]));
        for segment in orders {
            assert_eq!(server.state(), State::Established);
            receiver.stack.link.inject(segments[segment].clone());
            receiver.pass(Instant::from_micros(net.micros));
        }
        assert_eq!(server.state(), State::HalfClosed);
        assert_eq!(server.read(&mut [0; 3000]), 2000);
    }
}

/// A segment over IPv4 as it was before the sender knew that it was the last.
fn without_fin(segment: &[u8]) -> Vec<u8> {
    let mut segment = segment.to_vec();
    assert_eq!(segment[47] & 1, 1, "a FIN");
    segment[47] ^= 1;
    let sum = u16::from_be_bytes([segment[50], segment[51]]);
    segment[50..52].copy_from_slice(&(sum + 1).to_be_bytes());
    segment
}

/// What a campaign of scripts found: many that ask for us in many names push the peer out of the table of neighbours, and half-open connections
/// to nobody take all the turns to ask for it again.
#[test]
fn a_peer_is_not_lost_among_strangers() {
    let mut net = Net::new(Faults::default(), 12);
    let (_listener, mut client, mut server) = connected(&mut net, 80);
    let mut transfer = Transfer::new(300_000, 8192);
    let (limit, mut turn) = (net.micros + 20_000_000, 0u8);
    while !transfer.go_on(&mut client, &mut server) {
        assert!(net.micros < limit, "{} of {} bytes", transfer.read, transfer.bytes);
        let wire = &net.nodes[1].server.stack.link;
        for _ in 0..20 {
            turn = turn.wrapping_add(1);
            let stranger = 10 + turn % 200;
            let mut request = [[2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 1, stranger]].concat();
            request.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 1, stranger, 10, 9, 0, stranger]);
            request.extend([0, 0, 0, 0, 0, 0, 10, 9, 0, 2]);
            wire.inject(request);
        }
        // Somebody who is not there wants to be answered.
        wire.inject(udp_to_nobody(250 - turn % 30));
        net.step();
    }
}

/// A datagram to a port that nobody has, from an address that nobody has.
fn udp_to_nobody(from: u8) -> Vec<u8> {
    let mut frame = [[2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 1, from]].concat();
    frame.extend([8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 9, 0, from, 10, 9, 0, 2]);
    let sum = !crate::checksum::Sum::new().bytes(&frame[14..34]).fold();
    frame[24..26].copy_from_slice(&sum.to_ne_bytes());
    frame.extend([0, 9, 0, 9, 0, 8, 0, 0]);
    frame
}
