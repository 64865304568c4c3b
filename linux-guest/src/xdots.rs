//! xdots: draws dots in a window of an X server as fast as it can, as `x11perf -dot` does; the namesake of `apps/src/bin/xdots.rs`.
//!
//! It speaks the X11 protocol itself ("X Window System Protocol", version 11), with the same requests in the same order.

use std::error::Error;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use crate::command::{During as _, Outcome, Word, Words, number, parse, unknown};
use crate::timer::Timer;

const PATIENCE: Duration = Duration::from_secs(60);
/// The port of display 0.
const PORT_BASE: u16 = 6000;
/// Orange: no colour that a screen has by itself.
const COLOUR: [u16; 3] = [0xffff, 0xaaaa, 0x0000];
/// The window, and the distance of the dots in it.
const SIZE: (u16, u16) = (400, 300);
const SPACING: u16 = 2;
/// How often the time of a question alone is taken.
const SYNCHRONISATIONS: u32 = 8;

mod opcode {
    pub const CREATE_WINDOW: u8 = 1;
    pub const MAP_WINDOW: u8 = 8;
    pub const GET_INPUT_FOCUS: u8 = 43;
    pub const CREATE_GC: u8 = 55;
    pub const POLY_POINT: u8 = 64;
    pub const ALLOC_COLOR: u8 = 84;
    pub const SET_CLOSE_DOWN_MODE: u8 = 112;
}

/// `xdots [-M] [-k] [-T SECONDS] [-r DOTS] HOST:DISPLAY`.
///
/// # Errors
/// A wrong command line, what the network did, or what the server did not like.
pub fn main(words: Words) -> Outcome {
    let (mut seconds, mut in_request, mut keep, mut machine, mut server) = (1, 1000, false, false, None);
    for word in parse(words, "Tr")? {
        match word {
            Word::Option('T', text) => seconds = number(&text, 1..=86_400)?,
            Word::Option('r', text) => in_request = number(&text, 1..=16_000)?,
            Word::Option('k', _) => keep = true,
            Word::Option('M', _) => machine = true,
            Word::Operand(text) if server.is_none() => server = Some(text),
            word => return Err(unknown(&word)),
        }
    }
    let server = server.ok_or("a display is needed, such as 10.9.0.1:60")?;
    let (host, display) = server.split_once(':').ok_or("a display is HOST:NUMBER")?;
    let port = PORT_BASE + number(display, 0..=1000)? as u16;
    let mut display = Display::connect(SocketAddrV4::new(host.parse().during("the host's address")?, port))?;
    let (window, context) = display.open_window()?;
    let alone = display.synchronisation_ns()?;

    let places = u64::from(SIZE.0 / SPACING) * u64::from(SIZE.1 / SPACING);
    let different = places.div_ceil(in_request);
    let request = |n: u64| {
        let request = Request::new(opcode::POLY_POINT, 0).word(window).word(context);
        (0..in_request)
            .fold(request, |request, dot| request.halves(place(n * in_request + dot, places)))
            .finish()
    };
    let requests: Vec<Vec<u8>> = (0..different).map(request).collect();

    let timer = Timer::start();
    let (mut dots, mut calls) = (0, 0);
    let end = Instant::now() + Duration::from_secs(seconds);
    for request in requests.iter().cycle() {
        display.send(request)?;
        dots += in_request;
        calls += 1;
        if Instant::now() >= end {
            break;
        }
    }
    display.synchronise()?;
    let took = timer.stop();
    if keep {
        const RETAIN_PERMANENT: u8 = 1;
        display.send(&Request::new(opcode::SET_CLOSE_DOWN_MODE, RETAIN_PERMANENT).finish())?;
        display.synchronise()?;
    }
    let ns = took.ns.saturating_sub(alone).max(1);
    println!("xdots: {dots} dots in {:.2} s", ns as f64 / 1e9);
    if machine {
        let (bytes, pixels) = (calls * requests[0].len() as u64, dots.min(places));
        print!("#xdots dots={dots} ns={ns} calls={calls} bytes={bytes} pixels={pixels} sync_ns={alone}");
        print!(" syscalls={} app_copies={calls} app_copied_bytes={bytes}", calls + 2);
        took.print_gain();
    }
    Ok(())
}

/// The dots in an order that jumps about, as a stride does that is prime to their number.
fn place(n: u64, places: u64) -> [u16; 2] {
    const STRIDE: u64 = 18_751;
    let at = n % places * STRIDE % places;
    let columns = u64::from(SIZE.0 / SPACING);
    [(at % columns) as u16 * SPACING, (at / columns) as u16 * SPACING]
}

/// A connection to an X server.
struct Display {
    stream: TcpStream,
    /// The first of the identifiers that are ours.
    resources: u32,
    root: u32,
    colours: u32,
    black: u32,
}

