//! What an uninstall leaves: workloads that serve, and nothing of ours.

use crate::support::wait_for;
use crate::world::World;
use http::Method;
use serde_json::json;

#[test]
fn sleeping_services_get_a_replica_and_nothing_of_ours_is_left() {
    let world = World::new();
    let names = ["one", "two", "three"];
    for name in names {
        world.deploy(name, 0, &json!({"autoscaling.knative.dev/target": "2"}), &json!({}));
    }
    let mut autoscaler = world.autoscaler(0).ready();
    for name in names {
        wait_for("its status", || (world.workload(name)["status"]["mode"] == "asleep").then_some(()));
    }
    let listed = world.kpa("kpa-release", &["get", "-A", "--cluster"]);
    assert!(listed.contains("three") && listed.contains("Deployment/two"), "{listed}");

    let said = world.kpa("kpa-release", &["release", "--all", "--cluster"]);
    assert_eq!(said.matches("released with 1 replica").count(), 3, "{said}");
    for name in names {
        assert_eq!(world.replicas(name), 1);
    }
    // The autoscaler still lives, and neither takes a replica back nor makes its Services anew.
    wait_for("that it knows", || (world.workload("one")["status"]["mode"] == "released").then_some(()));
    // Twice is as good as once.
    let again = world.kpa("kpa-release", &["release", "--all", "--cluster"]);
    assert_eq!(again.matches("was released before; it has 1 replica").count(), 3, "{again}");
    autoscaler.running.0.kill().unwrap();
    autoscaler.running.0.wait().unwrap();

    let kind = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/scaledworkloads.kpa.dev";
    assert!(world.request(&Method::DELETE, kind, None).0.is_success());
    let ours = |path: &str| {
        let list = world.get(&format!("{path}?labelSelector=app.kubernetes.io/managed-by=kpa"));
        list["items"].as_array().cloned().unwrap_or_default()
    };
    assert_eq!(ours("/api/v1/services"), Vec::<serde_json::Value>::new());
    for name in names {
        assert_eq!(world.replicas(name), 1);
        let path = format!("/apis/apps/v1/namespaces/default/deployments/{name}");
        let deployment = world.get(&path);
        let annotations = deployment["metadata"]["annotations"].as_object().unwrap();
        assert!(annotations.keys().all(|key| !key.starts_with("kpa.dev/")), "{annotations:?}");
    }
}
