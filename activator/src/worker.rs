//! One worker: the state that its connections share, on one thread.
//!
//! Invariant: handed to a connection as `Arc<Worker>` at accept; no thread-local and no global, so that the same code runs
//! on one thread each, on a multi-thread runtime, in tests and in simulation.

use crate::bounds::Bounds;
use crate::error::RequestError;
use crate::guesses::Guesses;
use crate::local::{Base, Endpoint, Local};
use crate::revisions::{Handle, Revisions};
use crate::settings::Live;
use domain::host::{is_below, is_well_formed};
use domain::{Mode, RevisionId, Timestamp};
use http::Uri;
use parking_lot::Mutex;
use runtime::net::Connect;
use runtime::{Clock, Tasks, WakeLog};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Hosts one worker remembers; beyond, it forgets all and learns again.
pub const ROUTES_MAX: usize = 16_384;
/// Prefixes of a host that an answer names.
const PREFIXES_TOLD_MAX: usize = 3;
/// How often a worker tidies up: idle connections, and a timer that keeps any other from being the nearest.
pub const HOUSEKEEPING: Duration = Duration::from_millis(250);

/// What all workers of an activator share.
#[derive(Debug, Clone)]
pub struct Shared {
    /// All revisions.
    pub revisions: Arc<Revisions>,
    /// What holds for the whole activator.
    pub settings: Arc<Live>,
    /// Stamps of cold starts.
    pub wakes: Arc<WakeLog>,
    /// Replicas that could not be reached, for the prober.
    pub suspects: mpsc::Sender<Suspect>,
    /// The process's clock.
    pub clock: Clock,
}

/// A replica that could not be reached.
#[derive(Debug)]
pub struct Suspect {
    /// Whose.
    pub handle: Arc<Handle>,
    /// Which.
    pub endpoint: Arc<Endpoint>,
}

impl Suspect {
    /// Nobody can look after it, and so nobody would clear it: it is used like any other, until it fails again.
    pub fn leave_unwatched(self, bounds: &Bounds, now: Timestamp) {
        self.handle.gate.set_suspect(now, &self.endpoint.id, false);
        bounds.leave_unwatched();
    }
}

/// What the connections of one worker share.
#[derive(Debug)]
pub struct Worker<C: Connect> {
    /// Its clock and tasks.
    pub base: Arc<Base>,
    /// How replicas are reached.
    pub connector: C,
    /// All revisions.
    pub revisions: Arc<Revisions>,
    /// What holds for the whole activator.
    pub settings: Arc<Live>,
    /// Stamps of cold starts.
    pub wakes: Arc<WakeLog>,
    /// Requests refused before a revision was known.
    pub unrouted: AtomicU64,
    /// Connections open now.
    pub connections: AtomicU32,
    suspects: mpsc::Sender<Suspect>,
    routes: Mutex<Routes<C::Stream>>,
    draining: Moment,
    closing: Moment,
    seed: u64,
}

/// Something that happens once and is asked for often: a flag beside its token, because a look at a token takes a lock.
#[derive(Debug, Default)]
struct Moment {
    has_come: AtomicBool,
    told: CancellationToken,
}

impl Moment {
    fn come(&self) {
        self.has_come.store(true, Ordering::Release);
        self.told.cancel();
    }

    #[inline]
    fn has_come(&self) -> bool {
        self.has_come.load(Ordering::Acquire)
    }
}

#[derive(Debug)]
struct Routes<S: runtime::net::Socket> {
    epoch: u64,
    /// Asked for every request. Only names that were found are kept, so nobody can fill it with collisions.
    by_host: HashMap<Box<[u8]>, Site<S>, foldhash::fast::RandomState>,
    by_id: HashMap<RevisionId, Arc<Local<S>>>,
    guesses: Guesses,
}

impl<S: runtime::net::Socket> Default for Routes<S> {
    fn default() -> Self {
        Self { epoch: 0, by_host: HashMap::default(), by_id: HashMap::new(), guesses: Guesses::default() }
    }
}

/// What one host means.
#[derive(Debug)]
enum Site<S: runtime::net::Socket> {
    /// One revision, whatever the path: nobody pays for prefixes that nobody has.
    Whole(Arc<Local<S>>),
    /// The first whose prefix fits.
    Divided(Box<[Way<S>]>),
}

