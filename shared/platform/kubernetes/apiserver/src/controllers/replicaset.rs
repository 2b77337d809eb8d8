//! The ReplicaSet controller: as many active pods as asked for, created in bursts and removed by rank.
//!
//! Invariant: nothing is created or deleted while an earlier creation or deletion is not yet seen.

pub(crate) mod rank;
mod status;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;

use super::claim::claim;
use super::controller::{Answer, Controller, Hook};
use super::expectations::Expectations;
use super::object::{
    Id, Object, Typed, controller_of, controller_reference, id, id_of, is_controlled_by, name, namespace, uid,
};
use super::pods::{is_active, is_available, is_ready, seconds};
use super::world::{Change, World};
use super::write::{Outcome, Propagation, Write};

/// Most pods that one look creates or deletes.
pub(crate) const BURST_REPLICAS: usize = 500;

#[derive(Debug, Default)]
pub(crate) struct ReplicaSets {
    expectations: Expectations,
    overrule: Overrule,
}

/// What a test puts in the place of the ranking.
#[derive(Debug, Default)]
pub(crate) struct Overrule {
    /// (namespace, name), each for once.
    victims: BTreeSet<(String, String)>,
    reversed: bool,
}

/// The writes that bring `active` to the wanted number. `related`: active pods of all ReplicaSets of the same owner.
pub(crate) fn manage(
    now: Timestamp,
    set: &ReplicaSet,
    active: &[Arc<Pod>],
    related: &[Arc<Pod>],
    overrule: &mut Overrule,
) -> Vec<Write> {
    let wanted = usize::try_from(wanted(set)).unwrap_or(0);
    if active.len() < wanted {
        let count = (wanted - active.len()).min(BURST_REPLICAS);
        return (0..count).map(|_| Write::Create(new_pod(set).into())).collect();
    }
    let surplus = (active.len() - wanted).min(BURST_REPLICAS);
    let mut ranked = rank::ranked(now, active, related);
    overrule.apply(&mut ranked, surplus);
    ranked
        .into_iter()
        .take(surplus)
        .map(|pod| Write::Delete {
            id: id(&*pod),
            uid: uid(&pod.metadata).to_owned(),
            grace: None,
            propagation: Propagation::Background,
        })
        .collect()
}

/// `spec.replicas`, 1 when absent.
pub(crate) fn wanted(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1).max(0)
}

fn new_pod(set: &ReplicaSet) -> Pod {
    let template = set.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default();
    let mut metadata = template.metadata.unwrap_or_default();
    metadata.name = None;
    metadata.generate_name = Some(format!("{}-", name(&set.metadata)));
    metadata.namespace = set.metadata.namespace.clone();
    metadata.owner_references = Some(vec![controller_reference(set)]);
    Pod { metadata, spec: template.spec, status: None }
}

impl Overrule {
    fn apply(&mut self, ranked: &mut [Arc<Pod>], surplus: usize) {
        if self.reversed && surplus > 0 {
            ranked.reverse();
        }
        let chosen = |pod: &Pod| (namespace(&pod.metadata).to_owned(), name(&pod.metadata).to_owned());
        // Stable: the others keep their order.
        ranked.sort_by_key(|pod| !self.victims.contains(&chosen(pod)));
        for pod in ranked.iter().take(surplus) {
            self.victims.remove(&chosen(pod));
        }
    }
}

impl ReplicaSets {
    fn pods(set: &ReplicaSet, world: &World) -> (Vec<Arc<Pod>>, Vec<Write>) {
        let Some(spec) = &set.spec else { return (Vec::new(), Vec::new()) };
        let all = world.list::<Pod>(Some(namespace(&set.metadata))).filter(|pod| is_active(pod));
        let claimed = claim(set, &spec.selector, all);
        (claimed.owned, claimed.writes)
    }

    /// Active pods of every ReplicaSet with the same controller.
    fn related(set: &ReplicaSet, world: &World) -> Vec<Arc<Pod>> {
        let within = namespace(&set.metadata);
        let owner = controller_of(&set.metadata).map(|reference| &reference.uid);
        let siblings: Vec<&Arc<ReplicaSet>> = world
            .list::<ReplicaSet>(Some(within))
            .filter(|other| match owner {
                Some(owner) => controller_of(&other.metadata).is_some_and(|reference| reference.uid == *owner),
                None => other.metadata.uid == set.metadata.uid,
            })
            .collect();
        let belongs = |pod: &Pod| siblings.iter().any(|sibling| is_controlled_by(&pod.metadata, &***sibling));
        world.list::<Pod>(Some(within)).filter(|pod| is_active(pod) && belongs(pod)).cloned().collect()
    }
}

