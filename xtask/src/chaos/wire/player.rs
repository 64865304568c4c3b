//! Plays a case to a host, from an address that nobody has, and notes what the host answers.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::corpus::{Action, Case, ISS, Odd};
use super::segment::{self, Heard, Segment, Station, flag};
use crate::error::{Context as _, Result, failed};
use crate::sys::PacketSocket;

/// A step's answers are complete when nothing has come for so long: longer than anybody delays an acknowledgment.
const SILENCE: Duration = Duration::from_millis(250);
/// And when this has passed.
const PATIENCE: Duration = Duration::from_secs(3);

/// A host under test.
pub trait Host: Send {
    /// The interface on which it is heard.
    fn interface(&self) -> &str;
    /// Who it is.
    fn station(&self) -> Station;
    /// Who we are to it: an address of its network that nobody has.
    fn player(&self) -> Station;
    /// The port of its echo service.
    fn port(&self) -> u16;
    /// Makes it connect to our port.
    ///
    /// # Errors
    /// It cannot be told.
    fn connect(&mut self, port: u16) -> Result<()>;
    /// Its end of that connection has been reset: back to where it was.
    ///
    /// # Errors
    /// It does not come back.
    fn connected(&mut self) -> Result<()>;
}

/// What a host answered in each step, as text that can be compared.
pub type Transcript = Vec<String>;

/// Plays `case`; `port` is ours, another for each case.
pub fn play(host: &mut dyn Host, case: &Case, port: u16) -> Result<Transcript> {
    let mut player = Player {
        socket: PacketSocket::listen(host.interface()).context("packet socket")?,
        own: host.player(),
        host: host.station(),
        port,
        service: host.port(),
        iss: ISS,
        next: 1,
        theirs: None,
        heard: 0,
        seen: BTreeMap::new(),
        seen_fin: false,
    };
    let mut transcript = Vec::new();
    let mut active = false;
    for step in &case.steps {
        let minimum = match &step.action {
            Action::Open(iss) => {
                player.open(*iss)?;
                SILENCE
            }
            Action::Send(odd) => {
                player.send(odd)?;
                SILENCE
            }
            Action::Wait(milliseconds) => Duration::from_millis(*milliseconds),
            Action::Connect => {
                active = true;
                host.connect(port)?;
                Duration::from_secs(2)
            }
        };
        transcript.push(player.gather(minimum, step.action == Action::Connect)?);
    }
    player.reset()?;
    if active {
        host.connected()?;
    }
    Ok(transcript)
}

struct Player {
    socket: PacketSocket,
    own: Station,
    host: Station,
    port: u16,
    /// The host's port: the service's, or that from which it connected.
    service: u16,
    iss: u32,
    /// Our next sequence number, relative.
    next: i64,
    /// The host's initial sequence number.
    theirs: Option<u32>,
    /// Up to where we have heard it, relative.
    heard: i64,
    /// Its data by relative position, so that what is sent again is not noted again.
    seen: BTreeMap<i64, u8>,
    seen_fin: bool,
}

/// What came in one step.
#[derive(Default)]
struct Answers {
    syn: Vec<String>,
    acks: Vec<i64>,
    data: BTreeMap<i64, u8>,
    fin: Option<i64>,
    resets: Vec<String>,
    window: Option<u16>,
}

impl Player {
    fn transmit(&self, segment: &Segment) -> Result<()> {
        let frame = segment.frame(&self.own, &self.host);
        loop {
            match self.socket.send(&frame) {
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                result => return result.context("packet socket"),
            }
        }
    }

    fn send(&mut self, odd: &Odd) -> Result<()> {
        let mut segment = odd.segment.clone();
        segment.from = self.port;
        segment.to = odd.port.unwrap_or(self.service);
        let seq = odd.seq.unwrap_or(self.next);
        segment.seq = self.iss.wrapping_add(seq as u32);
        let ack = odd.ack.unwrap_or(self.heard);
        if segment.has(flag::ACK) || odd.ack.is_some() {
            segment.ack = self.theirs.unwrap_or(0).wrapping_add(ack as u32);
        }
        // What can be accepted moves us on; what is odd was given its place by the case.
        let good = !segment.bad_checksum && segment.header_words.is_none() && !segment.has(flag::RST);
        if odd.seq.is_none_or(|seq| seq == self.next) && good && segment.flags & (flag::ACK | flag::SYN) != 0
        {
            self.next = seq.max(self.next) + i64::from(segment.length());
        }
        self.transmit(&segment)
    }

    /// The handshake, without options.
    fn open(&mut self, iss: u32) -> Result<()> {
        self.iss = iss;
        let syn = Segment { flags: flag::SYN, window: 60_000, ..Segment::default() };
        self.send(&Odd { segment: syn, seq: Some(0), ..Odd::default() })?;
        let answer = self.gather(SILENCE, false)?;
        if self.theirs.is_none() {
            return failed(format!("no answer to SYN: {answer}"));
        }
        let ack = Segment { flags: flag::ACK, window: 60_000, ..Segment::default() };
        self.next = 1;
        self.send(&Odd { segment: ack, ..Odd::default() })
    }

