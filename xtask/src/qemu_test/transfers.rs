//! Honest traffic: both directions, both devices, both boards, the peers, many connections, IPv6, ping, DHCP.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use abi::path::Path;
use pattern::{Digest, Pattern};

use super::{Bed, Row, SOON};
use crate::cells::{Cell, Direction, Ports, Setting, Test};
use crate::error::{Context as _, Error, Result, failed};
use crate::machine::{Backend, Board, Machine, Nic};
use crate::network::{ECHO_PORT, Link, Net};
use crate::peers::Peer;
use crate::profile::category::Category;
use crate::profile::{Places, Profile};
use crate::results::Fields;
use crate::sys;
use crate::traffic::{self, Until};
use crate::vm::Vm;

/// This group's tests.
pub const CASES: &[Row] = &[
    ("cells-e1000-pc", false, |bed| cells(bed, Nic::E1000, Board::Pc, Peer::Builtin)),
    ("cells-virtio-pc", false, |bed| cells(bed, Nic::Virtio, Board::Pc, Peer::Builtin)),
    ("cells-e1000-q35", false, |bed| cells(bed, Nic::E1000, Board::Q35, Peer::Builtin)),
    ("cells-virtio-q35", false, |bed| cells(bed, Nic::Virtio, Board::Q35, Peer::Builtin)),
    ("cells-e1000-ring", false, |bed| ring_cells(bed, Nic::E1000)),
    ("cells-virtio-ring", false, |bed| ring_cells(bed, Nic::Virtio)),
    ("datagrams-e1000", true, |bed| datagrams(bed, Nic::E1000)),
    ("datagrams-virtio", true, |bed| datagrams(bed, Nic::Virtio)),
    ("nuttcp-both-ways", true, |bed| cells(bed, Nic::E1000, Board::Pc, Peer::Nuttcp)),
    ("iperf-both-ways", true, |bed| cells(bed, Nic::E1000, Board::Pc, Peer::Iperf)),
    ("sixteen-connections", true, sixteen_connections),
    ("both-ways-at-once", true, both_ways_at_once),
    ("ipv6", true, ipv6),
    ("ping-out", true, ping_out),
    ("ping-in", true, ping_in),
    ("dhcp-on-the-user-network", false, dhcp),
    ("instructions-are-counted", false, instructions),
    ("four-gigabytes", false, four_gigabytes),
];

/// Measures a cell for a second; what was moved must be right.
pub fn measure(vm: &mut Vm, link: &Link, ports: &mut Ports, peer: Peer, cell: Cell) -> Result<()> {
    let measurement = Setting { vm, link, ports, peer, seconds: 1 }.measure(cell)?;
    match measurement.problem {
        Some(problem) => failed(format!("{cell}: {problem}")),
        None => Ok(()),
    }
}

pub fn cells(bed: &Bed, nic: Nic, board: Board, peer: Peer) -> Result<()> {
    cells_of(bed, &bed.machine(nic, board)?, peer)
}

/// The same over a window whose queues are rings, of three pools, so that no round number hides anything.
fn ring_cells(bed: &Bed, nic: Nic) -> Result<()> {
    let mut machine = bed.machine(nic, Board::Pc)?;
    machine.arguments += " queue=ring pools=3";
    cells_of(bed, &machine, Peer::Builtin)
}

fn cells_of(bed: &Bed, machine: &Machine, peer: Peer) -> Result<()> {
    let mut vm = Vm::boot(machine)?;
    let mut ports = Ports::new();
    let mut all =
        vec![Cell::Tx(8192), Cell::Rx(8192), Cell::Tx(10), Cell::Rx(10), Cell::Tx(1024), Cell::Rx(1024)];
    if peer == Peer::Builtin {
        all.extend([Cell::Rr1, Cell::Tx(1), Cell::Rx(1), Cell::Tx(65_536), Cell::Rx(65_536), Cell::Tx(1461)]);
    }
    for cell in all {
        measure(&mut vm, &bed.session.link, &mut ports, peer, cell)?;
    }
    bed.finish(vm)
}

