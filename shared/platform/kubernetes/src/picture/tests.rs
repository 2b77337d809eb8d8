use super::*;
use crate::objects::FIELD_MANAGER;
use crate::trim;
use domain::change::TRAFFIC_NOT_SEEN;
use serde_json::json;

fn deployment(name: &str, replicas: i32, annotations: &[(&str, &str)]) -> Workload {
    trim::workload(
        serde_json::from_value(json!({
            "metadata": {
                "name": name, "namespace": "prod", "uid": format!("uid-{name}"),
                "annotations": annotations.iter().copied().collect::<BTreeMap<_, _>>(),
            },
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"labels": {"app": name}},
                    "spec": {"containers": [{"name": "main", "ports": [{"containerPort": 8080}]}]},
                },
            },
        }))
        .unwrap(),
    )
}

fn pod(app: &str, number: u8, status: serde_json::Value) -> trim::Pod {
    trim::pod(
        serde_json::from_value(json!({
            "metadata": {
                "name": format!("{app}-{number}"), "namespace": "prod", "uid": format!("{app}-uid-{number}"),
                "labels": {"app": app},
            },
            "status": status,
        }))
        .unwrap(),
    )
}

fn running(app: &str, number: u8, ready: bool) -> trim::Pod {
    let condition = json!([{"type": "Ready", "status": if ready { "True" } else { "False" }}]);
    pod(app, number, json!({"podIP": format!("10.0.0.{number}"), "conditions": condition}))
}

fn key_of(name: &str) -> Key {
    ("prod".into(), name.into())
}

const OURS: &[(&str, &str)] = &[("autoscaling.knative.dev/target", "10")];

fn listed() -> Picture {
    let mut picture = Picture::new();
    for news in [
        News::Workload(Seen::Listed),
        News::Service(Seen::Listed),
        News::Pod(Seen::Listed),
        News::Rival(Seen::Listed),
        News::Published(Seen::Listed),
        News::Config(Seen::Listed),
        News::Activators(Vec::new()),
    ] {
        picture.take(news);
    }
    picture
}

fn changes(picture: &mut Picture) -> Vec<Change> {
    picture.changes(&mut Vec::new())
}

fn counts(changes: &[Change]) -> Vec<(u32, u32, u32)> {
    let counts = |change: &Change| match change {
        Change::Replicas { requested, ready, terminating, .. } => {
            Some((requested.get(), ready.get(), terminating.get()))
        }
        _ => None,
    };
    changes.iter().filter_map(counts).collect()
}

fn states(changes: &[Change]) -> Vec<(String, EndpointState)> {
    let list = changes.iter().rev().find_map(|change| match change {
        Change::Endpoints { endpoints, .. } => Some(endpoints),
        _ => None,
    });
    list.into_iter().flat_map(|list| list.iter().map(|e| (e.id.to_string(), e.state))).collect()
}

use domain::EndpointState;

#[test]
fn nothing_is_told_before_everything_was_listed() {
    let mut picture = Picture::new();
    picture.take(News::Workload(Seen::Is(deployment("a", 1, OURS))));
    picture.take(News::Workload(Seen::Listed));
    assert_eq!(changes(&mut picture), []);
    for news in [
        News::Pod(Seen::Is(running("a", 1, true))),
        News::Pod(Seen::Listed),
        News::Service(Seen::Listed),
        News::Rival(Seen::Listed),
        News::Published(Seen::Listed),
        News::Activators(vec![ReporterId::new("activator-0")]),
    ] {
        picture.take(news);
        assert_eq!(changes(&mut picture), []);
    }
    picture.take(News::Config(Seen::Listed));
    let told = changes(&mut picture);
    assert!(matches!(told.first(), Some(Change::Activators(_))));
    assert_eq!(told.last(), Some(&Change::Synced));
    assert_eq!(counts(&told), [(1, 1, 0)]);
    assert_eq!(changes(&mut picture), [], "and nothing twice");
}

