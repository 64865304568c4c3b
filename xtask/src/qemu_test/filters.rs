//! Packet filters on the path by message: what `tcpdump` shows and captures beside a protocol server that misses nothing.

use std::io::Write as _;
use std::thread;
use std::time::Duration;

use abi::path::Path;
use pattern::{Digest, Pattern};

use super::applications::boot;
use super::transfers::Pinger;
use super::{Bed, Row, SOON};
use crate::capture::{self, Capture, Packet};
use crate::console::PROMPT;
use crate::error::{Context as _, Result, failed};
use crate::results::Fields;
use crate::traffic::{self, Until};
use crate::vm::Vm;

/// This group's tests.
pub const CASES: &[Row] = &[
    ("tcpdump-shows-pings", true, shows_pings),
    ("tcpdump-writes-a-capture", true, writes_a_capture),
    ("tcpdump-overrun-and-killed", true, overrun_and_killed),
    ("tcpdump-on-another-path", true, other_path),
];

/// The port of the captured transfer, its pieces and the pause between them: slow enough that no filter's port fills up.
const PORT: u16 = 5001;
const PIECES: usize = 60;
const PIECE: usize = 1100;
const PAUSE: Duration = Duration::from_millis(10);

/// Starts a program in the background and waits for its filter.
fn watch(vm: &mut Vm, line: &str) -> Result<()> {
    vm.console.type_line(&format!("{line} &"))?;
    vm.console.expect("tcpdump: listening on net0", SOON).map(drop)
}

/// Two at once, each with its own filter; the server gets every frame as well.
fn shows_pings(bed: &Bed) -> Result<()> {
    let mut vm = boot(bed, Path::Ipc)?;
    let (host, guest) = (bed.session.link.host, bed.session.link.guest_address());
    watch(&mut vm, &format!("tcpdump -c 3 icmp and host {host}"))?;
    watch(&mut vm, "tcpdump -T 3 udp port 9")?;
    let pinger = Pinger::open(guest.into())?;
    for sequence in 0..3 {
        pinger.ping(sequence, 100)?;
    }
    for sequence in 0..3 {
        vm.console.expect(&format!("IP {host} > {guest}: ICMP echo request, id "), SOON)?;
        vm.console.expect(&format!(", seq {sequence}, length 108\n"), SOON)?;
    }
    vm.console.expect("tcpdump: 3 frames, 0 lost", SOON)?;
    // Pings were nothing for this one.
    let said = vm.console.expect("tcpdump: 0 frames, 0 lost", SOON)?;
    if said.contains("IP ") {
        return failed(format!("a filter for UDP lets through: {said}"));
    }
    vm.console.command("wait", SOON)?;
    // With the filters gone the server goes on.
    pinger.ping(3, 1000)?;
    bed.finish(vm)
}

/// The stream that the host sent stands in the capture, whole and in order, and nothing of the capture's own connection.
fn writes_a_capture(bed: &Bed) -> Result<()> {
    let mut vm = boot(bed, Path::Ipc)?;
    let link = &bed.session.link;
    for expression in [format!("tcp port {PORT}"), String::new()] {
        let file = bed.session.folder.path().join("capture.pcap");
        let capture = Capture::start(link, &file)?;
        watch(&mut vm, &format!("tcpdump -T 5 -w {}:{} {expression}", link.host, capture::PORT))?;
        vm.console.type_line(&format!("ttcp -r -s -p {PORT} -M"))?;
        vm.console.expect(&format!("listening on {PORT}"), SOON)?;
        let mut stream = traffic::connect(link.guest(PORT))?;
        stream.set_nodelay(true).context("socket")?;
        for piece in 0..PIECES {
            stream.write_all(Pattern::chunk((piece * PIECE) as u64, PIECE)).context("sender")?;
            thread::sleep(PAUSE);
        }
        drop(stream);
        let output = vm.console.expect(PROMPT, SOON)?;
        let sent = (PIECES * PIECE) as u64;
        if Fields::require(&output, "ttcp")?.digest() != Some(Digest::of_pattern(sent)) {
            return failed(format!("the transfer beside a capture: {output}"));
        }
        vm.console.expect(" frames, 0 lost", 2 * SOON)?;
        vm.console.command("wait", SOON)?;
        check(&capture.finish()?, &expression)?;
    }
    bed.finish(vm)
}

