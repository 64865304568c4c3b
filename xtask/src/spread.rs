//! How the values of repetitions lie: the one median of all tables, charts and checks.

/// How some values lie.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The least.
    pub min: f64,
    /// A quarter is below.
    pub lower: f64,
    /// Half is below.
    pub median: f64,
    /// A quarter is above.
    pub upper: f64,
    /// The greatest.
    pub max: f64,
    /// How many there were.
    pub count: usize,
}

impl Spread {
    /// Of at least one value. Between two values it goes in a straight line.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        let at = |part: f64| {
            let place = part * last as f64;
            let below = place.floor() as usize;
            let above = (below + 1).min(last);
            sorted[below] + (sorted[above] - sorted[below]) * (place - below as f64)
        };
        Some(Self {
            min: sorted[0],
            lower: at(0.25),
            median: at(0.5),
            upper: at(0.75),
            max: sorted[last],
            count: sorted.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads() {
        let spread = Spread::of(&[4.0, 1.0, 2.0, 3.0, 5.0]).unwrap();
        assert_eq!(spread, Spread { min: 1.0, lower: 2.0, median: 3.0, upper: 4.0, max: 5.0, count: 5 });
        assert_eq!(Spread::of(&[1.0, 2.0]).unwrap().median, 1.5);
        let one = Spread::of(&[7.0]).unwrap();
        assert_eq!((one.min, one.median, one.max, one.count), (7.0, 7.0, 7.0, 1));
        assert_eq!(Spread::of(&[]), None);
    }
}
