//! How long each cold start took, stage by stage, on one clock.
//!
//! Invariant: bounded by [`WAKES_MAX`]; a stage is stamped once, in the wake that is open for its revision, and never
//! outside one. A scale call that was heard of before the request that it is for belongs to that request's wake.

use domain::{RevisionId, Timestamp};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// Wakes kept; the oldest is forgotten first.
pub const WAKES_MAX: usize = 1000;
/// How much later than the scale call for it a request may be said to wait. A report of it can be on its way between the
/// moment at which it is counted and the moment at which it is known to wait.
pub const EARLY_MAX: Duration = Duration::from_secs(1);

/// One cold start of one revision. A stage that has not come is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wake {
    /// Whose.
    pub revision: RevisionId,
    /// A request waited where none waited, and no replica was there.
    pub first_waiting: Timestamp,
    /// The scale call left the autoscaler.
    pub scale_called: Option<Timestamp>,
    /// The first replica answered its readiness probe.
    pub probe_succeeded: Option<Timestamp>,
    /// The first byte of the first answer went to a client.
    pub first_byte: Option<Timestamp>,
}

/// The latest wakes. Shared by whoever sees a stage; in separate programs each sees only its own stages.
#[derive(Debug, Default)]
pub struct WakeLog(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    wakes: VecDeque<Wake>,
    /// Number of the oldest wake kept, counted since the start.
    oldest: u64,
    /// The wake each revision is in, by number.
    open: HashMap<RevisionId, u64>,
    /// Scale calls for which no wake was open, no more than were made within [`EARLY_MAX`].
    early: HashMap<RevisionId, Timestamp>,
}

impl WakeLog {
    /// Nothing seen yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A request began to wait for a revision without replicas. Opens a wake; within one whose replica has not come yet
    /// the earlier stamp stays, so a client that gave up does not restart it.
    pub fn first_waiting(&self, revision: &RevisionId, at: Timestamp) {
        let mut inner = self.0.lock();
        if inner.open_wake(revision).is_some_and(|wake| wake.probe_succeeded.is_none()) {
            return;
        }
        if inner.wakes.len() == WAKES_MAX {
            inner.forget_oldest();
        }
        let number = inner.oldest + inner.wakes.len() as u64;
        let early = inner.early.remove(revision).filter(|called| at.since(*called) <= EARLY_MAX);
        inner.wakes.push_back(Wake {
            revision: revision.clone(),
            first_waiting: at,
            scale_called: early.map(|called| called.max(at)),
            probe_succeeded: None,
            first_byte: None,
        });
        inner.open.insert(revision.clone(), number);
    }

    /// The autoscaler called `scale` for it, from zero.
    pub fn scale_called(&self, revision: &RevisionId, at: Timestamp) {
        let mut inner = self.0.lock();
        match inner.open_wake(revision).filter(|wake| wake.probe_succeeded.is_none()) {
            Some(wake) => drop(wake.scale_called.get_or_insert(at)),
            None => {
                inner.early.retain(|_, called| at.since(*called) <= EARLY_MAX);
                inner.early.insert(revision.clone(), at);
            }
        }
    }

    /// Its first replica was seen ready.
    pub fn ready_seen(&self, revision: &RevisionId, at: Timestamp) {
        if let Some(wake) = self.0.lock().open_wake(revision) {
            wake.probe_succeeded.get_or_insert(at);
        }
    }

    /// The first byte of an answer left for a client: the wake is over. Call it for requests that waited, not for every
    /// one: it takes a lock.
    pub fn first_byte(&self, revision: &RevisionId, at: Timestamp) {
        let mut inner = self.0.lock();
        if let Some(wake) = inner.open_wake(revision) {
            wake.first_byte.get_or_insert(at);
            inner.open.remove(revision);
        }
    }

    /// Every wake kept, oldest first.
    #[must_use]
    pub fn all(&self) -> Vec<Wake> {
        self.0.lock().wakes.iter().cloned().collect()
    }
}

