//! A Service that is made to lead to the activators, beside the controllers of a cluster.

use crate::world::World;
use apiserver::controllers::{Cluster, ClusterOptions};
use platform_kubernetes::by_hand::Hand;
use platform_kubernetes::objects::Released;
use serde_json::{Value, json};
use std::time::Duration;

const SERVICE: &str = "/api/v1/namespaces/prod/services/front";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/prod/endpointslices";

fn asks() -> Value {
    json!({"autoscaling.knative.dev/target": "10", "kpa.dev/service": "front", "kpa.dev/take-over": "true"})
}

/// Who manages what stands behind `front`, and how many of it are ready.
fn behind(world: &World) -> Vec<(String, usize)> {
    let slices = world.get(SLICES).unwrap();
    let of_front = slices["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|slice| slice["metadata"]["labels"]["kubernetes.io/service-name"] == "front");
    let shown = of_front.map(|slice| {
        let manager =
            slice["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"].as_str().unwrap_or_default();
        let endpoints = slice["endpoints"].as_array().into_iter().flatten();
        (manager.to_owned(), endpoints.filter(|endpoint| endpoint["conditions"]["ready"] == true).count())
    });
    shown.collect()
}

/// Waits, and fails if `front` leads nowhere at any moment.
async fn until(world: &World, what: &str, reached: impl Fn(&[(String, usize)]) -> bool) {
    let look = || {
        let behind = behind(world);
        assert!(behind.iter().any(|(_, ready)| *ready > 0), "{what}: front leads nowhere: {behind:?}");
        reached(&behind).then_some(())
    };
    world.until(what, look).await;
}

fn led(behind: &[(String, usize)]) -> bool {
    matches!(behind, [(manager, ready)] if manager == "kpa.dev" && *ready == 1)
}

fn given_back(behind: &[(String, usize)]) -> bool {
    matches!(behind, [(manager, ready)] if manager == "endpointslice-controller.k8s.io" && *ready > 0)
}

/// One ready activator, and a workload behind a Service that its clients use.
async fn world() -> (World, Cluster) {
    let mut world = World::new();
    world.settings.take_over = true;
    let cluster = Cluster::start(world.server.clone(), ClusterOptions::default());
    world.create(
        "/apis/discovery.k8s.io/v1/namespaces/kpa-system/endpointslices",
        &json!({
            "metadata": {"name": "kpa-activator-1", "labels": {"kubernetes.io/service-name": "kpa-activator"}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": [{
                "addresses": ["10.9.0.1"],
                "conditions": {"ready": true, "serving": true, "terminating": false},
                "targetRef": {"kind": "Pod", "namespace": "kpa-system", "name": "kpa-activator-0", "uid": "uid-0"},
            }],
        }),
    );
    world.create(
        "/api/v1/namespaces/prod/services",
        &json!({
            "metadata": {"name": "front"},
            "spec": {"selector": {"app": "a"}, "ports": [{"name": "web", "port": 80, "targetPort": 8080}]},
        }),
    );
    world.create("/api/v1/namespaces/prod/endpoints", &json!({"metadata": {"name": "front"}}));
    world.deploy("a", 1, &asks());
    world.until("a pod behind it", || given_back(&behind(&world)).then_some(())).await;
    (world, cluster)
}

