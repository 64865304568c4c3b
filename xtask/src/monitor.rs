//! QEMU's monitor: QMP, lines of JSON over a Unix socket ([`crate::machine::Machine::monitor`]).

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::error::{Context as _, Result, failed};

/// How long QEMU may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection to the monitor of a running machine.
pub struct Monitor {
    stream: UnixStream,
    lines: BufReader<UnixStream>,
}

impl Monitor {
    /// Connects, and leaves the negotiation behind.
    pub fn connect(path: &Path) -> Result<Self> {
        let stream = UnixStream::connect(path).context("QEMU's monitor")?;
        stream.set_read_timeout(Some(PATIENCE)).context("QEMU's monitor")?;
        let lines = BufReader::new(stream.try_clone().context("QEMU's monitor")?);
        let mut it = Self { stream, lines };
        it.line()?; // its greeting
        it.execute(&json!({ "execute": "qmp_capabilities" }))?;
        Ok(it)
    }

    /// Takes the machine's network link down, or up again.
    pub fn set_link(&mut self, up: bool) -> Result<()> {
        self.execute(&json!({ "execute": "set_link", "arguments": { "name": "n0", "up": up } }))
    }

    fn execute(&mut self, command: &Value) -> Result<()> {
        writeln!(self.stream, "{command}").context("QEMU's monitor")?;
        loop {
            let answer = self.line()?;
            if let Some(error) = answer.get("error") {
                return failed(format!("QEMU's monitor, asked {command}: {error}"));
            }
            // Events come between.
            if answer.get("return").is_some() {
                return Ok(());
            }
        }
    }

    fn line(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.lines.read_line(&mut line).context("QEMU's monitor")?;
        serde_json::from_str(&line).context("QEMU's monitor")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::thread;

    #[test]
    fn events_are_passed_over_and_errors_are_told() {
        let folder = temp_dir::TempDir::new().unwrap();
        let path = folder.path().join("monitor");
        let listener = UnixListener::bind(&path).unwrap();
        let qemu = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            stream.write_all(b"{\"QMP\": {}}\n").unwrap();
            let answers = [
                "{\"return\": {}}\n",
                "{\"event\": \"NIC_RX_FILTER_CHANGED\"}\n{\"return\": {}}\n",
                "{\"error\": {\"desc\": \"no\"}}\n",
            ];
            answers.map(|answer| {
                let asked = lines.next().unwrap().unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
                asked
            })
        });
        let mut monitor = Monitor::connect(&path).unwrap();
        monitor.set_link(false).unwrap();
        assert!(monitor.set_link(true).unwrap_err().message().contains("no"));
        let asked: Vec<Value> =
            qemu.join().unwrap().iter().map(|it| serde_json::from_str(it).unwrap()).collect();
        assert_eq!(asked[1]["arguments"], json!({ "name": "n0", "up": false }));
    }
}
