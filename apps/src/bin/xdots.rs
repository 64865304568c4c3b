//! xdots: draws dots in a window of an X server as fast as it can, and counts them as `x11perf -dot` does.
//!
//! It speaks the X11 protocol itself (X Consortium, "X Window System Protocol", version 11, release 7): connection setup, a colour, a
//! window, a graphics context, PolyPoint requests full of points, and GetInputFocus at the end, since its answer says that all before
//! has been drawn. Like x11perf it takes the time of such a question alone off the time of the run. X11 has no flow control of its own:
//! what holds the drawer back is TCP's window.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::{string::String, vec, vec::Vec};
use core::{
    fmt,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use apps::{
    During, Failed, Quotient, Usage,
    options::{Options, Word},
    timer::{Timer, Took},
};
use userlib::{
    entry::{Args, ExitStatus},
    net::TcpStream,
    print, println,
    time::Instant,
};

userlib::entry!(main);

const USAGE: &str = "[-M] [-k] [-n DOTS | -T SECONDS] [-r DOTS] [-g WIDTHxHEIGHT] HOST:DISPLAY";
const MORE: &str = "\
    -n DOTS    draws so many, a million unless given, in whole requests
    -T SECONDS draws for so long
    -r DOTS    dots in a request, as many as the server takes unless given (x11perf: 1000)
    -g WxH     the window's size, 400x300 unless given
    -k         the window stays when the program has ended
    -M         a line for machines, and marks for the instruction count";

/// How long the server may take for anything.
const PATIENCE: Duration = Duration::from_secs(60);
/// The port of display 0.
const PORT_BASE: u16 = 6000;
/// Orange: no colour that a screen has by itself. Sixteen bits each, as the protocol has it.
const COLOUR: [u16; 3] = [0xffff, 0xaaaa, 0x0000];
/// Dots lie on every second pixel of every second row, so that each can be seen and counted.
const SPACING: u16 = 2;
/// The requests are made before the clock starts; no more than so many bytes of them.
const REQUESTS_BYTES: usize = 4 << 20;
/// How often the time of a question alone is taken.
const SYNCHRONISATIONS: u32 = 8;

fn main(args: Args) -> Result<ExitStatus, Failure> {
    if apps::helped(&args, "xdots", USAGE, MORE) {
        return Ok(ExitStatus(0));
    }
    match Plan::parse(args) {
        Ok(plan) => plan.run().map(|()| ExitStatus(0)),
        Err(usage) => Ok(apps::misused("xdots", &usage, USAGE)),
    }
}

/// What the command line asks for.
struct Plan {
    server: SocketAddr,
    dots: u64,
    seconds: Option<u64>,
    in_request: Option<usize>,
    width: u16,
    height: u16,
    keep: bool,
    machine: bool,
}

impl Plan {
    fn parse(args: Args) -> Result<Self, Usage<'static>> {
        let (mut dots, mut seconds, mut in_request) = (1_000_000, None, None);
        let (mut width, mut height, mut keep, mut machine) = (400, 300, false, false);
        let mut server = None;
        for word in Options::new(args, "nTrg") {
            match word? {
                Word::Option('n', text) => dots = apps::number(text, 1..=u64::from(u32::MAX))?,
                Word::Option('T', text) => seconds = Some(apps::number(text, 1..=86_400)?),
                Word::Option('r', text) => in_request = Some(apps::number(text, 1..=65_532)? as usize),
                Word::Option('g', text) => (width, height) = geometry(text)?,
                Word::Option('k', _) => keep = true,
                Word::Option('M', _) => machine = true,
                Word::Option(option, _) => return Err(Usage::Unknown(option)),
                Word::Operand(text) if server.is_none() => server = Some(display(text)?),
                Word::Operand(text) => return Err(Usage::Extra(text)),
            }
        }
        let server = server.ok_or(Usage::Says("a display is needed, such as 10.9.0.1:60"))?;
        Ok(Self { server, dots, seconds, in_request, width, height, keep, machine })
    }

    fn run(&self) -> Result<(), Failure> {
        let mut display = Display::connect(self.server)?;
        let window = display.open_window(self)?;
        let alone = self.synchronisation_ns(&mut display)?;
        let in_request = self.in_request.unwrap_or(usize::MAX).min(display.points_max());
        let request_bytes = POLY_POINT_BYTES + 4 * in_request;
        // As many requests as it takes until each dot of the window has been in one, if they are not too many; then they come again.
        let lattice = Lattice::new(self.width, self.height);
        let most = (REQUESTS_BYTES / request_bytes).max(1) as u64;
        let different = lattice.dots().div_ceil(in_request as u64).min(most);
        let requests: Vec<Vec<u8>> =
            (0..different).map(|n| window.poly_point(&lattice, n * in_request as u64, in_request)).collect();

        let timer = Timer::start()?;
        let (mut drawn, mut calls) = (0, 0);
        let end = self.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        for request in requests.iter().cycle() {
            display.send(request)?;
            drawn += in_request as u64;
            calls += 1;
            if end.map_or(drawn >= self.dots, |end| Instant::now() >= end) {
                break;
            }
        }
        display.synchronise()?;
        let took = timer.stop()?;
        if self.keep {
            display.keep_window()?;
            display.synchronise()?;
        }
        let bytes = calls * request_bytes as u64;
        let pixels = drawn.min(lattice.dots()).min(different * in_request as u64);
        self.report(&took, alone, &Drawn { dots: drawn, calls, bytes, pixels });
        Ok(())
    }

    /// What a question takes when nothing is to be drawn before it is answered.
    fn synchronisation_ns(&self, display: &mut Display) -> Result<u64, Failure> {
        display.synchronise()?; // the first one waits for the window
        let start = Instant::now();
        for _ in 0..SYNCHRONISATIONS {
            display.synchronise()?;
        }
        Ok(start.elapsed().as_nanos() as u64 / u64::from(SYNCHRONISATIONS))
    }

    fn report(&self, took: &Took, alone: u64, drawn: &Drawn) {
        let Drawn { dots, calls, bytes, pixels } = *drawn;
        let ns = took.ns.saturating_sub(alone).max(1);
        let rate = u128::from(dots) * 1_000_000_000 / u128::from(ns);
        println!(
            "xdots: {dots} dots in {} s: {rate}/s; {calls} requests, {pixels} pixels; {} ms to synchronise",
            Quotient::new(ns.into(), 1_000_000_000),
            Quotient::new(alone.into(), 1_000_000),
        );
        if self.machine {
            print!("#xdots dots={dots} ns={ns} calls={calls} bytes={bytes} pixels={pixels} sync_ns={alone}");
            print!(" app_copies={calls} app_copied_bytes={bytes}");
            took.print_gain();
        }
    }
}

