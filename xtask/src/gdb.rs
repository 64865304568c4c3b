//! QEMU's debugger stub: GDB's remote protocol over a Unix socket ([`crate::machine::Machine::stub`]), as much of it as stops a guest's
//! program at an instruction and makes it go on elsewhere.
//!
//! Connecting stops the machine; its clock stands still as long as it is stopped. Source: *Debugging with GDB*, appendix E.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::{Context as _, Error, Result, failed};
use crate::sys;

/// How long QEMU may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks whether the user has had enough.
const POLL: Duration = Duration::from_millis(100);
/// The number of `rip` among the registers of x86-64.
const RIP: u32 = 0x10;
/// What stops the machine.
const INTERRUPT: u8 = 3;

/// A connection to the stub of a machine, which is stopped but while [`run`](Stub::run) waits or after [`go_on`](Stub::go_on).
pub struct Stub {
    stream: UnixStream,
    came: Vec<u8>,
}

impl Stub {
    /// Connects, which stops the machine.
    pub fn connect(path: &Path) -> Result<Self> {
        let stream = UnixStream::connect(path).context("QEMU's debugger stub")?;
        stream.set_read_timeout(Some(POLL)).context("QEMU's debugger stub")?;
        let mut it = Self { stream, came: Vec::new() };
        // Who has not asked for the description of the registers is refused single ones.
        it.send("qXfer:features:read:target.xml:0,ff0")?;
        it.answer()?;
        Ok(it)
    }

    /// Stops whoever comes to this address, in whatever address space, before the instruction there.
    pub fn insert(&mut self, address: u64) -> Result<()> {
        self.ask(&format!("Z1,{address:x},1"), "OK")
    }

    /// The opposite of [`insert`](Self::insert).
    pub fn remove(&mut self, address: u64) -> Result<()> {
        self.ask(&format!("z1,{address:x},1"), "OK")
    }

    /// Lets the machine go on until it comes to an inserted address, for so long at most, and stops it; where it stands then.
    pub fn run(&mut self, at_most: Duration) -> Result<u64> {
        self.go_on()?;
        if self.stopped(at_most)?.is_none() {
            self.stop()?;
        }
        self.program_counter()
    }

    /// Lets the machine go on.
    pub fn go_on(&mut self) -> Result<()> {
        self.send("c")
    }

    /// Stops it.
    pub fn stop(&mut self) -> Result<()> {
        self.stream.write_all(&[INTERRUPT]).context("QEMU's debugger stub")?;
        match self.stopped(PATIENCE)? {
            Some(()) => Ok(()),
            None => failed("QEMU does not stop"),
        }
    }

    /// Where the processor goes on.
    pub fn set_program_counter(&mut self, address: u64) -> Result<()> {
        let bytes: String = address.to_le_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        self.ask(&format!("P{RIP:x}={bytes}"), "OK")
    }

    fn program_counter(&mut self) -> Result<u64> {
        self.send(&format!("p{RIP:x}"))?;
        let answer = self.answer()?;
        let bytes = u64::from_str_radix(&answer, 16).map(u64::swap_bytes);
        bytes.map_err(|_| Error::Failed(format!("QEMU's debugger stub: `{answer}` is no register")))
    }

    fn ask(&mut self, command: &str, wanted: &str) -> Result<()> {
        self.send(command)?;
        let answer = self.answer()?;
        if answer == wanted {
            return Ok(());
        }
        failed(format!("QEMU's debugger stub, asked `{command}`: `{answer}`"))
    }

    fn send(&mut self, command: &str) -> Result<()> {
        let sum = command.bytes().fold(0_u8, u8::wrapping_add);
        write!(self.stream, "${command}#{sum:02x}").context("QEMU's debugger stub")
    }

    /// The answer to a command. That the machine has stopped may be said before it.
    fn answer(&mut self) -> Result<String> {
        loop {
            match self.packet(PATIENCE)? {
                Some(packet) if is_stop(&packet) => {}
                Some(packet) => return Ok(packet),
                None => return failed("QEMU's debugger stub does not answer"),
            }
        }
    }

    /// Waits until it has stopped, for so long at most.
    fn stopped(&mut self, at_most: Duration) -> Result<Option<()>> {
        match self.packet(at_most)? {
            None => Ok(None),
            Some(packet) if is_stop(&packet) => Ok(Some(())),
            Some(packet) => failed(format!("QEMU's debugger stub: `{packet}` where it should stop")),
        }
    }

    /// The next packet, without what is around it.
    fn packet(&mut self, at_most: Duration) -> Result<Option<String>> {
        let deadline = Instant::now() + at_most;
        loop {
            // Acknowledgments stand between packets.
            let start = self.came.iter().position(|&byte| byte == b'$');
            let end = self.came.iter().position(|&byte| byte == b'#').filter(|end| end + 2 < self.came.len());
            if let (Some(start), Some(end)) = (start, end) {
                let packet = String::from_utf8_lossy(&self.came[start + 1..end]).into_owned();
                self.came.drain(..end + 3);
                self.stream.write_all(b"+").context("QEMU's debugger stub")?;
                return Ok(Some(packet));
            }
            if sys::interrupted() {
                return Err(Error::Interrupted);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let wait = left.clamp(Duration::from_millis(1), POLL);
            self.stream.set_read_timeout(Some(wait)).context("QEMU's debugger stub")?;
            let mut bytes = [0; 256];
            match self.stream.read(&mut bytes) {
                Ok(0) => return failed("QEMU's debugger stub is gone"),
                Ok(read) => self.came.extend(&bytes[..read]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Err(error).context("QEMU's debugger stub"),
            }
        }
    }
}

fn is_stop(packet: &str) -> bool {
    packet.starts_with(['T', 'S'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::thread;

    #[test]
    fn a_machine_is_stopped_and_sent_elsewhere() {
        let folder = temp_dir::TempDir::new().unwrap();
        let path = folder.path().join("stub");
        let listener = UnixListener::bind(&path).unwrap();
        let qemu = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let script = [
                ("$qXfer:features:read:target.xml:0,ff0#47", "+$T02thread:01;#04$l<?xml#38"),
                ("++$Z1,837d8c,1#b5", "+$OK#9a"),
                ("+$c#63", "+$T05thread:01;#07"),
                ("+$p10#d1", "+$8c7d830000000000#81"),
                ("+$P10=1000000000000000#ef", "+$OK#9a"),
                ("+$z1,837d8c,1#d5", "+$E22#a9"),
            ];
            for (asked, answer) in script {
                let mut bytes = vec![0; asked.len()];
                stream.read_exact(&mut bytes).unwrap();
                assert_eq!(String::from_utf8_lossy(&bytes), asked);
                stream.write_all(answer.as_bytes()).unwrap();
            }
            let _ = stream.read(&mut [0; 8]); // the last one's acknowledgment
        });
        let mut stub = Stub::connect(&path).unwrap();
        stub.insert(0x83_7d8c).unwrap();
        assert_eq!(stub.run(PATIENCE).unwrap(), 0x83_7d8c);
        stub.set_program_counter(0x10).unwrap();
        let refused = stub.remove(0x83_7d8c).unwrap_err();
        assert!(refused.message().contains("E22"), "{}", refused.message());
        qemu.join().unwrap();
    }
}