    /// Ends what is left, so that no retransmission comes into the next case.
    fn reset(&self) -> Result<()> {
        let rst = |seq: i64| Segment {
            from: self.port,
            to: self.service,
            seq: self.iss.wrapping_add(seq as u32),
            ack: self.theirs.unwrap_or(0).wrapping_add(self.heard as u32),
            flags: flag::RST | flag::ACK,
            ..Segment::default()
        };
        // Wherever its next number is, one of these is there.
        for seq in 0..=self.next + 16 {
            self.transmit(&rst(seq))?;
        }
        Ok(())
    }

    /// Listens until the host is silent.
    fn gather(&mut self, minimum: Duration, first: bool) -> Result<String> {
        let start = Instant::now();
        let (mut last, mut answers) = (start, Answers::default());
        let mut buffer = [0; 2048];
        loop {
            let now = Instant::now();
            let quiet = now - last >= SILENCE && now - start >= minimum;
            if quiet || now - start >= PATIENCE.max(minimum) {
                return Ok(answers.to_text());
            }
            let frame =
                self.socket.receive(&mut buffer, Duration::from_millis(20)).context("packet socket")?;
            let Some(frame) = frame else { continue };
            match segment::hear(frame, &self.own) {
                Err(wrong) => return failed(format!("the host sent {wrong}")),
                Ok(None) => {}
                Ok(Some(Heard::ArpRequest)) => {
                    let reply = segment::arp_reply(&self.own, &self.host);
                    self.socket.send(&reply).context("packet socket")?;
                }
                Ok(Some(Heard::Segment(segment))) if segment.to == self.port => {
                    last = Instant::now();
                    self.note(&segment, &mut answers);
                    if first && self.theirs.is_some() {
                        return Ok(answers.to_text());
                    }
                }
                Ok(Some(Heard::Segment(_))) => {}
            }
        }
    }

    fn note(&mut self, segment: &Segment, answers: &mut Answers) {
        let ack = i64::from(segment.ack.wrapping_sub(self.iss).cast_signed());
        if segment.has(flag::RST) {
            let place = match self.theirs {
                // To what was never a connection: the number that RFC 9293, 3.10.7.1 prescribes, 0 or what we acknowledged.
                None => format!("{}", segment.seq),
                Some(theirs) => format!("{}", i64::from(segment.seq.wrapping_sub(theirs).cast_signed())),
            };
            answers.resets.push(match segment.has(flag::ACK) {
                true => format!("RST,ACK seq={place} ack={ack}"),
                false => format!("RST seq={place}"),
            });
            return;
        }
        if segment.has(flag::SYN) {
            if !segment.has(flag::ACK) {
                self.service = segment.from;
                if self.theirs == Some(segment.seq) {
                    return; // sent again, by a timer
                }
            }
            self.theirs = Some(segment.seq);
            self.heard = self.heard.max(1);
            answers.syn.push(match segment.has(flag::ACK) {
                true => format!("SYN,ACK ack={ack}"),
                false => "SYN".into(),
            });
            return;
        }
        let Some(theirs) = self.theirs else {
            answers.acks.push(ack);
            return;
        };
        let at = i64::from(segment.seq.wrapping_sub(theirs).cast_signed());
        for (position, &byte) in (at..).zip(&segment.data) {
            if self.seen.insert(position, byte).is_none() {
                answers.data.insert(position, byte);
            }
        }
        while self.seen.contains_key(&self.heard) {
            self.heard += 1;
        }
        let end = at + segment.data.len() as i64;
        if segment.has(flag::FIN) && !self.seen_fin {
            self.seen_fin = true;
            answers.fin = Some(end);
            if self.heard == end {
                self.heard = end + 1;
            }
        }
        answers.acks.push(ack);
        answers.window = Some(segment.window);
    }
}

impl Answers {
    /// What counts: how often and in what pieces is the host's own business.
    fn to_text(&self) -> String {
        let mut text = String::new();
        for (i, syn) in self.syn.iter().enumerate() {
            if self.syn[..i].iter().all(|before| before != syn) {
                let _ = write!(text, "{syn}; ");
            }
        }
        if let Some(ack) = self.acks.iter().max() {
            let _ = write!(text, "ACK {ack}; ");
        }
        if let (Some((first, _)), Some((last, _))) = (self.data.first_key_value(), self.data.last_key_value())
        {
            let bytes: Vec<u8> = self.data.values().copied().collect();
            let _ = write!(text, "data {first}..{} {:?}; ", last + 1, String::from_utf8_lossy(&bytes));
        }
        if let Some(fin) = self.fin {
            let _ = write!(text, "FIN {fin}; ");
        }
        for (i, reset) in self.resets.iter().enumerate() {
            if self.resets[..i].iter().all(|before| before != reset) {
                let _ = write!(text, "{reset}; ");
            }
        }
        if self.window == Some(0) {
            text += "window closed; ";
        }
        if text.is_empty() { "silence".into() } else { text.trim_end_matches("; ").into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_say_what_counts() {
        let mut answers = Answers::default();
        assert_eq!(answers.to_text(), "silence");
        answers.acks = vec![1, 6, 6];
        answers.data = [(1, b'h'), (2, b'i')].into();
        answers.fin = Some(3);
        answers.window = Some(0);
        assert_eq!(answers.to_text(), "ACK 6; data 1..3 \"hi\"; FIN 3; window closed");
    }
}
