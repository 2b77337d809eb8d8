//! Pods, and which workload each of them belongs to.
//!
//! Invariant: a pod belongs to every workload whose selector it matches, at the moment it is asked for; one that was told
//! to end stays in the list until it is gone, and is never ready.

use crate::trim::{Key, Pod};
use domain::{Endpoint, EndpointState, Replicas, Trouble};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt};
use platform::manifest::Adopted;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

/// A permanent reason is believed when it was seen so often on one pod (kpa-behaviour 11.4).
const SIGHTINGS: u32 = 3;
/// Reasons for which a container does not run that do not pass by waiting.
const PERMANENT: &[&str] = &[
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "ImageInspectError",
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
];
/// Different sets of labels that are remembered for sharing.
const LABEL_SETS_MAX: usize = 10_000;

type Labels = BTreeMap<String, String>;

/// A selector, as it is written and as it is asked.
#[derive(Debug)]
struct Select {
    written: LabelSelector,
    asked: Selector,
}

impl Select {
    fn matches(&self, pod: &Pod) -> bool {
        self.asked.matches(&pod.labels)
    }

    /// Under which the workload is looked up.
    fn index(&self, namespace: &str) -> (String, String, String) {
        let first = self.written.match_labels.iter().flatten().next();
        let (label, value) = first.map(|(label, value)| (label.clone(), value.clone())).unwrap_or_default();
        (namespace.to_owned(), label, value)
    }
}

#[derive(Debug, Default)]
pub(super) struct Pods {
    pods: BTreeMap<Key, Pod>,
    /// How often a pod was seen with a permanent reason.
    sightings: BTreeMap<Key, u32>,
    selectors: BTreeMap<Key, Select>,
    /// Workloads by the first pair of their selector, with the namespace; both parts are empty where it has no pairs.
    by_label: BTreeMap<(String, String, String), BTreeSet<Key>>,
    members: BTreeMap<Key, BTreeSet<Key>>,
    shared: BTreeSet<Arc<Labels>>,
}

impl Pods {
    /// Takes over a pod; the workloads it belongs or belonged to.
    pub(super) fn set(&mut self, mut pod: Pod) -> BTreeSet<Key> {
        let key = pod.key.clone();
        let mut touched = self.unlink(&key);
        pod.labels = self.share(pod.labels);
        let owners = self.owners(&pod);
        for owner in &owners {
            self.members.entry(owner.clone()).or_default().insert(key.clone());
        }
        if pod.waiting.as_ref().is_some_and(|(reason, _)| PERMANENT.contains(&reason.as_str())) {
            *self.sightings.entry(key.clone()).or_default() += 1;
        } else {
            self.sightings.remove(&key);
        }
        self.pods.insert(key, pod);
        touched.extend(owners);
        touched
    }

    /// Forgets a pod; the workloads it belonged to.
    pub(super) fn remove(&mut self, key: &Key) -> BTreeSet<Key> {
        self.sightings.remove(key);
        self.unlink(key)
    }

    fn unlink(&mut self, key: &Key) -> BTreeSet<Key> {
        let Some(pod) = self.pods.remove(key) else { return BTreeSet::new() };
        let owners = self.owners(&pod);
        for owner in &owners {
            if let Some(members) = self.members.get_mut(owner) {
                members.remove(key);
            }
        }
        owners
    }

    fn share(&mut self, labels: Arc<Labels>) -> Arc<Labels> {
        if let Some(same) = self.shared.get(&labels) {
            return same.clone();
        }
        if self.shared.len() >= LABEL_SETS_MAX {
            self.shared.retain(|labels| Arc::strong_count(labels) > 1);
        }
        if self.shared.len() < LABEL_SETS_MAX {
            self.shared.insert(labels.clone());
        }
        labels
    }

    fn owners(&self, pod: &Pod) -> BTreeSet<Key> {
        let index = |label: &str, value: &str| (pod.key.0.clone(), label.to_owned(), value.to_owned());
        let pairs = pod.labels.iter().map(|(label, value)| index(label, value)).chain([index("", "")]);
        let candidates = pairs.filter_map(|index| self.by_label.get(&index)).flatten();
        let selects = |key: &&Key| self.selectors.get(*key).is_some_and(|select| select.matches(pod));
        candidates.filter(selects).cloned().collect()
    }

