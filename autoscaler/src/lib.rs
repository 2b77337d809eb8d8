//! The autoscaler: frames and platform changes in, scale calls out.
//!
//! Invariant: everything is decided by the brain of `autoscaler-core`, which one task owns; this crate only carries
//! events to it and commands away.
//!
//! ```text
//! POST /v1/frames ─> ingest ──┐                        ┌─> applier ─> Platform::scale
//! Platform::watch ────────────┼─> event_loop (Brain) ──┼─> story (log)
//! GET /v1/revisions ─> api ───┘                        └─> Ack, answers
//! ```

pub mod api;
mod applier;
pub mod event_loop;
pub mod ingest;
pub mod metrics;
mod stage;
mod story;
#[cfg(test)]
mod testing;

pub use applier::{CALLS_MAX, ORDER_LIFE};
pub use autoscaler_core::BrainSettings;
pub use platform::trust::{Token, Trust};

use crate::metrics::Meters;
use api::Api;
use applier::{Applier, Orders};
use axum::Router;
use domain::ReporterId;
use event_loop::{EventLoop, Surroundings};
use ingest::Ingest;
use platform::Platform;
use platform::audience::Audience;
use runtime::{Admin, Clock, Phase, PhaseSender, Tasks, WakeLog};
use stage::Stage;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// What an autoscaler is told at its start.
#[derive(Clone)]
pub struct Settings {
    /// Its name, as activators are told who leads.
    pub id: ReporterId,
    /// Whose frames are taken.
    pub trust: Trust,
    /// The brain's own.
    pub brain: BrainSettings,
    /// Where people look besides the API; `None` where there is no such place.
    pub audience: Option<Arc<dyn Audience>>,
    /// The word by which activators know each other; `None` where there is one activator, which shares with nobody.
    pub word: Option<Token>,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("id", &self.id).field("brain", &self.brain).finish_non_exhaustive()
    }
}

/// An autoscaler that is not running yet.
pub struct Autoscaler {
    router: Router,
    synced: watch::Receiver<bool>,
    event_loop: EventLoop,
    applier: Applier,
}

impl std::fmt::Debug for Autoscaler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Autoscaler").field("synced", &*self.synced.borrow()).finish_non_exhaustive()
    }
}

impl Autoscaler {
    /// Puts the parts together. `wakes` is shared with an activator in the same process; metrics go to the recorder in
    /// force.
    #[must_use]
    pub fn new(settings: Settings, platform: Arc<dyn Platform>, clock: Clock, wakes: Option<Arc<WakeLog>>) -> Self {
        let (meters, orders) = (Arc::new(Meters::new()), Orders::default());
        let around = Surroundings {
            id: settings.id,
            platform: platform.clone(),
            clock,
            wakes: wakes.clone(),
            orders: orders.clone(),
            meters: meters.clone(),
            stage: settings.audience.map(Stage::new),
            word: settings.word,
        };
        let (event_loop, inbox, done, synced) = EventLoop::new(settings.brain, around);
        let ingest = Ingest::new(settings.trust, inbox.clone(), meters.clone());
        let router = Arc::new(ingest).router().merge(Api { inbox, wakes: wakes.clone() }.router());
        let applier = Applier { orders, platform, done, clock, wakes, meters };
        Self { router, synced, event_loop, applier }
    }

    /// `POST /v1/frames`, `GET /v1/revisions…` and `GET /v1/wakes`, to be merged with an admin router.
    pub fn router(&self) -> Router {
        self.router.clone()
    }

    /// Whether the platform has told everything once: when this autoscaler is ready.
    #[must_use]
    pub fn synced(&self) -> watch::Receiver<bool> {
        self.synced.clone()
    }

    /// Runs on the current runtime until `tasks` is told to stop.
    pub fn start(self, tasks: &Tasks) {
        let stop = tasks.stopping();
        tasks.service("autoscaler event loop", self.event_loop.run(stop.clone()));
        tasks.service("autoscaler applier", self.applier.run(stop));
    }
}

/// Serves frames, API and admin on `listener` until `tasks` is told to stop; ready once the platform has told everything.
pub async fn run(autoscaler: Autoscaler, listener: TcpListener, admin: Admin, phase: PhaseSender, tasks: &Tasks) {
    let router = admin.router().merge(autoscaler.router());
    let mut synced = autoscaler.synced();
    autoscaler.start(tasks);
    tasks.spawn("autoscaler readiness", async move {
        if synced.wait_for(|synced| *synced).await.is_ok() {
            phase.advance(Phase::Ready);
        }
    });
    runtime::admin::serve(listener, router, tasks, tasks.stopping()).await;
}

#[cfg(test)]
mod tests;
