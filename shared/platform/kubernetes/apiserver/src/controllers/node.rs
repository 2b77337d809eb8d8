//! What happens when a node falls silent: it is marked, its pods lose readiness, then they are deleted.
//!
//! Invariant: a pod is removed by force only when its node object is gone. Heartbeats are told, not written as Leases.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::controller::{Controller, Hook};
use super::object::{Id, Object, Typed, id, name, uid};
use super::pods::{is_ready, node, since_then};
use super::world::{Change, World};
use super::write::{Outcome, Propagation, Write};

/// How long a node may be silent before it counts as lost.
pub(crate) const SILENT_MAX: Duration = Duration::from_secs(50);
/// How long a pod stays on a lost node if it says nothing: what admission gives it on a real cluster.
pub(crate) const TOLERATED: Duration = Duration::from_secs(300);
/// How long pods of a node that does not exist are kept.
pub(crate) const NODELESS_MAX: Duration = Duration::from_secs(40);
pub(crate) const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

#[derive(Debug, Default)]
pub(crate) struct NodeLifecycle {
    silent: BTreeMap<String, Timestamp>,
    /// Nodes that have pods and do not exist, since when.
    missing: BTreeMap<String, Timestamp>,
}

fn ready(node: &Node) -> Option<&NodeCondition> {
    node.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == "Ready")
}

pub(crate) fn is_node_ready(node: &Node) -> bool {
    ready(node).is_some_and(|ready| ready.status == "True")
}

fn taints(node: &Node) -> impl Iterator<Item = &Taint> {
    node.spec.iter().flat_map(|spec| spec.taints.iter().flatten())
}

/// How long a pod stays on a node that cannot be reached; none: for ever.
fn tolerates(pod: &Pod) -> Option<Duration> {
    let tolerations = pod.spec.iter().flat_map(|spec| spec.tolerations.iter().flatten());
    let mut matching = tolerations
        .filter(|toleration| toleration.key.as_deref().is_none_or(|key| key == UNREACHABLE))
        .filter(|toleration| toleration.effect.as_deref().is_none_or(|effect| effect == "NoExecute"))
        .peekable();
    if matching.peek().is_none() {
        return Some(TOLERATED);
    }
    let limits = matching.map(|toleration| toleration.toleration_seconds);
    let limits: Option<Vec<i64>> = limits.filter(Option::is_some).collect();
    let shortest = limits.unwrap_or_default().into_iter().min()?;
    Some(Duration::from_secs(u64::try_from(shortest).unwrap_or(0)))
}

/// The writes for a node of which nothing was heard since `silent`, and when to look again.
pub(crate) fn lost(now: Timestamp, node: &Node, silent: Timestamp, pods: &[Arc<Pod>]) -> Outcome {
    let passed = since_then(silent, now);
    if passed < SILENT_MAX {
        return Outcome { writes: Vec::new(), again_in: Some(SILENT_MAX - passed) };
    }
    let mut writes: Vec<Write> = pods.iter().filter(|pod| is_ready(pod)).map(|pod| unready(now, pod)).collect();
    if ready(node).is_none_or(|ready| ready.status != "Unknown") {
        writes.push(with_ready(now, node, "Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status."));
        // The taint follows when the condition is seen: both would carry the same resourceVersion.
        return Outcome::writes(writes);
    }
    let Some(taint) = taints(node).find(|taint| taint.key == UNREACHABLE && taint.effect == "NoExecute") else {
        let mut tainted = node.clone();
        let list = tainted.spec.get_or_insert_default().taints.get_or_insert_default();
        for (effect, time_added) in [("NoSchedule", None), ("NoExecute", Some(Time(now)))] {
            let taint = Taint { effect: effect.to_owned(), key: UNREACHABLE.to_owned(), time_added, value: None };
            list.push(taint);
        }
        writes.push(Write::Update(tainted.into()));
        return Outcome::writes(writes);
    };
    let tainted = taint.time_added.as_ref().map_or(silent, |time| time.0);
    let passed = since_then(tainted, now);
    let mut again_in: Option<Duration> = None;
    for pod in pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
        match tolerates(pod) {
            Some(limit) if passed >= limit => writes.push(deletion(pod, None)),
            Some(limit) => again_in = Some(again_in.unwrap_or(limit).min(limit - passed)),
            None => {}
        }
    }
    Outcome { writes, again_in }
}

