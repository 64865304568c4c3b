//! The ring of bytes: every length at every place, wrap-around of the ring and of the positions, a peer that
//! lies, two threads.
#![expect(unsafe_code, reason = "makes rings over memory of the test's own")]

use std::{thread, vec, vec::Vec};

use super::{Consumer, Control, Producer};
use crate::{PeerMisbehaviour, copy, sync::Ordering::Relaxed};

struct Memory {
    control: Control,
    data: Vec<u8>,
}

impl Memory {
    fn new(capacity: usize) -> Self {
        Self { control: Control::new(), data: vec![0xee; capacity] }
    }

    fn ends(&mut self) -> (Producer<'_>, Consumer<'_>) {
        let (data, capacity) = (self.data.as_mut_ptr(), self.data.len() as u32);
        // SAFETY: the vector lives as long as the two ends, and only they use it.
        unsafe {
            (Producer::new(&self.control, data, capacity), Consumer::new(&self.control, data, capacity))
        }
    }
}

#[test]
fn every_length_passes_at_every_place() {
    let mut memory = Memory::new(64);
    let (mut producer, mut consumer) = memory.ends();
    let mut value = 0u8;
    for len in 0..=64usize {
        for _ in 0..67 {
            let sent: Vec<u8> = (0..len).map(|n| value.wrapping_add(n as u8)).collect();
            assert_eq!(producer.write(&sent), Ok(len));
            let mut got = vec![0; len + 3];
            let mut peeked = vec![0; len];
            assert_eq!(consumer.peek(&mut peeked), Ok(len));
            assert_eq!(consumer.read(&mut got), Ok(len));
            assert_eq!((&got[..len], &got[len..]), (&sent[..], &[0; 3][..]));
            assert_eq!(peeked, sent);
            value = value.wrapping_add(len as u8 + 1);
            // Walk through the places one by one.
            assert_eq!((producer.write(&[1]), consumer.consume(5)), (Ok(1), Ok(1)));
        }
    }
}

#[test]
fn a_full_ring_takes_what_fits_and_an_empty_one_gives_nothing() {
    let mut memory = Memory::new(8);
    let (mut producer, mut consumer) = memory.ends();
    assert_eq!(consumer.read(&mut [0; 4]), Ok(0));
    assert_eq!(producer.write(b"0123456789"), Ok(8));
    assert_eq!(producer.write(b"x"), Ok(0));
    assert_eq!(producer.space(), Ok(0));
    let mut got = [0; 3];
    assert_eq!(consumer.read(&mut got), Ok(3));
    assert_eq!(&got, b"012");
    assert_eq!(producer.write(b"abcde"), Ok(3));
    let mut got = [0; 20];
    assert_eq!(consumer.available(), Ok(8));
    assert_eq!(consumer.read(&mut got), Ok(8));
    assert_eq!(&got[..8], b"34567abc");
    assert_eq!(producer.write(&[]), Ok(0));
}

#[test]
fn chunks_are_the_free_room_and_the_data() {
    let mut memory = Memory::new(16);
    let (mut producer, mut consumer) = memory.ends();
    producer.write(&[0; 12]).unwrap();
    consumer.consume(12).unwrap();
    let written = producer.write_with(|[(first, a), (second, b)]| {
        assert_eq!((a, b), (4, 12));
        // SAFETY: the chunks are free room of the ring.
        unsafe {
            copy::copy_in(first, b"abcd");
            copy::copy_in(second, b"ef");
        }
        6
    });
    assert_eq!(written, Ok(6));
    let read = consumer.read_with(|[(first, a), (second, b)]| {
        assert_eq!((a, b), (4, 2));
        let mut got = [0; 6];
        // SAFETY: the chunks are data of the ring.
        unsafe {
            copy::copy_out(&mut got[..4], first);
            copy::copy_out(&mut got[4..], second);
        }
        assert_eq!(&got, b"abcdef");
        5
    });
    assert_eq!(read, Ok(5));
    assert_eq!(consumer.available(), Ok(1));
    // An answer beyond what there is counts as all of it.
    assert_eq!(consumer.read_with(|_| 99), Ok(1));
    assert_eq!(producer.write_with(|_| 99), Ok(16));
}

#[test]
fn positions_wrap_through_32_bits() {
    let mut memory = Memory::new(16);
    let start = u32::MAX - 20;
    memory.control.tail.0.store(start, Relaxed);
    memory.control.head.0.store(start, Relaxed);
    let (mut producer, mut consumer) = memory.ends();
    (producer.tail, producer.head_seen, consumer.head, consumer.tail_seen) = (start, start, start, start);
    for n in 0..40u8 {
        assert_eq!(producer.write(&[n, n, n]), Ok(3));
        let mut got = [0; 3];
        assert_eq!(consumer.read(&mut got), Ok(3));
        assert_eq!(got, [n; 3]);
    }
    assert!(producer.position() < 100);
}

