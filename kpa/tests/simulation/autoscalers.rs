//! Autoscalers that crash, step down or cannot be heard.

use crate::cluster::AUTOSCALERS;
use crate::programs::autoscaler_name;
use crate::world::{Cut, WINDOW, World};
use crate::{ECHO, secs};
use serde_json::Value;

/// From a leader's death until another may act: the rest of its lease.
const LEASE: std::time::Duration = secs(3);

/// A crowd of `active` long enough for every window to be full of it.
fn steady(seed: u64, active: usize) -> World {
    let mut world = World::new(seed, ECHO);
    world.run(secs(2));
    world.load(active);
    world.run(WINDOW + secs(8));
    world.cluster.ledger().steady = true;
    assert!(world.cluster.requested() >= 3, "it has grown: {}", world.story());
    world
}

/// Calm again: all answered and counted, then asleep.
fn end(mut world: World, autoscalers: impl IntoIterator<Item = usize>) -> World {
    world.settle();
    world.cluster.ledger().steady = false;
    world.assert_all_answered();
    world.assert_counted(autoscalers);
    world.until(secs(30), "it falls asleep", |world| world.cluster.requested() == 0);
    world
}

fn takeover(seed: u64) -> World {
    let mut world = steady(seed, 8);
    world.cluster.lead(None);
    world.crash(&autoscaler_name(0));
    world.run(LEASE);
    world.cluster.lead(Some(1));
    world.run(secs(1));
    let status = world.ask(1);
    assert_eq!(status["lastDecision"]["hold"], Value::Null, "its windows are warm: {status:#}");
    let wanted = status["wanted"].as_u64().unwrap_or(0);
    assert!(wanted >= u64::from(world.need()), "{status:#}; {}", world.story());

    // It is no watchman only: it follows a growing load.
    let before = world.cluster.requested();
    world.load(14);
    world.until(secs(10), "the new leader scales up", |world| world.cluster.requested() > before);
    world.start(&autoscaler_name(0));
    world.run(secs(8));
    end(world, [1])
}

#[test]
fn another_autoscaler_takes_over_from_a_dead_leader_with_warm_windows() {
    for seed in 30..33 {
        let world = takeover(seed);
        let ledger = world.cluster.ledger();
        let last_of_first = ledger.writes.iter().rposition(|write| write.caller == Some(0));
        let first_of_second = ledger.writes.iter().position(|write| write.caller == Some(1));
        assert!(last_of_first < first_of_second && first_of_second.is_some(), "one after the other");
    }
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let (first, second) = (takeover(77).history(), takeover(77).history());
    assert!(first.writes.len() > 3 && first.calls.len() > 300, "or this shows nothing");
    // One by one: the first difference is where to look.
    for (one, other) in first.calls.iter().zip(&second.calls) {
        assert_eq!(one, other);
    }
    assert_eq!(first, second);
}

#[test]
fn leadership_that_moves_to_and_fro_never_makes_two_writers() {
    for seed in 40..42 {
        let mut world = steady(seed, 6);
        world.cluster.ledger().steady = false;
        for turn in 1..5 {
            world.cluster.lead(None);
            world.load(if turn % 2 == 0 { 4 } else { 12 });
            world.run(LEASE);
            world.cluster.lead(Some(turn % AUTOSCALERS));
            world.run(secs(5));
        }
        end(world, [0, 1]);
    }
}

#[test]
fn activators_that_no_autoscaler_hears_serve_on_and_nothing_shrinks() {
    for (seed, cut) in [(50, Cut::Lost), (51, Cut::Late), (52, Cut::Lost), (53, Cut::Late)] {
        let mut world = steady(seed, 8);
        let before = world.cluster.requested();
        world.cut(cut);
        world.cluster.ledger().blind = true;
        world.run(secs(4));
        let status = world.ask(0);
        let coverage = status["conditions"].as_array().and_then(|all| all.iter().find(|one| one["type"] == "Coverage"));
        assert_eq!(coverage.map(|one| &one["status"]), Some(&Value::Bool(false)), "{status:#}");
        world.run(secs(4));
        // Nobody can know that the load has gone down.
        world.load(2);
        world.run(secs(12));
        assert!(world.cluster.requested() >= before, "{}", world.story());
        world.heal(cut);
        world.cluster.ledger().blind = false;
        world.until(secs(30), "it follows what it hears again", |world| world.cluster.requested() <= 2);
        end(world, [0, 1]);
    }
}
