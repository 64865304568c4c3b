//! ftp: fetches a file from an FTP server (RFC 959), or stores one there, and times it.
//!
//! There are no files here: what is fetched is counted and summed up, what is stored is the pattern of the `pattern` crate. Data
//! connections are made from this side only: by EPSV (RFC 2428), or by PASV where the server doesn't know that, to the server's address
//! as we know it; the one in the answer to PASV may be that of the far side of a translator, or of somebody else (RFC 2577).
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
use pattern::{Digest, MAX_CHUNK, Source};
use userlib::{
    entry::{Args, ExitStatus},
    net::{Shutdown, TcpStream},
    print, println,
};

userlib::entry!(main);

const USAGE: &str = "[-M] [-v] [-P] [-l LENGTH] get HOST PORT USER PASSWORD FILE
       ftp [-M] [-v] [-P] [-l LENGTH] put HOST PORT USER PASSWORD FILE BYTES";
const MORE: &str = "\
get counts and sums up what comes, put stores so many bytes of the pattern.
    -l LENGTH  bytes in each read and write of data, 8192 unless given
    -M         a line for machines, and marks for the instruction count
    -P         data connections by PASV alone
    -v         shows the conversation";

/// How long the server may take to answer, or to take or send the next bytes.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest line of a reply, and the most lines of one.
const LINE_MAX: usize = 1024;
const LINES_MAX: usize = 200;

fn main(args: Args) -> Result<ExitStatus, Failure> {
    if apps::helped(&args, "ftp", USAGE, MORE) {
        return Ok(ExitStatus(0));
    }
    match Plan::parse(args) {
        Ok(plan) => plan.run().map(|()| ExitStatus(0)),
        Err(usage) => Ok(apps::misused("ftp", &usage, USAGE)),
    }
}

/// What the command line asks for.
struct Plan {
    server: SocketAddr,
    user: &'static str,
    password: &'static str,
    file: &'static str,
    /// So many bytes to store; or else fetch.
    store: Option<u64>,
    length: usize,
    machine: bool,
    verbose: bool,
    pasv: bool,
}

