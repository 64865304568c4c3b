//! Applications that write anything anywhere in their pages, and ask for anything: they hurt nobody but themselves.

use super::*;
use abi::socket::Kind;

pub(super) struct Random(pub u64);

impl Random {
    pub(super) fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as u32
    }
}

#[test]
fn random_words_in_a_page_cost_that_socket_only() {
    let mut misbehaved = 0;
    for seed in 1..60 {
        let mut random = Random(seed * 0x9e37_79b9);
        let mut net = Net::new(Faults::default(), seed);
        let (_listener, mut client, mut server) = connected(&mut net, 80);
        let kind = [Kind::Tcp, Kind::Udp, Kind::Echo][seed as usize % 3];
        let mut bad = App::open(&mut net.nodes[0], 66, kind).expect("a socket");
        match kind {
            Kind::Udp => drop(bad.bind(&mut net.nodes[0], Endpoint::default())),
            Kind::Tcp => bad.connect(&mut net.nodes[0], endpoint(1, 80)).expect("connecting"),
            Kind::Echo => {}
        }
        let mut transfer = Transfer::new(200_000, 3000);
        net.run("transfer beside a vandal", |_| {
            for _ in 0..20 {
                let at = random.next() as usize % (Page::RINGS_AT / 8) * 4;
                let value =
                    if random.next().is_multiple_of(2) { random.next() } else { random.next() % 300_000 };
                bad.memory.word(at).store(value, SeqCst);
            }
            bad.write(&random.next().to_ne_bytes().repeat(30));
            transfer.go_on(&mut client, &mut server)
        });
        let counted = net.nodes[0].server.counters().get(ServerCounter::PeerMisbehaviour);
        assert!(counted <= 1, "a socket that is over is not believed again");
        misbehaved += counted;
        assert_eq!(client.error(), None);
    }
    assert!(misbehaved > 30, "most of them are caught: {misbehaved}");
}

#[test]
fn requests_about_the_sockets_of_others_and_nonsense_are_refused() {
    let mut net = Net::new(Faults::default(), 1);
    let (listener, client, _server) = connected(&mut net, 80);
    let node = &mut net.nodes[0];
    for request in [Request::Close, Request::Abort, Request::Listen, Request::Bind, Request::Connect] {
        let words = words_of(endpoint(1, 80), client.number);
        assert!(matches!(ask(node, 99, request, &words, 0), Err(Error::BadName)), "{request:?}");
    }
    assert!(matches!(ask(node, 99, Request::Open, &[99], THREAD), Err(Error::BadArgument)));
    assert!(matches!(ask(node, 99, Request::Open, &[1], 0), Err(Error::BadRight)));
    let released = node.host.0.borrow().released.len();
    assert!(matches!(ask(node, 99, Request::Accept, &[5000], 1234), Err(Error::BadName)));
    assert_eq!(node.host.0.borrow().released.len(), released + 1, "rights that came along are given up");
    assert!(matches!(listener.ask(&mut net.nodes[1], Request::Listen, &[0]), Err(Error::BadArgument)));

    let mut random = Random(99);
    for _ in 0..20_000 {
        let mut message = Message::new(0, 0x200 + random.next() % 16);
        message.sender = 10 + random.next() % 3;
        message.carried = random.next() % 3;
        for at in 0..random.next() as usize % 9 {
            let word = if random.next().is_multiple_of(2) { random.next() % 8 } else { random.next() };
            assert!(message.set_word(at, word));
        }
        assert!(net.nodes[0].server.request(&message).is_some());
        net.nodes[0].host.0.borrow_mut().objects.iter_mut().for_each(|object| *object = None);
        if random.next().is_multiple_of(64) {
            net.step();
        }
    }
}

#[test]
fn sockets_run_out_with_an_error_and_come_back() {
    let mut net = Net::new(Faults::default(), 2);
    let mut apps = Vec::new();
    let refused = loop {
        match App::open(&mut net.nodes[0], 10, Kind::Udp) {
            Ok(app) => apps.push(app),
            Err(error) => break error,
        }
    };
    assert_eq!(refused, Error::NoResources);
    assert!(apps.len() >= abi::socket::SOCKETS_MIN);
    for app in apps.drain(..) {
        app.ask(&mut net.nodes[0], Request::Close, &[]).expect("closed");
    }
    net.step();
    assert!(App::open(&mut net.nodes[0], 10, Kind::Udp).is_ok());
}

#[test]
fn malformed_frames_between_good_ones() {
    let mut net = Net::new(Faults::default(), 3);
    let (_listener, mut client, mut server) = connected(&mut net, 80);
    let mut random = Random(5);
    let mut transfer = Transfer::new(400_000, 3000);
    net.run("transfer between rubbish", |net| {
        for _ in 0..200 {
            let length = random.next() as usize % 200;
            let mut frame: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
            let types = [[8, 0], [8, 6], [0x86, 0xdd], [0x88, 0xcc]];
            let mut header = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 9];
            header.extend(types[random.next() as usize % 4]);
            header.extend([
                0x45,
                0,
                0,
                length as u8,
                0,
                0,
                random.next() as u8,
                0,
                64,
                [1, 6, 17][random.next() as usize % 3],
            ]);
            header.append(&mut frame);
            header.truncate(14 + random.next() as usize % 150);
            net.nodes[1].server.stack.link.inject(header);
        }
        transfer.go_on(&mut client, &mut server)
    });
    assert_eq!((client.error(), server.error()), (None, None));
}