/// The writes for a node that is heard again.
pub(crate) fn back(now: Timestamp, node: &Node) -> Outcome {
    if ready(node).is_some_and(|ready| ready.status == "Unknown") {
        let text = "kubelet is posting ready status";
        return Outcome::writes(vec![with_ready(now, node, "True", "KubeletReady", text)]);
    }
    if taints(node).any(|taint| taint.key == UNREACHABLE) {
        let mut free = node.clone();
        let list = free.spec.get_or_insert_default().taints.get_or_insert_default();
        list.retain(|taint| taint.key != UNREACHABLE);
        return Outcome::writes(vec![Write::Update(free.into())]);
    }
    Outcome::default()
}

fn with_ready(now: Timestamp, node: &Node, is: &str, reason: &str, text: &str) -> Write {
    let mut node = node.clone();
    let conditions = node.status.get_or_insert_default().conditions.get_or_insert_default();
    conditions.retain(|condition| condition.type_ != "Ready");
    conditions.push(NodeCondition {
        last_heartbeat_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
        message: Some(text.to_owned()),
        reason: Some(reason.to_owned()),
        status: is.to_owned(),
        type_: "Ready".to_owned(),
    });
    Write::Status(node.into())
}

fn unready(now: Timestamp, pod: &Pod) -> Write {
    let mut pod = pod.clone();
    let conditions = pod.status.get_or_insert_default().conditions.get_or_insert_default();
    for ready in conditions.iter_mut().filter(|condition| condition.type_ == "Ready") {
        ready.status = "False".to_owned();
        ready.last_transition_time = Some(Time(now));
    }
    Write::Status(pod.into())
}

fn deletion(pod: &Pod, grace: Option<i64>) -> Write {
    Write::Delete { id: id(pod), uid: uid(&pod.metadata).to_owned(), grace, propagation: Propagation::Background }
}

impl NodeLifecycle {
    fn key(name: &str) -> Id {
        Id { resource: Node::RESOURCE, namespace: String::new(), name: name.to_owned() }
    }

    fn without_node(&mut self, now: Timestamp, name: &str, pods: &[Arc<Pod>]) -> Outcome {
        if pods.is_empty() {
            self.missing.remove(name);
            return Outcome::default();
        }
        let passed = since_then(*self.missing.entry(name.to_owned()).or_insert(now), now);
        if passed < NODELESS_MAX {
            return Outcome { writes: Vec::new(), again_in: Some(NODELESS_MAX - passed) };
        }
        Outcome::writes(pods.iter().map(|pod| deletion(pod, Some(0))).collect())
    }
}

impl Controller for NodeLifecycle {
    fn affected(&mut self, _: &World, change: &Change) -> Vec<Id> {
        match change.object() {
            Object::Node(node) => vec![id(&**node)],
            Object::Pod(pod) => node(pod).map(Self::key).into_iter().collect(),
            Object::Namespace(_)
            | Object::Service(_)
            | Object::EndpointSlice(_)
            | Object::Deployment(_)
            | Object::ReplicaSet(_)
            | Object::PodDisruptionBudget(_)
            | Object::Other(_) => Vec::new(),
        }
    }

    fn reconcile(&mut self, now: Timestamp, world: &World, key: &Id) -> Outcome {
        let on = |pod: &&Arc<Pod>| node(pod) == Some(&*key.name);
        let pods: Vec<Arc<Pod>> = world.list::<Pod>(None).filter(on).cloned().collect();
        let Some(found) = world.get::<Node>("", &key.name) else {
            return self.without_node(now, &key.name, &pods);
        };
        self.missing.remove(name(&found.metadata));
        match self.silent.get(&key.name) {
            Some(silent) => lost(now, found, *silent, &pods),
            None => back(now, found),
        }
    }

    fn hook(&mut self, _: &World, hook: &Hook) -> Vec<Id> {
        let Hook::Silent { node, since } = hook else { return Vec::new() };
        match since {
            Some(since) => self.silent.insert(node.clone(), *since),
            None => self.silent.remove(node),
        };
        vec![Self::key(node)]
    }
}
