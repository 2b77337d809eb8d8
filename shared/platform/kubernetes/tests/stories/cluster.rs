//! The platform of an autoscaler.

use crate::world::World;
use apiserver::{Matching, Reply};
use domain::{Change, EndpointId, Replicas, ScaleTargetRef};
use platform::{Platform, ScaleError};
use serde_json::json;
use std::time::Duration;

fn target(name: &str) -> ScaleTargetRef {
    ScaleTargetRef::deployment("prod", name)
}

const fn n(count: u32) -> Replicas {
    Replicas::new(count)
}

fn ours() -> serde_json::Value {
    json!({"autoscaling.knative.dev/target": "10"})
}

#[tokio::test(start_paused = true)]
async fn an_adopted_workload_gets_a_service_and_an_object_that_it_owns() {
    let world = World::new();
    let uid = world.deploy("a", 2, &ours());
    world.deploy("plain", 1, &json!({}));
    let (_platform, mut view) = world.cluster();
    view.synced().await;
    let workload = world.until("an object", || world.workload("a")).await;
    assert_eq!(workload["metadata"]["ownerReferences"][0]["uid"], uid.as_str());
    let service = workload["spec"]["service"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/namespaces/prod/services/{service}");
    let service = world.until("a service", || world.get(&path)).await;
    assert_eq!((&service["spec"]["clusterIP"], &service["spec"]["selector"]), (&json!("None"), &json!({"app": "a"})));
    assert_eq!(service["spec"]["ports"][0]["port"], 8080);
    assert!(world.workload("plain").is_none());
    // What somebody took away comes back.
    world.delete(&path);
    world.until("the service again", || world.get(&path)).await;
    world.delete("/apis/kpa.dev/v1alpha1/namespaces/prod/scaledworkloads/a");
    world.until("the object again", || world.workload("a")).await;
}

#[tokio::test(start_paused = true)]
async fn pods_are_told_and_followed() {
    let world = World::new();
    world.deploy("a", 1, &ours());
    world.pod("a", 1, true);
    let (_platform, mut view) = world.cluster();
    assert_eq!(view.endpoints("a", 1).await, ["10.0.0.1:8080 Ready"]);
    world.pod("a", 2, false);
    assert_eq!(view.endpoints("a", 2).await.len(), 2);
    world.delete("/api/v1/namespaces/prod/pods/a-1");
    assert_eq!(view.endpoints("a", 1).await, ["10.0.0.2:8080 Starting"]);
    world.delete("/apis/apps/v1/namespaces/prod/deployments/a");
    view.until("deleted", |change| matches!(change, Change::Deleted(_)).then_some(())).await;
}

#[tokio::test(start_paused = true)]
async fn lowering_is_a_compare_and_set_and_raising_never_lowers() {
    let world = World::new();
    world.deploy("a", 0, &ours());
    let (platform, mut view) = world.cluster();
    view.synced().await;
    let a = target("a");
    assert_eq!(platform.scale(&a, n(0), n(3), &[]).await, Ok(()));
    view.counts("a", (3, 0, 0)).await;
    let changed = Err(ScaleError::Changed { now: n(3) });
    assert_eq!(platform.scale(&a, n(5), n(1), &[]).await, changed, "somebody else wrote");
    assert_eq!(platform.scale(&a, n(0), n(2), &[]).await, changed, "less than there is");
    assert_eq!(platform.scale(&a, n(3), n(0), &[]).await, Ok(()));
    view.counts("a", (0, 0, 0)).await;
    assert_eq!(world.replicas("a"), 0);
    // At 0 the field is absent in the scale subresource.
    assert_eq!(platform.scale(&a, n(2), n(1), &[]).await, Err(ScaleError::Changed { now: n(0) }));
    assert_eq!(platform.scale(&a, n(0), n(1), &[]).await, Ok(()));
    let nobody = target("nobody");
    assert_eq!(platform.scale(&nobody, n(0), n(1), &[]).await, Err(ScaleError::NotFound(nobody)));
}

#[tokio::test(start_paused = true)]
async fn what_the_api_server_refuses_for_now_is_told_apart_from_what_it_refuses() {
    let world = World::new();
    world.deploy("a", 1, &ours());
    let (platform, mut view) = world.cluster();
    view.synced().await;
    let a = target("a");
    let scale = || Matching::any().resource("deployments/scale");
    for (reply, expected) in [
        (Reply::Conflict, ScaleError::Busy(Duration::from_millis(100))),
        (Reply::TooMany { retry_after_seconds: 3 }, ScaleError::Busy(Duration::from_secs(3))),
    ] {
        world.server.faults().answer_next(1, scale(), reply);
        assert_eq!(platform.scale(&a, n(1), n(2), &[]).await, Err(expected));
    }
    for reply in [Reply::Internal, Reply::Unavailable, Reply::Timeout] {
        world.server.faults().answer_next(1, scale(), reply);
        assert!(matches!(platform.scale(&a, n(1), n(2), &[]).await, Err(ScaleError::Unreachable(_))));
    }
    assert_eq!(platform.scale(&a, n(1), n(2), &[]).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn victims_cost_least_and_survivors_lose_the_mark() {
    let world = World::new();
    world.deploy("a", 2, &ours());
    let victim = world.pod("a", 1, true);
    world.pod("a", 2, true);
    let (platform, mut view) = world.cluster();
    view.endpoints("a", 2).await;
    let cost = |name: &str| {
        let pod = world.get(&format!("/api/v1/namespaces/prod/pods/{name}")).unwrap();
        pod["metadata"]["annotations"]["controller.kubernetes.io/pod-deletion-cost"].as_str().map(str::to_owned)
    };
    assert_eq!(platform.scale(&target("a"), n(2), n(1), &[EndpointId::new(&victim)]).await, Ok(()));
    assert_eq!((cost("a-1").as_deref(), cost("a-2")), (Some("-2147483648"), None));
    // Nobody deletes it: it stays, and must not be the first next time.
    world.until("the mark is taken back", || cost("a-1").is_none().then_some(())).await;
}

/// At most five pods are marked in a second. A ReplicaSet that is lowered by more than are marked deletes others.
#[tokio::test(start_paused = true)]
async fn a_count_is_lowered_only_by_pods_that_are_marked() {
    const PODS: u8 = 14;
    let world = World::new();
    let workloads = ["a", "b"];
    for name in workloads {
        world.deploy(name, u32::from(PODS), &ours());
    }
    let pods = workloads.map(|name| (1..=PODS).map(|n| EndpointId::new(&world.pod(name, n, true))).collect::<Vec<_>>());
    let (platform, mut view) = world.cluster();
    for name in workloads {
        view.endpoints(name, usize::from(PODS)).await;
    }
    let marked = |name: &str| {
        let cost = |n: u8| {
            let pod = world.get(&format!("/api/v1/namespaces/prod/pods/{name}-{n}")).unwrap();
            pod["metadata"]["annotations"]["controller.kubernetes.io/pod-deletion-cost"].is_string()
        };
        u64::try_from((1..=PODS).filter(|n| cost(*n)).count()).unwrap()
    };
    let begun = tokio::time::Instant::now();
    let lower = async |which: usize, to: u32| {
        let (name, victims) = (workloads[which], &pods[which][to as usize..]);
        let mut counts = vec![u64::from(PODS)];
        while counts.last() != Some(&u64::from(to)) {
            let from = u32::try_from(world.replicas(name)).unwrap();
            let asked = tokio::time::Instant::now();
            platform.scale(&target(name), n(from), n(to), victims).await.unwrap();
            assert!(
                asked.elapsed() <= Duration::from_millis(1_300),
                "a raise would wait for it: {:?}",
                asked.elapsed()
            );
            let count = world.replicas(name);
            assert!(u64::from(PODS) - count <= marked(name), "{count}: {} are marked", marked(name));
            assert!(counts.len() < 20, "{counts:?}");
            counts.push(count);
        }
        counts
    };
    // Both at once: nobody uses up the turns of the other.
    let counts = futures_util::future::join(lower(0, 1), lower(1, 4)).await;
    assert!(counts.0.len() > 3 && counts.1.len() > 3, "in parts: {counts:?}");
    let took = begun.elapsed().as_millis();
    assert!((22 * 200..22 * 200 + 2_000).contains(&took), "23 pods at five a second: {took} ms");
    // Where none stays, none is marked.
    platform.scale(&target("b"), n(4), n(0), &pods[1][..4]).await.unwrap();
    assert_eq!((world.replicas("b"), marked("b")), (0, 10));
}

#[tokio::test(start_paused = true)]
async fn letting_go_gives_replicas_back_before_it_takes_our_objects_away() {
    let world = World::new();
    world.deploy("a", 0, &ours());
    let (_platform, mut view) = world.cluster();
    view.synced().await;
    world.until("an object", || world.workload("a")).await;
    world.patch(
        "/apis/kpa.dev/v1alpha1/namespaces/prod/scaledworkloads/a/status",
        &json!({"status": {"lastReplicas": 4}}),
    );
    let path = "/apis/apps/v1/namespaces/prod/deployments/a";
    world.patch(path, &json!({"metadata": {"annotations": {"autoscaling.knative.dev/target": null}}}));
    world.until("the object is gone", || world.workload("a").is_none().then_some(())).await;
    assert_eq!(world.replicas("a"), 4);
    let services = world.get("/api/v1/namespaces/prod/services").unwrap();
    assert_eq!(services["items"], json!([]));
}

#[tokio::test(start_paused = true)]
async fn a_rival_gets_a_sleeping_workload_back_once() {
    let world = World::new();
    world.deploy("a", 0, &ours());
    let (_platform, mut view) = world.cluster();
    view.synced().await;
    world.until("an object", || world.workload("a")).await;
    world.create(
        "/apis/autoscaling/v2/namespaces/prod/horizontalpodautoscalers",
        &json!({
            "metadata": {"name": "a"},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "a"},
                "minReplicas": 1, "maxReplicas": 3,
            },
        }),
    );
    world.until("a replica", || (world.replicas("a") == 1).then_some(())).await;
    world.until("that it was", || world.workload("a").filter(|workload| workload["status"]["restored"] == true)).await;
    // Whoever puts it to sleep now means it.
    world.patch("/apis/apps/v1/namespaces/prod/deployments/a", &json!({"spec": {"replicas": 0}}));
    view.counts("a", (0, 0, 0)).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(world.replicas("a"), 0);
}

#[tokio::test(start_paused = true)]
async fn watches_that_break_a_hundred_times_and_an_api_server_that_is_away_lose_nothing() {
    let world = World::new();
    world.deploy("a", 1, &ours());
    let (_platform, mut view) = world.cluster();
    view.synced().await;
    for round in 0..100_u8 {
        match round % 4 {
            0 => drop(world.server.faults().break_watches(&Matching::any())),
            1 => drop(world.server.faults().end_watches(&Matching::any())),
            2 => world.server.faults().compact(),
            _ => world.server.faults().refuse(),
        }
        world.pod("a", round + 1, true);
        tokio::time::sleep(Duration::from_millis(300)).await;
        world.server.faults().accept();
        assert_eq!(view.endpoints("a", usize::from(round) + 1).await.len(), usize::from(round) + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn only_selected_namespaces_are_looked_at() {
    let mut world = World::new();
    world.settings.namespace_selector = Some("team=models".into());
    world.deploy("a", 1, &ours());
    let (_platform, mut view) = world.cluster();
    view.synced().await;
    assert!(!view.heard.iter().any(|change| matches!(change, Change::Applied(_))), "{:?}", view.heard);
    world.patch("/api/v1/namespaces/prod", &json!({"metadata": {"labels": {"team": "models"}}}));
    view.until("adopted", |change| matches!(change, Change::Applied(_)).then_some(())).await;
    world.patch("/api/v1/namespaces/prod", &json!({"metadata": {"labels": {"team": "others"}}}));
    view.until("let go", |change| matches!(change, Change::Deleted(_)).then_some(())).await;
}
