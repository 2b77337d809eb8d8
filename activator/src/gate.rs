//! The one shared door of a revision: [`Admission`] behind a mutex, and a flag that lets unlimited warm traffic pass by.
//!
//! Two tiers. No container concurrency, a replica ready and nobody waiting: `is_open`, and the worker chooses by its own
//! counts. Otherwise the mutex. Grants travel by oneshot and are sent outside the lock, at most [`GRANTS_PER_TURN`] at a
//! time.
//!
//! Invariants: lock, compute, unlock, then send; a panic under the lock ends the process, because a half-updated admission
//! would wedge its revision for ever; a grant that nobody takes gives its slot back.

use crate::local::Endpoint;
use activator_core::admission::{Ask, SeatId, Slot, TicketId, Verdict};
use activator_core::{Admission, Warmth, patience};
use domain::{EndpointId, EndpointState, Limits, Timestamp};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use tokio::sync::oneshot;

/// Waiting requests woken in one turn of the lock.
pub const GRANTS_PER_TURN: usize = 64;

/// What a waiting request is told.
pub type Answer = Result<HeldSlot, StartFailure>;

/// A start failed; held requests are refused with the reason (kpa-behaviour 5.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartFailure {
    /// Why, for the client.
    pub reason: Arc<str>,
    /// When the next start may be asked for.
    pub retry_at: Timestamp,
}

/// What happens to a request at the gate.
#[derive(Debug)]
pub enum Entry {
    /// It goes now.
    Go(HeldSlot),
    /// It waits for an [`Answer`].
    Wait(Waiting),
    /// Too many wait: this is the bound.
    Full(u32),
    /// The last start failed and it is too early for another.
    StartFailed(StartFailure),
}

/// A place in the queue; leaving it by drop gives the place up.
#[derive(Debug)]
pub struct Waiting {
    gate: Arc<Gate>,
    ticket: TicketId,
    answer: oneshot::Receiver<Answer>,
}

impl Waiting {
    /// The slot, when the request's turn comes.
    pub async fn granted(&mut self) -> Answer {
        // The sender lives in the queue until it is granted, refused or cancelled by our own drop.
        (&mut self.answer).await.unwrap_or_else(|_| {
            Err(StartFailure { reason: "the revision was removed".into(), retry_at: Timestamp::ZERO })
        })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.gate.cancel(self.ticket);
    }
}

/// Room on one replica, given back on drop.
#[derive(Debug)]
pub struct HeldSlot {
    gate: Arc<Gate>,
    slot: Option<Slot>,
}

impl HeldSlot {
    /// The index of the replica's seat.
    #[must_use]
    pub fn seat_index(&self) -> u32 {
        self.slot.map_or(u32::MAX, |slot| slot.seat().index)
    }
}

impl Drop for HeldSlot {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.gate.change(|state| {
                state.admission.release(slot);
                Changed::Room
            });
        }
    }
}

/// Told when somebody begins to wait where nobody waited.
pub trait Edge: Send + Sync {
    /// The queue of this gate's revision is no longer empty.
    fn first_waiting(&self);
}

/// The door of one revision.
pub struct Gate {
    state: Mutex<State>,
    open: AtomicBool,
    waiting: AtomicU32,
    version: AtomicU64,
    edge: Box<dyn Edge>,
    itself: Weak<Self>,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("waiting", &self.waiting).field("version", &self.version).finish_non_exhaustive()
    }
}

struct State {
    admission: Admission<oneshot::Sender<Answer>>,
    limits: Arc<Limits>,
    /// By seat index.
    seats: Vec<Option<Seat>>,
    /// The version of the endpoint list that was applied last.
    endpoints_version: u64,
    drain: BTreeSet<EndpointId>,
    warmth: Warmth,
    failure: Option<StartFailure>,
}

struct Seat {
    id: SeatId,
    endpoint: Arc<Endpoint>,
    ready: bool,
    suspect: bool,
}

/// What a change touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Changed {
    /// Room only.
    Room,
    /// What [`Gate::snapshot`] shows.
    Snapshot,
}

/// A panic while the lock is held ends the process. One that began before does not: a request that panicked gives its
/// slot back while it unwinds.
struct AbortOnPanic {
    unwinding: bool,
}

