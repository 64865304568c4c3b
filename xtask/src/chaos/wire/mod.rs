//! Odd TCP segments, to Oriel and to Linux: what each answers, side by side.
//!
//! The segments come from an address that no stack has, by packet sockets: on the tap to the guest, and on one end of a veth pair to the
//! Linux that runs this program, which has the other. Both serve echo (RFC 862). A difference is a failure, unless the corpus
//! says at that step why it is right; a step that says so and is answered alike is a failure too.

mod corpus;
mod player;
pub mod segment;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use self::corpus::Case;
use self::player::{Host, Transcript};
use self::segment::Station;
use crate::console::PROMPT;
use crate::error::{Context as _, Error, Result, failed};
use crate::network::{self, TAP};
use crate::sys;
use crate::traffic;
use crate::vm::Vm;

/// The station address that the machine's device has.
const GUEST_MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x6f, 0x72, 0x69];
/// The player's own.
const PLAYER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x77];
/// The Linux end of the veth pair, the player's end, and the network between them.
const LINUX: (&str, &str, Ipv4Addr) = ("oriel-l", "oriel-p", Ipv4Addr::new(10, 8, 0, 2));
const LINUX_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x11];
const ECHO: u16 = 7;
const SOON: Duration = Duration::from_secs(30);
/// The player's ports begin here.
const PORTS: u16 = 20_000;

/// Of so many cases the short form plays one.
const SHORT: usize = 4;

/// Plays the corpus, all of it or the cases whose name contains `only`, to both. The guest's shell is at its prompt.
///
/// # Errors
/// A difference that nobody has explained, or an explanation without a difference.
pub fn compare(vm: &mut Vm, guest: Ipv4Addr, only: Option<&str>, short: bool) -> Result<()> {
    let mut cases = corpus::parse(corpus::TEXT).map_err(Error::Failed)?;
    match only {
        Some(only) => cases.retain(|case| case.name.contains(only)),
        None if short => cases = cases.into_iter().step_by(SHORT).collect(),
        None => {}
    }
    vm.console.command("echo &", SOON)?;
    // QEMU's e1000 takes no frame in the first second after its receiver was enabled.
    drop(traffic::connect(SocketAddr::from((guest, ECHO)))?);
    let mut oriel = Oriel { vm, address: guest };
    let mut linux = Linux::start()?;
    // Both have to find the player's station address before the first case.
    let warm = corpus::parse("case of a first connection\nopen").map_err(Error::Failed)?;
    let _ = played("Oriel", &mut oriel, &warm[0], PORTS - 1);
    let _ = played("Linux", &mut linux, &warm[0], PORTS - 1);
    let (mut steps, mut explained, mut wrong) = (0, 0, 0);
    for (case, port) in cases.iter().zip(PORTS..) {
        if sys::interrupted() {
            return Err(Error::Interrupted);
        }
        let (ours, theirs) = thread::scope(|scope| {
            let theirs = scope.spawn(|| played("Linux", &mut linux, case, port));
            let ours = played("Oriel", &mut oriel, case, port);
            (ours, traffic::join_scoped(theirs))
        });
        let (ours, theirs) = (ours?, theirs?);
        for (step, (ours, theirs)) in case.steps.iter().zip(ours.iter().zip(&theirs)) {
            steps += 1;
            match (&step.differs, ours == theirs) {
                (None, true) => {}
                (Some(_), false) => explained += 1,
                (reason, _) => {
                    wrong += 1;
                    println!("case {}\n  {}", case.name, step.line);
                    println!("    Oriel: {ours}\n    Linux: {theirs}");
                    if let Some(reason) = reason {
                        println!("    alike, though the corpus says: {reason}");
                    }
                }
            }
        }
    }
    println!(
        "{} cases, {steps} steps: {explained} answered differently for a reason, {wrong} wrong",
        cases.len()
    );
    if wrong == 0 { Ok(()) } else { failed(format!("{wrong} answers differ from Linux's")) }
}

fn played(name: &str, host: &mut dyn Host, case: &Case, port: u16) -> Result<Transcript> {
    player::play(host, case, port).map_err(|error| match error {
        Error::Failed(what) => Error::Failed(format!("{name}, case `{}`: {what}", case.name)),
        other => other,
    })
}

/// The guest behind the tap.
struct Oriel<'a> {
    vm: &'a mut Vm,
    address: Ipv4Addr,
}

impl Host for Oriel<'_> {
    fn interface(&self) -> &str {
        TAP
    }

    fn station(&self) -> Station {
        Station { mac: GUEST_MAC, address: self.address }
    }

    fn player(&self) -> Station {
        Station { mac: PLAYER_MAC, address: Ipv4Addr::new(10, 9, 0, 77) }
    }

    fn port(&self) -> u16 {
        ECHO
    }

    fn connect(&mut self, port: u16) -> Result<()> {
        self.vm.console.type_line(&format!("ttcp -t -s -l 1 -n 1 -p {port} {}", self.player().address))
    }

    fn connected(&mut self) -> Result<()> {
        self.vm.console.expect(PROMPT, SOON).map(drop)
    }
}

/// The Linux that runs this program, behind a veth pair.
struct Linux {
    connecting: Option<JoinHandle<()>>,
}

impl Linux {
    fn start() -> Result<Self> {
        let (own, player, address) = LINUX;
        network::ip(&format!("link add {own} type veth peer name {player}"))?;
        let mac = LINUX_MAC.map(|byte| format!("{byte:02x}")).join(":");
        network::ip(&format!("link set {own} address {mac}"))?;
        network::ip(&format!("address add {address}/24 dev {own}"))?;
        network::ip(&format!("link set {own} up"))?;
        network::ip(&format!("link set {player} up"))?;
        sys::fill_checksums(own).context(own)?;
        let listener = TcpListener::bind((address, ECHO)).context("echo")?;
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || echo(stream));
            }
        });
        Ok(Self { connecting: None })
    }
}

/// RFC 862. An error is the connection's end.
fn echo(mut stream: TcpStream) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..read]).is_err() {
            return;
        }
    }
}

impl Host for Linux {
    fn interface(&self) -> &str {
        LINUX.1
    }

    fn station(&self) -> Station {
        Station { mac: LINUX_MAC, address: LINUX.2 }
    }

    fn player(&self) -> Station {
        Station { mac: PLAYER_MAC, address: Ipv4Addr::new(10, 8, 0, 77) }
    }

    fn port(&self) -> u16 {
        ECHO
    }

    fn connect(&mut self, port: u16) -> Result<()> {
        let to = SocketAddr::from((self.player().address, port));
        // What ttcp does in the guest: one byte, the end, and a wait for the other end's.
        self.connecting = Some(thread::spawn(move || {
            if let Ok(mut stream) = TcpStream::connect_timeout(&to, SOON) {
                let _ = stream
                    .write_all(pattern::Pattern::chunk(0, 1))
                    .and_then(|()| stream.shutdown(std::net::Shutdown::Write));
                let _ = stream.set_read_timeout(Some(SOON));
                let _ = stream.read(&mut [0]);
            }
        }));
        Ok(())
    }

    fn connected(&mut self) -> Result<()> {
        let Some(thread) = self.connecting.take() else { return Ok(()) };
        thread.join().map_err(|_| Error::Failed("the connecting thread panicked".into()))
    }
}
