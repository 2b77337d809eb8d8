use super::*;
use std::collections::BTreeMap;

#[derive(Default)]
struct Told {
    drained: Vec<EndpointId>,
    loads: BTreeMap<EndpointId, u32>,
    unknown: bool,
}

impl Facts for Told {
    fn drained(&self, endpoint: &EndpointId) -> bool {
        self.drained.contains(endpoint)
    }
    fn load_on(&self, endpoint: &EndpointId) -> Option<u32> {
        (!self.unknown).then(|| self.loads.get(endpoint).copied().unwrap_or(0))
    }
    fn last_busy(&self, _: &EndpointId) -> Option<Timestamp> {
        None
    }
}

const HOUR: Duration = Duration::from_secs(3600);

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn id(name: &str) -> EndpointId {
    EndpointId::new(name)
}

fn ready(names: &[&str]) -> Vec<Endpoint> {
    let endpoint = |name: &&str| Endpoint {
        id: id(name),
        address: ([127, 0, 0, 1], 80).into(),
        state: EndpointState::Ready,
        early_probe: None,
    };
    names.iter().map(endpoint).collect()
}

fn count(replicas: u32) -> Replicas {
    Replicas::new(replicas)
}

fn named(drain: &Drain) -> Vec<String> {
    drain.victims().map(ToString::to_string).collect()
}

#[test]
fn named_confirmed_idle_and_only_then_gone() {
    let endpoints = ready(&["a", "b", "c"]);
    let mut told = Told { loads: [(id("a"), 3), (id("b"), 1)].into(), ..Told::default() };
    let mut drain = Drain::new(at(0));
    drain.aim(at(0), (count(3), count(1)), at(0), &endpoints, &told);
    assert_eq!(named(&drain), ["c", "b"]);
    assert_eq!(drain.ready(at(100), count(3), &endpoints, HOUR, &told), None, "nobody has confirmed");
    told.drained = vec![id("b"), id("c")];
    let leave = drain.ready(at(200), count(3), &endpoints, HOUR, &told).unwrap();
    assert_eq!((leave.to, leave.victims), (count(2), vec![id("c")]), "the idle one does not wait for the busy one");
    told.loads.clear();
    let leave = drain.ready(at(300), count(3), &endpoints, HOUR, &told).unwrap();
    assert_eq!((leave.to, leave.victims, leave.cut), (count(1), vec![id("c"), id("b")], vec![]));
}

#[test]
fn a_silent_activator_is_passed_over_and_the_drain_timeout_cuts() {
    let endpoints = ready(&["a"]);
    let told = Told { loads: [(id("a"), 2)].into(), ..Told::default() };
    let mut drain = Drain::new(at(0));
    drain.aim(at(0), (count(1), count(0)), at(0), &endpoints, &told);
    let timeout = Duration::from_secs(10);
    assert_eq!(drain.ready(at(9_999), count(1), &endpoints, timeout, &told), None);
    let leave = drain.ready(at(10_000), count(1), &endpoints, timeout, &told).unwrap();
    assert_eq!((leave.to, leave.cut), (count(0), vec![(id("a"), 2)]));
    let idle = Told::default();
    assert_eq!(drain.ready(at(2_999), count(1), &endpoints, timeout, &idle), None);
    assert!(drain.ready(at(3_000), count(1), &endpoints, timeout, &idle).is_some());
}

#[test]
fn not_before_the_retention_period_has_passed() {
    let endpoints = ready(&["a"]);
    let told = Told { drained: vec![id("a")], ..Told::default() };
    let mut drain = Drain::new(at(0));
    drain.aim(at(0), (count(1), count(0)), at(1_500), &endpoints, &told);
    assert_eq!(named(&drain), ["a"], "announced before");
    assert_eq!(drain.ready(at(1_499), count(1), &endpoints, HOUR, &told), None);
    assert!(drain.ready(at(1_500), count(1), &endpoints, HOUR, &told).is_some());
}

#[test]
fn replicas_that_do_not_exist_yet_leave_first() {
    let endpoints = ready(&["a", "b"]);
    let told = Told::default();
    let mut drain = Drain::new(at(0));
    drain.aim(at(0), (count(5), count(2)), at(0), &endpoints, &told);
    assert!(named(&drain).is_empty());
    assert_eq!(drain.ready(at(0), count(5), &endpoints, HOUR, &told).unwrap().to, count(2));
    drain.aim(at(0), (count(5), count(1)), at(0), &endpoints, &told);
    assert_eq!(named(&drain), ["a"]);
    assert_eq!(drain.ready(at(0), count(5), &endpoints, HOUR, &told).unwrap().to, count(2), "a is not confirmed");
}

