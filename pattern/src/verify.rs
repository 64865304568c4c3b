//! The receiving end's comparison with the pattern.

use crate::table::{MAX_CHUNK, Source};

/// Compares a stream that arrives in pieces with the [`Pattern`](crate::Pattern).
#[derive(Debug, Clone, Default)]
pub struct Verifier {
    expected: Source,
    first_error: Option<u64>,
}

impl Verifier {
    /// At the stream's start.
    #[must_use]
    pub const fn new() -> Self {
        Self { expected: Source::new(), first_error: None }
    }

    /// Takes the next piece; says whether everything up to now was right.
    #[inline]
    pub fn check(&mut self, bytes: &[u8]) -> bool {
        for piece in bytes.chunks(MAX_CHUNK) {
            let expected = self.expected.peek(piece.len());
            if piece != expected && self.first_error.is_none() {
                let differs = piece.iter().zip(expected).take_while(|(got, want)| got == want).count();
                self.first_error = Some(self.expected.position() + differs as u64);
            }
            self.expected.advance(piece.len());
        }
        self.first_error.is_none()
    }

    /// How many bytes came.
    #[inline]
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.expected.position()
    }

    /// Where the first wrong byte was, if any was wrong.
    #[inline]
    #[must_use]
    pub const fn first_error(&self) -> Option<u64> {
        self.first_error
    }
}
