//! Whether connects to one replica come through, and whether it answers on them.
//!
//! Invariants: what breaks on a connection that had carried a request before says nothing, because it may have gone stale; one that refuses for a moment, because it has just died, is not unreachable: the platform hears of that
//! sooner than three seconds pass.

use domain::Timestamp;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// Connects in a row that have failed (kpa-behaviour 11.3).
pub const FAILED_MIN: u32 = 3;
/// The time between the first and the last of them.
pub const FAILING_FOR: Duration = Duration::from_secs(3);

/// Fresh connections in a row that a replica broke instead of answering, before it is passed over: with nothing in flight
/// for long it would be the least loaded one, and get everything.
pub const BROKEN_MIN: u32 = 3;

/// Fresh connections that one replica broke before a byte of an answer, since its last answer.
#[derive(Debug, Default)]
pub struct Broken {
    in_a_row: AtomicU32,
    rounds: AtomicU32,
}

impl Broken {
    /// One more. Whether it is to be passed over.
    pub fn note(&self) -> bool {
        self.in_a_row.fetch_add(1, Relaxed) + 1 >= BROKEN_MIN
    }

    /// It has begun an answer. Read by every request, and seldom written.
    pub fn answered(&self) {
        if self.in_a_row.load(Relaxed) != 0 {
            self.in_a_row.store(0, Relaxed);
            self.rounds.store(0, Relaxed);
        }
    }

    /// It is passed over now, for this reason or another. How often it was before, for this one.
    pub fn begin_round(&self) -> u32 {
        if self.in_a_row.load(Relaxed) < BROKEN_MIN { 0 } else { self.rounds.fetch_add(1, Relaxed) }
    }
}

/// What is known of the connects to one replica. Written where a connection is made, never on the way of a warm request.
#[derive(Debug, Default)]
pub struct Reach(Mutex<Option<Failing>>);

#[derive(Debug, Clone, Copy)]
struct Failing {
    count: u32,
    first: Timestamp,
    last: Timestamp,
}

impl Reach {
    /// A connect failed.
    pub fn failed(&self, now: Timestamp) {
        let mut failing = self.0.lock();
        let Failing { count, first, .. } = failing.unwrap_or(Failing { count: 0, first: now, last: now });
        *failing = Some(Failing { count: count.saturating_add(1), first, last: now });
    }

    /// One came through.
    pub fn connected(&self) {
        *self.0.lock() = None;
    }

    /// Whether enough of them have failed, for long enough.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.0
            .lock()
            .is_some_and(|Failing { count, first, last }| count >= FAILED_MIN && last.since(first) >= FAILING_FOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn breaks_count_until_an_answer() {
        let broken = Broken::default();
        assert_eq!(broken.begin_round(), 0, "for another reason");
        assert_eq!([(); 4].map(|()| broken.note()), [false, false, true, true]);
        assert_eq!([(); 3].map(|()| broken.begin_round()), [0, 1, 2]);
        broken.answered();
        assert_eq!((broken.note(), broken.begin_round()), (false, 0));
    }

    #[test]
    fn three_in_a_row_over_three_seconds_are_enough() {
        let check = |failed: &[u64], lost: bool| {
            let reach = Reach::default();
            failed.iter().for_each(|millis| reach.failed(Timestamp::from_millis(*millis)));
            assert_eq!(reach.is_lost(), lost, "{failed:?}");
            reach.connected();
            assert!(!reach.is_lost());
        };
        check(&[], false);
        check(&[0, 100], false);
        check(&[0, 4000], false);
        check(&[0; 1000], false);
        check(&[0, 100, 2999], false);
        check(&[0, 100, 3000], true);
        check(&[500, 600, 3000, 3500], true);
    }
}
