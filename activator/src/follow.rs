//! What the platform tells, applied to the table: one task, in order.
//!
//! Invariant: level-triggered; every change carries the whole truth about its revision, so a repeated one does nothing.

use crate::gate::StartFailure;
use crate::prober::ColdList;
use crate::revisions::{REMOVED, Revisions};
use crate::settings::{Live, Settings};
use domain::host::RouteTable;
use domain::{Change, Mode, Peer, Problem, Revision};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use runtime::{Clock, Phase, PhaseSender};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

/// Follows a platform.
#[derive(Debug)]
pub struct Follow {
    revisions: Arc<Revisions>,
    settings: Arc<Live>,
    clock: Clock,
    phase: PhaseSender,
    autoscalers: watch::Sender<Vec<Peer>>,
    cold: Arc<ColdList>,
    known: BTreeMap<domain::RevisionId, Arc<Revision>>,
    /// Claims that were not granted, as last told.
    told: Vec<Problem>,
}

impl Follow {
    /// Fills `revisions`; tells `autoscalers` where frames go and `cold` who is to be probed; `phase` is ready once
    /// everything is known.
    #[must_use]
    pub fn new(
        revisions: Arc<Revisions>,
        settings: Arc<Live>,
        clock: Clock,
        phase: PhaseSender,
        autoscalers: watch::Sender<Vec<Peer>>,
        cold: Arc<ColdList>,
    ) -> Self {
        Self { revisions, settings, clock, phase, autoscalers, cold, known: BTreeMap::new(), told: Vec::new() }
    }

    /// Applies changes until the platform's stream ends, which it never should.
    pub async fn run(mut self, mut changes: BoxStream<'static, Change>) {
        while let Some(change) = changes.next().await {
            self.apply(change);
        }
    }

    /// Applies one change.
    pub fn apply(&mut self, change: Change) {
        let now = self.clock.now();
        match change {
            Change::Synced => {
                self.publish_routes();
                self.revisions.set_synced();
                self.phase.advance(Phase::Ready);
            }
            Change::Applied(revision) => {
                let before = self.known.insert(revision.id.clone(), Arc::clone(&revision));
                let removed = |revision: &Revision| revision.mode == Mode::Removed;
                let moved = before
                    .is_none_or(|before| before.route != revision.route || removed(&before) != removed(&revision));
                self.revisions.apply(revision);
                if moved && self.revisions.is_synced() {
                    self.publish_routes();
                }
            }
            Change::Deleted(id) => {
                self.known.remove(&id);
                self.revisions.remove(now, &id);
                self.publish_routes();
            }
            Change::Endpoints { revision, version, endpoints } => {
                if let Some(handle) = self.revisions.get(&revision) {
                    handle.gate.set_endpoints(now, version, &endpoints);
                    self.cold.look_at(&handle);
                    if handle.revision().mode == Mode::Removed {
                        // Who still waits would wait for ever. Nobody new comes: it has no route any more.
                        handle.gate.fail_start(&StartFailure { reason: REMOVED.into(), retry_at: now });
                    }
                }
            }
            Change::Replicas { revision, trouble, .. } => {
                let Some(handle) = self.revisions.get(&revision) else { return };
                let reason = trouble.as_ref().map(|trouble| format!("{}: {}", trouble.reason, trouble.message).into());
                handle.gate.set_trouble(reason.clone());
                // What is permanent will not pass by waiting: held requests learn the reason now (kpa-behaviour 11.4).
                if let Some(reason) = reason.filter(|_| trouble.is_some_and(|trouble| trouble.permanent)) {
                    handle.gate.fail_start(&StartFailure { reason, retry_at: now });
                }
            }
            Change::Autoscalers(peers) => {
                self.autoscalers.send_replace(peers);
            }
            Change::ActivatorConfig(config) => {
                self.settings.store(Arc::new(Settings::from(&*config)));
                if self.revisions.is_synced() {
                    self.publish_routes();
                }
            }
            Change::TrafficSeen(_) | Change::Activators(_) => {}
        }
    }

    fn publish_routes(&mut self) {
        let revisions: Vec<_> =
            self.known.values().filter(|revision| revision.mode != Mode::Removed).cloned().collect();
        let settings = self.settings.load();
        let (routes, problems) = RouteTable::build(&revisions, &settings.domains, &settings.allowed_hosts);
        for problem in problems.iter().filter(|problem| !self.told.contains(problem)) {
            tracing::warn!("{problem}");
        }
        self.told = problems;
        self.revisions.set_routes(routes);
    }
}
