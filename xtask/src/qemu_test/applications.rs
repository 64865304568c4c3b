//! The applications that speak to servers which other people wrote: file transfer with vsftpd, dots on Xvfb's screen.

use std::thread;
use std::time::{Duration, Instant};

use abi::path::Path;
use pattern::Digest;

use super::{Bed, Row, SOON};
use crate::error::{Result, failed};
use crate::machine::{Board, Nic};
use crate::peers::ftp::{FtpServer, PASSWORD, USER};
use crate::peers::x11::{DOT, XServer};
use crate::results::Fields;
use crate::vm::Vm;

/// This group's tests.
pub const CASES: &[Row] = &[
    ("ftp-by-window", false, |bed| ftp_both_ways(bed, Path::Window)),
    ("ftp-by-message", false, |bed| ftp_both_ways(bed, Path::Ipc)),
    ("ftp-in-the-kernel", false, |bed| ftp_both_ways(bed, Path::Monolithic)),
    ("ftp-refusals", false, ftp_refusals),
    ("dots-by-window", false, |bed| dots_on_the_screen(bed, Path::Window)),
    ("dots-by-message", false, |bed| dots_on_the_screen(bed, Path::Ipc)),
    ("dots-in-the-kernel", false, |bed| dots_on_the_screen(bed, Path::Monolithic)),
    ("no-x-server", true, no_x_server),
];

/// The most common machine with this way to the network, up.
pub fn boot(bed: &Bed, path: Path) -> Result<Vm> {
    let mut machine = bed.machine(Nic::E1000, Board::Pc)?;
    machine.set_path(path);
    Vm::boot(&machine)
}

/// Runs a guest's command that must fail, saying this.
fn expect_complaint(vm: &mut Vm, line: &str, complaint: &str) -> Result<()> {
    let output = vm.console.command(line, SOON)?;
    if output.contains(complaint) && output.contains("exit status") && !output.contains("exit status 0") {
        return Ok(());
    }
    failed(format!("`{line}` does not say `{complaint}` but: {output}"))
}

/// Sizes around nothing and a read, and one that takes a while; both kinds of passive connections; small reads and writes.
fn ftp_both_ways(bed: &Bed, path: Path) -> Result<()> {
    let server = FtpServer::start(&bed.session.link, bed.session.folder.path())?;
    let to = server.arguments();
    let mut vm = boot(bed, path)?;
    for (bytes, options) in [(0, ""), (1, "-P"), (8192, ""), (100_001, "-P -l 10"), (20_000_000, "-l 65536")]
    {
        let file = server.offer("down", bytes)?;
        let output = vm.console.command(&format!("ftp -M {options} get {to} {file}"), 2 * SOON)?;
        let fields = Fields::require(&output, "ftp")?;
        let right = fields.number("bytes") == Some(bytes) && fields.number("verified") == Some(1);
        if !right || fields.digest() != Some(Digest::of_pattern(bytes)) {
            return failed(format!("get of {bytes} bytes: {output}"));
        }
        if bytes == 0 {
            continue;
        }
        let file = server.name("up");
        let output = vm.console.command(&format!("ftp -M {options} put {to} {file} {bytes}"), 2 * SOON)?;
        let fields = Fields::require(&output, "ftp")?;
        let stored = server.take("up")?;
        if (stored.bytes, stored.first_error) != (bytes, None)
            || fields.number("bytes") != Some(bytes)
            || fields.digest() != Some(stored.digest)
        {
            return failed(format!("put of {bytes} bytes: {stored:?}, and the guest says: {output}"));
        }
    }
    bed.finish(vm)
}

/// What the server says no to is told in its words, and leaves nothing behind.
fn ftp_refusals(bed: &Bed) -> Result<()> {
    let server = FtpServer::start(&bed.session.link, bed.session.folder.path())?;
    let (host, port) = (bed.session.link.host, server.port);
    let to = server.arguments();
    let mut vm = bed.boot()?;
    for (line, complaint) in [
        (format!("ftp get {host} {port} somebody {PASSWORD} x"), "ftp: login: the server says: 530 "),
        (format!("ftp get {to} {}", server.name("none")), "ftp: get: the server says: 550 "),
        (format!("ftp get {to} pub"), "ftp: get: the server says: 550 "),
        (format!("ftp put {to} none/x 10"), "ftp: put: the server says: 553 "),
        (format!("ftp get {host} 1 {USER} {PASSWORD} x"), "ftp: connect: connection refused"),
        (format!("ftp get {host} {port} {USER}"), "ftp: the number of arguments is wrong"),
        ("ftp get host 21 a b c".into(), "ftp: `host` is not an IPv4 or IPv6 address"),
        (format!("ftp put {to} x 0"), "ftp: `0` is not a number in range"),
        ("ftp -z".into(), "ftp: unknown option -z"),
    ] {
        expect_complaint(&mut vm, &line, complaint)?;
    }
    // And it serves the next one.
    let file = server.offer("down", 5000)?;
    let output = vm.console.command(&format!("ftp -M get {to} {file}"), SOON)?;
    if Fields::require(&output, "ftp")?.number("verified") != Some(1) {
        return failed(format!("after all that: {output}"));
    }
    bed.finish(vm)
}

/// Every dot is a pixel of its colour on the server's screen, neither more nor less.
fn dots_on_the_screen(bed: &Bed, path: Path) -> Result<()> {
    let server = XServer::start(&bed.session.link, bed.session.folder.path())?;
    let display = server.guest_display();
    let mut vm = boot(bed, path)?;
    if server.screenshot()?.count(DOT) != 0 {
        return failed("the screen is not empty at the start");
    }
    // A few dots; all of the window's, several times over; a window of another size; requests of one dot. Each window covers the one before.
    for (options, dots, pixels) in [
        ("-n 5000 -r 1000", 5000, 5000),
        ("-n 500000", 524_256, 30_000),
        ("-n 100000 -r 1000 -g 801x601", 100_000, 100_000),
        ("-n 300 -r 1 -g 801x601", 300, 300),
    ] {
        let output = vm.console.command(&format!("xdots -M -k {options} {display}"), 2 * SOON)?;
        let fields = Fields::require(&output, "xdots")?;
        if fields.number("dots") != Some(dots) || fields.number("pixels") != Some(pixels) {
            return failed(format!("{options}: {output}"));
        }
        let shown = server.screenshot()?.count(DOT) as u64;
        if shown != pixels {
            return failed(format!(
                "{options}: {shown} dots are on the screen instead of {pixels}: {output}"
            ));
        }
    }
    // Without -k the window goes with the program, and what it covered has to be drawn anew.
    vm.console.command(&format!("xdots -n 5000 -g 1024x768 {display}"), SOON)?;
    let deadline = Instant::now() + SOON;
    while server.screenshot()?.count(DOT) != 0 {
        if Instant::now() > deadline {
            return failed("dots are left on the screen");
        }
        thread::sleep(Duration::from_millis(50));
    }
    bed.finish(vm)
}

fn no_x_server(bed: &Bed) -> Result<()> {
    let mut vm = bed.boot()?;
    let host = bed.session.link.host;
    for (line, complaint) in [
        (format!("xdots {host}:59"), "xdots: connect: connection refused"),
        (format!("xdots {host}"), "xdots: `10.9.0.1` is not an IPv4 or IPv6 address"),
        (format!("xdots -g 400 {host}:60"), "xdots: `400` is not a number in range"),
        ("xdots".into(), "xdots: a display is needed"),
    ] {
        expect_complaint(&mut vm, &line, complaint)?;
    }
    bed.finish(vm)
}
