//! What a restart keeps, and who may ask for one. Restarts under traffic are `cargo xtask chaos restart`.

use std::time::Duration;

use abi::path::Path;
use abi::supervise::CHAOS;

use super::{Bed, Row, SOON};
use crate::chaos::restart::{restarts, wait_for};
use crate::error::{Result, failed};
use crate::machine::{Backend, Board, Nic};
use crate::network::{Link, Net};
use crate::traffic;
use crate::vm::Vm;

/// This group's tests.
pub const CASES: &[Row] = &[
    ("restart-keeps-the-lease", false, lease),
    ("nobody-may-kill-servers", false, denied),
    ("nobody-takes-a-servers-place", false, usurped),
];

/// A server that took its address anew would be without one for a second at least: so long QEMU's e1000 receives nothing.
const AT_ONCE_MS: f64 = 900.0;
const ADDRESS: &str = "net: 10.0.2.15/24";

/// The next server has the address of the one before at once, and so does the one that a second supervisor starts.
fn lease(bed: &Bed) -> Result<()> {
    for path in [Path::Window, Path::Ipc] {
        let link = Link::make(Some(Net::User), &bed.session.place)?;
        let mut machine = bed.machine(Nic::E1000, Board::Pc)?;
        machine.backend = Backend::Link(link.clone());
        machine.arguments = format!("path={} queue=dual pools=2 ip=dhcp {CHAOS}=1", path.name());
        let mut vm = Vm::boot(&machine)?;
        if !vm.console.transcript().contains(ADDRESS) {
            return failed("the first server has another address");
        }
        vm.console.command("echo &", SOON)?;
        // The supervisor asks for the lease twice a second.
        vm.console.command("sleep 2", SOON)?;
        for supervisor in [false, true] {
            if supervisor {
                vm.console.command("crash supervisor", SOON)?;
                vm.console.command("sleep 1", SOON)?;
            }
            let from = vm.console.transcript().len();
            vm.console.command("crash server", SOON)?;
            wait_for(&mut vm, from, "supervisor: ", "again after", SOON)?;
            let said = &vm.console.transcript()[from..];
            let ms = restarts(said);
            if !said.contains(ADDRESS) || !ms.first().is_some_and(|&ms| ms < AT_ONCE_MS) {
                return failed(format!("the next server was there after {ms:?} ms:\n{said}"));
            }
            // Time for the DHCP server to confirm the lease; the address stays.
            vm.console.command("sleep 4", SOON)?;
            let mut stream = traffic::connect(link.guest(7))?;
            let served = traffic::request_response(&mut stream, Duration::from_millis(200));
            if !served.as_ref().is_ok_and(|moved| moved.count > 0) {
                return failed(format!("echo does not serve after the restart: {served:?}"));
            }
        }
        bed.finish(vm)?;
    }
    Ok(())
}

/// While servers die so often that the supervisor lets some time pass before it starts the next, somebody else tries to take their names,
/// their address and their place at the device.
fn usurped(bed: &Bed) -> Result<()> {
    // By message the device has six places, of which five are nobody's.
    for (path, more, spare) in [(Path::Window, "windows=2", 1), (Path::Ipc, "", 5)] {
        let mut machine = bed.machine(Nic::Virtio, Board::Pc)?;
        machine.set_path(path);
        machine.arguments += &format!(" {more} {CHAOS}=1");
        let mut vm = Vm::boot(&machine)?;
        let from = vm.console.transcript().len();
        let address = bed.session.link.guest_address();
        vm.console.command(&format!("usurper -t 6 -w {spare} {address} &"), SOON)?;
        // Each of these lives is short, and each pause longer than the one before.
        vm.console.command("crash -n 40 -i 20 server", SOON)?;
        wait_for(&mut vm, from, "usurper: ", "", SOON)?;
        let said = &vm.console.transcript()[from..];
        let tried = said.lines().find_map(|line| line.split_once("usurper: ")).map(|(_, tried)| tried);
        let alone = tried.and_then(|tried| tried.split_once(" tries, ")?.1.split_once(' '));
        let alone: u64 = alone.and_then(|(number, _)| number.parse().ok()).unwrap_or_default();
        if !said.contains("without a server: nothing taken") || alone == 0 {
            return failed(format!("on the path {}: {tried:?}", path.name()));
        }
        // It is back, and serves.
        traffic::datagrams::wait_for_reply(address, SOON);
        bed.finish(vm)?;
    }
    Ok(())
}

/// Without the option the supervisor obeys nobody, and a server minds no such message.
fn denied(bed: &Bed) -> Result<()> {
    let mut vm = bed.boot()?;
    for how in ["server", "supervisor", "-f server", "-h server", "-e server"] {
        let output = vm.console.command(&format!("crash {how}"), SOON)?;
        if !output.contains("permission denied") {
            return failed(format!("crash {how}: {output}"));
        }
    }
    let output = vm.console.command("crash nobody", SOON)?;
    if !output.contains("usage: crash") {
        return failed(format!("crash nobody: {output}"));
    }
    bed.finish(vm)
}
