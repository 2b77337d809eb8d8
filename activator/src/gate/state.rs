//! What stands under a gate's lock.

use super::Gate;
use super::early::Early;
use super::entry::{Answer, StartFailure};
use crate::local::Endpoint;
use crate::local::watchdog::Sight;
use activator_core::admission::SeatId;
use activator_core::{Admission, Part, Warmth};
use domain::report::UNREACHABLE_MAX;
use domain::{EndpointId, Limits, Timestamp};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;

pub(super) struct State {
    pub(super) admission: Admission<oneshot::Sender<Answer>>,
    pub(super) limits: Arc<Limits>,
    /// By seat index.
    pub(super) seats: Vec<Option<Seat>>,
    /// The version of the endpoint list that was applied last.
    pub(super) endpoints_version: u64,
    pub(super) drain: BTreeSet<EndpointId>,
    /// Which of the replicas are ours, where their concurrency is limited.
    pub(super) part: Arc<Part>,
    /// Those of ours that still carry requests of another activator.
    pub(super) held: BTreeSet<EndpointId>,
    pub(super) warmth: Warmth,
    pub(super) failure: Option<StartFailure>,
    /// What the platform says is wrong with the replicas.
    pub(super) trouble: Option<Arc<str>>,
    /// When slots were compared last.
    pub(super) watched: Option<Timestamp>,
}

pub(super) struct Seat {
    pub(super) id: SeatId,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) ready: bool,
    pub(super) suspect: bool,
    /// It is ours to use, where its concurrency is limited.
    pub(super) allowed: bool,
    /// While it is not ready and may be probed by us; then it is no suspect.
    pub(super) early: Option<Early>,
    /// How much of it requests have.
    pub(super) out: u32,
    pub(super) sight: Sight,
}

impl Seat {
    /// Of a replica nobody has sent anything to.
    pub(super) fn new(
        id: SeatId,
        endpoint: Arc<Endpoint>,
        (ready, allowed): (bool, bool),
        early: Option<Early>,
    ) -> Self {
        Self { id, endpoint, ready, suspect: false, allowed, early, out: 0, sight: Sight::default() }
    }

    /// The platform says so, or our own probe does before it.
    fn answers(&self) -> bool {
        self.ready || self.early.as_ref().is_some_and(Early::has_passed)
    }
}

impl State {
    /// Suspects count only while somebody else can be asked.
    pub(super) fn usable(&self, seat: &Seat) -> bool {
        let wanted = |seat: &Seat| seat.answers() && !self.drain.contains(&seat.endpoint.id);
        wanted(seat) && (!seat.suspect || !self.seats.iter().flatten().any(|other| wanted(other) && !other.suspect))
    }

    /// Whether replicas are divided among activators, so that slots are another one's to give.
    pub(super) fn is_shared(&self) -> bool {
        self.limits.container_concurrency.is_some()
    }

    /// Opens and closes seats as the facts are now.
    pub(super) fn set_open(&mut self) {
        let open = |seat: &Seat| self.usable(seat) && (seat.allowed || !self.is_shared());
        let open: Vec<_> = self.seats.iter().flatten().map(|seat| (seat.id, open(seat))).collect();
        for (id, open) in open {
            self.admission.set_open(id, open);
        }
    }

    /// Whether a replica is there that some activator may send requests to.
    pub(super) fn is_warm(&self) -> bool {
        self.seats.iter().flatten().any(|seat| self.usable(seat))
    }

    /// Brings seats and warmth in step with the facts.
    pub(super) fn reseat(&mut self, now: Timestamp) {
        self.set_open();
        for seat in self.seats.iter().flatten() {
            seat.endpoint.leaving.store(self.drain.contains(&seat.endpoint.id), Ordering::Release);
        }
        let warm = self.is_warm();
        self.warmth = match (warm, self.warmth) {
            (true, Warmth::Warm { since }) => Warmth::Warm { since },
            (true, Warmth::Asleep | Warmth::Waking { .. }) => Warmth::Warm { since: now },
            (false, Warmth::Waking { since }) => Warmth::Waking { since },
            (false, Warmth::Warm { .. } | Warmth::Asleep) if self.admission.waiting() > 0 => {
                Warmth::Waking { since: now }
            }
            (false, Warmth::Warm { .. } | Warmth::Asleep) => Warmth::Asleep,
        };
        if warm {
            self.failure = None;
        }
    }
}

/// A panic while the lock is held ends the process. One that began before does not: a request that panicked gives its
/// slot back while it unwinds.
pub(super) struct AbortOnPanic {
    unwinding: bool,
}

impl AbortOnPanic {
    pub(super) fn new() -> Self {
        Self { unwinding: std::thread::panicking() }
    }
}

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if !self.unwinding && std::thread::panicking() {
            std::process::abort();
        }
    }
}

impl Gate {
    /// Replicas that the platform calls ready and that cannot be connected to.
    #[must_use]
    pub fn unreachable(&self) -> Vec<EndpointId> {
        let state = self.state.lock();
        let lost = state.seats.iter().flatten().filter(|seat| seat.ready && seat.endpoint.reach.is_lost());
        lost.map(|seat| seat.endpoint.id.clone()).take(UNREACHABLE_MAX).collect()
    }
}
