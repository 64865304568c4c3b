//! What is run: each program with its options, and what is to be seen in what it says.

use std::collections::BTreeMap;

use super::{ECHO, Field, replay, tail};
use crate::error::{Result, failed};
use crate::network::TAP;
use crate::setup::{self, Tool};

/// One run of a tool.
pub struct Probe {
    pub name: &'static str,
    /// What it needs.
    pub tool: Tool,
    /// Part of the short form.
    pub short: bool,
    /// It needs the capture.
    pub captured: bool,
    pub what: What,
}

/// What a run is.
pub enum What {
    /// A script of `xtask/scapy/`.
    Script(&'static str),
    /// Runs a program; what it found, in a few words.
    Program(fn(&Field) -> Result<String>),
}

impl Probe {
    /// Runs it; what it found, in a few words.
    pub fn run(&self, field: &Field) -> Result<String> {
        match self.what {
            What::Script(name) => field.script(name).map(|count| format!("{count} frames")),
            What::Program(run) => run(field),
        }
    }
}

const fn nmap(name: &'static str, short: bool, run: fn(&Field) -> Result<String>) -> Probe {
    Probe { name, tool: setup::NMAP, short, captured: false, what: What::Program(run) }
}

const fn hping(name: &'static str, short: bool, run: fn(&Field) -> Result<String>) -> Probe {
    Probe { name, tool: setup::HPING, short, captured: false, what: What::Program(run) }
}

const fn scapy(name: &'static str, script: &'static str) -> Probe {
    Probe { name, tool: setup::SCAPY, short: true, captured: false, what: What::Script(script) }
}

/// All of them, in their order.
pub const PROBES: &[Probe] = &[
    nmap("nmap-ports", true, ports),
    nmap("nmap-system", false, system),
    nmap("nmap-datagrams", false, datagrams),
    nmap("nmap-stealth", false, stealth),
    nmap("nmap-protocols", false, protocols),
    hping("hping3-flags", true, flags),
    hping("hping3-shapes", false, shapes),
    hping("hping3-flood", false, flood),
    scapy("scapy-fragments", "fragments.py"),
    scapy("scapy-options", "options.py"),
    scapy("scapy-sources", "sources.py"),
    scapy("scapy-errors", "errors.py"),
    scapy("scapy-neighbours", "neighbours.py"),
    Probe {
        name: "tcpreplay",
        tool: setup::TCPREPLAY,
        short: true,
        captured: true,
        what: What::Program(replay::replay),
    },
];

/// Runs nmap against the guest; what it says.
fn scan(field: &Field, options: &str, seconds: u64) -> Result<String> {
    let mut arguments: Vec<String> =
        ["-n", "-Pn", "--max-retries", "4", "-e", TAP].map(String::from).to_vec();
    arguments.extend(options.split_whitespace().map(String::from));
    arguments.push(field.guest.to_string());
    let ran = field.run(setup::NMAP, &arguments, seconds)?;
    match ran.status {
        Some(0) => Ok(ran.said),
        status => failed(format!("nmap {options} ended with {status:?}: {}", tail(&ran.said))),
    }
}

/// The lines of nmap's table: port or protocol, and state.
fn states(said: &str) -> BTreeMap<u16, &str> {
    let row = |line: &'_ str| -> Option<u16> {
        let (number, rest) = line.split_once(|c: char| !c.is_ascii_digit())?;
        (rest.starts_with("tcp ") || rest.starts_with("udp ") || line.starts_with(char::is_numeric))
            .then(|| number.parse().ok())?
    };
    said.lines().filter_map(|line| Some((row(line)?, line.split_whitespace().nth(1)?))).collect()
}

/// The ports that nmap finds in this state.
fn in_state(said: &str, state: &str) -> Vec<u16> {
    states(said).into_iter().filter(|(_, found)| *found == state).map(|(port, _)| port).collect()
}

/// The echo service is the only port that is open; the others answer that they are closed.
fn only_echo_is_open(said: &str) -> Result<()> {
    let open = in_state(said, "open");
    if open == [ECHO] {
        return Ok(());
    }
    failed(format!("nmap finds open: {open:?}, and not port {ECHO} alone:\n    {}", tail(said)))
}

fn ports(field: &Field) -> Result<String> {
    let said = scan(field, if field.short { "-sS -p 1-100" } else { "-sS -p 1-2000" }, 120)?;
    only_echo_is_open(&said)?;
    let (many, state) = not_shown(&said);
    if state != "closed" {
        return failed(format!("the other ports do not answer that they are closed:\n    {}", tail(&said)));
    }
    // A whole connection each, by the host's own stack.
    only_echo_is_open(&scan(field, "-sT -p 1-100", 60)?)?;
    Ok(format!("port {ECHO} open, {many} closed, as it is"))
}

