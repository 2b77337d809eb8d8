//! What one worker keeps for one revision: counters that only it writes, and its own view of the replicas.
//!
//! Invariant: on the uncontended path nothing here is written by two workers; the reporter only reads.

mod counters;
pub mod watchdog;

pub use counters::{Counters, LATENCY_BUCKETS_MS};

use crate::bounds::Bounds;
use crate::gate::HeldSlot;
use crate::reach::{Broken, Reach};
use crate::revisions::Handle;
use crate::sharing::lent::Lent;
use crate::upstream::pool::Pool;
use activator_core::affinity::preferred;
use activator_core::{Chooser, SeatKey, Session};
use crossbeam_utils::CachePadded;
use domain::{Limits, Timestamp};
use parking_lot::Mutex;
use runtime::net::Socket;
use std::future::Future;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use watchdog::{Sight, What};

/// What every part of a worker may need: its clock and its tasks.
#[derive(Debug)]
pub struct Base {
    /// The process's clock.
    pub clock: runtime::Clock,
    /// This worker's tasks. Draining waits for them.
    pub tasks: runtime::Tasks,
    /// What the process may hold in all.
    pub bounds: Arc<Bounds>,
    /// Shared connections to replicas, which outlive every request: draining does not wait for them.
    pub lines: runtime::Tasks,
}

impl Base {
    /// Spawns hyper's own tasks among this worker's.
    #[must_use]
    pub fn executor(&self) -> Executor {
        Executor(self.tasks.clone())
    }

    /// Spawns hyper's own tasks among the connections to replicas.
    #[must_use]
    pub fn line_executor(&self) -> Executor {
        Executor(self.lines.clone())
    }
}

/// Runs hyper's tasks (HTTP/2 streams) among a worker's own.
#[derive(Debug, Clone)]
pub struct Executor(runtime::Tasks);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Executor {
    fn execute(&self, work: F) {
        self.0.spawn("http/2 stream", work);
    }
}

/// A replica as every worker sees it.
#[derive(Debug)]
pub struct Endpoint {
    /// Its name.
    pub id: domain::EndpointId,
    /// Where it listens.
    pub address: SocketAddr,
    /// By this sessions know it.
    pub key: SeatKey,
    /// It has answered a request: from then on it is warm (kpa-behaviour 4.4).
    pub answered: AtomicBool,
    /// It gets no new connections and its idle ones are closed.
    pub leaving: AtomicBool,
    /// Whether connects come through.
    pub reach: Reach,
    /// Whether it answers on them.
    pub broken: Broken,
    shares: Mutex<Vec<Weak<dyn Share>>>,
}

/// One worker's share of a replica, as the other workers see it.
trait Share: std::fmt::Debug + Send + Sync {
    fn load(&self) -> u32;
    fn idle(&self) -> usize;
    /// Closes at most `count` idle connections; gives how many it closed.
    fn close_idle(&self, count: usize) -> usize;
}

impl Endpoint {
    /// A replica nobody has sent anything to.
    #[must_use]
    pub fn new(id: domain::EndpointId, address: SocketAddr) -> Self {
        Self {
            key: SeatKey::of(&id),
            id,
            address,
            answered: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            reach: Reach::default(),
            broken: Broken::default(),
            shares: Mutex::default(),
        }
    }

    /// Requests in flight to it, over all workers.
    #[must_use]
    pub fn load(&self) -> u32 {
        self.shares().iter().map(|share| share.load()).sum()
    }

    /// Closes idle connections of any worker until one more makes at most `limit`, with those in use: a server that serves
    /// one connection at a time would wait on our idle one while we wait for it. The request that needs the new connection
    /// counts as load already.
    pub fn make_room(&self, limit: NonZeroU32) {
        let shares = self.shares();
        let in_use = usize::try_from(shares.iter().map(|share| share.load()).sum::<u32>()).unwrap_or(usize::MAX);
        let idle: usize = shares.iter().map(|share| share.idle()).sum();
        let limit = usize::try_from(limit.get()).unwrap_or(usize::MAX);
        let mut excess = in_use.saturating_add(idle).saturating_sub(limit);
        for share in shares {
            excess -= share.close_idle(excess);
        }
    }

    fn shares(&self) -> Vec<Arc<dyn Share>> {
        self.shares.lock().iter().filter_map(Weak::upgrade).collect()
    }

    fn register(&self, share: Weak<dyn Share>) {
        let mut shares = self.shares.lock();
        shares.retain(|share| share.strong_count() > 0);
        shares.push(share);
    }
}