fn check(packets: &[Packet], expression: &str) -> Result<()> {
    if packets.windows(2).any(|pair| pair[0].ns > pair[1].ns) {
        return failed("times in the capture go backwards");
    }
    let segments: Vec<Segment<'_>> = packets.iter().filter_map(|packet| segment(&packet.frame)).collect();
    if let Some(own) = segments.iter().find(|segment| segment.ports.contains(&capture::PORT)) {
        return failed(format!("the capture's own connection is in it: {own:?}"));
    }
    let ours: Vec<_> = segments.iter().filter(|segment| segment.ports[1] == PORT).collect();
    if !expression.is_empty() && ours.len() != packets.len() {
        return failed(format!(
            "{} of {} frames are not `{expression}`",
            packets.len() - ours.len(),
            packets.len()
        ));
    }
    let Some(first) = ours.iter().find(|segment| segment.syn) else { return failed("no SYN in the capture") };
    // Where in the stream a byte stands follows from its sequence number; what is sent again overwrites the same.
    let mut stream = vec![None; PIECES * PIECE];
    for segment in &ours {
        let at = segment.sequence.wrapping_sub(first.sequence).wrapping_sub(1) as usize;
        for (n, byte) in segment.payload.iter().enumerate() {
            match stream.get_mut(at + n) {
                Some(place) => *place = Some(*byte),
                None => return failed(format!("a byte at {} of {} bytes", at + n, PIECES * PIECE)),
            }
        }
    }
    let expected = Pattern::chunk(0, PIECE).iter().copied();
    let expected =
        expected.chain((1..PIECES).flat_map(|n| Pattern::chunk((n * PIECE) as u64, PIECE).iter().copied()));
    match stream.iter().zip(expected).position(|(found, byte)| *found != Some(byte)) {
        None => Ok(()),
        Some(at) => failed(format!("byte {at} of the stream is {:?} in the capture", stream[at])),
    }
}

/// A TCP segment over IPv4.
#[derive(Debug)]
struct Segment<'a> {
    ports: [u16; 2],
    sequence: u32,
    syn: bool,
    payload: &'a [u8],
}

fn segment(frame: &[u8]) -> Option<Segment<'_>> {
    let packet = frame.get(14..).filter(|_| frame[12..14] == [8, 0])?;
    let header = usize::from(packet.first()? & 15) * 4;
    let total = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
    let tcp = packet.get(header..total).filter(|_| packet[9] == 6)?;
    let half = |at| Some(u16::from_be_bytes([*tcp.get(at)?, *tcp.get(at + 1)?]));
    let sequence = u32::from(half(4)?) << 16 | u32::from(half(6)?);
    let (offset, flags) = (usize::from(*tcp.get(12)? >> 4) * 4, *tcp.get(13)?);
    Some(Segment { ports: [half(0)?, half(2)?], sequence, syn: flags & 2 != 0, payload: tcp.get(offset..)? })
}

