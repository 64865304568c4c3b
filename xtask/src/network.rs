//! The link between guest and host: a tap in a namespace of the run's own, or QEMU's user network.
//!
//! The namespace is anonymous: this program executes itself again through unshare(1), so that everything inside (tap, QEMU,
//! peers) belongs to processes that die with it, and the kernel takes the rest away. Nothing outside is touched.

use std::env;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use clap::ValueEnum;

use crate::build;
use crate::error::{Context as _, Error, Result, failed};
use crate::{setup, sys};

/// The tap device inside the namespace.
pub const TAP: &str = "oriel0";
/// Tells the process inside that it is there: the process outside, whose namespaces others can enter.
const INSIDE: &str = "ORIEL_INSIDE";
/// Set for the process inside if its namespace is one of an ordinary user.
const USER_NAMESPACE: &str = "ORIEL_USER_NAMESPACE";
const USER_ENTRY: &str = "--user --preserve-credentials ";
/// Guest ports that are forwarded on the user network, and that listeners in the guest take in turn.
pub const GUEST_PORTS: std::ops::Range<u16> = 5001..5033;
/// The echo service's port in the guest.
pub const ECHO_PORT: u16 = 7;

/// What `--net` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Net {
    /// A tap device in a network namespace made for this run
    Tap,
    /// QEMU's user network, with forwarded ports: slower, works everywhere
    User,
}

/// How far this process was confined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a namespace of its own; the process by which others can enter it.
    Namespace(String),
    /// Where the user started it.
    Host,
}

/// Executes this program again inside a namespace. Returns if it's inside already, or if `net` can do without.
pub fn enter(net: Option<Net>, images: &build::Images) -> Result<Place> {
    if let Ok(outside) = env::var(INSIDE) {
        return Ok(Place::Namespace(outside));
    }
    let Some(options) = unshare_options() else {
        if net == Some(Net::Tap) {
            return failed(
                "no permission for a tap: neither root nor user namespaces here; \
                 run as root, or add --net user",
            );
        }
        return Ok(Place::Host);
    };
    // `exec` keeps the process number, which names the way in.
    let mut unshare = setup::command(setup::UNSHARE);
    if options.contains(&"--user") {
        unshare.env(USER_NAMESPACE, "1");
    }
    let error = unshare
        .args(options)
        .arg(env::current_exe().context("this program's path")?)
        .args(env::args_os().skip(1))
        .env(build::BUILT, images.to_list())
        .env(INSIDE, std::process::id().to_string())
        .exec();
    failed(format!("cannot start unshare: {error}"))
}

/// Options with which unshare works here: with a process namespace if possible, since then nothing can be left behind
/// even by SIGKILL.
fn unshare_options() -> Option<Vec<&'static str>> {
    let user: &[&str] = if sys::is_root() { &[] } else { &["--user", "--map-root-user"] };
    let attempts: [&[&str]; 4] = [
        &["--net", "--pid", "--fork", "--kill-child", "--mount-proc"],
        &["--net", "--pid", "--fork", "--kill-child"],
        &["--net", "--fork", "--kill-child"],
        &["--net"],
    ];
    attempts.iter().map(|attempt| [user, attempt].concat()).find(|options| {
        let mut trial = setup::command(setup::UNSHARE);
        trial.args(options).arg("true");
        trial.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        trial.status().is_ok_and(|status| status.success())
    })
}

/// The link's addresses, as the two sides see each other.
#[derive(Debug, Clone)]
pub struct Link {
    /// Tap or user.
    pub net: Net,
    /// The host's address in the guest's eyes.
    pub host: Ipv4Addr,
    /// On the user network: pairs of a host port on 127.0.0.1 and the guest port that it leads to.
    pub forwards: Vec<(u16, u16)>,
}

impl Link {
    /// Makes the network in `place`: chooses by itself if `net` is not given.
    pub fn make(net: Option<Net>, place: &Place) -> Result<Self> {
        let inside = matches!(place, Place::Namespace(_));
        if inside {
            ip("link set lo up")?;
        }
        match net {
            Some(Net::User) => Self::user(),
            Some(Net::Tap) => Self::tap(),
            None if inside => Self::tap().or_else(|error| {
                eprintln!("note: {}; using QEMU's user network", error.message());
                Self::user()
            }),
            None => Self::user(),
        }
    }

