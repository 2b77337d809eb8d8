//! A Service that leads to the activators: its clients notice nothing.

use crate::rights::{refused, used};
use crate::support::{http_get, wait_for};
use crate::world::World;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
const MANAGER: &str = "endpointslice.kubernetes.io/managed-by";

/// The slices behind `front`.
fn behind(world: &World) -> Vec<Value> {
    let list = world.get(&format!("{SLICES}?labelSelector=kubernetes.io/service-name=front"));
    list["items"].as_array().cloned().unwrap_or_default()
}

fn managers(world: &World) -> Vec<String> {
    let slices = behind(world);
    slices.iter().map(|slice| slice["metadata"]["labels"][MANAGER].as_str().unwrap_or_default().to_owned()).collect()
}

/// Where a connection to `front` may lead now: every ready address with its port.
fn ways(world: &World) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for slice in behind(world) {
        // A slice without endpoints has no ports.
        let Some(port) = slice["ports"][0]["port"].as_u64() else { continue };
        for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
            if endpoint["conditions"]["ready"] == true {
                let address = endpoint["addresses"][0].as_str().unwrap();
                found.push(format!("{address}:{port}").parse().unwrap());
            }
        }
    }
    found
}

/// One request by each way there is; how many were not answered. No way is a failure too.
fn failures(world: &World) -> usize {
    let ways = ways(world);
    if ways.is_empty() {
        eprintln!("front leads nowhere");
        return 1;
    }
    let answered = |way: &&SocketAddr| {
        let answer = http_get(**way, "front.default.svc.cluster.local", "/");
        let is_right =
            answer.as_ref().is_some_and(|(head, body)| head.starts_with("HTTP/1.1 200") && body == "hello\n");
        if !is_right {
            eprintln!("{way}: {answer:?}");
        }
        is_right
    };
    ways.len() - ways.iter().filter(answered).count()
}

/// A cluster with the rights to take over, and the Service `front`.
fn with_front() -> World {
    let world = World::new();
    world.install_file("components/take-over/rbac.yaml");
    let service = json!({
        "metadata": {"name": "front"},
        "spec": {"selector": {"app": "model"}, "ports": [{"port": 80, "targetPort": 8000}]},
    });
    world.create("/api/v1/namespaces/default/services", &service);
    world
}

/// Without a probe a pod would be called ready before it listens, and clients that go to it directly would fail.
fn probed() -> Value {
    json!({"readinessProbe": {"tcpSocket": {"port": 8000}, "periodSeconds": 1}})
}

/// Does something while two clients send requests; how many were sent, and how many failed.
fn under_load(world: &World, work: impl FnOnce()) -> (usize, usize) {
    let (over, sent, failed) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    failed.fetch_add(failures(world), Ordering::Relaxed);
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // Also when it fails: nobody would end the clients.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        over.store(true, Ordering::Relaxed);
        if let Err(why) = done {
            std::panic::resume_unwind(why);
        }
    });
    (sent.into_inner(), failed.into_inner())
}

