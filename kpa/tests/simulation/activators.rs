//! Activators that crash and come back.

use crate::ledger::Call;
use crate::programs::activator_name;
use crate::world::{WINDOW, World};
use crate::{ECHO, secs};
use std::time::Duration;

/// Members of the crowd, half of them at each activator.
const ACTIVE: usize = 8;
/// Replicas for them, two requests each.
const ENOUGH: u32 = 4;

#[test]
fn a_dead_activator_loses_what_it_carried_and_nothing_else() {
    for seed in 60..63 {
        let (dead, alive) = (seed as usize % 2, (seed as usize + 1) % 2);
        let mut world = World::new(seed, ECHO);
        world.run(secs(2));
        world.load(ACTIVE);
        world.run(WINDOW + secs(6));

        world.cluster.ledger().lossy = true;
        world.cluster.ledger().blind = true;
        world.crash(&activator_name(dead));
        let crashed = world.now();
        world.run(secs(1));
        world.cluster.ledger().lossy = false;
        // Listed and silent: what it carried last still counts, and nothing shrinks.
        world.run(secs(6));
        world.cluster.ledger().blind = false;
        world.list_activators([alive]);
        world.run(secs(20));
        assert!(world.cluster.requested() <= ENOUGH + 1, "its load counts for ever: {}", world.story());
        assert!(world.cluster.requested() >= world.need(), "{}", world.story());

        world.start(&activator_name(dead));
        world.list_activators([dead, alive]);
        world.run(secs(8));
        assert!(world.cluster.requested() <= ENOUGH + 1, "its new life counts twice: {}", world.story());
        world.visit(dead);
        world.settle();

        let failures: Vec<_> = world.noted(|ledger| ledger.failures().into_iter().cloned().collect());
        assert!(failures.len() <= ACTIVE / 2, "one for each client it had: {}", world.story());
        for call in &failures {
            assert!(call.via == dead && call.outcome.is_err() && call.ended >= crashed, "{call:?}; {}", world.story());
            assert!(call.ended < crashed + secs(1), "nobody waits for the dead: {call:?}");
        }
        world.run(secs(2));
        let of_alive = world.noted(|ledger| ledger.calls.iter().filter(|call| call.via == alive).count()) as u64;
        for autoscaler in [0, 1] {
            let counted = world.noted(|ledger| ledger.counted_by(autoscaler, &activator_name(alive)));
            assert_eq!(counted, of_alive, "{}", world.story());
        }
        world.until(secs(30), "it falls asleep", |world| world.cluster.requested() == 0);
    }
}

#[test]
fn an_activator_that_is_told_to_leave_finishes_what_it_has_and_stops_counting_at_once() {
    for seed in 65..68 {
        let leaver = seed as usize % 2;
        let mut world = World::new(seed, ECHO);
        world.run(secs(2));
        world.load(ACTIVE);
        world.run(WINDOW + secs(6) + Duration::from_millis(130) * (seed - 65) as u32);
        world.cluster.ledger().steady = true;
        world.stop(&activator_name(leaver));
        let stopped = world.now();
        // Nobody updates the list: it has said itself that it leaves, and holds nothing up.
        world.run(secs(12));
        assert!(world.cluster.requested() <= ENOUGH + 1, "{}", world.story());
        let status = world.ask(0);
        assert_eq!(status["lastDecision"]["hold"], serde_json::Value::Null, "{status:#}");
        // Who comes after the listener has closed is refused, and who sends while an idle connection is being closed hears
        // nothing: HTTP/1.1 has no way around it. But what the activator has taken is answered, to the last request.
        for call in world.noted(|ledger| ledger.failures().into_iter().cloned().collect::<Vec<_>>()) {
            let soon = stopped..stopped + secs(2);
            assert!(call.via == leaver && soon.contains(&call.ended), "{call:?}; {}", world.story());
        }
        let of_leaver = |call: &&Call| call.via == leaver && call.answered();
        let answered = world.noted(|ledger| ledger.calls.iter().filter(of_leaver).count()) as u64;
        let counted = world.noted(|ledger| ledger.counted_by(0, &activator_name(leaver)));
        assert_eq!(counted, answered, "{}", world.story());
        world.cluster.ledger().steady = false;
        world.settle();
        world.until(secs(30), "it falls asleep", |world| world.cluster.requested() == 0);
    }
}