/// "Not shown: 99 closed tcp ports (reset)": how many, and what they are.
fn not_shown(said: &str) -> (u32, &str) {
    let line = said.lines().find_map(|line| line.strip_prefix("Not shown: ")).unwrap_or_default();
    let mut words = line.split_whitespace();
    (words.next().and_then(|n| n.parse().ok()).unwrap_or(0), words.next().unwrap_or("none"))
}

/// Ports that answer that they are closed: nmap names few, and sums up many.
fn closed(said: &str) -> u32 {
    let (many, state) = not_shown(said);
    in_state(said, "closed").len() as u32 + if state == "closed" { many } else { 0 }
}

/// What nmap takes the stack for. It may be anything, or nothing that is known: that it got its answers is what counts.
fn system(field: &Field) -> Result<String> {
    let said = scan(field, "-sS -p 1-20 -O --osscan-guess -v", 180)?;
    only_echo_is_open(&said)?;
    let guess = ["OS details: ", "Aggressive OS guesses: ", "Running: ", "Running (JUST GUESSING): "];
    let guess = said.lines().find_map(|line| guess.iter().find_map(|head| line.strip_prefix(head)));
    if guess.is_none() && !said.contains("No exact OS matches") && !said.contains("TCP/IP fingerprint") {
        return failed(format!("nmap could not probe the system: {}", tail(&said)));
    }
    let sequence = said.lines().find_map(|line| line.strip_prefix("TCP Sequence Prediction: "));
    let guess = guess.map_or("no system that it knows", |text| text.split(", ").next().unwrap_or(text));
    Ok(format!("takes it for: {guess}; sequence numbers: {}", sequence.unwrap_or("not said")))
}

fn datagrams(field: &Field) -> Result<String> {
    let said = scan(field, "-sU -p 1-40 --min-rate 50", 120)?;
    let closed = closed(&said);
    // Echo serves datagrams too.
    if closed < 35 || in_state(&said, "open") != [ECHO] {
        return failed(format!(
            "of 40 ports of UDP but port {ECHO} open {closed} are closed:\n    {}",
            tail(&said)
        ));
    }
    Ok(format!("port {ECHO} open, {closed} of 40 answer that they are closed"))
}

/// Segments with odd flags: a port that is closed answers RST, one that listens nothing (RFC 9293, section 3.10.7.2), to all but ACK.
fn stealth(field: &Field) -> Result<String> {
    for options in ["-sN", "-sF", "-sX", "-sM"] {
        let said = scan(field, &format!("{options} -p 1-20"), 60)?;
        if !in_state(&said, "open").is_empty() || closed(&said) < 19 {
            return failed(format!(
                "{options}: of 20 ports {} are closed:\n    {}",
                closed(&said),
                tail(&said)
            ));
        }
    }
    for options in [
        "-sA",
        "-sW",
        "-sS -f",
        "-sS --mtu 8",
        "-sS --data-length 1400",
        "-sS -D 10.9.0.9,10.9.0.10,ME",
        "-sS --scanflags URGACKPSHRSTSYNFIN",
    ] {
        scan(field, &format!("{options} -p 1-20"), 90)?;
    }
    // Whoever sums wrongly gets no answer.
    let said = scan(field, "-sS --badsum --max-retries 1 -p 1-20", 60)?;
    if closed(&said) != 0 || !in_state(&said, "open").is_empty() {
        return failed(format!("a segment with a bad checksum was answered:\n    {}", tail(&said)));
    }
    Ok("NULL, FIN, Xmas, Maimon, ACK and window scans, in fragments, with decoys; bad sums are not answered"
        .into())
}

fn protocols(field: &Field) -> Result<String> {
    let said = scan(field, "-sO -p 0-20,41,47,58,89,132,253-255 --host-timeout 100", 120)?;
    let open = in_state(&said, "open");
    if !open.contains(&1) || !open.contains(&6) {
        return failed(format!(
            "ICMP and TCP are not among the protocols that are open:\n    {}",
            tail(&said)
        ));
    }
    Ok(format!("protocols open: {open:?}"))
}

