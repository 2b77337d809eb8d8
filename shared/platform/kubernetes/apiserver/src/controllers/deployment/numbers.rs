//! The numbers of a rollout: what may be missing, what may be too many, what there is.
//!
//! Invariant: a surge is rounded up and an absence down; both zero would stand still for ever, so then one may be missing.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet, RollingUpdateDeployment};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// What the API server fills in where a rolling update says nothing.
const DEFAULT_FENCE: &str = "25%";

pub(super) fn spec(deployment: &Deployment) -> Option<&DeploymentSpec> {
    deployment.spec.as_ref()
}

/// `spec.replicas`, 1 when absent.
pub(super) fn desired(deployment: &Deployment) -> i32 {
    spec(deployment).and_then(|spec| spec.replicas).unwrap_or(1).max(0)
}

/// RollingUpdate, which is also what an absent strategy means.
pub(super) fn is_rolling(deployment: &Deployment) -> bool {
    let strategy = spec(deployment).and_then(|spec| spec.strategy.as_ref()?.type_.as_deref());
    strategy.is_none_or(|strategy| strategy == "RollingUpdate")
}

/// A number, or a percentage of `total`. What is neither counts as nothing.
pub(crate) fn scaled(value: &IntOrString, total: i32, round_up: bool) -> i32 {
    match value {
        IntOrString::Int(count) => *count,
        IntOrString::String(text) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(0);
            let hundredths = percent.saturating_mul(i64::from(total));
            let rounded = if round_up { hundredths.saturating_add(99).div_euclid(100) } else { hundredths / 100 };
            i32::try_from(rounded).unwrap_or(i32::MAX)
        }
    }
}

/// (surge, unavailable) of a rolling update.
fn fences(deployment: &Deployment) -> (i32, i32) {
    let rolling = spec(deployment).and_then(|spec| spec.strategy.as_ref()?.rolling_update.clone());
    let RollingUpdateDeployment { max_surge, max_unavailable } = rolling.unwrap_or_default();
    let or_default =
        |value: Option<IntOrString>| value.unwrap_or_else(|| IntOrString::String(DEFAULT_FENCE.to_owned()));
    let total = desired(deployment);
    let surge = scaled(&or_default(max_surge), total, true);
    let unavailable = scaled(&or_default(max_unavailable), total, false);
    (surge, if surge == 0 && unavailable == 0 { 1 } else { unavailable })
}

/// How many pods there may be above the wanted number.
pub(super) fn max_surge(deployment: &Deployment) -> i32 {
    if is_rolling(deployment) { fences(deployment).0 } else { 0 }
}

/// How many of the wanted number may be missing.
pub(super) fn max_unavailable(deployment: &Deployment) -> i32 {
    let total = desired(deployment);
    if !is_rolling(deployment) || total == 0 { 0 } else { fences(deployment).1.min(total) }
}

/// `spec.replicas` of a ReplicaSet.
pub(super) fn size(set: &ReplicaSet) -> i32 {
    crate::controllers::replicaset::wanted(set)
}

/// The sum of the sizes.
pub(super) fn total<'a>(sets: impl Iterator<Item = &'a ReplicaSet>) -> i32 {
    sets.map(size).sum()
}

pub(super) fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
}

pub(super) fn actual(set: &ReplicaSet) -> i32 {
    set.status.as_ref().map_or(0, |status| status.replicas)
}

pub(super) fn ready(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0)
}