/// A path prefix and who has it.
type Way<S> = (Box<str>, Arc<Local<S>>);

/// A host as text. Whoever finds a revision by it need not ask.
///
/// # Errors
/// It is none (RFC 9112 section 3.2).
pub fn well_formed(host: &[u8]) -> Result<&str, RequestError> {
    let text = std::str::from_utf8(host).ok().filter(|text| is_well_formed(text));
    text.ok_or(RequestError::BadRequest("the Host field is no host name or address"))
}

/// The first whose prefix fits.
fn below<S: runtime::net::Socket>(ways: &[Way<S>], host: &[u8], target: &Uri) -> Result<Arc<Local<S>>, RequestError> {
    let path = target.path();
    ways.iter().find(|(prefix, _)| is_below(path, prefix)).map(|(_, local)| Arc::clone(local)).ok_or_else(|| {
        let prefixes = ways.iter().take(PREFIXES_TOLD_MAX).map(|(prefix, _)| prefix.to_string()).collect();
        RequestError::UnknownPath { host: shortened(&String::from_utf8_lossy(host)), prefixes }
    })
}

/// What a client wrote, as far as an answer repeats it.
fn shortened(text: &str) -> Box<str> {
    text.chars().take(255).collect()
}

impl<C: Connect> Worker<C> {
    /// A worker without connections. `seed` makes its choices differ from its neighbours'.
    #[must_use]
    pub fn new(connector: C, shared: &Shared, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            base: Arc::new(Base {
                clock: shared.clock,
                tasks: Tasks::new(),
                bounds: Arc::clone(shared.revisions.bounds()),
                lines: Tasks::new(),
            }),
            connector,
            revisions: Arc::clone(&shared.revisions),
            settings: Arc::clone(&shared.settings),
            wakes: Arc::clone(&shared.wakes),
            suspects: shared.suspects.clone(),
            unrouted: AtomicU64::new(0),
            connections: AtomicU32::new(0),
            routes: Mutex::default(),
            draining: Moment::default(),
            closing: Moment::default(),
            seed,
        })
    }

    /// The revision that `host` and the path of `target` mean, as this worker keeps it: one hash when the host was asked for
    /// before. Only hosts that are divided by path have their path looked at.
    ///
    /// # Errors
    /// Unknown, not known yet, or no name at all.
    pub fn route(&self, host: &[u8], target: &Uri) -> Result<Arc<Local<C::Stream>>, RequestError> {
        let epoch = self.revisions.epoch();
        let mut routes = self.routes.lock();
        if routes.epoch != epoch || routes.by_host.len() > ROUTES_MAX {
            routes.forget(&self.revisions, epoch);
        }
        match routes.by_host.get(host) {
            Some(Site::Whole(local)) => return Ok(Arc::clone(local)),
            Some(Site::Divided(ways)) => return below(ways, host, target),
            None => {}
        }
        let name = well_formed(host)?;
        let found = self.revisions.find(name);
        if found.is_empty() {
            if !self.revisions.is_synced() {
                return Err(RequestError::NotSynced);
            }
            let now = self.base.clock.now();
            let similar = routes.guesses.like(name, now, || self.revisions.similar(name));
            return Err(RequestError::UnknownHost { host: shortened(name), similar });
        }
        let mut ways: Vec<Way<C::Stream>> = Vec::with_capacity(found.len());
        for (prefix, handle) in found {
            ways.push((prefix, self.local(&mut routes, handle)));
        }
        if let [(prefix, local)] = &ways[..]
            && prefix.is_empty()
        {
            let local = Arc::clone(local);
            routes.by_host.insert(host.into(), Site::Whole(Arc::clone(&local)));
            return Ok(local);
        }
        let answer = below(&ways, host, target);
        routes.by_host.insert(host.into(), Site::Divided(ways.into()));
        answer
    }

    /// The revision called `id`, as this worker keeps it.
    ///
    /// # Errors
    /// Unknown, or not known yet.
    pub fn named(&self, id: &RevisionId) -> Result<Arc<Local<C::Stream>>, RequestError> {
        let known = self.revisions.get(id).filter(|handle| handle.revision().mode != Mode::Removed);
        let handle = known.ok_or_else(|| {
            if self.revisions.is_synced() {
                RequestError::UnknownRevision(shortened(id.as_str()))
            } else {
                RequestError::NotSynced
            }
        })?;
        let epoch = self.revisions.epoch();
        let mut routes = self.routes.lock();
        if routes.epoch != epoch {
            routes.forget(&self.revisions, epoch);
        }
        Ok(self.local(&mut routes, handle))
    }

    fn local(&self, routes: &mut Routes<C::Stream>, handle: Arc<Handle>) -> Arc<Local<C::Stream>> {
        let local = routes
            .by_id
            .entry(handle.id.clone())
            .or_insert_with(|| Local::new(Arc::clone(&self.base), handle, self.seed));
        Arc::clone(local)
    }

    /// A connection to a replica, or nothing within `limit`.
    pub async fn connect(&self, to: SocketAddr, limit: Duration) -> Option<C::Stream> {
        tokio::time::timeout(limit, self.connector.connect(to)).await.ok()?.ok()
    }

    /// A replica could not be reached: others are preferred until it can be.
    pub fn suspect(&self, handle: &Arc<Handle>, endpoint: &Arc<Endpoint>) {
        endpoint.reach.failed(self.base.clock.now());
        self.pass_over(handle, endpoint);
    }

    /// A replica broke a fresh connection instead of answering: after the third in a row others are preferred.
    pub fn broke(&self, handle: &Arc<Handle>, endpoint: &Arc<Endpoint>) {
        if endpoint.broken.note() {
            self.pass_over(handle, endpoint);
        }
    }

    fn pass_over(&self, handle: &Arc<Handle>, endpoint: &Arc<Endpoint>) {
        handle.gate.set_suspect(self.base.clock.now(), &endpoint.id, true);
        if let Err(mpsc::error::TrySendError::Full(suspect)) =
            self.suspects.try_send(Suspect { handle: Arc::clone(handle), endpoint: Arc::clone(endpoint) })
        {
            // Nobody would ever clear it.
            suspect.leave_unwatched(&self.base.bounds, self.base.clock.now());
        }
    }

    /// Every answer tells its client that its connection ends with it; HTTP/2 connections take no new streams.
    pub fn start_draining(&self) {
        self.draining.come();
    }

    /// Whether connections should end.
    #[inline]
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.has_come()
    }

    /// Cancelled when draining begins.
    #[must_use]
    pub const fn drain(&self) -> &CancellationToken {
        &self.draining.told
    }

    /// Ends every connection that is idle. Not as soon as draining begins: the next request may be on its way, and over
    /// HTTP/1.1 only an answer can tell its client in time.
    pub fn start_closing(&self) {
        self.closing.come();
    }

    /// Whether idle connections end.
    #[inline]
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.closing.has_come()
    }

    /// Cancelled when idle connections end.
    #[must_use]
    pub const fn close(&self) -> &CancellationToken {
        &self.closing.told
    }

    /// Closes idle connections to replicas, and gives back slots that nobody has come for.
    pub fn tidy(&self) {
        let now = self.base.clock.now();
        self.revisions.shares().claims.expire(now);
        let locals: Vec<_> = self.routes.lock().by_id.values().cloned().collect();
        for local in locals {
            local.tidy(now);
        }
    }
}

impl<C: Connect> Worker<C> {
    /// Compares counts with what is there; tells what differs for longer than a moment.
    pub fn watch(&self) {
        let locals: Vec<_> = self.routes.lock().by_id.values().cloned().collect();
        for local in locals {
            local.watch();
            local.handle.gate.watch(self.base.clock.now(), &local.handle.id);
        }
    }
}

impl<S: runtime::net::Socket> Routes<S> {
    /// Forgets the hosts, and the revisions that are gone.
    fn forget(&mut self, revisions: &Revisions, epoch: u64) {
        self.by_host.clear();
        self.guesses.forget();
        self.by_id.retain(|id, local| revisions.get(id).is_some_and(|handle| Arc::ptr_eq(&handle, &local.handle)));
        self.epoch = epoch;
    }
}
