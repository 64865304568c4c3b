//! The filters that are set on one device, in the order in which frames are shown to them.

use super::Program;

/// No place for one more filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// A filter, and whose it is.
#[derive(Clone, Copy, Debug)]
struct Entry<K> {
    owner: K,
    priority: u8,
    /// What it wants is shown to those behind it as well.
    copy_all: bool,
    program: Program,
}

/// Filters of up to `N` owners (ports), each of which has one.
#[derive(Debug)]
pub struct FilterTable<K, const N: usize = 32> {
    entries: [Option<Entry<K>>; N],
    /// The entries in use by falling priority, and among equals by age.
    order: [u8; N],
    length: usize,
}

/// A filter wants a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match<K> {
    /// Whose filter it is.
    pub owner: K,
    /// Where to go on: behind the last filter if this one keeps the frame to itself.
    pub next: usize,
}

impl<K: Copy + PartialEq, const N: usize> FilterTable<K, N> {
    /// No filters.
    #[must_use]
    pub const fn new() -> Self {
        const { assert!(N <= 256, "an entry's number fits in a byte") };
        Self { entries: [const { None }; N], order: [0; N], length: 0 }
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Whether there is none, so that no frame is wanted.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Sets an owner's filter, in the place of the one that it had.
    ///
    /// # Errors
    /// [`Full`]; nothing was changed.
    pub fn set(&mut self, owner: K, priority: u8, copy_all: bool, program: &Program) -> Result<(), Full> {
        self.remove(owner);
        let free = self.entries.iter().position(Option::is_none).ok_or(Full)?;
        self.entries[free] = Some(Entry { owner, priority, copy_all, program: *program });
        let order = &self.order[..self.length];
        let at = order.partition_point(|&i| {
            self.entries[usize::from(i)].as_ref().is_some_and(|before| before.priority >= priority)
        });
        self.order.copy_within(at..self.length, at + 1);
        self.order[at] = free as u8;
        self.length += 1;
        Ok(())
    }

    /// Takes an owner's filter away; says whether it had one.
    pub fn remove(&mut self, owner: K) -> bool {
        let owned = |entry: &Option<Entry<K>>| entry.as_ref().is_some_and(|entry| entry.owner == owner);
        let Some(slot) = self.entries.iter().position(owned) else { return false };
        self.entries[slot] = None;
        if let Some(at) = self.order[..self.length].iter().position(|&i| usize::from(i) == slot) {
            self.order.copy_within(at + 1..self.length, at);
            self.length -= 1;
        }
        true
    }

    /// The first filter from `from` on (0, or [`Match::next`] of the one before) that wants the frame.
    #[inline]
    #[must_use]
    pub fn next_match(&self, from: usize, frame: &[u8]) -> Option<Match<K>> {
        let order = self.order.get(from..self.length)?;
        for (i, &slot) in order.iter().enumerate() {
            let Some(Some(entry)) = self.entries.get(usize::from(slot)) else { continue };
            if entry.program.matches(frame) {
                let next = if entry.copy_all { from + i + 1 } else { self.length };
                return Some(Match { owner: entry.owner, next });
            }
        }
        None
    }
}

impl<K: Copy + PartialEq, const N: usize> Default for FilterTable<K, N> {
    fn default() -> Self {
        Self::new()
    }
}
