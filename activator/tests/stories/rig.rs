//! An activator between scripted backends and hand-written clients, on loopback sockets.

use crate::wire::{Message, Wire, eventually};
use activator::bounds::{Bounds, Limit};
use activator::error::Outcome;
use activator::local::watchdog::{WATCH_EVERY, What};
use activator::reporter::ReporterSettings;
use activator::revisions::Handle;
use activator::serve::Doors;
use activator::tls::server::Server;
use activator::{Activator, Settings, Setup};
use domain::{
    Change, Endpoint, EndpointId, EndpointState, Limits, Peer, Replicas, ReporterId, Revision, RevisionId, Timestamp,
};
use domain::{ScaleTargetRef, origin::Resolved};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, unfold};
use parking_lot::Mutex;
use platform::trust::{Shown, Token};
use platform::{Leadership, Platform, ScaleError};
use runtime::net::{Connect, Listener, Tcp};
use runtime::{Clock, PhaseSender, Tasks, WakeLog};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};

/// A platform that says what the test says, and nothing else.
struct Script {
    changes: Mutex<Option<mpsc::Receiver<Change>>>,
    leadership: watch::Sender<Leadership>,
}

impl Platform for Script {
    fn watch(&self) -> BoxStream<'static, Change> {
        let changes = self.changes.lock().take().expect("one activator a platform");
        unfold(changes, async |mut changes| changes.recv().await.map(|change| (change, changes))).boxed()
    }

    fn scale<'a>(
        &'a self,
        target: &'a ScaleTargetRef,
        _: Replicas,
        _: Replicas,
        _: &'a [EndpointId],
    ) -> BoxFuture<'a, Result<(), ScaleError>> {
        Box::pin(async move { Err(ScaleError::NotFound(target.clone())) })
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }
}

/// A setting that a test chose.
pub(crate) const fn set<T>(value: T) -> Resolved<T> {
    Resolved::default_value(value)
}

/// Settings that differ from the defaults in a few fields.
pub(crate) fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

/// The usual service.
pub(crate) fn svc() -> RevisionId {
    RevisionId::new("default", "svc")
}

/// The activator under test. Everything ends with the test's runtime.
pub(crate) struct Rig<C: Connect + Clone = Tcp> {
    pub(crate) activator: Activator<C>,
    pub(crate) tasks: Tasks,
    /// One a worker.
    pub(crate) addresses: Vec<SocketAddr>,
    /// One a worker, for programs of ours.
    pub(crate) internal: Vec<SocketAddr>,
    /// One a worker, where there is TLS.
    pub(crate) secure: Vec<SocketAddr>,
    changes: mpsc::Sender<Change>,
    version: AtomicU64,
    looks: AtomicU64,
}

impl Rig {
    /// One worker in front of the usual service, which has these replicas.
    pub(crate) async fn new(limits: Limits, replicas: &[SocketAddr]) -> Self {
        Self::with(Settings::default(), limits, replicas).await
    }

    /// The same with settings of its own.
    pub(crate) async fn with(settings: Settings, limits: Limits, replicas: &[SocketAddr]) -> Self {
        Self::bare(settings, 1, Tcp).await.with_service(limits, replicas).await
    }

    /// The same with TLS, too.
    pub(crate) async fn secured(
        settings: Settings,
        limits: Limits,
        replicas: &[SocketAddr],
        server: Arc<Server>,
    ) -> Self {
        let rig = Self::start(settings, 1, Tcp, |listener| listener, ("a", None), Some(server)).await;
        rig.with_service(limits, replicas).await
    }
}

impl<C: Connect + Clone> Rig<C> {
    /// With the usual service.
    pub(crate) async fn with_service(self, limits: Limits, replicas: &[SocketAddr]) -> Self {
        let rig = self;
        rig.apply(&svc(), limits).await;
        rig.tell(Change::Synced).await;
        rig.replicas(replicas).await;
        eventually("synced", || rig.activator.revisions().is_synced()).await;
        rig
    }

    /// An activator that has been told nothing, with its workers on this test's own thread.
    pub(crate) async fn bare(settings: Settings, workers: usize, connector: C) -> Self {
        Self::behind(settings, workers, connector, |listener| listener).await
    }

