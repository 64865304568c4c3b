//! Looks at an ELF file before it's booted, so that a wrong one costs a line and not a riddle; finds in it what `profile` needs.
//!
//! The kernel's loader checks programs by itself and trusts nothing; this is for people. Source: System V ABI, chapter 4.

/// A little-endian field of so many bytes.
fn field(image: &[u8], from: u64, bytes: usize) -> Option<u64> {
    let from = usize::try_from(from).ok()?;
    let field = image.get(from..from.checked_add(bytes)?)?;
    Some(field.iter().rev().fold(0u64, |value, byte| value << 8 | u64::from(*byte)))
}

/// The functions of an image by address, as lines of `address name`: what the kernel's panic report reads.
pub fn symbol_lines(image: &[u8]) -> String {
    let mut functions = functions(image).unwrap_or_default();
    functions.sort_unstable();
    functions.dedup_by_key(|(address, _)| *address);
    functions
        .iter()
        .map(|(address, name)| format!("{address:x} {:#}\n", rustc_demangle::demangle(name)))
        .collect()
}

/// Functions have this type; labels in assembly, none.
const FUNC: u64 = 2;
const NO_TYPE: u64 = 0;

fn functions(image: &[u8]) -> Option<Vec<(u64, &str)>> {
    symbols(image, &[FUNC])
}

/// The functions and labels of an image, in the order of their addresses.
pub fn labels(image: &[u8]) -> Vec<(u64, &str)> {
    let mut labels = symbols(image, &[FUNC, NO_TYPE]).unwrap_or_default();
    labels.sort_by_key(|(address, _)| *address);
    labels
}

/// The symbols of these types that are defined in a section and not at 0.
fn symbols<'a>(image: &'a [u8], types: &[u64]) -> Option<Vec<(u64, &'a str)>> {
    const SYMTAB: u64 = 2;
    const SYMBOL_BYTES: u64 = 24;
    const SECTIONS: std::ops::Range<u64> = 1..0xff00;
    let at = |from, bytes| field(image, from, bytes);
    let headers = section_headers(image)?;
    let symtab = headers.clone().find(|header| at(header.saturating_add(4), 4) == Some(SYMTAB))?;
    let (symbols, bytes) = (at(symtab + 24, 8)?, at(symtab + 32, 8)?);
    let strings = headers.clone().nth(at(symtab + 40, 4)? as usize)?;
    let names = at(strings.saturating_add(24), 8)?;
    let mut found = Vec::new();
    for n in 0..(bytes / SYMBOL_BYTES).min(image.len() as u64) {
        let symbol = symbols.saturating_add(n * SYMBOL_BYTES);
        let (name, kind, address) = (at(symbol, 4)?, at(symbol + 4, 1)? & 15, at(symbol + 8, 8)?);
        if types.contains(&kind) && SECTIONS.contains(&at(symbol + 6, 2)?) && address != 0 {
            found.push((address, text(image, names.saturating_add(name))?));
        }
    }
    Some(found)
}

/// The contents of a section; empty if there is none of that name, as in a stripped file.
pub fn section<'a>(image: &'a [u8], name: &str) -> &'a [u8] {
    let find = || {
        let at = |from, bytes| field(image, from, bytes);
        let headers = section_headers(image)?;
        let names = at(headers.clone().nth(at(62, 2)? as usize)?.saturating_add(24), 8)?;
        let is_it = |header: &u64| {
            at(*header, 4).and_then(|offset| text(image, names.saturating_add(offset))) == Some(name)
        };
        let header = headers.clone().find(is_it)?;
        let start = usize::try_from(at(header.saturating_add(24), 8)?).ok()?;
        image.get(start..start.checked_add(usize::try_from(at(header.saturating_add(32), 8)?).ok()?)?)
    };
    find().unwrap_or_default()
}

/// The bytes that the file puts at these addresses.
pub fn loaded(image: &[u8], address: u64, bytes: usize) -> Option<&[u8]> {
    const PT_LOAD: u64 = 1;
    let at = |from: u64, bytes: usize| field(image, from, bytes);
    let (table, entry_bytes, entries) = (at(32, 8)?, at(54, 2)?, at(56, 2)?);
    (0..entries).map(|n| table.saturating_add(n * entry_bytes)).find_map(|header| {
        let (offset, start, size) = (at(header + 8, 8)?, at(header + 16, 8)?, at(header + 32, 8)?);
        let into = address.checked_sub(start)?;
        let fits = into.checked_add(bytes as u64)? <= size;
        let from = usize::try_from(offset.checked_add(into)?).ok()?;
        (at(header, 4)? == PT_LOAD && fits).then(|| image.get(from..from.checked_add(bytes)?))?
    })
}

