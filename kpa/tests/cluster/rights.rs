//! Every right that is granted is used, and every right that is used is granted.

use crate::service::requests;
use crate::support::wait_for;
use crate::world::{Program, World};
use apiserver::Server;
use http::StatusCode;
use serde_json::json;
use std::collections::BTreeSet;

/// `verb group/resource`, as far as rights are concerned.
pub(crate) fn used(server: &Server, account: &str) -> BTreeSet<String> {
    let used = server.used("kpa-system", account).into_iter();
    used.map(|one| format!("{} {}/{}", one.verb.as_str(), one.group, one.resource)).collect()
}

fn granted(server: &Server, account: &str) -> BTreeSet<String> {
    let grants = server.granted("kpa-system", account).into_iter();
    // What the cluster grants to every account is not ours.
    let ours = grants.filter(|grant| !grant.resource.starts_with("selfsubject"));
    ours.map(|grant| format!("{} {}/{}", grant.verb, grant.group, grant.resource)).collect()
}

#[test]
fn every_right_that_is_granted_is_used() {
    let world = World::new();
    let Some(server) = world.records() else {
        return println!("left out: this API server does not say what it was asked");
    };
    let brief = json!({"autoscaling.knative.dev/target": "2", "autoscaling.knative.dev/window": "6s"});
    world.deploy("model", 0, &brief, &json!({}));
    world.deploy("leaves", 1, &brief, &json!({}));
    let (mut autoscaler, activator): (Program, Program) = (world.autoscaler(0).ready(), world.activator(0).ready());
    activator.has_route("model");
    assert_eq!(requests(&activator, "model", 300, 10), 0, "{}\n{}", activator.log(), autoscaler.log());
    // Down again, with victims; and one that is ours no more.
    wait_for("asleep", || (world.replicas("model") == 0).then_some(()));
    world.annotate("leaves", &json!({}));
    wait_for("let go", || (world.workload("leaves")["code"] == 404).then_some(()));
    let unused = |account| -> BTreeSet<String> {
        granted(server, account).difference(&used(server, account)).cloned().collect()
    };
    let of_autoscaler = unused("kpa-autoscaler");
    // The count of an Event that comes again within minutes.
    let seldom = BTreeSet::from(["patch events.k8s.io/events".to_owned()]);
    assert!(of_autoscaler.is_subset(&seldom), "granted and not used: {of_autoscaler:?}");
    assert_eq!(unused("kpa-activator"), BTreeSet::new(), "granted and not used");
    assert_eq!(refused(server), Vec::<String>::new());

    // One that runs gives replicas back too, and where it is first the command has no count to write.
    autoscaler.running.0.kill().unwrap();
    autoscaler.running.0.wait().unwrap();
    world.kpa("kpa-release", &["release", "--all", "--cluster"]);
    assert_eq!(used(server, "kpa-release"), granted(server, "kpa-release"));
}

/// What our programs asked for and may not.
pub(crate) fn refused(server: &Server) -> Vec<String> {
    let log = server.faults().log().into_iter();
    let refused = log.filter(|logged| logged.status == StatusCode::FORBIDDEN);
    refused.map(|logged| format!("{} {:?} {}", logged.asked.user, logged.asked.verb, logged.asked.resource)).collect()
}
