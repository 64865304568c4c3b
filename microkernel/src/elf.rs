//! What a program must be before anything of it is loaded: a static ELF-64 executable for x86-64 whose segments are
//! where they may be, do not meet, and are never both writable and executable.
//!
//! The crate `elf` reads the headers; the rules are here. Everything is checked before the first page is mapped, so
//! that a bad program costs nothing.

use abi::vm::{PAGE_BYTES, PROGRAM_END, USER_MIN};
use elf::ElfBytes;
use elf::abi::{
    EM_X86_64, ET_EXEC, PF_W, PF_X, PT_DYNAMIC, PT_GNU_STACK, PT_INTERP, PT_LOAD, PT_SHLIB, PT_TLS,
};
use elf::endian::LittleEndian;
use elf::file::Class;

use crate::machine::Prot;

/// Loadable segments per program, at most.
pub const SEGMENTS_MAX: usize = 16;

/// The program is none: why is the loader's business, the caller learns [`abi::Error::BadProgram`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadProgram;

impl<E: Into<elf::ParseError>> From<E> for BadProgram {
    fn from(_: E) -> Self {
        Self
    }
}

/// A segment, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Where its first byte goes.
    pub address: u64,
    /// What the file has of it; zeros follow.
    pub contents: &'a [u8],
    /// The address of its first page.
    pub first_page: u64,
    /// Its pages.
    pub pages: u64,
    /// What its pages allow.
    pub prot: Prot,
}

/// A program, checked.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    /// Where its first thread starts.
    pub entry: u64,
    segments: [Option<Segment<'a>>; SEGMENTS_MAX],
}

impl<'a> Program<'a> {
    /// Checks a file.
    ///
    /// # Errors
    /// It is not a program that can run here.
    pub fn parse(file: &'a [u8]) -> Result<Self, BadProgram> {
        let parsed = ElfBytes::<LittleEndian>::minimal_parse(file)?;
        let header = parsed.ehdr;
        if header.class != Class::ELF64 || header.e_type != ET_EXEC || header.e_machine != EM_X86_64 {
            return Err(BadProgram);
        }
        let mut segments = [None; SEGMENTS_MAX];
        let mut count = 0;
        for found in parsed.segments().ok_or(BadProgram)?.iter() {
            match found.p_type {
                PT_INTERP | PT_DYNAMIC | PT_SHLIB | PT_TLS => return Err(BadProgram),
                PT_GNU_STACK if found.p_flags & PF_X != 0 => return Err(BadProgram),
                PT_LOAD if found.p_memsz > 0 => {
                    let segment = segment(file, &found)?;
                    if segments.iter().flatten().any(|other| meet(&segment, other)) {
                        return Err(BadProgram);
                    }
                    *segments.get_mut(count).ok_or(BadProgram)? = Some(segment);
                    count += 1;
                }
                _ => {}
            }
        }
        let program = Self { entry: header.e_entry, segments };
        let runs = |segment: Segment<'_>| {
            segment.prot.execute && (segment.address..segment.end()).contains(&program.entry)
        };
        if program.segments().any(runs) { Ok(program) } else { Err(BadProgram) }
    }

    /// The segments.
    pub fn segments(&self) -> impl Iterator<Item = Segment<'a>> {
        self.segments.iter().flatten().copied()
    }

    /// The pages of all segments.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.segments().map(|segment| segment.pages).sum()
    }
}

impl Segment<'_> {
    /// One past the last address of its last page.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.first_page + self.pages * PAGE_BYTES
    }
}

fn segment<'a>(file: &'a [u8], found: &elf::segment::ProgramHeader) -> Result<Segment<'a>, BadProgram> {
    let start = usize::try_from(found.p_offset)?;
    let file_end = start.checked_add(usize::try_from(found.p_filesz)?).ok_or(BadProgram)?;
    let contents = file.get(start..file_end).ok_or(BadProgram)?;
    let end = found.p_vaddr.checked_add(found.p_memsz).ok_or(BadProgram)?;
    let prot = Prot { write: found.p_flags & PF_W != 0, execute: found.p_flags & PF_X != 0 };
    let first_page = found.p_vaddr & !(PAGE_BYTES - 1);
    if found.p_filesz > found.p_memsz
        || found.p_vaddr < USER_MIN
        || end > PROGRAM_END
        || (prot.write && prot.execute)
    {
        return Err(BadProgram);
    }
    let pages = (end - first_page).div_ceil(PAGE_BYTES);
    Ok(Segment { address: found.p_vaddr, contents, first_page, pages, prot })
}

fn meet(a: &Segment<'_>, b: &Segment<'_>) -> bool {
    a.first_page < b.end() && b.first_page < a.end()
}

#[cfg(any(test, feature = "fake"))]
#[cfg_attr(not(test), allow(dead_code, unused_imports, reason = "what the fuzz targets use is a part of it"))]
#[path = "tests/elf.rs"]
pub(crate) mod tests;
