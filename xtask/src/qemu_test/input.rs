//! Bad input to the commands themselves: one clear line, the right status, nothing left behind; the same after Ctrl-C.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Bed, Row};
use crate::error::{Context as _, Result, failed};
use crate::{build, sys};

/// This group's tests.
pub const CASES: &[Row] = &[
    ("bad-input", false, bad_input),
    ("no-qemu", false, no_qemu),
    ("busy-port", false, busy_port),
    ("ctrl-c-leaves-nothing", false, ctrl_c),
];

/// This program again, in this namespace, as a user would start it; what it leaves behind would be in a folder of its own.
fn own(bed: &Bed) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("this program's path")?);
    let folder = temporary(bed);
    fs::create_dir_all(&folder).context(folder.display())?;
    sys::die_with_parent(&mut command).env_remove(build::BUILT).env("TMPDIR", folder).stdin(Stdio::null());
    Ok(command)
}

/// Runs it to its end; checks the status and that the complaint is one line which says this.
fn complains(command: &mut Command, status: i32, says: &str) -> Result<()> {
    let output = command.output().context("this program")?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let errors: Vec<_> = text.lines().filter(|line| line.starts_with("error:")).collect();
    let shown = format!("{:?}: {}: {text}", command.get_args().collect::<Vec<_>>(), output.status);
    if output.status.code() != Some(status) || errors.len() != 1 || !errors[0].contains(says) {
        return failed(format!("wanted status {status} and one line with `{says}`, got {shown}"));
    }
    Ok(())
}

fn bad_input(bed: &Bed) -> Result<()> {
    let folder = bed.session.folder.path();
    let kernel = fs::read(&bed.session.images.kernel).context("kernel")?;
    let (cut, text) = (folder.join("cut-kernel"), folder.join("text"));
    // Within what is loaded: half of the file and more is for debuggers.
    fs::write(&cut, &kernel[..kernel.len() / 16]).context("cut-kernel")?;
    fs::write(&text, "no program").context("text")?;
    let (cut, module) = (cut.display().to_string(), format!("ttcp={}", text.display()));
    let cases: &[(&[&str], i32, &str)] = &[
        (&["run", "--no-such-option"], 2, "--no-such-option"),
        (&["run", "--nic", "rtl8139"], 2, "rtl8139"),
        (&["run", "--size", "0"], 2, "from 1 to"),
        (&["run", "--size", "1099511627776"], 2, "from 1 to"),
        (&["boot", "--net", "user", "--exec", "true", "--kernel", &cut], 1, "is cut short"),
        (&["boot", "--net", "user", "--exec", "true", "--kernel", "/nowhere"], 1, "/nowhere"),
        (&["boot", "--net", "user", "--exec", "true", "--module", &module], 1, "is no ELF file"),
        (&["boot", "--net", "user", "--exec", "true", "--module", "ttcp"], 2, "NAME=FILE"),
        (&["boot", "--net", "user", "--exec", "true", "--memory", "20"], 1, "can't boot"),
        (&["run", "--net", "user", "--json", "/nowhere/x.json"], 1, "/nowhere/x.json"),
    ];
    for (arguments, status, says) in cases {
        complains(own(bed)?.args(*arguments), *status, says)?;
    }
    nothing_left(bed)
}

/// Without QEMU, and without a package manager to fetch it with.
fn no_qemu(bed: &Bed) -> Result<()> {
    // Both are looked for in PATH and in the administrator's folders; apt-get and QEMU are in neither of these then.
    let mut command = own(bed)?;
    command.args(["boot", "--exec", "true"]).env("PATH", bed.session.folder.path());
    complains(&mut command, 1, "qemu-system-x86_64")
}

/// The debugger's port in use.
fn busy_port(bed: &Bed) -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0").context("a port")?;
    let port = taken.local_addr().context("a port")?.port().to_string();
    let mut command = own(bed)?;
    command.args(["boot", "--net", "user", "--gdb", "--gdb-port", &port]);
    complains(&mut command, 1, "is not free")?;
    nothing_left(bed)
}

fn ctrl_c(bed: &Bed) -> Result<()> {
    let mut command = own(bed)?;
    command.args(["run", "--net", "user", "--seconds", "60"]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().context("this program")?;
    let result = interrupt(&mut child);
    child.kill().ok();
    child.wait().ok();
    result?;
    nothing_left(bed)
}

fn interrupt(child: &mut Child) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while processes("qemu-system")?.is_empty() {
        if Instant::now() > deadline || sys::interrupted() {
            return failed("no QEMU was started within 60 s");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    std::thread::sleep(Duration::from_secs(2));
    sys::send_interrupt(child).context("SIGINT")?;
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match child.try_wait().context("this program")? {
            Some(status) if status.code() == Some(130) => return Ok(()),
            Some(status) => return failed(format!("it ended with {status}, not with 130")),
            None if Instant::now() > deadline => return failed("it goes on 10 s after Ctrl-C"),
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// The numbers of the processes whose command line contains this.
fn processes(name: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("/proc")?.flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let program = line.split(|byte| *byte == 0).next().unwrap_or_default();
        if String::from_utf8_lossy(program).contains(name) && own_namespace(&entry.path()) {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(found)
}

/// Whether a process is in this one's network namespace: others' are none of our business.
fn own_namespace(process: &std::path::Path) -> bool {
    let of = |path: &std::path::Path| fs::read_link(path.join("ns/net")).ok();
    of(process).is_some() && of(process) == of(std::path::Path::new("/proc/self"))
}

fn temporary(bed: &Bed) -> PathBuf {
    bed.session.folder.path().join("tmp")
}

/// No QEMU, and nothing in the folder for what is temporary.
fn nothing_left(bed: &Bed) -> Result<()> {
    let qemu = processes("qemu-system")?;
    if !qemu.is_empty() {
        return failed(format!("QEMU was left behind: {qemu:?}"));
    }
    let folder = temporary(bed);
    match fs::read_dir(&folder).context(folder.display())?.flatten().next() {
        Some(entry) => failed(format!("{} was left behind", entry.path().display())),
        None => Ok(()),
    }
}
