//! Owners that go, in each of the three ways.

use serde_json::{Value, json};

use super::super::object::Resource;
use super::super::testing::Bench;
use super::*;

fn object(name: &str, owners: &[&str], more: &Value) -> Object {
    let owners: Vec<Value> =
        owners.iter().map(|uid| json!({"apiVersion": "v1", "kind": "Thing", "name": uid, "uid": uid})).collect();
    let mut metadata = json!({"name": name, "namespace": "default", "uid": name, "ownerReferences": owners});
    json_patch::merge(&mut metadata, more);
    let resource = Resource { group: "".into(), version: "v1".into(), plural: "things".into() };
    Object::read(&resource, &json!({ "metadata": metadata })).unwrap()
}

fn names(bench: &Bench) -> Vec<String> {
    bench.world.all().map(|object| object.id().name).collect()
}

fn going(finalizer: &str) -> Value {
    json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": [finalizer]})
}

#[test]
fn dependents_follow_their_last_owner() {
    let mut bench = Bench::default();
    for made in [
        object("a", &[], &json!({})),
        object("b", &["a"], &json!({})),
        object("c", &["b"], &json!({})),
        object("both", &["a", "other"], &json!({})),
        object("other", &[], &json!({})),
        object("stray", &["never-was"], &json!({})),
        object("elsewhere", &["a"], &json!({"namespace": "another"})),
    ] {
        bench.add(made);
    }
    bench.settle(&mut [&mut Garbage]);
    // "stray" had an owner that never was, "elsewhere" one in another namespace.
    assert_eq!(names(&bench), ["a", "b", "both", "c", "other"]);
    bench.remove(&object("a", &[], &json!({})).id());
    bench.settle(&mut [&mut Garbage]);
    assert_eq!(names(&bench), ["both", "other"]);
    let both = bench.world.by_uid("both").unwrap();
    assert_eq!(both.metadata().owner_references.as_ref().unwrap().len(), 1, "the reference that led nowhere went");
}

#[test]
fn orphans_live_on() {
    let mut bench = Bench::default();
    bench.add(object("a", &[], &going(ORPHAN)));
    bench.add(object("b", &["a"], &json!({})));
    bench.settle(&mut [&mut Garbage]);
    assert_eq!(names(&bench), ["b"]);
    assert_eq!(bench.world.by_uid("b").unwrap().metadata().owner_references, Some(Vec::new()));
}

#[test]
fn a_foreground_deletion_waits_for_dependents() {
    let mut bench = Bench::default();
    bench.add(object("a", &[], &going(FOREGROUND)));
    bench.add(object("slow", &["a"], &going("test/wait")));
    bench.add(object("b", &["a"], &json!({})));
    bench.settle(&mut [&mut Garbage]);
    assert_eq!(names(&bench), ["a", "slow"]);
    bench.remove(&object("slow", &[], &json!({})).id());
    bench.settle(&mut [&mut Garbage]);
    assert_eq!(names(&bench), Vec::<String>::new());
}
