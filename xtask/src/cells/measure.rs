//! Runs one cell: starts the guest's program and the host's, and compares what the two say.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use pattern::Digest;
use temp_dir::TempDir;

use super::{Cell, Measurement, Ports, Unit};
use crate::error::{Context as _, Result, failed};
use crate::network::{ECHO_PORT, Link};
use crate::peers::ftp::FtpServer;
use crate::peers::x11::{DOT, XServer};
use crate::peers::{self, Peer};
use crate::results::Fields;
use crate::traffic::datagrams::{self, PING_BYTES};
use crate::traffic::{self, Moved, Until};
use crate::vm::Vm;

/// The files of the FTP cells have so many bytes for each second that a cell is to take.
const FILE_BYTES: u64 = 16 << 20;
/// Dots in a PolyPoint request.
const DOTS_IN_REQUEST: usize = 1000;

/// Where and how long a cell runs.
pub struct Setting<'a> {
    /// The machine, at its prompt.
    pub vm: &'a mut Vm,
    /// The network.
    pub link: &'a Link,
    /// The machine's ports.
    pub ports: &'a mut Ports,
    /// The other end.
    pub peer: Peer,
    /// For how long.
    pub seconds: u64,
}

/// What both ends said.
struct Said {
    moved: Moved,
    fields: Fields,
    /// Bytes that were sent, where not all need to arrive.
    offered: Option<u64>,
}

