//! What the plugin decides when it sees a block: whose it is, and which of its instructions are marks.

use crate::layout::{COUNTERS, KERNEL, RANGE, USER};

/// The kernel's half of the addresses.
const KERNEL_START: u64 = 0xffff_8000_0000_0000;

/// Bytes of a mark.
pub const MARK_BYTES: usize = abi::mark::OPCODE.len() + 4;

/// The number of a mark, if the instruction is one: compilers pad with the same no-op, with a zero in it.
#[must_use]
pub fn mark_of(bytes: &[u8; MARK_BYTES]) -> Option<u32> {
    let (opcode, number) = bytes.split_first_chunk()?;
    let number = u32::from_le_bytes(number.try_into().ok()?);
    (*opcode == abi::mark::OPCODE && number != 0).then_some(number)
}

/// The ranges of addresses that have counters of their own.
#[derive(Debug, Clone, Default)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Adds `START-END`, two hexadecimal addresses, the second exclusive.
    ///
    /// # Errors
    /// A message that says what is wrong with the text.
    pub fn add(&mut self, text: &str) -> Result<(), String> {
        if self.0.len() == COUNTERS - RANGE {
            return Err(format!("more than {} ranges", COUNTERS - RANGE));
        }
        let number = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
        let range = text
            .split_once('-')
            .and_then(|(start, end)| Some((number(start)?, number(end)?)))
            .filter(|(start, end)| start < end)
            .ok_or_else(|| format!("`{text}` is no range START-END of hexadecimal addresses"))?;
        self.0.push(range);
        Ok(())
    }

    /// The number of the counter for a block at `vaddr`.
    #[must_use]
    pub fn counter_of(&self, vaddr: u64) -> usize {
        let range = self.0.iter().position(|(start, end)| (*start..*end).contains(&vaddr));
        range.map_or(if vaddr >= KERNEL_START { KERNEL } else { USER }, |n| RANGE + n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_and_padding() {
        let mut bytes = [0x0f, 0x1f, 0x80, 0, 0, 0, 0];
        assert_eq!(mark_of(&bytes), None);
        bytes[3..].copy_from_slice(&abi::mark::START.to_le_bytes());
        assert_eq!(mark_of(&bytes), Some(abi::mark::START));
        bytes[2] = 0x81;
        assert_eq!(mark_of(&bytes), None);
    }

    #[test]
    fn blocks_find_their_counter() {
        let mut ranges = Ranges::default();
        ranges.add("0xffffffff80001000-ffffffff80002000").unwrap();
        ranges.add("400000-400010").unwrap();
        assert_eq!(ranges.counter_of(0x1000), USER);
        assert_eq!(ranges.counter_of(KERNEL_START), KERNEL);
        assert_eq!(ranges.counter_of(0xffff_ffff_8000_1000), RANGE);
        assert_eq!(ranges.counter_of(0xffff_ffff_8000_2000), KERNEL);
        assert_eq!(ranges.counter_of(0x40_000f), RANGE + 1);
        assert_eq!(ranges.counter_of(0x40_0010), USER);
    }

    #[test]
    fn bad_ranges_are_refused() {
        let mut ranges = Ranges::default();
        for bad in ["", "10", "20-10", "x-y", "10-10"] {
            assert!(ranges.add(bad).is_err(), "{bad}");
        }
        for _ in RANGE..COUNTERS {
            ranges.add("1-2").unwrap();
        }
        assert!(ranges.add("1-2").is_err());
    }
}
