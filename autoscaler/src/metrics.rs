//! The autoscaler's numbers: one table of names, one set of handles.
//!
//! Invariant: labels are `namespace`, `revision` and words of closed lists; every handle that is kept is touched again and
//! again, or the exporter would forget it and the handle go dark: those of the whole every
//! [`PUBLISH_EVERY`](crate::event_loop::PUBLISH_EVERY), those of revisions in turn, at most [`IN_TURN_MAX`] a slot.

use crate::ingest::IngestError;
use autoscaler_core::{Activity, Brain, Happening, Numbers, Story};
use domain::why::Step;
use domain::{RevisionId, Timestamp};
use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

/// Revisions whose gauges are set in one slot of 100 ms, at most: of up to 10 000 all within 2 s, of more as many a second.
pub const IN_TURN_MAX: usize = 500;
/// Slots within which all have their turn, if they are not too many: 2 s.
const ROUND_SLOTS: usize = 20;

/// What a series is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution.
    Histogram,
}

/// Frames taken in. Label `kind`: regular, urgent.
pub const FRAMES: &str = "autoscaler_frames_total";
/// Rows taken in.
pub const FRAME_ROWS: &str = "autoscaler_frame_rows_total";
/// Frames refused. Label `why`: [`IngestError::CODES`].
pub const FRAMES_REFUSED: &str = "autoscaler_frames_refused_total";
/// Time of one turn of the event loop. Label `event`: what the turn was about.
pub const TURN_SECONDS: &str = "autoscaler_turn_seconds";
/// Scale calls that ended. Labels `namespace`, `revision`, `outcome`.
pub const SCALE_CALLS: &str = "autoscaler_scale_calls_total";
/// Time of a scale call. Label `outcome`.
pub const SCALE_CALL_SECONDS: &str = "autoscaler_scale_call_seconds";
/// Whether this process acts.
pub const LEADER: &str = "autoscaler_leader";
/// Revisions known.
pub const REVISIONS: &str = "autoscaler_revisions";
/// Revisions that are looked at every 2 s.
pub const AWAKE_REVISIONS: &str = "autoscaler_awake_revisions";
/// Frames and rows that contradict what their reporter said before.
pub const CONTRADICTIONS: &str = "autoscaler_contradictions_total";
/// Frames with a row that says more than its requests can have taken.
pub const DOUBTED: &str = "autoscaler_frames_doubted_total";
/// What happened and was not passed on to where people look.
pub const EVENTS_DROPPED: &str = "autoscaler_events_dropped_total";
/// Replicas that are wanted.
pub const WANTED_REPLICAS: &str = "autoscaler_wanted_replicas";
/// Replicas that the platform was asked for.
pub const REQUESTED_REPLICAS: &str = "autoscaler_requested_replicas";
/// Replicas that are ready.
pub const READY_REPLICAS: &str = "autoscaler_ready_replicas";
/// Replicas that are leaving.
pub const DRAINING_REPLICAS: &str = "autoscaler_draining_replicas";
/// Requests running on replicas.
pub const IN_FLIGHT_REQUESTS: &str = "autoscaler_in_flight_requests";
/// Requests waiting.
pub const QUEUED_REQUESTS: &str = "autoscaler_queued_requests";
/// Whether it follows the panic window.
pub const PANIC: &str = "autoscaler_panic";
/// Times that a revision was told to leave so that another of its exclusive group has room.
pub const EXCLUSIVE_SWAPS: &str = "autoscaler_exclusive_swaps_total";
/// Whether it waits for a slot of its exclusive group.
pub const EXCLUSIVE_WAITING: &str = "autoscaler_exclusive_waiting";
/// Things wrong with its settings.
pub const PROBLEMS: &str = "autoscaler_problems";

