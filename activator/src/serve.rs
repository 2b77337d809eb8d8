//! The activator as a whole: worker threads around listeners, control tasks beside them, draining at the end.
//!
//! Invariants: N never changes while running; a worker that ends ends the process; draining follows kpa-behaviour 9.

use crate::bounds::{Limit, Stock};
use crate::connection;
use crate::follow::Follow;
use crate::local::watchdog::WATCH_EVERY;
use crate::prober;
use crate::reporter::{Reporter, ReporterSettings};
use crate::request::Door;
use crate::revisions::Revisions;
use crate::settings::{Live, Settings};
use crate::sharing::hop::Hop;
use crate::stack::{Stack, stack};
use crate::tls::server::Server;
use crate::worker::{HOUSEKEEPING, Shared, Worker};
use domain::Peer;
use futures_util::FutureExt;
use platform::Platform;
use runtime::net::{Connect, Listener, Socket};
use runtime::{Clock, Phase, PhaseSender, Tasks, WakeLog};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Connections that a worker accepts before it does something else.
pub(crate) const ACCEPTS_A_TURN: usize = 16;
/// How long nothing is accepted after the system could give us no connection.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Such pauses at most between the end of draining's delay and the closing of the listener.
const LAST_PAUSES_MAX: u32 = 20;
/// A worker says at most so often that it turns connections away.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// What an activator is made of.
pub struct Setup<C> {
    /// How replicas are reached.
    pub connector: C,
    /// What runs them.
    pub platform: Arc<dyn Platform>,
    /// What holds for the whole activator until the platform tells otherwise.
    pub settings: Settings,
    /// Who it is to the autoscalers.
    pub reporter: ReporterSettings,
    /// The process's clock.
    pub clock: Clock,
    /// Stamps of cold starts.
    pub wakes: Arc<WakeLog>,
    /// Told how far the activator is.
    pub phase: PhaseSender,
    /// Makes random choices repeatable.
    pub seed: u64,
    /// All activators in front of the same replicas, this one included; `None` where there is no other.
    pub neighbours: Option<watch::Receiver<Vec<Peer>>>,
}

/// A running activator's control side.
#[derive(Debug, Clone)]
pub struct Activator<C: Connect> {
    workers: Arc<[Arc<Worker<C>>]>,
    revisions: Arc<Revisions>,
    settings: Arc<Live>,
    phase: PhaseSender,
    close: CancellationToken,
    reporter: crate::reporter::Leave,
}

/// Serves one listener until told to close it: what a worker thread runs.
pub struct WorkerRun<C: Connect> {
    worker: Arc<Worker<C>>,
    stack: Arc<Stack>,
    close: CancellationToken,
}

/// Where the connections of one worker come in.
pub struct Doors<L> {
    /// Anybody's.
    pub public: L,
    /// Our own programs'.
    pub internal: Option<L>,
    /// Anybody's, behind TLS.
    pub secure: Option<(L, Arc<Server>)>,
}

impl<C: Connect + Clone> Activator<C> {
    /// Starts the control tasks on the current runtime and makes `workers` workers to be run by [`WorkerRun::serve`].
    pub fn start(setup: Setup<C>, workers: usize, tasks: &Tasks) -> (Self, Vec<WorkerRun<C>>) {
        let revisions = Revisions::new(setup.seed, Arc::clone(&setup.wakes));
        let settings = Arc::new(Live::from_pointee(setup.settings));
        let (suspects, suspected) = mpsc::channel(prober::SUSPECTS_MAX);
        let (autoscalers, targets) = watch::channel(Vec::new());
        let cold = Arc::<prober::ColdList>::default();
        let follow = Follow::new(
            Arc::clone(&revisions),
            Arc::clone(&settings),
            setup.clock,
            setup.phase.clone(),
            autoscalers,
            Arc::clone(&cold),
        );
        tasks.service("follow the platform", follow.run(setup.platform.watch()));
        let prober = prober::run(
            suspected,
            cold,
            Arc::clone(revisions.bounds()),
            setup.connector.clone(),
            setup.clock,
            tasks.clone(),
        );
        tasks.service("probe suspect and cold replicas", prober);
        let own = setup.reporter.id.clone();
        let (reporter, leave) = Reporter::new(
            setup.reporter,
            setup.connector.clone(),
            Arc::clone(&revisions),
            setup.clock,
            workers,
            targets,
            tasks.clone(),
        );
        tasks.service("report to the autoscalers", reporter.run());
        if let Some(neighbours) = setup.neighbours {
            revisions.shares().begin(&revisions, setup.clock.now());
            let (connector, all) = (setup.connector.clone(), Arc::clone(&revisions));
            let hop = Hop::new(own, connector, all, neighbours, setup.clock, tasks.clone());
            tasks.service("ask other activators for slots", hop.run());
        }

        let shared = Shared {
            revisions: Arc::clone(&revisions),
            settings: Arc::clone(&settings),
            wakes: setup.wakes,
            suspects,
            clock: setup.clock,
        };
        let close = CancellationToken::new();
        let runs: Vec<WorkerRun<C>> = (0_u64..)
            .take(workers)
            .map(|index| WorkerRun {
                worker: Worker::new(setup.connector.clone(), &shared, setup.seed.wrapping_add(index)),
                stack: Arc::new(stack()),
                close: close.clone(),
            })
            .collect();
        let workers = runs.iter().map(|run| Arc::clone(&run.worker)).collect();
        let activator = Self { workers, revisions, settings, phase: setup.phase, close, reporter: leave };
        (activator, runs)
    }

