//! Where pods may go, and what they are told when they may go nowhere.

use serde_json::{Value, json};

use super::super::testing::{Bench, pod, read};
use super::*;

fn node_json(name: &str, change: &Value) -> Value {
    let mut base = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "allocatable": {"nvidia.com/gpu": "1", "cpu": "2", "memory": "1Gi"},
        },
    });
    json_patch::merge(&mut base, change);
    base
}

fn pod_json(change: &Value) -> Value {
    let mut base = json!({"metadata": {"name": "p", "namespace": "default"}, "spec": {"containers": [{"name": "c"}]}});
    json_patch::merge(&mut base, change);
    base
}

fn asks(resource: &str, amount: &str) -> Value {
    json!({"spec": {"containers": [{"name": "c", "resources": {"limits": {resource: amount}}}]}})
}

#[track_caller]
fn check(pod_change: &Value, node_change: &Value, wanted: Result<&str, &str>) {
    let nodes = [Arc::new(read::<Node>(&node_json("n", node_change)))];
    let on = json!({"metadata": {"name": "other"}, "spec": {"nodeName": "n"}});
    let mut taken = pod_json(&asks("nvidia.com/gpu", "0"));
    json_patch::merge(&mut taken, &on);
    let found = place(&pod(&pod_json(pod_change)), &nodes, &[pod(&taken)]);
    assert_eq!(found.as_deref().map_err(String::as_str), wanted);
}

#[test]
fn a_pod_goes_where_it_fits() {
    let plain = json!({});
    check(&plain, &plain, Ok("n"));
    check(&asks("nvidia.com/gpu", "1"), &plain, Ok("n"));
    check(&asks("nvidia.com/gpu", "2"), &plain, Err("0/1 nodes are available: 1 Insufficient nvidia.com/gpu."));
    check(&asks("cpu", "2500m"), &plain, Err("0/1 nodes are available: 1 Insufficient cpu."));
    check(&asks("memory", "1024Mi"), &plain, Ok("n"));
    check(&asks("memory", "1025Mi"), &plain, Err("0/1 nodes are available: 1 Insufficient memory."));
    check(&asks("amd.com/gpu", "1"), &plain, Err("0/1 nodes are available: 1 Insufficient amd.com/gpu."));
    check(
        &plain,
        &json!({"spec": {"unschedulable": true}}),
        Err("0/1 nodes are available: 1 node(s) were unschedulable."),
    );
    check(&plain, &json!({"status": {"conditions": []}}), Err("0/1 nodes are available: 1 node(s) were not ready."));
    let tainted = json!({"spec": {"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]}});
    check(&plain, &tainted, Err("0/1 nodes are available: 1 node(s) had untolerated taint {gpu: yes}."));
    check(&json!({"spec": {"tolerations": [{"key": "gpu", "operator": "Exists"}]}}), &tainted, Ok("n"));
    let wrong = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.";
    check(&json!({"spec": {"nodeSelector": {"zone": "a"}}}), &plain, Err(wrong));
    check(&plain, &json!({"status": {"allocatable": {"pods": "1"}}}), Err("0/1 nodes are available: 1 Too many pods."));
}

#[test]
fn quantities_are_read() {
    let found: Vec<f64> = ["2", "500m", "1Ki", "1k", "3Mi", "", "x", "1.5"].map(amount).to_vec();
    assert_eq!(found, [2.0, 0.5, 1024.0, 1000.0, 3_145_728.0, 0.0, 0.0, 1.5]);
}

#[test]
fn a_pod_that_waits_is_placed_when_room_comes() {
    let mut bench = Bench::default();
    let key = bench.add(Pod::clone(&pod(&pod_json(&json!({})))).into()).id();
    let mut scheduler = Scheduler::new(Arc::new(|_| None));
    bench.settle(&mut [&mut scheduler]);
    let read_pod = |bench: &Bench| Arc::clone(bench.world.get::<Pod>("default", "p").unwrap());
    let waiting = read_pod(&bench);
    let scheduled = condition(&waiting, "PodScheduled").unwrap();
    assert_eq!((&*scheduled.status, scheduled.reason.as_deref()), ("False", Some("Unschedulable")));
    let outcome = scheduler.reconcile(bench.now(), &bench.world, &key);
    assert_eq!((outcome.writes.len(), outcome.again_in), (0, Some(RETRY_AFTER)));
    bench.add(read::<Node>(&node_json("n", &json!({}))).into());
    bench.settle(&mut [&mut scheduler]);
    assert_eq!(node(&read_pod(&bench)), Some("n"));
}

#[test]
fn a_lagging_cache_does_not_fill_a_node_twice() {
    let mut bench = Bench::default();
    bench.add(read::<Node>(&node_json("n", &json!({}))).into());
    let gpu = |name: &str| {
        let mut json = pod_json(&asks("nvidia.com/gpu", "1"));
        json["metadata"]["name"] = json!(name);
        Pod::clone(&pod(&json))
    };
    let first = bench.add(gpu("a").into()).id();
    let second = bench.add(gpu("b").into()).id();
    let stale = bench.world.clone();
    let mut scheduler = Scheduler::new(Arc::new(|_| None));
    bench.step(&mut scheduler, &stale, &first);
    bench.step(&mut scheduler, &stale, &second);
    let bound = bench.world.list::<Pod>(None).filter(|pod| node(pod).is_some()).count();
    assert_eq!(bound, 1);
    bench.remove(&first);
    bench.settle(&mut [&mut scheduler]);
    assert_eq!(node(bench.world.get::<Pod>("default", "b").unwrap()), Some("n"));
}
