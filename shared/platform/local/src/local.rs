//! The platform itself: puts the parts together and answers its three verbs.

use crate::feed::Feed;
use crate::files::Files;
use crate::logs::Logs;
use crate::options::{OnReady, Options, Output, Shutdown, Spawn, StartError};
use crate::orphans;
use crate::ports::Ports;
use crate::process::Spawner;
use crate::reaper;
use crate::replica::Context;
use crate::runner::{Request, Runner};
use crate::state::{Found, Memory, StateDir};
use crate::supervisor::Supervisor;
use domain::{Change, EndpointId, Peer, Problem, Replicas, ReporterId, ScaleTargetRef, Severity};
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use futures_util::FutureExt;
use parking_lot::Mutex;
use platform::manifest::{self, Ignored, Manifests, Source};
use platform::{Leadership, Platform, ScaleError};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Requests waiting for the runner.
const REQUESTS: usize = 256;
/// News of replicas waiting for the runner.
const NEWS: usize = 1024;
/// How often it is looked whether the state directory is still there, and what could not be written is tried again.
const LOOK: Duration = Duration::from_secs(2);

/// Replicas as child processes. Clones are the same platform.
#[derive(Clone)]
pub struct LocalPlatform(Arc<Shared>);

struct Shared {
    requests: mpsc::Sender<Request>,
    feed: Arc<Feed>,
    leadership: watch::Sender<Leadership>,
    manifests: Arc<Mutex<Arc<Manifests>>>,
    secret: String,
}

impl std::fmt::Debug for LocalPlatform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalPlatform").finish_non_exhaustive()
    }
}

impl LocalPlatform {
    /// Reads the manifests, ends what an earlier run left behind, and starts to supervise. This process becomes the
    /// parent of all orphaned descendants (a child subreaper), and a thread is started that spawns every replica.
    ///
    /// # Errors
    /// The state directory is in use or unusable, or a path of manifests cannot be read.
    pub async fn start(options: Options, spawn: Spawn, on_ready: OnReady) -> Result<Self, StartError> {
        match options.shim.first() {
            Some(shim) if Path::new(shim).is_absolute() => {}
            shim => return Err(StartError::Shim(shim.cloned().unwrap_or_default())),
        }
        let (state, memory) = StateDir::open(&options.state_dir)?;
        let (files, sources) = Files::open(&options.inputs)?;
        if let Err(error) = reaper::adopt() {
            tracing::warn!(%error, "cannot adopt replicas' orphans; they may stay as zombies");
        }
        let secret = state.secret().to_owned();
        let orphans = orphans::reap(&state).await;
        if orphans > 0 {
            tracing::info!(processes = orphans, "what an earlier run left behind has ended");
        }

        let (requests, requested) = mpsc::channel(REQUESTS);
        let (seen, news) = mpsc::channel(NEWS);
        let (state, feed) = (Arc::new(state), Arc::new(Feed::default()));
        let context = Context {
            spawner: Spawner::start().map_err(StartError::Thread)?,
            logs: Logs::start(options.output == Output::Prefixed, options.wall_clock).map_err(StartError::Thread)?,
            state: Arc::clone(&state),
            shim: options.shim.into(),
            spawn: Arc::clone(&spawn),
            on_ready,
            seen,
        };
        let gpus = options.gpus.unwrap_or_else(count_gpus);
        // Two supervisors on one machine should not run after the same ports.
        let ports = Ports::new(options.ports, std::process::id());
        let supervisor = Supervisor::new(ports, gpus, memory.boot);
        let (memory, remembered) = watch::channel(memory);

        feed.publish(Change::Autoscalers(options.autoscalers));
        feed.publish(Change::Activators(options.activators));
        let reading = manifest::Options { images: options.images, ..manifest::Options::default() };
        let declared = Arc::new(manifest::load(&sources, &reading, None));
        feed.publish(Change::ActivatorConfig(Arc::new(declared.activator.clone())));
        let manifests = Arc::new(Mutex::new(Arc::clone(&declared)));
        let mut runner = Runner::new(supervisor, Arc::clone(&feed), context, memory, options.wall_clock);
        runner.declare(&declared);
        runner.turn();

        let ended = CancellationToken::new();
        let guard = ended.clone().drop_guard();
        let run = async move {
            let _ended = guard;
            runner.run(requested, news).await;
        };
        spawn("local-supervisor", Box::pin(run));
        spawn("local-memory", Box::pin(remember(state, remembered)));
        let reap = ended.clone().run_until_cancelled_owned(reaper::run());
        spawn("local-reaper", Box::pin(reap.map(|_| ())));
        let told = Arc::clone(&feed);
        let follow = follow(files, sources, reading, requests.downgrade(), Arc::clone(&manifests), told);
        let follow = ended.run_until_cancelled_owned(follow);
        spawn("local-manifests", Box::pin(follow.map(|_| ())));
        let (leadership, _) = watch::channel(Leadership::Leader { until: None });
        Ok(Self(Arc::new(Shared { requests, feed, leadership, manifests, secret })))
    }

