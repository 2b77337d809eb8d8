//! Nobody waits for a kubelet.

use crate::support::{http_get, wait_for};
use crate::world::World;
use serde_json::json;
use std::thread;

/// The promise is 200 ms; a loaded machine is given more, and the kubelet would take up to ten seconds.
const AT_MOST_MS: u64 = 2_000;

/// The activator probes cold endpoints itself (kpa-behaviour 4.4).
#[test]
fn a_server_that_listens_is_asked_at_once_however_seldom_the_kubelet_looks() {
    let world = World::new();
    let seldom = json!({
        "env": [{"name": "STARTS_IN", "value": "2"}],
        "readinessProbe": {"httpGet": {"path": "/", "port": 8000}, "periodSeconds": 10},
    });
    let names = ["one", "two", "three"];
    for name in names {
        world.deploy(name, 0, &json!({"autoscaling.knative.dev/target": "20"}), &seldom);
    }
    let (autoscaler, activator) = (world.autoscaler(0).ready(), world.activator(0).ready());
    names.iter().for_each(|name| activator.has_route(name));
    thread::scope(|scope| {
        for name in names {
            let (world, activator, autoscaler) = (&world, &activator, &autoscaler);
            scope.spawn(move || {
                let host = format!("{name}.default.example.com");
                let (head, body) = http_get(activator.address, &host, "/listened").unwrap();
                let answered = runtime::clock::unix_millis();
                let shown = world.ready(name);
                assert!(head.starts_with("HTTP/1.1 200"), "{head}\n{}\n{}", activator.log(), autoscaler.log());
                let took = answered - body.trim().parse::<u64>().unwrap();
                println!("{name}: answered {took} ms after its server listened; ready as the kubelet says: {shown}");
                assert!(took < AT_MOST_MS, "{took} ms");
                wait_for("ready as the kubelet says", || (world.ready(name) == 1).then_some(()));
                assert_eq!(shown, 0, "the kubelet was faster: this test shows nothing");
            });
        }
    });
}
