//! Whether connects to one replica come through.
//!
//! Invariant: one that refuses for a moment, because it has just died, is not unreachable: the platform hears of that
//! sooner than three seconds pass.

use domain::Timestamp;
use parking_lot::Mutex;
use std::time::Duration;

/// Connects in a row that have failed (kpa-behaviour 11.3).
pub const FAILED_MIN: u32 = 3;
/// The time between the first and the last of them.
pub const FAILING_FOR: Duration = Duration::from_secs(3);

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
