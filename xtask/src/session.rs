//! What `run`, `bench`, `boot` and the tests in QEMU do first: tools, images, namespace, link, machine.

use std::path::PathBuf;

use temp_dir::TempDir;

use crate::build::{self, Images};
use crate::cli::{MachineArgs, Path, Queue};
use crate::error::{Context as _, Error, Result};
use crate::machine::{self, Board, Machine, Nic, name_of};
use crate::network::{self, Link, Net, Place};
use crate::setup::{self, Tool};
use crate::{report, sys};

/// Everything that a machine needs around it. Dropped, nothing of it is left.
pub struct Session {
    /// What can be booted.
    pub images: Images,
    /// Where this process is.
    pub place: Place,
    /// The network.
    pub link: Link,
    /// Temporary files.
    pub folder: TempDir,
}

impl Session {
    /// Prepares all. This process may be replaced by one inside a namespace, which begins anew and comes here again.
    pub fn open(
        net: Option<Net>,
        tools: &[Tool],
        kernel: Option<&std::path::Path>,
        modules: &[String],
    ) -> Result<Self> {
        setup::ensure(&[&[setup::QEMU, setup::IP, setup::UNSHARE, setup::CC], tools].concat())?;
        let mut images = build::images()?;
        if let Some(kernel) = kernel {
            images.set_kernel(kernel)?;
        }
        modules.iter().try_for_each(|module| images.set_module(module))?;
        let place = network::enter(net, &images)?;
        sys::catch_signals();
        let folder = TempDir::with_prefix("oriel-").context("no temporary folder")?;
        let link = Link::make(net, &place)?;
        Ok(Self { images, place, link, folder })
    }

    /// As [`Session::open`], for a command with the machine's options.
    pub fn for_machine(args: &MachineArgs, tools: &[Tool]) -> Result<Self> {
        if args.pcap.as_deref().is_some_and(|file| file.as_os_str().is_empty()) {
            return Err(Error::Usage("--pcap wants a file's name".into()));
        }
        report::check_writable(args.pcap.as_deref())?;
        Self::open(args.net, tools, args.kernel.as_deref(), &args.module)
    }

    /// The machine with these options, of which none has several values.
    pub fn machine(&self, args: &MachineArgs) -> Result<Machine> {
        self.machine_with(args, args.one_path()?, args.one_queue()?, args.one_nic()?)
    }

    /// The machine with these options, on this path, with this kind of queue and this network device.
    pub fn machine_with(&self, args: &MachineArgs, path: Path, queue: Queue, nic: Nic) -> Result<Machine> {
        let module = self.write_module("modules.cpio", &self.images)?;
        let mut arguments = format!(
            "path={} queue={} pools={} {}",
            name_of(&path),
            name_of(&queue),
            args.pools,
            self.link.kernel_arguments()
        );
        if !args.append.is_empty() {
            arguments += &format!(" {}", args.append);
        }
        let mut machine = Machine {
            board: args.board,
            nic,
            memory_mib: args.memory,
            arguments,
            pcap: args.pcap.clone(),
            ..Machine::plain(self.images.kernel.clone(), module, self.link.clone())
        };
        machine.accel = machine::choose_accel(args.accel, &machine)?;
        Ok(machine)
    }

    /// A machine with the default options, for the tests.
    pub fn plain_machine(&self, nic: Nic, board: Board) -> Result<Machine> {
        let module = self.write_module("modules.cpio", &self.images)?;
        Ok(Machine {
            board,
            nic,
            arguments: format!("path=window queue=dual pools=2 {}", self.link.kernel_arguments()),
            ..Machine::plain(self.images.kernel.clone(), module, self.link.clone())
        })
    }

    /// Writes a boot module to the temporary folder.
    pub fn write_module(&self, name: &str, images: &Images) -> Result<PathBuf> {
        let file = self.folder.path().join(name);
        images.write_module(&file)?;
        Ok(file)
    }

    /// The machine with the counting plugin.
    pub fn counted(&self, machine: &Machine) -> Machine {
        let out = self.folder.path().join("instructions");
        Machine { plugin: Some((self.images.plugin.clone(), out)), ..machine.clone() }
    }
}