    /// The same, with listeners that are not quite what they seem.
    pub(crate) async fn behind<L: Listener>(
        settings: Settings,
        workers: usize,
        connector: C,
        wrap: impl Fn(TcpListener) -> L,
    ) -> Self {
        Self::beside(settings, workers, connector, wrap, ("a", None)).await
    }

    /// The same under a name, beside others that share replicas with it.
    pub(crate) async fn beside<L: Listener>(
        settings: Settings,
        workers: usize,
        connector: C,
        wrap: impl Fn(TcpListener) -> L,
        neighbourhood: (&str, Option<watch::Receiver<Vec<Peer>>>),
    ) -> Self {
        Self::start(settings, workers, connector, wrap, neighbourhood, None).await
    }

    async fn start<L: Listener>(
        settings: Settings,
        workers: usize,
        connector: C,
        wrap: impl Fn(TcpListener) -> L,
        (name, neighbours): (&str, Option<watch::Receiver<Vec<Peer>>>),
        server: Option<Arc<Server>>,
    ) -> Self {
        let (changes, receiver) = mpsc::channel(1024);
        let script =
            Script { changes: Mutex::new(Some(receiver)), leadership: watch::Sender::new(Leadership::Follower) };
        let tasks = Tasks::new();
        let (activator, runs) = Activator::start(
            Setup {
                connector,
                platform: Arc::new(script),
                settings,
                reporter: ReporterSettings {
                    id: ReporterId::new(name),
                    boot: 7,
                    shown: Shown::Fixed(Token::new("secret")),
                },
                clock: Clock::start(),
                wakes: Arc::new(WakeLog::new()),
                phase: PhaseSender::new(),
                seed: 1,
                neighbours,
            },
            workers,
            &tasks,
        );
        let (mut addresses, mut internal, mut secure) = (Vec::new(), Vec::new(), Vec::new());
        for run in runs {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            addresses.push(listener.local_addr().unwrap());
            let inner = TcpListener::bind("127.0.0.1:0").await.unwrap();
            internal.push(inner.local_addr().unwrap());
            let mut doors = Doors { public: wrap(listener), internal: Some(wrap(inner)), secure: None };
            if let Some(server) = &server {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                secure.push(listener.local_addr().unwrap());
                doors.secure = Some((wrap(listener), Arc::clone(server)));
            }
            tasks.spawn("worker", run.serve_all(doors));
        }
        Self {
            activator,
            tasks,
            addresses,
            internal,
            secure,
            changes,
            version: AtomicU64::new(0),
            looks: AtomicU64::new(0),
        }
    }

    pub(crate) async fn tell(&self, change: Change) {
        self.changes.send(change).await.unwrap();
    }

    /// Declares a revision, or changes its settings.
    pub(crate) async fn apply(&self, id: &RevisionId, limits: Limits) {
        let revision = Revision { limits, ..platform::fixed::default_revision(id.clone()) };
        self.tell(Change::Applied(Arc::new(revision))).await;
        eventually("the revision is known", || self.activator.revisions().get(id).is_some()).await;
    }

    /// The ready replicas of the usual service, all of them, named by their addresses.
    pub(crate) async fn replicas(&self, addresses: &[SocketAddr]) {
        let version = self.version.fetch_add(1, Relaxed) + 1;
        let endpoints = addresses.iter().map(|address| Endpoint {
            id: EndpointId::new(&address.to_string()),
            address: *address,
            state: EndpointState::Ready,
            early_probe: None,
        });
        self.tell(Change::Endpoints { revision: svc(), version, endpoints: endpoints.collect() }).await;
        eventually("the replicas are known", || self.handle().gate.endpoints_version() == version).await;
    }

    /// What the activator keeps for the usual service.
    pub(crate) fn handle(&self) -> Arc<Handle> {
        self.activator.revisions().get(&svc()).expect("the usual service")
    }

    /// Requests in flight, waiting ones included.
    pub(crate) fn in_flight(&self) -> u32 {
        self.handle().counters().iter().map(|counters| counters.meter.in_flight()).sum()
    }

    /// Requests that arrived.
    pub(crate) fn requests(&self) -> u64 {
        self.handle().counters().iter().map(|counters| counters.requests.load(Relaxed)).sum()
    }

    /// Requests that ended like this.
    pub(crate) fn ended(&self, outcome: Outcome) -> u64 {
        self.handle().counters().iter().map(|counters| counters.outcomes[outcome.index()].load(Relaxed)).sum()
    }

