//! Which ReplicaSet belongs to which template, how a new one is made, and which old ones are thrown away.
//!
//! Invariant: a ReplicaSet's template never changes; a new template is a new ReplicaSet.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use super::super::hash;
use super::super::object::{controller_reference, is_controlled_by, name};
use super::{DESIRED, Look, MAX, REVISION, TEMPLATE_HASH, deletion, numbers, set_name};

/// Annotations of a Deployment that its ReplicaSets do not inherit.
const OWN_ANNOTATIONS: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    "deployment.kubernetes.io/revision-history",
    DESIRED,
    MAX,
    "deprecated.deployment.rollback.to",
];

/// What an unset `revisionHistoryLimit` means.
const HISTORY_DEFAULT: i32 = 10;

/// Older first.
pub(super) fn age_key(set: &ReplicaSet) -> (Option<Time>, String) {
    (set.metadata.creation_timestamp.clone(), name(&set.metadata).to_owned())
}

/// Whether a ReplicaSet was made from the Deployment's present template.
pub(super) fn is_of_template(set: &ReplicaSet, deployment: &Deployment) -> bool {
    let template = set.spec.as_ref().and_then(|spec| spec.template.clone());
    let wanted = numbers::spec(deployment).map(|spec| spec.template.clone());
    template.map(without_hash) == wanted.map(without_hash)
}

fn without_hash(mut template: PodTemplateSpec) -> PodTemplateSpec {
    if let Some(labels) = template.metadata.as_mut().and_then(|metadata| metadata.labels.as_mut()) {
        labels.remove(TEMPLATE_HASH);
    }
    template
}

fn annotation<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

fn number(set: &ReplicaSet, key: &str) -> Option<i32> {
    annotation(&set.metadata, key)?.parse().ok()
}

/// How many replicas the Deployment wanted when this ReplicaSet was last scaled.
pub(super) fn desired_of(set: &ReplicaSet) -> Option<i32> {
    number(set, DESIRED)
}

/// How many pods there might be at most when this ReplicaSet was last scaled.
pub(super) fn max_of(set: &ReplicaSet) -> Option<i32> {
    number(set, MAX)
}

pub(super) fn note_sizes(set: &mut ReplicaSet, deployment: &Deployment) {
    let desired = numbers::desired(deployment);
    let annotations = set.metadata.annotations.get_or_insert_default();
    annotations.insert(DESIRED.to_owned(), desired.to_string());
    annotations.insert(MAX.to_owned(), (desired + numbers::max_surge(deployment)).to_string());
}

fn revision(set: &ReplicaSet) -> i64 {
    annotation(&set.metadata, REVISION).and_then(|text| text.parse().ok()).unwrap_or(0)
}

