//! The second file that the plugin can write (`blocks=FILE`): every translated block, with how often it ran in the last
//! marked region. `xtask` finds out from it where the instructions went.
//!
//! All words are 64 bits, little endian: a header, a table of blocks, then the lengths of their instructions, a byte each.
//! The file has its full length from the start, with holes where nothing was written, so that memory is bounded and each
//! counter has an address that translated code can add to.
//!
//! An address alone doesn't say whose code it is, since programs may be linked at the same one; so each block carries a
//! [`digest`] of its bytes, which the reader compares with the programs that it knows.

use crate::layout::BadFile;

/// The first word of the file.
pub const MAGIC: u64 = u64::from_le_bytes(*b"oriel-bk");

/// Words before the table.
pub const HEADER_WORDS: usize = 8;
/// The word with the number of blocks in the table.
pub const USED: usize = 1;
/// The word with the number of lengths.
pub const LENGTHS_USED: usize = 2;
/// The word with the number of regions that have ended.
pub const REGIONS: usize = 3;
/// Instructions of blocks that the table had no room for, as they run.
pub const LOST: usize = 4;
/// The same at the last region's start.
pub const LOST_AT_START: usize = 5;
/// The same in the last region.
pub const LOST_IN_REGION: usize = 6;

/// Words of a block in the table.
pub const BLOCK_WORDS: usize = 6;
/// In a block: the address of its first instruction.
pub const ADDRESS: usize = 0;
/// In a block: the digest of its bytes.
pub const DIGEST: usize = 1;
/// In a block: where its lengths begin, and in the upper half how many there are.
pub const LENGTHS: usize = 2;
/// In a block: how often it ran.
pub const RAN: usize = 3;
/// In a block: the same at the last region's start.
pub const RAN_AT_START: usize = 4;
/// In a block: how often it ran in the last region.
pub const RAN_IN_REGION: usize = 5;

/// Blocks that the table has room for. A boot of Oriel with all its programs makes some fifteen thousand.
pub const BLOCKS_MAX: usize = 1 << 17;
/// Lengths that there is room for.
pub const LENGTHS_MAX: usize = 1 << 21;
/// Where the table begins, in words.
pub const TABLE: usize = HEADER_WORDS;
/// Where the lengths begin, in words.
pub const LENGTHS_TABLE: usize = TABLE + BLOCKS_MAX * BLOCK_WORDS;
/// Words of the whole file.
pub const FILE_WORDS: usize = LENGTHS_TABLE + LENGTHS_MAX / 8;

/// A block that ran in the region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The address of its first instruction.
    pub address: u64,
    /// The digest of its bytes.
    pub digest: u64,
    /// The length of each instruction in bytes.
    pub lengths: Vec<u8>,
    /// How often it ran, counted where it is entered.
    pub ran: u64,
}

impl Block {
    /// How many instructions it stands for.
    #[must_use]
    pub fn instructions(&self) -> u64 {
        self.ran * self.lengths.len() as u64
    }

    /// How many bytes it has.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.lengths.iter().map(|length| usize::from(*length)).sum()
    }

    /// The address of each instruction.
    pub fn addresses(&self) -> impl Iterator<Item = u64> {
        self.lengths.iter().scan(self.address, |next, length| {
            let at = *next;
            *next += u64::from(*length);
            Some(at)
        })
    }
}

/// The last region of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Region {
    /// Which it is, from 1; 0 if none has ended.
    pub number: u64,
    /// The blocks that ran in it.
    pub blocks: Vec<Block>,
}

