//! UDP and echo.

use super::*;
use abi::socket::{Kind, RECORD_BYTES};

fn put(app: &mut App, to: Endpoint, payload: &[u8]) {
    let mut record = Vec::new();
    record.extend((payload.len() as u32).to_ne_bytes());
    record.extend(to.family.to_ne_bytes());
    record.extend(to.address);
    record.extend(to.port.to_ne_bytes());
    record.extend([0; 4]);
    record.extend(payload);
    record.resize(record.len().next_multiple_of(4), 0);
    assert_eq!(app.write(&record), record.len());
}

fn take(app: &mut App) -> Option<(Endpoint, Vec<u8>)> {
    let mut header = [0; RECORD_BYTES];
    if app.read(&mut header) == 0 {
        return None;
    }
    let word = |at: usize| u32::from_ne_bytes(header[at..at + 4].try_into().expect("four"));
    let mut payload = vec![0; (word(0) as usize).next_multiple_of(4)];
    assert_eq!(app.read(&mut payload), payload.len(), "a record comes whole");
    payload.truncate(word(0) as usize);
    let address = header[8..24].try_into().expect("sixteen");
    Some((Endpoint { family: word(4), address, port: word(24) }, payload))
}

#[test]
fn datagrams_of_all_sizes_arrive_whole_also_in_fragments() {
    let mut net = Net::new(Faults::default(), 1);
    let mut a = App::open(&mut net.nodes[0], 10, Kind::Udp).expect("a socket");
    let mut b = App::open(&mut net.nodes[1], 20, Kind::Udp).expect("a socket");
    let port = a.bind(&mut net.nodes[0], Endpoint::default()).expect("bound");
    b.bind(&mut net.nodes[1], endpoint(1, 7)).expect("bound");
    for size in [0, 1, 3, 4, 100, 1471, 1472, 1473, 3000, 9001, 40_000, 65_507, 2001] {
        let payload: Vec<u8> = (0..size).map(pattern).collect();
        put(&mut a, endpoint(1, 7), &payload);
        let mut got = None;
        net.run(&std::format!("datagram of {size}"), |_| {
            got = got.take().or_else(|| take(&mut b));
            got.is_some()
        });
        let (from, received) = got.expect("a datagram");
        assert_eq!(from, Endpoint { port, ..endpoint(0, 0) }, "size {size}");
        assert!(received == payload, "size {size}");
    }
    let second = App::open(&mut net.nodes[1], 21, Kind::Udp).expect("a socket");
    assert_eq!(second.bind(&mut net.nodes[1], endpoint(1, 7)), Err(Error::AddressInUse));
}

#[test]
fn many_fragmented_datagrams_in_a_row_do_not_overwrite_each_other() {
    let mut net = Net::new(Faults::default(), 2);
    let mut a = App::open(&mut net.nodes[0], 10, Kind::Udp).expect("a socket");
    let mut b = App::open(&mut net.nodes[1], 20, Kind::Udp).expect("a socket");
    a.bind(&mut net.nodes[0], Endpoint::default()).expect("bound");
    b.bind(&mut net.nodes[1], endpoint(1, 7)).expect("bound");
    // The first one waits for the address resolution.
    for n in 0..10u8 {
        put(&mut a, endpoint(1, 7), &vec![n; 5000]);
    }
    let mut next = 0;
    net.run("ten datagrams", |_| {
        while let Some((_, payload)) = take(&mut b) {
            assert_eq!(payload, vec![next; 5000]);
            next += 1;
        }
        next == 10
    });
}

#[test]
fn a_ring_that_is_full_drops_whole_datagrams_and_counts_them() {
    let mut net = Net::new(Faults::default(), 3);
    let mut a = App::open(&mut net.nodes[0], 10, Kind::Udp).expect("a socket");
    let mut b = App::open(&mut net.nodes[1], 20, Kind::Udp).expect("a socket");
    a.bind(&mut net.nodes[0], Endpoint::default()).expect("bound");
    b.bind(&mut net.nodes[1], endpoint(1, 7)).expect("bound");
    for n in 0..300u32 {
        put(&mut a, endpoint(1, 7), &[n as u8; 1000]);
        net.step();
    }
    let mut got = 0;
    while let Some((_, payload)) = take(&mut b) {
        assert_eq!(payload.len(), 1000);
        got += 1;
    }
    let dropped = b.memory.word(Page::RX_DROPPED_AT).load(SeqCst);
    assert_eq!(got + dropped, 300);
    assert_eq!(got, 128 * 1024 / 1032);
}

#[test]
fn echo_requests_come_back_at_all_sizes() {
    let mut net = Net::new(Faults::default(), 4);
    let mut ping = App::open(&mut net.nodes[0], 10, Kind::Echo).expect("a socket");
    for (sequence, size) in
        [0, 56, 57, 1472, 1473, 8000, 65_507, 3000, 1473, 65_000, 40_001, 100].into_iter().enumerate()
    {
        let payload: Vec<u8> = (0..size).map(pattern).collect();
        put(&mut ping, endpoint(1, sequence as u16), &payload);
        let mut got = None;
        net.run("echo", |_| {
            got = got.take().or_else(|| take(&mut ping));
            got.is_some()
        });
        let (from, received) = got.expect("a reply");
        assert_eq!(from, endpoint(1, sequence as u16));
        assert!(received == payload, "size {size}");
    }
}

#[test]
fn a_receiver_that_is_not_there_does_not_hold_up_the_others() {
    let mut net = Net::new(Faults::default(), 5);
    let mut a = App::open(&mut net.nodes[0], 10, Kind::Udp).expect("a socket");
    let mut b = App::open(&mut net.nodes[1], 20, Kind::Udp).expect("a socket");
    a.bind(&mut net.nodes[0], Endpoint::default()).expect("bound");
    b.bind(&mut net.nodes[1], endpoint(1, 7)).expect("bound");
    let mut nobody = endpoint(1, 7);
    nobody.address[3] = 99;
    put(&mut a, nobody, b"into the void");
    put(&mut a, endpoint(1, 7), b"arrives");
    let mut got = None;
    net.run("the second", |_| {
        got = got.take().or_else(|| take(&mut b));
        got.is_some()
    });
    assert_eq!(got.expect("a datagram").1, b"arrives");
}
