//! The table of revisions: host to handle, for every worker.
//!
//! Invariants: a lookup never holds a guard of the table over an await; workers keep a cache of their own and drop it
//! when [`Revisions::epoch`] has changed; a host is "unknown" only once the table has been filled.

use crate::bounds::Bounds;
use crate::error::RequestError;
use crate::gate::{Edge, Gate, StartFailure};
use crate::local::Counters;
use crate::sharing::Shares;
use crate::tls::backend::{Backend, Roots};
use arc_swap::ArcSwap;
use crossbeam_utils::CachePadded;
use dashmap::DashMap;
use domain::host::RouteTable;
use domain::{Limits, Revision, RevisionId, Timestamp};
use parking_lot::Mutex;
use runtime::WakeLog;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// Why requests that wait for a removed revision are refused.
pub const REMOVED: &str = "the service was removed";
/// A seed is the time of a start: so many claims later the numbers meet those of a life that began a millisecond later.
const CLAIM_BITS: u32 = 20;
/// How long the door of a removed revision refuses at once. Requests that were routed before are gone by then.
const REMOVED_FOR: Duration = Duration::from_secs(60);

/// A path prefix of a host, and whose it is.
pub type Way = (Box<str>, Arc<Handle>);

/// Who has something to tell at once: each revision at most once, however often it is raised.
#[derive(Debug, Default)]
pub struct Urgent {
    raised: Mutex<Vec<RevisionId>>,
    notify: Notify,
}

impl Urgent {
    fn raise(&self, id: &RevisionId) {
        self.raised.lock().push(id.clone());
        self.notify.notify_one();
    }

    /// Waits until somebody was raised.
    pub async fn wait(&self) {
        self.notify.notified().await;
    }

    /// Takes everybody who was raised.
    pub fn take(&self) -> Vec<RevisionId> {
        std::mem::take(&mut *self.raised.lock())
    }
}

/// A revision's flag in [`Urgent`].
#[derive(Debug)]
struct Flag {
    id: RevisionId,
    up: AtomicBool,
    urgent: Arc<Urgent>,
    waits: AtomicBool,
    waiting: Arc<Urgent>,
    wakes: Arc<WakeLog>,
}

impl Flag {
    fn raise(&self) {
        if !self.up.swap(true, Ordering::AcqRel) {
            self.urgent.raise(&self.id);
        }
    }
}

impl Edge for Arc<Flag> {
    fn waits(&self, now: Timestamp, is_cold: bool, first: bool) {
        // Before anybody can hear of it: the wake must be open when the scale call is stamped.
        if is_cold {
            self.wakes.first_waiting(&self.id, now);
        }
        if first {
            self.raise();
            self.may_borrow();
        }
    }

    fn may_borrow(&self) {
        if !self.waits.swap(true, Ordering::AcqRel) {
            self.waiting.raise(&self.id);
        }
    }
}

/// What all workers share of one revision.
#[derive(Debug)]
pub struct Handle {
    /// Its name.
    pub id: RevisionId,
    /// Its door.
    pub gate: Arc<Gate>,
    /// How its replicas are reached over TLS.
    pub backend: Backend,
    revision: ArcSwap<Revision>,
    counters: Mutex<Vec<Arc<CachePadded<Counters>>>>,
    flag: Arc<Flag>,
}

impl Handle {
    fn new(revision: Arc<Revision>, revisions: &Revisions) -> Arc<Self> {
        let Revisions { urgent, waiting, wakes, seed, .. } = revisions;
        let flag = Arc::new(Flag {
            id: revision.id.clone(),
            up: AtomicBool::new(false),
            urgent: Arc::clone(urgent),
            waits: AtomicBool::new(false),
            waiting: Arc::clone(waiting),
            wakes: Arc::clone(wakes),
        });
        let gate = Gate::new(Arc::new(revision.limits.clone()), *seed, Box::new(Arc::clone(&flag)));
        Arc::new(Self {
            id: revision.id.clone(),
            gate,
            backend: Backend::new(revision.id.clone(), Arc::clone(&revisions.roots), Arc::clone(&revisions.bounds)),
            revision: ArcSwap::new(revision),
            counters: Mutex::default(),
            flag,
        })
    }

    /// Its settings.
    pub fn revision(&self) -> Arc<Revision> {
        self.revision.load_full()
    }

    /// Adds one worker's counters.
    pub fn register(&self, counters: Arc<CachePadded<Counters>>) {
        self.counters.lock().push(counters);
    }

    /// Every worker's counters.
    pub fn counters(&self) -> Vec<Arc<CachePadded<Counters>>> {
        self.counters.lock().clone()
    }

    /// No replica could be reached in time, with what is known of the reason. `started`: the last one that was tried has
    /// answered before.
    #[must_use]
    pub fn none_reached(&self, started: bool, limits: &Limits) -> RequestError {
        let tls = self.backend.failure().filter(|_| *limits.backend_tls);
        match (started, tls) {
            (true, Some(fault)) => RequestError::BackendTls(fault),
            (true, None) => RequestError::Unreachable,
            (false, Some(fault)) => RequestError::not_started(*limits.start_deadline, Some(fault.of_replica())),
            (false, None) => RequestError::not_started(*limits.start_deadline, self.gate.trouble().as_deref()),
        }
    }

    /// Asks the reporter for an urgent look.
    pub fn raise(&self) {
        self.flag.raise();
    }

    /// The reporter has looked.
    pub fn lower(&self) {
        self.flag.up.store(false, Ordering::Release);
    }

    /// Whoever asks other activators for slots has looked.
    pub fn lower_waiting(&self) {
        self.flag.waits.store(false, Ordering::Release);
    }
}