/// UDP and pings. The host's datagrams reach a virtio device with half a checksum, since its tap takes over the rest.
fn datagrams(bed: &Bed, nic: Nic) -> Result<()> {
    let mut vm = Vm::boot(&bed.machine(nic, Board::Pc)?)?;
    traffic::datagrams::wait_for_reply(bed.session.link.guest_address(), SOON);
    let mut ports = Ports::new();
    for cell in Cell::of_tests(&[Test::Udp, Test::Ping], Direction::Both, &[10, 1472, 8192]) {
        measure(&mut vm, &bed.session.link, &mut ports, Peer::Builtin, cell)?;
    }
    bed.finish(vm)
}

/// Eight each way at once, each with an amount of its own, so that no two digests are the same.
pub fn sixteen_connections(bed: &Bed) -> Result<()> {
    let mut vm = bed.boot()?;
    const EACH_WAY: u16 = 8;
    let link = &bed.session.link;
    let amount = |n: u16| 400_000 + u64::from(n) * 12_345;
    for n in 0..EACH_WAY {
        let port = 5001 + n;
        vm.console.type_line(&format!("ttcp -r -s -l 4096 -p {port} -M &"))?;
        vm.console.expect(&format!("listening on {port}"), SOON)?;
    }
    let listen = |n| traffic::listen(link.listen_address(), 5101 + n);
    let listeners: Vec<TcpListener> = (0..EACH_WAY).map(listen).collect::<Result<_>>()?;
    let receivers: Vec<_> = listeners.into_iter().map(|l| traffic::spawn_receiver(l, true)).collect();
    for n in 0..EACH_WAY {
        let (port, buffers) = (5101 + n, 50 + n);
        vm.console.type_line(&format!("ttcp -t -s -l 8000 -n {buffers} -p {port} -M {} &", link.host))?;
    }
    let senders: Vec<_> = (0..EACH_WAY)
        .map(|n| {
            let to = link.guest(5001 + n);
            thread::spawn(move || {
                traffic::send(&mut traffic::connect(to)?, 3000, Until::Bytes(amount(n))).context("sender")
            })
        })
        .collect();
    for (n, sender) in (0..EACH_WAY).zip(senders) {
        traffic::join(sender).map_err(|error| Error::Failed(format!("sender {n}: {}", error.message())))?;
    }
    for (n, receiver) in (0..EACH_WAY).zip(receivers) {
        let moved = traffic::join(receiver).map_err(|error| {
            let words = vm.console.last_words();
            Error::Failed(format!("receiver {n}: {}; the console's end:{words}", error.message()))
        })?;
        if moved.first_error.is_some() || moved.count != 8000 * u64::from(50 + n) {
            return failed(format!("connection {n} out of the guest: {moved:?}"));
        }
    }
    vm.console.type_line("wait")?;
    vm.console.type_line("ps")?;
    vm.console.expect("CPU ms NAME", Duration::from_secs(60))?;
    let digests: Vec<(u64, u64)> = vm
        .console
        .transcript()
        .lines()
        .filter_map(|line| Fields::find(line, "ttcp"))
        .filter_map(|fields| Some((fields.number("bytes")?, fields.digest()?)))
        .collect();
    let wanted = (0..EACH_WAY).flat_map(|n| [amount(n), 8000 * u64::from(50 + n)]);
    for bytes in wanted {
        if !digests.contains(&(bytes, Digest::of_pattern(bytes))) {
            return failed(format!("no application reports {bytes} bytes with their digest: {digests:x?}"));
        }
    }
    vm.console.expect(crate::console::PROMPT, SOON)?;
    bed.finish(vm)
}

/// One connection to `echo`, full in both directions all the time, so that each end's window closes again and again.
fn both_ways_at_once(bed: &Bed) -> Result<()> {
    const BYTES: u64 = 100_000_000;
    let mut vm = bed.boot()?;
    vm.console.type_line("echo &")?;
    vm.console.expect("listening on 7", SOON)?;
    let mut back = traffic::connect(bed.session.link.guest(7))?;
    let mut there = back.try_clone().context("echo")?;
    let sender = thread::spawn(move || traffic::send_only(&mut there, 3000, BYTES).context("what echo gets"));
    let moved = traffic::receive(&mut back, true).context("what echo sends back")?;
    traffic::join(sender)?;
    if moved.count != BYTES || moved.first_error.is_some() {
        return failed(format!("{BYTES} bytes went there, and back came {moved:?}"));
    }
    bed.finish(vm)
}

