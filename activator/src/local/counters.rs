//! What one worker counts for one revision.
//!
//! Invariant: on the uncontended path only that worker writes; the reporter and the page of metrics read.

use super::watchdog::{There, What};
use activator_core::Meter;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds of the latency buckets, in milliseconds; the last bucket has none.
pub const LATENCY_BUCKETS_MS: [u64; 14] = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 15_000, 60_000];

/// One worker's counts for one revision.
#[derive(Debug, Default)]
pub struct Counters {
    /// Concurrency and its integral.
    pub meter: Meter,
    /// Requests that arrived.
    pub requests: AtomicU64,
    /// The reporter wants to know when this worker's concurrency reaches this; `u32::MAX` when it has been told.
    pub alarm_at: AtomicU32,
    /// Answers by [`crate::error::Outcome`].
    pub outcomes: [AtomicU64; crate::error::Outcome::COUNT],
    /// Requests sent a second time.
    pub replays: AtomicU64,
    /// Requests that went to another activator.
    pub hops: AtomicU64,
    /// Requests that went to another replica than their session's, chosen without the gate.
    pub strayed: AtomicU64,
    /// What is there, beside what is counted.
    pub there: There,
    /// Differences between the two, by [`What`].
    pub differences: [AtomicU64; What::COUNT],
    /// Answers by time to the response head.
    pub latency: [AtomicU64; LATENCY_BUCKETS_MS.len() + 1],
    /// Sum of the times to the response head, in microseconds.
    pub latency_sum_us: AtomicU64,
}

impl Counters {
    /// Whether one more request may be sent a second time: at most one in ten (kpa-behaviour 4.6), and the first few.
    pub fn may_replay(&self) -> bool {
        let allowed = self.replays.load(Relaxed) * 10 < self.requests.load(Relaxed) + 100;
        if allowed {
            self.replays.fetch_add(1, Relaxed);
        }
        allowed
    }

    /// Notes how an exchange ended and how long the client waited for the response head.
    #[expect(clippy::cast_possible_truncation, reason = "580 000 years")]
    pub fn answered(&self, outcome: crate::error::Outcome, waited: Duration) {
        self.outcomes[outcome.index()].fetch_add(1, Relaxed);
        let millis = waited.as_millis() as u64;
        let bucket = LATENCY_BUCKETS_MS.partition_point(|bound| *bound < millis);
        self.latency[bucket].fetch_add(1, Relaxed);
        self.latency_sum_us.fetch_add(waited.as_micros() as u64, Relaxed);
    }
}
