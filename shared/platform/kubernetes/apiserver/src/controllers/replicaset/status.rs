//! What a ReplicaSet says of its pods.
//!
//! Invariant: nothing is written when nothing changed.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::super::pods::{is_available, is_ready};
use super::super::write::{Refusal, Write};
use super::wanted;

const REPLICA_FAILURE: &str = "ReplicaFailure";

pub(super) fn update(
    now: Timestamp,
    set: &ReplicaSet,
    active: &[Arc<Pod>],
    refusal: Option<&Refusal>,
) -> Option<Write> {
    let min_ready = set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
    let template = set.spec.as_ref().and_then(|spec| spec.template.as_ref()?.metadata.as_ref()?.labels.clone());
    let wanted_labels = template.unwrap_or_default();
    let labelled = |pod: &Pod| {
        let labels = pod.metadata.labels.as_ref();
        wanted_labels.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
    };
    let count = |takes: &dyn Fn(&Pod) -> bool| {
        i32::try_from(active.iter().filter(|pod| takes(pod)).count()).unwrap_or(i32::MAX)
    };
    let before = set.status.clone().unwrap_or_default();
    let mut status = before.clone();
    status.replicas = count(&|_| true);
    // As on a real cluster a zero is not written at all.
    let shown = |count: i32| (count != 0).then_some(count);
    status.fully_labeled_replicas = shown(count(&labelled));
    status.ready_replicas = shown(count(&is_ready));
    status.available_replicas = shown(count(&|pod| is_available(pod, min_ready, now)));
    status.observed_generation = set.metadata.generation;

    let conditions = status.conditions.get_or_insert_default();
    let failing = conditions.iter().any(|condition| condition.type_ == REPLICA_FAILURE);
    match refusal {
        Some(refusal) if !failing => {
            let reason = if status.replicas < wanted(set) { "FailedCreate" } else { "FailedDelete" };
            conditions.push(ReplicaSetCondition {
                last_transition_time: Some(Time(now)),
                message: Some(refusal.message.clone()),
                reason: Some(reason.to_owned()),
                status: "True".to_owned(),
                type_: REPLICA_FAILURE.to_owned(),
            });
        }
        None => conditions.retain(|condition| condition.type_ != REPLICA_FAILURE),
        Some(_) => {}
    }
    if status.conditions.as_ref().is_some_and(Vec::is_empty) {
        status.conditions = None;
    }
    (status != before).then(|| Write::Status(ReplicaSet { status: Some(status), ..set.clone() }.into()))
}
