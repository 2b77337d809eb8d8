//! Counts that somebody else writes (kpa-behaviour 1.9).

use super::*;
use crate::scaled::LEFT_ALONE;
use domain::Manual;
use domain::why::{Hold, Step};

fn holding(manual: Manual) -> ScalingSpec {
    ScalingSpec { manual: Resolved::default_value(manual), ..six_and_five() }
}

impl World {
    fn by_hand(&self) -> Option<(String, String)> {
        let conditions = self.status().conditions.into_iter();
        let mut named = conditions.filter(|condition| condition.kind == Foreign::CONDITION && condition.status);
        named.next().map(|condition| (condition.reason, condition.message))
    }

    /// Calls for another count than the one before.
    fn moves(&self) -> Vec<(u32, u32)> {
        self.scales.iter().map(|(_, from, to)| (*from, *to)).filter(|(from, to)| from != to).collect()
    }
}

/// 15 in flight over a target of 7 ask for 3; somebody writes 5 or 1.
#[test]
fn a_count_that_somebody_else_wrote_is_left_alone_for_30_s_and_told() {
    for (written, then) in [(5, (5, 3)), (1, (1, 3))] {
        let mut world = World::new(holding(Manual::Resume), 3);
        world.load = 15;
        world.pass(20_000);
        assert_eq!((world.moves(), world.requested), (vec![], 3));
        world.written_by("kubectl", written);
        let at = world.now;
        world.pass(29_800);
        assert_eq!((world.moves(), world.status().mode), (vec![], Activity::Held), "{written}");
        let why = world.status().last_decision.unwrap();
        assert_eq!((why.hold, why.step(), why.replicas.get()), (Some(Hold::WrittenByHand), Step::Hold, written));
        assert_eq!(why.to_string(), format!("kept at {written}: somebody else wrote this count"));
        let told = format!("default/model: kubectl wrote {written} replicas where there were 3: left alone for 30 s, ");
        assert_eq!(world.stories.iter().filter(|story| story.starts_with(&told)).count(), 1, "{:?}", world.stories);
        assert_eq!(world.by_hand().unwrap().0, "LeftAlone");
        world.pass(20_000);
        let moves = world.moves();
        assert_eq!((moves[0], world.requested), (then, 3));
        let first = world.scales.iter().find(|(_, from, to)| from != to).unwrap().0;
        assert!(first >= at + u64::try_from(LEFT_ALONE.as_millis()).unwrap(), "{first} {at}");
        assert_eq!(world.by_hand(), None);
    }
}

#[test]
fn with_hold_it_stays_until_somebody_changes_it() {
    let mut world = World::new(holding(Manual::Hold), 3);
    world.load = 15;
    world.pass(20_000);
    world.written_by("kubectl", 5);
    world.pass(300_000);
    assert_eq!((world.moves(), world.requested), (vec![], 5));
    // The setting is one way out, and it is heard at once.
    world.event(Event::Change(applied(revision("model", holding(Manual::Resume)))));
    world.pass(20_000);
    assert_eq!(world.requested, 3);
}

#[test]
fn a_count_of_zero_is_left_alone_only_while_nobody_asks() {
    let mut world = World::new(holding(Manual::Hold), 1);
    world.pass(500);
    world.written_by("argocd-controller", 0);
    world.pass(120_000);
    assert_eq!((world.moves(), world.status().mode), (vec![], Activity::Held));
    assert!(world.by_hand().unwrap().1.contains("until somebody changes it, or a request comes"));
    world.load = 3;
    world.frame(true);
    assert_eq!((world.moves(), world.by_hand()), (vec![(0, 1)], None), "no request hangs on it");
    world.pass(30_000);
    assert_eq!((world.requested, world.status().mode), (1, Activity::Stable));
}

/// 0 -> 3 by hand is a wake: all three stay until window and retention have passed since the first was ready.
#[test]
fn from_zero_it_is_a_wake_that_stays_for_window_and_retention() {
    let mut world = World::new(six_and_five(), 0);
    world.start = 8_000;
    world.pass(10_000);
    world.written_by("kubectl", 3);
    let ready = world.now + 8_000;
    world.pass(8_000 + 10_900);
    assert_eq!((world.moves(), world.requested), (vec![], 3));
    let (reason, message) = world.by_hand().unwrap();
    assert_eq!(reason, "Woken");
    assert!(message.contains("kubectl wrote 3 replicas: it stays for 11 s"), "{message}");
    assert_eq!(world.status().last_decision.unwrap().hold, Some(Hold::WokenByHand));
    world.pass(10_000);
    assert_eq!((world.moves(), world.requested), (vec![(3, 1), (1, 0)], 0));
    assert!(world.scales[0].0 >= ready + 11_000);
    assert!(world.stories.iter().any(|story| story.contains("ready in 8.0 s")), "{:?}", world.stories);
}

#[test]
fn a_wake_by_hand_grows_with_its_load() {
    let mut world = World::new(six_and_five(), 0);
    world.pass(2_000);
    world.written_by("kubectl", 2);
    world.pass(2_000);
    world.load = 40;
    world.frame(true);
    assert_eq!(world.moves(), [(2, 6)]);
}

/// Neither what we wrote, nor what was there when we came, nor a count that is not ours to write.
#[test]
fn what_is_no_interference_is_not_told() {
    let told = |world: &World| world.stories.iter().any(|story| story.contains("wrote"));
    let mut world = World::new(holding(Manual::Hold), 3);
    world.writer = Some(Foreign { by: "kubectl".into(), stands: false });
    world.show();
    world.pass(60_000);
    assert_eq!((world.requested, told(&world)), (0, false), "the same number, whoever owns the field");

    let mut world = World::of(Revision { mode: Mode::Paused, ..revision("model", six_and_five()) }, 3);
    world.written_by("kubectl", 5);
    world.pass(60_000);
    assert_eq!((world.requested, told(&world), world.by_hand()), (5, false, None));
}

/// What was left alone before a restart is left alone after it.
#[test]
fn what_an_earlier_autoscaler_left_alone_stays() {
    // What was not left alone leaves step by step, although this platform never shows it.
    for (stands, left) in [(true, 3), (false, 0)] {
        let mut brain = Brain::new(at(0), BrainSettings::default());
        let mut commands = Vec::new();
        let mut step = |millis, event| brain.handle(at(millis), event, &mut commands);
        step(0, Event::Leadership(true));
        step(0, Event::Change(applied(revision("model", holding(Manual::Hold)))));
        step(0, Event::Change(Change::Activators(vec![ReporterId::new("a")])));
        step(
            0,
            Event::Change(Change::Replicas {
                revision: RevisionId::new("default", "model"),
                requested: Replicas::new(3),
                ready: Replicas::new(3),
                terminating: Replicas::ZERO,
                trouble: None,
                foreign: Some(Foreign { by: "kubectl".into(), stands }),
            }),
        );
        step(0, Event::Change(Change::Synced));
        for millis in (10..120_000).step_by(10) {
            if millis % 1000 == 130 {
                step(millis, Event::Frame(idle("a", millis / 1000 + 1)));
            }
            if millis % 100 == 50 {
                step(millis, Event::Tick);
            }
        }
        let wanted = brain.statuses(at(120_000)).remove(0).wanted;
        assert_eq!(wanted.get(), left, "{stands}");
    }
}

pub(super) fn idle(reporter: &str, tick: u64) -> FrameChunk {
    let mut chunk = three_in_flight(reporter, tick);
    for row in &mut chunk.rows {
        (row.in_flight, row.area, row.requests) = (0, RequestMillis(0), 0);
    }
    chunk
}