/// What went through.
struct Drawn {
    dots: u64,
    calls: u64,
    bytes: u64,
    /// Different ones.
    pixels: u64,
}

/// `400x300`. A dot's place is a number of 16 bits with a sign.
fn geometry(text: &str) -> Result<(u16, u16), Usage<'_>> {
    let side = |text: &str| text.parse::<u16>().ok().filter(|side| (SPACING..=0x7fff).contains(side));
    let sides = text.split_once('x').and_then(|(width, height)| Some((side(width)?, side(height)?)));
    sides.ok_or(Usage::BadNumber(text))
}

/// `10.9.0.1:60`, or `[fd09::1]:60`.
fn display(text: &str) -> Result<SocketAddr, Usage<'_>> {
    let (host, number) = text.rsplit_once(':').ok_or(Usage::BadAddress(text))?;
    let host: IpAddr = apps::address(host.trim_start_matches('[').trim_end_matches(']'))?;
    let number = apps::number(number, 0..=u64::from(u16::MAX - PORT_BASE))? as u16;
    Ok(SocketAddr::new(host, PORT_BASE + number))
}

/// The places of the dots in the window, in an order that jumps about.
struct Lattice {
    columns: u64,
    rows: u64,
    /// Prime to the number of dots, so that all have their turn.
    stride: u64,
}

