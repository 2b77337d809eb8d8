//! Every right that is granted is used, and every right that is used is granted.

use crate::service::requests;
use crate::support::wait_for;
use crate::world::{Program, World};
use http::StatusCode;
use serde_json::json;
use std::collections::BTreeSet;

/// `verb group/resource`, as far as rights are concerned.
pub(crate) fn used(world: &World, account: &str) -> BTreeSet<String> {
    let used = world.server.used("kpa-system", account).into_iter();
    used.map(|one| format!("{} {}/{}", one.verb.as_str(), one.group, one.resource)).collect()
}

fn granted(world: &World, account: &str) -> BTreeSet<String> {
    let grants = world.server.granted("kpa-system", account).into_iter();
    // What the cluster grants to every account is not ours.
    let ours = grants.filter(|grant| !grant.resource.starts_with("selfsubject"));
    ours.map(|grant| format!("{} {}/{}", grant.verb, grant.group, grant.resource)).collect()
}

#[test]
fn every_right_that_is_granted_is_used() {
    let world = World::new();
    let brief = json!({"autoscaling.knative.dev/target": "2", "autoscaling.knative.dev/window": "6s"});
    world.deploy("model", 0, &brief, &json!({}));
    world.deploy("leaves", 1, &brief, &json!({}));
    let (autoscaler, activator): (Program, Program) = (world.autoscaler(0).ready(), world.activator(0).ready());
    activator.has_route("model");
    assert_eq!(requests(&activator, "model", 300, 10), 0, "{}\n{}", activator.log(), autoscaler.log());
    // Down again, with victims; and one that is ours no more.
    wait_for("asleep", || (world.replicas("model") == 0).then_some(()));
    world.annotate("leaves", &json!({}));
    wait_for("let go", || (world.workload("leaves")["code"] == 404).then_some(()));
    let unused: BTreeSet<String> =
        granted(&world, "kpa-autoscaler").difference(&used(&world, "kpa-autoscaler")).cloned().collect();
    // The count of an Event that comes again within minutes.
    let seldom = BTreeSet::from(["patch events.k8s.io/events".to_owned()]);
    assert!(unused.is_subset(&seldom), "granted and not used: {unused:?}");
    let unused: BTreeSet<String> =
        granted(&world, "kpa-activator").difference(&used(&world, "kpa-activator")).cloned().collect();
    assert_eq!(unused, BTreeSet::new(), "granted and not used");
    assert_eq!(refused(&world), Vec::<String>::new());

    world.kpa("kpa-release", &["release", "--all", "--cluster"]);
    assert_eq!(used(&world, "kpa-release"), granted(&world, "kpa-release"));
}

/// What our programs asked for and may not.
pub(crate) fn refused(world: &World) -> Vec<String> {
    let log = world.server.faults().log().into_iter();
    let refused = log.filter(|logged| logged.status == StatusCode::FORBIDDEN);
    refused.map(|logged| format!("{} {:?} {}", logged.asked.user, logged.asked.verb, logged.asked.resource)).collect()
}