/// One worker's share of one replica: its load and its idle connections.
#[derive(Debug)]
pub struct EndpointLocal<S: Socket> {
    base: Arc<Base>,
    /// The worker's, for the revision.
    pub counters: Arc<CachePadded<Counters>>,
    /// The replica.
    pub endpoint: Arc<Endpoint>,
    /// Requests this worker has in flight to it.
    pub load: CachePadded<AtomicU32>,
    /// This worker's connections to it.
    pub pool: Pool<S>,
}

impl<S: Socket> EndpointLocal<S> {
    fn new(base: Arc<Base>, counters: Arc<CachePadded<Counters>>, endpoint: Arc<Endpoint>) -> Arc<Self> {
        let (load, pool) = (CachePadded::default(), Pool::default());
        let local = Arc::new(Self { base, counters, endpoint, load, pool });
        let share: Weak<Self> = Arc::downgrade(&local);
        local.endpoint.register(share);
        local
    }
}

impl<S: Socket> Share for EndpointLocal<S> {
    fn load(&self) -> u32 {
        self.load.load(Relaxed)
    }

    fn idle(&self) -> usize {
        self.pool.idle()
    }

    fn close_idle(&self, count: usize) -> usize {
        self.pool.close(count)
    }
}

/// What one worker keeps for one revision.
#[derive(Debug)]
pub struct Local<S: Socket> {
    /// The worker's clock and tasks.
    pub base: Arc<Base>,
    /// What all workers share.
    pub handle: Arc<Handle>,
    /// Read by the reporter.
    pub counters: Arc<CachePadded<Counters>>,
    view: Mutex<View<S>>,
}

#[derive(Debug)]
struct View<S: Socket> {
    version: u64,
    /// A copy of the worker's own: every request counts a reference to it, and one count for all workers would go to and fro
    /// between their cores.
    limits: Arc<Limits>,
    /// By seat index.
    seats: Vec<Option<Arc<EndpointLocal<S>>>>,
    /// Other activators that this worker has sent requests to.
    neighbours: Vec<Arc<EndpointLocal<S>>>,
    /// Both, gone, while they still carry something.
    departed: Vec<Arc<EndpointLocal<S>>>,
    chooser: Chooser,
    sights: [Sight; What::COUNT],
}

type Seat<'a, S> = &'a Arc<EndpointLocal<S>>;

impl<S: Socket> View<S> {
    /// Wherever a request of this worker can be.
    fn everywhere(&self) -> impl Iterator<Item = Seat<'_, S>> {
        self.seats.iter().flatten().chain(&self.neighbours).chain(&self.departed)
    }
}

fn is_busy<S: Socket>(seat: &Arc<EndpointLocal<S>>) -> bool {
    seat.load.load(Relaxed) > 0
}

impl<S: Socket> Local<S> {
    /// One worker's part of `handle`; `seed` makes its choices differ from the other workers'.
    #[must_use]
    pub fn new(base: Arc<Base>, handle: Arc<Handle>, seed: u64) -> Arc<Self> {
        let counters = Arc::<CachePadded<Counters>>::default();
        handle.register(Arc::clone(&counters));
        let limits = handle.gate.limits();
        let chooser = Chooser::new(*limits.load_balancing, seed);
        let view = View {
            version: u64::MAX,
            limits: Arc::new(Limits::clone(&limits)),
            seats: Vec::new(),
            neighbours: Vec::new(),
            departed: Vec::new(),
            chooser,
            sights: Default::default(),
        };
        Arc::new(Self { base, handle, counters, view: Mutex::new(view) })
    }

    /// The settings in force.
    pub fn limits(&self) -> Arc<Limits> {
        Arc::clone(&self.fresh().limits)
    }

    /// The replica in seat `index`, if it is still there.
    pub fn seat(&self, index: u32) -> Option<Arc<EndpointLocal<S>>> {
        self.fresh().seats.get(index as usize).cloned().flatten()
    }

    /// Where `slot` lets a request go, if it is still there.
    pub fn permit(&self, slot: HeldSlot) -> Option<Permit<S>> {
        let seat = match slot.lent() {
            Some(lent) => self.neighbour(&lent.endpoint),
            None => self.seat(slot.seat_index())?,
        };
        Some(Permit::new(seat, Some(slot)))
    }

    fn neighbour(&self, endpoint: &Arc<Endpoint>) -> Arc<EndpointLocal<S>> {
        let neighbours = &mut self.view.lock().neighbours;
        if let Some(known) = neighbours.iter().find(|local| Arc::ptr_eq(&local.endpoint, endpoint)) {
            return Arc::clone(known);
        }
        let new = self.beginning(Arc::clone(endpoint));
        neighbours.push(Arc::clone(&new));
        new
    }

