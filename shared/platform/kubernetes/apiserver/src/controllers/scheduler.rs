//! Which node a pod goes to: one that is ready, that it may stand on, and that has room; the emptiest of these.
//!
//! Invariant: a pod that fits nowhere stays, with a condition that says why.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, PodCondition, Taint, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::controller::{Answer, Controller};
use super::node::is_node_ready;
use super::object::{Id, Object, id, name, uid};
use super::pods::{condition, is_finished, node};
use super::world::{Change, World};
use super::write::{Outcome, Write};

/// How long a pod that fits nowhere waits until it is tried again, if nothing changes before.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Why a pod may not be placed anywhere now, by the will of a test.
pub(crate) type Veto = Arc<dyn Fn(&Pod) -> Option<String> + Send + Sync>;

pub(crate) struct Scheduler {
    veto: Veto,
    /// Pods that were given to a node and are not yet seen there, by uid: they take room already.
    assumed: BTreeMap<String, String>,
}

/// The node for a pod.
///
/// # Errors
/// Why none fits, in the words of the real scheduler.
pub(crate) fn place(pod: &Pod, nodes: &[Arc<Node>], pods: &[Arc<Pod>]) -> Result<String, String> {
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut best: Option<(usize, &str)> = None;
    for candidate in nodes {
        let called = name(&candidate.metadata);
        let on: Vec<&Arc<Pod>> = pods.iter().filter(|pod| node(pod) == Some(called) && !is_finished(pod)).collect();
        match fits(pod, candidate, &on) {
            Ok(()) if best.is_none_or(|best| (on.len(), called) < best) => best = Some((on.len(), called)),
            Ok(()) => {}
            Err(reason) => *reasons.entry(reason).or_default() += 1,
        }
    }
    best.map(|(_, called)| called.to_owned()).ok_or_else(|| {
        let reasons: Vec<String> = reasons.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        format!("0/{} nodes are available: {}.", nodes.len(), reasons.join(", "))
    })
}

fn fits(pod: &Pod, node: &Node, on: &[&Arc<Pod>]) -> Result<(), String> {
    let spec = node.spec.as_ref();
    if spec.and_then(|spec| spec.unschedulable).unwrap_or(false) {
        return Err("node(s) were unschedulable".to_owned());
    }
    if !is_node_ready(node) {
        return Err("node(s) were not ready".to_owned());
    }
    let tolerations = pod.spec.iter().flat_map(|spec| spec.tolerations.iter().flatten());
    let tolerations: Vec<&Toleration> = tolerations.collect();
    let mut taints = spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    if let Some(taint) = taints.find(|taint| taint.effect != "PreferNoSchedule" && !tolerated(taint, &tolerations)) {
        let value = taint.value.as_deref().unwrap_or_default();
        return Err(format!("node(s) had untolerated taint {{{}: {value}}}", taint.key));
    }
    let labels = node.metadata.labels.as_ref();
    let mut wanted = pod.spec.iter().flat_map(|spec| spec.node_selector.iter().flatten());
    if !wanted.all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value)) {
        return Err("node(s) didn't match Pod's node affinity/selector".to_owned());
    }
    let room = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
    for (resource, request) in requests(pod) {
        let Some(total) = room.and_then(|room| room.get(&resource)).map(|quantity| amount(&quantity.0)) else {
            // cpu and memory are unlimited on a node that states neither; a device that it does not state it does not have.
            if matches!(&*resource, "cpu" | "memory" | "ephemeral-storage") {
                continue;
            }
            return Err(format!("Insufficient {resource}"));
        };
        let used: f64 = on.iter().filter_map(|pod| requests(pod).remove(&resource)).sum();
        if used + request > total {
            return Err(format!("Insufficient {resource}"));
        }
    }
    let most = room.and_then(|room| room.get("pods")).map(|quantity| amount(&quantity.0));
    if most.is_some_and(|most| on.len() as f64 >= most) {
        return Err("Too many pods".to_owned());
    }
    Ok(())
}

fn tolerated(taint: &Taint, tolerations: &[&Toleration]) -> bool {
    tolerations.iter().any(|toleration| {
        let exists = toleration.operator.as_deref() == Some("Exists");
        let key = toleration.key.as_deref();
        (key == Some(&*taint.key) || (exists && key.is_none_or(str::is_empty)))
            && toleration.effect.as_deref().is_none_or(|effect| effect.is_empty() || effect == taint.effect)
            && (exists || toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default())
    })
}

