//! The pattern itself: one period of it twice over, generated at compile time.

/// The pattern repeats after this many bytes: a prime, so that it's in step with no buffer size.
pub const PERIOD: usize = 65_521;

/// The longest piece that [`Pattern::chunk`] gives in one slice.
pub const MAX_CHUNK: usize = 65_536;

const TABLE_LEN: usize = PERIOD + MAX_CHUNK;

static TABLE: [u8; TABLE_LEN] = generate();

/// Fills the table from Marsaglia's xorshift64 ("Xorshift RNGs", 2003; shifts 13, 7, 17).
const fn generate() -> [u8; TABLE_LEN] {
    let mut table = [0; TABLE_LEN];
    let mut state: u64 = 0x6f72_6965_6c21_7761;
    let mut at = 0;
    while at < PERIOD {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let bytes = state.to_le_bytes();
        let mut i = 0;
        while i < 8 && at < PERIOD {
            table[at] = bytes[i];
            at += 1;
            i += 1;
        }
    }
    // iperf 2 takes the first word of a connection for flags that ask for other tests; zero asks for none.
    (table[0], table[1], table[2], table[3]) = (0, 0, 0, 0);
    // The wrap: a piece that begins near the end of a period goes on in the same slice.
    let (first, rest) = table.split_at_mut(PERIOD);
    let mut copied = 0;
    while copied < rest.len() {
        let mut n = rest.len() - copied;
        if n > PERIOD {
            n = PERIOD;
        }
        rest.split_at_mut(copied).1.split_at_mut(n).0.copy_from_slice(first.split_at(n).0);
        copied += n;
    }
    table
}

/// The endless stream of test bytes. It has no state: everything follows from a position.
#[derive(Debug, Clone, Copy)]
pub struct Pattern;

impl Pattern {
    /// The `len` bytes that stand at position `pos` of the stream.
    ///
    /// # Panics
    /// If `len` is more than [`MAX_CHUNK`].
    #[inline]
    #[must_use]
    pub fn chunk(pos: u64, len: usize) -> &'static [u8] {
        // The remainder by a constant compiles to a multiplication.
        Self::chunk_at((pos % PERIOD as u64) as usize, len)
    }

    #[inline]
    fn chunk_at(index: usize, len: usize) -> &'static [u8] {
        assert!(len <= MAX_CHUNK, "a piece of the pattern is at most 64 KiB");
        &TABLE[index..index + len]
    }
}

/// A sender's place in the pattern: hands out the stream piece by piece, straight from the table.
#[derive(Debug, Clone, Default)]
pub struct Source {
    index: usize,
    position: u64,
}

impl Source {
    /// At the stream's start.
    #[must_use]
    pub const fn new() -> Self {
        Self { index: 0, position: 0 }
    }

    /// The next `len` bytes, without taking them.
    ///
    /// # Panics
    /// If `len` is more than [`MAX_CHUNK`].
    #[inline]
    #[must_use]
    pub fn peek(&self, len: usize) -> &'static [u8] {
        Pattern::chunk_at(self.index, len)
    }

    /// Takes `len` bytes: as many as the write accepted.
    ///
    /// # Panics
    /// If `len` is more than [`MAX_CHUNK`].
    #[inline]
    pub fn advance(&mut self, len: usize) {
        assert!(len <= MAX_CHUNK, "a piece of the pattern is at most 64 KiB");
        self.position += len as u64;
        self.index += len;
        // Twice: MAX_CHUNK is a little longer than a period.
        if self.index >= PERIOD {
            self.index -= PERIOD;
            if self.index >= PERIOD {
                self.index -= PERIOD;
            }
        }
    }

    /// How many bytes were taken.
    #[inline]
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.position
    }
}
