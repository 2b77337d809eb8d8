//! How long a lease lasts and how often it is renewed (kpa-behaviour 8).
//!
//! Invariant: settings that exist are right: a renewal given up at its deadline has ended before the lease has.

use platform::leadership::CALL_TIMEOUT;
use std::time::Duration;

/// Longest lease: what a record of somebody else may claim at most. A longer one would keep a dead leader for too long.
pub const LEASE_DURATION_MAX: Duration = Duration::from_secs(600);
/// Shortest pause between two tries.
pub const RETRY_PERIOD_MIN: Duration = Duration::from_millis(100);

/// Times of an election. All candidates should have the same; while they differ, the longest lease counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    lease_duration: Duration,
    renew_deadline: Duration,
    retry_period: Duration,
}

/// What is wrong with the times of an election.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSettings {
    /// A record holds whole seconds.
    #[error("lease-duration: {0:?} is not a whole number of seconds from 1 s to {LEASE_DURATION_MAX:?}, such as 15s")]
    LeaseDuration(Duration),
    /// Given up too late.
    #[error(
        "renew-deadline: {renew:?} and the {CALL_TIMEOUT:?} that a call may take are not less than lease-duration \
         ({lease:?}), such as 10s of 15s"
    )]
    RenewDeadline {
        /// The deadline given.
        renew: Duration,
        /// The lease it has to fit into.
        lease: Duration,
    },
    /// Tried too often, or not often enough.
    #[error(
        "retry-period: {retry:?} is not from {RETRY_PERIOD_MIN:?} to less than renew-deadline ({renew:?}), such as 2s of 10s"
    )]
    RetryPeriod {
        /// The period given.
        retry: Duration,
        /// The deadline it has to fit into.
        renew: Duration,
    },
}

impl Settings {
    /// Checks `lease-duration`, `renew-deadline` and `retry-period`.
    ///
    /// # Errors
    /// Everything that is wrong, each with the key at fault and what would be right.
    pub fn new(
        lease_duration: Duration,
        renew_deadline: Duration,
        retry_period: Duration,
    ) -> Result<Self, Vec<BadSettings>> {
        let mut bad = Vec::new();
        let whole = lease_duration.subsec_nanos() == 0 && !lease_duration.is_zero();
        if !whole || lease_duration > LEASE_DURATION_MAX {
            bad.push(BadSettings::LeaseDuration(lease_duration));
        }
        if renew_deadline.saturating_add(CALL_TIMEOUT) >= lease_duration {
            bad.push(BadSettings::RenewDeadline { renew: renew_deadline, lease: lease_duration });
        }
        if retry_period < RETRY_PERIOD_MIN || retry_period >= renew_deadline {
            bad.push(BadSettings::RetryPeriod { retry: retry_period, renew: renew_deadline });
        }
        if bad.is_empty() { Ok(Self { lease_duration, renew_deadline, retry_period }) } else { Err(bad) }
    }

    /// From the last renewal that a candidate saw until it may take over. Whole seconds; default 15 s.
    #[must_use]
    pub const fn lease_duration(&self) -> Duration {
        self.lease_duration
    }

    /// From the last successful renewal until its sender stops leading. Default 10 s.
    #[must_use]
    pub const fn renew_deadline(&self) -> Duration {
        self.renew_deadline
    }

    /// Between two renewals, and at most between two looks of a candidate that does not lead. Default 2 s.
    #[must_use]
    pub const fn retry_period(&self) -> Duration {
        self.retry_period
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lease: u64, renew: u64, retry: u64) -> Result<Settings, String> {
        let [lease, renew, retry] = [lease, renew, retry].map(Duration::from_millis);
        Settings::new(lease, renew, retry).map_err(|bad| bad.iter().map(|bad| format!("{bad}\n")).collect())
    }

    #[test]
    fn the_defaults_are_right() {
        assert_eq!(check(15_000, 10_000, 2000), Ok(Settings::default()));
    }

    #[test]
    fn each_wrong_time_is_named_with_its_key_and_what_would_be_right() {
        for (times, says) in [
            ((15_000, 13_000, 2000), vec!["renew-deadline: 13s and the 2s", "less than lease-duration (15s)"]),
            ((15_500, 10_000, 2000), vec!["lease-duration: 15.5s"]),
            ((601_000, 10_000, 2000), vec!["lease-duration: 601s", "600s"]),
            ((15_000, 10_000, 10_000), vec!["retry-period: 10s", "less than renew-deadline (10s)"]),
            ((15_000, 10_000, 99), vec!["retry-period: 99ms is not from 100ms"]),
            ((0, 0, 0), vec!["lease-duration", "renew-deadline", "retry-period"]),
        ] {
            let text = check(times.0, times.1, times.2).unwrap_err();
            for part in says {
                assert!(text.contains(part), "{part} in {text}");
            }
        }
        assert!(check(15_000, 12_999, 12_998).is_ok());
        assert!(check(600_000, 10_000, 100).is_ok());
    }
}
