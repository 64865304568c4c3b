//! Looks at an ELF file before it's booted, so that a wrong one costs a line and not a riddle.
//!
//! The kernel's loader checks programs by itself and trusts nothing; this is for people. Source: System V ABI, chapter 4.

/// What is wrong with a file that should be a static x86-64 program.
pub fn complaint(image: &[u8]) -> Option<&'static str> {
    let at = |from: u64, bytes: usize| {
        let from = usize::try_from(from).ok()?;
        let field = image.get(from..from.checked_add(bytes)?)?;
        Some(field.iter().rev().fold(0u64, |value, byte| value << 8 | u64::from(*byte)))
    };
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
