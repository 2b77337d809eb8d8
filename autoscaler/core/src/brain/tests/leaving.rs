//! Replicas that the platform itself replaces, or whose object is gone: they leave when they are idle, the count stays.

use super::*;

/// One replica is replaced by another, while three requests are on it.
fn replaced(mode: Mode) -> World {
    let mut revision = revision("model", spec(10.0));
    revision.mode = mode;
    let mut world = World::of(revision, 1);
    world.load(3);
    world.pass(3_000);
    world.draining = vec!["old-0".into()];
    let now = world.now;
    world.replicas.push(("new".into(), now));
    world.show();
    world
}

#[test]
fn what_a_rollout_replaces_is_let_go_when_it_is_idle() {
    for mode in [Mode::Act, Mode::Shadow, Mode::Paused, Mode::Refused(Refusal::NotAnnotated)] {
        let mut world = replaced(mode.clone());
        world.pass(60_000);
        assert_eq!(world.counts(), [], "{mode:?}: it has requests");
        assert_eq!(world.drained, [EndpointId::new("old-0")], "and gets no new ones");
        world.load(0);
        world.pass(3_000);
        assert_eq!(world.counts(), [(1, 1)], "{mode:?}: the count stays");
        assert_eq!(world.replicas.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["new"]);
        assert_eq!(world.drained, []);
    }
}

#[test]
fn what_a_rollout_replaces_is_cut_when_its_time_is_over() {
    let mut world = replaced(Mode::Act);
    world.pass(3_600_000);
    assert_eq!(world.counts(), [(1, 1)]);
    assert!(world.stories.iter().any(|story| story.contains("old-0") && story.contains('3')), "{:?}", world.stories);
}

#[test]
fn a_removed_revision_is_neither_woken_nor_shrunk_and_its_replicas_are_let_go() {
    let mut world = replaced(Mode::Act);
    world.requested = 0;
    world.draining.push("new".into());
    let mut gone = revision("model", spec(10.0));
    gone.mode = Mode::Removed;
    world.event(Event::Change(applied(gone)));
    world.show();
    world.pass(10_000);
    assert_eq!(world.status().mode, Activity::Removed);
    assert_eq!((world.counts(), world.replicas.len()), (vec![(0, 0)], 1), "the idle one only");
    world.load(0);
    world.pass(3_000);
    assert_eq!((world.counts(), world.replicas.len()), (vec![(0, 0); 2], 0));
    world.load(5);
    world.pass(10_000);
    assert_eq!(world.counts(), [(0, 0); 2], "whatever comes");
}
