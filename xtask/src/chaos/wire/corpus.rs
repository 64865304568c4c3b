//! The corpus: cases of a few segments each, as text (`corpus.txt`), and what the words mean.

use super::segment::{Segment, flag};

/// The text of the repository's corpus.
pub const TEXT: &str = include_str!("corpus.txt");

/// A case: a connection of its own.
#[derive(Debug)]
pub struct Case {
    /// What it is about.
    pub name: String,
    /// Its steps.
    pub steps: Vec<Step>,
}

/// One step, with the line that says it.
#[derive(Debug)]
pub struct Step {
    /// As written.
    pub line: String,
    /// What to do.
    pub action: Action,
    /// Why the two hosts may answer differently.
    pub differs: Option<String>,
}

/// What to do, before the answers are gathered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The handshake, from this initial sequence number.
    Open(u32),
    /// One segment.
    Send(Odd),
    /// Nothing, for so many milliseconds.
    Wait(u64),
    /// The host connects to us.
    Connect,
}

/// A segment with numbers relative to the connection's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Odd {
    /// All that needs no connection to be known.
    pub segment: Segment,
    /// Relative to our initial sequence number; else where we are.
    pub seq: Option<i64>,
    /// Relative to the host's; else all that we have heard.
    pub ack: Option<i64>,
    /// To another port than the case's.
    pub port: Option<u16>,
}

/// The initial sequence number unless a case says otherwise.
pub const ISS: u32 = 1_000_000;

/// Reads a corpus.
///
/// # Errors
/// The first line that means nothing, by its number.
pub fn parse(text: &str) -> Result<Vec<Case>, String> {
    let mut cases: Vec<Case> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |what: &str| format!("line {}: {what}: `{line}`", number + 1);
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        if word == "case" {
            cases.push(Case { name: rest.into(), steps: Vec::new() });
            continue;
        }
        let case = cases.last_mut().ok_or_else(|| wrong("a step before the first case"))?;
        if word == "differs" {
            let last = case.steps.last_mut().ok_or_else(|| wrong("no step to differ"))?;
            last.differs = Some(rest.into());
            continue;
        }
        let action = match word {
            "open" => open(rest),
            "send" => odd(rest).map(Action::Send),
            "wait" => rest.parse().map(Action::Wait).map_err(|_| "no number".into()),
            "connect" => Ok(Action::Connect),
            _ => Err("no such step".into()),
        };
        let action = action.map_err(|what: String| wrong(&what))?;
        case.steps.push(Step { line: line.into(), action, differs: None });
    }
    Ok(cases)
}

fn open(rest: &str) -> Result<Action, String> {
    match rest.strip_prefix("iss=") {
        Some(iss) => iss.parse().map(Action::Open).map_err(|_| "no sequence number".into()),
        None if rest.is_empty() => Ok(Action::Open(ISS)),
        None => Err("open takes iss=N".into()),
    }
}

fn odd(rest: &str) -> Result<Odd, String> {
    let mut words = rest.split(' ');
    let flags = flags(words.next().unwrap_or_default())?;
    let mut odd = Odd::default();
    odd.segment.flags = flags;
    odd.segment.window = 60_000;
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let number = || value.parse::<i64>().map_err(|_| format!("{key} wants a number"));
        let half = || value.parse::<u16>().map_err(|_| format!("{key} wants a number below 65536"));
        match key {
            "seq" => odd.seq = Some(number()?),
            "ack" => odd.ack = Some(number()?),
            "data" => odd.segment.data = value.into(),
            "win" => odd.segment.window = half()?,
            "urg" => odd.segment.urgent = half()?,
            "port" => odd.port = Some(half()?),
            "off" => odd.segment.header_words = Some(half()? as u8),
            "badsum" => odd.segment.bad_checksum = true,
            "opts" => odd.segment.options = hexadecimal(value)?,
            _ => return Err(format!("no field `{key}`")),
        }
    }
    Ok(odd)
}

fn flags(text: &str) -> Result<u8, String> {
    text.chars().try_fold(0, |flags, letter| {
        let bit = match letter {
            'F' => flag::FIN,
            'S' => flag::SYN,
            'R' => flag::RST,
            'P' => flag::PSH,
            'A' => flag::ACK,
            'U' => flag::URG,
            '-' => 0,
            _ => return Err(format!("no flag `{letter}`")),
        };
        Ok(flags | bit)
    })
}

fn hexadecimal(text: &str) -> Result<Vec<u8>, String> {
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()))
        .collect::<Option<_>>()
        .ok_or_else(|| "opts wants pairs of hexadecimal digits".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_is_whole() {
        let cases = parse(TEXT).unwrap();
        assert!(cases.len() >= 60);
        assert!(cases.iter().all(|case| !case.steps.is_empty()));
        let mut names: Vec<_> = cases.iter().map(|case| &case.name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), cases.len(), "names differ");
    }

    #[test]
    fn nonsense_has_a_line_number() {
        for wrong in
            ["send S", "case x\nfly", "case x\nsend Q", "case x\nsend S seq=x", "case x\nsend S opts=0g"]
        {
            assert!(parse(wrong).unwrap_err().starts_with("line "), "{wrong}");
        }
    }

    #[test]
    fn fields_go_where_they_belong() {
        let cases = parse("case x\nsend FA seq=-3 data=abc urg=2 badsum\ndiffers because").unwrap();
        let step = &cases[0].steps[0];
        let Action::Send(odd) = &step.action else { panic!() };
        assert_eq!((odd.seq, odd.segment.flags), (Some(-3), flag::FIN | flag::ACK));
        assert_eq!(odd.segment.data, b"abc");
        assert!(odd.segment.bad_checksum);
        assert_eq!(step.differs.as_deref(), Some("because"));
    }
}
