//! The Deployment controller: ReplicaSets per template, rolled out within what may be missing and what may be too many.
//!
//! Invariant: one look writes each ReplicaSet at most once, and the status once, at the end.

mod numbers;
mod progress;
mod revisions;
mod rollout;
mod scale;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;

use super::claim::claim;
use super::controller::Controller;
use super::object::{Id, Object, Typed, controller_of, id, is_controlled_by, name, namespace, uid};
use super::replicaset;
use super::world::{Change, World};
use super::write::{Outcome, Propagation, Write};

pub(crate) use numbers::scaled;

pub(crate) const REVISION: &str = "deployment.kubernetes.io/revision";
pub(crate) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
pub(crate) const MAX: &str = "deployment.kubernetes.io/max-replicas";
pub(crate) const TEMPLATE_HASH: &str = "pod-template-hash";

#[derive(Debug, Default)]
pub(crate) struct Deployments;

/// One look at a Deployment: what it reads, and what it has decided so far.
struct Look<'a> {
    now: Timestamp,
    deployment: &'a Deployment,
    /// As they shall be written; `None` is a ReplicaSet to come that was not made.
    new: Option<ReplicaSet>,
    old: Vec<ReplicaSet>,
    /// Every ReplicaSet of the namespace, to see which names are taken.
    neighbours: &'a [Arc<ReplicaSet>],
    status: DeploymentStatus,
    revision: Option<String>,
    deletions: Vec<Write>,
}

/// The writes that bring a Deployment one step further. `sets`: those it controls; `neighbours`: all of its namespace;
/// `pods`: those of its ReplicaSets.
pub(crate) fn deployment(
    now: Timestamp,
    deployment: &Deployment,
    sets: &[Arc<ReplicaSet>],
    neighbours: &[Arc<ReplicaSet>],
    pods: &[Arc<Pod>],
) -> Outcome {
    let mut look = Look::new(now, deployment, sets, neighbours);
    if deployment.metadata.deletion_timestamp.is_some() {
        look.status = look.counted();
        return look.finish(sets);
    }
    look.note_pause();
    let paused = numbers::spec(deployment).and_then(|spec| spec.paused).unwrap_or(false);
    if paused || look.is_scaling() {
        look.sync_new(false);
        look.scale();
        if paused {
            look.clean_up();
        }
        look.status = look.counted();
    } else if numbers::is_rolling(deployment) {
        look.roll();
        look.sync_rollout_status();
    } else {
        look.recreate(pods);
        look.sync_rollout_status();
    }
    look.finish(sets)
}

impl<'a> Look<'a> {
    fn new(
        now: Timestamp,
        deployment: &'a Deployment,
        sets: &[Arc<ReplicaSet>],
        neighbours: &'a [Arc<ReplicaSet>],
    ) -> Self {
        let mut all: Vec<ReplicaSet> = sets.iter().map(|set| ReplicaSet::clone(set)).collect();
        all.sort_by_key(revisions::age_key);
        let new = all.iter().position(|set| revisions::is_of_template(set, deployment)).map(|at| all.remove(at));
        let status = deployment.status.clone().unwrap_or_default();
        Self { now, deployment, new, old: all, neighbours, status, revision: None, deletions: Vec::new() }
    }

    fn all(&self) -> impl Iterator<Item = &ReplicaSet> {
        self.old.iter().chain(&self.new)
    }

    /// Every change as writes: ReplicaSets first, the status last.
    fn finish(self, sets: &[Arc<ReplicaSet>]) -> Outcome {
        let again_in = self.deadline_in();
        let mut writes = Vec::new();
        for set in self.new.iter().chain(&self.old) {
            match sets.iter().find(|before| before.metadata.name == set.metadata.name) {
                None => writes.push(Write::Create(set.clone().into())),
                Some(before) if **before != *set => writes.push(Write::Update(set.clone().into())),
                Some(_) => {}
            }
        }
        writes.extend(self.deletions);
        let mut after = self.deployment.clone();
        if let Some(revision) = self.revision {
            after.metadata.annotations.get_or_insert_default().insert(REVISION.to_owned(), revision);
        }
        after.status = Some(self.status);
        if after.status != Some(self.deployment.status.clone().unwrap_or_default())
            || after.metadata != self.deployment.metadata
        {
            writes.push(Write::Status(after.into()));
        }
        Outcome { writes, again_in }
    }
}

impl Controller for Deployments {
    fn affected(&mut self, world: &World, change: &Change) -> Vec<Id> {
        match change.object() {
            Object::Deployment(deployment) => vec![id(&**deployment)],
            Object::ReplicaSet(set) => match controller_of(&set.metadata) {
                Some(owner) if owner.kind == "Deployment" => vec![Id {
                    resource: Deployment::RESOURCE,
                    namespace: namespace(&set.metadata).to_owned(),
                    name: owner.name.clone(),
                }],
                Some(_) => Vec::new(),
                None => world
                    .list::<Deployment>(Some(namespace(&set.metadata)))
                    .filter(|deployment| {
                        numbers::spec(deployment)
                            .is_some_and(|spec| super::selector::selects(&spec.selector, set.metadata.labels.as_ref()))
                    })
                    .map(|deployment| id(&**deployment))
                    .collect(),
            },
            // Only Recreate waits for pods, and only for their end.
            Object::Pod(pod) if matches!(change, Change::Deleted(_)) => {
                let set = replicaset::owner_key(pod);
                let set = set.and_then(|key| world.get::<ReplicaSet>(&key.namespace, &key.name));
                let owner = set.and_then(|set| controller_of(&set.metadata));
                owner
                    .map(|owner| Id {
                        resource: Deployment::RESOURCE,
                        namespace: namespace(&pod.metadata).to_owned(),
                        name: owner.name.clone(),
                    })
                    .into_iter()
                    .collect()
            }
            Object::Pod(_)
            | Object::Namespace(_)
            | Object::Node(_)
            | Object::Service(_)
            | Object::EndpointSlice(_)
            | Object::PodDisruptionBudget(_)
            | Object::Other(_) => Vec::new(),
        }
    }

    fn reconcile(&mut self, now: Timestamp, world: &World, key: &Id) -> Outcome {
        let Some(found) = world.get::<Deployment>(&key.namespace, &key.name) else { return Outcome::default() };
        let Some(spec) = numbers::spec(found) else { return Outcome::default() };
        let neighbours: Vec<Arc<ReplicaSet>> = world.list::<ReplicaSet>(Some(&key.namespace)).cloned().collect();
        let mut claimed = claim(&**found, &spec.selector, neighbours.iter());
        let owned = &claimed.owned;
        let pods: Vec<Arc<Pod>> = world
            .list::<Pod>(Some(&key.namespace))
            .filter(|pod| owned.iter().any(|set| is_controlled_by(&pod.metadata, &**set)))
            .cloned()
            .collect();
        if !claimed.writes.is_empty() {
            // The adopted ones have a new resourceVersion soon: decide on what they are then.
            return Outcome::writes(std::mem::take(&mut claimed.writes));
        }
        deployment(now, found, &claimed.owned, &neighbours, &pods)
    }
}

/// The deletion of a ReplicaSet.
fn deletion(set: &ReplicaSet) -> Write {
    Write::Delete { id: id(set), uid: uid(&set.metadata).to_owned(), grace: None, propagation: Propagation::Background }
}

/// The name that the ReplicaSet of a template hash has.
fn set_name(deployment: &Deployment, hash: &str) -> String {
    format!("{}-{hash}", name(&deployment.metadata))
}