#[test]
fn positions_that_cannot_be_are_the_peers_fault_and_change_nothing() {
    let mut memory = Memory::new(16);
    {
        let (mut producer, mut consumer) = memory.ends();
        producer.write(&[7; 10]).unwrap();
        consumer.consume(4).unwrap();
        for lie in [11, 100, 0x8000_0000, u32::MAX] {
            producer.control.head.0.store(lie, Relaxed);
            assert_eq!(producer.write(&[1; 16]), Err(PeerMisbehaviour::Index(lie)));
            assert_eq!(producer.space(), Err(PeerMisbehaviour::Index(lie)));
            assert!(producer.write_with(|_| unreachable!()).is_err());
        }
        producer.control.head.0.store(4, Relaxed);
        assert_eq!(producer.space(), Ok(10));
        // Back behind where it was seen.
        producer.control.head.0.store(3, Relaxed);
        assert_eq!(producer.space(), Err(PeerMisbehaviour::Index(3)));

        for lie in [3, 9, 21, 0x8000_0000, u32::MAX] {
            consumer.control.tail.0.store(lie, Relaxed);
            assert_eq!(consumer.read(&mut [0; 16]), Err(PeerMisbehaviour::Index(lie)), "{lie}");
            assert_eq!(consumer.available(), Err(PeerMisbehaviour::Index(lie)));
        }
    }
    assert!(memory.data[10..].iter().all(|&byte| byte == 0xee));
}

/// Whatever words the peer writes, both ends stay inside of their region and go on.
#[test]
fn random_positions_never_lead_outside() {
    let mut arena = [0x11u8; 3 * 32];
    let control = Control::new();
    let data = arena[32..64].as_mut_ptr();
    // SAFETY: the middle third of the arena; it is looked at only when the ends are gone.
    let (mut producer, mut consumer) =
        unsafe { (Producer::new(&control, data, 32), Consumer::new(&control, data, 32)) };
    let mut state = 0x2545_f491u32;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    const STEPS: u32 = if cfg!(miri) { 2_000 } else { 100_000 };
    let mut refused = 0;
    for _ in 0..STEPS {
        let near = random() % 80;
        match random() % 4 {
            0 => control.head.0.store(producer.position().wrapping_sub(near), Relaxed),
            1 => control.tail.0.store(consumer.position().wrapping_add(near), Relaxed),
            2 => match producer.write(&[0x22; 40][..near as usize % 41]) {
                Ok(len) => assert!(len <= 32),
                Err(_) => refused += 1,
            },
            _ => match consumer.read(&mut [0; 40][..near as usize % 41]) {
                Ok(len) => assert!(len <= 32),
                Err(_) => refused += 1,
            },
        }
    }
    assert!(refused > STEPS / 100);
    assert!(arena[..32].iter().chain(&arena[64..]).all(|&byte| byte == 0x11), "wrote outside");
}

#[test]
fn two_threads_pass_a_long_stream() {
    const TOTAL: usize = if cfg!(miri) { 20_000 } else { 3_000_000 };
    let mut memory = Memory::new(1 << 10);
    let (mut producer, mut consumer) = memory.ends();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut sent = 0;
            while sent < TOTAL {
                let len = (sent % 300 + 1).min(TOTAL - sent);
                let piece: Vec<u8> = (sent..sent + len).map(|n| (n % 251) as u8).collect();
                let written = producer.write(&piece).unwrap();
                sent += written;
                if written == 0 {
                    thread::yield_now();
                }
            }
        });
        let mut read = 0;
        let mut piece = [0; 333];
        while read < TOTAL {
            let room = read % 333 + 1;
            let len = consumer.read(&mut piece[..room]).unwrap();
            for byte in &piece[..len] {
                assert_eq!(usize::from(*byte), read % 251);
                read += 1;
            }
            if len == 0 {
                thread::yield_now();
            }
        }
    });
}

#[test]
#[should_panic(expected = "power of two")]
fn a_capacity_that_is_no_power_of_two_is_refused() {
    let control = Control::new();
    // SAFETY: it panics before the region is used.
    let _ = unsafe { Producer::new(&control, core::ptr::NonNull::<u8>::dangling().as_ptr(), 24) };
}
