//! Several protocol servers on one device: each has its address, its window, and only its own frames.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use abi::path::Path;
use abi::supervise::CHAOS;
use pattern::Digest;

use super::{Bed, Row, SOON};
use crate::cells::{Cell, Ports, Setting};
use crate::chaos::restart::wait_for;
use crate::dhcp;
use crate::error::{Context as _, Error, Result, failed};
use crate::machine::{Board, Nic};
use crate::peers::Peer;
use crate::results::Fields;
use crate::traffic::{self, Until};
use crate::vm::Vm;

/// This group's tests.
pub const CASES: &[Row] = &[
    ("two-servers-e1000", true, |bed| two_servers(bed, Nic::E1000, "dual")),
    ("two-servers-virtio", true, |bed| two_servers(bed, Nic::Virtio, "dual")),
    ("two-servers-ring", true, |bed| two_servers(bed, Nic::E1000, "ring")),
    ("two-servers-message", true, |bed| bed.by(Path::Ipc, |bed| two_servers(bed, Nic::E1000, "dual"))),
    ("one-server-left", true, one_server_left),
    ("two-servers-dhcp", true, two_leases),
    ("no-servers", false, no_servers),
];

/// The second server's address.
const SECOND: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 3);
/// Frames that may concern a server that has no connection: ARP, announcements, a multicast of the host's.
const STRAY: u64 = 20;

/// The counters of the kernel and of the server with this prefix before its programs' arguments.
fn counters(vm: &mut Vm, server: &str) -> Result<Fields> {
    // The server publishes its counters before it sleeps.
    thread::sleep(std::time::Duration::from_millis(300));
    let output = vm.console.command(&format!("mbstat {server}-M"), SOON)?;
    Fields::require(&output, "mbstat")
}