impl Lattice {
    fn new(width: u16, height: u16) -> Self {
        let (columns, rows) = (u64::from(width / SPACING), u64::from(height / SPACING));
        let mut stride = columns * rows * 5 / 8 + 1;
        while gcd(stride, columns * rows) != 1 {
            stride += 1;
        }
        Self { columns, rows, stride }
    }

    const fn dots(&self) -> u64 {
        self.columns * self.rows
    }

    const fn dot(&self, n: u64) -> [u16; 2] {
        let place = n % self.dots() * self.stride % self.dots();
        [(place % self.columns) as u16 * SPACING, (place / self.columns) as u16 * SPACING]
    }
}

const fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

// ------------------------------------------------------------------------------------------------- the protocol

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

/// Bytes of a PolyPoint request before its points.
const POLY_POINT_BYTES: usize = 12;
/// Everything that comes after the setup has so many bytes, and a reply may have more.
const PACKET_BYTES: usize = 32;

/// Why it went wrong.
enum Failure {
    /// On this side, or on the way.
    Failed(Failed),
    /// The server does not let us in.
    Refused(String),
    /// The server could not do a request: its code, and the request's number.
    Error(u8, u8),
    /// The server says what is not X11.
    Garbled,
}

impl From<Failed> for Failure {
    fn from(failed: Failed) -> Self {
        Self::Failed(failed)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(failed) => failed.fmt(f),
            Self::Refused(reason) => write!(f, "the server refuses: {reason}"),
            Self::Error(code, request) => write!(f, "the server reports error {code} of request {request}"),
            Self::Garbled => f.write_str("the answer is not X11"),
        }
    }
}

/// A connection to an X server.
struct Display {
    stream: TcpStream,
    /// The first of the identifiers that are ours.
    resources: u32,
    root: u32,
    colours: u32,
    black: u32,
    /// The longest request, in units of four bytes.
    request_max: u16,
    /// Requests sent.
    sequence: u16,
}

/// A window with dots of one colour.
struct Window {
    window: u32,
    context: u32,
}

impl Display {
    fn connect(server: SocketAddr) -> Result<Self, Failure> {
        let mut stream = TcpStream::connect_timeout(server, PATIENCE).during("connect")?;
        stream.set_read_timeout(Some(PATIENCE));
        stream.set_write_timeout(Some(PATIENCE));
        stream.set_nodelay(true);
        // Little-endian; protocol 11.0; neither name nor data of an authorisation.
        stream.write_all(&[b'l', 0, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0]).during("setup")?;
        let mut head = [0; 8];
        stream.read_exact(&mut head).during("setup")?;
        let mut rest = vec![0; usize::from(u16_at(&head, 6)?) * 4];
        stream.read_exact(&mut rest).during("setup")?;
        if head[0] != 1 {
            // 0 is "failed", 2 "authenticate": both with the reason in words.
            let length = if head[0] == 0 { usize::from(head[1]) } else { rest.len() };
            let reason = String::from_utf8_lossy(rest.get(..length).unwrap_or(&rest));
            return Err(Failure::Refused(reason.trim_end_matches(['\0', '\n']).into()));
        }
        // The vendor's name and a list of formats stand before the first screen.
        let vendor = usize::from(u16_at(&rest, 16)?).next_multiple_of(4);
        let formats = usize::from(*rest.get(21).ok_or(Failure::Garbled)?) * 8;
        let screen = rest.get(32 + vendor + formats..).ok_or(Failure::Garbled)?;
        Ok(Self {
            stream,
            resources: u32_at(&rest, 4)?,
            root: u32_at(screen, 0)?,
            colours: u32_at(screen, 4)?,
            black: u32_at(screen, 12)?,
            request_max: u16_at(&rest, 18)?,
            sequence: 0,
        })
    }