    fn tap() -> Result<Self> {
        if !Path::new("/dev/net/tun").exists() {
            return failed(
                "no tap: /dev/net/tun does not exist; load the kernel's tun module, or add --net user",
            );
        }
        ip(&format!("tuntap add dev {TAP} mode tap")).map_err(|error| {
            Error::Failed(format!(
                "no permission for a tap ({}); run as root, or add --net user",
                error.message()
            ))
        })?;
        ip(&format!("address add 10.9.0.1/24 dev {TAP}"))?;
        ip(&format!("link set {TAP} up"))?;
        // A host without IPv6 runs the rest.
        ip(&format!("address add fd09::1/64 dev {TAP} nodad")).ok();
        Ok(Self { net: Net::Tap, host: Ipv4Addr::new(10, 9, 0, 1), forwards: Vec::new() })
    }

    fn user() -> Result<Self> {
        // All listeners stay open until all ports are known, so that the ports differ.
        let guests: Vec<u16> = GUEST_PORTS.chain([ECHO_PORT]).collect();
        let listeners: io::Result<Vec<TcpListener>> =
            guests.iter().map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect();
        let listeners = listeners.context("no free port on 127.0.0.1")?;
        let ports: io::Result<Vec<u16>> =
            listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect();
        let ports = ports.context("no free port on 127.0.0.1")?;
        let forwards = ports.into_iter().zip(guests).collect();
        Ok(Self { net: Net::User, host: Ipv4Addr::new(10, 0, 2, 2), forwards })
    }

    /// The guest's address and this port, as the host reaches it.
    pub fn guest(&self, port: u16) -> SocketAddr {
        match self.net {
            Net::Tap => SocketAddr::new(IpAddr::V4(self.guest_address()), port),
            Net::User => {
                let forward = self.forwards.iter().find(|(_, guest)| *guest == port);
                let host = forward.unwrap_or_else(|| panic!("guest port {port} is not forwarded")).0;
                SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), host)
            }
        }
    }

    /// The guest's own address.
    pub fn guest_address(&self) -> Ipv4Addr {
        match self.net {
            Net::Tap => Ipv4Addr::new(10, 9, 0, 2),
            Net::User => Ipv4Addr::new(10, 0, 2, 15),
        }
    }

    /// The address on which a host process listens for the guest.
    pub fn listen_address(&self) -> Ipv4Addr {
        match self.net {
            Net::Tap => self.host,
            Net::User => Ipv4Addr::LOCALHOST,
        }
    }

    /// What the kernel's command line says about the addresses.
    pub fn kernel_arguments(&self) -> String {
        match self.net {
            Net::Tap => "ip=10.9.0.2/24 gw=10.9.0.1 ip6=fd09::2/64".into(),
            Net::User => "ip=10.0.2.15/24 gw=10.0.2.2".into(),
        }
    }
}

/// Runs `ip` with these arguments.
pub fn ip(arguments: &str) -> Result<()> {
    run(setup::command(setup::IP).args(arguments.split(' ')), &format!("ip {arguments}"))
}

/// Runs a small command silently; its first line of complaint is the error.
pub fn run(command: &mut Command, name: &str) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().context(format!("cannot start {name}"))?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    failed(format!("{name}: {}", complaint.lines().next().unwrap_or("failed without a word")))
}

/// How to enter the namespace from another terminal.
pub fn way_in(outside: &str) -> String {
    format!(
        "nsenter --target {outside} {}--net",
        if env::var_os(USER_NAMESPACE).is_some() { USER_ENTRY } else { "" }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_links_forward_every_port_once() {
        let link = Link::user().unwrap();
        let mut hosts: Vec<_> = link.forwards.iter().map(|(host, _)| *host).collect();
        hosts.sort_unstable();
        hosts.dedup();
        assert_eq!(hosts.len(), GUEST_PORTS.len() + 1);
        assert!(link.guest(ECHO_PORT).ip().is_loopback());
    }

    #[test]
    fn complaints_are_one_line() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo first >&2; echo second >&2; exit 3"]);
        assert_eq!(run(&mut command, "it").unwrap_err().message(), "it: first");
    }
}