/// Every series: name, kind, help. What the documentation is compared with.
pub const ALL: &[(&str, Kind, &str)] = &[
    (FRAMES, Kind::Counter, "Frames taken in, by kind (regular, urgent)."),
    (FRAME_ROWS, Kind::Counter, "Rows of the frames taken in."),
    (FRAMES_REFUSED, Kind::Counter, "Frames refused, by why."),
    (TURN_SECONDS, Kind::Histogram, "Time of one turn of the event loop, by event."),
    (SCALE_CALLS, Kind::Counter, "Scale calls that ended, by revision and outcome."),
    (SCALE_CALL_SECONDS, Kind::Histogram, "Time of a scale call, by outcome."),
    (LEADER, Kind::Gauge, "1 while this process acts, 0 while it decides silently."),
    (REVISIONS, Kind::Gauge, "Revisions known."),
    (AWAKE_REVISIONS, Kind::Gauge, "Revisions that are looked at every 2 s; the others are asleep."),
    (CONTRADICTIONS, Kind::Counter, "Frames and rows refused because they contradict earlier ones of their reporter."),
    (DOUBTED, Kind::Counter, "Frames with a row that says more than its requests can have taken; it is not counted."),
    (EVENTS_DROPPED, Kind::Counter, "Kubernetes Events that were not written because too many waited."),
    (WANTED_REPLICAS, Kind::Gauge, "Replicas that are wanted, by revision."),
    (REQUESTED_REPLICAS, Kind::Gauge, "Replicas that the platform was asked for, by revision."),
    (READY_REPLICAS, Kind::Gauge, "Replicas that are ready, by revision."),
    (DRAINING_REPLICAS, Kind::Gauge, "Replicas that are leaving, by revision."),
    (IN_FLIGHT_REQUESTS, Kind::Gauge, "Requests running on replicas, newest reports, by revision."),
    (QUEUED_REQUESTS, Kind::Gauge, "Requests waiting, newest reports, by revision."),
    (PANIC, Kind::Gauge, "1 while the revision follows the panic window."),
    (EXCLUSIVE_SWAPS, Kind::Counter, "Times that the revision gave slots of its exclusive group to others."),
    (EXCLUSIVE_WAITING, Kind::Gauge, "1 while the revision waits for a slot of its exclusive group."),
    (PROBLEMS, Kind::Gauge, "Things wrong with the revision's settings."),
];

/// What a turn of the event loop was about: the label `event`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    Urgent,
    Outcome,
    Leadership,
    Change,
    Rows,
    Slot,
    Query,
}

impl Turn {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Urgent => "urgent",
            Self::Outcome => "outcome",
            Self::Leadership => "leadership",
            Self::Change => "change",
            Self::Rows => "rows",
            Self::Slot => "slot",
            Self::Query => "query",
        }
    }
}

/// The handles.
pub(crate) struct Meters {
    regular: Counter,
    urgent: Counter,
    rows: Counter,
    refused: BTreeMap<&'static str, Counter>,
    leader: Gauge,
    revisions: Gauge,
    awake: Gauge,
    contradictions: Counter,
    doubted: Counter,
    events_dropped: Counter,
    by_revision: Mutex<InTurn>,
}

impl std::fmt::Debug for Meters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meters").field("revisions", &self.by_revision.lock().known.len()).finish_non_exhaustive()
    }
}

/// The gauges of revisions.
#[derive(Default)]
struct InTurn {
    known: BTreeMap<RevisionId, OfRevision>,
    /// The last one whose turn it was.
    last: Option<RevisionId>,
}

/// The handles of one revision.
struct OfRevision {
    wanted: Gauge,
    requested: Gauge,
    ready: Gauge,
    draining: Gauge,
    in_flight: Gauge,
    queued: Gauge,
    panic: Gauge,
    exclusive_waiting: Gauge,
    problems: Gauge,
}

impl Meters {
    /// Describes and registers everything with the recorder in force.
    pub(crate) fn new() -> Self {
        for (name, kind, help) in ALL.iter().copied() {
            match kind {
                Kind::Counter => describe_counter!(name, help),
                Kind::Gauge => describe_gauge!(name, help),
                Kind::Histogram => describe_histogram!(name, help),
            }
        }
        Self {
            regular: counter!(FRAMES, "kind" => "regular"),
            urgent: counter!(FRAMES, "kind" => "urgent"),
            rows: counter!(FRAME_ROWS),
            refused: IngestError::CODES.iter().map(|why| (*why, counter!(FRAMES_REFUSED, "why" => *why))).collect(),
            leader: gauge!(LEADER),
            revisions: gauge!(REVISIONS),
            awake: gauge!(AWAKE_REVISIONS),
            contradictions: counter!(CONTRADICTIONS),
            doubted: counter!(DOUBTED),
            events_dropped: counter!(EVENTS_DROPPED),
            by_revision: Mutex::default(),
        }
    }

    pub(crate) fn frame(&self, urgent: bool, rows: usize) {
        if urgent { &self.urgent } else { &self.regular }.increment(1);
        self.rows.increment(rows as u64);
    }

    pub(crate) fn refused(&self, error: &IngestError) {
        if let Some(counter) = self.refused.get(error.code()) {
            counter.increment(1);
        }
    }

    /// Looked up anew each time, unlike counters: a histogram cannot be touched without recording something.
    pub(crate) fn turn(&self, turn: Turn, took: Duration) {
        histogram!(TURN_SECONDS, "event" => turn.as_str()).record(took);
    }

