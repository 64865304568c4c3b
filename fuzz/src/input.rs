//! The fuzzer's bytes, read from the front. What is missing at their end reads as 0.

/// What is left of the bytes.
pub struct Input<'d>(&'d [u8]);

impl<'d> Input<'d> {
    pub const fn new(bytes: &'d [u8]) -> Self {
        Self(bytes)
    }

    /// The next byte; `None` at the end.
    pub fn next(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    pub fn byte(&mut self) -> u8 {
        self.next().unwrap_or(0)
    }

    pub fn word(&mut self) -> u32 {
        u32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    /// A number below `n`, of one byte, or of two where one is not enough.
    pub fn below(&mut self, n: u32) -> u32 {
        let number = if n <= 256 { u32::from(self.byte()) } else { self.word() & 0xffff };
        number % n.max(1)
    }

    /// The next bytes, at most `n`.
    pub fn take(&mut self, n: usize) -> &'d [u8] {
        let (first, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        first
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'d [u8] {
        self.take(usize::MAX)
    }
}