#[test]
fn pods_come_before_or_after_what_selects_them() {
    let mut picture = listed();
    picture.take(News::Pod(Seen::Is(running("a", 1, true))));
    picture.take(News::Pod(Seen::Is(running("b", 2, true))));
    picture.take(News::Workload(Seen::Is(deployment("a", 2, OURS))));
    let told = changes(&mut picture);
    assert_eq!((counts(&told), states(&told)), (vec![(2, 1, 0)], vec![("a-uid-1".into(), EndpointState::Ready)]));
    picture.take(News::Pod(Seen::Is(running("a", 3, false))));
    let told = changes(&mut picture);
    assert_eq!(counts(&told), [], "a pod that is not ready changes no count");
    assert_eq!(states(&told)[1], ("a-uid-3".into(), EndpointState::Starting));
}

#[test]
fn a_pod_that_was_told_to_end_drains_until_it_is_gone() {
    let mut picture = listed();
    picture.take(News::Workload(Seen::Is(deployment("a", 1, OURS))));
    picture.take(News::Pod(Seen::Is(running("a", 1, true))));
    changes(&mut picture);
    let leaving = trim::Pod { leaving: true, ..running("a", 1, true) };
    picture.take(News::Pod(Seen::Is(leaving)));
    let told = changes(&mut picture);
    assert_eq!((counts(&told), states(&told)[0].1), (vec![(1, 0, 1)], EndpointState::Draining));
    picture.take(News::Pod(Seen::Gone(key_of("a-1"))));
    let told = changes(&mut picture);
    assert_eq!((counts(&told), states(&told).len()), (vec![(1, 0, 0)], 0));
}

#[test]
fn letting_go_is_told_as_gone_and_adopting_again_as_new() {
    let mut picture = listed();
    picture.take(News::Workload(Seen::Is(deployment("a", 1, OURS))));
    picture.take(News::Pod(Seen::Is(running("a", 1, true))));
    changes(&mut picture);
    let class = [("autoscaling.knative.dev/class", "hpa.autoscaling.knative.dev")];
    picture.take(News::Workload(Seen::Is(deployment("a", 1, &class))));
    assert_eq!(changes(&mut picture), [Change::Deleted(RevisionId::new("prod", "a"))]);
    assert_eq!(picture.ignored().count(), 1);
    picture.take(News::Workload(Seen::Is(deployment("a", 1, OURS))));
    let told = changes(&mut picture);
    assert!(matches!(told[0], Change::Applied(_)));
    assert_eq!(states(&told).len(), 1, "its pods are known still");
    picture.take(News::Workload(Seen::Gone(key_of("a"))));
    assert_eq!(changes(&mut picture), [Change::Deleted(RevisionId::new("prod", "a"))]);
}

#[test]
fn a_rival_refuses_its_target_and_no_other() {
    let mut picture = listed();
    picture.take(News::Workload(Seen::Is(deployment("a", 1, OURS))));
    picture.take(News::Workload(Seen::Is(deployment("b", 1, OURS))));
    changes(&mut picture);
    let rival = Rival {
        key: key_of("hpa"),
        target: ("Deployment".into(), "a".into()),
        called: "HorizontalPodAutoscaler hpa".into(),
    };
    picture.take(News::Rival(Seen::Is(rival)));
    let told = changes(&mut picture);
    let Change::Applied(revision) = &told[0] else { panic!("{told:?}") };
    assert_eq!((told.len(), revision.id.name(), revision.mode.may_grow()), (1, "a", false));
    picture.take(News::Rival(Seen::Gone(key_of("hpa"))));
    let Change::Applied(revision) = &changes(&mut picture)[0] else { panic!() };
    assert!(revision.mode.may_shrink());
}