    /// The workload `key` selects by `selector`. One that cannot be read selects nothing.
    pub(super) fn select(&mut self, key: &Key, selector: &LabelSelector) {
        if self.selectors.get(key).is_some_and(|select| select.written == *selector) {
            return;
        }
        self.forget(key);
        let Ok(asked) = Selector::try_from(selector.clone()) else { return };
        let select = Select { written: selector.clone(), asked };
        self.by_label.entry(select.index(&key.0)).or_default().insert(key.clone());
        let from = (key.0.clone(), String::new());
        let members = self.pods.range(from..).take_while(|(pod, _)| pod.0 == key.0);
        let members = members.filter(|(_, pod)| select.matches(pod)).map(|(pod, _)| pod.clone()).collect();
        self.members.insert(key.clone(), members);
        self.selectors.insert(key.clone(), select);
    }

    /// The workload is not ours any more.
    pub(super) fn forget(&mut self, key: &Key) {
        self.members.remove(key);
        let Some(select) = self.selectors.remove(key) else { return };
        let index = select.index(&key.0);
        if let Some(keys) = self.by_label.get_mut(&index) {
            keys.remove(key);
            if keys.is_empty() {
                self.by_label.remove(&index);
            }
        }
    }

    pub(super) fn of(&self, key: &Key) -> impl Iterator<Item = &Pod> {
        self.members.get(key).into_iter().flatten().filter_map(|pod| self.pods.get(pod)).filter(|pod| !pod.ended)
    }

    pub(super) fn has(&self, pod: &Key) -> bool {
        self.pods.contains_key(pod)
    }

    pub(super) fn ready(&self, key: &Key) -> Replicas {
        count(self.of(key).filter(|pod| pod.ready && !pod.leaving))
    }

    pub(super) fn terminating(&self, key: &Key) -> Replicas {
        count(self.of(key).filter(|pod| pod.leaving))
    }

    pub(super) fn endpoints(&self, key: &Key, adopted: &Adopted) -> Vec<Endpoint> {
        let endpoint = |pod: &Pod| {
            let state = match (pod.leaving, pod.ready) {
                (true, _) => EndpointState::Draining,
                (false, true) => EndpointState::Ready,
                (false, false) => EndpointState::Starting,
            };
            let early_probe = adopted.early_probe.clone().filter(|_| state == EndpointState::Starting);
            let address = SocketAddr::new(pod.address?, adopted.port);
            Some(Endpoint { id: pod.id.clone(), address, state, early_probe })
        };
        let mut endpoints: Vec<Endpoint> = self.of(key).filter_map(endpoint).collect();
        endpoints.sort_by(|a, b| a.id.cmp(&b.id));
        endpoints
    }

    /// Why pods do not become ready: what will not pass first, then what may.
    pub(super) fn trouble(&self, key: &Key, failure: Option<&(String, String)>) -> Option<Trouble> {
        let unready = || self.of(key).filter(|pod| !pod.ready && !pod.leaving);
        let waiting = unready().filter_map(|pod| {
            let (reason, message) = pod.waiting.as_ref()?;
            let seen = self.sightings.get(&pod.key).copied().unwrap_or(0).max(pod.restarts);
            let permanent = PERMANENT.contains(&reason.as_str()) && seen >= SIGHTINGS;
            Some(trouble(reason, format!("pod {}: {message}", pod.key.1), permanent))
        });
        let unscheduled = unready().filter_map(|pod| {
            let message = pod.unschedulable.as_ref()?;
            Some(trouble("Unschedulable", format!("pod {}: {message}", pod.key.1), false))
        });
        let failed = failure.map(|(reason, message)| trouble(reason, message.clone(), false));
        waiting.chain(unscheduled).chain(failed).max_by_key(|trouble| trouble.permanent)
    }
}

fn trouble(reason: &str, message: String, permanent: bool) -> Trouble {
    Trouble { reason: reason.into(), message: message.trim_end_matches(": ").into(), permanent }
}

fn count<'a>(pods: impl Iterator<Item = &'a Pod>) -> Replicas {
    Replicas::new(u32::try_from(pods.count()).unwrap_or(u32::MAX))
}