/// The offset of each section's header.
fn section_headers(image: &[u8]) -> Option<impl Iterator<Item = u64> + Clone> {
    let at = |from, bytes| field(image, from, bytes);
    let (table, entry_bytes, entries) = (at(40, 8)?, at(58, 2)?, at(60, 2)?);
    Some((0..entries).map(move |n: u64| table.saturating_add(n * entry_bytes)))
}

/// The string that begins there and ends before a zero.
fn text(image: &[u8], from: u64) -> Option<&str> {
    let text = image.get(usize::try_from(from).ok()?..)?;
    let end = text.iter().position(|byte| *byte == 0)?;
    std::str::from_utf8(&text[..end]).ok()
}

/// What is wrong with a file that should be a static x86-64 program.
pub fn complaint(image: &[u8]) -> Option<&'static str> {
    let at = |from: u64, bytes: usize| field(image, from, bytes);
    if !image.starts_with(b"\x7fELF") {
        return Some("is no ELF file");
    }
    if image.get(4) != Some(&2) || at(18, 2) != Some(62) {
        return Some("is no 64-bit x86 ELF file");
    }
    let (Some(table), Some(entry_bytes), Some(entries)) = (at(32, 8), at(54, 2), at(56, 2)) else {
        return Some("is cut short");
    };
    let mut loads = 0;
    for entry in 0..entries {
        let header = table.saturating_add(entry * entry_bytes);
        let (Some(kind), Some(offset), Some(bytes)) =
            (at(header, 4), at(header.saturating_add(8), 8), at(header.saturating_add(32), 8))
        else {
            return Some("is cut short");
        };
        const PT_LOAD: u64 = 1;
        if kind == PT_LOAD {
            loads += 1;
            if offset.checked_add(bytes).is_none_or(|end| end > image.len() as u64) {
                return Some("is cut short");
            }
        }
    }
    (loads == 0).then_some("has nothing to load")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_have_names_and_are_in_order() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        let lines = symbol_lines(&own);
        assert!(
            lines.lines().any(|line| line.ends_with(" xtask::elf::symbol_lines")),
            "{} bytes",
            lines.len()
        );
        let addresses: Vec<u64> = lines
            .lines()
            .map(|line| u64::from_str_radix(line.split(' ').next().unwrap(), 16).unwrap())
            .collect();
        assert!(addresses.is_sorted());
        assert_eq!(symbol_lines(&own[..1000]), "");
        assert_eq!(symbol_lines(b""), "");
    }

    #[test]
    fn sections_and_loaded_bytes_are_found() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        assert!(section(&own, ".debug_info").len() > 1000);
        assert!(section(&own, ".text").len() > 1000);
        assert!(section(&own, ".no_such").is_empty() && section(&own[..200], ".text").is_empty());
        let labels = labels(&own);
        assert!(labels.is_sorted_by_key(|(address, _)| *address));
        let (address, _) = labels.iter().find(|(_, name)| name.contains("symbol_lines")).unwrap();
        let code = loaded(&own, *address, 16).unwrap();
        assert!(section(&own, ".text").windows(16).any(|window| window == code));
        assert_eq!(loaded(&own, *address, own.len() * 2), None);
        assert_eq!(loaded(&own, u64::MAX, 2), None);
    }

    #[test]
    fn this_very_program_is_fine_until_it_is_cut() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        assert_eq!(complaint(&own), None);
        assert_eq!(complaint(&own[..3]), Some("is no ELF file"));
        assert_eq!(complaint(&own[..40]), Some("is cut short"));
        assert_eq!(complaint(&own[..100]), Some("is cut short"));
        assert_eq!(complaint(&own[..own.len() / 10]), Some("is cut short"));
        assert_eq!(complaint(b"#!/bin/sh\n"), Some("is no ELF file"));
        let mut wild = own;
        wild[32..40].fill(0xff);
        assert_eq!(complaint(&wild), Some("is cut short"));
    }
}
