//! `cargo xtask run`: one boot, the cells, the table.

use crate::cells::{Cell, Ports, Setting};
use crate::cli::{FigureArgs, Queue, RunArgs};
use crate::error::{Error, Result, failed};
use crate::machine::{Accel, Machine, name_of};
use crate::network::Net;
use crate::peers::Peer;
use crate::report::{self, Setup};
use crate::session::Session;
use crate::setup::{self, Tool};
use crate::vm::Vm;

/// The programs that these figures need.
pub fn tools(figures: &FigureArgs) -> &'static [Tool] {
    match figures.peer {
        Peer::Builtin | Peer::Linux => &[],
        Peer::Nuttcp => &[setup::NUTTCP],
        Peer::Iperf => &[setup::IPERF],
    }
}

/// What the rows have in common.
pub fn setup_of(path: &str, queue: Queue, machine: &Machine, figures: &FigureArgs) -> Setup {
    Setup {
        path: path.into(),
        queue: name_of(&queue),
        nic: machine.nic,
        board: machine.board,
        accel: machine.accel,
        peer: figures.peer,
    }
}

/// Runs the command.
pub fn run(args: &RunArgs) -> Result<()> {
    if args.figures.peer == Peer::Linux {
        return Err(Error::Usage("--peer linux puts a Linux guest beside Oriel: that is for `bench`".into()));
    }
    let path = args.machine.one_path()?;
    let seconds = args.figures.seconds.unwrap_or(3);
    report::check_writable(args.figures.json.as_deref())?;
    // The first command of a newcomer: it brings the peers of the other commands too.
    let session = Session::for_machine(&args.machine, tools(&args.figures))?;
    let machine = session.machine(&args.machine)?;
    // Under KVM there's nothing that could count.
    let machine = if machine.accel == Accel::Tcg { session.counted(&machine) } else { machine };
    let setup = setup_of(&name_of(&path), args.machine.one_queue()?, &machine, &args.figures);
    println!(
        "Booting: {} MiB, {}, {} {}, executed by {}, {}",
        machine.memory_mib,
        name_of(&machine.board),
        name_of(&machine.nic),
        if session.link.net == Net::Tap {
            "on a tap in a namespace of its own"
        } else {
            "on QEMU's user network"
        },
        name_of(&machine.accel),
        if machine.plugin.is_some() { "instructions counted" } else { "instructions not counted" },
    );
    let mut vm = Vm::boot(&machine)?;
    println!("Up. {seconds} s a cell; {} is the peer.\n", name_of(&args.figures.peer));
    report::print_heading();
    let (mut rows, mut wrong, mut ports) = (Vec::new(), Vec::new(), Ports::new());
    for cell in Cell::of(args.figures.direction, &args.figures.size) {
        let mut setting =
            Setting { vm: &mut vm, link: &session.link, ports: &mut ports, peer: args.figures.peer, seconds };
        let measurement = setting.measure(cell)?;
        report::print_row(&setup, &measurement);
        if measurement.problem.is_some() {
            wrong.push(cell.to_string());
        }
        rows.push(report::to_json(&setup, &measurement));
    }
    vm.power_off()?;
    report::print_legend(&setup);
    if let Some(file) = &args.figures.json {
        report::write_json(file, rows)?;
    }
    if wrong.is_empty() { Ok(()) } else { failed(format!("wrong data in {}", wrong.join(", "))) }
}
