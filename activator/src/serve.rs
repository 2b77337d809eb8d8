//! The activator as a whole: worker threads around listeners, control tasks beside them, draining at the end.
//!
//! Invariants: N never changes while running; a worker that ends ends the process; draining follows kpa-behaviour 9.

use crate::connection;
use crate::follow::Follow;
use crate::prober;
use crate::reporter::{Reporter, ReporterSettings};
use crate::request::Door;
use crate::revisions::Revisions;
use crate::settings::{Live, Settings};
use crate::stack::{Stack, stack};
use crate::worker::{HOUSEKEEPING, Shared, Worker};
use platform::Platform;
use runtime::net::{Connect, Listener};
use runtime::{Clock, Phase, PhaseSender, Tasks, WakeLog};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

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
        let prober = prober::run(suspected, cold, setup.connector.clone(), setup.clock, tasks.clone());
        tasks.service("probe suspect and cold replicas", prober);
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

    /// Stops as kpa-behaviour 9 says: unready and `Connection: close`; after the drain delay the listeners close; every
    /// request and tunnel ends or the grace passes; a last frame says `leaving`.
    pub async fn drain(&self) {
        self.phase.advance(Phase::Draining);
        for worker in &*self.workers {
            worker.start_draining();
        }
        // As they are when draining begins; what changes later is too late.
        let settings = self.settings.load_full();
        tokio::time::sleep(settings.drain_delay).await;
        self.close.cancel();
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
    pub async fn serve<L: Listener>(self, mut listener: L, mut internal: Option<L>) {
        let Self { worker, stack, close } = self;
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        housekeeping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let failed = worker.base.tasks.failed();
        loop {
            tokio::select! {
                biased; // Rare events first: a flood of connections must not hide them.
                () = close.cancelled() => break,
                // A defect outside of any request: the worker ends, and whoever runs it ends the process.
                () = failed.cancelled() => return,
                _ = housekeeping.tick() => worker.tidy(),
                accepted = next(&mut internal) => admit(accepted, Door::Internal, &worker, &stack).await,
                accepted = listener.accept() => admit(accepted, Door::Public, &worker, &stack).await,
            }
        }
        // What the kernel has completed before the close belongs to clients that believe they are connected. One turn of
        // the reactor first, so that it is known.
        tokio::task::yield_now().await;
        while let Some(accepted) = futures_util::FutureExt::now_or_never(listener.accept()) {
            admit(accepted, Door::Public, &worker, &stack).await;
        }
        while let Some(accepted) = futures_util::FutureExt::now_or_never(next(&mut internal)) {
            admit(accepted, Door::Internal, &worker, &stack).await;
        }
        drop((listener, internal));
        worker.base.tasks.wait().await;
    }
}

/// The next connection of a listener that may not be there.
async fn next<L: Listener>(listener: &mut Option<L>) -> std::io::Result<(L::Stream, std::net::SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

async fn admit<C: Connect, S: runtime::net::Socket>(
    accepted: std::io::Result<(S, std::net::SocketAddr)>,
    door: Door,
    worker: &Arc<Worker<C>>,
    stack: &Arc<Stack>,
) {
    match accepted {
        Ok((socket, peer)) => {
            let serving = connection::serve(socket, (peer, door), Arc::clone(worker), Arc::clone(stack));
            worker.base.tasks.spawn("client connection", serving);
        }
        Err(error) => {
            // Out of descriptors, most likely: the backlog keeps who comes meanwhile.
            tracing::warn!(%error, "no connection can be accepted; trying again in 100 ms");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