/// Reads the last region.
///
/// # Errors
/// [`BadFile`] if it's no such file, or if blocks ran that there was no room for.
pub fn last_region(file: &[u8]) -> Result<Region, BadFile> {
    let (words, _) = file.as_chunks::<8>();
    let word = |at: usize| words.get(at).copied().map(u64::from_le_bytes).ok_or(BadFile::NotWritten);
    if word(0)? != MAGIC {
        return Err(BadFile::NotWritten);
    }
    if word(LOST_IN_REGION)? != 0 {
        return Err(BadFile::Overflow);
    }
    let mut region = Region { number: word(REGIONS)?, blocks: Vec::new() };
    for n in 0..word(USED)?.min(BLOCKS_MAX as u64) as usize {
        let at = TABLE + n * BLOCK_WORDS;
        let ran = word(at + RAN_IN_REGION)?;
        if ran == 0 {
            continue;
        }
        let lengths = word(at + LENGTHS)?;
        let start = LENGTHS_TABLE * 8 + (lengths & u64::from(u32::MAX)) as usize;
        let lengths = file.get(start..start + (lengths >> 32) as usize).ok_or(BadFile::NotWritten)?;
        region.blocks.push(Block {
            address: word(at + ADDRESS)?,
            digest: word(at + DIGEST)?,
            lengths: lengths.to_vec(),
            ran,
        });
    }
    Ok(region)
}

/// The digest of a block's bytes, in as many parts as one likes: start with [`DIGEST_START`]. Fowler, Noll and Vo's 1a.
#[must_use]
pub fn digest(so_far: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(so_far, |digest, byte| (digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The digest of no bytes.
pub const DIGEST_START: u64 = 0xcbf2_9ce4_8422_2325;

#[cfg(test)]
mod tests {
    use super::*;

    fn file(blocks: &[(u64, u64, &[u8])], lost: u64) -> Vec<u8> {
        let mut words = vec![0u64; FILE_WORDS];
        words[0] = MAGIC;
        words[USED] = blocks.len() as u64;
        words[REGIONS] = 3;
        words[LOST_IN_REGION] = lost;
        let mut all_lengths = Vec::new();
        for (n, (address, ran, lengths)) in blocks.iter().enumerate() {
            let block = &mut words[TABLE + n * BLOCK_WORDS..][..BLOCK_WORDS];
            block[ADDRESS] = *address;
            block[DIGEST] = digest(DIGEST_START, &address.to_le_bytes());
            block[LENGTHS] = (lengths.len() as u64) << 32 | all_lengths.len() as u64;
            block[RAN] = 1_000_000;
            block[RAN_IN_REGION] = *ran;
            all_lengths.extend_from_slice(lengths);
        }
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes[LENGTHS_TABLE * 8..][..all_lengths.len()].copy_from_slice(&all_lengths);
        bytes
    }

    #[test]
    fn only_what_ran_in_the_region_is_read() {
        let region =
            last_region(&file(&[(0x1000, 7, &[1, 2, 15]), (0x2000, 0, &[4]), (0x3000, 2, &[3, 3])], 0));
        let region = region.unwrap();
        assert_eq!(region.number, 3);
        assert_eq!(region.blocks.len(), 2);
        assert_eq!(region.blocks[0].addresses().collect::<Vec<_>>(), [0x1000, 0x1001, 0x1003]);
        assert_eq!((region.blocks[0].instructions(), region.blocks[0].bytes()), (21, 18));
        assert_eq!((region.blocks[1].address, region.blocks[1].lengths.as_slice()), (0x3000, &[3, 3][..]));
    }

    #[test]
    fn a_file_with_losses_or_of_another_kind_is_refused() {
        assert_eq!(last_region(&file(&[], 1)), Err(BadFile::Overflow));
        assert_eq!(last_region(&[]), Err(BadFile::NotWritten));
        assert_eq!(last_region(&[0; 4096]), Err(BadFile::NotWritten));
        let whole = file(&[(0x1000, 1, &[1])], 0);
        assert_eq!(last_region(&whole[..LENGTHS_TABLE * 8]), Err(BadFile::NotWritten));
    }

    #[test]
    fn a_digest_may_be_made_in_parts() {
        let whole = digest(DIGEST_START, b"foobar");
        assert_eq!(whole, 0x8594_4171_f739_67e8);
        assert_eq!(digest(digest(DIGEST_START, b"foo"), b"bar"), whole);
    }
}
