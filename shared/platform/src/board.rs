//! What a platform knows, told to every watcher: the snapshot first, then each change.
//!
//! Invariant: a watcher that falls behind is given the whole state again, with [`Change::Deleted`] for what it was told of
//! and is no more; it can miss a step on the way but never the end of it.

use domain::{ActivatorConfig, Change, Endpoint, Peer, ReporterId, Revision, RevisionId};
use futures_core::stream::BoxStream;
use futures_util::StreamExt;
use futures_util::stream::unfold;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use tokio::sync::broadcast::{self, error::RecvError};

/// Changes a watcher may be behind before it is given the whole state again.
pub const CHANGES_MAX: usize = 1024;

/// The state of a platform that lives in this process. Clones share it.
#[derive(Debug, Clone)]
pub struct Board(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changes: broadcast::Sender<Change>,
}

#[derive(Debug, Default)]
struct State {
    revisions: BTreeMap<RevisionId, Known>,
    activators: Option<Vec<ReporterId>>,
    autoscalers: Option<Vec<Peer>>,
    activator: Option<Arc<ActivatorConfig>>,
}

#[derive(Debug, Default)]
struct Known {
    revision: Option<Arc<Revision>>,
    endpoints: Option<(u64, Arc<[Endpoint]>)>,
    /// A [`Change::Replicas`].
    replicas: Option<Change>,
    traffic_seen: bool,
}

impl Default for Board {
    fn default() -> Self {
        Self::new()
    }
}

impl Board {
    /// Knows nothing yet.
    #[must_use]
    pub fn new() -> Self {
        let (changes, _) = broadcast::channel(CHANGES_MAX);
        Self(Arc::new(Shared { state: Mutex::default(), changes }))
    }

    /// Takes over a change and tells every watcher. [`Change::Synced`] is told to each watcher by itself and ignored here.
    pub fn tell(&self, change: Change) {
        // Told under the lock, so that every watcher hears changes in the order in which they became the state.
        let mut state = self.0.state.lock();
        state.take(&change);
        let _ = self.0.changes.send(change);
    }

    /// Everything known now, then [`Change::Synced`], then every change. Never ends.
    #[must_use]
    pub fn watch(&self) -> BoxStream<'static, Change> {
        let mut watcher = Watcher {
            changes: self.0.changes.subscribe(),
            board: self.clone(),
            told: BTreeSet::new(),
            next: VecDeque::new(),
        };
        watcher.list();
        watcher.next.push_back(Change::Synced);
        unfold(watcher, |mut watcher| async move {
            let change = watcher.change().await;
            Some((change, watcher))
        })
        .boxed()
    }
}

impl State {
    fn take(&mut self, change: &Change) {
        match change {
            Change::Synced => {}
            Change::Applied(revision) => {
                self.revisions.entry(revision.id.clone()).or_default().revision = Some(revision.clone());
            }
            Change::Deleted(revision) => {
                self.revisions.remove(revision);
            }
            Change::Endpoints { revision, version, endpoints } => {
                self.revisions.entry(revision.clone()).or_default().endpoints = Some((*version, endpoints.clone()));
            }
            Change::Replicas { revision, .. } => {
                self.revisions.entry(revision.clone()).or_default().replicas = Some(change.clone());
            }
            Change::TrafficSeen(revision) => {
                self.revisions.entry(revision.clone()).or_default().traffic_seen = true;
            }
            Change::Activators(activators) => self.activators = Some(activators.clone()),
            Change::Autoscalers(autoscalers) => self.autoscalers = Some(autoscalers.clone()),
            Change::ActivatorConfig(config) => self.activator = Some(Arc::clone(config)),
        }
    }

