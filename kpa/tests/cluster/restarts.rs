//! Activators that are replaced, one after the other, cost no request.

use crate::crowd::{Crowd, Front, at_once};
use crate::support::wait_for;
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
