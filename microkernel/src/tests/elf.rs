//! Good programs, and every way that we could think of in which one can lie.

use super::*;
use std::vec::Vec;

pub(crate) const READ: u32 = 4;
pub(crate) const WRITE: u32 = 2;
pub(crate) const EXECUTE: u32 = 1;

/// A segment to be written into a file: type, flags, address, contents, size in memory.
pub(crate) struct Piece(pub u32, pub u32, pub u64, pub Vec<u8>, pub u64);

/// Makes an ELF file of segments.
pub(crate) fn file(entry: u64, pieces: &[Piece]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    out.extend(ET_EXEC.to_le_bytes());
    out.extend(EM_X86_64.to_le_bytes());
    out.extend(1u32.to_le_bytes());
    for word in [entry, 64, 0] {
        out.extend(word.to_le_bytes());
    }
    out.extend(0u32.to_le_bytes());
    for half in [64, 56, pieces.len() as u16, 0, 0, 0] {
        out.extend(half.to_le_bytes());
    }
    let mut offset = 64 + 56 * pieces.len() as u64;
    for Piece(kind, flags, address, contents, memory) in pieces {
        out.extend(kind.to_le_bytes());
        out.extend(flags.to_le_bytes());
        for word in [offset, *address, *address, contents.len() as u64, *memory, 4096] {
            out.extend(word.to_le_bytes());
        }
        offset += contents.len() as u64;
    }
    for Piece(.., contents, _) in pieces {
        out.extend(contents);
    }
    out
}

/// A small program: a page of text at 0x400000, data with zeros behind it at 0x402000.
pub(crate) fn good() -> Vec<u8> {
    file(
        0x40_0010,
        &[
            Piece(PT_LOAD, READ | EXECUTE, 0x40_0000, (0..100).collect(), 100),
            Piece(PT_LOAD, READ | WRITE, 0x40_2008, [9; 16].to_vec(), 0x2000),
        ],
    )
}

fn text(address: u64, memory: u64) -> Piece {
    Piece(PT_LOAD, READ | EXECUTE, address, [1; 32].to_vec(), memory)
}

#[test]
fn a_good_program_is_understood() {
    let bytes = good();
    let program = Program::parse(&bytes).unwrap();
    assert_eq!(program.entry, 0x40_0010);
    let segments: Vec<_> = program.segments().collect();
    assert_eq!(segments.len(), 2);
    assert_eq!(segments[0].contents, (0..100).collect::<Vec<u8>>());
    assert_eq!(segments[0].prot, Prot::READ_EXECUTE);
    assert_eq!((segments[1].first_page, segments[1].pages), (0x40_2000, 3));
    assert_eq!(segments[1].prot, Prot::READ_WRITE);
    assert_eq!(program.pages(), 4);
}

#[test]
fn every_truncation_is_refused() {
    let bytes = good();
    for length in 0..bytes.len() {
        assert!(Program::parse(&bytes[..length]).is_err(), "cut to {length}");
    }
}

#[test]
fn segments_must_be_where_they_may_be() {
    let entry = 0x40_0000;
    let with = |piece| file(entry, &[text(entry, 32), piece]);
    let cases: &[(&str, Vec<u8>)] = &[
        (
            "writable and executable",
            file(entry, &[Piece(PT_LOAD, READ | WRITE | EXECUTE, entry, [1; 32].to_vec(), 32)]),
        ),
        ("at null", with(text(0, 32))),
        ("below the lowest", with(text(USER_MIN - 1, 32))),
        ("beyond the program's area", with(text(PROGRAM_END - 16, 32))),
        ("in the kernel", with(text(0xffff_ffff_8000_0000, 32))),
        ("not canonical", with(text(0x0000_9000_0000_0000, 32))),
        ("wraps", with(text(u64::MAX - 16, 32))),
        ("memory size wraps", with(text(0x50_0000, u64::MAX))),
        ("file part larger than memory", with(text(0x50_0000, 16))),
        ("same page", with(text(entry + 0x800, 32))),
        ("overlap from below", with(text(entry - 0x1000, 0x1001))),
        ("covers it", with(text(entry - 0x1000, 0x4000))),
        ("interpreter", with(Piece(PT_INTERP, READ, 0x50_0000, [1; 8].to_vec(), 8))),
        ("dynamic", with(Piece(PT_DYNAMIC, READ, 0x50_0000, [1; 8].to_vec(), 8))),
        ("executable stack", with(Piece(PT_GNU_STACK, READ | WRITE | EXECUTE, 0, Vec::new(), 0))),
        ("entry outside", file(0x48_0000, &[text(entry, 32)])),
        (
            "entry in data",
            file(0x50_0000, &[text(entry, 32), Piece(PT_LOAD, READ | WRITE, 0x50_0000, [1; 8].to_vec(), 8)]),
        ),
        ("nothing to load", file(entry, &[])),
    ];
    for (what, bytes) in cases {
        assert!(Program::parse(bytes).is_err(), "{what}");
    }
    assert!(Program::parse(&with(text(entry + 0x1000, 32))).is_ok(), "neighbours may touch");
    let many: Vec<_> = (0..=SEGMENTS_MAX as u64).map(|i| text(entry + 0x1000 * i, 32)).collect();
    assert!(Program::parse(&file(entry, &many)).is_err(), "too many segments");
    assert!(Program::parse(&file(entry, &many[1..])).is_err(), "entry outside again");
    assert!(Program::parse(&file(entry, &many[..SEGMENTS_MAX])).is_ok());
}

#[test]
fn other_kinds_of_file_are_refused() {
    for (offset, value, what) in [
        (0, 0x7e, "magic"),
        (4, 1, "32 bits"),
        (5, 2, "big endian"),
        (16, 3, "shared object"),
        (18, 3, "i386"),
    ] {
        let mut bytes = good();
        bytes[offset] = value;
        assert!(Program::parse(&bytes).is_err(), "{what}");
    }
}

/// Whatever single byte of the headers is changed: no panic, and what is accepted keeps the rules.
#[test]
fn no_changed_byte_gets_round_the_rules() {
    let original = good();
    for at in 0..64 + 2 * 56 {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bytes = original.clone();
            bytes[at] = value;
            let Ok(program) = Program::parse(&bytes) else { continue };
            for segment in program.segments() {
                assert!(segment.first_page >= USER_MIN & !(PAGE_BYTES - 1) && segment.end() <= PROGRAM_END);
                assert!(!(segment.prot.write && segment.prot.execute));
                let room = segment.end() - segment.address;
                assert!(segment.contents.len() as u64 <= room);
            }
        }
    }
}
