//! The one shared door of a revision: [`Admission`] behind a mutex, and a flag that lets unlimited warm traffic pass by.
//!
//! Two tiers. No container concurrency, a replica ready and nobody waiting: `is_open`, and the worker chooses by its own
//! counts. Otherwise the mutex. Grants travel by oneshot and are sent outside the lock, at most [`GRANTS_PER_TURN`] at a
//! time.
//!
//! Invariants: lock, compute, unlock, then send; a panic under the lock ends the process, because a half-updated admission
//! would wedge its revision for ever; a grant that nobody takes gives its slot back.

mod early;
mod entry;
mod failure;
mod out;
mod paced;
mod share;
mod state;

pub use early::{Cold, ColdCount};
pub use entry::{Answer, Entry, HeldSlot, StartFailure, Waiting};

use crate::local::Endpoint;
use activator_core::admission::{Ask, TicketId, Verdict};
use activator_core::{Admission, Part, Warmth, patience};
use domain::{EndpointId, EndpointState, Limits, Timestamp};
use early::Early;
use parking_lot::Mutex;
use state::{AbortOnPanic, Seat, State};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use tokio::sync::oneshot;

/// Waiting requests woken in one turn of the lock.
pub const GRANTS_PER_TURN: usize = 64;

/// Told when somebody begins to wait.
pub trait Edge: Send + Sync {
    /// A request waits since `now`: for a start (`is_cold`: no replica is there), or where nobody waited (`first`).
    fn waits(&self, now: Timestamp, is_cold: bool, first: bool);

    /// While requests wait here, other activators may have come to have room for them.
    fn may_borrow(&self);
}

/// The door of one revision.
pub struct Gate {
    state: Mutex<State>,
    open: AtomicBool,
    waiting: AtomicU32,
    paced: AtomicBool,
    limited: AtomicBool,
    version: AtomicU64,
    differences: AtomicU64,
    edge: Box<dyn Edge>,
    itself: Weak<Self>,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("waiting", &self.waiting).field("version", &self.version).finish_non_exhaustive()
    }
}

/// What a change touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Changed {
    /// Room only.
    Room,
    /// What [`Gate::snapshot`] shows.
    Snapshot,
}

impl Gate {
    /// Closed: no replica is known.
    #[must_use]
    pub fn new(limits: Arc<Limits>, seed: u64, edge: Box<dyn Edge>) -> Arc<Self> {
        let limited = limits.container_concurrency.is_some();
        let admission =
            Admission::new(*limits.container_concurrency, *limits.queue_depth, *limits.load_balancing, seed);
        Arc::new_cyclic(|itself| Self {
            state: Mutex::new(State {
                admission,
                limits,
                seats: Vec::new(),
                endpoints_version: 0,
                drain: BTreeSet::new(),
                part: Arc::new(Part::All),
                held: BTreeSet::new(),
                warmth: Warmth::Asleep,
                failure: None,
                trouble: None,
                watched: None,
            }),
            open: AtomicBool::new(false),
            waiting: AtomicU32::new(0),
            paced: AtomicBool::new(false),
            limited: AtomicBool::new(limited),
            version: AtomicU64::new(0),
            differences: AtomicU64::new(0),
            edge,
            itself: itself.clone(),
        })
    }

