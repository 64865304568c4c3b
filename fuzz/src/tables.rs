//! The server's table of sockets beside a plain map, and the maker of fragments beside a plain sum.

use std::collections::HashMap;

use protocol_server::demux::{Demux, NO_SLOT, Slot};
use protocol_server::fragments::Fragments;
use protocol_server::frame::{FragmentKey, Key};
use protocol_server::link::Built;

use crate::fake::checksum;
use crate::input::Input;

/// Keys from few values, so that they meet.
fn key(input: &mut Input<'_>) -> Key {
    let (kind, ports) = (input.byte(), input.byte());
    let protocol = [1, 6, 17, kind][usize::from(kind & 3)];
    if kind & 4 != 0 {
        return Key::wildcard(protocol, u16::from(ports));
    }
    let addresses = [u64::from(kind >> 3), u64::from(input.byte()), 0, u64::from(kind & 8) << 40];
    Key { addresses, ports: u32::from(ports) << 16 | u32::from(ports & 3), protocol }
}

/// The table of sockets.
pub fn sockets(data: &[u8]) {
    let mut input = Input::new(data);
    let mut table = Demux::new();
    let mut model: HashMap<(Vec<u64>, u32, u8), Slot> = HashMap::new();
    let name = |key: &Key| (key.addresses.to_vec(), key.ports, key.protocol);
    while let Some(operation) = input.next() {
        match operation & 7 {
            0..=2 => {
                let (key, slot) = (key(&mut input), Slot::from(operation >> 3));
                let room = model.len() < 256 && !model.contains_key(&name(&key));
                assert_eq!(table.insert(key, slot), room);
                if room {
                    model.insert(name(&key), slot);
                }
            }
            3 => {
                let slot = Slot::from(operation >> 3);
                table.remove(slot);
                model.retain(|_, owner| *owner != slot);
            }
            4 | 5 => {
                let key = key(&mut input);
                let find = |key: &Key| model.get(&name(key)).copied().unwrap_or(NO_SLOT);
                assert_eq!(table.find(&key), find(&key));
                let either = if find(&key) == NO_SLOT { find(&key.any_remote()) } else { find(&key) };
                // The last answer is remembered. A key that nobody has is none's, though zeros be all of it.
                if key != Key::default() {
                    assert_eq!(table.segment(&key), either);
                }
            }
            _ => {
                let fragment =
                    FragmentKey { addresses: u64::from(operation >> 6), ident: u32::from(input.byte() & 7) };
                if operation & 8 != 0 {
                    let slot = Slot::from(operation >> 3);
                    table.remember_fragment(fragment, slot);
                    assert_eq!(table.fragment(&fragment), slot);
                } else {
                    let slot = table.fragment(&fragment);
                    assert!(slot == NO_SLOT || slot < 32);
                }
            }
        }
    }
}

/// What is sent in fragments: any frames between those of a message, which in the end has a good checksum.
pub fn fragments(data: &[u8]) {
    let mut input = Input::new(data);
    let mut fragments = Fragments::default();
    while let Some(operation) = input.next() {
        if operation & 3 == 0 {
            // Anything; whatever it is, it stays as long, and what is kept comes back once.
            let length = usize::from(input.byte());
            let mut frame = input.take(length).to_vec();
            let before = frame.len();
            let built = fragments.finish(&mut frame, operation & 4 != 0);
            assert_eq!(frame.len(), before);
            if let Built::Send(Some(request)) = built {
                assert!(usize::from(request.start) + usize::from(request.offset) + 2 <= before);
            }
            if fragments.take_first().is_some() {
                assert!(fragments.take_first().is_none());
            }
            continue;
        }
        // A message of ICMP in pieces of 8 bytes or more (RFC 791).
        let pieces = 2 + usize::from(operation >> 4);
        let size = 8 * (1 + usize::from(input.byte() & 31));
        let tail = 1 + usize::from(input.byte()) % size;
        let length = (pieces - 1) * size + tail;
        let mut message = vec![8, 0, 0, 0, input.byte(), input.byte(), 0, 1];
        message.extend(input.take(length.saturating_sub(8)));
        message.resize(length, 0x3c);
        let mut received = message.clone();
        let mut at = 0;
        while at < length {
            let end = (at + size).min(length);
            let field = (at / 8) as u16 | if end < length { 0x2000 } else { 0 };
            let mut frame = vec![0; 12];
            frame.extend([8, 0, 0x45, 0]);
            frame.extend(((20 + end - at) as u16).to_be_bytes());
            frame.extend([0, 7]);
            frame.extend(field.to_be_bytes());
            frame.extend([64, 1, 0, 0, 10, 9, 0, 2, 10, 9, 0, 1]);
            frame.extend(&message[at..end]);
            let built = fragments.finish(&mut frame, operation & 4 != 0);
            assert_eq!(built, if at == 0 { Built::Keep } else { Built::Send(None) });
            if let Some(first) = fragments.take_first() {
                assert_eq!(end, length, "the first fragment goes last");
                received[..size.min(length)].copy_from_slice(&first[34..]);
            }
            at = end;
        }
        assert_eq!(checksum(&received), 0, "a message of {length} bytes in pieces of {size}");
    }
}
