//! xdots: draws dots in a window of an X server as fast as it can, as `x11perf -dot` does; the namesake of `apps/src/bin/xdots.rs`.
//!
//! The requests are the same, in the same order: both have them from [`x11`].

use std::error::Error;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use x11::{
    Garbled, Lattice, PACKET_BYTES, PORT_BASE, Packet, SETUP_HEAD_BYTES, SETUP_REQUEST, Setup, Window,
};

use crate::command::{During as _, Outcome, Word, Words, number, parse, unknown};
use crate::timer::Timer;

const PATIENCE: Duration = Duration::from_secs(60);
/// The window.
const SIZE: (u16, u16) = (400, 300);
/// How often the time of a question alone is taken.
const SYNCHRONISATIONS: u32 = 8;

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
    let window = display.open_window()?;
    let alone = display.synchronisation_ns()?;

    let lattice = Lattice::new(SIZE.0, SIZE.1);
    let different = lattice.dots().div_ceil(in_request);
    let requests: Vec<Vec<u8>> =
        (0..different).map(|n| window.poly_point(&lattice, n * in_request, in_request as usize)).collect();

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
        display.send(&x11::keep_all())?;
        display.synchronise()?;
    }
    let ns = took.ns.saturating_sub(alone).max(1);
    println!("xdots: {dots} dots in {:.2} s", ns as f64 / 1e9);
    if machine {
        let (bytes, pixels) = (calls * requests[0].len() as u64, dots.min(lattice.dots()));
        print!("#xdots dots={dots} ns={ns} calls={calls} bytes={bytes} pixels={pixels} sync_ns={alone}");
        print!(" syscalls={} app_copies={calls} app_copied_bytes={bytes}", calls + 2);
        took.print_gain();
    }
    Ok(())
}

/// A connection to an X server.
struct Display {
    stream: TcpStream,
    setup: Setup,
    /// Requests sent.
    sequence: u16,
}

impl Display {
    fn connect(server: SocketAddrV4) -> Result<Self, Box<dyn Error>> {
        let mut stream = TcpStream::connect_timeout(&server.into(), PATIENCE).during("connect")?;
        stream.set_read_timeout(Some(PATIENCE)).during("socket")?;
        stream.set_write_timeout(Some(PATIENCE)).during("socket")?;
        stream.set_nodelay(true).during("socket")?;
        stream.write_all(&SETUP_REQUEST).during("setup")?;
        let mut head = [0; SETUP_HEAD_BYTES];
        stream.read_exact(&mut head).during("setup")?;
        let mut rest = vec![0; Setup::rest_bytes(&head)];
        stream.read_exact(&mut rest).during("setup")?;
        match Setup::refusal(&head, &rest) {
            Some(reason) => Err(format!("the server refuses: {reason}").into()),
            None => Ok(Self { stream, setup: Setup::read(&rest).map_err(garbled)?, sequence: 0 }),
        }
    }

    fn open_window(&mut self) -> Result<Window, Box<dyn Error>> {
        self.send(&self.setup.ask_colour())?;
        let colour = self.reply()?;
        let (window, requests) = Window::new(&self.setup, &colour, SIZE).map_err(garbled)?;
        requests.iter().try_for_each(|request| self.send(request))?;
        Ok(window)
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
        self.send(&x11::synchronise())?;
        self.reply().map(drop)
    }

    #[inline]
    fn send(&mut self, request: &[u8]) -> Outcome {
        self.sequence = self.sequence.wrapping_add(1);
        self.stream.write_all(request).during("send")
    }

    /// The reply to the request that was sent last.
    fn reply(&mut self) -> Result<[u8; PACKET_BYTES], Box<dyn Error>> {
        loop {
            let mut packet = [0; PACKET_BYTES];
            self.stream.read_exact(&mut packet).during("reply")?;
            match Packet::read(&packet, self.sequence).map_err(garbled)? {
                Packet::Reply => return Ok(packet),
                Packet::Error(code, request) => {
                    return Err(format!("the server reports error {code} of request {request}").into());
                }
                Packet::Event => {}
            }
        }
    }
}

fn garbled(_: Garbled) -> Box<dyn Error> {
    "the answer is not X11".into()
}