    pub(crate) fn scale_call(&self, revision: &RevisionId, outcome: &'static str, took: Duration) {
        let (namespace, name) = (revision.namespace().to_owned(), revision.name().to_owned());
        counter!(SCALE_CALLS, "namespace" => namespace, "revision" => name, "outcome" => outcome).increment(1);
        histogram!(SCALE_CALL_SECONDS, "outcome" => outcome).record(took);
    }

    /// Counts a swap: the group had the last word about a count that was lowered.
    pub(crate) fn story(&self, story: &Story) {
        let (Some(revision), Happening::Scaled { from, to, why }) = (&story.revision, &story.what) else { return };
        if to < from && why.step() == Step::Exclusive {
            let (namespace, name) = (revision.namespace().to_owned(), revision.name().to_owned());
            counter!(EXCLUSIVE_SWAPS, "namespace" => namespace, "revision" => name).increment(1);
        }
    }

    pub(crate) fn leads(&self, leads: bool) {
        self.leader.set(f64::from(u8::from(leads)));
    }

    /// Sets what is said of the whole, and touches what is kept of it.
    pub(crate) fn publish(&self, brain: &Brain, events_dropped: u64) {
        self.awake.set(count(brain.awake()));
        self.contradictions.absolute(brain.refused_frames());
        self.doubted.absolute(brain.doubts().0);
        self.events_dropped.absolute(events_dropped);
        for counter in [&self.regular, &self.urgent, &self.rows].into_iter().chain(self.refused.values()) {
            counter.increment(0);
        }
        self.leader.increment(0.0);
        self.revisions.set(count(brain.known()));
    }

    /// Sets the gauges of the revisions whose turn it is, so that no turn of the loop is long however many there are.
    pub(crate) fn publish_in_turn(&self, brain: &Brain, now: Timestamp) {
        let limit = brain.known().div_ceil(ROUND_SLOTS).clamp(1, IN_TURN_MAX);
        let mut in_turn = self.by_revision.lock();
        let InTurn { known, last } = &mut *in_turn;
        let page = brain.numbers_after(now, last.as_ref(), limit);
        let next = if page.len() < limit { None } else { page.last().map(|numbers| numbers.id.clone()) };
        let from = last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let to = next.as_ref().map_or(Bound::Unbounded, Bound::Included);
        let passed = known.range::<RevisionId, _>((from, to)).map(|(id, _)| id);
        let gone = passed.filter(|id| page.binary_search_by(|numbers| numbers.id.cmp(id)).is_err());
        for id in gone.cloned().collect::<Vec<_>>() {
            known.remove(&id);
        }
        for numbers in &page {
            match known.get(&numbers.id) {
                Some(handles) => handles.set(numbers),
                None => known.entry(numbers.id.clone()).or_insert_with_key(OfRevision::new).set(numbers),
            }
        }
        *last = next;
    }
}

impl OfRevision {
    fn new(id: &RevisionId) -> Self {
        let gauge = |metric: &'static str| gauge!(metric, "namespace" => id.namespace().to_owned(), "revision" => id.name().to_owned());
        Self {
            wanted: gauge(WANTED_REPLICAS),
            requested: gauge(REQUESTED_REPLICAS),
            ready: gauge(READY_REPLICAS),
            draining: gauge(DRAINING_REPLICAS),
            in_flight: gauge(IN_FLIGHT_REQUESTS),
            queued: gauge(QUEUED_REQUESTS),
            panic: gauge(PANIC),
            exclusive_waiting: gauge(EXCLUSIVE_WAITING),
            problems: gauge(PROBLEMS),
        }
    }

    fn set(&self, numbers: &Numbers) {
        self.wanted.set(numbers.wanted.as_f64());
        self.requested.set(numbers.requested.as_f64());
        self.ready.set(numbers.ready.as_f64());
        self.draining.set(count(numbers.draining));
        self.in_flight.set(numbers.in_flight);
        self.queued.set(numbers.queued);
        self.panic.set(f64::from(u8::from(numbers.mode == Activity::Panic)));
        self.exclusive_waiting.set(f64::from(u8::from(numbers.mode == Activity::Waiting)));
        self.problems.set(count(numbers.problems));
    }
}

