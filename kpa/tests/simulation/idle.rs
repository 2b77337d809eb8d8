//! The way to zero, and requests in its last moment.

use crate::node::Pace;
use crate::programs::autoscaler_name;
use crate::secs;
use crate::world::{Spec, WINDOW, World};
use std::time::Duration;

const RETENTION: Duration = secs(5);
/// A tick of the decision and the two phases of leaving, after window and retention.
const LATE_MAX: Duration = secs(3);

const RETAINED: Spec = Spec {
    annotations: &[("autoscaling.knative.dev/scale-to-zero-pod-retention-period", "5s")],
    pace: Pace { start: secs(1), service: Duration::from_millis(100) },
};

/// When the last answer of all came.
fn last_answer(world: &World) -> Duration {
    world.noted(|ledger| ledger.calls.iter().map(|call| call.ended).max().unwrap_or_default())
}

/// Waits until the last replica is gone, and checks when it left.
#[track_caller]
fn falls_asleep(world: &mut World) {
    let last = last_answer(world);
    world.until(WINDOW + RETENTION + LATE_MAX + secs(1), "it falls asleep", |world| world.cluster.requested() == 0);
    let left = world.noted(|ledger| ledger.writes.last().map_or(Duration::ZERO, |write| write.at));
    let after = left.saturating_sub(last);
    assert!(after >= WINDOW + RETENTION, "{after:?} after the last answer; {}", world.story());
    assert!(after <= WINDOW + RETENTION + LATE_MAX, "{after:?} after the last answer; {}", world.story());
}

#[test]
fn without_load_it_goes_to_zero_exactly_once() {
    for seed in 70..74 {
        let mut world = World::new(seed, RETAINED);
        world.run(secs(2));
        world.load(3);
        world.run(secs(8) + Duration::from_millis(310) * (seed - 70) as u32);
        world.settle();
        falls_asleep(&mut world);
        world.run(secs(20));
        assert_eq!(world.steps(), [(0, 1), (1, 0)], "{}", world.story());
        world.assert_all_answered();
        world.assert_counted([0, 1]);
    }
}

/// The moment between the directive that empties the last replica and the call that removes it, from its beginning to
/// well behind its end.
#[test]
fn a_request_in_the_moment_of_leaving_is_answered() {
    let (mut kept, mut woken) = (0, 0);
    for seed in 80..90 {
        let mut world = World::new(seed, RETAINED);
        world.run(secs(2));
        world.visit(0);
        world.until(secs(5), "the first is answered", |world| world.ended() == 1);
        world.until(secs(20), "the last replica is told to leave", |world| world.noted(|ledger| ledger.drains > 0));
        world.run(Duration::from_millis(300) * (seed - 80) as u32);
        world.visit(seed as usize % 2);
        world.until(secs(5), "the second is answered", |world| world.ended() == 2);
        world.assert_all_answered();
        let steps = world.steps();
        match &*steps {
            [(0, 1)] => kept += 1,
            [(0, 1), (1, 0), (0, 1)] => woken += 1,
            _ => panic!("{}", world.story()),
        }
        falls_asleep(&mut world);
        world.assert_counted([0, 1]);
    }
    assert!(kept > 0 && woken > 0, "{kept} came before the end and {woken} after it: this shows one side only");
}

/// Longest time that the directive of a dead leader holds: three seconds, seen on the next tick; and an answer.
const DIRECTIVE_MAX: Duration = secs(5);

#[test]
fn a_leader_that_dies_while_the_last_replica_leaves_keeps_no_request_waiting() {
    for seed in 90..93 {
        let mut world = World::new(seed, RETAINED);
        world.run(secs(2));
        world.visit(0);
        world.until(secs(5), "the first is answered", |world| world.ended() == 1);
        world.until(secs(20), "the last replica is told to leave", |world| world.noted(|ledger| ledger.drains > 0));
        world.cluster.lead(None);
        world.crash(&autoscaler_name(0));
        world.run(Duration::from_millis(400) * (seed - 90) as u32);
        world.visit(seed as usize % 2);
        // Nobody leads, and nobody will for long.
        world.until(DIRECTIVE_MAX, "the second is answered", |world| world.ended() == 2);
        world.assert_all_answered();
        assert_eq!(world.steps(), [(0, 1)], "{}", world.story());
        world.cluster.lead(Some(1));
        falls_asleep(&mut world);
        world.assert_counted([1]);
    }
}
