//! PodDisruptionBudgets: how many pods may be evicted now.
//!
//! Invariant: what cannot be counted allows nothing.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::controller::Controller;
use super::deployment::scaled;
use super::object::{Id, Object, controller_of, id, name, namespace, uid};
use super::pods::{is_active, is_ready, since_then};
use super::replicaset::{owner_key, wanted};
use super::selector::selects;
use super::world::{Change, World};
use super::write::{Outcome, Write};

/// How long an eviction that was granted counts before the pod's own deletion is seen.
pub(crate) const EVICTION_SEEN_MAX: Duration = Duration::from_secs(2 * 60);

#[derive(Debug, Default)]
pub(crate) struct Disruption;

/// The status of a budget over the active pods that it selects. `expected`: how many their controllers want in all, none
/// when that is not known.
pub(crate) fn status(
    now: Timestamp,
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    expected: Option<i32>,
) -> PodDisruptionBudgetStatus {
    let before = budget.status.clone().unwrap_or_default();
    let mut disrupted = before.disrupted_pods.unwrap_or_default();
    disrupted.retain(|pod, since| {
        pods.iter().any(|found| name(&found.metadata) == pod) && since_then(since.0, now) < EVICTION_SEEN_MAX
    });
    let healthy = pods.iter().filter(|pod| is_ready(pod) && !disrupted.contains_key(name(&pod.metadata))).count();
    let healthy = i32::try_from(healthy).unwrap_or(i32::MAX);
    let selected = i32::try_from(pods.len()).unwrap_or(i32::MAX);
    let spec = budget.spec.clone().unwrap_or_default();
    let (expected, desired) = match (&spec.max_unavailable, &spec.min_available) {
        (Some(most), _) => {
            let total = expected.unwrap_or(selected);
            (total, expected.map_or(i32::MAX, |total| (total - scaled(most, total, true)).max(0)))
        }
        (None, Some(k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::Int(least))) => (selected, *least),
        (None, Some(least)) => {
            let total = expected.unwrap_or(selected);
            (total, expected.map_or(i32::MAX, |total| scaled(least, total, true)))
        }
        (None, None) => (selected, 0),
    };
    let allowed = if expected <= 0 { 0 } else { healthy.saturating_sub(desired).max(0) };
    let (is, reason) = if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    let old = before.conditions.iter().flatten().find(|condition| condition.type_ == "DisruptionAllowed");
    let same = old.filter(|old| old.status == is).map(|old| old.last_transition_time.clone());
    PodDisruptionBudgetStatus {
        conditions: Some(vec![Condition {
            last_transition_time: same.unwrap_or(Time(now)),
            message: String::new(),
            observed_generation: budget.metadata.generation,
            reason: reason.to_owned(),
            status: is.to_owned(),
            type_: "DisruptionAllowed".to_owned(),
        }]),
        current_healthy: healthy,
        desired_healthy: if desired == i32::MAX { expected } else { desired },
        disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
        disruptions_allowed: allowed,
        expected_pods: expected,
        observed_generation: budget.metadata.generation,
    }
}

/// What the controllers of these pods want in all; none when one of them is unknown.
fn expected(world: &World, pods: &[Arc<Pod>]) -> Option<i32> {
    let mut seen: Vec<&str> = Vec::new();
    let mut sum = 0_i32;
    for pod in pods {
        let key = owner_key(pod)?;
        let set = world.get::<ReplicaSet>(&key.namespace, &key.name)?;
        let (owner, size) = match controller_of(&set.metadata) {
            Some(owner) => {
                let deployment = world.get::<Deployment>(&key.namespace, &owner.name)?;
                let size = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
                (uid(&deployment.metadata), size)
            }
            None => (uid(&set.metadata), wanted(set)),
        };
        if !seen.contains(&owner) {
            seen.push(owner);
            sum = sum.saturating_add(size);
        }
    }
    Some(sum)
}

impl Controller for Disruption {
    fn affected(&mut self, world: &World, change: &Change) -> Vec<Id> {
        let object = change.object();
        match object {
            Object::PodDisruptionBudget(_) => vec![object.id()],
            Object::Pod(_) | Object::ReplicaSet(_) | Object::Deployment(_) => {
                let budgets = world.list::<PodDisruptionBudget>(Some(namespace(object.metadata())));
                budgets.map(|budget| id(&**budget)).collect()
            }
            Object::Namespace(_)
            | Object::Node(_)
            | Object::Service(_)
            | Object::EndpointSlice(_)
            | Object::Other(_) => Vec::new(),
        }
    }

    fn reconcile(&mut self, now: Timestamp, world: &World, key: &Id) -> Outcome {
        let Some(budget) = world.get::<PodDisruptionBudget>(&key.namespace, &key.name) else {
            return Outcome::default();
        };
        let Some(selector) = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref()) else {
            return Outcome::default();
        };
        let pods: Vec<Arc<Pod>> = world
            .list::<Pod>(Some(&key.namespace))
            .filter(|pod| is_active(pod) && selects(selector, pod.metadata.labels.as_ref()))
            .cloned()
            .collect();
        let after = status(now, budget, &pods, expected(world, &pods));
        let again_in = after.disrupted_pods.is_some().then_some(EVICTION_SEEN_MAX);
        if budget.status.as_ref() == Some(&after) {
            return Outcome { writes: Vec::new(), again_in };
        }
        let written = PodDisruptionBudget { status: Some(after), ..PodDisruptionBudget::clone(budget) };
        Outcome { writes: vec![Write::Status(written.into())], again_in }
    }
}
