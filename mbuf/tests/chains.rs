//! The operations on chains, against the same operations on a vector of bytes.
#![cfg(not(loom))]

mod common;

use common::Window;
use mbuf::{CLUSTER_BYTES, ChainError, Flags, ProtocolSpace};
use shmqueue::Item;

fn bytes(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i * 31 + i / 256) as u8).collect()
}

fn contents(space: &ProtocolSpace<'_>, item: Item) -> Vec<u8> {
    let len = space.chain_len(item).unwrap() as usize;
    let mut got = vec![0; len + 5];
    assert_eq!(space.copy_data(item, 0, &mut got), Ok(len));
    got.truncate(len);
    assert_eq!(space.view().mbuf(item).unwrap().packet_len() as usize, len, "the packet's length");
    assert!(space.view().mbuf(item).unwrap().flags().has(Flags::PACKET));
    got
}

#[test]
fn packets_of_all_sizes_hold_their_bytes() {
    let window = Window::new(2, 32, 16);
    let mut space = ProtocolSpace::new(window.view());
    for len in [0, 1, 79, 80, 81, 1500, 2047, 2048, 2049, 4096, 9000] {
        let item = space.packet_from(&bytes(len)).unwrap();
        assert_eq!(contents(&space, item), bytes(len));
        let mut middle = vec![0; 10];
        let from = len / 2;
        let n = space.copy_data(item, from as u32, &mut middle).unwrap();
        assert_eq!(middle[..n], bytes(len)[from..(from + 10).min(len)]);
        assert_eq!(space.copy_data(item, len as u32 + 1, &mut middle), Ok(0));
        space.free_chain(item);
    }
    window.assert_all_free();
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_is_kept() {
    let window = Window::new(1, 4, 4);
    let mut space = ProtocolSpace::new(window.view());
    assert_eq!(space.packet_from(&bytes(5 * CLUSTER_BYTES as usize)), Err(ChainError::NoBuffer));
    window.assert_all_free();
}

#[test]
fn prepend_uses_the_room_in_front_or_a_new_mbuf() {
    let window = Window::new(1, 16, 8);
    let mut space = ProtocolSpace::new(window.view());
    let item = space.packet_from(&bytes(1000)).unwrap();
    let whole = space.prepend(item, 54).unwrap();
    assert_ne!(whole, item, "no room in front");
    assert_eq!(space.chain_len(whole), Ok(1054));
    assert_eq!(contents(&space, whole)[54..], bytes(1000));
    // The new mbuf has room in front of its data.
    assert_eq!(space.prepend(whole, 20), Ok(whole));
    assert_eq!(contents(&space, whole)[74..], bytes(1000));
    assert_eq!(space.prepend(whole, 81), Err(ChainError::TooLong));
    space.free_chain(whole);

    // Room in front of data that someone else refers to is not used.
    let item = space.packet_from(&bytes(1000)).unwrap();
    let second = space.split(item, 600).unwrap();
    space.trim_front(item, 100).unwrap();
    let whole = space.prepend(item, 10).unwrap();
    assert_ne!(whole, item);
    space.free_chain(second);
    assert_eq!(contents(&space, whole)[10..], bytes(1000)[100..600]);
    space.free_chain(whole);
    window.assert_all_free();
}

#[test]
fn trim_split_concatenate_and_pull_up_agree_with_a_vector() {
    let window = Window::new(2, 64, 32);
    let mut space = ProtocolSpace::new(window.view());
    let mut state = 0x1234_5677u32;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as usize % below
    };
    for _ in 0..if cfg!(miri) { 3 } else { 300 } {
        let mut model = bytes(1 + random(6000));
        let mut item = space.packet_from(&model).unwrap();
        for _ in 0..12 {
            let at = random(model.len() + 3);
            match random(5) {
                0 => {
                    let outcome = space.trim_front(item, at as u32);
                    assert_eq!(outcome.is_ok(), at <= model.len());
                    model.drain(..if outcome.is_ok() { at } else { 0 });
                }
                1 => {
                    let outcome = space.trim_back(item, at as u32);
                    assert_eq!(outcome.is_ok(), at <= model.len());
                    model.truncate(model.len() - if outcome.is_ok() { at } else { 0 });
                }
                2 => match space.split(item, at as u32) {
                    Ok(second) => {
                        assert_eq!(contents(&space, second), model[at..]);
                        assert_eq!(contents(&space, item), model[..at]);
                        if random(2) == 0 {
                            space.concatenate(item, second).unwrap();
                        } else {
                            space.free_chain(second);
                            model.truncate(at);
                        }
                    }
                    Err(error) => {
                        assert_eq!(error, ChainError::TooShort);
                        assert!(at == 0 || at >= model.len());
                    }
                },
                3 => match space.pull_up(item, at as u32) {
                    Ok(first) => {
                        item = first;
                        assert!(space.view().extent(item).unwrap().1 as usize >= at);
                    }
                    Err(error) => {
                        let long = at > CLUSTER_BYTES as usize;
                        assert_eq!(error, if long { ChainError::TooLong } else { ChainError::TooShort });
                        assert!(long || at > model.len());
                    }
                },
                _ => {
                    let len = random(60);
                    item = space.prepend(item, len as u32).unwrap();
                    // The new bytes are whatever was there: take them over.
                    let mut front = vec![0; len];
                    space.copy_data(item, 0, &mut front).unwrap();
                    model.splice(..0, front);
                }
            }
            assert_eq!(contents(&space, item), model);
            if model.is_empty() {
                break;
            }
        }
        space.free_chain(item);
        window.assert_all_free();
    }
    assert_eq!(space.misbehaviour(), None);
}

#[test]
fn corrupt_chains_are_reported_and_walks_end() {
    let window = Window::new(1, 8, 8);
    let mut space = ProtocolSpace::new(window.view());
    let item = space.packet_from(&bytes(3000)).unwrap();
    let mbuf = space.view().mbuf(item).unwrap();
    let second = mbuf.next();
    mbuf.set_next(Some(item));
    assert_eq!(space.chain_len(item), Err(ChainError::Corrupt), "a circle");
    mbuf.set_next(Item::new(5));
    assert_eq!(space.chain_len(item), Err(ChainError::Corrupt));
    mbuf.set_next(second);
    for (data, len) in
        [(mbuf.data(), 2049), (mbuf.data() - 1, 10), (mbuf.data() + 2040, 9), (4, 4), (mbuf.data(), u32::MAX)]
    {
        let good = (mbuf.data(), mbuf.len());
        mbuf.set_data(data);
        mbuf.set_len(len);
        assert_eq!(space.view().extent(item), None);
        assert_eq!(space.view().data_ptr(item), None);
        assert_eq!(space.trim_front(item, 1), Err(ChainError::Corrupt));
        mbuf.set_data(good.0);
        mbuf.set_len(good.1);
    }
    assert_eq!(space.chain_len(item), Ok(3000));
}
