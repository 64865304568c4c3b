//! The file that the plugin writes: a header, then the snapshots. All words are 64 bits, little endian.

/// The first word of the file.
pub const MAGIC: u64 = u64::from_le_bytes(*b"oriel-ic");

/// The counters of a file: kernel, user, and what the plugin's `range=` arguments ask for.
pub const COUNTERS: usize = 16;
/// The number of the counter of the kernel's half of the addresses, without the ranges.
pub const KERNEL: usize = 0;
/// The number of the counter of the lower half, without the ranges.
pub const USER: usize = 1;
/// The number of the first range's counter.
pub const RANGE: usize = 2;

/// Words before the snapshots: magic, how many snapshots there are, the counters as they run.
pub const HEADER_WORDS: usize = 2 + COUNTERS;
/// The word that says how many snapshots were taken, written or not.
pub const TAKEN: usize = 1;
/// The first of the running counters.
pub const RUNNING: usize = 2;
/// Words of a snapshot: the mark's number, the counters.
pub const SNAPSHOT_WORDS: usize = 1 + COUNTERS;
/// Snapshots that a file has room for; later ones are counted and not kept.
pub const SNAPSHOTS_MAX: usize = 16384;
/// Words of the whole file.
pub const FILE_WORDS: usize = HEADER_WORDS + SNAPSHOT_WORDS * SNAPSHOTS_MAX;

/// The counters at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot {
    /// [`abi::mark::START`], [`abi::mark::STOP`] or another number a program chose.
    pub mark: u32,
    /// All counters.
    pub counts: [u64; COUNTERS],
}

/// Why a file can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadFile {
    /// No magic, or shorter than a header: the plugin didn't run.
    NotWritten,
    /// There were more snapshots than fit.
    Overflow,
}

/// Reads the snapshots of a file in the order in which they were taken.
///
/// # Errors
/// [`BadFile`] if it's none or has lost some.
pub fn snapshots(file: &[u8]) -> Result<Vec<Snapshot>, BadFile> {
    let (words, _) = file.as_chunks::<8>();
    let word = |at: usize| words.get(at).copied().map(u64::from_le_bytes).ok_or(BadFile::NotWritten);
    if word(0)? != MAGIC {
        return Err(BadFile::NotWritten);
    }
    let taken = usize::try_from(word(TAKEN)?).map_err(|_| BadFile::Overflow)?;
    if taken > SNAPSHOTS_MAX {
        return Err(BadFile::Overflow);
    }
    (0..taken)
        .map(|n| {
            let at = HEADER_WORDS + n * SNAPSHOT_WORDS;
            let mut counts = [0; COUNTERS];
            for (i, count) in counts.iter_mut().enumerate() {
                *count = word(at + 1 + i)?;
            }
            Ok(Snapshot { mark: word(at)? as u32, counts })
        })
        .collect()
}

/// The counts of each region, from its start mark to its stop mark, in order. A stop without a start is left out.
#[must_use]
pub fn regions(snapshots: &[Snapshot]) -> Vec<[u64; COUNTERS]> {
    between(snapshots, abi::mark::START, abi::mark::STOP)
}

/// As [`regions`], between any two kinds of marks. Of several first ones in a row the last counts.
#[must_use]
pub fn between(snapshots: &[Snapshot], first: u32, last: u32) -> Vec<[u64; COUNTERS]> {
    let mut start = None;
    let mut regions = Vec::new();
    for snapshot in snapshots {
        if snapshot.mark == first {
            start = Some(snapshot.counts);
        } else if snapshot.mark == last
            && let Some(start) = start.take()
        {
            regions.push(std::array::from_fn(|i| snapshot.counts[i].wrapping_sub(start[i])));
        }
    }
    regions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(snapshots: &[Snapshot], taken: u64) -> Vec<u8> {
        let mut words = vec![MAGIC, taken];
        words.extend([0; COUNTERS]);
        for snapshot in snapshots {
            words.push(snapshot.mark.into());
            words.extend(snapshot.counts);
        }
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn at(mark: u32, kernel: u64, user: u64) -> Snapshot {
        let mut counts = [0; COUNTERS];
        counts[KERNEL] = kernel;
        counts[USER] = user;
        Snapshot { mark, counts }
    }

    #[test]
    fn reads_what_was_written() {
        let all = [at(abi::mark::START, 10, 20), at(7, 11, 21), at(abi::mark::STOP, 110, 2020)];
        assert_eq!(snapshots(&file(&all, 3)).as_deref(), Ok(&all[..]));
        let regions = regions(&all);
        assert_eq!(regions.len(), 1);
        assert_eq!((regions[0][KERNEL], regions[0][USER]), (100, 2000));
    }

    #[test]
    fn a_stop_alone_is_no_region() {
        let all = [at(abi::mark::STOP, 1, 1), at(abi::mark::START, 2, 2), at(abi::mark::START, 5, 5)];
        assert!(regions(&all).is_empty());
    }

    #[test]
    fn regions_of_other_marks_are_found_among_those() {
        let (down, up) = (abi::mark::DOWN, abi::mark::UP);
        let marks = [at(down, 1, 1), at(abi::mark::START, 2, 2), at(up, 5, 7), at(abi::mark::STOP, 9, 9)];
        assert_eq!(between(&marks, down, up)[0][..2], [4, 6]);
        assert_eq!(regions(&marks)[0][..2], [7, 7]);
    }

    #[test]
    fn refuses_other_files() {
        assert_eq!(snapshots(&[]), Err(BadFile::NotWritten));
        assert_eq!(snapshots(&[0; 4096]), Err(BadFile::NotWritten));
        assert_eq!(snapshots(&file(&[at(1, 1, 1)], 2)), Err(BadFile::NotWritten));
        assert_eq!(snapshots(&file(&[], 1 << 40)), Err(BadFile::Overflow));
    }
}
