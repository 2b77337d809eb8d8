//! Activators that are replaced, one after the other, cost no request; and what is still known when everything was replaced.

use crate::crowd::{Crowd, Front, at_once};
use crate::support::{http_get, wait_for};
use crate::world::{World, count};
use nix::sys::signal::Signal;
use serde_json::json;

/// Requests that wait for a service at zero while their activator goes.
const HELD: usize = 100;

#[test]
fn activators_restarted_in_turn_fail_no_request() {
    let rounds = count(20, 2);
    let world = World::new();
    // The server speaks no HTTP/2; by default it would be spoken to as the client speaks.
    let both = json!({"autoscaling.knative.dev/min-scale": "2", "kpa.dev/protocol": "http1"});
    world.deploy("model", 2, &both, &json!({}));
    let late = json!({"env": [{"name": "STARTS_IN", "value": "2"}]});
    for round in 0..rounds {
        let brief = json!({"autoscaling.knative.dev/target": "200", "autoscaling.knative.dev/window": "6s"});
        world.deploy(&format!("sleeper-{round}"), 0, &brief, &late);
    }
    let autoscaler = world.autoscaler(0).ready();
    let mut activators = [0, 1].map(|number| world.activator_with(number, "--drain-delay=1s").ready());
    activators.iter().for_each(|activator| activator.has_route("model"));
    wait_for("two pods", || (world.ready("model") == 2).then_some(()));
    let front = Front::of(&[activators[0].address, activators[1].address]);
    let crowd = Crowd::of(&front, "model");
    for round in 0..rounds {
        let leaves = &mut activators[round % 2];
        let sleeper = format!("sleeper-{round}");
        leaves.has_route(&sleeper);
        let held = at_once(leaves.address, &sleeper, HELD);
        wait_for("all of them held", || {
            leaves.metric("activator_waiting_requests", &sleeper).filter(|waiting| *waiting == HELD.to_string())
        });
        front.unlist(leaves.address);
        world.terminating(&leaves.name);
        leaves.signal(Signal::SIGTERM);
        let ended = wait_for("its end", || leaves.running.0.try_wait().unwrap());
        let (log, failed) = (leaves.log(), held.join().unwrap());
        assert!(ended.success(), "{ended}\n{log}");
        assert!(failed.is_empty(), "{} of {HELD} held: {failed:#?}\n{log}\n{}", failed.len(), autoscaler.log());
        world.unlist(&leaves.name);
        // A pod that replaces another one has a name of its own.
        let again = world.activator_with(u8::try_from(round + 2).unwrap(), "--drain-delay=1s").ready();
        front.list(again.address);
        activators[round % 2] = again;
    }
    let books = crowd.end();
    for (kind, book) in &books {
        println!("{rounds} restarts, {kind}: {} requests, {} failed", book.asked, book.failed.len());
    }
    for (kind, book) in &books {
        assert!(book.asked > rounds, "{kind}: {}", book.asked);
        assert!(book.failed.is_empty(), "{kind}: {:#?}", &book.failed[..book.failed.len().min(10)]);
    }
}

/// Activators count from zero again, and a new leader has only what the one before it has published.
#[test]
fn that_a_service_had_requests_outlives_a_restart_of_everything() {
    let world = World::new();
    let brief = json!({"autoscaling.knative.dev/window": "6s"});
    for name in ["visited", "never"] {
        world.deploy(name, 1, &brief, &json!({}));
    }
    let seen = |name: &str| {
        let conditions = world.workload(name)["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let status = conditions.iter().find(|one| one["type"] == "TrafficNotSeen").map(|one| one["status"].clone());
        status.map(|status| status == "False")
    };
    let (mut autoscaler, activator) = (world.autoscaler(0).ready(), world.activator(0).ready());
    activator.has_route("visited");
    let (head, _) = http_get(activator.address, "visited.default.example.com", "/").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    wait_for("what was seen is published", || (seen("visited") == Some(true)).then_some(()));
    wait_for("and what was not", || (seen("never") == Some(false)).then_some(()));
    assert_eq!(world.replicas("visited"), 1, "nothing of it is asleep yet");
    autoscaler.signal(Signal::SIGTERM);
    wait_for("its end", || autoscaler.running.0.try_wait().unwrap());
    world.unlist(&activator.name);
    drop((autoscaler, activator));

    let (_autoscaler, _activator) = (world.autoscaler(1).ready(), world.activator(1).ready());
    wait_for("it sleeps", || (world.replicas("visited") == 0).then_some(()));
    assert_eq!((world.replicas("never"), seen("never"), seen("visited")), (1, Some(false), Some(true)));
}