#[tokio::test(start_paused = true)]
async fn it_leads_to_the_activators_and_back_and_never_nowhere() {
    let (world, _cluster) = world().await;
    let (_platform, mut view) = world.cluster();
    view.synced().await;
    until(&world, "taken", led).await;
    let service = world.get(SERVICE).unwrap();
    assert_eq!(service["spec"]["selector"], Value::Null);
    assert_eq!(service["metadata"]["annotations"]["kpa.dev/selector"], r#"{"app":"a"}"#);
    assert!(world.get("/api/v1/namespaces/prod/endpoints/front").is_none());
    let slices = world.get(SLICES).unwrap();
    let ours = slices["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|slice| slice["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] == "kpa.dev");
    let ours = ours.unwrap();
    assert_eq!(ours["metadata"]["ownerReferences"][0]["uid"], service["metadata"]["uid"]);
    assert_eq!(ours["ports"], json!([{"name": "web", "port": 8080, "protocol": "TCP"}]));
    // An activator that hears of it does not take itself for a replica.
    let mut activator = world.proxy();
    let heard = activator.endpoints("a", 1).await;
    assert!(!heard[0].starts_with("10.9."), "{heard:?}");

    let path = "/apis/apps/v1/namespaces/prod/deployments/a";
    world.patch(path, &json!({"metadata": {"annotations": {"kpa.dev/take-over": null}}}));
    until(&world, "given back", given_back).await;
    assert_eq!(world.get(SERVICE).unwrap()["spec"]["selector"], json!({"app": "a"}));
    world.until("our own Service is gone", || (world.workload("a")?["spec"]["service"] == "front").then_some(())).await;
}

#[tokio::test(start_paused = true)]
async fn a_selector_that_comes_back_is_taken_off_again_a_minute_later_and_told_of() {
    let (world, _cluster) = world().await;
    let (_platform, mut view) = world.cluster();
    view.synced().await;
    until(&world, "taken", led).await;
    world.patch(SERVICE, &json!({"spec": {"selector": {"app": "a", "tier": "none"}}}));
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(world.get(SERVICE).unwrap()["spec"]["selector"]["app"], "a", "no fight");
    world.until("off again", || world.get(SERVICE).unwrap()["spec"]["selector"].is_null().then_some(())).await;
    let events = world.get("/apis/events.k8s.io/v1/namespaces/prod/events").unwrap();
    let told = events["items"].as_array().unwrap().iter().filter(|event| event["reason"] == "SelectorPutBack").count();
    assert_eq!(told, 1);
    assert_eq!(
        world.get(SERVICE).unwrap()["metadata"]["annotations"]["kpa.dev/selector"],
        r#"{"app":"a","tier":"none"}"#,
        "what they want now is what they get back"
    );
}

#[tokio::test(start_paused = true)]
async fn a_person_gives_it_back_also_when_no_autoscaler_is_left() {
    for released in [Released::Yes, Released::ForGood] {
        let (world, _cluster) = world().await;
        let (_platform, mut view) = world.cluster();
        view.synced().await;
        until(&world, "taken", led).await;
        drop(view);
        let hand = Hand::new(world.client());
        let listed = hand.list(Some("prod"), domain::WallTime::from_unix_millis(0)).await.unwrap();
        hand.release(&listed[0].published, released).await.unwrap();
        let name = world.workload("a").unwrap()["spec"]["service"].as_str().unwrap().to_owned();
        let own = || world.get(&SERVICE.replace("front", &name)).is_some();
        assert!(own(), "activators find the pods while clients are led to them");
        hand.leave_services(&[&listed[0].published], released, Duration::from_secs(60)).await.unwrap();
        assert_eq!(own(), released == Released::Yes);
        assert!(given_back(&behind(&world)), "{:?}", behind(&world));
        let service = world.get(SERVICE).unwrap();
        assert_eq!(service["spec"]["selector"], json!({"app": "a"}));
        assert_eq!(service["metadata"]["annotations"]["kpa.dev/selector"], Value::Null);
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_its_owner_deletes_is_gone() {
    let (world, _cluster) = world().await;
    let (_platform, mut view) = world.cluster();
    view.synced().await;
    until(&world, "taken", led).await;
    world.delete(SERVICE);
    world.until("nothing behind it", || behind(&world).is_empty().then_some(())).await;
    tokio::time::sleep(Duration::from_secs(90)).await;
    assert!(world.get(SERVICE).is_none() && behind(&world).is_empty());
    let workload = world.workload("a").unwrap();
    assert!(workload["spec"]["service"].as_str().unwrap().starts_with("kpa-"), "its other names still work");
}
