//! A socket's page, seen by an application whose server lies, and by a server whose application does.
#![expect(unsafe_code, reason = "plays the other side of raw memory")]

use std::ptr::NonNull;

use abi::{
    Error,
    socket::{Endpoint, Page as At},
};
use protocol_server::{page::SocketPage, system::SharedMemory};
use userlib::net::Page;

use crate::{input::Input, memory::Guarded, peer::Peer};

fn shapes(ring: u32) -> Vec<u32> {
    vec![
        0,
        1,
        2,
        32,
        ring,
        ring - 1,
        ring + 1,
        1 << 28,
        1 << 31,
        u32::MAX,
        abi::socket::MAGIC,
        abi::info::VERSION,
    ]
}

/// The words of a page that its owner's peer has reason to write: all that are used, and some between.
const WORDS: usize = At::WISHES_AT + 8;

/// The application's side.
pub fn application_page(data: &[u8]) {
    let mut input = Input::new(data);
    let [rx, tx] = [0; 2].map(|_| 256u32 << input.below(5));
    let apart = input.below(2) == 1;
    let here = if apart { 0 } else { rx as usize };
    let memory = Guarded::new(At::bytes(here, tx as usize));
    let ring = Guarded::new(rx as usize);
    let head = [abi::socket::MAGIC, abi::info::VERSION, rx, tx];
    for (at, word) in [At::MAGIC_AT, At::VERSION_AT, At::RX_BYTES_AT, At::TX_BYTES_AT].into_iter().zip(head) {
        memory.word(at).store(word, shmqueue::sync::Ordering::Relaxed);
    }
    let base = memory.address();
    let peer = Peer::new(input, shapes(rx)).may_store(base..base + WORDS);
    // The head may lie.
    if peer.below(4) == 0 {
        peer.scribble(&memory, 0..16);
    }
    let other = apart.then(|| (ring.base(), ring.bytes()));
    // SAFETY: both stay mapped until the end of this function, after the last use of the page and its ends, which are made once;
    // nothing refers to the bytes of the rings.
    let made =
        unsafe { Page::new(memory.base()).and_then(|page| Ok((page, page.ends(memory.bytes(), other)?))) };
    let (page, (mut consumer, mut producer)) = match made {
        Ok(made) => made,
        Err(error) => {
            assert!(error == Error::PeerMisbehaviour && !peer.was_honest());
            return;
        }
    };
    let mut bytes = vec![0; 3 * rx.max(tx) as usize];
    while let Some(operation) = peer.input(Input::next) {
        let len = peer.input(Input::word) as usize % bytes.len();
        match operation & 7 {
            0 | 1 => {
                let read = peer.run(3, || consumer.read(&mut bytes[..len]));
                assert!(read.unwrap_or(0) <= len.min(page.rx_bytes() as usize));
            }
            2 | 3 => {
                let written = peer.run(3, || producer.write(&bytes[..len]));
                assert!(written.unwrap_or(0) <= len.min(page.tx_bytes() as usize));
            }
            4 => {
                let _ =
                    (page.state(), page.error(), page.accept_ready(), page.acknowledged(), page.rx_dropped());
                let _ = peer.run(4, || (page.rx_used(), page.tx_used()));
                let _ = userlib::net::from_endpoint(&page.local());
                let _ = userlib::net::from_endpoint(&page.remote());
            }
            5 => {
                page.set_wait_for(u32::from(operation));
                peer.run(2, || page.wait_word().prepare());
                page.wish(u32::from(operation >> 3), operation & 8 != 0);
                peer.run(2, || page.wait_word().finish());
            }
            _ => peer.scribble(&memory, 0..WORDS),
        }
    }
}

/// The server's memory object.
struct Object(Guarded);

// SAFETY: the mapping stays where it is until the drop, starts at a page, and is reached through its owner and the peer's atomics.
unsafe impl SharedMemory for Object {
    fn address(&self) -> NonNull<u8> {
        self.0.base()
    }
    fn length(&self) -> usize {
        self.0.bytes()
    }
    fn take_right(&mut self) -> u32 {
        0
    }
}

/// The application's mapping of it: the same bytes.
struct Other(NonNull<u8>, usize);

impl Other {
    fn word(&self, at: usize) -> &shmqueue::sync::AtomicU32 {
        assert!(at + 4 <= self.1 && at.is_multiple_of(4));
        // SAFETY: inside, an atomic word; the object lives as long as the socket's page, which is dropped last.
        unsafe { self.0.add(at).cast().as_ref() }
    }
}

/// The server's side.
pub fn server_page(data: &[u8]) {
    let mut input = Input::new(data);
    let ring = 256u32 << input.below(6);
    let stream = input.below(2) == 1;
    let object = Object(Guarded::new(At::bytes(if stream { 0 } else { ring as usize }, ring as usize)));
    let (other, base) = (Other(object.0.base(), object.0.bytes()), object.0.address());
    let page = if stream {
        SocketPage::for_stream(object, ring, ring)
    } else {
        SocketPage::for_records(object, ring)
    };
    let mut page = page.expect("large enough");
    let peer = Peer::new(input, shapes(ring)).may_store(base..base + WORDS);
    let mut unread = 0u32;
    let mut bytes = vec![0; 2 * ring as usize];
    while let Some(operation) = peer.input(Input::next) {
        let len = peer.input(Input::word) as usize % bytes.len();
        match operation & 15 {
            0 | 1 => {
                let there = peer.run(4, || page.tx.read(&mut bytes[..len]));
                assert!(there.unwrap_or(0) <= len.min(ring as usize));
            }
            2 => {
                let new = page.publish_received(len.min(ring as usize));
                unread = unread.saturating_add(new);
                assert!(unread <= ring, "more than the ring holds");
            }
            3 | 4 => match page.take_consumed() {
                Ok(consumed) => {
                    assert!(consumed <= unread, "it has read what it was not given");
                    unread -= consumed;
                }
                Err(error) => assert!(error == Error::PeerMisbehaviour && !peer.was_honest()),
            },
            5 => {
                let _ = peer.run(2, || page.wants(len as u32));
            }
            6 | 7 => {
                let written = peer.run(4, || page.write_record(Endpoint::default(), &bytes[..len]));
                assert!(written != Ok(true) || len < ring as usize);
            }
            8 | 9 => {
                if let Ok(Some(record)) = peer.run(4, || page.peek_record()) {
                    assert!(record.length < ring, "a datagram as long as the ring");
                    peer.run(12, || page.take_record(&record, &mut bytes[..len]));
                }
            }
            10 => {
                let _ = (page.glance(), page.tx_room(), page.tx_capacity());
                page.count_rx_dropped();
                page.set(At::STATE_AT, u32::from(operation));
                page.set_endpoint(At::LOCAL_AT, &Endpoint::default());
            }
            11 => {
                // As if it had written so much, or read so much.
                let at = if len & 1 == 0 { At::TX_RING_AT } else { At::RX_RING_AT + 64 };
                let word = other.word(at);
                let position = word.load(shmqueue::sync::Ordering::Relaxed);
                peer.has_lied();
                word.store(position.wrapping_add(len as u32 >> 1), shmqueue::sync::Ordering::Relaxed);
            }
            12 => {
                // The length of a record somewhere in the ring, as its head would give it.
                let at =
                    At::RINGS_AT + if stream { 0 } else { ring as usize } + (len & (ring as usize - 1) & !3);
                peer.write(other.word(at));
            }
            _ => peer.write(other.word(peer.below(WORDS as u32 / 4) as usize * 4)),
        }
    }
}