pub fn ipv6(bed: &Bed) -> Result<()> {
    let mut vm = bed.boot()?;
    let output = vm.console.command("ping -c 3 -i 100 -s 1000 -M fd09::1", SOON)?;
    if Fields::require(&output, "ping")?.number("verified") != Some(1) {
        return failed(format!("ping over IPv6: {output}"));
    }
    let listener = TcpListener::bind("[fd09::1]:5150").context("[fd09::1]:5150")?;
    let receiver = traffic::spawn_receiver(listener, true);
    vm.console.command("ttcp -t -s -l 8192 -n 200 -p 5150 -M fd09::1", SOON)?;
    let moved = traffic::join(receiver)?;
    if moved.count != 200 * 8192 || moved.first_error.is_some() {
        return failed(format!("out of the guest over IPv6: {moved:?}"));
    }
    vm.console.type_line("ttcp -r -s -6 -l 8192 -p 5151 -M")?;
    vm.console.expect("listening on 5151", SOON)?;
    let to: SocketAddr = "[fd09::2]:5151".parse().context("address")?;
    let sent = traffic::send(&mut traffic::connect(to)?, 5000, Until::Bytes(1_000_000)).context("sender")?;
    let output = vm.console.expect(crate::console::PROMPT, SOON)?;
    let fields = Fields::require(&output, "ttcp")?;
    if fields.number("bytes") != Some(sent.count) || fields.digest() != Some(Digest::of_pattern(sent.count)) {
        return failed(format!("into the guest over IPv6: {output}"));
    }
    bed.finish(vm)
}

/// Sizes around every boundary: nothing, header, one frame, each number of fragments, the most that IPv4 carries.
fn ping_sizes() -> Vec<usize> {
    let mut sizes: Vec<usize> = vec![0, 1, 2, 3, 7, 8, 17, 18, 19, 56, 63, 64, 65, 511, 512, 1000];
    sizes.extend(1468..=1482);
    // A frame carries 1480 bytes of a fragment; the first one has ICMP's 8 bytes too.
    sizes.extend(
        (2..=44).flat_map(|fragments| [fragments * 1480 - 9, fragments * 1480 - 8, fragments * 1480 - 7]),
    );
    sizes.extend([65_000, 65_506, 65_507]);
    sizes
}

pub fn ping_out(bed: &Bed) -> Result<()> {
    let mut vm = bed.boot()?;
    for size in ping_sizes() {
        let line = format!("ping -c 1 -W 3000 -s {size} -M {}", bed.session.link.host);
        let output = vm.console.command(&line, SOON)?;
        if Fields::require(&output, "ping")?.number("verified") != Some(1) {
            return failed(format!("{size} bytes: {output}"));
        }
    }
    bed.finish(vm)
}

pub fn ping_in(bed: &Bed) -> Result<()> {
    let vm = bed.boot()?;
    let pinger = Pinger::open(bed.session.link.guest_address().into())?;
    for (n, size) in (0..).zip(ping_sizes()) {
        pinger.ping(n, size)?;
    }
    bed.finish(vm)
}

/// Pings the guest from the host.
pub struct Pinger {
    socket: std::net::UdpSocket,
    to: SocketAddr,
}

impl Pinger {
    pub fn open(to: IpAddr) -> Result<Self> {
        let socket = sys::ping_socket().context("no ping socket")?;
        socket.set_read_timeout(Some(Duration::from_secs(3))).context("ping socket")?;
        Ok(Self { socket, to: SocketAddr::new(to, 0) })
    }

    /// One request of so many bytes, and its answer.
    pub fn ping(&self, sequence: u16, size: usize) -> Result<Duration> {
        const ECHO_REQUEST: u8 = 8;
        const HEADER: usize = 8;
        let mut request = vec![0; HEADER];
        request[0] = ECHO_REQUEST;
        request[6..].copy_from_slice(&sequence.to_be_bytes());
        request.extend_from_slice(Pattern::chunk(u64::from(sequence), size));
        let start = Instant::now();
        self.socket.send_to(&request, self.to).context(format!("ping of {size} bytes"))?;
        let mut answer = vec![0; 70_000];
        loop {
            let n = self.socket.recv(&mut answer).context(format!("no answer to a ping of {size} bytes"))?;
            if answer.get(6..HEADER) != Some(&sequence.to_be_bytes()[..]) {
                continue;
            }
            return match answer[HEADER..n] == request[HEADER..] {
                true => Ok(start.elapsed()),
                false => failed(format!("the answer to a ping of {size} bytes has other data")),
            };
        }
    }
}

