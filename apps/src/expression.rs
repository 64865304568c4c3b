//! Which frames to see, in the words of tcpdump: `arp`, `tcp port 80 and host 10.9.0.1`, ... as a packet filter's program.

use core::net::{IpAddr, SocketAddr};

use abi::filter::{Builder, programs};

use crate::Usage;

/// What an expression may consist of, for a program's help.
pub const PRIMITIVES: &str = "arp, ip, ip6, icmp, tcp [port N], udp [port N], host A.B.C.D, joined by `and`";

/// The program for the words of an expression; for every frame if there are none.
///
/// # Errors
/// What is wrong with it.
pub fn parse<'a>(words: impl Iterator<Item = &'a str>) -> Result<Builder, Usage<'a>> {
    let mut words = words.peekable();
    if words.peek().is_none() {
        return Ok(programs::all());
    }
    let mut program = Builder::new();
    loop {
        let primitive = words.next().ok_or(Usage::Says("the expression ends behind `and`"))?;
        program = match primitive {
            "arp" => program.arp(),
            "ip" => program.ipv4(),
            "ip6" => program.ipv6(),
            "icmp" => program.ipv4_protocol(1),
            "tcp" | "udp" => {
                let protocol = if primitive == "tcp" { 6 } else { 17 };
                if words.next_if_eq(&"port").is_some() {
                    let number = words.next().ok_or(Usage::Says("`port` needs a number"))?;
                    program.port(protocol, crate::number(number, 1..=65_535)? as u16)
                } else {
                    program.ipv4_protocol(protocol)
                }
            }
            "host" => {
                let host = words.next().ok_or(Usage::Says("`host` needs an address"))?;
                let IpAddr::V4(address) = crate::address(host)? else {
                    return Err(Usage::Says("`host` needs an IPv4 address"));
                };
                program.host(address.octets())
            }
            "port" => return Err(Usage::Says("`port` needs `tcp` or `udp` before it")),
            other => return Err(Usage::Extra(other)),
        };
        match words.next() {
            None => break,
            Some("and") => {}
            Some(other) => return Err(Usage::Extra(other)),
        }
    }
    fitting(program)
}

/// The same without the frames that come in on one connection, from its other end.
///
/// # Errors
/// [`Usage::Says`]: it is not IPv4, or the program would be too long.
pub fn without_connection(program: Builder, from: SocketAddr, port: u16) -> Result<Builder, Usage<'static>> {
    let IpAddr::V4(address) = from.ip() else { return Err(Usage::Says("an IPv4 address is needed")) };
    fitting(program.unless_tcp(address.octets(), from.port(), port))
}

fn fitting<'a>(program: Builder) -> Result<Builder, Usage<'a>> {
    program.words().ok_or(Usage::Says("the expression is too long")).map(|_| program)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Result<Builder, Usage<'_>> {
        parse(text.split_ascii_whitespace())
    }

    #[test]
    fn expressions_are_the_builders_programs() {
        let same = |text: &str, program: Builder| {
            assert_eq!(words(text).unwrap().words(), program.words(), "{text}");
        };
        same("", programs::all());
        same("arp", Builder::new().arp());
        same("icmp and host 10.9.0.1", Builder::new().ipv4_protocol(1).host([10, 9, 0, 1]));
        same("tcp port 80", programs::ipv4_tcp_port(80));
        same("udp port 53 and ip", Builder::new().port(17, 53).ipv4());
        same("tcp and ip6", Builder::new().ipv4_protocol(6).ipv6());
    }

    #[test]
    fn what_is_wrong_is_said() {
        let wrong = |text: &'static str| words(text).unwrap_err();
        assert_eq!(wrong("arp and"), Usage::Says("the expression ends behind `and`"));
        assert_eq!(wrong("arp icmp"), Usage::Extra("icmp"));
        assert_eq!(wrong("and"), Usage::Extra("and"));
        assert_eq!(wrong("port 5"), Usage::Says("`port` needs `tcp` or `udp` before it"));
        assert_eq!(wrong("tcp port"), Usage::Says("`port` needs a number"));
        assert_eq!(wrong("tcp port 0"), Usage::BadNumber("0"));
        assert_eq!(wrong("host"), Usage::Says("`host` needs an address"));
        assert_eq!(wrong("host fd09::1"), Usage::Says("`host` needs an IPv4 address"));
        assert_eq!(wrong("host me"), Usage::BadAddress("me"));
        let long = "host 10.9.0.1 and host 10.9.0.2 and host 10.9.0.3";
        assert_eq!(wrong(long), Usage::Says("the expression is too long"));
    }

    #[test]
    fn a_connection_is_left_out_at_the_end() {
        let program = words("host 10.9.0.1").unwrap();
        let from = "10.9.0.1:5200".parse().unwrap();
        let without = without_connection(program, from, 1025).unwrap();
        assert_eq!(without.words(), program.unless_tcp([10, 9, 0, 1], 5200, 1025).words());
        assert!(without_connection(program, "[fd09::1]:5200".parse().unwrap(), 1025).is_err());
    }
}
