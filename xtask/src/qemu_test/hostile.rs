//! Frames that no honest stack sends, and tasks that break every rule.

use std::net::Ipv4Addr;
use std::thread;
use std::time::Duration;

use pattern::Digest;

use super::{Bed, Row, SOON};
use crate::checks;
use crate::console::{FAULT, PROMPT};
use crate::error::{Context as _, Result, failed};
use crate::machine::{Board, Nic};
use crate::network::TAP;
use crate::relay::Random;
use crate::results::Fields;
use crate::sys::PacketSocket;
use crate::traffic::{self, checksum};
use crate::vm::Vm;

/// This group's tests.
pub const CASES: &[Row] = &[
    ("malformed-frames-e1000", true, |bed| malformed(bed, Nic::E1000)),
    ("malformed-frames-virtio", true, |bed| malformed(bed, Nic::Virtio)),
    ("nonsense-system-calls", false, badcalls),
    ("faults", false, faults),
    ("spawn-and-end", false, spawnloop),
    ("busy-task", false, busy_task),
];

const FRAMES: u32 = 100_000;
const GUEST_MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x6f, 0x72, 0x69];

/// Makes frames that are wrong in a way chosen by the generator.
pub struct Forger {
    /// Its choices.
    pub random: Random,
    /// The sender.
    pub from: Ipv4Addr,
    /// The receiver.
    pub to: Ipv4Addr,
}

impl Forger {
    /// Random bytes.
    fn noise(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.random.next() as u8).collect()
    }

    fn ethernet(&mut self, kind: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = GUEST_MAC.to_vec();
        frame.extend([0x02, 0, 0, 0, 0, 1]);
        frame.extend(kind.to_be_bytes());
        frame.extend(payload);
        frame
    }

    /// A correct IPv4 header around the payload.
    fn ipv4(&mut self, protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0];
        packet.extend(((20 + payload.len()) as u16).to_be_bytes());
        packet.extend((self.random.next() as u16).to_be_bytes());
        packet.extend(fragment.to_be_bytes());
        packet.extend([64, protocol, 0, 0]);
        packet.extend(self.from.octets());
        packet.extend(self.to.octets());
        let sum = checksum(&[&packet]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet.extend(payload);
        packet
    }

    /// The next.
    pub fn frame(&mut self) -> Vec<u8> {
        const IPV4: u16 = 0x0800;
        const IPV6: u16 = 0x86dd;
        const ARP: u16 = 0x0806;
        let len = self.random.below(1400) as usize;
        let noise = self.noise(len);
        match self.random.below(14) {
            // Cut short: inside the Ethernet header's successor, inside the IP header.
            0 => {
                let packet = self.ipv4(6, 0, &noise);
                let keep = self.random.below(20) as usize;
                self.ethernet(IPV4, &packet[..keep])
            }
            // A total length beyond the frame, below the header, zero.
            1 => {
                let mut packet = self.ipv4(17, 0, &noise);
                let total = [0xffff, 19, 0, (packet.len() + 1) as u16][self.random.below(4) as usize];
                packet[2..4].copy_from_slice(&total.to_be_bytes());
                self.ethernet(IPV4, &packet)
            }
            // A header length below 5 words, or beyond the packet.
            2 => {
                let mut packet = self.ipv4(6, 0, &noise);
                packet[0] = 0x40 | [0, 4, 15][self.random.below(3) as usize];
                self.ethernet(IPV4, &packet)
            }
            // A wrong version.
            3 => {
                let mut packet = self.ipv4(6, 0, &noise);
                packet[0] = 0x65;
                self.ethernet(IPV4, &packet)
            }
            // A wrong header checksum.
            4 => {
                let mut packet = self.ipv4(6, 0, &noise);
                packet[10] ^= 0x5a;
                self.ethernet(IPV4, &packet)
            }
            // A wrong TCP checksum, to ports in use and not.
            5 => {
                let mut segment = self.noise(20 + len);
                segment[2..4].copy_from_slice(&5001u16.to_be_bytes());
                segment[12] = 0x50;
                let packet = self.ipv4(6, 0, &segment);
                self.ethernet(IPV4, &packet)
            }
            // A TCP header length beyond the segment; a UDP length that lies.
            6 => {
                let mut segment = self.noise(24);
                segment[12] = 0xf0;
                let protocol = if self.random.below(2) == 0 { 6 } else { 17 };
                let packet = self.ipv4(protocol, 0, &segment);
                self.ethernet(IPV4, &packet)
            }
            // Fragments: never completed, overlapping, the last one beyond 65,535 bytes.
            7 => {
                let offset = [0x2000, 0x2001, 0x1fff, 0x3fff, 0x0010][self.random.below(5) as usize];
                let packet = self.ipv4(17, offset, &noise);
                self.ethernet(IPV4, &packet)
            }
            // IPv6 with lengths and extension headers of noise.
            8 => {
                let mut packet = vec![0x60, 0, 0, 0];
                packet.extend(self.noise(36 + len));
                self.ethernet(IPV6, &packet)
            }
            9 => {
                let short = self.random.below(40) as usize;
                let noise = self.noise(short);
                self.ethernet(IPV6, &noise)
            }
            // ARP of noise, and cut short.
            10 => {
                let mut packet = vec![0, 1, 8, 0, 6, 4, 0, 1];
                packet.extend(self.noise(20));
                packet.truncate(self.random.below(29) as usize);
                self.ethernet(ARP, &packet)
            }
            // Types that nobody knows; lengths of IEEE 802.3.
            11 => {
                let kind = self.random.next() as u16;
                self.ethernet(if kind == ARP { 0 } else { kind }, &noise)
            }
            // As long as the tap lets through.
            12 => {
                let noise = self.noise(1500);
                self.ethernet(IPV4, &noise)
            }
            // Pure noise, to the guest's address or not.
            _ => {
                let mut frame = self.noise(14 + len);
                if self.random.below(2) == 0 {
                    frame[..6].copy_from_slice(&GUEST_MAC);
                }
                // Not a multicast source that could turn into a neighbour.
                frame[6] &= 0xfe;
                frame
            }
        }
    }
}

