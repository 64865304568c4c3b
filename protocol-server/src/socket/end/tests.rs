//! Both ends of both rings, with copies that arrive in pieces, stop in the middle, or find a page that lies.

use super::*;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::{boxed::Box, vec, vec::Vec};

const BYTES: u32 = 256;

/// Rings in leaked memory: the application's ends, and the server's.
struct Rig {
    end: End,
    to_application: Producer<'static>,
    from_application: Consumer<'static>,
    controls: [&'static Control; 2],
}

impl Rig {
    fn new() -> Self {
        let ring = || Ring {
            control: Box::leak(Box::new(Control::new())),
            data: Box::leak(vec![0u8; BYTES as usize].into_boxed_slice()).as_mut_ptr(),
            bytes: BYTES,
        };
        let (rx, tx) = (ring(), ring());
        // SAFETY: leaked, and reached through these ends alone.
        unsafe {
            Self {
                end: End::new(rx, tx),
                to_application: Producer::new(rx.control, rx.data, BYTES),
                from_application: Consumer::new(tx.control, tx.data, BYTES),
                controls: [rx.control, tx.control],
            }
        }
    }

    /// The position of a ring's producer or consumer, as the application can write it.
    fn position(&self, ring: usize, word: usize) -> &'static AtomicU32 {
        // SAFETY: the control words are two atomic words, 64 bytes apart.
        unsafe { &*core::ptr::from_ref(self.controls[ring]).cast::<AtomicU32>().byte_add(64 * word) }
    }
}

fn peer() -> Endpoint {
    Endpoint { family: 4, address: [9; 16], port: 7 }
}

fn pattern(length: usize, seed: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 7 + seed) as u8).collect()
}

/// A `copy` that fails when it comes to byte `at`.
fn failing(at: usize) -> impl FnMut(Chunk, usize) -> Result<(), Error> {
    move |(_, length), from| if from + length > at { Err(Error::BadAddress) } else { Ok(()) }
}

#[test]
fn streams_go_through_whatever_their_pieces_are() {
    let mut rig = Rig::new();
    let (mut written, mut read) = (Vec::new(), Vec::new());
    for step in 0..3000 {
        let bytes = pattern(step * 31 % 300, step);
        let count = if step % 2 == 0 {
            rig.end.write(&bytes).unwrap()
        } else {
            rig.end.write_with(bytes.len(), from_slice(&bytes)).unwrap()
        };
        written.extend_from_slice(&bytes[..count]);
        let mut buffer = vec![0; (step * 17 % 290).min(rig.to_application.space().unwrap() as usize)];
        let count = rig.from_application.read(&mut buffer).unwrap();
        rig.to_application.write(&buffer[..count]).unwrap();
        let mut into = vec![0; step * 13 % 280];
        let count = if step % 3 == 0 {
            rig.end.read(&mut into).unwrap()
        } else {
            let length = into.len();
            rig.end.read_with(length, to_slice(&mut into)).unwrap()
        };
        read.extend_from_slice(&into[..count]);
    }
    assert!(read.len() > 100_000 && written.len() - read.len() <= 2 * BYTES as usize);
    assert_eq!(read, written[..read.len()]);
}

#[test]
fn records_go_whole_or_not_at_all() {
    let mut rig = Rig::new();
    for step in 0..500 {
        let payload = pattern(step % 190, step);
        assert_eq!(rig.end.write_record(&peer(), &payload), Ok(true), "{step}");
        let mut whole = vec![0; BYTES as usize];
        let bytes = rig.from_application.read(&mut whole).unwrap();
        assert_eq!(bytes, RECORD_BYTES + payload.len().next_multiple_of(4));
        rig.to_application.write(&whole[..bytes]).unwrap();
        let mut into = vec![0xee; step % 200];
        let (record, taken) = rig.end.read_record(&mut into).unwrap().unwrap();
        assert_eq!((record.length as usize, record.peer), (payload.len(), peer()));
        assert_eq!(taken, payload.len().min(into.len()));
        assert_eq!(into[..taken], payload[..taken]);
        assert!(into[taken..].iter().all(|&byte| byte == 0xee));
        assert_eq!(rig.end.read_record(&mut into), Ok(None));
    }
    // No room now, and never.
    assert_eq!(rig.end.write_record(&peer(), &[1; 150]), Ok(true));
    assert_eq!(rig.end.write_record(&peer(), &[1; 150]), Ok(false));
    assert_eq!(rig.end.write_record(&peer(), &[1; 224]), Ok(false));
    assert_eq!(rig.end.write_record(&peer(), &[1; 225]), Err(Error::TooLong));
    assert_eq!(rig.end.write_record_with(&peer(), usize::MAX, failing(0)), Err(Error::TooLong));
}

