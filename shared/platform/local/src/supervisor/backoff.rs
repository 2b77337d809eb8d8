//! How long a crashed replica waits before it is started again: a kubelet's schedule.
//!
//! Invariant: the first restart is immediate, the second waits 10 s, and the wait doubles up to 5 min; ten minutes of
//! running forgive everything.

use domain::Timestamp;
use std::time::Duration;

/// Wait before the second restart in a row.
const FIRST: Duration = Duration::from_secs(10);
/// Longest wait.
const LONGEST: Duration = Duration::from_secs(300);
/// After so many crashes in a row without ever being ready, another start is not expected to help: those who wait are told
/// (kpa-behaviour 11.4, where it is the kubelet that says so).
const IN_VAIN_MAX: u32 = 3;
/// A replica that ran this long starts over with a clean record.
const FORGIVEN_AFTER: Duration = Duration::from_secs(600);

/// How the last process of a slot ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// One word, such as `CommandNotFound`; `None` for an ordinary crash.
    pub(crate) reason: Option<&'static str>,
    /// A sentence: what happened.
    pub(crate) message: String,
    /// It will not pass by waiting.
    pub(crate) permanent: bool,
}

/// The crash record of one slot.
#[derive(Debug, Clone, Default)]
pub(super) struct Crashes {
    count: u32,
    in_vain: u32,
    total: u32,
    last: Option<Failure>,
}

impl Crashes {
    /// Crashes in a row.
    pub(super) const fn count(&self) -> u32 {
        self.count
    }

    /// Crashes ever, so as many starts again.
    pub(super) const fn total(&self) -> u32 {
        self.total
    }

    /// Whether waiting will not help.
    pub(super) fn is_permanent(&self) -> bool {
        self.in_vain >= IN_VAIN_MAX || self.last.as_ref().is_some_and(|last| last.permanent)
    }

    /// How the last one went.
    pub(super) const fn last(&self) -> Option<&Failure> {
        self.last.as_ref()
    }

    /// Notes the end at `now` of a process that started at `started` and `served` if it was ever ready; gives when the next
    /// may start.
    pub(super) fn note(&mut self, now: Timestamp, started: Timestamp, served: bool, failure: Failure) -> Timestamp {
        self.in_vain = if served { 0 } else { self.in_vain.saturating_add(1) };
        if now.since(started) >= FORGIVEN_AFTER {
            self.count = 0;
        }
        self.count = self.count.saturating_add(1);
        self.total = self.total.saturating_add(1);
        self.last = Some(failure);
        now + self.wait()
    }

    /// The wait before the start that follows the crashes so far.
    pub(super) fn wait(&self) -> Duration {
        match self.count {
            0 | 1 => Duration::ZERO,
            crashes => FIRST.saturating_mul(1 << (crashes - 2).min(16)).min(LONGEST),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure() -> Failure {
        Failure { reason: None, message: "ended with status 1".into(), permanent: false }
    }

    #[test]
    fn the_schedule_is_a_kubelets() {
        let mut crashes = Crashes::default();
        let at = Timestamp::from_secs(1000);
        for wait in [0, 10, 20, 40, 80, 160, 300, 300, 300] {
            assert_eq!(crashes.note(at, at, false, failure()), at + Duration::from_secs(wait));
        }
    }

    #[test]
    fn ten_minutes_of_running_forgive() {
        let mut crashes = Crashes::default();
        for _ in 0..5 {
            crashes.note(Timestamp::ZERO, Timestamp::ZERO, true, failure());
        }
        let (started, late) = (Timestamp::from_secs(100), Timestamp::from_secs(699));
        assert_eq!(crashes.note(late, started, true, failure()), late + Duration::from_secs(160));
        let later = Timestamp::from_secs(700);
        assert_eq!(crashes.note(later, started, true, failure()), later);
        assert_eq!((crashes.count(), crashes.total()), (1, 7));
    }
    #[test]
    fn three_starts_in_vain_are_enough() {
        let mut crashes = Crashes::default();
        let mut crash = |served| {
            crashes.note(Timestamp::ZERO, Timestamp::ZERO, served, failure());
            crashes.is_permanent()
        };
        assert_eq!([false, false, true, false, false].map(&mut crash), [false; 5], "once it was ready");
        assert!(crash(false));
        assert!(!crash(true));
        crashes.note(Timestamp::ZERO, Timestamp::ZERO, true, Failure { permanent: true, ..failure() });
        assert!(crashes.is_permanent(), "its own word counts at once");
    }
}
