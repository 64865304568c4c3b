//! What the applications share: options in the classic style, and addresses.
//!
//! Each application is one file in `src/bin`, a freestanding program over `userlib`.
#![no_std]

#[cfg(test)]
extern crate std;

pub mod expression;
pub mod frame;
pub mod options;
pub mod timer;

use core::{
    fmt,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use userlib::{
    Error,
    counters::Snapshot,
    entry::{Args, ExitStatus},
    net::{Service, TcpStream},
    print, println,
};

/// A usage error: one line that says what is wrong, and the status 2 to end with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage<'a> {
    /// An option that the program does not have.
    Unknown(char),
    /// An option without the argument that it takes.
    Missing(char),
    /// An argument that is no number, or out of range.
    BadNumber(&'a str),
    /// An argument that is no address; there is no resolver of names.
    BadAddress(&'a str),
    /// A word too many.
    Extra(&'a str),
    /// Not what the program can do.
    Says(&'static str),
}

impl fmt::Display for Usage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Usage::Unknown(option) => write!(f, "unknown option -{option}"),
            Usage::Missing(option) => write!(f, "option -{option} needs an argument"),
            Usage::BadNumber(text) => write!(f, "`{text}` is not a number in range"),
            Usage::BadAddress(text) => write!(f, "`{text}` is not an IPv4 or IPv6 address"),
            Usage::Extra(text) => write!(f, "unexpected argument `{text}`"),
            Usage::Says(text) => f.write_str(text),
        }
    }
}

/// An address in numbers.
///
/// # Errors
/// [`Usage::BadAddress`].
pub fn address(text: &str) -> Result<IpAddr, Usage<'_>> {
    text.parse().map_err(|_| Usage::BadAddress(text))
}

/// A number within a range, with the suffixes `k` and `m` for powers of 1024.
///
/// # Errors
/// [`Usage::BadNumber`].
pub fn number(text: &str, range: core::ops::RangeInclusive<u64>) -> Result<u64, Usage<'_>> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 10),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 20),
        _ => (text, 0),
    };
    let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    number.filter(|number| range.contains(number)).ok_or(Usage::BadNumber(text))
}

/// What failed, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed(pub &'static str, pub Error);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0, self.1)
    }
}

/// Names what was being done when it failed.
pub trait During<T> {
    /// The same result, with `what` before the error.
    ///
    /// # Errors
    /// What it was.
    fn during(self, what: &'static str) -> Result<T, Failed>;
}

impl<T> During<T> for Result<T, Error> {
    fn during(self, what: &'static str) -> Result<T, Failed> {
        self.map_err(|error| Failed(what, error))
    }
}

/// Prints a usage error and how it is right; the status to end with.
pub fn misused(program: &str, usage: &Usage<'_>, right: &str) -> ExitStatus {
    println!("{program}: {usage}");
    println!("usage: {program} {right}");
    ExitStatus(2)
}

/// Where the command line asks for it (`--help`), prints how a program is used, and what is worth knowing besides.
#[must_use]
pub fn helped(args: &Args, program: &str, right: &str, more: &str) -> bool {
    let asked = args.clone().any(|word| word == "--help");
    if asked {
        println!("usage: {program} {right}\n{more}");
    }
    asked
}

/// The quotient of two numbers, to be printed with two decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotient(u64);

impl Quotient {
    /// `numerator / denominator`, rounded; 0 where there is nothing to divide by.
    #[must_use]
    pub const fn new(numerator: u128, denominator: u128) -> Self {
        if denominator == 0 {
            return Self(0);
        }
        Self(((numerator * 100 + denominator / 2) / denominator) as u64)
    }
}

impl fmt::Display for Quotient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

/// Connects; nothing on the stream waits longer than `patience`, as the connection itself does not.
///
/// # Errors
/// As [`TcpStream::connect_timeout`].
pub fn connect(to: SocketAddr, patience: Duration) -> Result<TcpStream, Error> {
    let mut stream = TcpStream::connect_timeout(to, patience)?;
    stream.set_read_timeout(Some(patience));
    stream.set_write_timeout(Some(patience));
    Ok(stream)
}

/// All counters at this moment.
///
/// # Errors
/// No network service.
pub fn counters() -> Result<Snapshot, Failed> {
    Service::get(None).and_then(|service| Snapshot::take(Some(&service))).during("counters")
}

/// Prints what the counters gained, as the end of a line for machines.
pub fn print_gain(before: &Snapshot, after: &Snapshot) {
    for (name, value) in after.since(before).iter() {
        print!(" {name}={value}");
    }
    println!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotients_round_to_two_decimals() {
        use std::string::ToString;
        assert_eq!(Quotient::new(1, 3).to_string(), "0.33");
        assert_eq!(Quotient::new(1_999, 1_000).to_string(), "2.00");
        assert_eq!(Quotient::new(5, 0).to_string(), "0.00");
        assert_eq!(Quotient::new(u128::from(u64::MAX) * 1_000_000_000, 1 << 62).to_string(), "4000000000.00");
    }

    #[test]
    fn numbers_have_suffixes_and_bounds() {
        assert_eq!(number("8k", 1..=10_000), Ok(8192));
        assert_eq!(number("0", 1..=10), Err(Usage::BadNumber("0")));
        assert_eq!(
            number("99999999999999999999", 0..=u64::MAX),
            Err(Usage::BadNumber("99999999999999999999"))
        );
        assert_eq!(number("17592186044416m", 0..=u64::MAX), Err(Usage::BadNumber("17592186044416m")));
        assert_eq!(number("", 0..=9), Err(Usage::BadNumber("")));
        assert_eq!(number("k", 0..=9), Err(Usage::BadNumber("k")));
    }
}