#[test]
fn loads_are_waited_for_a_moment() {
    let endpoints = ready(&["a", "b"]);
    let told = Told { unknown: true, ..Told::default() };
    let mut drain = Drain::new(at(0));
    drain.aim(at(0), (count(2), count(1)), at(0), &endpoints, &told);
    assert!(named(&drain).is_empty());
    drain.aim(at(1_500), (count(2), count(1)), at(0), &endpoints, &told);
    assert_eq!(named(&drain), ["a"]);
    let mut all = Drain::new(at(0));
    all.aim(at(0), (count(2), count(0)), at(0), &endpoints, &told);
    assert_eq!(named(&all).len(), 2, "with nobody to spare there is nothing to choose");
}

#[test]
fn a_smaller_shrink_releases_victims_and_an_accepted_one_lingers() {
    let endpoints = ready(&["a", "b", "c"]);
    let told = Told::default();
    let mut drain = Drain::new(at(0));
    drain.aim(at(0), (count(3), count(1)), at(0), &endpoints, &told);
    drain.aim(at(1), (count(3), count(2)), at(0), &endpoints, &told);
    assert_eq!(named(&drain), ["a"]);
    assert!(!drain.lingers(at(2), count(3), &endpoints), "not accepted yet");
    assert!(drain.lingers(at(2), count(2), &endpoints));
    assert!(!drain.lingers(at(2), count(2), &endpoints[1..]), "it is gone");
    assert!(!drain.lingers(at(31_000), count(2), &endpoints));
}

#[test]
fn one_that_was_taken_away_and_is_listed_still_is_not_spent_twice() {
    let endpoints = ready(&["a", "b", "c"]);
    let mut told = Told { drained: vec![id("a")], ..Told::default() };
    let mut drain = Drain::new(at(0));
    drain.aim(at(0), (count(3), count(1)), at(0), &endpoints, &told);
    assert_eq!(named(&drain), ["a", "b"]);
    let leave = drain.ready(at(100), count(3), &endpoints, HOUR, &told).unwrap();
    assert_eq!((leave.to, leave.victims), (count(2), vec![id("a")]));
    // The platform shows the new count before the new list.
    drain.aim(at(200), (count(2), count(1)), at(0), &endpoints, &told);
    assert_eq!(named(&drain), ["a", "b"]);
    assert_eq!(drain.ready(at(200), count(2), &endpoints, HOUR, &told), None, "a has left, and b is not empty yet");
    let endpoints = ready(&["b", "c"]);
    drain.aim(at(300), (count(2), count(1)), at(0), &endpoints, &told);
    assert_eq!(drain.ready(at(300), count(2), &endpoints, HOUR, &told), None);
    told.drained.push(id("b"));
    let leave = drain.ready(at(400), count(2), &endpoints, HOUR, &told).unwrap();
    assert_eq!((leave.to, leave.victims), (count(1), vec![id("b")]));
}

#[test]
fn what_the_platform_replaces_goes_when_it_is_confirmed_and_idle() {
    let mut endpoints = ready(&["a", "b", "c"]);
    endpoints[0].state = EndpointState::Draining;
    endpoints[1].state = EndpointState::Draining;
    let mut told = Told { loads: [(id("a"), 2)].into(), ..Told::default() };
    let mut outgoing = Outgoing::default();
    outgoing.follow(at(0), &endpoints);
    assert_eq!(outgoing.victims().cloned().collect::<Vec<_>>(), [id("a"), id("b")]);
    assert_eq!(outgoing.ready(at(100), HOUR, &told), [], "nobody has confirmed");
    told.drained = vec![id("a"), id("b")];
    assert_eq!(outgoing.ready(at(200), HOUR, &told), [(id("b"), 0)]);
    // What was named stays named since then, however often the list is told again.
    outgoing.follow(at(3_000_000), &endpoints);
    assert_eq!(outgoing.ready(at(3_600_000), HOUR, &told), [(id("a"), 2), (id("b"), 0)], "the timeout cuts");
    outgoing.follow(at(3_600_000), &endpoints[2..]);
    assert!(outgoing.is_empty());
}