#[test]
fn a_copy_that_fails_moves_nothing() {
    let mut rig = Rig::new();
    // So that the rings wrap: the second piece fails.
    rig.end.write(&[1; 200]).unwrap();
    rig.from_application.consume(200).unwrap();
    rig.to_application.write(&[1; 200]).unwrap();
    rig.end.read(&mut [0; 200]).unwrap();
    assert_eq!(rig.end.write_with(100, failing(99)), Err(Error::BadAddress));
    assert_eq!(rig.end.write_record_with(&peer(), 100, failing(99)), Err(Error::BadAddress));
    assert_eq!(rig.from_application.available(), Ok(0));
    rig.to_application.write(&pattern(100, 3)).unwrap();
    assert_eq!(rig.end.read_with(100, failing(99)), Err(Error::BadAddress));
    let mut into = [0; 100];
    assert_eq!(rig.end.read(&mut into), Ok(100));
    assert_eq!(into[..], pattern(100, 3)[..]);
    let record = record_bytes(&Record { length: 40, peer: peer(), reserved: 0 });
    rig.to_application.write(&record).unwrap();
    rig.to_application.write(&pattern(40, 5)).unwrap();
    assert_eq!(rig.end.read_record_with(40, failing(39)), Err(Error::BadAddress));
    assert_eq!(rig.end.read_record(&mut into).unwrap().unwrap().1, 40);
    assert_eq!(into[..40], pattern(40, 5)[..]);
}

#[test]
fn positions_that_cannot_be_are_misbehaviour() {
    for (ring, word, value) in [(1, 1, 1), (1, 1, u32::MAX), (0, 0, BYTES + 1), (0, 0, u32::MAX)] {
        let mut rig = Rig::new();
        rig.position(ring, word).store(value, Relaxed);
        let failed = if ring == 1 {
            [
                rig.end.write(&[0; 257]).err(),
                rig.end.write_with(50, failing(0)).err(),
                rig.end.write_record(&peer(), &[0; 50]).err(),
            ]
        } else {
            let mut into = [0; 50];
            [
                rig.end.read(&mut into).err(),
                rig.end.read_with(50, failing(0)).err(),
                rig.end.read_record(&mut into).err(),
            ]
        };
        assert_eq!(failed, [Some(Error::PeerMisbehaviour); 3]);
    }
    // What the application writes over our own positions changes nothing.
    let mut rig = Rig::new();
    rig.end.write(&[1; 10]).unwrap();
    rig.position(1, 0).store(77, Relaxed);
    rig.end.write(&[2; 10]).unwrap();
    assert_eq!(rig.from_application.available(), Ok(20));
    // A head that is not all there, or a payload.
    for (length, bytes) in [(0, 20), (100, 40), (u32::MAX, 32)] {
        let mut rig = Rig::new();
        let mut all = record_bytes(&Record { length, peer: peer(), reserved: 0 }).to_vec();
        all.extend([0; 100]);
        rig.to_application.write(&all[..bytes]).unwrap();
        assert_eq!(rig.end.read_record(&mut [0; 10]), Err(Error::PeerMisbehaviour));
    }
}

#[test]
fn room_is_told_of_where_a_full_ring_has_been_read_by_an_eighth() {
    for step in [1, 3, 7, 32, 100] {
        let mut rig = Rig::new();
        let mut told = 0;
        rig.to_application.write(&[0; BYTES as usize]).unwrap();
        let mut into = vec![0; step];
        loop {
            let read = rig.end.read(&mut into).unwrap();
            if read == 0 {
                break;
            }
            told += u32::from(rig.end.must_tell_of_room(read));
        }
        assert!((1..=5).contains(&told), "{step}: {told}");
        // One that is never half full needs nobody to be told.
        for _ in 0..1000 {
            rig.to_application.write(&[0; 20]).unwrap();
            let read = rig.end.read(&mut [0; 20]).unwrap();
            assert!(!rig.end.must_tell_of_room(read));
        }
    }
}

#[test]
fn what_passes_moves_positions_only() {
    let mut rig = Rig::new();
    rig.end.write(&[5; 10]).unwrap();
    rig.from_application.consume(10).unwrap();
    assert_eq!(rig.end.pass(100), Ok(100));
    assert_eq!(rig.from_application.consume(100), Ok(100));
    rig.end.write(&[6; 4]).unwrap();
    let mut into = [0; 10];
    assert_eq!(rig.from_application.read(&mut into), Ok(4));
    assert_eq!(into[..4], [6; 4]);
}
