//! What was ordered away: gone for every decision, however long the platform takes.

use super::*;

/// Every decision that differs from the one before it, with its time.
fn decisions(world: &World) -> Vec<(Timestamp, Replicas, Option<Replicas>)> {
    let all = world.brain.history(&world.id).into_iter();
    let mut all: Vec<_> = all.map(|kept| (kept.why.at, kept.why.replicas, kept.why.desired)).collect();
    all.dedup_by_key(|(_, replicas, desired)| (*replicas, *desired));
    all
}

/// Load that falls step by step, on a platform that needs `writes_in` ms to lower a count.
fn falling(writes_in: u64) -> World {
    let mut world = World::new(ScalingSpec { max_scale_down_rate: Resolved::default_value(1.3), ..six_and_five() }, 0);
    world.writes_in = writes_in;
    for (load, millis) in [(100, 20_000), (20, 20_000), (70, 10_000), (0, 50_000)] {
        world.load(load);
        world.pass(millis);
    }
    world
}

#[test]
fn how_long_a_count_takes_to_be_written_changes_no_decision() {
    let at_once = falling(0);
    assert!(at_once.counts().len() >= 5 && at_once.requested == 0, "{:?}", at_once.counts());
    for writes_in in [50, 400, 1_100, 1_900] {
        let slow = falling(writes_in);
        assert_eq!(decisions(&slow), decisions(&at_once), "{writes_in} ms");
        assert_eq!(slow.requested, 0);
    }
}

#[test]
fn an_order_that_failed_took_nobody_away() {
    let mut world = World::new(six_and_five(), 0);
    world.load(50);
    world.pass(20_000);
    assert_eq!(world.requested, 8);
    world.refuses = true;
    world.load(1);
    world.pass(30_000);
    let why = world.decided().0.unwrap();
    assert!(world.scales.len() > 10, "asked again and again: {:?}", world.counts());
    assert_eq!((why.ready, why.requested, why.down), (Replicas::new(8), Replicas::new(8), Replicas::new(4)));
    world.refuses = false;
    world.pass(10_000);
    assert_eq!(world.requested, 1);
}

/// An order that is given twice because it takes long fails the second time: it was carried out.
#[test]
fn the_answer_to_an_older_order_takes_nothing_back() {
    let mut world = World::new(six_and_five(), 0);
    world.load(50);
    world.pass(20_000);
    world.writes_in = 60_000;
    world.load(1);
    while world.scales.last().is_none_or(|(_, _, to)| *to >= 8) {
        world.pass(100);
    }
    let to = Replicas::new(world.scales.last().unwrap().2);
    for (of, now, counts) in [(8, 9, to), (to.get(), to.get(), to), (to.get(), 9, Replicas::new(8))] {
        let result = ScaleOutcome::Changed { now: Replicas::new(now) };
        world.event(Event::ScaleDone { revision: world.id.clone(), to: Replicas::new(of), result });
        let scaled = &world.brain.revisions[&world.id];
        assert_eq!((scaled.ordered(), scaled.staying()), (counts, counts), "{of} {now}");
    }
}

#[test]
fn news_of_those_that_leave_is_no_decision() {
    let mut world = World::new(six_and_five(), 2);
    world.load(12);
    world.pass(8_110);
    let tell = |terminating, ready| Change::Replicas {
        revision: RevisionId::new("default", "model"),
        requested: Replicas::new(2),
        ready: Replicas::new(ready),
        terminating: Replicas::new(terminating),
        trouble: None,
        foreign: None,
    };
    let before = world.decided().0.unwrap();
    for terminating in [3, 2, 0] {
        world.event(Event::Change(tell(terminating, 2)));
        assert_eq!(world.decided().0.unwrap().at, before.at);
    }
    world.event(Event::Change(tell(0, 1)));
    assert_eq!(world.decided().0.unwrap().at, at(world.now), "one that is not ready any more is news");
}

/// Another shrink may follow soon: who would leave then is known already.
#[test]
fn after_a_shrink_loads_stay_asked_for_a_while() {
    let asks = |world: &mut World| !world.brain.ack(at(world.now), &ReporterId::new("a")).load_of.is_empty();
    let mut world = World::new(six_and_five(), 0);
    world.load(50);
    world.pass(20_000);
    assert!(!asks(&mut world), "nobody leaves");
    world.load(12);
    world.pass(15_000);
    assert_eq!(world.requested, 2);
    let shrunk = world.scales.last().unwrap().0;
    world.pass(shrunk + 29_900 - world.now);
    assert!(asks(&mut world));
    world.pass(200);
    assert!(!asks(&mut world));
    world.load(1);
    world.pass(15_000);
    assert_eq!(world.requested, 1);
    world.pass(3_000);
    assert!(!asks(&mut world), "nothing has to be chosen where one is left");
}

/// A lowering is being written when more are wanted again: the raise does not wait until the order may be repeated.
#[test]
fn a_lowering_that_lands_late_holds_up_no_raise() {
    let mut world = World::new(six_and_five(), 0);
    world.load(50);
    world.pass(20_000);
    world.writes_in = 60_000;
    world.load(20);
    while world.writing.is_none() {
        world.pass(10);
    }
    let lowered = world.writing.take().unwrap().1;
    world.load(50);
    world.frame(true);
    assert_eq!(world.scales.last().unwrap().2, 8, "taken back: {:?}", world.scales);
    world.carry_out(lowered, &[]);
    assert_eq!(world.scales.last().unwrap(), &(world.now, lowered, 8), "and at once when it has landed");
    assert_eq!(world.requested, 8);
}

/// A platform that needs time for each replica lowers in parts: the rest is asked for at once, and told once.
#[test]
fn a_lowering_in_parts_is_one_decision_and_one_story() {
    let run = |lowers_by: u32| {
        let mut world = World::new(six_and_five(), 0);
        world.lowers_by = lowers_by;
        for (load, millis) in [(100, 20_000), (5, 20_000)] {
            world.load(load);
            world.pass(millis);
        }
        world
    };
    let (whole, parts) = (run(u32::MAX), run(1));
    assert!(whole.counts().iter().any(|(from, to)| *from > *to + 3), "{:?}", whole.counts());
    assert!(parts.scales.len() > whole.scales.len() + 3, "{:?}", parts.counts());
    assert_eq!((parts.requested, decisions(&parts)), (whole.requested, decisions(&whole)));
    let told = |world: &World| {
        let scaled = world.stories.iter().filter_map(|story| story.split(" because ").next());
        scaled.filter(|story| story.contains("scaled")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(told(&parts), told(&whole));
}
