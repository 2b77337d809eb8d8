//! A service from zero, up, and to zero again.

use crate::support::{http_get, wait_for};
use crate::world::{Program, World};
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};

/// `count` requests for a service, `clients` at a time; how many were not answered 200. What was answered then is printed.
pub(crate) fn requests(activator: &Program, service: &str, count: usize, clients: usize) -> usize {
    let host = format!("{service}.default.example.com");
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                while next.fetch_add(1, Ordering::Relaxed) < count {
                    let answer = http_get(activator.address, &host, "/");
                    let is_right =
                        |(head, body): &(String, String)| head.starts_with("HTTP/1.1 200") && body == "hello\n";
                    if !answer.as_ref().is_some_and(is_right) {
                        eprintln!("{host}: {answer:?}");
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
    activator.has_route("model");
    assert_eq!(requests(&activator, "model", 1000, 10), 0, "{}\n{}", activator.log(), autoscaler.log());
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
    assert_eq!(requests(&activator, "model", 1, 1), 0, "and it wakes again");
}
