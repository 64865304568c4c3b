//! `cargo xtask boot`: the machine with its console on the terminal, or with a command at the host's end.

mod services;

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::cli::BootArgs;
use crate::error::{Context as _, Error, Result, failed};
use crate::machine::{Machine, Serial};
use crate::network::{self, Net, Place};
use crate::session::Session;
use crate::sys;
use crate::vm::Vm;
use services::Services;

/// Runs the command.
pub fn boot(args: &BootArgs) -> Result<()> {
    let session = Session::for_machine(&args.machine, &Services::tools(args))?;
    let mut machine = session.machine(&args.machine)?;
    if args.gdb {
        std::net::TcpListener::bind(("127.0.0.1", args.gdb_port)).map_err(|error| {
            Error::Failed(format!("port {} is not free ({error}); choose one with --gdb-port", args.gdb_port))
        })?;
        machine.gdb = Some(args.gdb_port);
    }
    let services = Services::start(args, &session)?;
    match &args.exec {
        Some(command) => exec(&session, &machine, &args.guest, command)?,
        None => {
            print_hints(&session, &machine);
            interactive(&machine)?;
        }
    }
    services.finish()
}

fn print_hints(session: &Session, machine: &Machine) {
    let link = &session.link;
    println!("The guest is {}, the host is {} in its eyes.", link.guest_address(), link.host);
    if link.net == Net::User {
        let ports: Vec<_> =
            link.forwards.iter().take(4).map(|(host, guest)| format!("{host} -> {guest}")).collect();
        println!("Ports of 127.0.0.1 that lead into the guest: {}, ...", ports.join(", "));
    }
    let way_in = match &session.place {
        Place::Namespace(outside) => Some(network::way_in(outside)),
        Place::Host => None,
    };
    if let Some(way_in) = &way_in {
        println!(
            "The host's end of the link is in a network namespace; from another terminal enter it with\n"
        );
        println!("    {way_in} COMMAND          for example: {way_in} ping -c 3 {}\n", link.guest_address());
    }
    if let Some(port) = machine.gdb {
        let gdb = format!("gdb {} -ex 'target remote :{port}'", machine.kernel.display());
        match way_in {
            Some(way_in) => println!("The machine waits for a debugger: {way_in} {gdb}"),
            None => println!("The machine waits for a debugger: {gdb}"),
        }
    }
    println!("`help` lists the programs, `poweroff` ends; Ctrl-A X ends QEMU at once.\n");
}

fn interactive(machine: &Machine) -> Result<()> {
    let machine = Machine { serial: Serial::Terminal, ..machine.clone() };
    let mut command = machine.command();
    command.stderr(Stdio::piped());
    let child = command.spawn().context("cannot start QEMU")?;
    let output = child.wait_with_output().context("QEMU")?;
    if sys::interrupted() {
        return Err(Error::Interrupted);
    }
    let status_of = |code| Some(abi::exit::qemu_status(code).cast_signed());
    let complaints = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        // Zero: Ctrl-A X.
        code if code == status_of(abi::exit::OFF) || code == Some(0) => Ok(()),
        code if code == status_of(abi::exit::PANIC) => failed("the kernel panicked; its report is above"),
        code if code == status_of(abi::exit::BOOT_FAILED) => {
            failed("the guest can't boot; its reason is the last line above")
        }
        _ => failed(format!(
            "QEMU ended with {}: {}",
            output.status,
            complaints.lines().next_back().unwrap_or("no reason given")
        )),
    }
}

/// The guest's lines, then the host's command, then the end.
fn exec(session: &Session, machine: &Machine, lines: &[String], command: &str) -> Result<()> {
    let mut vm = Vm::boot(machine)?;
    for line in lines {
        // A line with `&` comes back to the prompt at once.
        let output = vm.console.command(line, Duration::from_secs(60))?;
        print!("{output}");
    }
    let mut shell = Command::new("sh");
    sys::die_with_parent(&mut shell).args(["-c", command]);
    shell.env("ORIEL_GUEST", session.link.guest_address().to_string());
    shell.env("ORIEL_HOST", session.link.host.to_string());
    for (host, guest) in &session.link.forwards {
        shell.env(format!("ORIEL_PORT_{guest}"), host.to_string());
    }
    let status = shell.status().context("sh")?;
    // What the guest's programs in the background had to say.
    let rest = vm.console.command("", Duration::from_secs(20))?;
    print!("{}", rest.trim_start());
    vm.power_off()?;
    if status.success() { Ok(()) } else { failed(format!("`{command}` ended with {status}")) }
}