/// Runs hping3; how many packets it says it sent.
fn packets(field: &Field, options: &str, seconds: u64) -> Result<u64> {
    let mut arguments: Vec<String> = ["-q", "-n", "-I", TAP].map(String::from).to_vec();
    arguments.extend(options.split_whitespace().map(String::from));
    arguments.push(field.guest.to_string());
    let ran = field.run(setup::HPING, &arguments, seconds)?;
    // Its status is 1 if nothing was answered, which is as it should be for most of these.
    let line = ran.said.lines().find(|line| line.contains("packets transmitted")).unwrap_or_default();
    match line.split_whitespace().next().and_then(|n| n.parse().ok()) {
        Some(count) if count > 0 => Ok(count),
        _ => failed(format!("hping3 {options} ended with {:?}: {}", ran.status, tail(&ran.said))),
    }
}

/// How often, and how fast.
fn pace(field: &Field) -> &'static str {
    if field.short { "-c 200 -i u500" } else { "-c 500 -i u300" }
}

/// Every combination of flags that matters, to a port that listens, one that does not, and the connection itself.
fn flags(field: &Field) -> Result<String> {
    let mut sent = 0;
    let all = [
        "",
        "-S",
        "-A",
        "-F",
        "-R",
        "-S -A",
        "-S -F",
        "-S -R",
        "-F -P -U",
        "-S -A -F -R -P -U -X -Y",
        "-U -A -M 1 -L 2",
    ];
    let chosen = if field.short { &all[..4] } else { &all[..] };
    for options in chosen {
        for port in [ECHO, 9] {
            sent += packets(field, &format!("{options} {} -p {port}", pace(field)), 30)?;
        }
        // Numbers that are not the connection's, into the connection's ports.
        let own = format!("{options} {} -k -s {} -p {}", pace(field), field.peer_port, field.port);
        sent += packets(field, &own, 30)?;
    }
    Ok(format!("{sent} segments with {} sets of flags", chosen.len()))
}

/// Fragments, sizes, protocols, and kinds of ICMP.
fn shapes(field: &Field) -> Result<String> {
    let mut sent = 0;
    for options in [
        "-S -p 7 -f -d 1400",
        "-2 -p 9 -d 3000 -f -m 64",
        "-2 -p 9 -x -g 100 -d 64",
        "-2 -p 9 -y -d 1",
        "-1 -d 1400 -f",
        "-1 -C 13",
        "-1 -C 17",
        "-1 -C 5 -K 1",
        "-1 -C 3 -K 4",
        "-0 -H 99 -d 100",
        "-0 -H 255 -d 1",
        "-0 -H 6 -d 3",
        "-0 -H 17 -d 7",
        "-S -p 7 -O 15",
        "-S -p 7 -O 1 -d 40",
        "-S -p 7 -b",
        "-S -p 7 -w 0 -t 1",
        "-S -p 7 --tcp-timestamp -G",
    ] {
        sent += packets(field, &format!("{options} {}", pace(field)), 30)?;
    }
    Ok(format!("{sent} packets of 18 shapes"))
}

/// As fast as it goes, for three seconds each: beginnings of connections from anywhere, datagrams, echoes.
fn flood(field: &Field) -> Result<String> {
    let mut sent = 0;
    for options in ["-S -p 7 --rand-source", "-S -p 7", "-2 -p 9 -d 100", "-1 -d 56", "-A -p 7 --rand-source"]
    {
        sent += packets(field, &format!("--flood {options}"), 3)?;
    }
    Ok(format!("{sent} packets in 15 s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "Starting Nmap 7.93\nNmap scan report for 10.9.0.2\nHost is up.\nNot shown: 98 closed tcp ports (reset)\n\
        PORT   STATE    SERVICE\n7/tcp  open     echo\n9/tcp  filtered discard\nMAC Address: 52:54:00:6F:72:69\n";

    #[test]
    fn nmaps_table_is_read() {
        assert_eq!(in_state(SAID, "open"), [7]);
        assert_eq!(in_state(SAID, "filtered"), [9]);
        assert_eq!(not_shown(SAID), (98, "closed"));
        only_echo_is_open(SAID).unwrap();
        let more = format!("{SAID}21/tcp open ftp\n");
        assert!(only_echo_is_open(&more).is_err() && only_echo_is_open("").is_err());
        let protocols = "PROTOCOL STATE         SERVICE\n1        open          icmp\n2        open|filtered igmp\n6        open          tcp\n";
        assert_eq!(in_state(protocols, "open"), [1, 6]);
    }

    #[test]
    fn names_differ() {
        let mut names: Vec<_> = PROBES.iter().map(|probe| probe.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), PROBES.len());
    }
}
