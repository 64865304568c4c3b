//! ftp: fetches a file from an FTP server (RFC 959) or stores one there; the namesake of `apps/src/bin/ftp.rs`.
//!
//! Data connections are made by EPSV (RFC 2428) to the server's address.

use std::error::Error;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use pattern::{Digest, MAX_CHUNK, Source};

use crate::command::{During as _, Outcome, Word, Words, number, parse, unknown};
use crate::timer::{Timer, Took};

/// How long the server may take to answer, or to take or send the next bytes.
const PATIENCE: Duration = Duration::from_secs(30);

/// `ftp [-M] [-l LENGTH] get HOST PORT USER PASSWORD FILE` or `ftp … put HOST PORT USER PASSWORD FILE BYTES`.
///
/// # Errors
/// A wrong command line, what the network did, or the server's own words.
pub fn main(words: Words) -> Outcome {
    let (mut length, mut machine, mut operands) = (8192, false, Vec::new());
    for word in parse(words, "l")? {
        match word {
            Word::Option('l', text) => length = number(&text, 1..=MAX_CHUNK as u64)? as usize,
            Word::Option('M', _) => machine = true,
            Word::Operand(text) => operands.push(text),
            word => return Err(unknown(&word)),
        }
    }
    let operands: Vec<&str> = operands.iter().map(String::as_str).collect();
    let (host, port, user, password, file, store) = match operands[..] {
        ["get", host, port, user, password, file] => (host, port, user, password, file, None),
        ["put", host, port, user, password, file, bytes] => {
            (host, port, user, password, file, Some(number(bytes, 1..=u64::MAX)?))
        }
        _ => return Err("get or put, and what they need".into()),
    };
    let server =
        SocketAddr::new(host.parse().during("the host's address")?, number(port, 1..=65_535)? as u16);
    let mut control = Control::connect(server)?;
    control.log_in(user, password)?;
    control.command("TYPE I")?.expect(2)?;
    let moved = match store {
        None => fetch(&mut control, file, length)?,
        Some(bytes) => send(&mut control, file, length, bytes)?,
    };
    // The transfer is over; that the server says good-bye is no part of it.
    let _ = control.command("QUIT");
    let Moved { bytes, calls, digest, verified, took } = moved;
    println!("ftp: {file}: {bytes} bytes in {:.2} seconds", took.ns as f64 / 1e9);
    if machine {
        let (ns, verified) = (took.ns, u8::from(verified));
        print!("#ftp bytes={bytes} ns={ns} calls={calls} digest={digest:#018x} verified={verified}");
        print!(" syscalls={calls} app_copies={calls} app_copied_bytes={bytes}");
        took.print_gain();
    }
    Ok(())
}

/// What went through.
struct Moved {
    bytes: u64,
    calls: u64,
    digest: u64,
    verified: bool,
    took: Took,
}

fn fetch(control: &mut Control, file: &str, length: usize) -> Result<Moved, Box<dyn Error>> {
    let mut data = control.data()?;
    let mut buffer = vec![0; length];
    let (mut digest, mut bytes, mut calls) = (Digest::new(), 0, 0);
    let timer = Timer::start();
    control.command(&format!("RETR {file}"))?.expect(1)?;
    loop {
        let read = data.read(&mut buffer).during("data")?;
        if read == 0 {
            break;
        }
        digest.update(&buffer[..read]);
        bytes += read as u64;
        calls += 1;
    }
    let took = timer.stop();
    control.reply()?.expect(2)?;
    let digest = digest.finish();
    Ok(Moved { bytes, calls, digest, verified: digest == Digest::of_pattern(bytes), took })
}

fn send(control: &mut Control, file: &str, length: usize, bytes: u64) -> Result<Moved, Box<dyn Error>> {
    let mut data = control.data()?;
    let (mut source, mut calls) = (Source::new(), 0);
    let timer = Timer::start();
    control.command(&format!("STOR {file}"))?.expect(1)?;
    while source.position() < bytes {
        let piece = (bytes - source.position()).min(length as u64) as usize;
        data.write_all(source.peek(piece)).during("data")?;
        source.advance(piece);
        calls += 1;
    }
    data.shutdown(Shutdown::Write).during("data")?;
    // The server closes once it has read everything.
    while data.read(&mut [0; 64]).during("data")? != 0 {}
    let took = timer.stop();
    control.reply()?.expect(2)?;
    Ok(Moved { bytes, calls, digest: Digest::of_pattern(bytes), verified: true, took })
}

/// A reply: its last line.
struct Reply(String);

impl Reply {
    /// A reply of this kind: 1 has begun, 2 is done.
    fn expect(self, kind: u32) -> Result<Self, Box<dyn Error>> {
        if self.0.chars().next().and_then(|digit| digit.to_digit(10)) == Some(kind) {
            Ok(self)
        } else {
            Err(format!("the server says: {}", self.0).into())
        }
    }
}

/// The control connection.
struct Control(BufReader<TcpStream>);

impl Control {
    /// Connects, and hears the greeting.
    fn connect(server: SocketAddr) -> Result<Self, Box<dyn Error>> {
        let mut control = Self(BufReader::new(connect(server)?));
        control.0.get_ref().set_nodelay(true).during("socket")?;
        control.reply()?.expect(2)?;
        Ok(control)
    }

    fn log_in(&mut self, user: &str, password: &str) -> Outcome {
        let reply = self.command(&format!("USER {user}"))?;
        let reply =
            if reply.0.starts_with("331") { self.command(&format!("PASS {password}"))? } else { reply };
        reply.expect(2).map(drop)
    }

    /// Sends a command, and hears the reply.
    fn command(&mut self, line: &str) -> Result<Reply, Box<dyn Error>> {
        self.0.get_mut().write_all(format!("{line}\r\n").as_bytes()).during("control connection")?;
        self.reply()
    }

    /// Hears a reply: one line, or all lines up to one that begins with the same code and a space.
    fn reply(&mut self) -> Result<Reply, Box<dyn Error>> {
        let mut code: Option<String> = None;
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).during("control connection")? == 0 {
                return Err("the server has closed the connection".into());
            }
            let line = line.trim_end();
            let front = line.get(..3).ok_or_else(|| format!("`{line}` is no FTP"))?;
            if code.get_or_insert_with(|| front.to_owned()) == front && line.as_bytes().get(3) != Some(&b'-')
            {
                return Ok(Reply(line.to_owned()));
            }
        }
    }

    /// Makes a data connection.
    fn data(&mut self) -> Result<TcpStream, Box<dyn Error>> {
        let reply = self.command("EPSV")?.expect(2)?;
        let port = extended_port(&reply.0).ok_or_else(|| format!("no port in `{}`", reply.0))?;
        let peer = self.0.get_ref().peer_addr().during("socket")?.ip();
        connect(SocketAddr::new(peer, port))
    }
}

fn connect(to: SocketAddr) -> Result<TcpStream, Box<dyn Error>> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE).during("connect")?;
    stream.set_read_timeout(Some(PATIENCE)).during("socket")?;
    stream.set_write_timeout(Some(PATIENCE)).during("socket")?;
    Ok(stream)
}

/// `Entering Extended Passive Mode (|||6446|)`.
fn extended_port(text: &str) -> Option<u16> {
    text.split_once("(|||")?.1.split_once("|)")?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_replies() {
        assert_eq!(extended_port("229 Entering Extended Passive Mode (|||6446|)"), Some(6446));
        assert_eq!(extended_port("229 (|||x|)"), None);
        assert!(Reply("550 no".into()).expect(2).is_err());
        assert!(Reply("150 here it comes".into()).expect(1).is_ok());
    }
}
