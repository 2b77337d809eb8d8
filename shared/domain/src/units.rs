//! Units as types: a number never travels without saying what it counts.
//!
//! Invariant: the only float-to-count conversion in the workspace is [`Replicas::ceil`].

use serde::{Deserialize, Serialize};
use std::fmt;

/// A number of replicas (pods or processes). No sentinel values: "unlimited" is `None`, never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Replicas(u32);

impl Replicas {
    /// No replica.
    pub const ZERO: Self = Self(0);
    /// One replica.
    pub const ONE: Self = Self(1);
    /// The largest count Kubernetes can hold (2³¹ − 1).
    pub const MAX: Self = Self(i32::MAX as u32);

    /// A count, limited to [`Replicas::MAX`].
    #[must_use]
    pub const fn new(count: u32) -> Self {
        if count > Self::MAX.0 { Self::MAX } else { Self(count) }
    }

    /// The count as a number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The smallest count that is not less than `wanted`. Negative numbers and NaN give zero; anything beyond
    /// [`Replicas::MAX`] gives the maximum.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the one audited cast: the value is in range"
    )]
    pub fn ceil(wanted: f64) -> Self {
        let up = wanted.ceil();
        if up >= f64::from(Self::MAX.0) {
            Self::MAX
        } else if up > 0.0 {
            Self(up as u32)
        } else {
            Self::ZERO
        }
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The count as a float, for arithmetic with averages.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        f64::from(self.0)
    }
}

impl fmt::Display for Replicas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An integral of concurrency over time, in request-milliseconds. Cumulative since the reporter's boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestMillis(pub u64);

/// A share: greater than 0 and at most 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fraction(f64);

impl Fraction {
    /// The whole.
    pub const ONE: Self = Self(1.0);

    /// `None` unless `0 < value <= 1`.
    #[must_use]
    pub fn new(value: f64) -> Option<Self> {
        (value > 0.0 && value <= 1.0).then_some(Self(value))
    }

    /// A percentage (0 < percent <= 100) as a fraction.
    #[must_use]
    pub fn from_percent(percent: f64) -> Option<Self> {
        Self::new(percent / 100.0)
    }

    /// The share as a number.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ceil_never_leaves_the_range() {
        for (wanted, count) in [
            (f64::NAN, 0),
            (f64::NEG_INFINITY, 0),
            (-0.5, 0),
            (0.0, 0),
            (f64::MIN_POSITIVE, 1),
            (1.0, 1),
            (1.000_001, 2),
            (2_147_483_646.5, 2_147_483_647),
            (f64::INFINITY, 2_147_483_647),
        ] {
            assert_eq!(Replicas::ceil(wanted).get(), count, "{wanted}");
        }
    }

    #[test]
    fn a_fraction_is_a_share_of_something() {
        assert!(Fraction::new(0.0).is_none());
        assert!(Fraction::new(f64::NAN).is_none());
        assert!(Fraction::new(1.1).is_none());
        assert_eq!(Fraction::from_percent(70.0).map(Fraction::get), Some(0.7));
    }
}