impl Controller for ReplicaSets {
    fn affected(&mut self, world: &World, change: &Change) -> Vec<Id> {
        match change.object() {
            Object::ReplicaSet(set) => {
                if matches!(change, Change::Deleted(_)) {
                    self.expectations.forget(&id(&**set));
                }
                vec![id(&**set)]
            }
            Object::Pod(pod) => {
                let within = namespace(&pod.metadata);
                let Some(owner) = controller_of(&pod.metadata) else {
                    // An orphan: whoever selects it may adopt it.
                    return world
                        .list::<ReplicaSet>(Some(within))
                        .filter(|set| {
                            set.spec.as_ref().is_some_and(|spec| {
                                super::selector::selects(&spec.selector, pod.metadata.labels.as_ref())
                            })
                        })
                        .map(|set| id(&**set))
                        .collect();
                };
                if owner.kind != "ReplicaSet" {
                    return Vec::new();
                }
                let key = Id { resource: ReplicaSet::RESOURCE, namespace: within.to_owned(), name: owner.name.clone() };
                if matches!(change, Change::Added(_)) {
                    self.expectations.created(&key);
                }
                if matches!(change, Change::Deleted(_)) || pod.metadata.deletion_timestamp.is_some() {
                    self.expectations.deleted(&key, uid(&pod.metadata));
                }
                vec![key]
            }
            Object::Namespace(_)
            | Object::Node(_)
            | Object::Service(_)
            | Object::EndpointSlice(_)
            | Object::Deployment(_)
            | Object::PodDisruptionBudget(_)
            | Object::Other(_) => Vec::new(),
        }
    }

    fn reconcile(&mut self, now: Timestamp, world: &World, key: &Id) -> Outcome {
        let Some(set) = world.get::<ReplicaSet>(&key.namespace, &key.name) else {
            self.expectations.forget(key);
            return Outcome::default();
        };
        let (active, mut writes) = Self::pods(set, world);
        if set.metadata.deletion_timestamp.is_some() {
            return Outcome::writes(writes);
        }
        let again_in = if self.expectations.met(now, key) {
            let managed = manage(now, set, &active, &Self::related(set, world), &mut self.overrule);
            let creations = managed.iter().filter(|write| matches!(write, Write::Create(_))).count();
            let deletions = managed.iter().filter_map(|write| match write {
                Write::Delete { uid, .. } => Some(uid.clone()),
                Write::Create(_) | Write::Update(_) | Write::Status(_) | Write::Metadata(_) | Write::Bind { .. } => {
                    None
                }
            });
            self.expectations.expect(now, key, creations, deletions);
            writes.extend(managed);
            None
        } else {
            self.expectations.give_up_in(now, key)
        };
        let min_ready = set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
        let warming = active.iter().any(|pod| is_ready(pod) && !is_available(pod, min_ready, now));
        let available_in = warming.then(|| seconds(min_ready));
        Outcome { writes, again_in: [again_in, available_in].into_iter().flatten().min() }
    }

    fn hook(&mut self, _: &World, hook: &Hook) -> Vec<Id> {
        match hook {
            Hook::WrongVictim { namespace, pod } => {
                self.overrule.victims.insert((namespace.clone(), pod.clone()));
            }
            Hook::WrongVictims(reversed) => self.overrule.reversed = *reversed,
            Hook::Silent { .. } => {}
        }
        Vec::new()
    }

    fn settle(&mut self, now: Timestamp, world: &World, key: &Id, writes: &[Write], answers: &[Answer]) -> Vec<Write> {
        let mut refusal = None;
        for (index, write) in writes.iter().enumerate() {
            let answer = answers.get(index);
            match (write, answer) {
                (Write::Create(_), Some(Err(_)) | None) => self.expectations.created(key),
                (Write::Delete { uid, .. }, Some(Err(_)) | None) => self.expectations.deleted(key, uid),
                _ => {}
            }
            if let (Write::Create(_) | Write::Delete { .. }, Some(Err(why))) = (write, answer)
                && !why.is_not_found()
            {
                refusal = Some(why);
            }
        }
        let Some(set) = world.get::<ReplicaSet>(&key.namespace, &key.name) else { return Vec::new() };
        if set.metadata.deletion_timestamp.is_some() {
            return Vec::new();
        }
        let (active, _) = Self::pods(set, world);
        status::update(now, set, &active, refusal).into_iter().collect()
    }
}

/// The key of the ReplicaSet that controls an object.
pub(crate) fn owner_key(pod: &Pod) -> Option<Id> {
    let owner = controller_of(&pod.metadata).filter(|owner| owner.kind == "ReplicaSet")?;
    let mut key = id_of(ReplicaSet::RESOURCE, &pod.metadata);
    key.name = owner.name.clone();
    Some(key)
}
