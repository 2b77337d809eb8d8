//! A hard limit of requests per replica.

use crate::ledger::Ledger;
use crate::node::Pace;
use crate::secs;
use crate::world::{Spec, World};
use std::time::Duration;

const LIMITED: Spec = Spec {
    annotations: &[("kpa.dev/container-concurrency", "2"), ("autoscaling.knative.dev/max-scale", "3")],
    pace: Pace { start: secs(1), service: Duration::from_millis(200) },
};

/// Twice what all replicas together may have, so that there is always somebody waiting. Through one activator: each keeps
/// the limit for what it sends itself.
#[test]
fn no_replica_has_more_requests_than_its_limit_and_none_idles_while_one_waits() {
    for seed in 20..23 {
        let mut world = World::new(seed, LIMITED);
        world.home(Some(seed as usize % 2));
        world.run(secs(1));
        world.load(12);
        world.until(secs(10), "every replica is asked for", |world| world.cluster.requested() == 3);
        world.run(secs(4));
        let (before, began) = (world.ended(), world.now());
        world.run(secs(6));
        let rate = (world.ended() - before) as f64 / (world.now() - began).as_secs_f64();
        assert_eq!(world.noted(Ledger::most), 2, "the limit was reached, or this test shows nothing");
        // Six at a time at 200 ms each are 30 a second; the network takes a part of it between two requests of a slot.
        assert!(rate > 20.0, "{rate} answers a second: slots idle; {}", world.story());
        world.settle();
        world.assert_all_answered();
        world.assert_counted([0, 1]);
    }
}
