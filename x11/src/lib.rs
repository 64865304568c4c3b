//! What `xdots` says to an X server, and how it reads the answers: the same for the one on Oriel and the one on Linux, which differ in
//! their system calls only.
//!
//! [`SETUP_REQUEST`] is answered by a head and a rest ([`Setup`]); [`Window`] makes the requests; whatever comes afterwards is a
//! [`Packet`]. [`Lattice`] says where the dots are. Everything is little-endian, as the setup asks for.
//!
//! Source: X Consortium, "X Window System Protocol", version 11, release 7.

#![cfg_attr(not(test), no_std)]

extern crate alloc;

use alloc::{string::String, vec, vec::Vec};

mod lattice;

pub use lattice::{Lattice, SPACING};

/// The port of display 0.
pub const PORT_BASE: u16 = 6000;
/// The first bytes of a connection: little-endian; protocol 11.0; neither name nor data of an authorisation.
pub const SETUP_REQUEST: [u8; 12] = [b'l', 0, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// The head of the answer has so many bytes.
pub const SETUP_HEAD_BYTES: usize = 8;
/// Everything that comes after the setup has so many bytes, and a reply may have more.
pub const PACKET_BYTES: usize = 32;
/// Orange: no colour that a screen has by itself. Sixteen bits each, as the protocol has it.
pub const COLOUR: [u16; 3] = [0xffff, 0xaaaa, 0x0000];
/// Bytes of a PolyPoint request before its points, and of each point.
const POLY_POINT_BYTES: usize = 12;
const POINT_BYTES: usize = 4;

/// Requests, by their numbers.
mod opcode {
    pub const CREATE_WINDOW: u8 = 1;
    pub const MAP_WINDOW: u8 = 8;
    pub const GET_INPUT_FOCUS: u8 = 43;
    pub const CREATE_GC: u8 = 55;
    pub const POLY_POINT: u8 = 64;
    pub const ALLOC_COLOR: u8 = 84;
    pub const SET_CLOSE_DOWN_MODE: u8 = 112;
}

/// What the server says is no X11.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Garbled;

/// What the server tells of itself at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    /// The first of the identifiers that are ours.
    resources: u32,
    root: u32,
    colours: u32,
    black: u32,
    /// The longest request, in units of four bytes.
    request_max: u16,
}

impl Setup {
    /// How many bytes follow the head.
    #[must_use]
    pub const fn rest_bytes(head: &[u8; SETUP_HEAD_BYTES]) -> usize {
        u16::from_le_bytes([head[6], head[7]]) as usize * 4
    }

    /// Why the server does not let us in, if it does not.
    #[must_use]
    pub fn refusal(head: &[u8; SETUP_HEAD_BYTES], rest: &[u8]) -> Option<String> {
        // 0 is "failed", 2 "authenticate": both with the reason in words.
        let length = match head[0] {
            1 => return None,
            0 => usize::from(head[1]),
            _ => rest.len(),
        };
        let reason = String::from_utf8_lossy(rest.get(..length).unwrap_or(rest));
        Some(reason.trim_end_matches(['\0', '\n']).into())
    }

    /// Reads the rest of a server's answer that lets us in.
    ///
    /// # Errors
    /// It ends too early.
    pub fn read(rest: &[u8]) -> Result<Self, Garbled> {
        // The vendor's name and a list of formats stand before the first screen.
        let vendor = usize::from(u16_at(rest, 16)?).next_multiple_of(4);
        let formats = usize::from(*rest.get(21).ok_or(Garbled)?) * 8;
        let screen = rest.get(32 + vendor + formats..).ok_or(Garbled)?;
        Ok(Self {
            resources: u32_at(rest, 4)?,
            root: u32_at(screen, 0)?,
            colours: u32_at(screen, 4)?,
            black: u32_at(screen, 12)?,
            request_max: u16_at(rest, 18)?,
        })
    }

    /// How many points a request can have.
    #[must_use]
    pub fn points_max(&self) -> usize {
        usize::from(self.request_max).saturating_sub(POLY_POINT_BYTES / 4).max(1)
    }

