//! How many pods may be evicted, by the published rules.

use serde_json::{Value, json};

use super::super::testing::{at, pod, read};
use super::*;

/// 4 pods of which 3 are ready; their owners want 5.
#[track_caller]
fn check(spec: &Value, wanted: (i32, i32, i32)) {
    let budget: PodDisruptionBudget = read(&json!({"metadata": {"name": "b", "namespace": "default"}, "spec": spec}));
    let status = status(at(0), &budget, &pods(), Some(5));
    let found = (status.expected_pods, status.desired_healthy, status.disruptions_allowed);
    assert_eq!(found, wanted, "{spec}");
    assert_eq!(status.current_healthy, 3);
}

fn pods() -> Vec<Arc<Pod>> {
    let ready = |number: usize| if number < 3 { "True" } else { "False" };
    let make = |number| {
        json!({
            "metadata": {"name": format!("p{number}"), "namespace": "default"},
            "status": {"conditions": [{"type": "Ready", "status": ready(number)}]},
        })
    };
    (0..4).map(|number| pod(&make(number))).collect()
}

#[test]
fn budgets_allow_as_published() {
    check(&json!({"minAvailable": 2}), (4, 2, 1));
    check(&json!({"minAvailable": 3}), (4, 3, 0));
    check(&json!({"minAvailable": "50%"}), (5, 3, 0));
    check(&json!({"minAvailable": "20%"}), (5, 1, 2));
    check(&json!({"maxUnavailable": 3}), (5, 2, 1));
    check(&json!({"maxUnavailable": "30%"}), (5, 3, 0));
    check(&json!({}), (4, 0, 3));
}

#[test]
fn an_eviction_counts_until_it_is_seen_or_forgotten() {
    let budget: PodDisruptionBudget = read(&json!({
        "metadata": {"name": "b", "namespace": "default"},
        "spec": {"minAvailable": 1},
        "status": {
            "currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0,
            "disruptedPods": {"p0": at(0).to_string(), "gone": at(0).to_string()},
        },
    }));
    let fresh = status(at(60), &budget, &pods(), None);
    assert_eq!(fresh.disruptions_allowed, 1);
    assert_eq!(fresh.disrupted_pods.unwrap().into_keys().collect::<Vec<_>>(), ["p0"]);
    let later = status(at(121), &budget, &pods(), None);
    assert_eq!((later.disruptions_allowed, later.disrupted_pods), (2, None));
}

#[test]
fn what_cannot_be_counted_allows_nothing() {
    let spec = json!({"maxUnavailable": 2});
    let budget: PodDisruptionBudget = read(&json!({"metadata": {"name": "b", "namespace": "default"}, "spec": spec}));
    assert_eq!(status(at(0), &budget, &pods(), None).disruptions_allowed, 0);
}
