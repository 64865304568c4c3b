//! The ring of bytes between ends that are lied to about each other's position.
#![expect(unsafe_code, reason = "the ring of bytes takes a raw region")]

use std::collections::VecDeque;

use shmqueue::{
    bytes::{Chunk, Consumer, Control, Producer},
    copy::{copy_bytes, copy_in},
};

use crate::{input::Input, memory::Guarded, peer::Peer};

fn pattern(position: u32, len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| position.wrapping_add(i).wrapping_mul(0x9e37) as u8).collect()
}

/// Fills both chunks through their raw pointers, with as many of `bytes` as fit.
fn fill(chunks: [Chunk; 2], bytes: &[u8]) -> usize {
    let mut done = 0;
    for (to, room) in chunks {
        let here = room.min(bytes.len() - done);
        // SAFETY: the ring gives pointers to so much room: the pages around it would answer if it did not.
        unsafe { copy_in(to, &bytes[done..done + here]) };
        done += here;
    }
    done
}

/// Copies both chunks out.
fn gather(chunks: [Chunk; 2]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (from, len) in chunks {
        let mut chunk = vec![0; len];
        // SAFETY: as in `fill`.
        unsafe { copy_bytes(chunk.as_mut_ptr(), from, len) };
        bytes.extend(chunk);
    }
    bytes
}

/// The ring of bytes.
pub fn byte_ring(data: &[u8]) {
    let mut input = Input::new(data);
    let capacity = 1u32 << input.below(14);
    let (words, region) = (Guarded::new(Control::BYTES), Guarded::new(capacity as usize));
    // SAFETY: atomics only, and zero bytes are an empty ring.
    let control: &Control = unsafe { words.at(0) };
    let shapes = vec![0, 1, capacity, capacity + 1, capacity - 1, 1 << 31, u32::MAX];
    let base = words.address();
    let peer = Peer::new(input, shapes).may_store(base..base + Control::BYTES);
    // SAFETY: the region outlives both ends, has one of each, and is reached through raw pointers only.
    let (mut producer, mut consumer) = unsafe {
        let data = region.base().as_ptr();
        (Producer::new(control, data, capacity), Consumer::new(control, data, capacity))
    };
    let mut model: VecDeque<u8> = VecDeque::new();
    while let Some(operation) = peer.input(Input::next) {
        let len = peer.below(2 * capacity + 40) as usize;
        let written = match operation & 15 {
            0..=3 => {
                let bytes = pattern(producer.position(), len);
                Some((peer.run(3, || producer.write(&bytes)), bytes))
            }
            4 => {
                let bytes = pattern(producer.position(), len);
                Some((peer.run(2, || producer.write_with(|chunks| fill(chunks, &bytes))), bytes))
            }
            5 => {
                let room = peer.run(1, || producer.space());
                if peer.was_honest() {
                    assert_eq!(room, Ok(capacity - model.len() as u32));
                }
                None
            }
            _ => None,
        };
        if let Some((outcome, bytes)) = written {
            let count = outcome.unwrap_or(0);
            assert!(count <= bytes.len() && count <= capacity as usize);
            if peer.was_honest() {
                assert_eq!(outcome, Ok(bytes.len().min(capacity as usize - model.len())));
                model.extend(&bytes[..count]);
            }
            continue;
        }
        let mut bytes = vec![0; len];
        let (read, taken) = match operation & 15 {
            6..=9 => (peer.run(3, || consumer.read(&mut bytes)), true),
            10 => (peer.run(2, || consumer.peek(&mut bytes)), false),
            11 => {
                let mut out = Vec::new();
                let outcome = peer.run(2, || {
                    consumer.read_with(|chunks| {
                        out = gather(chunks);
                        out.len().min(len)
                    })
                });
                out.truncate(len);
                bytes = out;
                (outcome, true)
            }
            12 => {
                let outcome = peer.run(2, || consumer.consume(len));
                if peer.was_honest() {
                    assert_eq!(outcome, Ok(len.min(model.len())));
                    model.drain(..outcome.unwrap_or(0));
                }
                continue;
            }
            13 => {
                let there = peer.run(1, || consumer.available());
                if peer.was_honest() {
                    assert_eq!(there, Ok(model.len() as u32));
                }
                continue;
            }
            _ => {
                peer.scribble(&words, 0..Control::BYTES);
                continue;
            }
        };
        let count = read.unwrap_or(0);
        assert!(count <= len && count <= capacity as usize);
        if peer.was_honest() {
            assert_eq!(read, Ok(len.min(model.len())));
            assert!(model.iter().take(count).eq(&bytes[..count]), "other bytes than went in");
            if taken {
                model.drain(..count);
            }
        }
    }
}
