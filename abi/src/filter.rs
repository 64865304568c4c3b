//! Packet filters, in the language of J. Mogul, R. Rashid and M. Accetta, "The Packet Filter: An Efficient Mechanism for User-level Network
//! Code" (1987): programs of 16-bit words for a stack machine, that a frame runs through and that says whether it is wanted.

/// The longest program, in words.
pub const WORDS_MAX: usize = 128;
