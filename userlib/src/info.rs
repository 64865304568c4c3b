//! The information page: the boot's facts and the kernel's command line.
#![expect(unsafe_code, reason = "a page at a fixed address")]

use abi::{info::Info, path::Path};

/// Unless the command line says otherwise, data of a page and more.
const OUT_OF_LINE_BYTES: usize = 4096;

/// The page.
#[inline]
#[must_use]
pub fn page() -> &'static Info {
    // SAFETY: the kernel maps an `Info` there for reading in every task, and has written it for the last time before the first one began.
    unsafe { &*core::ptr::with_exposed_provenance::<Info>(abi::info::ADDRESS as usize) }
}

/// The kernel's command line.
#[must_use]
pub fn command_line() -> &'static str {
    let info = page();
    info.command_line
        .get(..info.command_line_length as usize)
        .and_then(|line| str::from_utf8(line).ok())
        .unwrap_or("")
}

/// The value of `key=value` on the kernel's command line; the last one counts.
#[must_use]
pub fn option(key: &str) -> Option<&'static str> {
    option_of(command_line(), key)
}

/// The way to the network ([`Path::OPTION`]).
#[must_use]
pub fn path() -> Path {
    option(Path::OPTION).and_then(Path::from_name).unwrap_or_default()
}

/// From how many bytes on a frame or a socket's data goes out of line, where it goes by message (`ool=BYTES`).
#[must_use]
pub fn out_of_line_bytes() -> usize {
    option("ool").and_then(|bytes| bytes.parse().ok()).unwrap_or(OUT_OF_LINE_BYTES)
}

fn option_of<'l>(line: &'l str, key: &str) -> Option<&'l str> {
    line.split_ascii_whitespace().rev().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::option_of;

    #[test]
    fn the_last_value_of_exactly_that_key_counts() {
        let line = "path=window ip=10.9.0.2/24 ip6=fd09::2/64 ip=dhcp x";
        assert_eq!(option_of(line, "ip"), Some("dhcp"));
        assert_eq!(option_of(line, "ip6"), Some("fd09::2/64"));
        assert_eq!(option_of(line, "p"), None);
        assert_eq!(option_of(line, "x"), None);
    }
}
