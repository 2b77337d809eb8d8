//! Waking, being young, going to sleep, failing to start (knative-behaviour 8.3 and 8.4, kpa-behaviour 5.4).
//!
//! Invariant: a woken revision keeps a replica until one was ready and then idle for window + retention, or its start
//! deadline passed; a client that gives up undoes no start.

use crate::exclusive::Life;
use domain::why::Idleness;
use domain::{Replicas, ScalingSpec, Timestamp};
use std::time::Duration;

/// Time between regular ticks: how much later than it became true a decision for zero may be made.
pub const TICK: Duration = Duration::from_secs(2);
/// Pause before the next start after the first one that failed; doubles each time.
pub const BACK_OFF_MIN: Duration = Duration::from_secs(10);
/// Longest such pause.
pub const BACK_OFF_MAX: Duration = Duration::from_secs(600);
/// Ticks in a row with trouble that will not pass by waiting, after which a start has failed (kpa-behaviour 11.4).
const PERMANENT_TICKS: u8 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Asleep,
    Starting { since: Timestamp },
    Awake { since: Timestamp },
    Failed { until: Timestamp },
}

/// What happened to the life of a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Its first replica is ready, so long after the wake.
    Ready(Duration),
    /// Its start failed; the next may be tried after so long.
    Failed(Duration),
}

/// The life of one revision between zero and zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idle {
    phase: Phase,
    last_active: Option<Timestamp>,
    /// Since when the decision is zero.
    zero_since: Option<Timestamp>,
    failures: u32,
    permanent: u8,
}

impl Default for Idle {
    fn default() -> Self {
        Self { phase: Phase::Asleep, last_active: None, zero_since: None, failures: 0, permanent: 0 }
    }
}

impl Idle {
    /// A scale-up from zero was asked for.
    pub fn woken(&mut self, now: Timestamp) {
        if self.phase == Phase::Asleep {
            self.phase = Phase::Starting { since: now };
        }
    }

    /// Somebody else scaled it from zero: a start like any other, also while another one is waited for.
    pub fn woken_by_hand(&mut self, now: Timestamp) {
        if matches!(self.phase, Phase::Asleep | Phase::Failed { .. }) {
            self.phase = Phase::Starting { since: now };
        }
    }

    /// Requests are there, or were a moment ago.
    pub const fn active(&mut self, now: Timestamp) {
        self.last_active = Some(now);
    }

    /// The platform's counts changed.
    pub fn replicas(&mut self, now: Timestamp, requested: Replicas, ready: Replicas) -> Option<Turn> {
        let next = match self.phase {
            Phase::Awake { .. } if !ready.is_zero() => return None,
            Phase::Asleep | Phase::Starting { .. } | Phase::Failed { .. }
                if !ready.is_zero() && !requested.is_zero() =>
            {
                self.failures = 0;
                let turn = match self.phase {
                    Phase::Starting { since } => Some(Turn::Ready(now.since(since))),
                    Phase::Asleep | Phase::Awake { .. } | Phase::Failed { .. } => None,
                };
                self.phase = Phase::Awake { since: now };
                return turn;
            }
            Phase::Failed { until } => Phase::Failed { until },
            _ if requested.is_zero() => Phase::Asleep,
            Phase::Starting { since } => Phase::Starting { since },
            // The last replica died, or somebody else scaled it from zero.
            Phase::Asleep | Phase::Awake { .. } => Phase::Starting { since: now },
        };
        self.phase = next;
        None
    }

    /// Follows the clock: called on every regular tick, with whether its replicas are in trouble that stays.
    pub fn tick(&mut self, now: Timestamp, spec: &ScalingSpec, permanent_trouble: bool) -> Option<Turn> {
        let Phase::Starting { since } = self.phase else {
            self.permanent = 0;
            return None;
        };
        self.permanent = if permanent_trouble { self.permanent + 1 } else { 0 };
        if now.since(since) <= *spec.start_deadline && self.permanent < PERMANENT_TICKS {
            return None;
        }
        let pause = BACK_OFF_MIN.saturating_mul(1 << self.failures.min(10)).min(BACK_OFF_MAX);
        self.failures += 1;
        self.permanent = 0;
        self.phase = Phase::Failed { until: now + pause };
        Some(Turn::Failed(pause))
    }

    /// The pause after a failed start is over.
    pub fn expire(&mut self, now: Timestamp, requested: Replicas) {
        if let Phase::Failed { until } = self.phase
            && until <= now
        {
            self.phase = if requested.is_zero() { Phase::Asleep } else { Phase::Starting { since: now } };
        }
    }

    /// An evaluation wants so many replicas.
    pub fn decided(&mut self, now: Timestamp, spec: &ScalingSpec, desired: Option<Replicas>) {
        self.zero_since = match desired {
            Some(Replicas::ZERO) => Some(self.zero_since.unwrap_or_else(|| self.became_zero(now, spec))),
            Some(_) | None => None,
        };
    }

    /// When a decision for zero that is made now became true: the window has been empty since one window after the last
    /// request, which a tick notices up to 2 s later. Counting from the tick would make the way to zero longer by that.
    fn became_zero(&self, now: Timestamp, spec: &ScalingSpec) -> Timestamp {
        let emptied = self.last_active.map_or(Timestamp::ZERO, |last| last + *spec.stable_window);
        emptied.max(now.before(TICK)).min(now)
    }

