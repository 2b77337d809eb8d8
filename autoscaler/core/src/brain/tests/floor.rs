//! The floor that a surge puts under the decision, and how it ends.

use super::*;

/// A revision with target 10 and one request in flight, long after the hold of the start; replicas take `start` ms.
fn settled(start: u64, offset: u64) -> World {
    let mut world = World::new(spec(10.0), 1);
    world.start = start;
    world.pass(2_000);
    world.load(1);
    world.pass(70_000 + offset);
    world
}

#[test]
fn a_micro_burst_holds_replicas_until_the_second_tick_only() {
    for offset in [0, 300, 900, 1_700] {
        let mut world = World::new(spec(10.0), 1);
        world.pass(2_000);
        world.load(1);
        world.pass(70_000 + offset);
        world.load(50);
        world.pass(50);
        world.load(1);
        world.pass(1_900);
        assert_eq!(world.status().wanted.get(), 8, "{offset}");
        world.pass(2_200);
        let wanted = world.status().wanted.get();
        assert_eq!(wanted, 4, "one, limited to half of the ready ones: {}", world.status().reason);
        assert_eq!(world.status().panicking_seconds, None, "the floor enters no panic");
    }
}

/// A surge that stays: however soon the new replicas are ready, the count waits for the average instead of falling to it.
#[test]
fn a_surge_that_stays_keeps_its_replicas_until_the_windows_ask_for_them() {
    for (start, offset) in [(0, 0), (0, 1_500), (300, 700), (1_000, 1_100), (3_000, 300)] {
        let mut world = settled(start, offset);
        // The step is caught in the middle and completed by the next urgent frame.
        world.load(35);
        world.pass(50);
        assert_eq!(world.requested, 5);
        world.load = 50;
        world.frame(true);
        assert_eq!(world.requested, 8);
        world.pass_without_a_fall(70_000);
        let (why, _) = world.decided();
        let why = why.unwrap();
        assert_eq!(
            (why.backlog, why.desired, why.replicas.get()),
            (None, Some(Replicas::new(8)), 8),
            "{start} {offset}"
        );
        assert_eq!(world.counts(), [(1, 5), (5, 8)], "{start} {offset}");
    }
}

#[test]
fn a_floor_ends_with_its_load_and_leaves_what_the_windows_ask_for() {
    for (left, offset) in [(1, 0), (1, 900), (20, 500)] {
        let mut world = settled(0, offset);
        world.load(50);
        world.pass_without_a_fall(10_000);
        assert_eq!((world.requested, world.status().panicking_seconds), (8, None));
        world.load(left);
        // The panic window, two ticks, and the second that is not closed yet.
        world.pass(10_000);
        // What is left asks for this many, and the windows may ask for more.
        let needed = left.div_ceil(7);
        for _ in 0..300 {
            world.pass(100);
            let why = world.decided().0.unwrap();
            let floor = why.backlog.map_or(0, |floor| floor.replicas.get());
            assert!(floor <= needed && (why.replicas == why.desired.unwrap() || floor == needed), "{why:#?}");
        }
        world.pass(40_000);
        let why = world.decided().0.unwrap();
        assert_eq!((why.replicas.get(), why.backlog), (needed, None), "{why:#?}");
    }
}

/// Clients that send again as soon as they are answered leave moments with little in flight.
#[test]
fn a_moment_between_two_answers_ends_no_floor() {
    let mut world = settled(0, 0);
    world.load(50);
    for _ in 0..7_000 {
        // Everything is answered in the 10 ms in which the frame is made, and in one second of three for longer.
        let into = (world.now + 10) % 3000;
        let answered = into % 1000 == world.phase / 10 * 10 || (500..540).contains(&into);
        world.load = if answered { 0 } else { 50 };
        world.pass(10);
        assert_eq!(world.requested, 8, "{} ms: {}", world.now, world.status().reason);
    }
}

#[test]
fn a_floor_outlasts_missing_data() {
    for listed in [true, false] {
        let mut world = settled(0, 0);
        world.load(50);
        world.pass(10_000);
        assert_eq!(world.requested, 8);
        world.reporting = false;
        if !listed {
            world.event(Event::Change(Change::Activators(Vec::new())));
        }
        // Longer than both windows: they are empty now.
        world.pass_without_a_fall(80_000);
        let why = world.decided().0.unwrap();
        assert!(why.hold.is_some() && why.backlog.is_some_and(|floor| floor.load == 50), "{why:#?}");
        if listed {
            world.reporting = true;
            world.pass_without_a_fall(70_000);
            assert_eq!(world.counts(), [(1, 8)]);
        }
    }
}

#[test]
fn with_exact_a_floor_in_force_ends_at_once() {
    let mut world = settled(0, 0);
    world.load(50);
    world.pass(10_000);
    assert!(world.decided().0.unwrap().backlog.is_some());
    let exact = ScalingSpec { exact: Resolved::default_value(true), ..spec(10.0) };
    world.event(Event::Change(applied(revision("model", exact))));
    assert_eq!(world.decided().0.unwrap().backlog, None);
}
