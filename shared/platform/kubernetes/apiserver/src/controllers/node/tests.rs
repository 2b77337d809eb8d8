//! A node that falls silent, and one that comes back.

use serde_json::{Value, json};

use super::super::testing::{Bench, at, pod, read};
use super::*;

fn node_json() -> Value {
    json!({"metadata": {"name": "n"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}})
}

fn pod_json(name: &str, tolerations: &Value) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"nodeName": "n", "containers": [], "tolerations": tolerations},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

fn stage() -> (Bench, NodeLifecycle, Id) {
    let mut bench = Bench::default();
    let key = bench.add(read::<Node>(&node_json()).into()).id();
    let patient = json!([{"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute"}]);
    let hasty = json!([{"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}]);
    for (name, tolerations) in [("plain", json!([])), ("patient", patient), ("hasty", hasty)] {
        bench.add(Pod::clone(&pod(&pod_json(name, &tolerations))).into());
    }
    (bench, NodeLifecycle::default(), key)
}

/// Looks until nothing follows; the time until it wants to look again.
fn look(bench: &mut Bench, lifecycle: &mut NodeLifecycle, key: &Id) -> Option<Duration> {
    for _ in 0..10 {
        let world = bench.world.clone();
        let outcome = lifecycle.reconcile(bench.now(), &world, key);
        if outcome.writes.is_empty() {
            return outcome.again_in;
        }
        bench.step(lifecycle, &world, key);
    }
    panic!("no end");
}

fn leaving(bench: &Bench) -> Vec<String> {
    let pods = bench.world.list::<Pod>(None).filter(|pod| pod.metadata.deletion_timestamp.is_some());
    pods.map(|pod| name(&pod.metadata).to_owned()).collect()
}

#[test]
fn a_silent_node_loses_its_pods_step_by_step() {
    let (mut bench, mut lifecycle, key) = stage();
    let keys = lifecycle.hook(&bench.world, &Hook::Silent { node: "n".to_owned(), since: Some(at(0)) });
    assert_eq!(keys, std::slice::from_ref(&key));
    bench.now = 49;
    assert_eq!(look(&mut bench, &mut lifecycle, &key), Some(Duration::from_secs(1)));
    assert!(bench.world.list::<Pod>(None).all(|pod| is_ready(pod)));
    bench.now = 50;
    assert_eq!(look(&mut bench, &mut lifecycle, &key), Some(Duration::from_secs(5)));
    assert!(bench.world.list::<Pod>(None).all(|pod| !is_ready(pod)));
    let node = bench.world.get::<Node>("", "n").unwrap();
    assert_eq!(ready(node).unwrap().status, "Unknown");
    assert_eq!(taints(node).count(), 2);
    bench.now = 55;
    assert_eq!(look(&mut bench, &mut lifecycle, &key), Some(Duration::from_secs(295)));
    assert_eq!(leaving(&bench), ["hasty"]);
    bench.now = 350;
    look(&mut bench, &mut lifecycle, &key);
    assert_eq!(leaving(&bench), ["hasty", "plain"], "the patient one stays for ever");
    bench.remove(&key);
    assert_eq!(look(&mut bench, &mut lifecycle, &key), Some(NODELESS_MAX));
    bench.now += 40;
    look(&mut bench, &mut lifecycle, &key);
    assert_eq!(bench.world.list::<Pod>(None).count(), 0, "without their node they go by force");
}

#[test]
fn a_node_that_comes_back_is_as_before() {
    let (mut bench, mut lifecycle, key) = stage();
    lifecycle.hook(&bench.world, &Hook::Silent { node: "n".to_owned(), since: Some(at(0)) });
    bench.now = 100;
    look(&mut bench, &mut lifecycle, &key);
    lifecycle.hook(&bench.world, &Hook::Silent { node: "n".to_owned(), since: None });
    look(&mut bench, &mut lifecycle, &key);
    let node = bench.world.get::<Node>("", "n").unwrap();
    assert!(is_node_ready(node));
    assert_eq!(taints(node).count(), 0);
}