impl AbortOnPanic {
    fn new() -> Self {
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
    /// Closed: no replica is known.
    #[must_use]
    pub fn new(limits: Arc<Limits>, seed: u64, edge: Box<dyn Edge>) -> Arc<Self> {
        let admission =
            Admission::new(*limits.container_concurrency, *limits.queue_depth, *limits.load_balancing, seed);
        Arc::new_cyclic(|itself| Self {
            state: Mutex::new(State {
                admission,
                limits,
                seats: Vec::new(),
                endpoints_version: 0,
                drain: BTreeSet::new(),
                warmth: Warmth::Asleep,
                failure: None,
            }),
            open: AtomicBool::new(false),
            waiting: AtomicU32::new(0),
            version: AtomicU64::new(0),
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
    pub fn enter(&self, now: Timestamp) -> Entry {
        self.ask(now, |state, sender| state.admission.admit(Ask::default(), sender))
    }

    /// A request that its replica did not take comes back to the head of the queue.
    pub fn reenter(&self, now: Timestamp) -> Entry {
        self.ask(now, |state, sender| state.admission.readmit(Ask::default(), sender))
    }

    fn ask(
        &self,
        now: Timestamp,
        admit: impl FnOnce(&mut State, &mut dyn FnMut() -> oneshot::Sender<Answer>) -> Verdict,
    ) -> Entry {
        let Some(gate) = self.itself.upgrade() else { return Entry::Full(0) };
        let mut answer = None;
        let mut first = false;
        let entry = {
            let _abort = AbortOnPanic::new();
            let mut state = self.state.lock();
            if let Some(failure) = &state.failure
                && state.admission.open_seats() == 0
            {
                if now < failure.retry_at {
                    return Entry::StartFailed(failure.clone());
                }
                state.failure = None;
            }
            let waited_before = state.admission.anyone_waiting();
            let mut sender = || {
                let (sender, receiver) = oneshot::channel();
                answer = Some(receiver);
                sender
            };
            let verdict = admit(&mut state, &mut sender);
            match (verdict, answer) {
                (Verdict::Go(slot), _) => Entry::Go(HeldSlot { gate, slot: Some(slot) }),
                (Verdict::Wait(ticket), Some(answer)) => {
                    first = !waited_before;
                    if state.warmth == Warmth::Asleep {
                        state.warmth = Warmth::Waking { since: now };
                    }
                    self.publish(&state);
                    Entry::Wait(Waiting { gate, ticket, answer })
                }
                (Verdict::Wait(_), None) | (Verdict::Full, _) => Entry::Full(*state.limits.queue_depth),
            }
        };
        if first {
            self.edge.first_waiting();
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

    /// When a request that arrived at `arrived` has waited long enough, as things stand now.
    #[must_use]
    pub fn patience(&self, arrived: Timestamp) -> Timestamp {
        let state = self.state.lock();
        patience::due(state.warmth, arrived, *state.limits.queue_timeout, *state.limits.start_deadline)
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
                let known = state.seats.iter_mut().flatten().find(|seat| seat.endpoint.id == endpoint.id);
                if let Some(seat) = known {
                    seat.ready = ready;
                } else if ready || endpoint.early_probe.is_some() {
                    let id = state.admission.add_seat();
                    let index = id.index as usize;
                    if state.seats.len() <= index {
                        state.seats.resize_with(index + 1, || None);
                    }
                    let endpoint = Arc::new(Endpoint::new(endpoint.id.clone(), endpoint.address));
                    state.seats[index] = Some(Seat { id, endpoint, ready, suspect: false });
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

    /// A replica refused a connection, or answered again. Suspects get nothing new while others can be asked.
    pub fn set_suspect(&self, now: Timestamp, endpoint: &EndpointId, suspect: bool) {
        self.change(|state| {
            for seat in state.seats.iter_mut().flatten() {
                if seat.endpoint.id == *endpoint {
                    seat.suspect = suspect;
                }
            }
            state.reseat(now);
            Changed::Snapshot
        });
    }

    /// The start failed: everybody who waits is refused, and so are newcomers until `retry_at`.
    pub fn fail_start(&self, failure: &StartFailure) {
        let refused: Vec<_> = {
            let _abort = AbortOnPanic::new();
            let mut state = self.state.lock();
            if state.admission.open_seats() > 0 {
                return;
            }
            state.failure = Some(failure.clone());
            state.warmth = Warmth::Asleep;
            let waiters = std::iter::from_fn(|| state.admission.refuse_next()).collect();
            self.publish(&state);
            waiters
        };
        for waiter in refused {
            let _ = waiter.send(Err(failure.clone()));
        }
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
        loop {
            let more = {
                let _abort = AbortOnPanic::new();
                let mut state = self.state.lock();
                if let Some(change) = change.take()
                    && change(&mut state) == Changed::Snapshot
                {
                    self.version.fetch_add(1, Ordering::AcqRel);
                }
                let count = state.admission.grant(GRANTS_PER_TURN, &mut grants);
                self.publish(&state);
                count == GRANTS_PER_TURN
            };
            for (waiter, slot) in grants.drain(..) {
                let Some(gate) = self.itself.upgrade() else { return };
                // Nobody takes it: the slot comes back through its drop.
                let _ = waiter.send(Ok(HeldSlot { gate, slot: Some(slot) }));
            }
            if !more {
                return;
            }
        }
    }

    /// What readers without the lock see.
    fn publish(&self, state: &State) {
        let waiting = u32::try_from(state.admission.waiting()).unwrap_or(u32::MAX);
        let open = waiting == 0 && state.admission.open_seats() > 0 && state.admission.limit().is_none();
        self.waiting.store(waiting, Ordering::Release);
        self.open.store(open, Ordering::Release);
    }
}

impl State {
    /// Suspects count only while somebody else can be asked.
    fn usable(&self, seat: &Seat) -> bool {
        let wanted = |seat: &Seat| seat.ready && !self.drain.contains(&seat.endpoint.id);
        wanted(seat) && (!seat.suspect || !self.seats.iter().flatten().any(|other| wanted(other) && !other.suspect))
    }

    /// Opens and closes seats as the facts are now.
    fn reseat(&mut self, now: Timestamp) {
        let open: Vec<_> = self.seats.iter().flatten().map(|seat| (seat.id, self.usable(seat))).collect();
        for (id, open) in open {
            self.admission.set_open(id, open);
        }
        for seat in self.seats.iter().flatten() {
            seat.endpoint.leaving.store(self.drain.contains(&seat.endpoint.id), Ordering::Release);
        }
        let warm = self.admission.open_seats() > 0;
        self.warmth = match (warm, self.warmth) {
            (true, Warmth::Warm { since }) => Warmth::Warm { since },
            (true, Warmth::Asleep | Warmth::Waking { .. }) => Warmth::Warm { since: now },
            (false, Warmth::Waking { since }) => Warmth::Waking { since },
            (false, Warmth::Warm { .. } | Warmth::Asleep) if self.admission.anyone_waiting() => {
                Warmth::Waking { since: now }
            }
            (false, Warmth::Warm { .. } | Warmth::Asleep) => Warmth::Asleep,
        };
        if warm {
            self.failure = None;
        }
    }
}