/// The wrong frames go between those of two honest transfers, which must not notice.
pub fn malformed(bed: &Bed, nic: Nic) -> Result<()> {
    let mut vm = Vm::boot(&bed.machine(nic, Board::Pc)?)?;
    let link = bed.session.link.clone();
    vm.console.type_line("ttcp -r -s -l 8192 -p 5001 -M")?;
    vm.console.expect("listening on 5001", SOON)?;
    let to = link.guest(5001);
    // First, since QEMU's e1000 takes no frame for a second after its receiver was enabled, and the tap's queue is short.
    let mut stream = traffic::connect(to)?;
    let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let forger = {
        let (from, to, done) = (link.host, link.guest_address(), std::sync::Arc::clone(&done));
        thread::spawn(move || -> Result<()> {
            let mut forger = Forger { random: Random::new(100_000), from, to };
            let socket = PacketSocket::open(TAP).context("packet socket")?;
            for n in 0..FRAMES {
                let frame = forger.frame();
                // A full queue of the tap is no frame sent: try again.
                while let Err(error) = socket.send(&frame) {
                    if error.raw_os_error() != Some(libc::ENOBUFS) {
                        return failed(format!("frame {n} of {} bytes: {error}", frame.len()));
                    }
                    thread::sleep(Duration::from_micros(200));
                }
                // In bursts, with air for honest frames between them.
                if n % 32 == 0 {
                    thread::sleep(Duration::from_millis(1));
                }
            }
            // Relaxed: it only ends a loop.
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            Ok(())
        })
    };
    // Honest bytes for as long as wrong frames come, and a megabyte at least.
    let mut sent = 0;
    while sent < 1_000_000 || !done.load(std::sync::atomic::Ordering::Relaxed) {
        let piece = pattern::Pattern::chunk(sent, 8192);
        std::io::Write::write_all(&mut stream, piece).context("honest bytes")?;
        sent += piece.len() as u64;
        thread::sleep(Duration::from_micros(500));
        if forger.is_finished() && !done.load(std::sync::atomic::Ordering::Relaxed) {
            break;
        }
    }
    stream.shutdown(std::net::Shutdown::Write).context("honest bytes")?;
    let output = vm.console.expect(PROMPT, Duration::from_secs(60))?;
    traffic::join(forger)?;
    let fields = Fields::require(&output, "ttcp")?;
    if fields.number("bytes") != Some(sent) || fields.digest() != Some(Digest::of_pattern(sent)) {
        return failed(format!("{sent} honest bytes suffered: {output}"));
    }
    let dropped: u64 =
        fields.counters().iter().filter(|(name, _)| name.starts_with("drop_")).map(|(_, n)| n).sum();
    if dropped < u64::from(FRAMES) / 20 {
        return failed(format!(
            "only {dropped} of {FRAMES} wrong frames were dropped by the kernel: {output}"
        ));
    }
    let arrived = fields.require_number("frames_in")?;
    if arrived < u64::from(FRAMES) {
        return failed(format!(
            "the link lost frames: only {arrived} came to the guest, of {FRAMES} wrong and the honest ones"
        ));
    }
    // And the other way, after the storm.
    let listener = traffic::listen(link.listen_address(), 5401)?;
    let receiver = traffic::spawn_receiver(listener, true);
    vm.console.command(&format!("ttcp -t -s -l 8192 -n 200 -p 5401 {}", link.host), SOON)?;
    let moved = traffic::join(receiver)?;
    if moved.count != 200 * 8192 || moved.first_error.is_some() {
        return failed(format!("after the storm: {moved:?}"));
    }
    bed.finish(vm)
}

