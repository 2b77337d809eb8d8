//! When each revision's next scale call may start.
//!
//! Invariant: one call of a revision at a time; a revision without trouble has no entry.

use domain::RevisionId;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// First pause after a failure; it doubles with each further one.
pub(super) const BACK_OFF_MIN: Duration = Duration::from_millis(100);
/// Longest pause, also when the platform asks for a longer one.
pub(super) const BACK_OFF_MAX: Duration = Duration::from_secs(10);

/// When to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    /// It went well, or trying at once costs nothing.
    AtOnce,
    /// The platform said when.
    After(Duration),
    /// It failed.
    BackOff,
}

#[derive(Debug)]
enum Lane {
    Running { failures: u32 },
    Pausing { failures: u32, until: Instant },
}

/// The lanes that are not simply free.
#[derive(Debug, Default)]
pub(super) struct Lanes(BTreeMap<RevisionId, Lane>);

impl Lanes {
    /// When a call may start: `now` or earlier means now, `None` while one runs.
    pub(super) fn start(&self, revision: &RevisionId, now: Instant) -> Option<Instant> {
        match self.0.get(revision) {
            None => Some(now),
            Some(Lane::Pausing { until, .. }) => Some(*until),
            Some(Lane::Running { .. }) => None,
        }
    }

    /// A call has started.
    pub(super) fn started(&mut self, revision: &RevisionId) {
        let failures = match self.0.get(revision) {
            Some(Lane::Pausing { failures, .. } | Lane::Running { failures }) => *failures,
            None => 0,
        };
        self.0.insert(revision.clone(), Lane::Running { failures });
    }

    /// A call has ended.
    pub(super) fn finished(&mut self, revision: &RevisionId, retry: Retry, now: Instant) {
        let failed = match self.0.remove(revision) {
            Some(Lane::Running { failures } | Lane::Pausing { failures, .. }) => failures,
            None => 0,
        };
        // A pause long over says nothing any more: a revision that was deleted leaves no trace.
        self.0.retain(|_, lane| match lane {
            Lane::Running { .. } => true,
            Lane::Pausing { until, .. } => *until + 2 * BACK_OFF_MAX > now,
        });
        let pause = match retry {
            Retry::AtOnce => return,
            Retry::After(patience) => patience.min(BACK_OFF_MAX),
            Retry::BackOff => BACK_OFF_MIN.saturating_mul(1 << failed.min(16)).min(BACK_OFF_MAX),
        };
        let lane = Lane::Pausing { failures: failed.saturating_add(1), until: now + pause };
        self.0.insert(revision.clone(), lane);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_a_bound_and_end_with_the_first_success() {
        let (mut lanes, id, now) = (Lanes::default(), RevisionId::new("default", "a"), Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..9 {
            lanes.started(&id);
            assert_eq!(lanes.start(&id, now), None);
            lanes.finished(&id, Retry::BackOff, now);
            pauses.push((lanes.start(&id, now).unwrap() - now).as_millis());
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        lanes.started(&id);
        lanes.finished(&id, Retry::AtOnce, now);
        assert!(lanes.0.is_empty());
        lanes.started(&id);
        lanes.finished(&id, Retry::After(Duration::from_secs(600)), now);
        assert_eq!(lanes.start(&id, now), Some(now + BACK_OFF_MAX));
        // Somebody else's call, much later, sweeps it away.
        lanes.finished(&RevisionId::new("default", "b"), Retry::AtOnce, now + Duration::from_secs(60));
        assert!(lanes.0.is_empty());
    }
}
