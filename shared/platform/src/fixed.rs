//! Revisions with fixed addresses, run by somebody else: what a standalone activator needs for `--upstream`.
//!
//! Invariant: every endpoint is always ready, and nothing is ever scaled.

use crate::board::Board;
use crate::{Leadership, Platform, ScaleError};
use domain::annotations::{Annotated, Resolution, resolve};
use domain::defaults::Defaults;
use domain::{
    ActivatorConfig, Change, Endpoint, EndpointId, EndpointState, Mode, Problem, Refusal, Replicas, Revision,
    RevisionId, ScaleTargetRef, Severity,
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

/// What a [`FixedPlatform`] is made of.
#[derive(Debug, Default)]
pub struct Fixed {
    /// Revisions and their addresses. The first revision is the oldest where two claim the same host.
    pub upstreams: Vec<(RevisionId, Vec<SocketAddr>)>,
    /// Annotations that each of them is taken to have, such as `kpa.dev/container-concurrency`.
    pub annotations: BTreeMap<String, String>,
    /// Keys of `config-activator`.
    pub config: BTreeMap<String, String>,
}

impl FixedPlatform {
    /// Routes each revision to its addresses, with the built-in settings.
    #[must_use]
    pub fn new(upstreams: Vec<(RevisionId, Vec<SocketAddr>)>) -> Self {
        Self::of(upstreams.into_iter().map(|(id, addresses)| (default_revision(id), addresses)))
    }

    /// Routes each revision to its addresses, with the settings of `fixed`.
    ///
    /// # Errors
    /// All problems of annotations and settings together, when one of them is an error: nothing is in force then.
    pub fn with(fixed: Fixed) -> Result<Self, Vec<Problem>> {
        let config = ActivatorConfig::from_map("--set", &fixed.config).map_err(|wrong| wrong.problems)?;
        let mut revisions = Vec::with_capacity(fixed.upstreams.len());
        for (id, addresses) in fixed.upstreams {
            let revision = revision(id, "--annotation", &fixed.annotations);
            if revision.problems.iter().any(|problem| problem.severity == Severity::Error) {
                return Err(revision.problems);
            }
            revisions.push((revision, addresses));
        }
        let platform = Self::of(revisions);
        platform.board.tell(Change::ActivatorConfig(Arc::new(config)));
        Ok(platform)
    }

    fn of(revisions: impl IntoIterator<Item = (Revision, Vec<SocketAddr>)>) -> Self {
        let board = Board::new();
        for (rank, (mut revision, addresses)) in (0..).zip(revisions) {
            let id = revision.id.clone();
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
    let place = id.as_str().to_owned();
    revision(id, &place, &BTreeMap::new())
}

/// A Deployment of the same name with `annotations`, acted on. `place` is where problems say that they stand.
fn revision(id: RevisionId, place: &str, annotations: &BTreeMap<String, String>) -> Revision {
    let nothing = BTreeMap::new();
    let annotated = Annotated { place, metadata: annotations, template: &nothing };
    let Resolution { route, limits, scaling, problems, .. } = resolve(&annotated, &Defaults::default(), None);
    let target = ScaleTargetRef::deployment(id.namespace(), id.name());
    Revision { target, id, mode: Mode::Act, route, limits, scaling, problems }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{FutureExt, StreamExt};

    fn upstream(id: &RevisionId) -> Fixed {
        Fixed { upstreams: vec![(id.clone(), vec!["127.0.0.1:9000".parse().unwrap()])], ..Fixed::default() }
    }

    fn map(key: &str, value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(key.to_owned(), value.to_owned())])
    }

    #[test]
    fn annotations_and_settings_hold_and_wrong_ones_are_refused_with_their_key() {
        let id = RevisionId::new("default", "bench");
        let annotations = map("kpa.dev/container-concurrency", "10");
        let given = Fixed { annotations, config: map("forwarded", "off"), ..upstream(&id) };
        let heard: Vec<Change> = {
            let platform = FixedPlatform::with(given).unwrap();
            let mut watch = platform.watch();
            std::iter::from_fn(|| watch.next().now_or_never().flatten()).collect()
        };
        let applied = heard.iter().find_map(|it| if let Change::Applied(it) = it { Some(it) } else { None });
        let limit = *applied.unwrap().limits.container_concurrency;
        assert_eq!(limit.map(std::num::NonZeroU32::get), Some(10));
        let config = heard.iter().find_map(|it| if let Change::ActivatorConfig(it) = it { Some(it) } else { None });
        assert_eq!(*config.unwrap().forwarded, domain::Forwarding::Off);

        for (given, key) in [
            (
                Fixed { annotations: map("kpa.dev/container-concurrency", "many"), ..upstream(&id) },
                "container-concurrency",
            ),
            (Fixed { config: map("forwarded", "never"), ..upstream(&id) }, "forwarded"),
        ] {
            let problems = FixedPlatform::with(given).unwrap_err();
            assert!(problems.iter().any(|problem| problem.key.contains(key)), "{problems:?}");
        }
    }

    #[test]
    fn everything_is_ready_at_once_and_stays() {
        let id = RevisionId::new("default", "bench");
        let platform = FixedPlatform::new(upstream(&id).upstreams);
        let mut watch = platform.watch();
        let heard: Vec<Change> = std::iter::from_fn(|| watch.next().now_or_never().flatten()).collect();
        let told = |right: &dyn Fn(&Change) -> bool| heard.iter().any(right);
        assert!(told(&|it| matches!(it, Change::Applied(it) if it.id == id && !it.mode.may_grow())));
        assert!(told(
            &|it| matches!(it, Change::Endpoints { endpoints: it, .. } if it[0].state == EndpointState::Ready)
        ));
        assert_eq!(heard.last(), Some(&Change::Synced));
        let target = ScaleTargetRef::deployment("default", "bench");
        let answer = platform.scale(&target, Replicas::ONE, Replicas::ZERO, &[]).now_or_never();
        assert!(matches!(answer, Some(Err(ScaleError::Refused(_)))));
    }
}
