//! A service from zero, up, and to zero again.

use crate::support::{http_get, wait_for};
use crate::world::World;
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};

const HOST: &str = "model.default.example.com";

/// `count` requests over `clients` connections at a time; how many were not answered 200.
pub(crate) fn requests(world: &crate::world::Program, count: usize, clients: usize) -> usize {
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                while next.fetch_add(1, Ordering::Relaxed) < count {
                    let answer = http_get(world.address, HOST, "/");
                    if !answer.is_some_and(|(head, body)| head.starts_with("HTTP/1.1 200") && body == "hello\n") {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    failed.into_inner()
}

#[test]
fn a_thousand_requests_from_zero_and_back_to_zero() {
    let world = World::new();
    world.deploy(
        "model",
        0,
        &json!({"autoscaling.knative.dev/target": "2", "autoscaling.knative.dev/window": "6s"}),
        &json!({}),
    );
    let autoscaler = world.autoscaler(0).ready();
    let activator = world.activator(0).ready();
    wait_for("a route", || (!world.workload("model")["spec"].is_null()).then_some(()));
    assert_eq!(requests(&activator, 1000, 10), 0, "{}\n{}", activator.log(), autoscaler.log());
    assert!(world.replicas("model") > 1, "10 at once and a target of 2 ask for more than one");
    let shown = wait_for("its status", || {
        let workload = world.workload("model");
        (workload["status"]["readyReplicas"].as_u64() > Some(1)).then_some(workload)
    });
    assert_eq!(shown["status"]["reference"], "Deployment/model");
    wait_for("asleep", || (world.replicas("model") == 0).then_some(()));
    let status = wait_for("said to be asleep", || {
        let workload = world.workload("model");
        (workload["status"]["mode"] == "asleep").then(|| workload["status"].clone())
    });
    assert!(status["lastReplicas"].as_u64() >= Some(1), "{status}");
    let events = world.get("/apis/events.k8s.io/v1/namespaces/default/events");
    let reasons: Vec<&str> =
        events["items"].as_array().unwrap().iter().filter_map(|event| event["reason"].as_str()).collect();
    for reason in ["Woken", "Scaled", "Asleep"] {
        assert!(reasons.contains(&reason), "{reasons:?}");
    }
    assert_eq!(requests(&activator, 1, 1), 0, "and it wakes again");
}
