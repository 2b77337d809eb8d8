//! The ranking against the published rules, and a ReplicaSet that reads a cache that lags.

use serde_json::{Value, json};

use super::super::testing::{Bench, at, pod, read};
use super::super::write::Refusal;
use super::*;

/// A pod of age 1000 s on node "n" that has been ready for 900 s, changed by `change`.
fn ranked_pod(name: &str, change: &Value) -> Arc<Pod> {
    let mut base = json!({
        "metadata": {"name": name, "namespace": "default", "uid": name, "creationTimestamp": at(0).to_string()},
        "spec": {"nodeName": "n", "containers": []},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": at(100).to_string()}],
        },
    });
    json_patch::merge(&mut base, change);
    pod(&base)
}

fn ready_at(second: i64) -> Value {
    json!({"status": {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": at(second).to_string()}]}})
}

fn unready(created: i64, restarts: i32) -> Value {
    json!({
        "metadata": {"creationTimestamp": at(created).to_string()},
        "status": {
            "conditions": [],
            "containerStatuses": [
                {"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": restarts},
            ],
        },
    })
}

fn cost(value: &str) -> Value {
    json!({"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": value}}})
}

/// `first` leaves before `second`, whichever of them has the smaller uid.
#[track_caller]
fn check(rule: &str, first: &Value, second: &Value) {
    for (a, b) in [("a", "b"), ("b", "a")] {
        let pods = [ranked_pod(a, first), ranked_pod(b, second)];
        // On node "crowded" stand three of the same owner.
        let crowd = ["x", "y", "z"].map(|name| ranked_pod(name, &json!({"spec": {"nodeName": "crowded"}})));
        let order = rank::ranked(at(1000), &pods, &crowd);
        assert_eq!(name(&order[0].metadata), a, "{rule}");
    }
}

#[test]
fn pods_leave_in_the_published_order() {
    let plain = json!({});
    check("unassigned first", &json!({"spec": {"nodeName": null}, "status": {"phase": "Pending"}}), &plain);
    check("then pending", &json!({"status": {"phase": "Pending"}}), &json!({"status": {"phase": "Unknown"}}));
    check("then unknown", &json!({"status": {"phase": "Unknown"}}), &plain);
    check("then not ready", &json!({"status": {"conditions": []}}), &plain);
    check("then cheap", &cost("-5"), &plain);
    check("then cheap, the other one dear", &plain, &cost("7"));
    check("no number is no cost", &cost("1e3"), &cost("1"));
    check("then where more stand", &json!({"spec": {"nodeName": "crowded"}}), &plain);
    check("then later ready", &ready_at(900), &ready_at(100));
    check("of unready ones more restarts", &unready(0, 3), &unready(0, 1));
    check("then newer", &unready(900, 0), &unready(0, 0));
}

#[test]
fn an_earlier_rule_beats_all_later_ones() {
    let cheap_and_young = json!({
        "metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "-100"}},
        "spec": {"nodeName": "crowded"},
        "status": {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": at(999).to_string()}]},
    });
    check("readiness before cost", &json!({"status": {"conditions": []}}), &cheap_and_young);
    check("cost before age", &cost("-1"), &ready_at(999));
    check("cost before the crowd", &cost("-1"), &json!({"spec": {"nodeName": "crowded"}}));
    check("restarts before age", &unready(0, 1), &unready(999, 0));
}

#[test]
fn ages_of_one_order_of_magnitude_are_equal() {
    // 900 s and 600 s are of one bucket, between 2^39 and 2^40 ns: the smaller uid leaves.
    let pods = [ranked_pod("b", &ready_at(400)), ranked_pod("a", &ready_at(100))];
    let order = rank::ranked(at(1000), &pods, &[]);
    assert_eq!(name(&order[0].metadata), "a");
    // 300 s is another one: the younger leaves.
    let pods = [ranked_pod("b", &ready_at(700)), ranked_pod("a", &ready_at(100))];
    let order = rank::ranked(at(1000), &pods, &[]);
    assert_eq!(name(&order[0].metadata), "b");
}

fn bench(replicas: i32) -> (Bench, Id) {
    let mut bench = Bench::default();
    let set: ReplicaSet = read(&json!({
        "metadata": {"name": "set", "namespace": "default", "uid": "set"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "a"}},
            "template": {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": []}},
        },
    }));
    let key = bench.add(set.into()).id();
    (bench, key)
}

fn pods(bench: &Bench) -> usize {
    bench.world.list::<Pod>(None).filter(|pod| is_active(pod)).count()
}

fn resize(bench: &mut Bench, key: &Id, replicas: i32) {
    let set = ReplicaSet::of(bench.world.find(key).unwrap()).unwrap();
    let mut set = ReplicaSet::clone(set);
    set.spec.as_mut().unwrap().replicas = Some(replicas);
    bench.replace(set.into(), true);
}

#[test]
fn a_cache_that_lags_does_not_double_creations() {
    let (mut bench, key) = bench(3);
    let mut sets = ReplicaSets::default();
    let stale = bench.world.clone();
    bench.step(&mut sets, &stale, &key);
    bench.step(&mut sets, &stale, &key);
    assert_eq!(pods(&bench), 3, "the second look still sees none, and waits");
    for change in bench.changes.clone() {
        sets.affected(&bench.world, &change);
    }
    resize(&mut bench, &key, 5);
    let world = bench.world.clone();
    bench.step(&mut sets, &world, &key);
    assert_eq!(pods(&bench), 5);
}

#[test]
fn an_event_that_never_comes_is_given_up() {
    let (mut bench, key) = bench(1);
    let mut sets = ReplicaSets::default();
    let stale = bench.world.clone();
    bench.step(&mut sets, &stale, &key);
    let again = sets.reconcile(bench.now(), &stale, &key).again_in.unwrap();
    assert!(again > super::super::expectations::EXPECT_MAX);
    bench.now += i64::try_from(again.as_secs()).unwrap();
    bench.step(&mut sets, &stale, &key);
    assert_eq!(pods(&bench), 2, "after five minutes the cache is believed");
}

#[test]
fn a_quota_becomes_a_condition_and_goes_with_it() {
    let (mut bench, key) = bench(2);
    let mut sets = ReplicaSets::default();
    let text = "pods \"set-\" is forbidden: exceeded quota: gpus";
    bench.refuse_pods = Some(Refusal { code: 403, reason: "Forbidden".to_owned(), message: text.to_owned() });
    let world = bench.world.clone();
    let writes = bench.step(&mut sets, &world, &key);
    assert_eq!(writes.len(), 2);
    let condition = |bench: &Bench| {
        let set = ReplicaSet::of(bench.world.find(&key).unwrap()).unwrap().clone();
        set.status.as_ref().and_then(|status| status.conditions.clone()).and_then(|mut list| list.pop())
    };
    let failure = condition(&bench).unwrap();
    assert_eq!((&*failure.type_, failure.reason.as_deref()), ("ReplicaFailure", Some("FailedCreate")));
    assert_eq!(failure.message.as_deref(), Some(text));
    bench.refuse_pods = None;
    bench.settle(&mut [&mut sets]);
    assert_eq!(pods(&bench), 2);
    assert_eq!(condition(&bench), None);
}

#[test]
fn one_look_creates_and_deletes_at_most_a_burst() {
    let (mut bench, key) = bench(i32::try_from(BURST_REPLICAS).unwrap() + 7);
    let mut sets = ReplicaSets::default();
    let world = bench.world.clone();
    assert_eq!(bench.step(&mut sets, &world, &key).len(), BURST_REPLICAS);
    bench.settle(&mut [&mut sets]);
    assert_eq!(pods(&bench), BURST_REPLICAS + 7);
    resize(&mut bench, &key, 0);
    let world = bench.world.clone();
    let deleted = bench.step(&mut sets, &world, &key);
    assert_eq!(deleted.len(), BURST_REPLICAS);
}

#[test]
fn a_test_may_name_the_victim() {
    let (mut bench, key) = bench(4);
    let mut sets = ReplicaSets::default();
    bench.settle(&mut [&mut sets]);
    let names: Vec<String> = bench.world.list::<Pod>(None).map(|pod| name(&pod.metadata).to_owned()).collect();
    for wrong in [&names[3], &names[1]] {
        let hook = Hook::WrongVictim { namespace: "default".to_owned(), pod: wrong.clone() };
        sets.hook(&bench.world, &hook);
        let left = pods(&bench);
        resize(&mut bench, &key, i32::try_from(left).unwrap() - 1);
        bench.settle(&mut [&mut sets]);
        assert_eq!(pods(&bench), left - 1);
        assert!(bench.world.get::<Pod>("default", wrong).is_none(), "{wrong} was named");
    }
}

#[test]
fn every_ranking_can_be_turned_round() {
    let (mut bench, key) = bench(2);
    let mut sets = ReplicaSets::default();
    bench.settle(&mut [&mut sets]);
    let first = bench.world.list::<Pod>(None).next().unwrap();
    let mut cheap = Pod::clone(first);
    cheap
        .metadata
        .annotations
        .get_or_insert_default()
        .insert(super::super::pods::DELETION_COST.to_owned(), "-9".to_owned());
    bench.replace(cheap.clone().into(), false);
    sets.hook(&bench.world, &Hook::WrongVictims(true));
    resize(&mut bench, &key, 1);
    bench.settle(&mut [&mut sets]);
    assert!(bench.world.get::<Pod>("default", name(&cheap.metadata)).is_some(), "the cheapest pod stayed");
}

#[test]
fn pods_are_adopted_and_released_by_their_labels() {
    let (mut bench, key) = bench(1);
    let mut sets = ReplicaSets::default();
    let orphan =
        json!({"metadata": {"name": "o", "namespace": "default", "labels": {"app": "a"}}, "spec": {"containers": []}});
    bench.add(Pod::clone(&pod(&orphan)).into());
    bench.settle(&mut [&mut sets]);
    assert_eq!(pods(&bench), 1, "the orphan is the replica");
    let mut adopted = Pod::clone(bench.world.get::<Pod>("default", "o").unwrap());
    assert_eq!(controller_of(&adopted.metadata).unwrap().uid, "set");
    adopted.metadata.labels = None;
    bench.replace(adopted.into(), false);
    bench.settle(&mut [&mut sets]);
    let released = bench.world.get::<Pod>("default", "o").unwrap();
    assert!(controller_of(&released.metadata).is_none());
    assert_eq!(pods(&bench), 2, "and a new one takes its place");
    let set = ReplicaSet::of(bench.world.find(&key).unwrap()).unwrap();
    assert_eq!(set.status.as_ref().unwrap().replicas, 1);
}