/// An address from QEMU's user network, and bytes there and back.
pub fn dhcp(bed: &Bed) -> Result<()> {
    let link = Link::make(Some(Net::User), &bed.session.place)?;
    let mut machine = bed.machine(Nic::E1000, Board::Pc)?;
    machine.backend = Backend::Link(link.clone());
    machine.arguments = format!("{}={} queue=dual pools=2 ip=dhcp", Path::OPTION, bed.path.get().name());
    let mut vm = Vm::boot(&machine)?;
    vm.console.type_line(&format!("echo -p {ECHO_PORT} -1 -M"))?;
    vm.console.expect(&format!("listening on {ECHO_PORT}"), SOON)?;
    let mut stream = traffic::connect(link.guest(ECHO_PORT))?;
    let sent = Pattern::chunk(0, 20_000);
    let mut back = vec![0; sent.len()];
    stream.write_all(sent).and_then(|()| stream.read_exact(&mut back)).context("echo")?;
    stream.shutdown(std::net::Shutdown::Write).context("echo")?;
    if back != sent {
        return failed("other bytes came back");
    }
    vm.console.expect(crate::console::PROMPT, SOON)?;
    bed.finish(vm)
}

/// The plugin sees the marks and both halves, and a longer transfer costs more. Each instruction is somebody's: the sum over the
/// blocks is the count, all blocks belong to the kernel or to a program, and all sources have a category.
fn instructions(bed: &Bed) -> Result<()> {
    let machine = bed.session.counted(&bed.machine(Nic::E1000, Board::Pc)?);
    let places = Places::of(&bed.session.images)?;
    let mut vm = Vm::boot(&machine)?;
    let mut totals = BTreeMap::new();
    for buffers in [100, 1000] {
        vm.console.type_line("ttcp -r -s -p 5001")?;
        vm.console.expect("listening on 5001", SOON)?;
        let to = bed.session.link.guest(5001);
        traffic::send(&mut traffic::connect(to)?, 8192, Until::Bytes(8192 * buffers)).context("sender")?;
        vm.console.expect(crate::console::PROMPT, SOON)?;
        let regions = vm.instructions()?;
        let [region] = regions[..] else {
            return failed(format!("{} regions instead of one", regions.len()));
        };
        if region.kernel == 0 || region.user == 0 {
            return failed(format!("a half is missing: {region:?}"));
        }
        let profile = Profile::of(&places, &vm.executed()?, region)?;
        let (unknown, strange) = (profile.unknown, places.without_category());
        if unknown != 0 || !strange.is_empty() {
            return failed(format!("{unknown} instructions are nobody's; without a category: {strange:?}"));
        }
        for part in Category::ALL {
            let percent = 100 * profile.split.of(part) / profile.split.total();
            let right = match part {
                Category::Stack | Category::Copying => percent >= 5,
                Category::Other | Category::Memory => percent <= 2,
                _ => profile.split.of(part) > 0,
            };
            if !right {
                return failed(format!("{percent} % of the instructions are in `{}`", part.name()));
            }
        }
        totals.insert(buffers, region.kernel + region.user);
    }
    if totals[&1000] < 5 * totals[&100] {
        return failed(format!("ten times the data cost {totals:?}"));
    }
    bed.finish(vm)
}

fn four_gigabytes(bed: &Bed) -> Result<()> {
    let mut machine = bed.machine(Nic::Virtio, Board::Pc)?;
    machine.memory_mib = 4096;
    let mut vm = Vm::boot(&machine)?;
    let mut ports = Ports::new();
    for cell in [Cell::Tx(8192), Cell::Rx(8192)] {
        measure(&mut vm, &bed.session.link, &mut ports, Peer::Builtin, cell)?;
    }
    bed.finish(vm)
}
