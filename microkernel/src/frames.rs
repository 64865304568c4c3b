//! Physical frames: which are free.
//!
//! A bitmap with two summaries above it (a set bit: something is free below), so that taking and giving back cost the
//! same whatever is free, no memory has to be touched to be counted, and a frame given back twice is noticed.
//!
//! Some can be kept from what tasks ask for, so that who has what he needs goes on when somebody has taken all the rest.

use core::ops::Range;

/// The size of a frame, in bytes.
pub const FRAME_BYTES: u64 = abi::vm::PAGE_BYTES;
/// One past the highest physical address that can be used; memory above it is ignored.
pub const PHYSICAL_END: u64 = 8 << 30;

const FRAMES: usize = (PHYSICAL_END / FRAME_BYTES) as usize;
const WORDS: usize = FRAMES / 64;
const MIDDLES: usize = WORDS / 64;
const TOPS: usize = MIDDLES.div_ceil(64);

/// The free frames of the machine. As it is made, none is.
pub struct Frames {
    /// Bit set: the frame is free.
    free: [u64; WORDS],
    /// Bit set: the word of `free` is not 0.
    middle: [u64; MIDDLES],
    /// Bit set: the word of `middle` is not 0.
    top: [u64; TOPS],
    free_count: usize,
    /// The last so many are for [`Frames::allocate_kept`] alone.
    kept: usize,
}

impl Frames {
    /// No free frame.
    #[must_use]
    pub const fn new() -> Self {
        Self { free: [0; WORDS], middle: [0; MIDDLES], top: [0; TOPS], free_count: 0, kept: 0 }
    }

    /// Adds the whole frames within a range of physical addresses; what was free stays free.
    pub fn add(&mut self, range: Range<u64>) {
        let first = range.start.div_ceil(FRAME_BYTES);
        for frame in first..range.end.min(PHYSICAL_END) / FRAME_BYTES {
            if !self.is_free(frame as usize) {
                self.set(frame as usize);
            }
        }
    }

    /// Takes every frame that a range of physical addresses touches out of the free ones.
    pub fn reserve(&mut self, range: Range<u64>) {
        let first = range.start / FRAME_BYTES;
        for frame in first..range.end.min(PHYSICAL_END).div_ceil(FRAME_BYTES) {
            if self.is_free(frame as usize) {
                self.clear(frame as usize);
            }
        }
    }

    /// Keeps the last frames for [`Frames::allocate_kept`].
    pub const fn keep(&mut self, count: usize) {
        self.kept = count;
    }

    /// Takes a frame; its contents are what they were.
    pub fn allocate(&mut self) -> Option<u64> {
        if self.free_count <= self.kept { None } else { self.allocate_kept() }
    }

    /// Takes a frame, one of those that are kept if there is no other.
    pub fn allocate_kept(&mut self) -> Option<u64> {
        let top = self.top.iter().position(|&word| word != 0)?;
        let middle = 64 * top + self.top[top].trailing_zeros() as usize;
        let word = 64 * middle + self.middle[middle].trailing_zeros() as usize;
        let frame = 64 * word + self.free[word].trailing_zeros() as usize;
        self.clear(frame);
        Some(frame as u64 * FRAME_BYTES)
    }

    /// Takes `count` frames in a row, for DMA: the lowest there are, below `below`.
    pub fn allocate_contiguous(&mut self, count: usize, below: u64) -> Option<u64> {
        let mut run = 0;
        for frame in 0..(below.min(PHYSICAL_END) / FRAME_BYTES) as usize {
            run = if self.is_free(frame) { run + 1 } else { 0 };
            if run == count && count > 0 {
                let first = frame + 1 - count;
                (first..=frame).for_each(|frame| self.clear(frame));
                return Some(first as u64 * FRAME_BYTES);
            }
        }
        None
    }

    /// Gives a frame back.
    ///
    /// # Panics
    /// If it is free: two owners of one frame is the end of all isolation.
    pub fn free(&mut self, phys: u64) {
        assert!(phys.is_multiple_of(FRAME_BYTES) && phys < PHYSICAL_END, "no frame at {phys:#x}");
        let frame = (phys / FRAME_BYTES) as usize;
        assert!(!self.is_free(frame), "frame {phys:#x} freed twice");
        self.set(frame);
    }