    /// The changes that lead from nothing to this state.
    fn list(&self) -> impl Iterator<Item = Change> {
        let revisions = self.revisions.iter().flat_map(|(id, known)| {
            let applied = known.revision.clone().map(Change::Applied);
            let endpoints = known.endpoints.clone().map(|(version, endpoints)| Change::Endpoints {
                revision: id.clone(),
                version,
                endpoints,
            });
            let seen = known.traffic_seen.then(|| Change::TrafficSeen(id.clone()));
            applied.into_iter().chain(seen).chain(known.replicas.clone()).chain(endpoints)
        });
        let peers = self.activators.clone().map(Change::Activators);
        let config = self.activator.clone().map(Change::ActivatorConfig);
        config.into_iter().chain(revisions).chain(peers).chain(self.autoscalers.clone().map(Change::Autoscalers))
    }
}

/// One subscriber.
struct Watcher {
    board: Board,
    changes: broadcast::Receiver<Change>,
    /// Revisions it has heard of.
    told: BTreeSet<RevisionId>,
    next: VecDeque<Change>,
}

impl Watcher {
    /// Queues the whole state and listens from here on.
    fn list(&mut self) {
        let state = self.board.0.state.lock();
        self.changes = self.board.0.changes.subscribe();
        let gone = self.told.iter().filter(|id| !state.revisions.contains_key(*id)).cloned().map(Change::Deleted);
        self.next.extend(gone);
        self.next.extend(state.list());
    }

    async fn change(&mut self) -> Change {
        let change = loop {
            if let Some(change) = self.next.pop_front() {
                break change;
            }
            match self.changes.recv().await {
                Ok(change) => break change,
                Err(RecvError::Lagged(_)) => self.list(),
                // Cannot happen while this watcher holds the board; a watch never ends.
                Err(RecvError::Closed) => std::future::pending().await,
            }
        };
        match &change {
            Change::Applied(revision) => {
                self.told.insert(revision.id.clone());
            }
            Change::Deleted(revision) => {
                self.told.remove(revision);
            }
            Change::Endpoints { revision, .. } | Change::Replicas { revision, .. } | Change::TrafficSeen(revision) => {
                self.told.insert(revision.clone());
            }
            Change::Synced | Change::Activators(_) | Change::Autoscalers(_) | Change::ActivatorConfig(_) => {}
        }
        change
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixed::default_revision;
    use domain::Replicas;
    use futures_util::FutureExt;

    fn id(name: &str) -> RevisionId {
        RevisionId::new("default", name)
    }

    fn applied(name: &str) -> Change {
        Change::Applied(Arc::new(default_revision(id(name))))
    }

    fn replicas(name: &str, ready: u32) -> Change {
        let (requested, ready) = (Replicas::new(ready), Replicas::new(ready));
        Change::Replicas {
            revision: id(name),
            requested,
            ready,
            terminating: Replicas::ZERO,
            trouble: None,
            foreign: None,
        }
    }

    fn heard(watch: &mut BoxStream<'static, Change>) -> Vec<Change> {
        std::iter::from_fn(|| watch.next().now_or_never().flatten()).collect()
    }

    #[test]
    fn a_late_watcher_hears_the_state_and_not_its_history() {
        let board = Board::new();
        let mut early = board.watch();
        assert_eq!(heard(&mut early), [Change::Synced]);
        for change in [applied("a"), replicas("a", 1), replicas("a", 2), applied("b"), Change::Deleted(id("b"))] {
            board.tell(change);
        }
        assert_eq!(heard(&mut early).len(), 5);
        assert_eq!(heard(&mut board.watch()), [applied("a"), replicas("a", 2), Change::Synced]);
    }

    #[test]
    fn a_watcher_that_fell_behind_is_told_of_what_vanished() {
        let board = Board::new();
        board.tell(applied("a"));
        board.tell(applied("b"));
        let mut slow = board.watch();
        assert_eq!(heard(&mut slow).len(), 3);
        board.tell(Change::Deleted(id("b")));
        for n in 0..CHANGES_MAX as u32 + 1 {
            board.tell(replicas("a", n));
        }
        assert_eq!(heard(&mut slow), [Change::Deleted(id("b")), applied("a"), replicas("a", CHANGES_MAX as u32)]);
    }
}