    /// Asks for the colour of the dots; [`Window::new`] takes the answer.
    #[must_use]
    pub fn ask_colour(&self) -> Vec<u8> {
        let [red, green, blue] = COLOUR;
        Request::new(opcode::ALLOC_COLOR, 0).word(self.colours).halves([red, green, blue, 0]).finish()
    }
}

/// A window with dots of one colour.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    window: u32,
    context: u32,
}

impl Window {
    /// A window in the screen's corner, above all others and without a frame, so that the dots are where they are thought to be; and the
    /// requests that make it.
    ///
    /// # Errors
    /// The answer about the colour is none.
    pub fn new(
        setup: &Setup,
        colour: &[u8; PACKET_BYTES],
        (width, height): (u16, u16),
    ) -> Result<(Self, [Vec<u8>; 3]), Garbled> {
        const INPUT_OUTPUT: u16 = 1;
        const BACK_PIXEL_AND_OVERRIDE_REDIRECT: u32 = 1 << 1 | 1 << 9;
        const FOREGROUND_AND_GRAPHICS_EXPOSURES: u32 = 1 << 2 | 1 << 16;
        let pixel = u32_at(colour, 16)?;
        let (window, context) = (setup.resources | 1, setup.resources | 2);
        // Place, size, no border; depth and visual are the root's.
        let create = Request::new(opcode::CREATE_WINDOW, 0).word(window).word(setup.root);
        let create = create.halves([0, 0, width, height, 0, INPUT_OUTPUT]).word(0);
        let create = create.word(BACK_PIXEL_AND_OVERRIDE_REDIRECT).word(setup.black).word(1);
        let map = Request::new(opcode::MAP_WINDOW, 0).word(window);
        let draw = Request::new(opcode::CREATE_GC, 0).word(context).word(window);
        let draw = draw.word(FOREGROUND_AND_GRAPHICS_EXPOSURES).word(pixel).word(0);
        Ok((Self { window, context }, [create, map, draw].map(Request::finish)))
    }

    /// A request that draws `count` dots of the lattice, from the `first` one on.
    #[must_use]
    pub fn poly_point(&self, lattice: &Lattice, first: u64, count: usize) -> Vec<u8> {
        let request = Request::new(opcode::POLY_POINT, 0).word(self.window).word(self.context);
        (0..count as u64).fold(request, |request, n| request.halves(lattice.dot(first + n))).finish()
    }

    /// How many bytes such a request has.
    #[must_use]
    pub const fn poly_point_bytes(count: usize) -> usize {
        POLY_POINT_BYTES + POINT_BYTES * count
    }
}

/// What we have made outlives the connection.
#[must_use]
pub fn keep_all() -> Vec<u8> {
    const RETAIN_PERMANENT: u8 = 1;
    Request::new(opcode::SET_CLOSE_DOWN_MODE, RETAIN_PERMANENT).finish()
}

/// A question whose answer says that all before it has been done.
#[must_use]
pub fn synchronise() -> Vec<u8> {
    Request::new(opcode::GET_INPUT_FOCUS, 0).finish()
}

/// What comes after the setup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet {
    /// The answer to the last question.
    Reply,
    /// The server could not do a request: its code, and the request's number.
    Error(u8, u8),
    /// We ask for none, but some come unasked.
    Event,
}

impl Packet {
    /// What it is, when so many requests have been sent (modulo 2^16) and the last of them is a question.
    ///
    /// # Errors
    /// An answer to something else, or longer than those that we ask for.
    pub fn read(packet: &[u8; PACKET_BYTES], sequence: u16) -> Result<Self, Garbled> {
        match packet[0] {
            0 => Ok(Self::Error(packet[1], packet[10])),
            1 if u32_at(packet, 4)? != 0 || u16_at(packet, 2)? != sequence => Err(Garbled),
            1 => Ok(Self::Reply),
            _ => Ok(Self::Event),
        }
    }
}

/// A request that is being written.
struct Request(Vec<u8>);

impl Request {
    fn new(opcode: u8, data: u8) -> Self {
        Self(vec![opcode, data, 0, 0])
    }