#[test]
fn no_request_fails_while_a_service_is_taken_over_asleep_woken_and_given_back() {
    let world = with_front();
    // What the Endpoints controller makes, and nobody takes away when a selector goes.
    let endpoints = "/api/v1/namespaces/default/endpoints";
    let (status, answer) = world.request(&Method::POST, endpoints, Some(&json!({"metadata": {"name": "front"}})));
    // A cluster that has this controller was quicker.
    assert!(status.is_success() || status == StatusCode::CONFLICT, "{answer}");
    let annotations = json!({
        "autoscaling.knative.dev/target": "2", "autoscaling.knative.dev/window": "6s",
        "kpa.dev/service": "front", "kpa.dev/take-over": "true",
    });
    world.deploy("model", 1, &annotations, &probed());
    wait_for("a pod behind it", || (!ways(&world).is_empty()).then_some(()));
    let mut programs = Vec::new();
    let (sent, failed) = under_load(&world, || {
        programs = vec![world.autoscaler_with(0, &["--take-over"]).ready(), world.activator(0).ready()];
        wait_for("the activators alone", || (managers(&world) == ["kpa.dev"]).then_some(()));
    });
    let logs = || programs.iter().map(crate::world::Program::log).collect::<String>();
    assert!(sent > 0 && failed == 0, "{failed} of {sent}\n{}", logs());
    let front = || world.get("/api/v1/namespaces/default/services/front");
    assert_eq!(front()["spec"]["selector"], Value::Null);
    assert_eq!(front()["metadata"]["annotations"]["kpa.dev/selector"], r#"{"app":"model"}"#);
    assert_eq!(world.get("/api/v1/namespaces/default/endpoints/front")["code"], 404);
    assert_eq!(world.workload("model")["spec"]["resolved"]["route"]["takenOver"], "front");

    // The clients may all have gone to the pods until now, and who never had a request from us is not put to sleep.
    assert_eq!(failures(&world), 0, "through the activator: {}", logs());
    wait_for("asleep", || (world.replicas("model") == 0).then_some(()));
    assert_eq!(managers(&world), ["kpa.dev"]);
    assert_eq!(failures(&world), 0, "it wakes: {}", logs());
    wait_for("asleep again", || (world.replicas("model") == 0 && world.ready("model") == 0).then_some(()));

    let (sent, failed) = under_load(&world, || {
        let said = world.kpa("kpa-release", &["release", "model", "--cluster"]);
        // As many as it had last, which depends on how fast the clients were.
        assert!(said.contains("released with"), "{said}");
        wait_for("pods alone", || (managers(&world) == ["endpointslice-controller.k8s.io"]).then_some(()));
    });
    assert!(sent > 0 && failed == 0, "{failed} of {sent}\n{}", logs());
    assert_eq!(front()["spec"]["selector"], json!({"app": "model"}));
    assert_eq!(front()["metadata"]["annotations"]["kpa.dev/selector"], Value::Null);
    let Some(server) = world.records() else { return };
    assert_eq!(refused(server), Vec::<String>::new());
    let rights = used(server, "kpa-autoscaler");
    for verb in ["list", "watch", "create", "patch", "delete"] {
        assert!(rights.contains(&format!("{verb} discovery.k8s.io/endpointslices")), "{verb}: {rights:?}");
    }
    assert!(rights.contains("delete /endpoints"), "{rights:?}");
    let rights = used(server, "kpa-release");
    for right in ["get /services", "list discovery.k8s.io/endpointslices"] {
        assert!(rights.contains(right), "{right}: {rights:?}");
    }
}

#[test]
fn the_hook_before_an_uninstall_gives_services_back_when_no_autoscaler_is_left() {
    let world = with_front();
    let annotations = json!({"kpa.dev/service": "front", "kpa.dev/take-over": "true"});
    world.deploy("model", 1, &annotations, &probed());
    let (mut autoscaler, activator) = (world.autoscaler_with(0, &["--take-over"]).ready(), world.activator(0).ready());
    wait_for("the activators alone", || (managers(&world) == ["kpa.dev"]).then_some(()));
    autoscaler.running.0.kill().unwrap();
    autoscaler.running.0.wait().unwrap();
    let (sent, failed) = under_load(&world, || {
        let said = world.kpa("kpa-release", &["release", "--all", "--cluster"]);
        assert!(said.contains("released with 1 replica"), "{said}");
    });
    assert!(sent > 0 && failed == 0, "{failed} of {sent}\n{}\n{}", activator.log(), autoscaler.log());
    assert_eq!(managers(&world), ["endpointslice-controller.k8s.io"]);
    let (_, front) = world.request(&Method::GET, "/api/v1/namespaces/default/services/front", None);
    assert_eq!(front["spec"]["selector"], json!({"app": "model"}));
    assert_eq!(front["metadata"]["annotations"]["kpa.dev/selector"], Value::Null);
}
