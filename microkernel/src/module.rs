//! The boot module: a cpio archive in the "newc" format (cpio(5)), with a program in each member.
//!
//! A member is a header of 110 bytes of ASCII (magic `070701`, then 13 fields of 8 hexadecimal digits), the name with
//! its zero, and the contents; name and contents are each padded so that the next part starts at a multiple of 4.

/// Why an archive could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModuleError {
    /// It does not start with a cpio header.
    NotAnArchive,
    /// It ends, or stops being an archive, in the middle.
    Damaged,
    /// It has no such member.
    NoMember,
}

impl core::fmt::Display for ModuleError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::NotAnArchive => "not a cpio archive (newc)",
            Self::Damaged => "damaged archive",
            Self::NoMember => "no such program in the module",
        })
    }
}

const HEADER_BYTES: usize = 110;
const MAGIC: &[u8] = b"070701";
const TRAILER: &[u8] = b"TRAILER!!!";

/// The contents of a member; a leading `./` of its name in the archive is passed over.
///
/// # Errors
/// See [`ModuleError`].
pub fn find<'a>(archive: &'a [u8], name: &[u8]) -> Result<&'a [u8], ModuleError> {
    let mut offset = 0;
    loop {
        let damaged = if offset == 0 { ModuleError::NotAnArchive } else { ModuleError::Damaged };
        let header = archive.get(offset..).and_then(|rest| rest.get(..HEADER_BYTES)).ok_or(damaged)?;
        if !header.starts_with(MAGIC) {
            return Err(damaged);
        }
        let member = member(archive, offset, header).ok_or(ModuleError::Damaged)?;
        if member.name == TRAILER {
            return Err(ModuleError::NoMember);
        }
        if member.name.strip_prefix(b"./").unwrap_or(member.name) == name {
            return Ok(member.contents);
        }
        offset = member.next;
    }
}

struct Member<'a> {
    name: &'a [u8],
    contents: &'a [u8],
    next: usize,
}

fn member<'a>(archive: &'a [u8], offset: usize, header: &[u8]) -> Option<Member<'a>> {
    let contents_bytes = field(header, 6)?;
    let name_bytes = field(header, 11)?;
    let name_start = offset + HEADER_BYTES;
    let name_end = name_start.checked_add(name_bytes)?;
    let (&zero, name) = archive.get(name_start..name_end)?.split_last()?;
    let start = name_end.checked_next_multiple_of(4)?;
    let end = start.checked_add(contents_bytes)?;
    let contents = archive.get(start..end)?;
    (zero == 0).then_some(Member { name, contents, next: end.checked_next_multiple_of(4)? })
}

fn field(header: &[u8], index: usize) -> Option<usize> {
    let digits = header.get(6 + 8 * index..14 + 8 * index)?;
    digits.iter().try_fold(0, |sum, &digit| Some(sum << 4 | char::from(digit).to_digit(16)? as usize))
}

#[cfg(any(test, feature = "fake"))]
#[cfg_attr(not(test), allow(dead_code, unused_imports, reason = "what the fuzz targets use is a part of it"))]
pub(crate) mod tests {
    use super::*;
    use std::format;
    use std::vec::Vec;

    /// Makes an archive of members.
    pub(crate) fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for &(name, contents) in members.iter().chain([&("TRAILER!!!", &[][..])]) {
            let (size, name_size) = (contents.len(), name.len() + 1);
            out.extend(
                format!("0707010000000100008180{:08x}{:08x}{:08x}{:08x}{size:08x}", 0, 0, 1, 0).into_bytes(),
            );
            out.extend(format!("{:032x}{name_size:08x}{:08x}{name}\0", 0, 0).into_bytes());
            out.resize(out.len().next_multiple_of(4), 0);
            out.extend(contents);
            out.resize(out.len().next_multiple_of(4), 0);
        }
        out
    }

    #[test]
    fn members_are_found() {
        let bytes = archive(&[("./init", b"first"), ("sh", b""), ("ttcp", &[7; 4096])]);
        assert_eq!(find(&bytes, b"init"), Ok(&b"first"[..]));
        assert_eq!(find(&bytes, b"sh"), Ok(&b""[..]));
        assert_eq!(find(&bytes, b"ttcp"), Ok(&[7; 4096][..]));
        assert_eq!(find(&bytes, b"ttc"), Err(ModuleError::NoMember));
    }

    #[test]
    fn every_truncation_is_noticed() {
        let bytes = archive(&[("init", b"first"), ("sh", b"second")]);
        assert_eq!(find(&[], b"sh"), Err(ModuleError::NotAnArchive));
        assert_eq!(find(b"\x7fELF, not an archive at all; but long enough for a header of one hundred and ten bytes and more than that", b"sh"), Err(ModuleError::NotAnArchive));
        let needed = bytes.windows(6).position(|w| w == b"second").unwrap() + 6;
        for length in 0..needed {
            assert!(find(&bytes[..length], b"sh").is_err(), "cut to {length}");
        }
        assert_eq!(find(&bytes[..needed], b"none"), Err(ModuleError::Damaged));
    }

    #[test]
    fn sizes_that_wrap_and_bad_digits_are_damage() {
        let good = archive(&[("init", b"first"), ("sh", b"second")]);
        for (field, text) in [(6, b"ffffffff"), (11, b"ffffffff"), (11, b"00000000"), (6, b"0000000g")] {
            let mut bytes = good.clone();
            bytes[6 + 8 * field..14 + 8 * field].copy_from_slice(text);
            assert_eq!(find(&bytes, b"sh"), Err(ModuleError::Damaged), "{field}");
        }
    }
}
