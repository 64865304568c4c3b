//! Talks to the guest over its serial line: waits for text, types commands, notices panics, faults and silence.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result, failed};
use crate::sys;

/// What the shell prints when it waits for a command.
pub const PROMPT: &str = "oriel> ";
/// How a kernel panic begins.
pub const PANIC: &str = "PANIC:";
/// How the report of a task's fault begins.
pub const FAULT: &str = "fault: task ";

/// The serial line, seen from the host.
pub struct Console {
    input: Box<dyn Write + Send>,
    output: Receiver<Vec<u8>>,
    /// Everything that the guest said.
    transcript: String,
    /// Where the part of `transcript` begins that nobody has waited for yet.
    seen: usize,
    /// A fault or a panic was reported.
    trouble: bool,
    /// Whether a fault or a panic is what the caller wants to see.
    pub trouble_expected: bool,
}

impl Console {
    /// Over any two streams: `input` is what the guest reads.
    pub fn new(input: impl Write + Send + 'static, output: impl Read + Send + 'static) -> Self {
        let (sender, receiver) = channel();
        thread::spawn(move || pump(output, &sender));
        let (transcript, seen, trouble) = (String::new(), 0, false);
        Self { input: Box::new(input), output: receiver, transcript, seen, trouble, trouble_expected: false }
    }

    /// All that the guest said.
    pub fn transcript(&self) -> &str {
        &self.transcript
    }

    /// The last lines that the guest said, for an error message.
    pub fn last_words(&self) -> String {
        let lines: Vec<_> = self.transcript.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let mut words = String::new();
        for line in &lines[lines.len().saturating_sub(12)..] {
            let _ = write!(words, "\n    | {line}");
        }
        if words.is_empty() { "\n    | (nothing at all)".into() } else { words }
    }

    /// Waits for `text`; gives what came before it, and takes both.
    pub fn expect(&mut self, text: &str, at_most: Duration) -> Result<String> {
        let deadline = Instant::now() + at_most;
        // What was looked at is not looked at again: some guests say much, a few bytes at a time.
        let mut from = self.seen;
        loop {
            if let Some(at) = self.transcript[from..].find(text) {
                let before = self.transcript[self.seen..from + at].to_owned();
                self.seen = from + at + text.len();
                return Ok(before);
            }
            from = self.tail(self.transcript.len(), text.len()).max(self.seen);
            self.look_for_trouble()?;
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return failed(format!(
                    "no `{}` within {} s; the console's end:{}",
                    text.trim_end(),
                    at_most.as_secs(),
                    self.last_words()
                ));
            }
            self.receive(left)?;
        }
    }

    /// Types a line without waiting for anything.
    pub fn type_line(&mut self, line: &str) -> Result<()> {
        let typed = format!("{line}\n");
        self.input
            .write_all(typed.as_bytes())
            .and_then(|()| self.input.flush())
            .map_err(|error| Error::Failed(format!("the console is closed: {error}{}", self.last_words())))
    }

    /// Types a command at the prompt; gives what it printed once the next prompt comes.
    pub fn command(&mut self, line: &str, at_most: Duration) -> Result<String> {
        self.type_line(line)?;
        let output = self.expect(PROMPT, at_most)?;
        Ok(without_echo(&output, line).to_owned())
    }

    /// Waits for the end of the guest's output; gives what is left of it.
    pub fn drain(&mut self, at_most: Duration) -> Result<String> {
        let deadline = Instant::now() + at_most;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return failed(format!(
                    "the machine didn't stop within {} s:{}",
                    at_most.as_secs(),
                    self.last_words()
                ));
            }
            match self.output.recv_timeout(left.min(POLL)) {
                Ok(bytes) => self.take(&bytes),
                Err(RecvTimeoutError::Timeout) if sys::interrupted() => return Err(Error::Interrupted),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let rest = self.transcript[self.seen..].to_owned();
        self.seen = self.transcript.len();
        Ok(rest)
    }

    /// Fails if the guest reported a panic or a fault that nobody expects.
    pub fn look_for_trouble(&self) -> Result<()> {
        if self.trouble && !self.trouble_expected {
            return failed(format!("the guest reports trouble; the console's end:{}", self.last_words()));
        }
        Ok(())
    }

    /// Where what ends behind `end` can begin at the earliest, if it is so long.
    fn tail(&self, end: usize, length: usize) -> usize {
        self.transcript.floor_char_boundary(end.saturating_sub(length))
    }

    fn receive(&mut self, at_most: Duration) -> Result<()> {
        if sys::interrupted() {
            return Err(Error::Interrupted);
        }
        match self.output.recv_timeout(at_most.min(POLL)) {
            Ok(bytes) => self.take(&bytes),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) if sys::interrupted() => return Err(Error::Interrupted),
            Err(RecvTimeoutError::Disconnected) => {
                self.look_for_trouble()?;
                return failed(format!("the machine stopped; the console's end:{}", self.last_words()));
            }
        }
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) {
        let before = self.transcript.len();
        // The serial line's carriage returns help terminals only.
        self.transcript.extend(String::from_utf8_lossy(bytes).chars().filter(|c| *c != '\r'));
        let new = &self.transcript[self.tail(before, PANIC.len().max(FAULT.len()))..];
        self.trouble |= [PANIC, FAULT].iter().any(|trouble| new.contains(trouble));
    }
}