    /// All revisions.
    #[must_use]
    pub const fn revisions(&self) -> &Arc<Revisions> {
        &self.revisions
    }

    /// The workers.
    #[must_use]
    pub fn workers(&self) -> &[Arc<Worker<C>>] {
        &self.workers
    }

    /// Stops as kpa-behaviour 9 says: unready and `Connection: close`; after the drain delay the listeners and idle
    /// connections close; every request and tunnel ends or the grace passes; a last frame says `leaving`.
    pub async fn drain(&self) {
        self.phase.advance(Phase::Draining);
        for worker in &*self.workers {
            worker.start_draining();
        }
        self.reporter.draining().await;
        // As they are when draining begins; what changes later is too late.
        let settings = self.settings.load_full();
        tokio::time::sleep(settings.drain_delay).await;
        self.close.cancel();
        for worker in &*self.workers {
            worker.start_closing();
        }
        let ended = async {
            for worker in &*self.workers {
                worker.base.tasks.wait().await;
            }
        };
        if tokio::time::timeout(settings.drain_grace, ended).await.is_err() {
            tracing::warn!("requests were still running after the drain grace and are cut");
        }
        self.reporter.leave().await;
    }
}

impl<C: Connect> WorkerRun<C> {
    /// Accepts and serves connections until told to close; then accepts what has already arrived, and ends. What comes by
    /// `internal` is taken for our own programs'.
    pub async fn serve<L: Listener>(self, public: L, internal: Option<L>) {
        self.serve_all(Doors { public, internal, secure: None }).await;
    }

    /// The same with every kind of door.
    pub async fn serve_all<L: Listener>(self, doors: Doors<L>) {
        let Doors { public: mut listener, mut internal, secure } = doors;
        let (mut secure, server) = secure.unzip();
        let Self { worker, stack, close } = self;
        for listener in [Some(&mut listener), internal.as_mut(), secure.as_mut()].into_iter().flatten() {
            listener.prepare();
        }
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        housekeeping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut watch = tokio::time::interval(WATCH_EVERY);
        watch.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let failed = worker.base.tasks.failed();
        let mut door = Doorkeeper::new(&worker, &stack, server);
        let mut secure_first = false;
        loop {
            if door.accepted == ACCEPTS_A_TURN {
                door.accepted = 0;
                tokio::task::yield_now().await;
            }
            let (paused, until) = (door.paused.is_some(), door.paused.unwrap_or_else(Instant::now));
            tokio::select! {
                biased; // Rare events first: a flood of connections must not hide them.
                () = close.cancelled() => break,
                // A defect outside of any request: the worker ends, and whoever runs it ends the process.
                () = failed.cancelled() => return,
                _ = housekeeping.tick() => worker.tidy(),
                _ = watch.tick() => worker.watch(),
                () = sleep_until(until), if paused => door.paused = None,
                accepted = next(&mut internal), if !paused => door.admit(accepted, Door::Internal),
                (accepted, by) = next_client(&mut listener, &mut secure, secure_first), if !paused => {
                    secure_first = by == Door::Public;
                    door.admit(accepted, by);
                }
            }
        }
        // What the kernel has completed before the close belongs to clients that believe they are connected. One turn of
        // the reactor first, so that it is known.
        tokio::task::yield_now().await;
        let mut pauses = 0;
        while let Some((accepted, by)) = next_client(&mut listener, &mut secure, false).now_or_never() {
            door.admit(accepted, by);
            if let Some(until) = door.paused.take() {
                pauses += 1;
                if pauses > LAST_PAUSES_MAX {
                    break;
                }
                sleep_until(until).await;
            }
        }
        while let Some(accepted) = next(&mut internal).now_or_never() {
            door.admit(accepted, Door::Internal);
            if door.paused.is_some() {
                break;
            }
        }
        drop((listener, internal, secure));
        worker.base.tasks.wait().await;
    }
}