    /// How many points a request can have.
    fn points_max(&self) -> usize {
        usize::from(self.request_max).saturating_sub(POLY_POINT_BYTES / 4).max(1)
    }

    /// A window in the screen's corner, above all others and without a frame, so that the dots are where they are thought to be.
    fn open_window(&mut self, plan: &Plan) -> Result<Window, Failure> {
        let [red, green, blue] = COLOUR;
        let colour = Request::new(opcode::ALLOC_COLOR, 0).word(self.colours).halves([red, green, blue, 0]);
        self.send(&colour.finish())?;
        let pixel = u32_at(&self.reply()?, 16)?;
        let (window, context) = (self.resources | 1, self.resources | 2);
        const INPUT_OUTPUT: u16 = 1;
        const BACK_PIXEL_AND_OVERRIDE_REDIRECT: u32 = 1 << 1 | 1 << 9;
        const FOREGROUND_AND_GRAPHICS_EXPOSURES: u32 = 1 << 2 | 1 << 16;
        // Place, size, no border; depth and visual are the root's.
        let create = Request::new(opcode::CREATE_WINDOW, 0).word(window).word(self.root);
        let create = create.halves([0, 0, plan.width, plan.height, 0, INPUT_OUTPUT]).word(0);
        self.send(&create.word(BACK_PIXEL_AND_OVERRIDE_REDIRECT).word(self.black).word(1).finish())?;
        self.send(&Request::new(opcode::MAP_WINDOW, 0).word(window).finish())?;
        let create = Request::new(opcode::CREATE_GC, 0).word(context).word(window);
        self.send(&create.word(FOREGROUND_AND_GRAPHICS_EXPOSURES).word(pixel).word(0).finish())?;
        Ok(Window { window, context })
    }

    /// What we have made outlives the connection.
    fn keep_window(&mut self) -> Result<(), Failure> {
        const RETAIN_PERMANENT: u8 = 1;
        self.send(&Request::new(opcode::SET_CLOSE_DOWN_MODE, RETAIN_PERMANENT).finish())
    }

    /// Waits until the server has done all requests.
    fn synchronise(&mut self) -> Result<(), Failure> {
        self.send(&Request::new(opcode::GET_INPUT_FOCUS, 0).finish())?;
        self.reply().map(drop)
    }

    #[inline]
    fn send(&mut self, request: &[u8]) -> Result<(), Failure> {
        self.sequence = self.sequence.wrapping_add(1);
        Ok(self.stream.write_all(request).during("send")?)
    }

    /// The reply to the request that was sent last. Events are passed over; we ask for none, but some come unasked.
    fn reply(&mut self) -> Result<[u8; PACKET_BYTES], Failure> {
        loop {
            let mut packet = [0; PACKET_BYTES];
            self.stream.read_exact(&mut packet).during("reply")?;
            match packet[0] {
                0 => return Err(Failure::Error(packet[1], packet[10])),
                // The replies that we ask for have no more bytes.
                1 if u32_at(&packet, 4)? != 0 || u16_at(&packet, 2)? != self.sequence => {
                    return Err(Failure::Garbled);
                }
                1 => return Ok(packet),
                _ => {}
            }
        }
    }
}

impl Window {
    /// A request that draws `count` dots of the lattice, from the `first` one on.
    fn poly_point(&self, lattice: &Lattice, first: u64, count: usize) -> Vec<u8> {
        let request = Request::new(opcode::POLY_POINT, 0).word(self.window).word(self.context);
        (0..count as u64).fold(request, |request, n| request.halves(lattice.dot(first + n))).finish()
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

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, Failure> {
    let bytes = bytes.get(at..at + 2).ok_or(Failure::Garbled)?;
    Ok(u16::from_le_bytes([bytes[0], bytes[1]]))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, Failure> {
    let bytes = bytes.get(at..at + 4).ok_or(Failure::Garbled)?;
    Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}