impl Inner {
    fn open_wake(&mut self, revision: &RevisionId) -> Option<&mut Wake> {
        let index = self.open.get(revision)?.checked_sub(self.oldest)?;
        self.wakes.get_mut(usize::try_from(index).ok()?)
    }

    fn forget_oldest(&mut self) {
        if let Some(gone) = self.wakes.pop_front() {
            if self.open.get(&gone.revision) == Some(&self.oldest) {
                self.open.remove(&gone.revision);
            }
            self.oldest += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> RevisionId {
        RevisionId::new("default", name)
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn every_stage_is_stamped_once_and_in_its_own_wake() {
        let log = WakeLog::new();
        log.first_waiting(&id("a"), at(10));
        log.first_waiting(&id("a"), at(20));
        log.scale_called(&id("a"), at(12));
        log.scale_called(&id("a"), at(500));
        log.ready_seen(&id("a"), at(1000));
        log.first_byte(&id("a"), at(1010));
        log.first_byte(&id("a"), at(1020));
        log.first_waiting(&id("a"), at(5000));
        let first = Wake {
            revision: id("a"),
            first_waiting: at(10),
            scale_called: Some(at(12)),
            probe_succeeded: Some(at(1000)),
            first_byte: Some(at(1010)),
        };
        let second = Wake {
            first_waiting: at(5000),
            scale_called: None,
            probe_succeeded: None,
            first_byte: None,
            ..first.clone()
        };
        assert_eq!(log.all(), [first, second]);
    }

    #[test]
    fn a_call_that_is_heard_of_before_its_request_belongs_to_the_wake() {
        let log = WakeLog::new();
        let called = |number: usize| log.all()[number].scale_called;
        log.scale_called(&id("a"), at(7));
        log.first_waiting(&id("a"), at(5));
        assert_eq!(called(0), Some(at(7)), "the request came before, and was told of later");
        log.scale_called(&id("b"), at(8));
        log.first_waiting(&id("b"), at(9));
        assert_eq!(called(1), Some(at(9)), "no stage comes before the first");
        log.ready_seen(&id("a"), at(100));
        log.first_byte(&id("a"), at(101));
        log.first_waiting(&id("a"), at(200));
        assert_eq!(called(2), None, "it counts for one wake");
        log.ready_seen(&id("a"), at(300));
        log.scale_called(&id("a"), at(400));
        log.first_waiting(&id("a"), at(401));
        assert_eq!((called(2), called(3)), (None, Some(at(401))), "not for one whose replica has come");
    }

    #[test]
    fn calls_without_a_wake_are_forgotten() {
        let log = WakeLog::new();
        let later = at(1_001);
        for n in 0..100 {
            log.scale_called(&id(&n.to_string()), at(0)); // A min-scale start, say.
        }
        log.first_waiting(&id("0"), later);
        assert_eq!(log.all()[0].scale_called, None, "it was for something else");
        log.scale_called(&id("a"), later);
        assert_eq!(log.0.lock().early.len(), 1);
    }

    #[test]
    fn a_wake_whose_clients_left_does_not_swallow_the_next() {
        let log = WakeLog::new();
        log.first_waiting(&id("a"), at(1));
        log.ready_seen(&id("a"), at(2));
        log.first_waiting(&id("a"), at(9000));
        log.ready_seen(&id("a"), at(9001));
        assert_eq!(log.all().len(), 2);
        assert_eq!(log.all()[0].probe_succeeded, Some(at(2)));
    }

    #[test]
    fn the_log_is_bounded_and_forgets_the_oldest() {
        let log = WakeLog::new();
        for n in 0..WAKES_MAX as u64 + 7 {
            log.first_waiting(&id(&n.to_string()), at(n));
        }
        assert_eq!(log.all().len(), WAKES_MAX);
        assert_eq!(log.all()[0].first_waiting, at(7));
        assert_eq!(log.0.lock().open.len(), WAKES_MAX);
        log.first_byte(&id("3"), at(9999)); // Forgotten: nothing to stamp.
        log.first_byte(&id("8"), at(9999));
        assert_eq!(log.all().iter().filter(|wake| wake.first_byte.is_some()).count(), 1);
    }
}
