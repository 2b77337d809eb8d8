//! What every platform must do, as a suite that each of them passes.
//!
//! Invariant: only the [`Platform`] trait is used, so a platform cannot pass by being known.

use crate::{Leadership, Platform, ScaleError};
use domain::{Change, Endpoint, EndpointId, EndpointState, Replicas, RevisionId, ScaleTargetRef};
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use futures_util::StreamExt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How long a step may take before the platform has failed: far more than a process needs to start.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How long nothing must happen where nothing should.
const QUIET: Duration = Duration::from_millis(500);

/// A platform with one declared revision that starts with no replica, scales up to 4 and whose settings change nothing
/// by themselves.
pub trait Subject: Send + Sync {
    /// The platform. Every call gives the same one.
    fn platform(&self) -> Arc<dyn Platform>;
    /// Its revision.
    fn revision(&self) -> RevisionId;
    /// Takes the declaration away, as a person would.
    fn remove(&self) -> BoxFuture<'_, ()>;
}

/// Runs every case, each on a platform of its own. Panics with the case's story when one fails.
pub async fn suite<S, F>(make: F)
where
    S: Subject,
    F: AsyncFn() -> S,
{
    everything_known_then_synced(&make().await).await;
    raising_starts_replicas(&make().await).await;
    raising_needs_no_agreement(&make().await).await;
    lowering_is_a_compare_and_set(&make().await).await;
    exactly_the_named_ones_leave(&make().await).await;
    to_zero_and_back(&make().await).await;
    a_late_watcher_sees_all(&make().await).await;
    an_unknown_target_is_not_found(&make().await).await;
    removal_is_told(&make().await).await;
    leadership_is_known(&make().await);
}

async fn everything_known_then_synced(subject: &impl Subject) {
    let mut view = View::of(&*subject.platform());
    view.until(|view| view.synced).await;
    let id = subject.revision();
    assert!(view.targets.contains_key(&id), "the declared revision is told before Synced");
    assert_eq!(view.requested(&id), 0, "and has no replica");
}

async fn raising_starts_replicas(subject: &impl Subject) {
    let (platform, id) = (subject.platform(), subject.revision());
    let mut view = View::of(&*platform);
    view.scale(&*platform, &id, 0, 2, &[]).await;
    let ready = view.endpoints(&id);
    assert_eq!(ready.len(), 2);
    assert_ne!(ready[0].id, ready[1].id, "replicas have names of their own");
    assert_ne!(ready[0].address, ready[1].address, "and addresses of their own");
}

async fn raising_needs_no_agreement(subject: &impl Subject) {
    let (platform, id) = (subject.platform(), subject.revision());
    let mut view = View::of(&*platform);
    view.scale(&*platform, &id, 0, 1, &[]).await;
    // Decided from a count that is not true any more: more is still more.
    view.scale(&*platform, &id, 0, 3, &[]).await;
}

async fn lowering_is_a_compare_and_set(subject: &impl Subject) {
    let (platform, id) = (subject.platform(), subject.revision());
    let mut view = View::of(&*platform);
    view.scale(&*platform, &id, 0, 2, &[]).await;
    let target = view.target(&id);
    let answer = platform.scale(&target, Replicas::new(3), Replicas::ONE, &[]).await;
    assert_eq!(answer, Err(ScaleError::Changed { now: Replicas::new(2) }), "somebody else wrote");
    view.quiet(&id).await;
    assert_eq!((view.requested(&id), view.ready(&id)), (2, 2), "and nothing was done");
    view.scale(&*platform, &id, 2, 1, &[]).await;
}

async fn exactly_the_named_ones_leave(subject: &impl Subject) {
    let (platform, id) = (subject.platform(), subject.revision());
    let mut view = View::of(&*platform);
    view.scale(&*platform, &id, 0, 3, &[]).await;
    let names: Vec<EndpointId> = view.endpoints(&id).iter().map(|endpoint| endpoint.id.clone()).collect();
    // The middle one: neither the oldest nor the newest, so that no habit can hit it by luck.
    view.scale(&*platform, &id, 3, 2, &names[1..2]).await;
    let left: BTreeSet<EndpointId> = view.endpoints(&id).iter().map(|endpoint| endpoint.id.clone()).collect();
    assert_eq!(left, BTreeSet::from([names[0].clone(), names[2].clone()]));
    // The view refuses a name that comes back.
    view.scale(&*platform, &id, 2, 4, &[]).await;
}