impl Setting<'_> {
    /// Runs one cell.
    pub fn measure(&mut self, cell: Cell) -> Result<Measurement> {
        // Regions from other commands don't belong to this cell.
        self.vm.instructions()?;
        let said = match cell {
            Cell::Tx(size) => self.transmit(size)?,
            Cell::Rx(size) => self.receive(size)?,
            Cell::UdpTx(size) => self.transmit_datagrams(size)?,
            Cell::UdpRx(size) => self.receive_datagrams(size)?,
            Cell::Rr1 => self.transact()?,
            Cell::PingOut => self.ping_out()?,
            Cell::PingIn => self.ping_in()?,
            Cell::FtpGet => self.fetch()?,
            Cell::FtpPut => self.store()?,
            Cell::Dots => self.draw()?,
        };
        let problem = self.problem(cell, &said)?;
        let instructions = self.vm.instructions()?.last().copied();
        let executed = if instructions.is_some() { self.vm.executed()? } else { Vec::new() };
        let lost = said.offered.map(|sent| 1.0 - said.moved.count as f64 / sent.max(1) as f64);
        Ok(Measurement {
            cell,
            count: said.moved.count,
            seconds: said.moved.seconds,
            host_rate: self.host_rate(cell)?,
            instructions,
            executed,
            lost,
            calls: said.fields.number("calls"),
            counters: said.fields.counters(),
            problem,
        })
    }

    /// The same between two threads of the host, right beside the cell, so that both see the same weather.
    fn host_rate(&self, cell: Cell) -> Result<Option<f64>> {
        let size = match cell {
            Cell::Tx(size) | Cell::Rx(size) => Some(size),
            Cell::Rr1 => None,
            _ => return Ok(None),
        };
        let time = Duration::from_millis((self.seconds * 1000 / 6).min(500));
        let host = traffic::host_to_host(size, time)?;
        Ok(Some(cell.unit().rate(host.count, host.seconds)))
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(self.seconds + 30)
    }

    /// Starts a program that listens, waits until it does.
    fn start(&mut self, line: &str, port: u16) -> Result<()> {
        self.vm.console.type_line(line)?;
        self.vm.console.expect(&format!("listening on {port}"), Duration::from_secs(10))?;
        Ok(())
    }

    /// Waits for the end of the program that was started; its figures.
    fn finish(&mut self, program: &str) -> Result<Fields> {
        let output = self.vm.console.expect(crate::console::PROMPT, self.patience())?;
        Fields::require(&output, program)
    }

    fn run(&mut self, line: &str, program: &str) -> Result<Fields> {
        let output = self.vm.console.command(line, self.patience())?;
        Fields::require(&output, program)
    }

    fn transmit(&mut self, size: usize) -> Result<Said> {
        let port = self.ports.next();
        let line = format!("ttcp -t -s -l {size} -T {} -p {port} -M {}", self.seconds, self.link.host);
        if self.peer.is_builtin() {
            let listener = traffic::listen(self.link.listen_address(), port)?;
            let receiver = traffic::spawn_receiver(listener, true);
            let fields = self.run(&line, "ttcp")?;
            return Ok(Said { moved: traffic::join(receiver)?, fields, offered: None });
        }
        let mut receiver = peers::receiver(self.peer, self.link.listen_address(), port, size)?;
        let fields = self.run(&line, "ttcp")?;
        let received = receiver.received()?;
        let moved = by_the_guest(&fields)?;
        if moved.count.abs_diff(received.bytes) > received.tolerance {
            return failed(format!(
                "ttcp sent {} bytes and the peer received {}",
                moved.count, received.bytes
            ));
        }
        Ok(Said { moved, fields, offered: None })
    }

    fn receive(&mut self, size: usize) -> Result<Said> {
        let port = self.ports.next();
        self.start(&format!("ttcp -r -s -l {size} -p {port} -M"), port)?;
        if self.peer.is_builtin() {
            let to = self.link.guest(port);
            let time = Duration::from_secs(self.seconds);
            let sender = thread::spawn(move || {
                traffic::send(&mut traffic::connect(to)?, size, Until::Elapsed(time))
                    .context("the host's sender")
            });
            let moved = traffic::join(sender)?;
            return Ok(Said { moved, fields: self.finish("ttcp")?, offered: None });
        }
        peers::send(self.peer, self.link, port, size, self.seconds)?;
        // nuttcp and iperf print what they wrote into their socket; the guest's own count and clock are the measure.
        let fields = self.finish("ttcp")?;
        Ok(Said { moved: by_the_guest(&fields)?, fields, offered: None })
    }

    fn transmit_datagrams(&mut self, size: usize) -> Result<Said> {
        let port = self.ports.next();
        let line = format!("ttcp -t -u -s -l {size} -T {} -p {port} -M {}", self.seconds, self.link.host);
        let socket = datagrams::bind(self.link.listen_address(), port)?;
        let receiver = thread::spawn(move || datagrams::receive(&socket));
        let fields = self.run(&line, "ttcp")?;
        let offered = Some(fields.require_number("bytes")?);
        Ok(Said { moved: traffic::join(receiver)?, fields, offered })
    }

    fn receive_datagrams(&mut self, size: usize) -> Result<Said> {
        let port = self.ports.next();
        self.start(&format!("ttcp -r -u -s -l {size} -p {port} -M"), port)?;
        let (to, time) = (self.link.guest(port), Duration::from_secs(self.seconds));
        let over = Arc::new(AtomicBool::new(false));
        let flag = over.clone();
        let sender = thread::spawn(move || datagrams::send(to, size, time, &flag));
        let fields = self.finish("ttcp");
        over.store(true, Ordering::Relaxed);
        let (sent, fields) = (traffic::join(sender)?, fields?);
        // Only the guest knows what arrived.
        Ok(Said { moved: by_the_guest(&fields)?, fields, offered: Some(sent.count) })
    }

    fn transact(&mut self) -> Result<Said> {
        self.start(&format!("echo -p {ECHO_PORT} -1 -M"), ECHO_PORT)?;
        let to = self.link.guest(ECHO_PORT);
        let time = Duration::from_secs(self.seconds);
        let client = thread::spawn(move || {
            traffic::request_response(&mut traffic::connect(to)?, time).context("the host's client")
        });
        let moved = traffic::join(client)?;
        Ok(Said { moved, fields: self.finish("echo")?, offered: None })
    }

    fn ping_out(&mut self) -> Result<Said> {
        let line = format!("ping -T {} -i 0 -s {PING_BYTES} -q -M {}", self.seconds, self.link.host);
        let fields = self.run(&line, "ping")?;
        let (count, ns) = (fields.require_number("received")?, fields.require_number("ns")?);
        Ok(Said {
            moved: Moved { count, seconds: ns as f64 / 1e9, first_error: None },
            fields,
            offered: None,
        })
    }

    /// An idle connection frames the region that is counted: the guest's kernel or server answers pings by itself.
    fn ping_in(&mut self) -> Result<Said> {
        self.start(&format!("echo -p {ECHO_PORT} -1 -M"), ECHO_PORT)?;
        let frame = traffic::connect(self.link.guest(ECHO_PORT))?;
        // The guest's program has time to accept and to begin.
        thread::sleep(Duration::from_millis(100));
        let moved = datagrams::ping(self.link.guest_address(), Duration::from_secs(self.seconds));
        drop(frame);
        let fields = self.finish("echo")?;
        Ok(Said { moved: moved?, fields, offered: None })
    }

    fn fetch(&mut self) -> Result<Said> {
        let folder = TempDir::with_prefix("oriel-").context("no temporary folder")?;
        let server = FtpServer::start(self.link, folder.path())?;
        let file = server.offer("down", FILE_BYTES * self.seconds)?;
        let fields = self.run(&format!("ftp -M get {} {file}", server.arguments()), "ftp")?;
        Ok(Said { moved: by_the_guest(&fields)?, fields, offered: None })
    }

    fn store(&mut self) -> Result<Said> {
        let folder = TempDir::with_prefix("oriel-").context("no temporary folder")?;
        let server = FtpServer::start(self.link, folder.path())?;
        let (file, bytes) = (server.name("up"), FILE_BYTES * self.seconds);
        let fields = self.run(&format!("ftp -M put {} {file} {bytes}", server.arguments()), "ftp")?;
        let stored = server.take("up")?;
        let seconds = by_the_guest(&fields)?.seconds;
        let moved = Moved { count: stored.bytes, seconds, first_error: stored.first_error };
        Ok(Said { moved, fields, offered: None })
    }

    fn draw(&mut self) -> Result<Said> {
        let folder = TempDir::with_prefix("oriel-").context("no temporary folder")?;
        let server = XServer::start(self.link, folder.path())?;
        // As x11perf has it. The window stays, so that its dots can be counted.
        let line = format!("xdots -M -k -r {DOTS_IN_REQUEST} -T {} {}", self.seconds, server.guest_display());
        let fields = self.run(&line, "xdots")?;
        let (count, pixels) = (fields.require_number("dots")?, fields.require_number("pixels")?);
        let shown = server.screenshot()?.count(DOT) as u64;
        if shown != pixels {
            return failed(format!("{shown} dots are on the screen instead of {pixels}"));
        }
        let seconds = fields.require_number("ns")? as f64 / 1e9;
        Ok(Said { moved: Moved { count, seconds, first_error: None }, fields, offered: None })
    }

    /// Compares what the two ends say.
    fn problem(&self, cell: Cell, said: &Said) -> Result<Option<String>> {
        let Said { moved, fields, .. } = said;
        let bytes = fields.require_number("bytes")?;
        let verified = fields.number("verified") == Some(1);
        let fail = |problem: String| Ok(Some(problem));
        if moved.count == 0 {
            return fail("nothing moved".into());
        }
        if let Some(at) = moved.first_error {
            return fail(match cell.unit() {
                _ if matches!(cell, Cell::UdpTx(_)) => format!("datagram {at} is wrong at the host"),
                Unit::Transaction if cell != Cell::Rr1 => {
                    format!("reply {at} is wrong or missing at the host")
                }
                _ => format!("byte {at} is wrong at the host"),
            });
        }
        match cell {
            Cell::UdpTx(_) if moved.count > bytes => fail("more arrived than was sent".into()),
            Cell::UdpTx(_) | Cell::PingIn => Ok(None),
            Cell::UdpRx(_) if said.offered.is_some_and(|sent| moved.count > sent) => {
                fail("more arrived than was sent".into())
            }
            Cell::UdpRx(_) => Ok((!verified).then(|| "a datagram is wrong in the guest".into())),
            Cell::PingOut => Ok((!verified).then(|| "a reply is wrong or missing in the guest".into())),
            Cell::Dots => Ok(None),
            Cell::Tx(_) | Cell::Rx(_) | Cell::Rr1 | Cell::FtpGet | Cell::FtpPut if bytes != moved.count => {
                fail(format!("the guest counts {bytes} bytes, the host {}", moved.count))
            }
            Cell::Rr1 => Ok(None),
            Cell::Tx(_) | Cell::Rx(_) if !self.peer.is_builtin() => Ok(None),
            Cell::Tx(_) | Cell::Rx(_) | Cell::FtpGet | Cell::FtpPut
                if fields.digest() != Some(Digest::of_pattern(moved.count)) =>
            {
                fail("the digests differ".into())
            }
            Cell::Tx(_) | Cell::FtpPut => Ok(None),
            Cell::Rx(_) | Cell::FtpGet => Ok((!verified).then(|| "the guest found a wrong byte".into())),
        }
    }
}

/// Bytes and time as the guest has them.
fn by_the_guest(fields: &Fields) -> Result<Moved> {
    let (count, ns) = (fields.require_number("bytes")?, fields.require_number("ns")?);
    Ok(Moved { count, seconds: ns as f64 / 1e9, first_error: None })
}
