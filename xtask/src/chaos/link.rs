//! The cable is pulled out and put back, under traffic: QEMU's monitor takes the link down for a while, again and again.
//!
//! Nothing dies of it. Transfers both ways go on over the connections that they have, requests are answered again, and all buffers are
//! where they belong. An outage is what a peer on the host sees, the time without a link included.

use std::time::{Duration, Instant};

use super::Stage;
use super::restart::peers::{Peers, Seen};
use super::restart::{PORTS, check_transfers, median_and_worst, wait_for};
use crate::checks;
use crate::error::{Error, Result, failed};
use crate::machine::{Board, Nic, name_of};
use crate::monitor::Monitor;
use crate::relay::Random;
use crate::vm::Vm;

const SEED: u64 = 1;
const SOON: Duration = Duration::from_secs(30);
/// A stream that stands still is waited for: TCP sends again by itself.
const PATIENT: Duration = Duration::from_secs(25);
/// The link is down for so long, and up for so long before, in milliseconds: from, and up to so many more.
const DOWN_MS: (u64, u32) = (50, 700);
const UP_MS: (u64, u32) = (1500, 1000);

/// Runs the part.
pub fn link(stage: &Stage<'_>) -> Result<()> {
    let times = if stage.short { 3 } else { 30 };
    for nic in [Nic::E1000, Nic::Virtio] {
        if stage.case.is_none_or(|case| name_of(&nic).contains(case)) {
            pull(stage, nic, times)?;
        }
    }
    Ok(())
}

fn pull(stage: &Stage<'_>, nic: Nic, times: u32) -> Result<()> {
    let (link, name) = (&stage.session.link, name_of(&nic));
    let path = stage.session.folder.path().join(format!("monitor-{name}"));
    let mut machine = stage.session.plain_machine(nic, Board::Pc)?;
    machine.monitor = Some(path.clone());
    let mut vm = Vm::boot(&machine)?;
    let mut monitor = Monitor::connect(&path)?;
    let mut random = Random::new(SEED);
    let waits: Vec<_> = (0..times)
        .map(|_| {
            let (up, down) = (random.below(UP_MS.1), random.below(DOWN_MS.1));
            (UP_MS.0 + u64::from(up), DOWN_MS.0 + u64::from(down))
        })
        .collect();
    let seconds = waits.iter().map(|(up, down)| up + down).sum::<u64>().div_ceil(1000) + 3;

    vm.console.command("echo &", SOON)?;
    wait_for(&mut vm, 0, "echo: ", "listening", SOON)?;
    let from = vm.console.transcript().len();
    let peers = Peers::start(link, PORTS, PATIENT)?;
    vm.console.command(&format!("ttcp -r -s -R -M -p {} &", PORTS.sink), SOON)?;
    wait_for(&mut vm, from, "ttcp-r: ", "listening", SOON)?;
    let send = format!("ttcp -t -s -R -M -T {seconds} -p {} {} &", PORTS.source, link.host);
    vm.console.command(&send, SOON)?;
    peers.begin();
    let start = Instant::now();
    for &(up, down) in &waits {
        std::thread::sleep(Duration::from_millis(up));
        monitor.set_link(false)?;
        std::thread::sleep(Duration::from_millis(down));
        monitor.set_link(true)?;
    }
    let took = start.elapsed();
    let limit = Duration::from_secs(2 * seconds) + SOON;
    wait_for(&mut vm, from, "ttcp-t: ", "bytes in", limit)?;
    let seen = peers.end()?;
    wait_for(&mut vm, from, "ttcp-r: ", "bytes in", limit)?;
    check_transfers(&vm.console.transcript()[from..])?;
    println!("{name}: the link was down {times} times in {:.1} s (seed {SEED})", took.as_secs_f64());
    for Seen { what, mut gaps, moved, connections } in seen {
        gaps.sort_by(|a, b| b.total_cmp(a));
        gaps.truncate(times as usize);
        let (median, worst) = median_and_worst(&gaps);
        println!("    {what}: {moved}; outage median {median:.1} ms, worst {worst:.1} ms");
        if what.contains("the guest") && connections != 1 {
            return failed(format!(
                "{name}: {what}: {connections} connections, where one should have lasted"
            ));
        }
    }
    checks::audit(&mut vm).map_err(|error| Error::Failed(format!("{name}: {}", error.message())))?;
    vm.power_off()
}