impl Look<'_> {
    /// Brings the ReplicaSet of the present template up to date, and makes it if there is none and `create`.
    pub(super) fn sync_new(&mut self, create: bool) {
        let next = self.old.iter().map(revision).max().unwrap_or(0) + 1;
        let deployment = self.deployment;
        let Some(spec) = numbers::spec(deployment) else { return };
        if let Some(set) = &mut self.new {
            inherit(set, deployment, next);
            if let Some(inner) = &mut set.spec {
                inner.min_ready_seconds = spec.min_ready_seconds;
            }
            let (found, revision) =
                (name(&set.metadata).to_owned(), annotation(&set.metadata, REVISION).map(str::to_owned));
            self.note_revision(revision);
            if self.has_deadline() && self.condition("Progressing").is_none() {
                let text = format!("Found new replica set \"{found}\"");
                self.set_condition(self.new_condition("Progressing", "True", "FoundNewReplicaSet", text));
            }
            return;
        }
        if !create {
            return;
        }
        let hash = hash::template(&spec.template, self.status.collision_count);
        let wanted = set_name(deployment, &hash);
        let taken = self.neighbours.iter().find(|other| other.metadata.name.as_deref() == Some(&*wanted));
        if taken
            .is_some_and(|other| !(is_controlled_by(&other.metadata, deployment) && is_of_template(other, deployment)))
        {
            // The next look hashes with the count and finds another name.
            *self.status.collision_count.get_or_insert(0) += 1;
            return;
        }
        let mut set = new_set(deployment, wanted, &hash);
        set.metadata.annotations.get_or_insert_default().insert(REVISION.to_owned(), next.to_string());
        inherit(&mut set, deployment, next);
        note_sizes(&mut set, deployment);
        let size = self.size_of_new(&set);
        if let Some(spec) = &mut set.spec {
            spec.replicas = Some(size);
        }
        if self.has_deadline() {
            let text = format!("Created new replica set \"{}\"", name(&set.metadata));
            self.set_condition(self.new_condition("Progressing", "True", "NewReplicaSetCreated", text));
        }
        self.note_revision(Some(next.to_string()));
        self.new = Some(set);
    }

    fn note_revision(&mut self, revision: Option<String>) {
        if revision.as_deref() != annotation(&self.deployment.metadata, REVISION) {
            self.revision = revision;
        }
    }

    /// Throws away the oldest empty ReplicaSets beyond `revisionHistoryLimit`.
    pub(super) fn clean_up(&mut self) {
        let limit = numbers::spec(self.deployment).and_then(|spec| spec.revision_history_limit);
        let limit = usize::try_from(limit.unwrap_or(HISTORY_DEFAULT)).unwrap_or(0);
        let mut old: Vec<&ReplicaSet> =
            self.old.iter().filter(|set| set.metadata.deletion_timestamp.is_none()).collect();
        old.sort_by_key(|set| revision(set));
        let surplus = old.len().saturating_sub(limit);
        let is_idle = |set: &ReplicaSet| {
            let seen = set.status.as_ref().and_then(|status| status.observed_generation).unwrap_or(0);
            numbers::actual(set) == 0 && numbers::size(set) == 0 && set.metadata.generation.unwrap_or(0) <= seen
        };
        self.deletions = old.into_iter().take(surplus).filter(|set| is_idle(set)).map(deletion).collect();
    }

    pub(super) fn new_condition(&self, kind: &str, status: &str, reason: &str, message: String) -> DeploymentCondition {
        DeploymentCondition {
            last_transition_time: Some(Time(self.now)),
            last_update_time: Some(Time(self.now)),
            message: Some(message),
            reason: Some(reason.to_owned()),
            status: status.to_owned(),
            type_: kind.to_owned(),
        }
    }
}

/// Annotations of the Deployment, and its place in the history: back in use, a ReplicaSet is the newest again.
fn inherit(set: &mut ReplicaSet, deployment: &Deployment, next: i64) {
    let newest = revision(set).max(next);
    let annotations = set.metadata.annotations.get_or_insert_default();
    for (key, value) in deployment.metadata.annotations.iter().flatten() {
        if !OWN_ANNOTATIONS.contains(&key.as_str()) {
            annotations.insert(key.clone(), value.clone());
        }
    }
    annotations.insert(REVISION.to_owned(), newest.to_string());
}

fn new_set(deployment: &Deployment, name: String, hash: &str) -> ReplicaSet {
    let spec = deployment.spec.clone().unwrap_or_default();
    let (mut template, mut selector) = (spec.template, spec.selector);
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(TEMPLATE_HASH.to_owned(), hash.to_owned());
    let labels = labels.clone();
    selector.match_labels.get_or_insert_default().insert(TEMPLATE_HASH.to_owned(), hash.to_owned());
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: deployment.metadata.namespace.clone(),
            labels: Some(labels),
            owner_references: Some(vec![controller_reference(deployment)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            min_ready_seconds: spec.min_ready_seconds,
            replicas: Some(0),
            selector,
            template: Some(template),
        }),
        status: None,
    }
}