impl Display {
    fn connect(server: SocketAddrV4) -> Result<Self, Box<dyn Error>> {
        let mut stream = TcpStream::connect_timeout(&server.into(), PATIENCE).during("connect")?;
        stream.set_read_timeout(Some(PATIENCE)).during("socket")?;
        stream.set_write_timeout(Some(PATIENCE)).during("socket")?;
        stream.set_nodelay(true).during("socket")?;
        // Little-endian; protocol 11.0; neither name nor data of an authorisation.
        stream.write_all(&[b'l', 0, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0]).during("setup")?;
        let mut head = [0; 8];
        stream.read_exact(&mut head).during("setup")?;
        let mut rest = vec![0; usize::from(u16::from_le_bytes([head[6], head[7]])) * 4];
        stream.read_exact(&mut rest).during("setup")?;
        if head[0] != 1 {
            return Err(format!("the server refuses: {}", String::from_utf8_lossy(&rest).trim_end()).into());
        }
        // The vendor's name and a list of formats stand before the first screen.
        let vendor = (word_at(&rest, 16)? & 0xffff).next_multiple_of(4) as usize;
        let formats = rest.get(21).copied().map_or(0, usize::from) * 8;
        let screen = 32 + vendor + formats;
        Ok(Self {
            stream,
            resources: word_at(&rest, 4)?,
            root: word_at(&rest, screen)?,
            colours: word_at(&rest, screen + 4)?,
            black: word_at(&rest, screen + 12)?,
        })
    }

    /// A window in the screen's corner, above all others and without a frame, and a graphics context.
    fn open_window(&mut self) -> Result<(u32, u32), Box<dyn Error>> {
        const INPUT_OUTPUT: u16 = 1;
        const BACK_PIXEL_AND_OVERRIDE_REDIRECT: u32 = 1 << 1 | 1 << 9;
        const FOREGROUND_AND_GRAPHICS_EXPOSURES: u32 = 1 << 2 | 1 << 16;
        let [red, green, blue] = COLOUR;
        let colour = Request::new(opcode::ALLOC_COLOR, 0).word(self.colours).halves([red, green, blue, 0]);
        self.send(&colour.finish())?;
        let pixel = word_at(&self.reply()?, 16)?;
        let (window, context) = (self.resources | 1, self.resources | 2);
        let create = Request::new(opcode::CREATE_WINDOW, 0).word(window).word(self.root);
        let create = create.halves([0, 0, SIZE.0, SIZE.1, 0, INPUT_OUTPUT]).word(0);
        self.send(&create.word(BACK_PIXEL_AND_OVERRIDE_REDIRECT).word(self.black).word(1).finish())?;
        self.send(&Request::new(opcode::MAP_WINDOW, 0).word(window).finish())?;
        let create = Request::new(opcode::CREATE_GC, 0).word(context).word(window);
        self.send(&create.word(FOREGROUND_AND_GRAPHICS_EXPOSURES).word(pixel).word(0).finish())?;
        Ok((window, context))
    }

    /// What a question takes when nothing is to be drawn before it is answered.
    fn synchronisation_ns(&mut self) -> Result<u128, Box<dyn Error>> {
        self.synchronise()?; // the first one waits for the window
        let start = Instant::now();
        for _ in 0..SYNCHRONISATIONS {
            self.synchronise()?;
        }
        Ok(start.elapsed().as_nanos() / u128::from(SYNCHRONISATIONS))
    }

    /// Waits until the server has done all requests.
    fn synchronise(&mut self) -> Outcome {
        self.send(&Request::new(opcode::GET_INPUT_FOCUS, 0).finish())?;
        self.reply().map(drop)
    }

    #[inline]
    fn send(&mut self, request: &[u8]) -> Outcome {
        self.stream.write_all(request).during("send")
    }

    /// The next reply. Events are passed over; we ask for none, but some come unasked.
    fn reply(&mut self) -> Result<[u8; 32], Box<dyn Error>> {
        loop {
            let mut packet = [0; 32];
            self.stream.read_exact(&mut packet).during("reply")?;
            match packet[0] {
                0 => {
                    return Err(
                        format!("the server reports error {} of request {}", packet[1], packet[10]).into()
                    );
                }
                1 => return Ok(packet),
                _ => {}
            }
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

fn word_at(bytes: &[u8], at: usize) -> Result<u32, Box<dyn Error>> {
    let bytes = bytes.get(at..at + 4).ok_or("the answer is not X11")?;
    Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_place_has_its_turn() {
        let places = 200 * 150;
        let all: HashSet<[u16; 2]> = (0..places).map(|n| place(n, places)).collect();
        assert_eq!(all.len(), 30_000);
        assert!(all.iter().all(|[x, y]| *x < SIZE.0 && *y < SIZE.1));
    }

    #[test]
    fn requests_say_how_long_they_are() {
        let request = Request::new(opcode::POLY_POINT, 0).word(1).word(2).halves([3, 4]).finish();
        assert_eq!(request[..4], [64, 0, 4, 0]);
    }
}
