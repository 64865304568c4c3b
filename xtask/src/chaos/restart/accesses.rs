//! The server ends at each access of a shared word in its queue code, once: the list is made from its debug information
//! ([`crate::profile::accesses`]), the moment is an instruction, not a time.
//!
//! QEMU's debugger stub stops the machine where the server comes to the access, under the traffic of [`super`], and sends it to an address
//! where there is nothing: the fault ends it there and then, before the access and behind the one before. Some accesses are rare, and some
//! are never made: those of the other kind of queue, say. What was not reached within a while is looked for once more, all of it at once, and
//! then said.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use abi::path::Path;

use super::{Before, Campaign, HANG, Traffic, restarts};
use crate::chaos::Stage;
use crate::console::{FAULT, PANIC};
use crate::error::{Result, failed};
use crate::gdb::Stub;
use crate::machine::{Nic, name_of};
use crate::profile::accesses::{self, Access};
use crate::vm::Vm;

/// An address that no task has anything at.
const NOWHERE: u64 = 0x10;
/// How long traffic may take to come to an access.
const REACH: Duration = Duration::from_millis(700);
/// How long all that are left may take to come to one of them.
const REACH_ANY: Duration = Duration::from_secs(10);
/// How long streams may take to be there again.
const STREAMS: Duration = Duration::from_millis(150);
/// On the e1000 of QEMU, which takes no frames in the first second.
const STREAMS_E1000: Duration = Duration::from_millis(1200);
/// Before the end of a round no access is looked for: the streams are to be whole when it ends.
const ENDING: Duration = Duration::from_secs(2);
/// One round of traffic.
const ROUND_S: u64 = 60;
/// Of the short form.
const SHORT_ROUND_S: u64 = 8;
/// How many accesses it has, and how many it looks for.
const SHORT: (usize, usize) = (4, 10);

/// Runs it with both kinds of queue.
pub fn run(stage: &Stage<'_>) -> Result<()> {
    let Some(server) = stage.session.images.programs.get(abi::supervise::SERVER) else {
        return failed("there is no server to be looked at");
    };
    let list = accesses::of(server)?;
    if list.is_empty() {
        return failed("the server's debug information shows no access of a shared word");
    }
    let kinds: &[_] = if stage.short {
        &[(Nic::Virtio, "dual"), (Nic::Virtio, "ring")]
    } else {
        &[(Nic::Virtio, "dual"), (Nic::Virtio, "ring"), (Nic::E1000, "dual")]
    };
    for &(nic, queue) in kinds {
        let name = format!("accesses-{queue}-{}", name_of(&nic));
        if stage.case.is_none_or(|case| name.contains(case)) {
            Sweep { nic, queue }.run(stage, &name, &list)?;
        }
    }
    Ok(())
}

/// One machine and one kind of queue.
struct Sweep {
    nic: Nic,
    queue: &'static str,
}

impl Sweep {
    fn run(&self, stage: &Stage<'_>, name: &str, list: &[Access]) -> Result<()> {
        let campaign = Campaign { path: Path::Window, nic: self.nic, kills: 0, apart_ms: 0 };
        let mut machine = campaign.machine(stage)?;
        machine.arguments += &format!(" queue={}", self.queue);
        let socket = stage.session.folder.path().join(format!("stub-{name}"));
        machine.stub = Some(socket.clone());
        let mut vm = Vm::boot(&machine)?;
        let link = &stage.session.link;
        let before = Before::new(&mut vm, link)?;
        let mut stub = Stub::connect(&socket)?;
        stub.go_on()?;
        // Each end is a fault that the kernel reports; how many there were is compared at the end.
        vm.console.trouble_expected = true;

        let start = Instant::now();
        let (enough, tries) = if stage.short { SHORT } else { (list.len(), usize::MAX) };
        let mut search = Search::new(list, enough, tries);
        let round_s = if stage.short { SHORT_ROUND_S } else { ROUND_S };
        let mut again = Vec::new();
        while !search.is_over() {
            let traffic = Traffic::start(&mut vm, link, round_s)?;
            let begun = Instant::now();
            self.settle();
            while !search.is_over() && begun.elapsed() + ENDING < Duration::from_secs(round_s) {
                if search.step(&mut stub)? {
                    vm.console.expect("again after ", HANG)?;
                    self.settle();
                }
            }
            let (_, transcript) = traffic.end(&mut vm)?;
            again.extend(restarts(&transcript));
        }
        drop(stub); // the machine goes on without
        let (reached, missed) = (search.reached, search.left);
        println!(
            "{name}: {} accesses of shared words, {} looked for in {:.1} s; the server ended at {reached}, {} were not reached",
            list.len(),
            reached + missed.len(),
            start.elapsed().as_secs_f64(),
            missed.len()
        );
        super::print_outages(&again, &vm, before.restarts)?;
        if !stage.short {
            missed
                .iter()
                .for_each(|access| println!("    not reached: {:#x} {}", access.address, access.place));
        }
        before.look(&mut vm, link, name)?;
        let said = vm.console.transcript();
        let (panics, faults) = (said.matches(PANIC).count(), said.matches(FAULT).count());
        if (panics, faults) != (0, reached) || reached == 0 {
            return failed(format!("{name}: {panics} panics, {faults} faults of tasks, {reached} made"));
        }
        vm.power_off()
    }

    fn settle(&self) {
        std::thread::sleep(if self.nic == Nic::E1000 { STREAMS_E1000 } else { STREAMS });
    }
}

/// What is left to be reached.
struct Search<'l> {
    /// Not looked for yet.
    waiting: VecDeque<&'l Access>,
    /// Looked for in vain.
    left: Vec<&'l Access>,
    reached: usize,
    /// So many are enough.
    enough: usize,
    /// So often it is tried at most.
    tries: usize,
    /// All that are left have been looked for at once, in vain.
    exhausted: bool,
}

impl<'l> Search<'l> {
    fn new(list: &'l [Access], enough: usize, tries: usize) -> Self {
        // Few of many: from everywhere in the list.
        let stride = (list.len() / enough).max(1);
        let spread = (0..stride).flat_map(|first| list.iter().skip(first).step_by(stride));
        Self { waiting: spread.collect(), left: Vec::new(), reached: 0, enough, tries, exhausted: false }
    }

    fn is_over(&self) -> bool {
        let sought = self.reached + self.left.len();
        self.reached >= self.enough
            || sought >= self.tries
            || self.waiting.is_empty() && (self.left.is_empty() || self.exhausted)
    }

    /// Looks for the next, or for all that are left; whether the server was ended.
    fn step(&mut self, stub: &mut Stub) -> Result<bool> {
        stub.stop()?;
        let next = self.waiting.pop_front();
        let (targets, patience) = match next {
            Some(access) => (vec![access], REACH),
            None => (self.left.clone(), REACH_ANY),
        };
        for access in &targets {
            stub.insert(access.address)?;
        }
        let stopped = stub.run(patience)?;
        for access in &targets {
            stub.remove(access.address)?;
        }
        let hit = targets.iter().any(|access| access.address == stopped);
        if hit {
            stub.set_program_counter(NOWHERE)?;
            self.reached += 1;
            self.left.retain(|access| access.address != stopped);
        } else if let Some(access) = next {
            self.left.push(access);
        } else {
            self.exhausted = true;
        }
        stub.go_on()?;
        Ok(hit)
    }
}
