//! The machine: every QEMU command line comes from [`Machine::command`].

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::ValueEnum;

use crate::console::Console;
use crate::error::Result;
use crate::network::{self, Link, Net};
use crate::{setup, sys};

/// QEMU's machine types that the kernel has a board file for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Board {
    /// i440FX, the default of QEMU
    Pc,
    /// Intel's Q35 chip set, with PCI Express
    Q35,
}

/// The network devices that there are drivers for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Nic {
    /// Intel 82540EM
    E1000,
    /// virtio-net over PCI
    #[value(alias = "virtio-net")]
    Virtio,
}

/// How the guest's instructions are executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Accel {
    /// QEMU's translator: counts instructions, works everywhere
    Tcg,
    /// The processor itself, by the host kernel's help; no instruction counts
    Kvm,
}

/// A `ValueEnum`'s name, as the command line and the JSON have it.
pub fn name_of(value: &impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

/// What the network device is attached to.
#[derive(Debug, Clone)]
pub enum Backend {
    /// As the link says.
    Link(Link),
    /// A relay of frames over Unix datagram sockets, which owns the tap: this end's path, the relay's path.
    Relay(PathBuf, PathBuf),
}

/// Where the serial line goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serial {
    /// To pipes of this program.
    Piped,
    /// To the terminal, with QEMU's escape key, Ctrl-A.
    Terminal,
}

/// Everything that a QEMU command line says.
#[derive(Debug, Clone)]
pub struct Machine {
    /// The machine type.
    pub board: Board,
    /// The network device.
    pub nic: Nic,
    /// The executor.
    pub accel: Accel,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// The kernel.
    pub kernel: PathBuf,
    /// The boot module.
    pub module: PathBuf,
    /// The kernel's command line.
    pub arguments: String,
    /// The network.
    pub backend: Backend,
    /// A capture of all frames.
    pub pcap: Option<PathBuf>,
    /// The counting plugin and the file that it writes.
    pub plugin: Option<(PathBuf, PathBuf)>,
    /// Whether the plugin also keeps how often each block ran. A guest with more code than it has room for does without.
    pub blocks: bool,
    /// Waits for a debugger on this TCP port.
    pub gdb: Option<u16>,
    /// Where a debugger may come later, a Unix socket.
    pub stub: Option<PathBuf>,
    /// Each instruction takes so many nanoseconds of the guest's time, as a power of two: a machine of a known speed, slow enough to be
    /// overrun by any host.
    pub icount: Option<u8>,
    /// The console.
    pub serial: Serial,
    /// Where QEMU's monitor listens, a Unix socket.
    pub monitor: Option<PathBuf>,
}

impl Machine {
    /// The default machine around this kernel, module and link.
    pub fn plain(kernel: PathBuf, module: PathBuf, link: Link) -> Self {
        Self {
            board: Board::Pc,
            nic: Nic::E1000,
            accel: Accel::Tcg,
            memory_mib: 256,
            kernel,
            module,
            arguments: String::new(),
            backend: Backend::Link(link),
            pcap: None,
            plugin: None,
            blocks: true,
            gdb: None,
            stub: None,
            icount: None,
            serial: Serial::Piped,
            monitor: None,
        }
    }

    /// Says on the kernel's command line by which path applications reach the network; of two words for one thing the later counts.
    pub fn set_path(&mut self, path: abi::path::Path) {
        self.arguments += &format!(" {}={}", abi::path::Path::OPTION, path.name());
    }

