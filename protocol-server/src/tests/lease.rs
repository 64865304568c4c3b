//! What a server takes over from the one before it.

use abi::supervise::Lease;

use super::*;

/// On the network of the wire's nodes, and not yet over.
const LEASE: Lease = Lease { address: ADDRESS[0], prefix: 24, router: Some(ADDRESS[1]), expires_s: 30 };

/// A net whose first node asks for its address, and goes on with a lease.
fn net(lease: Lease) -> Net {
    let mut net = Net::new(Faults::default(), 7);
    let now = Instant::from_micros(net.micros);
    let server = &mut net.nodes[0].server;
    server.stack.set_ipv4(None, None);
    server.use_dhcp();
    assert!(!server.is_up());
    server.inherit(lease, now);
    net
}

fn lease_of(net: &mut Net) -> Option<Lease> {
    let reply = ask(&mut net.nodes[0], 0, Request::Lease, &[], 0).expect("a reply");
    Lease::from_words(core::array::from_fn(|i| reply.word(1 + i).expect("a word")))
}

#[test]
fn the_lease_of_the_server_before_is_used_at_once_and_until_it_ends() {
    let mut net = net(LEASE);
    assert!(net.nodes[0].server.is_up(), "before anyone has answered");
    assert_eq!(lease_of(&mut net), Some(LEASE));
    // Nobody answers the client; connections are made all the same.
    net.pass_time(5_000_000);
    assert!(net.nodes[0].server.is_up());
    let mut listener = App::tcp(&mut net.nodes[0], 1);
    listener.bind(&mut net.nodes[0], endpoint(0, 7)).expect("a port");
    listener.ask(&mut net.nodes[0], Request::Listen, &[1]).expect("a listener");
    let client = App::tcp(&mut net.nodes[1], 2);
    client.connect(&mut net.nodes[1], endpoint(0, 7)).expect("a request");
    net.run("a connection", |_| client.memory.word(Page::STATE_AT).load(SeqCst) == State::Established.raw());
    let _ = &mut listener;
    // 30 seconds after the boot it is over.
    net.pass_time(31_000_000);
    assert!(!net.nodes[0].server.is_up());
    assert_eq!(lease_of(&mut net), None);
}

#[test]
fn a_lease_that_is_over_is_worth_nothing() {
    let mut net = net(Lease { expires_s: 1, ..LEASE });
    assert!(!net.nodes[0].server.is_up());
    assert_eq!(lease_of(&mut net), None);
}

#[test]
fn a_server_with_an_address_of_its_own_has_no_lease() {
    let mut net = Net::new(Faults::default(), 7);
    let now = Instant::from_micros(net.micros);
    let other = Lease { address: [10, 1, 2, 3], ..LEASE };
    net.nodes[0].server.inherit(other, now);
    assert_eq!(lease_of(&mut net), None);
    assert_ne!(
        net.nodes[0].server.stack.address().map(|it| it.address()),
        Some(Ipv4Address::new(10, 1, 2, 3).into())
    );
}

#[test]
fn words_are_checked() {
    assert_eq!(Lease::from_words(Lease::to_words(Some(LEASE))), Some(LEASE));
    let bare = Lease { router: None, ..LEASE };
    assert_eq!(Lease::from_words(Lease::to_words(Some(bare))), Some(bare));
    assert_eq!(Lease::from_words(Lease::to_words(None)), None);
    assert_eq!(Lease::from_words([1, 33, 0, 9]), None);
}
