//! An API server that is away, or silent, costs no request, and routes are right soon after.
//!
//! `KPA_LONG=1` takes the promised lengths: a minute away, five minutes silent.

use crate::service::requests;
use crate::support::wait_for;
use crate::world::{Program, World};
use http::Method;
use serde_json::json;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;

fn seconds(long: u64, short: u64) -> Duration {
    Duration::from_secs(if std::env::var_os("KPA_LONG").is_some() { long } else { short })
}

/// Asks without end while `during` runs; how many requests were made, and how many of them failed.
fn load(activator: &Program, service: &str, during: impl FnOnce()) -> (usize, usize) {
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
    let mut deployment = world.get(path);
    deployment["spec"]["replicas"] = json!(4);
    assert!(world.server.request(&Method::PUT, path, Some(&deployment)).0.is_success());
    wait_for("one more", || (world.ready("model") == 4).then_some(()));
}

fn three_replicas() -> (World, [Program; 2]) {
    let world = World::new();
    world.deploy("model", 3, &json!({"autoscaling.knative.dev/min-scale": "3"}), &json!({}));
    let programs = [world.autoscaler(0).ready(), world.activator(0).ready()];
    wait_for("three pods", || (world.ready("model") == 3).then_some(()));
    assert_eq!(requests(&programs[1], "model", 20, 2), 0);
    (world, programs)
}

#[test]
fn an_api_server_that_is_away_costs_no_request() {
    let (world, [_autoscaler, activator]) = three_replicas();
    let (asked, failed) = load(&activator, "model", || {
        world.server.faults().refuse();
        std::thread::sleep(seconds(60, 4) / 2);
        one_more(&world);
        std::thread::sleep(seconds(60, 4) / 2);
        world.server.faults().accept();
        is_right_again(&activator);
    });
    println!("away: {asked} requests, {failed} failed");
    assert_eq!(failed, 0, "of {asked}\n{}", activator.log());
}

#[test]
fn an_api_server_that_is_silent_costs_no_request() {
    let (world, [_autoscaler, activator]) = three_replicas();
    let (asked, failed) = load(&activator, "model", || {
        world.server.faults().freeze();
        std::thread::sleep(seconds(300, 4) / 2);
        one_more(&world);
        std::thread::sleep(seconds(300, 4) / 2);
        world.server.faults().thaw();
        is_right_again(&activator);
    });
    println!("silent: {asked} requests, {failed} failed");
    assert_eq!(failed, 0, "of {asked}\n{}", activator.log());
}

/// Waits until the activator sends to exactly the pods that there are.
fn is_right_again(activator: &Program) {
    let healed = Instant::now();
    wait_for("the right routes", || {
        let metrics = crate::support::http_get(activator.admin, "admin", "/metrics")?.1;
        let usable = metrics.lines().find(|line| line.starts_with("activator_replicas_usable"))?;
        usable.ends_with(" 4").then_some(())
    });
    assert!(healed.elapsed() < Duration::from_secs(10), "{:?}", healed.elapsed());
}
