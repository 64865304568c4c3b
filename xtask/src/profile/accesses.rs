//! Where a program accesses the words that it shares with its peer: a list made from the debug information, not by hand.
//!
//! `shmqueue` and `mbuf` reach shared words by the loads and stores of `core`'s atomics alone (`shmqueue/src/sync.rs`), which the compiler
//! inlines. A row of the line table that stands for an inlined load or store, called from a source of these crates, is the place of one
//! access. Whoever stops a program at the row's first instruction stops it before that access and behind the one before.

use std::path::Path;

use super::places::Image;
use crate::error::Result;

/// The sources whose atomics are shared words.
const SOURCES: [&str; 2] = ["shmqueue/src/", "mbuf/src/"];
/// Where `core` has its atomics.
const ATOMICS: &str = "std/core/src/sync/atomic.rs";
/// What is no access there.
const FENCES: [&str; 2] = ["::fence", "::compiler_fence"];

/// One place in a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The first instruction.
    pub address: u64,
    /// File and line of the source, and its function.
    pub place: String,
}

/// All of them, in the order of their addresses.
pub fn of(program: &Path) -> Result<Vec<Access>> {
    let image = Image::read("", program)?;
    let mut found: Vec<_> =
        image.rows().into_iter().filter_map(|address| access_at(&image, address)).collect();
    found.sort_by_key(|access| access.address);
    found.dedup_by_key(|access| access.address);
    Ok(found)
}

fn access_at(image: &Image, address: u64) -> Option<Access> {
    let frames = image.frames_at(address);
    // Of two accesses that the compiler has made one, it says the file and a function around both.
    let is_access = |(file, _, function): &(String, u32, String)| {
        file == ATOMICS && !FENCES.iter().any(|name| function.ends_with(name))
    };
    let caller = frames.iter().position(|(file, _, _)| !file.starts_with("std/"))?;
    let (file, line, function) = &frames[caller];
    let shared = SOURCES.iter().any(|source| file.starts_with(source));
    (shared && frames[..caller].iter().any(is_access))
        .then(|| Access { address, place: format!("{file}:{line} {function}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// This test's own program has no inlined queue, and other atomics than those.
    #[test]
    fn atomics_of_others_are_not_listed() {
        let own = std::env::current_exe().unwrap();
        assert_eq!(of(&own).unwrap(), []);
        assert!(of(Path::new("/no/such/program")).is_err());
    }
}
