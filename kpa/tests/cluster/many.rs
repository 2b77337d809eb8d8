//! A large cluster: how soon everything is routed, and what our programs take for it.
//!
//! `KPA_LONG=1` takes 2 000 Deployments; the promise of 10 s is one of release builds (`cargo test --release`).

use crate::support::{http_get, wait_for};
use crate::world::{Program, World, count};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

/// Debug builds are given what a loaded machine takes; release builds keep the promise.
const AT_MOST: Duration = if cfg!(debug_assertions) { Duration::from_secs(60) } else { Duration::from_secs(10) };

impl Program {
    /// Lines of `/proc/PID/status` on the memory that it has and had at most.
    fn memory(&self) -> String {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.running.0.id())).unwrap();
        let lines = status.lines().filter(|line| line.starts_with("VmRSS") || line.starts_with("VmHWM"));
        lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>().join(", ")
    }

    /// Services that it has a route to.
    fn routes(&self) -> usize {
        let (_, text) = http_get(self.admin, "admin", "/metrics").unwrap_or_default();
        text.lines().filter(|line| line.starts_with("activator_replicas_usable{")).count()
    }
}

#[test]
fn a_large_cluster_is_routed_soon_after_the_start() {
    let world = World::new();
    let deployments = count(2_000, 200);
    for number in 0..deployments {
        world.deploy(&format!("model-{number}"), 0, &json!({"autoscaling.knative.dev/target": "2"}), &json!({}));
    }
    wait_for("that the controllers are done with them", || {
        let all = world.get("/apis/apps/v1/namespaces/default/deployments");
        let is_seen = |one: &Value| one["status"]["observedGeneration"] == one["metadata"]["generation"];
        all["items"].as_array().unwrap().iter().all(is_seen).then_some(())
    });
    let begun = Instant::now();
    let (autoscaler, activator) = (world.autoscaler(0), world.activator(0));
    let ours = "/apis/kpa.dev/v1alpha1/namespaces/default/scaledworkloads";
    wait_for("an object of each", || (world.amount(ours) == deployments).then_some(()));
    let published = begun.elapsed();
    wait_for("a route to each", || (activator.routes() == deployments).then_some(()));
    let routed = begun.elapsed();
    let (autoscaler, activator) = (autoscaler.ready(), activator.ready());
    println!("{deployments} Deployments from the start: published after {published:?}, routed after {routed:?}");
    println!("autoscaler: {}; activator: {}", autoscaler.memory(), activator.memory());
    assert!(routed < AT_MOST, "{routed:?}");

    // All is known: a second activator only reads.
    let begun = Instant::now();
    let second = world.activator(1);
    wait_for("a route to each", || (second.routes() == deployments).then_some(()));
    let again = begun.elapsed();
    let second = second.ready();
    println!("a further activator: routed after {again:?}; {}", second.memory());
    assert!(again < AT_MOST, "{again:?}");
}
