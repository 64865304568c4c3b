//! The lines for machines that programs print with `-M`: `#ttcp bytes=10 ns=99 …`.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// The keys and values of one such line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields(BTreeMap<String, String>);

impl Fields {
    /// The last line of `program` in its output. A program in the background says it behind a prompt, or behind what is being typed.
    pub fn find(output: &str, program: &str) -> Option<Self> {
        let start = format!("#{program} ");
        let line = output.lines().rev().find_map(|line| Some(line.split_once(&start)?.1))?;
        let pairs = line.split_whitespace().filter_map(|pair| pair.split_once('='));
        Some(Self(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()))
    }

    /// As [`Fields::find`]; its absence is an error that shows the output.
    pub fn require(output: &str, program: &str) -> Result<Self> {
        Self::find(output, program).ok_or_else(|| {
            Error::Failed(format!("{program} printed no `#{program}` line but: {}", output.trim()))
        })
    }

    /// A value as a number: decimal, or hexadecimal with `0x`.
    pub fn number(&self, key: &str) -> Option<u64> {
        parse(self.0.get(key)?)
    }

    /// A number that must be there.
    pub fn require_number(&self, key: &str) -> Result<u64> {
        self.number(key).ok_or_else(|| Error::Failed(format!("the result line has no number `{key}`")))
    }

    /// A digest: always hexadecimal, with or without `0x`.
    pub fn digest(&self) -> Option<u64> {
        u64::from_str_radix(self.0.get("digest")?.trim_start_matches("0x"), 16).ok()
    }

    /// All numbers but what describes the transfer itself: the counters.
    pub fn counters(&self) -> BTreeMap<String, u64> {
        const NOT_COUNTERS: &[&str] = &[
            "bytes",
            "ns",
            "calls",
            "digest",
            "verified",
            "transactions",
            "received",
            "wrong",
            "dots",
            "pixels",
            "sync_ns",
        ];
        let pairs = self.0.iter().filter(|(key, _)| !NOT_COUNTERS.contains(&key.as_str()));
        pairs.filter_map(|(key, value)| Some((key.clone(), parse(value)?))).collect()
    }
}

fn parse(value: &str) -> Option<u64> {
    match value.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => value.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_behind_a_prompt_counts() {
        let fields = Fields::find("oriel> wai#ttcp bytes=7 ns=1\nt\n", "ttcp").unwrap();
        assert_eq!(fields.number("bytes"), Some(7));
    }

    #[test]
    fn the_last_line_counts() {
        let output = "ttcp-t: words\n#ttcp bytes=1\n#ttcpx bytes=9\n  #ttcp bytes=20 digest=00ff ns=0x10 syscalls=7 name=x\nend";
        let fields = Fields::find(output, "ttcp").unwrap();
        assert_eq!(fields.number("bytes"), Some(20));
        assert_eq!(fields.number("ns"), Some(16));
        assert_eq!(fields.digest(), Some(255));
        assert_eq!(fields.counters(), BTreeMap::from([("syscalls".to_owned(), 7)]));
        assert!(fields.require_number("name").is_err());
        assert!(Fields::require("nothing", "ttcp").unwrap_err().message().contains("nothing"));
    }
}
