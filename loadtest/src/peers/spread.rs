//! Median and quartiles of a few rounds.

use serde::Serialize;
use std::fmt;

/// The middle of some numbers and how far they lie apart.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Spread {
    /// Half lie below.
    pub(super) median: f64,
    /// A quarter lies below.
    pub(super) lower_quartile: f64,
    /// A quarter lies above.
    pub(super) upper_quartile: f64,
}

impl Spread {
    /// Of `values`, by linear interpolation; `None` of nothing.
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |quantile: f64| {
            let place = (values.len().checked_sub(1)?) as f64 * quantile;
            let (low, high) = (values[place.floor() as usize], values[place.ceil() as usize]);
            Some(low + (high - low) * place.fract())
        };
        Some(Self { median: at(0.5)?, lower_quartile: at(0.25)?, upper_quartile: at(0.75)? })
    }

    /// Whether `value` lies between the quartiles: a difference that these rounds cannot tell.
    pub(super) fn holds(&self, value: f64) -> bool {
        (self.lower_quartile..=self.upper_quartile).contains(&value)
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} ({:.3} to {:.3})", self.median, self.lower_quartile, self.upper_quartile)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_are_interpolated() {
        let spread = Spread::of([4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!(spread, Spread { median: 2.5, lower_quartile: 1.75, upper_quartile: 3.25 });
        assert_eq!(Spread::of([7.0]).unwrap().upper_quartile, 7.0);
        assert_eq!(Spread::of([]), None);
        assert!(spread.holds(1.75) && !spread.holds(1.0));
    }
}
