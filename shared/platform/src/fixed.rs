//! Revisions with fixed addresses, run by somebody else: what a standalone activator needs for `--upstream`.
//!
//! Invariant: every endpoint is always ready, and nothing is ever scaled.

use crate::board::Board;
use crate::{Leadership, Platform, ScaleError};
use domain::{
    Aggregation, Change, Endpoint, EndpointId, EndpointState, Limits, Manual, Mode, Refusal, Replicas, Resolved,
    Revision, RevisionId, Route, ScaleTargetRef, ScalingSpec, Signal, SignalSpec,
};
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
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
            board.tell(Change::Replicas { revision: id.clone(), requested: count, ready: count, trouble: None });
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

/// A Deployment of the same name with no annotation at all: every setting has its built-in default.
#[must_use]
pub fn default_revision(id: RevisionId) -> Revision {
    Revision {
        target: ScaleTargetRef::deployment(id.namespace(), id.name()),
        id,
        mode: Mode::Act,
        route: Route::default(),
        limits: Limits::default(),
        scaling: default_scaling(),
        problems: Vec::new(),
    }
}

/// Knative's defaults (knative-behaviour 2).
fn default_scaling() -> ScalingSpec {
    let limits = Limits::default();
    let span = Resolved::default_value;
    ScalingSpec {
        signals: vec![SignalSpec {
            signal: Signal::Concurrency,
            total: Resolved::default_value(100.0),
            utilization: Resolved::default_value(0.7),
        }],
        stable_window: span(Duration::from_secs(60)),
        panic_window_percentage: Resolved::default_value(10.0),
        panic_threshold_percentage: Resolved::default_value(200.0),
        max_scale_up_rate: Resolved::default_value(1000.0),
        max_scale_down_rate: Resolved::default_value(2.0),
        scale_down_delay: span(Duration::ZERO),
        min_scale: Resolved::default_value(Replicas::ZERO),
        max_scale: Resolved::default_value(None),
        initial_scale: Resolved::default_value(Replicas::ONE),
        activation_scale: Resolved::default_value(None),
        target_burst_capacity: Resolved::default_value(211.0),
        enable_scale_to_zero: Resolved::default_value(true),
        scale_to_zero_grace_period: span(Duration::from_secs(30)),
        scale_to_zero_pod_retention_period: span(Duration::ZERO),
        aggregation: Resolved::default_value(Aggregation::Linear),
        exact: Resolved::default_value(false),
        manual: Resolved::default_value(Manual::Resume),
        start_deadline: limits.start_deadline,
        drain_timeout: limits.drain_timeout,
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
