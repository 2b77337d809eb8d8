//! From zero: somebody asks, and is answered.

use crate::world::World;
use crate::{ECHO, secs};
use std::time::Duration;

/// Longest time that waking may add to a start: the urgent frame, the scale call, the news, the dispatch, the answer.
const OVERHEAD_MAX: Duration = Duration::from_millis(600);

#[test]
fn a_request_through_either_activator_wakes_the_service_once() {
    for seed in 0..6 {
        let mut world = World::new(seed, ECHO);
        world.run(secs(1) + Duration::from_millis(370) * seed as u32);
        let (first, second) = (seed as usize % 2, (seed as usize + 1) % 2);
        world.visit(first);
        world.until(secs(5), "the first request is answered", |world| world.ended() == 1);
        world.assert_all_answered();
        let call = world.noted(|ledger| ledger.calls[0].clone());
        let took = call.ended - call.began;
        assert!(took > ECHO.pace.start && took < ECHO.pace.start + ECHO.pace.service + OVERHEAD_MAX, "{took:?}");

        // The other activator has heard of the replica from the platform, not from the one that woke it.
        world.visit(second);
        world.until(secs(1), "a warm request is answered", |world| world.ended() == 2);
        assert_eq!(world.steps(), [(0, 1)], "{}", world.story());
        world.assert_all_answered();
        world.assert_counted([0, 1]);
    }
}

#[test]
fn a_burst_at_zero_through_both_activators_starts_each_replica_once() {
    for seed in 10..14 {
        let mut world = World::new(seed, ECHO);
        world.run(secs(2));
        (0..14).for_each(|visitor| world.visit(visitor % 2));
        world.until(secs(10), "all are answered", |world| world.ended() == 14);
        world.assert_all_answered();
        let steps = world.steps();
        assert!(steps.is_sorted_by(|a, b| a.1 == b.0), "upwards only, and none from a count already left: {steps:?}");
        let most = steps.last().map_or(0, |step| step.1);
        assert_eq!(most, 7, "14 requests, 2 for each: {}", world.story());
        assert_eq!(world.cluster.fake.started(), most, "no replica was started twice");
        world.assert_counted([0, 1]);
    }
}