/// A length as a gauge; beyond 2³² it no longer matters how many.
fn count(length: usize) -> f64 {
    f64::from(u32::try_from(length).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use autoscaler_core::decide::{Observation, conclude, unknown};
    use autoscaler_core::{BrainSettings, Event};
    use domain::why::{Idleness, Trigger};
    use domain::{Change, Replicas, Why};
    use std::collections::BTreeSet;
    use std::sync::Arc;

    #[test]
    fn names_follow_the_convention_and_are_unique() {
        let mut seen = BTreeSet::new();
        for (name, kind, help) in ALL {
            assert!(name.starts_with("autoscaler_") && help.ends_with('.'), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            assert_eq!(name.ends_with("_seconds"), *kind == Kind::Histogram, "{name}");
            assert!(seen.insert(name), "{name} twice");
        }
    }

    /// A decision in an exclusive group that was carried out.
    fn scaled(desired: u32, from: u32, at_most: u32) -> Happening {
        let spec = platform::fixed::default_revision(RevisionId::new("default", "a")).scaling;
        let seen = Observation {
            trigger: Trigger::Recheck,
            ready: Replicas::new(from),
            requested: Replicas::new(from),
            concurrency: None,
            rps: None,
            delay: None,
            initialised: true,
            idleness: Idleness::Spent,
            backlog: None,
            hold: None,
            at_most: Some(Replicas::new(at_most)),
        };
        let last = Why { desired: Some(Replicas::new(desired)), ..unknown(Timestamp::ZERO, &spec, &seen) };
        let why = conclude(Timestamp::ZERO, &spec, &last, &seen);
        Happening::Scaled { from: Replicas::new(from), to: why.replicas, why: Arc::new(why) }
    }

    #[test]
    fn every_series_shows_its_help_and_a_value() {
        let (recorder, page) = runtime::Metrics::detached();
        metrics::with_local_recorder(&recorder, || {
            let meters = Meters::new();
            meters.frame(true, 3);
            meters.refused(&IngestError::Version(2));
            meters.turn(Turn::Slot, Duration::from_millis(1));
            meters.scale_call(&RevisionId::new("default", "a"), "accepted", Duration::from_millis(3));
            // Made room, was given a slot, left of its own accord: only the first is a swap.
            for (desired, from, at_most) in [(1, 1, 0), (1, 0, 1), (0, 1, 1)] {
                let what = scaled(desired, from, at_most);
                meters.story(&Story { revision: Some(RevisionId::new("default", "a")), what });
            }
            meters.leads(true);
            meters.publish(&Brain::new(Timestamp::ZERO, BrainSettings::default()), 7);
        });
        let page = page.render();
        for line in [
            "autoscaler_frames_total{kind=\"urgent\"} 1",
            "autoscaler_frames_total{kind=\"regular\"} 0",
            "autoscaler_frame_rows_total 3",
            "autoscaler_frames_refused_total{why=\"version\"} 1",
            "autoscaler_scale_calls_total{namespace=\"default\",revision=\"a\",outcome=\"accepted\"} 1",
            "autoscaler_exclusive_swaps_total{namespace=\"default\",revision=\"a\"} 1",
            "autoscaler_leader 1",
            "autoscaler_events_dropped_total 7",
            "autoscaler_revisions 0",
            "# HELP autoscaler_turn_seconds ",
        ] {
            assert!(page.contains(line), "{line} is not in {page}");
        }
        assert_eq!(IngestError::CODES.len(), page.matches("autoscaler_frames_refused_total{").count());
    }

    #[test]
    fn every_revision_has_its_turn_within_two_seconds_and_one_that_is_gone_is_dropped() {
        let id = |n: usize| RevisionId::new("default", &format!("m{n:03}"));
        let mut brain = Brain::new(Timestamp::ZERO, BrainSettings::default());
        let tell = |brain: &mut Brain, change| brain.handle(Timestamp::ZERO, Event::Change(change), &mut Vec::new());
        for n in 0..90 {
            tell(&mut brain, Change::Applied(Arc::new(platform::fixed::default_revision(id(n)))));
        }
        let (recorder, page) = runtime::Metrics::detached();
        metrics::with_local_recorder(&recorder, || {
            let meters = Meters::new();
            let round = |brain: &Brain| (0..ROUND_SLOTS).for_each(|_| meters.publish_in_turn(brain, Timestamp::ZERO));
            let known = || meters.by_revision.lock().known.keys().cloned().collect::<Vec<_>>();
            round(&brain);
            assert_eq!(known(), (0..90).map(id).collect::<Vec<_>>());
            assert_eq!(page.render().matches("autoscaler_ready_replicas{").count(), 90);
            // The first, the last, and some in between.
            let gone = [0, 4, 5, 44, 89];
            for n in gone {
                tell(&mut brain, Change::Deleted(id(n)));
            }
            round(&brain);
            round(&brain);
            assert_eq!(known(), (0..90).filter(|n| !gone.contains(n)).map(id).collect::<Vec<_>>());
        });
    }
}