fn two_servers(bed: &Bed, nic: Nic, queue: &str) -> Result<()> {
    let mut machine = bed.machine(nic, Board::Pc)?;
    machine.arguments += &format!(" servers=2 ip1={SECOND}/24 queue={queue}");
    let mut vm = Vm::boot(&machine)?;
    let names = ["", "@net1 "];
    let first = bed.session.link.guest_address();
    let addresses: [IpAddr; 2] = [first.into(), SECOND.into()];

    // One alone: the other's frames are not its.
    for (busy, idle) in [(0, 1), (1, 0)] {
        let before = [counters(&mut vm, names[0])?, counters(&mut vm, names[1])?];
        let port = 5001 + busy as u16;
        vm.console.type_line(&format!("ttcp {}-r -s -l 4096 -p {port} -M", names[busy]))?;
        vm.console.expect(&format!("listening on {port}"), SOON)?;
        let to = SocketAddr::new(addresses[busy], port);
        let sent =
            traffic::send(&mut traffic::connect(to)?, 3000, Until::Bytes(2_000_000)).context("sender")?;
        let output = vm.console.expect(crate::console::PROMPT, SOON)?;
        check(&Fields::require(&output, "ttcp")?, sent.count)?;
        let after = [counters(&mut vm, names[0])?, counters(&mut vm, names[1])?];
        let gain = |n: usize| gain(&before[n], &after[n], "server_frames_in");
        let (of_busy, of_idle) = (gain(busy)?, gain(idle)?);
        if of_busy < 1000 || of_idle > STRAY {
            return failed(format!("{of_busy} frames of the busy one, {of_idle} of the idle one"));
        }
    }

    // Both at once, both ways, under the same port numbers.
    let before = [counters(&mut vm, names[0])?, counters(&mut vm, names[1])?];
    for name in names {
        vm.console.type_line(&format!("ttcp {name}-r -s -l 4096 -p 5003 -M &"))?;
        vm.console.expect("listening on 5003", SOON)?;
    }
    let listeners = [5004, 5005].map(|port| traffic::listen(bed.session.link.listen_address(), port));
    let mut receivers = Vec::new();
    for listener in listeners {
        receivers.push(traffic::spawn_receiver(listener?, true));
    }
    for (n, name) in names.into_iter().enumerate() {
        let (port, host) = (5004 + n, bed.session.link.host);
        vm.console.type_line(&format!("ttcp {name}-t -s -l 8000 -n {} -p {port} -M {host} &", 300 + n))?;
    }
    let senders = [(0, 3_000_000), (1, 3_333_333)].map(|(n, bytes): (usize, u64)| {
        let to = SocketAddr::new(addresses[n], 5003);
        thread::spawn(move || {
            traffic::send(&mut traffic::connect(to)?, 3000, Until::Bytes(bytes)).context("sender")
        })
    });
    for sender in senders {
        traffic::join(sender)?;
    }
    for (n, receiver) in (0..).zip(receivers) {
        let moved = traffic::join(receiver)?;
        if moved.first_error.is_some() || moved.count != 8000 * (300 + n) {
            return failed(format!("out of the guest by server {n}: {moved:?}"));
        }
    }
    vm.console.type_line("wait")?;
    vm.console.type_line("ps")?;
    vm.console.expect("CPU ms NAME", SOON)?;
    let transcript = vm.console.transcript().to_owned();
    let results: Vec<Fields> = transcript.lines().filter_map(|line| Fields::find(line, "ttcp")).collect();
    for bytes in [3_000_000, 3_333_333, 8000 * 300, 8000 * 301] {
        let found = results.iter().find(|fields| fields.number("bytes") == Some(bytes));
        check(found.ok_or_else(|| Error::Failed(format!("nobody reports {bytes} bytes")))?, bytes)?;
    }
    vm.console.expect(crate::console::PROMPT, SOON)?;

    // What the kernel delivered is what the two have taken, each its own.
    let after = [counters(&mut vm, names[0])?, counters(&mut vm, names[1])?];
    let taken =
        gain(&before[0], &after[0], "server_frames_in")? + gain(&before[1], &after[1], "server_frames_in")?;
    // The kernel's counters were read last for the second one.
    let kernel = |name: &str| gain(&before[0], &after[1], name);
    let mut delivered = kernel("delivered_again")?;
    for family in ["arp", "ipv4", "ipv6", "other"] {
        delivered += kernel(&format!("delivered_{family}"))?;
    }
    // By window a copy, by message a message; of those a frame may go to both servers.
    let (each, lost) = match bed.path.get() {
        Path::Ipc => ("net_messages", "drop_port_full"),
        _ => ("window_copies", "drop_no_buffer"),
    };
    let copies = kernel(each)?;
    if taken.abs_diff(copies) > STRAY || copies.abs_diff(delivered) > STRAY {
        return failed(format!(
            "{delivered} frames delivered, {copies} copies, {taken} taken by the two servers"
        ));
    }
    if kernel(lost)? > delivered / 10 {
        return failed(format!("{} of {delivered} frames found no room", kernel(lost)?));
    }
    for name in names {
        balance(&mut vm, name)?;
    }
    vm.power_off()
}

/// Two servers behind one station address are two clients to DHCP, before and after a restart.
fn two_leases(bed: &Bed) -> Result<()> {
    let dhcp = dhcp::Server::start(bed.session.link.host, Ipv4Addr::new(10, 9, 0, 50))?;
    let mut machine = bed.machine(Nic::Virtio, Board::Pc)?;
    machine.arguments = format!("path=window queue=dual pools=2 servers=2 ip=dhcp ip1=dhcp {CHAOS}=1");
    let mut vm = Vm::boot(&machine)?;
    let names = ["net", "net1"];
    let mut addresses = Vec::new();
    for name in names {
        addresses.push(address_of(&mut vm, 0, name)?);
    }
    if addresses[0] == addresses[1] {
        return failed(format!("both have {}", addresses[0]));
    }
    vm.console.command("echo &", SOON)?;
    vm.console.command("echo @net1 &", SOON)?;
    // The supervisor asks for the leases twice a second.
    vm.console.command("sleep 2", SOON)?;
    for (n, name) in names.into_iter().enumerate() {
        let from = vm.console.transcript().len();
        vm.console.command(&format!("crash server {n}"), SOON)?;
        let address = address_of(&mut vm, from, name)?;
        if address != addresses[n] {
            return failed(format!("{name} had {}, has {address}", addresses[n]));
        }
    }
    // Long enough for the leases to be confirmed, or not.
    vm.console.command("sleep 3", SOON)?;
    for &address in &addresses {
        let mut stream = traffic::connect((address, 7).into())?;
        let served = traffic::request_response(&mut stream, Duration::from_millis(200));
        if !served.as_ref().is_ok_and(|moved| moved.count > 0) {
            return failed(format!("{address} does not serve: {served:?}"));
        }
    }
    let mut clients: Vec<_> = dhcp.end()?.into_iter().collect();
    clients.sort_by_key(|(_, address)| *address);
    let kinds: Vec<_> = clients.iter().map(|(identifier, _)| (identifier[0], identifier.len())).collect();
    if !matches!(kinds.as_slice(), [(1, 7), (255, 15)] | [(255, 15), (1, 7)]) {
        return failed(format!("the clients are {clients:?}"));
    }
    vm.power_off()
}