    /// Requests that hold a replica's room.
    pub(crate) fn permits(&self) -> u32 {
        self.handle().gate.endpoints().iter().map(|(endpoint, _)| endpoint.load()).sum()
    }

    /// What the process holds in all.
    pub(crate) fn bounds(&self) -> &Arc<Bounds> {
        self.activator.revisions().bounds()
    }

    /// How often a limit has turned somebody away.
    pub(crate) fn refused(&self, limit: Limit) -> u64 {
        self.bounds().refused(limit)
    }

    /// Requests in the queue.
    pub(crate) fn waiting(&self) -> u32 {
        self.handle().gate.waiting()
    }

    /// A client connection to the first worker.
    pub(crate) async fn client(&self) -> Wire {
        Wire::connect(self.addresses[0]).await
    }

    /// Begins to drain; the answer comes when it is done.
    pub(crate) fn start_draining(&self) -> oneshot::Receiver<()> {
        let (activator, (done, told)) = (self.activator.clone(), oneshot::channel());
        self.tasks.spawn("drain", async move {
            activator.drain().await;
            let _ = done.send(());
        });
        told
    }

    /// Everything has been given back, and what is counted is what is there.
    #[track_caller]
    pub(crate) fn at_rest(&self) -> impl Future<Output = ()> {
        let rest = eventually("nothing in flight, no permit out, nobody waiting", || {
            self.in_flight() == 0 && self.permits() == 0 && self.waiting() == 0
        });
        async move {
            rest.await;
            assert_eq!(self.differences(), [0; What::COUNT + 1], "in flight, permits, slots");
        }
    }

    /// What has been told of counts, now that each is looked at often enough to be told. No turn of a task lies between the
    /// looks: what differs for a moment only differs here.
    pub(crate) fn differences(&self) -> [u64; What::COUNT + 1] {
        for _ in 0..2 {
            self.activator.workers().iter().for_each(|worker| worker.watch());
            // Time that no process reaches: nobody has looked in it.
            let look = (1 << 40) + self.looks.fetch_add(1, Relaxed) * WATCH_EVERY.as_secs();
            self.handle().gate.watch(Timestamp::from_secs(look), &svc());
        }
        let told = |what: What| {
            self.handle().counters().iter().map(|counters| counters.differences[what as usize].load(Relaxed)).sum()
        };
        [told(What::InFlight), told(What::Permits), self.handle().gate.differences()]
    }
}

/// A replica that does what a test says. It ends with the test's runtime.
#[derive(Clone)]
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    /// Requests as they came, by all connections.
    pub(crate) seen: Arc<Mutex<Vec<Message>>>,
    /// Connections accepted.
    pub(crate) accepted: Arc<AtomicU32>,
}

impl Backend {
    /// Runs `script` on every connection; the number counts connections from 0.
    pub(crate) async fn script<F>(script: impl Fn(Wire, u32, Self) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::script_on(TcpListener::bind("127.0.0.1:0").await.unwrap(), script)
    }

    /// The same on a listener of one's own.
    pub(crate) fn script_on<F>(listener: TcpListener, script: impl Fn(Wire, u32, Self) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let backend = Self { address: listener.local_addr().unwrap(), seen: Arc::default(), accepted: Arc::default() };
        let (tasks, this) = (Tasks::new(), backend.clone());
        tasks.clone().spawn("backend", async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = this.accepted.fetch_add(1, Relaxed);
                tasks.spawn("backend connection", script(Wire::new(stream), number, this.clone()));
            }
        });
        backend
    }

    /// Answers every request at once with what `reply` makes of it.
    pub(crate) async fn new(reply: impl Fn(&Message) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let reply = Arc::new(reply);
        Self::script(move |mut wire, _, backend| {
            let reply = Arc::clone(&reply);
            async move {
                while let Some(request) = wire.request().await {
                    let answer = reply(&request);
                    backend.note(request);
                    wire.send(answer).await;
                }
            }
        })
        .await
    }

    pub(crate) fn note(&self, request: Message) {
        self.seen.lock().push(request);
    }

    /// How many requests came.
    pub(crate) fn count(&self) -> usize {
        self.seen.lock().len()
    }

    /// The last request.
    pub(crate) fn last(&self) -> Message {
        self.seen.lock().last().cloned().expect("no request came")
    }
}