    fn word(mut self, word: u32) -> Self {
        self.0.extend(word.to_le_bytes());
        self
    }

    fn halves<const N: usize>(mut self, halves: [u16; N]) -> Self {
        self.0.extend(halves.into_iter().flat_map(u16::to_le_bytes));
        self
    }

    /// Its length stands in it, in units of four bytes.
    fn finish(mut self) -> Vec<u8> {
        let units = (self.0.len() / 4) as u16;
        self.0[2..4].copy_from_slice(&units.to_le_bytes());
        self.0
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, Garbled> {
    let bytes = bytes.get(at..at + 2).ok_or(Garbled)?;
    Ok(u16::from_le_bytes([bytes[0], bytes[1]]))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, Garbled> {
    let bytes = bytes.get(at..at + 4).ok_or(Garbled)?;
    Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer with a vendor of five letters, one format and one screen.
    fn rest() -> Vec<u8> {
        let mut rest = vec![0; 32 + 8 + 8 + 40];
        rest[4..8].copy_from_slice(&0x20_0000_u32.to_le_bytes());
        rest[16..18].copy_from_slice(&5_u16.to_le_bytes());
        rest[18..20].copy_from_slice(&0xffff_u16.to_le_bytes());
        rest[20..22].copy_from_slice(&[1, 1]);
        rest[48..52].copy_from_slice(&77_u32.to_le_bytes());
        rest[52..56].copy_from_slice(&88_u32.to_le_bytes());
        rest
    }

    #[test]
    fn a_setup_is_read_whole_or_not_at_all() {
        let setup = Setup::read(&rest()).unwrap();
        let expected = Setup { resources: 0x20_0000, root: 77, colours: 88, black: 0, request_max: 0xffff };
        assert_eq!(setup, expected);
        assert_eq!(setup.points_max(), 65_532);
        for length in 0..64 {
            assert_eq!(Setup::read(&rest()[..length]), Err(Garbled), "{length}");
        }
    }

    #[test]
    fn a_server_says_why_it_refuses() {
        assert_eq!(Setup::refusal(&[1, 0, 11, 0, 0, 0, 0, 0], b""), None);
        let failed = [0, 2, 11, 0, 0, 0, 1, 0];
        assert_eq!(Setup::rest_bytes(&failed), 4);
        assert_eq!(Setup::refusal(&failed, b"no\0\0").as_deref(), Some("no"));
        assert_eq!(Setup::refusal(&[0, 200, 0, 0, 0, 0, 1, 0], b"no\0\0").as_deref(), Some("no"));
        assert_eq!(Setup::refusal(&[2, 0, 0, 0, 0, 0, 1, 0], b"who\0").as_deref(), Some("who"));
    }

    #[test]
    fn requests_say_how_long_they_are() {
        let setup = Setup::read(&rest()).unwrap();
        let (window, requests) = Window::new(&setup, &[0; PACKET_BYTES], (400, 300)).unwrap();
        let dots = window.poly_point(&Lattice::new(400, 300), 0, 3);
        assert_eq!(dots.len(), Window::poly_point_bytes(3));
        let all = requests.into_iter().chain([dots, setup.ask_colour(), keep_all(), synchronise()]);
        for request in all {
            assert_eq!(usize::from(u16_at(&request, 2).unwrap()) * 4, request.len());
        }
    }

    #[test]
    fn packets_are_told_apart() {
        let mut packet = [0; PACKET_BYTES];
        (packet[1], packet[10]) = (9, 64);
        assert_eq!(Packet::read(&packet, 3), Ok(Packet::Error(9, 64)));
        packet = [0; PACKET_BYTES];
        (packet[0], packet[2]) = (1, 3);
        assert_eq!(Packet::read(&packet, 3), Ok(Packet::Reply));
        assert_eq!(Packet::read(&packet, 4), Err(Garbled));
        packet[4] = 1;
        assert_eq!(Packet::read(&packet, 3), Err(Garbled));
        packet[0] = 12;
        assert_eq!(Packet::read(&packet, 3), Ok(Packet::Event));
    }
}