    /// The command line, ready to be started; QEMU dies with this program.
    pub fn command(&self) -> Command {
        let mut qemu = setup::command(setup::QEMU);
        sys::die_with_parent(&mut qemu);
        qemu.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-smp", "1"]);
        qemu.args(["-machine", &name_of(&self.board)]);
        let accel = match (self.accel, self.icount) {
            (Accel::Kvm, _) => "kvm",
            (Accel::Tcg, None) => "tcg,thread=multi",
            (Accel::Tcg, Some(_)) => "tcg,thread=single",
        };
        qemu.args(["-accel", accel]);
        if let Some(shift) = self.icount {
            qemu.args(["-icount", &format!("shift={shift},align=off,sleep=on")]);
        }
        qemu.arg("-m").arg(format!("{}M", self.memory_mib));
        qemu.arg("-kernel").arg(&self.kernel).arg("-initrd").arg(&self.module);
        qemu.args(["-append", &self.arguments]);
        let device = u64::from(abi::exit::PORT);
        qemu.arg("-device").arg(format!("isa-debug-exit,iobase={device:#x},iosize=0x04"));
        qemu.args(["-netdev", &self.netdev()]);
        let nic = if self.nic == Nic::E1000 { "e1000" } else { "virtio-net-pci" };
        // Without the option ROM: the machine never boots from its network.
        qemu.args(["-device", &format!("{nic},netdev=n0,mac=52:54:00:6f:72:69,romfile=")]);
        match self.serial {
            Serial::Piped => qemu.args(["-chardev", "stdio,id=s0,signal=off"]),
            Serial::Terminal => {
                qemu.args(["-chardev", "stdio,id=s0,mux=on,signal=off", "-mon", "chardev=s0,mode=readline"])
            }
        };
        qemu.args(["-serial", "chardev:s0"]);
        if let Some(pcap) = &self.pcap {
            qemu.arg("-object").arg(format!("filter-dump,id=pcap,netdev=n0,file={}", escaped(pcap)));
        }
        if let Some((plugin, out)) = &self.plugin {
            let mut words = format!("{},out={}", escaped(plugin), escaped(out));
            if self.blocks {
                words += &format!(",blocks={}", escaped(&blocks_file(out)));
            }
            qemu.arg("-plugin").arg(words);
        }
        if let Some(path) = &self.monitor {
            qemu.arg("-qmp").arg(format!("unix:{},server=on,wait=off", escaped(path)));
        }
        if let Some(path) = &self.stub {
            qemu.arg("-gdb").arg(format!("unix:{},server=on,wait=off", escaped(path)));
        }
        if let Some(port) = self.gdb {
            qemu.args(["-S", "-gdb", &format!("tcp:127.0.0.1:{port}")]);
        }
        qemu
    }

    fn netdev(&self) -> String {
        match &self.backend {
            Backend::Relay(local, remote) => format!(
                "dgram,id=n0,local.type=unix,local.path={},remote.type=unix,remote.path={}",
                escaped(local),
                escaped(remote)
            ),
            Backend::Link(link) => match link.net {
                Net::Tap => format!("tap,id=n0,ifname={},script=no,downscript=no", network::TAP),
                Net::User => link.forwards.iter().fold("user,id=n0".into(), |netdev, (host, guest)| {
                    netdev + &format!(",hostfwd=tcp:127.0.0.1:{host}-:{guest}")
                }),
            },
        }
    }
}

/// QEMU's option values double their commas.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// The counting plugin's second file, beside its first.
pub fn blocks_file(out: &Path) -> PathBuf {
    out.with_extension("blocks")
}

/// Chooses the executor: KVM only if a trial shows that it runs this very kernel.
pub fn choose_accel(asked: Option<Accel>, trial: &Machine) -> Result<Accel> {
    if let Some(accel) = asked {
        return Ok(accel);
    }
    let usable = File::options().read(true).write(true).open("/dev/kvm").is_ok();
    if usable && says_something(&Machine { accel: Accel::Kvm, ..trial.clone() }) {
        return Ok(Accel::Kvm);
    }
    Ok(Accel::Tcg)
}

/// Whether the kernel prints a line within five seconds.
fn says_something(machine: &Machine) -> bool {
    let mut qemu = machine.command();
    let Ok(mut child) = qemu.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()
    else {
        return false;
    };
    let heard = match (child.stdin.take(), child.stdout.take()) {
        (Some(input), Some(output)) => {
            Console::new(input, output).expect("\n", Duration::from_secs(5)).is_ok()
        }
        _ => false,
    };
    child.kill().ok();
    child.wait().ok();
    heard
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn example() -> Machine {
        let link = Link { net: Net::Tap, host: [10, 9, 0, 1].into(), forwards: Vec::new() };
        Machine { arguments: "ip=10.9.0.2/24".into(), ..Machine::plain("/k".into(), "/m".into(), link) }
    }

    fn line(machine: &Machine) -> String {
        let command = machine.command();
        command.get_args().map(|argument| argument.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_plain_machine() {
        let line = line(&example());
        for part in [
            "-machine pc",
            "-accel tcg,thread=multi",
            "-m 256M",
            "-device isa-debug-exit,iobase=0xf4,iosize=0x04",
            "-netdev tap,id=n0,ifname=oriel0,script=no,downscript=no",
            "-device e1000,netdev=n0",
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
        assert!(!line.contains("-plugin") && !line.contains("-gdb"));
    }

    #[test]
    fn options_and_commas() {
        let machine = Machine {
            board: Board::Q35,
            nic: Nic::Virtio,
            pcap: Some("/a,b".into()),
            plugin: Some(("/p.so".into(), "/out".into())),
            backend: Backend::Relay("/q".into(), "/r".into()),
            gdb: Some(1234),
            ..example()
        };
        let line = line(&machine);
        for part in [
            "-machine q35",
            "virtio-net-pci",
            "file=/a,,b",
            "-plugin /p.so,out=/out",
            "local.path=/q,remote.type=unix,remote.path=/r",
            "-S -gdb tcp:127.0.0.1:1234",
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
    }
}
