//! Ready replicas that activators cannot connect to (kpa-behaviour 11.3).

use super::*;

fn said(world: &World) -> Option<String> {
    let conditions = world.status().conditions.into_iter();
    let mut named = conditions.filter(|condition| condition.kind == "EndpointsUnreachable" && condition.status);
    named.next().map(|condition| condition.message)
}

fn told(world: &World) -> usize {
    world.stories.iter().filter(|story| story.contains("connect")).count()
}

#[test]
fn what_cannot_be_connected_to_is_a_condition_and_told_until_it_can() {
    let mut world = World::new(six_and_five(), 2);
    world.load = 12;
    world.pass(10_000);
    assert_eq!((said(&world), told(&world)), (None, 0));
    world.unreachable = vec![EndpointId::new("old-1"), EndpointId::new("of an earlier list")];
    world.pass(10_000);
    let message = said(&world).unwrap();
    assert!(message.starts_with("activators cannot connect to 127.0.0.1:"), "{message}");
    for part in ["(1 of 2 replicas)", "NetworkPolicy", "mesh", "kpa.dev/backend-tls"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert_eq!((told(&world), world.requested), (1, 2), "once, and it decides nothing");
    world.unreachable.clear();
    world.pass(2_000);
    assert_eq!((said(&world), told(&world)), (None, 2));
}

#[test]
fn a_replica_that_is_not_ready_or_gone_is_not_said_to_be_unreachable() {
    let mut world = World::new(six_and_five(), 1);
    world.load = 3;
    world.unreachable = vec![EndpointId::new("old-0")];
    world.pass(3_000);
    assert!(said(&world).is_some());
    world.replicas[0].1 = world.now + 20_000;
    world.show();
    world.pass(1_000);
    assert_eq!(said(&world), None);
}
