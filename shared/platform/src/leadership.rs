//! Whether this process may act, and the one sum that keeps a late call of ours out of a successor's time.
//!
//! Invariant: whoever asks compares with the clock at that moment, so that leadership ends by itself: also when nobody was
//! awake to withdraw it.
//!
//! ```text
//! renewal sent                                              until            nobody else before here
//!      │<─────────────────── lease duration ──────────────────┼─ LEASE_MARGIN ──>│
//!      │      calls are sent      │<──── CALL_TIMEOUT ───────>│
//! ```
//!
//! A call leaves while more than [`CALL_TIMEOUT`] is left until the end, and the end is [`LEASE_MARGIN`] before anybody
//! else may act: what is still under way then was given up before (kpa-behaviour 8).

use std::time::Duration;
use tokio::time::Instant;

/// How long a call that only the leader may make can take: it is given up after that.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// How long before a lease may pass to another process its holder stops acting. It pays for clocks that run at different
/// rates (1 s of a 15 s lease: 3 % each) and for the moment between looking at the clock and sending.
pub const LEASE_MARGIN: Duration = Duration::from_secs(1);

/// Whether this process may act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leadership {
    /// It decides silently.
    Follower,
    /// It acts; `None` for ever, otherwise until this moment of the monotonic clock, [`LEASE_MARGIN`] before anybody else
    /// may. That clock goes on while a process is stopped (SIGSTOP), and stands still while the whole machine is suspended.
    Leader {
        /// When the right to act ends unless renewed.
        until: Option<Instant>,
    },
}

impl Leadership {
    /// Whether this process leads at `now`.
    #[must_use]
    pub fn leads(self, now: Instant) -> bool {
        match self {
            Self::Follower => false,
            Self::Leader { until } => until.is_none_or(|until| now < until),
        }
    }

    /// Whether a call that takes up to [`CALL_TIMEOUT`] may be sent at `now`: whether it is over before the right to act is.
    #[must_use]
    pub fn may_call(self, now: Instant) -> bool {
        self.leads(now + CALL_TIMEOUT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn leadership_ends_by_the_clock_and_calls_end_before_it() {
        let now = Instant::now();
        let lease = |left: u64| Leadership::Leader { until: Some(now + Duration::from_millis(left)) };
        for (leadership, leads, may_call) in [
            (Leadership::Follower, false, false),
            (Leadership::Leader { until: None }, true, true),
            (lease(0), false, false),
            (lease(1), true, false),
            (lease(2000), true, false),
            (lease(2001), true, true),
        ] {
            assert_eq!((leadership.leads(now), leadership.may_call(now)), (leads, may_call), "{leadership:?}");
        }
    }
}