/// All revisions.
#[derive(Debug)]
pub struct Revisions {
    by_id: DashMap<RevisionId, Arc<Handle>>,
    routes: ArcSwap<RouteTable>,
    epoch: AtomicU64,
    synced: AtomicBool,
    urgent: Arc<Urgent>,
    waiting: Arc<Urgent>,
    shares: Shares,
    wakes: Arc<WakeLog>,
    bounds: Arc<Bounds>,
    roots: Arc<Roots>,
    seed: u64,
}

impl Revisions {
    /// Nothing known. `seed` makes the choices of balancing repeatable; cold starts are noted in `wakes`.
    #[must_use]
    pub fn new(seed: u64, wakes: Arc<WakeLog>) -> Arc<Self> {
        Arc::new(Self {
            by_id: DashMap::new(),
            routes: ArcSwap::from_pointee(RouteTable::default()),
            epoch: AtomicU64::new(0),
            synced: AtomicBool::new(false),
            urgent: Arc::default(),
            waiting: Arc::default(),
            shares: Shares::new(seed << CLAIM_BITS),
            wakes,
            bounds: Arc::default(),
            roots: Arc::default(),
            seed,
        })
    }

    /// What may be held over all revisions.
    #[must_use]
    pub const fn bounds(&self) -> &Arc<Bounds> {
        &self.bounds
    }

    /// The roots of replicas whose revision names none.
    #[must_use]
    pub const fn backend_roots(&self) -> &Arc<Roots> {
        &self.roots
    }

    /// Who has something urgent to report.
    #[must_use]
    pub const fn urgent(&self) -> &Arc<Urgent> {
        &self.urgent
    }

    /// Where requests wait that other activators may have slots for.
    #[must_use]
    pub const fn waiting(&self) -> &Arc<Urgent> {
        &self.waiting
    }

    /// What is shared with other activators.
    #[must_use]
    pub const fn shares(&self) -> &Shares {
        &self.shares
    }

    /// Changes whenever a host may mean something else.
    #[inline]
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Everything the platform knows has been told.
    pub fn set_synced(&self) {
        self.synced.store(true, Ordering::Release);
    }

    /// Whether an unknown host is really unknown.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.synced.load(Ordering::Acquire)
    }

    /// The revision called `id`.
    #[must_use]
    pub fn get(&self, id: &RevisionId) -> Option<Arc<Handle>> {
        self.by_id.get(id).map(|handle| Arc::clone(&handle))
    }

    /// Every revision.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Handle>> {
        self.by_id.iter().map(|handle| Arc::clone(&handle)).collect()
    }

    /// Who may get requests for `host`, by path prefix, in the order in which the prefixes are to be compared.
    #[must_use]
    pub fn find(&self, host: &str) -> Vec<Way> {
        let routes = self.routes.load();
        routes.ways(host).into_iter().filter_map(|(prefix, id)| Some((prefix.into(), self.get(id)?))).collect()
    }

    /// Names that could have been meant by a `host` that nobody has.
    #[must_use]
    pub fn similar(&self, host: &str) -> Vec<String> {
        self.routes.load().similar(host)
    }

    fn handle(&self, revision: &Arc<Revision>) -> Arc<Handle> {
        let handle = Handle::new(Arc::clone(revision), self);
        // Before it has a replica, so that the time does not matter.
        self.shares.apply(Timestamp::ZERO, &handle.id, &handle.gate);
        handle
    }

    /// A revision appeared or has new settings.
    pub fn apply(&self, revision: Arc<Revision>) -> Arc<Handle> {
        let handle = self.by_id.entry(revision.id.clone()).or_insert_with(|| self.handle(&revision));
        let handle = Arc::clone(&handle);
        handle.gate.configure(Arc::new(revision.limits.clone()));
        if !*revision.limits.backend_tls {
            handle.backend.forget();
        }
        handle.revision.store(revision);
        handle
    }

    /// A revision is gone: requests for it are unknown from now on, those that wait are refused.
    pub fn remove(&self, now: Timestamp, id: &RevisionId) -> Option<Arc<Handle>> {
        let (_, handle) = self.by_id.remove(id)?;
        self.epoch.fetch_add(1, Ordering::AcqRel);
        handle.gate.set_endpoints(now, u64::MAX, &[]);
        // Later than any request that is on its way can come back: nobody will ever open this door again.
        let retry_at = now + REMOVED_FOR;
        handle.gate.fail_start(&StartFailure { reason: REMOVED.into(), retry_at });
        Some(handle)
    }

    /// Publishes the hosts of all revisions.
    pub fn set_routes(&self, routes: RouteTable) {
        self.routes.store(Arc::new(routes));
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use activator_core::Ask;

    #[test]
    fn a_wake_is_open_before_anybody_can_hear_of_it() {
        let wakes = Arc::new(WakeLog::new());
        let revisions = Revisions::new(1, Arc::clone(&wakes));
        let revision = platform::fixed::default_revision(RevisionId::new("default", "model"));
        let handle = revisions.apply(Arc::new(revision));
        let (first, later) = (Timestamp::from_secs(1), Timestamp::from_secs(2));
        handle.flag.waits(first, true, false);
        assert!(revisions.urgent().take().is_empty(), "stamped by itself, without being told");
        assert_eq!(wakes.all()[0].first_waiting, first);
        let _waiting = (handle.gate.enter(first, Ask::default()), handle.gate.enter(later, Ask::default()));
        assert_eq!(revisions.urgent().take(), [RevisionId::new("default", "model")]);
        assert_eq!(wakes.all().len(), 1, "who waits after the first belongs to the same wake");
    }
}
