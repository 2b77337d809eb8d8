//! What the platform tells, applied to the table: one task, in order.
//!
//! Invariant: level-triggered; every change carries the whole truth about its revision, so a repeated one does nothing. The
//! table of hosts is built from all revisions: where these are many, a flood of new ones has it built a few times a second,
//! not for each.

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
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// From one table of hosts to the next, at least, while revisions come and go: one that appears by itself is known at
/// once, one of a flood so much later. One that is gone gets nothing more, whatever the table says.
pub const ROUTES_PAUSE: Duration = Duration::from_millis(100);
/// Up to so many revisions a table takes no time that counts, and there is no pause.
pub const ROUTES_FEW: usize = 100;

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
    /// When the next table of hosts may be built.
    routes_from: Instant,
    /// The one that is published is not the newest.
    routes_due: bool,
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
        Self {
            revisions,
            settings,
            clock,
            phase,
            autoscalers,
            cold,
            known: BTreeMap::new(),
            told: Vec::new(),
            routes_from: Instant::now(),
            routes_due: false,
        }
    }

    /// Applies changes until the platform's stream ends, which it never should.
    pub async fn run(mut self, mut changes: BoxStream<'static, Change>) {
        loop {
            let due = self.routes_due.then_some(self.routes_from);
            let due = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased; // A flood of changes must not keep the table from being built.
                () = due => self.publish_routes(),
                change = changes.next() => match change {
                    Some(change) => self.apply(change),
                    None => break,
                },
            }
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
                self.revisions.apply(Arc::clone(&revision));
                match before {
                    None => self.routes_change(),
                    Some(before) if before.route != revision.route || removed(&before) != removed(&revision) => {
                        if self.revisions.is_synced() {
                            self.publish_routes();
                        }
                    }
                    Some(_) => {}
                }
            }
            Change::Deleted(id) => {
                self.known.remove(&id);
                self.revisions.remove(now, &id);
                self.routes_change();
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

    /// A revision came or went.
    fn routes_change(&mut self) {
        if !self.revisions.is_synced() {
            return;
        }
        self.routes_due = self.known.len() > ROUTES_FEW && Instant::now() < self.routes_from;
        if !self.routes_due {
            self.publish_routes();
        }
    }

    fn publish_routes(&mut self) {
        (self.routes_from, self.routes_due) = (Instant::now() + ROUTES_PAUSE, false);
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

#[cfg(test)]
mod tests {
    use super::*;
    use domain::RevisionId;
    use platform::fixed::default_revision;
    use runtime::WakeLog;
    use tokio::sync::mpsc;
    use tokio::task::yield_now;

    fn id(number: usize) -> RevisionId {
        RevisionId::new("default", &format!("model-{number}"))
    }

    fn applied(number: usize) -> Change {
        Change::Applied(Arc::new(default_revision(id(number))))
    }

    fn is_found(revisions: &Revisions, number: usize) -> bool {
        revisions.find(&format!("model-{number}.default.example.com")).len() == 1
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_revisions_has_the_table_built_a_few_times() {
        let revisions = Revisions::new(1, Arc::new(WakeLog::new()));
        let follow = Follow::new(
            Arc::clone(&revisions),
            Arc::new(Live::from_pointee(Settings::default())),
            Clock::start(),
            PhaseSender::default(),
            watch::channel(Vec::new()).0,
            Arc::default(),
        );
        let (tell, told) = mpsc::channel(2_000);
        let changes = futures_util::stream::unfold(told, async |mut told: mpsc::Receiver<Change>| {
            told.recv().await.map(|change| (change, told))
        });
        let follow = follow.run(changes.boxed());
        let story = async {
            let say = |change| tell.try_send(change).unwrap();
            let taken_in = async || {
                for _ in 0..5_000 {
                    yield_now().await;
                }
            };
            say(Change::Synced);
            (0..ROUTES_FEW).for_each(|number| say(applied(number)));
            taken_in().await;
            let few = revisions.epoch();
            assert_eq!(few, 1 + ROUTES_FEW as u64, "each at once");

            (ROUTES_FEW..2_000).for_each(|number| say(applied(number)));
            taken_in().await;
            assert!(revisions.epoch() <= few + 1, "{} tables more", revisions.epoch() - few);
            assert!(!is_found(&revisions, 1_999));
            tokio::time::sleep(ROUTES_PAUSE).await;
            taken_in().await;
            assert!((ROUTES_FEW..2_000).all(|number| is_found(&revisions, number)), "not later than the pause");

            tokio::time::sleep(ROUTES_PAUSE).await;
            say(applied(2_000));
            taken_in().await;
            assert!(is_found(&revisions, 2_000), "one by itself at once");
            let before = revisions.epoch();
            say(Change::Deleted(id(7)));
            taken_in().await;
            assert!(!is_found(&revisions, 7) && revisions.epoch() > before, "who is gone gets nothing more");
        };
        tokio::select! {
            () = follow => {}
            () = story => {}
        }
    }
}