pub fn badcalls(bed: &Bed) -> Result<()> {
    let mut vm = bed.boot()?;
    let output = vm.console.command("badcalls", Duration::from_secs(60))?;
    let Some(line) = output.lines().find(|line| line.starts_with("badcalls:") && line.ends_with("ok")) else {
        return failed(format!("badcalls says: {output}"));
    };
    let calls: u64 = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    if calls < 100 || output.contains("exit status") {
        return failed(format!("badcalls says: {output}"));
    }
    works_still(bed, &mut vm)?;
    bed.finish(vm)
}

/// A transfer in the ordinary way.
pub fn works_still(bed: &Bed, vm: &mut Vm) -> Result<()> {
    checks::into_guest(vm, &bed.session.link, 5032, (8192, 500_000), SOON)
}

pub fn faults(bed: &Bed) -> Result<()> {
    const WAYS: &[&str] = &[
        "null",
        "write-text",
        "write-rodata",
        "exec-stack",
        "exec-data",
        "kernel",
        "kernel-exec",
        "noncanonical",
        "info",
        "div",
        "ud",
        "privileged",
        "io",
        "stack",
        "jump-null",
    ];
    let mut vm = bed.boot()?;
    vm.console.trouble_expected = true;
    for way in WAYS {
        let output = vm.console.command(&format!("fault {way}"), SOON)?;
        if !output.contains(FAULT) || output.contains("survived") || !output.contains("exit status") {
            return failed(format!("fault {way}: {output}"));
        }
    }
    works_still(bed, &mut vm)?;
    checks::audit(&mut vm)?;
    if vm.console.transcript().contains(crate::console::PANIC) {
        return failed("the kernel panicked over a task's fault");
    }
    vm.console.type_line("poweroff")?;
    vm.expect_exit(abi::exit::OFF, SOON).map(|_| ())
}

pub fn spawnloop(bed: &Bed) -> Result<()> {
    let mut vm = bed.boot()?;
    let output = vm.console.command("spawnloop 500", Duration::from_secs(120))?;
    if !output.contains("500 tasks, ok") {
        return failed(output);
    }
    bed.finish(vm)
}

/// A task that never waits takes the time that is left, and no more.
fn busy_task(bed: &Bed) -> Result<()> {
    let mut vm = bed.boot()?;
    vm.console.command("spin 6 &", SOON)?;
    works_still(bed, &mut vm)?;
    vm.console.command("wait", SOON)?;
    bed.finish(vm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forged_frames_fit_the_link_and_repeat() {
        let forger = || Forger {
            random: Random::new(1),
            from: Ipv4Addr::new(10, 9, 0, 1),
            to: Ipv4Addr::new(10, 9, 0, 2),
        };
        let (mut a, mut b) = (forger(), forger());
        for _ in 0..5000 {
            let frame = a.frame();
            assert!((14..=1514).contains(&frame.len()), "{}", frame.len());
            assert_eq!(frame, b.frame());
        }
    }

    #[test]
    fn the_header_checksum_is_rfc_1071s() {
        let mut forger = Forger {
            random: Random::new(1),
            from: Ipv4Addr::new(10, 9, 0, 1),
            to: Ipv4Addr::new(10, 9, 0, 2),
        };
        let packet = forger.ipv4(6, 0, &[]);
        assert_eq!(checksum(&[&packet]), 0, "a header with its own checksum sums to zero");
    }
}