    /// Everything wrong or noteworthy about the manifests as they are now.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        self.manifests().all_problems().cloned().collect()
    }

    /// What is recognised in the manifests and not used, with the reason.
    #[must_use]
    pub fn ignored(&self) -> Vec<Ignored> {
        self.manifests().ignored.clone()
    }

    /// The manifests as they are now, with the defaults of `config-autoscaler` in force.
    #[must_use]
    pub fn manifests(&self) -> Arc<Manifests> {
        Arc::clone(&self.0.manifests.lock())
    }

    /// What whoever changes something by hand must show. It is in [`crate::TOKEN_FILE`] of the state directory, which only
    /// this user may read.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.0.secret
    }

    /// Sends a request to the runner, unless it has ended.
    pub(crate) async fn request(&self, request: Request) -> Result<(), mpsc::error::SendError<Request>> {
        self.0.requests.send(request).await
    }

    /// Tells watchers who reports and who decides, as soon as they listen.
    pub fn set_peers(&self, autoscalers: Vec<Peer>, activators: Vec<ReporterId>) {
        self.0.feed.publish(Change::Autoscalers(autoscalers));
        self.0.feed.publish(Change::Activators(activators));
    }

    /// Ends every replica and starts none ever after; returns when none is left. [`Shutdown::Kill`] while a
    /// [`Shutdown::Drain`] is under way cuts it short. What was asked for is remembered for the next start.
    pub async fn shutdown(&self, how: Shutdown) {
        let (reply, done) = oneshot::channel();
        if self.0.requests.send(Request::Shutdown { how, reply }).await.is_ok() {
            // A runner that is gone has left nothing to wait for.
            drop(done.await);
        }
    }
}

impl Platform for LocalPlatform {
    fn watch(&self) -> BoxStream<'static, Change> {
        self.0.feed.watch()
    }

    fn scale<'a>(
        &'a self,
        target: &'a ScaleTargetRef,
        from: Replicas,
        to: Replicas,
        remove_first: &'a [EndpointId],
    ) -> BoxFuture<'a, Result<(), ScaleError>> {
        Box::pin(async move {
            let gone = || ScaleError::Unreachable("the local supervisor has ended".into());
            let (reply, done) = oneshot::channel();
            let (target, remove_first) = (target.clone(), remove_first.to_vec());
            let request = Request::Scale { target, from, to, remove_first, reply };
            self.0.requests.send(request).await.map_err(|_| gone())?;
            done.await.map_err(|_| gone())?
        })
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.0.leadership.subscribe()
    }
}

/// Says a problem in the log, as loud as it is.
pub fn tell(problem: &Problem) {
    match problem.severity {
        Severity::Error => tracing::error!("{problem}"),
        Severity::Warning => tracing::warn!("{problem}"),
        Severity::Notice => tracing::info!("{problem}"),
    }
}