impl Plan {
    fn parse(args: Args) -> Result<Self, Usage<'static>> {
        let (mut length, mut machine, mut verbose, mut pasv) = (8192, false, false, false);
        let mut operands = Vec::new();
        for word in Options::new(args, "l") {
            match word? {
                Word::Option('l', text) => length = apps::number(text, 1..=MAX_CHUNK as u64)? as usize,
                Word::Option('M', _) => machine = true,
                Word::Option('v', _) => verbose = true,
                Word::Option('P', _) => pasv = true,
                Word::Option(option, _) => return Err(Usage::Unknown(option)),
                Word::Operand(text) => operands.push(text),
            }
        }
        let (host, port, user, password, file, store) = match operands[..] {
            ["get", host, port, user, password, file] => (host, port, user, password, file, None),
            ["put", host, port, user, password, file, bytes] => {
                (host, port, user, password, file, Some(apps::number(bytes, 1..=u64::MAX)?))
            }
            ["get" | "put", ..] => return Err(Usage::Says("the number of arguments is wrong")),
            [other, ..] => return Err(Usage::Extra(other)),
            [] => return Err(Usage::Says("get or put?")),
        };
        let server = SocketAddr::new(apps::address(host)?, apps::number(port, 1..=65_535)? as u16);
        Ok(Self { server, user, password, file, store, length, machine, verbose, pasv })
    }

    fn run(&self) -> Result<(), Failure> {
        let mut control = Control::connect(self.server, self.verbose)?;
        control.log_in(self.user, self.password)?;
        control.command("type", &["TYPE I"])?.success("type")?;
        let (took, moved) = match self.store {
            None => self.fetch(&mut control)?,
            Some(bytes) => self.store(&mut control, bytes)?,
        };
        // The transfer is over; that the server says good-bye is no part of it.
        let _ = control.command("quit", &["QUIT"]);
        self.report(&took, &moved);
        Ok(())
    }

    fn fetch(&self, control: &mut Control) -> Result<(Took, Moved), Failure> {
        // RFC 3659; a server may not know it, or not say it of this file, and RETR tells what is wrong.
        let size = control.command("size", &["SIZE ", self.file])?;
        let size = if size.code == 213 { size.text.trim().parse::<u64>().ok() } else { None };
        let mut data = control.data(self.pasv)?;
        let mut buffer = vec![0; self.length];
        let (mut digest, mut bytes, mut calls) = (Digest::new(), 0, 0);
        let timer = Timer::start()?;
        control.command("get", &["RETR ", self.file])?.preliminary("get")?;
        let received = loop {
            match data.read(&mut buffer).during("data") {
                Ok(0) => break Ok(()),
                Ok(read) => {
                    digest.update(&buffer[..read]);
                    bytes += read as u64;
                    calls += 1;
                }
                Err(failed) => break Err(failed),
            }
        };
        let took = timer.stop()?;
        drop(data);
        // Where the server broke off, it says why.
        control.reply("get")?.success("get")?;
        received?;
        if let Some(size) = size
            && size != bytes
        {
            return Err(Failure::Short { size, bytes });
        }
        let digest = digest.finish();
        Ok((took, Moved { bytes, calls, digest, verified: digest == Digest::of_pattern(bytes) }))
    }

    fn store(&self, control: &mut Control, bytes: u64) -> Result<(Took, Moved), Failure> {
        let mut data = control.data(self.pasv)?;
        let (mut source, mut calls) = (Source::new(), 0);
        let timer = Timer::start()?;
        control.command("put", &["STOR ", self.file])?.preliminary("put")?;
        let sent = self.send(&mut data, &mut source, &mut calls, bytes);
        let took = timer.stop()?;
        drop(data);
        control.reply("put")?.success("put")?;
        sent?;
        // The digest is that of the pattern; what became of it only the server knows.
        Ok((took, Moved { bytes, calls, digest: Digest::of_pattern(bytes), verified: true }))
    }

    fn send(
        &self,
        data: &mut TcpStream,
        source: &mut Source,
        calls: &mut u64,
        bytes: u64,
    ) -> Result<(), Failed> {
        while source.position() < bytes {
            let piece = (bytes - source.position()).min(self.length as u64) as usize;
            data.write_all(source.peek(piece)).during("data")?;
            source.advance(piece);
            *calls += 1;
        }
        data.shutdown(Shutdown::Write).during("data")?;
        data.drain().during("data")
    }

    fn report(&self, took: &Took, moved: &Moved) {
        let Moved { bytes, calls, digest, verified } = *moved;
        let ns = u128::from(took.ns);
        println!(
            "ftp: {}: {bytes} bytes in {} seconds, {} MB/s; digest {digest:#018x}{}",
            self.file,
            Quotient::new(ns, 1_000_000_000),
            Quotient::new(u128::from(bytes) * 1000, ns),
            if verified { ", the pattern" } else { "" }
        );
        if self.machine {
            let verified = u8::from(verified);
            print!("#ftp bytes={bytes} ns={ns} calls={calls} digest={digest:#018x} verified={verified}");
            print!(" app_copies={calls} app_copied_bytes={bytes}");
            took.print_gain();
        }
    }
}

/// What went through.
struct Moved {
    bytes: u64,
    calls: u64,
    digest: u64,
    verified: bool,
}

/// Why it went wrong.
enum Failure {
    /// On this side, or on the way.
    Failed(Failed),
    /// The server's own words.
    Refused(&'static str, Reply),
    /// The server says what is no FTP.
    Garbled(&'static str),
    /// Less, or more, came than the server had said.
    Short { size: u64, bytes: u64 },
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
            Self::Refused(what, reply) => write!(f, "{what}: the server says: {} {}", reply.code, reply.text),
            Self::Garbled(what) => write!(f, "{what}: the answer is no FTP"),
            Self::Short { size, bytes } => write!(f, "get: {bytes} bytes came of a file of {size}"),
        }
    }
}

/// A reply (RFC 959, section 4.2): its code, and the text of its last line.
struct Reply {
    code: u16,
    text: String,
}

impl Reply {
    /// It has been done (2yz).
    fn success(self, what: &'static str) -> Result<Self, Failure> {
        if self.code / 100 == 2 { Ok(self) } else { Err(Failure::Refused(what, self)) }
    }

    /// It has begun (1yz): the data connection carries the rest.
    fn preliminary(self, what: &'static str) -> Result<Self, Failure> {
        if self.code / 100 == 1 { Ok(self) } else { Err(Failure::Refused(what, self)) }
    }
}

/// The control connection.
struct Control {
    stream: TcpStream,
    /// Read, and not yet taken as lines.
    read: Vec<u8>,
    verbose: bool,
}

