//! xdots: draws dots in a window of an X server as fast as it can, and counts them as `x11perf -dot` does.
//!
//! It speaks the X11 protocol itself ([`x11`]): connection setup, a colour, a window, a graphics context, PolyPoint requests full of points,
//! and GetInputFocus at the end, since its answer says that all before has been drawn. Like x11perf it takes the time of such a question
//! alone off the time of the run. X11 has no flow control of its own: what holds the drawer back is TCP's window.
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
use x11::{
    Garbled, Lattice, PACKET_BYTES, PORT_BASE, Packet, SETUP_HEAD_BYTES, SETUP_REQUEST, SPACING, Setup,
    Window,
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
        let in_request = self.in_request.unwrap_or(usize::MAX).min(display.setup.points_max());
        let request_bytes = Window::poly_point_bytes(in_request);
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
            display.send(&x11::keep_all())?;
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

impl From<Garbled> for Failure {
    fn from(_: Garbled) -> Self {
        Self::Garbled
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
    setup: Setup,
    /// Requests sent.
    sequence: u16,
}

impl Display {
    fn connect(server: SocketAddr) -> Result<Self, Failure> {
        let mut stream = apps::connect(server, PATIENCE).during("connect")?;
        stream.set_nodelay(true);
        stream.write_all(&SETUP_REQUEST).during("setup")?;
        let mut head = [0; SETUP_HEAD_BYTES];
        stream.read_exact(&mut head).during("setup")?;
        let mut rest = vec![0; Setup::rest_bytes(&head)];
        stream.read_exact(&mut rest).during("setup")?;
        match Setup::refusal(&head, &rest) {
            Some(reason) => Err(Failure::Refused(reason)),
            None => Ok(Self { stream, setup: Setup::read(&rest)?, sequence: 0 }),
        }
    }

    fn open_window(&mut self, plan: &Plan) -> Result<Window, Failure> {
        self.send(&self.setup.ask_colour())?;
        let colour = self.reply()?;
        let (window, requests) = Window::new(&self.setup, &colour, (plan.width, plan.height))?;
        requests.iter().try_for_each(|request| self.send(request))?;
        Ok(window)
    }

    /// Waits until the server has done all requests.
    fn synchronise(&mut self) -> Result<(), Failure> {
        self.send(&x11::synchronise())?;
        self.reply().map(drop)
    }

    #[inline]
    fn send(&mut self, request: &[u8]) -> Result<(), Failure> {
        self.sequence = self.sequence.wrapping_add(1);
        Ok(self.stream.write_all(request).during("send")?)
    }

    /// The reply to the request that was sent last.
    fn reply(&mut self) -> Result<[u8; PACKET_BYTES], Failure> {
        loop {
            let mut packet = [0; PACKET_BYTES];
            self.stream.read_exact(&mut packet).during("reply")?;
            match Packet::read(&packet, self.sequence)? {
                Packet::Reply => return Ok(packet),
                Packet::Error(code, request) => return Err(Failure::Error(code, request)),
                Packet::Event => {}
            }
        }
    }
}