/// One that cannot keep up, since it prints a line for each frame, and one that is killed with frames in its port: neither costs the
/// server a frame, and all is accounted for.
fn overrun_and_killed(bed: &Bed) -> Result<()> {
    const BYTES: u64 = 4_000_000;
    let mut vm = boot(bed, Path::Ipc)?;
    let link = &bed.session.link;
    vm.console.type_line("tcpdump &")?;
    let number = vm.console.expect("] tcpdump\n", SOON)?;
    let number = number.rsplit('[').next().unwrap_or_default().to_owned();
    vm.console.expect("tcpdump: listening on net0", SOON)?;
    vm.console.type_line(&format!("ttcp -r -s -p {PORT} -M"))?;
    vm.console.expect(&format!("listening on {PORT}"), SOON)?;
    let sent = traffic::send(&mut traffic::connect(link.guest(PORT))?, 8192, Until::Bytes(BYTES));
    sent.context("sender")?;
    let output = vm.console.expect(PROMPT, 4 * SOON)?;
    let fields = Fields::require(&output, "ttcp")?;
    if fields.number("bytes") != Some(BYTES) || fields.digest() != Some(Digest::of_pattern(BYTES)) {
        return failed(format!("the transfer beside tcpdump: {fields:?}"));
    }
    vm.console.command(&format!("kill {number}"), SOON)?;
    vm.console.command("wait", SOON)?;
    if !vm.console.transcript().contains(&format!("[{number}] tcpdump: exit status")) {
        return failed("tcpdump does not end");
    }
    Pinger::open(link.guest_address().into())?.ping(1, 1000)?;
    // Nothing is shown any more.
    let output = vm.console.command("sleep 1", SOON)?;
    if output.contains("IP ") {
        return failed(format!("a filter outlived its task: {output}"));
    }
    bed.finish(vm)
}

fn other_path(bed: &Bed) -> Result<()> {
    let mut vm = bed.boot()?;
    let output = vm.console.command("tcpdump", SOON)?;
    if !output.contains("on the path by message only") || !output.contains("exit status 1") {
        return failed(format!("tcpdump without filters says: {output}"));
    }
    for (line, complaint) in [
        ("tcpdump tcp port", "tcpdump: `port` needs a number"),
        ("tcpdump -c 0", "tcpdump: `0` is not a number in range"),
        ("tcpdump -w 10.9.0.1", "tcpdump: `10.9.0.1` is not an IPv4 or IPv6 address"),
    ] {
        let output = vm.console.command(line, SOON)?;
        if !output.contains(complaint) || !output.contains("exit status 2") {
            return failed(format!("`{line}`: {output}"));
        }
    }
    bed.finish(vm)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(from: u16, to: u16, sequence: u32, flags: u8, payload: &[u8]) -> Packet {
        let total = (40 + payload.len()) as u16;
        let mut frame = vec![0; 12];
        frame.extend([8, 0, 0x45, 0]);
        frame.extend(total.to_be_bytes());
        frame.extend([0, 0, 0, 0, 64, 6, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2]);
        frame.extend(from.to_be_bytes());
        frame.extend(to.to_be_bytes());
        frame.extend(sequence.to_be_bytes());
        frame.extend([0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0]);
        frame.extend(payload);
        frame.extend([0; 7]); // padding
        Packet { ns: 1, frame }
    }

    #[test]
    fn the_check_sees_a_hole_a_stranger_and_a_wrong_byte() {
        let isn = u32::MAX - 5;
        let mut packets = vec![tcp(9, PORT, isn, 2, &[])];
        for n in 0..PIECES {
            let at = isn.wrapping_add(1 + (n * PIECE) as u32);
            packets.push(tcp(9, PORT, at, 0x18, Pattern::chunk((n * PIECE) as u64, PIECE)));
        }
        check(&packets, "tcp port").unwrap();
        let mut hole = packets.clone();
        hole.remove(7);
        assert!(check(&hole, "").unwrap_err().message().contains("byte 6600 "));
        let mut wrong = packets.clone();
        wrong[3].frame[100] ^= 1;
        assert!(check(&wrong, "").is_err());
        let mut stranger = packets.clone();
        stranger.push(tcp(9, 80, 1, 2, &[]));
        assert!(check(&stranger, "").is_ok() && check(&stranger, "tcp port").is_err());
        packets.push(tcp(capture::PORT, 1024, 1, 16, &[]));
        assert!(check(&packets, "").unwrap_err().message().contains("own connection"));
    }
}
