//! Which pods leave first when there are too many, by the published rules of Kubernetes 1.33.
//!
//! Invariant: a total order; among equals the smaller uid leaves first, so that the same pods always give the same victims.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::super::object::uid;
use super::super::pods::{deletion_cost, is_ready, node, phase, ready_since, restarts};

/// The pods in the order in which they leave. `related` are counted per node: where more of them stand, a pod leaves earlier.
pub(crate) fn ranked(now: Timestamp, pods: &[Arc<Pod>], related: &[Arc<Pod>]) -> Vec<Arc<Pod>> {
    let mut per_node: BTreeMap<&str, usize> = BTreeMap::new();
    for pod in related {
        *per_node.entry(node(pod).unwrap_or_default()).or_default() += 1;
    }
    let mut ranked: Vec<&Arc<Pod>> = pods.iter().collect();
    ranked.sort_by(|a, b| {
        let crowd = |pod: &Pod| per_node.get(node(pod).unwrap_or_default()).copied().unwrap_or(0);
        leaves_before(now, (a, crowd(a)), (b, crowd(b)))
    });
    ranked.into_iter().cloned().collect()
}

/// `Less` when `a` leaves before `b`. With each pod: how many related pods stand on its node.
fn leaves_before(now: Timestamp, (a, a_crowd): (&Pod, usize), (b, b_crowd): (&Pod, usize)) -> Ordering {
    let by_uid = || uid(&a.metadata).cmp(uid(&b.metadata));
    let order = node(a)
        .is_some()
        .cmp(&node(b).is_some())
        .then_with(|| phase_rank(a).cmp(&phase_rank(b)))
        .then_with(|| is_ready(a).cmp(&is_ready(b)))
        .then_with(|| deletion_cost(a).cmp(&deletion_cost(b)))
        .then_with(|| Reverse(a_crowd).cmp(&Reverse(b_crowd)));
    if order.is_ne() {
        return order;
    }
    if is_ready(a) && is_ready(b) && ready_since(a) != ready_since(b) {
        return younger_first(now, ready_since(a), ready_since(b)).then_with(by_uid);
    }
    let order = Reverse(restarts(a)).cmp(&Reverse(restarts(b)));
    if order.is_ne() {
        return order;
    }
    let created = |pod: &Pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    younger_first(now, created(a), created(b)).then_with(by_uid)
}

fn phase_rank(pod: &Pod) -> u8 {
    match phase(pod) {
        "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    }
}

/// Ages in logarithmic buckets: the younger leaves first only when the other is about twice as old, so that a pod does not
/// have to leave because it started a moment later. A missing time counts as youngest.
fn younger_first(now: Timestamp, a: Option<Timestamp>, b: Option<Timestamp>) -> Ordering {
    let bucket = |time: Option<Timestamp>| {
        let age_ns = time.map_or(0, |time| now.duration_since(time).as_nanos());
        if age_ns <= 0 { -1 } else { i64::from(age_ns.unsigned_abs().ilog2()) }
    };
    bucket(a).cmp(&bucket(b))
}
