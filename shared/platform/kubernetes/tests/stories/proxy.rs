//! The platform of an activator, beside an autoscaler that writes what it reads.

use crate::world::World;
use apiserver::Matching;
use domain::{Change, Origin};
use platform_kubernetes::routes::FORGOTTEN_AFTER;
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

fn slice(world: &World, service: &str, pods: &[(&str, u8, bool)]) -> serde_json::Value {
    let endpoint = |(name, number, ready): &(&str, u8, bool)| {
        json!({
            "addresses": [format!("10.0.0.{number}")],
            "conditions": {"ready": ready, "serving": ready, "terminating": false},
            "targetRef": {"kind": "Pod", "namespace": "prod", "name": name, "uid": format!("uid-{name}")},
        })
    };
    world.create(
        "/apis/discovery.k8s.io/v1/namespaces/prod/endpointslices",
        &json!({
            "metadata": {"generateName": format!("{service}-"), "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": pods.iter().map(endpoint).collect::<Vec<_>>(),
        }),
    )
}

#[tokio::test(start_paused = true)]
async fn what_an_autoscaler_writes_an_activator_routes() {
    let world = World::new();
    let annotations = json!({"kpa.dev/hosts": "model.example", "kpa.dev/container-concurrency": "2"});
    world.deploy("a", 1, &annotations);
    let (_platform, mut autoscaler) = world.cluster();
    autoscaler.synced().await;
    let workload = world.until("an object", || world.workload("a")).await;
    slice(&world, workload["spec"]["service"].as_str().unwrap(), &[("a-1", 1, true), ("a-2", 2, false)]);

    let mut activator = world.proxy();
    let revision = activator
        .until("applied", |change| match change {
            Change::Applied(revision) => Some(revision.clone()),
            _ => None,
        })
        .await;
    assert_eq!(revision.route.hosts, ["model.example"]);
    let limit = revision.limits.container_concurrency;
    assert_eq!((limit.value.map(|n| n.get()), limit.origin), (Some(2), Origin::Annotation));
    assert_eq!(activator.endpoints("a", 2).await, ["10.0.0.1:8080 Ready", "10.0.0.2:8080 Starting"]);
    activator.synced().await;

    world.patch(
        "/apis/apps/v1/namespaces/prod/deployments/a",
        &json!({"metadata": {"annotations": {"kpa.dev/hosts": "other.example"}}}),
    );
    let moved = |change: &Change| match change {
        Change::Applied(revision) if revision.route.hosts == ["other.example"] => Some(()),
        _ => None,
    };
    activator.until("the new host", moved).await;
    // An object that somebody deletes is made anew, and nobody hears that it was away.
    let uid = || Some(world.workload("a")?["metadata"]["uid"].clone());
    let before = uid();
    world.delete("/apis/kpa.dev/v1alpha1/namespaces/prod/scaledworkloads/a");
    world.until("the object again", || uid().filter(|uid| Some(uid) != before.as_ref())).await;
    let deleted = Instant::now();
    world.delete("/apis/apps/v1/namespaces/prod/deployments/a");
    activator.until("gone", |change| matches!(change, Change::Deleted(_)).then_some(())).await;
    assert!(deleted.elapsed() >= FORGOTTEN_AFTER, "{:?}", deleted.elapsed());
    assert_eq!(world.workload("a"), None);
}

#[tokio::test(start_paused = true)]
async fn it_is_synced_only_once_everything_was_listed_and_drains_slowly_by_default() {
    let world = World::new();
    world.server.faults().delay(Matching::any().resource("endpointslices"), Duration::from_secs(5));
    let started = Instant::now();
    let mut activator = world.proxy();
    activator.synced().await;
    assert!(started.elapsed() >= Duration::from_secs(5));
    let config = activator.heard.iter().find_map(|change| match change {
        Change::ActivatorConfig(config) => Some(config.clone()),
        _ => None,
    });
    assert_eq!(config.expect("its configuration is told").drain_delay.value, Duration::from_secs(10));
    world.create(
        "/api/v1/namespaces/kpa-system/configmaps",
        &json!({"metadata": {"name": "config-activator"}, "data": {"drain-delay": "3s"}}),
    );
    let configured = |change: &Change| match change {
        Change::ActivatorConfig(config) => (config.drain_delay.value == Duration::from_secs(3)).then_some(()),
        _ => None,
    };
    activator.until("what is configured", configured).await;
}

#[tokio::test(start_paused = true)]
async fn autoscalers_are_found_by_their_service() {
    let world = World::new();
    let mut activator = world.proxy();
    activator.synced().await;
    world.create(
        "/apis/discovery.k8s.io/v1/namespaces/kpa-system/endpointslices",
        &json!({
            "metadata": {"name": "s", "labels": {"kubernetes.io/service-name": "kpa-autoscaler"}},
            "addressType": "IPv4",
            "ports": [{"name": "frames", "port": 9090, "protocol": "TCP"}],
            "endpoints": [{
                "addresses": ["10.1.0.7"],
                "conditions": {"ready": true},
                "targetRef": {"kind": "Pod", "name": "kpa-autoscaler-0", "uid": "u"},
            }],
        }),
    );
    let peers = |change: &Change| match change {
        Change::Autoscalers(peers) if !peers.is_empty() => Some(format!("{} {}", peers[0].id, peers[0].address)),
        _ => None,
    };
    assert_eq!(activator.until("the peer", peers).await, "kpa-autoscaler-0 10.1.0.7:9090");
}

/// A connection that is dead without anybody having said so.
#[tokio::test(start_paused = true)]
async fn after_five_silent_minutes_routes_are_right_within_ten_seconds() {
    let world = World::new();
    world.deploy("a", 1, &json!({"autoscaling.knative.dev/target": "10"}));
    let (_platform, mut autoscaler) = world.cluster();
    autoscaler.synced().await;
    let workload = world.until("an object", || world.workload("a")).await;
    let service = workload["spec"]["service"].as_str().unwrap().to_owned();
    let first = slice(&world, &service, &[("a-1", 1, true)]);
    let mut activator = world.proxy();
    activator.endpoints("a", 1).await;
    world.server.faults().freeze();
    tokio::time::sleep(Duration::from_secs(100)).await;
    let name = first["metadata"]["name"].as_str().unwrap();
    world.delete(&format!("/apis/discovery.k8s.io/v1/namespaces/prod/endpointslices/{name}"));
    slice(&world, &service, &[("a-2", 2, true), ("a-3", 3, true)]);
    tokio::time::sleep(Duration::from_secs(200)).await;
    world.server.faults().thaw();
    let healed = Instant::now();
    assert_eq!(activator.endpoints("a", 2).await, ["10.0.0.2:8080 Ready", "10.0.0.3:8080 Ready"]);
    assert!(healed.elapsed() <= Duration::from_secs(10), "{:?}", healed.elapsed());
}
