//! Revisions with fixed addresses, run by somebody else: what a standalone activator needs for `--upstream`.
//!
//! Invariant: every endpoint is always ready, and nothing is ever scaled.

use crate::board::Board;
use crate::{Leadership, Platform, ScaleError};
use domain::annotations::{Annotated, resolve};
use domain::defaults::Defaults;
use domain::{
    Change, Endpoint, EndpointId, EndpointState, Mode, Refusal, Replicas, Revision, RevisionId, ScaleTargetRef,
};
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::watch;

/// A platform that never changes.
#[derive(Debug)]
pub struct FixedPlatform {
    board: Board,
    leadership: watch::Sender<Leadership>,
}

impl FixedPlatform {
    /// Routes each revision to its addresses. The first revision is the oldest where two claim the same host.
    #[must_use]
    pub fn new(revisions: Vec<(RevisionId, Vec<SocketAddr>)>) -> Self {
        let board = Board::new();
        for (rank, (id, addresses)) in (0..).zip(revisions) {
            let mut revision = default_revision(id.clone());
            revision.route.age_rank = rank;
            revision.mode = Mode::Refused(Refusal::NotAnnotated);
            board.tell(Change::Applied(Arc::new(revision)));
            let count = Replicas::new(u32::try_from(addresses.len()).unwrap_or(u32::MAX));
            board.tell(Change::Replicas {
                revision: id.clone(),
                requested: count,
                ready: count,
                terminating: Replicas::ZERO,
                trouble: None,
                foreign: None,
            });
            board.tell(Change::Endpoints {
                revision: id,
                version: 1,
                endpoints: addresses.into_iter().map(endpoint).collect(),
            });
        }
        Self { board, leadership: watch::Sender::new(Leadership::Follower) }
    }
}

fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint { id: EndpointId::new(&address.to_string()), address, state: EndpointState::Ready, early_probe: None }
}

impl Platform for FixedPlatform {
    fn watch(&self) -> BoxStream<'static, Change> {
        self.board.watch()
    }

    fn scale<'a>(
        &'a self,
        target: &'a ScaleTargetRef,
        _from: Replicas,
        _to: Replicas,
        _remove_first: &'a [EndpointId],
    ) -> BoxFuture<'a, Result<(), ScaleError>> {
        Box::pin(async move { Err(ScaleError::Refused(format!("{target} has fixed addresses and is run by others"))) })
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }
}

/// A Deployment of the same name with no annotation at all, acted on: every setting has its built-in default.
#[must_use]
pub fn default_revision(id: RevisionId) -> Revision {
    let nothing = BTreeMap::new();
    let annotated = Annotated { place: id.as_str(), metadata: &nothing, template: &nothing };
    let resolution = resolve(&annotated, &Defaults::default(), None);
    Revision {
        target: ScaleTargetRef::deployment(id.namespace(), id.name()),
        id,
        mode: Mode::Act,
        route: resolution.route,
        limits: resolution.limits,
        scaling: resolution.scaling,
        problems: resolution.problems,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{FutureExt, StreamExt};

    #[test]
    fn everything_is_ready_at_once_and_stays() {
        let id = RevisionId::new("default", "bench");
        let platform = FixedPlatform::new(vec![(id.clone(), vec!["127.0.0.1:9000".parse().unwrap()])]);
        let mut watch = platform.watch();
        let heard: Vec<Change> = std::iter::from_fn(|| watch.next().now_or_never().flatten()).collect();
        assert!(matches!(&heard[0], Change::Applied(revision) if revision.id == id && !revision.mode.may_grow()));
        assert!(matches!(&heard[2], Change::Endpoints { endpoints, .. } if endpoints[0].state == EndpointState::Ready));
        assert_eq!(heard[3], Change::Synced);
        let target = ScaleTargetRef::deployment("default", "bench");
        let answer = platform.scale(&target, Replicas::ONE, Replicas::ZERO, &[]).now_or_never();
        assert!(matches!(answer, Some(Err(ScaleError::Refused(_)))));
    }
}