async fn to_zero_and_back(subject: &impl Subject) {
    let (platform, id) = (subject.platform(), subject.revision());
    let mut view = View::of(&*platform);
    for _ in 0..2 {
        view.scale(&*platform, &id, 0, 1, &[]).await;
        let name = view.endpoints(&id)[0].id.clone();
        view.scale(&*platform, &id, 1, 0, &[name]).await;
        assert!(view.endpoints(&id).is_empty(), "nobody is left to be sent a request");
    }
}

async fn a_late_watcher_sees_all(subject: &impl Subject) {
    let (platform, id) = (subject.platform(), subject.revision());
    let mut early = View::of(&*platform);
    early.scale(&*platform, &id, 0, 2, &[]).await;
    let mut late = View::of(&*platform);
    late.until(|view| view.synced).await;
    assert_eq!(late.requested(&id), 2);
    assert_eq!(late.ready(&id), 2);
    assert_eq!(late.endpoints(&id), early.endpoints(&id));
    assert_eq!(late.target(&id), early.target(&id));
}

async fn an_unknown_target_is_not_found(subject: &impl Subject) {
    let target = ScaleTargetRef::deployment("nowhere", "nothing");
    let answer = subject.platform().scale(&target, Replicas::ZERO, Replicas::ONE, &[]).await;
    assert_eq!(answer, Err(ScaleError::NotFound(target)));
}

async fn removal_is_told(subject: &impl Subject) {
    let (platform, id) = (subject.platform(), subject.revision());
    let mut view = View::of(&*platform);
    view.scale(&*platform, &id, 0, 1, &[]).await;
    let (target, replica) = (view.target(&id), view.endpoints(&id)[0].id.clone());
    subject.remove().await;
    view.until(|view| view.endpoints(&id).is_empty()).await;
    if view.targets.contains_key(&id) {
        // It lets its replicas finish what they have, until it hears that they have nothing.
        let left = Replicas::new(view.requested(&id));
        let answer = platform.scale(&target, left, left, &[replica]).await;
        assert!(matches!(answer, Ok(()) | Err(ScaleError::NotFound(_))), "{answer:?}");
    }
    view.until(|view| !view.targets.contains_key(&id)).await;
    let answer = platform.scale(&target, Replicas::ONE, Replicas::new(2), &[]).await;
    assert_eq!(answer, Err(ScaleError::NotFound(target)), "what is gone cannot be scaled");
    let mut late = View::of(&*platform);
    late.until(|view| view.synced).await;
    assert!(!late.targets.contains_key(&id), "and is not told to a late watcher");
}

fn leadership_is_known(subject: &impl Subject) {
    let leadership = subject.platform().leadership();
    // Either answer is right; having none, or one that has passed, is not.
    match *leadership.borrow() {
        Leadership::Follower | Leadership::Leader { until: None } => {}
        Leadership::Leader { until: Some(until) } => assert!(until > tokio::time::Instant::now()),
    }
}

/// What one watcher has heard. Refuses what no platform may tell.
pub struct View {
    watch: BoxStream<'static, Change>,
    /// [`Change::Synced`] was heard.
    pub synced: bool,
    /// The revisions there are, with their targets.
    pub targets: BTreeMap<RevisionId, ScaleTargetRef>,
    counts: BTreeMap<RevisionId, (Replicas, Replicas)>,
    lists: BTreeMap<RevisionId, (u64, Arc<[Endpoint]>)>,
    gone: BTreeSet<EndpointId>,
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("counts", &self.counts).field("lists", &self.lists).finish_non_exhaustive()
    }
}

impl View {
    /// Starts to watch.
    #[must_use]
    pub fn of(platform: &dyn Platform) -> Self {
        Self {
            watch: platform.watch(),
            synced: false,
            targets: BTreeMap::new(),
            counts: BTreeMap::new(),
            lists: BTreeMap::new(),
            gone: BTreeSet::new(),
        }
    }

    /// Replicas asked for.
    #[must_use]
    pub fn requested(&self, id: &RevisionId) -> u32 {
        self.counts.get(id).map_or(0, |(requested, _)| requested.get())
    }