    /// How many are free.
    #[must_use]
    pub const fn free_count(&self) -> usize {
        self.free_count
    }

    /// How many of these are not kept.
    #[must_use]
    pub const fn available_count(&self) -> usize {
        self.free_count.saturating_sub(self.kept)
    }

    fn is_free(&self, frame: usize) -> bool {
        self.free[frame / 64] & 1 << (frame % 64) != 0
    }

    fn set(&mut self, frame: usize) {
        let word = frame / 64;
        self.free[word] |= 1 << (frame % 64);
        self.middle[word / 64] |= 1 << (word % 64);
        self.top[word / 4096] |= 1 << (word / 64 % 64);
        self.free_count += 1;
    }

    fn clear(&mut self, frame: usize) {
        let word = frame / 64;
        self.free[word] &= !(1 << (frame % 64));
        if self.free[word] == 0 {
            self.middle[word / 64] &= !(1 << (word % 64));
            if self.middle[word / 64] == 0 {
                self.top[word / 4096] &= !(1 << (word / 64 % 64));
            }
        }
        self.free_count -= 1;
    }
}

impl Default for Frames {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames() -> std::boxed::Box<Frames> {
        std::boxed::Box::new(Frames::new())
    }

    #[test]
    fn every_frame_of_the_ranges_comes_once() {
        let mut frames = frames();
        frames.add(0x1800..0x10_0800);
        frames.add((5 << 30)..(5 << 30) + 0x4000);
        frames.add(PHYSICAL_END - 0x1000..PHYSICAL_END + 0x9000);
        frames.reserve(0x5fff..0x7001);
        assert_eq!(frames.free_count(), 0xfe - 3 + 4 + 1);
        let mut seen = std::collections::BTreeSet::new();
        while let Some(frame) = frames.allocate() {
            assert!(seen.insert(frame), "{frame:#x} came twice");
            assert!(!(0x5000..0x8000).contains(&frame));
        }
        assert_eq!(frames.free_count(), 0);
        assert_eq!(seen.len(), 0xfe - 3 + 4 + 1);
        for &frame in &seen {
            frames.free(frame);
        }
        assert_eq!(frames.free_count(), seen.len());
    }

    #[test]
    fn contiguous_frames_skip_what_is_too_short_and_too_high() {
        let mut frames = frames();
        frames.add(0x1000..0x3000);
        frames.add(0x10_0000..0x10_8000);
        assert_eq!(frames.allocate_contiguous(3, 0x10_2000), None);
        assert_eq!(frames.allocate_contiguous(0, PHYSICAL_END), None);
        assert_eq!(frames.allocate_contiguous(3, PHYSICAL_END), Some(0x10_0000));
        assert_eq!(frames.allocate_contiguous(5, PHYSICAL_END), Some(0x10_3000));
        assert_eq!(frames.allocate_contiguous(3, PHYSICAL_END), None);
        assert_eq!(frames.free_count(), 2);
    }

    #[test]
    fn what_is_kept_is_not_for_everybody() {
        let mut frames = frames();
        frames.add(0..0x5000);
        frames.keep(2);
        let mut taken = std::vec::Vec::new();
        taken.extend(std::iter::from_fn(|| frames.allocate()));
        assert_eq!((taken.len(), frames.free_count(), frames.available_count()), (3, 2, 0));
        taken.extend(std::iter::from_fn(|| frames.allocate_kept()));
        assert_eq!((taken.len(), frames.free_count()), (5, 0));
        // What comes back is kept first.
        for _ in 0..2 {
            frames.free(taken.pop().unwrap());
            assert_eq!(frames.allocate(), None);
        }
        frames.free(taken.pop().unwrap());
        assert_eq!(frames.available_count(), 1);
        assert!(frames.allocate().is_some());
    }

    #[test]
    #[should_panic(expected = "freed twice")]
    fn a_frame_freed_twice_is_noticed() {
        let mut frames = frames();
        frames.add(0..0x4000);
        let frame = frames.allocate().unwrap();
        frames.free(frame);
        frames.free(frame);
    }
}
