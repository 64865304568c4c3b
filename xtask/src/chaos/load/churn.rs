//! A thousand connections, opened and closed one after the other: nothing of them may be left.
//!
//! Each carries a few bytes to echo and back. They end in all the ways that there are: the host closes first, the host resets, with and
//! without data on the way, the host says nothing, and where the guest connects, it closes first.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Instant;

use abi::path::Path;
use pattern::Pattern;

use super::{Books, SOON, boot, paths, start_echo, stretch};
use crate::chaos::Stage;
use crate::error::{Context as _, Result, failed};
use crate::sys;
use crate::traffic;

const CONNECTIONS: u64 = 1000;
const SHORT_CONNECTIONS: u64 = 400;
/// Before the books are opened: the server's heap has its size then.
const WARM_UP: u64 = 16;
const ECHO: u16 = 7;
/// Of so many connections one goes out from the guest, whose shell starts a program for it.
const OUTWARD: u64 = 40;

/// How a connection from the host ends.
#[derive(Clone, Copy)]
enum End {
    /// The host closes first, the guest after it.
    Ours,
    /// The host resets it.
    Reset,
    /// The host resets it while the echo is on its way.
    ResetWithData,
    /// Nothing was said.
    Silent,
}

const ENDS: [End; 4] = [End::Ours, End::Reset, End::ResetWithData, End::Silent];

/// The part.
pub fn run(stage: &Stage<'_>) -> Result<()> {
    for path in paths(stage, false) {
        one_path(stage, path)?;
    }
    Ok(())
}

fn one_path(stage: &Stage<'_>, path: Path) -> Result<()> {
    let mut vm = boot(stage, path, "")?;
    start_echo(&mut vm, ECHO)?;
    let open_and_close = |number: u64| -> Result<()> {
        let mut stream = traffic::connect(stage.session.link.guest(ECHO))?;
        converse(&mut stream, number)
            .and_then(|()| end(stream, ENDS[(number % 4) as usize]))
            .context(format!("connection {number}"))
    };
    (0..WARM_UP).try_for_each(open_and_close)?;
    outward(stage, &mut vm)?;
    let before = stretch(stage, &mut vm, ECHO)?;
    let start = Instant::now();
    let (mut out, connections) = (0, if stage.short { SHORT_CONNECTIONS } else { CONNECTIONS });
    for number in 0..connections {
        if number % OUTWARD == OUTWARD - 1 {
            out += 1;
            outward(stage, &mut vm)?;
        } else {
            open_and_close(number)?;
        }
        if sys::interrupted() {
            return Err(crate::error::Error::Interrupted);
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let after = Books::settle(&mut vm, &before)?;
    println!(
        "   {:<10} {connections} connections, {out} of them by the guest, in {seconds:.1} s ({:.0} a second); {}",
        path.name(),
        connections as f64 / seconds,
        after.summary(&before)
    );
    vm.power_off()
}

/// A few bytes there and back.
fn converse(stream: &mut TcpStream, number: u64) -> std::io::Result<()> {
    if number % 4 == 3 {
        return Ok(());
    }
    let text = Pattern::chunk(number, 200);
    stream.write_all(text)?;
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back)?;
    if back == text { Ok(()) } else { Err(std::io::Error::other("other bytes came back")) }
}

fn end(mut stream: TcpStream, end: End) -> std::io::Result<()> {
    match end {
        End::Ours | End::Silent => {
            stream.shutdown(Shutdown::Write)?;
            match stream.read(&mut [0])? {
                0 => Ok(()),
                _ => Err(std::io::Error::other("more came back than was sent")),
            }
        }
        End::Reset => sys::reset(stream),
        End::ResetWithData => {
            stream.write_all(Pattern::chunk(0, 1000))?;
            sys::reset(stream)
        }
    }
}

/// The guest connects, sends, and closes first.
fn outward(stage: &Stage<'_>, vm: &mut crate::vm::Vm) -> Result<()> {
    let listener = traffic::listen(stage.session.link.listen_address(), 0)?;
    let port = listener.local_addr().context("listener")?.port();
    let receiver = traffic::spawn_receiver(listener, true);
    vm.console.command(&format!("ttcp -t -s -l 100 -n 10 -p {port} {}", stage.session.link.host), SOON)?;
    let moved = traffic::join(receiver)?;
    if moved.count == 1000 && moved.first_error.is_none() {
        Ok(())
    } else {
        failed(format!("from the guest: {moved:?}"))
    }
}