#[test]
fn a_bad_config_keeps_the_last_good_one_and_never_shrinks_without_any() {
    let bad = BTreeMap::from([("stable-window".to_owned(), "soon".to_owned())]);
    let good = BTreeMap::from([("stable-window".to_owned(), "30s".to_owned())]);
    let mode = |picture: &Picture| picture.adopted(&key_of("a")).unwrap().revision.mode.clone();

    let mut fresh = Picture::new();
    fresh.take(News::Config(Seen::Is(bad.clone())));
    for news in [
        News::Workload(Seen::Is(deployment("a", 1, OURS))),
        News::Workload(Seen::Listed),
        News::Service(Seen::Listed),
        News::Pod(Seen::Listed),
        News::Rival(Seen::Listed),
        News::Published(Seen::Listed),
        News::Config(Seen::Listed),
        News::Activators(Vec::new()),
    ] {
        fresh.take(news);
    }
    changes(&mut fresh);
    assert!(matches!(mode(&fresh), domain::Mode::Invalid(_)), "{:?}", mode(&fresh));
    fresh.take(News::Config(Seen::Is(good)));
    changes(&mut fresh);
    assert_eq!(mode(&fresh), domain::Mode::Act);
    fresh.take(News::Config(Seen::Is(bad)));
    changes(&mut fresh);
    let adopted = fresh.adopted(&key_of("a")).unwrap();
    assert_eq!((&adopted.revision.mode, adopted.revision.scaling.stable_window.as_secs()), (&domain::Mode::Act, 30));
    assert!(!fresh.config_problems().is_empty());
}

#[test]
fn a_permanent_reason_is_believed_at_its_third_sighting() {
    let mut picture = listed();
    picture.take(News::Workload(Seen::Is(deployment("a", 1, OURS))));
    let stuck = || {
        let state = json!({"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}});
        pod(
            "a",
            1,
            json!({"containerStatuses": [{
                "name": "main", "ready": false, "restartCount": 0, "image": "", "imageID": "", "state": state,
            }]}),
        )
    };
    let permanent = |picture: &mut Picture| {
        changes(picture).into_iter().find_map(|change| match change {
            Change::Replicas { trouble: Some(trouble), .. } => Some(trouble.permanent),
            _ => None,
        })
    };
    picture.take(News::Pod(Seen::Is(stuck())));
    assert_eq!(permanent(&mut picture), Some(false));
    picture.take(News::Pod(Seen::Is(stuck())));
    assert_eq!(permanent(&mut picture), None, "nothing new");
    picture.take(News::Pod(Seen::Is(stuck())));
    assert_eq!(permanent(&mut picture), Some(true));
    picture.take(News::Pod(Seen::Gone(key_of("a-1"))));
    picture.take(News::Pod(Seen::Is(stuck())));
    assert_eq!(permanent(&mut picture), Some(false), "another pod of that name begins anew");
    let full = json!({"conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available",
    }]});
    picture.take(News::Pod(Seen::Is(pod("a", 1, full))));
    assert_eq!(permanent(&mut picture), Some(false), "a full cluster may pass");
}

/// A count of somebody else is told with its writer, and so is that an earlier autoscaler left it alone.
#[test]
fn who_wrote_a_count_is_told_where_it_was_not_us() {
    let written = |replicas: i32, by: Option<&str>| {
        let mut workload = deployment("a", replicas, OURS);
        workload.writer = by.map(ToOwned::to_owned);
        News::Workload(Seen::Is(workload))
    };
    let foreign = |picture: &mut Picture| {
        let told = changes(picture);
        let told: Vec<_> = told
            .iter()
            .filter_map(|change| match change {
                Change::Replicas { requested, foreign, .. } => {
                    Some((requested.get(), foreign.as_ref().map(|foreign| (foreign.by.to_string(), foreign.stands))))
                }
                _ => None,
            })
            .collect();
        told
    };
    let by = |name: &str, stands| Some((name.to_owned(), stands));
    let mut picture = listed();
    picture.take(written(1, Some("kubectl-create")));
    assert_eq!(foreign(&mut picture), [(1, by("kubectl-create", false))]);
    picture.take(written(3, Some(FIELD_MANAGER)));
    assert_eq!(foreign(&mut picture), [(3, None)]);
    picture.take(written(5, Some("kubectl")));
    assert_eq!(foreign(&mut picture), [(5, by("kubectl", false))]);
    picture.take(written(4, None));
    assert_eq!(foreign(&mut picture), [(4, by("somebody unknown", false))]);

    let left_alone = |replicas: i32| {
        let condition = json!({"type": Foreign::CONDITION, "status": "True", "reason": Foreign::LEFT_ALONE,
            "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let object = json!({"apiVersion": "kpa.dev/v1alpha1", "kind": "ScaledWorkload",
            "metadata": {"name": "a", "namespace": "prod"},
            "status": {"replicas": replicas, "conditions": [condition]}});
        News::Published(Seen::Is(crate::objects::published(serde_json::from_value(object).unwrap())))
    };
    for (said, stands) in [(5, true), (3, false)] {
        let mut picture = listed();
        picture.take(left_alone(said));
        picture.take(written(5, Some("kubectl")));
        assert_eq!(foreign(&mut picture), [(5, by("kubectl", stands))]);
    }
}

