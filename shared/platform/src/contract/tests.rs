//! The suite notices what it is there for: platforms with one flaw each.

use super::*;
use crate::fake::Fake;
use crate::fixed::default_revision;
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use tokio::sync::watch;

/// What is wrong with a platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    NeverSynced,
    SyncedTwice,
    LowersByForce,
    RaisesOnlyIfAgreed,
    ForgetsWhoShouldLeave,
    StaleVersions,
    NamesComeBack,
    DeletionUntold,
    CountsUntold,
    AcceptsUnknownTargets,
}

struct Flawed {
    fake: Fake,
    flaw: Flaw,
}

fn id() -> RevisionId {
    RevisionId::new("default", "model")
}

impl Flawed {
    fn distort(flaw: Flaw, change: Change) -> Vec<Change> {
        match (flaw, change) {
            (Flaw::NeverSynced, Change::Synced) => vec![],
            (Flaw::SyncedTwice, Change::Synced) => vec![Change::Synced, Change::Synced],
            (Flaw::DeletionUntold, Change::Deleted(_)) => vec![],
            (Flaw::CountsUntold, Change::Replicas { .. }) => vec![],
            (Flaw::StaleVersions, Change::Endpoints { revision, endpoints, version: _ }) => {
                vec![Change::Endpoints { revision, version: 1, endpoints }]
            }
            (Flaw::NamesComeBack, Change::Endpoints { revision, version, endpoints }) => {
                let named = (0..)
                    .zip(&*endpoints)
                    .map(|(n, endpoint)| Endpoint { id: EndpointId::new(&format!("replica-{n}")), ..endpoint.clone() });
                vec![Change::Endpoints { revision, version, endpoints: named.collect() }]
            }
            (_, change) => vec![change],
        }
    }
}

impl Platform for Flawed {
    fn watch(&self) -> BoxStream<'static, Change> {
        let flaw = self.flaw;
        self.fake.watch().flat_map(move |change| futures_util::stream::iter(Self::distort(flaw, change))).boxed()
    }

    fn scale<'a>(
        &'a self,
        target: &'a ScaleTargetRef,
        from: Replicas,
        to: Replicas,
        remove_first: &'a [EndpointId],
    ) -> BoxFuture<'a, Result<(), ScaleError>> {
        Box::pin(async move {
            let now = self.fake.requested(&id()).unwrap_or_default();
            let from = if self.flaw == Flaw::LowersByForce && to < now { now } else { from };
            let remove_first = if self.flaw == Flaw::ForgetsWhoShouldLeave { &[] } else { remove_first };
            if self.flaw == Flaw::RaisesOnlyIfAgreed && from != now {
                return Err(ScaleError::Changed { now });
            }
            let answer = self.fake.scale(target, from, to, remove_first).await;
            if self.flaw == Flaw::AcceptsUnknownTargets { Ok(()) } else { answer }
        })
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.fake.leadership()
    }
}

struct Candidate(Arc<Flawed>);

impl Subject for Candidate {
    fn platform(&self) -> Arc<dyn Platform> {
        self.0.clone()
    }
    fn revision(&self) -> RevisionId {
        id()
    }
    fn remove(&self) -> BoxFuture<'_, ()> {
        Box::pin(async { self.0.fake.remove(&id()) })
    }
}

async fn passes(flaw: Flaw) -> bool {
    let make = async || {
        let fake = Fake::new();
        fake.apply(default_revision(id()), Duration::from_secs(2));
        Candidate(Arc::new(Flawed { fake, flaw }))
    };
    AssertUnwindSafe(suite(make)).catch_unwind().await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn every_flaw_is_noticed() {
    assert!(passes(Flaw::None).await);
    for flaw in [
        Flaw::NeverSynced,
        Flaw::SyncedTwice,
        Flaw::LowersByForce,
        Flaw::RaisesOnlyIfAgreed,
        Flaw::ForgetsWhoShouldLeave,
        Flaw::StaleVersions,
        Flaw::NamesComeBack,
        Flaw::DeletionUntold,
        Flaw::CountsUntold,
        Flaw::AcceptsUnknownTargets,
    ] {
        assert!(!passes(flaw).await, "{flaw:?} was not noticed");
    }
}