/// How long a wait lasts before it looks for Ctrl-C.
const POLL: Duration = Duration::from_millis(100);

fn pump(mut output: impl Read, to: &Sender<Vec<u8>>) {
    let mut buffer = [0; 4096];
    loop {
        match output.read(&mut buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => return,
            Ok(n) => {
                if to.send(buffer[..n].to_vec()).is_err() {
                    return;
                }
            }
        }
    }
}

/// The shell echoes what is typed; programs' output begins after it.
fn without_echo<'a>(output: &'a str, typed: &str) -> &'a str {
    output.strip_prefix(typed).and_then(|rest| rest.strip_prefix('\n')).unwrap_or(output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    const SHORT: Duration = Duration::from_secs(5);

    /// A console whose guest says each of these when it has read a line.
    fn scripted(first: &'static str, answers: &'static [&'static str]) -> Console {
        let (host, mut guest) = UnixStream::pair().unwrap();
        thread::spawn(move || {
            guest.write_all(first.as_bytes()).unwrap();
            for answer in answers {
                let mut byte = [0];
                while guest.read(&mut byte).is_ok_and(|n| n == 1) && byte[0] != b'\n' {}
                // In pieces, so that no boundary of a read matters.
                for piece in answer.as_bytes().chunks(3) {
                    guest.write_all(piece).unwrap();
                }
            }
        });
        Console::new(host.try_clone().unwrap(), host)
    }

    #[test]
    fn commands_and_prompts() {
        let mut console = scripted("boot\r\noriel> ", &["ps\r\ninit\r\nsh\r\noriel> ", "none\r\noriel> "]);
        assert_eq!(console.expect(PROMPT, SHORT).unwrap(), "boot\n");
        assert_eq!(console.command("ps", SHORT).unwrap(), "init\nsh\n", "the echo is gone");
        assert_eq!(console.command("x", SHORT).unwrap(), "none\n");
    }

    #[test]
    fn much_text_in_small_pieces_takes_no_time_at_all() {
        let (host, mut guest) = UnixStream::pair().unwrap();
        thread::spawn(move || {
            for n in 0..100_000 {
                writeln!(guest, "line {n}").unwrap();
            }
            write!(guest, "fault: task 9\noriel> ").unwrap();
            guest.read_exact(&mut [0]).ok();
        });
        let mut console = Console::new(host.try_clone().unwrap(), host);
        console.trouble_expected = true;
        let said = console.expect("line 99999\n", 4 * SHORT).unwrap();
        assert!(said.starts_with("line 0\n") && said.ends_with("line 99998\n"));
        console.expect(PROMPT, SHORT).unwrap();
        console.trouble_expected = false;
        assert!(console.look_for_trouble().is_err());
    }

    #[test]
    fn a_panic_is_noticed() {
        let mut console = scripted("hello\nPANIC: at the disco\n", &[]);
        assert!(console.expect(PROMPT, SHORT).unwrap_err().message().contains("at the disco"));
    }

    #[test]
    fn a_fault_may_be_expected() {
        let mut console = scripted("fault: task 7\noriel> ", &[]);
        console.trouble_expected = true;
        assert_eq!(console.expect(PROMPT, SHORT).unwrap(), "fault: task 7\n");
        console.trouble_expected = false;
        assert!(console.look_for_trouble().is_err());
    }

    #[test]
    fn silence_and_the_end_are_failures() {
        let mut console = scripted("almost", &["never"]);
        let error = console.expect(PROMPT, Duration::from_millis(150)).unwrap_err();
        assert!(error.message().contains("no `oriel>`") && error.message().contains("| almost"), "{error:?}");
        let mut console = scripted("bye", &[]);
        assert!(console.expect(PROMPT, SHORT).unwrap_err().message().contains("stopped"));
    }
}
