//! Replicas that the platform does not call ready yet and that we ask ourselves (kpa-behaviour 4.4).
//!
//! Invariants: only a pass opens such a replica, and a refused connection takes the pass back; as soon as the platform
//! says ready, only its word counts.

use super::state::State;
use super::{AbortOnPanic, Changed, Gate};
use crate::local::Endpoint;
use domain::{EndpointState, Probe, ProbeCheck, Timestamp};
use std::sync::Arc;

/// What our own probes know of a replica that is not ready.
#[derive(Debug)]
pub(super) struct Early {
    probe: Arc<Probe>,
    since: Timestamp,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nobody asks it yet.
    Unprobed,
    /// It is asked.
    Probed,
    /// It answered.
    Passed,
}

/// A replica to be probed.
#[derive(Debug, Clone)]
pub struct Cold {
    /// Which.
    pub endpoint: Arc<Endpoint>,
    /// How.
    pub probe: Arc<Probe>,
    /// Since when it is known and not ready.
    pub since: Timestamp,
}

/// How many replicas of a revision are cold and may be probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ColdCount {
    /// They are being asked.
    pub probed: usize,
    /// They are not, for want of a place among those that are asked.
    pub unprobed: usize,
}

impl Early {
    /// What is known of a replica as it is `listed`, if we may ask it at all.
    pub(super) fn of(now: Timestamp, listed: &domain::Endpoint, before: Option<Self>) -> Option<Self> {
        let probe = listed.early_probe.as_ref().filter(|_| listed.state == EndpointState::Starting)?;
        match probe.check {
            ProbeCheck::Tcp { .. } | ProbeCheck::Http { .. } => {
                let new = || Self { probe: Arc::new(probe.clone()), since: now, stage: Stage::Unprobed };
                Some(before.unwrap_or_else(new))
            }
            ProbeCheck::Exec { .. } => None,
        }
    }

    /// It answered, so it may be sent requests.
    pub(super) fn has_passed(&self) -> bool {
        self.stage == Stage::Passed
    }

    /// It refused a request's connection: it has to pass again before it gets another.
    pub(super) fn refused(&mut self) {
        if self.has_passed() {
            self.stage = Stage::Unprobed;
        }
    }
}

impl State {
    fn early(&mut self, endpoint: &Arc<Endpoint>) -> Option<&mut Early> {
        let seat = self.seats.iter_mut().flatten().find(|seat| Arc::ptr_eq(&seat.endpoint, endpoint))?;
        seat.early.as_mut()
    }
}

impl Gate {
    /// At most `max` cold replicas that nobody probes yet. From now on the caller does, until they are no longer cold.
    pub fn take_cold(&self, max: usize) -> Vec<Cold> {
        let _abort = AbortOnPanic::new();
        let mut state = self.state.lock();
        let cold = state.seats.iter_mut().flatten().filter_map(|seat| {
            let early = seat.early.as_mut().filter(|early| early.stage == Stage::Unprobed)?;
            Some((&seat.endpoint, early))
        });
        cold.take(max)
            .map(|(endpoint, early)| {
                early.stage = Stage::Probed;
                Cold { endpoint: Arc::clone(endpoint), probe: Arc::clone(&early.probe), since: early.since }
            })
            .collect()
    }

    /// Whether a probe of `endpoint` still tells something: it is listed, not ready and has not passed.
    #[must_use]
    pub fn is_cold(&self, endpoint: &Arc<Endpoint>) -> bool {
        self.state.lock().early(endpoint).is_some_and(|early| !early.has_passed())
    }

    /// How many replicas are cold.
    #[must_use]
    pub fn cold(&self) -> ColdCount {
        let state = self.state.lock();
        let stages = || state.seats.iter().flatten().filter_map(|seat| Some(seat.early.as_ref()?.stage));
        let count = |wanted| stages().filter(|stage| *stage == wanted).count();
        ColdCount { probed: count(Stage::Probed), unprobed: count(Stage::Unprobed) }
    }

    /// `endpoint` passed its probe: if it is still cold, who waits may go to it.
    pub fn passed(&self, now: Timestamp, endpoint: &Arc<Endpoint>) {
        self.change(|state| {
            let Some(early) = state.early(endpoint).filter(|early| early.stage == Stage::Probed) else {
                return Changed::Room;
            };
            early.stage = Stage::Passed;
            state.reseat(now);
            Changed::Snapshot
        });
    }
}