/// Says what an edit made worse or better.
fn tell_news(before: &Manifests, now: &Manifests) {
    fn key(problem: &Problem) -> (&str, &str, &str) {
        // Without the line: an edit above a problem moves it.
        let object = problem.place.find(' ').unwrap_or(0);
        (problem.key.as_str(), problem.what.as_str(), &problem.place[object..])
    }
    fn seen(manifests: &Manifests) -> BTreeMap<(&str, &str, &str), &Problem> {
        manifests.all_problems().map(|problem| (key(problem), problem)).collect()
    }
    let (before, now) = (seen(before), seen(now));
    for (_, problem) in now.iter().filter(|(key, _)| !before.contains_key(*key)) {
        tell(problem);
    }
    let mended = before.iter().filter(|(key, problem)| problem.severity == Severity::Error && !now.contains_key(*key));
    for (_, problem) in mended {
        tracing::info!("{}: {}: no longer wrong", problem.place, problem.key);
    }
}

/// Follows the manifests' files.
async fn follow(
    files: Files,
    sources: Vec<Source>,
    reading: manifest::Options,
    requests: mpsc::WeakSender<Request>,
    current: Arc<Mutex<Arc<Manifests>>>,
    feed: Arc<Feed>,
) {
    let changed = |sources: Vec<Source>| {
        let previous = Arc::clone(&current.lock());
        let declared = Arc::new(manifest::load(&sources, &reading, Some(&previous)));
        tell_news(&previous, &declared);
        if declared.activator != previous.activator {
            feed.publish(Change::ActivatorConfig(Arc::new(declared.activator.clone())));
        }
        *current.lock() = Arc::clone(&declared);
        let requests = requests.upgrade();
        async move {
            if let Some(requests) = requests {
                // A runner that is gone takes nothing any more.
                drop(requests.send(Request::Declare(declared)).await);
            }
        }
    };
    files.follow(sources, changed).await;
}

/// Writes down what is asked for, the newest only, and sees to it that there is a directory to write to.
async fn remember(state: Arc<StateDir>, mut memory: watch::Receiver<Memory>) {
    let mut owed = false;
    loop {
        let changed = match timeout(LOOK, memory.changed()).await {
            // Nobody will ask for anything any more.
            Ok(Err(_)) => return,
            Ok(Ok(())) => true,
            Err(_) => false,
        };
        let (newest, dir, write) = (memory.borrow_and_update().clone(), Arc::clone(&state), changed || owed);
        let done = tokio::task::spawn_blocking(move || {
            let found = dir.look(&newest).map_err(|error| error.to_string())?;
            if write {
                dir.remember(&newest).map_err(|error| error.to_string())?;
            }
            Ok::<_, String>(found)
        });
        // It fails to run only when the runtime is going away.
        let Ok(done) = done.await else { return };
        match &done {
            Ok(Found::Intact) => {}
            Ok(Found::Restored) => tracing::warn!(
                "the state directory was deleted while it was in use; it was made again, and what runs goes on running"
            ),
            Ok(Found::Lost(pid)) => tracing::error!(
                pid,
                "the state directory was deleted while it was in use, and another process has made its own in its place; \
                 what runs goes on running, and nothing is remembered any more"
            ),
            Err(error) if !owed => {
                tracing::warn!(%error, "what is asked for cannot be written down; it is tried again")
            }
            Err(_) => {}
        }
        owed = done.is_err();
    }
}

/// GPUs of this machine, as the driver shows them.
fn count_gpus() -> u32 {
    let Ok(devices) = std::fs::read_dir("/dev") else { return 0 };
    let is_gpu = |name: &str| name.strip_prefix("nvidia").is_some_and(|number| number.parse::<u32>().is_ok());
    let count = devices.flatten().filter(|device| device.file_name().to_str().is_some_and(is_gpu)).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}
