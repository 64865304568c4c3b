//! The table of blocks as the plugin writes it ([`crate::blocks`] says what is where).
//!
//! A block that is translated again, since its page was written or the translator's memory was full, keeps its place.

use core::ffi::c_void;
use std::collections::HashMap;
use std::sync::Mutex;

use super::map_file;
use crate::blocks::{
    ADDRESS, BLOCK_WORDS, BLOCKS_MAX, DIGEST, FILE_WORDS, LENGTHS, LENGTHS_MAX, LENGTHS_TABLE, LENGTHS_USED,
    LOST, LOST_AT_START, LOST_IN_REGION, MAGIC, RAN, RAN_AT_START, RAN_IN_REGION, REGIONS, TABLE, USED,
};

/// What makes two translations the same block.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) address: u64,
    pub(super) digest: u64,
    pub(super) instructions: usize,
}

/// The mapped file.
pub(super) struct Table {
    words: *mut u64,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    blocks: HashMap<Key, usize>,
    in_region: bool,
}

/// What translated code adds at the start of a block.
pub(super) struct Increment {
    pub(super) to: *mut c_void,
    pub(super) by: u64,
}

impl Table {
    /// Creates the file.
    pub(super) fn create(path: &str) -> std::io::Result<Self> {
        let words = map_file(path, FILE_WORDS, MAGIC)?;
        Ok(Self { words, known: Mutex::default() })
    }

    /// Finds or makes the place of a block.
    pub(super) fn increment_for(&self, key: Key, lengths: &[u8]) -> Increment {
        let lost = Increment { to: self.at(LOST).cast(), by: lengths.len() as u64 };
        let Ok(mut known) = self.known.lock() else { return lost };
        let new = known.blocks.len();
        if let Some(place) = known.blocks.get(&key) {
            return Increment { to: self.at(place + RAN).cast(), by: 1 };
        }
        let first_length = self.read(LENGTHS_USED) as usize;
        if new == BLOCKS_MAX || first_length + lengths.len() > LENGTHS_MAX {
            return lost;
        }
        let place = TABLE + new * BLOCK_WORDS;
        // SAFETY: the lengths lie behind LENGTHS_TABLE, and no more than LENGTHS_MAX bytes from it (checked above); nothing else
        // writes there.
        unsafe {
            let to = self.at(LENGTHS_TABLE).cast::<u8>().add(first_length);
            to.copy_from_nonoverlapping(lengths.as_ptr(), lengths.len());
        }
        self.write(place + ADDRESS, key.address);
        self.write(place + DIGEST, key.digest);
        self.write(place + LENGTHS, (lengths.len() as u64) << 32 | first_length as u64);
        self.write(LENGTHS_USED, (first_length + lengths.len()) as u64);
        self.write(USED, new as u64 + 1);
        known.blocks.insert(key, place);
        Increment { to: self.at(place + RAN).cast(), by: 1 }
    }

    /// A region begins: what ran before doesn't count.
    pub(super) fn start(&self) {
        let Ok(mut known) = self.known.lock() else { return };
        known.in_region = true;
        self.write(LOST_AT_START, self.read(LOST));
        for place in places(known.blocks.len()) {
            self.write(place + RAN_AT_START, self.read(place + RAN));
        }
    }

    /// A region ends, if one had begun. A block that was first seen in it has zero as its count at the start.
    pub(super) fn stop(&self) {
        let Ok(mut known) = self.known.lock() else { return };
        if !std::mem::take(&mut known.in_region) {
            return;
        }
        self.write(LOST_IN_REGION, self.read(LOST) - self.read(LOST_AT_START));
        for place in places(known.blocks.len()) {
            self.write(place + RAN_IN_REGION, self.read(place + RAN) - self.read(place + RAN_AT_START));
        }
        // Last, so that who reads the file meanwhile sees a region as a whole.
        self.write(REGIONS, self.read(REGIONS) + 1);
    }

    fn at(&self, word: usize) -> *mut u64 {
        debug_assert!(word < FILE_WORDS, "all places are inside the file");
        self.words.wrapping_add(word)
    }

    fn read(&self, word: usize) -> u64 {
        // SAFETY: the mapping is FILE_WORDS long and never unmapped, and every caller's word is below that: a constant of the
        // header, or of a block whose number is below BLOCKS_MAX. Volatile, since translated code adds to it.
        unsafe { self.at(word).read_volatile() }
    }

    fn write(&self, word: usize, value: u64) {
        // SAFETY: as in `read`.
        unsafe { self.at(word).write_volatile(value) }
    }
}

fn places(blocks: usize) -> impl Iterator<Item = usize> {
    (0..blocks).map(|n| TABLE + n * BLOCK_WORDS)
}