    /// Unlimited, warm and nobody waiting: requests need not come to the lock.
    #[inline]
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Replicas take so many at once and no more.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.limited.load(Ordering::Acquire)
    }

    /// Requests waiting now.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Acquire)
    }

    /// Changes whenever [`Gate::snapshot`] would.
    #[inline]
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The settings in force.
    #[must_use]
    pub fn limits(&self) -> Arc<Limits> {
        Arc::clone(&self.state.lock().limits)
    }

    /// Version, settings, and the replicas that may be sent requests, by seat index.
    #[must_use]
    pub fn snapshot(&self) -> (u64, Arc<Limits>, Vec<Option<Arc<Endpoint>>>) {
        let state = self.state.lock();
        let usable = |seat: &Option<Seat>| {
            seat.as_ref().filter(|seat| state.usable(seat)).map(|seat| Arc::clone(&seat.endpoint))
        };
        (self.version(), Arc::clone(&state.limits), state.seats.iter().map(usable).collect())
    }

    /// A request comes to the lock.
    pub fn enter(&self, now: Timestamp, ask: Ask) -> Entry {
        self.ask(now, false, |state, sender| state.admission.admit(ask, sender))
    }

    /// A request that its replica did not take comes back to the head of its line. That of [`Class::Neighbour`](activator_core::Class::Neighbour) is for
    /// those that another activator has sent on: nobody lends to it.
    pub fn reenter(&self, now: Timestamp, ask: Ask) -> Entry {
        self.ask(now, true, |state, sender| state.admission.readmit(ask, sender))
    }

    fn ask(
        &self,
        now: Timestamp,
        returns: bool,
        admit: impl FnOnce(&mut State, &mut dyn FnMut() -> oneshot::Sender<Answer>) -> Verdict,
    ) -> Entry {
        let Some(gate) = self.itself.upgrade() else { return Entry::Full(0) };
        let mut answer = None;
        let (mut first, mut is_cold) = (false, false);
        let entry = {
            let _abort = AbortOnPanic::new();
            let mut state = self.state.lock();
            if let Some(failure) = &state.failure
                && !state.is_warm()
            {
                if now < failure.retry_at {
                    return Entry::StartFailed(failure.clone());
                }
                state.failure = None;
            }
            let waited_before = state.admission.waiting() > 0;
            let mut sender = || {
                let (sender, receiver) = oneshot::channel();
                answer = Some(receiver);
                sender
            };
            let verdict = admit(&mut state, &mut sender);
            match (verdict, answer) {
                (Verdict::Go(slot), _) => Entry::Go(HeldSlot::out(gate, &mut state, slot)),
                (Verdict::Wait(ticket), Some(answer)) => {
                    first = !waited_before;
                    if state.warmth == Warmth::Asleep {
                        state.warmth = Warmth::Waking { since: now };
                    }
                    is_cold = matches!(state.warmth, Warmth::Waking { .. });
                    self.publish(&state);
                    Entry::Wait(Waiting { gate, ticket, answer, is_cold, returns })
                }
                (Verdict::Wait(_), None) | (Verdict::Full, _) => Entry::Full(*state.limits.queue_depth),
            }
        };
        if matches!(entry, Entry::Wait(_)) {
            self.edge.waits(now, is_cold, first);
        }
        entry
    }

    fn cancel(&self, ticket: TicketId) {
        let _abort = AbortOnPanic::new();
        let mut state = self.state.lock();
        let waiter = state.admission.cancel(ticket);
        if waiter.is_some() {
            self.publish(&state);
        }
        drop(state);
        drop(waiter);
    }

    /// Requests that came to the lock and went to another replica than their session's.
    #[must_use]
    pub fn strayed(&self) -> u64 {
        self.state.lock().admission.strayed()
    }

    /// When a request that arrived at `arrived` has waited long enough, and for what, as things stand now.
    #[must_use]
    pub fn patience(&self, arrived: Timestamp) -> (Timestamp, Warmth) {
        let state = self.state.lock();
        let due = patience::due(state.warmth, arrived, *state.limits.queue_timeout, *state.limits.start_deadline);
        (due, state.warmth)
    }

    /// Whether replicas may be sent requests.
    #[must_use]
    pub fn warmth(&self) -> Warmth {
        self.state.lock().warmth
    }

    /// New settings.
    pub fn configure(&self, limits: Arc<Limits>) {
        self.change(|state| {
            state.admission.configure(*limits.container_concurrency, *limits.queue_depth, *limits.load_balancing);
            state.limits = limits;
            state.set_open();
            Changed::Snapshot
        });
    }

    /// The platform's list of replicas. One that is missing is never used again; versions that go back are ignored.
    pub fn set_endpoints(&self, now: Timestamp, version: u64, endpoints: &[domain::Endpoint]) {
        self.change(|state| {
            if version < state.endpoints_version {
                return Changed::Room;
            }
            state.endpoints_version = version;
            for index in 0..state.seats.len() {
                let gone = state.seats[index]
                    .as_ref()
                    .is_some_and(|seat| !endpoints.iter().any(|endpoint| endpoint.id == seat.endpoint.id));
                if gone && let Some(seat) = state.seats[index].take() {
                    seat.endpoint.leaving.store(true, Ordering::Release);
                    state.admission.remove_seat(seat.id);
                }
            }
            for endpoint in endpoints {
                let ready = endpoint.state == EndpointState::Ready;
                let mut known = state.seats.iter_mut().flatten().find(|seat| seat.endpoint.id == endpoint.id);
                let before = known.as_mut().and_then(|seat| seat.early.take());
                let early = Early::of(now, endpoint, before);
                if let Some(seat) = known {
                    seat.suspect &= early.is_none();
                    (seat.ready, seat.early) = (ready, early);
                } else if ready || early.is_some() {
                    let endpoint = Arc::new(Endpoint::new(endpoint.id.clone(), endpoint.address));
                    let id = state.admission.add_seat(endpoint.key);
                    let index = id.index as usize;
                    if state.seats.len() <= index {
                        state.seats.resize_with(index + 1, || None);
                    }
                    let allowed = state.part.allows(&endpoint.id, false, state.held.contains(&endpoint.id));
                    state.seats[index] = Some(Seat::new(id, endpoint, (ready, allowed), early));
                }
            }
            state.reseat(now);
            Changed::Snapshot
        });
    }

    /// The replicas that the autoscaler wants to see empty; complete each time.
    pub fn set_drain(&self, now: Timestamp, drain: BTreeSet<EndpointId>) {
        self.change(|state| {
            if state.drain == drain {
                return Changed::Room;
            }
            state.drain = drain;
            state.reseat(now);
            Changed::Snapshot
        });
    }

    /// A replica refused a connection, or answered again. Suspects get nothing new while others can be asked; one that only
    /// our own probe vouched for gets nothing before it passes again.
    pub fn set_suspect(&self, now: Timestamp, endpoint: &EndpointId, suspect: bool) {
        self.change(|state| {
            for seat in state.seats.iter_mut().flatten() {
                if seat.endpoint.id == *endpoint {
                    match &mut seat.early {
                        Some(early) if suspect => early.refused(),
                        Some(_) | None => seat.suspect = suspect,
                    }
                }
            }
            state.reseat(now);
            Changed::Snapshot
        });
    }

    /// The version of the endpoint list in use.
    #[must_use]
    pub fn endpoints_version(&self) -> u64 {
        self.state.lock().endpoints_version
    }

    /// Every replica known, with whether it may be sent requests.
    #[must_use]
    pub fn endpoints(&self) -> Vec<(Arc<Endpoint>, bool)> {
        let state = self.state.lock();
        state.seats.iter().flatten().map(|seat| (Arc::clone(&seat.endpoint), state.usable(seat))).collect()
    }

    /// The replicas of the drain directive that get nothing any more.
    #[must_use]
    pub fn drained(&self) -> Vec<EndpointId> {
        self.state.lock().drain.iter().cloned().collect()
    }

    /// Runs `change` under the lock, then wakes whoever can go.
    ///
    /// The version moves inside the lock: whoever is granted a slot finds its seat in a fresh snapshot.
    fn change(&self, change: impl FnOnce(&mut State) -> Changed) {
        let mut grants = Vec::new();
        let mut change = Some(change);
        let mut may_borrow = false;
        loop {
            let more = {
                let _abort = AbortOnPanic::new();
                let mut state = self.state.lock();
                if let Some(change) = change.take()
                    && change(&mut state) == Changed::Snapshot
                {
                    self.version.fetch_add(1, Ordering::AcqRel);
                    may_borrow = state.is_shared();
                }
                let count = state.admission.grant(GRANTS_PER_TURN, &mut grants);
                grants.iter().for_each(|(_, slot)| state.hand_out(slot));
                may_borrow &= state.admission.waiting() > 0;
                self.publish(&state);
                count == GRANTS_PER_TURN
            };
            for (waiter, slot) in grants.drain(..) {
                let Some(gate) = self.itself.upgrade() else { return };
                // Nobody takes it: the slot comes back through its drop.
                let _ = waiter.send(Ok(HeldSlot::of(gate, slot)));
            }
            if !more {
                break;
            }
        }
        if may_borrow {
            self.edge.may_borrow();
        }
    }

    /// What readers without the lock see.
    fn publish(&self, state: &State) {
        let waiting = u32::try_from(state.admission.waiting()).unwrap_or(u32::MAX);
        let limited = state.admission.limit().is_some();
        let open = waiting == 0 && state.admission.open_seats() > 0 && !limited;
        self.waiting.store(waiting, Ordering::Release);
        self.paced.store(state.admission.is_paced(), Ordering::Release);
        self.limited.store(limited, Ordering::Release);
        self.open.store(open, Ordering::Release);
    }
}

#[cfg(test)]
mod tests;
