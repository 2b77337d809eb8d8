//! An API server that is away, or silent, costs no request, and routes are right soon after.
//!
//! `KPA_LONG=1` takes the promised lengths: a minute away, five minutes silent, a server that listens after 20 s.

use crate::service::requests;
use crate::support::wait_for;
use crate::world::{Program, World, seconds};
use serde_json::json;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Asks without end while `during` runs; how many requests were made, and how many of them failed.
pub(crate) fn load(activator: &Program, service: &str, during: impl FnOnce()) -> (usize, usize) {
    let (asked, failed, over) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    failed.fetch_add(requests(activator, service, 20, 1), Ordering::Relaxed);
                    asked.fetch_add(20, Ordering::Relaxed);
                }
            });
        }
        during();
        over.store(true, Ordering::Relaxed);
    });
    (asked.into_inner(), failed.into_inner())
}

/// What goes on while nobody can say so: there is one more.
fn one_more(world: &World) {
    let path = "/apis/apps/v1/namespaces/default/deployments/model";
    world.change(path, |deployment| deployment["spec"]["replicas"] = json!(4));
    wait_for("one more", || (world.ready("model") == 4).then_some(()));
}

fn three_replicas() -> (World, [Program; 2]) {
    let world = World::new();
    world.deploy("model", 3, &json!({"autoscaling.knative.dev/min-scale": "3"}), &json!({}));
    let programs = [world.autoscaler(0).ready(), world.activator(0).ready()];
    programs[1].has_route("model");
    wait_for("three pods", || (world.ready("model") == 3).then_some(()));
    assert_eq!(requests(&programs[1], "model", 20, 2), 0);
    (world, programs)
}

#[test]
fn an_api_server_that_is_away_costs_no_request() {
    let (world, [_autoscaler, activator]) = three_replicas();
    let (asked, failed) = load(&activator, "model", || {
        world.away(true);
        std::thread::sleep(seconds(60, 4) / 2);
        one_more(&world);
        std::thread::sleep(seconds(60, 4) / 2);
        world.away(false);
        is_right_again(&activator);
    });
    println!("away: {asked} requests, {failed} failed");
    assert_eq!(failed, 0, "of {asked}\n{}", activator.log());
}

#[test]
fn an_api_server_that_is_silent_costs_no_request() {
    let (world, [_autoscaler, activator]) = three_replicas();
    let (asked, failed) = load(&activator, "model", || {
        world.silent(true);
        std::thread::sleep(seconds(300, 4) / 2);
        one_more(&world);
        std::thread::sleep(seconds(300, 4) / 2);
        world.silent(false);
        is_right_again(&activator);
    });
    println!("silent: {asked} requests, {failed} failed");
    assert_eq!(failed, 0, "of {asked}\n{}", activator.log());
}

/// Waits until the activator sends to exactly the pods that there are.
fn is_right_again(activator: &Program) {
    let healed = Instant::now();
    wait_for("the right routes", || {
        activator.metric("activator_replicas_usable", "model").filter(|usable| usable == "4")
    });
    assert!(healed.elapsed() < Duration::from_secs(10), "{:?}", healed.elapsed());
}

/// Without a probe the kubelet calls a pod ready as soon as it runs.
#[test]
fn a_server_without_a_probe_that_listens_late_fails_no_request() {
    let world = World::new();
    let starts_in = seconds(20, 4);
    let late = json!({"env": [{"name": "STARTS_IN", "value": starts_in.as_secs().to_string()}]});
    world.deploy("model", 0, &json!({"autoscaling.knative.dev/target": "20"}), &late);
    let (autoscaler, activator) = (world.autoscaler(0).ready(), world.activator(0).ready());
    activator.has_route("model");
    let begun = Instant::now();
    assert_eq!(requests(&activator, "model", 1000, 10), 0, "{}\n{}", activator.log(), autoscaler.log());
    assert!(begun.elapsed() >= starts_in);
}