/// The address that a server says it has.
fn address_of(vm: &mut Vm, from: usize, name: &str) -> Result<Ipv4Addr> {
    wait_for(vm, from, &format!("{name}: "), " on net0 ", SOON)?;
    let said = &vm.console.transcript()[from..];
    let address = said.split_once(&format!("{name}: ")).and_then(|(_, rest)| rest.split_once('/'));
    let address = address.and_then(|(address, _)| address.parse().ok());
    address.ok_or_else(|| Error::Failed(format!("{name} has no address:\n{said}")))
}

/// A second server that is told no address ends with its window; the first has the device for itself again, and nothing is copied any more.
fn one_server_left(bed: &Bed) -> Result<()> {
    for nic in [Nic::E1000, Nic::Virtio] {
        let mut machine = bed.machine(nic, Board::Pc)?;
        machine.arguments += " servers=2 ip1=nowhere";
        let mut vm = Vm::start(&machine)?;
        vm.console.expect("ip1=nowhere is no address", SOON)?;
        vm.console.expect(crate::console::PROMPT, SOON)?;
        let mut ports = Ports::new();
        let mut measure = |vm: &mut Vm, cell| -> Result<()> {
            let link = &bed.session.link;
            let measured =
                Setting { vm, link, ports: &mut ports, peer: Peer::Builtin, seconds: 1 }.measure(cell)?;
            measured.problem.map_or(Ok(()), |problem| failed(format!("{cell}: {problem}")))
        };
        measure(&mut vm, Cell::Rx(8192))?;
        let before = counters(&mut vm, "")?;
        for cell in [Cell::Rx(8192), Cell::Tx(8192), Cell::Rx(10)] {
            measure(&mut vm, cell)?;
        }
        let after = counters(&mut vm, "")?;
        let copies = gain(&before, &after, "window_copies")?;
        if copies != 0 {
            return failed(format!("{copies} frames were copied for a server that is alone"));
        }
        bed.finish(vm)?;
    }
    Ok(())
}

fn no_servers(bed: &Bed) -> Result<()> {
    let wrong = ["servers=0", "servers=5", "servers=many", "windows=0", "windows=5", "servers=3 windows=2"];
    for wrong in wrong {
        let mut machine = bed.machine(Nic::E1000, Board::Pc)?;
        machine.arguments += &format!(" {wrong}");
        let mut vm = Vm::start(&machine)?;
        vm.expect_exit(abi::exit::BOOT_FAILED, SOON)?;
        let said = vm.console.transcript();
        if !said.contains("servers= must be") && !said.contains("windows= must be") {
            return failed(format!("it said: {said}"));
        }
    }
    Ok(())
}

fn check(fields: &Fields, bytes: u64) -> Result<()> {
    if fields.number("bytes") == Some(bytes) && fields.digest() == Some(Digest::of_pattern(bytes)) {
        return Ok(());
    }
    failed(format!("{bytes} bytes, and the guest says {fields:?}"))
}

fn gain(before: &Fields, after: &Fields, name: &str) -> Result<u64> {
    Ok(after.require_number(name)?.saturating_sub(before.require_number(name)?))
}

/// The accounts of one server's window.
fn balance(vm: &mut Vm, server: &str) -> Result<()> {
    let output = vm.console.command(&format!("mbstat {server}-c"), SOON)?;
    if output.contains("mbstat: balanced") && !output.contains("exit status") {
        return Ok(());
    }
    failed(format!("the books don't balance for `{server}`:\n{output}"))
}
