//! When the requests of an open loop should leave.
//!
//! Invariant: moments depend on the rate alone, never on how earlier requests fared, and their rounding does not add up.

use std::time::Duration;

/// A fixed rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    per_second: f64,
}

impl Schedule {
    /// `per_second` requests a second.
    ///
    /// # Errors
    ///
    /// It is not above 0 and at most a million.
    pub fn new(per_second: f64) -> Result<Self, String> {
        if per_second > 0.0 && per_second <= 1e6 {
            Ok(Self { per_second })
        } else {
            Err(format!("a rate of {per_second} is not above 0 and at most 1000000"))
        }
    }

    /// When request `n`, counted from 0, leaves, as time since the start.
    #[must_use]
    pub fn due(&self, n: u64) -> Duration {
        Duration::from_secs_f64(n as f64 / self.per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_does_not_add_up() {
        let schedule = Schedule::new(3.0).unwrap();
        assert_eq!(schedule.due(0), Duration::ZERO);
        assert_eq!(schedule.due(3_000_000), Duration::from_secs(1_000_000));
        assert!(schedule.due(1) > Duration::from_millis(333) && schedule.due(1) < Duration::from_millis(334));
    }

    #[test]
    fn a_rate_is_positive_and_finite() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e7] {
            assert!(Schedule::new(rate).is_err(), "{rate}");
        }
    }
}
