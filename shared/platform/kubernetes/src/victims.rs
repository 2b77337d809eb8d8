//! Which pods cost least to delete: those that were drained.
//!
//! Invariant: only our own cost is written and only our own is removed; a cost that somebody else wrote stands. A count is
//! not lowered by pods whose turn to be marked has not come. Best effort beyond that: the ReplicaSet controller may not
//! have seen the cost yet, or the cluster may refuse it; nothing is lost if another pod is taken (engineering 30).

use crate::picture::Picture;
use crate::trim::{DELETION_COST, Key, Pod};
use domain::EndpointId;
use k8s_openapi::api::core::v1 as core;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use parking_lot::Mutex;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

/// The cost of a drained pod: the lowest there is, and so known as ours.
pub const COST: &str = "-2147483648";
/// Between two patches (kpa-behaviour 6: at most 5 a second).
const PAUSE: Duration = Duration::from_millis(200);
/// How long a scale call waits until the costs are written and seen: by our own watch, so most likely by the
/// ReplicaSet controller's too. Below the time of a call, and as long as a raise may have to wait for a lowering.
const SEEN_WITHIN: Duration = Duration::from_millis(1200);
/// How long it waits for turns: a patch that is sent still has time to be answered.
const TURNS_WITHIN: Duration = Duration::from_secs(1);
/// How long a pod keeps our cost although it stays.
pub const KEPT_FOR: Duration = Duration::from_secs(30);

/// Marks pods, and takes the marks back.
pub struct Victims {
    client: Client,
    picture: Arc<Mutex<Picture>>,
    /// Told whenever the picture has changed.
    changed: watch::Receiver<()>,
    /// When the next patch may be sent. Held until then: whoever gives up waiting has used up no turn.
    turn: tokio::sync::Mutex<Instant>,
    /// Pods with our cost, since when this process knows of it.
    marked: Mutex<BTreeMap<Key, Instant>>,
}

impl std::fmt::Debug for Victims {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Victims").field("marked", &self.marked).finish_non_exhaustive()
    }
}

impl Victims {
    /// Marks nobody yet.
    pub fn new(client: Client, picture: Arc<Mutex<Picture>>, changed: watch::Receiver<()>) -> Self {
        let turn = tokio::sync::Mutex::new(Instant::now());
        Self { client, picture, changed, turn, marked: Mutex::default() }
    }

    /// Marks the pods of `workload` that shall leave, and waits until the cluster shows it, as long as a scale call can.
    /// Returns how many of them it had no time for: these are not told from the others and must stay for now. One that
    /// could not be marked is not tried again soon, and does not stay for that.
    pub async fn mark(&self, workload: &Key, ids: &[EndpointId]) -> usize {
        let now = Instant::now();
        let (last_turn, deadline) = (now + TURNS_WITHIN, now + SEEN_WITHIN);
        let mut waiting = self.untried(workload, ids).into_iter();
        let rest = loop {
            let Some(pod) = waiting.next() else { break 0 };
            if timeout_at(last_turn, self.turn()).await.is_err() {
                break waiting.len() + 1;
            }
            self.marked.lock().insert(pod.clone(), Instant::now());
            if timeout_at(deadline, self.patch(&pod, Some(COST))).await.is_err() {
                break waiting.len();
            }
        };
        let mut changed = self.changed.clone();
        let shown = async { while self.unmarked(workload, ids).len() > rest && changed.changed().await.is_ok() {} };
        if timeout_at(deadline, shown).await.is_err() {
            tracing::debug!(?workload, "the cost of leaving pods is not shown yet; another pod may be taken");
        }
        rest
    }

    /// Named pods that carry no cost yet.
    fn unmarked(&self, workload: &Key, ids: &[EndpointId]) -> Vec<Key> {
        let picture = self.picture.lock();
        let pods = ids.iter().filter_map(|id| picture.pod(workload, id));
        pods.filter(|pod| pod.cost.is_none() && !pod.leaving).map(|pod| pod.key.clone()).collect()
    }

    /// Those of them that were not tried lately.
    fn untried(&self, workload: &Key, ids: &[EndpointId]) -> Vec<Key> {
        let (unmarked, marked) = (self.unmarked(workload, ids), self.marked.lock());
        let lately = |pod: &Key| marked.get(pod).is_some_and(|at| at.elapsed() < KEPT_FOR);
        unmarked.into_iter().filter(|pod| !lately(pod)).collect()
    }

    /// Takes back the marks of pods that stay.
    pub async fn unmark(&self, workload: &Key) {
        let stale = {
            let (picture, mut marked) = (self.picture.lock(), self.marked.lock());
            stale(picture.pods(workload), &mut marked, Instant::now())
        };
        for pod in stale {
            self.turn().await;
            self.patch(&pod, None).await;
            self.marked.lock().remove(&pod);
        }
    }

    /// Forgets pods that are gone.
    pub fn forget_gone(&self, exists: impl Fn(&Key) -> bool) {
        self.marked.lock().retain(|key, _| exists(key));
    }

    /// Waits for a turn to patch, first come, first served.
    async fn turn(&self) {
        let mut next = self.turn.lock().await;
        sleep_until(*next).await;
        *next = Instant::now() + PAUSE;
    }

    async fn patch(&self, (namespace, name): &Key, cost: Option<&str>) {
        let api: Api<core::Pod> = Api::namespaced(self.client.clone(), namespace);
        let patch = json!({"metadata": {"annotations": {DELETION_COST: cost}}});
        if let Err(error) = api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
            tracing::debug!(namespace, name, %error, "the deletion cost of a pod is not written");
        }
    }
}

/// Pods with our cost that have stayed longer than it takes to delete them.
fn stale<'a>(pods: impl Iterator<Item = &'a Pod>, marked: &mut BTreeMap<Key, Instant>, now: Instant) -> Vec<Key> {
    let ours = pods.filter(|pod| pod.cost.as_deref() == Some(COST) && !pod.leaving);
    let late = |pod: &&Pod| {
        let since = *marked.entry(pod.key.clone()).or_insert(now);
        now.saturating_duration_since(since) >= KEPT_FOR
    };
    ours.filter(late).map(|pod| pod.key.clone()).collect()
}
