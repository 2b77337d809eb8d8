//! The election and the trust between our programs, as an API server sees them.

use crate::world::World;
use apiserver::Matching;
use domain::WallTime;
use futures_util::FutureExt;
use platform::trust::{Caller, Doubt, Identifies, ServiceAccount};
use platform_kubernetes::elector::{Elector, Place, Standing, identity};
use platform_kubernetes::lease::Settings;
use platform_kubernetes::review::{Reviewer, Spawn};
use platform_kubernetes::token::AUDIENCE;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kpa-system/leases/kpa-autoscaler";

fn wall_clock() -> WallTime {
    WallTime::from_unix_millis(1_700_000_000_000)
}

fn candidate(world: &World, tasks: &mut JoinSet<()>, pod: &str) -> Standing {
    let place = Place { namespace: "kpa-system".into(), name: "kpa-autoscaler".into() };
    let (elector, standing) = Elector::new(world.client(), place, &identity(pod, 7), Settings::default(), wall_clock);
    tasks.spawn(elector.run(std::future::pending()));
    standing
}

fn leads(standing: &Standing) -> bool {
    standing.leadership().borrow().leads(Instant::now())
}

fn spec(world: &World) -> Value {
    world.get(LEASE).map(|lease| lease["spec"].clone()).unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn a_released_lease_passes_within_a_second_and_is_kept_as_other_clients_keep_it() {
    let (world, mut tasks) = (World::new(), JoinSet::new());
    let first = candidate(&world, &mut tasks, "kpa-autoscaler-a");
    sleep(Duration::from_secs(1)).await;
    assert!(leads(&first));
    let second = candidate(&world, &mut tasks, "kpa-autoscaler-b");
    sleep(Duration::from_secs(20)).await;
    assert!(leads(&first) && !leads(&second));
    let held = spec(&world);
    assert_eq!(held["holderIdentity"], "kpa-autoscaler-a_0000000000000007");
    assert_eq!((&held["leaseDurationSeconds"], &held["leaseTransitions"]), (&json!(15), &json!(0)));
    assert_ne!(held["renewTime"], held["acquireTime"]);
    let went = Instant::now();
    first.resign().await;
    let mut leadership = second.leadership();
    leadership.wait_for(|leadership| leadership.leads(Instant::now())).await.unwrap();
    assert!(went.elapsed() < Duration::from_secs(1), "{:?}", went.elapsed());
    assert_eq!(spec(&world)["leaseTransitions"], 1);
}

#[tokio::test(start_paused = true)]
async fn behind_a_frozen_api_server_nobody_leads_and_after_it_exactly_one() {
    let (world, mut tasks) = (World::new(), JoinSet::new());
    let first = candidate(&world, &mut tasks, "kpa-autoscaler-a");
    let second = candidate(&world, &mut tasks, "kpa-autoscaler-b");
    sleep(Duration::from_secs(5)).await;
    assert!(leads(&first) != leads(&second));
    world.server.faults().freeze();
    sleep(Duration::from_secs(14)).await;
    assert!(!leads(&first) && !leads(&second));
    sleep(Duration::from_secs(60)).await;
    world.server.faults().thaw();
    for _ in 0..40 {
        sleep(Duration::from_millis(500)).await;
        assert!(!(leads(&first) && leads(&second)));
    }
    assert!(leads(&first) != leads(&second));
}

/// Watches that end or break cost no leadership, and are put up again.
#[tokio::test(start_paused = true)]
async fn a_watch_that_breaks_is_put_up_again() {
    let (world, mut tasks) = (World::new(), JoinSet::new());
    let first = candidate(&world, &mut tasks, "kpa-autoscaler-a");
    sleep(Duration::from_secs(1)).await;
    let leases = Matching::any().resource("leases");
    for _ in 0..5 {
        world.server.faults().break_watches(&leases);
        sleep(Duration::from_secs(3)).await;
        assert!(leads(&first));
    }
    assert_eq!(world.server.faults().watches(&leases), 1);
}

#[tokio::test(start_paused = true)]
async fn a_pods_token_for_us_says_which_pod_it_is_until_the_pod_is_gone() {
    let world = World::new();
    let accounts = "/api/v1/namespaces/kpa-system/serviceaccounts";
    world.create(accounts, &json!({ "metadata": { "name": "kpa-activator" } }));
    let pod = world.create(
        "/api/v1/namespaces/kpa-system/pods",
        &json!({
            "metadata": { "name": "kpa-activator-0" },
            "spec": {
                "serviceAccountName": "kpa-activator",
                "containers": [{ "name": "activator", "image": "kpa" }],
            },
        }),
    );
    let token = |audience: &str| {
        let bound =
            json!({ "kind": "Pod", "apiVersion": "v1", "name": "kpa-activator-0", "uid": pod["metadata"]["uid"] });
        let spec = json!({ "audiences": [audience], "expirationSeconds": 3600, "boundObjectRef": bound });
        let asked = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec });
        let issued = world.create(&format!("{accounts}/kpa-activator/token"), &asked);
        issued["status"]["token"].as_str().unwrap().to_owned()
    };
    let (ours, foreign) = (token(AUDIENCE), token("somebody-else"));
    let (run, mut asked) = tokio::sync::mpsc::channel(8);
    let spawn: Spawn = Arc::new(move |_, task| run.try_send(task).unwrap());
    let reviewer = Reviewer::new(world.client(), AUDIENCE, spawn, wall_clock);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Some(question) = asked.recv().await {
            question.await;
        }
    });
    let account = ServiceAccount { namespace: "kpa-system".into(), name: "kpa-activator".into() };
    let caller = Caller { account, pod: Some("kpa-activator-0".into()) };
    assert_eq!(reviewer.who(&ours).await, Ok(caller.clone()));
    for stranger in [foreign.as_str(), "no.such.token"] {
        assert!(matches!(reviewer.who(stranger).await, Err(Doubt::Refused(_))), "{stranger}");
    }
    world.delete("/api/v1/namespaces/kpa-system/pods/kpa-activator-0?gracePeriodSeconds=0");
    assert_eq!(reviewer.who(&ours).now_or_never(), Some(Ok(caller)), "believed for a minute at most");
    sleep(Duration::from_secs(61)).await;
    assert!(matches!(reviewer.who(&ours).await, Err(Doubt::Refused(_))));
}