/// The next connection of a listener that may not be there.
async fn next<L: Listener>(listener: &mut Option<L>) -> io::Result<(L::Stream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

/// The next connection of anybody. Both listeners have their turn: a flood at one does not hide the other.
async fn next_client<L: Listener>(
    public: &mut L,
    secure: &mut Option<L>,
    secure_first: bool,
) -> (io::Result<(L::Stream, SocketAddr)>, Door) {
    let Some(secure) = secure else { return (public.accept().await, Door::Public) };
    if secure_first {
        tokio::select! {
            biased; // Whose turn it is.
            accepted = secure.accept() => (accepted, Door::Secure),
            accepted = public.accept() => (accepted, Door::Public),
        }
    } else {
        tokio::select! {
            biased; // Whose turn it is.
            accepted = public.accept() => (accepted, Door::Public),
            accepted = secure.accept() => (accepted, Door::Secure),
        }
    }
}

/// Lets connections in, or not.
struct Doorkeeper<'a, C: Connect> {
    worker: &'a Arc<Worker<C>>,
    stack: &'a Arc<Stack>,
    server: Option<Arc<Server>>,
    /// In this turn of the worker.
    accepted: usize,
    /// Nothing is accepted before.
    paused: Option<Instant>,
    news: Rarely,
}

/// Keeps something that happens often from filling the log.
#[derive(Default)]
struct Rarely(Option<Instant>);

impl Rarely {
    /// Whether it is time to say it again.
    fn is_due(&mut self) -> bool {
        let due = self.0.is_none_or(|told| told.elapsed() >= TELL_EVERY);
        if due {
            self.0 = Some(Instant::now());
        }
        due
    }
}

impl<'a, C: Connect> Doorkeeper<'a, C> {
    const fn new(worker: &'a Arc<Worker<C>>, stack: &'a Arc<Stack>, server: Option<Arc<Server>>) -> Self {
        Self { worker, stack, server, accepted: 0, paused: None, news: Rarely(None) }
    }

    fn admit<S: Socket>(&mut self, accepted: io::Result<(S, SocketAddr)>, door: Door) {
        self.accepted += 1;
        let bounds = &self.worker.base.bounds;
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_of_one_connection(&error) => return,
            Err(error) => {
                // Out of descriptors, most likely: the backlog keeps who comes meanwhile.
                bounds.refuse(Limit::OpenFiles);
                self.paused = Some(Instant::now() + ACCEPT_PAUSE);
                if self.news.is_due() {
                    tracing::warn!(%error, "no connection can be accepted; trying again every {ACCEPT_PAUSE:?}");
                }
                return;
            }
        };
        let max = bounds.connections_max(self.worker.settings.load().connections_max);
        let place = match door {
            Door::Public | Door::Secure => bounds.take(Stock::Connections, 1, max),
            Door::Internal => Some(bounds.take_anyway(Stock::Connections, 1)),
        };
        let Some(place) = place else {
            bounds.refuse(Limit::Connections);
            drop(socket);
            if self.news.is_due() {
                tracing::warn!(
                    "{max} connections are open, which is the limit (max-connections of config-activator, or three \
                     quarters of the process's open files); more are closed"
                );
            }
            return;
        };
        let (worker, stack) = (Arc::clone(self.worker), Arc::clone(self.stack));
        if let (Door::Secure, Some(server)) = (door, &self.server) {
            let server = Arc::clone(server);
            self.worker.base.tasks.spawn("client connection behind TLS", async move {
                let accepted = Box::pin(server.accept(socket, peer, &worker.base.bounds)).await;
                if let Some(socket) = accepted {
                    connection::serve(socket, (peer, door, Some(place)), worker, stack).await;
                }
            });
            return;
        }
        let serving = connection::serve(socket, (peer, door, Some(place)), worker, stack);
        self.worker.base.tasks.spawn("client connection", serving);
    }
}

/// The connection was over before it was accepted; the next one is another matter.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_happens_often_is_said_rarely() {
        let mut news = Rarely::default();
        let mut said = 0;
        for _ in 0..301 {
            said += u32::from(news.is_due());
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
        assert_eq!(said, 4, "in 30 s");
    }

    #[test]
    fn a_connection_that_ended_too_early_is_no_reason_to_pause() {
        assert!(is_of_one_connection(&io::ErrorKind::ConnectionAborted.into()));
        assert!(!is_of_one_connection(&io::Error::from_raw_os_error(24)), "too many open files");
    }
}