    /// Replicas the platform counts as ready.
    #[must_use]
    pub fn ready(&self, id: &RevisionId) -> u32 {
        self.counts.get(id).map_or(0, |(_, ready)| ready.get())
    }

    /// Replicas that may be sent requests, in the platform's order.
    #[must_use]
    pub fn endpoints(&self, id: &RevisionId) -> Vec<Endpoint> {
        let all = self.lists.get(id).map_or(&[][..], |(_, endpoints)| endpoints);
        all.iter().filter(|endpoint| endpoint.state == EndpointState::Ready).cloned().collect()
    }

    /// What is scaled. Panics for a revision that is not there.
    #[must_use]
    pub fn target(&self, id: &RevisionId) -> ScaleTargetRef {
        self.targets.get(id).unwrap_or_else(|| panic!("{id} is not there")).clone()
    }

    /// Hears changes until `reached`; panics after [`PATIENCE`].
    pub async fn until(&mut self, reached: impl Fn(&Self) -> bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !reached(self) {
            match tokio::time::timeout_at(deadline, self.watch.next()).await {
                Ok(Some(change)) => self.hear(change),
                Ok(None) => panic!("a watch never ends"),
                Err(_) => panic!("not reached within {PATIENCE:?}: {self:?}"),
            }
        }
    }

    /// Scales and waits until counts and endpoints agree.
    async fn scale(&mut self, platform: &dyn Platform, id: &RevisionId, from: u32, to: u32, remove: &[EndpointId]) {
        self.until(|view| view.synced).await;
        let answer = platform.scale(&self.target(id), Replicas::new(from), Replicas::new(to), remove).await;
        assert_eq!(answer, Ok(()), "{from} -> {to}");
        self.until(|view| {
            let lists = view.endpoints(id).len() == to as usize;
            view.requested(id) == to && view.ready(id) == to && lists
        })
        .await;
    }

    /// Listens for a while; panics if the revision's replicas change meanwhile.
    async fn quiet(&mut self, id: &RevisionId) {
        let before = (self.requested(id), self.endpoints(id));
        let end = tokio::time::Instant::now() + QUIET;
        while let Ok(Some(change)) = tokio::time::timeout_at(end, self.watch.next()).await {
            self.hear(change);
            assert_eq!((self.requested(id), self.endpoints(id)), before);
        }
    }

    fn hear(&mut self, change: Change) {
        match change {
            Change::Synced => {
                assert!(!self.synced, "Synced is told once");
                self.synced = true;
            }
            Change::Applied(revision) => {
                self.targets.insert(revision.id.clone(), revision.target.clone());
            }
            Change::Deleted(id) => {
                assert!(self.targets.remove(&id).is_some(), "{id} was deleted and never there");
                self.counts.remove(&id);
                self.lists.remove(&id);
            }
            Change::Endpoints { revision, version, endpoints } => self.list(revision, version, endpoints),
            Change::Replicas { revision, requested, ready, terminating: _, trouble: _, foreign: _ } => {
                assert!(self.targets.contains_key(&revision), "{revision} has counts before it is there");
                self.counts.insert(revision, (requested, ready));
            }
            Change::TrafficSeen(revision) => {
                assert!(self.targets.contains_key(&revision), "{revision} had requests before it is there");
            }
            Change::Activators(_) | Change::Autoscalers(_) | Change::ActivatorConfig(_) => {}
        }
    }

    fn list(&mut self, revision: RevisionId, version: u64, endpoints: Arc<[Endpoint]>) {
        assert!(self.targets.contains_key(&revision), "{revision} has endpoints before it is there");
        for endpoint in &*endpoints {
            assert!(!self.gone.contains(&endpoint.id), "{} came back", endpoint.id);
        }
        if let Some((older, before)) = self.lists.get(&revision) {
            assert!(version > *older, "version {version} of {revision} came after {older}");
            let left = before.iter().filter(|old| endpoints.iter().all(|new| new.id != old.id));
            self.gone.extend(left.map(|endpoint| endpoint.id.clone()));
        }
        self.lists.insert(revision, (version, endpoints));
    }
}

#[cfg(test)]
mod tests;
