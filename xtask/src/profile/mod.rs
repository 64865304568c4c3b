//! `cargo xtask profile`: where the instructions of a cell go.
//!
//! The plugin counts exactly how often each translated block runs between the marks (`insn_counter::blocks`); `places` finds the
//! line of each instruction by the debug information, `category` says what a file is about, `split` adds up. The sum over the
//! categories is the number that `run` and `bench` print, or the command fails.

pub mod accesses;
pub mod category;
mod places;
mod split;

use serde_json::json;

pub use self::places::Places;
pub use self::split::{Profile, Share};

use crate::cells::{Cell, Measurement, Ports, Setting, Unit};
use crate::cli::{FigureArgs, MachineArgs, ProfileArgs};
use crate::error::{Error, Result, failed};
use crate::machine::{Accel, name_of};
use crate::peers::Peer;
use crate::session::Session;
use crate::vm::Vm;
use crate::{report, run};
use category::Category;

/// Runs the command.
pub fn profile(args: &ProfileArgs) -> Result<()> {
    if args.machine.accel == Some(Accel::Kvm) {
        return Err(Error::Usage(
            "instructions are counted by QEMU's translator only; leave out --accel kvm".into(),
        ));
    }
    report::check_writable(args.json.as_deref())?;
    let session = Session::for_machine(&args.machine, &[])?;
    let machine = session.machine(&MachineArgs { accel: Some(Accel::Tcg), ..args.machine.clone() })?;
    let machine = session.counted(&machine);
    let places = Places::of(&session.images)?;
    let figures = FigureArgs::builtin(args.seconds, args.json.clone());
    let path = name_of(&args.machine.one_path()?);
    let setup = run::setup_of(&path, args.machine.one_queue()?, &machine, &figures);
    let (mut ports, mut rows, mut wrong) = (Ports::new(), Vec::new(), Vec::new());
    let mut vm = Vm::boot(&machine)?;
    for cell in &args.cells {
        let mut setting = Setting {
            vm: &mut vm,
            link: &session.link,
            ports: &mut ports,
            peer: Peer::Builtin,
            seconds: args.seconds,
        };
        let measurement = setting.measure(*cell)?;
        let Some(profile) = of(&places, &measurement)? else {
            return failed(format!("nothing was counted in {cell}"));
        };
        println!("{cell}, {} by the path `{}`", name_of(&setup.nic), setup.path);
        print_split(&measurement, &profile);
        print_shares("functions", &measurement, &profile, &profile.functions, args.top);
        print_shares("lines", &measurement, &profile, &profile.lines, args.top);
        if let Some(problem) = &measurement.problem {
            wrong.push(format!("{cell}: {problem}"));
        }
        let mut row = report::to_json(&setup, &measurement);
        row["split"] = profile.split.to_json(units(&measurement));
        // Those with at least one instruction in ten thousand; the rest is many and little.
        let least = profile.split.total() / 10_000;
        let top = profile.functions.iter().take_while(|share| share.instructions > least);
        row["functions"] = top.map(|share| share_json(share, units(&measurement))).collect();
        rows.push(row);
    }
    vm.power_off()?;
    for path in places.without_category() {
        println!("note: {path} has no category (xtask/src/profile/category.rs) and counts as other");
    }
    if let Some(file) = &args.json {
        report::write_json(file, rows)?;
    }
    if wrong.is_empty() { Ok(()) } else { failed(wrong.join("; ")) }
}

/// Divides a measurement's instructions, if they were counted.
///
/// # Errors
/// The sum isn't what was counted.
pub fn of(places: &Places, measurement: &Measurement) -> Result<Option<Profile>> {
    let divide = |counted| Profile::of(places, &measurement.executed, counted);
    measurement.instructions.map(divide).transpose()
}

/// KiB that a measurement moved, or its transactions: what figures are divided by.
pub fn units(measurement: &Measurement) -> f64 {
    measurement.units()
}

fn unit_name(cell: Cell) -> &'static str {
    match cell.unit() {
        Unit::Kib => "KiB",
        unit => unit.name(),
    }
}

fn print_split(measurement: &Measurement, profile: &Profile) {
    let (units, packets) = (units(measurement), report::frames(measurement).max(1) as f64);
    println!(
        "  {:<14} {:>12} {:>10} {:>8}",
        "instructions",
        format!("/{}", unit_name(measurement.cell)),
        "/packet",
        ""
    );
    let print = |name: &str, count: u64| {
        let percent = 100.0 * count as f64 / profile.split.total().max(1) as f64;
        println!(
            "  {name:<14} {:>12.1} {:>10.1} {percent:>7.1}%",
            count as f64 / units,
            count as f64 / packets
        );
    };
    Category::ALL.into_iter().for_each(|category| print(category.name(), profile.split.of(category)));
    print("all", profile.split.total());
    for (name, count) in report::events(measurement) {
        println!("  {name:<14} {:>12.3} {:>10.3}", count as f64 / units, count as f64 / packets);
    }
    if profile.unknown > 0 {
        println!("  ({} instructions belong to no known program; they are in `other`)", profile.unknown);
    }
    println!();
}

fn print_shares(what: &str, measurement: &Measurement, profile: &Profile, shares: &[Share], top: usize) {
    if top == 0 {
        return;
    }
    println!(
        "  {:>10} {:>6}  {:<13} {what}",
        format!("/{}", &unit_name(measurement.cell)[..3]),
        "%",
        "category"
    );
    for share in shares.iter().take(top) {
        let (place, count) = (&share.place, share.instructions as f64);
        let line = if place.line == 0 { String::new() } else { format!(":{}", place.line) };
        println!(
            "  {:>10.1} {:>6.2}  {:<13} {}: {}  {}{line}",
            count / units(measurement),
            100.0 * count / profile.split.total().max(1) as f64,
            place.category.name(),
            share.image,
            place.function,
            place.file,
        );
    }
    println!();
}

fn share_json(share: &Share, units: f64) -> serde_json::Value {
    json!({
        "image": share.image,
        "function": share.place.function,
        "file": share.place.file,
        "category": share.place.category.name(),
        "instructions": share.instructions as f64 / units,
    })
}