impl Control {
    /// Connects, and hears the greeting.
    fn connect(server: SocketAddr, verbose: bool) -> Result<Self, Failure> {
        let mut stream = apps::connect(server, PATIENCE).during("connect")?;
        stream.set_nodelay(true);
        let mut control = Self { stream, read: Vec::new(), verbose };
        let mut greeting = control.reply("connect")?;
        if greeting.code == 120 {
            greeting = control.reply("connect")?; // "ready in so many minutes"
        }
        greeting.success("connect")?;
        Ok(control)
    }

    fn log_in(&mut self, user: &str, password: &str) -> Result<(), Failure> {
        let reply = self.command("login", &["USER ", user])?;
        let reply = if reply.code == 331 { self.command("login", &["PASS ", password])? } else { reply };
        reply.success("login").map(drop)
    }

    /// Sends a command, and hears the reply.
    fn command(&mut self, what: &'static str, words: &[&str]) -> Result<Reply, Failure> {
        let mut line = words.concat();
        if self.verbose {
            println!("ftp> {}", if line.starts_with("PASS") { "PASS" } else { &line });
        }
        line.push_str("\r\n");
        self.stream.write_all(line.as_bytes()).during(what)?;
        self.reply(what)
    }

    /// Hears a reply: one line, or all lines up to one that begins with the same code and a space.
    fn reply(&mut self, what: &'static str) -> Result<Reply, Failure> {
        let first = self.line(what)?;
        let code = code_of(&first).ok_or(Failure::Garbled(what))?;
        let mut last = first;
        for _ in 0..LINES_MAX {
            if code_of(&last) == Some(code) && last.as_bytes().get(3) != Some(&b'-') {
                return Ok(Reply { code, text: last.get(4..).unwrap_or("").into() });
            }
            last = self.line(what)?;
        }
        Err(Failure::Garbled(what))
    }

    fn line(&mut self, what: &'static str) -> Result<String, Failure> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                let line = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
                if self.verbose {
                    println!("ftp< {line}");
                }
                return Ok(line);
            }
            if self.read.len() > LINE_MAX {
                return Err(Failure::Garbled(what));
            }
            let mut buffer = [0; 256];
            match self.stream.read(&mut buffer).during(what)? {
                0 => return Err(Failed(what, userlib::Error::ConnectionAborted).into()),
                read => self.read.extend(&buffer[..read]),
            }
        }
    }

    /// Makes a data connection.
    fn data(&mut self, pasv: bool) -> Result<TcpStream, Failure> {
        let what = "data connection";
        let peer = self.stream.peer_addr().ip();
        let mut reply = None;
        if !pasv {
            let answer = self.command(what, &["EPSV"])?;
            // Not known, not known with this, or not for this family of addresses: then the older command, which has only IPv4.
            let unknown = matches!(answer.code, 500..=502 | 504 | 522);
            if !unknown || matches!(peer, IpAddr::V6(_)) {
                reply = Some(answer.success(what)?);
            }
        }
        let port = match reply {
            Some(reply) => extended_port(&reply.text),
            None => passive_port(&self.command(what, &["PASV"])?.success(what)?.text),
        };
        let port = port.ok_or(Failure::Garbled(what))?;
        Ok(apps::connect(SocketAddr::new(peer, port), PATIENCE).during(what)?)
    }
}

/// The code at the front of a line.
fn code_of(line: &str) -> Option<u16> {
    line.get(..3)?.parse().ok().filter(|code| (100..600).contains(code))
}

/// `Entering Extended Passive Mode (|||6446|)` (RFC 2428): any character may stand for the bar.
fn extended_port(text: &str) -> Option<u16> {
    let inside = text.split_once('(')?.1.split_once(')')?.0;
    let bar = inside.chars().next()?;
    let port =
        inside.strip_prefix([bar].as_slice())?.strip_prefix(bar)?.strip_prefix(bar)?.strip_suffix(bar)?;
    port.parse().ok().filter(|port| *port != 0)
}

/// `Entering Passive Mode (h1,h2,h3,h4,p1,p2)`: with or without parentheses (RFC 1123, section 4.1.2.6), so the digits are looked for.
fn passive_port(text: &str) -> Option<u16> {
    let start = text.find(|c: char| c.is_ascii_digit())?;
    let list = &text[start..];
    let end = list.find(|c: char| c != ',' && !c.is_ascii_digit()).unwrap_or(list.len());
    let mut numbers = list[..end].split(',').map(str::parse::<u8>);
    let [high, low] = [numbers.nth(4)?.ok()?, numbers.next()?.ok()?];
    Some(u16::from_be_bytes([high, low])).filter(|port| numbers.next().is_none() && *port != 0)
}