/// What an earlier autoscaler has published of a workload's traffic is told once, before anything is decided.
#[test]
fn that_requests_were_seen_before_is_told_with_the_first_counts() {
    let published = |status: &str| {
        let condition = json!({"type": TRAFFIC_NOT_SEEN, "status": status, "reason": "", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let object = json!({"apiVersion": "kpa.dev/v1alpha1", "kind": "ScaledWorkload",
            "metadata": {"name": "a", "namespace": "prod"}, "status": {"conditions": [condition]}});
        News::Published(Seen::Is(crate::objects::published(serde_json::from_value(object).unwrap())))
    };
    for (status, expected) in [("False", vec!["applied", "seen", "counts"]), ("True", vec!["applied", "counts"])] {
        let mut picture = listed();
        picture.take(published(status));
        picture.take(News::Workload(Seen::Is(deployment("a", 3, OURS))));
        let told = |picture: &mut Picture| -> Vec<_> {
            let kinds = changes(picture).into_iter().filter_map(|change| match change {
                Change::Applied(_) => Some("applied"),
                Change::TrafficSeen(id) => (id == RevisionId::new("prod", "a")).then_some("seen"),
                Change::Replicas { .. } => Some("counts"),
                _ => None,
            });
            kinds.collect()
        };
        assert_eq!(told(&mut picture), expected, "{status}");
        picture.take(published("False"));
        picture.take(News::Workload(Seen::Is(deployment("a", 4, OURS))));
        assert_eq!(told(&mut picture), ["counts"], "later it is our own word");
    }
}

#[test]
fn a_service_has_only_those_looked_at_to_whom_it_may_matter() {
    let mut picture = listed();
    for (name, annotations) in [("one", OURS), ("two", OURS), ("named", &[("kpa.dev/service", "front")])] {
        picture.take(News::Workload(Seen::Is(deployment(name, 1, annotations))));
    }
    let service = |name: &str, app: Option<&str>| -> Service {
        let selector = app.map(|app| json!({"app": app}));
        let object = json!({
            "metadata": {"name": name, "namespace": "prod"},
            "spec": {"selector": selector, "ports": [{"port": 80}]},
        });
        serde_json::from_value(object).unwrap()
    };
    let mut touched = |news: Option<News>| {
        news.into_iter().for_each(|news| picture.take(news));
        let mut touched = Vec::new();
        picture.changes(&mut touched);
        touched.into_iter().map(|key| key.1).collect::<Vec<_>>()
    };
    touched(Some(News::Service(Seen::Is(service("front", Some("named"))))));
    assert_eq!(touched(Some(News::Service(Seen::Is(service("s", Some("one")))))), ["one"]);
    assert_eq!(touched(Some(News::Service(Seen::Is(service("s", Some("two")))))), ["one", "two"], "before and after");
    assert_eq!(touched(Some(News::Service(Seen::Is(service("s", None))))), ["two"]);
    assert_eq!(touched(Some(News::Service(Seen::Gone(key_of("s"))))), [""; 0]);
    assert_eq!(touched(Some(News::Service(Seen::Gone(key_of("front"))))), ["named"]);
    assert_eq!(touched(None), [""; 0]);
}