    /// The replica of `session` unless too many crowd it, else the one that balancing chooses; by this worker's own counts,
    /// with nothing shared written.
    pub fn choose(&self, session: Option<Session>) -> Option<Arc<EndpointLocal<S>>> {
        let mut view = self.fresh();
        let View { seats, chooser, .. } = &mut *view;
        let open = |i: usize| {
            let seat = seats[i].as_ref()?;
            (!seat.endpoint.leaving.load(Relaxed)).then(|| (seat.endpoint.key, seat.load.load(Relaxed)))
        };
        let home = session.and_then(|session| preferred(session, seats.len(), open));
        let index = match home {
            Some(home) if !home.is_crowded => home.index,
            Some(_) | None => chooser.choose(seats.len(), |i| open(i).map(|(_, load)| load))?,
        };
        if home.is_some_and(|home| home.index != index) {
            self.counters.strayed.fetch_add(1, Relaxed);
        }
        seats[index].clone()
    }

    fn beginning(&self, endpoint: Arc<Endpoint>) -> Arc<EndpointLocal<S>> {
        EndpointLocal::new(Arc::clone(&self.base), Arc::clone(&self.counters), endpoint)
    }

    /// The view, brought up to date when the gate has changed.
    fn fresh(&self) -> parking_lot::MutexGuard<'_, View<S>> {
        let mut view = self.view.lock();
        if view.version != self.handle.gate.version() {
            let (version, limits, endpoints) = self.handle.gate.snapshot();
            let mut old = std::mem::take(&mut view.seats);
            view.seats = endpoints
                .into_iter()
                .map(|endpoint| {
                    let endpoint = endpoint?;
                    let known = old
                        .iter_mut()
                        .find(|seat| seat.as_ref().is_some_and(|local| Arc::ptr_eq(&local.endpoint, &endpoint)));
                    let new = || self.beginning(endpoint);
                    Some(known.and_then(Option::take).unwrap_or_else(new))
                })
                .collect();
            view.departed.extend(old.into_iter().flatten().filter(is_busy));
            view.chooser.set_policy(*limits.load_balancing);
            view.limits = Arc::new(Limits::clone(&limits));
            view.version = version;
        }
        view
    }

    /// Closes connections that have been idle for too long, and lets time pass at the gate.
    pub fn tidy(&self, now: Timestamp) {
        self.handle.gate.look(now);
        let mut view = self.fresh();
        let idle_timeout = *view.limits.upstream_idle_timeout;
        for seat in view.seats.iter().flatten().chain(&view.neighbours) {
            let leaving = seat.endpoint.leaving.load(Relaxed);
            seat.pool.tidy(now, idle_timeout, leaving);
            seat.pool.h2.tidy(leaving);
        }
        let gone =
            view.neighbours.extract_if(.., |neighbour| neighbour.endpoint.leaving.load(Relaxed)).collect::<Vec<_>>();
        view.departed.extend(gone);
        view.departed.retain(is_busy);
    }
}

/// A request in flight at one replica: its load, and its slot where one was needed.
#[derive(Debug)]
pub struct Permit<S: Socket> {
    /// Where it goes.
    pub seat: Arc<EndpointLocal<S>>,
    slot: Option<HeldSlot>,
}

impl<S: Socket> Permit<S> {
    /// Counts the request at `seat`, with the slot it holds if the gate gave one.
    pub fn new(seat: Arc<EndpointLocal<S>>, slot: Option<HeldSlot>) -> Self {
        seat.load.fetch_add(1, Relaxed);
        Self { seat, slot }
    }

    /// The worker's clock and tasks.
    #[must_use]
    pub fn base(&self) -> &Base {
        &self.seat.base
    }

    /// Whether the replica's concurrency is limited, so that the slot must not fall before the replica is done.
    pub const fn is_limited(&self) -> bool {
        self.slot.is_some()
    }

    /// What another activator lends, where the request goes to one.
    #[must_use]
    pub fn lent(&self) -> Option<&Lent> {
        self.slot.as_ref().and_then(HeldSlot::lent)
    }

    /// The replica has begun its answer.
    pub fn answered(&mut self) {
        if !self.seat.endpoint.answered.load(Relaxed) {
            self.seat.endpoint.answered.store(true, Relaxed);
        }
        self.seat.endpoint.broken.answered();
        if let Some(slot) = &mut self.slot {
            slot.answered();
        }
    }
}

impl<S: Socket> Drop for Permit<S> {
    fn drop(&mut self) {
        self.seat.load.fetch_sub(1, Relaxed);
    }
}