/// What the containers ask for, in base units. A limit without a request is a request.
fn requests(pod: &Pod) -> BTreeMap<String, f64> {
    let mut sum: BTreeMap<String, f64> = BTreeMap::new();
    for resources in pod.spec.iter().flat_map(|spec| &spec.containers).filter_map(|found| found.resources.as_ref()) {
        let mut of_container = resources.limits.clone().unwrap_or_default();
        of_container.extend(resources.requests.clone().unwrap_or_default());
        for (resource, quantity) in of_container {
            *sum.entry(resource).or_default() += amount(&quantity.0);
        }
    }
    sum
}

/// A quantity like `500m`, `2` or `1Gi` in base units; what is no quantity counts as nothing.
fn amount(text: &str) -> f64 {
    const UNITS: [(&str, f64); 12] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("n", 1e-9),
        ("u", 1e-6),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("", 1.0),
    ];
    let unit = UNITS.iter().find(|(unit, _)| text.ends_with(unit));
    unit.and_then(|(unit, factor)| Some(text.strip_suffix(unit)?.parse::<f64>().ok()? * factor)).unwrap_or(0.0)
}

impl Scheduler {
    pub(crate) fn new(veto: Veto) -> Self {
        Self { veto, assumed: BTreeMap::new() }
    }
}

impl Scheduler {
    fn as_assumed(&self, pod: &Arc<Pod>) -> Arc<Pod> {
        let Some(node) = self.assumed.get(uid(&pod.metadata)) else { return Arc::clone(pod) };
        let mut placed = Pod::clone(pod);
        placed.spec.get_or_insert_default().node_name = Some(node.clone());
        Arc::new(placed)
    }
}

fn waits(pod: &Pod) -> bool {
    node(pod).is_none() && pod.metadata.deletion_timestamp.is_none() && !is_finished(pod)
}

impl Controller for Scheduler {
    fn affected(&mut self, world: &World, change: &Change) -> Vec<Id> {
        if let Object::Pod(pod) = change.object()
            && (node(pod).is_some() || matches!(change, Change::Deleted(_)))
        {
            self.assumed.remove(uid(&pod.metadata));
        }
        let all_waiting = || world.list::<Pod>(None).filter(|pod| waits(pod)).map(|pod| id(&**pod)).collect();
        match (change, change.object()) {
            (Change::Deleted(_), Object::Pod(_)) | (_, Object::Node(_)) => all_waiting(),
            (Change::Added(_), Object::Pod(pod)) if waits(pod) => vec![id(&**pod)],
            _ => Vec::new(),
        }
    }

    fn reconcile(&mut self, now: Timestamp, world: &World, key: &Id) -> Outcome {
        let Some(pod) = world.get::<Pod>(&key.namespace, &key.name).filter(|pod| waits(pod)) else {
            return Outcome::default();
        };
        let nodes: Vec<Arc<Node>> = world.list::<Node>(None).cloned().collect();
        if self.assumed.contains_key(uid(&pod.metadata)) {
            return Outcome::default();
        }
        let pods: Vec<Arc<Pod>> = world.list::<Pod>(None).map(|pod| self.as_assumed(pod)).collect();
        let refused = (self.veto)(pod).map_or_else(|| place(pod, &nodes, &pods), Err);
        match refused {
            Ok(node) => {
                let uid = uid(&pod.metadata).to_owned();
                self.assumed.insert(uid.clone(), node.clone());
                Outcome::writes(vec![Write::Bind { id: key.clone(), uid, node }])
            }
            Err(why) => Outcome { writes: unschedulable(now, pod, why), again_in: Some(RETRY_AFTER) },
        }
    }

    fn settle(&mut self, _: Timestamp, _: &World, _: &Id, writes: &[Write], answers: &[Answer]) -> Vec<Write> {
        for (write, answer) in writes.iter().zip(answers) {
            if let (Write::Bind { uid, .. }, Err(_)) = (write, answer) {
                self.assumed.remove(uid);
            }
        }
        Vec::new()
    }
}

fn unschedulable(now: Timestamp, pod: &Pod, why: String) -> Vec<Write> {
    let before = condition(pod, "PodScheduled");
    if before.is_some_and(|before| before.message.as_ref() == Some(&why)) {
        return Vec::new();
    }
    let since = before.and_then(|before| before.last_transition_time.clone()).unwrap_or(Time(now));
    let mut pod = pod.clone();
    let status = pod.status.get_or_insert_default();
    status.phase = Some("Pending".to_owned());
    let conditions = status.conditions.get_or_insert_default();
    conditions.retain(|condition| condition.type_ != "PodScheduled");
    conditions.push(PodCondition {
        last_transition_time: Some(since),
        message: Some(why),
        reason: Some("Unschedulable".to_owned()),
        status: "False".to_owned(),
        type_: "PodScheduled".to_owned(),
        ..PodCondition::default()
    });
    vec![Write::Status(pod.into())]
}
