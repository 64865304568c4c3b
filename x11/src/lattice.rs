//! Where the dots are.

/// Dots lie on every second pixel of every second row, so that each can be seen and counted.
pub const SPACING: u16 = 2;

/// The places of the dots in a window, in an order that jumps about.
#[derive(Clone, Copy, Debug)]
pub struct Lattice {
    columns: u64,
    rows: u64,
    /// Prime to the number of dots, so that all have their turn.
    stride: u64,
}

impl Lattice {
    /// That of a window of this size, in which a dot has room.
    #[must_use]
    pub fn new(width: u16, height: u16) -> Self {
        let (columns, rows) = (u64::from(width / SPACING), u64::from(height / SPACING));
        let mut stride = columns * rows * 5 / 8 + 1;
        while gcd(stride, columns * rows) != 1 {
            stride += 1;
        }
        Self { columns, rows, stride }
    }

    /// How many there are.
    #[must_use]
    pub const fn dots(&self) -> u64 {
        self.columns * self.rows
    }

    /// The place of a dot; after the last the first comes again.
    #[must_use]
    pub const fn dot(&self, n: u64) -> [u16; 2] {
        let place = n % self.dots() * self.stride % self.dots();
        [(place % self.columns) as u16 * SPACING, (place / self.columns) as u16 * SPACING]
    }
}

const fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_place_has_its_turn() {
        for (width, height) in [(400, 300), (2, 2), (7, 5), (0x7fff, 3)] {
            let lattice = Lattice::new(width, height);
            let all: HashSet<[u16; 2]> = (0..lattice.dots()).map(|n| lattice.dot(n)).collect();
            assert_eq!(all.len() as u64, u64::from(width / 2) * u64::from(height / 2));
            assert!(all.iter().all(|[x, y]| *x < width && *y < height));
            assert_eq!(lattice.dot(lattice.dots()), lattice.dot(0));
        }
    }
}