    /// Whether the last replica may go.
    #[must_use]
    pub fn verdict(&self, now: Timestamp, spec: &ScalingSpec) -> Idleness {
        match self.phase {
            Phase::Asleep => Idleness::Asleep,
            Phase::Starting { .. } => Idleness::Starting,
            Phase::Failed { until } => Idleness::Failed { until },
            Phase::Awake { since } => {
                let grown_up = since + *spec.stable_window;
                if now < grown_up {
                    return Idleness::Young { until: grown_up };
                }
                let zero = self.zero_since.unwrap_or_else(|| self.became_zero(now, spec));
                let emptied = self.last_active.map_or(zero, |last| zero.max(last + *spec.stable_window));
                let until = emptied.max(grown_up) + *spec.scale_to_zero_pod_retention_period;
                if now < until { Idleness::Retained { until } } else { Idleness::Spent }
            }
        }
    }

    /// When it last had a request.
    #[must_use]
    pub const fn last_active(&self) -> Option<Timestamp> {
        self.last_active
    }

    /// Where it is in its life, as its exclusive group must know it.
    #[must_use]
    pub const fn life(&self) -> Life {
        match self.phase {
            Phase::Asleep | Phase::Failed { .. } => Life::Idle,
            Phase::Starting { .. } => Life::Starting,
            Phase::Awake { since } => Life::Ready { since },
        }
    }

    /// When the next start may be tried, after a failed one.
    #[must_use]
    pub const fn retry_at(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Failed { until } => Some(until),
            Phase::Asleep | Phase::Starting { .. } | Phase::Awake { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::spec;
    use domain::Resolved;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn six_and_five() -> ScalingSpec {
        ScalingSpec {
            stable_window: Resolved::default_value(Duration::from_secs(6)),
            scale_to_zero_pod_retention_period: Resolved::default_value(Duration::from_secs(5)),
            ..spec(10.0)
        }
    }

    #[test]
    fn the_way_to_zero_takes_window_and_retention_from_the_last_request() {
        let spec = six_and_five();
        let mut idle = Idle::default();
        idle.replicas(at(0), Replicas::ONE, Replicas::ONE);
        assert_eq!(idle.verdict(at(5_999), &spec), Idleness::Young { until: at(6_000) });
        idle.active(at(20_300));
        // The tick that notices may be up to 2 s late; the end stays where it is.
        for noticed in [26_300, 27_000, 28_299] {
            let mut idle = idle.clone();
            idle.decided(at(noticed), &spec, Some(Replicas::ZERO));
            assert_eq!(idle.verdict(at(31_299), &spec), Idleness::Retained { until: at(31_300) }, "{noticed}");
            assert_eq!(idle.verdict(at(31_300), &spec), Idleness::Spent);
        }
        // With a scale-down delay the decision comes later, and the retention period with it.
        idle.decided(at(40_000), &spec, Some(Replicas::ZERO));
        assert_eq!(idle.verdict(at(40_000), &spec), Idleness::Retained { until: at(43_000) });
        idle.active(at(41_000));
        assert_eq!(idle.verdict(at(43_000), &spec), Idleness::Retained { until: at(52_000) });
    }

    #[test]
    fn a_start_is_kept_until_ready_or_its_deadline() {
        let spec = ScalingSpec { start_deadline: Resolved::default_value(Duration::from_secs(100)), ..six_and_five() };
        let mut idle = Idle::default();
        idle.woken(at(1_000));
        idle.replicas(at(1_010), Replicas::ONE, Replicas::ZERO);
        assert_eq!(idle.tick(at(91_000), &spec, false), None);
        assert_eq!(idle.verdict(at(91_000), &spec), Idleness::Starting);
        let mut ready = idle.clone();
        assert_eq!(
            ready.replicas(at(91_000), Replicas::ONE, Replicas::ONE),
            Some(Turn::Ready(Duration::from_secs(90)))
        );
        assert_eq!(ready.verdict(at(96_000), &spec), Idleness::Young { until: at(97_000) });
        assert_eq!(ready.verdict(at(97_000), &spec), Idleness::Retained { until: at(102_000) });
        assert_eq!(idle.tick(at(101_000), &spec, false), None, "strictly more than the deadline");
        assert_eq!(idle.tick(at(101_100), &spec, false), Some(Turn::Failed(BACK_OFF_MIN)));
        assert_eq!(idle.verdict(at(101_200), &spec), Idleness::Failed { until: at(111_100) });
    }

    #[test]
    fn the_pause_after_a_failed_start_doubles_until_one_succeeds() {
        let spec = ScalingSpec { start_deadline: Resolved::default_value(Duration::from_secs(1)), ..six_and_five() };
        let mut idle = Idle::default();
        let mut now = 0;
        for pause in [10, 20, 40, 80, 160, 320, 600, 600] {
            idle.woken(at(now));
            now += 1_100;
            assert_eq!(idle.tick(at(now), &spec, false), Some(Turn::Failed(Duration::from_secs(pause))));
            idle.replicas(at(now), Replicas::ZERO, Replicas::ZERO);
            idle.expire(at(now + pause * 1000 - 1), Replicas::ZERO);
            assert!(idle.retry_at().is_some());
            now += pause * 1000;
            idle.expire(at(now), Replicas::ZERO);
            assert_eq!(idle.retry_at(), None);
        }
        idle.woken(at(now));
        idle.replicas(at(now), Replicas::ONE, Replicas::ONE);
        idle.replicas(at(now), Replicas::ONE, Replicas::ZERO);
        assert_eq!(idle.tick(at(now + 2_000), &spec, false), Some(Turn::Failed(BACK_OFF_MIN)));
    }

    #[test]
    fn trouble_that_stays_fails_a_start_at_its_third_sighting() {
        let spec = six_and_five();
        let mut idle = Idle::default();
        idle.woken(at(0));
        let turns = [true, false, true, true, true].map(|trouble| idle.tick(at(2_000), &spec, trouble).is_some());
        assert_eq!(turns, [false, false, false, false, true]);
    }
}
